//! The client's machine.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use super::counters::{Counter, Counters};
use super::packet::{self, CHALLENGE_BODY, Header, KEEP_ALIVE_BODY, Malformed, PacketType};
use super::session::{Session, ciphers, first_number};
use super::table::AddressKey;
use super::token::{ConnectToken, IssueRequest};
use super::{
    FAREWELL_COPIES, FAREWELL_INTERVAL, Farewell, GOODBYE_DATAGRAMS, GOODBYE_LIFE, JoinCode, LARGEST_BODY,
    MAX_ADDRESSES, MAX_BODY_IN, SessionCipher, Transmit, token_timeout,
};
use crate::crypto::Drbg;
use crate::limits::Limits;
use crate::mutants::mutant;
use crate::{DisconnectCode, DisconnectReason, Mono, Now, Random};

/// Between two requests, and two responses.
const RETRY: Duration = Duration::from_millis(100);

/// How long one address is tried.
const ATTEMPT: Duration = Duration::from_secs(5);

/// More than the responses of one attempt. Where the session has keys of its own, its numbers begin behind them: then no number
/// of a client means two things, whatever key it is under.
const RESPONSES: u64 = 64;

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What the client shows the server.
    pub credentials: Credentials,
    /// Addresses that the user chose, tried in this order, 32 at most; they are always allowed. While empty, the
    /// addresses of the token are tried.
    pub addresses: Vec<SocketAddr>,
    /// Whether a token may send this client to loopback and link-local addresses. Off by default: a token comes from
    /// elsewhere, and must not make its player a tool against their own network. For tests and local play.
    pub allow_local: bool,
    /// How the connection is sealed where the client issues its own tokens. A back-end's token says so itself.
    pub cipher: SessionCipher,
}

/// What a client shows the server.
#[derive(Clone)]
pub enum Credentials {
    /// What a back-end issued. Good for one connection.
    Token(Box<ConnectToken>),
    /// A code with which the client issues its own tokens, a fresh one for every attempt.
    JoinCode {
        /// The server's code.
        code: JoinCode,
        /// The server's protocol id.
        protocol_id: u64,
        /// The number that the client goes by; nobody checks it.
        client_id: u64,
        /// Data for the server; nobody checks it.
        user_data: Box<[u8; 256]>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => f.debug_tuple("Token").field(token).finish(),
            Self::JoinCode { client_id, .. } => {
                f.debug_struct("JoinCode").field("client_id", client_id).finish_non_exhaustive()
            }
        }
    }
}

/// Why a client does not even try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A join code names no server.
    #[error("a join code names no server; give the address of one")]
    NoAddress,
    /// The token's addresses are loopback, link-local, multicast and the like.
    #[error("none of the token's addresses may be dialled; addresses of this machine must be allowed explicitly")]
    NoUsableAddress,
}

/// What happened. First `Connected`, perhaps; then `Closed`, unless the layer above closed the connection; last exactly
/// one `Freed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server has accepted us.
    Connected {
        /// Where it is.
        address: SocketAddr,
        /// Which slot we have.
        index: u32,
        /// How many the server has.
        most: u32,
    },
    /// The connection is over or has failed.
    Closed {
        /// Why, and who ended it.
        reason: DisconnectReason,
    },
    /// Nothing can be sealed or will arrive any more.
    Freed,
}

/// A client of NETCODE 1.02: one attempt to connect, with as many addresses as there are, and the connection that comes
/// of it.
///
/// Calling order: see the [module](super). A client starts to connect when it is made and is of no use after `Freed`.
#[derive(Debug)]
pub struct Client {
    credentials: Credentials,
    addresses: Vec<SocketAddr>,
    /// Which of them is in use.
    at: usize,
    token: Box<ConnectToken>,
    session: Session,
    /// The one under the token's own keys, where `session` has others and the server has not accepted us yet.
    handshake: Option<Session>,
    state: State,
    /// When `token` ceases to be of use; told by the monotonic clock, because the other may be wrong here.
    token_end: Mono,
    attempt_end: Mono,
    /// When the next request or response leaves.
    next_try: Mono,
    /// The newest challenge or denial of this server (H10).
    newest_global: Option<u64>,
    /// Whether any server said that it is full.
    denied: bool,
    /// The server has accepted us and does not know that we know: until it hears from us it repeats itself.
    owes_answer: bool,
    /// Number and sealed token of the challenge that we answer.
    challenge: [u8; CHALLENGE_BODY],
    random: Drbg,
    limits: Limits,
    farewell_interval: Duration,
    events: VecDeque<Event>,
    counters: Counters,
    /// The largest payload that is taken.
    max_body: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Requesting,
    Responding,
    Established,
    /// Over for everyone above; the last words are being said.
    Leaving {
        until: Mono,
        farewell_at: Mono,
        farewells: u8,
        datagrams: u8,
    },
    Over,
}

