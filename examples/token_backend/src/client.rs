//! The client: logs in, gets a token, connects with it, prints the greeting and leaves.
//!
//! ```text
//! client HTTP_ADDRESS NAME:PASSWORD [--twice]
//! ```
//!
//! `--twice` shows the token a second time, to see that it is of no use any more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use netstream_driver::transport::netcode::ConnectToken;
use netstream_driver::transport::{DisconnectCode, DisconnectReason, Incoming};
use netstream_driver::udp::UdpConfig;
use netstream_driver::{Clock, Credentials, NetworkDriver, OsRandom, SystemClock, UdpDriver};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [http, login, rest @ ..] = arguments.as_slice() else {
        return Err("usage: client HTTP_ADDRESS NAME:PASSWORD [--twice]".into());
    };
    let token: ConnectToken = fetch(http.trim_start_matches("http://"), login)?.parse()?;
    play(&token)?;
    if rest.iter().any(|option| option == "--twice") {
        play(&token)?;
    }
    Ok(())
}

/// Asks the back-end for a token. A game uses its HTTP library, and HTTPS.
fn fetch(http: &str, login: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(http)?;
    let length = login.len();
    write!(
        stream,
        "POST /token HTTP/1.1\r\nHost: {http}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{login}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the back-end did not answer in HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(format!("the back-end refused: {status}").into());
    }
    Ok(body.trim().to_owned())
}

fn play(token: &ConnectToken) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = UdpConfig::new(&mut OsRandom);
    // A token is a stranger's word; that it may send us to this very machine is for examples and tests.
    config.allow_local_tokens = true;
    let (mut driver, clock) = (UdpDriver::with_config(config), SystemClock::new());
    // No address: where the server is, the token says.
    let anywhere = "udp://0.0.0.0:0".parse()?;
    let id = driver.connect(clock.now(), &anywhere, &Credentials::Token(Box::new(token.clone())))?;
    loop {
        let now = clock.now();
        let (mut greeted, mut over) = (false, None);
        driver.receive(now, &mut |incoming| match incoming {
            Incoming::Connected { .. } => println!("connected"),
            Incoming::Message { bytes, .. } => {
                println!("the server says: {}", String::from_utf8_lossy(bytes));
                greeted = true;
            }
            Incoming::Disconnected { reason, .. } => over = Some(reason),
            Incoming::Accepted { .. } => {}
        });
        if greeted {
            let reason = DisconnectReason::local(DisconnectCode::ConnectionClose);
            driver.disconnect(now, id, &reason, Duration::from_secs(1));
        }
        driver.flush(now);
        if let Some(reason) = over {
            println!("over: {:?}", reason.code);
            return Ok(());
        }
        thread::sleep(Duration::from_millis(16));
    }
}
