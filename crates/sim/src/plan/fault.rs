//! What can go wrong, how badly, and when.

use std::time::Duration;

use netstream::transport::Mono;

use super::Level;
use crate::dice::Dice;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One thing that goes wrong for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub effect: Effect,
    /// Since when.
    pub start: Mono,
    /// For how long; of no meaning for what happens at once.
    pub length: Duration,
    /// Only to this client (or server, where the effect is a server's); everybody where `None`.
    pub node: Option<usize>,
}

/// Which way the packets go that a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// To servers.
    Server,
    /// To clients.
    Client,
    /// Both.
    Both,
}

/// What a stranger does who sees all datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Sends datagrams of any age and connection again, from the same address.
    Replay,
    /// Sends copies of what it sees from its own address, before the original arrives.
    CopyFirst,
    /// Sends noise from its own address.
    Noise,
    /// Sends noise and damaged copies that claim to come from somebody else.
    Forge,
    /// Sends datagrams without a byte from its own address.
    Empty,
}

/// What a client with good credentials does that no honest one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// Sends nonsense inside its sealed packets.
    Nonsense,
    /// Acknowledges what was never sent, and everything that ever was.
    LyingAcks,
    /// Takes everything in and acknowledges nothing.
    NeverAcks,
    /// Two of them answer each other's challenges.
    SwapChallenges,
    /// Begins messages that it never finishes, and lies about how many pieces they have.
    Fragments,
}

/// What goes wrong. Shares are 0 to 1.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names of the figures say what they are")]
pub enum Effect {
    /// Each packet may be lost.
    Loss { share: f64, toward: Toward },
    /// Each packet of few bytes may be lost: keep-alives, acknowledgements, goodbyes.
    SmallLoss { share: f64 },
    /// Packets are lost in bursts of this mean length (Gilbert and Elliott).
    Burst { share: f64, packets: f64 },
    /// Packets arrive again, up to `after` later: past the end of their connection, perhaps.
    Duplicate { share: f64, copies: u64, after: Duration },
    /// Packets travel this much longer.
    Delay { base: Duration, jitter: Duration },
    /// Packets are held back so that others overtake.
    Reorder { share: f64, hold: Duration },
    /// Bits are turned.
    Corrupt { share: f64, bits: u64 },
    /// The end is missing.
    Truncate { share: f64 },
    /// Something is appended.
    Extend { share: f64 },
    /// The end is that of the packet before.
    Splice { share: f64 },
    /// Only so many bytes per second fit through, with a queue of this length in front.
    Rate { bytes: u64, queue: Duration },
    /// Larger packets vanish.
    BlackHole { largest: usize },
    /// The way changes again and again: larger packets vanish every second time.
    MtuChange { largest: usize, every: Duration },
    /// The operating system refuses to send or to receive, so many calls of all.
    SocketErrors { share: f64 },
    /// Nothing gets through.
    Partition { toward: Toward },
    /// Nothing gets through, now and then.
    Flap { up: Duration, down: Duration },
    /// Nothing gets through, and everything arrives at once at the end.
    Clog { toward: Toward },
    /// The client's packets come from another port from now on.
    PortChange,
    /// The client's packets come from another address from now on.
    AddressChange,
    /// The client gets the address that another one had, who gets a new one.
    AddressReuse,
    /// The node's clock runs at this rate.
    ClockRate { rate: f64 },
    /// The node's wall clock jumps by so many seconds.
    WallJump { seconds: i64 },
    /// The node stands still.
    Pause,
    /// The node is so many times slower.
    Slow { times: u32 },
    /// The client is gone without a word, and starts again after a while.
    ClientCrash,
    /// The server is gone without a word, and starts again after a while; on the same address, with the same keys.
    ServerCrash,
    /// The server says goodbye and starts again after a while.
    ServerRestart,
    /// The server accepts nobody new for a while.
    StopListening,
    /// A stranger sends so many packets a second.
    Attack { attack: Attack, rate: f64 },
    /// A client with good credentials means harm, so many packets a second.
    Rogue { mischief: Mischief, rate: f64 },
    /// A stranger sends a copy of every request from its own addresses, so that it arrives first; to the end of the run.
    Snatch { addresses: u8 },
    /// A node sends so many messages in one update.
    Spurt { messages: u32 },
    /// So many players ask for a connection in one moment, and none answers.
    Mob { players: u32 },
    /// The server removes a driver, and listens with a new one after a while.
    DriverRemoved,
    /// The server drains a driver, and listens again after a while.
    Drain,
}

