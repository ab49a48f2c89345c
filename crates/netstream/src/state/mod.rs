//! The state of a connection: one table of transitions for every driver and both roles.
//!
//! Nothing else in netstream decides what follows what. The diagram in `docs/lifecycle.md`, the exhaustive test and the
//! state machine that runs are all read from [`TRANSITIONS`].

mod diagram;
mod table;

use bevy_ecs::component::Component;

pub use diagram::mermaid;
pub use table::{Effect, Input, Side, TRANSITIONS, Transition, first_state, transition};

/// Where a connection is in its life; a component of every connection entity, always equal to the last
/// [`ConnectionEvent`](crate::ConnectionEvent).
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectionState {
    /// Client: the driver is reaching for the server.
    Connecting,
    /// The link is up; the protocol records travel.
    Handshake,
    /// The peer's protocol record is here; it is being compared, or (client) the server's verdict is awaited.
    ProtocolValidation,
    /// The server's game code decides; only approval RPCs flow.
    Approval,
    /// Server: the id is allotted and the acceptance is on its way. Client: it has arrived. Becomes Connected at once.
    Accepted,
    /// RPCs flow; with [`Presence::InGame`] also commands and snapshots.
    Connected(Presence),
    /// We said goodbye; it is being delivered, and queued reliable data before it.
    Disconnecting,
    /// Over. The entity goes at the end of the update that reports it.
    Disconnected,
}

/// Whether this side has put the connection into the game, with
/// [`NetworkStreamInGame`](crate::NetworkStreamInGame).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Presence {
    /// Not yet, or not any more: only RPCs flow.
    NotInGame,
    /// RPCs, commands and snapshots flow.
    InGame,
}

impl ConnectionState {
    /// Every state, in the order of a connection's life.
    pub const ALL: [Self; 9] = [
        Self::Connecting,
        Self::Handshake,
        Self::ProtocolValidation,
        Self::Approval,
        Self::Accepted,
        Self::Connected(Presence::NotInGame),
        Self::Connected(Presence::InGame),
        Self::Disconnecting,
        Self::Disconnected,
    ];

    /// Whether RPCs of every kind may travel.
    pub const fn is_connected(self) -> bool {
        matches!(self, Self::Connected(_))
    }

    /// Whether commands and snapshots may travel.
    pub const fn is_in_game(self) -> bool {
        matches!(self, Self::Connected(Presence::InGame))
    }

    /// Whether the connection is ending or over.
    pub const fn is_ending(self) -> bool {
        matches!(self, Self::Disconnecting | Self::Disconnected)
    }

    /// The state's name, for logs, JSON and diagrams. The two presences of Connected are `NotInGame` and `InGame`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::Handshake => "Handshake",
            Self::ProtocolValidation => "ProtocolValidation",
            Self::Approval => "Approval",
            Self::Accepted => "Accepted",
            Self::Connected(Presence::NotInGame) => "NotInGame",
            Self::Connected(Presence::InGame) => "InGame",
            Self::Disconnecting => "Disconnecting",
            Self::Disconnected => "Disconnected",
        }
    }
}

impl std::fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
