//! Drivers come and go while people play.

mod harness;

use std::time::Duration;

use bevy_ecs::prelude::*;
use harness::{Link, Pair, Peer, STEP};
use netstream::driver::{IpcDriver, ManualClock, NetworkDriver};
use netstream::prelude::*;
use netstream::{
    AutoConnect, Listening, NetworkStreamRequestConnect, NetworkStreamRequestListen, RequestFailed, ResetPolicy,
    StillConnected,
};

use ConnectionState::{Connected, Disconnected};
use Presence::NotInGame;

over_every_link! {
    a_drained_driver_takes_nobody_new_and_lets_the_others_finish
    a_drained_driver_closes_whoever_stays_too_long
    a_reset_refuses_or_closes
}

/// Every `DriverEvent` of a World.
#[derive(Resource, Default)]
struct DriverLog(Vec<DriverEvent>);

fn log_drivers(peer: &mut Peer) {
    peer.app.init_resource::<DriverLog>().add_systems(
        bevy_app::Last,
        |mut log: ResMut<'_, DriverLog>, mut events: MessageReader<'_, '_, DriverEvent>| {
            log.0.extend(events.read().cloned());
        },
    );
}

fn driver_log(peer: &Peer) -> &[DriverEvent] {
    &peer.app.world().resource::<DriverLog>().0
}

fn a_drained_driver_takes_nobody_new_and_lets_the_others_finish(link: Link) {
    let mut pair = Pair::over(link);
    log_drivers(&mut pair.server);
    log_drivers(&mut pair.client);
    let (server, client) = pair.connected();
    let driver = pair.driver.unwrap();
    pair.server.net().drain(driver, Duration::from_secs(5), "maintenance").unwrap();
    pair.until("the client is told", |pair| {
        driver_log(&pair.client).iter().any(|event| {
            matches!(event, DriverEvent::ServerDraining { connection, within }
                if *connection == client && *within == Duration::from_secs(5))
        })
    });
    assert_eq!(pair.server.net().endpoints().count(), 0);
    pair.client.say(client, 1, "one more").unwrap();
    pair.until("play goes on", |pair| pair.server.seen().says.len() == 1);
    pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    pair.ended(server, client);
    assert!(driver_log(&pair.server).contains(&DriverEvent::Draining { driver, within: Duration::from_secs(5) }));
    assert_eq!(driver_log(&pair.server).last(), Some(&DriverEvent::Drained { driver }));
    assert!(pair.server.net().drivers().contains(driver), "draining does not remove");
    pair.check();
}

fn a_drained_driver_closes_whoever_stays_too_long(link: Link) {
    let mut pair = Pair::over(link);
    log_drivers(&mut pair.server);
    let (server, client) = pair.connected();
    pair.server.net().drain_all(Duration::from_secs(2), "maintenance");
    pair.ended(server, client);
    let reason = DisconnectReason::remote(DisconnectCode::DrainDeadline).with_text("maintenance");
    assert_eq!(pair.client.reason_of(client), reason);
    let drained = driver_log(&pair.server).iter().filter(|event| matches!(event, DriverEvent::Drained { .. })).count();
    assert_eq!(drained, 1);
    pair.check();
}

fn a_reset_refuses_or_closes(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    let old = pair.driver.unwrap();
    let spare = || -> Vec<Box<dyn NetworkDriver>> { vec![Box::new(IpcDriver::new(&IpcHub::new()))] };
    let refused = pair.server.net().reset(spare(), &ResetPolicy::RefuseIfConnected);
    assert_eq!(refused, Err(StillConnected(1)));
    assert_eq!(pair.server.state(server), Some(Connected(NotInGame)), "nothing was touched");
    let reason = DisconnectReason::local(DisconnectCode::ServerShutdown).with_text("reset");
    let new = pair.server.net().reset(spare(), &ResetPolicy::CloseConnections(reason.clone())).unwrap();
    pair.ended(server, client);
    assert_eq!(pair.server.reason_of(server), reason);
    if !link.is_lossy() {
        assert_eq!(pair.client.reason_of(client), reason.seen_by_peer());
    }
    assert!(!new.contains(&old) && !pair.server.net().drivers().contains(old));
    assert_eq!(pair.server.net().drivers().len(), 1);
    let again = pair.server.net().reset(Vec::new(), &ResetPolicy::RefuseIfConnected);
    assert_eq!(again, Ok(Vec::new()), "nobody is connected now");
    pair.check();
}