impl Client {
    /// A client that starts to connect `now`. `random` is the source of its session keys where it issues its own tokens, and
    /// of its first sequence number where it does not; it must be fit for that in production.
    pub fn new(config: ClientConfig, limits: &Limits, random: &mut dyn Random, now: Now) -> Result<Self, StartError> {
        let mut addresses = config.addresses;
        if addresses.is_empty() {
            let Credentials::Token(token) = &config.credentials else { return Err(StartError::NoAddress) };
            addresses.extend(token.addresses().iter().filter(|address| is_dialable(**address, config.allow_local)));
            if addresses.is_empty() {
                return Err(StartError::NoUsableAddress);
            }
        }
        addresses.truncate(MAX_ADDRESSES);
        let mut random = Drbg::new(random);
        let (token, first) = match &config.credentials {
            Credentials::Token(token) => (token.clone(), first_number(&mut random)),
            // Its keys are new, and nobody else's.
            own => {
                let token = issue(own, config.cipher, &addresses, limits, &mut random, now);
                (Box::new(token.ok_or(StartError::NoAddress)?), 0)
            }
        };
        let session =
            Session::new(token.protocol_id, &token.client_to_server, &token.server_to_client, first, now.mono);
        Ok(Self {
            credentials: config.credentials,
            addresses,
            at: 0,
            token_end: now.mono + lifetime(&token),
            token,
            session,
            handshake: None,
            state: State::Requesting,
            attempt_end: now.mono + ATTEMPT,
            next_try: now.mono,
            newest_global: None,
            denied: false,
            owes_answer: false,
            challenge: [0; CHALLENGE_BODY],
            random,
            limits: limits.clone(),
            farewell_interval: FAREWELL_INTERVAL,
            events: VecDeque::new(),
            counters: Counters::new(),
            max_body: MAX_BODY_IN,
        })
    }

    /// Takes payloads of up to `bytes` from now on; see [`Server::set_max_body`](super::Server::set_max_body).
    pub fn set_max_body(&mut self, bytes: usize) {
        self.max_body = bytes.clamp(MAX_BODY_IN, LARGEST_BODY);
    }

    /// The largest payload that is taken, in bytes.
    pub const fn max_body(&self) -> usize {
        self.max_body
    }

