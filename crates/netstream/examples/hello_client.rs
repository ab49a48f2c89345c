//! The shortest client: `cargo run --example hello_client JOIN-CODE`, with the join code that `hello_server` printed.

use std::time::Duration;

use bevy_app::{App, AppExit, ScheduleRunnerPlugin, Startup, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Chat(String);

fn main() -> AppExit {
    App::new()
        .add_plugins(ScheduleRunnerPlugin::run_loop(Duration::from_millis(16)))
        .add_plugins(NetworkStreamPlugin::client())
        .register_rpc::<Chat>()
        .add_systems(Startup, |mut net: ResMut<NetworkStreamDriver>| -> Result {
            let code = std::env::args().nth(1).ok_or("give the join code that hello_server printed")?;
            net.connect_with("udp://127.0.0.1:7979", ConnectOptions::new().join_code(code.parse()?))?;
            Ok(())
        })
        .add_systems(Update, talk)
        .run()
}

fn talk(
    mut events: MessageReader<ConnectionEvent>,
    mut inbox: MessageReader<ReceivedRpc<Chat>>,
    mut rpcs: RpcSender,
    mut exit: MessageWriter<AppExit>,
) -> Result {
    for event in events.read() {
        println!("{}", event.state);
        match event.state {
            ConnectionState::Connected(Presence::NotInGame) => rpcs.send(event.connection, &Chat("hello".into()))?,
            ConnectionState::Disconnected => drop(exit.write(AppExit::error())),
            _ => {}
        }
    }
    for chat in inbox.read() {
        println!("the server says {}", chat.rpc.0);
        exit.write(AppExit::Success);
    }
    Ok(())
}
