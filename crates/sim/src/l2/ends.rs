//! Every end of every connection, of all Worlds, and what must hold of it.

use bevy_ecs::entity::Entity;
use netstream::driver::{ConnectionKey, DriverId};
use netstream::state::{Side, TRANSITIONS, first_state};
use netstream::transport::{DisconnectCode, DisconnectReason, Mono, Origin};
use netstream::{ConnectionEvent, ConnectionState};

use crate::invariant::Invariant;
use crate::oracle::{Received, Sent};
use crate::plan::CHANNELS;
use crate::stage::Record;

/// One end of a connection. Its place in the list is the name of what it sends.
#[derive(Debug)]
pub(super) struct End {
    /// Names the World's life: a World that was started anew is another one.
    pub(super) world: usize,
    pub(super) side: Side,
    pub(super) entity: Entity,
    pub(super) key: ConnectionKey,
    pub(super) state: ConnectionState,
    /// All of them so far, and why it is over.
    pub(super) word: Vec<ConnectionState>,
    pub(super) reason: Option<DisconnectReason>,
    /// Nobody judges what it says.
    pub(super) rogue: bool,
    /// Since when it is on its way out.
    pub(super) ending: Option<Mono>,
    pub(super) network_id: Option<u32>,
    /// When it was connected, and when it was over or its World was gone.
    pub(super) connected: Option<Mono>,
    pub(super) ended: Option<Mono>,
    /// The other end, once a message has told.
    pub(super) other: Option<usize>,
    pub(super) sent: Sent,
    pub(super) received: Received,
}

/// All ends of a run.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) record: Record,
    pub(super) all: Vec<End>,
    pub(super) largest: [usize; CHANNELS],
    /// What anybody has ever given as a reason.
    pub(super) said: Vec<DisconnectReason>,
    /// The client whose version of the game is another one.
    pub(super) foreign: Option<u32>,
    /// Drivers that are gone: of which World, and since when.
    pub(super) removed: Vec<(usize, DriverId, Mono)>,
}

/// What the connections of a removed driver are told.
pub(super) fn removal(driver: DriverId) -> DisconnectReason {
    DisconnectReason::local(DisconnectCode::ServerShutdown).with_text(&format!("{driver:?} goes"))
}

impl Ends {
    /// The end that is or was this entity of this World.
    pub(super) fn find(&self, world: usize, entity: Entity) -> Option<usize> {
        self.all.iter().rposition(|end| end.world == world && end.entity == entity)
    }

    /// I1, I2, I6, I12: judges one event of a World, in the order in which observers saw it.
    pub(super) fn handle_event(
        &mut self,
        now: Mono,
        world: usize,
        node: u32,
        side: Side,
        event: &ConnectionEvent,
        rogue: bool,
    ) {
        if self.foreign == Some(node) && event.state.is_connected() {
            self.record.violate(now, Invariant::I11, "a client of another version is Connected");
        }
        let known = self.all.iter().rposition(|end| end.world == world && end.key == event.key);
        self.record.journal.note(now, node, "event", word(event.state), || {
            let reason = event.reason.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{:?} {} {reason}", known, event.state)
        });
        if event.reason.is_some() != (event.state == ConnectionState::Disconnected) {
            self.record.violate(now, Invariant::I6, format!("{} with reason {:?}", event.state, event.reason));
        }
        match known {
            None if event.state == first_state(side).0 => self.all.push(End {
                world,
                side,
                entity: event.connection,
                key: event.key,
                state: event.state,
                word: vec![event.state],
                reason: None,
                rogue,
                ending: None,
                network_id: None,
                connected: None,
                ended: None,
                other: None,
                sent: Sent::default(),
                received: Received::default(),
            }),
            None => {
                self.record.violate(now, Invariant::I1, format!("the first event of a connection is {}", event.state));
            }
            Some(end) => self.follow(now, end, event),
        }
    }

