//! RPCs on channels that the application declares: which of them leaves first, and what each promises.

use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use netstream::driver::link::{LinkProfile, Simulated};
use netstream::driver::udp::{Access, MemoryNetwork, UdpConfig};
use netstream::driver::{IpcDriver, ManualClock, NetworkDriver, Scheme, UdpDriver};
use netstream::prelude::*;
use netstream::transport::channel::{ChannelConfig, ChannelKind, ChannelTable};
use netstream::transport::netcode::JoinCode;
use netstream::transport::{ChannelId, SeededRandom};
use netstream::{RpcOptions, RpcOutcome, RpcReceipt};
use serde::{Deserialize, Serialize};

// The numbers of declared channels begin behind the three standard ones.
const URGENT: ChannelId = ChannelId(3);
const LAZY: ChannelId = ChannelId(4);
const POSE: ChannelId = ChannelId(5);

fn channels() -> ChannelTable {
    let mut table = ChannelTable::default();
    let reliable = ChannelConfig::new(ChannelKind::ReliableOrdered);
    assert_eq!(table.declare(reliable.clone().with_priority(200)), Ok(URGENT));
    assert_eq!(table.declare(reliable.with_priority(1)), Ok(LAZY));
    assert_eq!(table.declare(ChannelConfig::new(ChannelKind::UnreliableSequenced)), Ok(POSE));
    table
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bulk(u32, Vec<u8>);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Alarm(u32);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Gossip(u32);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pose(u32);

/// What the server got: which type, which number, in the order of their updates.
#[derive(Resource, Default)]
struct Got(Vec<(&'static str, u32)>);

fn hear(
    mut bulk: MessageReader<'_, '_, ReceivedRpc<Bulk>>,
    mut alarms: MessageReader<'_, '_, ReceivedRpc<Alarm>>,
    mut gossip: MessageReader<'_, '_, ReceivedRpc<Gossip>>,
    mut poses: MessageReader<'_, '_, ReceivedRpc<Pose>>,
    mut got: ResMut<'_, Got>,
) {
    got.0.extend(bulk.read().map(|bulk| ("bulk", bulk.rpc.0)));
    got.0.extend(alarms.read().map(|alarm| ("alarm", alarm.rpc.0)));
    got.0.extend(gossip.read().map(|gossip| ("gossip", gossip.rpc.0)));
    got.0.extend(poses.read().map(|pose| ("pose", pose.rpc.0)));
}

/// Each type on its channel, and who hears them.
fn register(app: &mut App) {
    app.register_rpc::<Bulk>()
        .register_rpc_with::<Alarm>(RpcOptions::new().channel(URGENT))
        .register_rpc_with::<Gossip>(RpcOptions::new().channel(LAZY))
        .register_rpc_with::<Pose>(RpcOptions::new().channel(POSE))
        .init_resource::<Got>()
        .add_systems(Update, hear);
}

struct Pair {
    server: App,
    client: App,
    connection: Entity,
    clock: ManualClock,
}

impl Pair {
    fn over(scheme: Scheme, profile: LinkProfile) -> Self {
        let (clock, hub, network) = (ManualClock::new(), IpcHub::new(), MemoryNetwork::new());
        let code = JoinCode::random(&mut SeededRandom::new(1));
        let app = |plugin: NetworkStreamPlugin, seed: u64, profile: LinkProfile| {
            let (hub, network, code) = (hub.clone(), network.clone(), code.clone());
            let plugin = plugin.with_clock(clock.clone()).with_random(SeededRandom::new(seed));
            let mut app = App::new();
            app.add_plugins(plugin.with_driver_constructor(move |endpoint| -> Option<Box<dyn NetworkDriver>> {
                if endpoint.scheme() == Scheme::Ipc {
                    return Some(Box::new(Simulated::new(
                        IpcDriver::new(&hub).with_channels(channels()),
                        profile,
                        seed,
                    )));
                }
                let mut random = SeededRandom::new(seed);
                let mut config = UdpConfig::new(&mut random);
                config.access = Access::JoinCode(code.clone());
                (config.server_link.channels, config.client_link.channels) = (channels(), channels());
                let driver = UdpDriver::on(network.clone(), config, Box::new(random));
                Some(Box::new(Simulated::new(driver, profile, seed)))
            }));
            register(&mut app);
            app
        };
        let mut server = app(NetworkStreamPlugin::server(), 2, LinkProfile::PERFECT);
        let mut client = app(NetworkStreamPlugin::client(), 3, profile);
        let endpoint = if scheme == Scheme::Ipc { "ipc://here" } else { "udp://127.0.0.1:7979" };
        server.world_mut().resource_mut::<NetworkStreamDriver>().listen(endpoint).unwrap();
        let mut net = client.world_mut().resource_mut::<NetworkStreamDriver>();
        let connection = net.connect_with(endpoint, ConnectOptions::new().join_code(code)).unwrap();
        let mut pair = Self { server, client, connection, clock };
        for _ in 0..1000 {
            pair.step();
            if pair.client.world().get::<ConnectionState>(connection).is_some_and(|state| state.is_connected()) {
                return pair;
            }
        }
        panic!("never connected");
    }

    fn step(&mut self) {
        self.server.update();
        self.client.update();
        self.clock.advance(Duration::from_millis(10));
    }

    /// The client says this much of each at once: first the bulk, then the rest.
    fn say(&mut self, bulk: u32, rest: u32) {
        let connection = self.connection;
        let system = move |mut rpcs: RpcSender<'_, '_>| {
            (0..bulk).for_each(|number| rpcs.send(connection, &Bulk(number, vec![7; 10_000])).unwrap());
            for number in 0..rest {
                rpcs.send(connection, &Gossip(number)).unwrap();
                rpcs.send(connection, &Alarm(number)).unwrap();
            }
        };
        self.client.world_mut().run_system_once(system).unwrap();
    }

    fn got(&self) -> &[(&'static str, u32)] {
        &self.server.world().resource::<Got>().0
    }
}

fn numbers(got: &[(&'static str, u32)], of: &str) -> Vec<u32> {
    got.iter().filter(|(name, _)| *name == of).map(|(_, number)| *number).collect()
}

#[test]
fn an_rpc_of_higher_priority_overtakes_what_waits_and_one_of_lower_priority_waits_for_it() {
    let profile = LinkProfile { delay: Duration::from_millis(20), ..LinkProfile::PERFECT };
    let mut pair = Pair::over(Scheme::Udp, profile);
    // 500 kB at the 192 KiB/s that a client sends by default.
    pair.say(50, 3);
    for _ in 0..600 {
        pair.step();
    }
    let got = pair.got();
    assert_eq!(numbers(got, "bulk"), (0..50).collect::<Vec<_>>());
    assert_eq!(numbers(got, "alarm"), [0, 1, 2]);
    assert_eq!(numbers(got, "gossip"), [0, 1, 2]);
    let place = |of: &str, number| got.iter().position(|rpc| *rpc == (of, number)).unwrap();
    assert!(place("alarm", 2) < 8, "{}", place("alarm", 2));
    assert!(place("gossip", 0) > place("bulk", 48), "{}", place("gossip", 0));
}

#[test]
fn each_declared_channel_keeps_its_promise_whatever_is_lost() {
    let millis = Duration::from_millis;
    for scheme in [Scheme::Ipc, Scheme::Udp] {
        let profile =
            LinkProfile { delay: millis(10), jitter: millis(10), loss: 0.2, reorder: 0.1, ..LinkProfile::PERFECT };
        let mut pair = Pair::over(scheme, profile);
        let connection = pair.connection;
        for number in 0..100 {
            let system = move |mut rpcs: RpcSender<'_, '_>| {
                rpcs.send(connection, &Alarm(number)).unwrap();
                rpcs.send(connection, &Gossip(number)).unwrap();
                rpcs.send(connection, &Pose(number)).unwrap();
            };
            pair.client.world_mut().run_system_once(system).unwrap();
            pair.step();
        }
        (0..500).for_each(|_| pair.step());
        let got = pair.got();
        let all: Vec<_> = (0..100).collect();
        assert_eq!((numbers(got, "alarm"), numbers(got, "gossip")), (all.clone(), all), "{scheme:?}");
        let poses = numbers(got, "pose");
        assert!(poses.windows(2).all(|pair| pair[0] < pair[1]), "never backwards: {poses:?}");
        // In-process a declared channel loses nothing.
        assert!((40..=100).contains(&poses.len()), "{} over {scheme:?}", poses.len());
        assert_eq!(pair.server.world().resource::<NetworkStreamDriver>().counters().violations, 0);
    }
}

/// Only what can be lost is ever taken for lost.
#[test]
fn a_receipt_on_a_declared_reliable_channel_waits_as_long_as_the_rpc_needs() {
    for scheme in [Scheme::Ipc, Scheme::Udp] {
        let mut pair = Pair::over(scheme, LinkProfile::PERFECT);
        let connection = pair.connection;
        let outcomes = |pair: &Pair| pair.client.world().resource::<Receipts>().0.clone();
        pair.client.init_resource::<Receipts>().add_systems(Update, Receipts::read);
        let system = move |mut rpcs: RpcSender<'_, '_>| {
            rpcs.send_with_receipt(connection, &Alarm(1)).unwrap();
            rpcs.send_with_receipt(connection, &Pose(1)).unwrap();
        };
        pair.client.world_mut().run_system_once(system).unwrap();
        // The server stands still; the link lasts for 10 s.
        for _ in 0..600 {
            pair.client.update();
            pair.clock.advance(Duration::from_millis(10));
        }
        assert_eq!(outcomes(&pair), [RpcOutcome::Lost], "the pose alone, over {scheme:?}");
        (0..50).for_each(|_| pair.step());
        assert_eq!(outcomes(&pair), [RpcOutcome::Lost, RpcOutcome::Delivered], "{scheme:?}");
        assert_eq!(numbers(pair.got(), "alarm"), [1]);
    }
}

#[derive(Resource, Default)]
struct Receipts(Vec<RpcOutcome>);

impl Receipts {
    fn read(mut inbox: MessageReader<'_, '_, RpcReceipt>, mut receipts: ResMut<'_, Self>) {
        receipts.0.extend(inbox.read().map(|receipt| receipt.outcome));
    }
}

#[test]
fn a_channel_that_the_driver_does_not_have_is_an_error_at_the_call() {
    #[derive(Serialize, Deserialize)]
    struct Lost;
    let hub = IpcHub::new();
    let app = |plugin: NetworkStreamPlugin| {
        let mut app = App::new();
        app.add_plugins(plugin.with_ipc(&hub)).register_rpc_with::<Lost>(RpcOptions::new().channel(ChannelId(9)));
        app
    };
    let (mut server, mut client) = (app(NetworkStreamPlugin::server()), app(NetworkStreamPlugin::client()));
    server.world_mut().resource_mut::<NetworkStreamDriver>().listen("ipc://here").unwrap();
    let connection = client.world_mut().resource_mut::<NetworkStreamDriver>().connect("ipc://here").unwrap();
    (0..10).for_each(|_| {
        server.update();
        client.update();
    });
    let error = client.world_mut().run_system_once(move |mut rpcs: RpcSender<'_, '_>| rpcs.send(connection, &Lost));
    let unknown = netstream::driver::SendError::UnknownChannel(ChannelId(9));
    assert_eq!(error.unwrap(), Err(netstream::NetworkSendError::Driver(unknown)));
}

#[test]
fn channels_that_the_plugin_was_given_are_those_of_every_driver() {
    let hub = IpcHub::new();
    let app = |plugin: NetworkStreamPlugin| {
        let mut app = App::new();
        app.add_plugins(plugin.with_ipc(&hub).with_channels(&channels()));
        register(&mut app);
        app
    };
    for endpoint in ["ipc://here", "udp://127.0.0.1:0"] {
        let (mut server, mut client) = (app(NetworkStreamPlugin::server()), app(NetworkStreamPlugin::client()));
        let mut net = server.world_mut().resource_mut::<NetworkStreamDriver>();
        let listening = net.listen(endpoint).unwrap();
        let code = net.join_code(listening.driver);
        let options = code.into_iter().fold(ConnectOptions::new(), ConnectOptions::join_code);
        let mut net = client.world_mut().resource_mut::<NetworkStreamDriver>();
        let connection = net.connect_with(listening.endpoint, options).unwrap();
        let mut sent = false;
        for _ in 0..2000 {
            server.update();
            client.update();
            let send = move |mut rpcs: RpcSender<'_, '_>| rpcs.send(connection, &Alarm(7)).is_ok();
            sent = sent || client.world_mut().run_system_once(send).unwrap();
            if !server.world().resource::<Got>().0.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(server.world().resource::<Got>().0, [("alarm", 7)], "over {endpoint}");
    }
}
