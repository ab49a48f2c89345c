//! Coming back: by itself, and as fast as a user can click.

mod harness;

use std::time::Duration;

use harness::{Link, Pair};
use netstream::prelude::*;
use netstream::{NetworkStreamReconnect, ReconnectStatus};

use ConnectionState::{Connected, Disconnected};
use Presence::NotInGame;

over_every_link! {
    a_kept_connection_comes_back_with_its_id
    a_kicked_player_is_not_kept
    disconnect_after_0_to_7_updates_and_reconnect_after_1_to_7
}

fn keep(pair: &mut Pair) -> bevy_ecs::entity::Entity {
    let options = pair.options();
    // The first endpoint is nobody's: the list is tried in its order.
    let nobody = match pair.link.scheme() {
        netstream::driver::Scheme::Ipc => "ipc://nobody".to_owned(),
        _ => "udp://127.0.0.1:9".to_owned(),
    };
    let keeper = NetworkStreamReconnect::new([nobody, pair.endpoint.clone()], options);
    pair.client.app.world_mut().spawn(keeper).id()
}

fn status(pair: &Pair, keeper: bevy_ecs::entity::Entity) -> ReconnectStatus {
    pair.client.app.world().get::<NetworkStreamReconnect>(keeper).unwrap().status().clone()
}

fn a_kept_connection_comes_back_with_its_id(link: Link) {
    let mut pair = Pair::over(link);
    let keeper = keep(&mut pair);
    pair.until("the keeper is connected", |pair| {
        matches!(status(pair, keeper), ReconnectStatus::Connected { endpoint: 1, .. })
    });
    let first = pair.client.connection();
    // The server goes away for a while, and comes back at the same place.
    let server = pair.server.connection();
    let reason = DisconnectReason::local(DisconnectCode::ServerShutdown);
    pair.server.net().disconnect(server, reason).unwrap();
    pair.until("the keeper waits", |pair| matches!(status(pair, keeper), ReconnectStatus::Waiting { .. }));
    let ReconnectStatus::Waiting { last, .. } = status(&pair, keeper) else { unreachable!() };
    assert!(last.contains("ServerShutdown"), "{last}");
    pair.until("the keeper is connected again", |pair| {
        matches!(status(pair, keeper), ReconnectStatus::Connected { .. })
    });
    let second = pair.client.connection();
    assert_ne!(first, second);
    assert_eq!(pair.client.state(second), Some(Connected(NotInGame)));
    assert_eq!(pair.client.net().network_id(second), NetworkId::new(1), "with its resume ticket");
    pair.check();
}

fn a_kicked_player_is_not_kept(link: Link) {
    let mut pair = Pair::over(link);
    let keeper = keep(&mut pair);
    pair.until("the keeper is connected", |pair| matches!(status(pair, keeper), ReconnectStatus::Connected { .. }));
    let server = pair.server.connection();
    pair.server.net().kick(server, "out").unwrap();
    pair.until("the keeper gives up", |pair| matches!(status(pair, keeper), ReconnectStatus::GaveUp { .. }));
    let ReconnectStatus::GaveUp { because } = status(&pair, keeper) else { unreachable!() };
    assert!(because.contains("Kicked") && because.contains("out"), "{because}");
    pair.run(Duration::from_secs(5));
    assert!(pair.client.net().connections().next().is_none());
    pair.check();
}

#[test]
fn a_keeper_gives_up_after_its_last_round() {
    let mut pair = Pair::over(Link::Ipc);
    let mut keeper = NetworkStreamReconnect::new(["ipc://nobody"], ConnectOptions::new());
    keeper.max_rounds = Some(4);
    let keeper = pair.client.app.world_mut().spawn(keeper).id();
    let mut waits = Vec::new();
    pair.until("the keeper gives up", |pair| {
        if let ReconnectStatus::Waiting { until, .. } = status(pair, keeper)
            && waits.last() != Some(&until)
        {
            waits.push(until);
        }
        matches!(status(pair, keeper), ReconnectStatus::GaveUp { .. })
    });
    assert_eq!(waits.len(), 3, "three pauses between four rounds");
    let (first, last) = (waits[1].since(waits[0]), waits[2].since(waits[1]));
    assert!(first >= Duration::from_millis(500) && first <= Duration::from_millis(1020), "{first:?}");
    assert!(last >= Duration::from_millis(1000) && last <= Duration::from_millis(2020), "{last:?}");
}

/// The 56-way matrix, with and without approval. Nothing may go wrong, leak, or be out of order, however early or late the
/// user changes his mind.
fn disconnect_after_0_to_7_updates_and_reconnect_after_1_to_7(link: Link) {
    for approval in [false, true] {
        let mut pair =
            Pair::with(link, |plugin| if approval { plugin.with_approval() } else { plugin }, |plugin| plugin);
        pair.server.app.add_observer(
            |event: bevy_ecs::prelude::On<'_, '_, ConnectionEvent>,
             mut net: bevy_ecs::prelude::ResMut<'_, NetworkStreamDriver>| {
                if event.state == ConnectionState::Approval {
                    // The player may be gone again by the time that the event is raised.
                    let _ = net.approve(event.connection);
                }
            },
        );
        pair.step();
        let baseline = pair.client.app.world().entities().count_spawned();
        for before in 0..=7 {
            for after in 1..=7 {
                let options = pair.options().as_new_player();
                let client = pair.try_connect(options).unwrap();
                (0..before).for_each(|_| pair.step());
                // It may have ended by itself only if somebody else ended it, which nobody does here.
                let close = DisconnectReason::local(DisconnectCode::ConnectionClose);
                if let Err(error) = pair.client.net().disconnect(client, close) {
                    panic!("{before} {after}: {error}: {:?}", pair.client.events_of(client));
                }
                (0..after).for_each(|_| pair.step());
            }
        }
        pair.run(Duration::from_secs(12));
        assert_eq!(pair.client.connections().len(), 56);
        for peer in [&pair.client, &pair.server] {
            for connection in peer.connections() {
                assert_eq!(peer.states_of(connection).last(), Some(&Disconnected));
                assert!(peer.app.world().get_entity(connection).is_err());
            }
        }
        assert_eq!(pair.server.net().network_ids_in_use(), 0);
        assert_eq!(pair.server.net().connections().count(), 0);
        assert_eq!(pair.client.app.world().entities().count_spawned(), baseline);
        assert_eq!(pair.client.net().drivers().len(), 0);
        // And a player who stays gets in.
        pair.connected();
        pair.check();
    }
}
