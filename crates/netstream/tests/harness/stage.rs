//! A hostile peer: it speaks through a bare driver, and says what it likes.

use bevy_app::App;
use netstream::driver::transport::{ChannelId, ConnectionId, Incoming};
use netstream::driver::{Clock, Credentials, IpcDriver, ManualClock, NetworkDriver};
use netstream::prelude::*;

use super::{Peer, STEP};
use ConnectionState::Approval;

const RELIABLE: ChannelId = ChannelId::RELIABLE;

/// A server with one honest player, and a hostile peer that speaks through a bare driver.
pub struct Stage {
    pub server: Peer,
    pub honest: Peer,
    pub clock: ManualClock,
    pub driver: IpcDriver,
    pub hostile: ConnectionId,
    pub received: Vec<Vec<u8>>,
    pub ended: Option<DisconnectReason>,
}

impl Stage {
    pub fn new(plugin: NetworkStreamPlugin) -> Self {
        Self::with(plugin, |_| {})
    }

    /// `setup` adds what the test needs to the server and to the honest player.
    pub fn with(plugin: NetworkStreamPlugin, setup: impl Fn(&mut App)) -> Self {
        let (clock, hub) = (ManualClock::new(), IpcHub::new());
        let mut server = Peer::new(plugin.with_clock(clock.clone()).with_ipc(&hub));
        setup(&mut server.app);
        server.net().listen("ipc://arena").unwrap();
        let mut honest = Peer::new(NetworkStreamPlugin::client().with_clock(clock.clone()).with_ipc(&hub));
        setup(&mut honest.app);
        let player = honest.net().connect("ipc://arena").unwrap();
        let mut driver = IpcDriver::new(&hub);
        let endpoint = "ipc://arena".parse().unwrap();
        let hostile = driver.connect(clock.now(), &endpoint, &Credentials::None).unwrap();
        let mut stage = Self { server, honest, clock, driver, hostile, received: Vec::new(), ended: None };
        stage.step();
        let _ = player;
        stage
    }

    pub fn step(&mut self) {
        let now = self.clock.now();
        self.driver.flush(now);
        self.server.app.update();
        if let Some(&player) = self.server.connections().first()
            && self.server.state(player) == Some(Approval)
        {
            self.server.net().approve(player).unwrap();
        }
        self.honest.app.update();
        let Self { driver, received, ended, .. } = self;
        driver.receive(now, &mut |incoming| match incoming {
            Incoming::Message { bytes, .. } => received.push(bytes.to_vec()),
            Incoming::Disconnected { reason, .. } => *ended = Some(reason),
            _ => {}
        });
        self.clock.advance(STEP);
    }

    pub fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.step());
    }

    pub fn send(&mut self, channel: ChannelId, message: &[u8]) {
        self.driver.send(self.clock.now(), self.hostile, channel, message).unwrap();
    }

    /// Says what a client with the types of the server says first.
    pub fn shake_hands(&mut self) {
        self.steps(2);
        let driver = self.server.net().endpoints().next().expect("it listens").driver;
        let greeting = self.server.net().greeting(driver);
        self.send(RELIABLE, &greeting);
        self.steps(3);
    }

    /// The hostile connection is over on both ends with this code, and the honest player plays on.
    pub fn thrown_out(mut self, code: DisconnectCode) {
        self.steps(5);
        let reason = self.ended.clone().expect("the hostile peer is told");
        assert_eq!((reason.code, reason.origin), (code, Origin::Remote), "{reason}");
        let hostile = self.server.connection();
        assert_eq!(self.server.reason_of(hostile).code, code);
        assert!(!self.server.reason_of(hostile).text.is_empty(), "it says what was wrong");
        assert!(self.server.net().counters().violations > 0);
        self.play_on();
    }

    pub fn play_on(&mut self) {
        let player = self.honest.connection();
        self.honest.say(player, 1, "still here").unwrap();
        self.steps(5);
        assert_eq!(self.server.seen().says.len(), 1);
        assert!(self.honest.state(player).is_some_and(ConnectionState::is_connected));
        self.server.check(true);
        self.honest.check(false);
    }
}
