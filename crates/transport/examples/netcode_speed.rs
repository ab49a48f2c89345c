//! Prints what sealing costs: AEAD providers side by side, and the netcode machines per packet and per join.
//!
//! ```text
//! cargo run --release -p netstream-transport --features portable-crypto --example netcode_speed
//! ```

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netstream_transport::crypto::portable::PortableCipher;
use netstream_transport::crypto::{Aead, Key, RingCipher};
use netstream_transport::netcode::client::{ClientConfig, Credentials};
use netstream_transport::netcode::server::Received;
use netstream_transport::netcode::{
    Client, ConnectToken, HEADROOM, IssueRequest, KeyRing, MAX_DATAGRAM_OUT, Server, ServerConfig,
};
use netstream_transport::{Limits, Mono, Now, SeededRandom, Wall};

const BATCH: usize = 64;

/// The best of several rounds, in nanoseconds per call: what the machine can do when nothing disturbs it.
fn best_of(calls: usize, mut round: impl FnMut()) -> f64 {
    let time = |round: &mut dyn FnMut()| {
        let start = Instant::now();
        round();
        start.elapsed()
    };
    let best = (0..400).map(|_| time(&mut round)).min().unwrap();
    best.as_nanos() as f64 / calls as f64
}

fn provider<A: Aead>(name: &str) {
    let cipher = A::new(&Key::from_bytes([7; 32]));
    let aad = [1; 22];
    for size in [100, 1200] {
        let mut texts = vec![vec![0u8; size + 16]; BATCH];
        let seal = best_of(BATCH, || {
            for (number, text) in texts.iter_mut().enumerate() {
                let (text, tag) = text.split_at_mut(size);
                tag.copy_from_slice(&cipher.seal_in_place([number as u8; 12], &aad, black_box(text)));
            }
        });
        let mut sealed = vec![vec![0u8; size + 16]; BATCH];
        for (number, text) in sealed.iter_mut().enumerate() {
            let (text, tag) = text.split_at_mut(size);
            tag.copy_from_slice(&cipher.seal_in_place([number as u8; 12], &aad, text));
        }
        let mut copies = sealed.clone();
        let copy = best_of(BATCH, || copies.clone_from(black_box(&sealed)));
        let open = best_of(BATCH, || {
            copies.clone_from(&sealed);
            for (number, text) in copies.iter_mut().enumerate() {
                assert!(cipher.open_in_place([number as u8; 12], &aad, black_box(text)).is_some());
            }
        });
        println!("{name:<12} {size:>5} B   seal {seal:>7.0} ns   open {:>7.0} ns", open - copy);
    }
}

struct Bench {
    server: Server,
    clients: Vec<(SocketAddr, Client)>,
    now: Now,
    random: SeededRandom,
}

const SERVER: ([u8; 4], u16) = ([203, 0, 113, 1], 7979);
const START: u64 = 1_900_000_000;

impl Bench {
    fn new(connections: usize) -> Self {
        let mut limits = Limits::default();
        limits.connections = connections;
        limits.replies = 10_000_000;
        limits.token_opens = 10_000_000;
        limits.unauthenticated_packets = u32::MAX;
        limits.pending_handshakes = connections;
        (limits.inbound_packets, limits.inbound_packet_burst) = (u32::MAX, u32::MAX);
        (limits.inbound_bytes, limits.inbound_byte_burst) = (u32::MAX, u32::MAX);
        let mut keys = KeyRing::new();
        keys.add_key(1, Key::from_bytes([9; 32])).unwrap();
        let mut config = ServerConfig::new(keys);
        config.addresses = vec![SERVER.into()];
        let mut random = SeededRandom::new(1);
        let start = Now { mono: Mono::ZERO, wall: Wall::from_unix(START - 2) };
        let server = Server::new(config, &limits, &mut random, start);
        let now = Now { mono: Mono::from_nanos(2_000_000_000), wall: Wall::from_unix(START) };
        Self { server, clients: Vec::new(), now, random }
    }

