//! What the faults of a plan do to one packet.

use std::time::Duration;

use netstream::transport::Mono;

use crate::dice::Dice;
use crate::plan::{Effect, Fault, Plan, Toward};
use crate::tally::Tally;

/// A keep-alive has at most 33 bytes, a goodbye with a text or an acknowledgement little more.
const SMALL: usize = 64;

/// The faults that concern packets, with their dice and what they remember of each path.
#[derive(Debug)]
pub(super) struct Weather {
    faults: Vec<Active>,
    /// By client and direction: when the last packet arrives that nobody held back.
    latest: Vec<[Mono; 2]>,
    pub(super) dice: Dice,
    /// The packet before this one, where something splices.
    pub(super) previous: Vec<u8>,
    pub(super) remembers: bool,
}

#[derive(Debug)]
struct Active {
    fault: Fault,
    dice: Dice,
    /// By client and direction.
    paths: Vec<[Path; 2]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Path {
    in_burst: bool,
    /// Until when a limited rate is busy.
    busy: Mono,
}

/// What happens to a packet that is not lost.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// How much longer than usual it takes.
    pub(super) travel: Duration,
    /// How much longer its copies take.
    pub(super) copies: Vec<Duration>,
    pub(super) damage: Option<Damage>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    Bits(u64),
    Truncate,
    Extend,
    Splice,
}

