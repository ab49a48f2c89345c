//! Which channels a connection has, and what each of them promises.

use super::ChannelId;

/// What a channel promises about order and delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChannelKind {
    /// At most once, in any order.
    Unreliable = 0,
    /// At most once, and never anything older than what was delivered already: the newest wins.
    UnreliableSequenced = 1,
    /// Exactly once, in the order in which they were sent.
    ReliableOrdered = 2,
    /// Exactly once, each as soon as it is complete.
    ReliableUnordered = 3,
}

impl ChannelKind {
    /// Whether messages are sent again until they have arrived.
    pub const fn is_reliable(self) -> bool {
        matches!(self, Self::ReliableOrdered | Self::ReliableUnordered)
    }
}

/// Which message gives way when the queue of an unreliable channel is full. Reliable channels never drop: they refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DropPolicy {
    /// The one that has waited longest. Right for state: the next message makes it worthless anyway.
    #[default]
    Oldest,
    /// The one that was about to be queued. Right for events.
    Newest,
}

/// Which end of a connection this is. Limits differ, because a server has many peers and a client has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that was connected to.
    Server,
    /// The end that connected.
    Client,
}

impl Side {
    /// The other end.
    pub(super) const fn peer(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }
}

/// One channel. Both ends must agree on `kind`, `fragmented` and the two size limits; they are part of the protocol
/// record ([`ChannelTable::encode`]). The rest concerns only the end that sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelConfig {
    /// What it promises.
    pub kind: ChannelKind,
    /// Whether messages may be larger than a datagram.
    pub fragmented: bool,
    /// The largest message that a client may send, in bytes. Capped at [`ChannelTable::MAX_MESSAGE`] and, without
    /// fragments, at what fits in a datagram.
    pub max_to_server: usize,
    /// The largest message that a server may send, in bytes; capped like `max_to_server`.
    pub max_to_client: usize,
    /// Channels of a higher priority leave first, always. 0 to 255.
    pub priority: u8,
    /// The share among busy channels of equal priority: twice the weight, twice the bytes. 0 counts as 1.
    pub weight: u8,
    /// How much may be queued for sending, in bytes; each message counts for its length +
    /// [`MESSAGE_COST`](Self::MESSAGE_COST). A channel always takes one message of the largest size.
    pub budget: usize,
    /// What gives way when an unreliable queue is full.
    pub drop: DropPolicy,
}

impl ChannelConfig {
    /// What a queued message is charged beyond its length, so that empty ones are not free.
    pub const MESSAGE_COST: usize = 64;

    /// A channel of `kind` whose messages fit in one datagram, with the budgets of the standard channels.
    pub fn new(kind: ChannelKind) -> Self {
        let (priority, budget) = if kind.is_reliable() { (64, 256 << 10) } else { (128, 64 << 10) };
        let max = ChannelTable::MAX_UNFRAGMENTED;
        Self {
            kind,
            fragmented: false,
            max_to_server: max,
            max_to_client: max,
            priority,
            weight: 16,
            budget,
            drop: DropPolicy::Oldest,
        }
    }

    /// The same for messages of up to `max` bytes in both directions, larger than a datagram if need be.
    #[must_use]
    pub fn fragmented(mut self, max: usize) -> Self {
        self.fragmented = true;
        self.max_to_server = max;
        self.max_to_client = max;
        self
    }

    /// The same with another priority.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// The same with another weight.
    #[must_use]
    pub fn with_weight(mut self, weight: u8) -> Self {
        self.weight = weight;
        self
    }

    /// The same with another budget.
    #[must_use]
    pub fn with_budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// The same with another drop policy.
    #[must_use]
    pub fn with_drop(mut self, drop: DropPolicy) -> Self {
        self.drop = drop;
        self
    }

    /// The largest message that `side` may send, in bytes.
    pub fn max_message(&self, side: Side) -> usize {
        let declared = match side {
            Side::Server => self.max_to_client,
            Side::Client => self.max_to_server,
        };
        declared.min(if self.fragmented { ChannelTable::MAX_MESSAGE } else { ChannelTable::MAX_UNFRAGMENTED })
    }

    /// What the queue may hold when `side` sends, in charged bytes.
    pub(super) fn queue_cap(&self, side: Side) -> usize {
        self.budget.max(self.max_message(side) + Self::MESSAGE_COST)
    }
}

/// No more channels fit in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection has at most {} channels", ChannelTable::MAX_CHANNELS)]
pub struct TableFull;

/// The channels of a connection: the three standard ones, then those that the application declares, numbered in the
/// order of declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelTable {
    channels: Vec<ChannelConfig>,
}

