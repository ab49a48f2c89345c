//! Attacks in numbers: challenges and tokens that do not belong together, races, replays, nonces.

mod netcode_support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use netcode_support::*;
use netstream_transport::netcode::{ConnectToken, Counter, Farewell, JoinCode};
use netstream_transport::{Limits, Random, SeededRandom};

const SECOND: Duration = Duration::from_secs(1);

fn keys_of(token: &ConnectToken) -> ([u8; 32], [u8; 32]) {
    let token = wire::public_token(&token.to_bytes());
    (token.client_to_server, token.server_to_client)
}

/// All pairs of `count` tokens and their challenges; only the matching ones are accepted.
fn only_matching_pairs_connect(count: u16) {
    let mut world = World::new(5);
    let mut limits = Limits::default();
    limits.connections = count.into();
    limits.replies = 1_000_000;
    limits.unauthenticated_packets = u32::MAX;
    world.add_server(server_address(), server_config(), &limits);
    world.run(2 * SECOND);
    world.loses = Box::new(|datagram| datagram.kind() == 3);
    // One client per network, so that no reply budget is in the way.
    let at = |number: u16| SocketAddr::from(([11, (number >> 8) as u8, number as u8, 1], 5000));
    let mut tokens = Vec::new();
    for number in 0..count {
        let token = world.token(number.into());
        world.connect(at(number), &token);
        tokens.push(token);
    }
    world.run(Duration::from_millis(60));
    let mut bodies = vec![Vec::new(); count.into()];
    for datagram in world.log.iter().filter(|datagram| datagram.kind() == 3) {
        let number = (0..count).find(|&number| at(number) == datagram.from).unwrap();
        bodies[usize::from(number)] =
            wire::open(&datagram.bytes, PROTOCOL, &keys_of(&tokens[usize::from(number)]).0).unwrap();
    }
    assert!(bodies.iter().all(|body| body.len() == 308));
    world.clients.clear();
    let now = world.now();
    for token in 0..count {
        let (seal, _) = keys_of(&tokens[usize::from(token)]);
        for challenge in (0..count).filter(|&challenge| challenge != token) {
            let mut forged = wire::seal(3, challenge.into(), &bodies[usize::from(challenge)], PROTOCOL, &seal);
            world.server().server.handle_datagram(now, at(token), &mut forged);
        }
    }
    assert_eq!(world.counter(Counter::Accepted), 0);
    assert_eq!(world.counter(Counter::ResponseTagMismatch), u64::from(count) * u64::from(count - 1));
    for number in 0..count {
        let (seal, _) = keys_of(&tokens[usize::from(number)]);
        let mut genuine = wire::seal(3, 0, &bodies[usize::from(number)], PROTOCOL, &seal);
        world.server().server.handle_datagram(now, at(number), &mut genuine);
    }
    assert_eq!(world.counter(Counter::Accepted), count.into());
}

#[test]
fn of_ten_thousand_pairs_of_token_and_challenge_only_matching_ones_connect() {
    only_matching_pairs_connect(100);
}

#[test]
#[ignore = "the long form of the test above"]
fn of_a_hundred_thousand_pairs_of_token_and_challenge_only_matching_ones_connect() {
    only_matching_pairs_connect(317);
}

/// Somebody copies every request and sends it first, from one to forty other addresses, again and again.
fn the_owner_wins_every_race(races: u64) {
    for seed in 0..races {
        let mut world = World::with_server(seed);
        let mut dice = SeededRandom::new(seed);
        let token = world.token(1);
        world.connect(client_address(1), &token);
        // The owner's own first requests may be lost.
        let lost = dice.below(5);
        let mut seen = 0;
        world.loses = Box::new(move |datagram| {
            seen += u64::from(datagram.kind() == 0);
            datagram.kind() == 0 && seen <= lost
        });
        let copies = [1, 3, 4, 5, 8, 40][dice.below(6) as usize];
        for _ in 0..20 {
            let requests = world.log.iter().filter(|datagram| datagram.kind() == 0);
            let request = requests.map(|datagram| datagram.bytes.clone()).next_back();
            for copy in 0..copies {
                if let Some(request) = &request
                    && dice.chance(0.7)
                {
                    world.inject(client_address(200 + copy), server_address(), request);
                }
            }
            world.run(Duration::from_millis(10 * dice.below(10)));
        }
        world.run(SECOND);
        assert!(world.client(1).client.is_connected(), "seed {seed}");
        assert_eq!(world.server().accepted(), 1, "seed {seed}");
    }
}

