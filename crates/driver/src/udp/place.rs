//! The UDP driver, on whichever thread it works.

use std::any::Any;
use std::time::Duration;

use netstream_transport::channel::ChannelTable;
use netstream_transport::netcode::{JoinCode, KeyRing};
use netstream_transport::{
    ChannelId, ConnectionId, DisconnectReason, Incoming, Limits, Now, Random, Server, SharedBytes,
};

use super::config::{Access, IoMode, UdpConfig};
use super::driver::Engine;
use super::socket::{Network, OsNetwork, SocketStats};
use super::thread::Threaded;
use crate::link::LinkSimulator;
use crate::{ConnectError, ConnectionStats, Credentials, Endpoint, ListenError, NetworkDriver, OsRandom, SendError};

/// The driver for `udp://host:port`. It becomes a server by `listen` or a client by `connect`, whichever comes first,
/// and may change its role when nobody is left.
///
/// Every connection is sealed and every client has credentials. Without configuration a server makes a random join code,
/// which [`join_code`](Self::join_code) shows and players pass on:
///
/// ```
/// use netstream_driver::{Clock, Credentials, NetworkDriver, SystemClock, UdpDriver};
///
/// let clock = SystemClock::new();
/// let mut server = UdpDriver::new();
/// let endpoint = server.listen(clock.now(), &"udp://127.0.0.1:0".parse()?)?;
/// let code = server.join_code().expect("the default").clone();
///
/// let mut client = UdpDriver::new();
/// client.connect(clock.now(), &endpoint, &Credentials::JoinCode(code))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `listen` looks a host name up while the caller waits; `connect` does so on a thread of its own, and reports
/// `HostNotFound` if nothing comes of it. A client at an endpoint without a real host (`udp://0.0.0.0:0`) goes where its
/// token says; with a join code it stays on this machine.
///
/// The work is done where `receive` and `flush` are called, or on a thread of its own ([`UdpConfig::io`]). If that thread
/// ever panics, every connection ends with `DriverFailed`, and the driver neither listens nor connects any more. Figures
/// from a thread are up to 100 ms old. If the operating system gives no thread the driver works inline, and a log line says
/// so.
///
/// Metrics: those of [`SocketStats`], the counters of [`Counter`](netstream_transport::netcode::Counter), those of
/// [`LinkTotals`](netstream_transport::LinkTotals), and of a server the fill of its tables. With a thread also `thread_rounds_total`,
/// `thread_unreliable_dropped_total` (received, and dropped because the caller did not fetch them), `thread_waiting_bytes`
/// (for the caller) and `thread_overrun_total` (sent, and dropped because the thread did not keep up).
pub struct UdpDriver<N: Network = OsNetwork>(Place<N>);

#[allow(clippy::large_enum_variant, reason = "there are few drivers, and they are rarely moved")]
enum Place<N: Network> {
    Here(Engine<N>),
    Thread(Threaded<N>),
}

/// Does the same in either place.
macro_rules! either {
    ($driver:expr, $found:ident => $what:expr) => {
        match $driver {
            Place::Here($found) => $what,
            Place::Thread($found) => $what,
        }
    };
}

impl UdpDriver {
    /// A driver on the sockets of the operating system, with a random join code.
    pub fn new() -> Self {
        Self::with_config(UdpConfig::new(&mut OsRandom))
    }

    /// A driver on the sockets of the operating system.
    pub fn with_config(config: UdpConfig) -> Self {
        Self::on(OsNetwork, config, Box::new(OsRandom))
    }

    /// A driver whose server lets in whoever has `code`.
    pub fn with_join_code(code: JoinCode) -> Self {
        let mut config = UdpConfig::new(&mut OsRandom);
        config.access = Access::JoinCode(code);
        Self::with_config(config)
    }
}

impl Default for UdpDriver {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Network> UdpDriver<N> {
    /// A driver on any network, whose secrets come from `random`: for simulations. Outside of them `random` must be fit
    /// for keys.
    pub fn on(network: N, config: UdpConfig, random: Box<dyn Random>) -> Self {
        let threaded = config.io == IoMode::Thread && N::REAL_TIME;
        let engine = Engine::new(network, config, random);
        if !threaded {
            return Self(Place::Here(engine));
        }
        Self(match Threaded::start(engine) {
            Ok(threaded) => Place::Thread(threaded),
            Err(back) => {
                let (engine, error) = *back;
                tracing::error!("no thread for a UDP driver: {error}; it works inline");
                Place::Here(engine)
            }
        })
    }

    /// The join code that lets clients in, if that is what does.
    pub fn join_code(&self) -> Option<&JoinCode> {
        match &self.config().access {
            Access::JoinCode(code) => Some(code),
            Access::Tokens(_) => None,
        }
    }

