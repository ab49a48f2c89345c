//! The server's end of the UDP protocol: sealed packets below, channels above.

mod receive;
mod transmit;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{Backlog, Link, LinkConfig, LinkStats, SendError, Violation};
use crate::crypto::Drbg;
use crate::limits::Limits;
use crate::look::{Glance, Look};
use crate::netcode::{self, LARGEST_BODY, MAX_BODY, datagram_of};
use crate::turns::Turns;
use crate::{
    ChannelId, ConnectionId, DisconnectReason, Identity, Incoming, LinkTotals, Mono, Now, Random, SharedBytes,
};

/// Copies of our `Close` after it has not been acknowledged in time; as many type-6 packets follow.
pub(crate) const GOODBYE_COPIES: u8 = 5;

/// The time between two of them: losses come in bursts.
pub(crate) const GOODBYE_INTERVAL: Duration = Duration::from_millis(20);

/// How long the keys of a connection stay for our goodbye: the copies and then some.
pub(crate) const PARTING: Duration = Duration::from_millis(500);

/// How long a peer that repeats its goodbye is answered: its default linger.
pub(crate) const ANSWERING: Duration = Duration::from_secs(1);

/// A datagram that is ready to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub to: SocketAddr,
    /// Where it lies in the buffer that was lent.
    pub at: Range<usize>,
}

/// How many due times of links wait for each place, before the leftovers among them are thrown out.
const TIMERS_PER_PEER: usize = 8;

/// What a [`Server`] is made of.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Keys, addresses and identities.
    pub netcode: netcode::ServerConfig,
    /// Channels and their buffers, and whether larger datagrams than usual are sent and taken in
    /// ([`LinkConfig::max_mtu`]).
    pub link: LinkConfig,
    /// Caps on what peers and strangers can make grow.
    pub limits: Limits,
}

/// The server's end of the UDP protocol: datagrams in, messages out, and the other way round.
///
/// Calling order, at any rate the caller likes:
///
/// 1. [`handle_datagram`](Self::handle_datagram) for everything that has arrived, then [`tick`](Self::tick) at the same
///    time; both report to a sink, and what they report of one connection is what [`Incoming`] promises;
/// 2. [`send`](Self::send), [`disconnect`](Self::disconnect) and other wishes;
/// 3. [`poll_transmit`](Self::poll_transmit) until it has nothing more.
///
/// [`poll_timeout`](Self::poll_timeout) says when to call again if nothing arrives. The work of one round is
/// proportional to what arrived, was sent or became due, never to the number of connections.
pub struct Server {
    netcode: netcode::Server,
    link: Arc<LinkConfig>,
    limits: Arc<Limits>,
    random: Drbg,
    /// By [`ConnectionId::index`].
    peers: Vec<Option<Box<Peer>>>,
    /// Links that may have a packet to send, and whose turn it is.
    turns: Turns,
    /// Due times of links, soonest first. An entry that is not its peer's `scheduled` is a leftover.
    timers: BinaryHeap<Reverse<(Mono, ConnectionId)>>,
    /// When acks have to leave unless data takes them along before, soonest first; one entry at most for each peer. All
    /// have the same time, so that they come in order and need no sorting; where one does not, it is among `timers`.
    acks: VecDeque<(Mono, ConnectionId)>,
    /// Peers whose next goodbye copy waits for its time.
    parting: Vec<ConnectionId>,
    /// Peers whose next goodbye copy can leave.
    goodbyes: VecDeque<ConnectionId>,
    /// What the sink has not been told yet.
    ended: VecDeque<(ConnectionId, DisconnectReason)>,
    /// The unconfirmed peer that has just been told that it is connected.
    announced: Option<ConnectionId>,
    /// Senders are expected that were not looked at.
    expects: bool,
    /// How many of those whose turn comes were looked at.
    warmed: usize,
    hurry: bool,
    /// Of links that are gone, and violations of all.
    totals: LinkTotals,
}