impl Default for ChannelTable {
    /// The three standard channels.
    fn default() -> Self {
        // In the order of the constants of `ChannelId`.
        let unreliable = ChannelConfig::new(ChannelKind::Unreliable);
        let reliable = ChannelConfig::new(ChannelKind::ReliableOrdered).fragmented(64 << 10);
        let mut fragmented =
            ChannelConfig::new(ChannelKind::Unreliable).fragmented(256 << 10).with_priority(96).with_budget(256 << 10);
        fragmented.max_to_server = 16 << 10;
        Self { channels: vec![unreliable, reliable, fragmented] }
    }
}

impl ChannelTable {
    /// The most channels of a connection.
    pub const MAX_CHANNELS: usize = 256;
    /// The largest message of any channel, in bytes.
    pub const MAX_MESSAGE: usize = 16 << 20;
    /// The largest message of a channel without fragments, in bytes: what fits in a datagram beside an
    /// acknowledgement.
    pub const MAX_UNFRAGMENTED: usize = 1150;

    /// Adds a channel and returns its number.
    pub fn declare(&mut self, channel: ChannelConfig) -> Result<ChannelId, TableFull> {
        let id = u8::try_from(self.channels.len()).map_err(|_| TableFull)?;
        self.channels.push(channel);
        Ok(ChannelId(id))
    }

    /// The channel of this number.
    pub fn get(&self, id: ChannelId) -> Option<&ChannelConfig> {
        self.channels.get(usize::from(id.0))
    }

    /// The channel of this number, e.g. to raise a limit. Links that exist already keep what they were made with.
    pub fn get_mut(&mut self, id: ChannelId) -> Option<&mut ChannelConfig> {
        self.channels.get_mut(usize::from(id.0))
    }

    /// All channels, by number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ChannelId, &ChannelConfig)> {
        self.channels.iter().enumerate().map(|(index, channel)| (ChannelId(index as u8), channel))
    }

    /// How many channels there are.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Always false: the standard channels are there.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Appends what both ends must agree on, in a form that never changes for the same table: per channel
    /// `kind` u8, `fragmented` u8, `max_to_server` u32, `max_to_client` u32, little-endian, after a count as u16.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.channels.len() as u16).to_le_bytes());
        for channel in &self.channels {
            out.push(channel.kind as u8);
            out.push(u8::from(channel.fragmented));
            // Both are at most MAX_MESSAGE = 2^24.
            out.extend_from_slice(&(channel.max_message(Side::Client) as u32).to_le_bytes());
            out.extend_from_slice(&(channel.max_message(Side::Server) as u32).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_channels_stand_where_their_ids_say() {
        let table = ChannelTable::default();
        let kind = |id| table.get(id).map(|channel| (channel.kind, channel.fragmented));
        assert_eq!(kind(ChannelId::UNRELIABLE), Some((ChannelKind::Unreliable, false)));
        assert_eq!(kind(ChannelId::RELIABLE), Some((ChannelKind::ReliableOrdered, true)));
        assert_eq!(kind(ChannelId::UNRELIABLE_FRAGMENTED), Some((ChannelKind::Unreliable, true)));
        assert_eq!(kind(ChannelId(3)), None);
    }

    #[test]
    fn the_encoding_tells_tables_apart_and_ignores_what_only_the_sender_knows() {
        let encode = |table: &ChannelTable| {
            let mut bytes = Vec::new();
            table.encode(&mut bytes);
            bytes
        };
        let standard = ChannelTable::default();
        let mut other = standard.clone();
        other.get_mut(ChannelId::RELIABLE).unwrap().priority = 3;
        assert_eq!(encode(&standard), encode(&other));
        other.get_mut(ChannelId::RELIABLE).unwrap().max_to_client += 1;
        assert_ne!(encode(&standard), encode(&other));
        let mut longer = standard.clone();
        longer.declare(ChannelConfig::new(ChannelKind::ReliableUnordered)).unwrap();
        assert_ne!(encode(&standard), encode(&longer));
        assert_eq!(encode(&standard)[..12], [3, 0, 0, 0, 0x7e, 4, 0, 0, 0x7e, 4, 0, 0]);
    }

    #[test]
    fn a_table_takes_256_channels_and_no_more() {
        let mut table = ChannelTable::default();
        while table.len() < ChannelTable::MAX_CHANNELS {
            table.declare(ChannelConfig::new(ChannelKind::Unreliable)).unwrap();
        }
        assert_eq!(table.declare(ChannelConfig::new(ChannelKind::Unreliable)), Err(TableFull));
    }
}
