//! A driver on a thread of its own allocates nothing in its stride, on either thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netstream_driver::transport::{ChannelId, Incoming};
use netstream_driver::udp::{IoMode, UdpConfig};
use netstream_driver::{Clock, Credentials, NetworkDriver, OsRandom, SystemClock, UdpDriver};

/// Counts what the whole program allocates. There is one test here for that reason.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code)]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

#[test]
fn udp_on_a_thread_in_its_stride_allocates_nothing() {
    const WARM_UP: u32 = 2000;
    const TICKS: u32 = 1000;
    let make = || {
        let mut config = UdpConfig::new(&mut OsRandom);
        config.io = IoMode::Thread;
        // A message a millisecond is more than a server takes by default.
        config.limits.inbound_packets = 100_000;
        config.limits.inbound_bytes = u32::MAX;
        UdpDriver::with_config(config)
    };
    let clock = SystemClock::new();
    let (mut server, mut client) = (make(), make());
    let endpoint = server.listen(clock.now(), &"udp://127.0.0.1:0".parse().unwrap()).unwrap();
    let code = Credentials::JoinCode(server.join_code().unwrap().clone());
    let id = client.connect(clock.now(), &endpoint, &code).unwrap();
    let (mut accepted, mut received, mut before) = (None, 0, 0);
    for tick in 0..WARM_UP + TICKS {
        if tick == WARM_UP {
            (before, received) = (ALLOCATIONS.load(Ordering::Relaxed), 0);
        }
        let now = clock.now();
        server.receive(now, &mut |incoming| match incoming {
            Incoming::Accepted { connection, .. } => accepted = Some(connection),
            Incoming::Message { .. } => received += 1,
            _ => {}
        });
        client.receive(now, &mut |incoming| received += u32::from(matches!(incoming, Incoming::Message { .. })));
        if let Some(connection) = accepted {
            for (channel, size) in [(ChannelId::UNRELIABLE, 1000), (ChannelId::RELIABLE, 100)] {
                let _ = server.send(now, connection, channel, &[7; 1000][..size]);
                let _ = client.send(now, id, channel, &[7; 1000][..size]);
            }
        }
        server.flush(now);
        client.flush(now);
        std::thread::sleep(Duration::from_millis(1));
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert!(received > TICKS, "only {received} messages arrived");
    // Now and then a busy machine makes a queue longer than it ever was. What is allocated per message is seen all the same.
    assert!(allocations * 20 < u64::from(received), "{allocations} allocations for {received} messages");
}
