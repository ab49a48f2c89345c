//! Whose the datagrams of a batch are, asked before the first of them is taken in.

use std::collections::VecDeque;

/// No more datagrams than this are looked ahead at: what is fetched for the last must not push out what waits for the
/// first.
const MOST: usize = 64;

/// Answers of the table of addresses, by index of connection. Whoever uses one looks whether it is still right.
///
/// A table that is larger than the processor's caches answers after some hundred nanoseconds. Asked for a batch in a row
/// it answers all in little more than that.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// In the order in which their datagrams come.
    coming: VecDeque<u32>,
    /// Whose the last datagram was.
    last: Option<u32>,
}

impl Ahead {
    /// Notes the one that `find` finds, unless there are enough.
    #[inline]
    pub(super) fn note(&mut self, find: impl FnOnce() -> Option<u32>) {
        if self.coming.len() < MOST {
            self.coming.extend(find());
        }
    }

    pub(super) fn coming(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.coming.iter().copied()
    }

    /// The one that `is` says yes to, which sends several in a row or is next; `None` if nothing is known. Whoever was
    /// to come before has sent something else than a packet of a connection.
    #[inline]
    pub(super) fn find(&mut self, is: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some(last) = self.last
            && is(last)
        {
            return Some(last);
        }
        while let Some(index) = self.coming.pop_front() {
            if is(index) {
                self.last = Some(index);
                return Some(index);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_expected_is_found_and_who_was_not_is_for_the_table() {
        let mut ahead = Ahead::default();
        for index in [Some(1), None, Some(2), Some(3)] {
            ahead.note(|| index);
        }
        assert_eq!(ahead.coming().collect::<Vec<_>>(), [1, 2, 3]);
        let mut find = |wanted| ahead.find(|index| index == wanted);
        // The datagram of 1 was no packet of a connection; 2 sent two.
        assert_eq!((find(2), find(2), find(3)), (Some(2), Some(2), Some(3)));
        assert_eq!((find(1), find(4), find(3)), (None, None, Some(3)));
    }

    #[test]
    fn no_more_are_looked_up_ahead_than_fit() {
        let mut ahead = Ahead::default();
        let mut asked = 0;
        for _ in 0..10 * MOST {
            ahead.note(|| {
                asked += 1;
                Some(7)
            });
        }
        assert_eq!((asked, ahead.coming().count()), (MOST, MOST));
    }
}
