//! FZ13: a client's packets of its ticks at a server. First byte: bit 7: what follows is one packet for the reader alone;
//! else packets for a server, on a connection that lives on from input to input as long as it likes them: flags, how far
//! from the server's tick (signed), length, bytes of what follows the header.
#![no_main]

#[path = "world/mod.rs"]
mod world;

use std::cell::RefCell;

use bevy_ecs::prelude::*;
use libfuzzer_sys::fuzz_target;
use netstream::fuzzing::Decoders;
use netstream::prelude::*;
use netstream::transport::ChannelId;
use netstream::{CommandArrivals, SnapshotAcks};
use world::{Event, Move, Scene, Seen, Stage, byte, bytes};

#[derive(Default)]
struct All {
    decoders: Decoders,
    stage: Option<Stage>,
}

thread_local! {
    static ALL: RefCell<All> = RefCell::default();
}

fuzz_target!(|data: &[u8]| ALL.with_borrow_mut(|all| run(all, data)));

fn run(all: &mut All, mut data: &[u8]) {
    let Some(mode) = byte(&mut data) else { return };
    if mode & 0x80 != 0 {
        all.decoders.commands(data, 2);
        return;
    }
    let stage = all.stage.get_or_insert_with(|| {
        let mut stage = Stage::new(NetworkStreamPlugin::server(), true);
        stage.app.add_systems(NetworkTick, show);
        stage
    });
    if !stage.connected() {
        stage.enter_game();
    }
    stage.app.world_mut().resource_mut::<Seen>().moves.clear();
    play(stage, data);
    stage.end_if_ending();
}

fn show(mut snapshots: SnapshotSender, players: Query<Entity, With<NetworkStreamInGame>>, time: Res<NetworkTime>) {
    for player in &players {
        let mut cells = vec![3; 64];
        cells[time.tick().number() as usize % 64] = 9;
        let _ = snapshots.send(player, &Scene { cells });
    }
}

fn play(stage: &mut Stage, mut data: &[u8]) {
    let connection = stage.connection.expect("there is one");
    while let (Some(flags), Some(far), Some(length)) = (byte(&mut data), byte(&mut data), byte(&mut data)) {
        let now = stage.app.world().resource::<NetworkTime>().tick();
        let tick = now.offset(i32::from(far as i8));
        let mut packet = vec![4, flags & 7];
        packet.extend_from_slice(&tick.number().to_le_bytes());
        if flags & 9 == 1 {
            // Something that may have been sent.
            packet.extend_from_slice(&(now - u32::from(flags >> 4)).number().to_le_bytes());
        }
        packet.extend_from_slice(bytes(&mut data, length.into()));
        stage.push(Event::Message(ChannelId::UNRELIABLE, packet));
        if flags & 0x20 != 0 {
            stage.update();
        }
        let world = stage.app.world();
        let Some(buffer) = world.get::<CommandBuffer<Move>>(connection) else { break };
        let now = world.resource::<NetworkTime>().tick();
        assert!(buffer.len() <= 64);
        assert!(buffer.newest().is_none_or(|newest| newest.since(now) <= 32 + 8));
    }
    for _ in 0..2 {
        stage.update();
    }
    if let Some(acks) = stage.app.world().get::<SnapshotAcks>(connection) {
        assert!(acks.newest_acked().is_none_or(|acked| acks.newest_sent().is_some_and(|sent| sent.since(acked) >= 0)));
    }
    if let Some(arrivals) = stage.app.world().get::<CommandArrivals>(connection) {
        assert!(arrivals.age.is_finite() && arrivals.age_deviation.is_finite());
        assert!(arrivals.early <= arrivals.in_time);
    }
    let moves = &stage.app.world().resource::<Seen>().moves;
    assert!(moves.windows(2).all(|pair| pair[1].0.is_after(pair[0].0)), "at most one per tick");
}
