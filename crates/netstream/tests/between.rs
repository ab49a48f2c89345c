//! The network acts between two updates of an App, and neither is the worse for it.

mod harness;
mod play;

use std::time::Duration;

use bevy_app::{App, AppExit, Update};
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use harness::{Link, Pair, Peer, Say};
use netstream::prelude::*;
use netstream::{
    NetworkSession, NetworkStreamReconnect, ReconnectStatus, RequestError, Response, RpcOptions, update_network,
};
use serde::{Deserialize, Serialize};

over_every_link! {
    a_connection_is_made_and_ended_between_updates
    a_loss_between_updates_is_mended_by_itself
}

#[derive(Serialize, Deserialize)]
struct Ask;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Told;

/// How often `NetworkUpdate` ran.
#[derive(Resource, Default)]
struct Runs(u32);

/// How many events each `Update` had before it in `NetworkStreamDriver::events`.
#[derive(Resource, Default)]
struct Shown(Vec<ConnectionEvent>);

/// Whether the entity of each Disconnected was there when `Update` read of it.
#[derive(Resource, Default)]
struct Found(Vec<bool>);

fn find(
    mut events: MessageReader<'_, '_, ConnectionEvent>,
    mut found: ResMut<'_, Found>,
    connections: Query<'_, '_, &NetworkStreamConnection>,
) {
    let over = events.read().filter(|event| event.state == ConnectionState::Disconnected);
    found.0.extend(over.map(|event| connections.contains(event.connection)));
}

