//! Messages that say who sent them, where, and in which place: what arrives can be judged by itself.

use std::collections::BTreeSet;

use netstream::transport::channel::ChannelKind;
use netstream::transport::{Random, SeededRandom};

use crate::invariant::Invariant;
use crate::plan::CHANNELS;

/// What each channel of a simulated game promises, in the order of their numbers.
pub(crate) const KINDS: [ChannelKind; CHANNELS] = [
    ChannelKind::Unreliable,
    ChannelKind::ReliableOrdered,
    ChannelKind::Unreliable,
    ChannelKind::UnreliableSequenced,
    ChannelKind::ReliableUnordered,
];

/// The bytes of a message that name it. No message is shorter.
pub(crate) const NAME: usize = 9;

/// Which message: the `number`th that `stream` sent on `channel`. A stream is one direction of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageName {
    /// Which direction of which connection.
    pub(crate) stream: u32,
    /// On which channel.
    pub(crate) channel: u8,
    /// From 0.
    pub(crate) number: u32,
}

impl MessageName {
    /// Writes the one and only message of this name.
    pub(crate) fn write(self, largest: usize, buf: &mut Vec<u8>) {
        buf.clear();
        buf.extend_from_slice(&self.stream.to_le_bytes());
        buf.push(self.channel);
        buf.extend_from_slice(&self.number.to_le_bytes());
        let seed = u64::from(self.stream) << 40 ^ u64::from(self.channel) << 32 ^ u64::from(self.number);
        let mut filling = SeededRandom::new(seed);
        // Most messages are small, some fill a packet, few need many.
        let size = match filling.below(20) {
            0 => largest,
            1..4 => largest.min(1150),
            _ => largest.min(64),
        };
        let size = (filling.below(size as u64 + 1) as usize).max(NAME);
        // Each place of each message has a word of its own: what is moved or mixed is seen, and it is quickly written.
        let first = filling.u64() | 1;
        buf.resize(NAME + (size - NAME).next_multiple_of(8), 0);
        for (place, word) in (0u64..).zip(buf[NAME..].chunks_exact_mut(8)) {
            word.copy_from_slice(&first.wrapping_mul(2 * place + 1).to_le_bytes());
        }
        buf.truncate(size);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (stream, rest) = bytes.split_first_chunk::<4>()?;
        let (channel, rest) = rest.split_first()?;
        let number = rest.first_chunk::<4>()?;
        let (stream, number) = (u32::from_le_bytes(*stream), u32::from_le_bytes(*number));
        Some(Self { stream, channel: *channel, number })
    }
}

/// What one end has sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent([u32; CHANNELS]);

impl Sent {
    /// The name of the next message on `channel`.
    pub(crate) fn next(&self, stream: u32, channel: u8) -> MessageName {
        MessageName { stream, channel, number: self.0[usize::from(channel)] }
    }

    /// The next message was taken by the transport.
    pub(crate) fn took(&mut self, channel: u8) {
        self.0[usize::from(channel)] += 1;
    }
}

/// What one end has received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    channels: [Seen; CHANNELS],
    scratch: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// All below have arrived (reliable), or may not arrive any more (sequenced).
    next: u32,
    /// Those that arrived out of order.
    ahead: BTreeSet<u32>,
}

