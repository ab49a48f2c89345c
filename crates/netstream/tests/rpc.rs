//! RPCs beyond the plain ones: channels, directions, answers, receipts, entities, readers.

mod harness;

use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::entity::{EntityMapper, MapEntities};
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use harness::{Link, Pair, Peer};
use netstream::driver::{ConnectionStats, SendError};
use netstream::prelude::*;
use netstream::{
    CallId, NetworkEntityMap, NetworkSendError, ReceivedRequest, RegisterError, RequestError, Response, RpcDirection,
    RpcEntityMap, RpcOptions, RpcOutcome, RpcReceipt,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hint(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Price(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Coins(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Target(#[serde(with = "netstream::entity_bits")] Entity, u8);

impl MapEntities for Target {
    fn map_entities<M: EntityMapper>(&mut self, mapper: &mut M) {
        self.0 = mapper.get_mapped(self.0);
    }
}

/// What a World read, of one type.
#[derive(Resource)]
struct Got<T>(Vec<T>);

fn read<T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static>(app: &mut App) {
    app.insert_resource(Got::<T>(Vec::new())).add_systems(
        Update,
        |mut inbox: MessageReader<'_, '_, ReceivedRpc<T>>, mut got: ResMut<'_, Got<T>>| {
            got.0.extend(inbox.read().map(|received| received.rpc.clone()));
        },
    );
}

fn got<T: Clone + Send + Sync + 'static>(peer: &Peer) -> Vec<T> {
    peer.app.world().resource::<Got<T>>().0.clone()
}

/// Both ends are connected; `setup` adds what the test needs to each.
fn pair(link: Link, setup: impl Fn(&mut App)) -> (Pair, Entity, Entity) {
    let mut pair = Pair::over(link);
    setup(&mut pair.server.app);
    setup(&mut pair.client.app);
    let (server, client) = pair.connected();
    (pair, server, client)
}

fn send<T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static>(
    peer: &mut Peer,
    to: Entity,
    rpc: &T,
) -> Result<(), NetworkSendError> {
    let rpc = rpc.clone();
    let system = move |mut rpcs: RpcSender<'_, '_>| rpcs.send(to, &rpc);
    peer.app.world_mut().run_system_once(system).unwrap()
}

const LINKS: [Link; 4] = [Link::Ipc, Link::Udp, Link::LossyIpc, Link::LossyUdp];

#[test]
fn an_unreliable_rpc_arrives_at_most_once_and_holds_nothing_up() {
    for link in LINKS {
        let (mut pair, _, client) = pair(link, |app| {
            app.register_rpc_with::<Hint>(RpcOptions::new().unreliable());
            read::<Hint>(app);
        });
        for number in 0..200 {
            send(&mut pair.client, client, &Hint(number)).unwrap();
            pair.step();
        }
        pair.run(Duration::from_secs(1));
        let mut numbers: Vec<_> = got::<Hint>(&pair.server).into_iter().map(|hint| hint.0).collect();
        let arrived = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), arrived, "none came twice");
        assert!(if link.is_lossy() { (80..200).contains(&arrived) } else { arrived == 200 }, "{arrived} over {link:?}");
        pair.check();
    }
}

#[test]
fn an_rpc_that_overtakes_the_servers_acceptance_is_not_lost_and_no_violation() {
    fn greet(
        mut events: MessageReader<'_, '_, ConnectionEvent>,
        mut rpcs: RpcSender<'_, '_>,
        net: Res<'_, NetworkStreamDriver>,
    ) {
        for event in events.read().filter(|event| event.state == ConnectionState::Connected(Presence::NotInGame)) {
            assert!(net.state(event.connection).is_some());
            for number in 0..40 {
                let _ = rpcs.send(event.connection, &Hint(number));
            }
        }
    }
    let mut ever = false;
    for seed in 0..6 {
        for link in [Link::LossyIpc, Link::LossyUdp] {
            let mut pair = Pair::over(link);
            for app in [&mut pair.server.app, &mut pair.client.app] {
                app.register_rpc_with::<Hint>(RpcOptions::new().unreliable());
                read::<Hint>(app);
            }
            pair.server.app.add_systems(Update, greet);
            // Another moment, other dice.
            pair.run(Duration::from_millis(10 * seed));
            pair.connected();
            pair.run(Duration::from_millis(500));
            ever |= !got::<Hint>(&pair.client).is_empty();
            assert_eq!(pair.client.net().counters().violations, 0, "{link:?} {seed}");
            pair.check();
        }
    }
    assert!(ever);
}

#[test]
fn the_wrong_direction_is_an_error_where_it_is_sent() {
    let (mut pair, server, client) = pair(Link::Udp, |app| {
        app.register_rpc_with::<Order>(RpcOptions::new().direction(RpcDirection::ToServer));
        app.register_rpc_with::<Price>(RpcOptions::new().direction(RpcDirection::ToClient));
        read::<Order>(app);
        read::<Price>(app);
    });
    assert_eq!(send(&mut pair.server, server, &Order("x".into())), Err(NetworkSendError::WrongSide("server")));
    assert_eq!(send(&mut pair.client, client, &Price("x".into())), Err(NetworkSendError::WrongSide("client")));
    send(&mut pair.client, client, &Order("tea".into())).unwrap();
    send(&mut pair.server, server, &Price("5".into())).unwrap();
    pair.run(Duration::from_millis(100));
    assert_eq!(got::<Order>(&pair.server), [Order("tea".into())]);
    assert_eq!(got::<Price>(&pair.client), [Price("5".into())]);
    pair.check();
}

#[test]
fn ends_that_chose_other_options_do_not_connect_and_say_why() {
    let mut pair = Pair::over(Link::Udp);
    pair.server.app.register_rpc_with::<Hint>(RpcOptions::new());
    pair.client.app.register_rpc_with::<Hint>(RpcOptions::new().unreliable());
    let client = pair.connect();
    pair.until("it ends", |pair| pair.client.states_of(client).last() == Some(&ConnectionState::Disconnected));
    let mismatch = pair.client.events_of(client).last().unwrap().mismatch.clone().unwrap();
    assert_eq!(mismatch.different_shape, ["rpc Hint"]);
}

#[test]
fn what_is_too_large_is_refused_where_it_is_registered_or_sent() {
    let mut app = App::new();
    app.add_plugins(NetworkStreamPlugin::server());
    let error = app.try_register_rpc::<Hint>(RpcOptions::new().unreliable().max_size(2000)).unwrap_err();
    assert!(matches!(error, RegisterError::TooLarge { name: "Hint", size: 2000, .. }), "{error}");
    let error = app.try_register_rpc::<Hint>(RpcOptions::new().unreliable().in_approval()).unwrap_err();
    assert_eq!(error, RegisterError::NotReliable("Hint"));

    let (mut pair, _, client) = pair(Link::Udp, |app| {
        app.register_rpc_with::<Order>(RpcOptions::new().max_size(10));
        app.register_rpc_with::<Price>(RpcOptions::new().unreliable());
        read::<Order>(app);
        read::<Price>(app);
    });
    let too_large = |size, limit| Err(NetworkSendError::Driver(SendError::TooLarge { size, limit }));
    assert_eq!(send(&mut pair.client, client, &Order("1234567890".into())), too_large(11, 10));
    assert_eq!(send(&mut pair.client, client, &Order("123456789".into())), Ok(()));
    assert!(matches!(
        send(&mut pair.client, client, &Price("x".repeat(2000))),
        Err(NetworkSendError::Driver(SendError::TooLarge { .. }))
    ));
    send(&mut pair.client, client, &Price("x".repeat(1000))).unwrap();
    pair.run(Duration::from_millis(100));
    assert_eq!((got::<Order>(&pair.server).len(), got::<Price>(&pair.server).len()), (1, 1));
    pair.check();
}

#[test]
fn a_broadcast_reaches_all_but_one_or_just_a_few_over_every_link() {
    for link in LINKS {
        let (mut pair, first, _) = pair(link, |app| {
            app.register_rpc::<Hint>();
            read::<Hint>(app);
        });
        let options = pair.options();
        let mut other = pair.another_client(7);
        other.app.register_rpc::<Hint>();
        read::<Hint>(&mut other.app);
        other.net().connect_with(&pair.endpoint, options).unwrap();
        let both = |pair: &mut Pair, other: &mut Peer, updates: u32| {
            for _ in 0..updates {
                pair.step();
                other.app.update();
            }
        };
        both(&mut pair, &mut other, 200);
        let second = *pair.server.connections().iter().find(|&&connection| connection != first).expect("two players");
        let sent = pair
            .server
            .app
            .world_mut()
            .run_system_once(move |mut rpcs: RpcSender<'_, '_>| {
                [
                    rpcs.broadcast(&Hint(1)).unwrap(),
                    rpcs.broadcast_except(first, &Hint(2)).unwrap(),
                    rpcs.broadcast_to([first, Entity::PLACEHOLDER], &Hint(3)).unwrap(),
                    rpcs.broadcast_if(&Hint(4), |connection| connection == second).unwrap(),
                ]
            })
            .unwrap();
        assert_eq!(sent, [2, 1, 1, 1], "{link:?}");
        both(&mut pair, &mut other, 200);
        assert_eq!(got::<Hint>(&pair.client), [Hint(1), Hint(3)], "{link:?}");
        assert_eq!(got::<Hint>(&other), [Hint(1), Hint(2), Hint(4)], "{link:?}");
        pair.check();
    }
}

#[derive(Resource, Default)]
struct Shop {
    responses: Vec<Response<Coins>>,
    receipts: Vec<RpcReceipt>,
    silent: bool,
}

fn shop(app: &mut App) {
    app.register_request::<Price, Coins>(RpcOptions::new().direction(RpcDirection::ToServer))
        .register_rpc::<Order>()
        .init_resource::<Shop>()
        .add_systems(
            Update,
            |mut asked: MessageReader<'_, '_, ReceivedRequest<Price>>,
             mut answers: MessageReader<'_, '_, Response<Coins>>,
             mut receipts: MessageReader<'_, '_, RpcReceipt>,
             mut rpcs: RpcSender<'_, '_>,
             mut shop: ResMut<'_, Shop>| {
                for request in asked.read() {
                    let coins = Coins(request.request.0.len() as u32);
                    if !shop.silent {
                        rpcs.respond(request, &coins).unwrap();
                    }
                }
                shop.responses.extend(answers.read().cloned());
                shop.receipts.extend(receipts.read().copied());
            },
        );
    read::<Order>(app);
}

