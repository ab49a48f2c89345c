//! One plugin per role.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use bevy_app::{App, Plugin, PostUpdate, PreUpdate, RunFixedMainLoop, RunFixedMainLoopSystems, Startup};
use bevy_ecs::schedule::{IntoScheduleConfigs, SystemSet};
use bevy_ecs::system::ResMut;
use netstream_driver::transport::Random;
use netstream_driver::transport::channel::ChannelTable;
use netstream_driver::transport::netcode::JoinCode;
use netstream_driver::udp::{Access, UdpConfig, UdpDriver};
use netstream_driver::{Clock, Endpoint, IpcDriver, IpcHub, NetworkDriver, OsRandom, Scheme, SystemClock};

use crate::facade::DriverConstructor;
use crate::rpc::RpcRegistry;
use crate::session::Session;
use crate::state::Side;
use crate::systems::Idle;
use crate::{
    ConnectOptions, ConnectionEvent, DriverEvent, GameProtocol, NetworkLimits, NetworkStreamDriver, NetworkTime,
    SameIdentity, SchemaPolicy, TickRate, rpc, stream, systems,
};

/// When the network acts within an update.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetworkStreamSystems {
    /// In `PreUpdate`: NetworkStreamReceiveSystem. Drivers are received from, states change, events are raised, received
    /// RPCs become messages, commands and snapshots reach their buffers.
    Receive,
    /// In `RunFixedMainLoop`, between `PreUpdate` and `Update`: [`NetworkTick`](crate::NetworkTick) runs as often as
    /// ticks are due.
    Tick,
    /// In `PostUpdate`: NetworkStreamSendSystem. What was queued leaves; entities of ended connections go.
    Send,
}

/// Where Worlds meet by themselves; see [`NetworkStreamPlugin::with_auto_connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoConnect {
    /// The UDP port; 0 means never.
    pub port: u16,
    /// Where a server listens. Default: all addresses of the machine.
    pub listen: IpAddr,
    /// Where a client looks for the server. Default: this machine.
    pub connect: IpAddr,
}

impl AutoConnect {
    /// At this UDP port, on this machine.
    pub const fn at_port(port: u16) -> Self {
        Self { port, listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED), connect: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }

    fn listen_endpoint(&self) -> String {
        Endpoint::udp((self.listen, self.port).into()).to_string()
    }

    fn connect_endpoint(&self) -> String {
        Endpoint::udp((self.connect, self.port).into()).to_string()
    }
}

/// Makes a World a server or a client.
///
/// Nothing listens or connects by itself: that is what [`NetworkStreamDriver`] is for.
pub struct NetworkStreamPlugin {
    side: Side,
    thin: bool,
    auto_connect: Option<AutoConnect>,
    join_code: Option<JoinCode>,
    game: GameProtocol,
    limits: NetworkLimits,
    approval_required: bool,
    hub: Option<IpcHub>,
    channels: ChannelTable,
    constructor: Option<Arc<DriverConstructor>>,
    /// Taken by `build`.
    clock: Mutex<Option<Box<dyn Clock>>>,
    /// Taken by `build`.
    random: Mutex<Option<Box<dyn Random>>>,
    same_identity: SameIdentity,
    schema_policy: SchemaPolicy,
    tick_rate: Option<TickRate>,
}

impl NetworkStreamPlugin {
    /// A World that accepts connections.
    pub fn server() -> Self {
        Self::new(Side::Server)
    }

    /// A World that connects to a server.
    pub fn client() -> Self {
        Self::new(Side::Client)
    }

