//! Fixed pieces of work whose instructions are counted: in virtual time, on a network within the process, from fixed
//! seeds. `.ci/instructions` runs them under callgrind, which counts what [`measured`] calls.

use std::time::Duration;

use bytes::Bytes;
use netstream::NetworkStreamPlugin;
use netstream::driver::ManualClock;
use netstream::driver::udp::{MemoryNetwork, UdpDriver};
use netstream::transport::SeededRandom;

use crate::end::{Crowd, End, Lane, Server, Setup};
use crate::game::{CrowdGame, Game, Workload};
use crate::peers::ecs::{self, EcsServer};
use crate::peers::netstream::{DriverCrowd, DriverServer, config};

const TICK: Duration = Duration::from_micros(16_667);

/// Until every buffer has its size.
const WARM_UP: usize = 30;

/// What counts.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

/// `None` if there is no such work.
pub(crate) fn run(work: &str) -> Option<()> {
    match work {
        "send" => driver(true),
        "receive" => driver(false),
        "ecs" => whole_stack(),
        _ => return None,
    }
    Some(())
}

struct Parts {
    setup: Setup,
    clock: ManualClock,
    network: MemoryNetwork,
}

impl Parts {
    fn new(clients: usize) -> Self {
        Self {
            setup: Setup { clients, largest: 0, only_answers: false },
            clock: ManualClock::new(),
            network: MemoryNetwork::new(),
        }
    }

    fn driver(&self) -> UdpDriver<MemoryNetwork> {
        let mut config = config(&self.setup);
        let mut random = SeededRandom::new(1);
        config.access = netstream::driver::udp::UdpConfig::new(&mut random).access;
        UdpDriver::on(self.network.clone(), config, Box::new(random))
    }

    fn crowd(&self, server: &dyn Server) -> DriverCrowd<MemoryNetwork> {
        DriverCrowd::on(self.network.clone(), Box::new(self.clock.clone()), &server.address(), &self.setup)
    }
}

/// Ten ticks of 100 clients, to each of whom a full packet goes with what it is owed of acknowledgements, and from whom
/// one small packet comes. Either the sending counts, or the receiving.
fn driver(sending: bool) {
    let parts = Parts::new(100);
    let mut server = DriverServer::with(parts.driver(), Box::new(parts.clock.clone()));
    let mut crowd = parts.crowd(&server);
    let mut game = CrowdGame::new(Workload::Tick, parts.setup.clients);
    let mut received = 0;
    for tick in 0..WARM_UP + 10 {
        parts.clock.advance(TICK);
        game.update(&mut crowd);
        server.begin();
        let mut receive = || server.receive(&mut |_, _| received += 1);
        if tick >= WARM_UP && !sending {
            measured(&mut receive)
        } else {
            receive()
        }
        let mut send = || {
            for client in 0..server.connected() {
                server.send(client, Lane::Unreliable, &Bytes::from_static(&[7; 1000]));
            }
            server.flush();
        };
        if tick >= WARM_UP && sending { measured(&mut send) } else { send() }
    }
    assert!(received > 100 * 15, "{received}");
}

/// One update of an `App` with 1000 connections, each of which gets a snapshot and has sent a command.
fn whole_stack() {
    let parts = Parts::new(1000);
    let plugin = NetworkStreamPlugin::server().with_clock(parts.clock.clone()).with_random(SeededRandom::new(2));
    let mut server = EcsServer::with(plugin, parts.driver(), &parts.setup);
    let mut crowd = ecs::with_session(parts.crowd(&server), &parts.setup);
    let mut clients = CrowdGame::new(Workload::Tick, parts.setup.clients);
    let mut game = Game::new(Workload::Tick, parts.setup.clients);
    for _ in 0..10 * WARM_UP {
        parts.clock.advance(TICK);
        clients.update(&mut crowd);
        server.update(&mut game);
        if !game.running && game.connected == parts.setup.clients {
            game.start();
        }
        if game.ticks as usize >= WARM_UP {
            break;
        }
    }
    assert!(game.ticks as usize >= WARM_UP, "{} of them connected", game.connected);
    parts.clock.advance(TICK);
    clients.update(&mut crowd);
    let before = game.received;
    measured(&mut || server.update(&mut game));
    assert_eq!(game.received - before, parts.setup.clients as u64);
    crowd.flush();
}
