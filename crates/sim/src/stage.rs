//! The stage: time, machines, and everything that goes wrong between and with them, whoever plays.
//!
//! One event at a time, the earliest first: a node's update, a fault that begins or ends, an attacker's datagram. Ties
//! are broken by the seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use netstream::transport::{Mono, Now};

use crate::attacker::Attacker;
use crate::clock::NodeClock;
use crate::dice::Dice;
use crate::invariant::{Invariant, Violation};
use crate::journal::{Journal, NETWORK};
use crate::network::{Network, Port};
use crate::plan::{Effect, Fault, Mischief, Plan};
use crate::run::Outcome;
use crate::tally::Tally;

/// Between two looks at what must hold at any time.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// After healing everybody plays on for so long.
pub(crate) const PLAY_ON: Duration = Duration::from_secs(10);

/// After healing so long, everybody must be in and everything must have arrived; then everybody leaves.
pub(crate) const SETTLE: Duration = Duration::from_secs(24);

/// A moment, in truth and as a node sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) truth: Mono,
    pub(crate) local: Now,
}

/// What the players are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// They come and go and make mistakes.
    Wild,
    /// They want to be connected, and play.
    Steady,
    /// They stay and send nothing more.
    Quiet,
    /// They leave and do not come back.
    Leaving,
}

impl Mood {
    /// Whether anything is to be sent.
    pub(crate) fn plays(self) -> bool {
        matches!(self, Self::Wild | Self::Steady)
    }
}

/// What is written down about a run.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) journal: Journal,
    pub(crate) sometimes: Tally,
    pub(crate) violation: Option<Violation>,
}

impl Record {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, sometimes: Tally::default(), violation: None }
    }

    /// `invariant` did not hold.
    pub(crate) fn violate(&mut self, at: Mono, invariant: Invariant, what: impl Into<String>) {
        // The first is the cause, the others may follow from it.
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, at, what: what.into() });
        }
    }
}

/// Who plays: servers and clients of one level.
pub(crate) trait Cast {
    fn record(&mut self) -> &mut Record;
    fn with_network<R>(&mut self, act: impl FnOnce(&mut Network) -> R) -> R;
    /// Where the servers are.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// One update of a node.
    fn step_server(&mut self, index: usize, at: Moment, mood: Mood);
    fn step_client(&mut self, index: usize, at: Moment, mood: Mood);
    /// One datagram of a client with bad intentions; when the next is due, if there are any.
    fn step_rogue(&mut self, place: usize, mischief: Mischief, rate: f64, now: Mono) -> Option<Mono>;
    /// A client (the first server where `None`) sends so many messages in its next update.
    fn spurt(&mut self, _client: Option<usize>, _messages: u32) {}
    /// So many players ask to be let in and never answer.
    fn mob(&mut self, _now: Mono, _players: u32) {}
    /// A server removes one of its drivers, or drains it.
    fn change_drivers(&mut self, _server: usize, _at: Moment, _drain: bool, _within: Duration) {}

    /// The client's newest socket, and whether a connection goes through it.
    fn socket_of(&mut self, client: usize) -> Option<(Port, bool)>;
    /// Gone without a word; the client comes back after `pause`.
    fn crash_client(&mut self, client: usize, now: Mono, pause: Duration);
    fn crash_server(&mut self, server: usize, now: Mono);
    /// Gone in an orderly manner.
    fn shut_down_server(&mut self, server: usize, at: Moment);
    /// Back, if it was gone; `on_time` says whether its wall clock is not ahead.
    fn start_server(&mut self, server: usize, at: Moment, on_time: bool);
    fn set_accepting(&mut self, server: usize, at: Moment, accepting: bool);

    /// What must hold at any time; nobody sleeps whose place in `awake_since` is in the past.
    fn check(&mut self, now: Mono, awake_since: &[Mono]);
    /// What must hold when all is well for a while.
    fn check_settled(&mut self, now: Mono);
    /// What must hold when everybody has left.
    fn check_empty(&mut self, now: Mono, left_at: Mono);
    /// The last things to be counted.
    fn finish(&mut self);
}

/// What a node runs on.
#[derive(Debug)]
struct Machine {
    clock: NodeClock,
    asleep_until: Mono,
    slow: u32,
    rate: u64,
}