    /// Which thread does the work.
    pub fn io(&self) -> IoMode {
        match &self.0 {
            Place::Here(_) => IoMode::Inline,
            Place::Thread(_) => IoMode::Thread,
        }
    }

    /// The settings. Those that concern how connections begin apply to the next one.
    pub fn config(&self) -> &UdpConfig {
        either!(&self.0, driver => driver.config())
    }

    /// For changing the settings. They apply to the next `listen` or `connect`; [`set_limits`](Self::set_limits) and
    /// [`change_keys`](Self::change_keys) change what is up already.
    pub fn config_mut(&mut self) -> &mut UdpConfig {
        either!(&mut self.0, driver => driver.config_mut())
    }

    /// Changes the limits in force while this driver listens, for new and old connections.
    pub fn set_limits(&mut self, limits: Limits) {
        either!(&mut self.0, driver => driver.set_limits(limits));
    }

    /// The same for the connections that this driver made as a client.
    pub fn set_client_limits(&mut self, limits: Limits) {
        either!(&mut self.0, driver => driver.set_client_limits(limits));
    }

    /// Changes the keys of the server that is up, for rotation; `false` if none is. The key ring in [`UdpConfig`] is where
    /// the next server starts from.
    pub fn change_keys(&mut self, change: impl FnOnce(&mut KeyRing) + Send + 'static) -> bool {
        match &mut self.0 {
            Place::Here(engine) => engine.keys_mut().map(change).is_some(),
            Place::Thread(threaded) => threaded.change_keys(change),
        }
    }

    /// What the sockets of this driver did and met, all together, since the driver was made.
    pub fn socket_stats(&self) -> SocketStats {
        either!(&self.0, driver => driver.socket_stats())
    }

    /// The protocol machine of the server that is up, for figures that only it has; `None` where a thread has it.
    pub fn server(&self) -> Option<&Server> {
        match &self.0 {
            Place::Here(engine) => engine.server(),
            Place::Thread(_) => None,
        }
    }
}

impl<N: Network> NetworkDriver for UdpDriver<N> {
    fn scheme(&self) -> &'static str {
        either!(&self.0, driver => driver.scheme())
    }

    fn listen(&mut self, now: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError> {
        either!(&mut self.0, driver => driver.listen(now, endpoint))
    }

    fn stop_listening(&mut self, now: Now) {
        either!(&mut self.0, driver => driver.stop_listening(now));
    }

    fn listening(&self) -> Option<Endpoint> {
        either!(&self.0, driver => driver.listening())
    }

    fn connect(
        &mut self,
        now: Now,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<ConnectionId, ConnectError> {
        either!(&mut self.0, driver => driver.connect(now, endpoint, credentials))
    }

    fn receive(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        either!(&mut self.0, driver => driver.receive(now, sink));
    }

    #[inline]
    fn send(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &[u8],
    ) -> Result<(), SendError> {
        either!(&mut self.0, driver => driver.send(now, connection, channel, message))
    }

    fn send_owned(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        either!(&mut self.0, driver => driver.send_owned(now, connection, channel, message))
    }

    fn send_shared(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        head: &[u8],
        body: &SharedBytes,
    ) -> Result<(), SendError> {
        either!(&mut self.0, driver => driver.send_shared(now, connection, channel, head, body))
    }

    fn flush(&mut self, now: Now) {
        either!(&mut self.0, driver => driver.flush(now));
    }

    fn disconnect(&mut self, now: Now, connection: ConnectionId, reason: &DisconnectReason, linger: Duration) {
        either!(&mut self.0, driver => driver.disconnect(now, connection, reason, linger));
    }

    fn is_idle(&self) -> bool {
        either!(&self.0, driver => driver.is_idle())
    }

    fn works_alone(&self) -> bool {
        self.io() == IoMode::Thread
    }

    fn stats(&self, connection: ConnectionId) -> Option<ConnectionStats> {
        either!(&self.0, driver => driver.stats(connection))
    }

    fn max_message(&self, channel: ChannelId) -> usize {
        either!(&self.0, driver => driver.max_message(channel))
    }

    fn channels(&self) -> &ChannelTable {
        either!(&self.0, driver => driver.channels())
    }

    fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        either!(&self.0, driver => driver.metrics(report));
    }

    fn packet_simulator(&mut self) -> Option<&mut LinkSimulator> {
        either!(&mut self.0, driver => driver.packet_simulator())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl<N: Network> std::fmt::Debug for UdpDriver<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (listening, io) = (self.listening(), self.io());
        f.debug_struct("UdpDriver").field("listening", &listening).field("io", &io).finish_non_exhaustive()
    }
}
