//! Connect tokens: what a back-end gives a player, and what it seals inside for the server.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::packet::PRIVATE_BYTES;
use super::wire::{Reader, Writer};
use super::{MAX_ADDRESSES, VERSION};
use crate::crypto::{Key, TAG_BYTES, Tag, open_extended, seal_extended, text};
use crate::{Identity, Random, Wall};

/// Size of a connect token in bytes.
pub const CONNECT_TOKEN_BYTES: usize = 2048;

/// Bytes of the private token before sealing; fields take at most 944 of them, the rest is zero but for our additions.
const PRIVATE_TEXT: usize = PRIVATE_BYTES - TAG_BYTES;

/// Where our additions lie in the private token and in the public one. Other implementations write zeros there, and do not
/// look.
const PRIVATE_EXTENSION: usize = PRIVATE_TEXT - 48;
const PUBLIC_EXTENSION: usize = CONNECT_TOKEN_BYTES - 96;

/// What additions begin with; a byte of flags follows.
const EXTENSION: [u8; 3] = *b"NX1";

/// The session has keys of its own and seals with AES-128-GCM.
const AES_128_GCM: u8 = 1 << 3;

/// How the packets of a connection are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionCipher {
    /// ChaCha20-Poly1305 under the keys in the token, as NETCODE 1.02 has it.
    #[default]
    ChaCha20Poly1305,
    /// AES-128-GCM under keys that are made for this connection, from those in the token and the server's challenge. Three
    /// times as fast where the processor computes AES itself, and several times slower where it does not. Only for tokens
    /// that netstream's clients show to netstream's servers.
    Aes128Gcm,
}

impl SessionCipher {
    fn read(bytes: &[u8], at: usize) -> Self {
        let extension = bytes.get(at..).and_then(|bytes| bytes.split_first_chunk());
        let flags = extension.filter(|(magic, _)| **magic == EXTENSION).and_then(|(_, flags)| flags.first());
        if flags.is_some_and(|flags| flags & AES_128_GCM != 0) { Self::Aes128Gcm } else { Self::ChaCha20Poly1305 }
    }

    fn write(self, bytes: &mut [u8], at: usize) {
        let extension = bytes.get_mut(at..).and_then(|bytes| bytes.split_first_chunk_mut());
        if let (Self::Aes128Gcm, Some((magic, [flags, ..]))) = (self, extension) {
            *magic = EXTENSION;
            *flags = AES_128_GCM;
        }
    }
}

/// What [`ConnectToken::issue`] puts into a token.
#[derive(Clone)]
pub struct IssueRequest<'a> {
    /// Names the game and the key that is in force; see [`KeyRing`](super::KeyRing).
    pub protocol_id: u64,
    /// The key that issuer and servers share. Never leaves them.
    pub key: &'a Key,
    /// The issuer's number of this player.
    pub client_id: u64,
    /// Anything the server is to know about the player; the player cannot read or change it. All zero for nothing.
    pub user_data: [u8; 256],
    /// The servers that the token is for, in the order in which the client tries them: 1 to 32.
    pub addresses: &'a [SocketAddr],
    /// How long the token can be used to connect, in whole seconds; 1 s at least. Must equal the servers'
    /// [`token_lifetime`](super::ServerConfig::token_lifetime).
    pub lifetime: Duration,
    /// After how much silence the connection ends, in whole seconds, 1 to 60. Each end uses the smaller of this and
    /// its own setting.
    pub timeout: Duration,
    /// How the connection is sealed. Anything but the default is for netstream's clients and servers alone.
    pub cipher: SessionCipher,
}

impl<'a> IssueRequest<'a> {
    /// A request with the recommended lifetime of 45 s and timeout of 10 s, and no user data.
    pub fn new(protocol_id: u64, key: &'a Key, client_id: u64, addresses: &'a [SocketAddr]) -> Self {
        Self {
            protocol_id,
            key,
            client_id,
            user_data: [0; 256],
            addresses,
            lifetime: super::TOKEN_LIFETIME,
            timeout: Duration::from_secs(10),
            cipher: SessionCipher::default(),
        }
    }
}

