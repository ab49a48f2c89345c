//! Golden vectors: the bytes of every token and packet, checked in under `tests/vectors`. That they mean what they
//! should is checked by `tests/netcode_vectors.rs` with a decoder that shares no code with this crate.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::challenge::{Binding, Challenger};
use super::packet::{self, CHALLENGE_BODY, CHALLENGE_BYTES, PacketType, REQUEST_BYTES};
use super::session::ciphers;
use super::token::{ConnectToken, IssueRequest, SessionCipher};
use super::{JoinCode, MAX_DATAGRAM_OUT};
use crate::crypto::{Aead, Cipher, Key};
use crate::{SeededRandom, Wall};

const PROTOCOL: u64 = 0x1122_3344_5566_7788;

/// The file as it should be. Setting this variable writes it instead of comparing it.
const WRITE: &str = "NETSTREAM_WRITE_VECTORS";

fn line(out: &mut String, name: &str, bytes: &[u8]) {
    write!(out, "{name} = ").unwrap();
    for byte in bytes {
        write!(out, "{byte:02x}").unwrap();
    }
    out.push('\n');
}

fn token(addresses: &[SocketAddr]) -> ConnectToken {
    let key = Key::from_bytes(std::array::from_fn(|at| at as u8));
    let request = IssueRequest {
        user_data: std::array::from_fn(|at| at as u8),
        timeout: Duration::from_secs(7),
        ..IssueRequest::new(PROTOCOL, &key, 0x0102_0304_0506_0708, addresses)
    };
    ConnectToken::issue(&request, Wall::from_unix(1_900_000_000), &mut SeededRandom::new(1)).unwrap()
}

fn vectors() -> String {
    let mut out =
        String::from("# NETCODE 1.02: name = bytes. Keys and fields are those of tests/netcode_vectors.rs.\n");
    let v4 = SocketAddr::from(([192, 0, 2, 33], 40_000));
    let v6 = SocketAddr::from(([0x2001, 0xdb8, 1, 2, 3, 4, 5, 0xffee], 50_000));
    let many: Vec<_> = [v4, v6].into_iter().cycle().take(32).collect();
    for (name, addresses) in [("v4", &[v4][..]), ("v6", &[v6][..]), ("32", &many[..])] {
        line(&mut out, &format!("token {name}"), &token(addresses).to_bytes());
    }
    let first = token(&[v4]);
    let mut buf = [0; REQUEST_BYTES];
    packet::write_request(&mut buf, first.protocol_id, first.expiry, &first.nonce, &first.sealed);
    line(&mut out, "request", &buf);

    let binding = Binding { address: v4, mac: [5; 16], client_id: 9, issued: 0x0a0b_0c0d };
    let mut challenger = Challenger::new(&Key::from_bytes([1; 32]), Key::from_bytes([2; 32]));
    let mut sealed = [0; CHALLENGE_BYTES];
    let number = challenger.make(&binding, &[0xcc; 256], &mut sealed);
    line(&mut out, "challenge token", &sealed);

    let mut body = [0; CHALLENGE_BODY];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body[8..].copy_from_slice(&sealed);
    let keep_alive = [3, 0, 0, 0, 0, 1, 0, 0];
    let packets: [(PacketType, &str, &[u8]); 6] = [
        (PacketType::Denied, "denied", &[]),
        (PacketType::Challenge, "challenge", &body),
        (PacketType::Response, "response", &body),
        (PacketType::KeepAlive, "keep-alive", &keep_alive),
        (PacketType::Payload, "payload", b"netstream"),
        (PacketType::Disconnect, "disconnect", &[]),
    ];
    let cipher = Cipher::new(&Key::from_bytes([0x42; 32]));
    let lengths = (0..8).map(|length| 0xa5 << (8 * length));
    for sequence in [0].into_iter().chain(lengths).chain([1 << 63, u64::MAX]) {
        for (kind, name, body) in packets {
            let mut buf = [0; MAX_DATAGRAM_OUT];
            let length = packet::seal_small(&cipher, PROTOCOL, kind, sequence, &mut buf, body);
            line(&mut out, &format!("{name} {sequence:016x}"), &buf[..length]);
        }
    }

    let (key, addresses) = (Key::from_bytes([0x42; 32]), [v4]);
    let defaults = IssueRequest::new(PROTOCOL, &key, 9, &addresses);
    let ours = IssueRequest { cipher: SessionCipher::Aes128Gcm, ..defaults };
    let ours = ConnectToken::issue(&ours, Wall::from_unix(1_900_000_000), &mut SeededRandom::new(3)).unwrap();
    line(&mut out, "token aes", &ours.to_bytes());
    let (up, down) = ciphers(ours.cipher, &ours.client_to_server, &ours.server_to_client, &body);
    for (name, cipher) in [("up", up), ("down", down)] {
        for (kind, body) in [(PacketType::KeepAlive, &keep_alive[..]), (PacketType::Payload, b"netstream")] {
            let mut buf = [0; MAX_DATAGRAM_OUT];
            let length = packet::seal_small(&cipher, PROTOCOL, kind, 0xa5_00a5, &mut buf, body);
            line(&mut out, &format!("aes {name} {}", kind as u8), &buf[..length]);
        }
    }

    let code = JoinCode::random(&mut SeededRandom::new(2));
    writeln!(out, "join code text = {}", *code.to_text()).unwrap();
    line(&mut out, "join code key", code.key(PROTOCOL).as_bytes());
    let code = JoinCode::from_passphrase("correct horse battery staple").unwrap();
    writeln!(out, "join code of passphrase = {}", *code.to_text()).unwrap();
    out
}

#[test]
fn the_bytes_are_those_that_are_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/netcode.txt");
    let vectors = vectors();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(path, &vectors).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap();
    for (now, then) in vectors.lines().zip(checked_in.lines()) {
        assert_eq!(now, then);
    }
    assert_eq!(vectors.lines().count(), checked_in.lines().count());
}