fn ask(peer: &mut Peer, server: Entity, what: &str, timeout: Duration) -> CallId {
    let price = Price(what.to_owned());
    let system = move |mut rpcs: RpcSender<'_, '_>| rpcs.request(server, &price, timeout).unwrap();
    peer.app.world_mut().run_system_once(system).unwrap()
}

#[test]
fn every_request_is_answered_once_or_times_out() {
    for link in LINKS {
        let (mut pair, _, client) = pair(link, shop);
        let second = Duration::from_secs(30);
        let calls: Vec<_> = ["a", "bb", "ccc"].map(|what| ask(&mut pair.client, client, what, second)).into();
        pair.run(Duration::from_secs(3));
        let responses = &pair.client.app.world().resource::<Shop>().responses;
        let expected: Vec<_> = calls
            .iter()
            .zip(1..)
            .map(|(&call, coins)| Response { connection: client, call, answer: Ok(Coins(coins)) })
            .collect();
        assert_eq!(*responses, expected, "{link:?}");

        pair.server.app.world_mut().resource_mut::<Shop>().silent = true;
        let call = ask(&mut pair.client, client, "x", Duration::from_millis(200));
        pair.run(Duration::from_millis(150));
        assert_eq!(pair.client.app.world().resource::<Shop>().responses.len(), 3);
        pair.run(Duration::from_millis(150));
        let responses = &pair.client.app.world().resource::<Shop>().responses;
        assert_eq!(responses[3], Response { connection: client, call, answer: Err(RequestError::TimedOut) });
        pair.check();
    }
}

