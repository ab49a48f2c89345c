//! Worlds whose UDP drivers work on threads of their own, in real time.

mod harness;

use std::time::{Duration, Instant};

use bevy_ecs::prelude::*;
use harness::{Peer, Say};
use netstream::driver::udp::{IoMode, UdpConfig};
use netstream::driver::{Endpoint, NetworkDriver, OsRandom, UdpDriver};
use netstream::prelude::*;

/// Silence after which a connection ends.
const IDLE: Duration = Duration::from_secs(1);

/// Long enough for anything on loopback, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn driver(_: &Endpoint) -> Option<Box<dyn NetworkDriver>> {
    let mut config = UdpConfig::new(&mut OsRandom);
    config.io = IoMode::Thread;
    config.limits.idle_timeout = IDLE;
    config.limits.keep_alive = Duration::from_millis(50);
    Some(Box::new(UdpDriver::with_config(config)))
}

struct Pair {
    server: Peer,
    client: Peer,
    driver: netstream::driver::DriverId,
}

impl Pair {
    /// A server and a client that is connected; the entities of both.
    fn connected() -> (Self, Entity, Entity) {
        let mut server = Peer::new(NetworkStreamPlugin::server().with_driver_constructor(driver));
        let mut client = Peer::new(NetworkStreamPlugin::client().with_driver_constructor(driver));
        let listening = server.net().listen("udp://127.0.0.1:0").expect("loopback");
        let code = server.net().join_code(listening.driver).expect("a thread's driver shows its code");
        let options = ConnectOptions::new().join_code(code);
        let there = client.net().connect_with(&listening.endpoint, options).expect("the call is right");
        let mut pair = Self { server, client, driver: listening.driver };
        pair.until("both are connected", |pair| {
            let here = pair.server.connections().last().copied();
            here.is_some_and(|here| pair.server.state(here).is_some_and(ConnectionState::is_connected))
                && pair.client.state(there).is_some_and(ConnectionState::is_connected)
        });
        let here = pair.server.connection();
        (pair, here, there)
    }

    #[track_caller]
    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < PATIENCE, "not in time: {what}");
            self.server.app.update();
            self.client.app.update();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_world_that_loads_a_level_for_long_keeps_its_players() {
    let (mut pair, here, there) = Pair::connected();
    pair.client.say(there, 1, "before").unwrap();
    pair.client.app.update();
    std::thread::sleep(IDLE * 3);
    pair.until("what was said meanwhile arrives", |pair| {
        pair.server.seen().says.iter().any(|(from, say)| *from == here && *say == Say(1, "before".to_owned()))
    });
    pair.server.say(here, 2, "after").unwrap();
    pair.until("and the answer", |pair| pair.client.seen().says.iter().any(|(_, say)| say.0 == 2));
    assert!(pair.server.state(here).is_some_and(ConnectionState::is_connected));
    pair.server.check(true);
    pair.client.check(false);
}

#[test]
fn a_driver_on_a_thread_is_drained_and_removed_like_any_other() {
    let (mut pair, here, there) = Pair::connected();
    let id = pair.driver;
    pair.server.net().drain(id, Duration::from_millis(100), "maintenance").unwrap();
    assert!(pair.server.net().endpoints().next().is_none());
    pair.until("both ends know", |pair| {
        let over = |peer: &Peer, entity| peer.states_of(entity).last() == Some(&ConnectionState::Disconnected);
        over(&pair.server, here) && over(&pair.client, there)
    });
    assert_eq!(pair.server.reason_of(here).code, DisconnectCode::DrainDeadline);
    assert_eq!(pair.client.reason_of(there).text.as_str(), "maintenance");
    pair.server.net().remove_driver(id, DisconnectReason::local(DisconnectCode::DriverRemoved)).unwrap();
    assert!(pair.server.net().drivers().is_empty());
    pair.server.check(true);
    pair.client.check(false);
}

#[test]
fn a_world_that_goes_away_says_goodbye_from_its_thread() {
    let (mut pair, _, there) = Pair::connected();
    pair.server = Peer::new(NetworkStreamPlugin::server().with_driver_constructor(driver));
    pair.until("the client knows", |pair| pair.client.states_of(there).last() == Some(&ConnectionState::Disconnected));
    assert_eq!(pair.client.reason_of(there).code, DisconnectCode::ServerShutdown);
}
