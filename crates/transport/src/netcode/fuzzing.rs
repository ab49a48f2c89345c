//! What the fuzz targets need beyond the public face: the readers behind the AEAD, which no mutation reaches from
//! outside, and a way to seal what no honest peer would send. Not part of the API, and compiled under the feature
//! `fuzzing` only.

#![allow(missing_docs, reason = "hidden")]

use std::net::SocketAddr;

use super::Server;
use super::challenge::{Binding, Challenger};
use super::packet::{self, CHALLENGE_BYTES, Header, PRIVATE_BYTES, PacketType, REQUEST_BYTES, Request};
use super::token::{ConnectToken, PrivateToken};
use super::{HEADROOM, MAX_BODY_IN, TAILROOM, VERSION};
use crate::crypto::{Aead, Cipher, Key, TAG_BYTES, open_extended, seal_extended};
use crate::look::Glance;

/// Bytes of a private token before sealing.
pub const PRIVATE_TEXT: usize = PRIVATE_BYTES - TAG_BYTES;

/// Bytes of a challenge token before sealing.
pub const CHALLENGE_TEXT: usize = CHALLENGE_BYTES - TAG_BYTES;

/// The session keys of a token: client to server, server to client.
pub fn keys(token: &ConnectToken) -> [Key; 2] {
    [token.client_to_server.clone(), token.server_to_client.clone()]
}

/// Type and sequence number of a sealed packet, by the reader that all packets go through.
pub fn header(datagram: &[u8]) -> Option<(u8, u64)> {
    Header::parse(datagram, MAX_BODY_IN).ok().map(|header| (header.kind as u8, header.sequence))
}

/// Whether a datagram reads as a connection request.
pub fn is_request(datagram: &mut [u8]) -> bool {
    Request::parse(datagram).is_ok()
}

/// A sealed packet with any body. `None` for a type that does not exist.
pub fn seal(kind: u8, sequence: u64, body: &[u8], protocol_id: u64, key: &Key) -> Option<Vec<u8>> {
    let kind = PacketType::from_prefix(kind)?;
    let mut buf = vec![0; HEADROOM + body.len() + TAILROOM];
    let length = packet::seal_small(&Cipher::new(key), protocol_id, kind, sequence, &mut buf, body);
    buf.truncate(length);
    Some(buf)
}

/// The body of a sealed packet.
pub fn open(datagram: &[u8], protocol_id: u64, key: &Key) -> Option<Vec<u8>> {
    let mut copy = datagram.to_vec();
    Header::parse(datagram, MAX_BODY_IN).ok()?.open(&Cipher::new(key), protocol_id, &mut copy).map(|body| body.to_vec())
}

/// Looks at the connections that are expected to have sent, as the layer above does.
pub fn look_ahead(server: &Server) {
    let mut look = Glance::default();
    server.expected().for_each(|index| server.look_to_open(index, &mut look));
    look.end();
}

/// The request that a client makes of a token.
pub fn request(token: &ConnectToken) -> Vec<u8> {
    let mut buf = vec![0; REQUEST_BYTES];
    packet::write_request(&mut buf, token.protocol_id, token.expiry, &token.nonce, &token.sealed);
    buf
}

/// A request whose private token is `text`, whatever that says, sealed as the issuer of `token` would.
pub fn request_with(token: &ConnectToken, text: &[u8; PRIVATE_TEXT], key: &Key) -> Vec<u8> {
    let mut sealed = [0; PRIVATE_BYTES];
    let (body, tag) = sealed.split_at_mut(PRIVATE_TEXT);
    body.copy_from_slice(text);
    tag.copy_from_slice(&seal_extended(key, &token.nonce, &private_data(token), body));
    let mut buf = vec![0; REQUEST_BYTES];
    packet::write_request(&mut buf, token.protocol_id, token.expiry, &token.nonce, &sealed);
    buf
}

/// The private token before sealing.
pub fn private_text(token: &ConnectToken, key: &Key) -> Option<Vec<u8>> {
    let mut sealed = token.sealed.clone();
    open_extended(key, &token.nonce, &private_data(token), &mut *sealed).map(|text| text.to_vec())
}

/// Reads an opened private token and writes it again. `None` if it makes no sense.
pub fn rewrite_private(text: &[u8]) -> Option<Vec<u8>> {
    let token = PrivateToken::parse(text)?;
    let mut out = vec![0; PRIVATE_TEXT];
    token.write(&mut out);
    Some(out)
}

/// One server run's challenges.
#[derive(Debug)]
pub struct Challenges(Challenger);

impl Challenges {
    /// Challenges under fixed keys.
    #[expect(clippy::new_without_default, reason = "hidden")]
    pub fn new() -> Self {
        Self(Challenger::new(&Key::from_bytes([1; 32]), Key::from_bytes([2; 32])))
    }

    /// What is in a genuine challenge before sealing.
    pub fn text(&mut self, address: SocketAddr, mac: [u8; 16], client_id: u64, issued: u32) -> Vec<u8> {
        let mut sealed = [0; CHALLENGE_BYTES];
        let number = self.0.make(&Binding { address, mac, client_id, issued }, &[7; 256], &mut sealed);
        let cipher = Cipher::new(&Key::from_bytes([1; 32]));
        cipher.open_in_place(packet::nonce(number), &[], &mut sealed).map_or_else(Vec::new, |text| text.to_vec())
    }

    /// Whether a challenge with this text is taken for this binding.
    pub fn takes(
        &self,
        text: &[u8; CHALLENGE_TEXT],
        address: SocketAddr,
        mac: [u8; 16],
        client_id: u64,
        issued: u32,
    ) -> bool {
        let mut sealed = [0; CHALLENGE_BYTES];
        let (body, tag) = sealed.split_at_mut(CHALLENGE_TEXT);
        body.copy_from_slice(text);
        tag.copy_from_slice(&Cipher::new(&Key::from_bytes([1; 32])).seal_in_place(packet::nonce(9), &[], body));
        let opened = self.0.open(9, &mut sealed);
        opened.is_some_and(|opened| self.0.matches(&opened, &Binding { address, mac, client_id, issued }))
    }
}

fn private_data(token: &ConnectToken) -> [u8; 29] {
    let mut data = [0; 29];
    data[..13].copy_from_slice(VERSION);
    data[13..21].copy_from_slice(&token.protocol_id.to_le_bytes());
    data[21..].copy_from_slice(&token.expiry.to_le_bytes());
    data
}
