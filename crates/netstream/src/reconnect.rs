//! Coming back by itself: a component that keeps a client connected.

use std::time::Duration;

use bevy_ecs::component::Component;
use bevy_ecs::entity::Entity;
use bevy_ecs::system::{Query, ResMut};
use netstream_driver::transport::{DisconnectCode, DisconnectReason, Mono, Origin};

use crate::{ConnectOptions, ConnectionState, NetworkStreamDriver};

/// Keeps this client World connected to a server: connects, and when the connection is lost tries again after a growing,
/// randomly shortened pause. Spawn it on an entity of its own; [`status`](Self::status) says what it is doing.
///
/// Several endpoints are tried in their order until one answers. With the resume ticket of the last connection the player
/// gets his [`NetworkId`](crate::NetworkId) back.
///
/// It does not try again after an end that trying cannot mend: the application closed the connection, or the server said
/// that this player is kicked, banned, denied or superseded, or that the versions differ. A connect token is good for
/// one connection only: without a join code it gives up with `TokenExpired` after the first loss, and wants a new
/// component with a fresh token.
///
/// ```
/// # use netstream::prelude::*;
/// # use netstream::NetworkStreamReconnect;
/// # use bevy_app::App;
/// # let mut app = App::new();
/// # app.add_plugins(NetworkStreamPlugin::client());
/// let keep = NetworkStreamReconnect::new(["ipc://arena"], ConnectOptions::new());
/// app.world_mut().spawn(keep);
/// ```
#[derive(Component, Debug)]
pub struct NetworkStreamReconnect {
    endpoints: Vec<String>,
    options: ConnectOptions,
    /// The pause after the first failed round over the endpoints; it doubles with each. Default 500 ms.
    pub first_pause: Duration,
    /// The longest pause. Default 30 s.
    pub longest_pause: Duration,
    /// Gives up after so many failed rounds in a row; never where `None`, the default.
    pub max_rounds: Option<u32>,
    status: ReconnectStatus,
    /// Failed rounds in a row.
    rounds: u32,
}

/// What a [`NetworkStreamReconnect`] is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ReconnectStatus {
    /// It has not run yet.
    #[default]
    Starting,
    /// An attempt is under way.
    Connecting {
        /// Which of the endpoints, counted from 0.
        endpoint: usize,
        /// The attempt's connection.
        connection: Entity,
    },
    /// It stands.
    Connected {
        /// Which of the endpoints, counted from 0.
        endpoint: usize,
        /// The connection.
        connection: Entity,
    },
    /// All endpoints failed, or the connection was lost; the next attempt follows by itself.
    Waiting {
        /// When, on this World's monotonic clock.
        until: Mono,
        /// How the last attempt or connection ended.
        last: String,
    },
    /// It will not try again.
    GaveUp {
        /// Why.
        because: String,
    },
}

impl NetworkStreamReconnect {
    /// Keeps connected to the first of these endpoints that answers.
    pub fn new<T: Into<String>>(endpoints: impl IntoIterator<Item = T>, options: ConnectOptions) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            options,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            max_rounds: None,
            status: ReconnectStatus::Starting,
            rounds: 0,
        }
    }

    /// What it is doing.
    pub fn status(&self) -> &ReconnectStatus {
        &self.status
    }

    /// Tries the endpoints from `first` on; the first call that is right decides.
    fn attempt(&mut self, net: &mut NetworkStreamDriver, first: usize, mut last: String) {
        for endpoint in first..self.endpoints.len() {
            match net.connect_with(&self.endpoints[endpoint], self.options.clone()) {
                Ok(connection) => {
                    self.status = ReconnectStatus::Connecting { endpoint, connection };
                    return;
                }
                Err(error) => last = error.to_string(),
            }
        }
        self.pause(net, last);
    }

    fn pause(&mut self, net: &mut NetworkStreamDriver, last: String) {
        self.rounds = self.rounds.saturating_add(1);
        if self.max_rounds.is_some_and(|most| self.rounds >= most) {
            self.status = ReconnectStatus::GaveUp { because: last };
            return;
        }
        let doubled = self.first_pause.saturating_mul(1 << (self.rounds - 1).min(20));
        let pause = doubled.min(self.longest_pause);
        // Half of it is left to chance, so that the players of a server that died do not return as one.
        let spread = net.random_below(pause.as_nanos() as u64 / 2);
        let until = net.now().mono + (pause - Duration::from_nanos(spread));
        self.status = ReconnectStatus::Waiting { until, last };
    }

    /// The connection is over.
    fn ended(&mut self, net: &mut NetworkStreamDriver, endpoint: usize, stood: bool, reason: &DisconnectReason) {
        if !mends(reason) {
            self.status = ReconnectStatus::GaveUp { because: reason.to_string() };
        } else if stood && self.options.has_token() {
            let because = "a connect token is good for one connection; fetch a new one".to_owned();
            self.status = ReconnectStatus::GaveUp { because };
        } else if stood {
            self.rounds = 0;
            self.pause(net, reason.to_string());
        } else {
            self.attempt(net, endpoint + 1, reason.to_string());
        }
    }
}

/// Whether trying again can help.
fn mends(reason: &DisconnectReason) -> bool {
    use DisconnectCode as Code;
    match reason.code {
        Code::Kicked | Code::Banned | Code::Superseded | Code::IdentityInUse => false,
        Code::ApprovalDenied | Code::AuthenticationFailure | Code::TokenExpired | Code::ProtocolMismatch => false,
        Code::ServerIdentityChanged | Code::InvalidRpc | Code::EntityDespawned => false,
        // What an application's code means is not ours to guess: the game decides what to do.
        Code::Application(_) => false,
        Code::ConnectionClose => reason.origin != Origin::Local,
        _ => true,
    }
}

/// What [`reconnect`] works on.
pub(crate) type Keepers<'w, 's> = (ResMut<'w, NetworkStreamDriver>, Query<'w, 's, &'static mut NetworkStreamReconnect>);

/// Drives every [`NetworkStreamReconnect`].
pub(crate) fn reconnect((mut net, mut keepers): Keepers<'_, '_>) {
    for mut keeper in &mut keepers {
        match keeper.status.clone() {
            ReconnectStatus::Starting => keeper.attempt(&mut net, 0, "no endpoint was given".to_owned()),
            ReconnectStatus::Waiting { until, last } if net.now().mono >= until => keeper.attempt(&mut net, 0, last),
            ReconnectStatus::Connecting { endpoint, connection }
            | ReconnectStatus::Connected { endpoint, connection } => {
                let stood = matches!(keeper.status, ReconnectStatus::Connected { .. });
                let ended = net.events.iter().rev().find(|event| event.connection == connection);
                let reason = ended.and_then(|event| event.reason.clone());
                match (reason, net.state(connection)) {
                    (Some(reason), _) => keeper.ended(&mut net, endpoint, stood, &reason),
                    (None, Some(ConnectionState::Connected(_))) => {
                        if !stood {
                            keeper.rounds = 0;
                            keeper.status = ReconnectStatus::Connected { endpoint, connection };
                        }
                    }
                    (None, Some(_)) => {}
                    // Somebody has taken the session away.
                    (None, None) => {
                        let reason = DisconnectReason::local(DisconnectCode::EntityDespawned);
                        keeper.ended(&mut net, endpoint, stood, &reason);
                    }
                }
            }
            ReconnectStatus::Waiting { .. } | ReconnectStatus::GaveUp { .. } => {}
        }
    }
}
