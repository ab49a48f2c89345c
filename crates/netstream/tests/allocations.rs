//! What RPCs, commands and snapshots cost in allocations once they are in their stride.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::driver::udp::{Access, MemoryNetwork, UdpConfig};
use netstream::driver::{ManualClock, NetworkDriver, UdpDriver};
use netstream::prelude::*;
use netstream::transport::SeededRandom;
use netstream::transport::netcode::JoinCode;
use netstream::{ReceivedRequest, Response, RpcOptions};
use serde::{Deserialize, Serialize};

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

// None of these allocates when it is decoded.
#[derive(Serialize, Deserialize)]
struct Chat([u8; 16]);
#[derive(Serialize, Deserialize)]
struct Price(u32);
#[derive(Serialize, Deserialize)]
struct Coins(u32);
#[derive(Serialize, Deserialize)]
struct Move(i16, i16);
#[derive(Serialize, Deserialize)]
struct Scene([u32; 32]);

/// What is sent per tick.
#[derive(Resource, Clone, Copy, Default)]
struct Traffic {
    rpcs: usize,
    requests: usize,
    commands: bool,
    snapshots: bool,
}

/// How much has arrived.
#[derive(Resource, Default)]
struct Arrived(u64);

fn app(plugin: NetworkStreamPlugin, clock: &ManualClock, traffic: Traffic, network: Option<&MemoryNetwork>) -> App {
    let mut app = App::new();
    let mut plugin = plugin.with_clock(clock.clone());
    if let Some(network) = network.cloned() {
        plugin = plugin.with_driver_constructor(move |_| {
            let mut random = SeededRandom::new(1);
            let mut config = UdpConfig::new(&mut random);
            config.access = Access::JoinCode(code());
            Some(Box::new(UdpDriver::on(network.clone(), config, Box::new(random))) as Box<dyn NetworkDriver>)
        });
    }
    app.add_plugins(plugin)
        .register_rpc::<Chat>()
        .register_request::<Price, Coins>(RpcOptions::new())
        .register_command::<Move>()
        .register_snapshot_with::<Scene>(SnapshotOptions::new().delta())
        .insert_resource(traffic)
        .init_resource::<Arrived>()
        .add_systems(NetworkTick, (talk, control, simulate))
        .add_systems(Update, hear);
    app
}

fn code() -> JoinCode {
    JoinCode::random(&mut SeededRandom::new(1))
}

fn talk(traffic: Res<'_, Traffic>, mut rpcs: RpcSender<'_, '_>, connections: Query<'_, '_, Entity, With<NetworkId>>) {
    for connection in &connections {
        for number in 0..traffic.rpcs {
            let _ = rpcs.send(connection, &Chat([number as u8; 16]));
        }
        for number in 0..traffic.requests {
            let _ = rpcs.request(connection, &Price(number as u32), Duration::from_secs(5));
        }
    }
}

fn control(traffic: Res<'_, Traffic>, mut commands: CommandSender<'_, '_>, time: Res<'_, NetworkTime>) {
    if traffic.commands {
        let _ = commands.send(&Move(time.tick().number() as i16, 3));
    }
}

fn simulate(
    traffic: Res<'_, Traffic>,
    time: Res<'_, NetworkTime>,
    mut players: Query<'_, '_, (Entity, &mut CommandBuffer<Move>), With<NetworkStreamInGame>>,
    mut snapshots: SnapshotSender<'_, '_>,
    mut arrived: ResMut<'_, Arrived>,
) {
    for (player, mut commands) in &mut players {
        arrived.0 += u64::from(commands.take(time.tick()).is_some());
        if traffic.snapshots {
            let mut cells = [7; 32];
            cells[time.tick().number() as usize % 32] = time.tick().number();
            let _ = snapshots.send(player, &Scene(cells));
        }
    }
}