#[derive(Debug)]
#[repr(C)]
struct Peer {
    generation: u32,
    /// It is listed for its turn.
    listed: bool,
    /// Its game traffic waits for the cap of all connections together.
    starved: bool,
    /// It waits for the turn of what is no game traffic.
    deferred: bool,
    /// The entry of the timer queue that counts.
    scheduled: Option<Mono>,
    /// Its entry in the queue of acks.
    ack_at: Option<Mono>,
    phase: Phase,
    link: Link,
}

impl Peer {
    fn new(generation: u32, link: Link, phase: Phase) -> Self {
        Self { generation, listed: false, starved: false, deferred: false, scheduled: None, ack_at: None, phase, link }
    }
}

#[derive(Debug)]
enum Phase {
    /// Messages flow.
    Open,
    /// We are leaving for this reason; the link says when it is done.
    Closing(Box<DisconnectReason>),
    /// Over and reported; our goodbye is repeated.
    Parting { copies: u8, next: Mono },
    /// Over and reported; the peer's goodbye is answered.
    Answering,
}

impl Server {
    /// A server that starts `now`; tokens issued before are refused. Its secrets come from `random`, which must be fit
    /// for that in production.
    pub fn new(config: ServerConfig, random: &mut dyn Random, now: Now) -> Self {
        let ServerConfig { netcode, mut link, limits } = config;
        let mut netcode = netcode::Server::new(netcode, &limits, random, now);
        netcode.set_max_body(bound(&mut link));
        Self {
            netcode,
            link: Arc::new(link),
            turns: Turns::new(now.mono, &limits),
            limits: Arc::new(limits),
            random: Drbg::new(random),
            peers: Vec::new(),
            timers: BinaryHeap::new(),
            acks: VecDeque::new(),
            parting: Vec::new(),
            goodbyes: VecDeque::new(),
            ended: VecDeque::new(),
            announced: None,
            expects: false,
            warmed: 0,
            hurry: false,
            totals: LinkTotals::default(),
        }
    }

    /// A datagram from `from` is about to be handled, behind others of which the same was said before the first of them
    /// was: what is known of all these senders can be fetched at once. Changes nothing else, and may be left out.
    #[inline]
    pub fn expect(&mut self, from: SocketAddr) {
        self.netcode.expect(from);
        self.expects = true;
    }

    /// Takes a datagram that arrived from `from`, and opens it where it lies.
    #[inline]
    pub fn handle_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut dyn FnMut(Incoming<'_>),
    ) {
        if std::mem::take(&mut self.expects) {
            let Self { peers, netcode, .. } = self;
            let below = |index, look: &mut Glance| netcode.look_to_open(index, look);
            look_ahead(peers, netcode.expected(), Link::look_to_receive, below);
        }
        if let netcode::server::Received::Payload { connection, body } =
            self.netcode.handle_datagram(now, from, datagram)
        {
            self.handle_payload(now, connection, body, sink);
        }
        self.handle_events(now, sink);
    }

    /// The largest payload that is taken in, in bytes.
    pub const fn max_body(&self) -> usize {
        self.netcode.max_body()
    }

    /// How many datagrams so far were anything but an authentic packet of a connection: what strangers have us do.
    #[inline]
    pub fn strangers(&self) -> u64 {
        self.netcode.strangers()
    }

    /// Strangers have had their share of time: until the next [`tick`](Self::tick) none of their tokens is opened.
    pub fn spend_on_strangers(&mut self) {
        self.netcode.spend_on_strangers();
    }

    /// Lets everything act that is due.
    pub fn tick(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.netcode.tick(now);
        while let Some(&Reverse((due, id))) = self.timers.peek()
            && due <= now.mono
        {
            self.timers.pop();
            let Some(peer) = self.peer_mut(id).filter(|peer| peer.scheduled == Some(due)) else { continue };
            peer.scheduled = None;
            peer.link.handle_timeout(now.mono);
            self.settle(now, id);
            // What became due may be a packet. Its timer is set again when there is nothing more to send.
            self.list(id);
        }
        self.list_acks(now.mono);
        self.move_goodbyes(now.mono);
        self.handle_events(now, sink);
    }

