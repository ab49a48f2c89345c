//! The client's end of the UDP protocol: sealed packets below, channels above.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{Backlog, Link, LinkConfig, LinkEvent, LinkStats, SendError, Violation};
use crate::limits::Limits;
use crate::netcode::client::{Event, StartError};
use crate::netcode::{self, Farewell, HEADROOM};
use crate::server::{ANSWERING, GOODBYE_COPIES, GOODBYE_INTERVAL, PARTING, Transmit, bound};
use crate::{
    ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, LinkTotals, Mono, Now, Random, SharedBytes,
};

/// What a [`Client`] is made of.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Credentials and addresses.
    pub netcode: netcode::client::ClientConfig,
    /// Channels and their buffers, and whether larger datagrams than usual are sent and taken in
    /// ([`LinkConfig::max_mtu`]).
    pub link: LinkConfig,
    /// Timeouts and what the server can make grow; a client has no use for the rest. See [`Limits::client`].
    pub limits: Limits,
}

/// The client's end of the UDP protocol: one attempt to connect, and the connection that comes of it.
///
/// Calling order as with the [`Server`](crate::Server). Once [`is_over`](Self::is_over) it is of no use any more.
pub struct Client {
    id: ConnectionId,
    netcode: netcode::Client,
    link: Link,
    /// The largest packet that is ever written.
    mtu: usize,
    phase: Phase,
    /// What the sink has not been told yet.
    ended: Option<DisconnectReason>,
    /// The link may have a packet to send.
    dirty: bool,
    hurry: bool,
    totals: LinkTotals,
}

#[derive(Debug)]
enum Phase {
    /// The server has not accepted us yet.
    Connecting,
    /// Messages flow.
    Open,
    /// We are leaving for this reason; the link says when it is done.
    Closing(DisconnectReason),
    /// Over; our goodbye is repeated.
    Parting { copies: u8, next: Mono },
    /// Over; the server's goodbye is answered, or there is nothing to say.
    Answering,
    /// Nothing will happen any more.
    Freed,
}

impl Client {
    /// A client that starts to connect `now` and reports itself as `id`. Its session keys come from `random`, which
    /// must be fit for that in production.
    pub fn new(id: ConnectionId, config: ClientConfig, random: &mut dyn Random, now: Now) -> Result<Self, StartError> {
        let ClientConfig { netcode, mut link, limits } = config;
        let mut netcode = netcode::Client::new(netcode, &limits, random, now)?;
        let mtu = bound(&mut link);
        netcode.set_max_body(mtu);
        Ok(Self {
            id,
            netcode,
            link: Link::new(&Arc::new(link), &Arc::new(limits), now.mono, random),
            mtu,
            phase: Phase::Connecting,
            ended: None,
            dirty: false,
            hurry: false,
            totals: LinkTotals::default(),
        })
    }

