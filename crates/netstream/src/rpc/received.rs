//! What a reader gets, and whether there is a reader at all.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bevy_ecs::entity::Entity;
use bevy_ecs::event::EntityEvent;
use bevy_ecs::message::Message;

use super::Rpc;

/// An RPC that arrived. Read it with a `MessageReader<ReceivedRpc<T>>`; like every message it is there for this update
/// and the next. If the type is registered [with events](crate::RpcOptions::with_events), it can be observed as well.
#[derive(Message, EntityEvent)]
pub struct ReceivedRpc<T: Rpc> {
    /// From whom. The entity exists at least until the end of the update in which the RPC arrived.
    #[event_target]
    pub connection: Entity,
    /// What. It dereferences to the RPC.
    pub rpc: RpcPayload<T>,
}

impl<T: Rpc + fmt::Debug> fmt::Debug for ReceivedRpc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedRpc").field("connection", &self.connection).field("rpc", &*self.rpc).finish()
    }
}

/// A received value. Whoever looks at it counts as its reader; a type that nobody ever reads is warned of once.
pub struct RpcPayload<T> {
    value: T,
    watch: Watch,
}

impl<T> RpcPayload<T> {
    pub(crate) fn new(value: T, readers: &Arc<Readers>) -> Self {
        // Of a type without content there is nothing to look at.
        let read = AtomicBool::new(size_of::<T>() == 0);
        Self { value, watch: Watch { readers: readers.clone(), read } }
    }

    /// The value itself.
    pub fn into_inner(self) -> T {
        self.watch.look();
        self.value
    }
}

impl<T> Deref for RpcPayload<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.watch.look();
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for RpcPayload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What is known of the readers of one type.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    any: AtomicBool,
    unread: AtomicU64,
    warned: AtomicBool,
}

impl Readers {
    /// Received values of the type that went unread.
    pub(crate) fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// Whether it is time to say that nobody reads the type; once.
    pub(crate) fn warn(&self) -> bool {
        self.unread() > 0 && !self.any.load(Ordering::Relaxed) && !self.warned.swap(true, Ordering::Relaxed)
    }
}

struct Watch {
    readers: Arc<Readers>,
    read: AtomicBool,
}

impl Watch {
    fn look(&self) {
        if !self.read.swap(true, Ordering::Relaxed) {
            self.readers.any.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !*self.read.get_mut() {
            self.readers.unread.fetch_add(1, Ordering::Relaxed);
        }
    }
}
