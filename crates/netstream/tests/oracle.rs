//! Which commands are applied, and which snapshots are read and acknowledged, computed from nothing but the packets
//! that left and arrived: a second opinion that shares no code and no counter with what it judges.

mod play;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use netstream::SnapshotDelivery;
use netstream::driver::link::LinkProfile;
use netstream::prelude::*;
use play::tap::{CommandPacket, Packet, SnapshotPacket};
use play::{Game, Link, millis};

/// In how many packets a command is.
const REDUNDANCY: usize = 4;

fn commands(packets: &[Packet]) -> impl Iterator<Item = &CommandPacket> {
    packets.iter().filter_map(|packet| match packet {
        Packet::Commands(packet) => Some(packet),
        Packet::Snapshots(_) => None,
    })
}

fn snapshots(packets: &[Packet]) -> impl Iterator<Item = &SnapshotPacket> {
    packets.iter().filter_map(|packet| match packet {
        Packet::Snapshots(packet) => Some(packet),
        Packet::Commands(_) => None,
    })
}

/// What an observer of the wire expects of both ends, update by update.
#[derive(Default)]
struct Oracle {
    /// How many packets were looked at: arrived at the server, at the client.
    seen: [usize; 2],
    /// How many of the server's ticks were.
    ticks: usize,
    /// Ticks that the server has simulated.
    ran: HashSet<Tick>,
    now: Option<Tick>,
    /// Commands that have arrived before their tick ran.
    in_time: HashSet<Tick>,
    /// Commands that have arrived at all.
    arrived: HashSet<Tick>,
    /// Snapshots that the server was told of.
    acked: HashSet<Tick>,
    /// Snapshots that the client should have read, in order.
    read: Vec<Tick>,
}

impl Oracle {
    /// Looks at what one step of the game brought.
    fn watch(&mut self, game: &Game, delivery: SnapshotDelivery) {
        let [server, client] = &game.books;
        let server = server.lock().unwrap();
        for packet in commands(&server.arrived[self.seen[0]..]) {
            for &(_, tick) in &packet.commands {
                self.arrived.insert(tick);
                let in_window = self.now.is_none_or(|now| (1..=32).contains(&tick.since(now)));
                if in_window && !self.ran.contains(&tick) {
                    self.in_time.insert(tick);
                }
            }
            self.acked.extend(&packet.acks);
        }
        self.seen[0] = server.arrived.len();
        for &tick in &game.server_log().ticks[self.ticks..] {
            self.ran.insert(tick);
            self.now = Some(tick);
        }
        self.ticks = game.server_log().ticks.len();
        // The client comes after the server.
        let client = client.lock().unwrap();
        let newest = self.read.last().copied();
        let news = |packet: &&SnapshotPacket| newest.is_none_or(|newest| packet.tick.is_after(newest));
        let arrived = snapshots(&client.arrived[self.seen[1]..]).filter(news);
        let mut fresh: Vec<_> = arrived.map(|packet| packet.tick).collect();
        self.seen[1] = client.arrived.len();
        fresh.sort_by_key(|tick| tick.number());
        fresh.dedup();
        match delivery {
            SnapshotDelivery::EveryOne => self.read.extend(fresh),
            SnapshotDelivery::NewestWins => self.read.extend(fresh.last()),
        }
        // What the client says in this update it has read by now.
        let read: Vec<_> = game.client_log().scenes.iter().map(|(tick, _)| *tick).collect();
        assert_eq!(read, self.read, "the client reads what arrived and nothing else");
    }
}

fn played(link: Link, delivery: SnapshotDelivery) -> (Game, Oracle) {
    play_in_steps_of(Duration::from_secs(1) / 60, link, delivery)
}

fn play_in_steps_of(step: Duration, link: Link, delivery: SnapshotDelivery) -> (Game, Oracle) {
    let mut game = Game::over(link);
    game.step = step;
    game.deliver(delivery);
    let mut oracle = Oracle::default();
    for _ in 0..1800 {
        game.step();
        oracle.watch(&game, delivery);
        let said = game.books[1].lock().unwrap().left.iter().rev().find_map(|packet| match packet {
            Packet::Commands(packet) => Some(packet.acks.clone()),
            Packet::Snapshots(_) => None,
        });
        for tick in said.unwrap_or_default() {
            assert!(oracle.read.contains(&tick), "{tick} is acknowledged and was not handed out: {link:?}");
        }
    }
    game.check();
    (game, oracle)
}

