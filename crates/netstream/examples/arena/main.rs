//! A small authoritative game: move, shoot, chat, score. The server decides; a client predicts its own player and draws
//! the others between two snapshots.
//!
//! ```text
//! cargo run -p netstream --example arena                      server, client and bots in this process
//! cargo run -p netstream --example arena -- server            listens at udp://127.0.0.1:7979 and prints its join code
//! cargo run -p netstream --example arena -- client CODE       joins it (an address may follow)
//! cargo run -p netstream --example arena -- bots CODE 8       eight of them
//! ```
//!
//! Without a window: what happens is printed. `game.rs` is what both sides share, `server.rs` and `client.rs` are the two
//! sides.

#![allow(unreachable_pub, reason = "a game is no library")]

mod client;
mod game;
mod server;

use std::error::Error;
use std::time::Duration;

use bevy_app::App;
use netstream::prelude::*;
use netstream::transport::netcode::JoinCode;

const ADDRESS: &str = "udp://127.0.0.1:7979";
/// How long the demonstration lasts.
const DEMO: Duration = Duration::from_secs(8);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => demo(),
        ["server"] => {
            let mut server = server::app(NetworkStreamPlugin::server());
            let mut net = server.world_mut().resource_mut::<NetworkStreamDriver>();
            let listening = net.listen(ADDRESS)?;
            if let Some(code) = net.join_code(listening.driver) {
                println!("{} with join code {}", listening.endpoint, *code.to_text());
            }
            run(&mut [server], None)
        }
        ["client", code] => join(code, ADDRESS, 1, "you"),
        ["client", code, address] => join(code, address, 1, "you"),
        ["bots", code, count] => join(code, ADDRESS, count.parse()?, "bot"),
        _ => Err("arena [server | client CODE [ADDRESS] | bots CODE COUNT]".into()),
    }
}

/// A server, a player and two bots in one process.
fn demo() -> Result<(), Box<dyn Error>> {
    let hub = IpcHub::new();
    let mut apps = vec![server::app(NetworkStreamPlugin::server().with_ipc(&hub))];
    apps[0].world_mut().resource_mut::<NetworkStreamDriver>().listen("ipc://arena")?;
    for name in ["you", "anna", "bert"] {
        let mut client = client::app(NetworkStreamPlugin::client().with_ipc(&hub), name, name == "you");
        client.world_mut().resource_mut::<NetworkStreamDriver>().connect("ipc://arena")?;
        apps.push(client);
    }
    run(&mut apps, Some(DEMO))
}

fn join(code: &str, address: &str, count: usize, name: &str) -> Result<(), Box<dyn Error>> {
    let code: JoinCode = code.parse()?;
    let mut apps = Vec::new();
    for number in 1..=count {
        let name = if count == 1 { name.to_owned() } else { format!("{name}{number}") };
        let mut client = client::app(NetworkStreamPlugin::client(), &name, number == 1);
        let options = ConnectOptions::new().join_code(code.clone());
        client.world_mut().resource_mut::<NetworkStreamDriver>().connect_with(address, options)?;
        apps.push(client);
    }
    run(&mut apps, None)
}

/// Updates all Worlds in turn, 120 times a second.
fn run(apps: &mut [App], time: Option<Duration>) -> Result<(), Box<dyn Error>> {
    let start = std::time::Instant::now();
    while time.is_none_or(|time| start.elapsed() < time) {
        apps.iter_mut().for_each(App::update);
        if apps.iter().any(|app| app.should_exit().is_some()) {
            break;
        }
        std::thread::sleep(Duration::from_micros(8_333));
    }
    Ok(())
}
