//! A server whose back-end decides who enters: the credentials of each new player go to an HTTP service, and the answer
//! may take as long as it takes.
//!
//! The service is a few lines of its own here, so that the example runs by itself: it knows one password, and it is slow.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;

/// Answers of the back-end, from the threads that asked.
#[derive(Resource)]
struct Answers {
    inbox: Mutex<Receiver<(Entity, Result<bool, String>)>>,
    outbox: Sender<(Entity, Result<bool, String>)>,
    backend: SocketAddr,
}

/// Asks the back-end about everybody who reaches Approval, without waiting for the answer.
fn ask(event: On<ConnectionEvent>, credentials: Query<&ConnectionCredentials>, answers: Res<Answers>) {
    if event.state != ConnectionState::Approval {
        return;
    }
    let credentials = credentials.get(event.connection).map(|found| found.0.clone()).unwrap_or_default();
    let (outbox, backend, connection) = (answers.outbox.clone(), answers.backend, event.connection);
    std::thread::spawn(move || {
        let answer = login_is_good(backend, &credentials).map_err(|error| error.to_string());
        // The server may be gone by now.
        let _ = outbox.send((connection, answer));
    });
}

/// Passes the verdicts on. A player may have left in the meantime: then the calls are errors, and that is all.
fn decide(answers: Res<Answers>, mut net: ResMut<NetworkStreamDriver>) {
    let inbox = answers.inbox.lock().expect("no thread panics while it holds this");
    for (connection, answer) in inbox.try_iter() {
        let _ = match answer {
            Ok(true) => net.approve(connection),
            Ok(false) => net.deny(connection, "wrong password"),
            Err(error) => net.deny(connection, &format!("the login service is not available: {error}")),
        };
    }
}

fn login_is_good(backend: SocketAddr, credentials: &[u8]) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&backend, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "POST /login HTTP/1.1\r\nHost: login\r\nContent-Length: {}\r\n\r\n", credentials.len())?;
    stream.write_all(credentials)?;
    let mut status = String::new();
    BufReader::new(stream).take(1024).read_line(&mut status)?;
    Ok(status.split(' ').nth(1) == Some("200"))
}

/// A server that asks this back-end, reachable at `ipc://guarded`.
fn server(backend: SocketAddr, hub: &IpcHub) -> Result<App> {
    let (outbox, inbox) = channel();
    let mut server = App::new();
    server
        .add_plugins(NetworkStreamPlugin::server().with_ipc(hub).with_approval())
        .insert_resource(Answers { inbox: Mutex::new(inbox), outbox, backend })
        .add_observer(ask)
        .add_systems(Update, decide);
    server.world_mut().resource_mut::<NetworkStreamDriver>().listen("ipc://guarded")?;
    Ok(server)
}

/// A client tries to get in; the event is the one that says what came of it.
fn join(server: &mut App, hub: &IpcHub, password: &str) -> Result<ConnectionEvent> {
    let mut client = App::new();
    client.add_plugins(NetworkStreamPlugin::client().with_ipc(hub));
    let options = ConnectOptions::new().credentials(password.as_bytes());
    client.world_mut().resource_mut::<NetworkStreamDriver>().connect_with("ipc://guarded", options)?;
    loop {
        server.update();
        client.update();
        let events = client.world().resource::<NetworkStreamDriver>().events();
        if let Some(event) = events.iter().find(|event| event.reason.is_some() || event.state.is_connected()) {
            return Ok(event.clone());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn main() -> Result {
    let hub = IpcHub::new();
    let mut server = server(spawn_backend()?, &hub)?;
    for password in ["hunter2", "letmein"] {
        let event = join(&mut server, &hub, password)?;
        match event.reason {
            Some(reason) => println!("{password}: {reason}"),
            None => println!("{password}: welcome, player {}", event.network_id.expect("it is in")),
        }
    }
    Ok(())
}

#[test]
fn the_back_end_decides_who_enters() -> Result {
    let hub = IpcHub::new();
    let mut server = server(spawn_backend()?, &hub)?;
    let welcome = join(&mut server, &hub, "hunter2")?;
    assert!(welcome.state.is_connected() && welcome.network_id.is_some());
    let denied = DisconnectReason::remote(DisconnectCode::ApprovalDenied);
    assert_eq!(join(&mut server, &hub, "letmein")?.reason, Some(denied.clone().with_text("wrong password")));
    // Nobody answers any more: that is an answer too.
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    server.world_mut().resource_mut::<Answers>().backend = nobody;
    let reason = join(&mut server, &hub, "hunter2")?.reason.ok_or("it is out")?;
    assert_eq!(reason.code, denied.code);
    assert!(reason.text.as_str().starts_with("the login service is not available"), "{reason}");
    Ok(())
}

/// The other side of the HTTP call; in a real game, somebody else's program.
fn spawn_backend() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(stream) {
                eprintln!("login service: {error}");
            }
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0).min(4096);
        }
    }
    let mut password = vec![0; length];
    reader.read_exact(&mut password)?;
    std::thread::sleep(Duration::from_millis(300));
    let status = if password == b"hunter2" { "200 OK" } else { "403 Forbidden" };
    write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
