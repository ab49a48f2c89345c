//! Every wrong call has one clear answer and leaves nothing behind.

mod harness;

use std::time::Duration;

use harness::{Link, Pair, Peer, Say};
use netstream::driver::{ListenError, ManualClock, SendError};
use netstream::prelude::*;
use netstream::transport::netcode::JoinCode;
use netstream::{ConnectionError, NetworkConnectError, NetworkListenError, NetworkSendError};

use ConnectionState::{Connected, Disconnected};
use Presence::NotInGame;

fn server() -> Peer {
    Peer::new(NetworkStreamPlugin::server().with_clock(ManualClock::new()))
}

fn entities(peer: &Peer) -> u32 {
    peer.app.world().entities().count_spawned()
}

#[test]
fn an_endpoint_that_cannot_be_parsed_says_what_to_write() {
    for (text, hint) in [
        ("", "udp://127.0.0.1:7979"),
        ("127.0.0.1:7979", "udp://127.0.0.1:7979"),
        ("tcp://127.0.0.1:7979", "udp, ipc"),
        ("udp://127.0.0.1", ":7979"),
        ("udp://127.0.0.1:70000", "0 to 65535"),
        ("udp://:7979", "host"),
        ("ipc://", "letters"),
    ] {
        let mut peer = server();
        let before = entities(&peer);
        let error = peer.net().listen(text).unwrap_err();
        assert!(matches!(error, NetworkListenError::Endpoint(_)), "{text}: {error:?}");
        assert!(error.to_string().contains(hint), "{text}: {error}");
        assert!(peer.net().drivers().is_empty());
        assert_eq!(entities(&peer), before);
    }
}

#[test]
fn a_port_that_is_taken_leaves_nothing_half_open() {
    let mut one = server();
    let taken = one.net().listen("udp://127.0.0.1:0").unwrap().endpoint;
    let mut other = server();
    let error = other.net().listen(&taken).unwrap_err();
    assert!(matches!(error, NetworkListenError::Driver(ListenError::AddressInUse(_))), "{error:?}");
    assert!(error.to_string().contains("choose another port"), "{error}");
    assert!(other.net().drivers().is_empty());
    other.app.update();
    let free = other.net().listen("udp://127.0.0.1:0").unwrap();
    assert_ne!(free.endpoint, taken);
}

#[test]
fn listening_twice_is_refused_and_harms_nothing() {
    let mut pair = Pair::over(Link::Ipc);
    let driver = pair.driver.unwrap();
    let endpoint: Endpoint = pair.endpoint.parse().unwrap();
    let error = pair.server.net().listen_on(driver, &endpoint).unwrap_err();
    assert!(matches!(error, NetworkListenError::Driver(ListenError::AlreadyListening(_))), "{error:?}");
    let error = pair.server.net().listen("ipc://arena").unwrap_err();
    assert!(error.to_string().contains("is taken"), "{error}");
    assert_eq!(pair.server.net().endpoints().count(), 1);
    pair.connected();
    pair.check();
}

#[test]
fn a_scheme_without_a_driver_says_how_to_get_one() {
    let mut client = Peer::new(NetworkStreamPlugin::client());
    let error = client.net().connect("ipc://nowhere").unwrap_err();
    assert!(matches!(error, NetworkConnectError::NoDriver(_)) && error.to_string().contains("with_ipc"), "{error}");
    let error = client.net().connect("relay://ticket").unwrap_err();
    assert!(error.to_string().contains("add_driver"), "{error}");
}

#[test]
fn roles_are_not_mixed_up() {
    let error = server().net().connect("udp://127.0.0.1:1").unwrap_err();
    assert!(matches!(error, NetworkConnectError::NotAClient));
    let error = Peer::new(NetworkStreamPlugin::client()).net().listen("udp://127.0.0.1:0").unwrap_err();
    assert!(matches!(error, NetworkListenError::NotAServer));
}

