//! The client's side: what arrived is decoded, handed out in the order of ticks, and acknowledged.

use bevy_ecs::component::Component;
use bevy_ecs::entity::Entity;
use bevy_ecs::resource::Resource;
use bevy_ecs::world::World;
use netstream_driver::transport::Mono;

use super::baseline::Baselines;
use super::registry::{SnapshotEntry, SnapshotRegistry};
use super::wire::{Section, read_header, read_sections};
use super::{FULL_EVERY, delta};
use crate::NetworkStreamDriver;
use crate::queue::MessageQueue;
use crate::session::wire::Reader;
use crate::tick::Tick;
use crate::time::NetworkTime;

/// Client: which of the snapshots that arrive in one update are handed out. A resource; insert another one at any time.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotDelivery {
    /// The newest; what it overtakes is neither handed out nor acknowledged.
    #[default]
    NewestWins,
    /// Every one that is newer than all before it, in the order of their ticks.
    EveryOne,
}

/// Client: how snapshots arrive; on the connection's entity. All counts are since the game was entered.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotArrivals {
    /// The newest tick that was handed out.
    pub newest: Option<Tick>,
    /// Messages with snapshots.
    pub arrived: u64,
    /// Those of them that were handed out, and acknowledged; of a thin client, those that were acknowledged.
    pub applied: u64,
    /// Dropped because a newer one was there in the same update.
    pub superseded: u64,
    /// Dropped because a newer one was handed out before, or the same.
    pub stale: u64,
    /// Dropped because the snapshot that they differ from is not here; a whole one was asked for.
    pub unknown_baseline: u64,
}

/// Client: snapshots that the server sent as bytes, with their ticks; on the connection's entity. Read them by
/// [`drain`](Self::drain); at most 8 wait, then the oldest goes.
#[derive(Component, Debug, Default)]
pub struct TickSnapshots {
    queue: MessageQueue,
}

/// The most snapshots in bytes that wait to be read.
const MAX_WAITING: usize = 8;

impl TickSnapshots {
    /// Takes what arrived, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = (Tick, &[u8])> {
        self.queue.drain().filter_map(|message| {
            let (tick, bytes) = message.split_first_chunk()?;
            Some((Tick::new(u32::from_le_bytes(*tick)), bytes))
        })
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn push(&mut self, tick: Tick, bytes: &[u8]) {
        if self.queue.len() >= MAX_WAITING {
            self.queue.pop_front();
        }
        self.queue.push_parts(&[&tick.number().to_le_bytes(), bytes]);
    }
}

/// Client: what of the server's snapshots was processed.
#[derive(Component, Debug, Default)]
pub(crate) struct SnapshotInbox {
    /// The newest tick that was processed, and for the 32 before it whether they were.
    processed: Option<(Tick, u32)>,
    /// By type number.
    baselines: Vec<Baselines>,
    /// A baseline is missing.
    lost: bool,
    asked: Option<Mono>,
    /// Of a thin client: what arrives whole is acknowledged, and not decoded.
    pub(crate) thin: bool,
}

impl SnapshotInbox {
    /// Of a client that decodes, or of a thin one.
    pub(crate) fn new(thin: bool) -> Self {
        Self { thin, ..Self::default() }
    }

    /// What the server is told.
    pub(crate) fn acks(&self) -> Option<(Tick, u32)> {
        self.processed
    }

    /// Whether the server shall be asked for whole snapshots now.
    pub(crate) fn ask(&mut self, now: Mono) -> bool {
        // A little more than the server's second, because the way there may be quicker this time.
        let soon = self.asked.is_some_and(|asked| now.since(asked) < FULL_EVERY * 9 / 8);
        if !self.lost || soon {
            return false;
        }
        self.asked = Some(now);
        true
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { asked: self.asked, thin: self.thin, ..Self::default() };
    }

    fn is_news(&self, tick: Tick) -> bool {
        self.processed.is_none_or(|(newest, _)| tick.is_after(newest))
    }

    fn processed(&mut self, tick: Tick) {
        let mask = self.processed.map_or(0, |(newest, mask)| {
            let gap = tick.since(newest).unsigned_abs();
            // The former newest goes into the mask, the others move on.
            let moved = mask.checked_shl(gap).unwrap_or(0);
            moved | 1u32.checked_shl(gap - 1).unwrap_or(0)
        });
        self.processed = Some((tick, mask));
    }
}