    /// Lets `count` clients connect, and returns what the server's part cost in nanoseconds per join.
    fn join(&mut self, count: usize) -> f64 {
        let (key, servers) = (Key::from_bytes([9; 32]), [SERVER.into()]);
        for number in 0..count {
            let request = IssueRequest::new(1, &key, number as u64, &servers);
            let token = ConnectToken::issue(&request, self.now.wall, &mut self.random).unwrap();
            let config = ClientConfig {
                credentials: Credentials::Token(Box::new(token)),
                addresses: Vec::new(),
                allow_local: false,
                cipher: Default::default(),
            };
            let client = Client::new(config, &Limits::default(), &mut self.random, self.now).unwrap();
            let at = SocketAddr::from(([10, (number >> 8) as u8, number as u8, 1], 5000));
            self.clients.push((at, client));
        }
        let mut spent = Duration::ZERO;
        let mut buf = [0; MAX_DATAGRAM_OUT];
        for _ in 0..3 {
            let mut arriving = Vec::new();
            for (at, client) in &mut self.clients {
                while let Some(transmit) = client.poll_transmit(self.now, &mut buf) {
                    arriving.push((*at, buf[..transmit.len].to_vec()));
                }
            }
            let mut leaving = Vec::new();
            let start = Instant::now();
            for (from, datagram) in &mut arriving {
                self.server.handle_datagram(self.now, *from, datagram);
                while self.server.poll_event().is_some() {}
            }
            self.server.tick(self.now);
            while let Some(transmit) = self.server.poll_transmit(self.now, &mut buf) {
                leaving.push((transmit.to, buf[..transmit.len].to_vec()));
            }
            spent += start.elapsed();
            for (to, mut datagram) in leaving {
                let (_, client) = &mut self.clients[address_index(to)];
                client.handle_datagram(self.now, SERVER.into(), &mut datagram);
            }
        }
        assert_eq!(self.server.connections(), count);
        spent.as_nanos() as f64 / count as f64
    }
}

fn address_index(address: SocketAddr) -> usize {
    let SocketAddr::V4(address) = address else { unreachable!("all addresses here are IPv4") };
    let [_, high, low, _] = address.ip().octets();
    usize::from(high) << 8 | usize::from(low)
}

fn machines(count: usize) {
    let mut bench = Bench::new(count);
    let join = bench.join(count);
    let now = bench.now;
    let ids: Vec<_> =
        (0..count as u32).map(|index| netstream_transport::ConnectionId { index, generation: 0 }).collect();
    let mut buf = [0; MAX_DATAGRAM_OUT];
    for size in [60, 1000] {
        let seal = best_of(count, || {
            for &id in &ids {
                let body = &mut buf[HEADROOM..HEADROOM + size];
                body[0] = 1;
                black_box(bench.server.seal_payload(now, id, &mut buf, size)).unwrap();
            }
        });
        let mut spent = f64::MAX;
        for _ in 0..50 {
            let mut arriving: Vec<_> = bench
                .clients
                .iter_mut()
                .map(|(at, client)| {
                    let (_, range) = client.seal_payload(now, &mut buf, size).unwrap();
                    (*at, buf[range].to_vec())
                })
                .collect();
            let start = Instant::now();
            for (from, datagram) in &mut arriving {
                let received = bench.server.handle_datagram(now, *from, datagram);
                assert!(matches!(received, Received::Payload { .. }));
            }
            spent = spent.min(start.elapsed().as_nanos() as f64 / count as f64);
        }
        println!("{count:>5} clients {size:>5} B   seal_payload {seal:>5.0} ns   handle_datagram {spent:>5.0} ns");
    }
    let idle = best_of(1000, || {
        for _ in 0..1000 {
            bench.server.tick(black_box(now));
        }
    });
    println!("{count:>5} clients            join {join:>13.0} ns   idle tick {idle:>11.0} ns");
}

fn main() {
    provider::<RingCipher>("ring");
    provider::<PortableCipher>("RustCrypto");
    for count in [100, 1000, 4000] {
        machines(count);
    }
}
