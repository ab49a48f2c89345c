//! One connection of a server.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::net::SocketAddr;
use std::time::Duration;

use crate::limits::Limits;
use crate::look::Look;
use crate::netcode::budget::{Bucket, Rate};
use crate::netcode::session::Session;
use crate::netcode::table::AddressKey;
use crate::netcode::{CONFIRM_INTERVAL, FAREWELL_COPIES, FAREWELL_INTERVAL, GOODBYE_DATAGRAMS};
use crate::{Identity, Mono};

/// Over the rate once a second or more counts as over it all the time.
const OVER_RATE_GAP: Duration = Duration::from_secs(1);

/// How much a peer may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct InboundRates {
    packets: Rate,
    bytes: Rate,
}

impl InboundRates {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            packets: Rate::new(limits.inbound_packets.into(), limits.inbound_packet_burst.into()),
            bytes: Rate::new(limits.inbound_bytes.into(), limits.inbound_byte_burst.into()),
        }
    }
}

/// In this order in memory: what packets that arrive touch, what all packets do, and the rest behind the session.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Connection {
    packets: Bucket,
    bytes: Bucket,
    /// Forgeries in the tick of that number.
    forgeries: (u64, u32),
    pub(super) phase: Phase,
    pub(super) address: SocketAddr,
    pub(super) session: Session,
    /// Since when, and when last, the peer sent more than it may.
    over_rate: Option<(Mono, Mono)>,
    /// The entry of the timer queue that counts; others of this connection are leftovers.
    pub(super) scheduled: Option<Mono>,
    pub(super) keep_alive_queued: bool,
    /// What the token wishes.
    timeout: Option<Duration>,
    pub(super) identity: Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted; the client may not know yet.
    Unconfirmed,
    /// The client has sent under its session.
    Established,
    /// Over for everyone above; keys are kept for the last words.
    Leaving(Leaving),
}

/// What is left to be said on a connection that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    /// When the slot becomes free.
    pub(super) until: Mono,
    /// The next type-6 packet.
    pub(super) farewell_at: Mono,
    pub(super) farewells: u8,
    /// Datagrams that may still leave, of any kind.
    pub(super) datagrams: u8,
}

impl Leaving {
    /// Farewells from `start` on, and nothing after `until`.
    pub(super) fn with_farewells(start: Mono, until: Mono) -> Self {
        Self { until, farewell_at: start, farewells: FAREWELL_COPIES, datagrams: GOODBYE_DATAGRAMS }
    }

    /// No farewell, only answers until `until`.
    pub(super) fn silent(until: Mono) -> Self {
        Self { until, farewell_at: until, farewells: 0, datagrams: GOODBYE_DATAGRAMS }
    }

    /// Takes one datagram off what may leave.
    pub(super) fn take(&mut self) -> bool {
        let left = self.datagrams.checked_sub(1);
        self.datagrams = left.unwrap_or(0);
        left.is_some()
    }

    /// Takes the farewell that is due.
    pub(super) fn take_farewell(&mut self, now: Mono) -> bool {
        if self.farewells == 0 || now < self.farewell_at {
            return false;
        }
        self.farewells -= 1;
        self.farewell_at = now + FAREWELL_INTERVAL;
        true
    }
}

impl Connection {
    pub(super) fn new(address: SocketAddr, session: Session, timeout: Option<Duration>, identity: Identity) -> Self {
        Self {
            address,
            session,
            phase: Phase::Unconfirmed,
            packets: Bucket::default(),
            bytes: Bucket::default(),
            over_rate: None,
            forgeries: (0, 0),
            scheduled: None,
            keep_alive_queued: false,
            timeout,
            identity,
        }
    }

    /// See [`Session::look_to_open`].
    #[inline]
    pub(super) fn look_to_open(&self, look: &mut impl Look) {
        look.at(&self.address.port());
        look.at(&self.forgeries.0);
        self.session.look_to_open(look);
    }

    /// See [`Session::look_to_seal`].
    #[inline]
    pub(super) fn look_to_seal(&self, look: &mut impl Look) {
        look.at(&self.address.port());
        look.at(&self.is_leaving());
        self.session.look_to_seal(look);
    }

    /// Its address as the tables know it.
    #[inline]
    pub(super) fn key(&self) -> AddressKey {
        AddressKey::new(self.address)
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    /// The silence that ends the connection.
    pub(super) fn idle_timeout(&self, limits: &Limits) -> Duration {
        self.timeout.map_or(limits.idle_timeout, |timeout| timeout.min(limits.idle_timeout))
    }

    /// How long we may go without sending.
    pub(super) fn keep_alive_interval(&self, limits: &Limits) -> Duration {
        match self.phase {
            Phase::Unconfirmed => CONFIRM_INTERVAL.min(limits.keep_alive),
            _ => limits.keep_alive,
        }
    }

    /// When a timer of this connection is due next.
    pub(super) fn next_due(&self, limits: &Limits) -> Mono {
        match self.phase {
            Phase::Leaving(leaving) if leaving.farewells > 0 => leaving.farewell_at.min(leaving.until),
            Phase::Leaving(leaving) => leaving.until,
            _ => {
                let silent = self.session.last_received + self.idle_timeout(limits);
                silent.min(self.session.last_sent + self.keep_alive_interval(limits))
            }
        }
    }

    /// Whether the peer may send one more packet of `bytes`.
    #[inline]
    pub(super) fn may_receive(&self, now: Mono, rates: &InboundRates, bytes: usize) -> bool {
        self.packets.has(now, &rates.packets, 1) && self.bytes.has(now, &rates.bytes, bytes as u64)
    }

    /// Notes an authentic packet of `bytes`. Forgeries are not charged: they would let a stranger who feigns the address
    /// starve the peer.
    #[inline]
    pub(super) fn charge(&mut self, now: Mono, rates: &InboundRates, bytes: usize) {
        self.packets.charge(now, &rates.packets, 1);
        self.bytes.charge(now, &rates.bytes, bytes as u64);
    }

    /// Notes that the peer is over its rate, and returns for how long it has been.
    pub(super) fn note_over_rate(&mut self, now: Mono) -> Duration {
        let since = match self.over_rate {
            Some((since, last)) if now.since(last) <= OVER_RATE_GAP => since,
            _ => now,
        };
        self.over_rate = Some((since, now));
        now.since(since)
    }

    /// Whether the connection's forgeries in this tick are fewer than `limit`.
    #[inline]
    pub(super) fn may_try_forgery(&self, tick: u64, limit: u32) -> bool {
        let (last, count) = self.forgeries;
        last != tick || count < limit
    }

    pub(super) fn note_forgery(&mut self, tick: u64) {
        let (last, count) = self.forgeries;
        self.forgeries = if last == tick { (tick, count.saturating_add(1)) } else { (tick, 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // Two prepared keys of ring, 256 bytes of user data, and little else.
        assert!(size_of::<Connection>() <= 2048, "{}", size_of::<Connection>());
    }
}
