//! Strangers on the wire, who see every datagram and can send any.

use std::net::SocketAddr;
use std::time::Duration;

use netstream::transport::Mono;

use crate::dice::Dice;
use crate::network::Network;
use crate::plan::Attack;

/// The largest noise: beyond what any receiver takes.
const MAX_NOISE: u64 = 1400;

/// A stranger who sees every datagram and can send any.
#[derive(Debug)]
pub(crate) struct Attacker {
    attack: Attack,
    /// Between two datagrams, on average.
    interval: Duration,
    dice: Dice,
}

impl Attacker {
    pub(crate) fn new(seed: u64, attack: Attack, rate: f64) -> Self {
        let purpose = format!("{attack:?}");
        Self { attack, interval: Duration::from_secs_f64(1.0 / rate), dice: Dice::new(seed, &purpose, 0) }
    }

    /// Whether it goes on when all else is well: it must not keep anybody out.
    pub(crate) fn is_tireless(&self) -> bool {
        self.attack == Attack::Empty
    }

    /// Sends one datagram, and says when the next one is due.
    pub(crate) fn step(&mut self, now: Mono, servers: &[SocketAddr], network: &mut Network) -> Mono {
        let dice = &mut self.dice;
        let own = SocketAddr::from(([198, 51, 100, dice.number(1..=4) as u8], dice.number(1000..=1010) as u16));
        match self.attack {
            Attack::Replay => {
                if let Some(seen) = network.sighting(dice).cloned() {
                    network.inject(now, seen.from, seen.to, &seen.bytes);
                }
            }
            Attack::CopyFirst => {
                if let Some(seen) = network.last_sighting().cloned() {
                    network.inject(now, own, seen.to, &seen.bytes);
                }
            }
            Attack::Empty => {
                let to = dice.pick(servers);
                network.inject(now, own, to, &[]);
            }
            Attack::Noise => {
                // Each from another address, as if from everywhere.
                let own =
                    SocketAddr::from(([198, 51, 103, dice.number(1..=250) as u8], dice.number(1000..=65_000) as u16));
                let to = dice.pick(servers);
                network.inject(now, own, to, &noise(dice));
            }
            Attack::Forge => {
                if let Some(mut seen) = network.sighting(dice).cloned() {
                    if dice.chance(0.5) {
                        seen.bytes = noise(dice);
                    } else {
                        damage(&mut seen.bytes, dice);
                    }
                    network.inject(now, seen.from, seen.to, &seen.bytes);
                }
            }
        }
        network.injected.count(match self.attack {
            Attack::Replay => "attack: replay",
            Attack::CopyFirst => "attack: copy first",
            Attack::Noise => "attack: noise",
            Attack::Forge => "attack: forge",
            Attack::Empty => "attack: empty",
        });
        now + self.interval.mul_f64(dice.share() * 2.0).max(Duration::from_micros(1))
    }
}

/// Random bytes that look like a packet of some type at first sight.
pub(crate) fn noise(dice: &mut Dice) -> Vec<u8> {
    let len = match dice.chance(0.2) {
        // Exactly a request, exactly a response.
        true => dice.pick(&[0, 1, 1078, 325, 326, 33]),
        false => dice.number(0..=MAX_NOISE),
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| dice.number(0..=255) as u8).collect();
    if let Some(prefix) = bytes.first_mut() {
        *prefix = (dice.number(0..=8) << 4 | dice.number(0..=7)) as u8;
    }
    bytes
}

/// Turns a few bits, or cuts, or repeats.
pub(crate) fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let len = bytes.len() as u64;
    if len == 0 {
        return;
    }
    match dice.number(0..=5) {
        0 => bytes.truncate(dice.number(0..=len) as usize),
        1 => bytes.push(dice.number(0..=255) as u8),
        _ => {
            // What comes first says what the rest means.
            let reach = if dice.chance(0.5) { len.min(32) } else { len };
            for _ in 0..dice.number(1..=8) {
                bytes[dice.number(0..=reach - 1) as usize] = dice.pick(&[0, 1, 0x7f, 0x80, 0xff, 0x40, 0xc0, 0x3f]);
            }
        }
    }
}
