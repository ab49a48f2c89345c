//! The whole network state of a World: its drivers and its connections.
//!
//! [`Core`](core::Core) decides, the drivers act; this is what carries messages between the two.

mod admission;
pub(crate) mod arrivals;
mod bans;
pub(crate) mod control;
pub(crate) mod core;
mod counters;
mod ids;
pub(crate) mod incoming;
mod protocol;
mod table;
mod tickets;
pub(crate) mod wire;

use std::time::Duration;

use bevy_ecs::entity::{Entity, RemoteAllocator};
use netstream_driver::transport::{ChannelId, DisconnectCode, DisconnectReason, Mono, Now, Random};
use netstream_driver::{Clock, DriverId, NetworkDriver, NetworkDriverStore};

pub use self::bans::BanTarget;
pub use self::core::SameIdentity;
pub use self::counters::SessionCounters;
pub use protocol::{GameProtocol, NETSTREAM_PROTOCOL, ProtocolDiff, SchemaPolicy};
pub(crate) use protocol::{Protocol, RPC, SchemaEntry, first_word};
pub(crate) use table::Slot;

use self::core::Core;
use crate::DriverEvent;
use crate::state::Side;

/// A gap between two polls that deserves a word: a third of the usual idle timeout of 10 s.
const SLEEPY: Duration = Duration::from_secs(3);

/// How often figures are kept that outlive their connection in its driver.
const KEEP_STATS_EVERY: Duration = Duration::from_secs(1);

/// A driver that is being emptied.
struct Drain {
    driver: DriverId,
    deadline: Mono,
    reason: DisconnectReason,
}

pub(crate) struct Session {
    pub(crate) core: Core,
    pub(crate) store: NetworkDriverStore,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) driver_events: Vec<DriverEvent>,
    pub(crate) game: GameProtocol,
    drains: Vec<Drain>,
    warned_asleep: bool,
    kept_stats: Mono,
    /// At which of the store's changes its drivers were looked at.
    noted: Option<u64>,
    /// Drivers that a connect call made for itself; each goes with its connection.
    own: Vec<DriverId>,
    entities: RemoteAllocator,
}

impl Session {
    pub(crate) fn new(side: Side, clock: Box<dyn Clock>, random: Box<dyn Random>, entities: RemoteAllocator) -> Self {
        Self {
            core: Core::new(side, random),
            store: NetworkDriverStore::new(),
            clock,
            driver_events: Vec::new(),
            game: GameProtocol::default(),
            drains: Vec::new(),
            warned_asleep: false,
            kept_stats: Mono::ZERO,
            noted: None,
            own: Vec::new(),
            entities,
        }
    }

    /// The present moment, also for the core.
    pub(crate) fn now(&mut self) -> Now {
        let now = self.clock.now();
        self.core.set_now(now);
        now
    }

    /// Takes in what the drivers have, lets deadlines act and gives the drivers the answers, which leave with the next
    /// [`flush`](Self::flush).
    pub(crate) fn receive(&mut self) {
        let before = self.core.last_now();
        let now = self.now();
        self.warn_if_asleep(before, now);
        self.note_drivers();
        if now.mono.since(self.kept_stats) >= KEEP_STATS_EVERY {
            self.kept_stats = now.mono;
            self.keep_stats(|_| true);
        }
        let Self { core, store, entities, .. } = self;
        store.receive(now, &mut |driver, incoming| core.handle_incoming(driver, incoming, || entities.alloc()));
        self.core.tick();
        self.tick_drains(now);
        self.sweep();
        self.hand_out(now);
    }

    /// Whether there is something to tell the World.
    pub(crate) fn has_news(&self) -> bool {
        !(self.core.changes.is_empty() && self.core.arrivals.is_empty() && self.driver_events.is_empty())
    }

    fn keep_stats(&mut self, of: impl Fn(DriverId) -> bool) {
        for connection in self.core.connections.iter_mut().filter(|connection| of(connection.key.driver)) {
            connection.details.last_stats = self.store.stats(connection.key).unwrap_or(connection.details.last_stats);
        }
    }

    /// Looks at drivers that are new, whichever way they came into the store, and forgets those that are gone.
    fn note_drivers(&mut self) {
        if self.noted.replace(self.store.changes()) == Some(self.store.changes()) {
            return;
        }
        let Self { core, store, .. } = self;
        core.forget_drivers(|id| !store.contains(id));
        for (id, driver) in self.store.iter() {
            self.core.note_channels(id, driver.channels());
        }
    }

    /// An App that sleeps does not answer, and its peers think it dead. Said once.
    fn warn_if_asleep(&mut self, before: Now, now: Now) {
        let gap = now.mono.since(before.mono);
        if gap < SLEEPY || self.store.iter().all(|(_, driver)| driver.works_alone()) {
            return;
        }
        if self.core.connections.len() > 0 && !std::mem::replace(&mut self.warned_asleep, true) {
            tracing::warn!(
                "the drivers were not polled for {gap:?}; peers give up after their idle timeout. Let the App run in the \
                 background, or shorten what blocks its updates"
            );
        }
    }

    /// Lets control messages and what the drivers have queued leave. Connections that shall end stay a little: what the
    /// application queued for them before comes first. It is still the moment of the last call.
    pub(crate) fn flush(&mut self) {
        let now = self.core.last_now();
        self.hand_out(now);
        self.store.flush(now);
    }

