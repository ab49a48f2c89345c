//! Allots `NetworkId`s.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use netstream_driver::transport::Mono;

use crate::NetworkId;

/// The smallest free id that has rested for the quarantine; an id that rests only where no other is left.
#[derive(Debug, Default)]
pub(crate) struct NetworkIdPool {
    /// The highest id ever allotted; all above are free and never were used.
    highest: u32,
    /// Freed ids whose quarantine is over.
    free: BTreeSet<u32>,
    /// Freed ids in the order in which they were freed.
    resting: VecDeque<(Mono, u32)>,
    /// For telling a second release from the first.
    used: BTreeSet<u32>,
}

impl NetworkIdPool {
    /// Takes an id; `None` when `cap` ids are in use.
    pub(crate) fn allot(&mut self, now: Mono, quarantine: Duration, cap: u32) -> Option<NetworkId> {
        while let Some(&(freed, id)) = self.resting.front()
            && now.since(freed) >= quarantine
        {
            self.resting.pop_front();
            self.free.insert(id);
        }
        let id = if let Some(id) = self.free.pop_first() {
            id
        } else if self.highest < cap {
            self.highest += 1;
            self.highest
        } else {
            self.resting.pop_front()?.1
        };
        self.used.insert(id);
        NetworkId::new(id)
    }

    /// Takes this very id for the player who had it before; false if somebody has it.
    pub(crate) fn take(&mut self, id: NetworkId) -> bool {
        let number = id.number();
        let rested = self.resting.iter().position(|&(_, resting)| resting == number);
        let free = match rested {
            Some(place) => self.resting.remove(place).is_some(),
            None => self.free.remove(&number),
        };
        if free {
            self.used.insert(number);
        }
        free
    }

    /// Gives an id back. A second time does nothing.
    pub(crate) fn release(&mut self, now: Mono, id: NetworkId) {
        if self.used.remove(&id.number()) {
            self.resting.push_back((now, id.number()));
        }
    }

    /// Ids in use.
    pub(crate) fn used(&self) -> usize {
        self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARANTINE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    fn allot(pool: &mut NetworkIdPool, seconds: u64, cap: u32) -> Option<u32> {
        pool.allot(at(seconds), QUARANTINE, cap).map(NetworkId::number)
    }

    #[test]
    fn ids_start_at_one_and_rest_before_they_return() {
        let mut pool = NetworkIdPool::default();
        assert_eq!(allot(&mut pool, 0, 10), Some(1));
        assert_eq!(allot(&mut pool, 0, 10), Some(2));
        pool.release(at(1), NetworkId::new(1).unwrap());
        assert_eq!(allot(&mut pool, 60, 10), Some(3));
        assert_eq!(allot(&mut pool, 61, 10), Some(1));
        assert_eq!(allot(&mut pool, 61, 10), Some(4));
    }

    #[test]
    fn a_player_who_returns_takes_his_id_out_of_quarantine() {
        let mut pool = NetworkIdPool::default();
        assert_eq!(allot(&mut pool, 0, 10), Some(1));
        let id = NetworkId::new(1).unwrap();
        assert!(!pool.take(id), "somebody has it");
        pool.release(at(1), id);
        assert!(pool.take(id));
        assert_eq!(allot(&mut pool, 100, 10), Some(2));
        assert!(!pool.take(NetworkId::new(9).unwrap()), "it never was anybody's");
    }

    #[test]
    fn the_quarantine_yields_when_all_others_are_used() {
        let mut pool = NetworkIdPool::default();
        assert_eq!(allot(&mut pool, 0, 2), Some(1));
        assert_eq!(allot(&mut pool, 0, 2), Some(2));
        assert_eq!(allot(&mut pool, 0, 2), None);
        pool.release(at(0), NetworkId::new(2).unwrap());
        pool.release(at(0), NetworkId::new(2).unwrap());
        assert_eq!(allot(&mut pool, 0, 2), Some(2));
        assert_eq!(allot(&mut pool, 0, 2), None);
    }
}
