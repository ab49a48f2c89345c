//! The caller's side: what it may ask, and what it knows of the connections.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use netstream_transport::channel::{ChannelTable, Side};
use netstream_transport::{ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Limits, Now, netcode};

use super::connections::{Connections, Phase};
use super::queue::{Event, Inbox, Orders, Parting};
use super::shared::{Figures, Shared};
use super::worker::Worker;
use super::{DROP_ABOVE, charge};
use crate::link::{LinkOrders, LinkSimulator};
use crate::udp::config::UdpConfig;
use crate::udp::driver::Engine;
use crate::udp::socket::{Network, SocketStats};
use crate::{ConnectError, ConnectionStats, Credentials, Endpoint, ListenError, NetworkDriver, Scheme, SendError};

/// A UDP driver whose work another thread does.
pub(in crate::udp) struct Threaded<N: Network> {
    config: UdpConfig,
    shared: Arc<Shared<N>>,
    /// `None` once it has been joined.
    thread: Option<JoinHandle<()>>,
    side: Side,
    listening: Option<Endpoint>,
    connections: Connections,
    orders: Orders,
    inbox: Inbox,
    figures: Figures,
    idle: bool,
    /// Unreliable messages that were dropped because the thread did not keep up.
    overrun: u64,
    /// Where the dice of the simulated link come from unless it is told otherwise.
    seed: u64,
    /// Stands for the simulator of the thread, which does what this one was told.
    simulator: Option<Box<LinkSimulator>>,
    simulated: Option<LinkOrders>,
    failure: Option<String>,
}

impl<N: Network> Threaded<N> {
    /// Moves `engine` to a thread; hands it back if the operating system gives none.
    pub(in crate::udp) fn start(mut engine: Engine<N>) -> Result<Self, Box<(Engine<N>, io::Error)>> {
        let config = engine.config().clone();
        let seed = engine.draw_seed();
        let mut figures = Figures::default();
        engine.metrics(&mut |name, value| figures.metrics.push((name, value)));
        let shared = match Shared::new() {
            Ok(shared) => Arc::new(shared),
            Err(error) => return Err(Box::new((engine, error))),
        };
        let (give, take) = mpsc::channel();
        let on_thread = shared.clone();
        let work = move || {
            if let Ok(engine) = take.recv() {
                work_until_the_end(engine, on_thread);
            }
        };
        let thread = match std::thread::Builder::new().name("netstream-io".to_owned()).spawn(work) {
            Ok(thread) => thread,
            Err(error) => return Err(Box::new((engine, error))),
        };
        give.send(engine).map_err(|unsent| Box::new((unsent.0, io::Error::other("the I/O thread has ended"))))?;
        Ok(Self {
            config,
            shared,
            thread: Some(thread),
            side: Side::Client,
            listening: None,
            connections: Connections::default(),
            orders: Orders::default(),
            inbox: Inbox::default(),
            figures,
            idle: true,
            overrun: 0,
            seed,
            simulator: None,
            simulated: None,
            failure: None,
        })
    }

    pub(in crate::udp) fn config(&self) -> &UdpConfig {
        &self.config
    }

    pub(in crate::udp) fn config_mut(&mut self) -> &mut UdpConfig {
        &mut self.config
    }

    pub(in crate::udp) fn set_limits(&mut self, limits: Limits) {
        self.config.limits = limits.clone();
        // A thread that is gone has no limits.
        let _ = self.call(move |engine, _| engine.set_limits(limits));
    }

    pub(in crate::udp) fn set_client_limits(&mut self, limits: Limits) {
        self.config.client_limits = limits.clone();
        let _ = self.call(move |engine, _| engine.set_client_limits(limits));
    }

    pub(in crate::udp) fn change_keys(&mut self, change: impl FnOnce(&mut netcode::KeyRing) + Send + 'static) -> bool {
        let changed = self.call(|engine, _| engine.keys_mut().map(change).is_some());
        changed.unwrap_or(false)
    }

    pub(in crate::udp) fn socket_stats(&self) -> SocketStats {
        self.figures.socket
    }

