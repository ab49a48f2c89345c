//! Level 2: whole Bevy Apps, real plugin and real drivers, over the simulated network.

mod ends;
mod game;
mod peer;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netstream::driver::udp::{self, UdpConfig};
use netstream::driver::{DriverId, IpcDriver, LinkProfile, NetworkDriver, Scheme, Simulated, UdpDriver};
use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::netcode::JoinCode;
use netstream::transport::{Mono, SeededRandom};

use self::ends::Ends;
use self::game::Player;
use self::peer::Peer;
use self::wire::{Access, Wire, lock};
use crate::clock::SharedClock;
use crate::dice::Dice;
use crate::invariant::Invariant;
use crate::journal::{Journal, SERVERS};
use crate::network::{Network, Owner, Port};
use crate::oracle::NAME;
use crate::plan::{CHANNELS, Mischief, Plan};
use crate::stage::{Cast, Moment, Mood, PLAY_ON, Record};

/// Where the server listens, and under which name in its own process.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1)), 7979);
const IPC: &str = "ipc://arena";

/// The largest message of the game: what fits into any channel.
const LARGEST: usize = 12_000;

/// A server World and its clients.
pub(crate) struct Apps {
    plan: Plan,
    wire: Arc<Mutex<Wire>>,
    hub: IpcHub,
    code: JoinCode,
    ends: Ends,
    server: Option<Peer>,
    server_clock: SharedClock,
    /// What it listens with.
    listening: Vec<(DriverId, String)>,
    clients: Vec<Player>,
    /// How many Worlds there have been.
    worlds: usize,
    dice: Dice,
    last: Mono,
}

impl Apps {
    pub(crate) fn new(plan: Plan, journal: Journal) -> Self {
        let mut dice = Dice::new(plan.seed, "apps", 0);
        let ends = Ends {
            record: Record::new(journal),
            all: Vec::new(),
            largest: [plan.workload.largest.clamp(NAME, LARGEST); CHANNELS],
            said: Vec::new(),
        };
        let mut apps = Self {
            wire: Wire::new(Network::new(&plan)),
            hub: IpcHub::new(),
            code: JoinCode::random(dice.random()),
            ends,
            server: None,
            server_clock: SharedClock::default(),
            listening: Vec::new(),
            clients: Vec::new(),
            worlds: 0,
            dice,
            last: Mono::ZERO,
            plan,
        };
        apps.clients = (0..apps.plan.clients).map(|index| Player::new(index, &apps.plan)).collect();
        apps
    }

    /// A World for `owner`, whose drivers live on the simulated network.
    fn world(&mut self, owner: Owner, clock: &SharedClock, now: Mono) -> Peer {
        let (side, node, ip) = match owner {
            Owner::Server(server) => (Side::Server, SERVERS + server as u32, SERVER.ip()),
            Owner::Client(client) => (Side::Client, client as u32, IpAddr::from([10, 1, client as u8, 2])),
        };
        let plugin = match side {
            Side::Server if self.plan.workload.approval => NetworkStreamPlugin::server().with_approval(),
            Side::Server => NetworkStreamPlugin::server(),
            Side::Client => NetworkStreamPlugin::client(),
        };
        let seed = self.dice.number(0..=u64::MAX - 1);
        let (access, hub, code, made) =
            (Access::new(&self.wire, owner, ip), self.hub.clone(), self.code.clone(), AtomicU64::new(0));
        let (workload, number) = (self.plan.workload.clone(), u64::from(node));
        let profile = self.ipc_profile();
        let plugin = plugin.with_clock(clock.clone()).with_random(SeededRandom::new(seed)).with_driver_constructor(
            move |endpoint| -> Option<Box<dyn NetworkDriver>> {
                let seed = seed ^ (made.fetch_add(1, Ordering::Relaxed) + 1) << 32;
                match endpoint.scheme() {
                    Scheme::Udp => {
                        let mut random = SeededRandom::new(seed);
                        let mut config = UdpConfig::new(&mut random);
                        config.access = udp::Access::JoinCode(code.clone());
                        config.client_id = 1 + number;
                        config.limits.idle_timeout = workload.idle_timeout;
                        config.client_limits.idle_timeout = workload.idle_timeout;
                        // Everybody comes back as often as they like.
                        config.limits.identity_joins = 100_000;
                        Some(Box::new(UdpDriver::on(access.clone(), config, Box::new(random))))
                    }
                    Scheme::Ipc => Some(Box::new(Simulated::new(IpcDriver::new(&hub), profile, seed))),
                    _ => None,
                }
            },
        );
        self.worlds += 1;
        Peer::new(plugin, side, self.worlds - 1, node, now)
    }

    /// In-process there is no network to be bad; messages are late and lost all the same. None comes twice: without
    /// packets nobody would sort the copies out.
    fn ipc_profile(&self) -> LinkProfile {
        let mut dice = Dice::new(self.plan.seed, "ipc", 0);
        if self.plan.heals_at.is_some() || dice.chance(0.3) {
            return LinkProfile::PERFECT;
        }
        let (delay, jitter) = (dice.up_to(Duration::from_millis(200)), dice.up_to(Duration::from_millis(100)));
        LinkProfile { delay, jitter, loss: 0.3 * dice.share() as f32, ..LinkProfile::PERFECT }
    }

    /// Where a client looks for the server.
    fn endpoint_for(plan: &Plan, client: usize) -> String {
        let in_process = plan.workload.in_process && client % 2 == 1;
        if in_process { IPC.to_owned() } else { format!("udp://{SERVER}") }
    }

    fn at(&mut self, now: Mono) {
        lock(&self.wire).now = now;
    }
}