    fn follow(&mut self, now: Mono, place: usize, event: &ConnectionEvent) {
        let Self { record, all, said, .. } = self;
        let end = &mut all[place];
        if end.ended.is_some() {
            return record.violate(now, Invariant::I2, format!("end {place}: {} after the end", event.state));
        }
        let fits = TRANSITIONS
            .iter()
            .any(|row| row.from == end.state && row.to == event.state && row.side.is_none_or(|side| side == end.side));
        if !fits {
            record.violate(now, Invariant::I1, format!("end {place}: {} after {}", event.state, end.state));
        }
        end.state = event.state;
        end.word.push(event.state);
        if event.state.is_ending() {
            end.ending.get_or_insert(now);
        }
        end.network_id = event.network_id.map(|id| id.number());
        if event.state.is_connected() && end.connected.is_none() {
            end.connected = Some(now);
        }
        if let Some(reason) = &event.reason {
            end.ended = Some(now);
            end.reason = Some(reason.clone());
            record.sometimes.count(&format!("{:?}: {} {:?}", end.side, reason.code.name(), reason.origin));
            // What the game says has a text of its own; the other codes are the library's.
            let from_game = matches!(reason.code, DisconnectCode::Application(_) | DisconnectCode::Kicked);
            let known = said.iter().any(|said| said.code == reason.code && said.text == reason.text);
            if from_game && (!known || reason.origin == Origin::Link) {
                record.violate(now, Invariant::I6, format!("end {place}: nobody said {reason}"));
            }
            if reason.text.as_str().ends_with(" goes")
                && reason.origin == Origin::Local
                && *reason != removal(end.key.driver)
            {
                record.violate(now, Invariant::I46, format!("end {place} of {:?}: {reason}", end.key.driver));
            }
            if reason.code == DisconnectCode::ProtocolViolation && !end.rogue {
                record.violate(now, Invariant::I26, format!("end {place}: {reason}"));
            }
        }
        let id = end.network_id;
        let (world, is_new) = (end.world, event.state == ConnectionState::Accepted && end.side == Side::Server);
        if is_new {
            let twice = all.iter().enumerate().any(|(other, end)| {
                // Whoever comes back with a ticket takes the id over from a connection that is ended by that.
                other != place && end.world == world && end.ending.is_none() && end.network_id == id
            });
            if id.is_none() || twice {
                record.violate(now, Invariant::I12, format!("end {place} has network id {id:?}"));
            }
        }
    }

    /// I10, I11, I19, I21 to I24, I39: judges a message that a World's game has read.
    pub(super) fn handle_message(
        &mut self,
        now: Mono,
        world: usize,
        entity: Entity,
        channel: u8,
        bytes: &[u8],
        last_update: Mono,
    ) {
        let Some(place) = self.find(world, entity) else {
            return self.record.violate(now, Invariant::I39, format!("a message of {entity}, which is no connection"));
        };
        let end = &self.all[place];
        if end.rogue {
            return;
        }
        if end.ended.is_some_and(|ended| ended <= last_update) {
            return self.record.violate(now, Invariant::I10, format!("a message for end {place}, which is over"));
        }
        if end.ending.is_some_and(|ending| ending <= last_update) {
            return self.record.violate(now, Invariant::I39, format!("a message for end {place}, which is ending"));
        }
        if end.connected.is_none() {
            // Version and approval come before Connected.
            return self.record.violate(now, Invariant::I11, format!("a message for end {place} in {}", end.state));
        }
        let other = match end.other {
            Some(other) => other,
            None => {
                let named = bytes.first_chunk().map_or(usize::MAX, |stream| u32::from_le_bytes(*stream) as usize);
                let fits = self
                    .all
                    .get(named)
                    .is_some_and(|other| other.side != end.side && other.other.is_none_or(|back| back == place));
                if !fits {
                    return self.record.violate(
                        now,
                        Invariant::I21,
                        format!("end {place} got a message of end {named}"),
                    );
                }
                self.all[place].other = Some(named);
                self.all[named].other = Some(place);
                named
            }
        };
        if let Err((rule, what)) = self.all[place].received.check(other as u32, channel, bytes, &self.largest) {
            self.record.violate(now, rule, format!("end {place}: {what}"));
        }
    }

    /// I46: after the next update nobody is left whose driver was removed.
    pub(super) fn check_removed(&mut self, now: Mono, world: usize) {
        let gone = |end: &End| {
            self.removed.iter().any(|(of, driver, since)| *of == end.world && *driver == end.key.driver && *since < now)
        };
        let left = self.all.iter().position(|end| end.world == world && end.ended.is_none() && gone(end));
        if let Some(place) = left {
            self.record.violate(now, Invariant::I46, format!("end {place} is still there, its driver is not"));
        }
    }

    /// A World is gone.
    pub(super) fn bury(&mut self, now: Mono, world: usize) {
        for end in self.all.iter_mut().filter(|end| end.world == world) {
            end.ending.get_or_insert(now);
            end.ended.get_or_insert(now);
        }
    }

    /// Those of a World that are not over.
    pub(super) fn live(&self, world: usize) -> impl Iterator<Item = (usize, &End)> {
        self.all.iter().enumerate().filter(move |(_, end)| end.world == world && end.ended.is_none())
    }
}

/// The place of a state in the list of all.
fn word(state: ConnectionState) -> u64 {
    ConnectionState::ALL.iter().position(|known| *known == state).unwrap_or(usize::MAX) as u64
}
