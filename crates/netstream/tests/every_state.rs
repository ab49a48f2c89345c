//! Every call, in every state, on either side: each has one outcome, nobody panics, nothing is left behind, and the
//! other end learns of it.

mod harness;

use std::time::Duration;

use bevy_app::App;
use bevy_ecs::entity::Entity;
use harness::{Link, Pair, Peer};
use netstream::driver::link::{LinkProfile, Simulated};
use netstream::driver::{IpcDriver, UdpDriver};
use netstream::prelude::*;

use ConnectionState::{Accepted, Approval, Connected, Connecting, Disconnected, Disconnecting};
use Presence::{InGame, NotInGame};

over_every_link! {
    every_call_in_every_state_has_one_outcome
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Server,
    Client,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Disconnect,
    DisconnectTwice,
    RequestDisconnect,
    Despawn,
    DespawnAfterDisconnect,
    DropWorld,
    RemoveDriver,
    Drain,
    Deny,
    Ban,
}

const CALLS: [Call; 10] = [
    Call::Disconnect,
    Call::DisconnectTwice,
    Call::RequestDisconnect,
    Call::Despawn,
    Call::DespawnAfterDisconnect,
    Call::DropWorld,
    Call::RemoveDriver,
    Call::Drain,
    Call::Deny,
    Call::Ban,
];

/// The states in which a side can be between two updates.
fn states(side: Side) -> Vec<ConnectionState> {
    let resting = |state: &ConnectionState| !matches!(state, Accepted | Disconnected);
    let all = ConnectionState::ALL.into_iter().filter(resting);
    match side {
        Side::Client => all.collect(),
        // A server compares the record in the update in which it arrives.
        Side::Server => all.filter(|s| !matches!(s, Connecting | ConnectionState::ProtocolValidation)).collect(),
    }
}

/// Brings a side into a state; the server approves and both enter the game only where that is needed. `None` if the
/// state did not come to rest in 20 s, as it may be over a link without any delay.
fn reach(link: Link, side: Side, state: ConnectionState) -> Option<(Pair, Entity)> {
    let mut pair = Pair::with(link, NetworkStreamPlugin::with_approval, |plugin| plugin);
    let client = pair.connect();
    let beyond_approval = !matches!(state, Approval);
    for _ in 0..2000 {
        for turn in [Side::Server, Side::Client] {
            let peer = if turn == Side::Server { &mut pair.server } else { &mut pair.client };
            peer.app.update();
            if let Some(&connection) = pair.server.connections().last()
                && beyond_approval
                && pair.server.net().state(connection) == Some(Approval)
            {
                pair.server.net().approve(connection).unwrap();
            }
            if turn == side {
                let peer = if side == Side::Server { &mut pair.server } else { &mut pair.client };
                let Some(&connection) = peer.connections().last() else { continue };
                match (peer.state(connection), state) {
                    (Some(now), wanted) if now == wanted => return Some((pair, connection)),
                    (Some(Connected(NotInGame)), Connected(InGame)) => peer.enter_game(connection),
                    (Some(Connected(NotInGame)), Disconnecting) => {
                        // Something to deliver first, so that Disconnecting takes a while.
                        peer.say(connection, 1, "wait for me").unwrap();
                        peer.net().kick(connection, "").unwrap();
                    }
                    _ => {}
                }
            }
        }
        pair.clock.advance(harness::STEP);
    }
    let _ = client;
    None
}

fn call(call: Call, peer: &mut Peer, connection: Entity) {
    let reason = DisconnectReason::local(DisconnectCode::Application(7));
    let driver = peer.events_of(connection)[0].driver();
    match call {
        Call::Disconnect => _ = peer.net().disconnect(connection, reason),
        Call::DisconnectTwice => {
            let first = peer.net().disconnect(connection, reason.clone());
            let second = peer.net().disconnect(connection, reason);
            assert!(second.is_err() && (first.is_ok() || first == second));
        }
        Call::RequestDisconnect => {
            peer.app.world_mut().entity_mut(connection).insert(NetworkStreamRequestDisconnect { reason });
        }
        Call::Despawn => _ = peer.app.world_mut().despawn(connection),
        Call::DespawnAfterDisconnect => {
            let _ = peer.net().disconnect(connection, reason);
            peer.app.world_mut().despawn(connection);
        }
        Call::DropWorld => peer.app = App::new(),
        Call::RemoveDriver => peer.net().remove_driver(driver, reason).unwrap(),
        Call::Drain => peer.net().drain(driver, Duration::from_millis(500), "").unwrap(),
        Call::Deny => {
            // Only a connection that is not decided upon can be denied.
            if peer.net().deny(connection, "no").is_err() {
                let _ = peer.net().disconnect(connection, reason);
            }
        }
        Call::Ban => {
            peer.net().ban(netstream::BanTarget::address("127.0.0.1".parse().unwrap()), None, "");
            // In-process players have no address.
            let _ = peer.net().disconnect(connection, reason);
        }
    }
}

