//! FZ9: two correct links and a network that does what the script says with every packet: nothing that is reliable is
//! lost, doubled, changed or out of order, and nobody breaks the protocol.
#![no_main]

use std::collections::VecDeque;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::Script;
use netstream_fuzz::channels::{End, STARTS, message};
use netstream_transport::channel::{ChannelKind, Side};
use netstream_transport::{ChannelId, Mono};

const CHANNELS: usize = 7;
const KINDS: [ChannelKind; CHANNELS] = [
    ChannelKind::Unreliable,
    ChannelKind::ReliableOrdered,
    ChannelKind::Unreliable,
    ChannelKind::UnreliableSequenced,
    ChannelKind::UnreliableSequenced,
    ChannelKind::ReliableUnordered,
    ChannelKind::ReliableOrdered,
];

struct World {
    ends: [End; 2],
    now: Mono,
    flying: [VecDeque<Vec<u8>>; 2],
    sent: [[Vec<Vec<u8>>; CHANNELS]; 2],
    got: [[Vec<u32>; CHANNELS]; 2],
}

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let first = STARTS[usize::from(script.u8()) % STARTS.len()];
    let ends = [End::new(Side::Server, first, Mono::ZERO), End::new(Side::Client, first, Mono::ZERO)];
    let mut world =
        World { ends, now: Mono::ZERO, flying: Default::default(), sent: Default::default(), got: Default::default() };
    for _ in 0..300 {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
    }
    world.heal();
});

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        let choice = script.u8();
        let end = usize::from(choice >> 7);
        match choice % 8 {
            0 | 1 => {
                let channel = usize::from(script.u8()) % CHANNELS;
                let length = 5 + usize::from(script.u16()) % if KINDS[channel].is_reliable() { 8000 } else { 6000 };
                let id = ChannelId(channel as u8);
                let length = length.min(self.ends[end].link.max_message(id).expect("declared"));
                let bytes = message(id, self.sent[end][channel].len() as u32, length);
                if self.ends[end].link.send(self.now, id, &bytes).is_ok() {
                    self.sent[end][channel].push(bytes);
                }
            }
            2 => self.transmit(end),
            3 | 4 => self.deliver(end, script.u8()),
            5 => {
                // Loses one, doubles one, or lets one overtake.
                let queue = &mut self.flying[end];
                let at = usize::from(script.u8()) % queue.len().max(1);
                match script.u8() % 3 {
                    0 => drop(queue.remove(at)),
                    1 => queue.extend(queue.get(at).cloned()),
                    _ => {
                        let taken = queue.remove(at);
                        queue.extend(taken);
                    }
                }
            }
            6 => {
                self.now = self.now + Duration::from_millis(script.u8().into());
                self.wake();
            }
            _ => match script.u8() % 3 {
                0 => self.ends[end].link.pause(),
                _ => self.resume(end),
            },
        }
    }

    fn wake(&mut self) {
        for end in 0..2 {
            let link = &mut self.ends[end].link;
            if link.poll_timeout().is_some_and(|at| at <= self.now) {
                link.handle_timeout(self.now);
            }
            while link.poll_event().is_some() {}
            self.ends[end].check();
        }
    }

    fn transmit(&mut self, end: usize) {
        let mut buf = [0; 1400];
        while let Some(length) = self.ends[end].link.poll_packet(self.now, &mut buf) {
            self.flying[1 - end].push_back(buf[..length].to_vec());
            assert!(self.flying[1 - end].len() < 100_000, "it never stops");
        }
    }

    fn deliver(&mut self, end: usize, count: u8) {
        for _ in 0..=count {
            let Some(packet) = self.flying[end].pop_front() else { break };
            let (sent, got) = (&self.sent[1 - end], &mut self.got[end]);
            let taken = self.ends[end].link.handle_packet(self.now, &packet, &mut |channel, bytes| {
                take(sent, got, channel, bytes);
            });
            taken.expect("the peer is a correct one");
        }
        self.ends[end].check();
    }

    fn resume(&mut self, end: usize) {
        let (sent, got) = (&self.sent[1 - end], &mut self.got[end]);
        let resumed = self.ends[end].link.resume(&mut |channel, bytes| take(sent, got, channel, bytes));
        resumed.expect("the peer is a correct one");
    }

    fn heal(&mut self) {
        for end in 0..2 {
            self.resume(end);
        }
        for _ in 0..3000 {
            self.now = self.now + Duration::from_millis(10);
            self.wake();
            for end in 0..2 {
                self.transmit(end);
            }
            for end in 0..2 {
                while !self.flying[end].is_empty() {
                    self.deliver(end, 255);
                }
            }
            if self.ends.iter().all(|end| end.link.is_idle()) {
                break;
            }
        }
        for end in 0..2 {
            for (channel, kind) in KINDS.iter().enumerate().filter(|(_, kind)| kind.is_reliable()) {
                let (sent, got) = (&self.sent[1 - end][channel], &mut self.got[end][channel]);
                got.sort_unstable();
                assert!(got.iter().copied().eq(0..sent.len() as u32), "{kind:?}: {} of {}", got.len(), sent.len());
            }
        }
    }
}

/// One message that arrived, against all that were sent.
fn take(sent: &[Vec<Vec<u8>>; CHANNELS], got: &mut [Vec<u32>; CHANNELS], channel: ChannelId, bytes: &[u8]) {
    let at = usize::from(channel.0);
    let number = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    assert_eq!(sent[at].get(number as usize).map(Vec::as_slice), Some(bytes), "not what was sent");
    match KINDS[at] {
        ChannelKind::ReliableOrdered => assert_eq!(got[at].len() as u32, number, "out of order"),
        ChannelKind::UnreliableSequenced => assert!(got[at].last().is_none_or(|last| *last < number), "backwards"),
        _ => assert!(!got[at].contains(&number), "twice"),
    }
    got[at].push(number);
}
