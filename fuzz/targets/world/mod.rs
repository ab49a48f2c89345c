//! A World whose only peer is the fuzzer: a driver that reports what it is told to.

#![allow(dead_code, reason = "every target uses another part")]

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::driver::{
    ConnectError, ConnectionStats, Credentials, Endpoint, ListenError, ManualClock, NetworkDriver, SendError,
};
use netstream::prelude::*;
use netstream::transport::channel::ChannelTable;
use netstream::transport::{ChannelId, ConnectionId, DisconnectReason, Incoming, Now, SeededRandom};
use netstream::{ReceivedRequest, Response, RpcDirection, RpcOptions, RpcReceipt};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Chat {
    Hello,
    Say(String),
    Draw { points: Vec<(i16, i16)>, colour: Option<u32> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Login(pub String, pub [u8; 4]);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hint(pub u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question(pub Vec<u8>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer(pub u8);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    pub x: i16,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jump(pub bool);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    pub cells: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score(pub u32, pub Option<String>);

/// What the driver shall report, and what it was given to send.
#[derive(Default)]
pub struct Wire {
    pub incoming: VecDeque<Event>,
    pub sent: Vec<(ChannelId, Vec<u8>)>,
    pub closed: bool,
    id: u32,
}

pub enum Event {
    Accepted,
    Connected,
    Message(ChannelId, Vec<u8>),
    Disconnected,
}

struct Puppet(Arc<Mutex<Wire>>, ChannelTable);

impl Puppet {
    fn wire(&self) -> std::sync::MutexGuard<'_, Wire> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Wire {
    fn connection(&self) -> ConnectionId {
        ConnectionId { index: 0, generation: self.id }
    }
}

impl NetworkDriver for Puppet {
    fn scheme(&self) -> &'static str {
        "ipc"
    }
    fn listen(&mut self, _: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError> {
        Ok(endpoint.clone())
    }
    fn stop_listening(&mut self, _: Now) {}
    fn listening(&self) -> Option<Endpoint> {
        None
    }
    fn connect(&mut self, _: Now, _: &Endpoint, _: &Credentials) -> Result<ConnectionId, ConnectError> {
        Ok(self.wire().connection())
    }
    fn receive(&mut self, _: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        let (events, connection) = {
            let mut wire = self.wire();
            (std::mem::take(&mut wire.incoming), wire.connection())
        };
        for event in events {
            match event {
                Event::Accepted => sink(Incoming::Accepted { connection, address: None, identity: None }),
                Event::Connected => sink(Incoming::Connected { connection }),
                Event::Message(channel, bytes) => sink(Incoming::Message { connection, channel, bytes: &bytes }),
                Event::Disconnected => {
                    let reason = DisconnectReason::remote(DisconnectCode::ConnectionClose);
                    sink(Incoming::Disconnected { connection, reason });
                }
            }
        }
    }
    fn send(&mut self, _: Now, _: ConnectionId, channel: ChannelId, message: &[u8]) -> Result<(), SendError> {
        self.wire().sent.push((channel, message.to_vec()));
        Ok(())
    }
    fn flush(&mut self, _: Now) {}
    fn disconnect(&mut self, _: Now, _: ConnectionId, _: &DisconnectReason, _: Duration) {
        let mut wire = self.wire();
        wire.closed = true;
        wire.incoming.push_back(Event::Disconnected);
    }
    fn stats(&self, _: ConnectionId) -> Option<ConnectionStats> {
        None
    }
    fn max_message(&self, channel: ChannelId) -> usize {
        match channel {
            ChannelId::UNRELIABLE => 1150,
            ChannelId::RELIABLE => 64 << 10,
            ChannelId::UNRELIABLE_FRAGMENTED => 256 << 10,
            _ => 0,
        }
    }
    fn channels(&self) -> &ChannelTable {
        &self.1
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// What was handed to the application.
#[derive(Resource, Default)]
pub struct Seen {
    pub chats: u64,
    pub logins: u64,
    pub hints: u64,
    pub questions: u64,
    pub answers: u64,
    pub receipts: u64,
    pub scenes: Vec<Tick>,
    pub moves: Vec<(Tick, Move)>,
    pub ended: Vec<DisconnectCode>,
}

pub struct Stage {
    pub app: App,
    pub wire: Arc<Mutex<Wire>>,
    pub clock: ManualClock,
    pub connection: Option<Entity>,
    server: bool,
}

impl Stage {
    pub fn new(plugin: NetworkStreamPlugin, server: bool) -> Self {
        let (wire, clock) = (Arc::new(Mutex::new(Wire::default())), ManualClock::new());
        let puppet = wire.clone();
        let mut app = App::new();
        app.add_plugins(
            plugin
                .with_clock(clock.clone())
                .with_random(SeededRandom::new(1))
                .with_driver_constructor(move |_| Some(Box::new(Puppet(puppet.clone(), ChannelTable::default())))),
        )
        .register_rpc::<Chat>()
        .register_approval_rpc::<Login>()
        .register_rpc_with::<Hint>(RpcOptions::new().unreliable().max_size(9).with_events())
        .register_rpc_with::<Score>(RpcOptions::new().direction(RpcDirection::ToClient))
        .register_request::<Question, Answer>(RpcOptions::new())
        .register_command::<Move>()
        .register_command::<Jump>()
        .register_snapshot_with::<Scene>(SnapshotOptions::new().delta())
        .register_snapshot::<Score>()
        .init_resource::<Seen>()
        .add_systems(Update, read)
        .add_systems(NetworkTick, take)
        .add_observer(|event: On<ConnectionEvent>, mut seen: ResMut<Seen>| {
            seen.ended.extend(event.reason.as_ref().map(|reason| reason.code));
        });
        if server {
            app.world_mut().resource_mut::<NetworkStreamDriver>().listen("ipc://fuzz").expect("it listens");
        }
        Self { app, wire, clock, connection: None, server }
    }

    pub fn push(&self, event: Event) {
        self.wire.lock().expect("nobody panics with it").incoming.push_back(event);
    }

    pub fn update(&mut self) {
        self.app.update();
        self.clock.advance(Duration::from_millis(17));
    }

    /// A new connection, as far as its link.
    pub fn link(&mut self) {
        {
            let mut wire = self.wire.lock().expect("nobody panics with it");
            wire.id += 1;
            wire.sent.clear();
            wire.incoming.clear();
            wire.closed = false;
        }
        if self.server {
            self.push(Event::Accepted);
        } else {
            let mut net = self.app.world_mut().resource_mut::<NetworkStreamDriver>();
            net.connect("ipc://fuzz").expect("the last one is over");
            self.push(Event::Connected);
        }
        self.update();
        self.connection = self.app.world().resource::<NetworkStreamDriver>().connections().next();
        assert!(self.connection.is_some());
    }

    /// Both ends have the same types: what this one would say first, it takes.
    pub fn record(&self) -> Vec<u8> {
        let net = self.app.world().resource::<NetworkStreamDriver>();
        let (driver, _) = net.drivers().iter().next().expect("it has one");
        net.greeting(driver)
    }

    pub fn shake_hands(&mut self) {
        self.push(Event::Message(ChannelId::RELIABLE, self.record()));
        if !self.server {
            let admitted = b"\x00\x04\x00\x01\x00\x00\x00secretsecretsecr";
            self.push(Event::Message(ChannelId::RELIABLE, admitted.to_vec()));
        }
        self.update();
        assert!(self.state().is_some_and(ConnectionState::is_connected), "{:?}", self.state());
    }

    pub fn enter_game(&mut self) {
        let connection = self.connection.expect("there is one");
        self.app.world_mut().entity_mut(connection).insert(NetworkStreamInGame);
        self.update();
    }

    /// Whether there is a Connected connection from before; else there is a new one now.
    pub fn connected(&mut self) -> bool {
        if self.state().is_some_and(ConnectionState::is_connected) {
            return true;
        }
        self.link();
        self.shake_hands();
        false
    }

    /// Cleans up after a connection that has had enough.
    pub fn end_if_ending(&mut self) {
        // What it sent is of interest to nobody.
        self.wire.lock().expect("nobody panics with it").sent.clear();
        if !self.state().is_some_and(ConnectionState::is_connected) {
            self.end();
        }
    }

    pub fn state(&self) -> Option<ConnectionState> {
        self.app.world().get::<ConnectionState>(self.connection?).copied()
    }

    /// The connection goes, and nothing of it is left.
    pub fn end(&mut self) {
        self.push(Event::Disconnected);
        self.update();
        self.update();
        let net = self.app.world().resource::<NetworkStreamDriver>();
        assert_eq!(net.connections().count(), 0);
        let codes = std::mem::take(&mut self.app.world_mut().resource_mut::<Seen>().ended);
        assert_eq!(codes.len(), 1, "every connection ends once");
        use DisconnectCode::{ConnectionClose, Flood, InvalidRpc, ProtocolMismatch, ProtocolViolation};
        let allowed = [ConnectionClose, Flood, InvalidRpc, ProtocolMismatch, ProtocolViolation];
        assert!(allowed.contains(&codes[0]), "{codes:?}");
    }
}

fn read(
    mut seen: ResMut<Seen>,
    mut chats: MessageReader<ReceivedRpc<Chat>>,
    mut logins: MessageReader<ReceivedRpc<Login>>,
    mut hints: MessageReader<ReceivedRpc<Hint>>,
    mut questions: MessageReader<ReceivedRequest<Question>>,
    mut answers: MessageReader<Response<Answer>>,
    mut receipts: MessageReader<RpcReceipt>,
    mut scenes: MessageReader<ReceivedSnapshot<Scene>>,
    mut rpcs: RpcSender,
) {
    seen.chats += chats.read().filter(|chat| *chat.rpc != Chat::Hello).count() as u64;
    seen.logins += logins.read().filter(|login| login.rpc.0.len() < 9000).count() as u64;
    seen.hints += hints.read().filter(|hint| hint.rpc.0 > 0).count() as u64;
    for question in questions.read() {
        seen.questions += 1;
        let _ = rpcs.respond(question, &Answer(question.request.0.len() as u8));
    }
    seen.answers += answers.read().count() as u64;
    seen.receipts += receipts.read().count() as u64;
    seen.scenes.extend(scenes.read().map(|scene| scene.tick));
}

fn take(time: Res<NetworkTime>, mut players: Query<&mut CommandBuffer<Move>>, mut seen: ResMut<Seen>) {
    for mut commands in &mut players {
        seen.moves.extend(commands.take(time.tick()).map(|command| (time.tick(), command)));
        assert!(commands.take(time.tick()).is_none(), "one per tick");
    }
}

/// Takes one byte off the front.
pub fn byte(data: &mut &[u8]) -> Option<u8> {
    let (first, rest) = data.split_first()?;
    *data = rest;
    Some(*first)
}

/// Takes so many bytes off the front, or what is left.
pub fn bytes<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    head
}