    /// Takes a datagram that arrived from `from`, and opens it where it lies. Returns the body of a payload: 1 to
    /// [`max_body`](Self::max_body) authentic bytes. It may belong to a connection that is over but still lingers.
    #[inline]
    pub fn handle_datagram<'d>(&mut self, now: Now, from: SocketAddr, datagram: &'d mut [u8]) -> Option<&'d mut [u8]> {
        match self.receive(now, from, datagram) {
            Ok(body) => body,
            Err(counter) => {
                self.counters.add(counter);
                None
            }
        }
    }

    fn receive<'d>(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &'d mut [u8],
    ) -> Result<Option<&'d mut [u8]>, Counter> {
        let header = Header::parse(datagram, self.max_body).map_err(|malformed| match malformed {
            Malformed::Size => Counter::PacketSize,
            Malformed::Type => Counter::PacketType,
            Malformed::Sequence => Counter::PacketSequence,
        })?;
        if self.state == State::Over || !AddressKey::new(from).same_endpoint(AddressKey::new(self.server())) {
            return Err(Counter::PacketUnknownPeer);
        }
        match header.kind {
            PacketType::Request | PacketType::Response => Err(Counter::PacketRole),
            PacketType::Denied | PacketType::Challenge => {
                self.handle_global(now, header, datagram)?;
                Ok(None)
            }
            PacketType::KeepAlive | PacketType::Payload | PacketType::Disconnect => {
                self.handle_packet(now, header, datagram)
            }
        }
    }

    /// A challenge or a denial: only while we ask for one, and never an older one than before (H10).
    fn handle_global(&mut self, now: Now, header: Header, datagram: &mut [u8]) -> Result<(), Counter> {
        let fits = match header.kind {
            PacketType::Challenge => self.state == State::Requesting,
            _ => matches!(self.state, State::Requesting | State::Responding),
        };
        if !fits {
            return Err(Counter::PacketState);
        }
        if self.newest_global.is_some_and(|newest| header.sequence <= newest) {
            return Err(Counter::PacketReplay);
        }
        let shake = self.handshake.as_ref().unwrap_or(&self.session);
        let body = shake.open_unwindowed(header, datagram).ok_or(Counter::PacketOpenFailed)?;
        self.newest_global = Some(header.sequence);
        if header.kind == PacketType::Denied {
            if !body.is_empty() {
                return Err(Counter::PacketBodySize);
            }
            self.denied = true;
            self.try_next_address(now);
            return Ok(());
        }
        self.challenge = <[u8; CHALLENGE_BODY]>::try_from(&*body).map_err(|_| Counter::PacketBodySize)?;
        let ConnectToken { cipher, protocol_id, client_to_server, server_to_client, .. } = &*self.token;
        if *cipher != SessionCipher::ChaCha20Poly1305 {
            let ciphers = ciphers(*cipher, client_to_server, server_to_client, &self.challenge);
            let first = self.session.next_number().saturating_add(RESPONSES);
            let session = Session::of(*cipher, *protocol_id, ciphers, first, now.mono);
            self.handshake = Some(std::mem::replace(&mut self.session, session));
        }
        self.state = State::Responding;
        self.next_try = now.mono;
        Ok(())
    }

    fn handle_packet<'d>(
        &mut self,
        now: Now,
        header: Header,
        datagram: &'d mut [u8],
    ) -> Result<Option<&'d mut [u8]>, Counter> {
        let fits = match self.state {
            State::Requesting | State::Over => false,
            // A payload that overtakes the keep-alive is lost, as the standard has it.
            State::Responding => header.kind == PacketType::KeepAlive || mutant(4),
            State::Established | State::Leaving { .. } => true,
        };
        if !fits {
            return Err(Counter::PacketState);
        }
        let body = match self.session.open(now.mono, header, datagram, self.max_body) {
            Ok(body) => body,
            Err(counter) => {
                if self.session.is_worn_out() {
                    self.end(DisconnectReason::link(DisconnectCode::LinkError));
                }
                return Err(counter);
            }
        };
        match header.kind {
            PacketType::Payload => return Ok(Some(body)),
            PacketType::Disconnect if matches!(self.state, State::Leaving { .. }) => self.free(),
            PacketType::Disconnect => {
                self.counters.add(Counter::RemoteClosed);
                self.end(DisconnectReason::remote(DisconnectCode::ConnectionClose));
            }
            _ if self.state == State::Responding => {
                let (index, most) = body.split_at(KEEP_ALIVE_BODY / 2);
                let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
                self.state = State::Established;
                self.handshake = None;
                self.owes_answer = true;
                let (index, most) = (number(index), number(most));
                self.events.push_back(Event::Connected { address: self.server(), index, most });
            }
            _ => {}
        }
        Ok(None)
    }

    /// Seals a payload whose body the caller has written at `buf[HEADROOM..HEADROOM + body_len]`, and writes the header
    /// right before it. Returns where the datagram lies in `buf` and where it goes.
    ///
    /// `body_len` is 1 to [`LARGEST_BODY`], and `buf` has [`TAILROOM`](super::TAILROOM) bytes behind the body. `None` unless connected, or over and not out of words yet.
    #[inline]
    pub fn seal_payload(&mut self, now: Now, buf: &mut [u8], body_len: usize) -> Option<(SocketAddr, Range<usize>)> {
        debug_assert!((1..=LARGEST_BODY).contains(&body_len));
        match &mut self.state {
            State::Established => {}
            State::Leaving { datagrams, .. } => *datagrams = datagrams.checked_sub(1)?,
            _ => return None,
        }
        let range = self.session.seal(now.mono, PacketType::Payload, buf, body_len)?;
        self.owes_answer = false;
        Some((self.server(), range))
    }

    /// The next datagram of the protocol's own, at the start of `buf`, which has at least
    /// [`MAX_DATAGRAM_OUT`](super::MAX_DATAGRAM_OUT) bytes.
    pub fn poll_transmit(&mut self, now: Now, buf: &mut [u8]) -> Option<Transmit> {
        let len = match &mut self.state {
            State::Requesting if now.mono >= self.next_try => {
                self.next_try = now.mono + RETRY;
                let token = &self.token;
                packet::write_request(buf, token.protocol_id, token.expiry, &token.nonce, &token.sealed)
            }
            State::Responding if now.mono >= self.next_try => {
                self.next_try = now.mono + RETRY;
                let shake = self.handshake.as_mut().unwrap_or(&mut self.session);
                shake.seal_small(now.mono, PacketType::Response, buf, &self.challenge)?
            }
            State::Established if self.owes_answer || now.mono >= self.session.last_sent + self.limits.keep_alive => {
                self.owes_answer = false;
                self.session.seal_small(now.mono, PacketType::KeepAlive, buf, &[0; KEEP_ALIVE_BODY])?
            }
            State::Leaving { farewell_at, farewells, datagrams, .. }
                if now.mono >= *farewell_at && *farewells > 0 && *datagrams > 0 =>
            {
                *farewells -= 1;
                *datagrams -= 1;
                *farewell_at = now.mono + self.farewell_interval;
                self.session.seal_small(now.mono, PacketType::Disconnect, buf, &[])?
            }
            _ => return None,
        };
        Some(Transmit { to: self.server(), len })
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Lets everything act that is due: the next address, expiry of the token, silence, the end of lingering.
    pub fn tick(&mut self, now: Now) {
        match self.state {
            State::Requesting | State::Responding => {
                if now.mono >= self.token_end {
                    self.end(DisconnectReason::link(DisconnectCode::TokenExpired));
                } else if now.mono >= self.attempt_end {
                    self.try_next_address(now);
                }
            }
            State::Established => {
                if now.mono >= self.session.last_received + self.idle_timeout() {
                    self.counters.add(Counter::TimedOut);
                    self.end(DisconnectReason::link(DisconnectCode::Timeout));
                } else if let Some(reason) = self.session.used_up() {
                    self.events.push_back(Event::Closed { reason });
                    self.close(now, Farewell::Goodbye);
                }
            }
            State::Leaving { until, .. } if now.mono >= until => self.free(),
            State::Leaving { .. } | State::Over => {}
        }
    }

    /// When [`tick`](Self::tick) or [`poll_transmit`](Self::poll_transmit) has something to do at the latest; `None`
    /// when all is over.
    pub fn poll_timeout(&self) -> Option<Mono> {
        Some(match self.state {
            State::Requesting | State::Responding => self.next_try.min(self.attempt_end).min(self.token_end),
            State::Established if self.owes_answer => Mono::ZERO,
            State::Established => {
                let silent = self.session.last_received + self.idle_timeout();
                silent.min(self.session.last_sent + self.limits.keep_alive)
            }
            State::Leaving { until, farewell_at, farewells: 1.., datagrams: 1.. } => until.min(farewell_at),
            State::Leaving { until, .. } => until,
            State::Over => return None,
        })
    }

    /// Leaves: nothing is reported any more but `Freed`, and payloads can be sealed and arrive only until then. Closing
    /// what is over already only changes how long it lingers.
    pub fn close(&mut self, now: Now, farewell: Farewell) {
        let before = match self.state {
            State::Over => return,
            // The server has no connection of ours yet.
            State::Requesting => return self.free(),
            State::Leaving { datagrams, .. } => datagrams,
            State::Responding | State::Established => GOODBYE_DATAGRAMS,
        };
        let (until, farewells) = match farewell {
            Farewell::Goodbye => (now.mono + GOODBYE_LIFE, FAREWELL_COPIES),
            Farewell::Linger(duration) => (now.mono + duration, 0),
            Farewell::Silent => return self.free(),
        };
        self.state = State::Leaving { until, farewell_at: now.mono, farewells, datagrams: before };
    }

    /// Lets all farewells of a connection that is over leave at once: the process is about to end.
    pub fn hurry_goodbyes(&mut self) {
        self.farewell_interval = Duration::ZERO;
        if let State::Leaving { farewell_at, .. } = &mut self.state {
            *farewell_at = Mono::ZERO;
        }
    }

    /// Changes the limits in force.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.limits = limits.clone();
    }

    /// Two clients answer each other's challenges: attackers of the simulator.
    #[cfg(feature = "mutants")]
    #[doc(hidden)]
    pub fn swap_challenges(&mut self, other: &mut Self) {
        if self.state == State::Responding && other.state == State::Responding {
            std::mem::swap(&mut self.challenge, &mut other.challenge);
        }
    }

    /// The server that is being asked or that we are connected to.
    pub fn server(&self) -> SocketAddr {
        // The list is never empty and `at` never leaves it; the fallback is only for the type.
        self.addresses.get(self.at).copied().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Whether payloads can be sent.
    pub fn is_connected(&self) -> bool {
        self.state == State::Established
    }

    /// When the server last proved to be there.
    pub fn last_received(&self) -> Mono {
        self.session.last_received
    }

    /// One counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.of(counter)
    }

    /// All counters.
    pub fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.counters.report(report);
    }

    fn idle_timeout(&self) -> Duration {
        let ours = self.limits.idle_timeout;
        token_timeout(self.token.timeout).map_or(ours, |timeout| timeout.min(ours))
    }

    /// Gives this address up.
    fn try_next_address(&mut self, now: Now) {
        if self.at + 1 >= self.addresses.len() {
            let code = if self.denied {
                DisconnectCode::ServerFull
            } else if now.wall > self.token.expiry() && matches!(self.credentials, Credentials::Token(_)) {
                // By our clock the token was too old from the start; silence has confirmed it.
                DisconnectCode::TokenExpired
            } else {
                DisconnectCode::MaxConnectionAttempts
            };
            let reason = if self.denied { DisconnectReason::remote(code) } else { DisconnectReason::link(code) };
            return self.end(reason);
        }
        self.at += 1;
        if let Some(session) = self.handshake.take() {
            self.session = session;
        }
        self.session.expect_another_peer();
        let own = issue(&self.credentials, self.token.cipher, &self.addresses, &self.limits, &mut self.random, now);
        if let Some(token) = own {
            let next = self.session.next_number();
            let (seal, open) = (&token.client_to_server, &token.server_to_client);
            self.session = Session::new(token.protocol_id, seal, open, next, now.mono);
            self.token_end = now.mono + lifetime(&token);
            *self.token = token;
        }
        self.state = State::Requesting;
        self.newest_global = None;
        self.attempt_end = now.mono + ATTEMPT;
        self.next_try = now.mono;
    }

    fn end(&mut self, reason: DisconnectReason) {
        if !matches!(self.state, State::Leaving { .. } | State::Over) {
            self.events.push_back(Event::Closed { reason });
        }
        self.free();
    }

    fn free(&mut self) {
        if self.state != State::Over {
            self.state = State::Over;
            self.events.push_back(Event::Freed);
        }
    }
}

