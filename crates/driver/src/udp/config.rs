//! What a UDP driver is made of.

use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::channel::{ChannelTable, LinkConfig, Side};
use netstream_transport::netcode::{
    IdentityPolicy, JoinCode, KeyRing, LARGEST_DATAGRAM, MAX_DATAGRAM_OUT, SessionCipher, TOKEN_LIFETIME, datagram_of,
};
use netstream_transport::{Limits, Random};

use super::{BufferSizes, DatagramSocket};

/// The protocol id of games that choose none.
pub const DEFAULT_PROTOCOL_ID: u64 = u64::from_le_bytes(*b"netstrm1");

/// Who may connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Access {
    /// Whoever has this code.
    JoinCode(JoinCode),
    /// Whoever has a token that a back-end sealed with one of these keys.
    Tokens(KeyRing),
}

/// Which thread does the work of a [`UdpDriver`](super::UdpDriver).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    /// The caller's, while it calls: `receive` takes in and lets timers act, `flush` sends. Nothing happens between two
    /// updates, so that acks, keep-alives and the round-trip times that peers measure depend on the frame.
    #[default]
    Inline,
    /// One of its own. It receives, acknowledges, sends again and keeps alive whatever the caller does; `receive` hands up
    /// what has arrived meanwhile, and `flush` hands down what was queued. It costs a copy of every message and some
    /// wake-ups, and spares peers and players the frame.
    ///
    /// It lives by the machine's clock and takes no notice of the times that the caller tells. Where time is not the
    /// machine's ([`Network::REAL_TIME`](super::Network::REAL_TIME)) there is no thread: the driver works inline.
    Thread,
}

/// The settings of a [`UdpDriver`](super::UdpDriver).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UdpConfig {
    /// Who may connect while this driver listens. A random join code unless something else is chosen; see
    /// [`UdpDriver::join_code`](super::UdpDriver::join_code).
    pub access: Access,
    /// Tells games apart that share a join code. Both ends need the same. With tokens the key ring says it.
    pub protocol_id: u64,
    /// The addresses that clients reach this server at, one of which a token must name. Needed with tokens of a back-end
    /// unless the server listens at the very address that the tokens name; not needed with a join code.
    pub addresses: Vec<SocketAddr>,
    /// What happens if an identity that is connected connects again.
    pub identities: IdentityPolicy,
    /// How long a token can be used, in whole seconds; the same figure as the issuer's. Default 45 s.
    pub token_lifetime: Duration,
    /// The number that this client goes by where it makes its own tokens. Random unless something else is chosen.
    pub client_id: u64,
    /// Data for the server where this client makes its own tokens. Nobody checks it.
    pub user_data: Box<[u8; 256]>,
    /// How connections of this client are sealed where it makes its own tokens: with a join code, whose servers are netstream's.
    /// By default what is fastest here: AES-128-GCM where this processor computes AES itself, as nearly all do, else
    /// ChaCha20-Poly1305. Choose the latter for servers that do not compute AES, e.g. a Raspberry Pi 4, and for connections of
    /// more than 10^9 packets in one direction, 200 days at 60 a second: AES seals no more than that under one key, and the
    /// connection ends with `LinkError`. A token of a back-end says it itself, and a server does what the token says.
    pub cipher: SessionCipher,
    /// Whether a token of a back-end may send this client to loopback and link-local addresses. Off by default.
    pub allow_local_tokens: bool,
    /// Caps on what peers and strangers can make grow while this driver listens, and timeouts.
    pub limits: Limits,
    /// Caps and timeouts of the connection that this driver makes as a client. Its bandwidth is three quarters of what a
    /// server takes by default ([`Limits::inbound_bytes`]): who sends more for long is a flood to it. Raise both together.
    pub client_limits: Limits,
    /// Channels of connections while this driver listens; [`with_max_datagram`](Self::with_max_datagram) sets `max_mtu`.
    pub server_link: LinkConfig,
    /// Channels of the connection that this driver makes as a client; [`with_max_datagram`](Self::with_max_datagram) sets
    /// `max_mtu`.
    pub client_link: LinkConfig,
    /// Socket buffers while this driver listens.
    pub server_buffers: BufferSizes,
    /// Socket buffers of a client.
    pub client_buffers: BufferSizes,
    /// Which thread does the work. Looked at when the driver is made.
    pub io: IoMode,
    /// How long one `receive` takes datagrams in at a stretch; what is left waits for the next. Only where time is the
    /// machine's. Default 16 ms, a tick at 60 Hz; where updates are far apart it is half of the time between them.
    pub receive_budget: Duration,
    /// How long one `receive` of a server works for strangers: after half of it no token is opened, after all of it the rest
    /// waits for the next, unless half of the receive buffer is taken, so that datagrams of players may be lost. Only where
    /// time is the machine's. Default 1 ms; where updates are far apart it is a sixteenth of the time between them. Under a
    /// flood Linux is asked to drop what no client sends before it counts here: see
    /// [`SocketStats::shielded`](super::SocketStats::shielded).
    pub stranger_budget: Duration,
}