#[test]
fn a_copied_request_that_comes_first_never_wins() {
    the_owner_wins_every_race(10_000);
}

#[test]
#[ignore = "the long form of the test above"]
fn a_copied_request_that_comes_first_never_wins_in_a_hundred_thousand_races() {
    the_owner_wins_every_race(100_000);
}

/// A session of two clients with traffic both ways, and everything that was sent in it.
fn busy_session(world: &mut World) -> Vec<Datagram> {
    world.log.clear();
    world.join(1);
    world.join(2);
    let connection = world.connection_at(client_address(1));
    for number in 0..200u32 {
        world.send_to_server(1, &number.to_le_bytes());
        world.send_to_client(connection, &number.to_le_bytes());
        world.run(STEP);
    }
    world.run(SECOND);
    world.log.clone()
}

/// Replays all of `log`, wherever it went, until `count` datagrams are through; and returns what came of it: payloads
/// delivered and connections accepted.
fn replay(world: &mut World, log: &[Datagram], count: usize) -> (usize, usize) {
    let delivered = |world: &World| -> (usize, usize) {
        let at_servers = world.servers.values().map(|node| node.payloads.len());
        let at_clients = world.clients.values().map(|node| node.payloads.len());
        let accepted = world.servers.values().map(|node| node.accepted());
        (at_servers.chain(at_clients).sum(), accepted.sum())
    };
    let before = delivered(world);
    let servers: Vec<_> = world.servers.keys().copied().collect();
    let mut through = 0;
    'rounds: loop {
        for datagram in log {
            // To whom it went, and to every server that there is now.
            for to in servers.iter().copied().chain([datagram.to]) {
                world.inject(datagram.from, to, &datagram.bytes);
                through += 1;
                if through == count {
                    break 'rounds;
                }
            }
            if through % 64 == 0 {
                world.run(STEP);
            }
        }
    }
    let after = delivered(world);
    (after.0 - before.0, after.1 - before.1)
}

fn no_replay_is_accepted(count: usize) {
    // In the same connection.
    let mut world = World::with_server(1);
    let log = busy_session(&mut world);
    assert!(log.len() > 400);
    assert_eq!(replay(&mut world, &log, count), (0, 0));
    assert_eq!(world.server().server.connections(), 2, "nor does it end a connection");

    // In the next connection of the same clients.
    let mut world = World::with_server(2);
    let log = busy_session(&mut world);
    let now = world.now();
    for number in [1, 2] {
        world.client(number).client.close(now, Farewell::Goodbye);
    }
    world.run(SECOND);
    world.join(1);
    world.join(2);
    assert_eq!(replay(&mut world, &log, count), (0, 0));
    assert_eq!(world.server().server.connections(), 2);

    // At another server that shares keys and is named by the tokens.
    let mut world = World::with_server(3);
    let other = address("203.0.113.2:7979");
    world.add_server(other, server_config(), &Limits::default());
    let log = busy_session(&mut world);
    world.clients.clear();
    assert_eq!(replay(&mut world, &log, count).0, 0);
    assert_eq!(world.servers[&other].accepted(), 0);

    // After a restart.
    let mut world = World::with_server(4);
    let log = busy_session(&mut world);
    world.clients.clear();
    world.add_server(server_address(), server_config(), &Limits::default());
    world.run(2 * SECOND);
    assert_eq!(replay(&mut world, &log, count), (0, 0));
}

#[test]
fn no_replay_is_accepted_in_the_same_or_next_connection_elsewhere_or_after_a_restart() {
    no_replay_is_accepted(20_000);
}

#[test]
#[ignore = "the long form of the test above"]
fn no_replay_is_accepted_in_a_million_tries_each() {
    no_replay_is_accepted(1_000_000);
}

