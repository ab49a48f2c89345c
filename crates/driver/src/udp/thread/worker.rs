//! The thread: takes orders, works the sockets and the protocol, says what happened, sleeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use netstream_transport::channel::ChannelTable;
use netstream_transport::{ChannelId, ConnectionId, Incoming, Mono, Now};

use super::held::{Handed, Held};
use super::queue::{Inbox, Order, Orders, Parting};
use super::shared::{Call, Figures, Shared};
use super::{DROP_ABOVE, PAUSE_ABOVE, STOP_ABOVE};
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
    orders: Orders,
    calls: Vec<Call<N>>,
    intake: Intake,
    /// Connections that end once what is held of them has left, at the latest then.
    partings: Vec<(Parting, Mono)>,
    /// Connections whose reliable messages wait in the protocol, because the caller fetches nothing.
    paused: Vec<ConnectionId>,
    figures: Figures,
    rounds: u64,
    /// When the latest of the rounds that were within the pace is paid off.
    paced_until: Instant,
}

/// Where everything that the driver reports goes.
struct Intake {
    channels: ChannelTable,
    inbox: Inbox,
    held: Held,
    /// Those that have begun and not ended.
    connections: Vec<ConnectionId>,
    /// What waits for the caller besides `inbox`, in bytes.
    waiting: usize,
    unreliable_dropped: u64,
    figures_due: Mono,
}

impl Intake {
    fn take(&mut self, incoming: Incoming<'_>) {
        match &incoming {
            Incoming::Message { channel, .. } => {
                if self.load() > DROP_ABOVE && !is_reliable(&self.channels, *channel) {
                    self.unreliable_dropped += 1;
                    return;
                }
            }
            Incoming::Accepted { connection, .. } | Incoming::Connected { connection } => {
                self.connections.push(*connection);
                self.figures_due = Mono::ZERO;
            }
            Incoming::Disconnected { connection, .. } => {
                self.connections.retain(|other| other != connection);
                self.held.forget(*connection);
            }
        }
        self.inbox.push(incoming);
    }

    fn load(&self) -> usize {
        self.waiting + self.inbox.load()
    }
}

impl<N: Network> Worker<N> {
    pub(super) fn new(engine: Engine<N>, shared: Arc<Shared<N>>) -> Self {
        let intake = Intake {
            channels: engine.channels().clone(),
            inbox: Inbox::default(),
            held: Held::default(),
            connections: Vec::new(),
            waiting: 0,
            unreliable_dropped: 0,
            figures_due: Mono::ZERO,
        };
        Self {
            engine,
            shared,
            clock: SystemClock::new(),
            orders: Orders::default(),
            calls: Vec::new(),
            intake,
            partings: Vec::new(),
            paused: Vec::new(),
            figures: Figures::default(),
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
            let Self { engine, intake, .. } = &mut *self;
            engine.receive(now, &mut |incoming| intake.take(incoming));
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
        let Self { engine, orders, partings, intake: Intake { channels, held, inbox, .. }, .. } = self;
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

    /// Gives the driver what it had no room for, and ends the connections for which that was the last.
    fn hand_on(&mut self, now: Now, quit: bool) {
        let Self { engine, partings, intake: Intake { held, inbox, .. }, .. } = self;
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
        if now.mono >= self.intake.figures_due && !self.figures.fresh {
            self.gather_figures();
            self.intake.figures_due = now.mono + FIGURES_EVERY;
        }
        let mut state = self.shared.lock();
        self.intake.inbox.move_into(&mut state.inbox);
        self.intake.waiting = state.inbox.load();
        state.idle = self.engine.is_idle() && self.partings.is_empty();
        if self.figures.fresh && !state.figures.fresh {
            std::mem::swap(&mut state.figures, &mut self.figures);
        }
        drop(state);
        self.hold_back(now);
    }

    /// Keeps what waits for the caller within its bounds.
    fn hold_back(&mut self, now: Now) {
        let Self { engine, intake, paused, .. } = self;
        engine.set_deaf(intake.waiting > STOP_ABOVE);
        if intake.waiting > PAUSE_ABOVE {
            intake.connections.iter().for_each(|connection| engine.pause(*connection));
            paused.clone_from(&intake.connections);
        }
        // One by one: each may have a whole receive window to tell.
        while intake.load() <= PAUSE_ABOVE
            && let Some(connection) = paused.pop()
        {
            engine.resume(now, connection, &mut |incoming| intake.take(incoming));
        }
    }

    fn gather_figures(&mut self) {
        let Self { engine, figures, intake: Intake { connections, unreliable_dropped, waiting, .. }, rounds, .. } =
            self;
        figures.fresh = true;
        figures.connections.clear();
        for connection in connections.iter() {
            figures.connections.extend(engine.stats(*connection).map(|stats| (*connection, stats)));
        }
        figures.metrics.clear();
        engine.metrics(&mut |name, value| figures.metrics.push((name, value)));
        figures.metrics.push(("thread_rounds_total", *rounds));
        figures.metrics.push(("thread_unreliable_dropped_total", *unreliable_dropped));
        figures.metrics.push(("thread_waiting_bytes", *waiting as u64));
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
        // Nobody tells when there is room again.
        let waits = !(self.intake.held.is_empty() && self.partings.is_empty() && self.paused.is_empty());
        let due = if waits || self.intake.waiting > STOP_ABOVE { due.min(ROUND) } else { due };
        self.shared.sleep(self.engine.handles(), due.min(LONGEST_SLEEP));
    }
}

fn is_reliable(channels: &ChannelTable, channel: ChannelId) -> bool {
    channels.get(channel).is_some_and(|channel| channel.kind.is_reliable())
}
