//! FZ12: RPCs, calls and replies. First byte: bit 7: only the reader of envelopes; bit 6: a connection of its own from
//! its beginning to its end, and bits 0 and 1 how far it gets; else one that lives on from input to input, as long as it
//! likes what it is told. Then messages: kind and channel, length, bytes.
#![no_main]

#[path = "world/mod.rs"]
mod world;

use std::cell::RefCell;

use bevy_ecs::system::RunSystemOnce;
use libfuzzer_sys::fuzz_target;
use netstream::fuzzing::Decoders;
use netstream::prelude::*;
use netstream::transport::ChannelId;
use world::{Chat, Event, Question, Seen, Stage, byte, bytes};

#[derive(Default)]
struct All {
    decoders: Decoders,
    /// A server that lets everybody in, and one that wants to be asked; each beginning and ending with its input.
    short: Option<[Stage; 2]>,
    /// A server whose player stays.
    long: Option<Stage>,
}

thread_local! {
    static ALL: RefCell<All> = RefCell::default();
}

fuzz_target!(|data: &[u8]| ALL.with_borrow_mut(|all| run(all, data)));

fn run(all: &mut All, mut data: &[u8]) {
    let Some(mode) = byte(&mut data) else { return };
    if mode & 0x80 != 0 {
        all.decoders.rpc(data);
    } else if mode & 0x40 != 0 {
        let stages = all.short.get_or_insert_with(|| {
            [NetworkStreamPlugin::server(), NetworkStreamPlugin::server().with_approval()]
                .map(|plugin| Stage::new(plugin, true))
        });
        live(&mut stages[usize::from(mode % 4 == 1)], mode % 4, data);
    } else {
        let stage = all.long.get_or_insert_with(|| Stage::new(NetworkStreamPlugin::server(), true));
        stage.connected();
        say(stage, data);
        stage.update();
        stage.end_if_ending();
    }
}

/// What the peer says. Kind: bits 0 and 1, or all of it with bit 6; channel: with bit 7, bits 2 and 3; with bit 5 time
/// passes.
fn say(stage: &mut Stage, mut data: &[u8]) {
    while let (Some(kind), Some(length)) = (byte(&mut data), byte(&mut data)) {
        let mut message = vec![[1, 6, 7, 1][usize::from(kind % 4)]];
        if kind & 0x40 != 0 {
            message = vec![kind];
        }
        message.extend_from_slice(bytes(&mut data, length.into()));
        let channel = if kind & 0x80 == 0 { ChannelId::RELIABLE } else { ChannelId(kind >> 2 & 3) };
        stage.push(Event::Message(channel, message));
        if kind & 0x20 != 0 {
            stage.update();
        }
    }
}

/// From the link to the end: 0: no handshake; 1: waits for approval; 2: connected; 3: and something waits for an answer.
fn live(stage: &mut Stage, mode: u8, data: &[u8]) {
    stage.link();
    match mode {
        0 => {}
        1 => {
            stage.push(Event::Message(ChannelId::RELIABLE, stage.record()));
            stage.update();
            assert_eq!(stage.state(), Some(ConnectionState::Approval));
        }
        _ => stage.shake_hands(),
    }
    let connection = stage.connection.expect("there is one");
    if mode == 3 {
        let system = move |mut rpcs: RpcSender| {
            rpcs.request(connection, &Question(vec![1]), std::time::Duration::from_millis(30)).unwrap();
            rpcs.send_with_receipt(connection, &Chat::Hello).unwrap();
        };
        stage.app.world_mut().run_system_once(system).unwrap();
    }
    let before = {
        let seen = stage.app.world().resource::<Seen>();
        (seen.chats + seen.hints + seen.questions, seen.answers, seen.receipts)
    };
    say(stage, data);
    for _ in 0..3 {
        stage.update();
    }
    stage.end();
    let seen = stage.app.world().resource::<Seen>();
    if mode < 2 {
        assert_eq!(before.0, seen.chats + seen.hints + seen.questions, "nothing of that before Connected");
    }
    // Whatever came: a call ends once.
    let calls = u64::from(mode == 3);
    assert_eq!((seen.answers, seen.receipts), (before.1 + calls, before.2 + calls));
}
