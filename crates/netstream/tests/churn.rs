//! Players who come and go leave nothing behind.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bevy_app::App;
use bevy_ecs::prelude::*;
use netstream::ConnectOptions;
use netstream::driver::transport::SeededRandom;
use netstream::driver::transport::netcode::JoinCode;
use netstream::driver::udp::{Access, MemoryNetwork, UdpConfig, UdpDriver};
use netstream::driver::{ManualClock, NetworkDriver};
use netstream::prelude::*;

/// Counts the bytes that the current thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.with(|held| held.set(held.get() + layout.size() as i64));
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.with(|held| held.set(held.get() - layout.size() as i64));
        // SAFETY: see above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Players who are there at once.
const AT_ONCE: usize = 32;

const STEP: Duration = Duration::from_millis(20);

const ENDPOINT: &str = "udp://127.0.0.1:7979";

/// A server and a World of players, in virtual time on a network within the process.
struct Arena {
    server: App,
    players: App,
    clock: ManualClock,
    code: JoinCode,
    started: usize,
}

/// What the players' World has seen.
#[derive(Resource, Default)]
struct Seen {
    ended: usize,
    /// Those that ended otherwise than by our goodbye.
    lost: Vec<String>,
}

fn enter(event: On<'_, '_, ConnectionEvent>, mut commands: Commands<'_, '_>) {
    if event.state == ConnectionState::Accepted {
        commands.entity(event.connection).insert(NetworkStreamInGame);
    }
}

/// Whoever plays leaves.
fn leave(event: On<'_, '_, ConnectionEvent>, mut net: ResMut<'_, NetworkStreamDriver>, mut seen: ResMut<'_, Seen>) {
    if event.state.is_in_game() {
        net.disconnect(event.connection, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    }
    if let Some(reason) = &event.reason {
        seen.ended += 1;
        if reason.origin != Origin::Local || reason.code != DisconnectCode::ConnectionClose {
            seen.lost.push(reason.to_string());
        }
    }
}

impl Arena {
    /// A server that remembers the tokens of so many joins.
    fn new(joins: usize) -> Self {
        let (network, clock) = (MemoryNetwork::new(), ManualClock::new());
        let code = JoinCode::random(&mut SeededRandom::new(1));
        let driver = |side: u64| {
            let (network, code, seeds) = (network.clone(), code.clone(), std::sync::atomic::AtomicU64::new(side));
            move |_: &Endpoint| {
                let seed = seeds.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
                let mut random = SeededRandom::new(seed);
                let mut config = UdpConfig::new(&mut random);
                config.access = Access::JoinCode(code.clone());
                config.limits.consumed_tokens = if side == 0 { joins } else { 1 };
                let driver = UdpDriver::on(network.clone(), config, Box::new(random));
                Some(Box::new(driver) as Box<dyn NetworkDriver>)
            }
        };
        // Ids rest so long that without an end of it the pool would grow in this test.
        let limits = netstream::NetworkLimits { id_quarantine: Duration::from_secs(1), ..Default::default() };
        let app = |plugin: NetworkStreamPlugin, seed: u64| {
            let plugin =
                plugin.with_clock(clock.clone()).with_random(SeededRandom::new(seed)).with_limits(limits.clone());
            let mut app = App::new();
            app.add_plugins(plugin).add_observer(enter);
            app
        };
        let mut server = app(NetworkStreamPlugin::server().with_driver_constructor(driver(0)), 2);
        let mut players = app(NetworkStreamPlugin::thin_client().with_driver_constructor(driver(1)), 3);
        players.init_resource::<Seen>().add_observer(leave);
        server.world_mut().resource_mut::<NetworkStreamDriver>().listen(ENDPOINT).unwrap();
        Self { server, players, clock, code, started: 0 }
    }

    fn update(&mut self) {
        self.clock.advance(STEP);
        self.players.update();
        self.server.update();
    }

    /// Lets so many come and go, and everything settle; returns the bytes that both Worlds hold then.
    fn cycle(&mut self, count: usize) -> i64 {
        let all = self.started + count;
        let mut updates = 0;
        loop {
            let ended = self.players.world().resource::<Seen>().ended;
            for _ in (self.started - ended)..AT_ONCE.min(all - ended) {
                let mut net = self.players.world_mut().resource_mut::<NetworkStreamDriver>();
                net.connect_with(ENDPOINT, ConnectOptions::new().join_code(self.code.clone())).unwrap();
                self.started += 1;
            }
            if ended == all {
                break;
            }
            self.update();
            updates += 1;
            assert!(updates < 100 * count + 1000, "{ended} of {all} have come and gone");
        }
        // Goodbyes, and the rest of ids.
        (0..200).for_each(|_| self.update());
        HELD.with(Cell::get)
    }

    fn entities(&mut self) -> (u32, u32) {
        (self.server.world().entities().count_spawned(), self.players.world().entities().count_spawned())
    }
}

fn churn(cycles: usize) {
    let warm_up = 2000;
    let mut arena = Arena::new(warm_up + cycles + 1);
    let before = arena.cycle(warm_up);
    let entities = arena.entities();
    let after = arena.cycle(cycles);
    assert_eq!(arena.players.world().resource::<Seen>().lost, Vec::<String>::new());
    assert_eq!(arena.entities(), entities);
    let server = arena.server.world().resource::<NetworkStreamDriver>();
    assert_eq!((server.connections().count(), server.network_ids_in_use()), (0, 0));
    assert_eq!(arena.players.world().resource::<NetworkStreamDriver>().drivers().iter().count(), 0);
    let grown = after - before;
    println!("{cycles} connections came and went; the heap grew by {grown} bytes from {before}");
    assert!(grown < 64 * 1024, "{cycles} connections left {grown} bytes behind");
}

#[test]
fn players_who_come_and_go_leave_nothing_behind() {
    churn(1000);
}

/// `cargo test --release -p netstream --test churn -- --ignored --nocapture`
#[test]
#[ignore = "minutes"]
fn a_hundred_thousand_players_leave_nothing_behind() {
    churn(100_000);
}
