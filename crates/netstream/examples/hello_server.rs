//! The shortest server: `cargo run --example hello_server`, then `hello_client` with the join code that it prints.

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
        .add_plugins(NetworkStreamPlugin::server())
        .register_rpc::<Chat>()
        .add_systems(Startup, listen)
        .add_systems(Update, echo)
        .run();
}

fn listen(mut net: ResMut<NetworkStreamDriver>) -> Result {
    let listening = net.listen("udp://127.0.0.1:7979")?;
    let code = net.join_code(listening.driver).expect("a UDP driver has a join code");
    println!("listening at {}, join code {}", listening.endpoint, *code.to_text());
    Ok(())
}

fn echo(mut inbox: MessageReader<ReceivedRpc<Chat>>, mut rpcs: RpcSender) {
    for chat in inbox.read() {
        if let Err(error) = rpcs.send(chat.connection, &Chat(format!("you said {:?}", chat.rpc.0))) {
            println!("no echo: {error}");
        }
    }
}