    /// Has the thread do something, and waits for the answer. The error says why there is no thread.
    fn call<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine<N>, Now) -> R + Send + 'static,
    ) -> io::Result<R> {
        let (reply, answer) = mpsc::sync_channel(1);
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(io::Error::other(failure.clone()));
        }
        self.orders.move_into(&mut state.orders);
        state.calls.push(Box::new(move |engine, now| {
            let _ = reply.send(work(engine, now));
        }));
        drop(state);
        self.shared.wake();
        answer.recv().map_err(|_| io::Error::other("the I/O thread has ended"))
    }

    /// Hands the thread what was queued, unless it does not keep up.
    fn hand_down(&mut self) {
        self.follow_simulator();
        if self.orders.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        if state.failure.is_some() {
            return self.orders.clear();
        }
        if state.orders.unreliable() > 0 && state.orders.unreliable() + self.orders.unreliable() > DROP_ABOVE {
            return;
        }
        self.orders.move_into(&mut state.orders);
        drop(state);
        self.shared.wake();
    }

    /// Has the thread's simulator do what ours was told since.
    fn follow_simulator(&mut self) {
        let Some(simulator) = &self.simulator else { return };
        let orders = simulator.orders();
        if self.simulated != Some(orders) {
            self.simulated = Some(orders);
            let _ = self.call(move |engine, _| {
                if let Some(simulator) = engine.packet_simulator() {
                    simulator.follow(&orders);
                }
            });
        }
    }

    /// Takes what the thread has for us.
    fn fetch(&mut self) {
        let mut state = self.shared.lock();
        state.inbox.move_into(&mut self.inbox);
        self.idle = state.idle;
        if state.figures.fresh {
            std::mem::swap(&mut state.figures, &mut self.figures);
            state.figures.fresh = false;
        }
        if self.failure.is_none() {
            self.failure.clone_from(&state.failure);
        }
    }

    fn take_figures(&mut self) {
        if !std::mem::take(&mut self.figures.fresh) {
            return;
        }
        for (id, stats) in &self.figures.connections {
            if let Some(connection) = self.connections.get_mut(*id) {
                connection.stats = *stats;
            }
        }
        if let Some(simulator) = &mut self.simulator {
            simulator.show(self.figures.link);
        }
    }

    /// Whatever was under way is over: the thread is.
    fn end_all(&mut self, sink: &mut dyn FnMut(Incoming<'_>)) {
        let Some(failure) = &self.failure else { return };
        self.listening = None;
        self.idle = true;
        for (connection, known) in self.connections.drain() {
            let reason = match known.phase {
                Phase::Closing(ours) => ours,
                _ => DisconnectReason::link(DisconnectCode::DriverFailed).with_text(failure),
            };
            sink(Incoming::Disconnected { connection, reason });
        }
    }
}

