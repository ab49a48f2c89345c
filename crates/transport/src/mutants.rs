//! Bugs that can be switched on while a simulation runs, and looks inside that only a simulation takes.
//!
//! A simulator that finds nothing may be blind. Well-known bugs of other libraries are therefore kept behind
//! [`mutant`], at the very places where they would be; `netstream-sim ladder` switches on one after the other and says
//! how soon each is found. [`audit`] is for rules that cannot be seen from outside.
//!
//! Without the feature `mutants`, which nothing but the simulator asks for, all of this is constants and empty functions.
//! Not part of the API.

#![allow(missing_docs, reason = "hidden")]

#[cfg(not(feature = "mutants"))]
pub use self::off::*;
#[cfg(feature = "mutants")]
pub use self::on::*;

#[cfg(not(feature = "mutants"))]
mod off {
    use crate::crypto::Cipher;

    /// Whether this bug is on: never.
    #[inline(always)]
    pub const fn mutant(_number: u8) -> bool {
        false
    }

    /// Looks at nothing.
    #[inline(always)]
    pub fn audit(_rule: u8, _wrong: impl FnOnce() -> Option<String>) {}

    #[inline(always)]
    pub(crate) const fn tap(_packet: &[u8]) {}

    #[inline(always)]
    pub(crate) const fn touch(_number: u8, _place: u32, _of: u32) {}

    #[inline(always)]
    pub(crate) const fn reserve(_number: u8, _bytes: usize) {}

    #[inline(always)]
    pub(crate) const fn work(_steps: u64) {}

    #[inline(always)]
    pub(crate) const fn take_work() -> u64 {
        0
    }

    #[inline(always)]
    pub(crate) const fn note_opened(_cipher: &Cipher, _sequence: u64) {}

    #[inline(always)]
    pub(crate) const fn first_number(first: u64) -> u64 {
        first
    }

    /// Packet numbers stay below: the upper half is that of challenges.
    #[inline(always)]
    pub(crate) const fn number_limit() -> u64 {
        1 << 63
    }
}

#[cfg(feature = "mutants")]
mod on {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use crate::crypto::Cipher;