#[test]
fn connecting_without_a_join_code_leaves_no_entity_and_no_driver() {
    let mut client = Peer::new(NetworkStreamPlugin::client());
    let before = entities(&client);
    let code = JoinCode::from_passphrase("some passphrase").unwrap();
    for (endpoint, options, hint) in [
        ("udp://127.0.0.1:7979", ConnectOptions::new(), "join code"),
        ("udp://127.0.0.1:0", ConnectOptions::new().join_code(code), "port"),
    ] {
        let error = client.net().connect_with(endpoint, options).unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
        assert!(client.net().drivers().is_empty());
        client.app.update();
        assert_eq!(entities(&client), before);
    }
    assert!(client.seen().observed.is_empty());
}

#[test]
fn a_wrong_join_code_ends_with_one_usable_reason() {
    let mut pair = Pair::over(Link::Udp);
    let wrong = JoinCode::from_passphrase("not the server's").unwrap();
    let client = pair.try_connect(ConnectOptions::new().join_code(wrong)).unwrap();
    pair.run(Duration::from_secs(12));
    let reason = pair.client.reason_of(client);
    assert_eq!(reason.code, DisconnectCode::MaxConnectionAttempts);
    assert!(reason.to_string().contains("join code"), "{reason}");
    assert!(pair.server.seen().observed.is_empty(), "the server has seen nobody");
    assert!(pair.client.net().drivers().is_empty());
    // The right one works afterwards.
    pair.connected();
    pair.check();
}

#[test]
fn connecting_to_nobody_ends_with_a_reason() {
    let mut pair = Pair::over(Link::Udp);
    let options = pair.options();
    pair.server.app = bevy_app::App::new();
    let client = pair.try_connect(options).unwrap();
    pair.run(Duration::from_secs(12));
    let code = pair.client.reason_of(client).code;
    assert_eq!(code, DisconnectCode::MaxConnectionAttempts);
    pair.client.check(false);

    let mut pair = Pair::over(Link::Ipc);
    pair.server.app = bevy_app::App::new();
    let error = pair.client.net().connect("ipc://arena").unwrap_err();
    assert!(error.to_string().contains("start the server World first"), "{error}");
    assert!(pair.client.net().drivers().is_empty());
}

#[test]
fn a_host_name_that_does_not_exist_is_a_reason() {
    let mut client = Peer::new(NetworkStreamPlugin::client());
    let code = JoinCode::from_passphrase("some passphrase").unwrap();
    let options = ConnectOptions::new().join_code(code);
    let connection = client.net().connect_with("udp://no-such-host.invalid:7979", options).unwrap();
    for _ in 0..6000 {
        client.app.update();
        if client.states_of(connection).last() == Some(&Disconnected) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.reason_of(connection).code, DisconnectCode::HostNotFound);
}

#[test]
fn an_rpc_that_is_too_large_is_refused_and_the_others_go_on() {
    for link in [Link::Ipc, Link::Udp] {
        let mut pair = Pair::over(link);
        let (_, client) = pair.connected();
        pair.client.say(client, 1, "before").unwrap();
        let error = pair.client.say(client, 2, &"x".repeat(70_000)).unwrap_err();
        let NetworkSendError::Driver(SendError::TooLarge { size, limit }) = error else { panic!("{error:?}") };
        assert!(size > 70_000 && (64 * 1024..70_000).contains(&limit), "{size} {limit}");
        pair.client.say(client, 3, "after").unwrap();
        pair.until("both are read", |pair| pair.server.seen().says.len() == 2);
        let numbers: Vec<_> = pair.server.seen().says.iter().map(|(_, say)| say.0).collect();
        assert_eq!(numbers, [1, 3]);
        pair.check();
    }
}

