//! A driver that writes down which packets of ticks pass through it, and what these say, read by the tables in
//! `docs/data.md` and by nothing of netstream.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netstream::driver::link::LinkSimulator;
use netstream::driver::{ConnectError, ConnectionStats, Credentials, Endpoint, ListenError, NetworkDriver, SendError};
use netstream::prelude::*;
use netstream::transport::channel::ChannelTable;
use netstream::transport::{ChannelId, ConnectionId, DisconnectReason, Incoming, Now};

/// What a client's packet says.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandPacket {
    /// Which commands are in it, by type and tick.
    pub commands: Vec<(u32, Tick)>,
    /// Which snapshots it acknowledges.
    pub acks: Vec<Tick>,
    pub wants_full: bool,
}

/// What a server's packet says.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotPacket {
    pub tick: Tick,
    /// Of each section, the tick that it is the delta from.
    pub bases: Vec<Option<Tick>>,
    /// How long the message is, in bytes.
    pub length: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    Commands(CommandPacket),
    Snapshots(SnapshotPacket),
}

/// What passed through one end's driver, in both directions.
#[derive(Debug, Default, PartialEq)]
pub struct Passed {
    pub left: Vec<Packet>,
    pub arrived: Vec<Packet>,
}

pub type Book = Arc<Mutex<Passed>>;

pub struct Tap(pub Box<dyn NetworkDriver>, pub Book);

impl NetworkDriver for Tap {
    fn scheme(&self) -> &'static str {
        self.0.scheme()
    }
    fn listen(&mut self, now: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError> {
        self.0.listen(now, endpoint)
    }
    fn stop_listening(&mut self, now: Now) {
        self.0.stop_listening(now);
    }
    fn listening(&self) -> Option<Endpoint> {
        self.0.listening()
    }
    fn connect(
        &mut self,
        now: Now,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<ConnectionId, ConnectError> {
        self.0.connect(now, endpoint, credentials)
    }
    fn receive(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        let book = &self.1;
        self.0.receive(now, &mut |incoming| {
            if let Incoming::Message { bytes, .. } = &incoming {
                book.lock().unwrap().arrived.extend(read(bytes));
            }
            sink(incoming);
        });
    }
    fn send(&mut self, now: Now, to: ConnectionId, channel: ChannelId, message: &[u8]) -> Result<(), SendError> {
        self.0.send(now, to, channel, message)?;
        self.1.lock().unwrap().left.extend(read(message));
        Ok(())
    }
    fn flush(&mut self, now: Now) {
        self.0.flush(now);
    }
    fn disconnect(&mut self, now: Now, connection: ConnectionId, reason: &DisconnectReason, linger: Duration) {
        self.0.disconnect(now, connection, reason, linger);
    }
    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }
    fn stats(&self, connection: ConnectionId) -> Option<ConnectionStats> {
        self.0.stats(connection)
    }
    fn max_message(&self, channel: ChannelId) -> usize {
        self.0.max_message(channel)
    }
    fn channels(&self) -> &ChannelTable {
        self.0.channels()
    }
    fn packet_simulator(&mut self) -> Option<&mut LinkSimulator> {
        self.0.packet_simulator()
    }
    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self.0.as_any_mut()
    }
}

/// The packet of a tick that a message is, if it is one.
fn read(message: &[u8]) -> Option<Packet> {
    match message.split_first()? {
        (4, body) => Some(Packet::Commands(commands(&mut &*body))),
        (5, body) => snapshots(&mut &*body, message.len()).map(Packet::Snapshots),
        _ => None,
    }
}

fn commands(body: &mut &[u8]) -> CommandPacket {
    let flags = take(body, 1)[0];
    let tick = tick(body);
    let mut acks = Vec::new();
    if flags & 1 == 1 {
        let newest = self::tick(body);
        let mask = u32::from_le_bytes(take(body, 4).try_into().unwrap());
        acks = vec![newest];
        acks.extend((0..32).filter(|bit| mask >> bit & 1 == 1).map(|bit| newest - 1 - bit));
    }
    let mut commands = Vec::new();
    while !body.is_empty() {
        let kind = number(body);
        let count = take(body, 1)[0];
        let mut at = tick - number(body);
        let length = number(body);
        take(body, length);
        commands.push((kind, at));
        for _ in 1..count {
            let step = number(body);
            at = at - (step >> 1);
            commands.push((kind, at));
            if step & 1 == 0 {
                number(body);
                let size = number(body);
                take(body, size);
            }
        }
    }
    CommandPacket { commands, acks, wants_full: flags & 2 == 2 }
}

/// `None` where only the time is told.
fn snapshots(body: &mut &[u8], length: usize) -> Option<SnapshotPacket> {
    let flags = take(body, 1)[0];
    let tick = tick(body);
    take(body, if flags & 1 == 1 { 10 } else { 1 });
    let mut bases = Vec::new();
    while !body.is_empty() {
        number(body);
        let back = number(body);
        let whole = number(body);
        let size = if back > 0 { number(body) } else { whole };
        take(body, size);
        bases.push((back > 0).then(|| tick - back));
    }
    (!bases.is_empty()).then_some(SnapshotPacket { tick, bases, length })
}

fn take<'a>(body: &mut &'a [u8], count: u32) -> &'a [u8] {
    let (head, rest) = body.split_at(count as usize);
    *body = rest;
    head
}

fn tick(body: &mut &[u8]) -> Tick {
    Tick::new(u32::from_le_bytes(take(body, 4).try_into().unwrap()))
}

/// A number in 7-bit groups, lowest first.
fn number(body: &mut &[u8]) -> u32 {
    let mut number = 0;
    for group in 0.. {
        let byte = take(body, 1)[0];
        number |= u32::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}