impl Effect {
    /// The name under which it is counted.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loss { .. } => "loss",
            Self::SmallLoss { .. } => "small loss",
            Self::Burst { .. } => "burst loss",
            Self::Duplicate { .. } => "duplicate",
            Self::Delay { .. } => "delay",
            Self::Reorder { .. } => "reorder",
            Self::Corrupt { .. } => "corrupt",
            Self::Truncate { .. } => "truncate",
            Self::Extend { .. } => "extend",
            Self::Splice { .. } => "splice",
            Self::Rate { .. } => "rate",
            Self::BlackHole { .. } => "black hole",
            Self::MtuChange { .. } => "mtu change",
            Self::SocketErrors { .. } => "socket errors",
            Self::Partition { .. } => "partition",
            Self::Flap { .. } => "flap",
            Self::Clog { .. } => "clog",
            Self::PortChange => "port change",
            Self::AddressChange => "address change",
            Self::AddressReuse => "address reuse",
            Self::ClockRate { .. } => "clock rate",
            Self::WallJump { .. } => "wall jump",
            Self::Pause => "pause",
            Self::Slow { .. } => "slow",
            Self::ClientCrash => "client crash",
            Self::ServerCrash => "server crash",
            Self::ServerRestart => "server restart",
            Self::StopListening => "stop listening",
            Self::Attack { attack: Attack::Replay, .. } => "attack: replay",
            Self::Attack { attack: Attack::CopyFirst, .. } => "attack: copy first",
            Self::Attack { attack: Attack::Noise, .. } => "attack: noise",
            Self::Attack { attack: Attack::Forge, .. } => "attack: forge",
            Self::Attack { attack: Attack::Empty, .. } => "attack: empty",
            Self::Rogue { mischief: Mischief::Nonsense, .. } => "rogue: nonsense",
            Self::Rogue { mischief: Mischief::LyingAcks, .. } => "rogue: lying acks",
            Self::Rogue { mischief: Mischief::NeverAcks, .. } => "rogue: never acks",
            Self::Rogue { mischief: Mischief::SwapChallenges, .. } => "rogue: swaps challenges",
            Self::Rogue { mischief: Mischief::Fragments, .. } => "rogue: fragments",
            Self::Snatch { .. } => "attack: snatch",
            Self::Spurt { .. } => "spurt",
            Self::Mob { .. } => "mob",
            Self::DriverRemoved => "driver removed",
            Self::Drain => "drain",
        }
    }

    /// Whether it concerns packets under way, not a node.
    pub const fn is_of_the_network(&self) -> bool {
        matches!(
            self,
            Self::Loss { .. }
                | Self::SmallLoss { .. }
                | Self::Burst { .. }
                | Self::Duplicate { .. }
                | Self::Delay { .. }
                | Self::Reorder { .. }
                | Self::Corrupt { .. }
                | Self::Truncate { .. }
                | Self::Extend { .. }
                | Self::Splice { .. }
                | Self::Rate { .. }
                | Self::BlackHole { .. }
                | Self::MtuChange { .. }
                | Self::SocketErrors { .. }
                | Self::Partition { .. }
                | Self::Flap { .. }
                | Self::Clog { .. }
        )
    }
}

impl Effect {
    /// Whether a node does nothing, or nothing in time, while it lasts.
    pub const fn stops_a_node(&self) -> bool {
        matches!(self, Self::Pause | Self::Slow { .. } | Self::ClientCrash | Self::ServerCrash | Self::ServerRestart)
    }
}

impl Fault {
    /// When it is over.
    pub fn end(&self) -> Mono {
        self.start + self.length
    }

    /// Whether it is in force.
    pub fn is_on(&self, now: Mono) -> bool {
        self.start <= now && now < self.end()
    }
}

/// How a kind of fault is drawn.
struct Kind {
    /// In which share of the seeds it happens at all.
    chance: f64,
    /// How often at most in one run.
    most: u64,
    draw: fn(&mut Dice) -> Effect,
    whose: Whose,
    levels: &'static [Level],
}

#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Packets,
    Client,
    Server,
    Node,
    Stranger,
}

const BOTH: &[Level] = &[Level::L1, Level::L2];
const L1: &[Level] = &[Level::L1];
const L2: &[Level] = &[Level::L2];

fn toward(dice: &mut Dice) -> Toward {
    dice.pick(&[Toward::Server, Toward::Client, Toward::Both, Toward::Both])
}

fn rogue(dice: &mut Dice, mischief: Mischief) -> Effect {
    Effect::Rogue { mischief, rate: dice.magnitude(5.0..=200.0) }
}

