//! T-B4: somebody copies every request and is always first.

use std::net::Ipv4Addr;

use crate::arena::{Arena, TICK};
use crate::attack;
use crate::spoof::Spoofer;

attack!(the_owner_of_a_token_connects_though_copies_come_first, t_b4_full: copy_first, 200, 100_000);

/// Everything that the owner sends is held back until copies of it have been sent from elsewhere.
fn copy_first(races: u64) {
    let mut arena = Arena::with_server(|config| {
        // 45 s of races; the table is not what is tested here.
        config.limits.consumed_tokens = 1 << 20;
        config.limits.connections = 16;
    });
    let to = arena.address(0);
    let mut spoofer = Spoofer::new();
    let mut won = 0;
    let mut slowest = 0;
    for race in 0..races {
        let client = arena.dial(&arena.token(race));
        let tap = arena.clients[client].tap.clone();
        tap.hold(true);
        let copies = [1, 3, 4, 5, 16][race as usize % 5];
        for tick in 1..=20 {
            arena.clock.advance(TICK);
            let clock = arena.clock.clone();
            arena.clients[client].update(&clock);
            let held = tap.take();
            for datagram in &held {
                for copy in 0..copies {
                    let source = Ipv4Addr::from(0x7f40_0000 + copy as u32);
                    spoofer.send(source, to, &datagram.bytes);
                }
            }
            // The copies have their answers before the owner is heard.
            arena.servers[0].update(&clock);
            spoofer.count_answers();
            tap.send(held.iter().map(|datagram| (datagram.to, datagram.bytes.as_slice())));
            arena.servers[0].update(&clock);
            if arena.clients[client].is_connected() {
                slowest = slowest.max(tick);
                break;
            }
        }
        let won_by = arena.servers[0].accepted.pop().map(|(_, address)| address);
        assert!(arena.servers[0].accepted.is_empty(), "race {race}: two connections of one token");
        assert_eq!(won_by, Some(tap.local()), "race {race}");
        assert!(arena.clients[client].is_connected(), "race {race}: {:?}", arena.clients[client].ended);
        won += 1;
        tap.hold(false);
        arena.clients.clear();
        arena.network.forget();
    }
    println!(
        "T-B4 {races} races against 1 to 16 copies that came first: the owner won {won}, the slowest in {slowest} ticks"
    );
}
