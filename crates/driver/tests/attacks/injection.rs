//! T-A4: forgeries under the very addresses of a connection.

use netstream_driver::transport::{Random, SeededRandom};

use crate::arena::Arena;
use crate::attack;

attack!(no_forgery_under_the_peers_own_address_is_believed, t_a4_full: forgeries, 20_000, 10_000_000);

/// Random and mutated packets through the sockets of both ends, so that every address is right.
fn forgeries(count: u64) {
    let mut arena = Arena::with_server(|_| {});
    let client = arena.dial(&arena.token(1));
    let (server_tap, client_tap) = (arena.servers[0].tap.clone(), arena.clients[client].tap.clone());
    server_tap.record();
    client_tap.record();
    arena.run(std::time::Duration::from_millis(200));
    let (id, clock) = (arena.servers[0].accepted[0].0, arena.clock.clone());
    let (server, from_client) = (server_tap.local(), client_tap.local());
    for _ in 0..8 {
        let own = arena.clients[client].id.unwrap();
        arena.clients[client].send(&clock, own, b"genuine");
        arena.servers[0].send(&clock, id, b"genuine");
        arena.step();
    }
    arena.step();
    let genuine = (arena.servers[0].messages, arena.clients[client].messages);
    assert_eq!(genuine, (8, 8));
    let (to_client, to_server) = (server_tap.take(), client_tap.take());

    let mut random = SeededRandom::new(0xa4);
    let mut forged = Vec::new();
    let mut tried = 0;
    while tried < count {
        for (tap, to, seen) in [(&client_tap, server, &to_server), (&server_tap, from_client, &to_client)] {
            forged.clear();
            for _ in 0..200 {
                let mut bytes = seen[random.below(seen.len() as u64) as usize].bytes.clone();
                match random.below(4) {
                    // A bit turned: type, number, body or tag.
                    0 => {
                        let bit = random.below(bytes.len() as u64 * 8) as usize;
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    }
                    // A genuine packet as another type, e.g. a goodbye.
                    1 => bytes[0] = bytes[0] & 0xf0 | ((bytes[0] + 1 + random.below(6) as u8) % 7),
                    // A fresh number, e.g. far ahead.
                    2 => {
                        let length = usize::from(bytes[0] >> 4).max(1);
                        let before = bytes.clone();
                        random.fill(&mut bytes[1..=length]);
                        bytes[0] |= u8::from(bytes == before);
                    }
                    _ => {
                        bytes.truncate(18 + random.below(80) as usize);
                        random.fill(&mut bytes[1..]);
                        bytes[0] = 0x20 | (1 + random.below(6) as u8);
                    }
                }
                if !seen.iter().any(|genuine| genuine.bytes == bytes) {
                    forged.push(bytes);
                }
            }
            tap.send(forged.iter().map(|bytes| (to, bytes.as_slice())));
            tried += forged.len() as u64;
        }
        arena.step();
    }
    let node = &arena.clients[client];
    assert!(node.is_connected() && arena.servers[0].ended.is_empty());
    assert_eq!((arena.servers[0].messages, node.messages), genuine);
    assert_eq!(arena.servers[0].accepted.len(), 1);
    let refused = arena.servers[0].metric("packets_dropped_open_failed_total");
    let own = node.id.unwrap();
    arena.clients[client].send(&clock, own, b"still here");
    arena.run(std::time::Duration::from_millis(50));
    assert_eq!(arena.servers[0].messages, genuine.0 + 1, "the genuine peer is still heard");
    println!("T-A4 {tried} forgeries to both ends: 0 accepted, 0 disconnects ({refused} opened in vain by the server)");
}
