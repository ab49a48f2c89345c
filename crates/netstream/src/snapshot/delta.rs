//! One byte string told by its difference from another: exclusive or, then runs.
//!
//! A delta is a sequence of pairs: how many bytes are unchanged, how many follow that are changed (both as numbers in
//! 7-bit groups), and these, each as the exclusive or of old and new. What lies beyond the end of the old string counts
//! as changed from 0. The length of the new string is told by whoever carries the delta.

use crate::session::wire::{Reader, write_varint};

/// Unchanged bytes that are not worth a new pair: two numbers take at least two bytes.
const SHORT_RUN: usize = 2;

/// Appends to `out` how `new` differs from `base`. Never longer than `new` by more than 8 bytes.
pub fn encode(base: &[u8], new: &[u8], out: &mut Vec<u8>) {
    let difference = |at: usize| new[at] ^ base.get(at).copied().unwrap_or(0);
    let mut at = 0;
    while at < new.len() {
        let same = (at..new.len()).take_while(|&at| difference(at) == 0).count();
        let start = at + same;
        if start == new.len() {
            // What is not told is unchanged.
            return;
        }
        let mut end = start + 1;
        let mut quiet = 0;
        while end + quiet < new.len() && quiet <= SHORT_RUN {
            if difference(end + quiet) == 0 {
                quiet += 1;
            } else {
                end += quiet + 1;
                quiet = 0;
            }
        }
        write_varint(out, same as u32);
        write_varint(out, (end - start) as u32);
        out.extend((start..end).map(difference));
        at = end;
    }
}

/// Why a delta was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed delta")]
pub struct MalformedDelta;

/// Puts the string of `length` bytes that `delta` makes of `base` into `out`, whose former content is forgotten. The
/// caller has bounded `length`.
pub fn decode(base: &[u8], delta: &[u8], length: usize, out: &mut Vec<u8>) -> Result<(), MalformedDelta> {
    out.clear();
    out.extend_from_slice(base.get(..length).unwrap_or(base));
    out.resize(length, 0);
    let mut reader = Reader(delta);
    let mut rest = out.as_mut_slice();
    while !reader.0.is_empty() {
        let same = reader.varint().ok_or(MalformedDelta)? as usize;
        let count = reader.varint().ok_or(MalformedDelta)? as usize;
        let changes = reader.bytes(count).ok_or(MalformedDelta)?;
        let (_, after) = std::mem::take(&mut rest).split_at_mut_checked(same).ok_or(MalformedDelta)?;
        let (changed, after) = after.split_at_mut_checked(count).ok_or(MalformedDelta)?;
        // A pair that changes nothing would let a peer make a delta of any length.
        if changes.is_empty() {
            return Err(MalformedDelta);
        }
        changed.iter_mut().zip(changes).for_each(|(byte, change)| *byte ^= change);
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delta(base: &[u8], new: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(base, new, &mut out);
        out
    }

    #[test]
    fn the_bytes_are_what_the_page_says() {
        assert_eq!(delta(b"same", b"same"), b"");
        assert_eq!(delta(b"0000000000", b"0000100002"), [4, 1, 1, 4, 1, 2]);
        assert_eq!(delta(b"0000000000", b"0000100200"), [4, 4, 1, 0, 0, 2]);
        assert_eq!(delta(b"abc", b"a"), b"");
        assert_eq!(delta(b"a", b"ab\0"), [1, 1, b'b']);
        let mut out = Vec::new();
        decode(b"abc", b"", 1, &mut out).unwrap();
        assert_eq!(out, b"a");
    }

    #[test]
    fn a_delta_that_reaches_beyond_the_end_or_says_nothing_is_refused() {
        let mut out = Vec::new();
        for bad in [&[0, 5, 1, 1][..], &[9, 1, 1], &[0, 0], &[0x80], &[0, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1]] {
            assert_eq!(decode(b"12345678", bad, 8, &mut out), Err(MalformedDelta), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_string_survives_against_every_base(
            base in proptest::collection::vec(0u8..4, 0..200),
            new in proptest::collection::vec(0u8..4, 0..200),
        ) {
            let delta = delta(&base, &new);
            let mut out = vec![7; 3];
            prop_assert_eq!(decode(&base, &delta, new.len(), &mut out), Ok(()));
            prop_assert!(delta.len() <= new.len() + 8);
            prop_assert_eq!(out, new);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(
            base in proptest::collection::vec(any::<u8>(), 0..50),
            delta in proptest::collection::vec(any::<u8>(), 0..50),
            length in 0usize..100,
        ) {
            let mut out = Vec::new();
            if decode(&base, &delta, length, &mut out).is_ok() {
                prop_assert_eq!(out.len(), length);
            }
        }
    }
}
