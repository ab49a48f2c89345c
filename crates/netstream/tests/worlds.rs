//! Several drivers in one World, several Worlds in one process.

mod harness;

use std::time::Duration;

use harness::{Link, Pair, Peer, STEP};
use netstream::driver::{IpcDriver, ManualClock};
use netstream::prelude::*;

use ConnectionState::{Connected, Handshake};
use Presence::NotInGame;

/// A server World that listens over UDP and IPC, and clients of both kinds.
struct Mixed {
    server: Peer,
    clients: Vec<Peer>,
    clock: ManualClock,
    hub: IpcHub,
    udp: netstream::Listening,
    ipc: netstream::Listening,
}

impl Mixed {
    fn new() -> Self {
        let (clock, hub) = (ManualClock::new(), IpcHub::new());
        let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock.clone()).with_ipc(&hub));
        let udp = server.net().listen("udp://127.0.0.1:0").unwrap();
        let ipc = server.net().listen("ipc://arena").unwrap();
        Self { server, clients: Vec::new(), clock, hub, udp, ipc }
    }

    fn client(&mut self, endpoint: &Endpoint) -> bevy_ecs::entity::Entity {
        let code = self.server.net().join_code(self.udp.driver).unwrap();
        let plugin = NetworkStreamPlugin::client().with_clock(self.clock.clone()).with_ipc(&self.hub);
        let mut client = Peer::new(plugin);
        let options = ConnectOptions::new().join_code(code);
        let entity = client.net().connect_with(endpoint, options).unwrap();
        self.clients.push(client);
        entity
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_nanos() / STEP.as_nanos() {
            self.server.app.update();
            for client in &mut self.clients {
                client.app.update();
            }
            self.clock.advance(STEP);
        }
    }

    fn check(&mut self) {
        self.run(2 * STEP);
        self.server.check(true);
        for client in &mut self.clients {
            client.check(false);
        }
    }
}

#[test]
fn udp_and_ipc_players_share_one_server_and_one_id_space() {
    let mut world = Mixed::new();
    let (udp, ipc) = (world.udp.endpoint.clone(), world.ipc.endpoint.clone());
    let entities: Vec<_> = [&udp, &ipc, &udp, &ipc].map(|endpoint| world.client(endpoint)).into();
    world.run(Duration::from_secs(1));
    let mut ids: Vec<_> = (0..4).map(|n| world.clients[n].net().network_id(entities[n]).unwrap().number()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert_eq!(world.server.net().endpoints().count(), 2);
    // A broadcast reaches all of them.
    use bevy_ecs::system::RunSystemOnce;
    let send = |mut rpcs: RpcSender<'_, '_>| rpcs.broadcast(&harness::Say(1, "all".into()));
    assert_eq!(world.server.app.world_mut().run_system_once(send).unwrap(), Ok(4));
    world.run(Duration::from_millis(200));
    for client in &world.clients {
        assert_eq!(client.seen().says.len(), 1);
    }
    world.check();
}

#[test]
fn two_clients_accepted_in_one_update_with_equal_local_ids_get_their_own_events() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock.clone()).with_ipc(&hub));
    server.net().listen("ipc://one").unwrap();
    server.net().listen("ipc://other").unwrap();
    let mut clients = ["ipc://one", "ipc://other"].map(|endpoint| {
        let mut client = Peer::new(NetworkStreamPlugin::client().with_clock(clock.clone()).with_ipc(&hub));
        client.net().connect(endpoint).unwrap();
        client
    });
    for _ in 0..20 {
        server.app.update();
        clients.iter_mut().for_each(|client| client.app.update());
        clock.advance(STEP);
    }
    let connections = server.connections();
    let keys: Vec<_> = connections.iter().map(|&connection| server.events_of(connection)[0].key).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0].connection, keys[1].connection, "the local ids are equal");
    assert_ne!(keys[0].driver, keys[1].driver);
    let first_update: Vec<_> = server.seen().observed.iter().take(2).map(|event| event.state).collect();
    assert_eq!(first_update, [Handshake, Handshake], "both were accepted in the same update");
    server.net().kick(connections[0], "only you").unwrap();
    for _ in 0..20 {
        server.app.update();
        clients.iter_mut().for_each(|client| client.app.update());
        clock.advance(STEP);
    }
    assert_eq!(server.state(connections[1]), Some(Connected(NotInGame)));
    let [mut one, mut other] = clients;
    let kicked = one.connection();
    assert_eq!(one.reason_of(kicked).code, DisconnectCode::Kicked);
    let stays = other.connection();
    assert_eq!(other.state(stays), Some(Connected(NotInGame)));
    server.check(true);
    one.check(false);
    other.check(false);
}

