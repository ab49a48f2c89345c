//! A server that lies to its client: about ticks, snapshots and RPCs. The client keeps its head, asks seldom, and where
//! it leaves says why.

mod harness;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use harness::{Peer, STEP};
use netstream::driver::transport::{ChannelId, ConnectionId, Incoming};
use netstream::driver::{Clock, IpcDriver, ManualClock, NetworkDriver};
use netstream::prelude::*;
use netstream::{RpcDirection, RpcOptions, SnapshotArrivals};
use serde::{Deserialize, Serialize};

use DisconnectCode::{InvalidRpc, ProtocolViolation};

const RELIABLE: ChannelId = ChannelId::RELIABLE;
const UNRELIABLE: ChannelId = ChannelId::UNRELIABLE;

// RPCs: `Login` is 0, and `Say` is 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order(String);

// Snapshots: 1 and 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scene(Vec<u8>);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Score(u8);

/// What was handed to the game.
#[derive(Resource, Default)]
struct Got {
    scenes: Vec<(Tick, Scene)>,
    scores: Vec<(Tick, Score)>,
    clocks: Vec<(Tick, Tick)>,
    orders: usize,
}

fn setup(app: &mut App) {
    app.register_rpc_with::<Order>(RpcOptions::new().direction(RpcDirection::ToServer))
        .register_snapshot_with::<Scene>(SnapshotOptions::new().delta())
        .register_snapshot::<Score>()
        .init_resource::<Got>()
        .add_systems(
            Update,
            |mut got: ResMut<'_, Got>,
             time: Res<'_, NetworkTime>,
             mut scenes: MessageReader<'_, '_, ReceivedSnapshot<Scene>>,
             mut scores: MessageReader<'_, '_, ReceivedSnapshot<Score>>,
             mut orders: MessageReader<'_, '_, ReceivedRpc<Order>>| {
                got.scenes.extend(scenes.read().map(|scene| (scene.tick, scene.snapshot.clone())));
                got.scores.extend(scores.read().map(|score| (score.tick, score.snapshot.clone())));
                got.orders += orders.read().count();
                if time.is_synced() {
                    got.clocks.push((time.tick(), time.server_tick()));
                }
            },
        );
}

/// A client in the game, and a server that is nothing but a driver.
struct Trap {
    client: Peer,
    connection: Entity,
    clock: ManualClock,
    driver: IpcDriver,
    peer: ConnectionId,
    /// What the client said.
    heard: Vec<Vec<u8>>,
}

impl Trap {
    fn new() -> Self {
        let (clock, hub) = (ManualClock::new(), IpcHub::new());
        let mut driver = IpcDriver::new(&hub);
        driver.listen(clock.now(), &"ipc://trap".parse().unwrap()).unwrap();
        let mut client = Peer::new(NetworkStreamPlugin::client().with_clock(clock.clone()).with_ipc(&hub));
        setup(&mut client.app);
        let connection = client.net().connect("ipc://trap").unwrap();
        client.enter_game(connection);
        client.app.update();
        let mut peer = None;
        driver.receive(clock.now(), &mut |incoming| {
            if let Incoming::Accepted { connection, .. } = incoming {
                peer = Some(connection);
            }
        });
        let peer = peer.expect("the client has come");
        let mut trap = Self { client, connection, clock, driver, peer, heard: Vec::new() };
        trap.steps(3);
        let record = trap.heard.first().expect("its record").clone();
        trap.send(RELIABLE, &record);
        trap.send(RELIABLE, b"\x00\x04\x00\x01\x00\x00\x00secretsecretsecr");
        trap.steps(3);
        assert!(trap.client.state(connection).is_some_and(ConnectionState::is_in_game));
        trap
    }

    fn send(&mut self, channel: ChannelId, message: &[u8]) {
        self.driver.send(self.clock.now(), self.peer, channel, message).unwrap();
    }

    fn step(&mut self) {
        let now = self.clock.now();
        self.driver.flush(now);
        self.client.app.update();
        let heard = &mut self.heard;
        self.driver.receive(now, &mut |incoming| {
            if let Incoming::Message { bytes, .. } = incoming {
                heard.push(bytes.to_vec());
            }
        });
        self.clock.advance(STEP);
    }

    fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.step());
    }

    /// A packet of this tick, with these sections.
    fn show(&mut self, tick: u32, sections: &[u8]) {
        let message = [&[5, 0][..], &tick.to_le_bytes(), &[0], sections].concat();
        self.send(UNRELIABLE, &message);
        self.step();
    }

    fn got(&self) -> &Got {
        self.client.app.world().resource()
    }

    fn arrivals(&self) -> SnapshotArrivals {
        *self.client.app.world().get(self.connection).unwrap()
    }

    /// Which ticks the client said it has processed, in its last packet.
    fn acked(&self) -> Vec<u32> {
        let packets = self.heard.iter().rev().filter(|message| message.first() == Some(&4));
        let Some(packet) = packets.map(|message| &message[1..]).next() else { return Vec::new() };
        if packet[0] & 1 == 0 {
            return Vec::new();
        }
        let number = |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().unwrap());
        let (newest, mask) = (number(5), number(9));
        let mut acked = vec![newest];
        acked.extend((0..32).filter(|bit| mask >> bit & 1 == 1).map(|bit| newest.wrapping_sub(1 + bit)));
        acked
    }
}

fn rejected(what: &str, prepare: impl Fn(&mut Trap), channel: ChannelId, message: &[u8], code: DisconnectCode) {
    println!("{what}: {message:?}");
    let mut trap = Trap::new();
    prepare(&mut trap);
    let before = (trap.got().scenes.len(), trap.got().scores.len(), trap.acked());
    trap.send(channel, message);
    trap.steps(5);
    assert_eq!((trap.got().scenes.len(), trap.got().scores.len(), trap.acked()), before, "nothing of it is handed out");
    assert_eq!(trap.got().orders, 0);
    let reason = trap.client.reason_of(trap.connection);
    assert_eq!(reason.code, code, "{reason}");
    assert!(!reason.text.is_empty());
    trap.client.check(false);
}

