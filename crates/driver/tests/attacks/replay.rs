//! T-B5: what was sent once is sent again.

use std::time::Duration;

use netstream_driver::transport::{Random, SeededRandom};

use crate::arena::Arena;
use crate::attack;
use crate::tap::Datagram;

attack!(no_replay_is_accepted_wherever_it_goes, t_b5_full: replays, 4_000, 1_000_000);

/// What a World has taken for genuine.
fn taken(arena: &Arena) -> Vec<usize> {
    let servers = arena.servers.iter().flat_map(|node| [node.accepted.len(), node.messages, node.ended.len()]);
    servers.chain(arena.clients.iter().flat_map(|node| [node.connected, node.messages, node.ended.len()])).collect()
}

/// Sends `tries` of the packets again: those of the client to `server`, those of the server to the client's socket.
fn replay(arena: &mut Arena, client: usize, server: usize, seen: &[Datagram], origin: usize, tries: u64) -> u64 {
    let mut random = SeededRandom::new(0xb5);
    let before = taken(arena);
    let origin = arena.clients.get(origin).map(|node| node.tap.local());
    let (ours, theirs) = (arena.servers[server].tap.clone(), arena.clients[client].tap.clone());
    let mut tried = 0;
    while tried < tries {
        for _ in 0..200 {
            let datagram = &seen[random.below(seen.len() as u64) as usize];
            let by_client = origin.is_none_or(|origin| datagram.from == origin) || datagram.kind() == 3;
            if by_client {
                theirs.send([(ours.local(), datagram.bytes.as_slice())]);
            } else {
                ours.send([(theirs.local(), datagram.bytes.as_slice())]);
            }
            tried += 1;
        }
        arena.step();
    }
    assert_eq!(taken(arena), before, "a replay was taken for genuine");
    tried
}

fn replays(tries: u64) {
    let mut arena = Arena::with_server(|_| {});
    let client = arena.dial(&arena.token(1));
    let (server_tap, client_tap) = (arena.servers[0].tap.clone(), arena.clients[client].tap.clone());
    server_tap.record();
    client_tap.record();
    arena.run(Duration::from_millis(100));
    let (id, clock) = (arena.servers[0].accepted[0].0, arena.clock.clone());
    for number in 0..100_u8 {
        let own = arena.clients[client].id.unwrap();
        arena.clients[client].send(&clock, own, &[number; 40]);
        arena.servers[0].send(&clock, id, &[number; 90]);
        arena.step();
    }
    arena.step();
    let mut seen = client_tap.take();
    let session = seen.len();
    seen.extend(server_tap.take());
    println!("T-B5 captured {session} packets of the client and {} of the server", seen.len() - session);

    let same = replay(&mut arena, client, 0, &seen, client, tries);
    println!("T-B5 same connection: {same} replays, 0 accepted");
    // The goodbyes are part of the capture from now on.
    arena.leave(client);
    seen.extend(client_tap.take());
    let next = arena.join(1);
    let count = replay(&mut arena, next, 0, &seen, client, tries);
    println!("T-B5 next connection of the same player: {count} replays, 0 accepted");

    arena.serve("udp://127.0.0.1:0", |_| {});
    arena.run(Duration::from_secs(2));
    let count = replay(&mut arena, next, 1, &seen, client, tries);
    println!("T-B5 another server with the same key: {count} replays, 0 accepted");

    arena.leave(next);
    let endpoint = format!("udp://{}", arena.address(0));
    drop(arena.servers.remove(0));
    arena.network.forget();
    drop(server_tap);
    arena.serve(&endpoint, |_| {});
    let restarted = arena.servers.len() - 1;
    // Right after the start, and again when new tokens are taken.
    let count = replay(&mut arena, next, restarted, &seen, client, tries / 2);
    arena.run(Duration::from_secs(2));
    let count = count + replay(&mut arena, next, restarted, &seen, client, tries / 2);
    println!("T-B5 the server after a restart: {count} replays, 0 accepted");
}
