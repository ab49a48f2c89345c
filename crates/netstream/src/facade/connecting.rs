//! Connecting to a server.

use bevy_ecs::entity::Entity;
use netstream_driver::transport::netcode::{ConnectToken, JoinCode};
use netstream_driver::{ConnectionKey, Credentials, DriverId, Endpoint, EndpointError, NetworkDriver, Scheme};

use super::NetworkStreamDriver;
use crate::errors::NetworkConnectError;
use crate::state::Side;

/// What a client shows when it connects.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    transport: Credentials,
    credentials: Vec<u8>,
    as_new: bool,
}

impl ConnectOptions {
    /// Nothing; enough in-process.
    pub fn new() -> Self {
        Self::default()
    }

    /// The join code that the server printed.
    #[must_use]
    pub fn join_code(mut self, code: JoinCode) -> Self {
        self.transport = Credentials::JoinCode(code);
        self
    }

    /// A connect token that the game's back-end issued for this player.
    #[must_use]
    pub fn token(mut self, token: ConnectToken) -> Self {
        self.transport = Credentials::Token(Box::new(token));
        self
    }

    /// Does not ask for the id that this World had on the same server before.
    #[must_use]
    pub fn as_new_player(mut self) -> Self {
        self.as_new = true;
        self
    }

    pub(crate) fn has_token(&self) -> bool {
        matches!(self.transport, Credentials::Token(_))
    }

    /// Bytes for the server's game code to judge when it requires approval: a password, a ticket. At most
    /// [`NetworkLimits::credentials`](crate::NetworkLimits::credentials). They travel sealed where the driver is remote.
    #[must_use]
    pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
        self.credentials = credentials.into();
        self
    }
}

impl NetworkStreamDriver {
    /// Starts to connect to a server, whose endpoint is text or an [`Endpoint`]; the scheme chooses the driver. Enough for in-process endpoints; others want
    /// [`connect_with`](Self::connect_with) a join code or token.
    ///
    /// The returned entity is the connection from now on; its state is Connecting. Components may be inserted on it at
    /// once. The outcome is reported by [`ConnectionEvent`](crate::ConnectionEvent)s.
    pub fn connect<E>(&mut self, endpoint: E) -> Result<Entity, NetworkConnectError>
    where
        E: TryInto<Endpoint, Error: Into<EndpointError>>,
    {
        self.connect_with(endpoint, ConnectOptions::new())
    }

    /// The same with a join code or token for the driver, and credentials for the server's game code.
    pub fn connect_with<E>(&mut self, endpoint: E, options: ConnectOptions) -> Result<Entity, NetworkConnectError>
    where
        E: TryInto<Endpoint, Error: Into<EndpointError>>,
    {
        let endpoint = endpoint.try_into().map_err(Into::into)?;
        let key = self.dial(&endpoint, &options)?;
        let reserved = self.reserved.pop();
        let entity = reserved.unwrap_or_else(|| self.session.alloc_entity());
        let reserved = reserved.is_some();
        self.session.core.connect(entity, key, endpoint, options.credentials, options.as_new, reserved);
        Ok(entity)
    }

    /// The same for an entity that exists.
    pub(crate) fn connect_entity(
        &mut self,
        entity: Entity,
        endpoint: &str,
        options: ConnectOptions,
    ) -> Result<(), NetworkConnectError> {
        if self.slot(entity).is_ok() {
            return Err(NetworkConnectError::AlreadyConnected(entity));
        }
        let endpoint = endpoint.parse()?;
        let key = self.dial(&endpoint, &options)?;
        self.session.core.connect(entity, key, endpoint, options.credentials, options.as_new, true);
        Ok(())
    }

    /// Checks everything, finds or makes the driver and lets it reach for the server. After an error nothing is left.
    fn dial(&mut self, endpoint: &Endpoint, options: &ConnectOptions) -> Result<ConnectionKey, NetworkConnectError> {
        let core = &self.session.core;
        if core.side == Side::Server {
            return Err(NetworkConnectError::NotAClient);
        }
        let live = || core.connections.iter().find(|(_, connection)| !connection.state.is_ending());
        if let (false, Some((_, live))) = (core.thin, live()) {
            return Err(NetworkConnectError::AlreadyConnected(live.entity));
        }
        let (size, limit) = (options.credentials.len(), core.limits.credentials.min(4096));
        if size > limit {
            return Err(NetworkConnectError::CredentialsTooLong { size, limit });
        }
        let driver = match self.idle_driver(endpoint.scheme()) {
            Some(driver) => driver,
            None => {
                let made = (self.constructor)(endpoint).ok_or(NetworkConnectError::NoDriver(endpoint.scheme()))?;
                self.session.add_own(made)
            }
        };
        let now = self.session.now();
        let found = self.session.store.get_mut(driver).ok_or(NetworkConnectError::NoDriver(endpoint.scheme()))?;
        match found.connect(now, endpoint, &options.transport) {
            Ok(connection) => Ok(ConnectionKey { driver, connection }),
            Err(error) => {
                self.session.sweep();
                Err(error.into())
            }
        }
    }

    /// A driver of this scheme that the application added and that carries nothing.
    fn idle_driver(&self, scheme: Scheme) -> Option<DriverId> {
        let fits = |(id, driver): (DriverId, &dyn NetworkDriver)| {
            let idle = driver.listening().is_none()
                && !self.session.is_own(id)
                && self.session.core.connections.of_driver(id).is_empty();
            (driver.scheme() == scheme.as_str() && idle).then_some(id)
        };
        self.session.store.iter().find_map(fits)
    }
}