#[test]
fn every_change_of_a_driver_is_an_event() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock).with_ipc(&hub));
    log_drivers(&mut server);
    let Listening { driver, endpoint } = server.net().listen("ipc://arena").unwrap();
    assert!(server.net().listen("ipc://arena").is_err());
    server.net().stop_listening(driver).unwrap();
    server.net().stop_listening(driver).unwrap();
    server.net().listen_on(driver, &endpoint).unwrap();
    server.net().drain(driver, Duration::from_secs(1), "").unwrap();
    server.app.update();
    server.net().remove_driver(driver, DisconnectReason::local(DisconnectCode::DriverRemoved)).unwrap();
    server.app.update();
    use DriverEvent::{Drained, Draining, ListenFailed, Removed, Stopped};
    let log = driver_log(&server);
    let listening = DriverEvent::Listening { driver, endpoint: endpoint.clone() };
    assert_eq!(log[0], listening);
    assert!(matches!(&log[1], ListenFailed { endpoint: at, error, .. } if *at == endpoint && error.contains("taken")));
    let rest = [Stopped { driver }, listening, Draining { driver, within: Duration::from_secs(1) }, Drained { driver }];
    assert_eq!(log[2..6], rest);
    assert_eq!(log[6..], [Removed { driver }]);
}

#[test]
fn listen_all_is_all_or_none() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock).with_ipc(&hub));
    let taken = server.net().listen("ipc://taken").unwrap();
    let failed = server.net().listen_all(&["udp://127.0.0.1:0", "ipc://taken", "tcp://x:1"]).unwrap_err();
    let names: Vec<_> = failed.iter().map(|(endpoint, _)| endpoint.as_str()).collect();
    assert_eq!(names, ["ipc://taken", "tcp://x:1"]);
    assert_eq!(server.net().endpoints().collect::<Vec<_>>(), [taken], "nothing of the call is open");
    let open = server.net().listen_all(&["udp://127.0.0.1:0", "ipc://free"]).unwrap();
    assert_eq!(open.len(), 2);
    assert_eq!(server.net().endpoints().count(), 3);
}

#[test]
fn an_endpoint_is_text_or_an_endpoint() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock.clone()).with_ipc(&hub));
    let text = String::from("ipc://text");
    server.net().listen(&text).unwrap();
    let named = server.net().listen(Endpoint::ipc("named").unwrap()).unwrap();
    assert!(matches!(server.net().listen(String::new()), Err(netstream::NetworkListenError::Endpoint(_))));
    let mut client = Peer::new(NetworkStreamPlugin::client().with_clock(clock).with_ipc(&hub));
    let close = DisconnectReason::local(DisconnectCode::ConnectionClose);
    let first = client.net().connect(text).unwrap();
    client.net().disconnect(first, close.clone()).unwrap();
    let second = client.net().connect(&named.endpoint).unwrap();
    client.net().disconnect(second, close).unwrap();
    client.net().connect_with(named.endpoint, ConnectOptions::new()).unwrap();
}

#[test]
fn several_listen_requests_each_get_their_own_answer() {
    let hub = IpcHub::new();
    let mut server = Peer::new(NetworkStreamPlugin::server().with_ipc(&hub));
    let request = |endpoint: &str| NetworkStreamRequestListen { endpoint: endpoint.to_owned() };
    let world = server.app.world_mut();
    let entities = ["ipc://a", "ipc://a", "nonsense", "ipc://b"].map(|endpoint| world.spawn(request(endpoint)).id());
    world.flush();
    let listening = entities.map(|entity| world.get::<Listening>(entity).map(|found| found.endpoint.to_string()));
    assert_eq!(listening, [Some("ipc://a".to_owned()), None, None, Some("ipc://b".to_owned())]);
    let failed = entities.map(|entity| world.get::<RequestFailed>(entity).map(|found| found.0.clone()));
    assert!(failed[1].as_ref().unwrap().contains("is taken"), "{failed:?}");
    assert!(failed[2].as_ref().unwrap().contains("no scheme"), "{failed:?}");
    assert!(failed[0].is_none() && failed[3].is_none());
}