#[test]
fn a_request_ends_with_its_connection() {
    let (mut pair, server, client) = pair(Link::Udp, shop);
    pair.server.app.world_mut().resource_mut::<Shop>().silent = true;
    let call = ask(&mut pair.client, client, "x", Duration::from_secs(60));
    pair.run(Duration::from_millis(50));
    let reason = DisconnectReason::local(DisconnectCode::Kicked);
    pair.server.net().disconnect(server, reason).unwrap();
    pair.ended(server, client);
    let responses = &pair.client.app.world().resource::<Shop>().responses;
    assert_eq!(*responses, [Response { connection: client, call, answer: Err(RequestError::ConnectionEnded) }]);
    pair.check();
}

#[test]
fn a_receipt_says_that_an_rpc_was_dispatched() {
    for link in LINKS {
        let (mut pair, _, client) = pair(link, shop);
        let system = move |mut rpcs: RpcSender<'_, '_>| rpcs.send_with_receipt(client, &Order("tea".into())).unwrap();
        let call = pair.client.app.world_mut().run_system_once(system).unwrap();
        pair.until("there is a receipt", |pair| {
            let receipts = &pair.client.app.world().resource::<Shop>().receipts;
            if receipts.is_empty() {
                return false;
            }
            let outcome = RpcOutcome::Delivered;
            assert_eq!(*receipts, [RpcReceipt { connection: client, call, outcome }]);
            assert_eq!(got::<Order>(&pair.server), [Order("tea".into())], "it was there when the receipt left");
            true
        });
        pair.check();
    }
}

