//! What arrives, and what comes of it.

use std::time::Duration;

use super::{ANSWERING, GOODBYE_COPIES, PARTING, Peer, Phase, Server, TIMERS_PER_PEER};
use crate::channel::{Link, LinkEvent, Violation};
use crate::mutants::mutant;
use crate::netcode::{self, Farewell};
use crate::{ConnectionId, DisconnectCode, DisconnectReason, Incoming, Now};

impl Server {
    #[inline]
    pub(super) fn handle_payload(
        &mut self,
        now: Now,
        id: ConnectionId,
        body: &[u8],
        sink: &mut dyn FnMut(Incoming<'_>),
    ) {
        let Some(peer) = self.peer_mut(id) else { return };
        let open = matches!(peer.phase, Phase::Open);
        let handled = peer.link.handle_packet(now.mono, body, &mut |channel, bytes| {
            if open {
                sink(Incoming::Message { connection: id, channel, bytes });
            }
        });
        if let Err(violation) = handled {
            return self.handle_violation(now, id, violation);
        }
        let acks = peer.link.ack_due().is_some_and(|due| due <= now.mono);
        if acks || peer.link.has_work_but_ack() {
            self.list(id);
        }
        self.settle(now, id);
        self.schedule(id);
    }

    pub(super) fn handle_violation(&mut self, now: Now, id: ConnectionId, violation: Violation) {
        self.totals.add_violation(violation);
        let Some(peer) = self.peer_mut(id).filter(|peer| matches!(peer.phase, Phase::Open | Phase::Closing(_))) else {
            return;
        };
        let reason = DisconnectReason::local(DisconnectCode::ProtocolViolation).with_text(&violation.to_string());
        peer.link.close(now.mono, &reason, Duration::ZERO);
        self.report(now, id, reason);
    }

    /// Takes in what the layers below have to say, and tells the sink what is over.
    pub(super) fn handle_events(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.tell(sink);
        while let Some(event) = self.netcode.poll_event() {
            match event {
                netcode::server::Event::Accepted { connection, address } => {
                    self.insert(now, connection, Phase::Open);
                    let identity = self.netcode.identity(connection);
                    sink(Incoming::Accepted { connection, address: Some(address), identity });
                }
                netcode::server::Event::Confirmed { .. } => {}
                netcode::server::Event::Refused { connection, code } => {
                    self.insert(now, connection, Phase::Parting { copies: GOODBYE_COPIES, next: now.mono });
                    if let Some(peer) = self.peer_mut(connection) {
                        peer.link.close(now.mono, &DisconnectReason::local(code), Duration::ZERO);
                    }
                    self.goodbyes.push_back(connection);
                    if mutant(1) {
                        sink(Incoming::Disconnected { connection, reason: DisconnectReason::local(code) });
                    }
                }
                netcode::server::Event::Closed { connection, reason } => self.handle_closed(now, connection, reason),
                netcode::server::Event::Freed { connection } => {
                    let place = self.peers.get_mut(connection.index as usize);
                    let place = place
                        .filter(|place| place.as_ref().is_some_and(|peer| peer.generation == connection.generation));
                    let leaks = |peer: &Peer| mutant(10) && peer.link.stats().reliable_queued > 0;
                    let place = place.filter(|place| !place.as_deref().is_some_and(leaks));
                    if let Some(gone) = place.and_then(Option::take) {
                        self.totals.add(&gone.link.stats());
                        self.totals.forget_gauges();
                    }
                }
            }
            self.tell(sink);
        }
    }

    /// The layer below has ended a connection by itself.
    fn handle_closed(&mut self, now: Now, id: ConnectionId, reason: DisconnectReason) {
        let Some(peer) = self.peer_mut(id) else { return };
        let reason = match &peer.phase {
            Phase::Open => reason,
            // We were about to leave, and did not get to hear that the goodbye has arrived.
            Phase::Closing(ours) => DisconnectReason::clone(ours),
            _ => return,
        };
        peer.link.close(now.mono, &reason, Duration::ZERO);
        self.report(now, id, reason);
    }

    /// Notes that a connection is over for the sink, and starts what there is to say to the peer.
    pub(super) fn report(&mut self, now: Now, id: ConnectionId, reason: DisconnectReason) {
        let Some(peer) = self.peer_mut(id) else { return };
        while peer.link.poll_event().is_some() {}
        peer.phase = Phase::Parting { copies: GOODBYE_COPIES, next: now.mono };
        self.ended.push_back((id, reason));
        // Unless the slot is free already, in which case nothing below comes of it.
        self.netcode.close(now, id, Farewell::Linger(PARTING));
        self.goodbyes.push_back(id);
    }

    /// Takes in what a link has to say.
    pub(super) fn settle(&mut self, now: Now, id: ConnectionId) {
        loop {
            let Some(peer) = self.peer_mut(id) else { return };
            let Some(event) = peer.link.poll_event() else { return };
            match (event, &peer.phase) {
                (LinkEvent::RemoteClosed(reason), Phase::Open) => {
                    peer.phase = Phase::Answering;
                    self.ended.push_back((id, reason));
                    self.netcode.close(now, id, Farewell::Linger(ANSWERING));
                }
                // Also where both ends left at the same time: each has its own reason.
                (LinkEvent::Closed, Phase::Closing(reason)) => {
                    let reason = DisconnectReason::clone(reason);
                    self.report(now, id, reason);
                }
                (LinkEvent::SlowConsumer, Phase::Open) => {
                    let reason = DisconnectReason::local(DisconnectCode::SlowConsumer);
                    self.disconnect(now, id, &reason, Duration::ZERO);
                }
                _ => {}
            }
        }
    }

    fn tell(&mut self, sink: &mut dyn FnMut(Incoming<'_>)) {
        while let Some((connection, reason)) = self.ended.pop_front() {
            sink(Incoming::Disconnected { connection, reason });
        }
    }

    fn insert(&mut self, now: Now, id: ConnectionId, phase: Phase) {
        let index = id.index as usize;
        if self.peers.len() <= index {
            // The layer below keeps its indices dense and bounded.
            self.peers.resize_with(index + 1, || None);
            self.timers.reserve((TIMERS_PER_PEER * (index + 2)).saturating_sub(self.timers.len()));
        }
        let link = Link::new(&self.link, &self.limits, now.mono, &mut self.random);
        self.peers[index] = Some(Box::new(Peer::new(id.generation, link, phase)));
    }
}
