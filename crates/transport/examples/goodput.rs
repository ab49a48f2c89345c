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

#[path = "../tests/channel_pair/mod.rs"]
mod channel_pair;

use std::time::Duration;

use channel_pair::{CLIENT, Pair, Path, SERVER, ms};
use netstream_transport::channel::LinkConfig;
use netstream_transport::{ChannelId, Mono};

/// 10 Mb/s in bytes.
const RATE: u64 = 1_250_000;
const QUEUE: usize = 64;
const LARGE: usize = 16 << 20;
const RPCS: u64 = 100 * 1000;
const RPC: usize = 100;

fn pair(seed: u64, rtt: Duration, loss: f64) -> Pair {
    let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
    for config in [&mut server, &mut client] {
        config.channels.get_mut(ChannelId::RELIABLE).expect("standard").max_to_client = LARGE;
    }
    let path = Path { delay: rtt / 2, loss, rate: Some((RATE, QUEUE)), ..Path::default() };
    let mut pair = Pair::with(seed, server, client).path(path);
    pair.ends[CLIENT].keep_messages = false;
    pair
}

struct Outcome {
    time: Duration,
    bytes: u64,
    resent: u64,
    overflowed: u64,
    /// The longest time without anything delivered.
    stall: Duration,
}

fn run(mut pair: Pair, bytes: u64, mut refill: impl FnMut(&mut Pair)) -> Outcome {
    let start = pair.now;
    let mut progress = (pair.now, 0);
    let mut stall = Duration::ZERO;
    refill(&mut pair);
    pair.flush();
    let until = pair.now + Duration::from_secs(3600);
    while pair.ends[CLIENT].received_bytes < bytes {
        refill(&mut pair);
        assert!(pair.step(until), "stalled");
        // Bytes that are acknowledged tell of a large message's progress, which is delivered as a whole.
        let acked = pair.ends[SERVER].link.stats().packets_received;
        if acked != progress.1 {
            stall = stall.max(pair.now.since(progress.0));
            progress = (pair.now, acked);
        }
    }
    let stats = pair.ends[SERVER].link.stats();
    let time = pair.now.since(start);
    Outcome { time, bytes, resent: stats.bytes_resent, overflowed: pair.ends[SERVER].overflowed, stall }
}

fn large(pair: Pair) -> Outcome {
    let mut sent = false;
    run(pair, LARGE as u64, move |pair| {
        if !std::mem::replace(&mut sent, true) {
            pair.send(SERVER, ChannelId::RELIABLE, &vec![7; LARGE]);
        }
    })
}

fn rpcs(pair: Pair) -> Outcome {
    let mut left = RPCS;
    run(pair, RPCS * RPC as u64, move |pair| {
        let now = pair.now;
        // Not more at a time than a tick's worth, so that the queue is what a game's would be.
        while left > 0 && pair.ends[SERVER].link.send(now, ChannelId::RELIABLE, &[7; RPC]) == Ok(()) {
            left -= 1;
        }
        if left > 0 {
            pair.act(SERVER);
        }
    })
}

fn row(name: &str, rtt: u64, loss: f64, outcome: &Outcome) {
    let goodput = outcome.bytes as f64 / outcome.time.as_secs_f64();
    println!(
        "| {name} | {rtt} ms | {:.0} % | {:.2} s | {:.2} Mb/s | {:.1} % | {:.1} % | {} | {:.0} ms |",
        loss * 100.0,
        outcome.time.as_secs_f64(),
        goodput * 8e-6,
        100.0 * goodput / RATE as f64,
        100.0 * outcome.resent as f64 / outcome.bytes as f64,
        outcome.overflowed,
        outcome.stall.as_secs_f64() * 1e3,
    );
}

/// Delays of a 30 Hz stream of 500-byte messages from the server, sorted. The server acts at once, or only `per_message`
/// times between two messages, always right after a message was sent.
fn delays(rtt: Duration, transfer: bool, per_message: u32, seconds: u64) -> (Vec<Duration>, f64) {
    let mut pair = pair(1, rtt, 0.0);
    pair.ends[CLIENT].keep_messages = true;
    let tick = Duration::from_nanos(1_000_000_000 / 30) / per_message.max(1);
    let interval = tick * per_message.max(1);
    let start = pair.now;
    if per_message > 0 {
        pair.ends[SERVER].tick = tick;
        pair.ends[SERVER].phase = Duration::from_nanos(start.as_nanos() % tick.as_nanos() as u64);
    }
    if transfer {
        pair.send(SERVER, ChannelId::RELIABLE, &vec![7; LARGE]);
    }
    let mut sent: Vec<Mono> = Vec::new();
    let mut delays = Vec::new();
    while pair.now.since(start) < Duration::from_secs(seconds) {
        let mut message = [0; 500];
        message[..4].copy_from_slice(&(sent.len() as u32).to_le_bytes());
        pair.send(SERVER, ChannelId::UNRELIABLE, &message);
        sent.push(pair.now);
        pair.act(SERVER);
        let next = start + interval * sent.len() as u32;
        while pair.step(Mono::from_nanos(next.as_nanos() - 1)) {}
        pair.now = next;
        let peer = &mut pair.ends[CLIENT];
        for ((channel, message), at) in peer.inbox.drain(..).zip(peer.arrived_at.drain(..)) {
            if channel == ChannelId::UNRELIABLE {
                let index = u32::from_le_bytes([message[0], message[1], message[2], message[3]]);
                delays.push(at.since(sent[index as usize]));
            }
        }
    }
    // The last ones are still on their way.
    let lost = sent.len() - delays.len();
    if lost > 4 {
        println!("{lost} of {} lost", sent.len());
    }
    delays.sort();
    let share = pair.ends[SERVER].link.stats().bytes_sent as f64 / (RATE * seconds) as f64;
    (delays, share)
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
