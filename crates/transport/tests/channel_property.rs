//! Random traffic over random networks, against the simplest reference there is: lists of what was sent.
//!
//! Each case follows from its number. `NETSTREAM_CASES` sets how many cases each test runs, e.g.
//! `NETSTREAM_CASES=10000000 cargo test --release -p netstream-transport --test channel_property short`;
//! `NETSTREAM_SEED` runs one case only.

mod channel_pair;

use std::collections::BTreeSet;
use std::time::Duration;

use channel_pair::{CLIENT, Pair, Path, SERVER, cases, ms};
use netstream_transport::channel::{ChannelConfig, ChannelKind, LinkConfig, LinkEvent, Receipt, SendError};
use netstream_transport::{ChannelId, DisconnectCode, DisconnectReason, Limits, Random, SeededRandom};

const KINDS: [(ChannelKind, bool); 7] = [
    (ChannelKind::Unreliable, false),
    (ChannelKind::ReliableOrdered, true),
    (ChannelKind::Unreliable, true),
    (ChannelKind::UnreliableSequenced, false),
    (ChannelKind::UnreliableSequenced, true),
    (ChannelKind::ReliableUnordered, true),
    (ChannelKind::ReliableOrdered, false),
];

/// Right below every width of which a part may travel.
const STARTS: [u64; 6] = [0, (1 << 16) - 20, (1 << 24) - 30, (1 << 32) - 25, (1 << 63) - 35, u64::MAX - 15];

struct Case {
    pair: Pair,
    random: SeededRandom,
    /// What was sent, by sending end and channel.
    sent: [Vec<Vec<Vec<u8>>>; 2],
    receipts: [BTreeSet<Receipt>; 2],
    /// The most heap that each end may ever have.
    caps: [usize; 2],
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = SeededRandom::new(seed ^ 0x5eed);
        let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
        let start = STARTS[random.below(6) as usize];
        for config in [&mut server, &mut client] {
            config.first_packet_number = start;
            for (kind, fragmented) in &KINDS[3..] {
                let channel = ChannelConfig::new(*kind);
                let channel = if *fragmented { channel.fragmented(20_000) } else { channel };
                config.channels.declare(channel).unwrap();
            }
        }
        let caps = [server.heap_cap(&Limits::server()), client.heap_cap(&Limits::client())];
        let mut pair = Pair::with(seed, server, client);
        for end in &mut pair.ends {
            // Every case turns on some faults only, so that extremes combine and calm runs exist.
            let mut path = Path { delay: ms(random.below(40)), ..Path::default() };
            if random.chance(0.5) {
                path.loss = 0.5 * random.below(100) as f64 / 100.0;
            }
            if random.chance(0.4) {
                path.duplicate = 0.3;
            }
            if random.chance(0.5) {
                path.jitter = ms(random.below(100));
            }
            if random.chance(0.2) {
                path.rate = Some((20_000 + random.below(1_000_000), 4 + random.below(60) as usize));
            }
            end.path = path;
            if random.chance(0.3) {
                end.tick = ms(1 + random.below(50));
            }
        }
        let lists = || KINDS.iter().map(|_| Vec::new()).collect();
        Self { pair, random, sent: [lists(), lists()], receipts: Default::default(), caps }
    }

    /// A message that no other end, channel or position has.
    fn message(&mut self, end: usize, channel: usize) -> Vec<u8> {
        let index = self.sent[end][channel].len() as u32;
        let most: u64 = match KINDS[channel] {
            (_, false) => 1150,
            (_, true) if self.random.chance(0.3) => 16_000,
            _ => 1500,
        };
        let most = if self.random.chance(0.6) { 40 } else { most };
        let mut message = vec![end as u8, channel as u8];
        message.extend(index.to_le_bytes());
        let filler = self.random.below(most - 6) as usize;
        message.extend((0..filler).map(|at| (at as u32).wrapping_mul(index.wrapping_add(17)) as u8));
        message
    }

    fn send_something(&mut self) {
        let end = self.random.below(2) as usize;
        let channel = self.random.below(KINDS.len() as u64) as usize;
        let message = self.message(end, channel);
        let now = self.pair.now;
        let link = &mut self.pair.ends[end].link;
        let id = ChannelId(channel as u8);
        let wants_receipt = KINDS[channel].0.is_reliable() && self.random.chance(0.2);
        let outcome = if wants_receipt {
            link.send_with_receipt(now, id, &message).map(|receipt| {
                self.receipts[end].insert(receipt);
            })
        } else {
            link.send(now, id, &message)
        };
        match outcome {
            Ok(()) => self.sent[end][channel].push(message),
            Err(SendError::QueueFull) => assert!(link.stats().reliable_queued > 200_000),
            Err(other) => panic!("{other}"),
        }
    }

    /// I19, I22 to I24 for everything that `end` has received so far.
    fn check(&self, end: usize) {
        let peer = &self.pair.ends[end];
        assert_eq!(peer.violation, None);
        for (channel, (kind, _)) in KINDS.iter().enumerate() {
            let sent = &self.sent[1 - end][channel];
            let got = peer.inbox.iter().filter(|(id, _)| usize::from(id.0) == channel).map(|(_, message)| message);
            let places: Vec<usize> = got
                .map(|message| {
                    let index = u32::from_le_bytes([message[2], message[3], message[4], message[5]]) as usize;
                    assert_eq!(sent.get(index), Some(message), "not what was sent on channel {channel}");
                    index
                })
                .collect();
            match kind {
                ChannelKind::ReliableOrdered => assert!(places.iter().copied().eq(0..places.len()), "{places:?}"),
                ChannelKind::UnreliableSequenced => assert!(places.is_sorted_by(|a, b| a < b), "{places:?}"),
                ChannelKind::Unreliable | ChannelKind::ReliableUnordered => {
                    let unique: BTreeSet<_> = places.iter().collect();
                    assert_eq!(unique.len(), places.len(), "twice: {places:?}");
                }
            }
        }
        let stats = peer.link.stats();
        assert!((0.0..=1.0).contains(&stats.loss));
        assert!(stats.rtt.is_none_or(|rtt| rtt <= Duration::from_secs(10)));
        assert!(peer.link.heap() <= self.caps[end], "{} of {}", peer.link.heap(), self.caps[end]);
    }

    /// Everything reliable has arrived, and every receipt was given.
    fn is_complete(&self) -> bool {
        (0..2).all(|end| {
            let wanted: usize =
                (0..KINDS.len()).filter(|at| KINDS[*at].0.is_reliable()).map(|at| self.sent[end][at].len()).sum();
            let got = self.pair.ends[1 - end].inbox.iter();
            got.filter(|(id, _)| KINDS[usize::from(id.0)].0.is_reliable()).count() == wanted
                && self.pair.ends[end].link.stats().reliable_queued == 0
        })
    }

    fn heal(&mut self) {
        for end in &mut self.pair.ends {
            end.path = Path { delay: end.path.delay, ..Path::default() };
        }
    }
}

