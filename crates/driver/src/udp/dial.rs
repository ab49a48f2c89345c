//! From an endpoint and credentials to a client that connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use netstream_transport::channel::Side;
use netstream_transport::netcode::client::{Credentials as Shown, StartError};
use netstream_transport::{Client, ClientConfig, ConnectionId, Now, Random, netcode};

use super::config::UdpConfig;
use super::port::Port;
use super::socket::{Network, any_address};
use crate::{ConnectError, Credentials, Endpoint, Host};

/// Where a client is to go.
#[derive(Debug)]
pub(super) enum Target {
    /// There. Nothing at all means: wherever the token says.
    Addresses(Vec<SocketAddr>),
    /// Wherever this name leads.
    Name(String, u16),
}

/// A host name that is being looked up, perhaps on another thread. Holds the addresses once they are known; none if
/// there are none.
pub(super) type Answer = Arc<OnceLock<Vec<IpAddr>>>;

/// What the endpoint says about where to go; `token` tells whether there is a token that could say it too.
pub(super) fn target(endpoint: &Endpoint, token: bool) -> Result<Target, ConnectError> {
    let port = endpoint.port().unwrap_or(0);
    let address = match endpoint.host() {
        Host::Ip(ip) if ip.is_unspecified() && token => return Ok(Target::Addresses(Vec::new())),
        // What a server printed that listens everywhere is meant for this machine.
        Host::Ip(IpAddr::V4(ip)) if ip.is_unspecified() => Host::Ip(Ipv4Addr::LOCALHOST.into()),
        Host::Ip(IpAddr::V6(ip)) if ip.is_unspecified() => Host::Ip(Ipv6Addr::LOCALHOST.into()),
        host => host.clone(),
    };
    if port == 0 {
        return Err(ConnectError::NoPort(endpoint.clone()));
    }
    Ok(match address {
        Host::Ip(ip) => Target::Addresses(vec![SocketAddr::new(ip, port)]),
        Host::Name(name) => Target::Name(name, port),
    })
}

/// What to show the server.
pub(super) fn shown(config: &UdpConfig, endpoint: &Endpoint, credentials: &Credentials) -> Result<Shown, ConnectError> {
    match credentials {
        Credentials::None => Err(ConnectError::CredentialsNeeded(endpoint.clone())),
        Credentials::Token(token) => Ok(Shown::Token(token.clone())),
        Credentials::JoinCode(code) => Ok(Shown::JoinCode {
            code: code.clone(),
            protocol_id: config.protocol_id,
            client_id: config.client_id,
            user_data: config.user_data.clone(),
        }),
    }
}

/// Starts to look a name up: on a thread of its own where that can take time.
pub(super) fn look_up<N: Network>(network: &N, name: String) -> Answer {
    let answer = Answer::default();
    let (network, place) = (network.clone(), answer.clone());
    let work = move || {
        let _ = place.set(network.resolve(&name).unwrap_or_default());
    };
    if !N::REAL_TIME {
        work();
    } else if std::thread::Builder::new().name("netstream-resolve".to_owned()).spawn(work).is_err() {
        // Without a thread there is no answer, which is the same as none.
        let _ = answer.set(Vec::new());
    }
    answer
}

/// Everything that a client needs to know before it starts.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) id: ConnectionId,
    /// The number of its socket.
    pub(super) number: u64,
    pub(super) shown: Shown,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Dial {
    /// Opens a socket and starts to connect.
    pub(super) fn start<N: Network>(
        self,
        network: &N,
        config: &UdpConfig,
        random: &mut dyn Random,
        now: Now,
    ) -> Result<(Port<N::Socket>, Client), StartFailure> {
        let Self { id, number, shown, mut addresses } = self;
        let candidates = match &shown {
            Shown::Token(token) if addresses.is_empty() => token.addresses(),
            _ => &addresses,
        };
        let ipv6 = candidates.iter().any(SocketAddr::is_ipv6);
        let ipv4 = candidates.iter().any(SocketAddr::is_ipv4);
        let socket = match network.bind(any_address(ipv6), config.client_buffers) {
            // A machine without IPv6 may still reach the others.
            Err(_) if ipv6 && ipv4 => {
                addresses.retain(SocketAddr::is_ipv4);
                network.bind(any_address(false), config.client_buffers)
            }
            socket => socket,
        };
        let socket = socket.map_err(StartFailure::Socket)?;
        let config = ClientConfig {
            netcode: netcode::client::ClientConfig {
                credentials: shown,
                addresses,
                allow_local: config.allow_local_tokens,
                cipher: config.cipher,
            },
            link: config.link_through(&socket, Side::Client),
            limits: config.client_limits.clone(),
        };
        let client = Client::new(id, config, random, now).map_err(StartFailure::Credentials)?;
        Ok((Port::new(socket, number, client.max_body()), client))
    }
}

/// Why a client did not start.
#[derive(Debug)]
pub(super) enum StartFailure {
    Socket(std::io::Error),
    Credentials(StartError),
}
