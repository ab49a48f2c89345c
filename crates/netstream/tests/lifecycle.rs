//! The lifecycle of a connection, told once and run over every driver, plain and at 20 % loss.

mod harness;

use std::time::Duration;

use harness::{Link, Pair};
use netstream::prelude::*;
use netstream::{NetworkConnectError, NetworkLimits, NetworkSendError, SessionCounters};

use ConnectionState::{
    Accepted, Approval, Connected, Connecting, Disconnected, Disconnecting, Handshake, ProtocolValidation,
};
use Presence::{InGame, NotInGame};

over_every_link! {
    both_ends_go_through_every_state_and_part_with_a_reason
    approval_is_a_state_that_the_server_ends
    credentials_of_the_connect_call_reach_the_game
    an_approval_rpc_travels_before_connected
    a_denied_client_learns_why
    nobody_decides_and_both_ends_time_out
    an_extended_approval_outlives_its_first_deadline
    a_handshake_that_does_not_finish_times_out
    approving_early_counts_when_approval_is_reached
    another_game_version_is_refused_with_the_difference
    a_missing_rpc_is_named_on_both_ends
    the_reason_of_the_client_reaches_the_server
    a_kick_carries_its_text
    an_application_code_survives
    a_request_component_ends_the_connection
    the_last_figures_are_there_when_the_end_is_told
    both_ends_close_at_once
    despawning_the_entity_is_a_disconnect
    a_server_world_that_goes_away_says_so
    a_client_world_that_goes_away_says_so
    removing_the_driver_ends_its_connections
    in_game_is_a_mark_of_each_side
    data_outside_the_game_is_refused_or_dropped
    commands_and_snapshots_flow_in_game
    rpcs_arrive_once_and_in_order
    rpcs_sent_right_before_a_close_arrive
    nothing_new_is_sent_after_a_close_in_the_same_update
    a_client_comes_back_under_a_new_key
    connect_disconnect_connect_in_one_update
    connecting_twice_is_refused_and_harms_nothing
    a_stopped_server_keeps_its_players
    ids_are_small_and_unique
}

fn both_ends_go_through_every_state_and_part_with_a_reason(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.in_game();
    pair.client.app.world_mut().entity_mut(client).remove::<NetworkStreamInGame>();
    pair.step();
    pair.server.net().disconnect(server, DisconnectReason::local(DisconnectCode::ServerShutdown)).unwrap();
    pair.ended(server, client);

    let up = [Handshake, ProtocolValidation, Accepted, Connected(NotInGame), Connected(InGame)];
    assert_eq!(pair.server.states_of(server), [&up[..], &[Disconnecting, Disconnected]].concat());
    assert_eq!(pair.client.states_of(client), [&[Connecting], &up[..], &[Connected(NotInGame), Disconnected]].concat());
    assert_eq!(pair.server.reason_of(server), DisconnectReason::local(DisconnectCode::ServerShutdown));
    assert_eq!(pair.client.reason_of(client), DisconnectReason::remote(DisconnectCode::ServerShutdown));
    assert_eq!(pair.server.seen().entity_was_there, [true]);
    assert_eq!(pair.client.seen().entity_was_there, [true]);
    assert!(pair.server.app.world().get_entity(server).is_err(), "the entity is gone");
    assert!(pair.client.app.world().get_entity(client).is_err(), "the entity is gone");
    assert_eq!(pair.server.net().network_ids_in_use(), 0);
    pair.check();
}

fn with_approval(link: Link) -> Pair {
    Pair::with(link, NetworkStreamPlugin::with_approval, |plugin| plugin)
}

fn waiting(pair: &mut Pair, options: ConnectOptions) -> (bevy_ecs::entity::Entity, bevy_ecs::entity::Entity) {
    let client = pair.try_connect(options).unwrap();
    pair.until("both wait for approval", |pair| {
        pair.client.state(client) == Some(Approval)
            && pair.server.connections().last().is_some_and(|&server| pair.server.state(server) == Some(Approval))
    });
    (pair.server.connection(), client)
}

