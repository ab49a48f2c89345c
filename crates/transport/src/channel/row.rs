//! Bytes that wait for their departure, some of them where the application has them.

use std::collections::VecDeque;

use super::memory::{append_ring, copy_out};
use super::short_queue::ShortQueue;
use crate::SharedBytes;
use crate::look::Look;

/// What is shorter is copied: that costs no more than to keep count of who shares it.
pub(super) const LEAST_SHARED: usize = 512;

/// A row of bytes, to which is added at its end and from which is taken at its front.
#[derive(Debug, Default)]
pub(super) struct Row {
    length: usize,
    /// Those that were copied.
    ring: VecDeque<u8>,
    /// The others.
    parts: ShortQueue<Part>,
    /// The sum of `before` over all parts.
    before: usize,
    /// The bytes that the parts keep, whether they are still in the row or not.
    kept: usize,
}

/// Bytes that are not in the ring.
#[derive(Debug)]
struct Part {
    /// How many bytes of the ring lie between the part before, or the front of the row, and this one.
    before: usize,
    bytes: SharedBytes,
    /// What of `bytes` is still in the row, to its end.
    from: usize,
}

impl Row {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Appends copies. The row's memory grows by doubling and not beyond `most`, which its content keeps within.
    pub(super) fn push(&mut self, head: &[u8], bytes: &[u8], most: usize) {
        self.length += head.len() + bytes.len();
        let most = most.saturating_sub(self.kept);
        append_ring(&mut self.ring, head, bytes, most);
    }

    /// The same, without a copy of `bytes` if there are many.
    pub(super) fn push_shared(&mut self, head: &[u8], bytes: &SharedBytes, most: usize) {
        let to = bytes.len();
        if to < LEAST_SHARED {
            return self.push(head, bytes, most);
        }
        self.push(head, &[], most);
        self.length += to;
        // What an earlier, fuller ring has left must not add to what is kept now.
        let room = most.saturating_sub(self.kept + to);
        if self.ring.capacity() > room {
            self.ring.shrink_to(room);
        }
        let before = self.ring.len() - self.before;
        self.before += before;
        self.kept += to;
        self.parts.push_back(Part { before, bytes: bytes.clone(), from: 0 });
    }

    /// Copies the bytes from `start` on into all of `into`. They are there.
    #[inline]
    pub(super) fn copy_out(&self, start: usize, into: &mut [u8]) {
        if self.parts.is_empty() {
            copy_out(&self.ring, start, into);
        } else {
            self.copy_out_parts(start, into);
        }
    }

    fn copy_out_parts(&self, mut start: usize, mut into: &mut [u8]) {
        // Bytes of the ring before those that `start` is counted from.
        let mut passed = 0;
        for Part { before, bytes, from } in self.parts.iter() {
            let to = bytes.len();
            let (now, rest) = into.split_at_mut(before.saturating_sub(start).min(into.len()));
            copy_out(&self.ring, passed + start, now);
            (start, into, passed) = (start.saturating_sub(*before), rest, passed + before);
            let left = (to - from).saturating_sub(start);
            let (now, rest) = into.split_at_mut(left.min(into.len()));
            match bytes.get(from + start..from + start + now.len()) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
            (start, into) = (start.saturating_sub(to - from), rest);
            if into.is_empty() {
                return;
            }
        }
        copy_out(&self.ring, passed + start, into);
    }

    /// Forgets the first `count` bytes. They are there.
    pub(super) fn drop_front(&mut self, mut count: usize) {
        self.length -= count;
        let mut copied = 0;
        while count > 0
            && let Some(part) = self.parts.front_mut()
        {
            let to = part.bytes.len();
            let passed = part.before.min(count);
            let taken = (to - part.from).min(count - passed);
            part.before -= passed;
            part.from += taken;
            self.before -= passed;
            copied += passed;
            count -= passed + taken;
            if part.from == to {
                self.kept -= to;
                self.parts.pop_front();
            }
        }
        self.ring.drain(..copied + count);
    }