/// Memory for reading, used again and again.
#[derive(Resource, Debug, Default)]
pub(crate) struct SnapshotScratch {
    sections: Vec<Section>,
    /// Snapshots of this update that are news: their ticks and where in the queue they are.
    order: Vec<(Tick, usize)>,
    decoded: Vec<u8>,
}

/// What became of one message.
enum Outcome {
    Applied,
    UnknownBaseline,
}

/// Reads what the server sent; `Err` says what was wrong with it.
pub(crate) fn read(world: &mut World, connection: Entity, queue: &mut MessageQueue) -> Result<(), &'static str> {
    let mut scratch = std::mem::take(&mut *world.get_resource_or_init::<SnapshotScratch>());
    let done = read_all(world, connection, queue, &mut scratch);
    world.insert_resource(scratch);
    queue.clear();
    done
}

fn read_all(
    world: &mut World,
    connection: Entity,
    queue: &MessageQueue,
    scratch: &mut SnapshotScratch,
) -> Result<(), &'static str> {
    let registry = world.get_resource::<SnapshotRegistry>();
    let types = registry.map(|registry| registry.0.by_number()).unwrap_or_default();
    let delivery = world.get_resource::<SnapshotDelivery>().copied().unwrap_or_default();
    let now = world.resource_mut::<NetworkStreamDriver>().now().mono;
    scratch.order.clear();
    let mut newest = None;
    let (mut arrived, mut stale) = (0, 0);
    for (index, message) in queue.iter().enumerate() {
        let mut reader = Reader(message);
        let report = read_header(&mut reader).ok_or("malformed snapshot header")?;
        if newest.is_none_or(|(tick, _)| report.tick.is_after(tick)) {
            newest = Some((report.tick, report));
        }
        if reader.0.is_empty() {
            continue;
        }
        arrived += 1;
        let is_news = world.get::<SnapshotInbox>(connection).is_some_and(|inbox| inbox.is_news(report.tick));
        if is_news && scratch.order.iter().all(|(tick, _)| *tick != report.tick) {
            scratch.order.push((report.tick, index));
        } else {
            stale += 1;
        }
    }
    if let (Some((_, report)), Some(mut time)) = (newest, world.get_resource_mut::<NetworkTime>())
        && time.connection == Some(connection)
    {
        time.client.report(now, report);
    }
    if let Some(mut arrivals) = world.get_mut::<SnapshotArrivals>(connection) {
        arrivals.arrived += arrived;
        arrivals.stale += stale;
    }
    if world.get::<SnapshotInbox>(connection).is_none() {
        return Ok(());
    }
    let Some(&(first, _)) = scratch.order.first() else { return Ok(()) };
    let mut order = std::mem::take(&mut scratch.order);
    order.sort_unstable_by_key(|(tick, _)| tick.since(first));
    let done = apply_in_order(world, connection, queue, &order, delivery, &types, scratch);
    scratch.order = order;
    done
}

fn apply_in_order(
    world: &mut World,
    connection: Entity,
    queue: &MessageQueue,
    order: &[(Tick, usize)],
    delivery: SnapshotDelivery,
    types: &[SnapshotEntry],
    scratch: &mut SnapshotScratch,
) -> Result<(), &'static str> {
    let mut apply = |&(tick, index): &(Tick, usize)| {
        let message = queue.iter().nth(index).unwrap_or_default();
        let mut reader = Reader(message);
        read_header(&mut reader).ok_or("malformed snapshot header")?;
        apply(world, connection, tick, reader.0, types, scratch)
    };
    let (mut applied, mut unknown) = (0, 0);
    let mut count = |outcome| match outcome {
        Outcome::Applied => applied += 1,
        Outcome::UnknownBaseline => unknown += 1,
    };
    match delivery {
        SnapshotDelivery::EveryOne => {
            for message in order {
                count(apply(message)?);
            }
        }
        // If the newest cannot be understood, perhaps the one before it can.
        SnapshotDelivery::NewestWins => {
            for message in order.iter().rev() {
                let outcome = apply(message)?;
                let done = matches!(outcome, Outcome::Applied);
                count(outcome);
                if done {
                    break;
                }
            }
        }
    }
    let newest = world.get::<SnapshotInbox>(connection).and_then(|inbox| inbox.processed).map(|(newest, _)| newest);
    if let Some(mut arrivals) = world.get_mut::<SnapshotArrivals>(connection) {
        arrivals.newest = newest;
        arrivals.applied += applied;
        arrivals.unknown_baseline += unknown;
        arrivals.superseded += order.len() as u64 - applied - unknown;
    }
    if let (Some(newest), true, Some(mut time)) = (newest, applied > 0, world.get_resource_mut::<NetworkTime>()) {
        time.client.snapshot(newest);
    }
    Ok(())
}