#[test]
fn a_removed_driver_takes_only_its_own_players() {
    let mut world = Mixed::new();
    let (udp, ipc) = (world.udp.endpoint.clone(), world.ipc.endpoint.clone());
    let (by_udp, by_ipc) = (world.client(&udp), world.client(&ipc));
    world.run(Duration::from_secs(1));
    let driver = world.udp.driver;
    world.server.net().remove_driver(driver, DisconnectReason::local(DisconnectCode::DriverRemoved)).unwrap();
    world.run(Duration::from_secs(1));
    assert_eq!(world.clients[0].reason_of(by_udp), DisconnectReason::remote(DisconnectCode::DriverRemoved));
    assert_eq!(world.clients[1].state(by_ipc), Some(Connected(NotInGame)));
    // The id names nothing any more, whatever is added later.
    let again = world.server.net().listen("udp://127.0.0.1:0").unwrap();
    assert_ne!(again.driver, driver);
    assert!(world.server.net().stop_listening(driver).is_err());
    world.check();
}

#[test]
fn several_servers_and_clients_live_in_one_process() {
    let mut pairs: Vec<_> = (0..3).map(|n| Pair::over([Link::Ipc, Link::Udp][n % 2])).collect();
    let connections: Vec<_> = pairs.iter_mut().map(Pair::connected).collect();
    for (pair, &(server, client)) in pairs.iter_mut().zip(&connections) {
        pair.client.say(client, 1, "to my own server").unwrap();
        pair.until("it is read", |pair| pair.server.seen().says.len() == 1);
        assert_eq!(pair.server.net().network_id(server).map(NetworkId::number), Some(1));
        assert_eq!(pair.server.connections(), [server]);
    }
    for mut pair in pairs {
        pair.check();
    }
}

/// Host and play: the host's own client joins in-process, with nothing to configure but the hub; others come over UDP.
#[test]
fn a_player_hosts_and_plays_and_others_join_over_udp() {
    let mut world = Mixed::new();
    let (udp, ipc) = (world.udp.endpoint.clone(), world.ipc.endpoint.clone());
    let (host, guest) = (world.client(&ipc), world.client(&udp));
    world.run(Duration::from_secs(1));
    for (place, connection) in [(0, host), (1, guest)] {
        world.clients[place].enter_game(connection);
    }
    let players: Vec<_> = world.server.net().connections().collect();
    players.iter().for_each(|&player| world.server.enter_game(player));
    for _ in 0..20 {
        for &player in &players {
            world.server.net().send_snapshot(player, b"world").unwrap();
        }
        for (place, connection) in [(0, host), (1, guest)] {
            world.clients[place].net().send_command(connection, b"jump").unwrap();
        }
        world.run(STEP);
    }
    world.run(Duration::from_millis(100));
    assert_eq!(world.server.seen().data.len(), 40, "nothing of the host's and the guest's is missing");
    assert!(world.clients.iter().all(|client| client.seen().data.len() == 20));
    // The host quits: the guest is told.
    world.server.app = bevy_app::App::new();
    world.run(Duration::from_millis(100));
    for (place, connection) in [(0, host), (1, guest)] {
        let reason = world.clients[place].reason_of(connection);
        assert_eq!(reason, DisconnectReason::remote(DisconnectCode::ServerShutdown));
    }
}

/// A local World has no plugin, and what belongs to the network does nothing there.
#[test]
fn a_local_world_has_no_network_and_requests_say_so() {
    let mut world = bevy_ecs::world::World::new();
    let listen = world.spawn(netstream::NetworkStreamRequestListen { endpoint: "ipc://arena".to_owned() }).id();
    let options = ConnectOptions::new();
    let connect =
        world.spawn(netstream::NetworkStreamRequestConnect { endpoint: "ipc://arena".to_owned(), options }).id();
    world.spawn((NetworkStreamInGame, ConnectionApproved, NetworkStreamRequestDisconnect::default()));
    world.flush();
    for entity in [listen, connect] {
        let failed = world.get::<netstream::RequestFailed>(entity).expect("each has its answer");
        assert!(failed.0.contains("add NetworkStreamPlugin"), "{}", failed.0);
    }
    assert!(netstream::NetworkSession::take_from(&mut world).is_none());
}

#[test]
fn a_driver_of_the_application_is_used_where_its_scheme_fits() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock.clone()));
    let driver = server.net().add_driver(IpcDriver::new(&hub));
    let endpoint: Endpoint = "ipc://mine".parse().unwrap();
    assert_eq!(server.net().listen_on(driver, &endpoint).unwrap().driver, driver);
    let mut client = Peer::new(NetworkStreamPlugin::client().with_clock(clock.clone()));
    let own = client.net().add_driver(IpcDriver::new(&hub));
    let connection = client.net().connect("ipc://mine").unwrap();
    for _ in 0..10 {
        server.app.update();
        client.app.update();
        clock.advance(STEP);
    }
    assert_eq!(client.events_of(connection)[0].driver(), own);
    assert_eq!(client.state(connection), Some(Connected(NotInGame)));
    client.net().disconnect(connection, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    for _ in 0..10 {
        server.app.update();
        client.app.update();
        clock.advance(STEP);
    }
    assert!(client.net().drivers().contains(own), "it stays with the application");
}

#[test]
fn a_driver_made_for_a_connection_goes_with_it() {
    let mut pair = Pair::over(Link::Udp);
    let (server, client) = pair.connected();
    assert_eq!(pair.client.net().drivers().len(), 1);
    pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    pair.ended(server, client);
    assert_eq!(pair.client.net().drivers().len(), 0);
    assert_eq!(pair.server.net().drivers().len(), 1);
    pair.check();
}
