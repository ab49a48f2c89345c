//! Wall clocks that jump and machines that sleep (N-10).

use std::time::Duration;

use netstream_transport::netcode::Counter;

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
