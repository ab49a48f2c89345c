//! What leaves, and whose turn it is.

use std::cmp::Reverse;

use super::{GOODBYE_INTERVAL, Phase, Server, TIMERS_PER_PEER, Transmit, find, find_mut, look_ahead};
use crate::channel::{Allowance, Link, sooner};
use crate::look::Glance;
use crate::netcode::{self, Farewell, HEADROOM};
use crate::turns::Turn;
use crate::{ConnectionId, Mono, Now};

/// How many links are looked at ahead of their turns.
const WARMED: usize = 16;

impl Server {
    pub(super) fn poll_any(&mut self, now: Now, buf: &mut [u8]) -> Option<(Transmit, Option<Turn>)> {
        if let Some(netcode::Transmit { to, len }) = self.netcode.poll_transmit(now, buf) {
            return Some((Transmit { to, at: 0..len }, None));
        }
        while let Some(turn) = self.turns.next() {
            if self.warmed == 0 && !turn.bulk {
                let coming = self.turns.coming().take(WARMED);
                self.warmed = coming.len();
                let coming = coming.map(|id| id.index);
                let below = |index, look: &mut Glance| self.netcode.look_to_seal(index, look);
                look_ahead(&self.peers, coming, Link::look_to_send, below);
            }
            let Some(transmit) = self.poll_link(now, turn, buf) else {
                self.end_turn(now, turn);
                continue;
            };
            // Most have one packet: who has nothing more is not asked again.
            let all = turn.allowance == Allowance::All && !turn.bulk;
            if all && self.peer(turn.connection).is_some_and(|peer| !peer.link.has_work()) {
                self.end_turn(now, turn);
            }
            return Some((transmit, Some(turn)));
        }
        while let Some(id) = self.goodbyes.pop_front() {
            if let Some(transmit) = self.poll_goodbye(now, id, buf) {
                return Some((transmit, None));
            }
        }
        // The last copies may have made the way free for the last words of the layer below.
        let netcode::Transmit { to, len } = self.netcode.poll_transmit(now, buf)?;
        Some((Transmit { to, at: 0..len }, None))
    }

    /// A link has nothing more that it may send in this turn.
    fn end_turn(&mut self, now: Now, turn: Turn) {
        self.turns.end(turn);
        if !turn.bulk {
            self.warmed = self.warmed.saturating_sub(1);
        }
        let id = turn.connection;
        let Self { peers, turns, .. } = self;
        if let Some(peer) = find_mut(peers, id) {
            if turn.bulk {
                peer.deferred = false;
            } else {
                peer.listed = false;
                let starves = turn.allowance == Allowance::Upkeep && peer.link.game_waits();
                if starves && !peer.starved {
                    turns.starve(id);
                }
                peer.starved |= starves;
                let more = turn.allowance < Allowance::All && peer.link.has_work();
                if more && !std::mem::replace(&mut peer.deferred, true) {
                    turns.defer(id);
                }
            }
        }
        self.settle(now, id);
        self.schedule(id);
    }

    /// The next packet of a link, sealed.
    #[inline]
    fn poll_link(&mut self, now: Now, turn: Turn, buf: &mut [u8]) -> Option<Transmit> {
        let id = turn.connection;
        // A client that may not know that it is connected is told so before every payload.
        if self.announced != Some(id) && self.netcode.is_unconfirmed(id) && self.peer(id)?.link.has_work() {
            self.announced = Some(id);
            let netcode::Transmit { to, len } = self.netcode.announce(now, id, buf)?;
            return Some(Transmit { to, at: 0..len });
        }
        self.announced = None;
        let (mtu, held) = (self.link.max_mtu, turn.bulk && self.turns.binds());
        let peer = self.peer_mut(id)?;
        if held {
            peer.link.note_held();
        }
        let body = peer.link.poll_packet_of(turn.allowance, now.mono, buf.get_mut(HEADROOM..HEADROOM + mtu)?)?;
        let (to, at) = self.netcode.seal_payload(now, id, buf, body)?;
        Some(Transmit { to, at })
    }

    /// The next copy of a goodbye, sealed. After the last one the layer below says its own.
    fn poll_goodbye(&mut self, now: Now, id: ConnectionId, buf: &mut [u8]) -> Option<Transmit> {
        let (hurry, mtu) = (self.hurry, self.link.mtu);
        let peer = self.peer_mut(id)?;
        let Phase::Parting { copies, next } = &mut peer.phase else { return None };
        let body = match copies.checked_sub(1) {
            Some(left) => {
                *copies = left;
                *next = now.mono + GOODBYE_INTERVAL;
                peer.link.goodbye_packet(now.mono, buf.get_mut(HEADROOM..HEADROOM + mtu)?)
            }
            None => None,
        };
        let Some(body) = body else {
            self.netcode.close(now, id, Farewell::Goodbye);
            if hurry {
                self.netcode.hurry_goodbye(id);
            }
            return None;
        };
        if hurry {
            self.goodbyes.push_back(id);
        } else {
            self.parting.push(id);
        }
        let (to, at) = self.netcode.seal_payload(now, id, buf, body)?;
        Some(Transmit { to, at })
    }

    pub(super) fn move_goodbyes(&mut self, now: Mono) {
        let Self { parting, peers, goodbyes, hurry, .. } = self;
        parting.retain(|id| match find(peers, *id).map(|peer| &peer.phase) {
            Some(Phase::Parting { next, .. }) if *next <= now || *hurry => {
                goodbyes.push_back(*id);
                false
            }
            Some(Phase::Parting { .. }) => true,
            _ => false,
        });
    }

    /// Puts a link on the list of those that may have something to send.
    #[inline]
    pub(super) fn list(&mut self, id: ConnectionId) {
        if let Some(peer) = self.peer_mut(id)
            && !std::mem::replace(&mut peer.listed, true)
        {
            self.turns.list(id);
        }
    }

    /// Puts the link's next due times into the queues of acks and timers, if none that are as early are there.
    #[inline]
    pub(super) fn schedule(&mut self, id: ConnectionId) {
        let Self { peers, acks, timers, .. } = self;
        let Some(peer) = find_mut(peers, id) else { return };
        // Who is listed is looked at before any timer, and again after that.
        if peer.listed {
            return;
        }
        let mut ack = peer.link.ack_due().filter(|due| peer.ack_at.is_none_or(|at| *due < at));
        if let Some(due) = ack
            && acks.back().is_none_or(|(last, _)| *last <= due)
        {
            acks.push_back((due, id));
            peer.ack_at = ack.take();
        }
        let held = peer.starved || peer.deferred;
        let allowance = if held { Allowance::Upkeep } else { Allowance::All };
        let Some(due) = sooner(ack, peer.link.poll_timeout_but_ack(allowance)) else { return };
        if peer.scheduled.is_none_or(|scheduled| due < scheduled) {
            peer.scheduled = Some(due);
            if timers.len() >= TIMERS_PER_PEER * (peers.len() + 1) {
                timers.retain(|Reverse((due, id))| find(peers, *id).is_some_and(|peer| peer.scheduled == Some(*due)));
            }
            timers.push(Reverse((due, id)));
        }
    }

    /// Lists the links whose ack has waited long enough for data to ride with.
    pub(super) fn list_acks(&mut self, now: Mono) {
        while let Some(&(due, id)) = self.acks.front()
            && due <= now
        {
            self.acks.pop_front();
            let Some(peer) = self.peer_mut(id) else { continue };
            peer.ack_at = None;
            match peer.link.ack_due() {
                Some(due) if due <= now => self.list(id),
                Some(_) => self.schedule(id),
                None => {}
            }
        }
    }
}
