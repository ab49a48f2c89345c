//! RPCs that are sent too early: refused by default, held until Connected where the caller asks for that.

mod harness;

use bevy_app::Update;
use bevy_ecs::entity::Entity;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use harness::{Link, Login, Pair, Peer, Say};
use netstream::prelude::*;
use netstream::{
    NetworkLimits, NetworkSendError, RequestError, Response, RpcOptions, RpcOutcome, RpcReceipt, SchemaPolicy,
};
use serde::{Deserialize, Serialize};

use ConnectionState::{Approval, Connected, Connecting, Disconnected, Handshake};
use Presence::NotInGame;

over_every_link! {
    held_rpcs_arrive_in_order_and_before_what_is_sent_later
    what_may_travel_in_approval_is_held_until_then_only
    held_rpcs_end_with_their_connection_and_their_senders_hear_of_it
}

/// Held by its registration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Patient(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ask;

fn say_when_connected(peer: &mut Peer, connection: Entity, number: u32) -> Result<(), NetworkSendError> {
    let send = move |mut rpcs: RpcSender<'_, '_>| rpcs.send_when_connected(connection, &Say(number, "early".into()));
    peer.app.world_mut().run_system_once(send).unwrap()
}

/// Sends 1 to 5 with its first event, and 6 when it is Connected.
fn talkative(event: On<'_, '_, ConnectionEvent>, mut rpcs: RpcSender<'_, '_>) {
    let say = |number| Say(number, String::new());
    match event.state {
        Connecting | Handshake if rpcs.send(event.connection, &say(0)).is_ok() => unreachable!("that is too early"),
        Connected(NotInGame) => rpcs.send(event.connection, &say(6)).unwrap(),
        _ => {}
    }
}

/// What comes in the first states of both roles.
fn early(event: On<'_, '_, ConnectionEvent>, mut rpcs: RpcSender<'_, '_>, mut sent: Local<'_, u32>) {
    while matches!(event.state, Connecting | Handshake) && *sent < 5 {
        *sent += 1;
        rpcs.send_when_connected(event.connection, &Say(*sent, String::new())).unwrap();
    }
}

fn held_rpcs_arrive_in_order_and_before_what_is_sent_later(link: Link) {
    let mut pair = Pair::over(link);
    for peer in [&mut pair.server, &mut pair.client] {
        peer.app.add_observer(talkative).add_observer(early);
    }
    let (server, client) = pair.connected();
    pair.until("all have arrived", |pair| pair.server.seen().says.len() >= 6 && pair.client.seen().says.len() >= 6);
    pair.run(std::time::Duration::from_millis(500));
    for (peer, from) in [(&pair.server, server), (&pair.client, client)] {
        let says: Vec<_> = peer.seen().says.iter().map(|(source, say)| (*source, say.0)).collect();
        assert_eq!(says, (1..=6).map(|number| (from, number)).collect::<Vec<_>>());
    }
    pair.check();
}

fn what_may_travel_in_approval_is_held_until_then_only(link: Link) {
    let mut pair = Pair::with(link, NetworkStreamPlugin::with_approval, |plugin| plugin);
    pair.client.app.add_observer(|event: On<'_, '_, ConnectionEvent>, mut rpcs: RpcSender<'_, '_>| {
        if event.state == Connecting {
            rpcs.send_when_connected(event.connection, &Say(1, String::new())).unwrap();
            rpcs.send_when_connected(event.connection, &Login("please".into())).unwrap();
        }
    });
    let client = pair.connect();
    pair.until("the login is read", |pair| !pair.server.seen().logins.is_empty());
    let server = pair.server.connection();
    assert_eq!(pair.server.state(server), Some(Approval));
    say_when_connected(&mut pair.client, client, 2).unwrap();
    pair.run(std::time::Duration::from_millis(500));
    assert!(pair.server.seen().says.is_empty(), "the others wait");
    pair.server.net().approve(server).unwrap();
    pair.until("the others are read", |pair| pair.server.seen().says.len() == 2);
    let numbers: Vec<_> = pair.server.seen().says.iter().map(|(_, say)| say.0).collect();
    assert_eq!((numbers, pair.server.seen().logins.len()), (vec![1, 2], 1));
    pair.check();
}

#[derive(Resource, Default)]
struct Ends(Vec<RpcOutcome>, Vec<RequestError>);

fn collect(
    mut ends: ResMut<'_, Ends>,
    mut receipts: MessageReader<'_, '_, RpcReceipt>,
    mut responses: MessageReader<'_, '_, Response<()>>,
) {
    ends.0.extend(receipts.read().map(|receipt| receipt.outcome));
    ends.1.extend(responses.read().filter_map(|response| response.answer.err()));
}

fn register(peer: &mut Peer) {
    peer.app
        .register_rpc_with::<Patient>(RpcOptions::new().held_until_connected())
        .register_request::<Ask, ()>(RpcOptions::new().held_until_connected())
        .init_resource::<Ends>()
        .add_systems(Update, collect);
}