fn hear(
    mut chats: MessageReader<'_, '_, ReceivedRpc<Chat>>,
    mut requests: MessageReader<'_, '_, ReceivedRequest<Price>>,
    mut responses: MessageReader<'_, '_, Response<Coins>>,
    mut scenes: MessageReader<'_, '_, ReceivedSnapshot<Scene>>,
    mut rpcs: RpcSender<'_, '_>,
    mut arrived: ResMut<'_, Arrived>,
) {
    for request in requests.read() {
        let _ = rpcs.respond(request, &Coins(request.request.0));
    }
    let chats = chats.read().filter(|chat| chat.rpc.0.len() == 16).count();
    arrived.0 += (chats + responses.read().count() + scenes.read().count()) as u64;
}

/// Allocations per update of the server and of the client, at one tick an update.
fn allocations(udp: bool, traffic: Traffic) -> [f64; 2] {
    const WARM_UP: u64 = 6000;
    const UPDATES: u64 = 600;
    let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
    let hub = IpcHub::new();
    let network = udp.then_some(&network);
    let mut server = app(NetworkStreamPlugin::server().with_ipc(&hub), &clock, traffic, network);
    let mut client = app(NetworkStreamPlugin::client().with_ipc(&hub), &clock, traffic, network);
    let endpoint = if udp { "udp://127.0.0.1:7979" } else { "ipc://here" };
    server.world_mut().resource_mut::<NetworkStreamDriver>().listen(endpoint).unwrap();
    let options = if udp { ConnectOptions::new().join_code(code()) } else { ConnectOptions::new() };
    let connection = client.world_mut().resource_mut::<NetworkStreamDriver>().connect_with(endpoint, options).unwrap();
    client.world_mut().entity_mut(connection).insert(NetworkStreamInGame);
    let (mut counts, mut before) = ([0; 2], 0);
    for update in 0..WARM_UP + UPDATES {
        if update == 60 {
            let player = server.world().resource::<NetworkStreamDriver>().connections().next().unwrap();
            server.world_mut().entity_mut(player).insert(NetworkStreamInGame);
        }
        if update == WARM_UP {
            assert!(counts[0] > 100 && counts[1] > 100, "allocations are counted: {counts:?}");
            (counts, before) =
                ([0; 2], server.world().resource::<Arrived>().0 + client.world().resource::<Arrived>().0);
        }
        for (app, count) in [&mut server, &mut client].into_iter().zip(&mut counts) {
            let start = ALLOCATIONS.with(Cell::get);
            app.update();
            *count += ALLOCATIONS.with(Cell::get) - start;
        }
        clock.advance(Duration::from_secs(1) / 60);
    }
    let arrived = server.world().resource::<Arrived>().0 + client.world().resource::<Arrived>().0 - before;
    let per_tick =
        2 * (traffic.rpcs + traffic.requests) as u64 + u64::from(traffic.commands) + u64::from(traffic.snapshots);
    assert!(arrived + 3 * per_tick >= UPDATES * per_tick, "{arrived} arrived of {}", UPDATES * per_tick);
    counts.map(|count| count as f64 / UPDATES as f64)
}

#[test]
fn in_its_stride_nothing_allocates() {
    let none = Traffic::default();
    println!("| per tick and direction | in-process: server, client | UDP: server, client |");
    println!("|---|---|---|");
    for (what, traffic) in [
        ("nothing", none),
        ("10 RPCs", Traffic { rpcs: 10, ..none }),
        ("3 requests, answered", Traffic { requests: 3, ..none }),
        ("a command", Traffic { commands: true, ..none }),
        ("a snapshot, as a delta", Traffic { snapshots: true, ..none }),
        ("all of that", Traffic { rpcs: 10, requests: 3, commands: true, snapshots: true }),
    ] {
        let [ipc, udp] = [false, true].map(|udp| allocations(udp, traffic));
        println!("| {what} | {:.2}, {:.2} | {:.2}, {:.2} |", ipc[0], ipc[1], udp[0], udp[1]);
        assert_eq!([ipc, udp], [[0.0; 2]; 2], "{what}");
    }
}
