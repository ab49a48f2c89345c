//! Level 1: the protocol cores of UDP over the simulated network, without sockets, drivers or Worlds.

mod checks;
mod client;
mod ledger;
mod rogue;
mod server;
mod setup;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use netstream::transport::Mono;
use netstream::transport::channel::Side;

use self::client::ClientNode;
use self::ledger::Ledger;
use self::rogue::Rogue;
use self::server::ServerNode;
use self::setup::Setup;
use crate::invariant::Invariant;
use crate::journal::Journal;
use crate::network::{Network, Port};
use crate::plan::{Mischief, Plan};
use crate::stage::{Cast, Moment, Mood, PLAY_ON, Record};

/// Servers and clients of level 1.
pub(crate) struct Cores {
    plan: Plan,
    setup: Setup,
    network: Network,
    ledger: Ledger,
    servers: Vec<ServerNode>,
    clients: Vec<ClientNode>,
    /// By the place of the fault that they are.
    rogues: BTreeMap<usize, Rogue>,
}

impl Cores {
    pub(crate) fn new(plan: Plan, journal: Journal) -> Self {
        let setup = Setup::new(&plan);
        let ledger = Ledger {
            record: Record::new(journal),
            attempts: Vec::new(),
            bonds: Vec::new(),
            largest_up: setup.largest(Side::Client),
            largest_down: setup.largest(Side::Server),
            messages: 0,
            token_users: Vec::new(),
        };
        Self {
            network: Network::new(&plan),
            ledger,
            servers: (0..plan.servers).map(|index| ServerNode::new(index, &plan, &setup)).collect(),
            clients: (0..plan.clients).map(|index| ClientNode::new(index, &plan)).collect(),
            rogues: BTreeMap::new(),
            setup,
            plan,
        }
    }
}

impl Cast for Cores {
    fn record(&mut self) -> &mut Record {
        &mut self.ledger.record
    }

    fn with_network<R>(&mut self, act: impl FnOnce(&mut Network) -> R) -> R {
        act(&mut self.network)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.setup.servers.clone()
    }

    fn step_server(&mut self, index: usize, at: Moment, mood: Mood) {
        self.servers[index].step(at, mood, &self.plan.workload, &mut self.network, &mut self.ledger);
    }

    fn step_client(&mut self, index: usize, at: Moment, mood: Mood) {
        let Self { plan, setup, network, ledger, clients, .. } = self;
        clients[index].step(at, mood, setup, &plan.workload, network, ledger);
    }

    fn step_rogue(&mut self, place: usize, mischief: Mischief, rate: f64, now: Mono) -> Option<Mono> {
        let Self { plan, setup, network, ledger, rogues, .. } = self;
        let number = rogues.len();
        let rogue = rogues.entry(place).or_insert_with(|| Rogue::new(plan, number, mischief, rate));
        Some(rogue.step(now, setup, network, ledger))
    }

    fn spurt(&mut self, client: Option<usize>, messages: u32) {
        match client {
            Some(client) => self.clients[client].spurt(messages),
            None => self.servers[0].spurt(messages),
        }
    }

    fn mob(&mut self, now: Mono, players: u32) {
        rogue::send_mob(now, players, &self.plan, &self.setup, &mut self.network);
        self.ledger.record.sometimes.add("hundreds ask to be let in at once", u64::from(players >= 100));
    }

    fn socket_of(&mut self, client: usize) -> Option<(Port, bool)> {
        let (node, ledger) = (&self.clients[client], &self.ledger);
        let up = node.current(ledger).is_some_and(|attempt| ledger.attempts[attempt].is_up());
        Some((node.port()?, up))
    }

    fn crash_client(&mut self, client: usize, now: Mono, pause: Duration) {
        self.clients[client].crash(now, pause, &mut self.network, &mut self.ledger);
    }

    fn crash_server(&mut self, server: usize, now: Mono) {
        self.servers[server].crash(now, &mut self.network, &mut self.ledger);
    }

    fn shut_down_server(&mut self, server: usize, at: Moment) {
        self.servers[server].shut_down(at, &mut self.network, &mut self.ledger);
    }

    fn start_server(&mut self, server: usize, at: Moment, on_time: bool) {
        self.servers[server].start(at, on_time, &self.setup, &mut self.network);
    }

    fn set_accepting(&mut self, server: usize, _: Moment, accepting: bool) {
        if let Some(core) = &mut self.servers[server].core {
            core.set_accepting(accepting);
        }
    }

    fn check(&mut self, now: Mono, awake_since: &[Mono]) {
        let Self { plan, ledger, servers, clients, network, rogues, .. } = self;
        for server in servers.iter() {
            server.check(now, ledger);
        }
        for (client, awake_since) in clients.iter_mut().zip(awake_since) {
            client.check(now, *awake_since, ledger);
        }
        checks::check_endings(now, plan, ledger);
        checks::check_loneliness(now, plan, ledger);
        for (bond, queued) in servers.iter().flat_map(ServerNode::queued) {
            checks::check_acks_down(now, bond, queued, ledger);
        }
        for (attempt, queued) in clients.iter().flat_map(ClientNode::queued) {
            checks::check_acks_up(now, attempt, queued, ledger);
        }
        if plan.is_healthy(now) {
            // Nobody means harm any more.
            rogues.values_mut().for_each(|rogue| rogue.vanish(now, network, ledger));
        }
    }

    fn check_settled(&mut self, now: Mono) {
        let Self { plan, ledger, clients, servers, .. } = self;
        let current: Vec<_> = clients.iter().map(|client| client.current(ledger)).collect();
        // A server that was started while its clock was ahead refuses tokens until that time has come, and rightly so: it
        // cannot know which of them were used before.
        if servers.iter().all(|server| server.started_on_time) {
            checks::check_everybody_is_in(now, plan, ledger, &current);
        }
        let quiet_since = plan.heals_at.unwrap_or(now) + PLAY_ON;
        checks::check_everything_arrived(now, ledger, quiet_since);
        let down = servers.iter().flat_map(ServerNode::queued).filter(|(bond, _)| {
            let attempt = &ledger.attempts[ledger.bonds[*bond].attempt];
            attempt.is_up() && attempt.connected.is_some_and(|connected| connected < quiet_since)
        });
        let up = clients.iter().filter_map(ClientNode::queued).filter(|(attempt, _)| {
            ledger.attempts[*attempt].connected.is_some_and(|connected| connected < quiet_since)
        });
        if let Some((who, queued)) = down.chain(up).find(|(_, queued)| *queued > 0) {
            let what = format!("{queued} B of {who} are still not acknowledged");
            ledger.violate(now, Invariant::I20, what);
        }
    }

    fn check_empty(&mut self, now: Mono, left_at: Mono) {
        checks::check_farewells(now, &mut self.ledger, left_at);
        for server in &self.servers {
            server.check_empty(now, &mut self.ledger);
        }
    }

    fn finish(&mut self) {
        let Ledger { record, attempts, bonds, messages, .. } = &mut self.ledger;
        for core in self.servers.iter().filter_map(|server| server.core.as_ref()) {
            server::count_everything(core, &mut record.sometimes);
        }
        record.sometimes.add("messages that honest players got", *messages);
        record.sometimes.add("somebody tries to connect", attempts.len() as u64);
        record.sometimes.add("somebody gets in", bonds.len() as u64);
    }
}
