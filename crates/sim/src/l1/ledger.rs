//! What all nodes know together: who tried, who was accepted, what was said, and how it ended.
//!
//! Every report of a core passes through here and is judged at once.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use netstream::transport::{ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Mono, Origin};

use crate::invariant::Invariant;
use crate::journal::SERVERS;
use crate::oracle::{Received, Sent};
use crate::plan::CHANNELS;
use crate::stage::Record;

/// The client number of those who break the protocol on purpose; what they send is not judged.
pub(crate) const ROGUE: usize = usize::MAX;

/// One attempt of a client to connect, and what came of it, as the client sees it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) client: usize,
    pub(crate) identity: u64,
    /// Where it shows its token, if that cannot change.
    pub(crate) from: Option<SocketAddr>,
    /// What it shows the server; several attempts may show the same.
    pub(crate) token: u32,
    pub(crate) started: Mono,
    pub(crate) connected: Option<Mono>,
    /// Over; without a reason if it vanished.
    pub(crate) ended: Option<(Mono, Option<DisconnectReason>)>,
    /// What the client said when it left.
    pub(crate) goodbyes: Vec<DisconnectReason>,
    /// By when it must be over, since it has been asked to end.
    pub(crate) over_by: Option<Mono>,
    pub(crate) sent: Sent,
    pub(crate) received: Received,
    /// The bond that its messages come from.
    pub(crate) bond: Option<usize>,
}

/// One connection as a server sees it.
#[derive(Debug)]
pub(crate) struct Bond {
    pub(crate) server: usize,
    pub(crate) id: ConnectionId,
    pub(crate) attempt: usize,
    pub(crate) identity: u64,
    pub(crate) accepted: Mono,
    pub(crate) ended: Option<(Mono, Option<DisconnectReason>)>,
    pub(crate) goodbyes: Vec<DisconnectReason>,
    pub(crate) over_by: Option<Mono>,
    pub(crate) sent: Sent,
    pub(crate) received: Received,
}

impl Attempt {
    /// One that begins.
    pub(crate) fn new(client: usize, identity: u64, from: Option<SocketAddr>, token: u32, started: Mono) -> Self {
        Self {
            client,
            identity,
            from,
            token,
            started,
            connected: None,
            ended: None,
            goodbyes: Vec::new(),
            over_by: None,
            sent: Sent::default(),
            received: Received::default(),
            bond: None,
        }
    }

    /// Whether messages flow, as far as the client knows.
    pub(crate) fn is_up(&self) -> bool {
        self.connected.is_some() && self.ended.is_none()
    }
}

/// The name of what an attempt sends.
pub(crate) fn upstream(attempt: usize) -> u32 {
    attempt as u32 * 2
}

/// The name of what a server sends on a bond.
pub(crate) fn downstream(bond: usize) -> u32 {
    bond as u32 * 2 + 1
}

/// The connections of a server's present life with their bonds, in the order in which they were accepted.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    all: Vec<(ConnectionId, usize)>,
    /// By index of the id, where the newest is in there.
    newest: Vec<usize>,
}

impl Accepted {
    fn find(&self, id: ConnectionId) -> Option<usize> {
        let newest = self.newest.get(id.index as usize).and_then(|&place| self.all.get(place));
        let known = newest.filter(|(known, _)| *known == id);
        known.or_else(|| self.all.iter().find(|(known, _)| *known == id)).map(|(_, bond)| *bond)
    }

    fn push(&mut self, id: ConnectionId, bond: usize) {
        let index = id.index as usize;
        self.newest.resize(self.newest.len().max(index + 1), usize::MAX);
        self.newest[index] = self.all.len();
        self.all.push((id, bond));
    }
}

impl Deref for Accepted {
    type Target = [(ConnectionId, usize)];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) record: Record,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) bonds: Vec<Bond>,
    pub(crate) largest_up: [usize; CHANNELS],
    pub(crate) largest_down: [usize; CHANNELS],
    /// Messages that honest players and their servers got.
    pub(crate) messages: u64,
    /// The attempts that last showed a token, by its number.
    pub(crate) token_users: Vec<usize>,
}