#[test]
fn a_request_is_no_rpc_and_an_rpc_no_request() {
    let (mut pair, _, client) = pair(Link::Udp, shop);
    assert_eq!(send(&mut pair.client, client, &Price("x".into())), Err(NetworkSendError::IsARequest("Price")));
    let system = move |mut rpcs: RpcSender<'_, '_>| {
        rpcs.request(client, &Order("x".into()), Duration::from_secs(1)).unwrap_err()
    };
    let error = pair.client.app.world_mut().run_system_once(system).unwrap();
    assert_eq!(error, NetworkSendError::NotARequest("Order"));
    let many = move |mut rpcs: RpcSender<'_, '_>| {
        (0..2000).map(|_| rpcs.request(client, &Price("x".into()), Duration::from_secs(1))).find_map(Result::err)
    };
    let error = pair.client.app.world_mut().run_system_once(many).unwrap();
    assert_eq!(error, Some(NetworkSendError::TooManyCalls(1024)));
    pair.run(Duration::from_secs(2));
    pair.check();
}

#[test]
fn received_rpcs_are_entity_events_where_that_is_asked_for() {
    let (mut pair, server, client) = pair(Link::Udp, |app| {
        app.register_rpc_with::<Hint>(RpcOptions::new().with_events()).register_rpc::<Order>();
        app.insert_resource(Got::<Hint>(Vec::new())).insert_resource(Got::<Order>(Vec::new()));
    });
    let world = pair.server.app.world_mut();
    world.entity_mut(server).observe(|event: On<'_, '_, ReceivedRpc<Hint>>, mut got: ResMut<'_, Got<Hint>>| {
        got.0.push(event.rpc.clone());
    });
    world.entity_mut(server).observe(|event: On<'_, '_, ReceivedRpc<Order>>, mut got: ResMut<'_, Got<Order>>| {
        got.0.push(event.rpc.clone());
    });
    send(&mut pair.client, client, &Hint(5)).unwrap();
    send(&mut pair.client, client, &Order("x".into())).unwrap();
    pair.run(Duration::from_millis(100));
    assert_eq!(got::<Hint>(&pair.server), [Hint(5)]);
    assert_eq!(got::<Order>(&pair.server), [], "not asked for");
    pair.check();
}

#[test]
fn an_observer_that_panics_costs_no_rpc() {
    let (mut pair, server, client) = pair(Link::Udp, |app| {
        app.register_rpc_with::<Hint>(RpcOptions::new().with_events()).register_rpc::<Order>();
        read::<Hint>(app);
        read::<Order>(app);
    });
    pair.server.app.world_mut().entity_mut(server).observe(|event: On<'_, '_, ReceivedRpc<Hint>>| {
        assert_ne!(event.rpc.0, 3, "this reader cannot count to three");
    });
    for number in 0..6 {
        send(&mut pair.client, client, &Hint(number)).unwrap();
        send(&mut pair.client, client, &Order(number.to_string())).unwrap();
    }
    pair.run(Duration::from_millis(100));
    let hints: Vec<_> = got::<Hint>(&pair.server).into_iter().map(|hint| hint.0).collect();
    assert_eq!(hints, [0, 1, 2, 3, 4, 5]);
    assert_eq!(got::<Order>(&pair.server).len(), 6);
    send(&mut pair.client, client, &Hint(9)).unwrap();
    pair.run(Duration::from_millis(100));
    assert_eq!(got::<Hint>(&pair.server).last(), Some(&Hint(9)));
}