impl fmt::Debug for IssueRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The user data is between the issuer and its servers: it stays out of logs.
        f.debug_struct("IssueRequest")
            .field("protocol_id", &format_args!("{:#018x}", self.protocol_id))
            .field("client_id", &self.client_id)
            .field("addresses", &self.addresses)
            .field("lifetime", &self.lifetime)
            .field("timeout", &self.timeout)
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

/// What a player needs to connect: server addresses, session keys, and the part that only the servers can open.
///
/// Whoever has the token can connect as its player, once. It goes from back-end to player over HTTPS or the like, as
/// [`to_bytes`](Self::to_bytes) or [`to_text`](Self::to_text), and is never shown in `Debug`.
#[derive(Clone)]
pub struct ConnectToken {
    pub(crate) protocol_id: u64,
    pub(crate) created: u64,
    pub(crate) expiry: u64,
    pub(crate) nonce: [u8; 24],
    pub(crate) sealed: Box<[u8; PRIVATE_BYTES]>,
    pub(crate) timeout: i32,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) client_to_server: Key,
    pub(crate) server_to_client: Key,
    pub(crate) cipher: SessionCipher,
}

impl ConnectToken {
    /// Makes a token. `random` is the source of the session keys and must be fit for that in production.
    pub fn issue(request: &IssueRequest<'_>, now: Wall, random: &mut dyn Random) -> Result<Self, IssueError> {
        if request.key.is_zero() {
            return Err(IssueError::ZeroKey);
        }
        if !(1..=MAX_ADDRESSES).contains(&request.addresses.len()) {
            return Err(IssueError::Addresses(request.addresses.len()));
        }
        let lifetime = request.lifetime.as_secs();
        if lifetime == 0 {
            return Err(IssueError::Lifetime);
        }
        let timeout = request.timeout.as_secs();
        if !(1..=60).contains(&timeout) {
            return Err(IssueError::Timeout);
        }
        let mut nonce = [0; 24];
        random.fill(&mut nonce);
        let expiry = now.as_unix().checked_add(lifetime).ok_or(IssueError::Lifetime)?;
        let private = PrivateToken {
            timeout: timeout as i32,
            addresses: request.addresses.to_vec(),
            client_to_server: Key::random(random),
            server_to_client: Key::random(random),
            identity: Identity { client_id: request.client_id, user_data: request.user_data },
            cipher: request.cipher,
        };
        let mut sealed = Box::new([0; PRIVATE_BYTES]);
        private.seal(&mut sealed, request.protocol_id, expiry, &nonce, request.key);
        Ok(Self {
            protocol_id: request.protocol_id,
            created: now.as_unix(),
            expiry,
            nonce,
            sealed,
            timeout: timeout as i32,
            addresses: private.addresses,
            client_to_server: private.client_to_server,
            server_to_client: private.server_to_client,
            cipher: private.cipher,
        })
    }

