//! The server's side: every packet of an update is read, each command is kept once.

use bevy_ecs::component::Component;
use bevy_ecs::entity::Entity;
use bevy_ecs::resource::Resource;
use bevy_ecs::world::World;

use super::buffer::Arrival;
use super::registry::CommandRegistry;
use super::wire::{Arena, Header};
use super::{EARLY, MAX_REDUNDANCY};
use crate::queue::MessageQueue;
use crate::session::wire::Reader;
use crate::snapshot::SnapshotAcks;
use crate::tick::Tick;
use crate::time::NetworkTime;

/// Server: how a client's commands arrive; on its connection's entity. All counts are since the client entered the game.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CommandArrivals {
    /// Packets, of which a client sends one per tick.
    pub packets: u64,
    /// Commands that were there before their tick was simulated.
    pub in_time: u64,
    /// Those of them that were there more than 8 ticks before: their client is further ahead than it needs to be.
    pub early: u64,
    /// Commands that came when their tick had been simulated. They are in the buffer all the same.
    pub late: u64,
    /// Copies of commands that were there already.
    pub duplicate: u64,
    /// Commands for ticks too far from the present one; dropped.
    pub out_of_window: u64,
    /// Acknowledgements of snapshots that were never sent; ignored.
    pub false_acks: u64,
    /// Requests for a full snapshot that came too soon after another; ignored.
    pub refused_requests: u64,
    /// How many ticks after its turn a packet arrives, on average: about -2, negative as long as it is in time.
    pub age: f32,
    /// How far the age of single packets lies from that on average, in ticks.
    pub age_deviation: f32,
    /// The newest packet's tick and age in 256ths of a tick, for the client to know.
    pub(crate) newest: Option<(Tick, i32)>,
    /// How many were late by no fault of this World, modulo 256, for the client to know.
    pub(crate) late_to_tell: u8,
    /// Requests for a full snapshot that came too soon since one was granted.
    refused_in_a_row: u8,
}

/// How often a client may ask for a full snapshot too soon before it is no accident: an honest one asks once in 9/8 s,
/// and of what a server that stood still for its idle timeout of 10 s finds waiting it grants one.
const MAX_REFUSED: u8 = 32;

impl CommandArrivals {
    /// The newest tick that the client has sent something for.
    pub fn newest_tick(&self) -> Option<Tick> {
        self.newest.map(|(tick, _)| tick)
    }

    fn arrived(&mut self, tick: Tick, age: i32, stalled: bool) {
        self.packets += 1;
        if stalled || self.newest.is_some_and(|(newest, _)| !tick.is_after(newest)) {
            return;
        }
        let first = self.newest.replace((tick, age)).is_none();
        let age = age as f32 / 256.0;
        if first {
            self.age = age;
            return;
        }
        let error = age - self.age;
        self.age += error / 8.0;
        self.age_deviation += (error.abs() - self.age_deviation) / 4.0;
    }

    fn count(&mut self, arrival: Arrival, ahead: i32, stalled: bool) {
        match arrival {
            Arrival::InTime => {
                self.in_time += 1;
                self.early += u64::from(ahead > EARLY);
            }
            Arrival::Late => {
                self.late += 1;
                self.late_to_tell = self.late_to_tell.wrapping_add(u8::from(!stalled));
            }
            Arrival::Duplicate => self.duplicate += 1,
            Arrival::OutOfWindow => self.out_of_window += 1,
            Arrival::Malformed => {}
        }
    }
}

/// Memory for reading, used again and again.
#[derive(Resource, Debug, Default)]
pub(crate) struct CommandScratch(Arena);

/// Reads what one client sent; `Err` says what was wrong with it.
pub(crate) fn read(world: &mut World, connection: Entity, queue: &mut MessageQueue) -> Result<(), &'static str> {
    let mut scratch = std::mem::take(&mut *world.get_resource_or_init::<CommandScratch>());
    let done = queue.drain().try_for_each(|packet| read_packet(world, connection, packet, &mut scratch.0));
    world.insert_resource(scratch);
    done
}

fn read_packet(world: &mut World, connection: Entity, packet: &[u8], arena: &mut Arena) -> Result<(), &'static str> {
    let registry = world.get_resource::<CommandRegistry>();
    let types = registry.map(|registry| registry.0.by_number()).unwrap_or_default();
    let mut reader = Reader(packet);
    let header = Header::read(&mut reader).ok_or("malformed command packet")?;
    arena.read(reader, header.tick, types.len()).ok_or("malformed command")?;
    let Some(time) = world.get_resource::<NetworkTime>() else { return Ok(()) };
    let (now, age, stalled) = (time.tick(), time.age_of(header.tick), time.stalled);
    let Ok(mut entity) = world.get_entity_mut(connection) else { return Ok(()) };
    let (mut false_acks, mut refused) = (0, false);
    if let Some(mut acks) = entity.get_mut::<SnapshotAcks>() {
        acks.heard(now);
        if let Some((newest, mask)) = header.acks {
            false_acks = acks.acknowledge(newest, mask);
        }
        refused = header.wants_full && !acks.forget(now);
    }
    let Some(mut arrivals) = entity.get_mut::<CommandArrivals>() else { return Ok(()) };
    arrivals.arrived(header.tick, age, stalled);
    arrivals.false_acks += u64::from(false_acks);
    arrivals.refused_requests += u64::from(refused);
    arrivals.refused_in_a_row = match (header.wants_full, refused) {
        (true, true) => arrivals.refused_in_a_row + 1,
        (true, false) => 0,
        (false, _) => arrivals.refused_in_a_row,
    };
    if arrivals.refused_in_a_row > MAX_REFUSED {
        return Err("asks for whole snapshots again and again");
    }
    let mut counts = [(Arrival::Malformed, 0); MAX_REDUNDANCY];
    let mut commands = arena.iter().peekable();
    while commands.peek().is_some() {
        let mut filled = 0;
        for (count, (number, tick, bytes)) in counts.iter_mut().zip(commands.by_ref()) {
            let Some(entry) = types.get(usize::from(number)) else { return Err("malformed command") };
            *count = ((entry.receive)(world, connection, tick, now, bytes), tick.since(now));
            filled += 1;
        }
        let Some(mut arrivals) = world.get_mut::<CommandArrivals>(connection) else { return Ok(()) };
        for &(arrival, ahead) in &counts[..filled] {
            arrivals.count(arrival, ahead, stalled);
            if arrival == Arrival::Malformed {
                return Err("malformed command");
            }
        }
    }
    Ok(())
}