/// Gives a World's drivers a slow link, or a perfect one; nothing is lost on either.
fn slow(peer: &mut Peer, delay: Duration) {
    let profile = LinkProfile { delay, ..LinkProfile::PERFECT };
    for (_, driver) in peer.net().drivers_mut().iter_mut() {
        let driver = driver.as_any_mut();
        if let Some(driver) = driver.downcast_mut::<Simulated<UdpDriver>>() {
            driver.set_both(profile);
        } else if let Some(driver) = driver.downcast_mut::<Simulated<IpcDriver>>() {
            driver.set_both(profile);
        }
    }
}

/// Whatever the state is on either end, also in the middle of the drivers' own handshakes; nothing is lost on the way.
#[test]
fn a_world_that_is_dropped_after_0_to_40_updates_has_said_goodbye() {
    for (link, side) in [
        (Link::LossyIpc, Side::Server),
        (Link::LossyIpc, Side::Client),
        (Link::LossyUdp, Side::Server),
        (Link::LossyUdp, Side::Client),
    ] {
        let mut seen = Vec::new();
        for updates in 0..=40 {
            let mut pair = Pair::with(link, NetworkStreamPlugin::with_approval, |plugin| plugin);
            pair.connect();
            // Only the one who stays has a slow link: what is on its way in that of a dropped World goes with it.
            let delays = [Duration::ZERO, Duration::from_millis(40)];
            slow(&mut pair.server, delays[usize::from(side == Side::Client)]);
            slow(&mut pair.client, delays[usize::from(side == Side::Server)]);
            for update in 0..updates {
                pair.step();
                if update == 25 {
                    let waiting = pair.server.connection();
                    pair.server.net().approve(waiting).unwrap();
                }
            }
            let gone = if side == Side::Server { &mut pair.server } else { &mut pair.client };
            let states: Vec<_> = gone.connections().last().map(|&c| gone.states_of(c)).unwrap_or_default();
            seen.extend(&states);
            gone.app = App::new();
            pair.run(Duration::from_secs(6));
            let stays = if side == Side::Server { &mut pair.client } else { &mut pair.server };
            stays.check(side == Side::Client);
            for connection in stays.connections() {
                let (said, goodbye) = (stays.reason_of(connection), goodbye(side, Connecting));
                // A server that has never heard of a client has nothing to say.
                let unheard = matches!(said.code, DisconnectCode::Refused | DisconnectCode::MaxConnectionAttempts);
                let right =
                    said == DisconnectReason::remote(goodbye) || (states.is_empty() && side == Side::Server && unheard);
                assert!(right, "{said} over {link:?}, the {side:?} dropped after {updates} updates in {states:?}");
            }
        }
        for state in states(side).iter().filter(|state| !matches!(state, Connected(InGame) | Disconnecting)) {
            assert!(seen.contains(state), "{side:?} was never {state} over {link:?}");
        }
    }
}

/// What a World that is dropped in this state says to its peer.
fn goodbye(side: Side, state: ConnectionState) -> DisconnectCode {
    match (state, side) {
        // It was saying so already.
        (Disconnecting, _) => DisconnectCode::Kicked,
        (_, Side::Server) => DisconnectCode::ServerShutdown,
        (_, Side::Client) => DisconnectCode::ConnectionClose,
    }
}

fn every_call_in_every_state_has_one_outcome(link: Link) {
    let mut reached = 0;
    for side in [Side::Server, Side::Client] {
        for state in states(side) {
            for which in CALLS {
                let Some((mut pair, connection)) = reach(link, side, state) else { break };
                reached += 1;
                let here = if side == Side::Server { &mut pair.server } else { &mut pair.client };
                call(which, here, connection);
                // Longer than every deadline and timeout but that of the approval, which ends with the peer.
                pair.run(Duration::from_secs(16));
                let what = format!("{which:?} on the {side:?} in {state} over {link:?}");
                let dropped = matches!(which, Call::DropWorld);
                for (peer, this) in [(&mut pair.server, Side::Server), (&mut pair.client, Side::Client)] {
                    if dropped && this == side {
                        continue;
                    }
                    for connection in peer.connections() {
                        let states = peer.states_of(connection);
                        let ends = states.iter().filter(|state| **state == Disconnected).count();
                        assert_eq!((ends, states.last()), (1, Some(&Disconnected)), "{what}: {this:?} saw {states:?}");
                        assert!(peer.app.world().get_entity(connection).is_err(), "{what}");
                        if dropped && !link.is_lossy() {
                            let said = peer.reason_of(connection);
                            assert_eq!(said, DisconnectReason::remote(goodbye(side, state)), "{what}: {states:?}");
                        }
                    }
                    assert_eq!(peer.net().connections().count(), 0, "{what}");
                    assert_eq!(peer.net().network_ids_in_use(), 0, "{what}");
                    peer.check(this == Side::Server);
                }
            }
        }
    }
    // Server: Handshake, Approval, two of Connected, Disconnecting. Client: two more.
    let least = if link == Link::Ipc { 9 } else { 11 };
    assert!(reached >= least * CALLS.len(), "only {reached} cases were reached");
}
