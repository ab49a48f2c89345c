//! Queues that almost always are empty.

use std::collections::VecDeque;
use std::ops::Range;

/// A queue that takes 8 bytes until there is something in it.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "most queues never have any, and there are many queues")]
pub(super) struct RareQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> RareQueue<T> {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    #[inline]
    pub(super) fn push_back(&mut self, element: T) {
        self.0.get_or_insert_default().push_back(element);
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut().and_then(|queue| queue.pop_front())
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.0.as_ref()?.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.as_mut()?.get_mut(index)
    }

    /// The elements at these places, which are there.
    pub(super) fn range(&self, places: Range<usize>) -> impl Iterator<Item = &T> {
        let queue = self.0.as_ref().filter(|_| !places.is_empty());
        queue.into_iter().flat_map(move |queue| queue.range(places.clone()))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flat_map(|queue| queue.iter_mut())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|queue| queue.iter())
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    /// Gives memory back that is not in use.
    pub(super) fn trim(&mut self) {
        self.0.take_if(|queue| queue.is_empty());
    }

    /// The most that [`heap`](Self::heap) can be with so many elements at once.
    pub(super) fn heap_cap(elements: usize) -> usize {
        size_of::<VecDeque<T>>() + elements.next_power_of_two().max(4) * size_of::<T>()
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| size_of::<VecDeque<T>>() + queue.capacity() * size_of::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_memory_elsewhere_only_while_it_is_in_use() {
        let mut queue = RareQueue::new();
        assert_eq!((queue.pop_front(), queue.len(), queue.heap()), (None, 0, 0));
        for element in 0..100 {
            queue.push_back(element);
        }
        assert!(queue.iter().copied().eq(0..100) && queue.heap() <= RareQueue::<i32>::heap_cap(100));
        queue.trim();
        assert_eq!((queue.len(), queue.pop_front()), (100, Some(0)));
        while queue.pop_front().is_some() {}
        assert!(queue.heap() > 0, "kept for the next ones");
        queue.trim();
        assert_eq!((queue.heap(), size_of_val(&queue)), (0, 8));
    }
}