impl Machine {
    fn new(dice: &mut Dice, rate: u64) -> Self {
        let origin = dice.up_to(Duration::from_secs(100_000));
        Self { clock: NodeClock::new(origin), asleep_until: Mono::ZERO, slow: 1, rate }
    }

    fn moment(&self, truth: Mono) -> Moment {
        Moment { truth, local: self.clock.at(truth) }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) * self.slow / self.rate as u32
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Start(usize),
    End(usize),
    Heal,
    Quiet,
    Leave,
    Check,
    Server(usize),
    Client(usize),
    /// The place of the attacker, and of the fault that it is.
    Attack(usize),
    Rogue(usize),
}

/// A run: a plan and those who play.
pub(crate) struct Stage<C> {
    plan: Plan,
    pub(crate) cast: C,
    now: Mono,
    schedule: BinaryHeap<Reverse<(Mono, u64, Turn)>>,
    ties: Dice,
    servers: Vec<Machine>,
    clients: Vec<Machine>,
    attackers: Vec<Attacker>,
    mood: Mood,
    left_at: Mono,
}

impl<C: Cast> Stage<C> {
    /// `order` chooses who comes first of those who are due at the same moment.
    pub(crate) fn new(plan: Plan, cast: C, order: usize) -> Self {
        let (seed, work) = (plan.seed, &plan.workload);
        let servers = (0..plan.servers)
            .map(|index| Machine::new(&mut Dice::new(seed, "server machine", index), work.server_rate));
        let clients = (0..plan.clients)
            .map(|index| Machine::new(&mut Dice::new(seed, "client machine", index), work.client_rate));
        let mut stage = Self {
            ties: Dice::new(seed, "ties", order),
            now: Mono::ZERO,
            schedule: BinaryHeap::new(),
            servers: servers.collect(),
            clients: clients.collect(),
            attackers: Vec::new(),
            mood: Mood::Wild,
            left_at: Mono::ZERO + plan.length,
            cast,
            plan,
        };
        stage.open();
        stage
    }

    fn open(&mut self) {
        let start = Mono::ZERO;
        for index in 0..self.servers.len() {
            self.cast.start_server(index, self.servers[index].moment(start), true);
            let phase = self.ties.up_to(Duration::from_millis(50));
            self.put(start + phase, Turn::Server(index));
        }
        for index in 0..self.clients.len() {
            let phase = self.ties.up_to(Duration::from_millis(50));
            self.put(start + phase, Turn::Client(index));
        }
        for place in 0..self.plan.faults.len() {
            let fault = &self.plan.faults[place];
            let (from, until) = (fault.start, fault.end());
            self.put(from, Turn::Start(place));
            self.put(until, Turn::End(place));
        }
        if let Some(healed) = self.plan.heals_at {
            self.put(healed, Turn::Heal);
            self.put(healed + PLAY_ON, Turn::Quiet);
            self.put(healed + SETTLE, Turn::Leave);
        }
        self.put(start + CHECK_INTERVAL, Turn::Check);
    }

    fn put(&mut self, at: Mono, turn: Turn) {
        self.schedule.push(Reverse((at, self.ties.number(0..=u64::MAX - 1), turn)));
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) {
        let end = Mono::ZERO + self.plan.length;
        while let Some(Reverse((at, _, turn))) = self.schedule.pop() {
            if at > end || self.cast.record().violation.is_some() {
                break;
            }
            self.now = at;
            if let Some(next) = self.take(turn) {
                self.put(next, turn);
            }
            self.look_inside();
        }
        if self.plan.heals_at.is_some() && self.cast.record().violation.is_none() {
            self.cast.check_empty(end, self.left_at);
        }
        self.cast.finish();
    }

    /// What the code under test found about itself.
    #[cfg(feature = "mutants")]
    fn look_inside(&mut self) {
        for (rule, what) in netstream::transport::mutants::take_findings() {
            let named = Invariant::ALL.iter().find(|known| known.name().strip_prefix('I') == Some(&rule.to_string()));
            self.condemn(named.copied().unwrap_or(Invariant::I37), what);
        }
    }

    #[cfg(not(feature = "mutants"))]
    fn look_inside(&mut self) {}

    /// Ends the run here because of a violation that nobody on stage could see.
    pub(crate) fn condemn(&mut self, invariant: Invariant, what: String) {
        let now = self.now;
        self.cast.record().violate(now, invariant, what);
    }