#[test]
fn every_command_that_left_within_reach_is_applied_exactly_once_for_its_tick() {
    // One tick in an update, none at times, and three.
    let steps = [Duration::from_secs(1) / 60, millis(7), millis(50)];
    for (link, step) in Link::all().flat_map(|link| steps.map(|step| (link, step))) {
        let (game, oracle) = play_in_steps_of(step, link, SnapshotDelivery::NewestWins);
        let applied: Vec<_> = game.server_log().applied.iter().map(|(tick, _)| *tick).collect();
        let once: HashSet<_> = applied.iter().copied().collect();
        assert_eq!(once.len(), applied.len(), "none twice over {link:?}");
        let expected: HashSet<_> = oracle.in_time.intersection(&oracle.ran).copied().collect();
        let mut differing: Vec<_> = once.symmetric_difference(&expected).collect();
        differing.sort_by_key(|tick| tick.number());
        assert!(differing.is_empty(), "{differing:?} over {link:?}");

        // Redundancy is what was promised: each command left in so many packets, unless the last of them are still to
        // come, and whatever arrived is among what left.
        let mut copies: HashMap<Tick, usize> = HashMap::new();
        for packet in commands(&game.books[1].lock().unwrap().left) {
            packet.commands.iter().for_each(|(_, tick)| *copies.entry(*tick).or_default() += 1);
        }
        let sent = &game.client_log().sent;
        let (settled, last) = sent.split_at(sent.len() - 3 * REDUNDANCY);
        let odd = settled.iter().find(|tick| copies[tick] != REDUNDANCY);
        assert_eq!(odd, None, "{link:?} in steps of {step:?}");
        assert!(last.iter().all(|tick| (1..=REDUNDANCY).contains(&copies[tick])), "{link:?}");
        assert!(oracle.arrived.iter().all(|tick| copies.contains_key(tick)), "{link:?}");
        if !link.is_lossy() {
            // Then the copies are not needed: all that left is applied, save while the clocks come together.
            let missing = sent[120..sent.len() - 30].iter().filter(|tick| !once.contains(tick)).count();
            assert_eq!(missing, 0, "{link:?} in steps of {step:?}");
        }
        println!(
            "{:?} {:?} in steps of {step:?}: {} of {} applied",
            link.scheme,
            link.profile,
            applied.len(),
            sent.len()
        );
    }
}

#[test]
fn the_server_counts_as_acknowledged_what_the_client_has_said_it_has_read_and_nothing_else() {
    for link in Link::all() {
        for delivery in [SnapshotDelivery::NewestWins, SnapshotDelivery::EveryOne] {
            let (game, oracle) = played(link, delivery);
            let read: HashSet<_> = oracle.read.iter().copied().collect();
            let sent: HashSet<_> = snapshots(&game.books[0].lock().unwrap().left).map(|packet| packet.tick).collect();
            for &tick in &game.server_log().ticks {
                let acked = game.acks().acked(tick);
                assert_eq!(acked, oracle.acked.contains(&tick), "{tick} over {link:?}");
                assert!(!acked || (read.contains(&tick) && sent.contains(&tick)), "{tick} over {link:?}");
            }
            assert_eq!(game.acks().newest_acked(), oracle.acked.iter().max_by_key(|tick| tick.number()).copied());
            // Both masks and copies make up for losses: nearly all that was read is known to be.
            let known = oracle.acked.len() as f64 / read.len() as f64;
            assert!(known > 0.97, "{known} of {} over {link:?}", read.len());
        }
    }
}

#[test]
fn a_delta_is_only_from_what_was_acknowledged_when_it_left() {
    for link in Link::all() {
        let mut game = Game::over(link);
        let (mut arrived, mut left, mut deltas) = (0, 0, 0);
        let mut acked = HashSet::new();
        for _ in 0..1200 {
            game.step();
            let book = game.books[0].lock().unwrap();
            acked.extend(commands(&book.arrived[arrived..]).flat_map(|packet| packet.acks.clone()));
            for packet in snapshots(&book.left[left..]) {
                for base in packet.bases.iter().flatten() {
                    assert!(acked.contains(base), "{base} for {} over {link:?}", packet.tick);
                    deltas += 1;
                }
            }
            (arrived, left) = (book.arrived.len(), book.left.len());
        }
        assert!(deltas > 1000, "{deltas} over {link:?}");
        game.check();
    }
}

#[test]
fn a_thin_client_acknowledges_what_arrives_and_is_told_differences_like_any_other() {
    for link in Link::all() {
        let mut game = Game::of(NetworkStreamPlugin::thin_client(), link);
        game.run(millis(10_000));
        let [server, client] = [0, 1].map(|end| game.books[end].lock().unwrap());
        let arrived: HashSet<_> = snapshots(&client.arrived).map(|packet| packet.tick).collect();
        let told: HashSet<_> = commands(&server.arrived).flat_map(|packet| packet.acks.clone()).collect();
        assert!(told.is_subset(&arrived));
        for tick in &game.server_log().ticks {
            assert_eq!(game.acks().acked(*tick), told.contains(tick), "{tick} over {link:?}");
        }
        assert!(told.len() * 10 > arrived.len() * 9, "{} of {} over {link:?}", told.len(), arrived.len());
        let deltas = snapshots(&server.left).filter(|packet| packet.bases[0].is_some()).count();
        assert!(deltas > 500, "{deltas} over {link:?}");
        assert_eq!((game.client_log().scenes.len(), game.client_log().raw.len()), (0, 0), "nothing is decoded");
        assert_eq!(
            game.snapshots().applied,
            arrived.len() as u64 - game.snapshots().superseded - game.snapshots().stale
        );
        assert!(game.server_log().applied.len() > 500);
    }
}

#[test]
fn the_oracle_sees_a_command_whose_copies_were_all_too_late() {
    let link =
        Link { scheme: netstream::driver::Scheme::Udp, profile: LinkProfile { loss: 0.33, ..LinkProfile::PERFECT } };
    let (game, oracle) = played(link, SnapshotDelivery::NewestWins);
    let sent: HashSet<_> = game.client_log().sent.iter().copied().collect();
    assert!(oracle.arrived.len() < sent.len(), "some were lost with all their copies");
    assert!(oracle.arrived.iter().any(|tick| !oracle.in_time.contains(tick)), "some came too late");
}