fn held_rpcs_end_with_their_connection_and_their_senders_hear_of_it(link: Link) {
    let mut pair = Pair::with(link, NetworkStreamPlugin::with_approval, |plugin| plugin);
    register(&mut pair.server);
    register(&mut pair.client);
    let client = pair.connect();
    pair.until("both wait", |pair| {
        pair.client.state(client) == Some(Approval)
            && pair.server.connections().last().is_some_and(|&server| pair.server.state(server) == Some(Approval))
    });
    let send = move |mut rpcs: RpcSender<'_, '_>| {
        rpcs.send(client, &Patient(1)).unwrap();
        rpcs.send_with_receipt(client, &Patient(2)).unwrap();
        rpcs.request(client, &Ask, std::time::Duration::from_secs(60)).unwrap();
    };
    pair.client.app.world_mut().run_system_once(send).unwrap();
    let server = pair.server.connection();
    pair.server.net().deny(server, "no").unwrap();
    pair.ended(server, client);
    let Ends(outcomes, errors) = pair.client.app.world().resource();
    assert_eq!(
        (&outcomes[..], &errors[..]),
        (&[RpcOutcome::ConnectionEnded][..], &[RequestError::ConnectionEnded][..])
    );
    assert_eq!(pair.client.net().counters().held_dropped, 3);
    pair.check();
}

#[test]
fn a_held_request_is_answered_and_a_held_receipt_comes() {
    let mut pair = Pair::with(Link::Udp, NetworkStreamPlugin::with_approval, |plugin| plugin);
    register(&mut pair.server);
    register(&mut pair.client);
    pair.client.app.add_observer(|event: On<'_, '_, ConnectionEvent>, mut rpcs: RpcSender<'_, '_>| {
        if event.state == Connecting {
            rpcs.send_with_receipt(event.connection, &Patient(1)).unwrap();
            rpcs.request(event.connection, &Ask, std::time::Duration::from_secs(60)).unwrap();
        }
    });
    #[derive(Resource, Default)]
    struct Answers(usize);
    let answer = |mut asked: MessageReader<'_, '_, netstream::ReceivedRequest<Ask>>, mut rpcs: RpcSender<'_, '_>| {
        asked.read().for_each(|request| rpcs.respond(request, &()).unwrap());
    };
    pair.server.app.add_systems(Update, answer);
    let count = |mut got: MessageReader<'_, '_, Response<()>>, mut answers: ResMut<'_, Answers>| {
        answers.0 += got.read().filter(|response| response.answer.is_ok()).count();
    };
    pair.client.app.init_resource::<Answers>().add_systems(Update, count);
    pair.connect();
    pair.until("it waits", |pair| pair.server.seen().observed.iter().any(|event| event.state == Approval));
    let server = pair.server.connection();
    pair.server.net().approve(server).unwrap();
    pair.until("both are over", |pair| {
        let world = pair.client.app.world();
        world.resource::<Answers>().0 == 1 && world.resource::<Ends>().0 == [RpcOutcome::Delivered]
    });
    pair.check();
}

#[test]
fn one_more_than_may_be_held_is_refused_by_number_and_by_bytes() {
    let limits = NetworkLimits { held_rpcs: 3, outgoing_rpc_bytes: 1000, ..Default::default() };
    let mut pair = Pair::with(Link::Ipc, NetworkStreamPlugin::with_approval, |plugin| plugin.with_limits(limits));
    let client = pair.connect();
    pair.until("it waits", |pair| pair.client.state(client) == Some(Approval));
    assert_eq!(pair.client.say(client, 0, ""), Err(NetworkSendError::NotReady(Approval)), "not by default");
    let long = move |mut rpcs: RpcSender<'_, '_>| rpcs.send_when_connected(client, &Say(0, "x".repeat(1000)));
    let error = pair.client.app.world_mut().run_system_once(long).unwrap();
    assert_eq!(error, Err(NetworkSendError::BufferFull(0)));
    for number in 1..=3 {
        say_when_connected(&mut pair.client, client, number).unwrap();
    }
    assert_eq!(say_when_connected(&mut pair.client, client, 4), Err(NetworkSendError::TooManyHeld(3)));
    let server = pair.server.connection();
    pair.server.net().approve(server).unwrap();
    pair.until("what was taken is read", |pair| pair.server.seen().says.len() == 3);
    assert_eq!(say_when_connected(&mut pair.client, client, 5), Ok(()), "now it is sent at once");
    pair.until("it is read too", |pair| pair.server.seen().says.len() == 4);
    pair.check();
}

#[test]
fn what_the_peer_turns_out_not_to_know_is_dropped_and_told() {
    let compatible = |plugin: NetworkStreamPlugin| plugin.with_schema_policy(SchemaPolicy::Compatible);
    let mut pair = Pair::silent(Link::Ipc, compatible, compatible);
    register(&mut pair.client);
    pair.listen();
    pair.client.app.add_observer(|event: On<'_, '_, ConnectionEvent>, mut rpcs: RpcSender<'_, '_>| {
        if event.state == Connecting {
            rpcs.send(event.connection, &Patient(1)).unwrap();
            rpcs.send_with_receipt(event.connection, &Patient(2)).unwrap();
            rpcs.send_when_connected(event.connection, &Say(1, String::new())).unwrap();
        }
    });
    pair.connected();
    pair.until("the one that it knows is read", |pair| pair.server.seen().says.len() == 1);
    assert_eq!(pair.client.app.world().resource::<Ends>().0, [RpcOutcome::Lost]);
    assert_eq!(pair.client.net().counters().held_dropped, 2);
    pair.check();
}

#[test]
fn a_connection_that_is_ending_holds_nothing() {
    let mut pair = Pair::with(Link::Udp, NetworkStreamPlugin::with_approval, |plugin| plugin);
    let client = pair.connect();
    pair.until("it waits", |pair| pair.client.state(client) == Some(Approval));
    pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    let refused = Err(NetworkSendError::NotReady(ConnectionState::Disconnecting));
    assert_eq!(say_when_connected(&mut pair.client, client, 1), refused);
    pair.until("it is over", |pair| pair.client.states_of(client).last() == Some(&Disconnected));
    assert_eq!(pair.client.net().counters().held_dropped, 0);
    pair.check();
}