    /// Reads what [`to_bytes`](Self::to_bytes) or any other issuer of NETCODE 1.02 wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() != CONNECT_TOKEN_BYTES {
            return Err(TokenError::Size(bytes.len()));
        }
        let mut reader = Reader::new(bytes);
        if reader.array() != Some(VERSION) {
            return Err(TokenError::Version);
        }
        let mut token = Self::read(&mut reader).ok_or(TokenError::Malformed)?;
        token.cipher = SessionCipher::read(bytes, PUBLIC_EXTENSION);
        if token.created > token.expiry {
            return Err(TokenError::Malformed);
        }
        Ok(token)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            protocol_id: reader.u64()?,
            created: reader.u64()?,
            expiry: reader.u64()?,
            nonce: *reader.array()?,
            sealed: Box::new(*reader.array()?),
            timeout: reader.u32()?.cast_signed(),
            addresses: read_addresses(reader)?,
            client_to_server: Key::from_bytes(*reader.array()?),
            server_to_client: Key::from_bytes(*reader.array()?),
            cipher: SessionCipher::default(),
        })
    }

    /// The token as 2048 bytes, the same on every implementation of NETCODE 1.02.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![0; CONNECT_TOKEN_BYTES]);
        let mut writer = Writer::new(&mut bytes);
        writer.put(VERSION);
        writer.u64(self.protocol_id);
        writer.u64(self.created);
        writer.u64(self.expiry);
        writer.put(&self.nonce);
        writer.put(&*self.sealed);
        writer.u32(self.timeout.cast_unsigned());
        write_addresses(&mut writer, &self.addresses);
        writer.put(self.client_to_server.as_bytes());
        writer.put(self.server_to_client.as_bytes());
        self.cipher.write(&mut bytes, PUBLIC_EXTENSION);
        bytes
    }

    /// The token as 2731 characters of base64url; what [`FromStr`] reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::encode(&self.to_bytes())
    }

    /// The protocol id that the token is for.
    pub fn protocol_id(&self) -> u64 {
        self.protocol_id
    }

    /// When the token was made, by the issuer's clock.
    pub fn created(&self) -> Wall {
        Wall::from_unix(self.created)
    }

    /// When the token ceases to be of use, by the issuer's clock.
    pub fn expiry(&self) -> Wall {
        Wall::from_unix(self.expiry)
    }

    /// Whom the token is for, as a server with `key` will see it; `None` if it was sealed under another key. For tools of
    /// the issuer: a server that opens a token by this has not checked anything else.
    pub fn open(&self, key: &Key) -> Option<Identity> {
        let mut sealed = self.sealed.clone();
        let text = PrivateToken::open(&mut sealed, self.protocol_id, self.expiry, &self.nonce, key)?;
        PrivateToken::parse(text).map(|token| token.identity)
    }

    /// How a connection with this token is sealed.
    pub fn cipher(&self) -> SessionCipher {
        self.cipher
    }

    /// The servers, in the order in which a client tries them.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl fmt::Debug for ConnectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectToken")
            .field("protocol_id", &format_args!("{:#018x}", self.protocol_id))
            .field("created", &self.created)
            .field("expiry", &self.expiry)
            .field("addresses", &self.addresses)
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

impl FromStr for ConnectToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let bytes = text::decode(text, CONNECT_TOKEN_BYTES).ok_or(TokenError::Text)?;
        Self::from_bytes(&bytes)
    }
}

/// Why a token cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The key is all zero.
    #[error("the all-zero key protects nothing; generate one")]
    ZeroKey,
    /// No address, or more than 32.
    #[error("a token names 1 to {MAX_ADDRESSES} server addresses, not {0}")]
    Addresses(usize),
    /// Less than a second, or beyond the end of time.
    #[error("the lifetime of a token is at least one second; 45 s is recommended")]
    Lifetime,
    /// Out of range.
    #[error("the timeout in a token is 1 to 60 s")]
    Timeout,
}

/// Why bytes or a text are no connect token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is not base64url of the right length.
    #[error("a connect token is 2731 characters of base64url")]
    Text,
    /// The wrong number of bytes.
    #[error("a connect token has {CONNECT_TOKEN_BYTES} bytes, not {0}")]
    Size(usize),
    /// A token of another version of the protocol.
    #[error("the token is not of NETCODE 1.02")]
    Version,
    /// Fields that no issuer writes.
    #[error("the token is malformed: its times or addresses make no sense")]
    Malformed,
}

/// What is sealed inside a token for the server.
#[derive(Debug)]
pub(crate) struct PrivateToken {
    /// Seconds; zero or less where the issuer has no wish.
    pub(crate) timeout: i32,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) client_to_server: Key,
    pub(crate) server_to_client: Key,
    pub(crate) identity: Identity,
    pub(crate) cipher: SessionCipher,
}

impl PrivateToken {
    fn seal(&self, out: &mut [u8; PRIVATE_BYTES], protocol_id: u64, expiry: u64, nonce: &[u8; 24], key: &Key) {
        let (text, tag) = out.split_at_mut(PRIVATE_TEXT);
        self.write(text);
        tag.copy_from_slice(&seal_extended(key, nonce, &associated_data(protocol_id, expiry), text));
    }

    /// Writes what [`parse`](Self::parse) reads; the rest of `text` stays as it is.
    pub(crate) fn write(&self, text: &mut [u8]) {
        let mut writer = Writer::new(text);
        writer.u64(self.identity.client_id);
        writer.u32(self.timeout.cast_unsigned());
        write_addresses(&mut writer, &self.addresses);
        writer.put(self.client_to_server.as_bytes());
        writer.put(self.server_to_client.as_bytes());
        writer.put(&self.identity.user_data);
        self.cipher.write(text, PRIVATE_EXTENSION);
    }

