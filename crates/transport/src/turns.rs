//! In which turn the connections of a server send.

use std::collections::VecDeque;

use crate::channel::{Allowance, Pacer};
use crate::{ConnectionId, Limits, Mono};

/// What may leave at once under a cap on all connections, in datagrams.
const BURST: u32 = 4;

/// Who sends next, and how much of what waits.
///
/// Without a cap on all connections together each sends all that it may, one after another. With one they take turns of
/// one packet: first all with game traffic, then all that have more. Where the cap ends a round, the next begins with who
/// was not served.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Connections that may have something to send.
    listed: VecDeque<ConnectionId>,
    /// Those that have had their game traffic and have more.
    bulk: VecDeque<ConnectionId>,
    /// Those whose game traffic waits for the cap.
    starved: VecDeque<ConnectionId>,
    cap: Pacer,
    rate: Option<u64>,
    /// Somebody waited for the cap at the end of the last round.
    binds: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) connection: ConnectionId,
    pub(crate) allowance: Allowance,
    /// It is in the second round, for what is no game traffic.
    pub(crate) bulk: bool,
}

impl Turns {
    pub(crate) fn new(now: Mono, limits: &Limits) -> Self {
        Self {
            listed: VecDeque::new(),
            bulk: VecDeque::new(),
            starved: VecDeque::new(),
            cap: Pacer::new(now),
            rate: limits.server_bandwidth,
            binds: false,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: &Limits) {
        self.rate = limits.server_bandwidth;
    }

    /// A connection may have something to send. It must not be listed.
    pub(crate) fn list(&mut self, connection: ConnectionId) {
        self.listed.push_back(connection);
    }

    /// Whether somebody may have something to send at once.
    pub(crate) fn is_pressing(&self) -> bool {
        !self.listed.is_empty()
    }

    /// When the cap lets something leave that waits for it.
    pub(crate) fn opens_at(&self) -> Option<Mono> {
        if self.bulk.is_empty() && self.starved.is_empty() {
            return None;
        }
        Some(self.rate.map_or(Mono::ZERO, |rate| self.cap.opens_at(rate)))
    }

    /// Lets the cap's time pass; before turns are taken.
    pub(crate) fn update(&mut self, now: Mono, datagram: usize) {
        if let Some(rate) = self.rate {
            self.cap.update(now, rate, BURST * datagram as u32);
        }
    }

    /// Takes back the word that a connection waits for the cap, the latest first, if that is open; it is to be
    /// [listed](Self::list_first) then.
    pub(crate) fn pop_starved(&mut self) -> Option<ConnectionId> {
        if self.is_open() { self.starved.pop_back() } else { None }
    }

    /// A connection that has waited comes before those that have been listed since. It may be listed already.
    pub(crate) fn list_first(&mut self, connection: ConnectionId) {
        self.listed.push_front(connection);
    }

    /// Whether the cap is what holds back who waits for it, and not the path.
    pub(crate) const fn binds(&self) -> bool {
        self.binds
    }

    fn is_open(&self) -> bool {
        self.rate.is_none() || self.cap.is_open()
    }

    /// Whose turn it is; `None` if nobody's.
    pub(crate) fn next(&mut self) -> Option<Turn> {
        if let Some(&connection) = self.listed.front() {
            let allowance = match self.rate {
                None => Allowance::All,
                Some(_) if self.cap.is_open() => Allowance::Game,
                Some(_) => Allowance::Upkeep,
            };
            return Some(Turn { connection, allowance, bulk: false });
        }
        if self.is_open()
            && let Some(&connection) = self.bulk.front()
        {
            return Some(Turn { connection, allowance: Allowance::All, bulk: true });
        }
        self.binds = self.rate.is_some() && !(self.bulk.is_empty() && self.starved.is_empty());
        if self.binds {
            self.cap.wait();
        }
        None
    }

    /// Whose turns come, as far as that is known, the one whose turn it is first.
    #[inline]
    pub(crate) fn coming(&self) -> impl ExactSizeIterator<Item = ConnectionId> + Clone + '_ {
        self.listed.iter().copied()
    }

    /// A datagram has left, in somebody's turn or not.
    pub(crate) fn spend(&mut self, turn: Option<Turn>, bytes: usize) {
        if self.rate.is_some() {
            self.cap.spend(bytes);
        }
        // Under a cap one packet each.
        match turn {
            Some(Turn { bulk: true, .. }) => self.bulk.rotate_left(1),
            Some(Turn { allowance: Allowance::Game, .. }) => self.listed.rotate_left(1),
            _ => {}
        }
    }

    /// The connection whose turn it was has nothing more that it was allowed to send.
    pub(crate) fn end(&mut self, turn: Turn) {
        let queue = if turn.bulk { &mut self.bulk } else { &mut self.listed };
        queue.pop_front();
    }

    /// A connection has game traffic that waits for the cap. It must not wait so already.
    pub(crate) fn starve(&mut self, connection: ConnectionId) {
        self.starved.push_back(connection);
    }

    /// A connection has more to send than game traffic. It must not wait so already.
    pub(crate) fn defer(&mut self, connection: ConnectionId) {
        self.bulk.push_back(connection);
    }
}