#[test]
fn entities_are_translated_by_the_map_of_each_end() {
    /// The client calls everything by the server's entity plus one.
    struct Shifted;
    impl NetworkEntityMap for Shifted {
        fn to_network(&self, _: Entity, local: Entity) -> Option<Entity> {
            Entity::try_from_bits(local.to_bits() - 1)
        }
        fn to_local(&self, _: Entity, network: Entity) -> Option<Entity> {
            (network.to_bits() < 1000).then(|| Entity::from_bits(network.to_bits() + 1))
        }
    }
    let (mut pair, server, client) = pair(Link::Udp, |app| {
        app.register_rpc_with_entities::<Target>(RpcOptions::new());
        read::<Target>(app);
    });
    pair.client.app.insert_resource(RpcEntityMap::new(Shifted));
    let entity = Entity::from_bits;
    send(&mut pair.client, client, &Target(entity(51), 1)).unwrap();
    send(&mut pair.server, server, &Target(entity(50), 2)).unwrap();
    send(&mut pair.server, server, &Target(entity(5000), 3)).unwrap();
    pair.run(Duration::from_millis(100));
    assert_eq!(got::<Target>(&pair.server), [Target(entity(50), 1)]);
    assert_eq!(got::<Target>(&pair.client), [Target(entity(51), 2), Target(Entity::PLACEHOLDER, 3)]);
    pair.check();
}

#[test]
fn what_nobody_reads_is_counted() {
    let (mut pair, _, client) = pair(Link::Udp, |app| {
        app.register_rpc::<Hint>().register_rpc::<Order>();
        read::<Order>(app);
    });
    for number in 0..10 {
        send(&mut pair.client, client, &Hint(number)).unwrap();
        send(&mut pair.client, client, &Order(number.to_string())).unwrap();
        pair.step();
    }
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.server.app.unread_rpcs::<Hint>(), 10);
    assert_eq!(pair.server.app.unread_rpcs::<Order>(), 0);
    pair.check();
}

fn bytes(stats: Option<ConnectionStats>) -> (u64, u64) {
    stats.map_or((0, 0), |stats| (stats.bytes_sent, stats.packets_sent))
}

/// `cargo test -p netstream --release --test rpc -- --ignored --nocapture figures` prints it: from server to client, both
/// Worlds on one thread. A client's own bandwidth is limited by default.
#[test]
#[ignore = "prints figures; time matters to it"]
fn figures_of_rpcs() {
    const STEP: Duration = Duration::from_millis(1);
    println!("| driver | payload | RPCs/s | latency, mean | bytes per RPC on the wire | packets per RPC |");
    println!("|---|---|---|---|---|---|");
    for link in [Link::Ipc, Link::Udp] {
        for size in [1usize, 100, 10 * 1024] {
            let (mut pair, server, _) = pair(link, |app| {
                app.register_rpc::<Order>();
                app.insert_resource(Got::<usize>(Vec::new())).add_systems(
                    Update,
                    |mut inbox: MessageReader<'_, '_, ReceivedRpc<Order>>, mut got: ResMut<'_, Got<usize>>| {
                        got.0.extend(inbox.read().map(|received| received.rpc.0.len()));
                    },
                );
            });
            let read = |pair: &Pair| pair.client.app.world().resource::<Got<usize>>().0.len();
            // Of a postcard string one or two bytes are its length.
            let order = Order("x".repeat(size - if size > 128 { 2 } else { 1 }));
            // Latency: one at a time.
            let (rounds, start) = (200, std::time::Instant::now());
            for round in 1..=rounds {
                send(&mut pair.server, server, &order).unwrap();
                while read(&pair) < round {
                    pair.server.app.update();
                    pair.client.app.update();
                    pair.clock.advance(STEP);
                }
            }
            let latency = start.elapsed() / rounds as u32;
            // Throughput: as many as the buffer takes.
            let before = bytes(pair.server.net().stats(server));
            let (mut sent, start) = (rounds, std::time::Instant::now());
            let end = rounds + if size > 1000 { 2000 } else { 100_000 };
            while read(&pair) < end {
                let (more, order) = (end - sent, order.clone());
                let system = move |mut rpcs: RpcSender<'_, '_>| {
                    (0..more).take_while(|_| rpcs.send(server, &order).is_ok()).count()
                };
                sent += pair.server.app.world_mut().run_system_once(system).unwrap();
                pair.server.app.update();
                pair.client.app.update();
                pair.clock.advance(STEP);
            }
            let rate = (end - rounds) as f64 / start.elapsed().as_secs_f64();
            let after = bytes(pair.server.net().stats(server));
            let per = |before: u64, after: u64| (after - before) as f64 / (end - rounds) as f64;
            println!(
                "| {link:?} | {size} B | {rate:.0} | {latency:.1?} | {:.2} | {:.3} |",
                per(before.0, after.0),
                per(before.1, after.1),
            );
        }
    }
}