fn approval_is_a_state_that_the_server_ends(link: Link) {
    let mut pair = with_approval(link);
    let options = pair.options();
    let (server, client) = waiting(&mut pair, options);
    assert_eq!(pair.server.net().network_id(server), None, "no id before Accepted");
    pair.server.app.world_mut().entity_mut(server).insert(ConnectionApproved);
    pair.until("the client is in", |pair| pair.client.state(client) == Some(Connected(NotInGame)));
    assert_eq!(
        pair.server.states_of(server),
        [Handshake, ProtocolValidation, Approval, Accepted, Connected(NotInGame)]
    );
    pair.check();
}

fn credentials_of_the_connect_call_reach_the_game(link: Link) {
    let mut pair = with_approval(link);
    let options = pair.options().credentials(*b"hunter2");
    let (server, client) = waiting(&mut pair, options);
    let credentials = pair.server.app.world().get::<ConnectionCredentials>(server).unwrap();
    assert_eq!(credentials.0, b"hunter2");
    assert_eq!(format!("{credentials:?}"), "ConnectionCredentials(7 bytes)", "they stay out of logs");
    pair.server.net().approve(server).unwrap();
    pair.until("the client is in", |pair| pair.client.state(client) == Some(Connected(NotInGame)));
    pair.check();
}

fn an_approval_rpc_travels_before_connected(link: Link) {
    let mut pair = with_approval(link);
    let options = pair.options();
    let (server, client) = waiting(&mut pair, options);
    assert_eq!(pair.client.say(client, 1, "too early"), Err(NetworkSendError::NotReady(Approval)));
    pair.client.login(client, "hunter2").unwrap();
    pair.until("the login is read", |pair| !pair.server.seen().logins.is_empty());
    assert_eq!(pair.server.seen().logins[0].0, server);
    pair.server.login(server, "welcome").unwrap();
    pair.server.net().approve(server).unwrap();
    pair.until("the client is in", |pair| pair.client.state(client) == Some(Connected(NotInGame)));
    pair.until("the welcome is read", |pair| pair.client.seen().logins.len() == 1);
    assert!(pair.server.seen().says.is_empty());
    pair.check();
}

fn a_denied_client_learns_why(link: Link) {
    let mut pair = with_approval(link);
    let options = pair.options();
    let (server, client) = waiting(&mut pair, options);
    pair.server.net().deny(server, "wrong password").unwrap();
    pair.ended(server, client);
    let reason = pair.client.reason_of(client);
    assert_eq!(reason, DisconnectReason::remote(DisconnectCode::ApprovalDenied).with_text("wrong password"));
    pair.check();
}

fn nobody_decides_and_both_ends_time_out(link: Link) {
    let mut pair = with_approval(link);
    pair.server.net().limits_mut().approval = Duration::from_secs(2);
    let options = pair.options();
    let (server, client) = waiting(&mut pair, options);
    pair.ended(server, client);
    // Whoever's deadline passes first says so to the other.
    assert_eq!(pair.server.reason_of(server).code, DisconnectCode::ApprovalTimeout);
    assert_eq!(pair.client.reason_of(client).code, DisconnectCode::ApprovalTimeout);
    pair.check();
}

fn an_extended_approval_outlives_its_first_deadline(link: Link) {
    let mut pair = with_approval(link);
    pair.server.net().limits_mut().approval = Duration::from_secs(2);
    let options = pair.options();
    let (server, client) = waiting(&mut pair, options);
    pair.run(Duration::from_millis(500));
    pair.server.net().extend_approval(server, Duration::from_secs(6)).unwrap();
    pair.run(Duration::from_secs(4));
    assert_eq!(pair.client.state(client), Some(Approval));
    pair.server.net().approve(server).unwrap();
    pair.until("the client is in", |pair| pair.client.state(client) == Some(Connected(NotInGame)));
    pair.check();
}

