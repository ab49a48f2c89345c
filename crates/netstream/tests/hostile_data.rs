//! Peers that use RPCs, commands and snapshots wrongly. What is said is either counted and ignored, or ends just that
//! connection with a reason; other players notice nothing.

mod harness;

use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use harness::stage::Stage;
use netstream::driver::transport::ChannelId;
use netstream::driver::{Clock, NetworkDriver};
use netstream::prelude::*;
use netstream::{
    CommandArrivals, ReceivedRequest, RequestError, Response, RpcDirection, RpcOptions, RpcOutcome, RpcReceipt,
    SnapshotAcks,
};
use serde::{Deserialize, Serialize};

use DisconnectCode::{InvalidRpc, ProtocolViolation};

const RELIABLE: ChannelId = ChannelId::RELIABLE;
const UNRELIABLE: ChannelId = ChannelId::UNRELIABLE;

// RPCs have numbers in the order of their names; `Login` (1) and `Say` (4) are the harness's.
const HINT: u8 = 0;
const ORDER: u8 = 2;
const PRICE: u8 = 3;
const SAY: u8 = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hint(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Price(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Coins(bool);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Move(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scene(Vec<u8>);

/// What the server has handed to the game, and what it showed.
#[derive(Resource, Default)]
struct Got {
    orders: usize,
    prices: usize,
    ended: Vec<Result<Coins, RequestError>>,
    receipts: Vec<RpcOutcome>,
    moves: Vec<(Entity, Tick, Move)>,
    shown: Vec<(Entity, usize)>,
}

fn setup(app: &mut App) {
    app.register_rpc_with::<Hint>(RpcOptions::new().direction(RpcDirection::ToClient))
        .register_rpc_with::<Order>(RpcOptions::new().max_size(10))
        .register_request::<Price, Coins>(RpcOptions::new())
        .register_command::<Move>()
        .register_snapshot_with::<Scene>(SnapshotOptions::new().delta())
        .init_resource::<Got>()
        .add_systems(
            Update,
            |mut got: ResMut<'_, Got>,
             mut orders: MessageReader<'_, '_, ReceivedRpc<Order>>,
             mut prices: MessageReader<'_, '_, ReceivedRequest<Price>>,
             mut ended: MessageReader<'_, '_, Response<Coins>>,
             mut receipts: MessageReader<'_, '_, RpcReceipt>| {
                got.orders += orders.read().count();
                got.prices += prices.read().count();
                got.ended.extend(ended.read().map(|response| response.answer.clone()));
                got.receipts.extend(receipts.read().map(|receipt| receipt.outcome));
            },
        )
        .add_systems(
            NetworkTick,
            |time: Res<'_, NetworkTime>,
             mut players: Query<'_, '_, (Entity, &mut CommandBuffer<Move>), With<NetworkStreamInGame>>,
             mut snapshots: SnapshotSender<'_, '_>,
             mut got: ResMut<'_, Got>| {
                for (player, mut commands) in &mut players {
                    got.moves.extend(commands.take(time.tick()).map(|command| (player, time.tick(), command)));
                    let mut cells = vec![7; 200];
                    cells[0] = time.tick().number() as u8;
                    let size = snapshots.send(player, &Scene(cells)).unwrap();
                    got.shown.push((player, size));
                }
            },
        );
}

fn connected() -> Stage {
    let mut stage = Stage::with(NetworkStreamPlugin::server(), setup);
    stage.shake_hands();
    stage
}

/// The hostile peer and the honest one are in the game.
fn in_game() -> Stage {
    let mut stage = connected();
    for player in stage.server.connections() {
        stage.server.enter_game(player);
    }
    let honest = stage.honest.connection();
    stage.honest.enter_game(honest);
    stage.steps(2);
    stage
}

fn got(stage: &Stage) -> &Got {
    stage.server.app.world().resource()
}

fn rejected(what: &str, mut stage: Stage, channel: ChannelId, message: &[u8], code: DisconnectCode) {
    println!("{what}: {message:?}");
    let before = (got(&stage).orders, got(&stage).prices, got(&stage).moves.len());
    stage.send(channel, message);
    stage.step();
    let after = (got(&stage).orders, got(&stage).prices, got(&stage).moves.len());
    assert_eq!(before, after, "nothing of it is handed out");
    stage.thrown_out(code);
}

#[test]
fn rpcs_of_the_wrong_direction_size_kind_or_number_end_their_connection() {
    let cases: [(&str, &[u8]); 9] = [
        ("only the server may say this", &[1, HINT, 1]),
        ("a body of 11 bytes where 10 are allowed", &[1, ORDER, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("a request that is no call", &[1, PRICE, 1, b'x']),
        ("a number that no type has", &[1, 9, 1]),
        ("a call that ends within its number", &[6, 0x80]),
        ("a call without a type", &[6, 1]),
        ("a call of a type that does not exist", &[6, 1, 9, 0]),
        ("a call of what only the server may say", &[6, 1, HINT, 1]),
        ("a request with something behind it", &[6, 1, PRICE, 1, b'x', 0]),
    ];
    for (what, message) in cases {
        rejected(what, connected(), RELIABLE, message, InvalidRpc);
    }
    rejected("an RPC on another channel than its own", connected(), UNRELIABLE, &[1, ORDER, 0], ProtocolViolation);
    rejected("a reply that is not reliable", connected(), UNRELIABLE, &[7, 0, 0], ProtocolViolation);
}

#[test]
fn a_call_before_it_is_time_ends_its_connection() {
    for message in [&[6, 0, SAY, 5, 0][..], &[6, 0, PRICE, 0], &[7, 0, 0], &[7, 0, 1, 1]] {
        let mut stage = Stage::with(NetworkStreamPlugin::server().with_approval(), setup);
        stage.shake_hands();
        assert_eq!(stage.server.state(stage.server.connection()), Some(ConnectionState::Approval));
        rejected("in Approval", stage, RELIABLE, message, InvalidRpc);
    }
}

#[test]
fn replies_that_nobody_waits_for_or_that_make_no_sense_end_their_connection() {
    for message in [&[7][..], &[7, 0x80], &[7, 0], &[7, 0, 0], &[7, 0, 0, 1], &[7, 0, 2], &[7, 200, 1, 1, 1]] {
        rejected("a reply to nothing", connected(), RELIABLE, message, InvalidRpc);
    }
}

#[test]
fn a_call_ends_once_also_if_its_reply_is_malformed() {
    // What waits is a request for `Coins` and an RPC with a receipt: calls 0 and 1.
    for (message, good) in [
        (&[7, 0, 1, 1][..], true),
        (&[7, 1, 0], true),
        (&[7, 0, 1, 2], false),
        (&[7, 0, 1], false),
        (&[7, 0, 1, 1, 1], false),
        (&[7, 0, 0], false),
        (&[7, 1, 1, 1], false),
        (&[7, 1, 0, 0], false),
    ] {
        let mut stage = connected();
        let hostile = stage.server.connection();
        let ask = move |mut rpcs: RpcSender<'_, '_>| {
            rpcs.request(hostile, &Price(String::new()), Duration::from_secs(60)).unwrap();
            rpcs.send_with_receipt(hostile, &Order(String::new())).unwrap();
        };
        stage.server.app.world_mut().run_system_once(ask).unwrap();
        stage.steps(2);
        stage.send(RELIABLE, message);
        stage.steps(2);
        if good {
            let goodbye = DisconnectReason::local(DisconnectCode::ConnectionClose);
            stage.driver.disconnect(stage.clock.now(), stage.hostile, &goodbye, Duration::ZERO);
            stage.steps(3);
        }
        let Got { ended, receipts, .. } = got(&stage);
        assert_eq!((ended.len(), receipts.len()), (1, 1), "{message:?}: {ended:?} {receipts:?}");
        let expected = if message[1] == 0 && good { Ok(Coins(true)) } else { Err(RequestError::ConnectionEnded) };
        assert_eq!(ended[0], expected, "{message:?}");
        let expected = if message[1] == 1 && good { RpcOutcome::Delivered } else { RpcOutcome::ConnectionEnded };
        assert_eq!(receipts[0], expected, "{message:?}");
        if good {
            stage.play_on();
        } else {
            stage.thrown_out(InvalidRpc);
        }
    }
}

/// A client's packet for the tick `ahead` of the server's.
fn packet(stage: &Stage, ahead: i32, flags: u8, rest: &[u8]) -> Vec<u8> {
    let tick = stage.server.app.world().resource::<NetworkTime>().tick().offset(ahead);
    [&[4, flags][..], &tick.number().to_le_bytes(), rest].concat()
}

#[test]
fn malformed_commands_end_their_connection_and_none_of_them_is_applied() {
    let long: &[u8] = &[&[0, 1, 0, 0x81, 0x08][..], &[0; 1025]].concat();
    let cases: [(&str, u8, &[u8]); 14] = [
        ("unknown flags", 4, &[]),
        ("acknowledgements that are not there", 1, &[1, 2, 3]),
        ("a type that does not exist", 0, &[1, 1, 0, 1, 0]),
        ("no commands in a block", 0, &[0, 0, 0, 1, 0]),
        ("33 commands in a block", 0, &[0, 33, 0, 1, 0]),
        ("a block that ends too soon", 0, &[0, 1, 0, 2, 1]),
        ("more commands than there are", 0, &[0, 2, 0, 1, 0]),
        ("two commands of one tick", 0, &[0, 2, 0, 1, 0, 1]),
        ("one type twice", 0, &[0, 1, 0, 1, 0, 0, 1, 1, 1, 0]),
        ("a command of 1025 bytes", 0, long),
        ("a delta that makes 1025 bytes", 0, &[0, 2, 0, 1, 0, 2, 0x81, 0x08, 0]),
        ("a delta beyond its end", 0, &[0, 2, 0, 1, 0, 2, 1, 3, 5, 1, 1]),
        ("a text of other length than it says", 0, &[0, 1, 0, 2, 5, b'x']),
        ("a text that is none", 0, &[0, 1, 0, 2, 1, 0xff]),
    ];
    for (what, flags, rest) in cases {
        let stage = in_game();
        let message = packet(&stage, 3, flags, rest);
        rejected(what, stage, UNRELIABLE, &message, ProtocolViolation);
    }
    let mut stage = Stage::with(NetworkStreamPlugin::server().with_approval(), setup);
    stage.shake_hands();
    let message = packet(&stage, 3, 0, &[]);
    rejected("a packet before Connected", stage, UNRELIABLE, &message, ProtocolViolation);
    let stage = in_game();
    let message = packet(&stage, 3, 0, &[]);
    rejected("a packet that is reliable", stage, RELIABLE, &message, ProtocolViolation);
    rejected("a client's snapshot", in_game(), UNRELIABLE, &[5, 0, 0, 0, 0, 0, 0], ProtocolViolation);
}

#[test]
fn commands_for_ticks_out_of_reach_are_counted_and_nothing_else() {
    let mut stage = in_game();
    let hostile = stage.server.connection();
    for (ahead, back) in [(33, 0), (1000, 0), (-65, 0), (i32::MAX, 0), (i32::MIN, 0), (10, 100), (10, 0x0fff_ffff)] {
        let mut rest = vec![0, 1];
        (0..5).for_each(|group| rest.push(((back >> (7 * group)) & 0x7f) as u8 | 0x80));
        *rest.last_mut().unwrap() &= 0x7f;
        // The shortest form is the only one.
        while rest.len() > 3 && rest.last() == Some(&0) {
            rest.pop();
            *rest.last_mut().unwrap() &= 0x7f;
        }
        rest.extend_from_slice(&[1, 0]);
        let message = packet(&stage, ahead, 0, &rest);
        stage.send(UNRELIABLE, &message);
        stage.step();
    }
    stage.steps(200);
    let arrivals = stage.server.app.world().get::<CommandArrivals>(hostile).unwrap();
    assert_eq!((arrivals.out_of_window, arrivals.in_time, arrivals.late), (7, 0, 0));
    assert!(arrivals.age.is_finite() && arrivals.age_deviation.is_finite());
    assert!(got(&stage).moves.iter().all(|(player, ..)| *player != hostile));
    // It may still play, if it wants to.
    let message = packet(&stage, 5, 0, &[0, 1, 0, 1, 0]);
    stage.send(UNRELIABLE, &message);
    stage.steps(20);
    assert_eq!(got(&stage).moves.iter().filter(|(player, ..)| *player == hostile).count(), 1);
    stage.play_on();
}

#[test]
fn one_tick_has_one_command_however_often_it_is_said_differently() {
    let mut stage = in_game();
    let hostile = stage.server.connection();
    let tick = stage.server.app.world().resource::<NetworkTime>().tick() + 10;
    for text in [b'a', b'b', b'c'] {
        let message = [&[4, 0][..], &tick.number().to_le_bytes(), &[0, 1, 0, 2, 1, text]].concat();
        stage.send(UNRELIABLE, &message);
        stage.step();
    }
    stage.steps(30);
    let moves: Vec<_> = got(&stage).moves.iter().filter(|(player, ..)| *player == hostile).collect();
    assert_eq!(moves, [&(hostile, tick, Move("a".into()))]);
    let arrivals = stage.server.app.world().get::<CommandArrivals>(hostile).unwrap();
    assert_eq!((arrivals.packets, arrivals.in_time, arrivals.early, arrivals.duplicate), (3, 1, 1, 2));
    stage.play_on();
}

#[test]
fn outside_the_game_commands_are_counted_and_nothing_else() {
    let mut stage = connected();
    for _ in 0..100 {
        let message = packet(&stage, 3, 0, &[0, 1, 0, 1, 0]);
        stage.send(UNRELIABLE, &message);
        stage.step();
    }
    assert_eq!(stage.server.net().counters().out_of_game, 100);
    assert_eq!(got(&stage).moves, []);
    stage.play_on();
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_counted_and_believed_by_nobody() {
    let mut stage = in_game();
    let hostile = stage.server.connection();
    for _ in 0..60 {
        // Ticks to come, far ones and, by the mask, 32 more.
        for newest in [100, 40, 1 << 30] {
            let tick = stage.server.app.world().resource::<NetworkTime>().tick().offset(newest);
            let acks = [&tick.number().to_le_bytes()[..], &[0xff, 0x07, 0, 0]].concat();
            let message = packet(&stage, 3, 1, &acks);
            stage.send(UNRELIABLE, &message);
        }
        stage.step();
    }
    let world = stage.server.app.world();
    assert_eq!(world.get::<CommandArrivals>(hostile).unwrap().false_acks, 60 * 3 * 12);
    let acks = world.get::<SnapshotAcks>(hostile).unwrap();
    assert_eq!(acks.newest_acked(), None);
    let whole = |(player, size): &&(Entity, usize)| *player == hostile && *size < 200;
    assert_eq!(got(&stage).shown.iter().filter(whole).count(), 0, "it is told no difference from what it has not");
    stage.play_on();
}

/// Sends a packet that acknowledges the newest snapshot and asks for a whole one.
fn ask(stage: &mut Stage, hostile: Entity) {
    let acks = stage.server.app.world().get::<SnapshotAcks>(hostile).unwrap();
    let Some(newest) = acks.newest_sent() else { return };
    let acks = [&newest.number().to_le_bytes()[..], &[0; 4]].concat();
    let message = packet(stage, 3, 3, &acks);
    stage.send(UNRELIABLE, &message);
}

#[test]
fn whole_snapshots_are_to_be_had_once_a_second_however_often_one_asks() {
    let mut stage = in_game();
    let hostile = stage.server.connection();
    // 5 s, three requests a second of which one is granted: that much an honest client never asks, and may.
    for step in 0..500 {
        if step % 33 == 0 {
            ask(&mut stage, hostile);
        } else {
            // Otherwise a good client, who acknowledges all it gets.
            let newest = stage.server.app.world().get::<SnapshotAcks>(hostile).unwrap().newest_sent();
            let acks = [&newest.unwrap_or_default().number().to_le_bytes()[..], &[0; 4]].concat();
            let message = packet(&stage, 3, 1, &acks);
            stage.send(UNRELIABLE, &message);
        }
        stage.step();
    }
    let shown: Vec<_> =
        got(&stage).shown.iter().filter(|(player, _)| *player == hostile).map(|(_, size)| *size).collect();
    // Each time until the next acknowledgement is there, and once in the beginning.
    let whole = shown.iter().filter(|size| **size > 200).count();
    assert!((5..=6 * 3).contains(&whole), "{whole} of {}", shown.len());
    let bursts = shown.windows(2).filter(|pair| pair[0] < 200 && pair[1] > 200).count();
    assert!(bursts <= 5, "{bursts} in 5 s");
    let arrivals = stage.server.app.world().get::<CommandArrivals>(hostile).unwrap();
    assert!((9..=11).contains(&arrivals.refused_requests), "{}", arrivals.refused_requests);
    stage.play_on();
}

#[test]
fn who_asks_for_whole_snapshots_with_every_packet_is_thrown_out() {
    let mut stage = in_game();
    let hostile = stage.server.connection();
    for _ in 0..40 {
        ask(&mut stage, hostile);
        stage.step();
        if stage.ended.is_some() {
            break;
        }
    }
    stage.thrown_out(ProtocolViolation);
}

/// Whatever it says, but never that it has what could be a baseline: whole snapshots for one second, then one a second.
#[test]
fn whole_snapshots_for_who_acknowledges_none_are_limited_to_one_a_second() {
    type Lie = fn(&mut Stage, Tick) -> Vec<u8>;
    let lies: [(&str, Option<Lie>); 4] = [
        ("nothing", None),
        ("no acknowledgement", Some(|stage, _| packet(stage, 3, 0, &[]))),
        ("what was never sent", Some(|stage, newest| packet(stage, 3, 1, &lie(newest + 100)))),
        ("what is too old", Some(|stage, newest| packet(stage, 3, 1, &lie(newest - 40)))),
    ];
    for (what, lie) in lies {
        let mut stage = in_game();
        let hostile = stage.server.connection();
        for step in 0..2000 {
            let acks = stage.server.app.world().get::<SnapshotAcks>(hostile).unwrap();
            if let (Some(newest), Some(lie)) = (acks.newest_sent(), lie)
                && step % 2 == 0
            {
                let message = lie(&mut stage, newest);
                stage.send(UNRELIABLE, &message);
            }
            stage.step();
        }
        let sizes = |who: Entity| {
            let shown = got(&stage).shown.iter().filter(move |(player, _)| *player == who);
            shown.map(|(_, size)| *size).collect::<Vec<_>>()
        };
        let shown = sizes(hostile);
        let whole = shown.iter().filter(|size| **size > 200).count();
        let most = if lie.is_some() { 60 + 21 } else { 31 + 21 };
        assert!((20..=most).contains(&whole), "{whole} of {} for who says {what}", shown.len());
        for (second, ticks) in shown.chunks(60).enumerate().skip(2) {
            let whole = ticks.iter().filter(|size| **size > 200).count();
            assert!(whole <= 1 + usize::from(what == "what is too old"), "{whole} in second {second} for {what}");
        }
        let passed = shown.iter().filter(|size| **size == 0).count() as u64;
        assert_eq!(stage.server.app.world().get::<SnapshotAcks>(hostile).unwrap().passed_over(), passed);
        stage.play_on();
    }
}

/// An acknowledgement of this tick alone.
fn lie(tick: Tick) -> Vec<u8> {
    [&tick.number().to_le_bytes()[..], &[0; 4]].concat()
}