fn attack(dice: &mut Dice, attack: Attack) -> Effect {
    Effect::Attack { attack, rate: dice.magnitude(1.0..=300.0) }
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { chance: 0.35, most: 2, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Loss { share: d.magnitude(0.001..=0.6), toward: toward(d) } },
    Kind { chance: 0.20, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Burst { share: d.magnitude(0.005..=0.4), packets: d.magnitude(2.0..=200.0) } },
    Kind { chance: 0.25, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Duplicate { share: d.magnitude(0.001..=0.3), copies: d.number(1..=5), after: d.time(ms(1)..=ms(1000)) } },
    Kind { chance: 0.12, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Duplicate { share: d.magnitude(0.001..=0.1), copies: d.number(1..=3), after: d.time(ms(1000)..=ms(60_000)) } },
    Kind { chance: 0.30, most: 2, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Delay { base: d.time(ms(1)..=ms(2000)), jitter: d.time(ms(1)..=ms(500)) } },
    Kind { chance: 0.25, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Reorder { share: d.magnitude(0.001..=0.5), hold: d.time(ms(5)..=ms(3000)) } },
    Kind { chance: 0.15, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Corrupt { share: d.magnitude(0.001..=0.05), bits: d.number(1..=64) } },
    Kind { chance: 0.10, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Truncate { share: d.magnitude(0.001..=0.05) } },
    Kind { chance: 0.10, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Extend { share: d.magnitude(0.001..=0.05) } },
    Kind { chance: 0.10, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Splice { share: d.magnitude(0.001..=0.05) } },
    Kind { chance: 0.15, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Rate { bytes: d.magnitude(2_000.0..=10_000_000.0) as u64, queue: d.time(ms(20)..=ms(2000)) } },
    Kind { chance: 0.06, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::BlackHole { largest: d.number(600..=1199) as usize } },
    Kind { chance: 0.25, most: 3, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Partition { toward: toward(d) } },
    Kind { chance: 0.10, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Flap { up: d.time(ms(50)..=ms(10_000)), down: d.time(ms(20)..=ms(5000)) } },
    Kind { chance: 0.12, most: 2, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::Clog { toward: toward(d) } },
    Kind { chance: 0.15, most: 5, whose: Whose::Client,  levels: BOTH, draw: |_| Effect::PortChange },
    Kind { chance: 0.10, most: 3, whose: Whose::Client,  levels: BOTH, draw: |_| Effect::AddressChange },
    Kind { chance: 0.10, most: 3, whose: Whose::Client,  levels: BOTH, draw: |_| Effect::AddressReuse },
    Kind { chance: 0.15, most: 3, whose: Whose::Node,    levels: BOTH, draw: |d| Effect::ClockRate { rate: 0.9 + 0.2 * d.share() } },
    Kind { chance: 0.12, most: 3, whose: Whose::Node,    levels: BOTH, draw: |d| Effect::WallJump { seconds: d.pick(&[-3600, -60, -5, 5, 60, 3600]) } },
    Kind { chance: 0.20, most: 4, whose: Whose::Node,    levels: BOTH, draw: |_| Effect::Pause },
    Kind { chance: 0.10, most: 2, whose: Whose::Node,    levels: BOTH, draw: |d| Effect::Slow { times: d.number(2..=20) as u32 } },
    Kind { chance: 0.20, most: 4, whose: Whose::Client,  levels: BOTH, draw: |_| Effect::ClientCrash },
    Kind { chance: 0.12, most: 2, whose: Whose::Server,  levels: BOTH, draw: |_| Effect::ServerCrash },
    Kind { chance: 0.12, most: 2, whose: Whose::Server,  levels: BOTH, draw: |_| Effect::ServerRestart },
    Kind { chance: 0.10, most: 2, whose: Whose::Server,  levels: BOTH, draw: |_| Effect::StopListening },
    Kind { chance: 0.12, most: 1, whose: Whose::Stranger, levels: BOTH, draw: |d| attack(d, Attack::Replay) },
    Kind { chance: 0.10, most: 1, whose: Whose::Stranger, levels: BOTH, draw: |d| attack(d, Attack::CopyFirst) },
    Kind { chance: 0.08, most: 1, whose: Whose::Stranger, levels: BOTH, draw: |d| attack(d, Attack::Noise) },
    Kind { chance: 0.12, most: 1, whose: Whose::Stranger, levels: BOTH, draw: |d| attack(d, Attack::Forge) },
    Kind { chance: 0.10, most: 2, whose: Whose::Stranger, levels: BOTH, draw: |d| rogue(d, Mischief::Nonsense) },
    Kind { chance: 0.06, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::MtuChange { largest: d.number(600..=1199) as usize, every: d.time(ms(200)..=ms(20_000)) } },
    Kind { chance: 0.10, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::SmallLoss { share: d.magnitude(0.1..=0.95) } },
    Kind { chance: 0.08, most: 1, whose: Whose::Packets, levels: BOTH, draw: |d| Effect::SocketErrors { share: d.magnitude(0.001..=0.1) } },
    Kind { chance: 0.06, most: 1, whose: Whose::Stranger, levels: L1,   draw: |d| rogue(d, Mischief::LyingAcks) },
    Kind { chance: 0.05, most: 1, whose: Whose::Stranger, levels: L1,   draw: |d| rogue(d, Mischief::NeverAcks) },
    Kind { chance: 0.06, most: 1, whose: Whose::Stranger, levels: L1,   draw: |d| rogue(d, Mischief::SwapChallenges) },
    Kind { chance: 0.08, most: 1, whose: Whose::Stranger, levels: BOTH, draw: |d| Effect::Snatch { addresses: d.number(1..=3) as u8 } },
    Kind { chance: 0.08, most: 1, whose: Whose::Stranger, levels: BOTH, draw: |d| Effect::Attack { attack: Attack::Empty, rate: d.magnitude(50.0..=2000.0) } },
    Kind { chance: 0.08, most: 2, whose: Whose::Node,    levels: L1,   draw: |d| Effect::Spurt { messages: d.magnitude(100.0..=300_000.0) as u32 } },
    Kind { chance: 0.08, most: 1, whose: Whose::Stranger, levels: L1,   draw: |d| Effect::Mob { players: d.magnitude(100.0..=1000.0) as u32 } },
    Kind { chance: 0.10, most: 2, whose: Whose::Server,  levels: L2,   draw: |_| Effect::DriverRemoved },
    Kind { chance: 0.08, most: 1, whose: Whose::Server,  levels: L2,   draw: |_| Effect::Drain },
    Kind { chance: 0.10, most: 1, whose: Whose::Stranger, levels: L1,   draw: |d| rogue(d, Mischief::Fragments) },
    // What only those notice who look for larger packets.
    Kind { chance: 0.40, most: 2, whose: Whose::Packets, levels: L1,   draw: |d| Effect::BlackHole { largest: d.number(1200..=1451) as usize } },
    Kind { chance: 0.40, most: 1, whose: Whose::Packets, levels: L1,   draw: |d| Effect::MtuChange { largest: d.number(1200..=1451) as usize, every: d.time(ms(200)..=ms(20_000)) } },
];

