//! The thread: takes orders, works the sockets and the protocol, says what happened, sleeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use netstream_transport::channel::ChannelTable;
use netstream_transport::{ChannelId, ConnectionId, Incoming, Mono, Now};

use super::held::{Handed, Held};
use super::queue::{Inbox, Order, Orders, Parting};
use super::shared::{Call, Figures, Shared};
use super::{DROP_ABOVE, STOP_ABOVE};
use crate::link::Direction;
use crate::udp::driver::Engine;
use crate::udp::socket::Network;
use crate::{Clock, NetworkDriver, SendError, SystemClock};

/// How old the caller's figures may be.
const FIGURES_EVERY: Duration = Duration::from_millis(100);

/// So many rounds a second are enough: what arrives within a millisecond is taken in at once, in few system calls.
const ROUND: Duration = Duration::from_millis(1);

/// So many rounds may follow each other without a pause, so that a single player never waits.
const ROUNDS_AT_ONCE: u32 = 16;

/// The thread looks around this often even if nothing is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long what is due again at once has to wait.
const SHORTEST_SLEEP: Duration = Duration::from_micros(250);

pub(super) struct Worker<N: Network> {
    engine: Engine<N>,
    shared: Arc<Shared<N>>,
    clock: SystemClock,
    channels: ChannelTable,
    orders: Orders,
    calls: Vec<Call<N>>,
    inbox: Inbox,
    held: Held,
    /// Connections that end once what is held of them has left, at the latest then.
    partings: Vec<(Parting, Mono)>,
    /// Those that have begun and not ended.
    connections: Vec<ConnectionId>,
    figures: Figures,
    figures_due: Mono,
    /// What waits for the caller, in bytes.
    waiting: usize,
    unreliable_dropped: u64,
    rounds: u64,
    /// When the latest of the rounds that were within the pace is paid off.
    paced_until: Instant,
}

impl<N: Network> Worker<N> {
    pub(super) fn new(engine: Engine<N>, shared: Arc<Shared<N>>) -> Self {
        Self {
            channels: engine.channels().clone(),
            engine,
            shared,
            clock: SystemClock::new(),
            orders: Orders::default(),
            calls: Vec::new(),
            inbox: Inbox::default(),
            held: Held::default(),
            partings: Vec::new(),
            connections: Vec::new(),
            figures: Figures::default(),
            figures_due: Mono::ZERO,
            waiting: 0,
            unreliable_dropped: 0,
            rounds: 0,
            paced_until: Instant::now(),
        }
    }

    /// Works until the caller is gone. Dropping the driver says goodbye afterwards.
    pub(super) fn run(&mut self) {
        loop {
            let quit = self.take_orders();
            let now = self.clock.now();
            self.obey(now);
            self.receive(now);
            self.hand_on(now, quit);
            self.engine.flush(now);
            self.rounds += 1;
            if quit {
                return;
            }
            self.publish(now);
            self.sleep();
        }
    }

    fn take_orders(&mut self) -> bool {
        if !self.shared.take_work() {
            return false;
        }
        let mut state = self.shared.lock();
        std::mem::swap(&mut state.orders, &mut self.orders);
        std::mem::swap(&mut state.calls, &mut self.calls);
        state.quit
    }

    fn obey(&mut self, now: Now) {
        let Self { engine, channels, orders, held, inbox, partings, .. } = self;
        orders.drain(&mut |order| match order {
            Order::Send { connection, channel, message } => {
                let charged = super::charge(message.len());
                let reliable = is_reliable(channels, channel);
                if reliable && held.has(connection, channel) {
                    return held.push(connection, channel, message);
                }
                match engine.send(now, connection, channel, message) {
                    Err(SendError::QueueFull) => held.push(connection, channel, message),
                    // It is over, and the caller will hear of it.
                    Ok(()) | Err(_) if reliable => inbox.push_taken(connection, channel, charged),
                    Ok(()) | Err(_) => {}
                }
            }
            Order::Disconnect(parting) if held.has_any_of(parting.connection) => {
                partings.push((parting.clone(), now.mono + parting.linger));
            }
            Order::Disconnect(Parting { connection, reason, linger }) => {
                engine.disconnect(now, *connection, reason, *linger);
            }
        });
        for call in self.calls.drain(..) {
            call(engine, now);
            channels.clone_from(engine.channels());
        }
    }