fn watch(app: &mut App) {
    app.init_resource::<Found>().add_systems(Update, find);
    app.init_resource::<Runs>()
        .init_resource::<Shown>()
        .add_systems(NetworkUpdate, |mut runs: ResMut<'_, Runs>| runs.0 += 1)
        .add_systems(Update, |mut shown: ResMut<'_, Shown>, net: Option<Res<'_, NetworkStreamDriver>>| {
            shown.0.extend(net.iter().flat_map(|net| net.events()).cloned());
        });
}

fn runs(peer: &Peer) -> u32 {
    peer.app.world().resource::<Runs>().0
}

fn between(peer: &mut Peer) {
    update_network(peer.app.world_mut());
}

fn echo(mut says: MessageReader<'_, '_, ReceivedRpc<Say>>, mut rpcs: RpcSender<'_, '_>) {
    for say in says.read() {
        rpcs.send(say.connection, &*say.rpc).unwrap();
    }
}

#[test]
fn an_answer_does_not_wait_for_the_next_update() {
    for link in [Link::Ipc, Link::Udp] {
        let mut pair = Pair::over(link);
        pair.server.app.add_systems(NetworkUpdate, echo);
        let (server, client) = pair.connected();
        for number in 0..10 {
            pair.client.say(client, number, "who is there?").unwrap();
            between(&mut pair.client);
            between(&mut pair.server);
            between(&mut pair.client);
        }
        // Only now there is an update: all answers are here, and the questions are still to be read by `Update`, too.
        pair.client.app.update();
        let numbers = |peer: &Peer| peer.seen().says.iter().map(|(_, say)| say.0).collect::<Vec<_>>();
        assert_eq!(numbers(&pair.client), Vec::from_iter(0..10), "{link:?}");
        assert_eq!(numbers(&pair.server), []);
        pair.server.app.update();
        assert_eq!(numbers(&pair.server), Vec::from_iter(0..10), "{link:?}");
        assert!(pair.server.seen().says.iter().all(|(connection, _)| *connection == server));
        pair.check();
    }
}

fn a_connection_is_made_and_ended_between_updates(link: Link) {
    let mut pair = Pair::over(link);
    watch(&mut pair.server.app);
    watch(&mut pair.client.app);
    pair.step();
    let client = pair.connect();
    let until = |pair: &mut Pair, so: &dyn Fn(&Pair) -> bool| {
        for _ in 0..3000 {
            if so(pair) {
                return;
            }
            between(&mut pair.server);
            between(&mut pair.client);
            pair.clock.advance(Duration::from_millis(1));
        }
        panic!("not within 3 s over {link:?}: {:?}", pair.client.events_of(client));
    };
    let connected = |peer: &Peer| {
        let last = peer.connections().last().copied();
        last.and_then(|connection| peer.state(connection)).is_some_and(ConnectionState::is_connected)
    };
    until(&mut pair, &|pair| connected(&pair.client) && connected(&pair.server));
    pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    let server = pair.server.connection();
    let over = |peer: &Peer, connection| peer.states_of(connection).last() == Some(&ConnectionState::Disconnected);
    until(&mut pair, &|pair| over(&pair.client, client) && over(&pair.server, server));
    pair.step();
    // Whatever happened in between is before the systems of the next update, in its order and once.
    for peer in [&pair.server, &pair.client] {
        assert!(peer.seen().observed.len() >= 3);
        assert_eq!(peer.seen().read, peer.seen().observed);
        assert_eq!(peer.app.world().resource::<Shown>().0, peer.seen().observed);
        assert_eq!(peer.app.world().resource::<Found>().0, [true]);
    }
    assert!(pair.client.state(client).is_none(), "its entity is gone afterwards");
    pair.check();
}

#[test]
fn the_schedule_runs_when_the_network_has_brought_something_and_only_then() {
    for link in [Link::Ipc, Link::Udp] {
        let mut pair = Pair::over(link);
        let (_, client) = pair.connected();
        pair.run(Duration::from_secs(1));
        watch(&mut pair.server.app);
        for _ in 0..100 {
            between(&mut pair.server);
            pair.step();
        }
        assert_eq!(runs(&pair.server), 0, "keep-alives are nobody's business");
        pair.client.say(client, 1, "in between").unwrap();
        between(&mut pair.client);
        between(&mut pair.server);
        between(&mut pair.server);
        assert_eq!(runs(&pair.server), 1);
        pair.client.say(client, 2, "in an update").unwrap();
        pair.client.app.update();
        pair.server.app.update();
        pair.server.app.update();
        assert_eq!(runs(&pair.server), 2);
        pair.check();
    }
}

#[test]
fn ticks_run_in_updates_only_and_no_command_is_lost_in_between() {
    for link in play::Link::all().filter(|link| !link.is_lossy()) {
        let mut game = play::Game::over(link);
        for _ in 0..600 {
            game.step();
            for _ in 0..3 {
                let before = game.server_time().tick();
                update_network(game.client.world_mut());
                update_network(game.server.world_mut());
                assert_eq!(game.server_time().tick(), before);
            }
        }
        game.check();
        let (sent, applied) = (&game.client_log().sent, &game.server_log().applied);
        assert!(sent.len() > 500, "{}", sent.len());
        // The first second is for the clocks, and the last few are on their way.
        for tick in &sent[60..sent.len() - 30] {
            assert!(applied.iter().any(|(at, _)| at == tick), "{tick} over {link:?}");
        }
    }
}

#[test]
fn whoever_waits_for_an_answer_hears_between_updates_that_none_comes() {
    let mut pair = Pair::over(Link::Ipc);
    for app in [&mut pair.server.app, &mut pair.client.app] {
        app.register_request::<Ask, Told>(RpcOptions::new());
    }
    pair.client.app.init_resource::<Runs>().add_systems(
        NetworkUpdate,
        |mut runs: ResMut<'_, Runs>, mut responses: MessageReader<'_, '_, Response<Told>>| {
            runs.0 += responses.read().filter(|response| response.answer == Err(RequestError::TimedOut)).count() as u32;
        },
    );
    let (_, client) = pair.connected();
    let ask = move |mut rpcs: RpcSender<'_, '_>| rpcs.request(client, &Ask, Duration::from_secs(1)).map(drop);
    pair.client.app.world_mut().run_system_once(ask).unwrap().unwrap();
    for _ in 0..110 {
        assert_eq!(runs(&pair.client), 0);
        between(&mut pair.client);
        pair.clock.advance(Duration::from_millis(9));
    }
    pair.clock.advance(Duration::from_millis(20));
    between(&mut pair.client);
    assert_eq!(runs(&pair.client), 1);
}

