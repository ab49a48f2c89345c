//! Commands and snapshots of a tick to a connection that is ending: refused as soon as the call that ends it returns.

mod play;

use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use netstream::driver::{LinkProfile, Scheme};
use netstream::prelude::*;
use netstream::{CommandError, SnapshotError};
use play::{Game, Link, Move, Scene, millis};

#[test]
fn commands_and_snapshots_are_refused_after_a_close_in_the_same_update() {
    for scheme in [Scheme::Ipc, Scheme::Udp] {
        let mut game = Game::over(Link { scheme, profile: LinkProfile::PERFECT });
        game.run(millis(1000));
        let (server, client) = game.ends;
        let close = DisconnectReason::local(DisconnectCode::ConnectionClose);
        for (app, end) in [(&mut game.server, server), (&mut game.client, client)] {
            app.world_mut().resource_mut::<NetworkStreamDriver>().disconnect(end, close.clone()).unwrap();
            let told = app.world().get::<ConnectionState>(end).copied();
            assert_eq!(told, Some(ConnectionState::Connected(Presence::InGame)), "the event is still to come");
        }
        let command = move |mut commands: CommandSender<'_, '_>, time: Res<'_, NetworkTime>| {
            let tick = time.tick() + 1;
            commands.send_for(tick, &Move { tick, x: 0, note: String::new() })
        };
        assert_eq!(game.client.world_mut().run_system_once(command).unwrap(), Err(CommandError::NotInGame));
        let snapshot = move |mut snapshots: SnapshotSender<'_, '_>| {
            assert_eq!(snapshots.room(server), 0);
            assert_eq!(snapshots.send_bytes(server, b"x"), Err(SnapshotError::NotInGame));
            snapshots.send(server, &Scene { tick: Tick::default(), cells: Vec::new() })
        };
        assert_eq!(game.server.world_mut().run_system_once(snapshot).unwrap(), Err(SnapshotError::NotInGame));
    }
}