impl UdpConfig {
    /// Default settings; join code and client id come from `random`.
    pub fn new(random: &mut dyn Random) -> Self {
        let limits = Limits::default();
        let mut client_limits = Limits::client();
        // The rest is room for what arrives in bursts, and for small packets, whose number is limited too.
        client_limits.bandwidth = Some(u64::from(limits.inbound_bytes) * 3 / 4);
        Self {
            access: Access::JoinCode(JoinCode::random(random)),
            protocol_id: DEFAULT_PROTOCOL_ID,
            addresses: Vec::new(),
            identities: IdentityPolicy::default(),
            token_lifetime: TOKEN_LIFETIME,
            client_id: random.u64(),
            user_data: Box::new([0; 256]),
            cipher: fastest_cipher(),
            allow_local_tokens: false,
            limits,
            client_limits,
            server_link: LinkConfig::server(),
            client_link: LinkConfig::client(),
            server_buffers: BufferSizes::SERVER,
            client_buffers: BufferSizes::CLIENT,
            io: IoMode::Inline,
            receive_budget: Duration::from_millis(16),
            stranger_budget: Duration::from_millis(1),
        }
    }

    /// The same with these channels on both ends.
    #[must_use]
    pub fn with_channels(mut self, channels: &ChannelTable) -> Self {
        self.server_link.channels = channels.clone();
        self.client_link.channels = channels.clone();
        self
    }

    /// The same with larger datagrams where path and peer take them, in both roles: each connection finds out which of
    /// 1232, 1372, 1444 and 1452 bytes of UDP payload, up to `bytes`, arrive (RFC 8899), and as much is taken in. 1200 to 1452
    /// ([`LARGEST_DATAGRAM`]); by default 1200, which every path takes: no probe leaves.
    ///
    /// Both ends have to ask for it. A peer that does not, or is another implementation of the standard, drops the few probes,
    /// and the size stays. [`ConnectionStats::max_datagram`](crate::ConnectionStats::max_datagram) says what was found.
    #[must_use]
    pub fn with_max_datagram(mut self, bytes: usize) -> Self {
        let packet = bytes.clamp(MAX_DATAGRAM_OUT, LARGEST_DATAGRAM) - datagram_of(0);
        self.server_link.max_mtu = packet;
        self.client_link.max_mtu = packet;
        self
    }

    /// The channels of connections through a socket. Where that lets datagrams be cut, the size of those that arrive says
    /// nothing of the path.
    pub(super) fn link_through(&self, socket: &impl DatagramSocket, side: Side) -> LinkConfig {
        let mut link = self.link(side).clone();
        if socket.may_fragment() {
            link.max_mtu = link.mtu;
        }
        link
    }

    pub(super) fn key_ring(&self) -> KeyRing {
        match &self.access {
            Access::Tokens(keys) => keys.clone(),
            Access::JoinCode(code) => {
                let mut keys = KeyRing::new();
                keys.add_join_code(self.protocol_id, code);
                keys
            }
        }
    }

    pub(super) fn link(&self, side: Side) -> &LinkConfig {
        match side {
            Side::Server => &self.server_link,
            Side::Client => &self.client_link,
        }
    }
}

fn fastest_cipher() -> SessionCipher {
    if computes_aes() { SessionCipher::Aes128Gcm } else { SessionCipher::ChaCha20Poly1305 }
}

/// Whether the processor has instructions for AES and for the multiplication in GCM.
fn computes_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

#[cfg(test)]
mod tests {
    use netstream_transport::SeededRandom;

    use super::*;

    #[test]
    fn connections_are_sealed_with_aes_where_the_processor_computes_it() {
        let aes = UdpConfig::new(&mut SeededRandom::new(1)).cipher == SessionCipher::Aes128Gcm;
        assert_eq!(aes, computes_aes());
    }

    #[test]
    fn the_largest_datagram_is_kept_to_its_range() {
        for (bytes, packet) in [(0, 1175), (1200, 1175), (1201, 1176), (1452, 1427), (usize::MAX, 1427)] {
            let config = UdpConfig::new(&mut SeededRandom::new(1)).with_max_datagram(bytes);
            assert_eq!((config.server_link.max_mtu, config.client_link.max_mtu), (packet, packet), "{bytes}");
        }
    }
}
