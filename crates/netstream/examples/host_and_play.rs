//! A player who hosts: a server World and a client World in one process, joined by IPC. Others could join the same
//! server over UDP.

use bevy_app::App;
use bevy_ecs::prelude::*;
use netstream::prelude::*;

fn main() -> Result {
    let hub = IpcHub::new();
    let mut server = App::new();
    server.add_plugins(NetworkStreamPlugin::server().with_ipc(&hub)).add_observer(
        |event: On<ConnectionEvent>, mut commands: Commands| {
            println!("server: {}", event.state);
            if event.state == ConnectionState::Accepted {
                commands.entity(event.connection).insert(NetworkStreamInGame);
            }
        },
    );
    server.world_mut().resource_mut::<NetworkStreamDriver>().listen("ipc://host")?;

    let mut client = App::new();
    client
        .add_plugins(NetworkStreamPlugin::client().with_ipc(&hub))
        .add_observer(|event: On<ConnectionEvent>| println!("client: {}", event.state));
    let player = client.world_mut().resource_mut::<NetworkStreamDriver>().connect("ipc://host")?;
    client.world_mut().entity_mut(player).insert(NetworkStreamInGame);

    for tick in 0..10u64 {
        server.update();
        let mut net = server.world_mut().resource_mut::<NetworkStreamDriver>();
        let players: Vec<Entity> = net.connections().collect();
        for player in players {
            if net.state(player).is_some_and(ConnectionState::is_in_game) {
                net.send_snapshot(player, &tick.to_le_bytes())?;
            }
        }

        client.update();
        if let Some(mut snapshots) = client.world_mut().get_mut::<IncomingSnapshotBuffer>(player) {
            snapshots.drain().for_each(|snapshot| println!("client: snapshot {snapshot:?}"));
        }
    }
    // The server goes away, and says so.
    drop(server);
    client.update();
    Ok(())
}
