//! Queues that mostly hold one thing.

use super::rare_queue::RareQueue;

/// A queue whose first element lies in it. What lies elsewhere has to be fetched from there, and a server that looks at a
/// thousand queues one after another, each with one thing in it, has none of that in its processor's caches.
#[derive(Debug)]
pub(super) struct ShortQueue<T> {
    first: Option<T>,
    /// How many are behind it, so that where there are none that is known here.
    behind: u32,
    /// Those behind it. Its memory stays for the next ones once there were any.
    more: RareQueue<T>,
}

impl<T> ShortQueue<T> {
    pub(super) const fn new() -> Self {
        Self { first: None, behind: 0, more: RareQueue::new() }
    }

    #[inline]
    pub(super) fn push_back(&mut self, element: T) {
        if self.first.is_none() {
            self.first = Some(element);
        } else {
            self.more.push_back(element);
            self.behind += 1;
        }
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<T> {
        let next = if self.behind > 0 {
            self.behind -= 1;
            self.more.pop_front()
        } else {
            None
        };
        std::mem::replace(&mut self.first, next)
    }

    #[inline]
    pub(super) const fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    #[inline]
    pub(super) const fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut()
    }

    #[inline]
    pub(super) fn back(&self) -> Option<&T> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut T> {
        self.get_mut(self.len().checked_sub(1)?)
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        match index.checked_sub(1) {
            None => self.first.as_ref(),
            Some(index) if index < self.behind as usize => self.more.get(index),
            Some(_) => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index.checked_sub(1) {
            None => self.first.as_mut(),
            Some(index) if index < self.behind as usize => self.more.get_mut(index),
            Some(_) => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain((self.behind > 0).then(|| self.more.iter()).into_iter().flatten())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first.iter_mut().chain((self.behind > 0).then(|| self.more.iter_mut()).into_iter().flatten())
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.behind as usize
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Gives memory back that is not in use.
    pub(super) fn trim(&mut self) {
        self.more.trim();
    }

    /// The most that [`heap`](Self::heap) can be with so many elements at once.
    pub(super) fn heap_cap(elements: usize) -> usize {
        RareQueue::<T>::heap_cap(elements)
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.more.heap()
    }
}

impl<T> Default for ShortQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{Random, SeededRandom};

    #[test]
    fn it_is_a_queue() {
        let mut random = SeededRandom::new(1);
        let (mut queue, mut model) = (ShortQueue::default(), VecDeque::new());
        for step in 0..10_000_u32 {
            // Empty again and again, and now and then long.
            if random.chance(if step % 1000 < 900 { 0.4 } else { 0.8 }) {
                queue.push_back(step);
                model.push_back(step);
            } else {
                assert_eq!(queue.pop_front(), model.pop_front());
            }
            if let (Some(one), Some(other)) = (queue.front_mut(), model.front_mut()) {
                *one += 1;
                *other += 1;
            }
            assert_eq!((queue.front(), queue.len(), queue.is_empty()), (model.front(), model.len(), model.is_empty()));
            assert!(queue.iter().eq(&model) && queue.iter_mut().eq(&mut model));
            let index = random.below(model.len() as u64 + 1) as usize;
            assert_eq!(queue.get(index), model.get(index));
            assert_eq!(queue.get_mut(index), model.get_mut(index));
            assert_eq!(queue.back(), model.back());
            assert_eq!(queue.back_mut(), model.back_mut());
            assert!(queue.heap() <= ShortQueue::<u32>::heap_cap(model.len().max(256)));
        }
    }

    #[test]
    fn one_thing_at_a_time_takes_no_memory_elsewhere() {
        let mut queue = ShortQueue::default();
        for step in 0..10 {
            queue.push_back(step);
            assert_eq!((queue.heap(), queue.pop_front()), (0, Some(step)));
        }
        queue.push_back(1);
        queue.push_back(2);
        queue.trim();
        assert_eq!((queue.pop_front(), queue.pop_front()), (Some(1), Some(2)));
        assert!(queue.heap() > 0, "kept for the next ones");
        queue.trim();
        assert_eq!(queue.heap(), 0);
    }
}