impl Ledger {
    pub(crate) fn violate(&mut self, at: Mono, invariant: Invariant, what: impl Into<String>) {
        self.record.violate(at, invariant, what);
    }

    /// What a client's core reports about `attempt`.
    pub(crate) fn client_reports(&mut self, at: Mono, attempt: usize, incoming: &Incoming<'_>) {
        let client = self.attempts[attempt].client;
        let over = self.attempts[attempt].ended.is_some();
        match incoming {
            Incoming::Accepted { .. } => self.violate(at, Invariant::I1, format!("client {client} accepted somebody")),
            Incoming::Connected { .. } => {
                self.record
                    .journal
                    .note(at, client as u32, "connected", attempt as u64, || format!("attempt {attempt}"));
                if self.attempts[attempt].connected.is_some() || over {
                    self.violate(at, Invariant::I1, format!("attempt {attempt} of client {client} connected twice"));
                }
                if !self.bonds.iter().any(|bond| bond.attempt == attempt) {
                    // The handshake is over and the server has no place for it: it is told so next, and gets no message.
                    self.record.sometimes.count("refused after the handshake");
                }
                let accepted = self.bonds.iter().rev().find(|bond| bond.attempt == attempt).map(|bond| bond.accepted);
                // Two ways and two updates take less.
                let late = accepted.is_some_and(|accepted| at.since(accepted) > Duration::from_millis(700));
                self.record.sometimes.add("the last packet of a handshake is late or lost", u64::from(late));
                self.attempts[attempt].connected = Some(at);
            }
            Incoming::Message { channel, bytes, .. } => {
                self.record.journal.note(at, client as u32, "got", bytes.len() as u64, || {
                    format!("attempt {attempt} channel {} {} B", channel.0, bytes.len())
                });
                if over || self.attempts[attempt].connected.is_none() {
                    let rule = if over { Invariant::I10 } else { Invariant::I1 };
                    return self.violate(at, rule, format!("a message for attempt {attempt} that is not up"));
                }
                if bytes.is_empty() && *channel == ChannelId::UNRELIABLE {
                    // One of many that were sent at once, and that have no name.
                    return;
                }
                let stream = match self.attempts[attempt].bond {
                    Some(bond) => downstream(bond),
                    None => {
                        // The first message says which of the server's connections this is; it must be one of ours.
                        let named = bytes.first_chunk().map_or(u32::MAX, |stream| u32::from_le_bytes(*stream));
                        let bond = (named / 2) as usize;
                        let ours = self.bonds.get(bond).is_some_and(|bond| bond.attempt == attempt);
                        if named.is_multiple_of(2) || !ours {
                            return self.violate(at, Invariant::I21, format!("attempt {attempt} got stream {named}"));
                        }
                        self.attempts[attempt].bond = Some(bond);
                        named
                    }
                };
                self.messages += 1;
                let checked = self.attempts[attempt].received.check(stream, channel.0, bytes, &self.largest_down);
                if let Err((rule, what)) = checked {
                    self.violate(at, rule, format!("client {client}: {what}"));
                }
            }
            Incoming::Disconnected { reason, .. } => {
                let hash = u64::from(reason.code.to_wire());
                self.record.journal.note(at, client as u32, "over", hash, || format!("attempt {attempt}: {reason}"));
                if over {
                    self.violate(at, Invariant::I2, format!("attempt {attempt} ended twice, now {reason}"));
                }
                let accepted = self.bonds.iter().any(|bond| bond.attempt == attempt);
                if self.attempts[attempt].connected.is_some() && !accepted && !is_refusal(reason) {
                    let what = format!("attempt {attempt} was connected to nobody and ended with {reason}");
                    self.violate(at, Invariant::I7, what);
                }
                let peers = self.bonds.iter().filter(|bond| bond.attempt == attempt);
                let said: Vec<_> = peers.flat_map(|bond| bond.goodbyes.iter()).collect();
                let ours = &self.attempts[attempt].goodbyes;
                if let Err(what) = judge_reason(reason, ours, &said, CLIENT_CODES) {
                    self.violate(at, Invariant::I6, format!("client {client} attempt {attempt}: {what}"));
                }
                self.record.sometimes.count(&format!("client: {} {:?}", reason.code.name(), reason.origin));
                self.attempts[attempt].ended = Some((at, Some(reason.clone())));
                self.note_both_leaving(attempt);
            }
        }
    }