impl Received {
    /// Judges a message that arrived on `channel` and must come from `stream`; `largest` by channel.
    pub(crate) fn check(
        &mut self,
        stream: u32,
        channel: u8,
        bytes: &[u8],
        largest: &[usize; CHANNELS],
    ) -> Result<MessageName, (Invariant, String)> {
        let name = MessageName::read(bytes)
            .ok_or_else(|| (Invariant::I24, format!("{} bytes that nobody sent", bytes.len())))?;
        if name.stream != stream {
            return Err((Invariant::I21, format!("{name:?} arrived at the end of stream {stream}")));
        }
        if name.channel != channel {
            return Err((Invariant::I22, format!("{name:?} arrived on channel {channel}")));
        }
        let place = usize::from(channel);
        name.write(largest[place], &mut self.scratch);
        if self.scratch != bytes {
            return Err((Invariant::I24, format!("{name:?} arrived with other bytes than it left with")));
        }
        let Seen { next, ahead } = &mut self.channels[place];
        let number = name.number;
        match KINDS[place] {
            ChannelKind::ReliableOrdered if number != *next => {
                Err((Invariant::I19, format!("{name:?} arrived, number {next} was to come")))
            }
            ChannelKind::ReliableOrdered => {
                *next += 1;
                Ok(name)
            }
            ChannelKind::UnreliableSequenced if number < *next => {
                Err((Invariant::I23, format!("{name:?} arrived after number {}", *next - 1)))
            }
            ChannelKind::UnreliableSequenced => {
                *next = number + 1;
                Ok(name)
            }
            ChannelKind::Unreliable | ChannelKind::ReliableUnordered => {
                let rule = if KINDS[place].is_reliable() { Invariant::I19 } else { Invariant::I23 };
                if number < *next || !ahead.insert(number) {
                    return Err((rule, format!("{name:?} arrived twice")));
                }
                while ahead.remove(next) {
                    *next += 1;
                }
                Ok(name)
            }
        }
    }

    /// How many messages of a reliable ordered channel have arrived.
    pub(crate) fn arrived(&self, channel: u8) -> u32 {
        self.channels[usize::from(channel)].next
    }

    /// What of `sent` is reliable and has not arrived.
    pub(crate) fn missing(&self, sent: &Sent) -> Option<String> {
        for (channel, kind) in KINDS.iter().enumerate().filter(|(_, kind)| kind.is_reliable()) {
            let (sent, next) = (sent.0[channel], self.channels[channel].next);
            if next < sent {
                return Some(format!("{kind:?}: {sent} sent, number {next} has not arrived"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: [usize; CHANNELS] = [64; CHANNELS];

    fn message(stream: u32, channel: u8, number: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        MessageName { stream, channel, number }.write(64, &mut bytes);
        bytes
    }

    fn verdict(received: &mut Received, channel: u8, bytes: &[u8]) -> Result<(), Invariant> {
        received.check(7, channel, bytes, &LARGEST).map(drop).map_err(|(rule, _)| rule)
    }

    #[test]
    fn each_kind_of_channel_is_judged_by_its_promise() {
        let mut received = Received::default();
        assert_eq!(verdict(&mut received, 0, &message(7, 0, 5)), Ok(()));
        assert_eq!(verdict(&mut received, 0, &message(7, 0, 2)), Ok(()));
        assert_eq!(verdict(&mut received, 0, &message(7, 0, 5)), Err(Invariant::I23));
        assert_eq!(verdict(&mut received, 1, &message(7, 1, 0)), Ok(()));
        assert_eq!(verdict(&mut received, 1, &message(7, 1, 2)), Err(Invariant::I19));
        assert_eq!(verdict(&mut received, 3, &message(7, 3, 5)), Ok(()));
        assert_eq!(verdict(&mut received, 3, &message(7, 3, 4)), Err(Invariant::I23));
        assert_eq!(verdict(&mut received, 4, &message(7, 4, 1)), Ok(()));
        assert_eq!(verdict(&mut received, 4, &message(7, 4, 0)), Ok(()));
        assert_eq!(verdict(&mut received, 4, &message(7, 4, 1)), Err(Invariant::I19));
    }

    #[test]
    fn strangers_and_damage_are_seen() {
        let mut received = Received::default();
        assert_eq!(verdict(&mut received, 0, &message(8, 0, 0)), Err(Invariant::I21));
        assert_eq!(verdict(&mut received, 0, &message(7, 1, 0)), Err(Invariant::I22));
        let mut damaged = message(7, 0, 0);
        damaged.push(0);
        assert_eq!(verdict(&mut received, 0, &damaged), Err(Invariant::I24));
        assert_eq!(verdict(&mut received, 0, b"short"), Err(Invariant::I24));
    }

    #[test]
    fn what_has_not_arrived_is_named() {
        let (mut sent, mut received) = (Sent::default(), Received::default());
        sent.took(0);
        assert_eq!(received.missing(&sent), None);
        sent.took(1);
        assert!(received.missing(&sent).is_some());
        verdict(&mut received, 1, &message(7, 1, 0)).unwrap();
        assert_eq!(received.missing(&sent), None);
    }
}
