//! One World: a real App with the real plugin, and what it must never show.

use std::collections::BTreeMap;
use std::sync::Arc;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::Mono;
use netstream::{ConnectionIdentity, NetworkStreamConnection, update_network};
use serde::{Deserialize, Serialize};

use super::ends::Ends;
use crate::guest::Game;
use crate::invariant::Invariant;

/// What the game sends reliably.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Word(pub(super) Vec<u8>);

/// What a client wants to do in a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Step {
    tick: Tick,
    filling: Vec<u8>,
}

/// What the server shows of a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scene {
    tick: Tick,
    cells: Vec<u8>,
}

impl Step {
    fn of(tick: Tick) -> Self {
        Self { tick, filling: vec![tick.number() as u8; tick.number() as usize % 9] }
    }
}

impl Scene {
    /// Mostly what the one before showed; large ones come in fragments.
    fn of(tick: Tick) -> Self {
        let size = if tick.number() % 64 < 8 { 3000 } else { 60 };
        let mut cells = vec![7; size];
        cells[tick.number() as usize % size] = tick.number() as u8;
        Self { tick, cells }
    }
}

/// What the World's game has seen in one update.
#[derive(Resource, Default)]
struct Seen {
    /// Events by observers, at once; and whether they are of somebody who is known to be no player.
    observed: Vec<(ConnectionEvent, bool)>,
    /// Events by readers, in `Update`.
    read: Vec<ConnectionEvent>,
    words: Vec<(Entity, Vec<u8>)>,
    data: Vec<(Entity, Vec<u8>)>,
    /// Commands that were applied, with the tick that was simulated.
    applied: Vec<(Entity, Tick, Step)>,
    scenes: Vec<(Entity, Tick, Scene)>,
}

pub(super) struct Peer {
    pub(super) app: App,
    pub(super) side: Side,
    /// Names this life of the node.
    pub(super) world: usize,
    pub(super) node: u32,
    pub(super) guest: Option<Arc<dyn Game>>,
    /// Events that observers saw and readers have not read yet.
    unread: Vec<ConnectionEvent>,
    /// The newest ticks of commands and of snapshots, by connection.
    ticks: BTreeMap<(bool, Entity), Tick>,
    last: Mono,
}

