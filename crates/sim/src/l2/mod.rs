//! Level 2: whole Bevy Apps, real plugin and real drivers, over the simulated network.

mod alike;
mod ends;
mod game;
mod log;
mod peer;
mod rogue;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netstream::driver::udp::{self, UdpConfig};
use netstream::driver::{DriverId, IpcDriver, LinkProfile, NetworkDriver, Scheme, Simulated, UdpDriver};
use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::netcode::{JoinCode, SessionCipher};
use netstream::transport::{Mono, SeededRandom};

pub(crate) use self::alike::check_drivers;
use self::ends::Ends;
use self::game::{CREDENTIALS, Player};
use self::log::LogWatch;
use self::peer::Peer;
use self::rogue::Rogue;
use self::wire::{Access, Wire, lock};
use crate::clock::SharedClock;
use crate::dice::Dice;
use crate::guest::Game;
use crate::invariant::Invariant;
use crate::journal::{Journal, SERVERS};
use crate::network::{Network, Owner, Port};
use crate::oracle::NAME;
use crate::plan::{CHANNELS, Mischief, Plan};
use crate::stage::{Cast, Moment, Mood, PLAY_ON, Record};

/// Where a server listens.
fn address_of(server: usize) -> SocketAddr {
    ([203, 0, 113, 1 + server as u8], 7979).into()
}

/// All endpoints of a server: on the network and in its own process.
fn endpoints_of(server: usize) -> [String; 2] {
    [format!("udp://{}", address_of(server)), format!("ipc://arena{server}")]
}

/// The largest message of the game: what fits into any channel.
const LARGEST: usize = 12_000;

/// Server Worlds and their clients.
pub(crate) struct Apps {
    plan: Plan,
    wire: Arc<Mutex<Wire>>,
    hub: IpcHub,
    code: JoinCode,
    ends: Ends,
    servers: Vec<ServerWorld>,
    clients: Vec<Player>,
    /// By the place of the fault that they are.
    rogues: BTreeMap<usize, Rogue>,
    /// How many Worlds there have been.
    worlds: usize,
    log: LogWatch,
    dice: Dice,
    /// Somebody's own game.
    guest: Option<Arc<dyn Game>>,
}

/// A server: its World, if it runs.
#[derive(Default)]
struct ServerWorld {
    peer: Option<Peer>,
    clock: SharedClock,
    /// What it listens with.
    listening: Vec<(DriverId, String)>,
    last: Mono,
}

impl ServerWorld {
    /// What a client of its game says first, while it is there.
    fn greeting(&mut self) -> Option<Vec<u8>> {
        let (driver, _) = self.listening.first()?;
        Some(self.peer.as_mut()?.net().greeting(*driver))
    }
}

impl Apps {
    pub(crate) fn new(plan: Plan, journal: Journal, guest: Option<Arc<dyn Game>>) -> Self {
        let mut dice = Dice::new(plan.seed, "apps", 0);
        let ends = Ends {
            record: Record::new(journal),
            all: Vec::new(),
            largest: [plan.workload.largest.clamp(NAME, LARGEST); CHANNELS],
            said: Vec::new(),
            foreign: plan.workload.foreign.map(|client| client as u32),
            removed: Vec::new(),
        };
        let (code, log) = (JoinCode::random(dice.random()), LogWatch::default());
        log.add_secret(code.to_text().as_str());
        log.add_secret(code.to_text().replace('-', ""));
        log.add_secret(CREDENTIALS);
        log.add_secret(format!("{:?}", CREDENTIALS.as_bytes()));
        let mut apps = Self {
            wire: Wire::new(Network::new(&plan)),
            hub: IpcHub::new(),
            code,
            ends,
            servers: (0..plan.servers).map(|_| ServerWorld::default()).collect(),
            clients: Vec::new(),
            rogues: BTreeMap::new(),
            worlds: 0,
            log,
            dice,
            guest,
            plan,
        };
        apps.clients = (0..apps.plan.clients).map(|index| Player::new(index, &apps.plan)).collect();
        apps
    }

    /// Reads what the Worlds write to the log, where it is made the subscriber.
    pub(crate) fn log(&self) -> LogWatch {
        self.log.clone()
    }

    /// I36.
    fn check_log(&mut self, now: Mono) {
        if let Some(what) = self.log.take_wrong() {
            self.ends.record.violate(now, Invariant::I36, what);
        }
    }