    /// What a server's core reports. `bonds` are those of its present life, by connection id.
    pub(crate) fn server_reports(
        &mut self,
        at: Mono,
        server: usize,
        bonds: &mut Accepted,
        incoming: &Incoming<'_>,
    ) -> Option<SocketAddr> {
        let node = SERVERS + server as u32;
        match incoming {
            Incoming::Connected { .. } => {
                self.violate(at, Invariant::I1, format!("server {server} connected to somebody"));
            }
            Incoming::Accepted { connection, address, identity } => {
                let Some(identity) = identity else {
                    self.violate(at, Invariant::I14, "a connection without identity");
                    return None;
                };
                let token = identity.user_data.first_chunk().map_or(u32::MAX, |number| u32::from_le_bytes(*number));
                let Some(&attempt) = self.token_users.get(token as usize) else {
                    self.violate(at, Invariant::I14, format!("nobody ever had token {token}"));
                    return None;
                };
                let bond = self.bonds.len();
                self.record.journal.note(at, node, "accepted", u64::from(token), || {
                    format!("bond {bond}: attempt {attempt}, token {token}, identity {}", identity.client_id)
                });
                if let Some(from) = self.attempts[attempt].from
                    && *address != Some(from)
                {
                    self.violate(
                        at,
                        Invariant::I14,
                        format!("token {token} was shown from {from}, accepted at {address:?}"),
                    );
                }
                if bonds.find(*connection).is_some() {
                    self.violate(at, Invariant::I12, format!("{connection:?} was used before"));
                }
                if self.attempts[attempt].identity != identity.client_id {
                    self.violate(at, Invariant::I14, format!("token {token} gave identity {}", identity.client_id));
                }
                let used =
                    self.bonds.iter().any(|bond| bond.server == server && self.attempts[bond.attempt].token == token);
                // Each server knows what was used there; a token that names two servers can be used once at each.
                if used {
                    self.violate(at, Invariant::I14, format!("server {server} accepted token {token} again"));
                }
                bonds.push(*connection, bond);
                self.bonds.push(Bond {
                    server,
                    id: *connection,
                    attempt,
                    identity: identity.client_id,
                    accepted: at,
                    ended: None,
                    goodbyes: Vec::new(),
                    over_by: None,
                    sent: Sent::default(),
                    received: Received::default(),
                });
                return *address;
            }
            Incoming::Message { connection, channel, bytes } => {
                self.record.journal.note(at, node, "got", bytes.len() as u64, || {
                    format!("{connection:?} channel {} {} B", channel.0, bytes.len())
                });
                let Some(bond) = bonds.find(*connection) else {
                    self.violate(at, Invariant::I1, format!("a message of {connection:?}, which was never accepted"));
                    return None;
                };
                let attempt = self.bonds[bond].attempt;
                let stream = upstream(attempt);
                if self.bonds[bond].ended.is_some() {
                    self.violate(at, Invariant::I10, format!("a message of bond {bond}, which is over"));
                }
                if self.attempts[attempt].client == ROGUE || bytes.is_empty() && *channel == ChannelId::UNRELIABLE {
                    return None;
                }
                self.messages += 1;
                if let Err((rule, what)) = self.bonds[bond].received.check(stream, channel.0, bytes, &self.largest_up) {
                    self.violate(at, rule, format!("server {server} bond {bond}: {what}"));
                }
            }
            Incoming::Disconnected { connection, reason } => {
                let Some(bond) = bonds.find(*connection) else {
                    self.violate(at, Invariant::I1, format!("the end of {connection:?}, which was never accepted"));
                    return None;
                };
                let hash = u64::from(reason.code.to_wire());
                self.record.journal.note(at, node, "over", hash, || format!("bond {bond}: {reason}"));
                if self.bonds[bond].ended.is_some() {
                    self.violate(at, Invariant::I2, format!("bond {bond} ended twice, now {reason}"));
                }
                let peer = &self.attempts[self.bonds[bond].attempt];
                let said: Vec<_> = peer.goodbyes.iter().collect();
                if peer.client == ROGUE {
                    if reason.code == DisconnectCode::ProtocolViolation {
                        self.record.sometimes.count(&format!("rogue: {}", reason.text.as_str()));
                    }
                } else if let Err(what) = judge_reason(reason, &self.bonds[bond].goodbyes, &said, SERVER_CODES) {
                    self.violate(at, Invariant::I6, format!("server {server} bond {bond}: {what}"));
                }
                self.record.sometimes.count(&format!("server: {} {:?}", reason.code.name(), reason.origin));
                self.bonds[bond].ended = Some((at, Some(reason.clone())));
                let attempt = self.bonds[bond].attempt;
                self.note_both_leaving(attempt);
            }
        }
        None
    }