#[test]
fn an_rpc_that_comes_too_early_or_too_late_is_refused() {
    let mut pair = Pair::over(Link::Udp);
    let client = pair.connect();
    assert!(matches!(pair.client.say(client, 1, "at once"), Err(NetworkSendError::Unknown(_))));
    pair.step();
    assert!(matches!(pair.client.say(client, 1, "early"), Err(NetworkSendError::NotReady(_))));
    pair.until("the client is in", |pair| pair.client.state(client) == Some(Connected(NotInGame)));
    let server = pair.server.connection();
    pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    pair.ended(server, client);
    assert_eq!(pair.client.say(client, 2, "late"), Err(NetworkSendError::Unknown(client)));
    assert!(pair.server.seen().says.is_empty());
    pair.check();
}

#[test]
fn a_type_that_was_never_registered_is_refused_with_advice() {
    use bevy_ecs::system::RunSystemOnce;
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Unheard;
    let mut pair = Pair::over(Link::Ipc);
    let (_, client) = pair.connected();
    let send = move |mut rpcs: RpcSender<'_, '_>| rpcs.send(client, &Unheard);
    let error = pair.client.app.world_mut().run_system_once(send).unwrap().unwrap_err();
    assert!(error.to_string().contains("app.register_rpc::<Unheard>()"), "{error}");
}

#[test]
#[should_panic(expected = "registered too late")]
fn registering_after_the_first_update_is_refused() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Late;
    let mut peer = server();
    peer.app.update();
    peer.app.register_rpc::<Late>();
}

#[test]
fn a_full_rpc_buffer_is_an_error_and_nothing_is_lost() {
    for link in [Link::Ipc, Link::Udp, Link::LossyUdp] {
        let mut pair = Pair::over(link);
        let (_, client) = pair.connected();
        let text = "x".repeat(10_000);
        let mut taken = 0;
        let error = loop {
            match pair.client.say(client, taken, &text) {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, NetworkSendError::BufferFull(_)), "{error:?}");
        assert!(taken >= 100);
        pair.until("all that was taken has arrived", |pair| pair.server.seen().says.len() as u32 == taken);
        let in_order = pair.server.seen().says.iter().zip(0..).all(|((_, say), n)| *say == Say(n, text.clone()));
        assert!(in_order);
        pair.check();
    }
}

#[test]
fn calls_about_a_connection_that_is_over_are_errors() {
    let mut pair = Pair::over(Link::Udp);
    let (server, client) = pair.connected();
    let close = DisconnectReason::local(DisconnectCode::ConnectionClose);
    assert_eq!(pair.server.net().approve(server), Err(ConnectionError::NotWaiting(Connected(NotInGame))));
    assert_eq!(pair.client.net().approve(client), Err(ConnectionError::NotAServer));
    pair.client.net().disconnect(client, close.clone()).unwrap();
    let twice = pair.client.net().disconnect(client, close.clone());
    assert_eq!(twice, Err(ConnectionError::Ending(ConnectionState::Disconnecting)));
    assert!(pair.client.net().send_command(client, b"x").is_err());
    pair.ended(server, client);
    assert_eq!(pair.client.net().disconnect(client, close.clone()), Err(ConnectionError::Unknown(client)));
    assert_eq!(pair.server.net().disconnect(server, close), Err(ConnectionError::Unknown(server)));
    assert_eq!(pair.server.net().send_snapshot(server, b"x"), Err(NetworkSendError::Unknown(server)));
    pair.check();
}

#[test]
fn a_world_that_is_full_says_so() {
    let limits = netstream::NetworkLimits { connections: 1, ..Default::default() };
    let mut pair = Pair::with(Link::Udp, |plugin| plugin.with_limits(limits), |plugin| plugin);
    let (server, _) = pair.connected();
    let options = pair.options();
    let mut late = pair.another_client(9);
    let endpoint = pair.endpoint.clone();
    let refused = late.net().connect_with(&endpoint, options).unwrap();
    for _ in 0..1500 {
        pair.step();
        late.app.update();
    }
    assert_eq!(late.reason_of(refused), DisconnectReason::remote(DisconnectCode::ServerFull));
    assert_eq!(pair.server.connections(), [server]);
    pair.check();
    late.check(false);
}
