//! What must hold, whatever happens.

use std::fmt;

use netstream::transport::Mono;

macro_rules! invariants {
    ($($name:ident = $says:literal,)*) => {
        /// What must hold, whatever the network, the peers and the application do. The numbers are those of the test
        /// design; numbers without a check yet are not here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each says itself what it is")]
        pub enum Invariant { $($name,)* }

        impl Invariant {
            /// All that are checked.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The rule in one sentence.
            pub const fn says(self) -> &'static str {
                match self { $(Self::$name => $says,)* }
            }

            /// Its number.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

invariants! {
    I1 = "the events of a connection come in the order of the lifecycle, each at most once",
    I2 = "exactly one Disconnected for every connection that raised any event, and nothing after it",
    I3 = "each Connected is paired with exactly one Disconnected of the same connection",
    I4 = "every event is seen once by observers and once by readers",
    I5 = "state component, last event and queries agree at the end of every update",
    I6 = "a reason is there iff it is over, and what came from the peer is what the peer said",
    I7 = "who is connected as a client was accepted by the server before",
    I8 = "on a clean network with a free slot, everybody gets in",
    I9 = "when one end is over, the other ends within its idle timeout",
    I10 = "nothing of a connection after its end",
    I11 = "nothing of the application arrives before address, version and approval are in order",
    I12 = "no two live connections share an id, and no connection id or key ever comes back",
    I13 = "at most one live connection per identity",
    I14 = "a token makes at most one connection",
    I15 = "no sequence number is used for two different packets of one key",
    I16 = "an unproven address is never sent more bytes than came from there",
    I17 = "what is taken in was sealed by the genuine peer, and is taken in once",
    I19 = "reliable messages arrive in order, once, and bit-identical",
    I20 = "reliable data arrives once the network is well again",
    I21 = "nothing of one connection arrives in another",
    I22 = "nothing crosses channels",
    I23 = "unreliable messages arrive at most once; sequenced ones never go back",
    I24 = "a message arrives whole or not at all, and bit-identical",
    I25 = "what counts as delivered has been processed by the receiver",
    I26 = "no fault of the network makes a correct peer look like one that breaks the protocol",
    I27 = "nothing is sent again whose acknowledgement was processed",
    I28 = "unacknowledged reliable data never waits without a packet",
    I29 = "round-trip time, jitter and loss are finite and in range",
    I30 = "the heap of a connection stays below its cap",
    I31 = "tables never grow over their caps",
    I32 = "after everybody has left, nothing is left",
    I33 = "queues never grow over their caps",
    I34 = "the work for a packet is bounded by its size, not by what it says",
    I35 = "clients that misbehave do not slow the others down",
    I36 = "a World writes at most ten lines of a kind in a second to the log, and never a secret",
    I37 = "nothing that arrives makes us panic",
    I38 = "connections and their entities belong together one to one",
    I39 = "RPCs arrive only in states that allow them, on live connections",
    I40 = "at most one command of a client is applied per tick, and that tick's own",
    I41 = "snapshots are applied in the order of their ticks, and as they were sent",
    I42 = "the same seed gives the same run",
    I43 = "whether a run is right does not depend on who comes first of those who are due at once",
    Game = "what the game itself demands",
    I45 = "whatever drivers carry it, the same play gives the same events, reasons and reliable messages",
    I46 = "what happens to one driver of a server happens to its own connections only",
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When, in virtual time.
    pub at: Mono,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, what } = self;
        write!(f, "{invariant} at {:.6} s: {what}\n  rule: {}", at.as_nanos() as f64 / 1e9, invariant.says())
    }
}
