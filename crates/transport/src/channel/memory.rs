//! How byte buffers grow: never far beyond what they hold, never beyond their cap.

use std::collections::VecDeque;

use crate::copy;

/// Buffers that a peer fills grow by no more than this at once while they are small: a packet never makes more memory
/// grow than a small multiple of what arrived (`security.md` T-D2).
const STEP: usize = 2048;

/// Appends what a peer sent. The buffer's memory grows by doubling up to [`STEP`], then by steps, then by halves, and
/// not beyond `most`, which its content keeps within.
pub(super) fn append(buffer: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let (length, capacity) = (buffer.len(), buffer.capacity());
    if capacity - length < bytes.len() {
        let step = if capacity < 16 * STEP { capacity.min(STEP) } else { capacity / 2 };
        let target = (capacity + step).min(most).max(length + bytes.len());
        buffer.reserve_exact(target - length);
    }
    copy::append(buffer, bytes);
}

/// Appends what the application sends, behind a few bytes of our own. The ring's memory grows by doubling and not beyond
/// `most`, which its content keeps within.
pub(super) fn append_ring(ring: &mut VecDeque<u8>, head: &[u8], bytes: &[u8], most: usize) {
    let (length, capacity) = (ring.len(), ring.capacity());
    let more = head.len() + bytes.len();
    if capacity - length < more {
        let target = (2 * capacity).min(most).max(length + more);
        ring.reserve_exact(target - length);
    }
    head.iter().for_each(|byte| ring.push_back(*byte));
    copy::pieces(bytes, |piece| ring.extend(piece));
}

/// Copies the bytes from `start` on into all of `into`. They are there.
pub(super) fn copy_out(ring: &VecDeque<u8>, start: usize, into: &mut [u8]) {
    let (front, back) = ring.as_slices();
    let in_front = front.get(start..).unwrap_or_default();
    let split = in_front.len().min(into.len());
    let (first, second) = into.split_at_mut(split);
    first.copy_from_slice(&in_front[..split]);
    if !second.is_empty() {
        let from = start.saturating_sub(front.len());
        second.copy_from_slice(&back[from..from + second.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_stay_within_their_cap_and_grow_in_small_steps() {
        let (mut buffer, mut ring) = (Vec::new(), VecDeque::new());
        for _ in 0..1000 {
            let before = buffer.capacity();
            append(&mut buffer, &[1; 100], 100_000);
            append_ring(&mut ring, &[1; 2], &[1; 98], 100_000);
            assert!(buffer.capacity() - before <= STEP.max(before / 2));
        }
        assert_eq!((buffer.capacity(), ring.capacity()), (100_000, 100_000));
    }

    #[test]
    fn bytes_are_copied_across_the_seam_of_a_ring() {
        let mut ring = VecDeque::with_capacity(10);
        append_ring(&mut ring, &[], &[0, 1, 2, 3, 4, 5, 6, 7], 10);
        ring.drain(..6);
        append_ring(&mut ring, &[8], &[9, 10, 11, 12], 10);
        assert!(!ring.as_slices().1.is_empty(), "there is a seam");
        for start in 0..ring.len() {
            for end in start..=ring.len() {
                let mut copy = vec![0; end - start];
                copy_out(&ring, start, &mut copy);
                assert!(copy.iter().copied().eq(6 + start as u8..6 + end as u8));
            }
        }
    }
}
