//! Rules H1 to H12: each is seen to hold, and seen to matter.

mod client;
mod clock;
mod handshakes;
mod identities;
mod life;
#[path = "../netcode_support/mod.rs"]
mod netcode_support;
mod numbers;
mod serving;
mod strangers;
mod tokens;

use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::Limits;
use netstream_transport::netcode::ConnectToken;

use crate::netcode_support::*;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The bytes of the first datagram of this type that `from` sent.
pub(crate) fn sent(world: &World, from: SocketAddr, kind: u8) -> Vec<u8> {
    let mut log = world.log.iter();
    log.find(|datagram| datagram.from == from && datagram.kind() == kind).expect("it was sent").bytes.clone()
}

pub(crate) fn world_with(seed: u64, change: impl FnOnce(&mut Limits)) -> World {
    let mut world = World::new(seed);
    let mut limits = Limits::default();
    change(&mut limits);
    world.add_server(server_address(), server_config(), &limits);
    world.run(2 * SECOND);
    world
}

/// The packet keys of a token: client to server, server to client.
pub(crate) fn keys_of(token: &ConnectToken) -> ([u8; 32], [u8; 32]) {
    let token = wire::public_token(&token.to_bytes());
    (token.client_to_server, token.server_to_client)
}