impl Damage {
    pub(super) fn apply(self, bytes: &mut Vec<u8>, previous: &[u8], dice: &mut Dice) {
        let len = bytes.len() as u64;
        match self {
            Self::Bits(_) if len == 0 => {}
            Self::Bits(bits) => {
                for _ in 0..bits {
                    let bit = dice.number(0..=len * 8 - 1) as usize;
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            Self::Truncate => bytes.truncate(dice.number(0..=len.saturating_sub(1)) as usize),
            Self::Extend => {
                let more = dice.number(1..=64) as usize;
                bytes.extend((0..more).map(|_| dice.number(0..=255) as u8));
            }
            Self::Splice => {
                let at = dice.number(0..=len) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(previous.get(at..).unwrap_or_default());
            }
        }
    }
}

impl Weather {
    pub(super) fn new(plan: &Plan) -> Self {
        let of_the_network = plan.faults.iter().filter(|fault| fault.effect.is_of_the_network());
        let active = of_the_network.map(|fault| {
            // Not by its place: leaving others out must not change how these dice fall.
            let dice = Dice::new(plan.seed, fault.effect.name(), fault.start.as_nanos() as usize);
            Active { fault: fault.clone(), dice, paths: vec![Default::default(); plan.clients + 1] }
        });
        let faults: Vec<_> = active.collect();
        let remembers = faults.iter().any(|active| matches!(active.fault.effect, Effect::Splice { .. }));
        Self {
            faults,
            latest: vec![Default::default(); plan.clients + 1],
            dice: Dice::new(plan.seed, "damage", 0),
            previous: Vec::new(),
            remembers,
        }
    }

    /// Whether the operating system refuses a call of `client`, or of a server that serves it.
    pub(super) fn refuses(&mut self, now: Mono, client: Option<usize>, injected: &mut Tally) -> bool {
        let mut refused = false;
        for Active { fault, dice, .. } in &mut self.faults {
            if let Effect::SocketErrors { share } = fault.effect
                && fault.is_on(now)
                && fault.node.is_none_or(|node| Some(node) == client)
                && dice.chance(share)
            {
                injected.count(fault.effect.name());
                refused = true;
            }
        }
        refused
    }

    /// What happens to a packet of `len` bytes between the servers and `client`; `None` if it is lost.
    pub(super) fn fate(
        &mut self,
        now: Mono,
        client: usize,
        toward: Toward,
        len: usize,
        injected: &mut Tally,
    ) -> Option<Fate> {
        let Self { faults, latest, .. } = self;
        let row = client.min(latest.len() - 1);
        let column = usize::from(toward == Toward::Client);
        let (mut fate, mut held, mut clogged) = (Fate::default(), false, Duration::ZERO);
        for Active { fault, dice, paths } in faults {
            if !fault.is_on(now) || fault.node.is_some_and(|node| node != client) {
                continue;
            }
            let path = &mut paths[row][column];
            let name = fault.effect.name();
            let meets = |which: Toward| which == Toward::Both || which == toward;
            let lost = match fault.effect {
                Effect::Loss { share, toward: which } => meets(which) && dice.chance(share),
                Effect::SmallLoss { share } => len <= SMALL && dice.chance(share),
                Effect::Burst { share, packets } => {
                    let turn = if path.in_burst { 1.0 / packets } else { share / (packets * (1.0 - share)) };
                    path.in_burst ^= dice.chance(turn);
                    path.in_burst
                }
                Effect::Partition { toward: which } => meets(which),
                Effect::Flap { up, down } => {
                    let round = (up + down).as_nanos().max(1);
                    now.since(fault.start).as_nanos() % round >= up.as_nanos()
                }
                Effect::BlackHole { largest } => len > largest,
                Effect::MtuChange { largest, every } => {
                    let turn = now.since(fault.start).as_nanos() / every.as_nanos().max(1);
                    len > largest && turn % 2 == 1
                }
                Effect::Rate { bytes, queue } => {
                    let wait = path.busy.since(now);
                    let full = wait > queue;
                    if !full {
                        path.busy = path.busy.max(now) + Duration::from_secs_f64(len as f64 / bytes as f64);
                        fate.travel += path.busy.since(now);
                    }
                    full
                }
                _ => false,
            };
            if lost {
                injected.count(name);
                return None;
            }
            let happens = match fault.effect {
                Effect::Duplicate { share, .. }
                | Effect::Reorder { share, .. }
                | Effect::Corrupt { share, .. }
                | Effect::Truncate { share }
                | Effect::Extend { share }
                | Effect::Splice { share } => dice.chance(share),
                Effect::Clog { toward: which } => meets(which),
                Effect::Delay { .. } => true,
                _ => false,
            };
            if !happens {
                continue;
            }
            injected.count(name);
            match fault.effect {
                Effect::Duplicate { copies, after, .. } => fate.copies.extend((0..copies).map(|_| dice.up_to(after))),
                Effect::Delay { base, jitter } => {
                    // Heavy-tailed: most packets near the base, a few far behind.
                    let tail = dice.share().powi(4);
                    fate.travel += base + jitter.mul_f64(tail);
                }
                Effect::Reorder { hold, .. } => {
                    held = true;
                    fate.travel += dice.up_to(hold);
                }
                Effect::Clog { .. } => clogged = clogged.max(fault.end().since(now)),
                Effect::Corrupt { bits, .. } => fate.damage = Some(Damage::Bits(bits)),
                Effect::Truncate { .. } => fate.damage = Some(Damage::Truncate),
                Effect::Extend { .. } => fate.damage = Some(Damage::Extend),
                Effect::Splice { .. } => fate.damage = Some(Damage::Splice),
                _ => {}
            }
        }
        // Whom two clogs hold up, the one that lasts longer lets go.
        fate.travel += clogged;
        let due = now + fate.travel;
        let latest = &mut latest[row][column];
        if !held {
            // Jitter alone does not make packets overtake each other.
            fate.travel = latest.since(now).max(fate.travel);
            *latest = (*latest).max(due);
        }
        Some(fate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Level;

    /// It was held up for as long as both together, beyond the moment at which the network is well (seed 2358).
    #[test]
    fn a_packet_in_two_clogs_comes_out_when_the_longer_one_is_over() {
        let seconds = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let clog = |start, length| Fault {
            effect: Effect::Clog { toward: Toward::Both },
            start: seconds(start),
            length: Duration::from_secs(length),
            node: None,
        };
        let mut plan = Plan::new(1, Level::L1, Duration::from_secs(100));
        plan.faults = vec![clog(10, 50), clog(30, 25)];
        let mut weather = Weather::new(&plan);
        let mut due = |at| {
            let fate = weather.fate(seconds(at), 0, Toward::Server, 100, &mut Tally::default());
            seconds(at) + fate.expect("nothing is lost").travel
        };
        assert_eq!([5, 20, 40, 58, 60, 61].map(&mut due), [5, 60, 60, 60, 60, 61].map(seconds));
    }
}
