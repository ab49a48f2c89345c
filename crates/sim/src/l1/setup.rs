//! What all servers and clients of a run have in common.

use std::net::SocketAddr;
use std::time::Duration;

use netstream::transport::channel::{ChannelConfig, ChannelTable, LinkConfig, Side};
use netstream::transport::crypto::Key;
use netstream::transport::netcode::client::Credentials;
use netstream::transport::netcode::{
    ConnectToken, IdentityPolicy, IssueRequest, JoinCode, KeyRing, ServerConfig as NetcodeServer, SessionCipher, client,
};
use netstream::transport::{ClientConfig, Limits, Mono, ServerConfig};

use crate::clock::NodeClock;
use crate::dice::Dice;
use crate::oracle::{KINDS, NAME};
use crate::plan::{CHANNELS, Plan, Workload};

/// Names the game.
const PROTOCOL: u64 = u64::from_le_bytes(*b"netstrms");

/// The world of one run: keys, addresses, channels, limits.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) channels: ChannelTable,
    pub(crate) limits: Limits,
    key: Key,
    code: JoinCode,
    workload: Workload,
}

impl Setup {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut dice = Dice::new(plan.seed, "setup", 0);
        let mut channels = ChannelTable::default();
        for kind in &KINDS[channels.len()..] {
            let channel = ChannelConfig::new(*kind);
            let channel = if kind.is_reliable() { channel.fragmented(16 << 10) } else { channel };
            channels.declare(channel).expect("a table takes 256 channels");
        }
        let mut limits = Limits::default();
        limits.connections = plan.workload.capacity;
        limits.idle_timeout = plan.workload.idle_timeout;
        limits.identity_joins = plan.workload.identity_joins;
        Self {
            servers: (0..plan.servers).map(|index| SocketAddr::from(([203, 0, 113, 1 + index as u8], 7979))).collect(),
            channels,
            limits,
            key: Key::random(dice.random()),
            code: JoinCode::random(dice.random()),
            workload: plan.workload.clone(),
        }
    }

    /// Where a client is: each in a network of its own, with a new port for each socket.
    pub(crate) fn client_address(client: usize, socket: u16) -> SocketAddr {
        SocketAddr::from(([10, 1 + (client >> 8) as u8, client as u8, 2], 20_000 + socket))
    }

    /// The largest message of each channel in one direction.
    pub(crate) fn largest(&self, sender: Side) -> [usize; CHANNELS] {
        let mut largest = [NAME; CHANNELS];
        for (id, channel) in self.channels.iter() {
            largest[usize::from(id.0)] = channel.max_message(sender).min(self.workload.largest.max(NAME));
        }
        largest
    }

    pub(crate) fn server(&self) -> ServerConfig {
        let mut keys = KeyRing::new();
        match self.workload.tokens {
            true => keys.add_key(PROTOCOL, self.key.clone()).expect("the key is not zero"),
            false => keys.add_join_code(PROTOCOL, &self.code),
        }
        let identities = if self.workload.reject_new { IdentityPolicy::RejectNew } else { IdentityPolicy::ReplaceOld };
        let netcode = NetcodeServer {
            addresses: self.servers.clone(),
            identities,
            token_lifetime: self.workload.token_lifetime,
            ..NetcodeServer::new(keys)
        };
        ServerConfig { netcode, link: self.link(LinkConfig::server(), 0), limits: self.limits.clone() }
    }

    pub(crate) fn client(&self, credentials: Credentials, addresses: Vec<SocketAddr>) -> ClientConfig {
        let mut limits = Limits::client();
        limits.idle_timeout = self.limits.idle_timeout;
        // As the UDP driver has it: who sends more for long is a flood.
        limits.bandwidth = Some(u64::from(self.limits.inbound_bytes) * 3 / 4);
        let cipher = match &credentials {
            Credentials::JoinCode { user_data, .. } => cipher_of(u32::from(user_data[0])),
            Credentials::Token(_) => SessionCipher::default(),
        };
        ClientConfig {
            netcode: client::ClientConfig { credentials, addresses, allow_local: false, cipher },
            link: self.link(LinkConfig::client(), 1),
            limits,
        }
    }

    /// What `identity` shows the servers, with the number of the token sealed inside. A back-end's clock is right.
    pub(crate) fn credentials(
        &self,
        identity: u64,
        token: u32,
        order: &[SocketAddr],
        now: Mono,
        dice: &mut Dice,
    ) -> Credentials {
        let mut user_data = [0; 256];
        user_data[..4].copy_from_slice(&token.to_le_bytes());
        if !self.workload.tokens {
            let (code, user_data) = (self.code.clone(), Box::new(user_data));
            return Credentials::JoinCode { code, protocol_id: PROTOCOL, client_id: identity, user_data };
        }
        let request = IssueRequest {
            user_data,
            lifetime: self.workload.token_lifetime,
            timeout: self.workload.idle_timeout,
            cipher: cipher_of(token),
            ..IssueRequest::new(PROTOCOL, &self.key, identity, order)
        };
        let wall = NodeClock::new(Duration::ZERO).at(now).wall;
        let token = ConnectToken::issue(&request, wall, dice.random()).expect("the request is in order");
        Credentials::Token(Box::new(token))
    }

    fn link(&self, mut link: LinkConfig, end: usize) -> LinkConfig {
        link.channels = self.channels.clone();
        link.first_packet_number = self.workload.first_number;
        link.max_mtu = self.workload.max_mtu[end];
        link
    }
}

/// Every other token is for AES.
fn cipher_of(token: u32) -> SessionCipher {
    if token % 2 == 1 { SessionCipher::Aes128Gcm } else { SessionCipher::default() }
}
