//! Strangers have had their share of time: no token is opened until the next tick, and players notice nothing.

mod netcode_support;

use std::time::Duration;

use netcode_support::*;
use netstream_transport::netcode::Counter;

#[test]
fn strangers_whose_time_is_spent_wait_for_the_next_tick() {
    let mut world = World::with_server(1);
    world.join(1);
    let token = world.token(2);
    world.connect(client_address(2), &token);
    let (strangers, asked) = (world.server().server.strangers(), world.counter(Counter::RequestBudget));
    world.server().server.spend_on_strangers();
    // The request of the second client arrives in the same tick, beside a packet of the first.
    world.send_to_server(1, b"still playing");
    let now = world.now();
    let mut request = [0; 1200];
    let transmit = world.client(2).client.poll_transmit(now, &mut request).unwrap();
    world.server().server.handle_datagram(now, client_address(2), &mut request[..transmit.len]);
    assert_eq!(world.counter(Counter::RequestBudget), asked + 1);
    assert_eq!(world.server().server.strangers(), strangers + 1);
    assert!(world.server().server.poll_transmit(now, &mut [0; 1200]).is_none());

    world.run(Duration::from_millis(500));
    assert!(world.client(2).client.is_connected(), "asked again, and let in");
    assert!(world.server().payloads.iter().any(|(_, body)| body == b"still playing"));
}

#[test]
fn who_has_shown_a_token_is_heard_though_strangers_have_had_their_time() {
    let mut world = World::with_server(1);
    let token = world.token(1);
    world.connect(client_address(1), &token);
    for _ in 0..20 {
        world.run(STEP);
        // Only the very first request comes in time.
        if world.counter(Counter::Challenged) > 0 {
            world.server().server.spend_on_strangers();
        }
    }
    assert!(world.client(1).client.is_connected());
}
