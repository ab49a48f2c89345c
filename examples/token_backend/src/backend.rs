//! The back-end: checks a login and answers with a connect token.
//!
//! ```text
//! backend KEY_FILE GAME_SERVER_ADDRESS [PORT]
//! ```
//!
//! Whoever gets the token can play as its player, once: in the real world this answers over HTTPS only.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use netstream_driver::transport::crypto::Key;
use netstream_driver::transport::netcode::{ConnectToken, IssueRequest};
use netstream_driver::udp::DEFAULT_PROTOCOL_ID;
use netstream_driver::{Clock, OsRandom, SystemClock};

struct Backend {
    key: Key,
    servers: Vec<SocketAddr>,
}

/// The whole endpoint: who is it, and a token for exactly that player.
async fn token(State(backend): State<Arc<Backend>>, body: String) -> Result<String, StatusCode> {
    let player = log_in(&body).ok_or(StatusCode::UNAUTHORIZED)?;
    let request = IssueRequest::new(DEFAULT_PROTOCOL_ID, &backend.key, player, &backend.servers);
    let token = ConnectToken::issue(&request, SystemClock::new().now().wall, &mut OsRandom)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(token.to_text().to_string())
}

/// The number of the player with this `name:password`. Yours asks a data base, and hashes passwords.
fn log_in(body: &str) -> Option<u64> {
    match body.trim() {
        "alice:wonderland" => Some(1),
        "bob:builder" => Some(2),
        _ => None,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [key_file, server, port @ ..] = arguments.as_slice() else {
        return Err("usage: backend KEY_FILE GAME_SERVER_ADDRESS [PORT]".into());
    };
    let key = std::fs::read_to_string(key_file)?.trim().parse()?;
    let backend = Arc::new(Backend { key, servers: vec![server.parse()?] });
    let port: u16 = port.first().map_or(Ok(0), |port| port.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        println!("http://{}", listener.local_addr()?);
        let router = Router::new().route("/token", post(token)).with_state(backend);
        axum::serve(listener, router).await
    })?;
    Ok(())
}