/// A fresh token of the client's own; `None` if it has one of a back-end.
fn issue(
    credentials: &Credentials,
    cipher: SessionCipher,
    addresses: &[SocketAddr],
    limits: &Limits,
    random: &mut Drbg,
    now: Now,
) -> Option<ConnectToken> {
    let Credentials::JoinCode { code, protocol_id, client_id, user_data } = credentials else { return None };
    let key = code.key(*protocol_id);
    let timeout = Duration::from_secs(limits.idle_timeout.as_secs_f64().ceil().clamp(1.0, 60.0) as u64);
    let defaults = IssueRequest::new(*protocol_id, &key, *client_id, addresses);
    let request = IssueRequest { user_data: **user_data, timeout, cipher, ..defaults };
    ConnectToken::issue(&request, now.wall, random).ok()
}

fn lifetime(token: &ConnectToken) -> Duration {
    Duration::from_secs(token.expiry.saturating_sub(token.created))
}

/// Whether a token's word is enough to send datagrams there.
fn is_dialable(address: SocketAddr, allow_local: bool) -> bool {
    let ip = address.ip().to_canonical();
    let (nowhere, local) = match ip {
        // 0/8 is "this network", 240/4 reserved and broadcast.
        IpAddr::V4(ip) => {
            (ip.octets()[0] == 0 || ip.is_multicast() || ip.octets()[0] >= 240, ip.is_loopback() || ip.is_link_local())
        }
        IpAddr::V6(ip) => (ip.is_unspecified() || ip.is_multicast(), ip.is_loopback() || ip.is_unicast_link_local()),
    };
    address.port() != 0 && !nowhere && (allow_local || !local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_cannot_send_its_player_anywhere() {
        let dialable = |text: &str, allow_local| is_dialable(text.parse().unwrap(), allow_local);
        for address in ["198.51.100.1:1", "10.0.0.1:1", "[2001:db8::1]:1", "[fd00::1]:1"] {
            assert!(dialable(address, false), "{address}");
        }
        for address in ["127.0.0.1:1", "[::1]:1", "169.254.169.254:1", "[fe80::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(!dialable(address, false), "{address}");
            assert!(dialable(address, true), "{address}");
        }
        for address in ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1", "[ff02::1]:1", "198.51.100.1:0"] {
            assert!(!dialable(address, true), "{address}");
        }
    }
}
