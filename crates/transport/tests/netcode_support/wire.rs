//! A second opinion on the wire format, written from the description alone and with another AEAD implementation.

use aes_gcm::Aes128Gcm;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, XChaCha20Poly1305, XNonce};

const VERSION: &[u8; 13] = b"NETCODE 1.02\0";

/// What a connect token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicToken {
    pub(crate) protocol_id: u64,
    pub(crate) created: u64,
    pub(crate) expiry: u64,
    pub(crate) nonce: [u8; 24],
    pub(crate) sealed: Vec<u8>,
    pub(crate) timeout: u32,
    pub(crate) addresses: Vec<String>,
    pub(crate) client_to_server: [u8; 32],
    pub(crate) server_to_client: [u8; 32],
}

/// What is sealed in a connect token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrivateToken {
    pub(crate) client_id: u64,
    pub(crate) timeout: u32,
    pub(crate) addresses: Vec<String>,
    pub(crate) client_to_server: [u8; 32],
    pub(crate) server_to_client: [u8; 32],
    pub(crate) user_data: Vec<u8>,
    /// Everything behind the fields.
    pub(crate) rest: Vec<u8>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The addresses at `at`, as text, and where they end.
fn addresses(bytes: &[u8], mut at: usize) -> (Vec<String>, usize) {
    let mut addresses = Vec::new();
    let count = u32_at(bytes, at);
    at += 4;
    for _ in 0..count {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        match bytes[at] {
            1 => {
                let ip = &bytes[at + 1..at + 5];
                addresses.push(format!("{}.{}.{}.{}:{}", ip[0], ip[1], ip[2], ip[3], u16_at(at + 5)));
                at += 7;
            }
            2 => {
                let groups: Vec<String> = (0..8).map(|group| format!("{:x}", u16_at(at + 1 + 2 * group))).collect();
                addresses.push(format!("[{}]:{}", groups.join(":"), u16_at(at + 17)));
                at += 19;
            }
            other => panic!("address type {other}"),
        }
    }
    (addresses, at)
}

pub(crate) fn public_token(bytes: &[u8]) -> PublicToken {
    assert_eq!(bytes.len(), 2048);
    assert_eq!(&bytes[..13], VERSION);
    let (list, end) = addresses(bytes, 1089);
    assert!(bytes[end + 64..].iter().all(|&byte| byte == 0), "the rest is zero");
    PublicToken {
        protocol_id: u64_at(bytes, 13),
        created: u64_at(bytes, 21),
        expiry: u64_at(bytes, 29),
        nonce: bytes[37..61].try_into().unwrap(),
        sealed: bytes[61..1085].to_vec(),
        timeout: u32_at(bytes, 1085),
        addresses: list,
        client_to_server: bytes[end..end + 32].try_into().unwrap(),
        server_to_client: bytes[end + 32..end + 64].try_into().unwrap(),
    }
}

pub(crate) fn private_token(token: &PublicToken, key: &[u8; 32]) -> PrivateToken {
    let mut aad = VERSION.to_vec();
    aad.extend_from_slice(&token.protocol_id.to_le_bytes());
    aad.extend_from_slice(&token.expiry.to_le_bytes());
    let mut text = token.sealed[..1008].to_vec();
    let tag: [u8; 16] = token.sealed[1008..].try_into().unwrap();
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(&XNonce::from(token.nonce), &aad, text.as_mut_slice().into(), &tag.into())
        .expect("the private token opens");
    let (list, end) = addresses(&text, 12);
    PrivateToken {
        client_id: u64_at(&text, 0),
        timeout: u32_at(&text, 8),
        addresses: list,
        client_to_server: text[end..end + 32].try_into().unwrap(),
        server_to_client: text[end + 32..end + 64].try_into().unwrap(),
        user_data: text[end + 64..end + 320].to_vec(),
        rest: text[end + 320..].to_vec(),
    }
}

