//! FZ12: RPCs, calls and replies at a server, in every state. First byte: how far the connection is. Then messages:
//! kind and channel, length, bytes; kind 0 lets an update pass.
#![no_main]

#[path = "world/mod.rs"]
mod world;

use std::cell::RefCell;

use bevy_ecs::system::RunSystemOnce;
use libfuzzer_sys::fuzz_target;
use netstream::prelude::*;
use netstream::transport::ChannelId;
use world::{Answer, Chat, Event, Question, Seen, Stage, byte, bytes};

thread_local! {
    static STAGES: RefCell<[Stage; 2]> = RefCell::new([
        Stage::new(NetworkStreamPlugin::server(), true),
        Stage::new(NetworkStreamPlugin::server().with_approval(), true),
    ]);
}

fuzz_target!(|data: &[u8]| STAGES.with_borrow_mut(|stages| run(stages, data)));

fn run(stages: &mut [Stage; 2], mut data: &[u8]) {
    let Some(mode) = byte(&mut data) else { return };
    let stage = &mut stages[usize::from(mode % 4 == 1)];
    stage.link();
    match mode % 4 {
        0 => {}
        // Waits for approval.
        1 => {
            let record = stage.wire.lock().unwrap().sent[0].1.clone();
            stage.push(Event::Message(ChannelId::RELIABLE, record));
            stage.update();
            assert_eq!(stage.state(), Some(ConnectionState::Approval));
        }
        _ => stage.shake_hands(),
    }
    let connection = stage.connection.expect("there is one");
    if mode % 4 == 3 {
        // Something waits for an answer.
        let system = move |mut rpcs: RpcSender| {
            rpcs.request(connection, &Question(vec![1]), std::time::Duration::from_millis(100)).unwrap();
            rpcs.send_with_receipt(connection, &Chat::Hello).unwrap();
        };
        stage.app.world_mut().run_system_once(system).unwrap();
    }
    let before = {
        let seen = stage.app.world().resource::<Seen>();
        (seen.chats + seen.hints + seen.questions, seen.answers, seen.receipts)
    };
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
    stage.update();
    let alive = stage.state().is_some_and(|state| !state.is_ending());
    for _ in 0..8 {
        stage.update();
    }
    stage.end();
    let seen = stage.app.world().resource::<Seen>();
    if mode % 4 < 2 {
        assert_eq!(before.0, seen.chats + seen.hints + seen.questions, "nothing of that before Connected");
    }
    // Whatever came: a call ends once.
    let calls = u64::from(mode % 4 == 3);
    assert_eq!((seen.answers, seen.receipts), (before.1 + calls, before.2 + calls));
    let _ = (alive, Answer(0));
}
