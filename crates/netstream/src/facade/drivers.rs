//! Drivers: add, listen, stop, drain, remove, reset; while people play.

use std::time::Duration;

use bevy_ecs::component::Component;
use netstream_driver::transport::netcode::JoinCode;
use netstream_driver::transport::{DisconnectCode, DisconnectReason};
use netstream_driver::udp::UdpDriver;
use netstream_driver::{DriverId, Endpoint, EndpointError, NetworkDriver, NetworkDriverStore};

use super::NetworkStreamDriver;
use crate::DriverEvent;
use crate::errors::{NetworkListenError, StillConnected, UnknownDriver};
use crate::state::Side;

/// A driver that listens. Also the component that answers a
/// [`NetworkStreamRequestListen`](crate::NetworkStreamRequestListen).
#[derive(Component, Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Which driver.
    pub driver: DriverId,
    /// Where, with the port that was really bound.
    pub endpoint: Endpoint,
}

/// What [`NetworkStreamDriver::reset`] does with connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetPolicy {
    /// Change nothing if there are any.
    RefuseIfConnected,
    /// End them with this reason.
    CloseConnections(DisconnectReason),
}

impl NetworkStreamDriver {
    /// Takes in a driver that the application made. It neither listens nor connects yet.
    pub fn add_driver(&mut self, driver: impl NetworkDriver) -> DriverId {
        self.session.store.add(driver)
    }

    /// Removes a driver. Its connections, and only they, end with `reason`; the peers are told.
    pub fn remove_driver(&mut self, driver: DriverId, reason: DisconnectReason) -> Result<(), UnknownDriver> {
        self.session.remove_driver(driver, &reason).map(drop).ok_or(UnknownDriver(driver))
    }

    /// The drivers, to look at.
    pub fn drivers(&self) -> &NetworkDriverStore {
        &self.session.store
    }

    /// The drivers, to change what only their kind has, e.g. the link simulator. Do not remove one this way: use
    /// [`remove_driver`](Self::remove_driver).
    pub fn drivers_mut(&mut self) -> &mut NetworkDriverStore {
        &mut self.session.store
    }

    /// What a client with the types of this World says first, on the channel `RELIABLE`, over a driver with the channels of
    /// this one. For load generators and tests whose many players have no World each. Complete after the first update.
    pub fn greeting(&self, driver: DriverId) -> Vec<u8> {
        self.session.core.greeting(driver)
    }

    /// Listens at an endpoint (text or an [`Endpoint`]) with a driver of its own, made for the endpoint's scheme. May be called any number of
    /// times, for several drivers at once. After an error nothing of it is open.
    pub fn listen<E>(&mut self, endpoint: E) -> Result<Listening, NetworkListenError>
    where
        E: TryInto<Endpoint, Error: Into<EndpointError>>,
    {
        let endpoint = endpoint.try_into().map_err(Into::into)?;
        if self.session.core.side == Side::Client {
            return Err(NetworkListenError::NotAServer);
        }
        let driver = (self.constructor)(&endpoint).ok_or(NetworkListenError::NoDriver(endpoint.scheme()))?;
        let driver = self.session.store.add_boxed(driver);
        self.listen_on(driver, &endpoint).inspect_err(|_| {
            self.session.store.remove(driver);
        })
    }

    /// Listens at an endpoint with a driver that was added before.
    pub fn listen_on(&mut self, driver: DriverId, endpoint: &Endpoint) -> Result<Listening, NetworkListenError> {
        if self.session.core.side == Side::Client {
            return Err(NetworkListenError::NotAServer);
        }
        let now = self.session.now();
        let found = self.session.store.get_mut(driver).ok_or(NetworkListenError::UnknownDriver(driver))?;
        match found.listen(now, endpoint) {
            Ok(endpoint) => {
                self.session.driver_events.push(DriverEvent::Listening { driver, endpoint: endpoint.clone() });
                Ok(Listening { driver, endpoint })
            }
            Err(error) => {
                let (endpoint, error_text) = (endpoint.clone(), error.to_string());
                self.session.driver_events.push(DriverEvent::ListenFailed { driver, endpoint, error: error_text });
                Err(error.into())
            }
        }
    }

