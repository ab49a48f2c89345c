//! FZ4: the server's machine under a script: packets from four addresses with genuine, mutated and forged tokens,
//! responses and packets, copies of what was sent before, time, and the wishes of the layer above.
#![no_main]

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::*;
use netstream_transport::netcode::server::{Event, Received};
use netstream_transport::netcode::{
    ConnectToken, Farewell, HEADROOM, IdentityPolicy, KeyRing, MAX_BODY, MAX_DATAGRAM_OUT, Server, ServerConfig,
    fuzzing,
};
use netstream_transport::{ConnectionId, Limits, SeededRandom};

/// Tokens 0 and 1 are of different players, 2 is of player 1 again, 3 is for player 3.
const PLAYERS: [u64; 4] = [1, 2, 1, 3];

/// The most connections.
const ROOM: usize = 2;

struct World {
    server: Server,
    tokens: Vec<ConnectToken>,
    /// The newest challenge that each token has had.
    challenges: [Option<Vec<u8>>; 4],
    nanos: u64,
    /// What arrived from and left for each address.
    traffic: HashMap<SocketAddr, (usize, usize)>,
    /// Addresses that have proven themselves.
    proven: HashSet<SocketAddr>,
    /// Who has been reported and not freed; whether it was closed.
    known: HashMap<ConnectionId, bool>,
    accepted: usize,
    /// Everything that was sent to the server.
    history: Vec<Vec<u8>>,
}

fuzz_target!(|data: &[u8]| {
    play(data, World::new, World::step).finish();
});

