//! A queue of whole messages in two flat arrays, so that a steady flow allocates nothing.

use netstream_driver::transport::copy::append;

/// A first-in, first-out queue of byte messages.
#[derive(Clone, Debug, Default)]
pub struct MessageQueue {
    bytes: Vec<u8>,
    /// Where each message but the first begins in `bytes`. A queue of one message, as most are, has memory in one place.
    starts: Vec<usize>,
    /// How many messages are in `bytes`.
    count: usize,
    /// How many of them are consumed.
    head: usize,
}

impl MessageQueue {
    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.count - self.head
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.head == self.count
    }

    /// Bytes that wait, without any overhead.
    pub fn byte_len(&self) -> usize {
        self.bytes.len() - self.start_of(self.head)
    }

    /// Appends the concatenation of `parts` as one message.
    pub fn push_parts(&mut self, parts: &[&[u8]]) {
        if self.is_empty() {
            self.clear();
        } else if self.head > 64 && self.head * 2 > self.count {
            self.compact();
        }
        self.note(self.bytes.len());
        for part in parts {
            append(&mut self.bytes, part);
        }
    }

    /// Appends one message.
    pub fn push(&mut self, message: &[u8]) {
        self.push_parts(&[message]);
    }

    /// Appends the message that `write` writes; takes back what was written if it fails.
    pub(crate) fn try_push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<usize, E> {
        if self.is_empty() {
            self.clear();
        }
        let before = self.bytes.len();
        match write(&mut self.bytes) {
            Ok(()) => {
                self.note(before);
                Ok(self.bytes.len() - before)
            }
            Err(error) => {
                self.bytes.truncate(before);
                Err(error)
            }
        }
    }

    /// Takes back the newest message.
    pub(crate) fn pop_back(&mut self) {
        if !self.is_empty() {
            self.count -= 1;
            self.bytes.truncate(self.start_of(self.count));
            self.starts.pop();
        }
    }

    /// The newest message.
    pub(crate) fn back(&self) -> Option<&[u8]> {
        if self.is_empty() {
            return None;
        }
        self.bytes.get(self.start_of(self.count - 1)..)
    }

    /// The oldest message.
    pub fn front(&self) -> Option<&[u8]> {
        self.iter().next()
    }

    /// The only message, with its memory; whoever takes it calls [`pop_front`](Self::pop_front) next.
    pub(crate) fn only(&mut self) -> Option<&mut Vec<u8>> {
        (self.count == 1 && self.head == 0).then_some(&mut self.bytes)
    }

    /// Drops the oldest message.
    pub fn pop_front(&mut self) {
        if self.len() > 1 {
            self.head += 1;
        } else {
            self.clear();
        }
    }

    /// The messages that wait, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (self.head..self.count).map(|index| &self.bytes[self.start_of(index)..self.start_of(index + 1)])
    }

    /// Hands out the messages that wait, oldest first. What was handed out is gone from the queue; the rest stays.
    pub fn drain(&mut self) -> Drain<'_> {
        let start = self.start_of(self.head);
        Drain { bytes: &self.bytes, starts: &self.starts, count: self.count, head: &mut self.head, start }
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        (self.count, self.head) = (0, 0);
    }

    /// Moves everything to the end of `other`; a mere exchange of memory where that is empty.
    pub(crate) fn move_into(&mut self, other: &mut Self) {
        if other.is_empty() {
            other.clear();
            std::mem::swap(self, other);
        } else {
            for message in self.iter() {
                other.push(message);
            }
            self.clear();
        }
    }

    /// A message begins here.
    fn note(&mut self, start: usize) {
        if self.count > 0 {
            self.starts.push(start);
        }
        self.count += 1;
    }

    /// Where a message begins; of the one after the newest, where that ends.
    fn start_of(&self, index: usize) -> usize {
        match index.checked_sub(1) {
            None => 0,
            Some(before) => self.starts.get(before).copied().unwrap_or(self.bytes.len()),
        }
    }

    fn compact(&mut self) {
        let start = self.start_of(self.head);
        self.bytes.drain(..start);
        self.starts.drain(..self.head);
        for later in &mut self.starts {
            *later -= start;
        }
        self.count -= self.head;
        self.head = 0;
    }
}

/// The iterator of [`MessageQueue::drain`].
#[derive(Debug)]
pub struct Drain<'a> {
    bytes: &'a [u8],
    starts: &'a [usize],
    count: usize,
    head: &'a mut usize,
    start: usize,
}

impl<'a> Iterator for Drain<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if *self.head == self.count {
            return None;
        }
        let end = self.starts.get(*self.head).copied().unwrap_or(self.bytes.len());
        *self.head += 1;
        self.bytes.get(std::mem::replace(&mut self.start, end)..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &MessageQueue) -> Vec<Vec<u8>> {
        queue.iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn messages_leave_in_the_order_they_came_whatever_is_mixed() {
        let mut queue = MessageQueue::default();
        let mut model = std::collections::VecDeque::new();
        for step in 0u32..10_000 {
            if step % 7 < 4 {
                let message = step.to_le_bytes()[..(step % 5) as usize % 4].to_vec();
                queue.push(&message);
                model.push_back(message);
            } else {
                assert_eq!(queue.front().map(<[u8]>::to_vec), model.front().cloned());
                queue.pop_front();
                model.pop_front();
            }
            assert_eq!(queue.len(), model.len());
            assert_eq!(queue.byte_len(), model.iter().map(Vec::len).sum::<usize>());
        }
        assert_eq!(all(&queue), Vec::from(model));
    }

    #[test]
    fn a_drain_that_stops_early_leaves_the_rest() {
        let mut queue = MessageQueue::default();
        for message in [&b"a"[..], b"bb", b"", b"ccc"] {
            queue.push(message);
        }
        assert_eq!(queue.drain().take(2).collect::<Vec<_>>(), [&b"a"[..], b"bb"]);
        assert_eq!(all(&queue), [b"".to_vec(), b"ccc".to_vec()]);
        queue.pop_back();
        assert_eq!(all(&queue), [b"".to_vec()]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let mut queue = MessageQueue::default();
        queue.push(b"kept");
        let failed = queue.try_push_with(|bytes| {
            bytes.extend_from_slice(b"half");
            Err(())
        });
        assert_eq!(failed, Err(()));
        assert_eq!(all(&queue), [b"kept".to_vec()]);
    }

    #[test]
    fn moving_appends_behind_what_waits() {
        let (mut from, mut to) = (MessageQueue::default(), MessageQueue::default());
        to.push(b"1");
        from.push(b"2");
        from.move_into(&mut to);
        from.push(b"3");
        from.move_into(&mut to);
        assert_eq!(all(&to), [b"1".to_vec(), b"2".to_vec(), b"3".to_vec()]);
        assert!(from.is_empty());
    }
}
