//! FZ14: a server's packets of its ticks at a client. First byte: bit 7: what follows is one packet for the reader alone;
//! bit 0: every snapshot is handed out, else the newest. Else packets, on a connection that lives on from input to input
//! as long as it likes them: flags, how far from the last tick (signed, and shifted), length, bytes of what follows the
//! header.
#![no_main]

#[path = "world/mod.rs"]
mod world;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use netstream::fuzzing::Decoders;
use netstream::prelude::*;
use netstream::transport::ChannelId;
use netstream::{SnapshotArrivals, SnapshotDelivery};
use world::{Event, Seen, Stage, byte, bytes};

struct Client {
    stage: Stage,
    tick: Tick,
    last_time: Option<Tick>,
}

#[derive(Default)]
struct All {
    decoders: Decoders,
    client: Option<Client>,
}

thread_local! {
    static ALL: RefCell<All> = RefCell::default();
}

fuzz_target!(|data: &[u8]| ALL.with_borrow_mut(|all| run(all, data)));

fn run(all: &mut All, mut data: &[u8]) {
    let Some(mode) = byte(&mut data) else { return };
    if mode & 0x80 != 0 {
        all.decoders.snapshot(data, 2, &[7; 100]);
        return;
    }
    let client = all.client.get_or_insert_with(|| Client {
        stage: Stage::new(NetworkStreamPlugin::client(), false),
        tick: Tick::default(),
        last_time: None,
    });
    client.stage.app.insert_resource(match mode & 1 {
        0 => SnapshotDelivery::NewestWins,
        _ => SnapshotDelivery::EveryOne,
    });
    if !client.stage.connected() {
        client.stage.enter_game();
        client.stage.app.world_mut().resource_mut::<Seen>().scenes.clear();
        client.tick = Tick::new(if mode & 2 == 0 { 1000 } else { u32::MAX - 3 });
        client.last_time = None;
    }
    play(client, data);
    client.stage.end_if_ending();
}

fn play(client: &mut Client, mut data: &[u8]) {
    let Client { stage, tick, last_time } = client;
    let connection = stage.connection.expect("there is one");
    while let (Some(flags), Some(far), Some(length)) = (byte(&mut data), byte(&mut data), byte(&mut data)) {
        *tick = tick.offset(i32::from(far as i8) << (flags >> 4 & 7));
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
            *last_time = Some(time.server_tick());
            assert!((0.0..=1.1).contains(&time.scale()));
        }
    }
    for _ in 0..2 {
        stage.update();
    }
    let scenes = &mut stage.app.world_mut().resource_mut::<Seen>().scenes;
    assert!(scenes.windows(2).all(|pair| pair[1].is_after(pair[0])), "ticks increase");
    // The last one is compared with the next.
    let count = scenes.len() as u64;
    scenes.drain(..scenes.len().saturating_sub(1));
    if let Some(arrivals) = stage.app.world().get::<SnapshotArrivals>(connection) {
        assert!(
            arrivals.applied + arrivals.superseded + arrivals.stale + arrivals.unknown_baseline <= arrivals.arrived
        );
        assert!(count <= arrivals.applied + 1);
    }
}