#[test]
fn a_connect_request_turns_its_entity_into_the_connection() {
    let mut pair = Pair::over(Link::Ipc);
    let request = NetworkStreamRequestConnect { endpoint: pair.endpoint.clone(), options: ConnectOptions::new() };
    let world = pair.client.app.world_mut();
    let first = world.spawn(request.clone()).id();
    let second = world.spawn(request).id();
    world.flush();
    assert!(world.get::<RequestFailed>(second).unwrap().0.contains("already connected"));
    pair.until("the first is in", |pair| pair.client.state(first) == Some(Connected(NotInGame)));
    assert_eq!(pair.client.connections(), [first]);
    pair.check();
}

#[test]
fn auto_connect_brings_worlds_together_and_port_0_does_not() {
    let code = netstream::transport::netcode::JoinCode::from_passphrase("correct horse battery").unwrap();
    // A free port: listened at once, and given back.
    let port = {
        let mut probe = Peer::new(NetworkStreamPlugin::server());
        let free = probe.net().listen("udp://127.0.0.1:0").unwrap();
        free.endpoint.port().unwrap()
    };
    let clock = ManualClock::new();
    let with = |plugin: NetworkStreamPlugin, port| {
        let auto = AutoConnect { listen: "127.0.0.1".parse().unwrap(), ..AutoConnect::at_port(port) };
        Peer::new(plugin.with_clock(clock.clone()).with_join_code(code.clone()).with_auto_connect(auto))
    };
    let mut server = with(NetworkStreamPlugin::server(), port);
    let mut client = with(NetworkStreamPlugin::client(), port);
    let mut silent = with(NetworkStreamPlugin::client(), 0);
    for _ in 0..100 {
        server.app.update();
        client.app.update();
        silent.app.update();
        clock.advance(STEP);
    }
    let connection = client.connection();
    assert_eq!(client.state(connection), Some(Connected(NotInGame)));
    assert!(silent.connections().is_empty());
    server.check(true);
    client.check(false);
}

#[test]
fn a_thin_client_plays_without_reading_snapshots() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock.clone()).with_ipc(&hub));
    server.net().listen("ipc://arena").unwrap();
    let mut bot = Peer::new(NetworkStreamPlugin::thin_client().with_clock(clock.clone()).with_ipc(&hub));
    let connection = bot.net().connect("ipc://arena").unwrap();
    bot.enter_game(connection);
    for _ in 0..20 {
        server.app.update();
        bot.app.update();
        clock.advance(STEP);
        if let Some(&player) = server.connections().first() {
            server.enter_game(player);
            let _ = server.net().send_snapshot(player, b"world");
            let _ = bot.net().send_command(connection, b"jump");
        }
    }
    assert!(!server.seen().data.is_empty(), "its commands arrive");
    assert!(bot.app.world().get::<IncomingSnapshotBuffer>(connection).is_none());
    assert!(bot.net().stats(connection).unwrap().packets_received > 5, "it gets snapshots all the same");
    server.check(true);
    bot.check(false);
}

