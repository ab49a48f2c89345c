//! Wall clocks that jump and machines that sleep (N-10).

use std::time::Duration;

use netstream_transport::netcode::{Counter, JoinCode};
use netstream_transport::{DisconnectCode, DisconnectReason};

use crate::netcode_support::*;
use crate::{SECOND, sent};

#[test]
fn tokens_from_the_future_wait_and_expired_ones_are_refused() {
    for (offset, counter) in [(3600, Counter::RequestExpired), (-3600, Counter::RequestFuture)] {
        let mut world = World::with_server(13);
        world.join(1);
        let token = world.token(2);
        // The server's clock jumps.
        world.wall_offset = offset;
        world.connect(client_address(2), &token);
        world.run(2 * SECOND);
        assert!(!world.client(2).client.is_connected());
        assert!(world.counter(counter) >= 15, "{offset}");
        assert!(world.client(1).client.is_connected(), "connections do not mind the clock");
    }
}

#[test]
fn a_token_that_expires_during_the_handshake_is_not_accepted() {
    let mut world = World::with_server(13);
    let token = world.token(1);
    world.run(Duration::from_millis(44_500));
    world.loses = Box::new(|datagram| datagram.kind() == 3);
    world.connect(client_address(1), &token);
    world.run(Duration::from_millis(200));
    let response = sent(&world, client_address(1), 3);
    world.run(SECOND);
    world.inject(client_address(1), server_address(), &response);
    assert_eq!(world.counter(Counter::ResponseExpired), 1);
    assert_eq!(world.server().accepted(), 0);
}

#[test]
fn a_clock_set_back_does_not_make_a_used_token_good_again() {
    let mut world = World::with_server(13);
    let token = world.join(1);
    world.run(60 * SECOND);
    assert_eq!(world.server().metric("consumed_tokens"), 0);
    world.wall_offset = -60;
    world.connect(client_address(2), &token);
    world.run(SECOND);
    assert!(!world.client(2).client.is_connected());
    assert!(world.counter(Counter::RequestConsumed) >= 9);
}

#[test]
fn a_backend_clock_that_is_slightly_ahead_only_delays_a_join() {
    let mut world = World::with_server(13);
    world.wall_offset = 3;
    let token = world.token(1);
    world.wall_offset = 0;
    world.connect(client_address(1), &token);
    world.run(SECOND);
    assert!(!world.client(1).client.is_connected());
    assert!(world.server().metric("token_clock_ahead_seconds") >= 1);
    world.run(3 * SECOND);
    assert!(world.client(1).client.is_connected());
}

#[test]
fn jumps_of_an_hour_either_way_let_no_expired_token_in_and_end_nothing() {
    let mut world = World::with_server(13);
    let (used, unused) = (world.join(1), world.token(9));
    world.run(46 * SECOND);
    for (round, offset) in [0, 3600, 0, -3600, 3600, -100_000_000, 0].into_iter().enumerate() {
        world.wall_offset = offset;
        let accepted = world.server().accepted();
        for (number, token) in [(100, &used), (101, &unused)] {
            world.connect(client_address(number), token);
            world.run(SECOND);
        }
        assert_eq!(world.server().accepted(), accepted, "round {round}");
        assert!(world.client(1).client.is_connected(), "round {round}");
        // Before its own start the server takes nobody; else whoever has a token by the new time gets in.
        if offset >= 0 {
            world.join(10 + round as u16);
        }
    }
}

#[test]
fn after_ten_minutes_of_sleep_connections_are_over_once_and_old_tokens_expired() {
    let mut world = World::with_server(13);
    world.join(1);
    let unused = world.token(2);
    let connection = world.connection_at(client_address(1));
    // Both machines sleep, and their timers go on.
    world.mono = world.mono + 600 * SECOND;
    world.run(SECOND);
    let timeout = DisconnectReason::link(DisconnectCode::Timeout);
    assert_eq!(world.server().closed(), [(connection, timeout.clone())]);
    assert_eq!(world.client(1).ending(), Some(timeout));
    world.connect(client_address(2), &unused);
    world.run(6 * SECOND);
    assert_eq!(world.client(2).ending(), Some(DisconnectReason::link(DisconnectCode::TokenExpired)));
    assert!(world.counter(Counter::RequestExpired) >= 40);
    world.join(3);
}

#[test]
fn where_timers_sleep_too_connections_outlast_it() {
    let mut world = World::with_server(13);
    world.join(1);
    let unused = world.token(2);
    // Linux' monotonic clock stands still while the machine sleeps; only the time of day goes on.
    world.wall_offset = 600;
    world.run(15 * SECOND);
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.server().server.connections(), 1);
    world.connect(client_address(2), &unused);
    world.run(SECOND);
    assert!(!world.client(2).client.is_connected());
    assert!(world.counter(Counter::RequestExpired) >= 9);
    world.join(3);
}

#[test]
fn who_sleeps_less_than_the_idle_timeout_finds_its_connection_again() {
    for (sleep, stays) in [(9, true), (11, false)] {
        let mut world = World::with_server(13);
        world.join(1);
        world.join(2);
        // The first client's machine sleeps; what was sent to it meanwhile is lost.
        let asleep = world.clients.remove(&client_address(1)).unwrap();
        world.run(sleep * SECOND);
        world.clients.insert(client_address(1), asleep);
        world.run(SECOND);
        assert_eq!(world.client(1).client.is_connected(), stays, "{sleep} s");
        assert_eq!(world.server().server.connections(), 1 + usize::from(stays));
        assert!(world.client(2).client.is_connected());
    }
}

#[test]
fn a_join_code_forgives_ten_minutes_of_clock_error_either_way_and_no_more() {
    for (offset, gets_in) in [(540, true), (-540, true), (3600, false), (-3600, false)] {
        let mut world = World::new(13);
        let code = JoinCode::random(&mut world.random);
        world.add_server(server_address(), join_code_config(&code), &netstream_transport::Limits::default());
        world.run(2 * SECOND);
        // The player's clock is wrong when the token is made; the server's is right.
        world.wall_offset = offset;
        world.connect_with(client_address(1), join_code_credentials(&code, 1), &[server_address()]);
        world.wall_offset = 0;
        world.run(SECOND);
        assert_eq!(world.client(1).client.is_connected(), gets_in, "{offset} s");
    }
}