    fn receive(&mut self, now: Now) {
        let Self { engine, channels, inbox, connections, held, waiting, unreliable_dropped, figures_due, .. } = self;
        let load = *waiting;
        engine.receive(now, &mut |incoming| {
            match &incoming {
                Incoming::Message { channel, .. } => {
                    if !is_reliable(channels, *channel) && load + inbox.load() > DROP_ABOVE {
                        *unreliable_dropped += 1;
                        return;
                    }
                }
                Incoming::Accepted { connection, .. } | Incoming::Connected { connection } => {
                    connections.push(*connection);
                    *figures_due = Mono::ZERO;
                }
                Incoming::Disconnected { connection, .. } => {
                    connections.retain(|other| other != connection);
                    held.forget(*connection);
                }
            }
            inbox.push(incoming);
        });
    }

    /// Gives the driver what it had no room for, and ends the connections for which that was the last.
    fn hand_on(&mut self, now: Now, quit: bool) {
        let Self { engine, held, inbox, partings, .. } = self;
        held.offer(&mut |connection, channel, message| match engine.send(now, connection, channel, message) {
            Err(SendError::QueueFull) => Handed::Full,
            Ok(()) | Err(_) => {
                inbox.push_taken(connection, channel, super::charge(message.len()));
                Handed::Over
            }
        });
        partings.retain(|(parting, deadline)| {
            let Parting { connection, reason, .. } = parting;
            if held.has_any_of(*connection) && *deadline > now.mono && !quit {
                return true;
            }
            held.forget(*connection);
            engine.disconnect(now, *connection, reason, deadline.since(now.mono));
            false
        });
    }

    fn publish(&mut self, now: Now) {
        let refresh = now.mono >= self.figures_due;
        if refresh && !self.figures.fresh {
            self.gather_figures();
            self.figures_due = now.mono + FIGURES_EVERY;
        }
        let mut state = self.shared.lock();
        self.inbox.move_into(&mut state.inbox);
        state.idle = self.engine.is_idle() && self.partings.is_empty();
        self.waiting = state.inbox.load();
        if self.figures.fresh && !state.figures.fresh {
            std::mem::swap(&mut state.figures, &mut self.figures);
        }
        drop(state);
        self.engine.set_deaf(self.waiting > STOP_ABOVE);
    }

    fn gather_figures(&mut self) {
        let Self { engine, figures, connections, .. } = self;
        figures.fresh = true;
        figures.connections.clear();
        for connection in connections.iter() {
            figures.connections.extend(engine.stats(*connection).map(|stats| (*connection, stats)));
        }
        figures.metrics.clear();
        engine.metrics(&mut |name, value| figures.metrics.push((name, value)));
        figures.metrics.push(("thread_rounds_total", self.rounds));
        figures.metrics.push(("thread_unreliable_dropped_total", self.unreliable_dropped));
        figures.metrics.push(("thread_waiting_bytes", self.waiting as u64));
        figures.socket = engine.socket_stats();
        if let Some(simulator) = engine.simulator() {
            figures.link = Direction::BOTH.map(|direction| simulator.stats(direction));
        }
    }

    fn sleep(&mut self) {
        // A round is paid for with its share of a second, of which some may be owed.
        let now = Instant::now();
        self.paced_until = self.paced_until.max(now) + ROUND;
        let owed = self.paced_until.saturating_duration_since(now + ROUND * ROUNDS_AT_ONCE);
        if !owed.is_zero() {
            // What arrives meanwhile waits in the kernel; what the caller wants does not.
            self.shared.sleep(std::iter::empty(), owed);
        }
        let now = self.clock.now().mono;
        let due = self.engine.next_due().map_or(LONGEST_SLEEP, |due| due.since(now).max(SHORTEST_SLEEP));
        let due = if self.held.is_empty() && self.partings.is_empty() { due } else { due.min(ROUND) };
        let due = if self.waiting > STOP_ABOVE { due.min(ROUND * 10) } else { due };
        self.shared.sleep(self.engine.handles(), due.min(LONGEST_SLEEP));
    }
}

fn is_reliable(channels: &ChannelTable, channel: ChannelId) -> bool {
    channels.get(channel).is_some_and(|channel| channel.kind.is_reliable())
}
