//! The drivers that the commands use.

use std::time::Duration;

use netstream::driver::udp::{Access, IoMode, UdpConfig, UdpDriver};
use netstream::driver::{Endpoint, NetworkDriver, OsRandom, Scheme};
use netstream::transport::netcode::{JoinCode, SessionCipher};

use crate::failure::Failure;
use crate::sockets::CrowdNetwork;

/// What the command line says about UDP.
#[derive(Clone, Debug, Default)]
pub(crate) struct UdpSettings {
    /// Silence after which a connection ends; the library's default where `None`.
    pub(crate) idle_timeout: Option<Duration>,
    /// Time without sending after which a keep-alive leaves; the library's default where `None`.
    pub(crate) keep_alive: Option<Duration>,
    /// Connections that a server takes; the library's default where `None`.
    pub(crate) connections: Option<usize>,
    /// Which thread works the sockets.
    pub(crate) io: IoMode,
    /// The largest datagrams that are looked for and taken in; the library's default where `None`.
    pub(crate) max_datagram: Option<usize>,
    /// How a client's connections are sealed; the library's default where `None`.
    pub(crate) cipher: Option<SessionCipher>,
}

impl UdpSettings {
    fn config(&self) -> UdpConfig {
        let mut config = UdpConfig::new(&mut OsRandom);
        if let Some(bytes) = self.max_datagram {
            config = config.with_max_datagram(bytes);
        }
        config.limits.idle_timeout = self.idle_timeout.unwrap_or(config.limits.idle_timeout);
        config.io = self.io;
        config.cipher = self.cipher.unwrap_or(config.cipher);
        config.client_limits.idle_timeout = config.limits.idle_timeout;
        config.limits.keep_alive = self.keep_alive.unwrap_or(config.limits.keep_alive);
        config.client_limits.keep_alive = config.limits.keep_alive;
        if let Some(connections) = self.connections {
            let limits = &mut config.limits;
            // Each join of a holder of the code is remembered for more than ten minutes: as many are allowed for each
            // place as by default, and for tests that come and go from one machine.
            limits.consumed_tokens =
                limits.consumed_tokens.max(limits.consumed_tokens / limits.connections * connections);
            limits.connections = connections;
        }
        config
    }

    /// A driver that lets in whoever has the code.
    pub(crate) fn server(&self, code: &JoinCode) -> UdpDriver {
        let mut config = self.config();
        config.access = Access::JoinCode(code.clone());
        UdpDriver::with_config(config)
    }

    /// A driver to connect with.
    pub(crate) fn client(&self) -> UdpDriver {
        UdpDriver::with_config(self.config())
    }

    /// A driver constructor for a client's plugin.
    pub(crate) fn client_constructor(
        self,
    ) -> impl Fn(&Endpoint) -> Option<Box<dyn NetworkDriver>> + Send + Sync + 'static {
        move |endpoint| (endpoint.scheme() == Scheme::Udp).then(|| Box::new(self.client()) as Box<dyn NetworkDriver>)
    }
}

/// A driver constructor for many clients in one process.
pub(crate) fn crowd_constructor(
    udp: UdpSettings,
) -> impl Fn(&Endpoint) -> Option<Box<dyn NetworkDriver>> + Send + Sync + 'static {
    let driver = move || UdpDriver::on(CrowdNetwork, udp.config(), Box::new(OsRandom));
    move |endpoint| (endpoint.scheme() == Scheme::Udp).then(|| Box::new(driver()) as Box<dyn NetworkDriver>)
}

/// An endpoint that can be reached from outside of this process.
pub(crate) fn remote_endpoint(text: &str) -> Result<Endpoint, Failure> {
    let endpoint: Endpoint = text.parse().map_err(Failure::usage)?;
    match endpoint.scheme() {
        Scheme::Udp => Ok(endpoint),
        Scheme::Ipc => Err(Failure::usage(format!(
            "{endpoint} joins Worlds of one process and nobody else; use udp://127.0.0.1:7979, or `netstream demo`"
        ))),
        scheme => Err(Failure::usage(format!("there is no driver for {scheme}:// yet; use udp://127.0.0.1:7979"))),
    }
}
