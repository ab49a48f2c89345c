//! T-B3: no key seals two packets under one number: in reconnects, restarts, and with tokens that two servers take.

use std::collections::HashMap;
use std::time::Duration;

use crate::arena::{Arena, request, sequence};
use crate::attack;
use crate::spoof::Spoofer;

attack!(no_key_seals_two_packets_under_one_number, t_b3_full: nonces, 40, 20_000);

/// Each round: a player with one token tries a full server, moves on to another, talks, and leaves, while a copy of its
/// request has both servers answer under the same keys. Now and then both servers are started anew.
fn nonces(rounds: u64) {
    let (mut packets, mut restarts) = (0_u64, 0);
    let mut arena = Arena::new();
    for round in 0..rounds {
        if round % 20 == 0 {
            // All sockets and clocks of the machines start over; time does not.
            arena.servers.clear();
            arena.clients.clear();
            arena.network.forget();
            arena.serve("udp://127.0.0.1:0", |config| config.limits.connections = 1);
            arena.serve("udp://127.0.0.1:0", |_| {});
            arena.clock.advance(Duration::from_secs(1));
            for server in &arena.servers {
                server.tap.record();
            }
            arena.join(1 << 50 | round);
            restarts += 1;
        }
        arena.clients.truncate(1);
        for server in &arena.servers {
            server.tap.take();
        }
        let token = arena.token(round);
        let mut spoofer = Spoofer::new();
        let client = arena.dial(&token);
        let tap = arena.clients[client].tap.clone();
        tap.record();
        for tick in 0..30 {
            if tick < 3 {
                for server in 0..2 {
                    spoofer.send(Spoofer::source(round), arena.address(server), &request(&token));
                }
            }
            arena.step();
            let clock = arena.clock.clone();
            if arena.clients[client].is_connected() {
                let own = arena.clients[client].id.unwrap();
                arena.clients[client].send(&clock, own, &[tick; 30]);
                let to = arena.servers[1].accepted.last().unwrap().0;
                arena.servers[1].send(&clock, to, &[tick; 50]);
            }
        }
        assert!(arena.clients[client].is_connected(), "round {round}: {:?}", arena.clients[client].ended);
        arena.leave(client);

        // Only what belongs to this token; the keys of the two directions differ.
        let (own, copier) = (tap.local(), spoofer.address(Spoofer::source(round)));
        let mut numbers = [HashMap::new(), HashMap::new()];
        let by_servers: Vec<_> = arena.servers.iter().flat_map(|server| server.tap.take()).collect();
        let by_servers = by_servers.into_iter().filter(|datagram| [own, copier].contains(&datagram.to));
        let by_client = tap.take().into_iter().filter(|datagram| datagram.kind() != 0);
        for (direction, datagram) in by_servers.map(|datagram| (0, datagram)).chain(by_client.map(|d| (1, d))) {
            packets += 1;
            let number = sequence(&datagram.bytes);
            if let Some(before) = numbers[direction].insert(number, datagram.bytes.clone()) {
                panic!("round {round}: number {number} twice, in {before:?} and {:?}", datagram.bytes);
            }
        }
    }
    println!("T-B3 {rounds} tokens on two servers, {restarts} starts, {packets} sealed packets: 0 numbers twice");
}