    thread_local! {
        static SWITCHED: Cell<u8> = const { Cell::new(0) };
        static FIRST: Cell<Option<u64>> = const { Cell::new(None) };
        static WORK: Cell<u64> = const { Cell::new(0) };
        static TAPPED: RefCell<Option<BTreeMap<usize, Vec<Vec<u8>>>>> = const { RefCell::new(None) };
        static FINDINGS: RefCell<Vec<(u8, String)>> = const { RefCell::new(Vec::new()) };
        /// By key: the numbers that were sealed and opened.
        static SEALED: RefCell<BTreeMap<u64, Numbers>> = const { RefCell::new(BTreeMap::new()) };
        static OPENED: RefCell<BTreeMap<u64, Numbers>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Whether the bug of this number is on in this thread.
    pub fn mutant(number: u8) -> bool {
        SWITCHED.get() == number
    }

    /// Begins a run: one bug is on (none: 0), nothing is known yet, and clients' packet numbers start at `first`, where
    /// one is given.
    pub fn begin(number: u8, first: Option<u64>) {
        SWITCHED.set(number);
        FIRST.set(first);
        WORK.set(0);
        FINDINGS.take();
        SEALED.take();
        OPENED.take();
    }

    /// What was found to be wrong since the last call: the number of the rule, and how it was broken.
    pub fn take_findings() -> Vec<(u8, String)> {
        FINDINGS.take()
    }

    /// Keeps the packets that links take in from now on, the first few of each size.
    pub fn start_tapping() {
        TAPPED.set(Some(BTreeMap::new()));
    }

    /// The packets that were kept.
    pub fn take_tapped() -> Vec<Vec<u8>> {
        TAPPED.take().into_iter().flatten().flat_map(|(_, packets)| packets).collect()
    }

    pub(crate) fn tap(packet: &[u8]) {
        TAPPED.with_borrow_mut(|tapped| {
            if let Some(tapped) = tapped {
                let packets = tapped.entry(packet.len()).or_default();
                if packets.len() < 4 {
                    packets.push(packet.to_vec());
                }
            }
        });
    }

    /// Looks whether a rule holds; `wrong` says how it does not.
    pub fn audit(rule: u8, wrong: impl FnOnce() -> Option<String>) {
        if let Some(what) = wrong() {
            FINDINGS.with_borrow_mut(|findings| findings.push((rule, what)));
        }
    }

    /// Uses a place of a list that has so many, as a bug would that looks first and compares later.
    pub(crate) fn touch(number: u8, place: u32, of: u32) {
        assert!(!mutant(number) || place < of, "place {place} of {of}");
    }

    /// Stands for memory that a bug would reserve here; too much of it to do so.
    pub(crate) fn reserve(number: u8, bytes: usize) {
        const CAP: usize = 640 << 10;
        audit(30, || (mutant(number) && bytes > CAP).then(|| format!("{bytes} B are reserved, the cap is {CAP}")));
    }

    /// Notes steps of a loop.
    pub(crate) fn work(steps: u64) {
        WORK.set(WORK.get().saturating_add(steps));
    }

    /// The steps since the last call.
    pub(crate) fn take_work() -> u64 {
        WORK.take()
    }

    pub(crate) fn note_sealed(key: u64, nonce: [u8; 12]) {
        let number = u64::from_le_bytes([4, 5, 6, 7, 8, 9, 10, 11].map(|at: usize| nonce[at]));
        let fresh = SEALED.with_borrow_mut(|sealed| sealed.entry(key).or_default().insert(number));
        audit(15, || (!fresh && !is_near_the_end()).then(|| format!("number {number} is used twice under one key")));
    }

    pub(crate) fn note_opened(cipher: &Cipher, sequence: u64) {
        let key = cipher.name();
        let genuine = SEALED.with_borrow(|sealed| sealed.get(&key).is_some_and(|numbers| numbers.has(sequence)));
        let fresh = OPENED.with_borrow_mut(|opened| opened.entry(key).or_default().insert(sequence));
        audit(17, || (!genuine).then(|| format!("packet {sequence} was taken in and nobody has sealed it")));
        audit(17, || (!fresh && !is_near_the_end()).then(|| format!("packet {sequence} was taken in twice")));
    }

    /// Whether all numbers begin where the test says: then two attempts with one token use the same, which only their
    /// random beginnings prevent otherwise.
    fn is_near_the_end() -> bool {
        FIRST.get().is_some()
    }

    pub(crate) fn first_number(first: u64) -> u64 {
        FIRST.get().unwrap_or(first)
    }

    pub(crate) fn number_limit() -> u64 {
        if FIRST.get().is_some() { u64::MAX } else { 1 << 63 }
    }

    /// A set of numbers that mostly follow each other: first and last of each run.
    #[derive(Debug, Default)]
    struct Numbers(BTreeMap<u64, u64>);

    impl Numbers {
        fn has(&self, number: u64) -> bool {
            self.0.range(..=number).next_back().is_some_and(|(_, last)| number <= *last)
        }

        /// False if it was there.
        fn insert(&mut self, number: u64) -> bool {
            if self.has(number) {
                return false;
            }
            let before = self.0.range(..number).next_back().map(|(first, last)| (*first, *last));
            let start = match before {
                Some((first, last)) if last + 1 == number => first,
                _ => number,
            };
            let end = number.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(number);
            self.0.insert(start, end);
            true
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn runs_of_numbers_grow_together_and_know_what_is_in_them() {
            let mut numbers = Numbers::default();
            for number in [5, 7, 6, 0, u64::MAX, 8] {
                assert!(numbers.insert(number));
                assert!(!numbers.insert(number));
            }
            assert_eq!(numbers.0.len(), 3);
            assert!(!numbers.has(4) && !numbers.has(9));
        }
    }
}