    /// What came of it.
    pub(crate) fn outcome(mut self) -> Outcome {
        let (datagrams, injected, captured) =
            self.cast.with_network(|network| (network.datagrams, network.injected.clone(), network.take_tapped()));
        let record = self.cast.record();
        record.sometimes.add("this run heals", u64::from(self.plan.heals_at.is_some()));
        Outcome {
            seed: self.plan.seed,
            hash: record.journal.hash(),
            entries: record.journal.entries(),
            virtual_time: self.now.since(Mono::ZERO),
            datagrams,
            injected,
            sometimes: std::mem::take(&mut record.sometimes),
            violation: record.violation.take(),
            trace: record.journal.last(),
            captured,
            captured_packets: Vec::new(),
        }
    }

    /// Does what is due, and says when it is due again.
    fn take(&mut self, turn: Turn) -> Option<Mono> {
        let (now, mood) = (self.now, self.mood);
        match turn {
            Turn::Server(index) => {
                let machine = &self.servers[index];
                if machine.asleep_until > now {
                    return Some(machine.asleep_until);
                }
                self.cast.step_server(index, machine.moment(now), mood);
                Some(now + self.servers[index].interval())
            }
            Turn::Client(index) => {
                let machine = &self.clients[index];
                if machine.asleep_until > now {
                    return Some(machine.asleep_until);
                }
                self.cast.step_client(index, machine.moment(now), mood);
                Some(now + self.clients[index].interval())
            }
            Turn::Attack(index) if self.plan.is_healthy(now) && !self.attackers[index].is_tireless() => None,
            Turn::Rogue(_) if self.plan.is_healthy(now) => None,
            Turn::Attack(index) => {
                let addresses = self.cast.addresses();
                let attacker = &mut self.attackers[index];
                Some(self.cast.with_network(|network| attacker.step(now, &addresses, network)))
            }
            Turn::Rogue(place) => match self.plan.faults[place].effect {
                Effect::Rogue { mischief, rate } => self.cast.step_rogue(place, mischief, rate, now),
                _ => None,
            },
            Turn::Check => {
                let awake_since: Vec<_> = self.clients.iter().map(|machine| machine.asleep_until).collect();
                self.cast.check(now, &awake_since);
                Some(now + CHECK_INTERVAL)
            }
            Turn::Start(place) => {
                self.start(place);
                None
            }
            Turn::End(place) => {
                // Healing has seen to everything that lasted until then.
                if !self.plan.is_healthy(now) {
                    self.end(place);
                }
                None
            }
            Turn::Heal => {
                self.heal();
                None
            }
            Turn::Quiet => {
                self.mood = Mood::Quiet;
                None
            }
            Turn::Leave => {
                self.cast.record().journal.note(now, NETWORK, "leave", 0, String::new);
                self.cast.check_settled(now);
                (self.mood, self.left_at) = (Mood::Leaving, now);
                None
            }
        }
    }

    fn start(&mut self, place: usize) {
        let now = self.now;
        let fault = self.plan.faults[place].clone();
        self.cast.record().journal.note(now, NETWORK, "fault", place as u64, || {
            format!("{:?} for {:?} on {:?}", fault.effect, fault.length, fault.node)
        });
        if !fault.effect.is_of_the_network() {
            self.cast.with_network(|network| network.injected.count(fault.effect.name()));
        }
        match fault.effect {
            Effect::PortChange | Effect::AddressChange | Effect::AddressReuse => self.rebind(&fault, place),
            Effect::ClockRate { rate } => self.on_machine(&fault, |machine| machine.clock.set_rate(now, rate)),
            Effect::WallJump { seconds } => self.on_machine(&fault, |machine| machine.clock.jump(seconds)),
            Effect::Pause => {
                self.on_machine(&fault, |machine| machine.asleep_until = machine.asleep_until.max(fault.end()));
            }
            Effect::Slow { times } => self.on_machine(&fault, |machine| machine.slow = times),
            Effect::ClientCrash => {
                if let Some((client, machine)) = fault.node.and_then(|node| Some((node, self.clients.get_mut(node)?))) {
                    machine.asleep_until = machine.asleep_until.max(fault.end());
                    self.cast.crash_client(client, now, fault.length);
                }
            }
            Effect::ServerCrash => self.cast.crash_server(fault.node.unwrap_or(0), now),
            Effect::ServerRestart => {
                let server = fault.node.unwrap_or(0);
                self.cast.shut_down_server(server, self.servers[server].moment(now));
            }
            Effect::StopListening => self.set_accepting(&fault, false),
            Effect::Attack { attack, rate } => {
                self.attackers.push(Attacker::new(self.plan.seed, attack, rate));
                self.put(now, Turn::Attack(self.attackers.len() - 1));
            }
            Effect::Rogue { .. } => self.put(now, Turn::Rogue(place)),
            Effect::Snatch { addresses } => self.cast.with_network(|network| network.snatch(addresses)),
            Effect::Spurt { messages } => {
                self.cast.spurt(fault.node.filter(|node| *node < self.clients.len()), messages);
            }
            Effect::Mob { players } => self.cast.mob(now, players),
            Effect::DriverRemoved | Effect::Drain => {
                let server = fault.node.unwrap_or(0);
                let moment = self.servers[server].moment(now);
                self.cast.change_drivers(server, moment, fault.effect == Effect::Drain, fault.length);
            }
            _ => {}
        }
    }