    /// See [`Link::look_far`](super::Link::look_far).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        look.at(&self.length);
        look.at(&self.before);
    }

    /// Gives memory back that is not in use.
    pub(super) fn trim(&mut self) {
        self.ring.shrink_to_fit();
        self.parts.trim();
    }

    /// The most that [`heap`](Self::heap) can be, where bytes that are kept count until the last of them is dropped.
    pub(super) fn heap_cap(cap: usize) -> usize {
        cap + ShortQueue::<Part>::heap_cap(cap / LEAST_SHARED + 1)
    }

    /// Bytes of heap in use, or kept by this row from being given back.
    pub(super) fn heap(&self) -> usize {
        self.ring.capacity() + self.kept + self.parts.heap()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Random, SeededRandom};

    const CAP: usize = 1 << 16;

    #[test]
    fn a_row_is_the_same_whether_its_bytes_are_copied_or_shared() {
        for seed in 0..500 {
            let mut random = SeededRandom::new(seed);
            let (mut row, mut model) = (Row::default(), Vec::new());
            for step in 0..200 {
                let head = vec![step as u8; random.below(4) as usize];
                let most = if random.chance(0.3) { 4 * LEAST_SHARED } else { 100 };
                let bytes: Vec<u8> = (0..random.below(most as u64)).map(|at| (at * 7 + step) as u8).collect();
                if model.len() + head.len() + bytes.len() <= CAP {
                    model.extend([&head[..], &bytes].concat());
                    match random.chance(0.5) {
                        true => row.push(&head, &bytes, CAP),
                        false => row.push_shared(&head, &bytes.into(), CAP),
                    }
                }
                // Of the first message some may be gone already, and be kept.
                assert!(row.heap() <= Row::heap_cap(CAP) + 4 * LEAST_SHARED, "seed {seed}");
                let start = random.below(model.len() as u64 + 1) as usize;
                let mut piece = vec![0; random.below((model.len() - start) as u64 + 1) as usize];
                row.copy_out(start, &mut piece);
                assert_eq!(piece, model[start..start + piece.len()], "seed {seed}");
                if random.chance(0.7) {
                    let count = random.below(model.len() as u64 + 1) as usize;
                    row.drop_front(count);
                    model.drain(..count);
                }
                assert_eq!(row.len(), model.len(), "seed {seed}");
            }
            row.drop_front(model.len());
            row.trim();
            assert_eq!(row.heap(), 0);
        }
    }

    #[test]
    fn long_bytes_stay_where_they_are_until_they_have_left() {
        let owner: Arc<Box<[u8]>> = Arc::new(Box::new([1; LEAST_SHARED]));
        let bytes = SharedBytes::new(Lent(Arc::clone(&owner)));
        let mut row = Row::default();
        row.push_shared(&[9], &bytes, CAP);
        row.push_shared(&[9], &bytes, CAP);
        drop(bytes);
        row.drop_front(2 * LEAST_SHARED + 1);
        assert_eq!(Arc::strong_count(&owner), 2);
        row.drop_front(1);
        assert_eq!(Arc::strong_count(&owner), 1);
        let short = SharedBytes::new(Lent(Arc::new(Box::new([1; LEAST_SHARED - 1]))));
        row.push_shared(&[], &short, CAP);
        assert_eq!(row.kept, 0, "copied");
    }

    struct Lent(Arc<Box<[u8]>>);

    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn an_owner_that_comes_to_show_less_sends_zeros() {
        struct Shrinking(AtomicUsize);
        impl AsRef<[u8]> for Shrinking {
            fn as_ref(&self) -> &[u8] {
                &[1; LEAST_SHARED][..self.0.swap(10, Ordering::Relaxed)]
            }
        }
        let mut row = Row::default();
        row.push_shared(&[], &SharedBytes::new(Shrinking(LEAST_SHARED.into())), CAP);
        assert_eq!(row.len(), LEAST_SHARED);
        let mut out = [9; LEAST_SHARED];
        row.copy_out(0, &mut out);
        assert_eq!(out, [0; LEAST_SHARED]);
    }
}
