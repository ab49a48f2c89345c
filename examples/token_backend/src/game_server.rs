//! The game server: takes the tokens that the back-end seals with the same key, and greets who comes.
//!
//! ```text
//! game_server KEY_FILE [PORT]
//! ```

use std::thread;
use std::time::Duration;

use netstream_driver::transport::netcode::KeyRing;
use netstream_driver::transport::{ChannelId, Incoming};
use netstream_driver::udp::{Access, DEFAULT_PROTOCOL_ID, UdpConfig};
use netstream_driver::{Clock, NetworkDriver, OsRandom, SystemClock, UdpDriver};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [key_file, port @ ..] = arguments.as_slice() else { return Err("usage: game_server KEY_FILE [PORT]".into()) };
    let mut keys = KeyRing::new();
    keys.add_key(DEFAULT_PROTOCOL_ID, std::fs::read_to_string(key_file)?.trim().parse()?)?;
    let mut config = UdpConfig::new(&mut OsRandom);
    config.access = Access::Tokens(keys);
    // Where clients reach this server, as the tokens name it. Here it is where it listens, which is the default.
    config.addresses = Vec::new();

    let (mut driver, clock) = (UdpDriver::with_config(config), SystemClock::new());
    let port = port.first().map_or("0", String::as_str);
    let endpoint = driver.listen(clock.now(), &format!("udp://127.0.0.1:{port}").parse()?)?;
    println!("{endpoint}");
    loop {
        let now = clock.now();
        let mut greet = Vec::new();
        driver.receive(now, &mut |incoming| match incoming {
            Incoming::Accepted { connection, identity: Some(identity), .. } => {
                println!("player {} has come", identity.client_id);
                greet.push((connection, format!("welcome, player {}", identity.client_id)));
            }
            Incoming::Disconnected { reason, .. } => println!("a player has gone: {reason}"),
            _ => {}
        });
        for (connection, words) in greet {
            driver.send(now, connection, ChannelId::RELIABLE, words.as_bytes())?;
        }
        driver.flush(now);
        thread::sleep(Duration::from_millis(16));
    }
}