    fn end(&mut self, place: usize) {
        let now = self.now;
        let fault = self.plan.faults[place].clone();
        match fault.effect {
            Effect::ClockRate { .. } => self.on_machine(&fault, |machine| machine.clock.set_rate(now, 1.0)),
            Effect::WallJump { seconds } => self.on_machine(&fault, |machine| machine.clock.jump(-seconds)),
            Effect::Slow { .. } => self.on_machine(&fault, |machine| machine.slow = 1),
            Effect::ServerCrash | Effect::ServerRestart => self.start_server(fault.node.unwrap_or(0)),
            Effect::StopListening | Effect::DriverRemoved | Effect::Drain => self.set_accepting(&fault, true),
            _ => {}
        }
    }

    fn start_server(&mut self, server: usize) {
        let machine = &self.servers[server];
        self.cast.start_server(server, machine.moment(self.now), !machine.clock.is_ahead());
    }

    fn set_accepting(&mut self, fault: &Fault, accepting: bool) {
        let server = fault.node.unwrap_or(0);
        self.cast.set_accepting(server, self.servers[server].moment(self.now), accepting);
    }

    /// Changes the machine of the client that the fault is about; of the first server if it is about none.
    fn on_machine(&mut self, fault: &Fault, change: impl FnOnce(&mut Machine)) {
        let machine = match fault.node {
            Some(client) => self.clients.get_mut(client),
            None => self.servers.first_mut(),
        };
        if let Some(machine) = machine {
            change(machine);
        }
    }

    /// A translator on the way gives a client another port, another address, or that of somebody else.
    fn rebind(&mut self, fault: &Fault, place: usize) {
        let Some(client) = fault.node.filter(|&node| node < self.clients.len()) else { return };
        let Some((port, up)) = self.cast.socket_of(client) else { return };
        let old = self.cast.with_network(|network| network.address(port));
        let new = match fault.effect {
            Effect::PortChange => (old.ip(), 50_000 + place as u16).into(),
            _ => ([10, 99, place as u8, client as u8], old.port()).into(),
        };
        let others = (0..self.clients.len()).filter(|&other| other != client);
        let other = others.filter_map(|other| self.cast.socket_of(other)).next();
        let sometimes = &mut self.cast.record().sometimes;
        match (&fault.effect, other) {
            (Effect::AddressReuse, None) => {}
            (Effect::AddressReuse, Some((other, _))) => {
                sometimes.count("an address is used by another client");
                self.cast.with_network(|network| {
                    let taken = network.address(other);
                    network.rebind(other, new);
                    network.rebind(port, taken);
                });
            }
            _ => {
                sometimes.add("the address changes under a connection", u64::from(up));
                sometimes.add("the address changes during the handshake", u64::from(!up));
                self.cast.with_network(|network| network.rebind(port, new));
            }
        }
    }

    /// Everything is well from now on.
    fn heal(&mut self) {
        let now = self.now;
        self.cast.record().journal.note(now, NETWORK, "heal", 0, String::new);
        for machine in self.servers.iter_mut().chain(&mut self.clients) {
            machine.clock.repair(now);
            machine.slow = 1;
            machine.asleep_until = machine.asleep_until.min(now);
        }
        for server in 0..self.servers.len() {
            self.start_server(server);
            self.cast.set_accepting(server, self.servers[server].moment(now), true);
        }
        self.mood = Mood::Steady;
    }
}
