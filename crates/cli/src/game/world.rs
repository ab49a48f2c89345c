//! One World that plays the game, and what its owner does with it.

use std::collections::BTreeMap;

use bevy_app::App;
use bevy_ecs::entity::Entity;
use bevy_ecs::world::Mut;
use netstream::driver::{DriverId, Endpoint};
use netstream::prelude::*;
use netstream::state::Side;
use netstream::{ConnectOptions, GameProtocol, NetworkConnectError};

use super::journal::{Fault, Happened, Journal};
use super::play::{GamePlugin, Load};
use super::record::Record;

/// What this tool calls its game unless it is told otherwise.
pub(crate) fn game_protocol() -> GameProtocol {
    GameProtocol::new("netstream-cli", 1)
}

/// A server or client World in an App of its own.
pub(crate) struct GameWorld {
    app: App,
    /// A client's connection, also after its end.
    connection: Option<Entity>,
}

impl GameWorld {
    /// A server World. Nothing listens yet.
    pub(crate) fn server(plugin: NetworkStreamPlugin, load: Load) -> Self {
        Self::new(plugin, GamePlugin { side: Side::Server, load })
    }

    /// A client World. Nothing connects yet.
    pub(crate) fn client(plugin: NetworkStreamPlugin, load: Load) -> Self {
        Self::new(plugin, GamePlugin { side: Side::Client, load })
    }

    fn new(plugin: NetworkStreamPlugin, game: GamePlugin) -> Self {
        let mut app = App::new();
        app.add_plugins((plugin, game));
        Self { app, connection: None }
    }

    /// The App, to add to.
    pub(crate) fn app(&mut self) -> &mut App {
        &mut self.app
    }

    /// The App, to look at.
    pub(crate) fn as_app(&self) -> &App {
        &self.app
    }

    /// Lets the World go on by one update.
    pub(crate) fn update(&mut self) {
        self.app.update();
    }

    /// The network of this World.
    pub(crate) fn net(&mut self) -> Mut<'_, NetworkStreamDriver> {
        self.app.world_mut().resource_mut::<NetworkStreamDriver>()
    }

    /// Client: starts to connect.
    pub(crate) fn connect(&mut self, endpoint: &Endpoint, options: ConnectOptions) -> Result<(), NetworkConnectError> {
        self.connection = Some(self.net().connect_with(endpoint, options)?);
        Ok(())
    }

    /// Crowd: starts another connection.
    pub(crate) fn connect_another(
        &mut self,
        endpoint: &str,
        options: ConnectOptions,
    ) -> Result<(), NetworkConnectError> {
        self.net().connect_with(endpoint, options).map(drop)
    }

    /// Crowd: ends a connection. One that is over stays so.
    pub(crate) fn leave(&mut self, connection: Entity) {
        let _ = self.net().disconnect(connection, DisconnectReason::local(DisconnectCode::ConnectionClose));
    }

    /// The metrics of all drivers together.
    pub(crate) fn metrics(&mut self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (_, driver) in self.net().drivers().iter() {
            driver.metrics(&mut |name, value| *sums.entry(name).or_default() += value);
        }
        sums
    }

    /// What the present connections have been through; says how many are in the game.
    pub(crate) fn count_present(&mut self, mut count: impl FnMut(&Record)) -> u64 {
        let world = self.app.world_mut();
        let mut records = world.query::<&Record>();
        let mut playing = 0;
        for record in records.iter(world) {
            playing += u64::from(record.state.is_in_game());
            count(record);
        }
        playing
    }

    /// Accepts nobody new and says goodbye on every connection, as its side does when it goes away.
    pub(crate) fn close(&mut self, side: Side) {
        let mut net = self.net();
        for listening in net.endpoints().collect::<Vec<_>>() {
            // It was there a moment ago.
            let _ = net.stop_listening(listening.driver);
        }
        let code = match side {
            Side::Server => DisconnectCode::ServerShutdown,
            Side::Client => DisconnectCode::ConnectionClose,
        };
        net.disconnect_all(&DisconnectReason::local(code));
    }

    /// Whether every connection is over and gone.
    pub(crate) fn is_alone(&mut self) -> bool {
        let none_begun = self.net().connections().next().is_none();
        none_begun && self.app.world_mut().query::<&Record>().iter(self.app.world()).next().is_none()
    }

    /// The connections that are not over yet, in words.
    pub(crate) fn leftovers(&mut self) -> Vec<String> {
        let world = self.app.world_mut();
        let mut records = world.query::<&Record>();
        let records = records.iter(world);
        records.map(|record| format!("{} in state {}", record.name(), record.state)).collect()
    }

    /// Client: what its connection has been through; `None` when that is over.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.app.world().get::<Record>(self.connection?)
    }

    /// Client: whether it plays.
    pub(crate) fn is_in_game(&self) -> bool {
        self.record().is_some_and(|record| record.state.is_in_game())
    }

    /// Whether this driver carries connections.
    pub(crate) fn has_connections_over(&mut self, driver: DriverId) -> bool {
        let world = self.app.world_mut();
        world.query::<&Record>().iter(world).any(|record| record.key.driver == driver)
    }

    /// Server: the connection of a player.
    pub(crate) fn connection_of(&mut self, id: NetworkId) -> Option<Entity> {
        let world = self.app.world_mut();
        world.query::<(Entity, &NetworkId)>().iter(world).find(|(_, other)| **other == id).map(|(entity, _)| entity)
    }

    /// What the World has seen since it was last asked.
    pub(crate) fn take_journal(&mut self) -> Seen {
        let mut journal = self.app.world_mut().resource_mut::<Journal>();
        Seen {
            happened: std::mem::take(&mut journal.happened),
            finished: std::mem::take(&mut journal.finished),
            faults: std::mem::take(&mut journal.faults),
        }
    }
}

/// What a World has seen in some updates.
pub(crate) struct Seen {
    /// In order.
    pub(crate) happened: Vec<Happened>,
    /// Connections that are over and gone.
    pub(crate) finished: Vec<Record>,
    pub(crate) faults: Vec<Fault>,
}

impl Seen {
    /// What concerns these drivers or none, and what concerns the others.
    pub(crate) fn split(self, drivers: &[DriverId]) -> (Self, Self) {
        let ours = |driver: Option<DriverId>| driver.is_none_or(|driver| drivers.contains(&driver));
        let (happened, others_happened) = self.happened.into_iter().partition(|happened| ours(happened.driver()));
        let (finished, others_finished) =
            self.finished.into_iter().partition(|record: &Record| ours(Some(record.key.driver)));
        let (faults, others_faults) = self.faults.into_iter().partition(|fault| ours(fault.driver));
        (
            Self { happened, finished, faults },
            Self { happened: others_happened, finished: others_finished, faults: others_faults },
        )
    }
}
