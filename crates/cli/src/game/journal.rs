//! What a World has seen, for whoever drives it.

use std::net::SocketAddr;

use bevy_ecs::entity::Entity;
use bevy_ecs::lifecycle::Remove;
use bevy_ecs::message::MessageReader;
use bevy_ecs::observer::On;
use bevy_ecs::resource::Resource;
use bevy_ecs::system::{Commands, Query, Res, ResMut};
use netstream::driver::DriverId;
use netstream::prelude::*;
use netstream::state::Side;

use super::record::Record;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Happened {
    /// To a connection.
    Connection {
        event: ConnectionEvent,
        scheme: &'static str,
        /// Where the peer is; `None` in-process and before it is known.
        address: Option<SocketAddr>,
    },
    /// To a driver.
    Driver(DriverEvent),
    /// A peer said something; the text is safe to print.
    Chat { connection: Entity, text: String },
}

impl Happened {
    /// The driver that it happened to, or whose connection it happened to; `None` for what is said.
    pub(crate) fn driver(&self) -> Option<DriverId> {
        match self {
            Self::Connection { event, .. } => Some(event.driver()),
            Self::Driver(event) => match event {
                DriverEvent::Listening { driver, .. }
                | DriverEvent::ListenFailed { driver, .. }
                | DriverEvent::Stopped { driver }
                | DriverEvent::Draining { driver, .. }
                | DriverEvent::Drained { driver }
                | DriverEvent::Removed { driver } => Some(*driver),
                _ => None,
            },
            Self::Chat { .. } => None,
        }
    }
}

/// Something that must never happen.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// On a connection of this driver.
    pub(crate) driver: Option<DriverId>,
    pub(crate) what: String,
}

impl Fault {
    /// A fault of this connection.
    pub(super) fn of(record: &Record, what: &str) -> Self {
        Self { driver: Some(record.key.driver), what: format!("{}: {what}", record.name()) }
    }
}

/// What a World has seen. Whoever drives the World takes it all after each update, so that nothing grows.
#[derive(Resource, Debug)]
pub(crate) struct Journal {
    pub(crate) side: Side,
    /// In order.
    pub(crate) happened: Vec<Happened>,
    /// Connections whose entities are gone.
    pub(crate) finished: Vec<Record>,
    pub(crate) faults: Vec<Fault>,
}

impl Journal {
    /// An empty one.
    pub(crate) fn new(side: Side) -> Self {
        Self { side, happened: Vec::new(), finished: Vec::new(), faults: Vec::new() }
    }
}

/// Notes every event when it is raised, on the record of its connection and in the journal.
pub(super) fn note_event(
    event: On<ConnectionEvent>,
    net: Res<NetworkStreamDriver>,
    mut journal: ResMut<Journal>,
    mut records: Query<&mut Record>,
    mut commands: Commands,
) {
    let event = event.event();
    let journal = &mut *journal;
    let mut note = |record: &mut Record| {
        let mut faults = Vec::new();
        record.note(event, |fault| faults.push(fault));
        journal.faults.extend(faults.iter().map(|fault| Fault::of(record, fault)));
        if let Some(stats) = net.stats(event.connection) {
            record.measure(&stats);
        }
        let (scheme, address) = (record.scheme, record.address);
        journal.happened.push(Happened::Connection { event: event.clone(), scheme, address });
    };
    if let Ok(mut record) = records.get_mut(event.connection) {
        note(&mut record);
    } else {
        let scheme = net.drivers().get(event.driver()).map_or("?", |driver| driver.scheme());
        let mut record = Record::new(event.key, journal.side, scheme);
        note(&mut record);
        if let Ok(mut entity) = commands.get_entity(event.connection) {
            entity.try_insert(record);
        } else {
            journal.finished.push(record);
        }
    }
}

/// Keeps the record of a connection whose entity goes.
pub(super) fn keep_record(removed: On<Remove<Record>>, records: Query<&Record>, mut journal: ResMut<Journal>) {
    if let Ok(record) = records.get(removed.event().entity) {
        journal.finished.push(record.clone());
    }
}

/// Notes what happens to drivers.
pub(super) fn note_drivers(mut events: MessageReader<DriverEvent>, mut journal: ResMut<Journal>) {
    journal.happened.extend(events.read().cloned().map(Happened::Driver));
}