    /// A client without eyes, for load tests and bots: a full connection that sends commands and acknowledges snapshots
    /// as any client does, so that its server does the same work for it. But it drops them undecoded: there is no
    /// [`IncomingSnapshotBuffer`](crate::IncomingSnapshotBuffer), no [`TickSnapshots`](crate::TickSnapshots), and no
    /// [`ReceivedSnapshot`](crate::ReceivedSnapshot). Such a World may
    /// have many connections at once, which is what makes thousands of bots affordable.
    pub fn thin_client() -> Self {
        Self { thin: true, ..Self::new(Side::Client) }
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            thin: false,
            auto_connect: None,
            join_code: None,
            game: GameProtocol::default(),
            limits: NetworkLimits::default(),
            approval_required: false,
            hub: None,
            channels: ChannelTable::default(),
            constructor: None,
            clock: Mutex::new(None),
            random: Mutex::new(None),
            same_identity: SameIdentity::default(),
            schema_policy: SchemaPolicy::default(),
            tick_rate: None,
        }
    }

    /// Names the game and its version; both ends must agree.
    #[must_use]
    pub fn with_protocol(mut self, game: GameProtocol) -> Self {
        self.game = game;
        self
    }

    /// Lets `ipc://` endpoints join this World with all Worlds that share the hub.
    #[must_use]
    pub fn with_ipc(mut self, hub: &IpcHub) -> Self {
        self.hub = Some(hub.clone());
        self
    }

    /// The channels of every driver that the plugin makes, on both ends the same: the standard ones, and those that the
    /// application declared, each with its promise and its priority. RPC types choose one with
    /// [`RpcOptions::channel`](crate::RpcOptions::channel).
    #[must_use]
    pub fn with_channels(mut self, channels: &ChannelTable) -> Self {
        self.channels = channels.clone();
        self
    }

    /// The join code of UDP: a server takes it instead of a random one, a client shows it when it connects by itself.
    #[must_use]
    pub fn with_join_code(mut self, code: JoinCode) -> Self {
        self.join_code = Some(code);
        self
    }

    /// Listens (server) or connects (client) by itself at the first update. Nothing happens where the port is 0.
    #[must_use]
    pub fn with_auto_connect(mut self, auto: AutoConnect) -> Self {
        self.auto_connect = Some(auto);
        self
    }

    /// Lets the server's game code decide who enters; see
    /// [`NetworkStreamDriver::require_approval`].
    #[must_use]
    pub fn with_approval(mut self) -> Self {
        self.approval_required = true;
        self
    }

    /// Other caps and deadlines than the defaults.
    #[must_use]
    pub fn with_limits(mut self, limits: NetworkLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Another clock than the machine's, for tests and simulations.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Mutex::new(Some(Box::new(clock)));
        self
    }

    /// Another source of randomness than the operating system's, for simulations. Resume tickets come from it.
    #[must_use]
    pub fn with_random(mut self, random: impl Random + 'static) -> Self {
        self.random = Mutex::new(Some(Box::new(random)));
        self
    }

    /// What happens when a player proves to be one who is still connected.
    #[must_use]
    pub fn with_same_identity(mut self, policy: SameIdentity) -> Self {
        self.same_identity = policy;
        self
    }

    /// How much two ends may differ in their RPC types and still play together.
    #[must_use]
    pub fn with_schema_policy(mut self, policy: SchemaPolicy) -> Self {
        self.schema_policy = policy;
        self
    }

    /// Runs [`NetworkTick`](crate::NetworkTick) this often a second; the same on both ends.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn with_tick_rate(mut self, hz: u16) -> Self {
        self.tick_rate = Some(TickRate::hz(hz).expect("a tick rate is at least 1 Hz"));
        self
    }

    /// Makes the drivers of `listen` and `connect` calls; where it returns `None`, the plugin's own constructor is
    /// asked: UDP with a random join code, and IPC where a hub was given, both with the plugin's channels.
    #[must_use]
    pub fn with_driver_constructor(
        mut self,
        constructor: impl Fn(&Endpoint) -> Option<Box<dyn NetworkDriver>> + Send + Sync + 'static,
    ) -> Self {
        self.constructor = Some(Arc::new(constructor));
        self
    }

    fn construct(&self) -> Box<DriverConstructor> {
        let (given, hub, code) = (self.constructor.clone(), self.hub.clone(), self.join_code.clone());
        let channels = self.channels.clone();
        Box::new(move |endpoint| {
            if let Some(driver) = given.as_ref().and_then(|given| given(endpoint)) {
                return Some(driver);
            }
            match endpoint.scheme() {
                Scheme::Udp => {
                    let mut config = UdpConfig::new(&mut OsRandom).with_channels(&channels);
                    if let Some(code) = &code {
                        config.access = Access::JoinCode(code.clone());
                    }
                    Some(Box::new(UdpDriver::with_config(config)))
                }
                Scheme::Ipc => Some(Box::new(IpcDriver::new(hub.as_ref()?).with_channels(channels.clone()))),
                _ => None,
            }
        })
    }
}

impl Plugin for NetworkStreamPlugin {
    fn build(&self, app: &mut App) {
        let clock = self.clock.lock().ok().and_then(|mut clock| clock.take());
        let clock = clock.unwrap_or_else(|| Box::new(SystemClock::new()));
        let random = self.random.lock().ok().and_then(|mut random| random.take());
        let random = random.unwrap_or_else(|| Box::new(OsRandom));
        let entities = app.world().entity_allocator().build_remote_allocator();
        let mut session = Session::new(self.side, clock, random, entities);
        session.game = self.game.clone();
        session.core.limits = self.limits.clone();
        session.core.approval_required = self.approval_required;
        session.core.thin = self.thin;
        session.core.same_identity = self.same_identity;
        session.core.schema_policy = self.schema_policy;
        app.insert_resource(NetworkStreamDriver::new(session, self.construct()))
            .init_resource::<Idle>()
            .init_resource::<RpcRegistry>()
            .add_message::<ConnectionEvent>()
            .add_message::<DriverEvent>()
            .configure_sets(
                RunFixedMainLoop,
                NetworkStreamSystems::Tick.in_set(RunFixedMainLoopSystems::BeforeFixedMainLoop),
            )
            .add_systems(PreUpdate, systems::receive.in_set(NetworkStreamSystems::Receive))
            .add_systems(RunFixedMainLoop, systems::tick.in_set(NetworkStreamSystems::Tick))
            .add_systems(PostUpdate, systems::send.in_set(NetworkStreamSystems::Send));
        if let Some(rate) = self.tick_rate {
            app.insert_resource(NetworkTime::new(rate));
        }
        rpc::build(app);
        stream::build(app);
        systems::reserve(app.world_mut());
        if let Some(auto) = self.auto_connect.filter(|auto| auto.port != 0) {
            let (side, code) = (self.side, self.join_code.clone());
            app.add_systems(Startup, move |mut net: ResMut<'_, NetworkStreamDriver>| {
                let done = match side {
                    Side::Server => net.listen(auto.listen_endpoint()).map(drop).map_err(|error| error.to_string()),
                    Side::Client => {
                        let options = code.iter().cloned().fold(ConnectOptions::new(), ConnectOptions::join_code);
                        let started = net.connect_with(auto.connect_endpoint(), options);
                        started.map(drop).map_err(|error| error.to_string())
                    }
                };
                if let Err(error) = done {
                    tracing::error!("auto-connect: {error}");
                }
            });
        }
    }
}
