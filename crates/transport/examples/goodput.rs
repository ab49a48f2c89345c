//! What reliable channels get out of a bad network, and what that costs the game traffic beside them.
//!
//! ```text
//! cargo run --release -p netstream-transport --example goodput
//! ```
//!
//! Two links over a simulated 10 Mb/s bottleneck with a queue of 64 packets, in virtual time: the same figures on every
//! machine. The share is that of message bytes in the link's rate; a full packet spends 5.4 % of it on its headers
//! (IPv4, UDP and sealing: 53 bytes; packet and frame: about 12).

#![allow(missing_docs)]

#[path = "../tests/channel_measure/mod.rs"]
mod channel_measure;
#[path = "../tests/channel_pair/mod.rs"]
mod channel_pair;

use std::time::Duration;

use channel_measure::{Outcome, RATE, delays, large, pair, rpcs};
use channel_pair::ms;

fn row(name: &str, rtt: u64, loss: f64, outcome: &Outcome) {
    let goodput = outcome.goodput();
    println!(
        "| {name} | {rtt} ms | {:.0} % | {:.2} s | {:.2} Mb/s | {:.1} % | {:.1} % | {} | {:.0} ms = {:.1} RTO |",
        loss * 100.0,
        outcome.time.as_secs_f64(),
        goodput * 8e-6,
        100.0 * goodput / RATE as f64,
        100.0 * outcome.resent as f64 / outcome.bytes as f64,
        outcome.overflowed,
        outcome.stall.as_secs_f64() * 1e3,
        outcome.stall_rto,
    );
}

fn main() {
    println!("| what | RTT | loss | time | goodput | share of the link | sent again | overflowed | longest stall |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for rtt in [1, 50, 200] {
        for loss in [0.0, 0.01, 0.05, 0.2] {
            let outcome = large(pair(1, ms(rtt), loss));
            row("16 MiB", rtt, loss, &outcome);
        }
    }
    for rtt in [1, 50, 200] {
        for loss in [0.0, 0.01, 0.05, 0.2] {
            let outcome = rpcs(pair(1, ms(rtt), loss));
            row("100 x 1000 RPCs of 100 B", rtt, loss, &outcome);
        }
    }
    println!();
    println!("Delay of a 30 Hz stream of 500 B, alone and beside a 16 MiB transfer (p50 / p99 / max):");
    println!();
    println!("| RTT | server acts | alone | beside the transfer | p99 ratio | link in use |");
    println!("|---|---|---|---|---|---|");
    for rtt in [20, 50, 100, 200] {
        for per_message in [0u32, 2, 1] {
            let (alone, _) = delays(ms(rtt), false, per_message, 13);
            let (beside, share) = delays(ms(rtt), true, per_message, 13);
            let at = |delays: &[Duration], share: f64| {
                delays[((delays.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
            };
            let text = |delays: &[Duration]| {
                format!("{:.1} / {:.1} / {:.1} ms", at(delays, 0.5), at(delays, 0.99), at(delays, 1.0))
            };
            let when = ["at once", "at 30 Hz", "at 60 Hz"][per_message as usize];
            let ratio = at(&beside, 0.99) / at(&alone, 0.99);
            println!(
                "| {rtt} ms | {when} | {} | {} | {ratio:.2} | {:.0} % |",
                text(&alone),
                text(&beside),
                share * 100.0
            );
        }
    }
}
