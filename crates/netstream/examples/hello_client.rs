//! The shortest client: `cargo run --example hello_client JOIN-CODE`, with the join code that `hello_server` printed.

use std::time::Duration;

use bevy_app::{App, ScheduleRunnerPlugin, Startup, TerminalCtrlCHandlerPlugin, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Chat(String);

fn main() {
    App::new()
        .add_plugins((ScheduleRunnerPlugin::run_loop(Duration::from_millis(16)), TerminalCtrlCHandlerPlugin))
        .add_plugins(NetworkStreamPlugin::client())
        .register_rpc::<Chat>()
        .add_systems(Startup, connect)
        .add_systems(Update, listen)
        .add_observer(greet)
        .run();
}

fn connect(mut net: ResMut<NetworkStreamDriver>) -> Result {
    let code = std::env::args().nth(1).ok_or("give the join code that hello_server printed")?;
    net.connect_with("udp://127.0.0.1:7979", ConnectOptions::new().join_code(code.parse()?))?;
    Ok(())
}

fn greet(event: On<ConnectionEvent>, mut rpcs: RpcSender) {
    println!("{}", event.state);
    let _ = rpcs.send(event.connection, &Chat("hello".into())); // only a Connected one takes it
}

fn listen(mut inbox: MessageReader<ReceivedRpc<Chat>>) {
    inbox.read().for_each(|chat| println!("{}", chat.rpc.0));
}