/// Behind kind, flags, tick 50 and fraction.
fn snapshot(sections: &[u8]) -> Vec<u8> {
    [&[5, 0, 50, 0, 0, 0, 0][..], sections].concat()
}

#[test]
fn malformed_snapshots_end_the_connection_and_no_part_of_them_is_handed_out() {
    let cases: [(&str, Vec<u8>); 16] = [
        ("no header", vec![5]),
        ("a header that ends too soon", vec![5, 0, 1, 0, 0, 0]),
        ("unknown flags", vec![5, 2, 1, 0, 0, 0, 0]),
        ("a report that is not there", vec![5, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0]),
        ("a type that does not exist", snapshot(&[3, 0, 1, 1])),
        ("types in the wrong order", snapshot(&[2, 0, 1, 9, 1, 0, 1, 0])),
        ("one type twice", snapshot(&[2, 0, 1, 9, 2, 0, 1, 9])),
        ("a section that ends too soon", snapshot(&[1, 0, 5, 4, 1])),
        ("more cells than there are", snapshot(&[1, 0, 2, 4, 1])),
        ("something behind the cells", snapshot(&[1, 0, 3, 1, 1, 1])),
        ("a good section and a bad one", snapshot(&[1, 0, 2, 1, 1, 2, 0, 2, 1, 1])),
        ("a snapshot of 256 MiB", snapshot(&[1, 0, 0x80, 0x80, 0x80, 0x80, 0x01])),
        ("a delta that makes 256 MiB", snapshot(&[1, 1, 0x80, 0x80, 0x80, 0x80, 0x01, 0])),
        ("a delta of a type that has none", snapshot(&[2, 1, 1, 0])),
        ("a delta beyond its end", snapshot(&[1, 1, 3, 4, 0, 9, 1, 1])),
        ("bytes that are a delta", snapshot(&[0, 1, 1, 0])),
    ];
    for (what, message) in cases {
        // There is a baseline: tick 49.
        rejected(what, |trap| trap.show(49, &[1, 0, 3, 2, 7, 7]), UNRELIABLE, &message, ProtocolViolation);
    }
    rejected("a snapshot that is reliable", |_| {}, RELIABLE, &snapshot(&[]), ProtocolViolation);
    rejected("a server's command", |_| {}, UNRELIABLE, &[4, 0, 0, 0, 0, 0], ProtocolViolation);
}

#[test]
fn rpcs_and_replies_that_a_server_may_not_send_end_the_connection() {
    rejected("what only clients say", |_| {}, RELIABLE, &[1, 1, 0], InvalidRpc);
    rejected("a reply to nothing", |_| {}, RELIABLE, &[7, 0, 0], InvalidRpc);
    rejected("a number that no type has", |_| {}, RELIABLE, &[1, 3, 0], InvalidRpc);
}

#[test]
fn ticks_that_go_back_or_repeat_are_stale_and_handed_out_to_nobody() {
    let mut trap = Trap::new();
    for tick in [1000, 1001, 1001, 1000, 5, 1002, u32::MAX, 1_000_000, 999_999, 1_000_001] {
        trap.show(tick, &[2, 0, 1, tick as u8]);
    }
    let ticks: Vec<_> = trap.got().scores.iter().map(|(tick, _)| tick.number()).collect();
    assert_eq!(ticks, [1000, 1001, 1002, 1_000_000, 1_000_001]);
    assert_eq!(trap.arrivals().stale, 5);
    assert_eq!(trap.acked(), [1_000_001, 1_000_000]);
    let clocks = &trap.got().clocks;
    for pair in clocks.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= 0 && pair[1].1.since(pair[0].1) >= 0, "{pair:?}");
    }
    assert!(clocks.len() > 5);
    trap.client.check(false);
}

#[test]
fn a_difference_from_what_is_not_here_is_not_acknowledged_and_asked_about_once_a_second() {
    let mut trap = Trap::new();
    trap.show(1, &[1, 0, 3, 2, 7, 7]);
    let from = trap.heard.len();
    for tick in 2..=600 {
        trap.show(tick, &[1, 0xe8, 0x07, 3, 3, 1, 1, 1]);
    }
    assert_eq!(trap.arrivals().unknown_baseline, 599);
    assert_eq!(trap.got().scenes.len(), 1);
    let asked = trap.heard[from..].iter().filter(|message| message.starts_with(&[4, 3])).count();
    // 6 s at 100 updates a second.
    assert!((5..=6).contains(&asked), "{asked}");
    assert_eq!(trap.acked(), [1]);
    // It goes on with a whole one.
    trap.show(601, &[1, 0, 3, 2, 8, 8]);
    assert_eq!(trap.got().scenes.last(), Some(&(Tick::new(601), Scene(vec![8, 8]))));
    trap.client.check(false);
}

#[test]
fn what_is_no_whole_message_is_no_part_of_the_game() {
    // The bytes without a type and the good section come with a delta that cannot be understood.
    let mut trap = Trap::new();
    trap.show(10, &[0, 0, 1, 5, 1, 50, 3, 3, 1, 1, 1, 2, 0, 1, 9]);
    assert_eq!((trap.got().scores.len(), trap.got().scenes.len()), (0, 0));
    assert!(trap.client.app.world().get::<netstream::TickSnapshots>(trap.connection).unwrap().is_empty());
    assert_eq!(trap.acked(), []);
}