fn a_handshake_that_does_not_finish_times_out(link: Link) {
    let mut pair = Pair::over(link);
    let client = pair.connect();
    pair.until("the server has somebody", |pair| !pair.server.connections().is_empty());
    // From now on the server hangs; UDP would notice only after 10 s.
    for _ in 0..900 {
        pair.client.app.update();
        pair.clock.advance(harness::STEP);
    }
    let states = pair.client.states_of(client);
    if states.contains(&Handshake) {
        assert_eq!(pair.client.reason_of(client), DisconnectReason::local(DisconnectCode::HandshakeTimeout));
        assert!(states.ends_with(&[Disconnecting, Disconnected]), "{states:?}");
    } else {
        // The last packet of the driver's own handshake was lost, and its patience is 5 s as well.
        assert_eq!(pair.client.reason_of(client).code, DisconnectCode::MaxConnectionAttempts);
    }
    pair.client.check(false);
}

fn approving_early_counts_when_approval_is_reached(link: Link) {
    let mut pair = with_approval(link);
    pair.server.app.add_observer(
        |event: bevy_ecs::prelude::On<'_, '_, ConnectionEvent>, mut commands: bevy_ecs::prelude::Commands<'_, '_>| {
            if event.state == Handshake {
                commands.entity(event.connection).insert(ConnectionApproved);
            }
        },
    );
    let (server, client) = pair.connected();
    assert!(pair.server.states_of(server).contains(&Approval));
    assert!(pair.client.states_of(client).contains(&Approval));
    pair.check();
}

fn another_game_version_is_refused_with_the_difference(link: Link) {
    let mut pair = Pair::with(
        link,
        |plugin| plugin.with_protocol(GameProtocol::new("arena", 2)),
        |plugin| plugin.with_protocol(GameProtocol::new("arena", 1)),
    );
    let client = pair.connect();
    pair.until("the client is out", |pair| pair.client.states_of(client).contains(&Disconnected));
    let server = pair.server.connection();
    pair.ended(server, client);
    for (peer, connection, here, there) in [(&pair.server, server, 2, 1), (&pair.client, client, 1, 2)] {
        let last = peer.events_of(connection).pop().unwrap();
        let reason = last.reason.unwrap();
        assert_eq!(reason.code, DisconnectCode::ProtocolMismatch);
        let says = |here, there| format!("\"arena\" version {here} here, \"arena\" version {there} there");
        assert!([says(here, there), says(there, here)].iter().any(|text| reason.text.as_str().contains(text)));
        let diff = last.mismatch.expect("both ends know the difference");
        let (ours, theirs) = diff.game.clone().unwrap();
        assert_eq!((ours.version, theirs.version), (here, there));
    }
    assert!(!pair.server.states_of(server).contains(&Accepted));
    pair.check();
}

fn a_missing_rpc_is_named_on_both_ends(link: Link) {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct OnlyHere;
    let mut pair = Pair::silent(link, |plugin| plugin, |plugin| plugin);
    pair.server.app.register_rpc::<OnlyHere>();
    pair.listen();
    let client = pair.connect();
    pair.until("the client is out", |pair| pair.client.states_of(client).contains(&Disconnected));
    let server = pair.server.connection();
    pair.ended(server, client);
    let diff = |peer: &harness::Peer, connection| peer.events_of(connection).pop().unwrap().mismatch.unwrap();
    assert_eq!(diff(&pair.server, server).only_here, ["rpc OnlyHere"]);
    assert_eq!(diff(&pair.client, client).only_there, ["rpc OnlyHere"]);
    assert!(pair.client.reason_of(client).text.as_str().contains("rpc OnlyHere"));
    pair.check();
}

fn the_reason_of_the_client_reaches_the_server(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    let reason = DisconnectReason::local(DisconnectCode::ConnectionClose).with_text("dinner is ready");
    pair.client.net().disconnect(client, reason.clone()).unwrap();
    pair.ended(server, client);
    assert_eq!(pair.client.reason_of(client), reason);
    assert_eq!(pair.server.reason_of(server), reason.seen_by_peer());
    pair.check();
}

fn a_kick_carries_its_text(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.in_game();
    pair.server.net().kick(server, "language\u{7}!").unwrap();
    pair.ended(server, client);
    let expected = DisconnectReason::remote(DisconnectCode::Kicked).with_text("language !");
    assert_eq!(pair.client.reason_of(client), expected);
    pair.check();
}