/// Remembers under which key and number each datagram was sealed.
#[derive(Default)]
struct NonceOracle {
    seen: HashMap<([u8; 32], u64), Vec<u8>>,
    packets: u64,
}

impl NonceOracle {
    /// The keys of a packet are those of the token that its client used at the time.
    fn observe(&mut self, log: &[Datagram], keys: &HashMap<SocketAddr, ([u8; 32], [u8; 32])>) {
        for datagram in log.iter().filter(|datagram| datagram.kind() != 0) {
            let key = match (keys.get(&datagram.from), keys.get(&datagram.to)) {
                (Some((client_to_server, _)), _) => *client_to_server,
                (_, Some((_, server_to_client))) => *server_to_client,
                _ => panic!("neither end is a client"),
            };
            let number = wire::header(&datagram.bytes).1;
            let before = self.seen.insert((key, number), datagram.bytes.clone());
            assert!(before.is_none_or(|before| before == datagram.bytes), "number {number} was used twice");
            self.packets += 1;
        }
    }
}

/// Worlds with restarts, reconnects, takeovers, tokens for several servers, loss and copies: no key ever seals two
/// packets under one number.
fn no_nonce_is_used_twice(worlds: u64) -> u64 {
    let mut packets = 0;
    for seed in 0..worlds {
        let mut world = World::new(seed);
        let mut dice = SeededRandom::new(seed ^ 0x5eed);
        let mut oracle = NonceOracle::default();
        let mut keys = HashMap::new();
        let code = JoinCode::random(&mut world.random);
        let servers: Vec<SocketAddr> = (1..=3).map(|last| ([203, 0, 113, last], 7979).into()).collect();
        let add = |world: &mut World, at: SocketAddr| {
            let mut config = server_config();
            config.addresses = servers.clone();
            config.keys.add_join_code(PROTOCOL + 1, &code);
            let mut limits = Limits::default();
            limits.connections = 3;
            world.add_server(at, config, &limits);
        };
        for &at in &servers {
            add(&mut world, at);
        }
        world.run(2 * SECOND);
        let loss = [0.0, 0.1, 0.5][dice.below(3) as usize];
        let mut lost = SeededRandom::new(seed);
        world.loses = Box::new(move |_| lost.chance(loss));
        let mut captured: Vec<Datagram> = Vec::new();
        let mut next_port = 1000;
        for _ in 0..60 {
            match dice.below(10) {
                // A client with a token for all servers, always at an address of its own.
                0..5 => {
                    let token = world.token_for(dice.below(4), &servers);
                    next_port += 1;
                    let at = SocketAddr::from(([12, 0, (next_port >> 8) as u8, 1], next_port));
                    keys.insert(at, keys_of(&token));
                    world.connect(at, &token);
                }
                5 => {
                    let at = servers[dice.below(3) as usize];
                    add(&mut world, at);
                }
                6 => {
                    let now = world.now();
                    if let Some(node) = world.clients.values_mut().nth(dice.below(5) as usize) {
                        node.client.close(now, Farewell::Goodbye);
                    }
                }
                7 => {
                    // Copies of what was sent, from where it came and to another server.
                    for _ in 0..20.min(captured.len()) {
                        let copy = captured[dice.below(captured.len() as u64) as usize].clone();
                        let to = if servers.contains(&copy.to) { servers[dice.below(3) as usize] } else { copy.to };
                        world.inject(copy.from, to, &copy.bytes);
                    }
                }
                _ => world.run(Duration::from_millis(10 * dice.below(300))),
            }
            oracle.observe(&world.log, &keys);
            captured.append(&mut world.log);
        }
        packets += oracle.packets;
    }
    packets
}

#[test]
fn no_key_seals_two_packets_under_one_number() {
    let packets = no_nonce_is_used_twice(30);
    assert!(packets > 20_000, "{packets}");
}

#[test]
#[ignore = "the long form of the test above"]
fn no_key_seals_two_packets_under_one_number_in_many_worlds() {
    let packets = no_nonce_is_used_twice(3_000);
    println!("{packets} packets, no number twice");
}
