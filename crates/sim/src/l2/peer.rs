//! One World: a real App with the real plugin, and what it must never show.

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::NetworkStreamConnection;
use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::Mono;
use serde::{Deserialize, Serialize};

use super::ends::Ends;
use crate::invariant::Invariant;

/// What the game sends reliably.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Word(pub(super) Vec<u8>);

/// What the World's game has seen in one update.
#[derive(Resource, Default)]
struct Seen {
    /// Events by observers, at once.
    observed: Vec<ConnectionEvent>,
    /// Events by readers, in `Update`.
    read: Vec<ConnectionEvent>,
    words: Vec<(Entity, Vec<u8>)>,
    data: Vec<(Entity, Vec<u8>)>,
}

pub(super) struct Peer {
    pub(super) app: App,
    pub(super) side: Side,
    /// Names this life of the node.
    pub(super) world: usize,
    pub(super) node: u32,
    /// Events that observers saw and readers have not read yet.
    unread: Vec<ConnectionEvent>,
    last: Mono,
}

impl Peer {
    pub(super) fn new(plugin: NetworkStreamPlugin, side: Side, world: usize, node: u32, now: Mono) -> Self {
        let mut app = App::new();
        app.add_plugins(plugin)
            .register_rpc::<Word>()
            .init_resource::<Seen>()
            .add_observer(|event: On<'_, '_, ConnectionEvent>, mut seen: ResMut<'_, Seen>| {
                seen.observed.push(event.event().clone());
            })
            .add_systems(Update, read_everything);
        Self { app, side, world, node, unread: Vec::new(), last: now }
    }

    pub(super) fn net(&mut self) -> Mut<'_, NetworkStreamDriver> {
        self.app.world_mut().resource_mut::<NetworkStreamDriver>()
    }

    /// One update, and a look at everything that must hold after it.
    pub(super) fn update(&mut self, now: Mono, ends: &mut Ends) {
        self.app.update();
        let Seen { observed, read, words, data } = std::mem::take(&mut *self.app.world_mut().resource_mut::<Seen>());
        for event in &observed {
            ends.handle_event(now, self.world, self.node, self.side, event);
        }
        self.check_readers(now, observed, &read, ends);
        for (channel, messages) in [(1, &words), (0, &data)] {
            for (entity, bytes) in messages {
                ends.handle_message(now, self.world, *entity, channel, bytes, self.last);
            }
        }
        self.check_entities(now, ends);
        self.last = now;
    }

    /// I4: readers get what observers got, in the same order, one update later at most.
    fn check_readers(&mut self, now: Mono, observed: Vec<ConnectionEvent>, read: &[ConnectionEvent], ends: &mut Ends) {
        let due = self.unread.len();
        self.unread.extend(observed);
        let same = read.len() >= due && self.unread.starts_with(read);
        if !same {
            let what = format!("world {}: {} events were due, {} were read", self.world, due, read.len());
            ends.record.violate(now, Invariant::I4, what);
        }
        self.unread.drain(..read.len().min(self.unread.len()));
    }

    /// I5, I38: entities, components, queries and events agree.
    fn check_entities(&mut self, now: Mono, ends: &mut Ends) {
        let world = self.app.world_mut();
        let mut query = world.query::<(Entity, &NetworkStreamConnection, &ConnectionState)>();
        let entities: Vec<_> = query.iter(world).map(|(entity, line, state)| (entity, line.key(), *state)).collect();
        let net = world.resource::<NetworkStreamDriver>();
        let mut wrong = None;
        for (entity, key, state) in &entities {
            let end = ends.all.iter().rev().find(|end| end.world == self.world && end.key == *key);
            match end {
                Some(end) if end.ended.is_none() && end.entity == *entity => {
                    if end.state != *state || net.state(*entity) != Some(*state) {
                        let queried = net.state(*entity);
                        wrong = Some((
                            Invariant::I5,
                            format!("{entity}: {} told, {state} shown, {queried:?} answered", end.state),
                        ));
                    }
                }
                _ => wrong = Some((Invariant::I38, format!("{entity} in {state} is no live connection"))),
            }
        }
        let live = ends.live(self.world).count();
        if live != entities.len() {
            wrong = Some((Invariant::I38, format!("{live} live connections, {} entities", entities.len())));
        }
        if net.counters().refused_inputs > 0 {
            wrong = Some((Invariant::I1, format!("world {}: an input that no state has a row for", self.world)));
        }
        if let Some((rule, what)) = wrong {
            ends.record.violate(now, rule, what);
        }
    }
}

fn read_everything(
    mut seen: ResMut<'_, Seen>,
    mut events: MessageReader<'_, '_, ConnectionEvent>,
    mut words: MessageReader<'_, '_, ReceivedRpc<Word>>,
    mut commands: Query<'_, '_, (Entity, &mut IncomingCommandBuffer)>,
    mut snapshots: Query<'_, '_, (Entity, &mut IncomingSnapshotBuffer)>,
) {
    let seen = &mut *seen;
    seen.read.extend(events.read().cloned());
    seen.words.extend(words.read().map(|word| (word.connection, word.rpc.0.clone())));
    for (entity, mut buffer) in &mut commands {
        seen.data.extend(buffer.drain().map(|bytes| (entity, bytes.to_vec())));
    }
    for (entity, mut buffer) in &mut snapshots {
        seen.data.extend(buffer.drain().map(|bytes| (entity, bytes.to_vec())));
    }
}
