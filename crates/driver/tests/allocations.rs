//! A connection in its stride allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use netstream_driver::transport::{ChannelId, Incoming, SeededRandom};
use netstream_driver::udp::{MemoryNetwork, UdpConfig};
use netstream_driver::{Clock, Credentials, IpcDriver, IpcHub, ManualClock, NetworkDriver, UdpDriver};

/// Counts what the current thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs 60-Hz ticks in which both ends send `sizes` on each channel, and returns the allocations per tick after a while.
fn allocations_per_tick(server: &mut dyn NetworkDriver, client: &mut dyn NetworkDriver, code: &Credentials) -> f64 {
    const WARM_UP: u64 = 6000;
    const TICKS: u64 = 600;
    let clock = ManualClock::new();
    let endpoint = match server.scheme() {
        "ipc" => "ipc://here",
        _ => "udp://127.0.0.1:7979",
    };
    let endpoint = server.listen(clock.now(), &endpoint.parse().unwrap()).unwrap();
    let id = client.connect(clock.now(), &endpoint, code).unwrap();
    let (mut accepted, mut received, mut before) = (None, 0_u64, 0);
    let message = [7; 1000];
    for tick in 0..WARM_UP + TICKS {
        if tick == WARM_UP {
            before = ALLOCATIONS.with(Cell::get);
        }
        let now = clock.advance(Duration::from_micros(16_667));
        server.receive(now, &mut |incoming| match incoming {
            Incoming::Accepted { connection, .. } => accepted = Some(connection),
            Incoming::Message { .. } => received += 1,
            _ => {}
        });
        client.receive(now, &mut |incoming| received += u64::from(matches!(incoming, Incoming::Message { .. })));
        if let Some(connection) = accepted {
            for (channel, size) in [
                (ChannelId::UNRELIABLE, 1000),
                (ChannelId::UNRELIABLE, 60),
                (ChannelId::RELIABLE, 100),
                (ChannelId::RELIABLE, 20),
            ] {
                server.send(now, connection, channel, &message[..size]).unwrap();
                // The first ticks pass before the client knows that it is connected.
                let _ = client.send(now, id, channel, &message[..size]);
            }
        }
        server.flush(now);
        client.flush(now);
    }
    assert!(received > 8 * (TICKS + WARM_UP - 20), "only {received} messages arrived");
    (ALLOCATIONS.with(Cell::get) - before) as f64 / TICKS as f64
}

#[test]
fn udp_in_its_stride_allocates_nothing() {
    let network = MemoryNetwork::new();
    let make = |seed| {
        let mut random = SeededRandom::new(seed);
        let config = UdpConfig::new(&mut random);
        UdpDriver::on(network.clone(), config, Box::new(random))
    };
    let (mut server, mut client) = (make(1), make(2));
    let code = Credentials::JoinCode(server.join_code().unwrap().clone());
    assert_eq!(allocations_per_tick(&mut server, &mut client, &code), 0.0);
}

#[test]
fn ipc_in_its_stride_allocates_nothing() {
    let hub = IpcHub::new();
    let (mut server, mut client) = (IpcDriver::new(&hub), IpcDriver::new(&hub));
    assert_eq!(allocations_per_tick(&mut server, &mut client, &Credentials::None), 0.0);
}
