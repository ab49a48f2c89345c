//! What a seed means: who takes part, what they do, and what goes wrong when.

mod fault;
mod workload;

use std::time::Duration;

use netstream::transport::Mono;

pub use self::fault::{Attack, Effect, Fault, Mischief, Toward};
pub(crate) use self::workload::CHANNELS;
pub use self::workload::Workload;
use crate::dice::Dice;

/// How much of the product takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// The protocol cores of UDP: [`Server`](netstream::transport::Server) and
    /// [`Client`](netstream::transport::Client).
    L1,
    /// Whole Bevy Apps with [`NetworkStreamPlugin`](netstream::NetworkStreamPlugin).
    L2,
}

impl Level {
    /// `"l1"` or `"l2"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }
}

/// How long the network is well at the end of a run that heals.
const HEALTHY: Duration = Duration::from_secs(40);

/// How long something takes at most by a clock that is slow, and until somebody looks.
pub(crate) fn slow(time: Duration) -> Duration {
    time.mul_f64(1.2) + Duration::from_secs(1)
}

/// Everything about a run that its seed decides beforehand.
///
/// Swarm testing: each seed switches a random subset of faults on and draws each intensity, so that extremes meet, and
/// calm runs exist. [`Cut`] takes parts away again.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all else comes from.
    pub seed: u64,
    /// Cores or Apps.
    pub level: Level,
    /// How long it runs.
    pub length: Duration,
    /// From here on there are no faults, everybody wants to be connected, and liveness must hold. `None`: the run ends in
    /// the middle of things.
    pub heals_at: Option<Mono>,
    /// How many servers.
    pub servers: usize,
    /// How many clients.
    pub clients: usize,
    /// What goes wrong. The places in this list are what [`Cut::faults`] names.
    pub faults: Vec<Fault>,
    /// What the nodes do.
    pub workload: Workload,
}

/// What is left out of a plan, to see whether a failure needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The faults that stay, by their place in the full plan; `None` for all.
    pub faults: Option<Vec<usize>>,
    /// The most clients.
    pub clients: Option<usize>,
    /// The most time, if the run does not heal.
    pub length: Option<Duration>,
}

impl Cut {
    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Plan {
    /// What `seed` means at `level`, for runs of `length` unless they need longer to heal.
    pub fn new(seed: u64, level: Level, length: Duration) -> Self {
        let mut dice = Dice::new(seed, "plan", 0);
        let heals = dice.chance(0.4);
        let most = match level {
            Level::L1 => 24.0,
            Level::L2 => 6.0,
        };
        let clients = dice.magnitude(1.0..=most).round() as usize;
        let servers = if dice.chance(0.2) { 2 } else { 1 };
        // Half of a run that heals is trouble.
        let (heals_at, length) = match heals {
            true => (Some(Mono::ZERO + length / 2), length / 2 + HEALTHY),
            false => (None, length),
        };
        let mut workload = Workload::draw(seed, level, clients);
        // When numbers run out connections end, which is not what a run that heals is about.
        workload.last_numbers = workload.last_numbers.filter(|_| heals_at.is_none());
        let trouble = heals_at.unwrap_or(Mono::ZERO + length);
        Self {
            seed,
            level,
            length,
            heals_at,
            servers,
            clients,
            faults: fault::draw(seed, level, trouble, clients, servers),
            workload,
        }
    }

    /// No faults: one server, so many clients, 60 Hz, the traffic of a usual game.
    pub fn calm(level: Level, length: Duration, clients: usize) -> Self {
        let workload = Workload {
            latency: Duration::from_millis(30),
            server_rate: 60,
            client_rate: 60,
            capacity: clients + 8,
            identities: clients,
            tokens: false,
            identity_joins: 1000,
            first_number: 0,
            max_mtu: [1175; 2],
            join_within: Duration::from_secs(1),
            stay: Duration::from_secs(1_000_000),
            // A command and a snapshot per tick, an RPC now and then.
            up: [60.0, 1.0, 0.0, 0.0, 0.0],
            down: [60.0, 1.0, 0.0, 0.0, 0.0],
            largest: 300,
            last_words: 0,
            kicks: 0.0,
            approval: false,
            in_process: false,
            nonsense: 0.0,
            spite: 0.0,
            typed: true,
            foreign: None,
            bans: 0.0,
            last_numbers: None,
            ..Workload::draw(0, level, clients)
        };
        Self { seed: 0, level, length, heals_at: None, servers: 1, clients, faults: Vec::new(), workload }
    }

    /// The same with parts left out.
    #[must_use]
    pub fn cut(mut self, cut: &Cut) -> Self {
        if let Some(kept) = &cut.faults {
            let all = std::mem::take(&mut self.faults);
            self.faults = kept.iter().filter_map(|&place| all.get(place).cloned()).collect();
        }
        if let Some(clients) = cut.clients {
            self.clients = self.clients.min(clients);
        }
        if let Some(length) = cut.length
            && self.heals_at.is_none()
        {
            self.length = self.length.min(length);
        }
        self
    }

    /// Whether the network is well at `now`, and stays so.
    pub fn is_healthy(&self, now: Mono) -> bool {
        self.heals_at.is_some_and(|healed| now >= healed)
    }

    /// The longest that a datagram travels that was not held by somebody on purpose.
    pub fn longest_travel(&self) -> Duration {
        let slowest = self.faults.iter().map(|fault| match fault.effect {
            Effect::Delay { base, jitter } => base + jitter,
            Effect::Reorder { hold, .. } => hold,
            Effect::Duplicate { after, .. } => after,
            Effect::Rate { queue, .. } => queue,
            Effect::Clog { .. } => fault.length,
            _ => Duration::ZERO,
        });
        self.workload.latency * 2 + slowest.sum::<Duration>()
    }

    /// How long nodes stand still in all.
    pub fn stops(&self) -> Duration {
        self.faults.iter().filter(|fault| fault.effect.stops_a_node()).map(|fault| fault.length).sum()
    }

    /// Whether somebody repeats what others have sent.
    pub fn has_replays(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.effect, Effect::Attack { .. }))
    }
}