/// Type and sequence number of a sealed packet, and where its body begins.
pub(crate) fn header(datagram: &[u8]) -> (u8, u64, usize) {
    let length = usize::from(datagram[0] >> 4);
    let mut number = [0; 8];
    number[..length].copy_from_slice(&datagram[1..=length]);
    (datagram[0] & 15, u64::from_le_bytes(number), 1 + length)
}

fn nonce(sequence: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_le_bytes());
    nonce
}

fn aad(protocol_id: u64, prefix: u8) -> Vec<u8> {
    let mut aad = VERSION.to_vec();
    aad.extend_from_slice(&protocol_id.to_le_bytes());
    aad.push(prefix);
    aad
}

/// The body of a sealed packet; `None` if it does not open.
pub(crate) fn open(datagram: &[u8], protocol_id: u64, key: &[u8; 32]) -> Option<Vec<u8>> {
    let (_, sequence, start) = header(datagram);
    let end = datagram.len().checked_sub(16)?;
    let mut body = datagram.get(start..end)?.to_vec();
    let tag: [u8; 16] = datagram[end..].try_into().unwrap();
    ChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(
            &Nonce::from(nonce(sequence)),
            &aad(protocol_id, datagram[0]),
            body.as_mut_slice().into(),
            &tag.into(),
        )
        .ok()?;
    Some(body)
}

/// The keys of a session of its own, client to server and server to client, from those in the token and the body of the
/// response.
pub(crate) fn session_keys(client_to_server: &[u8; 32], server_to_client: &[u8; 32], body: &[u8]) -> [[u8; 16]; 2] {
    let mut keys = [0; 64];
    let secrets = [client_to_server, server_to_client, body].concat();
    blake3::Hasher::new_derive_key("netstream session keys v1").update(&secrets).finalize_xof().fill(&mut keys);
    [keys[..16].try_into().unwrap(), keys[32..48].try_into().unwrap()]
}

/// The body of a packet that is sealed under a session key; `None` if it does not open.
pub(crate) fn open_aes(datagram: &[u8], protocol_id: u64, key: &[u8; 16]) -> Option<Vec<u8>> {
    let (_, sequence, start) = header(datagram);
    let end = datagram.len().checked_sub(16)?;
    let mut body = datagram.get(start..end)?.to_vec();
    let tag: [u8; 16] = datagram[end..].try_into().unwrap();
    let aad = aad(protocol_id, datagram[0]);
    Aes128Gcm::new(key.into())
        .decrypt_inout_detached(&nonce(sequence).into(), &aad, body.as_mut_slice().into(), &tag.into())
        .ok()?;
    Some(body)
}

/// A sealed packet.
pub(crate) fn seal(kind: u8, sequence: u64, body: &[u8], protocol_id: u64, key: &[u8; 32]) -> Vec<u8> {
    let length = (1..=8).find(|&length| length == 8 || sequence >> (8 * length) == 0).unwrap();
    let prefix = kind | (length as u8) << 4;
    let mut datagram = vec![prefix];
    datagram.extend_from_slice(&sequence.to_le_bytes()[..length]);
    let mut body = body.to_vec();
    let tag = ChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(&Nonce::from(nonce(sequence)), &aad(protocol_id, prefix), body.as_mut_slice().into())
        .unwrap();
    datagram.extend_from_slice(&body);
    datagram.extend_from_slice(&tag);
    datagram
}

/// A text that was sealed without associated data under a number.
pub(crate) fn open_bare(sealed: &[u8], sequence: u64, key: &[u8; 32]) -> Option<Vec<u8>> {
    let (text, tag) = sealed.split_at(sealed.len() - 16);
    let (mut text, tag) = (text.to_vec(), <[u8; 16]>::try_from(tag).unwrap());
    ChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(&Nonce::from(nonce(sequence)), &[], text.as_mut_slice().into(), &tag.into())
        .ok()?;
    Some(text)
}
