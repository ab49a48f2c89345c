//! Peers that lie, and packets that are not what they seem: a violation at worst, never a panic.
//!
//! `NETSTREAM_CASES` sets the number of fuzzed cases.

mod channel_pair;

use std::sync::Arc;
use std::time::Duration;

use channel_pair::{CLIENT, Pair, Path, SERVER, cases, ms};
use netstream_transport::channel::{ChannelConfig, ChannelKind, Link, LinkConfig, Violation};
use netstream_transport::{ChannelId, Limits, Mono, Random, SeededRandom};

/// A link that has sent `packets` packets, under attack by hand-written packets.
struct Target {
    link: Link,
    now: Mono,
    sent: Vec<Vec<u8>>,
    number: u8,
}

impl Target {
    fn new(seed: u64, packets: usize) -> Self {
        let mut random = SeededRandom::new(seed);
        let link = Link::new(&Arc::new(LinkConfig::server()), &Arc::new(Limits::server()), Mono::ZERO, &mut random);
        let mut target = Self { link, now: Mono::ZERO, sent: Vec::new(), number: 0 };
        target.send(packets);
        target
    }

    fn send(&mut self, packets: usize) {
        for _ in 0..packets {
            self.now = self.now + ms(10);
            self.link.send(self.now, ChannelId::UNRELIABLE, b"state").unwrap();
            let mut buf = [0; 1400];
            let length = self.link.poll_packet(self.now, &mut buf).unwrap();
            self.sent.push(buf[..length].to_vec());
        }
    }

    fn receive(&mut self, packet: &[u8]) -> Result<(), Violation> {
        self.now = self.now + ms(1);
        self.link.handle_packet(self.now, packet, &mut |_, _| {})
    }

    /// Receives an ack of `count` + 1 packets up to `largest`.
    fn ack(&mut self, largest: u32, count: u8) -> Result<(), Violation> {
        let [a, b, c, _] = largest.to_le_bytes();
        self.number += 1;
        self.receive(&[0x04, self.number, a, b, c, 0, 0, count])
    }

    /// The numbers of the packets that were sent, as an attentive peer reads them.
    fn numbers(&self) -> Vec<u32> {
        let read = |packet: &Vec<u8>| {
            let length = usize::from(packet[0] & 3) + 1;
            packet[1..=length].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
        };
        let mut numbers: Vec<u32> = self.sent.iter().map(read).collect();
        for index in 1..numbers.len() {
            // One byte is enough for every number here to tell it from the one before.
            while numbers[index] < numbers[index - 1] {
                numbers[index] += 256;
            }
        }
        numbers
    }
}

#[test]
fn an_ack_of_a_packet_that_was_never_sent_is_a_violation_without_any_other_effect() {
    for ahead in [0, 1, 2, 1000, (1 << 23) - 20] {
        let mut target = Target::new(1, 10);
        let before = target.link.stats();
        assert_eq!(target.ack(10 + ahead, 0), Err(Violation::AckOfUnsent));
        assert_eq!(target.link.stats(), before);
        assert_eq!(target.ack(9, 9), Ok(()), "an honest one is taken");
        assert!(target.link.stats().rtt.is_some());
    }
    let mut target = Target::new(1, 10);
    assert_eq!(target.ack(9, 10), Err(Violation::AckOfUnsent), "there is nothing before the first packet");
}

#[test]
fn an_optimistic_acker_is_caught_within_1024_packets() {
    for seed in 0..1000 {
        let mut target = Target::new(seed, 0);
        let mut caught = None;
        for packet in 0..1024u32 {
            target.send(1);
            // It acknowledges whatever comes next, whether it has arrived or not.
            let [a, b, c, _] = packet.to_le_bytes();
            let [n0, n1, ..] = packet.to_le_bytes();
            let result = target.receive(&[0x05, n0, n1, a, b, c, 0, 0, 0]);
            if result == Err(Violation::AckOfSkipped) {
                caught = Some(packet);
                break;
            }
            assert_eq!(result, Ok(()));
        }
        let caught = caught.unwrap_or_else(|| panic!("seed {seed}: not caught"));
        assert!((64..=513).contains(&caught), "seed {seed}: {caught}");
    }
}

#[test]
fn left_out_numbers_never_trip_an_honest_peer() {
    let target = Target::new(3, 2000);
    let numbers = target.numbers();
    let left_out = numbers.windows(2).filter(|pair| pair[1] == pair[0] + 2).count();
    assert!((4..=32).contains(&left_out), "{left_out}");
    assert!(numbers.windows(2).all(|pair| pair[1] - pair[0] <= 2));
}

#[test]
fn an_ack_range_as_long_as_can_be_written_costs_no_more_than_what_was_sent() {
    let mut target = Target::new(4, 50);
    // 32 ranges of 2^28 - 1 packets each: one violation, and back in no time.
    let mut packet = vec![0x04, 0, 49, 0, 0, 0, 31];
    for _ in 0..63 {
        packet.extend_from_slice(&[0xef, 0xff, 0xff, 0xff]);
    }
    assert_eq!(target.receive(&packet), Err(Violation::AckOfUnsent));
}

#[test]
fn a_repeated_ack_changes_nothing() {
    let mut target = Target::new(5, 20);
    target.ack(19, 19).unwrap();
    let before = target.link.stats();
    for _ in 0..50 {
        target.ack(19, 19).unwrap();
    }
    let after = target.link.stats();
    assert_eq!((before.rtt, before.loss, before.in_flight), (after.rtt, after.loss, after.in_flight));
}

