//! Peers that speak the protocol wrongly. Each ends at most its own connection, learns why, and nobody else notices.

mod harness;

use harness::stage::Stage;
use harness::{Peer, STEP};
use netstream::SessionCounters;
use netstream::driver::transport::{ChannelId, Incoming};
use netstream::driver::{Clock, IpcDriver, ManualClock, NetworkDriver};
use netstream::prelude::*;

use ConnectionState::{Approval, Connected, Disconnected};
use Presence::NotInGame;

const RELIABLE: ChannelId = ChannelId::RELIABLE;
const UNRELIABLE: ChannelId = ChannelId::UNRELIABLE;

fn before_the_record(what: &str, channel: ChannelId, message: &[u8], code: DisconnectCode) {
    println!("{what}");
    let mut stage = Stage::new(NetworkStreamPlugin::server());
    stage.send(channel, message);
    stage.thrown_out(code);
}

#[test]
fn whatever_comes_before_the_record_ends_the_connection() {
    let violation = DisconnectCode::ProtocolViolation;
    before_the_record("an empty message", RELIABLE, b"", violation);
    before_the_record("an unknown kind", RELIABLE, b"\xffhello", violation);
    before_the_record("an RPC", RELIABLE, b"\x01\x00\x00", DisconnectCode::InvalidRpc);
    before_the_record("a command", UNRELIABLE, b"\x02jump", violation);
    before_the_record("a snapshot", UNRELIABLE, b"\x03world", violation);
    before_the_record("an acceptance of its own", RELIABLE, b"\x00\x04\x00\x01\x00\x00\x00secretsecretsecr", violation);
    before_the_record("half a record", RELIABLE, b"\x00\x01\x01\x00", violation);
    before_the_record("a record on the wrong channel", UNRELIABLE, b"\x00\x01\x01\x00", violation);
}

#[test]
fn a_player_who_waits_for_approval_sends_approval_rpcs_and_nothing_else() {
    for (message, channel, code) in [
        // `Login` is number 0 and an approval RPC; `Say` is number 1 and is not.
        (&b"\x01\x01\x00\x00"[..], RELIABLE, DisconnectCode::InvalidRpc),
        (b"\x01\x07", RELIABLE, DisconnectCode::InvalidRpc),
        (b"\x02jump", UNRELIABLE, DisconnectCode::ProtocolViolation),
    ] {
        let mut stage = Stage::new(NetworkStreamPlugin::server().with_approval());
        stage.shake_hands();
        let hostile = stage.server.connection();
        assert_eq!(stage.server.state(hostile), Some(Approval));
        stage.send(RELIABLE, b"\x01\x00\x02hi");
        stage.steps(2);
        assert_eq!(stage.server.seen().logins.len(), 1, "an approval RPC is read");
        stage.send(channel, message);
        stage.thrown_out(code);
    }
}

#[test]
fn a_malformed_rpc_ends_the_connection_and_is_not_dispatched() {
    for body in [
        // Unknown number; number in two forms; body too short, too long, and not UTF-8.
        &b"\x02\x00"[..],
        b"\x81\x00\x00",
        b"\x01\x05\x09ab",
        b"\x01\x05\x01ab",
        b"\x01\x05\x02\xff\xff",
        b"",
    ] {
        let mut stage = Stage::new(NetworkStreamPlugin::server());
        stage.shake_hands();
        stage.send(RELIABLE, &[b"\x01", body].concat());
        stage.thrown_out(DisconnectCode::InvalidRpc);
    }
}

#[test]
fn kinds_are_bound_to_their_channels() {
    for (channel, message) in [
        (UNRELIABLE, &b"\x01\x01\x05\x00"[..]),
        (RELIABLE, b"\x02jump"),
        (RELIABLE, b"\x03world"),
        (UNRELIABLE, b"\x00"),
    ] {
        let mut stage = Stage::new(NetworkStreamPlugin::server());
        stage.shake_hands();
        let hostile = stage.server.connection();
        assert_eq!(stage.server.state(hostile), Some(Connected(NotInGame)));
        stage.send(channel, message);
        stage.thrown_out(DisconnectCode::ProtocolViolation);
    }
}

#[test]
fn the_handshake_is_said_once() {
    let mut stage = Stage::new(NetworkStreamPlugin::server());
    stage.shake_hands();
    let record = stage.received[0].clone();
    stage.send(RELIABLE, &record);
    stage.thrown_out(DisconnectCode::ProtocolViolation);
}

