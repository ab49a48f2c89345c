//! What strangers may make a server do (H9).

use std::net::SocketAddr;

use crate::limits::Limits;
use crate::netcode::budget::{Bucket, Rate, SharedBuckets};
use crate::{Mono, Random};

/// Places for the networks of strangers, and for the identities that have joined lately.
const NETWORK_PLACES: usize = 4096;
const IDENTITY_PLACES: usize = 16_384;

/// What strangers may make us do.
#[derive(Debug)]
pub(super) struct Budgets {
    pub(super) addresses_per_token: usize,
    pub(super) tokens_per_address: usize,
    packets_per_tick: u32,
    packets_left: u32,
    /// No further token is opened in this tick.
    spent: bool,
    opens: (Bucket, Rate),
    replies: (Bucket, Rate),
    network_replies: (SharedBuckets, Rate),
    identity_joins: (SharedBuckets, Rate),
}

impl Budgets {
    pub(super) fn new(limits: &Limits, random: &mut dyn Random) -> Self {
        let none = Rate::new(1, 1);
        let mut budgets = Self {
            addresses_per_token: 0,
            tokens_per_address: 0,
            packets_per_tick: 0,
            packets_left: limits.unauthenticated_packets,
            spent: false,
            opens: (Bucket::default(), none),
            replies: (Bucket::default(), none),
            network_replies: (SharedBuckets::new(NETWORK_PLACES, random), none),
            identity_joins: (SharedBuckets::new(IDENTITY_PLACES, random), none),
        };
        budgets.set_limits(limits);
        budgets
    }

    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.addresses_per_token = limits.addresses_per_token.max(1);
        self.tokens_per_address = limits.tokens_per_address.max(1);
        self.packets_per_tick = limits.unauthenticated_packets;
        // Bursts of a tenth of a second: a long frame must not throw away honest requests.
        let per_second = |rate: u32| Rate::new(rate.into(), (rate / 10).into());
        self.opens.1 = per_second(limits.token_opens);
        self.replies.1 = per_second(limits.replies);
        self.network_replies.1 = Rate::new(limits.replies_per_network.into(), limits.replies_per_network.into());
        self.identity_joins.1 = Rate::per_window(limits.identity_joins.into(), limits.identity_window);
    }

    /// A new tick begins.
    pub(super) fn tick(&mut self) {
        self.packets_left = self.packets_per_tick;
        self.spent = false;
    }

    /// No further token is opened in this tick. Responses go on: only who has shown a good token can have us look at one.
    pub(super) fn spend(&mut self) {
        self.spent = true;
    }

    /// Takes one packet that is looked at closely.
    pub(super) fn take_packet(&mut self) -> bool {
        let left = self.packets_left.checked_sub(1);
        self.packets_left = left.unwrap_or(0);
        left.is_some()
    }

    /// Takes the decryption of one token.
    pub(super) fn take_open(&mut self, now: Mono) -> bool {
        let (opens, rate) = &mut self.opens;
        if self.spent || !opens.has(now, rate, 1) || !self.take_packet() {
            return false;
        }
        let (opens, rate) = &mut self.opens;
        opens.charge(now, rate, 1);
        true
    }

    /// Whether an identity may join.
    pub(super) fn may_join(&mut self, now: Mono, client_id: u64) -> bool {
        let (joins, rate) = &mut self.identity_joins;
        joins.of(client_id).has(now, rate, 1)
    }

    /// Notes that an identity has joined.
    pub(super) fn charge_join(&mut self, now: Mono, client_id: u64) {
        let (joins, rate) = &mut self.identity_joins;
        joins.of(client_id).charge(now, rate, 1);
    }

    /// Whether an unproven address may be answered.
    pub(super) fn may_reply(&mut self, now: Mono, to: SocketAddr) -> bool {
        let (replies, rate) = &self.replies;
        let (networks, network_rate) = &mut self.network_replies;
        replies.has(now, rate, 1) && (is_loopback(to) || networks.of_network(to).has(now, network_rate, 1))
    }

    /// Notes an answer to an unproven address.
    pub(super) fn charge_reply(&mut self, now: Mono, to: SocketAddr) {
        let (replies, rate) = &mut self.replies;
        let (networks, network_rate) = &mut self.network_replies;
        replies.charge(now, rate, 1);
        networks.of_network(to).charge(now, network_rate, 1);
    }
}

/// Loopback cannot be feigned from outside: kernels drop such packets at the door.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