fn an_application_code_survives(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    let reason = DisconnectReason::local(DisconnectCode::Application(4711));
    pair.server.net().disconnect(server, reason).unwrap();
    pair.ended(server, client);
    assert_eq!(pair.client.reason_of(client), DisconnectReason::remote(DisconnectCode::Application(4711)));
    pair.check();
}

fn a_request_component_ends_the_connection(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    pair.client.app.world_mut().entity_mut(client).insert(NetworkStreamRequestDisconnect::default());
    pair.ended(server, client);
    assert_eq!(pair.server.reason_of(server), DisconnectReason::remote(DisconnectCode::ConnectionClose));
    pair.check();
}

fn the_last_figures_are_there_when_the_end_is_told(link: Link) {
    #[derive(bevy_ecs::prelude::Resource, Default)]
    struct Last(Vec<(u64, Option<std::net::SocketAddr>)>);
    let mut pair = Pair::over(link);
    for peer in [&mut pair.server, &mut pair.client] {
        peer.app.init_resource::<Last>().add_observer(
            |event: bevy_ecs::prelude::On<'_, '_, ConnectionEvent>,
             net: bevy_ecs::prelude::Res<'_, NetworkStreamDriver>,
             mut last: bevy_ecs::prelude::ResMut<'_, Last>| {
                if event.state == Disconnected {
                    let stats = net.stats(event.connection).expect("the entity is still there");
                    last.0.push((stats.bytes_received, net.remote_address(event.connection)));
                }
            },
        );
    }
    let (server, client) = pair.connected();
    for number in 0..10 {
        pair.client.say(client, number, &"x".repeat(1000)).unwrap();
        pair.server.say(server, number, &"x".repeat(1000)).unwrap();
    }
    pair.run(Duration::from_secs(3));
    pair.server.net().kick(server, "").unwrap();
    pair.ended(server, client);
    for peer in [&pair.server, &pair.client] {
        let [(bytes, remote)] = peer.app.world().resource::<Last>().0[..] else { panic!("one end each") };
        assert!(bytes >= 10_000, "{bytes} bytes were received");
        assert_eq!(remote.is_some(), link.scheme() == netstream::driver::Scheme::Udp);
    }
    assert_eq!(pair.client.net().stats(client), None, "gone with the entity");
    pair.check();
}

fn both_ends_close_at_once(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    pair.server.net().kick(server, "you").unwrap();
    pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::Application(1))).unwrap();
    pair.ended(server, client);
    // Each sees its own reason or the other's, never a third, and exactly one end.
    let kicked = DisconnectReason::local(DisconnectCode::Kicked).with_text("you");
    let left = DisconnectReason::local(DisconnectCode::Application(1));
    assert!([kicked.clone(), left.seen_by_peer()].contains(&pair.server.reason_of(server)));
    assert!([left, kicked.seen_by_peer()].contains(&pair.client.reason_of(client)));
    pair.check();
}

fn despawning_the_entity_is_a_disconnect(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.in_game();
    pair.server.app.world_mut().despawn(server);
    pair.ended(server, client);
    assert_eq!(pair.server.reason_of(server), DisconnectReason::local(DisconnectCode::EntityDespawned));
    assert_eq!(pair.client.reason_of(client), DisconnectReason::remote(DisconnectCode::EntityDespawned));
    assert_eq!(pair.server.net().network_ids_in_use(), 0);
    pair.check();
    // And on the other side, as early as it gets: before the connect call had any event.
    let early = pair.connect();
    pair.client.app.world_mut().despawn(early);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.client.reason_of(early), DisconnectReason::local(DisconnectCode::EntityDespawned));
    let (_, again) = pair.connected();
    assert_ne!(early, again);
    pair.check();
}