    /// The tag of a sealed token: unique per token, so it names the token.
    pub(crate) fn mac(sealed: &[u8; PRIVATE_BYTES]) -> Tag {
        let (_, tag) = sealed.split_last_chunk().expect("a sealed token is longer than its tag");
        *tag
    }

    /// Opens a sealed token where it lies; reading is [`parse`](Self::parse). `None` if it was not sealed under `key`
    /// for this protocol id and expiry.
    pub(crate) fn open<'a>(
        sealed: &'a mut [u8; PRIVATE_BYTES],
        protocol_id: u64,
        expiry: u64,
        nonce: &[u8; 24],
        key: &Key,
    ) -> Option<&'a mut [u8]> {
        open_extended(key, nonce, &associated_data(protocol_id, expiry), sealed)
    }

    /// Reads an opened token. `None` if its fields make no sense.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(text);
        let client_id = reader.u64()?;
        Some(Self {
            timeout: reader.u32()?.cast_signed(),
            addresses: read_addresses(&mut reader)?,
            client_to_server: Key::from_bytes(*reader.array()?),
            server_to_client: Key::from_bytes(*reader.array()?),
            identity: Identity { client_id, user_data: *reader.array()? },
            cipher: SessionCipher::read(text, PRIVATE_EXTENSION),
        })
    }
}

fn associated_data(protocol_id: u64, expiry: u64) -> [u8; 29] {
    let mut data = [0; 29];
    data[..13].copy_from_slice(VERSION);
    data[13..21].copy_from_slice(&protocol_id.to_le_bytes());
    data[21..].copy_from_slice(&expiry.to_le_bytes());
    data
}

fn write_addresses(writer: &mut Writer<'_>, addresses: &[SocketAddr]) {
    // At most MAX_ADDRESSES: checked where tokens are issued and read.
    writer.u32(addresses.len() as u32);
    for address in addresses {
        writer.address(address);
    }
}

