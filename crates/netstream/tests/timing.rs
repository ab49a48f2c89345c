//! How many updates a connect takes on a clean in-process link, the server being updated first. `docs/lifecycle.md`
//! declares these numbers.

mod harness;

use bevy_ecs::prelude::*;
use harness::{Link, Pair};
use netstream::prelude::*;

use ConnectionState::{Approval, Connected};
use Presence::NotInGame;

/// In which update after the one of the connect call each end reports this state, counted from 1.
fn updates_until(pair: &mut Pair, options: ConnectOptions, state: ConnectionState) -> (u32, u32) {
    // The update of the connect call.
    pair.server.app.update();
    let client = pair.try_connect(options).unwrap();
    pair.client.app.update();
    let (mut server_at, mut client_at) = (0, 0);
    for update in 1..20 {
        pair.step();
        let server = pair.server.connections().first().copied();
        let has = |states: Vec<ConnectionState>| states.contains(&state);
        if server_at == 0 && server.is_some_and(|server| has(pair.server.states_of(server))) {
            server_at = update;
        }
        if client_at == 0 && has(pair.client.states_of(client)) {
            client_at = update;
        }
    }
    pair.check();
    (server_at, client_at)
}

#[test]
fn without_approval_both_are_connected_in_their_second_update() {
    let mut pair = Pair::over(Link::Ipc);
    let (server, client) = updates_until(&mut pair, ConnectOptions::new(), Connected(NotInGame));
    assert!((1..=2).contains(&server) && (1..=2).contains(&client), "server {server}, client {client}");
}

#[test]
fn an_immediate_approval_takes_no_longer() {
    let mut pair = Pair::with(Link::Ipc, NetworkStreamPlugin::with_approval, |plugin| plugin);
    pair.server.app.add_observer(
        |event: On<'_, '_, ConnectionEvent>,
         credentials: Query<'_, '_, &ConnectionCredentials>,
         mut net: ResMut<'_, NetworkStreamDriver>| {
            if event.state == Approval {
                assert_eq!(credentials.get(event.connection).unwrap().0, b"let me in");
                net.approve(event.connection).unwrap();
            }
        },
    );
    let options = ConnectOptions::new().credentials(*b"let me in");
    let (server, client) = updates_until(&mut pair, options, Connected(NotInGame));
    assert!((1..=2).contains(&server) && (1..=2).contains(&client), "server {server}, client {client}");
}

#[test]
fn the_state_is_right_immediately_after_connect() {
    let mut pair = Pair::over(Link::Ipc);
    let client = pair.connect();
    assert_eq!(pair.client.net().state(client), Some(ConnectionState::Connecting));
    assert!(pair.client.app.world().get_entity(client).is_ok(), "components may be inserted on it at once");
}
