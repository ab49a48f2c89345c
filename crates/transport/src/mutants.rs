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
    pub(crate) const fn note_another_peer(_open: &mut Cipher) {}

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
    use std::collections::{BTreeMap, HashMap};
    use std::hash::{BuildHasherDefault, Hasher};

    use crate::crypto::{Cipher, Key};

    thread_local! {
        static SWITCHED: Cell<u8> = const { Cell::new(0) };
        static FIRST: Cell<Option<u64>> = const { Cell::new(None) };
        static WORK: Cell<u64> = const { Cell::new(0) };
        static TAPPED: RefCell<Option<BTreeMap<usize, Vec<Vec<u8>>>>> = const { RefCell::new(None) };
        static FINDINGS: RefCell<Vec<(u8, String)>> = const { RefCell::new(Vec::new()) };
        static KEYS: RefCell<HashMap<u64, Used, BuildHasherDefault<AsItIs>>> = RefCell::default();
        static USERS: Cell<u64> = const { Cell::new(0) };
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
        USERS.set(0);
        FINDINGS.take();
        KEYS.take();
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

    pub(crate) fn note_sealed(mark: Mark, nonce: [u8; 12]) {
        let number = u64::from_le_bytes([4, 5, 6, 7, 8, 9, 10, 11].map(|at: usize| nonce[at]));
        let fresh = KEYS.with_borrow_mut(|keys| {
            let fresh = keys.entry(mark.key).or_default().sealed.insert(number);
            if is_near_the_end() { keys.entry(mark.user).or_default().sealed.insert(number) } else { fresh }
        });
        audit(15, || (!fresh).then(|| format!("number {number} is used twice under one key")));
    }

    pub(crate) fn note_opened(cipher: &Cipher, sequence: u64) {
        let mark = cipher.mark();
        let (genuine, fresh) = KEYS.with_borrow_mut(|keys| {
            let used = keys.entry(mark.key).or_default();
            let (genuine, fresh) = (used.sealed.has(sequence), used.opened.insert(sequence));
            let near = is_near_the_end();
            (genuine, if near { keys.entry(mark.user).or_default().opened.insert(sequence) } else { fresh })
        });
        audit(17, || (!genuine).then(|| format!("packet {sequence} was taken in and nobody has sealed it")));
        audit(17, || (!fresh).then(|| format!("packet {sequence} was taken in twice")));
    }

    /// What opens with this key from now on comes from somebody else.
    pub(crate) fn note_another_peer(open: &mut Cipher) {
        open.mark_anew();
    }

    /// Whether all numbers begin where the test says. Then two attempts with one token use the same, which only their
    /// random beginnings prevent otherwise: each user of a key is judged by itself.
    fn is_near_the_end() -> bool {
        FIRST.get().is_some()
    }

    pub(crate) fn first_number(first: u64) -> u64 {
        FIRST.get().unwrap_or(first)
    }

    pub(crate) fn number_limit() -> u64 {
        if FIRST.get().is_some() { u64::MAX } else { 1 << 63 }
    }

    /// Names a key, and one of those who use it.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Mark {
        key: u64,
        user: u64,
    }

    impl Mark {
        /// A new user of `key`.
        pub(crate) fn new(key: &Key) -> Self {
            let key = key.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            Self { key, user: 0 }.anew()
        }

        /// Another user of the same key.
        pub(crate) fn anew(self) -> Self {
            USERS.set(USERS.get() + 1);
            // Spread like keys are, which are random.
            Self { user: USERS.get().wrapping_mul(0x9e37_79b9_7f4a_7c15), ..self }
        }
    }

    /// The numbers that were sealed and opened under a key.
    #[derive(Debug, Default)]
    struct Used {
        sealed: Numbers,
        opened: Numbers,
    }

    /// Keys are random already.
    #[derive(Default)]
    struct AsItIs(u64);

    impl Hasher for AsItIs {
        fn write(&mut self, _: &[u8]) {
            unreachable!("keys are numbers");
        }

        fn write_u64(&mut self, key: u64) {
            self.0 = key;
        }

        fn finish(&self) -> u64 {
            self.0
        }
    }

    /// A set of numbers that mostly follow each other: first and last of each run, in order.
    #[derive(Debug, Default)]
    struct Numbers(Vec<(u64, u64)>);

    impl Numbers {
        /// How many runs begin at or before `number`.
        fn runs_up_to(&self, number: u64) -> usize {
            match self.0.last() {
                // Most numbers are new, or nearly.
                Some((first, _)) if *first <= number => self.0.len(),
                _ => self.0.partition_point(|(first, _)| *first <= number),
            }
        }

        fn has(&self, number: u64) -> bool {
            self.runs_up_to(number).checked_sub(1).is_some_and(|run| number <= self.0[run].1)
        }

        /// False if it was there.
        fn insert(&mut self, number: u64) -> bool {
            if self.has(number) {
                return false;
            }
            let (behind, runs) = (self.runs_up_to(number), &mut self.0);
            let follows = behind > 0 && runs[behind - 1].1 + 1 == number;
            let leads = runs.get(behind).is_some_and(|(first, _)| first - 1 == number);
            match (follows, leads) {
                (true, true) => runs[behind - 1].1 = runs.remove(behind).1,
                (true, false) => runs[behind - 1].1 = number,
                (false, true) => runs[behind].0 = number,
                (false, false) => runs.insert(behind, (number, number)),
            }
            true
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::crypto::Aead;

        #[test]
        fn runs_of_numbers_grow_together_and_know_what_is_in_them() {
            let mut numbers = Numbers::default();
            for number in [5, 7, 6, 0, u64::MAX, 8] {
                assert!(numbers.insert(number));
                assert!(!numbers.insert(number));
            }
            assert_eq!(numbers.0, [(0, 0), (5, 8), (u64::MAX, u64::MAX)]);
            assert!(!numbers.has(4) && !numbers.has(9));
        }

        fn rules() -> Vec<u8> {
            take_findings().into_iter().map(|(rule, _)| rule).collect()
        }

        #[test]
        fn whoever_seals_or_takes_in_a_number_twice_is_caught_also_near_the_end_of_all_numbers() {
            let key = Key::from_bytes([7; 32]);
            let nonce = |number: u8| [0, 0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0];
            for first in [None, Some(u64::MAX - 100)] {
                begin(0, first);
                let (one, other, mut peer) = (Cipher::new(&key), Cipher::new(&key), Cipher::new(&key));
                note_sealed(one.mark(), nonce(5));
                note_opened(&peer, 5);
                assert_eq!(rules(), []);
                note_opened(&peer, 6);
                assert_eq!(rules(), [17], "nobody has sealed it");
                note_opened(&peer, 5);
                note_sealed(one.mark(), nonce(5));
                assert_eq!(rules(), [17, 15]);
                // Random beginnings keep two attempts with one token apart, unless the test says where they begin.
                note_sealed(other.mark(), nonce(5));
                note_another_peer(&mut peer);
                note_opened(&peer, 5);
                assert_eq!(rules().len(), if first.is_some() { 0 } else { 2 });
            }
            begin(0, None);
        }
    }
}
