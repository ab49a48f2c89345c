//! Whether parity fragments would pay for large unreliable messages.
//!
//! ```text
//! cargo run --release -p netstream-transport --example parity
//! ```
//!
//! A message is cut into fragments of 1120 bytes; the network loses packets, independently or in bursts of four on
//! average. Counted is which share of the messages arrives whole without help, with one XOR parity fragment per message
//! or per eight fragments (interleaved, so that a burst hits several groups), and with everything sent twice (the second
//! copy after the first).

#![allow(missing_docs)]

use netstream_transport::{Random, SeededRandom};

const FRAGMENT: usize = 1120;
const MESSAGES: u32 = 100_000;
/// Packets of a burst, on average.
const BURST: f64 = 4.0;

#[derive(Clone, Copy)]
enum Help {
    None,
    Parity { group: usize },
    Twice,
}

/// A path that loses a share of the packets, in bursts of some length on average.
struct Path {
    random: SeededRandom,
    loss: f64,
    burst: f64,
    bad: bool,
}

impl Path {
    fn loses(&mut self) -> bool {
        if self.burst <= 1.0 {
            return self.random.chance(self.loss);
        }
        // In the bad state everything is lost (Gilbert's model); the share of bad states is the loss.
        let leave = 1.0 / self.burst;
        let enter = leave * self.loss / (1.0 - self.loss);
        self.bad = if self.bad { !self.random.chance(leave) } else { self.random.chance(enter) };
        self.bad
    }
}

/// Whether a message of so many fragments arrives whole, and how many packets that took.
fn send(path: &mut Path, fragments: usize, help: Help, lost: &mut Vec<u32>) -> (bool, usize) {
    let groups = match help {
        Help::Parity { group } => fragments.div_ceil(group),
        _ => fragments,
    };
    let packets = match help {
        Help::None => fragments,
        Help::Parity { .. } => fragments + groups,
        Help::Twice => 2 * fragments,
    };
    lost.clear();
    lost.resize(groups, 0);
    for packet in 0..packets {
        let loses = path.loses();
        if let Some(count) = lost.get_mut(packet % groups) {
            *count += u32::from(loses);
        }
    }
    let most = if matches!(help, Help::None) { 0 } else { 1 };
    (lost.iter().all(|count| *count <= most), packets)
}

fn main() {
    let helps = [
        ("nothing", Help::None),
        ("1 parity per message", Help::Parity { group: usize::MAX }),
        ("1 parity per 8", Help::Parity { group: 8 }),
        ("all twice", Help::Twice),
    ];
    println!("| message | loss | {} |", helps.map(|(name, _)| name).join(" | "));
    println!("|---|---|{}", "---|".repeat(helps.len()));
    for size in [8 << 10, 64 << 10] {
        let fragments = usize::div_ceil(size, FRAGMENT);
        for burst in [1.0, BURST] {
            for loss in [0.01, 0.05, 0.2] {
                let cells = helps.map(|(_, help)| {
                    let mut path = Path { random: SeededRandom::new(1), loss, burst, bad: false };
                    let (mut whole, mut sent, mut lost) = (0u32, 0, Vec::new());
                    for _ in 0..MESSAGES {
                        let (arrived, packets) = send(&mut path, fragments, help, &mut lost);
                        whole += u32::from(arrived);
                        sent += packets;
                        // Other traffic and time lie between two messages.
                        for _ in 0..50 {
                            path.loses();
                        }
                    }
                    let overhead = sent as f64 / (fragments * MESSAGES as usize) as f64 - 1.0;
                    format!("{:.1} % (+{:.0} %)", 100.0 * f64::from(whole) / f64::from(MESSAGES), 100.0 * overhead)
                });
                let kind = if burst > 1.0 { "in bursts of 4" } else { "independent" };
                println!("| {} KiB | {:.0} % {kind} | {} |", size >> 10, loss * 100.0, cells.join(" | "));
            }
        }
    }
}