fn a_loss_between_updates_is_mended_by_itself(link: Link) {
    let mut pair = Pair::over(link);
    let keeper = NetworkStreamReconnect::new([pair.endpoint.clone()], pair.options());
    let keeper = pair.client.app.world_mut().spawn(keeper).id();
    let status = |pair: &Pair| pair.client.app.world().get::<NetworkStreamReconnect>(keeper).unwrap().status().clone();
    let stands = |pair: &mut Pair| matches!(status(pair), ReconnectStatus::Connected { .. });
    pair.until("the keeper is connected", stands);
    let (server, client) = (pair.server.connection(), pair.client.connection());
    pair.server.net().disconnect(server, DisconnectReason::local(DisconnectCode::ServerShutdown)).unwrap();
    for _ in 0..3000 {
        between(&mut pair.server);
        between(&mut pair.client);
        pair.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(pair.client.reason_of(client).code, DisconnectCode::ServerShutdown);
    pair.client.app.update();
    let ReconnectStatus::Waiting { last, .. } = status(&pair) else { panic!("{:?}", status(&pair)) };
    assert!(last.contains("ServerShutdown"), "{last}");
    pair.until("the keeper is connected again", stands);
    pair.check();
}

#[test]
fn whoever_asks_from_within_gets_nothing_twice() {
    let mut pair = Pair::over(Link::Ipc);
    pair.server
        .app
        .add_systems(NetworkUpdate, (update_network, echo).chain())
        .add_observer(|_: On<'_, '_, ConnectionEvent>, mut commands: Commands<'_, '_>| commands.queue(update_network));
    let (_, client) = pair.connected();
    pair.client.say(client, 1, "once").unwrap();
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.client.seen().says.len(), 1);
    pair.check();
}

#[test]
fn a_session_may_be_taken_away_by_what_it_brought() {
    #[derive(Resource)]
    struct Taken(#[expect(dead_code, reason = "kept, so that its connections are not ended")] NetworkSession);

    let mut pair = Pair::over(Link::Ipc);
    let (_, client) = pair.connected();
    pair.server.app.add_systems(NetworkUpdate, |world: &mut World| {
        let session = NetworkSession::take_from(world).expect("there is one");
        world.insert_non_send(Taken(session));
    });
    pair.client.say(client, 1, "take it").unwrap();
    between(&mut pair.client);
    between(&mut pair.server);
    assert!(pair.server.app.world().get_resource::<NetworkStreamDriver>().is_none());
    between(&mut pair.server);
    pair.server.app.update();
}

/// In real time: no second frame ever comes, and what does not wait for it is done at once.
#[test]
fn the_runner_answers_and_ends_without_waiting_for_a_frame() {
    let goodbye = |mut says: MessageReader<'_, '_, ReceivedRpc<Say>>, mut exit: MessageWriter<'_, AppExit>| {
        if says.read().any(|say| say.rpc.1 == "goodbye") {
            exit.write(AppExit::from_code(7));
        }
    };
    let (tell, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let runner = NetworkRunnerPlugin { frame: Duration::MAX, pause: Duration::from_millis(1) };
        let mut server = Peer::new(NetworkStreamPlugin::server());
        server.app.add_plugins(runner).add_systems(NetworkUpdate, (echo, goodbye));
        let listening = server.net().listen("udp://127.0.0.1:0").unwrap();
        let code = server.net().join_code(listening.driver).unwrap();
        tell.send((listening, code)).unwrap();
        server.app.run()
    });
    let (listening, code) = told.recv().unwrap();
    let mut client = Peer::new(NetworkStreamPlugin::client());
    let options = ConnectOptions::new().join_code(code);
    let connection = client.net().connect_with(listening.endpoint, options).unwrap();
    let mut until = |so: &dyn Fn(&mut Peer) -> bool| {
        for _ in 0..60_000 {
            if so(&mut client) {
                return;
            }
            client.app.update();
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{:?}", client.seen().observed);
    };
    until(&|client| client.state(connection).is_some_and(ConnectionState::is_connected));
    until(&|client| client.say(connection, 1, "goodbye").is_ok());
    until(&|client| !client.seen().says.is_empty());
    assert_eq!(server.join().unwrap(), AppExit::from_code(7));
}
