//! What happens to connections and drivers, as the application sees it.

use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::entity::Entity;
use bevy_ecs::event::EntityEvent;
use bevy_ecs::message::Message;
use netstream_driver::transport::DisconnectReason;
use netstream_driver::{ConnectionKey, DriverId, Endpoint};

use crate::session::ProtocolDiff;
use crate::{ConnectionState, NetworkId};

/// A connection changed its state.
///
/// Raised once for every change, in order, on the side where it happens; a client World sees only its own. Read it with
/// a `MessageReader<ConnectionEvent>`, observe it (`app.add_observer(|event: On<ConnectionEvent>| ...)`, or on one
/// entity), or list those of the current update with
/// [`NetworkStreamDriver::events`](crate::NetworkStreamDriver::events).
#[derive(Message, EntityEvent, Clone, Debug, PartialEq)]
pub struct ConnectionEvent {
    /// The connection's entity. With `Disconnected` it still exists until the end of this update.
    #[event_target]
    pub connection: Entity,
    /// Names the connection for all time.
    pub key: ConnectionKey,
    /// The new state.
    pub state: ConnectionState,
    /// The id, from Accepted on.
    pub network_id: Option<NetworkId>,
    /// The player had this id before and got it back with a resume ticket.
    pub reconnected: bool,
    /// Why it ended; with `Disconnected`, and only there.
    pub reason: Option<DisconnectReason>,
    /// What differs, where the reason is `ProtocolMismatch`.
    pub mismatch: Option<Arc<ProtocolDiff>>,
}

impl ConnectionEvent {
    /// The driver that carries the connection.
    pub fn driver(&self) -> DriverId {
        self.key.driver
    }
}

/// Something happened to a driver.
#[derive(Message, Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DriverEvent {
    /// The driver accepts connections.
    Listening {
        /// Which driver.
        driver: DriverId,
        /// Where, with the port that was really bound.
        endpoint: Endpoint,
    },
    /// The driver could not listen; nothing of it is open.
    ListenFailed {
        /// Which driver; it does not exist any more if `listen` had made it.
        driver: DriverId,
        /// Where it should have been.
        endpoint: Endpoint,
        /// What was wrong and what to do.
        error: String,
    },
    /// The driver accepts nobody new; its connections stay.
    Stopped {
        /// Which driver.
        driver: DriverId,
    },
    /// The driver accepts nobody new, and closes its connections when the time is over.
    Draining {
        /// Which driver.
        driver: DriverId,
        /// How much time the players have.
        within: Duration,
    },
    /// All players of a draining driver are gone, by themselves or because the time was over.
    Drained {
        /// Which driver.
        driver: DriverId,
    },
    /// Client: the server takes nobody new and closes this connection when the time is over.
    ServerDraining {
        /// Which connection.
        connection: Entity,
        /// How much time is left.
        within: Duration,
    },
    /// The driver is gone, and its connections with it.
    Removed {
        /// Which driver.
        driver: DriverId,
    },
}
