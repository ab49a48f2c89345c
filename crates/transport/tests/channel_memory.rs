//! Memory: nothing is allocated per packet once buffers have grown, and a hostile peer gets no more than its cap.
//!
//! A counting allocator watches every allocation of the thread. `NETSTREAM_CASES` sets the number of fuzzed packets.

// A global allocator cannot be written without it; the crate under test forbids it.
#![allow(unsafe_code)]

mod channel_pair;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use channel_pair::{cases, ms};
use netstream_transport::channel::{ChannelConfig, ChannelKind, Link, LinkConfig, LinkEvent, SendError, Violation};
use netstream_transport::{ChannelId, Limits, Mono, Random, SeededRandom};

struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn note(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        note(layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        note(size as isize - layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RELIABLE: ChannelId = ChannelId::RELIABLE;
const UNRELIABLE: ChannelId = ChannelId::UNRELIABLE;
const FRAGMENTED: ChannelId = ChannelId::UNRELIABLE_FRAGMENTED;

type Buffer = [u8; 1400];

/// Two links and a network that allocates nothing: a ring of fixed packets in each direction.
struct Loop {
    now: Mono,
    links: [Link; 2],
    flying: [VecDeque<(Mono, usize, Buffer)>; 2],
    spare: Vec<Buffer>,
    random: SeededRandom,
    loss: f64,
    delivered: u64,
}

impl Loop {
    fn new(loss: f64) -> Self {
        let mut random = SeededRandom::new(7);
        let now = Mono::from_nanos(1_000_000_000);
        let ends = [(LinkConfig::server(), Limits::server()), (LinkConfig::client(), Limits::client())];
        let links = ends.map(|(config, limits)| Link::new(&Arc::new(config), &Arc::new(limits), now, &mut random));
        let spare = vec![[0; 1400]; 2000];
        let flying = [VecDeque::with_capacity(2000), VecDeque::with_capacity(2000)];
        Self { now, links, flying, spare, random, loss, delivered: 0 }
    }

    /// One tick of 60 Hz: both ends take in what has arrived and send what they have.
    fn tick(&mut self) {
        self.now = self.now + Duration::from_nanos(16_666_667);
        for end in 0..2 {
            while self.flying[1 - end].front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((at, length, packet)) = self.flying[1 - end].pop_front() else { break };
                let delivered = &mut self.delivered;
                self.links[end].handle_packet(at, &packet[..length], &mut |_, _| *delivered += 1).unwrap();
                self.spare.push(packet);
            }
            self.links[end].handle_timeout(self.now);
            while self.links[end].poll_event().is_some() {}
            while let Some(mut packet) = self.spare.pop() {
                let Some(length) = self.links[end].poll_packet(self.now, &mut packet[..]) else {
                    self.spare.push(packet);
                    break;
                };
                if self.random.chance(self.loss) {
                    self.spare.push(packet);
                } else {
                    self.flying[end].push_back((self.now + ms(20), length, packet));
                }
            }
        }
    }

    fn run(&mut self, ticks: u32, mut send: impl FnMut(&mut Self)) {
        for _ in 0..ticks {
            send(self);
            self.tick();
        }
    }
}

#[track_caller]
fn assert_steady(name: &str, loss: f64, mut send: impl FnMut(&mut Loop)) {
    let mut pair = Loop::new(loss);
    // Long enough for every buffer to have met its worst case.
    pair.run(12_000, &mut send);
    let (count, packets) = (COUNT.get(), pair.links[0].stats().packets_sent + pair.links[1].stats().packets_sent);
    let delivered = pair.delivered;
    pair.run(3000, &mut send);
    let count = COUNT.get() - count;
    let packets = pair.links[0].stats().packets_sent + pair.links[1].stats().packets_sent - packets;
    let delivered = pair.delivered - delivered;
    println!("{name}, loss {:.0} %: {count} allocations in {packets} packets, {delivered} messages", loss * 100.0);
    assert!(packets >= 3000 && delivered > 3000);
    assert_eq!(count, 0, "{name} at loss {loss}");
}

#[test]
fn a_steady_state_allocates_nothing() {
    for loss in [0.0, 0.05] {
        assert_steady("game traffic", loss, |pair| {
            let now = pair.now;
            pair.links[0].send(now, UNRELIABLE, &[1; 1000]).unwrap();
            pair.links[1].send(now, UNRELIABLE, &[2; 60]).unwrap();
        });
        assert_steady("100 RPCs a tick", loss, |pair| {
            let now = pair.now;
            for _ in 0..100 {
                let _ = pair.links[0].send(now, RELIABLE, &[1; 100]);
            }
            pair.links[1].send_with_receipt(now, RELIABLE, &[2; 60]).unwrap();
        });
        assert_steady("8 KiB fragmented a tick", loss, |pair| {
            let now = pair.now;
            pair.links[0].send(now, FRAGMENTED, &[1; 8192]).unwrap();
            pair.links[1].send(now, UNRELIABLE, &[2; 60]).unwrap();
        });
        assert_steady("bulk", loss, |pair| {
            let now = pair.now;
            let _ = pair.links[0].send(now, RELIABLE, &[1; 65_000]);
            pair.links[1].send(now, UNRELIABLE, &[2; 60]).unwrap();
        });
    }
}

#[test]
fn an_idle_link_is_small() {
    let (config, limits) = (Arc::new(LinkConfig::server()), Arc::new(Limits::server()));
    let mut random = SeededRandom::new(1);
    let before = LIVE.get();
    let link = Link::new(&config, &limits, Mono::ZERO, &mut random);
    let heap = (LIVE.get() - before) as usize;
    println!("an idle link: {} + {heap} bytes", size_of::<Link>());
    assert!(size_of::<Link>() + heap <= 2560);
    assert_eq!(heap, link.heap());
}

/// A link with all kinds of channels.
fn target(config: LinkConfig) -> (Link, Arc<LinkConfig>) {
    let mut config = config;
    config.channels.declare(ChannelConfig::new(ChannelKind::ReliableUnordered).fragmented(64 << 10)).unwrap();
    config.channels.declare(ChannelConfig::new(ChannelKind::UnreliableSequenced).fragmented(16 << 10)).unwrap();
    config.channels.declare(ChannelConfig::new(ChannelKind::UnreliableSequenced)).unwrap();
    let config = Arc::new(config);
    (Link::new(&config, &Arc::new(Limits::server()), Mono::ZERO, &mut SeededRandom::new(3)), config)
}

/// A packet as a hostile peer writes it: a correct head, then frames that are correct more often than not.
fn hostile_packet(random: &mut SeededRandom, number: u64, packet: &mut Vec<u8>) {
    packet.clear();
    packet.push(3);
    packet.extend_from_slice(&(number as u32).to_le_bytes());
    let most = 20 + random.below(1180) as usize;
    let mut whole = packet.len();
    while packet.len() < most {
        whole = packet.len();
        let channel = random.below(6) as u8;
        let length = match random.below(3) {
            0 => 0,
            1 => random.below(20),
            _ => random.below(1200),
        } as usize;
        let length = length.min(1200 - packet.len().min(1200));
        let varint = |packet: &mut Vec<u8>, value: usize| {
            packet.push(0x80 | value as u8 & 0x3f);
            packet.push((value >> 6) as u8);
        };
        match channel {
            1 => {
                packet.push(2 << 5 | channel);
                let offset = random.below(60_000);
                packet.extend_from_slice(&(offset as u32).to_le_bytes()[..3]);
                varint(packet, length);
            }
            2..=4 if random.chance(0.7) => {
                packet.push(4 << 5 | channel);
                packet.extend_from_slice(&(random.below(200) as u16).to_le_bytes());
                let count = 1 + random.below(14) as usize;
                let index = random.below(count as u64) as usize;
                packet.push(index as u8);
                packet.push(count as u8);
                let full = index + 1 < count;
                let length = if full { 1120 } else { 1 + length.min(100) };
                varint(packet, length);
                packet.resize(packet.len() + length, 7);
                continue;
            }
            0 | 5 => {
                packet.push(channel);
                varint(packet, length);
            }
            _ => {
                packet.push(channel);
                packet.extend_from_slice(&(random.below(200) as u16).to_le_bytes());
                varint(packet, length);
            }
        }
        let fill = random.below(3) as u8;
        packet.resize(packet.len() + length, fill);
    }
    if packet.len() > 1200 {
        packet.truncate(whole);
    }
    if random.chance(0.05) {
        let at = random.below(packet.len() as u64) as usize;
        packet[at] ^= 1 << random.below(8);
    }
}

#[test]
fn a_packet_makes_memory_grow_by_no_more_than_a_small_multiple_of_itself() {
    let mut random = SeededRandom::new(11);
    let mut packet = Vec::with_capacity(4096);
    let (mut worst_kept, mut worst_peak) = (0, 0);
    let mut link = target(LinkConfig::server()).0;
    let mut cap = 0;
    let mut violations = 0u64;
    let mut kinds = std::collections::BTreeMap::new();
    let count = cases(300_000);
    for number in 0..count {
        hostile_packet(&mut random, number, &mut packet);
        let before = LIVE.get();
        PEAK.set(before);
        let result = link.handle_packet(Mono::from_nanos(number * 1_000_000), &packet, &mut |_, _| {});
        worst_kept = worst_kept.max(LIVE.get() - before);
        worst_peak = worst_peak.max(PEAK.get() - before);
        if number % 64 == 0 {
            link.handle_timeout(Mono::from_nanos(number * 1_000_000));
            link.poll_packet(Mono::from_nanos(number * 1_000_000), &mut [0; 1400]);
        }
        cap = cap.max(link.heap());
        if let Err(violation) = result {
            violations += 1;
            *kinds.entry(violation.name()).or_insert(0) += 1;
        }
        if result.is_err() || random.chance(0.0005) {
            link = target(LinkConfig::server()).0;
        }
    }
    println!(
        "{count} packets, {violations} violations: at most {worst_kept} B kept, {worst_peak} B at once, {cap} B in all"
    );
    println!("{kinds:?}");
    assert!(violations < count, "most packets are correct");
    assert!(worst_kept <= 4 << 10, "{worst_kept}");
    assert!(worst_peak <= 8 << 10, "{worst_peak}");
    assert!(cap <= target(LinkConfig::server()).1.heap_cap(&Limits::server()));
}

/// The hostile peer's side of a plain link: packets are made by hand.
struct Hostile {
    link: Link,
    number: u64,
    now: Mono,
}

impl Hostile {
    fn new(config: LinkConfig) -> Self {
        Self { link: target(config).0, number: 0, now: Mono::ZERO }
    }

    fn packet(&mut self, frames: &[u8]) -> Result<(), Violation> {
        let mut packet = vec![3];
        packet.extend_from_slice(&(self.number as u32).to_le_bytes());
        packet.extend_from_slice(frames);
        self.number += 1;
        self.now = self.now + ms(4);
        self.link.handle_packet(self.now, &packet, &mut |_, _| {})
    }
}

/// A fragment frame of the unreliable fragmented channel that fills the packet.
fn first_fragment(id: u16, count: u8) -> Vec<u8> {
    let mut frame = vec![5 << 5 | 2];
    frame.extend_from_slice(&id.to_le_bytes());
    frame.extend_from_slice(&[0, count]);
    frame.resize(frame.len() + 1120, 9);
    frame
}

#[test]
fn first_fragments_only_keep_within_64_kibibytes() {
    let mut peer = Hostile::new(LinkConfig::server());
    let before = LIVE.get();
    // 60 s at the rate that a server takes from a client.
    for id in 0..15_000u16 {
        peer.packet(&first_fragment(id, 15)).unwrap();
        assert!(LIVE.get() - before <= 64 << 10);
        if id % 10 == 0 {
            peer.link.handle_timeout(peer.now);
        }
    }
    let stats = peer.link.stats();
    assert_eq!(stats.reassembly_evicted + stats.reassembly_expired, 15_000 - 4);
}

#[test]
fn a_stream_full_of_holes_keeps_within_its_window() {
    let mut peer = Hostile::new(LinkConfig::server());
    let before = LIVE.get();
    // Every other byte, as far as the window reaches, over and over.
    for round in 0..200 {
        for offset in (1..65_000u32).step_by(4096) {
            let mut frames = Vec::new();
            for piece in 0..190 {
                frames.push(2 << 5 | 1);
                frames.extend_from_slice(&(offset + 2 * piece + round % 2).to_le_bytes()[..3]);
                frames.extend_from_slice(&[1, 0]);
            }
            peer.packet(&frames).unwrap();
        }
    }
    let kept = LIVE.get() - before;
    println!("holes: {kept} B kept, {} packets refused", peer.link.stats().refused_full);
    assert!(kept <= 80 << 10, "{kept}");
    assert!(peer.link.stats().refused_full > 0);
}

#[test]
fn a_million_empty_messages_cost_nothing() {
    let mut peer = Hostile::new(LinkConfig::server());
    let before = LIVE.get();
    let mut taken = 0;
    for packet in 0..1000u32 {
        let offset = packet * 1000;
        let mut frames = vec![3 << 5 | 1];
        frames.extend_from_slice(&offset.to_le_bytes()[..3]);
        frames.resize(frames.len() + 1000, 0);
        let mut bytes = vec![3];
        bytes.extend_from_slice(&packet.to_le_bytes());
        bytes.extend_from_slice(&frames);
        let now = peer.now;
        peer.link.handle_packet(now, &bytes, &mut |_, message| taken += usize::from(message.is_empty())).unwrap();
        while peer.link.poll_packet(now, &mut [0; 1400]).is_some() {}
        peer.now = peer.now + ms(1);
    }
    assert_eq!(taken, 1_000_000);
    assert!(LIVE.get() - before <= 64 << 10, "{}", LIVE.get() - before);
}

#[test]
fn a_peer_that_never_acks_makes_the_queue_full_and_no_more() {
    let mut peer = Hostile::new(LinkConfig::server());
    let cap = 640 << 10;
    let before = LIVE.get();
    let mut refused = 0;
    let mut slow = 0;
    for tick in 0..1800u64 {
        let now = Mono::from_nanos(tick * 16_666_667);
        for _ in 0..20 {
            match peer.link.send(now, RELIABLE, &[0; 700]) {
                Ok(()) => {}
                Err(SendError::QueueFull) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        peer.link.send(now, UNRELIABLE, &[0; 1000]).unwrap();
        peer.link.handle_timeout(now);
        while peer.link.poll_packet(now, &mut [0; 1400]).is_some() {}
        while let Some(event) = peer.link.poll_event() {
            assert_eq!(event, LinkEvent::SlowConsumer);
            slow += 1;
        }
        assert!(LIVE.get() - before <= cap, "{}", LIVE.get() - before);
    }
    println!("never acks: {} B", LIVE.get() - before);
    assert!(refused > 1000);
    assert_eq!(slow, 1);
}

#[test]
fn the_worst_peer_gets_no_more_than_640_kibibytes() {
    let mut random = SeededRandom::new(12);
    let mut link = Link::new(&Arc::new(LinkConfig::server()), &Arc::new(Limits::server()), Mono::ZERO, &mut random);
    let before = LIVE.get();
    let mut number = 0u32;
    let mut now = Mono::ZERO;
    let mut worst = 0;
    for _ in 0..400 {
        now = now + ms(16);
        // It takes no reliable message ...
        while link.send(now, RELIABLE, &[0; 1100]) == Ok(()) {}
        link.send(now, UNRELIABLE, &[0; 1000]).unwrap();
        while link.poll_packet(now, &mut [0; 1400]).is_some() {}
        link.handle_timeout(now);
        // ... and sends a large message of which the end is missing, whatever fits behind a hole, first fragments.
        for _ in 0..4 {
            let mut packet = vec![3];
            packet.extend_from_slice(&number.to_le_bytes());
            let fill = 1100usize;
            match number {
                0 => packet.extend_from_slice(&[0x61, 0, 0, 0, 0xc0, 0, 0x08]),
                1..=58 => {
                    packet.push(0x61);
                    packet.extend_from_slice(&(3 + (number - 1) * 1100).to_le_bytes()[..3]);
                    packet.resize(packet.len() + fill, 1);
                }
                60..=100 => {
                    packet.push(0x61);
                    packet.extend_from_slice(&(4 + (number - 1) * 1100).to_le_bytes()[..3]);
                    packet.resize(packet.len() + fill, 1);
                }
                _ => packet.extend_from_slice(&first_fragment(number as u16, 15)),
            }
            number += 1;
            link.handle_packet(now, &packet, &mut |_, _| {}).unwrap();
        }
        worst = worst.max(LIVE.get() - before);
    }
    println!("the worst peer: {worst} B");
    assert!(worst <= 640 << 10, "{worst}");
    assert!(worst >= 400 << 10, "it is not that bad a peer: {worst}");
}

#[test]
fn everything_at_once_keeps_within_the_cap_of_the_configuration() {
    let mut peer = Hostile::new(LinkConfig::server());
    let cap = target(LinkConfig::server()).1.heap_cap(&Limits::server());
    println!(
        "cap of a server's link: {} B; with three more channels {cap} B",
        LinkConfig::server().heap_cap(&Limits::server())
    );
    let mut random = SeededRandom::new(5);
    let before = LIVE.get();
    let mut packet = Vec::with_capacity(4096);
    for tick in 0..2000u64 {
        let now = Mono::from_nanos(tick * 4_000_000);
        for channel in 0..6 {
            let limit = peer.link.max_message(ChannelId(channel)).unwrap();
            let size = if random.chance(0.5) { limit } else { random.below(50) as usize };
            let _ = peer.link.send(now, ChannelId(channel), &vec![0; size]);
        }
        hostile_packet(&mut random, tick, &mut packet);
        let _ = peer.link.handle_packet(now, &packet, &mut |_, _| {});
        if random.chance(0.1) {
            peer.link.handle_timeout(now);
            peer.link.poll_packet(now, &mut [0; 1400]);
        }
        let heap = peer.link.heap();
        assert!(heap <= cap, "{heap} of {cap}");
    }
    drop(packet);
    let live = LIVE.get() - before;
    println!("everything at once: {live} B, of which the link knows {} B", peer.link.heap());
}