    /// Queues one whole message.
    #[inline]
    pub fn send(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &[u8],
    ) -> Result<(), SendError> {
        self.open_link(connection)?.send(now.mono, channel, message)?;
        self.list(connection);
        Ok(())
    }

    /// The same with the memory of the message; see [`Link::send_owned`].
    pub fn send_owned(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.open_link(connection)?.send_owned(now.mono, channel, message)?;
        self.list(connection);
        Ok(())
    }

    /// The same without a copy of the body; see [`Link::send_shared`].
    pub fn send_shared(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        head: &[u8],
        body: &SharedBytes,
    ) -> Result<(), SendError> {
        self.open_link(connection)?.send_shared(now.mono, channel, head, body)?;
        self.list(connection);
        Ok(())
    }

    fn open_link(&mut self, connection: ConnectionId) -> Result<&mut Link, SendError> {
        let peer = self.peer_mut(connection).filter(|peer| matches!(peer.phase, Phase::Open));
        Ok(&mut peer.ok_or(SendError::NotConnected)?.link)
    }

    /// Ends a connection: what is queued reliably is delivered first, for at most `linger`; then the reason travels and
    /// `Disconnected` is reported. Unknown or ended connections are ignored.
    pub fn disconnect(&mut self, now: Now, connection: ConnectionId, reason: &DisconnectReason, linger: Duration) {
        let Some(peer) = self.peer_mut(connection).filter(|peer| matches!(peer.phase, Phase::Open)) else { return };
        peer.phase = Phase::Closing(reason.clone().into());
        peer.link.close(now.mono, reason, linger);
        self.settle(now, connection);
        self.list(connection);
    }

    /// Says goodbye on all connections, with all copies at once and without waiting for anything: the process is about to
    /// end. Drain [`poll_transmit`](Self::poll_transmit) afterwards; nothing else is of use any more.
    pub fn say_goodbye(&mut self, now: Now, reason: &DisconnectReason) {
        self.hurry = true;
        self.netcode.hurry_goodbyes();
        for index in 0..self.peers.len() {
            let Some(peer) = self.peers.get(index).and_then(Option::as_deref) else { continue };
            let id = ConnectionId { index: index as u32, generation: peer.generation };
            // Who is leaving already does so for its own reason.
            self.disconnect(now, id, reason, Duration::ZERO);
            if let Some(Peer { phase: Phase::Closing(reason), link, .. }) = self.peer_mut(id) {
                let reason = DisconnectReason::clone(reason);
                link.close(now.mono, &reason, Duration::ZERO);
                self.report(now, id, reason);
            }
        }
        self.move_goodbyes(now.mono);
    }

    /// The next datagram that may leave, in `buf`, which has at least
    /// [`LARGEST_DATAGRAM`](netcode::LARGEST_DATAGRAM) bytes, or
    /// [`MAX_DATAGRAM_OUT`](netcode::MAX_DATAGRAM_OUT) where no larger ones are asked for.
    pub fn poll_transmit(&mut self, now: Now, buf: &mut [u8]) -> Option<Transmit> {
        self.turns.update(now.mono, datagram_of(self.link.max_mtu));
        while let Some(id) = self.turns.pop_starved() {
            if let Some(peer) = self.peer_mut(id) {
                (peer.starved, peer.listed) = (false, true);
                self.turns.list_first(id);
            }
        }
        let (transmit, turn) = self.poll_any(now, buf)?;
        self.turns.spend(turn, transmit.at.len());
        Some(transmit)
    }