fn a_server_world_that_goes_away_says_so(link: Link) {
    let mut pair = Pair::over(link);
    let (_, client) = pair.in_game();
    pair.server.app = bevy_app::App::new();
    if link.is_lossy() {
        // One attempt is all that a vanishing World has; the copies of the goodbye make up for lost ones, mostly.
        pair.run(Duration::from_secs(15));
        let code = pair.client.reason_of(client).code;
        assert!(matches!(code, DisconnectCode::ServerShutdown | DisconnectCode::Timeout), "{code}");
    } else {
        pair.step();
        pair.step();
        assert_eq!(pair.client.reason_of(client), DisconnectReason::remote(DisconnectCode::ServerShutdown));
    }
    pair.client.check(false);
}

fn a_client_world_that_goes_away_says_so(link: Link) {
    let mut pair = Pair::over(link);
    let (server, _) = pair.in_game();
    pair.client.app = bevy_app::App::new();
    if link.is_lossy() {
        pair.run(Duration::from_secs(15));
        let code = pair.server.reason_of(server).code;
        assert!(matches!(code, DisconnectCode::ConnectionClose | DisconnectCode::Timeout), "{code}");
    } else {
        pair.step();
        pair.step();
        assert_eq!(pair.server.reason_of(server), DisconnectReason::remote(DisconnectCode::ConnectionClose));
    }
    pair.server.check(true);
}

fn removing_the_driver_ends_its_connections(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.in_game();
    let driver = pair.driver.unwrap();
    pair.server.net().remove_driver(driver, DisconnectReason::local(DisconnectCode::DriverRemoved)).unwrap();
    assert!(pair.server.net().remove_driver(driver, DisconnectReason::local(DisconnectCode::DriverRemoved)).is_err());
    pair.ended(server, client);
    assert_eq!(pair.server.reason_of(server).code, DisconnectCode::DriverRemoved);
    let code = pair.client.reason_of(client).code;
    assert!(code == DisconnectCode::DriverRemoved || link.is_lossy() && code == DisconnectCode::Timeout, "{code}");
    pair.check();
}

fn in_game_is_a_mark_of_each_side(link: Link) {
    let mut pair = Pair::over(link);
    let client = pair.connect();
    // Put before Connected, it counts from then on.
    pair.client.enter_game(client);
    pair.until("the client plays", |pair| pair.client.state(client) == Some(Connected(InGame)));
    let server = pair.server.connection();
    pair.run(Duration::from_millis(200));
    assert_eq!(pair.server.state(server), Some(Connected(NotInGame)), "the other side is not touched");
    pair.server.enter_game(server);
    pair.server.enter_game(server);
    pair.step();
    assert_eq!(pair.server.state(server), Some(Connected(InGame)));
    pair.check();
}

fn data_outside_the_game_is_refused_or_dropped(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    assert_eq!(pair.client.net().send_command(client, b"jump"), Err(NetworkSendError::NotInGame));
    assert_eq!(pair.server.net().send_command(server, b"jump"), Err(NetworkSendError::WrongSide("server")));
    assert_eq!(pair.client.net().send_snapshot(client, b"world"), Err(NetworkSendError::WrongSide("client")));
    let world = SharedBytes::from(b"world".to_vec());
    assert_eq!(pair.client.net().send_snapshot_shared(client, &world), Err(NetworkSendError::WrongSide("client")));
    assert_eq!(pair.server.net().send_snapshot_shared(server, &world), Err(NetworkSendError::NotInGame));
    // Only the client is in: what it sends is dropped and counted, and nobody is thrown out for it.
    pair.client.enter_game(client);
    for _ in 0..20 {
        pair.client.net().send_command(client, b"jump").unwrap();
        pair.step();
    }
    pair.run(Duration::from_millis(500));
    assert!(pair.server.seen().data.is_empty());
    let SessionCounters { out_of_game, violations, .. } = pair.server.net().counters();
    assert!(out_of_game > 0 && violations == 0);
    assert_eq!(pair.server.state(server), Some(Connected(NotInGame)));
    pair.check();
}

