//! Who is who: resume tickets, takeovers, kicks and bans.

mod harness;

use std::time::Duration;

use bevy_ecs::entity::Entity;
use harness::{Link, Pair, STEP};
use netstream::driver::link::{LinkProfile, Simulated};
use netstream::driver::udp::UdpDriver;
use netstream::prelude::*;
use netstream::{BanTarget, NetworkStreamIsReconnected, SameIdentity};

use ConnectionState::{Connected, Disconnected};
use Presence::NotInGame;

over_every_link! {
    a_player_who_returns_has_the_same_id_and_the_mark
    a_new_player_does_not_inherit_anything
}

fn close(pair: &mut Pair, server: Entity, client: Entity) {
    pair.client.net().disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    pair.ended(server, client);
}

fn a_player_who_returns_has_the_same_id_and_the_mark(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    assert!(pair.client.app.world().get::<NetworkStreamIsReconnected>(client).is_none());
    close(&mut pair, server, client);
    for _ in 0..3 {
        let (server, client) = pair.connected();
        for (peer, connection) in [(&pair.server, server), (&pair.client, client)] {
            assert_eq!(peer.app.world().get::<NetworkId>(connection).copied(), NetworkId::new(1));
            assert!(peer.app.world().get::<NetworkStreamIsReconnected>(connection).is_some());
            assert!(peer.events_of(connection).last().unwrap().reconnected);
        }
        close(&mut pair, server, client);
    }
    assert_eq!(pair.server.net().counters().resumed, 3);
    pair.check();
}

fn a_new_player_does_not_inherit_anything(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.connected();
    close(&mut pair, server, client);
    let options = pair.options().as_new_player();
    let client = pair.try_connect(options).unwrap();
    pair.until("the client is in", |pair| pair.client.state(client) == Some(Connected(NotInGame)));
    assert_eq!(pair.client.net().network_id(client), NetworkId::new(2), "number 1 rests");
    assert!(pair.client.app.world().get::<NetworkStreamIsReconnected>(client).is_none());
    pair.check();
}

#[test]
fn a_ticket_is_not_shown_to_another_server() {
    let mut pair = Pair::over(Link::Udp);
    let (server, client) = pair.connected();
    close(&mut pair, server, client);
    let mut other = Pair::over(Link::Udp);
    std::mem::swap(&mut pair.client, &mut other.client);
    std::mem::swap(&mut pair.clock, &mut other.clock);
    let (endpoint, options) = (other.endpoint.clone(), other.options());
    let connection = other.client.net().connect_with(&endpoint, options).unwrap();
    for _ in 0..200 {
        other.step();
        pair.clock.advance(STEP);
    }
    assert_eq!(other.client.state(connection), Some(Connected(NotInGame)));
    assert_eq!(other.server.net().counters().stale_tickets, 0, "no ticket came");
    assert!(other.client.app.world().get::<NetworkStreamIsReconnected>(connection).is_none());
}

/// The client loses its network, gives up, and comes back by another way, while the server still waits for the old
/// connection: what a change from Wi-Fi to a phone network looks like.
fn returns_while_connected(policy: SameIdentity) -> (Pair, Entity, Entity) {
    let mut pair = Pair::with(Link::LossyUdp, |plugin| plugin.with_same_identity(policy), |plugin| plugin);
    let (server, client) = pair.connected();
    let mut net = pair.client.net();
    let (driver, _) = net.drivers().iter().next().unwrap();
    let link = net.drivers_mut().get_mut(driver).unwrap().as_any_mut().downcast_mut::<Simulated<UdpDriver>>().unwrap();
    link.set_both(LinkProfile { loss: 1.0, ..LinkProfile::PERFECT });
    net.disconnect(client, DisconnectReason::local(DisconnectCode::ConnectionClose)).unwrap();
    pair.until("the client has given up", |pair| pair.client.states_of(client).contains(&Disconnected));
    assert_eq!(pair.server.state(server), Some(Connected(NotInGame)), "the server has heard nothing");
    let client = pair.connect();
    (pair, server, client)
}

#[test]
fn the_newer_connection_replaces_the_older() {
    let (mut pair, old, client) = returns_while_connected(SameIdentity::ReplaceOld);
    pair.until("the client is in", |pair| pair.client.state(client) == Some(Connected(NotInGame)));
    pair.until("the old one is out", |pair| pair.server.states_of(old).contains(&Disconnected));
    assert_eq!(pair.server.reason_of(old), DisconnectReason::local(DisconnectCode::Superseded));
    assert_eq!(pair.client.net().network_id(client), NetworkId::new(1));
    assert_eq!(pair.server.net().network_ids_in_use(), 1);
    pair.check();
}

#[test]
fn the_older_connection_may_be_kept() {
    let (mut pair, old, client) = returns_while_connected(SameIdentity::RejectNew);
    pair.until("the client is out", |pair| pair.client.states_of(client).contains(&Disconnected));
    assert_eq!(pair.client.reason_of(client), DisconnectReason::remote(DisconnectCode::IdentityInUse));
    assert!(pair.server.states_of(old).last() == Some(&Connected(NotInGame)));
    pair.check();
}

#[test]
fn a_ban_by_address_ends_and_refuses() {
    for link in [Link::Udp, Link::LossyUdp] {
        let mut pair = Pair::over(link);
        let (server, client) = pair.connected();
        let block = BanTarget::Address { address: "127.0.0.0".parse().unwrap(), bits: 8 };
        pair.server.net().ban(block, Some(Duration::from_secs(60)), "no loopback");
        pair.ended(server, client);
        let banned = DisconnectReason::remote(DisconnectCode::Banned).with_text("no loopback");
        assert_eq!(pair.client.reason_of(client), banned);
        let client = pair.connect();
        pair.until("the client is out", |pair| pair.client.states_of(client).contains(&Disconnected));
        assert_eq!(pair.client.reason_of(client), banned, "the refusal has its reason too");
        assert_eq!(pair.server.connections(), [server], "no entity for a banned player");
        pair.run(Duration::from_secs(60));
        pair.connected();
        assert!(!pair.server.net().unban(block), "it is over");
        pair.check();
    }
}

#[test]
fn a_ban_by_identity_ends_and_refuses() {
    let mut pair = Pair::over(Link::Udp);
    let (server, client) = pair.connected();
    let identity = pair.server.app.world().get::<netstream::ConnectionIdentity>(server).unwrap().0.client_id;
    pair.server.net().ban(BanTarget::Identity(identity), None, "cheating");
    pair.ended(server, client);
    assert_eq!(pair.client.reason_of(client).text.as_str(), "cheating");
    assert_eq!(pair.server.net().bans().collect::<Vec<_>>(), [BanTarget::Identity(identity)]);
    assert!(pair.server.net().unban(BanTarget::Identity(identity)));
    pair.connected();
    pair.check();
}