    /// Accepts nobody new on this driver from now on. Its connections stay.
    pub fn stop_listening(&mut self, driver: DriverId) -> Result<(), UnknownDriver> {
        let now = self.session.now();
        let found = self.session.store.get_mut(driver).ok_or(UnknownDriver(driver))?;
        if found.listening().is_some() {
            found.stop_listening(now);
            self.session.driver_events.push(DriverEvent::Stopped { driver });
        }
        Ok(())
    }

    /// Listens at several endpoints, all or none: after an error nothing of this call is open, and every endpoint that
    /// failed is named with its reason.
    pub fn listen_all(&mut self, endpoints: &[&str]) -> Result<Vec<Listening>, Vec<(String, NetworkListenError)>> {
        let (mut open, mut failed) = (Vec::new(), Vec::new());
        for &endpoint in endpoints {
            match self.listen(endpoint) {
                Ok(listening) => open.push(listening),
                Err(error) => failed.push((endpoint.to_owned(), error)),
            }
        }
        if failed.is_empty() {
            return Ok(open);
        }
        for listening in open {
            self.session.remove_driver(listening.driver, &DisconnectReason::local(DisconnectCode::DriverRemoved));
        }
        Err(failed)
    }

    /// Accepts nobody new on this driver; tells those who are connected, who may finish within this time. Whoever is
    /// still there then is closed with `DrainDeadline` and this text. [`DriverEvent`]s tell of both ends of it.
    pub fn drain(&mut self, driver: DriverId, within: Duration, text: &str) -> Result<(), UnknownDriver> {
        let reason = DisconnectReason::local(DisconnectCode::DrainDeadline).with_text(text);
        if self.session.drain(driver, within, reason) { Ok(()) } else { Err(UnknownDriver(driver)) }
    }

    /// [`drain`](Self::drain) for every driver.
    pub fn drain_all(&mut self, within: Duration, text: &str) {
        let drivers: Vec<DriverId> = self.session.store.iter().map(|(driver, _)| driver).collect();
        for driver in drivers {
            // Each was there a moment ago.
            let _ = self.drain(driver, within, text);
        }
    }

    /// Exchanges all drivers for others. Ids of the old ones name nothing afterwards, and the ids of the new ones are
    /// returned in their order.
    pub fn reset(
        &mut self,
        drivers: Vec<Box<dyn NetworkDriver>>,
        policy: &ResetPolicy,
    ) -> Result<Vec<DriverId>, StillConnected> {
        let connected = self.connections().count();
        let reason = match policy {
            ResetPolicy::RefuseIfConnected if connected > 0 => return Err(StillConnected(connected)),
            ResetPolicy::RefuseIfConnected => DisconnectReason::local(DisconnectCode::DriverRemoved),
            ResetPolicy::CloseConnections(reason) => reason.clone(),
        };
        let old: Vec<DriverId> = self.session.store.iter().map(|(driver, _)| driver).collect();
        for driver in old {
            self.session.remove_driver(driver, &reason);
        }
        Ok(drivers.into_iter().map(|driver| self.session.store.add_boxed(driver)).collect())
    }

    /// Every driver that listens, and where.
    pub fn endpoints(&self) -> impl Iterator<Item = Listening> {
        let drivers = self.session.store.iter();
        drivers.filter_map(|(driver, found)| found.listening().map(|endpoint| Listening { driver, endpoint }))
    }

    /// The code that clients need to join this UDP driver; `None` for other drivers and for those that take tokens of a
    /// back-end.
    pub fn join_code(&self, driver: DriverId) -> Option<JoinCode> {
        self.session.store.get_as::<UdpDriver>(driver)?.join_code().cloned()
    }
}