fn commands_and_snapshots_flow_in_game(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.in_game();
    pair.run(Duration::from_millis(100));
    let large: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    let shared = SharedBytes::from(large.clone());
    for n in 0..50u8 {
        pair.client.net().send_command(client, &[n; 60]).unwrap();
        pair.server.net().send_snapshot(server, &[n; 1000]).unwrap();
        if n % 10 == 0 {
            pair.server.net().send_snapshot(server, &large).unwrap();
        }
        if n % 10 == 5 {
            pair.server.net().send_snapshot_shared(server, &shared).unwrap();
        }
        pair.step();
    }
    pair.run(Duration::from_millis(500));
    let commands: Vec<_> = pair.server.seen().data.iter().map(|(_, bytes)| bytes.clone()).collect();
    let snapshots: Vec<_> = pair.client.seen().data.iter().map(|(_, bytes)| bytes.clone()).collect();
    assert!(commands.iter().all(|bytes| bytes.len() == 60 && bytes.iter().all(|byte| *byte == bytes[0])));
    assert!(snapshots.iter().all(|bytes| *bytes == large || bytes.len() == 1000));
    if link.is_lossy() {
        assert!(commands.len() > 20 && snapshots.len() > 20, "{} {}", commands.len(), snapshots.len());
    } else {
        assert_eq!((commands.len(), snapshots.len()), (50, 60));
    }
    pair.check();
}

fn rpcs_arrive_once_and_in_order(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    for n in 0..200 {
        let text = "x".repeat(n as usize * 7 % 3000);
        pair.client.say(client, n, &text).unwrap();
        pair.server.say(server, n, &text).unwrap();
        if n % 20 == 0 {
            pair.step();
        }
    }
    pair.until("all have arrived", |pair| pair.server.seen().says.len() >= 200 && pair.client.seen().says.len() >= 200);
    pair.run(Duration::from_millis(500));
    for (peer, from) in [(&pair.server, server), (&pair.client, client)] {
        let numbers: Vec<_> = peer.seen().says.iter().map(|(_, say)| say.0).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
        assert!(
            peer.seen().says.iter().all(|(source, say)| *source == from && say.1.len() == say.0 as usize * 7 % 3000)
        );
    }
    pair.check();
}

fn rpcs_sent_right_before_a_close_arrive(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    for n in 0..10 {
        pair.server.say(server, n, "last words").unwrap();
    }
    pair.server.net().kick(server, "bye").unwrap();
    pair.ended(server, client);
    let numbers: Vec<_> = pair.client.seen().says.iter().map(|(_, say)| say.0).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!(pair.client.reason_of(client).code, DisconnectCode::Kicked);
    pair.check();
}

fn nothing_new_is_sent_after_a_close_in_the_same_update(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.in_game();
    pair.until("both play", |pair| pair.client.state(client) == Some(Connected(InGame)));
    pair.server.say(server, 1, "before").unwrap();
    pair.server.net().kick(server, "bye").unwrap();
    assert_eq!(pair.server.state(server), Some(Connected(InGame)), "the event is still to come");
    let ending = NetworkSendError::NotReady(Disconnecting);
    assert_eq!(pair.server.say(server, 2, "after"), Err(ending));
    assert_eq!(pair.server.login(server, "after"), Err(ending));
    assert_eq!(pair.server.net().send_snapshot(server, b"after"), Err(ending));
    let others = move |mut rpcs: RpcSender<'_, '_>| {
        let say = harness::Say(3, "after".into());
        assert_eq!(rpcs.broadcast(&say), Ok(0));
        assert_eq!(rpcs.broadcast_to([server], &say), Ok(0));
        assert_eq!(rpcs.send_when_connected(server, &say), Err(ending));
        assert_eq!(rpcs.send_with_receipt(server, &say), Err(ending));
    };
    bevy_ecs::system::RunSystemOnce::run_system_once(pair.server.app.world_mut(), others).unwrap();
    pair.ended(server, client);
    let numbers: Vec<_> = pair.client.seen().says.iter().map(|(_, say)| say.0).collect();
    assert_eq!(numbers, [1]);
    assert!(pair.client.seen().data.is_empty() && pair.client.seen().logins.is_empty());
    pair.check();
}