    /// Gives control messages to the drivers.
    fn hand_out(&mut self, now: Now) {
        let Self { core, store, .. } = self;
        core.take_sends(|key, message| {
            if let Err(error) = store.send(now, key, ChannelId::RELIABLE, message) {
                // The connection is ending below us; its driver will say so.
                tracing::debug!("control message for {key:?} not sent: {error}");
            }
        });
    }

    /// Ends the connections that shall end, and lets everything leave.
    pub(crate) fn close_and_flush(&mut self) {
        let now = self.now();
        self.flush();
        let mut any = false;
        for close in self.core.take_closes() {
            self.store.disconnect(now, close.key, &close.reason, close.linger);
            any = true;
        }
        if any {
            self.store.flush(now);
        }
    }

    /// Stops listening and tells the present players how much time they have. False if there is no such driver.
    pub(crate) fn drain(&mut self, id: DriverId, within: Duration, reason: DisconnectReason) -> bool {
        let now = self.now();
        let Some(driver) = self.store.get_mut(id) else { return false };
        driver.stop_listening(now);
        self.drains.retain(|drain| drain.driver != id);
        self.drains.push(Drain { driver: id, deadline: now.mono + within, reason });
        for slot in self.core.connections.of_driver(id) {
            self.core.announce_drain(slot, within);
        }
        self.driver_events.push(DriverEvent::Draining { driver: id, within });
        true
    }

    fn tick_drains(&mut self, now: Now) {
        let Self { core, drains, driver_events, store, .. } = self;
        drains.retain(|drain| {
            let slots = core.connections.of_driver(drain.driver);
            if slots.is_empty() || !store.contains(drain.driver) {
                driver_events.push(DriverEvent::Drained { driver: drain.driver });
                return false;
            }
            if now.mono >= drain.deadline {
                for slot in slots {
                    core.close(slot, drain.reason.clone());
                }
            }
            true
        });
    }

    /// Entities come from another World from now on.
    pub(crate) fn set_entities(&mut self, entities: RemoteAllocator) {
        self.entities = entities;
    }

    /// An entity that is not in the World yet.
    pub(crate) fn alloc_entity(&self) -> Entity {
        self.entities.alloc()
    }

    /// Takes in a driver that lives as long as the connection that it is about to carry.
    pub(crate) fn add_own(&mut self, driver: Box<dyn NetworkDriver>) -> DriverId {
        let id = self.store.add_boxed(driver);
        self.own.push(id);
        id
    }

    /// Whether this driver goes with the one connection that it was made for.
    pub(crate) fn is_own(&self, id: DriverId) -> bool {
        self.own.contains(&id)
    }

    /// Removes a driver: its connections end with `reason`, the peers are told.
    pub(crate) fn remove_driver(&mut self, id: DriverId, reason: &DisconnectReason) -> Option<Box<dyn NetworkDriver>> {
        if !self.store.contains(id) {
            return None;
        }
        let now = self.now();
        self.keep_stats(|driver| driver == id);
        let slots = self.core.connections.of_driver(id);
        for &slot in &slots {
            self.core.close(slot, reason.clone());
        }
        self.flush();
        for close in self.core.take_closes() {
            let linger = if close.key.driver == id { Duration::ZERO } else { close.linger };
            self.store.disconnect(now, close.key, &close.reason, linger);
        }
        let mut driver = self.store.remove(id)?;
        driver.flush(now);
        for slot in slots {
            self.core.driver_gone(slot, reason.clone());
        }
        self.own.retain(|&own| own != id);
        self.driver_events.push(DriverEvent::Removed { driver: id });
        Some(driver)
    }

    /// Drops the drivers whose only connection is over, once these have delivered their goodbyes. Asked in every update,
    /// because only the driver knows when that is; a server has none of them.
    pub(crate) fn sweep(&mut self) {
        let Self { core, store, own, .. } = self;
        own.retain(|&id| {
            let done = core.connections.has_none_of(id) && store.get(id).is_none_or(NetworkDriver::is_idle);
            if done {
                store.remove(id);
            }
            !done
        });
    }
}

impl Drop for Session {
    /// A World that goes away says goodbye.
    fn drop(&mut self) {
        let now = self.now();
        let code = match self.core.side {
            Side::Server => DisconnectCode::ServerShutdown,
            Side::Client => DisconnectCode::ConnectionClose,
        };
        let reason = DisconnectReason::local(code);
        for (_, connection) in self.core.connections.iter() {
            self.store.disconnect(now, connection.key, &reason, Duration::ZERO);
        }
        self.store.flush(now);
    }
}

#[cfg(test)]
mod tests {
    use bevy_ecs::world::World;
    use netstream_driver::transport::SeededRandom;
    use netstream_driver::{IpcDriver, IpcHub, ManualClock};

    use super::*;

    #[test]
    fn nothing_is_kept_of_drivers_that_are_gone() {
        let entities = World::new().entity_allocator().build_remote_allocator();
        let (clock, random) = (Box::new(ManualClock::new()), Box::new(SeededRandom::new(1)));
        let mut session = Session::new(Side::Server, clock, random, entities);
        let ids: Vec<_> = (0..3).map(|_| session.store.add(IpcDriver::new(&IpcHub::new()))).collect();
        for &id in &ids {
            session.core.approval_of_driver.insert(id, true);
        }
        session.receive();
        assert_eq!(session.core.drivers_known(), (3, 3));
        // One by the book, one behind the session's back.
        session.remove_driver(ids[0], &DisconnectReason::local(DisconnectCode::DriverRemoved));
        session.store.remove(ids[1]);
        session.receive();
        assert_eq!(session.core.drivers_known(), (1, 1));
    }
}