fn run(seed: u64, operations: u64) {
    let mut case = Case::new(seed);
    for _ in 0..operations {
        for _ in 0..=case.random.below(3) {
            case.send_something();
        }
        let pause = if case.random.chance(0.1) { 500 } else { 20 };
        let pause = ms(case.random.below(pause));
        case.pair.run_for(pause);
    }
    for end in [SERVER, CLIENT] {
        case.check(end);
    }
    case.heal();
    // I20: the network is well again, so everything arrives soon, whatever is left of the storm.
    let deadline = case.pair.now + Duration::from_secs(12);
    while !case.is_complete() {
        assert!(case.pair.step(deadline), "seed {seed}: reliable messages never arrive");
    }
    for end in [SERVER, CLIENT] {
        case.check(end);
        let given: BTreeSet<Receipt> = case.pair.ends[end]
            .events
            .iter()
            .filter_map(|event| match event {
                LinkEvent::Delivered(receipt) => Some(*receipt),
                _ => None,
            })
            .collect();
        assert_eq!(given, case.receipts[end], "seed {seed}: a receipt is missing or was never asked for");
    }
    // The end of it: one side closes, both know why.
    let reason = DisconnectReason::local(DisconnectCode::Application(seed as u16));
    let now = case.pair.now;
    let end = (seed % 2) as usize;
    case.pair.ends[end].events.clear();
    case.pair.ends[1 - end].events.clear();
    case.pair.ends[end].link.close(now, &reason, ms(2000));
    case.pair.run_for(ms(2100));
    assert_eq!(case.pair.ends[end].events, [LinkEvent::Closed]);
    assert_eq!(case.pair.ends[1 - end].events, [LinkEvent::RemoteClosed(reason.seen_by_peer())]);
}

fn run_all(count: u64, operations: u64) {
    if let Some(seed) = std::env::var("NETSTREAM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run(seed, operations);
    }
    for seed in 0..cases(count) {
        let outcome = std::panic::catch_unwind(|| run(seed, operations));
        assert!(outcome.is_ok(), "failed with NETSTREAM_SEED={seed}");
    }
}

#[test]
fn short_conversations_keep_every_promise() {
    run_all(100_000, 4);
}

#[test]
fn conversations_keep_every_promise() {
    run_all(10_000, 25);
}

#[test]
fn long_conversations_keep_every_promise() {
    run_all(1_000, 150);
}
