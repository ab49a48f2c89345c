//! Small sets of channels, looked at for every packet.

use super::super::ChannelId;
use crate::look::Look;

/// A set of channels.
#[derive(Clone, Debug, Default)]
pub(super) struct Mask([u64; 4]);

impl Mask {
    /// See [`Link::look_to_send`](super::Link::look_to_send).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        look.at(&self.0[0]);
    }

    pub(super) fn has(&self, channel: ChannelId) -> bool {
        let (word, bit) = Self::place(channel);
        self.0[word] & bit != 0
    }

    pub(super) fn put(&mut self, channel: ChannelId, value: bool) {
        let (word, bit) = Self::place(channel);
        if value {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }

    /// What is here and not there.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// Calls `visit` with each channel, in order.
    #[inline]
    pub(super) fn each(&self, mut visit: impl FnMut(ChannelId)) {
        for (word, mut bits) in (0_u8..).zip(self.0) {
            while bits != 0 {
                visit(ChannelId(word * 64 + bits.trailing_zeros() as u8));
                bits &= bits - 1;
            }
        }
    }

    fn place(channel: ChannelId) -> (usize, u64) {
        (usize::from(channel.0 / 64), 1 << (channel.0 % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_holds_every_channel_once_and_gives_them_in_order() {
        let mut mask = Mask::default();
        for channel in (0..=255).rev().step_by(7) {
            mask.put(ChannelId(channel), true);
            mask.put(ChannelId(channel), true);
            assert!(mask.has(ChannelId(channel)));
        }
        let other = {
            let mut other = Mask::default();
            other.put(ChannelId(255), true);
            other
        };
        let rest = mask.without(&other);
        let mut expected: Vec<u8> = (0..=255).rev().step_by(7).skip(1).collect();
        expected.reverse();
        let mut order = Vec::new();
        rest.each(|channel| order.push(channel.0));
        assert_eq!(order, expected);
    }
}
