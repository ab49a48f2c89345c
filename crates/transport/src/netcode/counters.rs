//! One counter per reason for which something was dropped, refused or ended.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $metric:literal,)*) => {
        /// What the netcode machines count. Closed: no name ever comes from the network.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        impl Counter {
            /// All counters, in the order in which they are reported.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The counter's name in metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $metric,)*
                }
            }
        }
    };
}

counters! {
    /// Requests: not 1078 bytes.
    RequestSize = "requests_dropped_size_total",
    /// Requests: type 0 with a sequence length.
    RequestPrefix = "requests_dropped_prefix_total",
    /// Requests: another version of the protocol.
    RequestVersion = "requests_dropped_version_total",
    /// Requests: the protocol id is not in the key ring.
    RequestProtocolId = "requests_dropped_protocol_id_total",
    /// Requests: the token has expired.
    RequestExpired = "requests_dropped_expired_total",
    /// Requests: the token lives longer than tokens may; or a clock is wrong.
    RequestFuture = "requests_dropped_future_total",
    /// Requests: the token was issued before this server started.
    RequestBeforeStart = "requests_dropped_before_start_total",
    /// Requests: the token has been used.
    RequestConsumed = "requests_dropped_consumed_total",
    /// Requests: over the budget for unauthenticated work.
    RequestBudget = "requests_dropped_budget_total",
    /// Requests: over the budget for replies to unproven addresses.
    RequestReplyBudget = "requests_dropped_reply_budget_total",
    /// Requests: the token was not sealed with our key; often a wrong join code.
    RequestOpenFailed = "requests_dropped_open_failed_total",
    /// Requests: an authentic token whose fields make no sense.
    RequestBadFields = "requests_dropped_bad_fields_total",
    /// Requests: the token is for other servers.
    RequestWrongServer = "requests_dropped_wrong_server_total",
    /// Requests: the table of used tokens is full.
    RequestTableFull = "requests_dropped_table_full_total",
    /// Requests: the address has too many handshakes under way.
    RequestTooMany = "requests_dropped_too_many_total",
    /// Requests: denied because no slot is free.
    DeniedFull = "denied_full_total",
    /// Responses: no handshake is under way with this address.
    ResponseNoPending = "responses_dropped_no_pending_total",
    /// Responses: over the budget for unauthenticated work.
    ResponseBudget = "responses_dropped_budget_total",
    /// Responses: not sealed with the token's key, or the challenge is not ours.
    ResponseOpenFailed = "responses_dropped_open_failed_total",
    /// Responses: the challenge was made for another address, token or moment.
    ResponseTagMismatch = "responses_dropped_tag_mismatch_total",
    /// Responses: the challenge is too old.
    ResponseStaleChallenge = "responses_dropped_stale_challenge_total",
    /// Responses: the token expired meanwhile.
    ResponseExpired = "responses_dropped_expired_total",
    /// Responses: the table of used tokens is full.
    ResponseTableFull = "responses_dropped_table_full_total",
    /// Responses: this identity joins too often.
    ResponseIdentityRate = "responses_dropped_identity_rate_total",
    /// Validated clients refused because no slot is free.
    RefusedFull = "refused_full_total",
    /// Validated clients refused because their identity is connected.
    RefusedIdentity = "refused_identity_total",
    /// Validated clients refused because the server accepts nobody.
    RefusedClosed = "refused_closed_total",
    /// Packets: too small or too large.
    PacketSize = "packets_dropped_size_total",
    /// Packets: a type that does not exist.
    PacketType = "packets_dropped_type_total",
    /// Packets: a type that this role does not take.
    PacketRole = "packets_dropped_role_total",
    /// Packets: a malformed sequence number.
    PacketSequence = "packets_dropped_sequence_total",
    /// Packets: from an address without a connection.
    PacketUnknownPeer = "packets_dropped_unknown_peer_total",
    /// Packets: over the connection's rate.
    PacketRate = "packets_dropped_rate_total",
    /// Packets: unread, because this connection's address has sent too many forgeries in this tick.
    PacketForgeryBudget = "packets_dropped_forgery_budget_total",
    /// Packets: arrived before, or too old to tell.
    PacketReplay = "packets_dropped_replay_total",
    /// Packets: not sealed with the connection's key.
    PacketOpenFailed = "packets_dropped_open_failed_total",
    /// Packets: authentic, with a body of the wrong size.
    PacketBodySize = "packets_dropped_body_size_total",
    /// Packets: authentic, of no use in this state.
    PacketState = "packets_dropped_state_total",
    /// Handshakes that gave way to others in a full table.
    PendingEvicted = "pending_evicted_total",
    /// Handshakes that were not finished in time.
    PendingExpired = "pending_expired_total",
    /// Lingering goodbyes that gave way to others.
    GoodbyeEvicted = "goodbyes_evicted_total",
    /// Challenges sent.
    Challenged = "challenges_total",
    /// Connections accepted.
    Accepted = "accepted_total",
    /// Connections that ended because their identity connected anew.
    IdentityTakeover = "identity_takeovers_total",
    /// Connections that ended because another client proved to be at their address.
    AddressTakeover = "address_takeovers_total",
    /// Connections that ended by silence.
    TimedOut = "timed_out_total",
    /// Connections that the peer ended.
    RemoteClosed = "remote_closed_total",
    /// Connections that ended for sending too much.
    Flooded = "flooded_total",
}

/// The values, all zero at first.
#[derive(Clone, Debug)]
pub(crate) struct Counters([u64; Counter::ALL.len()]);

impl Counters {
    pub(crate) fn new() -> Self {
        Self([0; Counter::ALL.len()])
    }

    #[inline]
    pub(crate) fn add(&mut self, counter: Counter) {
        self.0[counter as usize] = self.0[counter as usize].saturating_add(1);
    }

    pub(crate) fn of(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    pub(crate) fn report(&self, report: &mut dyn FnMut(&'static str, u64)) {
        for &counter in Counter::ALL {
            report(counter.name(), self.of(counter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_end_in_total() {
        let names: std::collections::HashSet<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        assert!(names.iter().all(|name| name.ends_with("_total")));
    }
}