#[test]
fn a_talkative_stranger_is_cut_off() {
    let mut stage = Stage::new(NetworkStreamPlugin::server().with_approval());
    stage.shake_hands();
    for _ in 0..20 {
        stage.send(RELIABLE, b"\x01\x00\x02hi");
    }
    stage.thrown_out(DisconnectCode::ProtocolViolation);
}

#[test]
fn a_flood_of_rpcs_in_one_update_is_cut_off() {
    let limits = netstream::NetworkLimits { incoming_rpcs: 100, ..Default::default() };
    let mut stage = Stage::new(NetworkStreamPlugin::server().with_limits(limits));
    stage.shake_hands();
    for _ in 0..101 {
        stage.send(RELIABLE, b"\x01\x01\x05\x02hi");
    }
    stage.steps(5);
    assert_eq!(stage.ended.clone().unwrap().code, DisconnectCode::Flood);
}

#[test]
fn commands_that_nobody_reads_do_not_pile_up() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    let mut server = bevy_app::App::new();
    server.add_plugins(NetworkStreamPlugin::server().with_clock(clock.clone()).with_ipc(&hub));
    server.world_mut().resource_mut::<NetworkStreamDriver>().listen("ipc://deaf").unwrap();
    let mut client = bevy_app::App::new();
    client.add_plugins(NetworkStreamPlugin::client().with_clock(clock.clone()).with_ipc(&hub));
    let connection = client.world_mut().resource_mut::<NetworkStreamDriver>().connect("ipc://deaf").unwrap();
    client.world_mut().entity_mut(connection).insert(NetworkStreamInGame);
    for round in 0..300 {
        server.update();
        client.update();
        clock.advance(STEP);
        let players: Vec<_> = server.world().resource::<NetworkStreamDriver>().connections().collect();
        for player in players {
            server.world_mut().entity_mut(player).insert(NetworkStreamInGame);
        }
        if round > 10 {
            client.world_mut().resource_mut::<NetworkStreamDriver>().send_command(connection, b"jump").unwrap();
        }
    }
    let player = server.world().resource::<NetworkStreamDriver>().connections().next().unwrap();
    assert_eq!(server.world().get::<IncomingCommandBuffer>(player).unwrap().len(), 96);
    let SessionCounters { unread_dropped, .. } = server.world().resource::<NetworkStreamDriver>().counters();
    assert!(unread_dropped >= 150, "{unread_dropped}");
}

#[test]
fn names_of_a_hostile_peer_do_not_break_lines() {
    let mut stage = Stage::new(NetworkStreamPlugin::server());
    stage.steps(2);
    // Another game, whose name holds an escape sequence.
    let mut record = b"\x00\x01\x01\x00\x08evil\x1b[2J".to_vec();
    record.extend_from_slice(&[0; 8 + 16 + 1 + 2]);
    stage.send(RELIABLE, &record);
    stage.thrown_out(DisconnectCode::ProtocolViolation);
}

#[test]
fn a_server_that_misbehaves_loses_only_this_client() {
    let (clock, hub) = (ManualClock::new(), IpcHub::new());
    for message in [&b"\x00\x04\x00\x01\x00\x00\x00secretsecretsecr"[..], b"\x02jump", b"\x01\x00", b"\xee"] {
        let mut driver = IpcDriver::new(&hub);
        driver.listen(clock.now(), &"ipc://trap".parse().unwrap()).unwrap();
        let mut client = Peer::new(NetworkStreamPlugin::client().with_clock(clock.clone()).with_ipc(&hub));
        let connection = client.net().connect("ipc://trap").unwrap();
        for _ in 0..5 {
            let now = clock.now();
            let mut accepted = None;
            driver.receive(now, &mut |incoming| {
                if let Incoming::Accepted { connection, .. } = incoming {
                    accepted = Some(connection);
                }
            });
            if let Some(accepted) = accepted {
                driver.send(now, accepted, RELIABLE, message).unwrap();
            }
            driver.flush(now);
            client.app.update();
            clock.advance(STEP);
        }
        assert_eq!(client.states_of(connection).last(), Some(&Disconnected));
        let code = client.reason_of(connection).code;
        assert!(matches!(code, DisconnectCode::ProtocolViolation | DisconnectCode::InvalidRpc), "{code}");
        client.check(false);
    }
}