fn a_client_comes_back_under_a_new_key(link: Link) {
    let mut pair = Pair::over(link);
    let mut keys = Vec::new();
    for round in 0..5 {
        let (server, client) = pair.connected();
        keys.push(pair.server.events_of(server)[0].key);
        pair.client.say(client, round, "here again").unwrap();
        pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
        pair.ended(server, client);
    }
    let numbers: Vec<_> = pair.server.seen().says.iter().map(|(_, say)| say.0).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5, "no key is used twice");
    pair.check();
}

fn connect_disconnect_connect_in_one_update(link: Link) {
    let mut pair = Pair::over(link);
    let first = pair.connect();
    pair.client.net().disconnect(first, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    let second = pair.connect();
    assert_ne!(first, second);
    pair.until("the second is in", |pair| pair.client.state(second) == Some(Connected(NotInGame)));
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.client.states_of(first), [Connecting, Disconnecting, Disconnected]);
    assert_eq!(pair.client.reason_of(first).code, DisconnectCode::ConnectionClose);
    assert_eq!(pair.client.state(second), Some(Connected(NotInGame)));
    pair.check();
}

fn connecting_twice_is_refused_and_harms_nothing(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    let options = pair.options();
    let refused = pair.try_connect(options);
    assert!(matches!(refused, Err(NetworkConnectError::AlreadyConnected(entity)) if entity == client));
    assert!(refused.unwrap_err().to_string().contains("disconnect first"));
    pair.client.say(client, 7, "still here").unwrap();
    pair.until("the RPC is read", |pair| pair.server.seen().says.len() == 1);
    assert_eq!(pair.server.connections(), [server]);
    pair.check();
}

fn a_stopped_server_keeps_its_players(link: Link) {
    let mut pair = Pair::over(link);
    let options = pair.options();
    let (server, client) = pair.connected();
    let driver = pair.driver.unwrap();
    pair.server.net().stop_listening(driver).unwrap();
    assert_eq!(pair.server.net().endpoints().count(), 0);
    let mut late = pair.another_client(3);
    let endpoint = pair.endpoint.clone();
    let refused = late.net().connect_with(&endpoint, options);
    for _ in 0..1200 {
        pair.step();
        late.app.update();
    }
    match refused {
        Err(error) => assert!(error.to_string().contains("nobody listens"), "{error}"),
        Ok(entity) => {
            let code = late.reason_of(entity).code;
            assert!(matches!(code, DisconnectCode::MaxConnectionAttempts | DisconnectCode::Refused), "{code}");
        }
    }
    pair.client.say(client, 1, "still here").unwrap();
    pair.until("the RPC is read", |pair| pair.server.seen().says.len() == 1);
    assert_eq!(pair.server.connections(), [server]);
    pair.check();
}

fn ids_are_small_and_unique(link: Link) {
    let limits = NetworkLimits { id_quarantine: Duration::from_secs(60), ..Default::default() };
    let mut pair = Pair::with(link, |plugin| plugin.with_limits(limits), |plugin| plugin);
    let (first, client) = pair.connected();
    let options = pair.options();
    let mut other = pair.another_client(4);
    let endpoint = pair.endpoint.clone();
    let second = other.net().connect_with(&endpoint, options).unwrap();
    for _ in 0..2000 {
        pair.step();
        other.app.update();
        if other.state(second) == Some(Connected(NotInGame)) {
            break;
        }
    }
    assert_eq!(pair.server.net().network_id(first).map(NetworkId::number), Some(1));
    assert_eq!(pair.client.app.world().get::<NetworkId>(client).copied(), NetworkId::new(1));
    assert_eq!(other.app.world().get::<NetworkId>(second).copied(), NetworkId::new(2));
    other.net().disconnect(second, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    for _ in 0..300 {
        pair.step();
        other.app.update();
    }
    // Number 2 rests; the next player is number 3.
    let options = pair.options().as_new_player();
    let third = other.net().connect_with(&endpoint, options).unwrap();
    for _ in 0..2000 {
        pair.step();
        other.app.update();
        if other.state(third) == Some(Connected(NotInGame)) {
            break;
        }
    }
    assert_eq!(other.app.world().get::<NetworkId>(third).copied(), NetworkId::new(3));
    pair.check();
    other.check(false);
}
