//! Where in-process listeners are found by name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use netstream_transport::{DisconnectCode, DisconnectReason};

use super::lane::{Lane, Pipe, Wake, lock};

/// The most clients that wait to be accepted by one listener; further ones are refused with `ServerFull`.
const BACKLOG: usize = 1024;

/// A meeting point of in-process drivers. Clones are the same hub; two hubs know nothing of each other.
///
/// Make one, and give a clone of it to every World that is to be reachable or to reach another.
#[derive(Clone, Debug, Default)]
pub struct IpcHub(Arc<Mutex<Names>>);

#[derive(Debug, Default)]
struct Names {
    listeners: HashMap<String, Arc<Listener>>,
    /// The last number given to a listener that did not care for its name.
    numbered: u64,
}

impl IpcHub {
    /// A hub at which nobody listens.
    pub fn new() -> Self {
        Self::default()
    }

    /// The names at which somebody listens, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = lock(&self.0).listeners.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Enters a listener as `name`, or under a free number where the name is `"0"`. `None` if the name is taken.
    pub(super) fn enter(&self, name: &str, listener: &Arc<Listener>) -> Option<String> {
        let mut names = lock(&self.0);
        if name != "0" {
            return match names.listeners.entry(name.to_owned()) {
                Entry::Occupied(_) => None,
                Entry::Vacant(entry) => {
                    let name = entry.key().clone();
                    entry.insert(listener.clone());
                    Some(name)
                }
            };
        }
        loop {
            names.numbered += 1;
            let name = names.numbered.to_string();
            if let Entry::Vacant(entry) = names.listeners.entry(name.clone()) {
                entry.insert(listener.clone());
                return Some(name);
            }
        }
    }

    /// Takes `name` off the list and refuses everybody who was still waiting.
    pub(super) fn leave(&self, name: &str) {
        if let Some(listener) = lock(&self.0).listeners.remove(name) {
            listener.close();
        }
    }

    /// Who listens as `name`.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Listener>> {
        lock(&self.0).listeners.get(name).cloned()
    }
}

/// Where clients wait to be accepted.
#[derive(Debug, Default)]
pub(super) struct Listener {
    queue: Mutex<Queue>,
    /// The server driver's list of connections with something to read.
    pub(super) wake: Arc<Wake>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Arrival>,
    closed: bool,
}

/// A client that waits.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) pipe: Arc<Pipe>,
    pub(super) client: Arc<Wake>,
}

impl Arrival {
    /// Tells the client that nobody accepts it.
    pub(super) fn refuse(&self, code: DisconnectCode) {
        close(&self.pipe.to_client, &self.client, DisconnectReason::remote(code));
    }
}

impl Listener {
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self { queue: Mutex::default(), wake }
    }

    /// Joins the queue; `false` if the listener has closed meanwhile.
    pub(super) fn join(&self, arrival: Arrival) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return false;
        }
        if queue.waiting.len() >= BACKLOG {
            drop(queue);
            arrival.refuse(DisconnectCode::ServerFull);
            return true;
        }
        queue.waiting.push(arrival);
        true
    }

    /// Takes all who wait, in exchange for the empty `spare`.
    pub(super) fn take(&self, spare: &mut Vec<Arrival>) {
        std::mem::swap(&mut lock(&self.queue).waiting, spare);
    }

    fn close(&self) {
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        for arrival in waiting {
            arrival.refuse(DisconnectCode::Refused);
        }
    }
}

/// Ends one direction: after what is queued already, the receiver reads `reason`. The first reason stays.
pub(super) fn close(lane: &Mutex<Lane>, wake: &Wake, reason: DisconnectReason) {
    let owner = {
        let mut lane = lock(lane);
        lane.closed.get_or_insert(reason);
        lane.signal()
    };
    if let Some(owner) = owner {
        wake.push(owner);
    }
}
