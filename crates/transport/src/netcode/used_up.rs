//! What happens when a connection has sealed as much as its key may.

use std::net::SocketAddr;
use std::time::Duration;

use super::session::AES_PACKETS;
use super::{Client, JoinCode, KeyRing, LARGEST_DATAGRAM, Server, ServerConfig, SessionCipher, client, server};
use crate::{ConnectionId, DisconnectCode, DisconnectReason, Limits, Mono, Now, Origin, Random, SeededRandom, Wall};

/// Packets that leave in 10 ms.
const BATCH: u64 = 40;

struct Pair {
    server: Server,
    client: Client,
    now: Now,
    connection: Option<ConnectionId>,
    server_closed: Option<DisconnectReason>,
    client_closed: Option<DisconnectReason>,
}

impl Pair {
    fn connect(cipher: SessionCipher) -> Self {
        let mut random = SeededRandom::new(1);
        let now = Now { mono: Mono::from_nanos(1), wall: Wall::from_unix(2_000_000_000) };
        let code = JoinCode::random(&mut random);
        let mut keys = KeyRing::new();
        keys.add_join_code(7, &code);
        let server = Server::new(ServerConfig::new(keys), &Limits::default(), &mut random, now);
        let credentials = client::Credentials::JoinCode {
            code,
            protocol_id: 7,
            client_id: random.u64(),
            user_data: Box::new([0; 256]),
        };
        let config = client::ClientConfig { credentials, addresses: vec![at(1)], allow_local: true, cipher };
        let client = Client::new(config, &Limits::default(), &mut random, now).unwrap();
        let mut pair = Self { server, client, now, connection: None, server_closed: None, client_closed: None };
        (0..20).for_each(|_| pair.step());
        assert!(pair.connection.is_some());
        pair
    }

    /// Both look, and what they say arrives.
    fn step(&mut self) {
        self.now.mono = self.now.mono + Duration::from_millis(10);
        let (now, mut buf) = (self.now, [0; LARGEST_DATAGRAM]);
        self.client.tick(now);
        while let Some(transmit) = self.client.poll_transmit(now, &mut buf) {
            self.server.handle_datagram(now, at(2), &mut buf[..transmit.len]);
        }
        self.server.tick(now);
        while let Some(transmit) = self.server.poll_transmit(now, &mut buf) {
            self.client.handle_datagram(now, at(1), &mut buf[..transmit.len]);
        }
        while let Some(event) = self.server.poll_event() {
            match event {
                server::Event::Accepted { connection, .. } => self.connection = Some(connection),
                server::Event::Closed { reason, .. } => self.server_closed = Some(reason),
                _ => {}
            }
        }
        while let Some(event) = self.client.poll_event() {
            if let client::Event::Closed { reason } = event {
                self.client_closed = Some(reason);
            }
        }
    }

    /// The server sends so many payloads, of which the last arrives.
    fn server_sends(&mut self, count: u64) {
        let (id, mut buf) = (self.connection.unwrap(), [0; LARGEST_DATAGRAM]);
        let sealed = (0..count).map(|_| self.server.seal_payload(self.now, id, &mut buf, 1).unwrap().1).last();
        assert!(self.client.handle_datagram(self.now, at(1), &mut buf[sealed.unwrap()]).is_some());
        self.step();
    }

    /// The same for the client.
    fn client_sends(&mut self, count: u64) {
        let mut buf = [0; LARGEST_DATAGRAM];
        let sealed = (0..count).map(|_| self.client.seal_payload(self.now, &mut buf, 1).unwrap().1).last();
        let received = self.server.handle_datagram(self.now, at(2), &mut buf[sealed.unwrap()]);
        assert!(matches!(received, server::Received::Payload { .. }));
        self.step();
    }
}

fn at(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 7979).into()
}

fn is_used_up(reason: Option<&DisconnectReason>) -> bool {
    reason.is_some_and(|DisconnectReason { code, origin, text }| {
        (*code, *origin) == (DisconnectCode::LinkError, Origin::Link) && text.as_str().contains("used up")
    })
}

#[test]
fn a_server_ends_a_connection_whose_keys_are_used_up_and_says_why_while_it_can() {
    let mut pair = Pair::connect(SessionCipher::Aes128Gcm);
    let mut sent = 0;
    while pair.server_closed.is_none() {
        pair.server_sends(BATCH);
        sent += BATCH;
    }
    assert!(is_used_up(pair.server_closed.as_ref()), "{:?}", pair.server_closed);
    assert!((AES_PACKETS / 10 * 9..AES_PACKETS).contains(&sent), "{sent}");
    // For the layer above to tell the client.
    pair.server_sends(1);
}

#[test]
fn a_client_ends_a_connection_whose_keys_are_used_up_and_the_server_hears_of_it() {
    let mut pair = Pair::connect(SessionCipher::Aes128Gcm);
    while pair.client_closed.is_none() {
        pair.client_sends(BATCH);
    }
    assert!(is_used_up(pair.client_closed.as_ref()), "{:?}", pair.client_closed);
    (0..100).for_each(|_| pair.step());
    assert_eq!(pair.server_closed, Some(DisconnectReason::remote(DisconnectCode::ConnectionClose)));
}

#[test]
fn chacha20_is_not_used_up_by_as_many() {
    let mut pair = Pair::connect(SessionCipher::ChaCha20Poly1305);
    (0..AES_PACKETS / BATCH + 10).for_each(|_| pair.server_sends(BATCH));
    assert_eq!((pair.server_closed, pair.client_closed), (None, None));
}
