//! What the two threads share: the arenas under one short lock, and a bell for the one that sleeps.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netstream_transport::{ConnectionId, Now};
use socket2::Socket;

use super::queue::{Inbox, Orders};
use crate::ConnectionStats;
use crate::link::LinkStats;
use crate::udp::driver::Engine;
use crate::udp::socket::{Network, SocketStats};

#[cfg(target_os = "linux")]
use crate::udp::kernel::Bell;
#[cfg(not(target_os = "linux"))]
use crate::udp::portable::Bell;

/// Something to be done on the thread with what only it has.
pub(super) type Call<N> = Box<dyn FnOnce(&mut Engine<N>, Now) + Send>;

pub(super) struct Shared<N: Network> {
    state: Mutex<State<N>>,
    bell: Bell,
    /// There is something for the thread to do.
    work: AtomicBool,
    /// The thread sleeps, or is about to look at `work` for the last time before it does.
    asleep: AtomicBool,
}

/// No system call is made while this is locked.
pub(super) struct State<N: Network> {
    pub(super) orders: Orders,
    pub(super) calls: Vec<Call<N>>,
    pub(super) inbox: Inbox,
    pub(super) figures: Figures,
    /// Nothing is left to do for connections that are over.
    pub(super) idle: bool,
    /// The caller is gone.
    pub(super) quit: bool,
    /// The thread is gone, and why.
    pub(super) failure: Option<String>,
}

/// Figures that the caller can ask for at any time, as of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) fresh: bool,
    pub(super) connections: Vec<(ConnectionId, ConnectionStats)>,
    pub(super) metrics: Vec<(&'static str, u64)>,
    pub(super) socket: SocketStats,
    pub(super) link: [LinkStats; 2],
}

impl<N: Network> Shared<N> {
    pub(super) fn new() -> io::Result<Self> {
        let state = State {
            orders: Orders::default(),
            calls: Vec::new(),
            inbox: Inbox::default(),
            figures: Figures::default(),
            idle: true,
            quit: false,
            failure: None,
        };
        let (work, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { state: Mutex::new(state), bell: Bell::new()?, work, asleep })
    }

    /// Locks, whatever happened to the other thread: every change under this lock is complete before anything can panic.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<N>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread is gone: nothing is taken any more, and who waits for an answer gets none.
    pub(super) fn fail(&self, why: &str) {
        let mut state = self.lock();
        state.failure = Some(why.to_owned());
        state.orders.clear();
        state.calls.clear();
    }

    /// Tells the thread that there is something to do. A system call only if it sleeps.
    pub(super) fn wake(&self) {
        self.work.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// Whether there was something to do since the last time. What it is must be taken afterwards.
    pub(super) fn take_work(&self) -> bool {
        self.work.swap(false, Ordering::SeqCst)
    }

    /// Waits for the caller, for the sockets, or for so long.
    pub(super) fn sleep<'s>(&self, sockets: impl Iterator<Item = &'s Socket>, time: Duration) {
        self.asleep.store(true, Ordering::SeqCst);
        // Whoever sets `work` after this look sees `asleep`, and rings.
        if !self.work.load(Ordering::SeqCst) {
            self.bell.wait(sockets, time);
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