#[test]
fn approval_can_differ_by_driver() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock.clone()).with_ipc(&hub).with_approval());
    let open = server.net().listen("ipc://open").unwrap();
    server.net().listen("ipc://guarded").unwrap();
    server.net().require_approval_on(open.driver, Some(false)).unwrap();
    let mut clients = ["ipc://open", "ipc://guarded"].map(|endpoint| {
        let mut client = Peer::new(NetworkStreamPlugin::client().with_clock(clock.clone()).with_ipc(&hub));
        client.net().connect(endpoint).unwrap();
        client
    });
    for _ in 0..10 {
        server.app.update();
        clients.iter_mut().for_each(|client| client.app.update());
        clock.advance(STEP);
    }
    let states = clients.each_ref().map(|client| client.state(client.connection()).unwrap());
    assert_eq!(states, [Connected(NotInGame), ConnectionState::Approval]);
}

#[test]
fn one_more_than_may_wait_for_approval_is_refused() {
    let limits = netstream::NetworkLimits { awaiting_approval: 2, ..Default::default() };
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let plugin = NetworkStreamPlugin::server().with_clock(clock.clone()).with_ipc(&hub);
    let mut server = Peer::new(plugin.with_approval().with_limits(limits));
    server.net().listen("ipc://arena").unwrap();
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Peer::new(NetworkStreamPlugin::client().with_clock(clock.clone()).with_ipc(&hub));
            client.net().connect("ipc://arena").unwrap();
            client
        })
        .collect();
    for _ in 0..10 {
        server.app.update();
        clients.iter_mut().for_each(|client| client.app.update());
        clock.advance(STEP);
    }
    let refused: Vec<_> =
        clients.iter().filter(|client| client.states_of(client.connection()).contains(&Disconnected)).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason_of(refused[0].connection()).code, DisconnectCode::ServerFull);
    // Somebody is let in, and there is room again.
    let waiting =
        server.connections().into_iter().find(|&c| server.state(c) == Some(ConnectionState::Approval)).unwrap();
    server.net().approve(waiting).unwrap();
    let again =
        clients.iter_mut().find(|client| client.states_of(client.connection()).contains(&Disconnected)).unwrap();
    again.net().connect("ipc://arena").unwrap();
    for _ in 0..10 {
        server.app.update();
        clients.iter_mut().for_each(|client| client.app.update());
        clock.advance(STEP);
    }
    assert!(clients.iter().all(|client| !client.states_of(client.connection()).contains(&Disconnected)));
}

/// The plugin's constructor, Startup, and an hour later from another thread (a ticket of a matchmaker): all the same.
#[test]
fn drivers_are_equal_whenever_they_come() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = Peer::new(NetworkStreamPlugin::server().with_clock(clock.clone()).with_ipc(&hub));
    server.net().listen("ipc://first").unwrap();
    server.app.add_systems(bevy_app::Startup, |mut net: ResMut<'_, NetworkStreamDriver>| {
        net.listen("ipc://startup").unwrap();
    });
    for _ in 0..3600 {
        server.app.update();
        clock.advance(Duration::from_secs(1));
    }
    let (ticket, inbox) = std::sync::mpsc::channel();
    let matchmaker = std::thread::spawn({
        let hub = hub.clone();
        move || ticket.send((IpcDriver::new(&hub), "ipc://later".parse::<Endpoint>().unwrap())).unwrap()
    });
    matchmaker.join().unwrap();
    let (driver, endpoint) = inbox.recv().unwrap();
    let driver = server.net().add_driver(driver);
    server.net().listen_on(driver, &endpoint).unwrap();
    let mut clients = ["ipc://first", "ipc://startup", "ipc://later"].map(|endpoint| {
        let mut client = Peer::new(NetworkStreamPlugin::client().with_clock(clock.clone()).with_ipc(&hub));
        client.net().connect(endpoint).unwrap();
        client
    });
    for _ in 0..10 {
        server.app.update();
        clients.iter_mut().for_each(|client| client.app.update());
        clock.advance(STEP);
    }
    for client in &mut clients {
        assert_eq!(client.states_of(client.connection()), clients_way_up());
        client.check(false);
    }
    server.check(true);
}

fn clients_way_up() -> [ConnectionState; 5] {
    use ConnectionState::{Accepted, Connecting, Handshake, ProtocolValidation};
    [Connecting, Handshake, ProtocolValidation, Accepted, Connected(NotInGame)]
}