impl Cast for Apps {
    fn record(&mut self) -> &mut Record {
        &mut self.ends.record
    }

    fn with_network<R>(&mut self, act: impl FnOnce(&mut Network) -> R) -> R {
        act(&mut lock(&self.wire).network)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![SERVER]
    }

    fn step_server(&mut self, _: usize, at: Moment, mood: Mood) {
        self.at(at.truth);
        self.server_clock.set(at.local);
        let Some(server) = &mut self.server else { return };
        let passed = at.truth.since(self.last);
        game::serve(server, passed, mood, &self.plan.workload, &mut self.dice, &mut self.ends);
        server.update(at.truth, &mut self.ends);
        self.last = at.truth;
    }

    fn step_client(&mut self, index: usize, at: Moment, mood: Mood) {
        self.at(at.truth);
        let clock = self.clients[index].clock.clone();
        clock.set(at.local);
        if self.clients[index].peer.is_none() {
            let peer = self.world(Owner::Client(index), &clock, at.truth);
            self.clients[index].peer = Some(peer);
        }
        let endpoint = Self::endpoint_for(&self.plan, index);
        self.clients[index].step(at.truth, mood, &self.plan.workload, &endpoint, &self.code, &mut self.ends);
    }

    fn step_rogue(&mut self, _: usize, _: Mischief, _: f64, _: Mono) -> Option<Mono> {
        None
    }

    fn socket_of(&mut self, client: usize) -> Option<(Port, bool)> {
        let port = lock(&self.wire).network.newest(Owner::Client(client))?;
        let up = self.clients[client].current(&self.ends).is_some_and(|end| self.ends.all[end].connected.is_some());
        Some((port, up))
    }

    fn crash_client(&mut self, client: usize, now: Mono, pause: Duration) {
        self.at(now);
        self.with_network(|network| network.close_all(Owner::Client(client)));
        let player = &mut self.clients[client];
        if let Some(peer) = player.peer.take() {
            self.ends.bury(now, peer.world);
        }
        player.next_join = Some(now + pause);
    }

    fn crash_server(&mut self, server: usize, now: Mono) {
        self.at(now);
        self.with_network(|network| network.close_all(Owner::Server(server)));
        if let Some(peer) = self.server.take() {
            self.ends.bury(now, peer.world);
        }
    }

    fn shut_down_server(&mut self, _: usize, at: Moment) {
        self.at(at.truth);
        self.server_clock.set(at.local);
        if let Some(peer) = self.server.take() {
            self.ends.bury(at.truth, peer.world);
        }
    }

    fn start_server(&mut self, server: usize, at: Moment, _: bool) {
        if self.server.is_some() {
            return;
        }
        self.at(at.truth);
        self.server_clock.set(at.local);
        let clock = self.server_clock.clone();
        let mut peer = self.world(Owner::Server(server), &clock, at.truth);
        self.listening.clear();
        for endpoint in [format!("udp://{SERVER}"), IPC.to_owned()] {
            match peer.net().listen(&endpoint) {
                Ok(listening) => self.listening.push((listening.driver, endpoint)),
                Err(error) => self.ends.record.violate(at.truth, Invariant::I8, format!("cannot listen: {error}")),
            }
        }
        self.server = Some(peer);
        self.last = at.truth;
    }

    fn set_accepting(&mut self, _: usize, at: Moment, accepting: bool) {
        self.at(at.truth);
        self.server_clock.set(at.local);
        let Some(peer) = &mut self.server else { return };
        for (driver, endpoint) in &self.listening {
            let endpoint = endpoint.parse().expect("the endpoints are constants");
            if !accepting {
                // The driver is there as long as its World.
                let _ = peer.net().stop_listening(*driver);
            } else if peer.net().drivers().get(*driver).is_some_and(|driver| driver.listening().is_none())
                && let Err(error) = peer.net().listen_on(*driver, &endpoint)
            {
                self.ends.record.violate(at.truth, Invariant::I8, format!("cannot listen again: {error}"));
            }
        }
    }

    fn check(&mut self, now: Mono, _: &[Mono]) {
        game::check_loneliness(now, &self.plan, &mut self.ends);
    }

    fn check_settled(&mut self, now: Mono) {
        let quiet_since = self.plan.heals_at.unwrap_or(now) + PLAY_ON;
        game::check_everybody_is_in(now, &self.plan, &self.clients, self.server.as_ref(), &mut self.ends);
        game::check_everything_arrived(now, quiet_since, &mut self.ends);
    }

    fn check_empty(&mut self, now: Mono, _: Mono) {
        let left = self.ends.all.iter().position(|end| end.ended.is_none());
        if let Some(end) = left {
            let what = format!("end {end} is left: {:?}", self.ends.all[end]);
            self.ends.record.violate(now, Invariant::I32, what);
        }
        if let Some(server) = &mut self.server {
            let ids = server.net().network_ids_in_use();
            if ids > 0 {
                self.ends.record.violate(now, Invariant::I32, format!("{ids} network ids are in use by nobody"));
            }
        }
    }

    fn finish(&mut self) {
        let Ends { record, all, .. } = &mut self.ends;
        let connected = all.iter().filter(|end| end.connected.is_some()).count();
        record.sometimes.add("somebody gets in", connected as u64);
        if let Some(server) = &mut self.server {
            let counters = server.net().counters();
            record.sometimes.add("messages for who is over", counters.late_messages);
            record.sometimes.add("data that crossed the in-game mark", counters.out_of_game);
            record.sometimes.add("players who came back", counters.resumed);
        }
    }
}
