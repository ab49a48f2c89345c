//! FZ5: the client's machine against a server that holds the keys and does as it likes.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::*;
use netstream_transport::crypto::Key;
use netstream_transport::netcode::client::{ClientConfig, Credentials, Event};
use netstream_transport::netcode::{Client, Farewell, HEADROOM, JoinCode, MAX_BODY, MAX_DATAGRAM_OUT, fuzzing};
use netstream_transport::{Limits, SeededRandom};

struct World {
    client: Client,
    /// The server's sealing key. A client with a join code makes its own; then nothing ever opens.
    key: Key,
    nanos: u64,
    /// Requests and responses in the current second of the machine's clock.
    asked: (u64, usize),
    connected: usize,
    closed: usize,
    freed: usize,
    history: Vec<Vec<u8>>,
}

fuzz_target!(|data: &[u8]| {
    play(data, World::new, World::step).finish();
});

impl World {
    fn new(settings: u8) -> Self {
        let token = token(1);
        let [_, key] = fuzzing::keys(&token);
        let (credentials, addresses) = if settings & 1 == 0 {
            (Credentials::Token(Box::new(token)), Vec::new())
        } else {
            let code = JoinCode::random(&mut SeededRandom::new(3));
            let user_data = Box::new([7; 256]);
            let shown = Credentials::JoinCode { code, protocol_id: PROTOCOL, client_id: 1, user_data };
            (shown, vec![server_address(), address(1)])
        };
        let config = ClientConfig { credentials, addresses, allow_local: false, cipher: Default::default() };
        let client = Client::new(config, &Limits::default(), &mut SeededRandom::new(2), now(0)).expect("dialable");
        let (asked, history) = ((0, 0), Vec::new());
        Self { client, key, nanos: 0, asked, connected: 0, closed: 0, freed: 0, history }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.u8() % 9 {
            0 => {
                self.nanos += u64::from(script.u8()) * 8_000_000;
                self.tick();
            }
            1 => {
                // What an honest server would send next: challenge, then keep-alive.
                let sequence = script.number();
                self.arrive_sealed(2, 1 << 63 | sequence, &[9; 308]);
                self.arrive_sealed(4, sequence >> 2, &[0, 0, 0, 0, 1, 0, 0, 0]);
            }
            2 | 3 => {
                let (kind, sequence) = (script.u8(), script.number());
                self.arrive_sealed(kind, sequence, script.bytes());
            }
            4 => self.arrive(server_address(), script.bytes().to_vec()),
            5 => {
                let from = address(script.u8());
                let Some(packet) = fuzzing::seal(script.u8(), script.number(), script.bytes(), PROTOCOL, &self.key)
                else {
                    return;
                };
                let connected = self.connected;
                if from != self.client.server() {
                    self.arrive(from, packet);
                    assert_eq!(self.connected, connected, "a stranger was believed");
                }
            }
            6 => {
                let length = 1 + usize::from(script.u16()) % MAX_BODY;
                let mut buf = [0; MAX_DATAGRAM_OUT];
                if let Some((to, range)) = self.client.seal_payload(now(self.nanos), &mut buf, length) {
                    assert!(to == self.client.server() && range.len() > length);
                    assert!(range.start < HEADROOM && range.end <= MAX_DATAGRAM_OUT && self.connected == 1);
                }
            }
            7 => {
                let farewell = match script.u8() % 4 {
                    0 => Farewell::Goodbye,
                    1 => Farewell::Linger(Duration::from_millis(script.u16().into())),
                    2 => Farewell::Silent,
                    _ => return self.client.hurry_goodbyes(),
                };
                self.client.close(now(self.nanos), farewell);
                self.settle();
            }
            _ => {
                let Some(copy) = self.history.get(usize::from(script.u8())).cloned() else { return };
                self.arrive(self.client.server(), copy);
            }
        }
    }

    fn arrive_sealed(&mut self, kind: u8, sequence: u64, body: &[u8]) {
        let Some(packet) = fuzzing::seal(kind, sequence, body, PROTOCOL, &self.key) else { return };
        self.arrive(self.client.server(), packet);
    }

    fn arrive(&mut self, from: std::net::SocketAddr, mut datagram: Vec<u8>) {
        if self.history.len() < 256 {
            self.history.push(datagram.clone());
        }
        let body = self.client.handle_datagram(now(self.nanos), from, &mut datagram).map(|body| body.len());
        self.settle();
        assert!(body.is_none_or(|length| (1..=1200).contains(&length) && self.connected == 1));
    }

    fn tick(&mut self) {
        self.client.tick(now(self.nanos));
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(event) = self.client.poll_event() {
            assert_eq!(self.freed, 0, "{event:?} after the end");
            match event {
                Event::Connected { .. } => {
                    assert_eq!(self.closed, 0);
                    self.connected += 1;
                }
                Event::Closed { .. } => self.closed += 1,
                Event::Freed => self.freed += 1,
            }
        }
        assert!(self.connected <= 1 && self.closed <= 1);
        let mut buf = [0; MAX_DATAGRAM_OUT];
        let mut sent = 0;
        while let Some(transmit) = self.client.poll_transmit(now(self.nanos), &mut buf) {
            assert_eq!(transmit.to, self.client.server());
            let kind = buf[0] & 0xf;
            if kind == 0 || kind == 3 {
                let second = self.nanos / 1_000_000_000;
                self.asked = if self.asked.0 == second { (second, self.asked.1 + 1) } else { (second, 1) };
                // Ten a second, and one each for a new address and for going from request to response.
                assert!(self.asked.1 <= 14, "a client that asks too often");
            }
            sent += 1;
            assert!(sent <= 16, "a client that does not stop");
        }
    }

    /// In silence every client gives up.
    fn finish(&mut self) {
        for _ in 0..100 {
            self.nanos += 1_000_000_000;
            self.tick();
        }
        assert_eq!(self.freed, 1, "{:?}", self.client);
        assert!(self.client.poll_timeout().is_none());
    }
}