/// The faults of `seed`, all within the time before `until`.
pub(super) fn draw(seed: u64, level: Level, until: Mono, clients: usize, servers: usize) -> Vec<Fault> {
    // Some runs are calm, some have everything at once.
    let storm = Dice::new(seed, "storm", 0).pick(&[0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.5]);
    let most = until.since(Mono::ZERO);
    let mut faults = Vec::new();
    for (index, kind) in KINDS.iter().enumerate() {
        let mut dice = Dice::new(seed, "fault", index);
        if !kind.levels.contains(&level) || !dice.chance(kind.chance * storm) {
            continue;
        }
        for _ in 0..dice.number(1..=kind.most) {
            let effect = (kind.draw)(&mut dice);
            let start = Mono::ZERO + dice.up_to(most);
            let room = until.since(start);
            // What concerns packets may last for the whole run; what stops somebody is short more often than not.
            let (start, length) = match kind.whose {
                Whose::Packets if !stops_everything(&effect) && dice.chance(0.5) => (Mono::ZERO, most),
                _ => (start, dice.time(ms(20)..=ms(60_000)).min(room)),
            };
            let node = match kind.whose {
                Whose::Packets => dice.chance(0.4).then(|| dice.number(0..=clients as u64 - 1) as usize),
                Whose::Client => Some(dice.number(0..=clients as u64 - 1) as usize),
                Whose::Server => Some(dice.number(0..=servers as u64 - 1) as usize),
                // Half the time the server, because what happens to it concerns everybody.
                Whose::Node => dice.chance(0.6).then(|| dice.number(0..=clients as u64 - 1) as usize),
                Whose::Stranger => None,
            };
            faults.push(Fault { effect, start, length, node });
        }
    }
    faults
}

fn stops_everything(effect: &Effect) -> bool {
    matches!(effect, Effect::Partition { .. } | Effect::Clog { .. })
}
