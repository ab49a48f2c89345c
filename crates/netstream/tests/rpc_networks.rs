//! RPCs over every driver and every network of the tests: once, in order across types, answered, acknowledged; broadcasts,
//! entities, and both ways of reading.

mod play;

use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::entity::{EntityMapper, MapEntities};
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use netstream::prelude::*;
use netstream::{
    CallId, NetworkEntityMap, ReceivedRequest, Response, RpcDirection, RpcEntityMap, RpcOptions, RpcOutcome, RpcReceipt,
};
use play::{Game, Link, millis};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Word(u32, String);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Page(u32, Vec<u8>);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hint(u32);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order(u32);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Price(u32);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Coins(u32);

/// What one World got.
#[derive(Resource, Default)]
struct Got {
    /// Words and pages as entity events, in the order of their dispatch.
    events: Vec<u32>,
    words: Vec<u32>,
    pages: Vec<(u32, usize)>,
    hints: Vec<u32>,
    orders: Vec<u32>,
    answers: Vec<(CallId, u32)>,
    receipts: Vec<(CallId, RpcOutcome)>,
}

fn setup(app: &mut App) {
    app.register_rpc_with::<Word>(RpcOptions::new().with_events())
        .register_rpc_with::<Page>(RpcOptions::new().with_events())
        .register_rpc_with::<Hint>(RpcOptions::new().unreliable().direction(RpcDirection::ToClient))
        .register_rpc_with::<Order>(RpcOptions::new().direction(RpcDirection::ToServer))
        .register_request::<Price, Coins>(RpcOptions::new())
        .init_resource::<Got>()
        .add_observer(|word: On<'_, '_, ReceivedRpc<Word>>, mut got: ResMut<'_, Got>| got.events.push(word.rpc.0))
        .add_observer(|page: On<'_, '_, ReceivedRpc<Page>>, mut got: ResMut<'_, Got>| got.events.push(page.rpc.0))
        .add_systems(Update, (read, answer));
}

fn read(
    mut words: MessageReader<'_, '_, ReceivedRpc<Word>>,
    mut pages: MessageReader<'_, '_, ReceivedRpc<Page>>,
    mut hints: MessageReader<'_, '_, ReceivedRpc<Hint>>,
    mut orders: MessageReader<'_, '_, ReceivedRpc<Order>>,
    mut got: ResMut<'_, Got>,
) {
    got.words.extend(words.read().map(|word| word.rpc.0));
    got.pages.extend(pages.read().map(|page| (page.rpc.0, page.rpc.1.len())));
    got.hints.extend(hints.read().map(|hint| hint.rpc.0));
    got.orders.extend(orders.read().map(|order| order.rpc.0));
}

fn answer(
    mut requests: MessageReader<'_, '_, ReceivedRequest<Price>>,
    mut answers: MessageReader<'_, '_, Response<Coins>>,
    mut receipts: MessageReader<'_, '_, RpcReceipt>,
    mut rpcs: RpcSender<'_, '_>,
    mut got: ResMut<'_, Got>,
) {
    for request in requests.read() {
        rpcs.respond(request, &Coins(request.request.0 * 2)).unwrap();
    }
    got.answers.extend(answers.read().map(|response| (response.call, response.answer.clone().unwrap().0)));
    got.receipts.extend(receipts.read().map(|receipt| (receipt.call, receipt.outcome)));
}

/// What one side says in one update; returns its calls: requests with what they ask, and RPCs with receipts.
fn say(app: &mut App, to: Entity, number: u32, client: bool) -> ((CallId, u32), CallId) {
    let system = move |mut rpcs: RpcSender<'_, '_>| {
        rpcs.send(to, &Word(2 * number, "w".repeat(number as usize % 50))).unwrap();
        let receipt = rpcs.send_with_receipt(to, &Page(2 * number + 1, vec![7; 100 * (number as usize % 40)])).unwrap();
        match client {
            true => rpcs.send(to, &Order(number)).unwrap(),
            false => assert_eq!(rpcs.broadcast(&Hint(number)), Ok(1)),
        }
        let request = rpcs.request(to, &Price(number), Duration::from_secs(60)).unwrap();
        ((request, 2 * number), receipt)
    };
    app.world_mut().run_system_once(system).unwrap()
}

#[test]
fn rpcs_arrive_once_in_order_across_types_and_are_answered_over_every_network() {
    const UPDATES: u32 = 200;
    for link in Link::all() {
        let mut game = Game::with(link, 64, SnapshotOptions::new().delta(), setup, setup);
        let (server, client) = game.ends;
        let mut calls = [Vec::new(), Vec::new()];
        for number in 0..UPDATES {
            calls[0].push(say(&mut game.server, server, number, false));
            calls[1].push(say(&mut game.client, client, number, true));
            game.step();
        }
        game.run(millis(10_000));
        game.check();
        for (app, calls) in [&game.server, &game.client].into_iter().zip(&calls) {
            let got = app.world().resource::<Got>();
            assert_eq!(got.events, (0..2 * UPDATES).collect::<Vec<_>>(), "in order across types over {link:?}");
            assert_eq!(got.words, (0..UPDATES).map(|number| 2 * number).collect::<Vec<_>>());
            let pages = (0..UPDATES).map(|number| (2 * number + 1, 100 * (number as usize % 40)));
            assert_eq!(got.pages, pages.collect::<Vec<_>>());
            assert_eq!(got.answers, calls.iter().map(|(request, _)| *request).collect::<Vec<_>>(), "{link:?}");
            let receipts: Vec<_> = calls.iter().map(|(_, call)| (*call, RpcOutcome::Delivered)).collect();
            assert_eq!(got.receipts, receipts, "{link:?}");
        }
        let orders = &game.server.world().resource::<Got>().orders;
        assert_eq!(*orders, (0..UPDATES).collect::<Vec<_>>());
        let mut hints = game.client.world().resource::<Got>().hints.clone();
        let arrived = hints.len();
        let least = if link.profile.loss > 0.1 {
            80
        } else if link.is_lossy() {
            170
        } else {
            200
        };
        assert!((least..=200).contains(&arrived), "{arrived} over {link:?}");
        hints.sort_unstable();
        hints.dedup();
        assert_eq!(hints.len(), arrived, "none twice over {link:?}");
    }
}

/// Link figures are there from the first sample on, and near the truth.
#[test]
fn round_trip_and_jitter_of_every_connection_are_known() {
    for link in Link::all() {
        let game = {
            let mut game = Game::over(link);
            game.run(millis(5000));
            game
        };
        for (app, connection) in [(&game.server, game.ends.0), (&game.client, game.ends.1)] {
            let stats = app.world().resource::<NetworkStreamDriver>().stats(connection).unwrap();
            let Some(rtt) = stats.rtt else {
                assert_eq!(link.scheme, netstream::driver::Scheme::Ipc, "in-process there is nothing to measure");
                continue;
            };
            // What arrives between updates waits for the next, at each end.
            let least = link.profile.delay * 2;
            assert!((least..least + millis(80)).contains(&rtt), "{rtt:?} over {link:?}");
            let jitter = stats.jitter.expect("it comes with the round trip");
            assert!(jitter < millis(60), "{jitter:?} over {link:?}");
        }
    }
}

/// To whom: a broadcast to all, to all but one, to a set, or to those that a question picks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct News(u32);

/// An entity of the World that reads it, and a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Target(#[serde(with = "netstream::entity_bits")] Entity, u32);

impl MapEntities for Target {
    fn map_entities<M: EntityMapper>(&mut self, mapper: &mut M) {
        self.0 = mapper.get_mapped(self.0);
    }
}

/// The client's entity is the one after the server's; from 1000 on the client has none.
struct Shifted;

impl NetworkEntityMap for Shifted {
    fn to_network(&self, _: Entity, local: Entity) -> Option<Entity> {
        Entity::try_from_bits(local.to_bits() - 1)
    }

    fn to_local(&self, _: Entity, network: Entity) -> Option<Entity> {
        (network.to_bits() < 1000).then(|| Entity::from_bits(network.to_bits() + 1))
    }
}

/// What one World has read of `News` and `Target`, as messages and as entity events.
#[derive(Resource, Default)]
struct Read {
    news: [Vec<u32>; 2],
    targets: [Vec<Target>; 2],
    /// On which connections.
    from: Vec<Entity>,
}

fn readers(app: &mut App) {
    app.register_rpc_with::<News>(RpcOptions::new().with_events())
        .register_rpc_with_entities::<Target>(RpcOptions::new().with_events())
        .init_resource::<Read>()
        .add_observer(|news: On<'_, '_, ReceivedRpc<News>>, mut read: ResMut<'_, Read>| {
            read.news[1].push(news.rpc.0);
            read.from.push(news.connection);
        })
        .add_observer(|target: On<'_, '_, ReceivedRpc<Target>>, mut read: ResMut<'_, Read>| {
            read.targets[1].push(target.rpc.clone());
            read.from.push(target.connection);
        })
        .add_systems(
            Update,
            |mut news: MessageReader<'_, '_, ReceivedRpc<News>>,
             mut targets: MessageReader<'_, '_, ReceivedRpc<Target>>,
             mut read: ResMut<'_, Read>| {
                for news in news.read() {
                    read.news[0].push(news.rpc.0);
                    read.from.push(news.connection);
                }
                for target in targets.read() {
                    read.targets[0].push(target.rpc.clone());
                    read.from.push(target.connection);
                }
            },
        );
}

