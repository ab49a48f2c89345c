//! Two ends with different RPC types.

mod harness;

use bevy_ecs::system::RunSystemOnce;
use harness::{Link, Pair, Peer};
use netstream::prelude::*;
use netstream::{NetworkSendError, SchemaPolicy};
use serde::{Deserialize, Serialize};

use ConnectionState::{Connected, Disconnected};
use Presence::NotInGame;

over_every_link! {
    compatible_ends_play_and_refuse_what_the_other_lacks
    one_strict_end_is_enough_to_refuse
    the_same_name_in_another_shape_is_refused_in_every_mode
}

/// Sorts before all others, so that the numbers of the two ends differ.
#[derive(Serialize, Deserialize)]
struct Aardvark;

mod newer {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct Move {
        pub(crate) x: f32,
        pub(crate) y: f32,
    }
}
mod older {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct Move {
        pub(crate) x: i16,
        pub(crate) y: i16,
    }
}

fn with_policies(link: Link, server: SchemaPolicy, client: SchemaPolicy) -> Pair {
    let mut pair =
        Pair::silent(link, |plugin| plugin.with_schema_policy(server), |plugin| plugin.with_schema_policy(client));
    pair.client.app.register_rpc::<Aardvark>();
    pair.listen();
    pair
}

fn compatible_ends_play_and_refuse_what_the_other_lacks(link: Link) {
    let mut pair = with_policies(link, SchemaPolicy::Compatible, SchemaPolicy::Compatible);
    let (server, client) = pair.connected();
    pair.client.say(client, 1, "up").unwrap();
    pair.server.say(server, 2, "down").unwrap();
    let send = move |mut rpcs: RpcSender<'_, '_>| rpcs.send(client, &Aardvark);
    let refused = pair.client.app.world_mut().run_system_once(send).unwrap();
    assert_eq!(refused, Err(NetworkSendError::UnknownToPeer("Aardvark")));
    pair.client.say(client, 3, "up again").unwrap();
    pair.until("all arrive under their own numbers", |pair| {
        pair.server.seen().says.len() == 2 && pair.client.seen().says.len() == 1
    });
    assert_eq!(pair.server.seen().says[1].1.0, 3);
    assert_eq!(pair.server.state(server), Some(Connected(NotInGame)));
    pair.check();
}

fn one_strict_end_is_enough_to_refuse(link: Link) {
    for (server, client) in
        [(SchemaPolicy::Strict, SchemaPolicy::Compatible), (SchemaPolicy::Compatible, SchemaPolicy::Strict)]
    {
        let mut pair = with_policies(link, server, client);
        let client = pair.connect();
        pair.until("the client is out", |pair| pair.client.states_of(client).contains(&Disconnected));
        assert_eq!(pair.client.reason_of(client).code, DisconnectCode::ProtocolMismatch);
        let server = pair.server.connection();
        pair.ended(server, client);
        assert_eq!(pair.server.reason_of(server).code, DisconnectCode::ProtocolMismatch);
        pair.check();
    }
}

fn the_same_name_in_another_shape_is_refused_in_every_mode(link: Link) {
    for policy in [SchemaPolicy::Strict, SchemaPolicy::Compatible] {
        let mut pair =
            Pair::silent(link, |plugin| plugin.with_schema_policy(policy), |plugin| plugin.with_schema_policy(policy));
        pair.server.app.register_rpc::<newer::Move>();
        pair.client.app.register_rpc::<older::Move>();
        pair.listen();
        let client = pair.connect();
        pair.until("the client is out", |pair| pair.client.states_of(client).contains(&Disconnected));
        let server = pair.server.connection();
        pair.ended(server, client);
        let differing = |peer: &Peer, connection| {
            peer.events_of(connection).pop().unwrap().mismatch.unwrap().different_shape.clone()
        };
        assert_eq!(differing(&pair.server, server), ["rpc Move"]);
        assert_eq!(differing(&pair.client, client), ["rpc Move"]);
        pair.check();
    }
}

#[test]
fn another_channel_table_is_refused_by_name() {
    use netstream::driver::IpcDriver;
    use netstream::driver::transport::channel::{ChannelConfig, ChannelKind, ChannelTable};
    let mut pair = Pair::over(Link::Ipc);
    let mut table = ChannelTable::default();
    table.declare(ChannelConfig::new(ChannelKind::UnreliableSequenced)).unwrap();
    pair.client.net().add_driver(IpcDriver::new(&pair.hub).with_channels(table));
    let client = pair.connect();
    pair.until("the client is out", |pair| pair.client.states_of(client).contains(&Disconnected));
    let server = pair.server.connection();
    pair.ended(server, client);
    let last = pair.client.events_of(client).pop().unwrap();
    assert_eq!(last.mismatch.unwrap().different_shape, ["channels"]);
    assert!(pair.server.reason_of(server).text.as_str().contains("channels"));
    pair.check();
}