fn read_addresses(reader: &mut Reader<'_>) -> Option<Vec<SocketAddr>> {
    let count = usize::try_from(reader.u32()?).ok()?;
    if !(1..=MAX_ADDRESSES).contains(&count) {
        return None;
    }
    (0..count).map(|_| reader.address()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SeededRandom;

    fn key() -> Key {
        Key::from_bytes([3; 32])
    }

    fn issue(addresses: &[SocketAddr]) -> ConnectToken {
        let key = key();
        let request = IssueRequest { user_data: [7; 256], ..IssueRequest::new(0x1122, &key, 42, addresses) };
        ConnectToken::issue(&request, Wall::from_unix(1000), &mut SeededRandom::new(5)).unwrap()
    }

    fn addresses(count: usize) -> Vec<SocketAddr> {
        (0..count)
            .map(|index| {
                let port = 4000 + index as u16;
                if index % 2 == 0 { ([10, 0, 0, 1], port).into() } else { ([0xfd00, 0, 0, 0, 0, 0, 0, 7], port).into() }
            })
            .collect()
    }

    #[test]
    fn the_server_reads_what_the_issuer_sealed() {
        for count in [1, 2, 32] {
            let mut token = issue(&addresses(count));
            let text = PrivateToken::open(&mut token.sealed, 0x1122, 1045, &token.nonce, &key()).unwrap();
            let private = PrivateToken::parse(text).unwrap();
            assert_eq!(private.identity, Identity { client_id: 42, user_data: [7; 256] });
            assert_eq!(private.addresses, addresses(count));
            assert_eq!(private.timeout, 10);
            assert_eq!(private.client_to_server, token.client_to_server);
            assert_eq!(private.server_to_client, token.server_to_client);
        }
    }

    #[test]
    fn the_issuer_can_look_into_its_own_tokens() {
        let token = issue(&addresses(1));
        assert_eq!(token.open(&key()), Some(Identity { client_id: 42, user_data: [7; 256] }));
        assert_eq!(token.open(&Key::from_bytes([4; 32])), None);
    }

    #[test]
    fn a_sealed_token_opens_for_its_protocol_and_expiry_only() {
        let token = issue(&addresses(1));
        let open = |protocol_id, expiry, key: &Key| {
            PrivateToken::open(&mut token.sealed.clone(), protocol_id, expiry, &token.nonce, key).is_some()
        };
        assert!(open(0x1122, 1045, &key()));
        assert!(!open(0x1123, 1045, &key()));
        assert!(!open(0x1122, 1046, &key()));
        assert!(!open(0x1122, 1045, &Key::from_bytes([4; 32])));
    }

    #[test]
    fn a_token_survives_bytes_and_text() {
        let token = issue(&addresses(32));
        let bytes = token.to_bytes();
        assert_eq!(bytes.len(), CONNECT_TOKEN_BYTES);
        assert_eq!(ConnectToken::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        assert_eq!(token.to_text().len(), 2731);
        assert_eq!(token.to_text().parse::<ConnectToken>().unwrap().to_bytes(), bytes);
    }

    #[test]
    fn two_tokens_share_neither_nonce_nor_keys() {
        let mut random = SeededRandom::new(9);
        let (key, addresses) = (key(), addresses(1));
        let request = IssueRequest::new(1, &key, 1, &addresses);
        let mut issue = || ConnectToken::issue(&request, Wall::from_unix(0), &mut random).unwrap();
        let (first, second) = (issue(), issue());
        assert_ne!(first.nonce, second.nonce);
        assert_ne!(first.client_to_server, second.client_to_server);
        assert_ne!(first.server_to_client, second.server_to_client);
        assert_ne!(first.client_to_server, first.server_to_client);
    }

    #[test]
    fn unusable_requests_are_refused() {
        let (zero, key, one) = (Key::from_bytes([0; 32]), key(), addresses(1));
        let issue = |request: IssueRequest<'_>| {
            ConnectToken::issue(&request, Wall::from_unix(1), &mut SeededRandom::new(1)).unwrap_err()
        };
        let good = IssueRequest::new(1, &key, 1, &one);
        assert_eq!(issue(IssueRequest { key: &zero, ..good.clone() }), IssueError::ZeroKey);
        assert_eq!(issue(IssueRequest { addresses: &[], ..good.clone() }), IssueError::Addresses(0));
        assert_eq!(issue(IssueRequest { addresses: &addresses(33), ..good.clone() }), IssueError::Addresses(33));
        assert_eq!(issue(IssueRequest { lifetime: Duration::from_millis(900), ..good.clone() }), IssueError::Lifetime);
        assert_eq!(issue(IssueRequest { timeout: Duration::from_secs(61), ..good.clone() }), IssueError::Timeout);
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let good = issue(&addresses(1)).to_bytes();
        let with = |at: usize, value: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = value;
            ConnectToken::from_bytes(&bytes).map(drop).unwrap_err()
        };
        assert_eq!(ConnectToken::from_bytes(&good[1..]).unwrap_err(), TokenError::Size(2047));
        assert_eq!(with(0, b'n'), TokenError::Version);
        assert_eq!(with(21 + 7, 1), TokenError::Malformed, "created after expiry");
        let count = 13 + 24 + 24 + 1024 + 4;
        assert_eq!(with(count, 0), TokenError::Malformed, "no address");
        assert_eq!(with(count, 33), TokenError::Malformed, "too many addresses");
        assert_eq!(with(count + 4, 0), TokenError::Malformed, "address type 0");
        assert_eq!(with(count + 4, 3), TokenError::Malformed, "address type 3");
        assert_eq!("x".parse::<ConnectToken>().unwrap_err(), TokenError::Text);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let token = issue(&addresses(1));
        let shown = format!("{token:?}");
        assert!(shown.contains("10.0.0.1:4000"));
        assert!(!shown.contains("Key") && !shown.contains("sealed"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), CONNECT_TOKEN_BYTES),
            count in 0u32..40,
            plausible: bool,
        ) {
            let mut bytes = bytes;
            if plausible {
                bytes[..13].copy_from_slice(VERSION);
                bytes[21..29].fill(0);
                bytes[1089..1093].copy_from_slice(&count.to_le_bytes());
            }
            if let Ok(token) = ConnectToken::from_bytes(&bytes) {
                let again = ConnectToken::from_bytes(&token.to_bytes()).unwrap();
                prop_assert_eq!(again.to_bytes(), token.to_bytes());
            }
            let _ = PrivateToken::parse(&bytes[..PRIVATE_TEXT]);
        }
    }
}
