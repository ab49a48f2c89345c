//! What is counted above the drivers.

/// Counts of what was refused or dropped above the drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounters {
    /// Inputs that the state machine has no row for.
    pub refused_inputs: u64,
    /// Messages that ended their connection because they may not be sent.
    pub violations: u64,
    /// Commands and snapshots that crossed a change of the in-game mark; dropped.
    pub out_of_game: u64,
    /// Commands and snapshots that nobody read in time; dropped, oldest first.
    pub unread_dropped: u64,
    /// Snapshots that a thin client did not look at.
    pub thin_unread: u64,
    /// Messages for connections that are ending or over; dropped.
    pub late_messages: u64,
    /// RPCs that were held until Connected and are dropped, because the connection ended before or the peer does not know
    /// them.
    pub held_dropped: u64,
    /// Connections refused because the World, or the list of those that wait for approval, was full.
    pub refused_full: u64,
    /// Connections refused because of a ban.
    pub refused_banned: u64,
    /// Players who got their id back with a resume ticket.
    pub resumed: u64,
    /// Resume tickets that were forged or stale; their holders entered as new players.
    pub stale_tickets: u64,
}