    /// When something has to be done at the latest; the origin of time if at once.
    pub fn poll_timeout(&self) -> Option<Mono> {
        if self.turns.is_pressing() || !self.goodbyes.is_empty() || !self.ended.is_empty() {
            return Some(Mono::ZERO);
        }
        let timer = self.timers.peek().map(|Reverse((due, _))| *due);
        let ack = self.acks.front().map(|(due, _)| *due);
        let parting = self.parting.iter().filter_map(|id| match self.peer(*id)?.phase {
            Phase::Parting { next, .. } => Some(next),
            _ => None,
        });
        parting.chain(timer).chain(ack).chain(self.turns.opens_at()).chain(self.netcode.poll_timeout()).min()
    }

    /// Whether new clients are let in; those who are connected stay.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.netcode.set_accepting(accepting);
    }

    /// The keys in force, for rotation.
    pub fn keys_mut(&mut self) -> &mut netcode::KeyRing {
        self.netcode.keys_mut()
    }

    /// The addresses that tokens must name one of; see [`netcode::ServerConfig::addresses`].
    pub fn set_addresses(&mut self, addresses: &[SocketAddr]) {
        self.netcode.set_addresses(addresses);
    }

    /// Changes the limits in force, for new and old connections.
    pub fn set_limits(&mut self, limits: Limits) {
        self.netcode.set_limits(&limits);
        self.turns.set_limits(&limits);
        self.limits = Arc::new(limits);
        for index in 0..self.peers.len() {
            let Some(peer) = self.peers.get_mut(index).and_then(Option::as_deref_mut) else { continue };
            peer.link.set_limits(&self.limits);
            // A wider window is to be told, and a deadline may have moved.
            let id = ConnectionId { index: index as u32, generation: peer.generation };
            self.list(id);
        }
    }

    /// The application takes no reliable messages of a connection for now: what arrives is kept as far as the receive
    /// window reaches, and the peer's queue fills, until it sees that nothing moves ([`Limits::slow_consumer`]).
    /// Unreliable messages are reported all the same. Unknown or ended connections are ignored.
    pub fn pause(&mut self, connection: ConnectionId) {
        if let Some(peer) = self.peer_mut(connection) {
            peer.link.pause();
        }
    }

    /// The application takes the messages of a connection again: those that were kept are reported now.
    pub fn resume(&mut self, now: Now, connection: ConnectionId, sink: &mut dyn FnMut(Incoming<'_>)) {
        let Some(peer) = self.peer_mut(connection) else { return };
        let open = matches!(peer.phase, Phase::Open);
        let resumed = peer.link.resume(&mut |channel, bytes| {
            if open {
                sink(Incoming::Message { connection, channel, bytes });
            }
        });
        if let Err(violation) = resumed {
            self.handle_violation(now, connection, violation);
        }
        self.list(connection);
        self.handle_events(now, sink);
    }

    /// How full the send queue of a channel is; `None` if the connection is over or there is no such channel.
    pub fn backlog(&self, connection: ConnectionId, channel: ChannelId) -> Option<Backlog> {
        self.open(connection)?.link.backlog(channel)
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The channels and their buffers.
    pub fn link_config(&self) -> &LinkConfig {
        &self.link
    }

    /// Connections that are not over.
    pub fn connections(&self) -> usize {
        self.netcode.connections()
    }

    /// A generation that is above those of all ids that this server has given; see
    /// [`netcode::ServerConfig::first_generation`].
    pub fn unused_generation(&self) -> u32 {
        self.netcode.unused_generation()
    }

    /// Where a peer is; `None` for connections that are unknown or over.
    pub fn address(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.open(connection)?;
        self.netcode.address(connection)
    }

    /// Who a peer is; `None` for connections that are unknown or over.
    pub fn identity(&self, connection: ConnectionId) -> Option<&Identity> {
        self.open(connection)?;
        self.netcode.identity(connection)
    }

    /// Figures of a connection; `None` if it is unknown or over.
    pub fn stats(&self, connection: ConnectionId) -> Option<LinkStats> {
        self.open(connection).map(|peer| peer.link.stats())
    }

    /// How often peers broke the protocol, by kind, as far as it happened.
    pub fn violations(&self) -> impl Iterator<Item = (Violation, u64)> + '_ {
        self.totals.violations()
    }

    /// All counters, by cause, and the fill of all tables with the highest so far. The work is proportional to the
    /// number of connections.
    pub fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.netcode.metrics(report);
        report("links", self.peers.iter().flatten().count() as u64);
        let mut totals = self.totals.clone();
        for peer in self.peers.iter().flatten() {
            totals.add(&peer.link.stats());
            totals.add_heap(peer.link.heap());
        }
        totals.report(report);
    }

    fn open(&self, id: ConnectionId) -> Option<&Peer> {
        self.peer(id).filter(|peer| matches!(peer.phase, Phase::Open | Phase::Closing(_)))
    }

    #[inline]
    fn peer(&self, id: ConnectionId) -> Option<&Peer> {
        find(&self.peers, id)
    }

    #[inline]
    fn peer_mut(&mut self, id: ConnectionId) -> Option<&mut Peer> {
        find_mut(&mut self.peers, id)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// Looks at everything that packets of these connections will need. `near` and `below` do so for what a link, and what
/// the layer below, has of one.
fn look_ahead(
    peers: &[Option<Box<Peer>>],
    indices: impl Iterator<Item = u32> + Clone,
    near: impl Fn(&Link, &mut Glance),
    below: impl Fn(u32, &mut Glance),
) {
    let mut look = Glance::default();
    let peers = indices.clone().filter_map(|index| peers.get(index as usize)?.as_deref());
    for peer in peers.clone() {
        look.at(&peer.generation);
        near(&peer.link, &mut look);
    }
    peers.for_each(|peer| peer.link.look_far(&mut look));
    indices.for_each(|index| below(index, &mut look));
    look.end();
}

#[inline]
fn find(peers: &[Option<Box<Peer>>], id: ConnectionId) -> Option<&Peer> {
    peers.get(id.index as usize)?.as_deref().filter(|peer| peer.generation == id.generation)
}

#[inline]
fn find_mut(peers: &mut [Option<Box<Peer>>], id: ConnectionId) -> Option<&mut Peer> {
    peers.get_mut(id.index as usize)?.as_deref_mut().filter(|peer| peer.generation == id.generation)
}

/// Keeps the sizes of packets to what one datagram holds: usually [`MAX_BODY`], and where more is asked for up to
/// [`LARGEST_BODY`]. Returns the largest, which is what may be sent and is taken in.
pub(crate) fn bound(link: &mut LinkConfig) -> usize {
    link.mtu = link.mtu.min(MAX_BODY);
    link.max_mtu = link.max_mtu.clamp(link.mtu, LARGEST_BODY);
    link.max_mtu
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;
    use crate::look::tests::Places;

    /// Places had moved apart as fields were added between them, and every third packet waited for a line that was not
    /// looked at.
    #[test]
    fn no_line_that_a_packet_needs_is_left_out_when_looking_ahead() {
        let (config, limits) = (Arc::new(LinkConfig::server()), Arc::new(Limits::default()));
        let mut link = Link::new(&config, &limits, Mono::ZERO, &mut SeededRandom::new(1));
        link.send(Mono::ZERO, ChannelId::UNRELIABLE, &[1; 100]).expect("there is room");
        link.poll_packet(Mono::ZERO, &mut [0; 1200]).expect("the message");
        let peer = Peer::new(0, link, Phase::Open);

        let mut places = Places::default();
        peer.link.look_to_receive(&mut places);
        assert_eq!(places.gaps(&peer), []);

        let mut places = Places::default();
        peer.link.look_to_send(&mut places);
        let gaps = places.gaps(&peer);
        assert!(gaps.len() == 1 && gaps[0].len() > 256, "{gaps:?}: what only acks change, and that it is left out");
    }
}
