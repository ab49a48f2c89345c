//! A session moves from World to World and its peers notice nothing.

mod harness;

use std::time::Duration;

use harness::{Link, Pair, Peer};
use netstream::driver::ManualClock;
use netstream::prelude::*;
use netstream::{InsertSessionError, NetworkSession};

use ConnectionState::Connected;
use Presence::{InGame, NotInGame};

over_every_link! {
    the_server_changes_its_world_and_play_goes_on
    the_client_changes_its_world_and_play_goes_on
}

fn the_server_changes_its_world_and_play_goes_on(link: Link) {
    let mut pair = Pair::over(link);
    let (server, client) = pair.in_game();
    pair.client.say(client, 1, "before").unwrap();
    pair.server.say(server, 1, "queued for the move").unwrap();
    pair.client.net().send_command(client, b"jump").unwrap();
    let session = NetworkSession::take_from(pair.server.app.world_mut()).unwrap();
    assert!(pair.server.app.world().get_entity(server).is_err(), "it left the old World");
    assert!(NetworkSession::take_from(pair.server.app.world_mut()).is_none());
    pair.server.app.update();

    let mut level = Peer::new(NetworkStreamPlugin::server().with_clock(pair.clock.clone()));
    let pairs = session.insert_into(level.app.world_mut()).map_err(|(_, error)| error).unwrap();
    let &[(old, new)] = &pairs[..] else { panic!("{pairs:?}") };
    assert_eq!(old, server);
    pair.server = level;
    assert_eq!(pair.server.state(new), Some(Connected(InGame)));
    assert_eq!(pair.server.app.world().get::<NetworkId>(new).copied(), NetworkId::new(1));

    pair.client.say(client, 2, "after").unwrap();
    pair.server.say(new, 2, "from the new world").unwrap();
    pair.until("both hear each other", |pair| pair.server.seen().says.len() == 2 && pair.client.seen().says.len() == 2);
    for peer in [&pair.server, &pair.client] {
        assert_eq!(peer.seen().says.iter().map(|(_, say)| say.0).collect::<Vec<_>>(), [1, 2]);
    }
    assert!(pair.client.states_of(client).ends_with(&[Connected(InGame)]), "the client noticed nothing");
    assert!(pair.server.seen().observed.is_empty(), "a move raises no events");
    pair.server.net().kick(new, "the end").unwrap();
    pair.until("the client is out", |pair| pair.client.states_of(client).contains(&ConnectionState::Disconnected));
    pair.client.check(false);
    assert_eq!(pair.client.reason_of(client).code, DisconnectCode::Kicked);
}

fn the_client_changes_its_world_and_play_goes_on(link: Link) {
    let mut pair = Pair::over(link);
    let (server, _) = pair.connected();
    let session = NetworkSession::take_from(pair.client.app.world_mut()).unwrap();
    let mut level = Peer::new(NetworkStreamPlugin::client().with_clock(pair.clock.clone()));
    let pairs = session.insert_into(level.app.world_mut()).map_err(|(_, error)| error).unwrap();
    let client = pairs[0].1;
    pair.client = level;
    pair.client.say(client, 1, "from elsewhere").unwrap();
    pair.until("the server hears it", |pair| pair.server.seen().says.len() == 1);
    assert!(pair.server.states_of(server).ends_with(&[Connected(NotInGame)]));
    // The World that is left behind says no goodbye.
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.server.state(server), Some(Connected(NotInGame)));
    pair.server.check(true);
}

#[test]
fn a_session_goes_only_where_it_fits_and_is_returned_unharmed() {
    let mut pair = Pair::over(Link::Ipc);
    let (server, client) = pair.connected();
    let mut session = NetworkSession::take_from(pair.server.app.world_mut()).unwrap();
    let try_world = |session: NetworkSession, app: &mut bevy_app::App| match session.insert_into(app.world_mut()) {
        Ok(_) => panic!("it does not fit"),
        Err((session, error)) => (session, error),
    };
    let mut error;
    (session, error) = try_world(session, &mut bevy_app::App::new());
    assert_eq!(error, InsertSessionError::NoPlugin);
    (session, error) = try_world(session, &mut Peer::new(NetworkStreamPlugin::client()).app);
    assert_eq!(error, InsertSessionError::OtherRole);
    let other = NetworkStreamPlugin::server().with_protocol(GameProtocol::new("other", 1));
    (session, error) = try_world(session, &mut Peer::new(other).app);
    assert!(matches!(error, InsertSessionError::OtherProtocol(_)), "{error}");
    let mut busy = Pair::over(Link::Ipc);
    busy.connected();
    (session, error) = try_world(session, &mut busy.server.app);
    assert_eq!(error, InsertSessionError::Occupied);
    let mut fits = Peer::new(NetworkStreamPlugin::server().with_clock(ManualClock::new()));
    let pairs = session.insert_into(fits.app.world_mut()).map_err(|(_, error)| error).unwrap();
    assert_eq!(pairs[0].0, server);
    pair.server = fits;
    pair.client.say(client, 1, "still here").unwrap();
    pair.until("the RPC is read", |pair| pair.server.seen().says.len() == 1);
}
