//! Measurements in virtual time: the same figures on every machine. The example `goodput` prints them, and
//! `channel_goodput.rs` holds the targets.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::time::Duration;

use netstream_transport::channel::LinkConfig;
use netstream_transport::{ChannelId, Mono};

use crate::channel_pair::{CLIENT, Pair, Path, SERVER, ms};

/// 10 Mb/s in bytes.
pub const RATE: u64 = 1_250_000;
const QUEUE: usize = 64;
const LARGE: usize = 16 << 20;
const RPCS: u64 = 100 * 1000;
const RPC: usize = 100;

pub fn pair(seed: u64, rtt: Duration, loss: f64) -> Pair {
    let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
    for config in [&mut server, &mut client] {
        config.channels.get_mut(ChannelId::RELIABLE).expect("standard").max_to_client = LARGE;
    }
    let path = Path { delay: rtt / 2, loss, rate: Some((RATE, QUEUE)), ..Path::default() };
    let mut pair = Pair::with(seed, server, client).path(path);
    pair.ends[CLIENT].keep_messages = false;
    pair
}

pub struct Outcome {
    pub time: Duration,
    pub bytes: u64,
    pub resent: u64,
    pub overflowed: u64,
    /// The longest time without news of anything that arrived.
    pub stall: Duration,
    /// The longest stall in probe timeouts (RFC 9002 section 6.2: smoothed round trip, four deviations, the ack delay of
    /// 25 ms) as they stood before it.
    pub stall_rto: f64,
}

impl Outcome {
    /// Bytes per second.
    pub fn goodput(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }
}

fn run(mut pair: Pair, bytes: u64, mut refill: impl FnMut(&mut Pair)) -> Outcome {
    let start = pair.now;
    let mut progress = (pair.now, 0, Duration::from_secs(1));
    let (mut stall, mut stall_rto) = (Duration::ZERO, 0f64);
    refill(&mut pair);
    pair.flush();
    let until = pair.now + Duration::from_secs(3600);
    while pair.ends[CLIENT].received_bytes < bytes {
        refill(&mut pair);
        assert!(pair.step(until), "stalled");
        // Bytes that are acknowledged tell of a large message's progress, which is delivered as a whole.
        let acked = pair.ends[SERVER].link.stats().packets_received;
        if acked != progress.1 {
            let silent = pair.now.since(progress.0);
            stall = stall.max(silent);
            stall_rto = stall_rto.max(silent.as_secs_f64() / progress.2.as_secs_f64());
            let stats = pair.ends[SERVER].link.stats();
            let rto =
                stats.rtt.zip(stats.jitter).map_or(Duration::from_secs(1), |(rtt, jitter)| rtt + jitter * 4 + ms(25));
            progress = (pair.now, acked, rto);
        }
    }
    let stats = pair.ends[SERVER].link.stats();
    let time = pair.now.since(start);
    Outcome { time, bytes, resent: stats.bytes_resent, overflowed: pair.ends[SERVER].overflowed, stall, stall_rto }
}

pub fn large(pair: Pair) -> Outcome {
    let mut sent = false;
    run(pair, LARGE as u64, move |pair| {
        if !std::mem::replace(&mut sent, true) {
            pair.send(SERVER, ChannelId::RELIABLE, &vec![7; LARGE]);
        }
    })
}

pub fn rpcs(pair: Pair) -> Outcome {
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

/// Delays of a 30 Hz stream of 500-byte messages from the server, sorted. The server acts at once, or only `per_message`
/// times between two messages, always right after a message was sent.
pub fn delays(rtt: Duration, transfer: bool, per_message: u32, seconds: u64) -> (Vec<Duration>, f64) {
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
        eprintln!("{lost} of {} lost", sent.len());
    }
    delays.sort();
    let share = pair.ends[SERVER].link.stats().bytes_sent as f64 / (RATE * seconds) as f64;
    (delays, share)
}
