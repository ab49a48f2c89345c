//! What is worth a word is said once, and not once per frame.

mod harness;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{Link, Pair, STEP};
use netstream::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Keeps every line of level WARN and above.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn said(story: impl FnOnce()) -> Vec<(Level, String)> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), story);
    let said = lines.0.lock().unwrap();
    said.clone()
}

#[test]
fn an_ordinary_game_is_silent() {
    let lines = said(|| {
        let mut pair = Pair::over(Link::Udp);
        let (server, client) = pair.in_game();
        for _ in 0..100 {
            pair.client.net().send_command(client, b"jump").unwrap();
            pair.server.net().send_snapshot(server, b"world").unwrap();
            pair.step();
        }
        pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
        pair.ended(server, client);
    });
    assert_eq!(lines, []);
}

#[test]
fn despawning_a_connection_is_one_error_that_says_what_to_do() {
    let mut entity = None;
    let lines = said(|| {
        let mut pair = Pair::over(Link::Udp);
        let (server, client) = pair.connected();
        entity = Some(server);
        pair.server.app.world_mut().despawn(server);
        pair.ended(server, client);
    });
    let [(level, text)] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(*level, Level::ERROR);
    assert!(text.contains(&entity.unwrap().to_string()) && text.contains("NetworkStreamDriver::disconnect"), "{text}");
}

#[test]
fn an_app_that_sleeps_is_told_once() {
    let lines = said(|| {
        let mut pair = Pair::over(Link::Udp);
        pair.connected();
        for _ in 0..3 {
            // The window was in the background; only the client went on.
            for _ in 0..400 {
                pair.client.app.update();
                pair.clock.advance(STEP);
            }
            pair.step();
        }
    });
    let [(level, text)] = &lines[..] else { panic!("{lines:?}") };
    assert!(*level == Level::WARN && text.contains("were not polled for 4"), "{text}");
}

#[test]
fn a_game_that_only_one_side_has_entered_is_told_once() {
    let lines = said(|| {
        let mut pair = Pair::over(Link::Udp);
        let (_, client) = pair.connected();
        pair.client.enter_game(client);
        for _ in 0..1000 {
            pair.client.net().send_command(client, b"jump").unwrap();
            pair.step();
        }
    });
    let [(level, text)] = &lines[..] else { panic!("{lines:?}") };
    assert!(*level == Level::WARN && text.contains("has not inserted NetworkStreamInGame"), "{text}");
}

#[test]
fn a_request_that_makes_no_sense_is_told_once() {
    let lines = said(|| {
        let mut pair = Pair::over(Link::Ipc);
        pair.connected();
        let stranger = pair.client.app.world_mut().spawn(NetworkStreamRequestDisconnect::default()).id();
        pair.run(Duration::from_millis(200));
        assert!(pair.client.app.world().get_entity(stranger).is_ok());
    });
    let [(level, text)] = &lines[..] else { panic!("{lines:?}") };
    assert!(*level == Level::WARN && text.contains("is not a connection of this World"), "{text}");
}

#[test]
fn an_rpc_that_nobody_reads_is_told_once() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Unheard(u8);
    let lines = said(|| {
        let mut pair = Pair::silent(Link::Udp, |plugin| plugin, |plugin| plugin);
        pair.server.app.register_rpc::<Unheard>();
        pair.client.app.register_rpc::<Unheard>();
        pair.listen();
        let (_, client) = pair.connected();
        for _ in 0..100 {
            let send = move |mut rpcs: RpcSender<'_, '_>| rpcs.send(client, &Unheard(1)).unwrap();
            bevy_ecs::system::RunSystemOnce::run_system_once(pair.client.app.world_mut(), send).unwrap();
            pair.step();
        }
    });
    let [(level, text)] = &lines[..] else { panic!("{lines:?}") };
    assert!(*level == Level::WARN && text.contains("Unheard arrives and nobody looks at it"), "{text}");
}

#[test]
fn an_approval_that_nobody_waits_for_is_told() {
    let lines = said(|| {
        let mut pair = Pair::over(Link::Ipc);
        let (server, _) = pair.connected();
        pair.server.app.world_mut().entity_mut(server).insert(ConnectionApproved);
        pair.run(Duration::from_millis(200));
        assert!(pair.server.state(server).is_some_and(ConnectionState::is_connected), "and harms nothing");
    });
    let [(level, text)] = &lines[..] else { panic!("{lines:?}") };
    assert!(*level == Level::WARN && text.contains("not waiting for approval"), "{text}");
}
