//! T-A1: reflection and amplification. T-A5: servers that are set to answer each other.

use std::time::Duration;

use netstream_driver::transport::{DisconnectCode, DisconnectReason, Random, SeededRandom};
use netstream_driver::{Clock, NetworkDriver};

use crate::arena::{Arena, TICK, request};
use crate::attack;
use crate::spoof::Spoofer;

/// The worst case: no budget spares anybody an answer.
fn generous() -> Arena {
    Arena::with_server(|config| {
        config.limits.replies = 100_000_000;
        config.limits.token_opens = 100_000_000;
        config.limits.unauthenticated_packets = u32::MAX;
        config.limits.replies_per_network = 100_000_000;
    })
}

attack!(strangers_get_nothing_for_bad_tokens_and_other_types, t_a1_full: bad_tokens, 4_000, 1_000_000);

/// Spoofed packets of each type that a stranger can send, `count` of each.
fn bad_tokens(count: u64) {
    let mut arena = generous();
    let to = arena.address(0);
    let mut random = SeededRandom::new(0xa1);
    let mut genuine = request(&arena.token(1));
    let mut total = (0, 0);
    for kind in 0..8_u8 {
        let mut spoofer = Spoofer::new();
        let mut packet = vec![0; 1078];
        let mut answers = (0, 0);
        for number in 0..count {
            match kind {
                // A request like any other, but for the token in it.
                0 => {
                    packet.copy_from_slice(&genuine);
                    random.fill(&mut packet[54..]);
                }
                // A copied one with a bit turned; the expiry is authenticated too.
                7 => {
                    packet.copy_from_slice(&genuine);
                    let bit = 22 * 8 + random.below((1078 - 22) * 8) as usize;
                    packet[bit / 8] ^= 1 << (bit % 8);
                }
                kind => {
                    packet.resize(18 + random.below(1100) as usize, 0);
                    random.fill(&mut packet);
                    packet[0] = kind | (1 + random.below(8) as u8) << 4;
                }
            }
            spoofer.send(Spoofer::source(number), to, &packet);
            if number % 500 == 499 {
                arena.step();
                let (datagrams, bytes) = spoofer.count_answers();
                answers = (answers.0 + datagrams, answers.1 + bytes);
                genuine = request(&arena.token(1));
            }
        }
        assert_eq!(answers, (0, 0), "type {kind}");
        total = (total.0 + spoofer.sent.0, total.1 + spoofer.sent.1);
        assert_eq!(arena.server().driver.socket_stats().kernel_dropped, 0);
    }
    println!("T-A1 bad tokens and other types: {} packets, {} bytes in, 0 bytes out", total.0, total.1);
}

attack!(strangers_get_less_than_they_sent_for_good_tokens, t_a1_good_full: good_tokens, 4_000, 1_000_000);

/// Spoofed requests whose tokens the server would take.
fn good_tokens(count: u64) {
    let mut arena = generous();
    let to = arena.address(0);
    let mut spoofer = Spoofer::new();
    let mut answers = (0, 0);
    for number in 0..count {
        spoofer.send(Spoofer::source(number), to, &request(&arena.token(number)));
        if number % 500 == 499 {
            arena.step();
            let (datagrams, bytes) = spoofer.count_answers();
            answers = (answers.0 + datagrams, answers.1 + bytes);
        }
    }
    // What was not answered at once never is: nothing is repeated without being asked.
    arena.run(Duration::from_secs(6));
    let (datagrams, bytes) = spoofer.count_answers();
    answers = (answers.0 + datagrams, answers.1 + bytes);
    let ratio = answers.1 as f64 / spoofer.sent.1 as f64;
    println!(
        "T-A1 good tokens: {} requests of {} bytes, {} answers of {} bytes, ratio {ratio:.3}",
        spoofer.sent.0, spoofer.sent.1, answers.0, answers.1
    );
    assert_eq!(answers.0, count);
    assert!(ratio <= 0.35);
    assert!(arena.server().accepted.is_empty());
}

attack!(what_servers_send_makes_no_server_answer, t_a5_full: loops, 60, 100_000);

/// Everything that a server ever says is fed back to it and to another one, from each other's address.
fn loops(stories: u64) {
    let mut arena = Arena::with_server(|config| config.limits.connections = 1);
    arena.serve("udp://127.0.0.1:0", |_| {});
    arena.clock.advance(Duration::from_secs(2));
    let (ours, other) = (arena.address(0), arena.address(1));
    arena.servers[0].tap.record();
    let mut fed = 0;
    let mut kinds = [0_u64; 16];
    for story in 0..stories {
        // Challenge, keep-alives, payloads, goodbyes; and a denial for whoever comes second.
        let token = arena.token(story);
        let client = arena.dial(&token);
        for _ in 0..4 {
            arena.step();
        }
        arena.dial(&arena.token(story | 1 << 40));
        let id = arena.servers[0].accepted.last().map(|(id, _)| *id);
        if let Some(id) = id.filter(|_| arena.clients[client].is_connected()) {
            let clock = arena.clock.clone();
            arena.servers[0].send(&clock, id, b"payload");
        }
        arena.step();
        // Nobody listens to the goodbyes, so all of them are said.
        for (id, _) in std::mem::take(&mut arena.servers[0].accepted) {
            let reason = DisconnectReason::local(DisconnectCode::Kicked);
            arena.servers[0].driver.disconnect(arena.clock.now(), id, &reason, Duration::ZERO);
        }
        for _ in 0..100 {
            arena.clock.advance(TICK);
            let clock = arena.clock.clone();
            arena.servers[0].update(&clock);
        }
        let said = arena.servers[0].tap.take();
        let own = arena.servers[0].tap.clone();
        let before = arena.servers.iter().map(|server| server.driver.socket_stats().sent).sum::<u64>();
        assert!(!said.is_empty());
        for datagram in &said {
            kinds[usize::from(datagram.kind())] += 1;
            own.send([(other, datagram.bytes.as_slice()), (ours, datagram.bytes.as_slice())]);
            arena.servers[1].tap.send([(ours, datagram.bytes.as_slice())]);
            fed += 3;
        }
        // Nobody else is there to be spoken to while they read it.
        arena.clients.clear();
        for server in &mut arena.servers {
            server.update(&arena.clock);
        }
        let after = arena.servers.iter().map(|server| server.driver.socket_stats().sent).sum::<u64>();
        // Through the sockets of the servers went what we sent ourselves, and nothing else.
        let left = after - before - 3 * said.len() as u64;
        assert_eq!(left, 0, "story {story}");
        arena.network.forget();
    }
    assert!([1, 2, 4, 5, 6].iter().all(|kind| kinds[*kind] > 0), "{kinds:?}");
    println!("T-A5 {stories} stories, {fed} of the servers' own datagrams fed back (by type {kinds:?}): 0 answers");
}
