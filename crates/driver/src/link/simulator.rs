//! Both directions of a driver that has packets of its own.

use std::net::SocketAddr;

use super::{LinkProfile, LinkQueue, LinkStats};

/// A direction, seen from the driver that simulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From this driver to its peers.
    Outgoing,
    /// From the peers to this driver.
    Incoming,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Outgoing, Self::Incoming];
}

/// A simulated link beneath a driver's protocol: one queue of packets per direction.
///
/// A driver reaches it by [`packet_simulator`](crate::NetworkDriver::packet_simulator). The profile may change at any
/// time; with [`LinkProfile::PERFECT`] and nothing under way the driver goes around it.
#[derive(Debug)]
pub struct LinkSimulator {
    /// Where its dice come from, and how often they were changed.
    seed: (u64, u32),
    pub(crate) outgoing: LinkQueue<Route>,
    pub(crate) incoming: LinkQueue<Route>,
}

/// Between which socket of the driver and which peer a packet travels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) socket: u64,
    pub(crate) peer: SocketAddr,
}

impl LinkSimulator {
    /// A simulator that does nothing yet; its dice come from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed: (seed, 0),
            outgoing: LinkQueue::new(LinkProfile::PERFECT, seed),
            incoming: LinkQueue::new(LinkProfile::PERFECT, incoming_seed(seed)),
        }
    }

    /// Changes one direction, for the packets to come.
    pub fn set_profile(&mut self, direction: Direction, profile: LinkProfile) {
        self.queue_mut(direction).set_profile(profile);
    }

    /// Changes both directions, for the packets to come.
    pub fn set_both(&mut self, profile: LinkProfile) {
        for direction in Direction::BOTH {
            self.set_profile(direction, profile);
        }
    }

    /// Rolls the dice of both directions from `seed` anew.
    pub fn reseed(&mut self, seed: u64) {
        self.seed = (seed, self.seed.1.wrapping_add(1));
        self.outgoing.reseed(seed);
        self.incoming.reseed(incoming_seed(seed));
    }

    /// The profile of one direction.
    pub fn profile(&self, direction: Direction) -> LinkProfile {
        self.queue(direction).profile()
    }

    /// What happened to the packets of one direction so far.
    pub fn stats(&self, direction: Direction) -> LinkStats {
        self.queue(direction).stats()
    }

    /// What the simulator was told to do.
    pub(crate) fn orders(&self) -> LinkOrders {
        LinkOrders { seed: self.seed, profiles: Direction::BOTH.map(|direction| self.profile(direction)) }
    }

    /// Does as another simulator was told.
    pub(crate) fn follow(&mut self, orders: &LinkOrders) {
        if self.seed != orders.seed {
            self.reseed(orders.seed.0);
            self.seed = orders.seed;
        }
        for (direction, profile) in Direction::BOTH.into_iter().zip(orders.profiles) {
            self.set_profile(direction, profile);
        }
    }

    /// Shows the figures of another simulator as its own.
    pub(crate) fn show(&mut self, stats: [LinkStats; 2]) {
        for (direction, stats) in Direction::BOTH.into_iter().zip(stats) {
            self.queue_mut(direction).show(stats);
        }
    }

    fn queue(&self, direction: Direction) -> &LinkQueue<Route> {
        match direction {
            Direction::Outgoing => &self.outgoing,
            Direction::Incoming => &self.incoming,
        }
    }

    fn queue_mut(&mut self, direction: Direction) -> &mut LinkQueue<Route> {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }
}

/// What a [`LinkSimulator`] was told to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LinkOrders {
    seed: (u64, u32),
    profiles: [LinkProfile; 2],
}

/// Two directions must not roll the same dice.
pub(super) fn incoming_seed(seed: u64) -> u64 {
    seed ^ 0x5bd1_e995_97f4_a7c1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_direction_has_its_own_profile() {
        let slow = LinkProfile { delay: Duration::from_millis(9), ..LinkProfile::PERFECT };
        let mut simulator = LinkSimulator::new(1);
        simulator.set_profile(Direction::Incoming, slow);
        assert_eq!(simulator.profile(Direction::Incoming), slow);
        assert_eq!(simulator.profile(Direction::Outgoing), LinkProfile::PERFECT);
        simulator.set_both(LinkProfile::LAN);
        assert_eq!(simulator.profile(Direction::Incoming), LinkProfile::LAN);
    }
}