#[test]
fn broadcasts_reach_whom_they_are_for_once_and_in_order_and_entities_are_mapped_over_every_network() {
    const UPDATES: u32 = 100;
    let entity = |number: u32| Entity::from_bits(u64::from(number));
    for link in Link::all() {
        let client = |app: &mut App| {
            readers(app);
            app.insert_resource(RpcEntityMap::new(Shifted));
        };
        let mut game = Game::with(link, 64, SnapshotOptions::new().delta(), readers, client);
        let (server, client) = game.ends;
        for number in 0..UPDATES {
            let system = move |mut rpcs: RpcSender<'_, '_>| {
                let sent = [
                    rpcs.broadcast(&News(8 * number)),
                    rpcs.broadcast_except(server, &News(8 * number + 1)),
                    rpcs.broadcast_except(Entity::PLACEHOLDER, &News(8 * number + 2)),
                    rpcs.broadcast_to([server, Entity::PLACEHOLDER], &News(8 * number + 3)),
                    rpcs.broadcast_to([], &News(8 * number + 4)),
                    rpcs.broadcast_if(&News(8 * number + 5), |who| who == server),
                    rpcs.broadcast_if(&News(8 * number + 6), |who| who != server),
                    rpcs.broadcast(&Target(entity(500 + 10 * number), number)),
                ];
                assert_eq!(sent.map(Result::unwrap), [1, 0, 1, 1, 0, 1, 0, 1]);
            };
            game.server.world_mut().run_system_once(system).unwrap();
            let system = move |mut rpcs: RpcSender<'_, '_>| {
                rpcs.send(client, &Target(entity(501 + 10 * number), number)).unwrap();
                assert_eq!(rpcs.broadcast(&News(number)), Ok(1), "to the server");
            };
            game.client.world_mut().run_system_once(system).unwrap();
            game.step();
        }
        game.run(millis(10_000));
        game.check();
        let read = game.client.world().resource::<Read>();
        let news: Vec<_> = (0..UPDATES).flat_map(|number| [0, 2, 3, 5].map(|kind| 8 * number + kind)).collect();
        assert_eq!(read.news, [news.clone(), news], "as messages and as events over {link:?}");
        let known = |number| if number < 50 { entity(501 + 10 * number) } else { Entity::PLACEHOLDER };
        let targets: Vec<_> = (0..UPDATES).map(|number| Target(known(number), number)).collect();
        assert_eq!(read.targets, [targets.clone(), targets], "{link:?}");
        assert!(read.from.iter().all(|from| *from == client), "{link:?}");
        let read = game.server.world().resource::<Read>();
        let news: Vec<_> = (0..UPDATES).collect();
        assert_eq!(read.news, [news.clone(), news], "{link:?}");
        let targets: Vec<_> = (0..UPDATES).map(|number| Target(entity(500 + 10 * number), number)).collect();
        assert_eq!(read.targets, [targets.clone(), targets], "{link:?}");
        assert!(read.from.iter().all(|from| *from == server), "{link:?}");
    }
}