impl World {
    fn new(settings: u8) -> Self {
        let mut keys = KeyRing::new();
        keys.add_key(PROTOCOL, key()).expect("not zero");
        let mut config = ServerConfig::new(keys);
        config.addresses = vec![server_address()];
        if settings & 1 == 1 {
            config.identities = IdentityPolicy::RejectNew;
        }
        let mut limits = Limits::default();
        limits.connections = ROOM;
        limits.pending_handshakes = if settings & 2 == 2 { 3 } else { 16 };
        limits.consumed_tokens = if settings & 4 == 4 { 2 } else { 64 };
        Self {
            server: Server::new(config, &limits, &mut SeededRandom::new(1), started()),
            tokens: (100..).zip(PLAYERS).map(|(seed, player)| issue(seed, player, &[server_address()])).collect(),
            challenges: [const { None }; 4],
            nanos: 0,
            traffic: HashMap::new(),
            proven: HashSet::new(),
            known: HashMap::new(),
            accepted: 0,
            history: Vec::new(),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.u8() % 12 {
            0 => {
                self.nanos += u64::from(script.u8()) * 8_000_000;
                self.server.tick(now(self.nanos));
                self.settle();
            }
            1 => {
                let (token, from) = (self.token(script), script.u8());
                let request = fuzzing::request(&self.tokens[token]);
                self.arrive(from, request);
            }
            2 => {
                let (token, from) = (self.token(script), script.u8());
                let mut request = fuzzing::request(&self.tokens[token]);
                let at = usize::from(script.u16()) % request.len();
                request[at] ^= script.u8();
                self.arrive(from, request);
            }
            3 => {
                let (token, from) = (self.token(script), script.u8());
                let token = &self.tokens[token];
                let text = fuzzing::private_text(token, &key()).expect("our own key");
                let mut text: [u8; fuzzing::PRIVATE_TEXT] = text.try_into().expect("the size of a private token");
                patch(&mut text, script);
                let request = fuzzing::request_with(token, &text, &key());
                self.arrive(from, request);
            }
            4 | 5 => {
                let (token, from, sequence) = (self.token(script), script.u8(), script.number());
                let Some(mut body) = self.challenges[token].clone() else { return };
                if script.u8() & 1 == 1 {
                    patch(&mut body, script);
                }
                let [key, _] = fuzzing::keys(&self.tokens[token]);
                let response = fuzzing::seal(3, sequence, &body, PROTOCOL, &key).expect("type 3");
                self.arrive(from, response);
            }
            6 => {
                let (token, from) = (self.token(script), script.u8());
                let (kind, sequence) = (script.u8(), script.number());
                let [key, _] = fuzzing::keys(&self.tokens[token]);
                let Some(packet) = fuzzing::seal(kind, sequence, script.bytes(), PROTOCOL, &key) else { return };
                self.arrive(from, packet);
            }
            7 => {
                let from = script.u8();
                self.arrive(from, script.bytes().to_vec());
            }
            8 => {
                let Some(id) = self.connection(script.u8()) else { return };
                let farewell = match script.u8() % 3 {
                    0 => Farewell::Goodbye,
                    1 => Farewell::Linger(Duration::from_millis(script.u16().into())),
                    _ => Farewell::Silent,
                };
                self.server.close(now(self.nanos), id, farewell);
                if let Some(closed) = self.known.get_mut(&id) {
                    *closed = true;
                }
                self.settle();
            }
            9 => {
                let Some(id) = self.connection(script.u8()) else { return };
                let length = 1 + usize::from(script.u16()) % MAX_BODY;
                let mut buf = [0; MAX_DATAGRAM_OUT];
                buf[HEADROOM] = 1;
                if let Some((to, range)) = self.server.seal_payload(now(self.nanos), id, &mut buf, length) {
                    assert!(self.proven.contains(&to) && range.end <= MAX_DATAGRAM_OUT);
                }
            }
            10 => match script.u8() % 4 {
                0 => self.server.set_accepting(false),
                1 => self.server.set_accepting(true),
                2 => self.server.hurry_goodbyes(),
                _ => {
                    let mut limits = Limits::default();
                    limits.connections = ROOM;
                    limits.pending_handshakes = usize::from(script.u8() % 8);
                    limits.unauthenticated_packets = script.u8().into();
                    limits.inbound_packets = 1 + u32::from(script.u8());
                    self.server.set_limits(&limits);
                }
            },
            _ => {
                let (which, from) = (usize::from(script.u8()), script.u8());
                let Some(copy) = self.history.get(which).cloned() else { return };
                self.arrive(from, copy);
            }
        }
    }

    fn token(&self, script: &mut Script<'_>) -> usize {
        usize::from(script.u8()) % self.tokens.len()
    }

    fn connection(&self, number: u8) -> Option<ConnectionId> {
        let mut ids: Vec<_> = self.known.keys().copied().collect();
        ids.sort();
        ids.get(usize::from(number) % ids.len().max(1)).copied()
    }

    /// The upper bits of `from` say whose datagram the server thinks this is: nobody's, the right one's, another's.
    fn arrive(&mut self, from: u8, mut datagram: Vec<u8>) {
        let expected = (0..from >> 6).map(|number| address(from.wrapping_add(number)));
        expected.for_each(|from| self.server.expect(from));
        fuzzing::look_ahead(&self.server);
        let from = address(from);
        if self.history.len() < 256 {
            self.history.push(datagram.clone());
        }
        self.traffic.entry(from).or_default().0 += datagram.len();
        let known: HashSet<_> = self.known.keys().copied().collect();
        match self.server.handle_datagram(now(self.nanos), from, &mut datagram) {
            Received::Nothing => {}
            Received::KeepAlive { connection } => assert!(known.contains(&connection)),
            Received::Payload { connection, body } => {
                assert!(known.contains(&connection) && (1..=1200).contains(&body.len()));
            }
        }
        self.settle();
    }

    /// Takes everything that the machine has to say, and checks what must always hold.
    fn settle(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Accepted { connection, address } => {
                    self.proven.insert(address);
                    self.accepted += 1;
                    assert!(self.known.insert(connection, false).is_none());
                }
                Event::Refused { connection, .. } => {
                    let address = self.server.address(connection).expect("the refused one is still there");
                    self.proven.insert(address);
                    assert!(self.known.insert(connection, true).is_none());
                }
                Event::Confirmed { connection } => assert!(self.known.contains_key(&connection)),
                Event::Closed { connection, .. } => {
                    let closed = self.known.get_mut(&connection).expect("closed after it was known");
                    assert!(!std::mem::replace(closed, true), "closed twice");
                }
                Event::Freed { connection } => assert!(self.known.remove(&connection).is_some()),
            }
        }
        let mut buf = [0; MAX_DATAGRAM_OUT];
        while let Some(transmit) = self.server.poll_transmit(now(self.nanos), &mut buf) {
            let datagram = &buf[..transmit.len];
            let (arrived, left) = self.traffic.get_mut(&transmit.to).expect("nobody is spoken to unasked");
            *left += datagram.len();
            assert!(self.proven.contains(&transmit.to) || left <= arrived, "amplification");
            for (token, challenge) in self.tokens.iter().zip(&mut self.challenges) {
                let [_, key] = fuzzing::keys(token);
                if let Some(body) = fuzzing::open(datagram, PROTOCOL, &key)
                    && body.len() == 308
                {
                    *challenge = Some(body);
                }
            }
        }
        assert!(self.server.connections() <= ROOM);
        let live = self.known.values().filter(|closed| !**closed).count();
        assert_eq!(self.server.connections(), live);
        // One token makes one connection; a forged one is another token, of which a script has few.
        assert!(self.accepted <= 64);
    }

    /// When nothing more arrives, everything ends.
    fn finish(&mut self) {
        for _ in 0..80 {
            self.nanos += 1_000_000_000;
            self.server.tick(now(self.nanos));
            self.settle();
        }
        assert!(self.known.is_empty(), "{:?}", self.known);
        self.server.metrics(&mut |name, value| {
            if ["connections", "goodbyes", "pending_handshakes", "consumed_tokens"].contains(&name) {
                assert_eq!(value, 0, "{name}");
            }
        });
    }
}

/// Writes bytes of the script over `text`.
fn patch(text: &mut [u8], script: &mut Script<'_>) {
    let at = usize::from(script.u16()) % text.len();
    let bytes = script.bytes();
    for (byte, new) in text[at..].iter_mut().zip(bytes) {
        *byte = *new;
    }
}