    /// Takes a datagram that arrived from `from`, and opens it where it lies.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut dyn FnMut(Incoming<'_>),
    ) {
        if let Some(body) = self.netcode.handle_datagram(now, from, datagram) {
            let (connection, open) = (self.id, matches!(self.phase, Phase::Open));
            let handled = self.link.handle_packet(now.mono, body, &mut |channel, bytes| {
                if open {
                    sink(Incoming::Message { connection, channel, bytes });
                }
            });
            self.dirty = true;
            if let Err(violation) = handled {
                self.handle_violation(now, violation);
            }
        }
        self.settle(now, sink);
    }

    /// Lets everything act that is due.
    pub fn tick(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.netcode.tick(now);
        if self.link.poll_timeout().is_some_and(|due| due <= now.mono) {
            self.link.handle_timeout(now.mono);
            self.dirty = true;
        }
        self.settle(now, sink);
    }

    /// Queues one whole message. Before the server has accepted us nothing can be sent; see
    /// [`is_connecting`](Self::is_connecting).
    pub fn send(&mut self, now: Now, channel: ChannelId, message: &[u8]) -> Result<(), SendError> {
        self.open_link()?.send(now.mono, channel, message)
    }

    /// The same with the memory of the message; see [`Link::send_owned`].
    pub fn send_owned(&mut self, now: Now, channel: ChannelId, message: &mut Vec<u8>) -> Result<(), SendError> {
        self.open_link()?.send_owned(now.mono, channel, message)
    }

    /// The same without a copy of the body; see [`Link::send_shared`].
    pub fn send_shared(
        &mut self,
        now: Now,
        channel: ChannelId,
        head: &[u8],
        body: &SharedBytes,
    ) -> Result<(), SendError> {
        self.open_link()?.send_shared(now.mono, channel, head, body)
    }

    fn open_link(&mut self) -> Result<&mut Link, SendError> {
        match self.phase {
            Phase::Open => {
                self.dirty = true;
                Ok(&mut self.link)
            }
            _ => Err(SendError::NotConnected),
        }
    }

    /// Ends the connection: what is queued reliably is delivered first, for at most `linger`; then the reason travels
    /// and `Disconnected` is reported. Ignored if it is over or ending already.
    pub fn disconnect(&mut self, now: Now, reason: &DisconnectReason, linger: Duration) {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Closing(reason.clone());
                self.link.close(now.mono, reason, linger);
                self.dirty = true;
                self.drain_link(now);
            }
            Phase::Connecting => {
                // The server may have accepted us a moment ago: the layer below knows whether it must be told.
                self.phase = Phase::Answering;
                self.ended = Some(reason.clone());
                self.netcode.close(now, Farewell::Goodbye);
            }
            _ => {}
        }
    }

    /// Says goodbye with all copies at once and without waiting for anything: the process is about to end. Drain
    /// [`poll_transmit`](Self::poll_transmit) afterwards; nothing else is of use any more.
    pub fn say_goodbye(&mut self, now: Now, reason: &DisconnectReason) {
        self.hurry = true;
        self.disconnect(now, reason, Duration::ZERO);
        if let Phase::Closing(reason) = &self.phase {
            let reason = reason.clone();
            self.link.close(now.mono, &reason, Duration::ZERO);
            self.part(now, reason);
        }
        self.netcode.hurry_goodbyes();
    }

    /// The next datagram that may leave, in `buf`, which has at least
    /// [`LARGEST_DATAGRAM`](netcode::LARGEST_DATAGRAM) bytes, or
    /// [`MAX_DATAGRAM_OUT`](netcode::MAX_DATAGRAM_OUT) where no larger ones are asked for.
    pub fn poll_transmit(&mut self, now: Now, buf: &mut [u8]) -> Option<Transmit> {
        if !matches!(self.phase, Phase::Connecting | Phase::Freed)
            && let Some(transmit) = self.poll_link(now, buf)
        {
            return Some(transmit);
        }
        // Last, because a payload makes a keep-alive needless.
        let netcode::Transmit { to, len } = self.netcode.poll_transmit(now, buf)?;
        Some(Transmit { to, at: 0..len })
    }

    /// When something has to be done at the latest; the origin of time if at once, `None` when all is over.
    pub fn poll_timeout(&self) -> Option<Mono> {
        if self.ended.is_some() || self.dirty {
            return Some(Mono::ZERO);
        }
        let parting = match self.phase {
            Phase::Parting { next, .. } => Some(next),
            _ => None,
        };
        [parting, self.link.poll_timeout(), self.netcode.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether the server has not accepted us yet.
    pub fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting)
    }

    /// Whether the end has been asked for or has come, so that nothing can be sent any more.
    pub fn is_ending(&self) -> bool {
        !matches!(self.phase, Phase::Connecting | Phase::Open)
    }

    /// Whether the end has been reported.
    pub fn is_reported(&self) -> bool {
        self.ended.is_none() && matches!(self.phase, Phase::Parting { .. } | Phase::Answering | Phase::Freed)
    }

    /// Whether nothing will be reported or sent any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Freed) && self.ended.is_none()
    }

    /// Where the server is, or the one of its addresses that is being tried.
    pub fn server(&self) -> SocketAddr {
        self.netcode.server()
    }

    /// The largest payload that is taken in, in bytes.
    pub const fn max_body(&self) -> usize {
        self.netcode.max_body()
    }

    /// Figures of the connection.
    pub fn stats(&self) -> LinkStats {
        self.link.stats()
    }

    /// How often the server broke the protocol, by kind, as far as it happened.
    pub fn violations(&self) -> impl Iterator<Item = (Violation, u64)> + '_ {
        self.totals.violations()
    }

    /// Changes the limits in force.
    pub fn set_limits(&mut self, limits: Limits) {
        self.netcode.set_limits(&limits);
        self.link.set_limits(&Arc::new(limits));
        self.dirty = true;
    }

    /// The application takes no reliable messages for now; see [`Server::pause`](crate::Server::pause).
    pub fn pause(&mut self) {
        self.link.pause();
    }

    /// The application takes messages again: those that were kept are reported now.
    pub fn resume(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        let (connection, open) = (self.id, matches!(self.phase, Phase::Open));
        let resumed = self.link.resume(&mut |channel, bytes| {
            if open {
                sink(Incoming::Message { connection, channel, bytes });
            }
        });
        if let Err(violation) = resumed {
            self.handle_violation(now, violation);
        }
        self.dirty = true;
        self.settle(now, sink);
    }

    /// How full the send queue of a channel is; `None` if there is no such channel.
    pub fn backlog(&self, channel: ChannelId) -> Option<Backlog> {
        self.link.backlog(channel)
    }

    /// All counters, by cause.
    pub fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.netcode.metrics(report);
        let mut totals = self.totals.clone();
        totals.add(&self.link.stats());
        totals.add_heap(self.link.heap());
        totals.report(report);
    }

    fn handle_violation(&mut self, now: Now, violation: Violation) {
        self.totals.add_violation(violation);
        if matches!(self.phase, Phase::Open | Phase::Closing(_)) {
            let reason = DisconnectReason::local(DisconnectCode::ProtocolViolation).with_text(&violation.to_string());
            self.link.close(now.mono, &reason, Duration::ZERO);
            self.part(now, reason);
        }
    }

    /// Takes in what the layers below have to say, and tells the sink.
    fn settle(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.drain_link(now);
        while let Some(event) = self.netcode.poll_event() {
            match event {
                Event::Connected { .. } => {
                    if matches!(self.phase, Phase::Connecting) {
                        self.phase = Phase::Open;
                        sink(Incoming::Connected { connection: self.id });
                    }
                }
                Event::Closed { reason } => match &self.phase {
                    Phase::Connecting | Phase::Open => {
                        self.phase = Phase::Answering;
                        self.ended = Some(reason);
                    }
                    Phase::Closing(ours) => {
                        self.ended = Some(ours.clone());
                        self.phase = Phase::Answering;
                    }
                    _ => {}
                },
                Event::Freed => self.phase = Phase::Freed,
            }
        }
        if let Some(reason) = self.ended.take() {
            sink(Incoming::Disconnected { connection: self.id, reason });
        }
    }

    /// Takes in what the link has to say.
    fn drain_link(&mut self, now: Now) {
        while let Some(event) = self.link.poll_event() {
            match (event, &self.phase) {
                (LinkEvent::RemoteClosed(reason), Phase::Open) => self.answer(now, reason),
                // Also where both ends left at the same time: each has its own reason.
                (LinkEvent::Closed, Phase::Closing(ours)) => {
                    let ours = ours.clone();
                    self.part(now, ours);
                }
                (LinkEvent::SlowConsumer, Phase::Open) => {
                    let reason = DisconnectReason::local(DisconnectCode::SlowConsumer);
                    self.disconnect(now, &reason, Duration::ZERO);
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, now: Now, reason: DisconnectReason) {
        self.phase = Phase::Answering;
        self.ended = Some(reason);
        self.netcode.close(now, Farewell::Linger(ANSWERING));
    }

    fn part(&mut self, now: Now, reason: DisconnectReason) {
        self.phase = Phase::Parting { copies: GOODBYE_COPIES, next: now.mono };
        self.ended = Some(reason);
        self.netcode.close(now, Farewell::Linger(PARTING));
    }

    fn poll_link(&mut self, now: Now, buf: &mut [u8]) -> Option<Transmit> {
        let room = buf.get_mut(HEADROOM..HEADROOM + self.mtu)?;
        let body = match self.link.poll_packet(now.mono, room) {
            Some(body) => Some(body),
            None => {
                self.dirty = false;
                self.drain_link(now);
                self.poll_goodbye(now, buf)
            }
        }?;
        let (to, at) = self.netcode.seal_payload(now, buf, body)?;
        Some(Transmit { to, at })
    }

    /// The next copy of our goodbye. After the last one the layer below says its own.
    fn poll_goodbye(&mut self, now: Now, buf: &mut [u8]) -> Option<usize> {
        let Phase::Parting { copies, next } = &mut self.phase else { return None };
        if *next > now.mono && !self.hurry {
            return None;
        }
        let left = copies.checked_sub(1);
        if let Some(left) = left {
            *copies = left;
            *next = now.mono + GOODBYE_INTERVAL;
            let body = self.link.goodbye_packet(now.mono, buf.get_mut(HEADROOM..HEADROOM + self.mtu)?);
            if body.is_some() {
                return body;
            }
        }
        self.phase = Phase::Answering;
        self.netcode.close(now, Farewell::Goodbye);
        if self.hurry {
            self.netcode.hurry_goodbyes();
        }
        None
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.server()).field("phase", &self.phase).finish_non_exhaustive()
    }
}