impl<N: Network> NetworkDriver for Threaded<N> {
    fn scheme(&self) -> &'static str {
        Scheme::Udp.as_str()
    }

    fn listen(&mut self, _now: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError> {
        let (config, wanted) = (self.config.clone(), endpoint.clone());
        let result = self.call(move |engine, now| {
            *engine.config_mut() = config;
            engine.listen(now, &wanted)
        });
        let bound = result.map_err(|source| ListenError::Io { endpoint: endpoint.clone(), source })??;
        self.side = Side::Server;
        self.listening = Some(bound.clone());
        Ok(bound)
    }

    fn stop_listening(&mut self, _now: Now) {
        if self.listening.take().is_some() {
            // Without a thread nobody listens.
            let _ = self.call(|engine, now| engine.stop_listening(now));
        }
    }

    fn listening(&self) -> Option<Endpoint> {
        self.listening.clone()
    }

    fn connect(
        &mut self,
        _now: Now,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<ConnectionId, ConnectError> {
        let (config, to, credentials) = (self.config.clone(), endpoint.clone(), credentials.clone());
        let result = self.call(move |engine, now| {
            *engine.config_mut() = config;
            let id = engine.connect(now, &to, &credentials)?;
            Ok((id, engine.stats(id).unwrap_or_default()))
        });
        let started = result.map_err(|source| ConnectError::Io { endpoint: endpoint.clone(), source })?;
        let (id, stats) = started?;
        self.side = Side::Client;
        let channels = self.channels().iter().count();
        self.connections.insert(id, Phase::Dialling, channels, stats);
        Ok(id)
    }

    fn receive(&mut self, _now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.fetch();
        let Self { inbox, connections, config, .. } = self;
        let channels = config.server_link.channels.iter().count();
        inbox.drain(&mut |event| match event {
            Event::Taken { connection, channel, charged } => {
                let connection = connections.get_mut(connection);
                let way = connection.and_then(|connection| connection.on_the_way.get_mut(usize::from(channel.0)));
                if let Some(way) = way {
                    *way = way.saturating_sub(charged);
                }
            }
            Event::Incoming(Incoming::Message { connection, channel, bytes }) => {
                if connections.get_mut(connection).is_some_and(|known| matches!(known.phase, Phase::Open)) {
                    sink(Incoming::Message { connection, channel, bytes });
                }
            }
            Event::Incoming(Incoming::Accepted { connection, address, identity }) => {
                let stats = ConnectionStats { remote: address, ..ConnectionStats::default() };
                connections.insert(connection, Phase::Open, channels, stats);
                sink(Incoming::Accepted { connection, address, identity });
            }
            Event::Incoming(Incoming::Connected { connection }) => {
                if let Some(known) = connections.get_mut(connection)
                    && matches!(known.phase, Phase::Dialling)
                {
                    known.phase = Phase::Open;
                    sink(Incoming::Connected { connection });
                }
            }
            Event::Incoming(Incoming::Disconnected { connection, reason }) => {
                let Some(known) = connections.remove(connection) else { return };
                // Whatever ended it on the thread a moment before: who has left has left for his own reason.
                let reason = match known.phase {
                    Phase::Closing(ours) => ours,
                    _ => reason,
                };
                sink(Incoming::Disconnected { connection, reason });
            }
        });
        self.take_figures();
        self.end_all(sink);
        self.hand_down();
    }

    #[inline]
    fn send(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &[u8],
    ) -> Result<(), SendError> {
        let (id, size, side) = (connection, message.len(), self.side);
        let Self { connections, config, orders, overrun, .. } = self;
        let connection = connections.get_mut(id).ok_or(SendError::NotConnected)?;
        match connection.phase {
            Phase::Closing(_) => return Err(SendError::NotConnected),
            Phase::Dialling => return Err(SendError::NotReady),
            Phase::Open => {}
        }
        let declared = config.link(side).channels.get(channel).ok_or(SendError::UnknownChannel(channel))?;
        let limit = declared.max_message(side);
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let reliable = declared.kind.is_reliable();
        if reliable {
            let way =
                connection.on_the_way.get_mut(usize::from(channel.0)).ok_or(SendError::UnknownChannel(channel))?;
            if *way + charge(size) > declared.budget.max(charge(limit)) {
                return Err(SendError::QueueFull);
            }
            *way += charge(size);
        } else if orders.unreliable() + size > DROP_ABOVE {
            *overrun += 1;
            return Ok(());
        }
        orders.send(id, channel, reliable, message);
        Ok(())
    }

    fn flush(&mut self, _now: Now) {
        self.hand_down();
    }

    fn disconnect(&mut self, _now: Now, connection: ConnectionId, reason: &DisconnectReason, linger: Duration) {
        let Some(known) = self.connections.get_mut(connection) else { return };
        if matches!(known.phase, Phase::Closing(_)) {
            return;
        }
        known.phase = Phase::Closing(reason.clone());
        self.orders.disconnect(Parting { connection, reason: reason.clone(), linger });
    }

    fn is_idle(&self) -> bool {
        self.idle && self.orders.is_empty() && (self.side == Side::Server || self.connections.is_empty())
    }

    fn stats(&self, connection: ConnectionId) -> Option<ConnectionStats> {
        let connection = self.connections.get(connection)?;
        let mut stats = connection.stats;
        stats.reliable_queued += connection.on_the_way.iter().sum::<usize>();
        Some(stats)
    }

    fn max_message(&self, channel: ChannelId) -> usize {
        let side = self.side;
        self.config.link(side).channels.get(channel).map_or(0, |channel| channel.max_message(side))
    }

    fn channels(&self) -> &ChannelTable {
        &self.config.server_link.channels
    }

    /// Besides those of the driver: `thread_rounds_total`, `thread_unreliable_dropped_total` (the caller did not
    /// keep up), `thread_waiting_bytes` (for the caller), `thread_overrun_total` (unreliable messages that were dropped because the thread
    /// did not keep up).
    fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        for (name, value) in &self.figures.metrics {
            report(name, *value);
        }
        report("thread_overrun_total", self.overrun);
    }

    fn packet_simulator(&mut self) -> Option<&mut LinkSimulator> {
        let seed = self.seed;
        Some(self.simulator.get_or_insert_with(|| Box::new(LinkSimulator::new(seed))))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl<N: Network> Drop for Threaded<N> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        self.orders.move_into(&mut state.orders);
        state.quit = true;
        drop(state);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It catches its panics.
            let _ = thread.join();
        }
    }
}

fn work_until_the_end<N: Network>(engine: Engine<N>, shared: Arc<Shared<N>>) {
    let mut worker = Worker::new(engine, shared.clone());
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| worker.run())) {
        shared.fail(panic_text(&*panic));
    }
    // A driver that has panicked may do so again when it says goodbye.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(worker)));
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("the I/O thread panicked")
}
