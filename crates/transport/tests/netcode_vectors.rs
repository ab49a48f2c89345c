//! The golden vectors mean what they should, says a decoder that was written from the description of the format alone.

mod netcode_support;

use std::collections::BTreeMap;

use netcode_support::{PROTOCOL, wire};

fn lines() -> BTreeMap<&'static str, &'static str> {
    let file = include_str!("vectors/netcode.txt");
    file.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(" = ").unwrap()).collect()
}

fn bytes(name: &str) -> Vec<u8> {
    let hex = lines()[name];
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

const V4: &str = "192.0.2.33:40000";
const V6: &str = "[2001:db8:1:2:3:4:5:ffee]:50000";

#[test]
fn tokens_hold_what_was_put_in() {
    let key = std::array::from_fn(|at| at as u8);
    for (name, addresses) in [("token v4", vec![V4]), ("token v6", vec![V6]), ("token 32", [V4, V6].repeat(16))] {
        let token = wire::public_token(&bytes(name));
        assert_eq!(token.protocol_id, PROTOCOL);
        assert_eq!((token.created, token.expiry, token.timeout), (1_900_000_000, 1_900_000_045, 7));
        assert_eq!(token.addresses, addresses);
        let private = wire::private_token(&token, &key);
        assert_eq!((private.client_id, private.timeout), (0x0102_0304_0506_0708, 7));
        assert_eq!(private.addresses, addresses);
        assert_eq!(private.client_to_server, token.client_to_server);
        assert_eq!(private.server_to_client, token.server_to_client);
        assert_eq!(private.user_data, (0..=255).collect::<Vec<u8>>());
        assert!(private.rest.iter().all(|&byte| byte == 0));
        assert_ne!(token.client_to_server, token.server_to_client);
    }
}

#[test]
fn the_request_carries_the_sealed_token() {
    let (request, token) = (bytes("request"), wire::public_token(&bytes("token v4")));
    assert_eq!(request.len(), 1078);
    assert_eq!(request[0], 0);
    assert_eq!(&request[1..14], b"NETCODE 1.02\0");
    assert_eq!(wire::u64_at(&request, 14), PROTOCOL);
    assert_eq!(wire::u64_at(&request, 22), token.expiry);
    assert_eq!(request[30..54], token.nonce);
    assert_eq!(request[54..], token.sealed);
}

#[test]
fn the_challenge_token_holds_identity_time_and_tag() {
    let sealed = bytes("challenge token");
    assert_eq!(sealed.len(), 300);
    let text = wire::open_bare(&sealed, 0, &[1; 32]).unwrap();
    assert_eq!(wire::u64_at(&text, 0), 9);
    assert_eq!(text[8..264], [0xcc; 256]);
    assert_eq!(text[264..268], 0x0a0b_0c0d_u32.to_le_bytes());
    assert_ne!(text[268..284], [0; 16]);
}

#[test]
fn packets_of_every_type_and_sequence_length_open() {
    let mut body = vec![0; 8];
    body.extend_from_slice(&bytes("challenge token"));
    let kinds: [(u8, &str, &[u8]); 6] = [
        (1, "denied", &[]),
        (2, "challenge", &body),
        (3, "response", &body),
        (4, "keep-alive", &[3, 0, 0, 0, 0, 1, 0, 0]),
        (5, "payload", b"netstream"),
        (6, "disconnect", &[]),
    ];
    let sequences = [
        (0, 1),
        (0xa5, 1),
        (0xa500, 2),
        (0xa5_0000, 3),
        (0xa500_0000, 4),
        (0xa5_0000_0000, 5),
        (0xa500_0000_0000, 6),
        (0xa5_0000_0000_0000, 7),
        (0xa500_0000_0000_0000, 8),
        (1 << 63, 8),
        (u64::MAX, 8),
    ];
    let mut count = 0;
    for (kind, name, body) in kinds {
        for (sequence, length) in sequences {
            let datagram = bytes(&format!("{name} {sequence:016x}"));
            assert_eq!(wire::header(&datagram), (kind, sequence, 1 + length), "{name}");
            assert_eq!(wire::open(&datagram, PROTOCOL, &[0x42; 32]).as_deref(), Some(body), "{name}");
            // Sealing is deterministic, so the decoder's own encoder gives the same bytes.
            assert_eq!(wire::seal(kind, sequence, body, PROTOCOL, &[0x42; 32]), datagram, "{name}");
            count += 1;
        }
    }
    let is_packet = |name: &&&str| name.split(' ').next_back().is_some_and(|number| number.len() == 16);
    assert_eq!(lines().keys().filter(is_packet).count(), count, "no vector is left out");
}

#[test]
fn a_token_for_aes_says_so_inside_and_outside_and_its_session_has_keys_of_its_own() {
    let mut token = bytes("token aes");
    assert_eq!(token[2048 - 96..][..4], *b"NX1\x08");
    token[2048 - 96..][..4].fill(0);
    let token = wire::public_token(&token);
    let private = wire::private_token(&token, &[0x42; 32]);
    let (before, extension) = private.rest.split_at(private.rest.len() - 48);
    assert_eq!(extension[..4], *b"NX1\x08");
    assert!(before.iter().chain(&extension[4..]).all(|&byte| byte == 0), "the rest is zero");

    let mut challenge = vec![0; 8];
    challenge.extend_from_slice(&bytes("challenge token"));
    let keys = wire::session_keys(&token.client_to_server, &token.server_to_client, &challenge);
    for (name, key) in ["up", "down"].into_iter().zip(keys) {
        for (kind, body) in [(4, &[3, 0, 0, 0, 0, 1, 0, 0][..]), (5, b"netstream")] {
            let packet = bytes(&format!("aes {name} {kind}"));
            assert_eq!(wire::header(&packet), (kind, 0xa5_00a5, 4));
            assert_eq!(wire::open_aes(&packet, PROTOCOL, &key).unwrap(), body);
            assert_eq!(wire::open(&packet, PROTOCOL, &token.client_to_server), None);
            assert_eq!(wire::open(&packet, PROTOCOL, &token.server_to_client), None);
        }
    }
}

#[test]
fn join_codes_read_and_derive_as_they_did() {
    let code: netstream_transport::netcode::JoinCode = lines()["join code text"].parse().unwrap();
    assert_eq!(code.key(PROTOCOL).as_bytes().to_vec(), bytes("join code key"));
    assert!(lines()["join code of passphrase"].parse::<netstream_transport::netcode::JoinCode>().is_ok());
}
