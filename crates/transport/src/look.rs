//! Looking at memory before it is needed.
//!
//! A server has more connections than fit in the processor's caches. What it looks at for many of them at once is fetched
//! side by side; what it comes upon when it is needed has to be waited for, one thing after another.

use crate::Mono;

/// Looks at fields, each of which fetches the line of 64 bytes that it is in.
pub(crate) trait Look {
    fn at(&mut self, field: &impl Word);
}

/// What can be looked at.
pub(crate) trait Word {
    fn word(&self) -> u64;
}

/// What was looked at, as something that has to be computed.
#[derive(Debug, Default)]
pub(crate) struct Glance(u64);

impl Glance {
    /// The compiler must not leave any of it out.
    pub(crate) fn end(self) {
        std::hint::black_box(self.0);
    }
}

impl Look for Glance {
    #[inline(always)]
    fn at(&mut self, field: &impl Word) {
        self.0 ^= field.word();
    }
}

macro_rules! words {
    ($($integer:ty),*) => {
        $(impl Word for $integer {
            #[inline(always)]
            fn word(&self) -> u64 {
                u64::from(*self)
            }
        })*
    };
}

words!(bool, u16, u32, u64);

impl Word for usize {
    #[inline(always)]
    fn word(&self) -> u64 {
        *self as u64
    }
}

impl Word for Mono {
    #[inline(always)]
    fn word(&self) -> u64 {
        self.as_nanos()
    }
}

impl<T> Word for Option<T> {
    #[inline(always)]
    fn word(&self) -> u64 {
        u64::from(self.is_some())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ops::Range;

    use super::{Look, Word};

    /// Where was looked.
    #[derive(Default)]
    pub(crate) struct Places(Vec<usize>);

    impl Look for Places {
        fn at(&mut self, field: &impl Word) {
            self.0.push(std::ptr::from_ref(field).addr());
        }
    }

    impl Places {
        /// The bytes between two neighbours of these places within `object`, where more than 64: lines that nobody looked
        /// at. The beginning of the object counts as looked at.
        pub(crate) fn gaps<T: ?Sized>(&self, object: &T) -> Vec<Range<usize>> {
            let start = std::ptr::from_ref(object).addr();
            let within = start..start + size_of_val(object);
            let mut places: Vec<_> =
                self.0.iter().filter(|place| within.contains(place)).map(|at| at - start).collect();
            places.push(0);
            places.sort_unstable();
            places.windows(2).filter(|pair| pair[1] - pair[0] > 64).map(|pair| pair[0]..pair[1]).collect()
        }
    }
}
