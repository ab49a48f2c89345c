//! FZ14: a server's packets of its ticks at a client. Packets: flags, how far from the last tick (signed), length, bytes
//! of what follows the header.
#![no_main]

#[path = "world/mod.rs"]
mod world;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use netstream::prelude::*;
use netstream::transport::ChannelId;
use netstream::{SnapshotArrivals, SnapshotDelivery};
use world::{Event, Seen, Stage, byte, bytes};

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::new(Stage::new(NetworkStreamPlugin::client(), false));
}

fuzz_target!(|data: &[u8]| STAGE.with_borrow_mut(|stage| run(stage, data)));

fn run(stage: &mut Stage, mut data: &[u8]) {
    let Some(mode) = byte(&mut data) else { return };
    stage.app.insert_resource(match mode & 1 {
        0 => SnapshotDelivery::NewestWins,
        _ => SnapshotDelivery::EveryOne,
    });
    stage.link();
    stage.shake_hands();
    stage.enter_game();
    stage.app.world_mut().resource_mut::<Seen>().scenes.clear();
    let connection = stage.connection.expect("there is one");
    let mut tick = Tick::new(if mode & 2 == 0 { 1000 } else { u32::MAX - 3 });
    let mut last_time = None;
    while let (Some(flags), Some(far), Some(length)) = (byte(&mut data), byte(&mut data), byte(&mut data)) {
        tick = tick.offset(i32::from(far as i8) << (flags >> 4 & 7));
        let mut packet = vec![5, flags & 3];
        packet.extend_from_slice(&tick.number().to_le_bytes());
        packet.extend_from_slice(bytes(&mut data, length.into()));
        stage.push(Event::Message(ChannelId::UNRELIABLE_FRAGMENTED, packet));
        if flags & 4 != 0 {
            stage.update();
        }
        let time = stage.app.world().resource::<NetworkTime>();
        if time.is_synced() {
            assert!(last_time.is_none_or(|last| time.server_tick().since(last) >= 0), "backwards");
            last_time = Some(time.server_tick());
            assert!((0.0..=1.1).contains(&time.scale()));
        }
    }
    for _ in 0..4 {
        stage.update();
    }
    let scenes = &stage.app.world().resource::<Seen>().scenes;
    assert!(scenes.windows(2).all(|pair| pair[1].is_after(pair[0])), "ticks increase");
    if let Some(arrivals) = stage.app.world().get::<SnapshotArrivals>(connection) {
        assert!(arrivals.applied + arrivals.superseded + arrivals.stale + arrivals.unknown_baseline <= arrivals.arrived);
        assert!(scenes.len() as u64 <= arrivals.applied);
    }
    stage.end();
}