impl Peer {
    /// `typed` says whether its game sends commands and snapshots in every tick.
    pub(super) fn new(
        plugin: NetworkStreamPlugin,
        side: Side,
        world: usize,
        node: u32,
        now: Mono,
        typed: bool,
        guest: Option<Arc<dyn Game>>,
    ) -> Self {
        let mut app = App::new();
        app.add_plugins(plugin)
            .register_rpc::<Word>()
            .register_command::<Step>()
            .register_snapshot_with::<Scene>(SnapshotOptions::new().delta())
            .init_resource::<Seen>()
            .add_observer(
                |event: On<'_, '_, ConnectionEvent>,
                 identities: Query<'_, '_, &ConnectionIdentity>,
                 mut seen: ResMut<'_, Seen>| {
                    let event = event.event();
                    let identity = identities.get(event.connection);
                    let is_rogue = identity.is_ok_and(|identity| identity.0.client_id >= super::rogue::IDENTITIES);
                    seen.observed.push((event.clone(), is_rogue));
                },
            )
            .add_systems(Update, read_everything);
        match side {
            Side::Server => app.add_systems(NetworkTick, move |world: &mut World| simulate(world, typed)),
            Side::Client if typed => app.add_systems(NetworkTick, control),
            Side::Client => &mut app,
        };
        if let Some(guest) = &guest {
            guest.build(&mut app, side);
        }
        Self { app, side, world, node, guest, unread: Vec::new(), ticks: BTreeMap::new(), last: now }
    }

    pub(super) fn net(&mut self) -> Mut<'_, NetworkStreamDriver> {
        self.app.world_mut().resource_mut::<NetworkStreamDriver>()
    }

    /// One update, and a look at everything that must hold after it. On every other node the network acts before it, too.
    pub(super) fn update(&mut self, now: Mono, ends: &mut Ends) {
        if self.node % 2 == 1 {
            update_network(self.app.world_mut());
        }
        self.app.update();
        let seen = std::mem::take(&mut *self.app.world_mut().resource_mut::<Seen>());
        for (event, is_rogue) in &seen.observed {
            ends.handle_event(now, self.world, self.node, self.side, event, *is_rogue);
        }
        let observed = seen.observed.into_iter().map(|(event, _)| event).collect();
        self.check_readers(now, observed, &seen.read, ends);
        for (channel, messages) in [(1, &seen.words), (0, &seen.data)] {
            for (entity, bytes) in messages {
                ends.handle_message(now, self.world, *entity, channel, bytes, self.last);
            }
        }
        for (entity, tick, step) in &seen.applied {
            if *step != Step::of(*tick) || !self.is_newer(true, *entity, *tick) {
                let what = format!("world {}: {step:?} of {entity} was applied in {tick:?}", self.world);
                ends.record.violate(now, Invariant::I40, what);
            }
        }
        for (entity, tick, scene) in &seen.scenes {
            if *scene != Scene::of(*tick) || !self.is_newer(false, *entity, *tick) {
                let what = format!("world {}: the snapshot of {tick:?} shows {:?}", self.world, scene.tick);
                ends.record.violate(now, Invariant::I41, what);
            }
        }
        let sometimes = &mut ends.record.sometimes;
        sometimes.add("a command is applied in its tick", u64::from(!seen.applied.is_empty()));
        sometimes.add("a snapshot of a tick is read", u64::from(!seen.scenes.is_empty()));
        self.check_entities(now, ends);
        if let Err((rule, what)) = crate::guest::check(self.guest.as_ref(), self.app.world_mut(), self.side) {
            ends.record.violate(now, rule, format!("world {}: {what}", self.world));
        }
        self.last = now;
    }

    fn is_newer(&mut self, command: bool, entity: Entity, tick: Tick) -> bool {
        self.ticks.insert((command, entity), tick).is_none_or(|last| tick.is_after(last))
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

/// A client's tick: what it wants to do.
fn control(time: Res<'_, NetworkTime>, mut commands: CommandSender<'_, '_>) {
    // Refused while there is nobody to send it to.
    let _ = commands.send(&Step::of(time.tick()));
}

/// A server's tick: every player's command is applied, and everybody is shown the scene.
fn simulate(world: &mut World, typed: bool) {
    let tick = world.resource::<NetworkTime>().tick();
    let mut players = world.query_filtered::<(Entity, &mut CommandBuffer<Step>), With<NetworkStreamInGame>>();
    let mut applied = Vec::new();
    let mut present = Vec::new();
    for (player, mut commands) in players.iter_mut(world) {
        applied.extend(commands.take(tick).map(|step| (player, tick, step)));
        present.push(player);
    }
    world.resource_mut::<Seen>().applied.append(&mut applied);
    if !typed || !tick.number().is_multiple_of(3) {
        return;
    }
    use bevy_ecs::system::RunSystemOnce;
    let show = move |mut snapshots: SnapshotSender<'_, '_>| {
        for player in &present {
            let _ = snapshots.send(*player, &Scene::of(tick));
        }
    };
    let _ = world.run_system_once(show);
}

fn read_everything(
    mut seen: ResMut<'_, Seen>,
    mut events: MessageReader<'_, '_, ConnectionEvent>,
    mut words: MessageReader<'_, '_, ReceivedRpc<Word>>,
    mut scenes: MessageReader<'_, '_, ReceivedSnapshot<Scene>>,
    mut commands: Query<'_, '_, (Entity, &mut IncomingCommandBuffer)>,
    mut snapshots: Query<'_, '_, (Entity, &mut IncomingSnapshotBuffer)>,
) {
    let seen = &mut *seen;
    seen.read.extend(events.read().cloned());
    seen.words.extend(words.read().map(|word| (word.connection, word.rpc.0.clone())));
    seen.scenes.extend(scenes.read().map(|scene| (scene.connection, scene.tick, scene.snapshot.clone())));
    for (entity, mut buffer) in &mut commands {
        seen.data.extend(buffer.drain().map(|bytes| (entity, bytes.to_vec())));
    }
    for (entity, mut buffer) in &mut snapshots {
        seen.data.extend(buffer.drain().map(|bytes| (entity, bytes.to_vec())));
    }
}