/// Decodes one message whole; only if all of it is right, it is handed out.
fn apply(
    world: &mut World,
    connection: Entity,
    tick: Tick,
    body: &[u8],
    types: &[SnapshotEntry],
    scratch: &mut SnapshotScratch,
) -> Result<Outcome, &'static str> {
    let SnapshotScratch { sections, decoded, .. } = scratch;
    read_sections(body, types.len(), sections).ok_or("malformed snapshot")?;
    let Some(mut inbox) = world.get_mut::<SnapshotInbox>(connection) else { return Ok(Outcome::UnknownBaseline) };
    if inbox.thin {
        inbox.processed(tick);
        return Ok(Outcome::Applied);
    }
    let mut baselines = std::mem::take(&mut inbox.baselines);
    baselines.resize_with(types.len(), Baselines::default);
    let mut kept = 0;
    let mut outcome = Ok(Outcome::Applied);
    for section in &*sections {
        kept += 1;
        let bytes = body.get(section.bytes.clone()).unwrap_or_default();
        let Some(number) = (section.kind as usize).checked_sub(1) else { continue };
        let (Some(entry), Some(baselines)) = (types.get(number), baselines.get_mut(number)) else { continue };
        let bytes = match section.back {
            None => bytes,
            Some(_) if !entry.delta => {
                outcome = Err("delta of a type that has none");
                break;
            }
            Some(back) => match baselines.get(tick - back) {
                None => {
                    outcome = Ok(Outcome::UnknownBaseline);
                    break;
                }
                Some(base) if delta::decode(base, bytes, section.length, decoded).is_err() => {
                    outcome = Err("malformed delta");
                    break;
                }
                Some(_) => decoded.as_slice(),
            },
        };
        if entry.delta {
            baselines.push(tick, bytes);
        }
        if !(entry.decode)(world, bytes) {
            outcome = Err("malformed snapshot");
            break;
        }
    }
    let good = matches!(outcome, Ok(Outcome::Applied));
    for section in &sections[..kept] {
        let Some(number) = (section.kind as usize).checked_sub(1) else {
            if let (true, Some(mut raw)) = (good, world.get_mut::<TickSnapshots>(connection)) {
                raw.push(tick, body.get(section.bytes.clone()).unwrap_or_default());
            }
            continue;
        };
        let (Some(entry), Some(baselines)) = (types.get(number), baselines.get_mut(number)) else { continue };
        (entry.finish)(world, good.then_some((connection, tick)));
        if !good {
            baselines.pop_if(tick);
        }
    }
    if let Some(mut inbox) = world.get_mut::<SnapshotInbox>(connection) {
        inbox.baselines = baselines;
        if good {
            inbox.processed(tick);
        }
        inbox.lost = matches!(outcome, Ok(Outcome::UnknownBaseline));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_says_which_of_the_32_ticks_before_the_newest_were_processed() {
        let mut inbox = SnapshotInbox::default();
        let mut done = std::collections::HashSet::new();
        let mut tick = u32::MAX - 40;
        for gap in [1, 1, 3, 1, 7, 31, 1, 32, 33, 5, 100, 1] {
            tick = tick.wrapping_add(gap);
            inbox.processed(Tick::new(tick));
            done.insert(tick);
            let (newest, mask) = inbox.acks().unwrap();
            assert_eq!(newest.number(), tick);
            for back in 0..32 {
                let processed = done.contains(&tick.wrapping_sub(back + 1));
                assert_eq!(mask >> back & 1 == 1, processed, "{back} before {tick}");
            }
        }
        assert!(!inbox.is_news(Tick::new(tick)) && inbox.is_news(Tick::new(tick) + 1));
    }
}