    /// A World for `owner`, whose drivers live on the simulated network.
    fn world(&mut self, owner: Owner, clock: &SharedClock, now: Mono) -> Peer {
        let (side, node, ip) = match owner {
            Owner::Server(server) => (Side::Server, SERVERS + server as u32, address_of(server).ip()),
            Owner::Client(client) => (Side::Client, client as u32, IpAddr::from([10, 1, client as u8, 2])),
        };
        let plugin = match side {
            Side::Server if self.plan.workload.approval => NetworkStreamPlugin::server().with_approval(),
            Side::Server => NetworkStreamPlugin::server(),
            Side::Client if self.plan.workload.foreign == Some(node as usize) => {
                NetworkStreamPlugin::client().with_protocol(GameProtocol::new("another version", 2))
            }
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
                        // Both, on whatever machine.
                        config.cipher = [SessionCipher::Aes128Gcm, SessionCipher::ChaCha20Poly1305][node as usize % 2];
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
        Peer::new(plugin, side, self.worlds - 1, node, now, self.plan.workload.typed, self.guest.clone())
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

    /// Where a client looks for a server: any of them.
    fn endpoint_for(plan: &Plan, client: usize, dice: &mut Dice) -> String {
        let [udp, ipc] = endpoints_of(dice.number(0..=plan.servers as u64 - 1) as usize);
        if plan.workload.in_process && client % 2 == 1 { ipc } else { udp }
    }

    fn at(&mut self, now: Mono) {
        lock(&self.wire).now = now;
    }

    /// Listens everywhere where it does not yet, with a new driver where the old one is gone.
    fn listen(&mut self, server: usize, at: Moment) {
        let Self { servers, ends, .. } = self;
        let ServerWorld { peer: Some(peer), listening, .. } = &mut servers[server] else { return };
        for endpoint in endpoints_of(server) {
            let known = listening.iter().find(|(_, known)| *known == endpoint).map(|(driver, _)| *driver);
            let outcome = match known {
                None => peer.net().listen(&endpoint).map(|new| listening.push((new.driver, endpoint.clone()))),
                Some(driver) if peer.net().drivers().get(driver).is_some_and(|driver| driver.listening().is_none()) => {
                    let endpoint = endpoint.parse().expect("the endpoints are constants");
                    peer.net().listen_on(driver, &endpoint).map(drop)
                }
                Some(_) => Ok(()),
            };
            if let Err(error) = outcome {
                ends.record.violate(at.truth, Invariant::I8, format!("cannot listen at {endpoint}: {error}"));
            }
        }
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
        (0..self.servers.len()).map(address_of).collect()
    }

    fn step_server(&mut self, index: usize, at: Moment, mood: Mood) {
        self.at(at.truth);
        let Self { servers, plan, dice, ends, .. } = self;
        let ServerWorld { peer: Some(server), clock, last, .. } = &mut servers[index] else { return };
        clock.set(at.local);
        self.log.set(at.truth, server.world);
        let passed = at.truth.since(*last);
        game::serve(server, passed, mood, &plan.workload, dice, ends);
        server.update(at.truth, ends);
        ends.check_removed(at.truth, server.world);
        *last = at.truth;
        self.check_log(at.truth);
    }

    fn step_client(&mut self, index: usize, at: Moment, mood: Mood) {
        self.at(at.truth);
        let clock = self.clients[index].clock.clone();
        clock.set(at.local);
        if self.clients[index].peer.is_none() {
            let peer = self.world(Owner::Client(index), &clock, at.truth);
            self.clients[index].peer = Some(peer);
        }
        let Self { plan, clients, code, ends, log, .. } = self;
        log.set(at.truth, clients[index].peer.as_ref().map_or(0, |peer| peer.world));
        let endpoint = |dice: &mut Dice| Self::endpoint_for(plan, index, dice);
        clients[index].step(at.truth, mood, &plan.workload, endpoint, code, ends);
        self.check_log(at.truth);
    }

    fn step_rogue(&mut self, place: usize, _: Mischief, rate: f64, now: Mono) -> Option<Mono> {
        let Self { plan, rogues, wire, code, servers, .. } = self;
        let number = rogues.len();
        let rogue = rogues.entry(place).or_insert_with(|| Rogue::new(plan.seed, number, rate));
        Some(rogue.step(now, &mut servers[0], code, &mut lock(wire).network))
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
        if let Some(peer) = self.servers[server].peer.take() {
            self.ends.bury(now, peer.world);
        }
    }

    fn shut_down_server(&mut self, server: usize, at: Moment) {
        self.at(at.truth);
        self.servers[server].clock.set(at.local);
        if let Some(peer) = self.servers[server].peer.take() {
            self.ends.bury(at.truth, peer.world);
        }
    }

    fn start_server(&mut self, server: usize, at: Moment, _: bool) {
        if self.servers[server].peer.is_some() {
            return;
        }
        self.at(at.truth);
        let clock = self.servers[server].clock.clone();
        clock.set(at.local);
        let peer = self.world(Owner::Server(server), &clock, at.truth);
        self.servers[server] = ServerWorld { peer: Some(peer), clock, listening: Vec::new(), last: at.truth };
        self.listen(server, at);
    }

    fn set_accepting(&mut self, server: usize, at: Moment, accepting: bool) {
        self.at(at.truth);
        self.servers[server].clock.set(at.local);
        if accepting {
            return self.listen(server, at);
        }
        let ServerWorld { peer: Some(peer), listening, .. } = &mut self.servers[server] else { return };
        for (driver, _) in listening {
            // Refused where the driver is gone.
            let _ = peer.net().stop_listening(*driver);
        }
    }

    fn change_drivers(&mut self, server: usize, at: Moment, drain: bool, within: Duration) {
        self.at(at.truth);
        self.servers[server].clock.set(at.local);
        let Self { servers, ends, dice, .. } = self;
        let ServerWorld { peer: Some(peer), listening, .. } = &mut servers[server] else { return };
        if listening.is_empty() {
            return;
        }
        let (driver, _) = listening[dice.number(0..=listening.len() as u64 - 1) as usize];
        if drain {
            let _ = peer.net().drain(driver, within / 2, "the server is drained");
        } else if peer.net().remove_driver(driver, ends::removal(driver)).is_ok() {
            ends.removed.push((peer.world, driver, at.truth));
            listening.retain(|(known, _)| *known != driver);
        }
    }

    fn check(&mut self, now: Mono, _: &[Mono]) {
        game::check_loneliness(now, &self.plan, &mut self.ends);
        if self.plan.is_healthy(now) {
            let network = &mut lock(&self.wire).network;
            self.rogues.values_mut().for_each(|rogue| rogue.vanish(network));
        }
    }

    fn check_settled(&mut self, now: Mono) {
        let quiet_since = self.plan.heals_at.unwrap_or(now) + PLAY_ON;
        let servers = self.servers.iter().filter_map(|server| server.peer.as_ref());
        game::check_everybody_is_in(now, &self.plan, &self.clients, servers, &mut self.ends);
        game::check_everything_arrived(now, quiet_since, &mut self.ends);
        if let Some(guest) = &self.guest {
            let peers = self.servers.iter_mut().filter_map(|server| server.peer.as_mut());
            let mut servers: Vec<_> = peers.map(|peer| peer.app.world_mut()).collect();
            let peers = self.clients.iter_mut().filter_map(|client| client.peer.as_mut());
            let mut clients: Vec<_> = peers.map(|peer| peer.app.world_mut()).collect();
            if let Err(what) = guest.check_settled(&mut servers, &mut clients) {
                self.ends.record.violate(now, Invariant::Game, what);
            }
        }
    }

    fn check_empty(&mut self, now: Mono, _: Mono) {
        let left = self.ends.all.iter().position(|end| end.ended.is_none());
        if let Some(end) = left {
            let what = format!("end {end} is left: {:?}", self.ends.all[end]);
            self.ends.record.violate(now, Invariant::I32, what);
        }
        let unpaired = self.ends.all.iter().position(|end| end.connected.is_some() && end.ended.is_none());
        if let Some(end) = unpaired {
            self.ends.record.violate(now, Invariant::I3, format!("end {end} was Connected and never Disconnected"));
        }
        for server in self.servers.iter_mut().filter_map(|server| server.peer.as_mut()) {
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
        for end in all.iter().filter(|end| end.state != ConnectionState::Disconnected) {
            record.sometimes.count(&format!("{:?} is in {} when all ends", end.side, end.state));
        }
        for server in self.servers.iter_mut().filter_map(|server| server.peer.as_mut()) {
            let counters = server.net().counters();
            record.sometimes.add("messages for who is over", counters.late_messages);
            record.sometimes.add("data that crossed the in-game mark", counters.out_of_game);
            record.sometimes.add("players who came back", counters.resumed);
            record.sometimes.add("tickets that are worth nothing", counters.stale_tickets);
            record.sometimes.add("data that nobody read", counters.unread_dropped);
            record.sometimes.add("refused for a ban", counters.refused_banned);
            record.sometimes.add("refused for want of room", counters.refused_full);
            record.sometimes.add("somebody breaks the protocol", counters.violations);
        }
    }
}