#[test]
fn an_empty_packet_is_truncated_and_one_without_frames_is_fine() {
    let mut target = Target::new(6, 0);
    assert_eq!(target.receive(&[]), Err(Violation::Truncated));
    assert_eq!(target.receive(&[0]), Err(Violation::Truncated));
    assert_eq!(target.receive(&[0, 0]), Ok(()));
    assert_eq!(target.link.poll_timeout(), None, "nothing to acknowledge");
}

/// Both ends with all kinds of channels.
fn all_kinds(seed: u64) -> Pair {
    let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
    for config in [&mut server, &mut client] {
        for kind in [ChannelKind::ReliableUnordered, ChannelKind::UnreliableSequenced] {
            config.channels.declare(ChannelConfig::new(kind).fragmented(20_000)).unwrap();
        }
    }
    Pair::with(seed, server, client)
}

#[test]
fn random_bytes_never_panic() {
    let mut random = SeededRandom::new(8);
    let mut packet = [0; 1200];
    let mut pair = all_kinds(8);
    for case in 0..cases(200_000) {
        let length = random.below(if case % 4 == 0 { 1200 } else { 40 }) as usize;
        random.fill(&mut packet[..length]);
        if let Some(flags) = packet.first_mut() {
            // Most would fail at the first byte otherwise.
            *flags &= 7;
        }
        let link = &mut pair.ends[(case % 2) as usize].link;
        let _ = link.handle_packet(Mono::from_nanos(case * 1_000_000), &packet[..length], &mut |_, _| {});
        if case % 100 == 0 {
            pair = all_kinds(case);
        }
    }
}

#[test]
fn packets_of_a_live_connection_may_be_damaged_in_any_way_without_a_panic() {
    let mut random = SeededRandom::new(9);
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for case in 0..cases(3000) {
        let mut pair = all_kinds(case).path(Path { loss: 0.05, duplicate: 0.05, ..Path::default() });
        for _ in 0..6 {
            for end in [SERVER, CLIENT] {
                for channel in 0..5 {
                    let most = pair.ends[end].link.max_message(ChannelId(channel)).unwrap();
                    let size = if random.chance(0.1) { random.below(most as u64) } else { random.below(60) };
                    let now = pair.now;
                    let _ = pair.ends[end].link.send(now, ChannelId(channel), &vec![1; size as usize]);
                }
            }
            pair.run_for(ms(random.below(30)));
            // One end hears something strange: bits changed, ends cut or grown, two packets spliced, an old one.
            let mut buf = [0; 1400];
            let end = random.below(2) as usize;
            pair.send(end, ChannelId::RELIABLE, b"more");
            let Some(length) = pair.ends[end].link.poll_packet(pair.now, &mut buf) else { continue };
            let mut packet = buf[..length].to_vec();
            match random.below(5) {
                0 => {
                    for _ in 0..=random.below(8) {
                        let at = random.below(packet.len() as u64) as usize;
                        packet[at] ^= 1 << random.below(8);
                    }
                }
                1 => packet.truncate(random.below(packet.len() as u64) as usize),
                2 => packet.extend_from_slice(&buf[..random.below(200) as usize]),
                3 if !packets.is_empty() => {
                    let other = &packets[random.below(packets.len() as u64) as usize];
                    let cut = random.below(packet.len().min(other.len()) as u64) as usize;
                    packet.truncate(cut);
                    packet.extend_from_slice(&other[cut..]);
                }
                _ if !packets.is_empty() => {
                    packet.clone_from(&packets[random.below(packets.len() as u64) as usize]);
                }
                _ => {}
            }
            let now = pair.now;
            let _ = pair.ends[1 - end].link.handle_packet(now, &packet, &mut |_, _| {});
            if packets.len() < 500 {
                packets.push(packet);
            }
        }
        // A violation is the driver's to act upon; time must be able to go on regardless.
        pair.run_for(ms(200));
        let until = pair.now + Duration::from_secs(12);
        for _ in 0..2000 {
            if !pair.step(until) {
                break;
            }
        }
    }
}

#[test]
fn a_clock_that_jumps_leaves_all_figures_finite() {
    let mut pair = Pair::new(10);
    let mut random = SeededRandom::new(10);
    for _ in 0..2000 {
        pair.send(SERVER, ChannelId::UNRELIABLE, b"state");
        let _ = pair.ends[CLIENT].link.send(pair.now, ChannelId::RELIABLE, b"rpc");
        pair.flush();
        match random.below(20) {
            0 => pair.now = pair.now + Duration::from_secs(3600),
            // The network's clock only goes forward, so the pair does not step here.
            1 => {
                let back = Mono::from_nanos(pair.now.as_nanos() / 2);
                for end in &mut pair.ends {
                    end.link.handle_timeout(back);
                    end.link.poll_packet(back, &mut [0; 1400]);
                }
            }
            _ => pair.run_for(ms(random.below(40))),
        }
        for end in &pair.ends {
            let stats = end.link.stats();
            assert!(stats.rtt.is_none_or(|rtt| rtt <= Duration::from_secs(10)));
            assert!(stats.jitter.is_none_or(|jitter| jitter <= Duration::from_secs(10)));
            assert!((0.0..=1.0).contains(&stats.loss));
        }
    }
}