    /// Whether two live connections of one server have the same identity.
    pub(crate) fn check_identities(&mut self, at: Mono, bonds: &[(ConnectionId, usize)]) {
        let live = |bond: usize| self.bonds[bond].ended.is_none().then_some(self.bonds[bond].identity);
        let mut identities: Vec<_> = bonds.iter().filter_map(|(_, bond)| live(*bond)).collect();
        identities.sort_unstable();
        if let Some(pair) = identities.windows(2).find(|pair| pair[0] == pair[1]) {
            let what = format!("identity {} is connected twice", pair[0]);
            self.violate(at, Invariant::I13, what);
        }
    }

    fn note_both_leaving(&mut self, attempt: usize) {
        let local = |ended: &Option<(Mono, Option<DisconnectReason>)>| matches!(ended, Some((_, Some(reason))) if reason.origin == Origin::Local);
        let both = local(&self.attempts[attempt].ended)
            && self.bonds.iter().any(|bond| bond.attempt == attempt && local(&bond.ended));
        if both {
            self.record.sometimes.count("both ends leave at the same time");
        }
    }
}

/// What a client may end with by itself, without its user having said so.
const CLIENT_CODES: &[DisconnectCode] = &[DisconnectCode::SlowConsumer];

/// The same of a server.
const SERVER_CODES: &[DisconnectCode] =
    &[DisconnectCode::SlowConsumer, DisconnectCode::Superseded, DisconnectCode::Flood];

/// Whether it may end like that for a client whose handshake succeeds and for whom there is no place.
fn is_refusal(reason: &DisconnectReason) -> bool {
    let said = [DisconnectCode::ServerFull, DisconnectCode::IdentityInUse, DisconnectCode::Refused];
    // What the server has to say may get lost, and the client may leave first.
    let lost = [DisconnectCode::ConnectionClose, DisconnectCode::Timeout];
    reason.origin == Origin::Local || said.contains(&reason.code) || lost.contains(&reason.code)
}

/// What each end may be told without anybody having said it in these words.
const UNSAID: &[DisconnectCode] = &[
    // A goodbye of type 6 has no words.
    DisconnectCode::ConnectionClose,
    DisconnectCode::ServerFull,
    DisconnectCode::IdentityInUse,
    DisconnectCode::Superseded,
    DisconnectCode::Refused,
    DisconnectCode::Flood,
    DisconnectCode::SlowConsumer,
    DisconnectCode::ServerShutdown,
];

/// Whether `reason` is what may be seen: our own words, the peer's words, or what the link may say.
fn judge_reason(
    reason: &DisconnectReason,
    ours: &[DisconnectReason],
    theirs: &[&DisconnectReason],
    own_codes: &[DisconnectCode],
) -> Result<(), String> {
    let fits = match reason.origin {
        Origin::Local => ours.contains(reason) || (own_codes.contains(&reason.code) && reason.text.is_empty()),
        Origin::Remote => {
            let said = theirs.iter().any(|said| said.seen_by_peer() == *reason);
            said || (reason.text.is_empty() && UNSAID.contains(&reason.code))
        }
        Origin::Link => matches!(
            reason.code,
            DisconnectCode::Timeout
                | DisconnectCode::MaxConnectionAttempts
                | DisconnectCode::TokenExpired
                | DisconnectCode::ServerFull
                | DisconnectCode::Refused
        ),
    };
    if fits { Ok(()) } else { Err(format!("{reason}; ours {ours:?}, theirs {theirs:?}")) }
}
