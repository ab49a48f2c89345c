//! What arrives.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use super::super::codec::Reader;
use super::super::congestion::Seen;
use super::super::frame::{Fragment, Frame};
use super::super::lane::LaneKind;
use super::super::reassembly::Reassembly;
use super::super::rtt::MAX_DELAY;
use super::super::stream::Taken;
use super::super::wire::{Ack, DELAY_UNIT, Head};
use super::super::{ChannelId, Violation};
use super::Link;
use crate::Mono;
use crate::mutants::{audit, tap};
use crate::time::Span;

type Sink<'s> = dyn FnMut(ChannelId, &[u8]) + 's;

impl Link {
    /// Takes in one packet; each message that it completes goes to `sink`, valid during the call. `now` may be the time
    /// at which the packet really arrived.
    pub fn handle_packet(&mut self, now: Mono, packet: &[u8], sink: &mut Sink<'_>) -> Result<(), Violation> {
        tap(packet);
        let mut reader = Reader::new(packet);
        let head = Head::parse(&mut reader, self.state.received.expected(), self.sent.next());
        if self.closing.is_closed() {
            if let Ok(head) = head {
                self.handle_after_end(now, &head, reader);
            }
            return Ok(());
        }
        let head = head?;
        if self.state.received.is_duplicate(head.number) {
            self.state.counters.packets_duplicate += 1;
            return Ok(());
        }
        if let Some(ack) = &head.ack {
            // Nothing has happened yet: a lie has no effect but the violation.
            self.sent.check(ack)?;
            let unsent = !super::super::number::is_before(ack.largest, self.sent.next());
            audit(26, || unsent.then(|| format!("an ack of {}, which never left, was taken", ack.largest)));
            self.handle_ack(now, ack);
        }
        self.state.traffic.packets_received += 1;
        self.state.traffic.bytes_received += packet.len() as u64;
        let asks = !reader.is_empty();
        if asks {
            self.touch(now);
        }
        let mut taken = Taken::Yes;
        while !reader.is_empty() && !self.closing.is_closed() {
            if self.handle_frame(now, head.number, &mut reader, sink)? == Taken::No {
                taken = Taken::No;
            }
        }
        if taken == Taken::No {
            self.state.counters.refused_full += 1;
        }
        let max_ack_delay = self.config.max_ack_delay.into();
        self.state.received.record(now, head.number, taken == Taken::Yes, asks, max_ack_delay);
        self.advance_closing(now);
        self.audit_resources(packet.len());
        Ok(())
    }

    /// The application takes no reliable messages for now: what arrives is kept and acknowledged as far as the receive
    /// window reaches, and the peer's queue fills. Unreliable messages are delivered all the same.
    pub fn pause(&mut self) {
        for lane in &mut self.state.lanes {
            match &mut lane.kind {
                LaneKind::Unreliable { .. } => {}
                LaneKind::Ordered { receive, .. } => receive.pause(),
                LaneKind::Unordered { receive, .. } => receive.pause(),
            }
        }
    }

    /// The application takes reliable messages again: those that were kept go to `sink`, and the peer may send more. A
    /// violation may only come to light now.
    pub fn resume(&mut self, sink: &mut Sink<'_>) -> Result<(), Violation> {
        for index in 0..self.state.lanes.len() {
            let Some(lane) = self.state.lanes.get_mut(index) else { break };
            let channel = lane.id;
            match &mut lane.kind {
                LaneKind::Unreliable { .. } => continue,
                LaneKind::Ordered { receive, .. } => receive.resume(channel, sink)?,
                LaneKind::Unordered { receive, .. } => receive.resume(channel, sink),
            }
            self.state.refresh(channel);
        }
        Ok(())
    }

    fn parse_frame<'p>(&self, reader: &mut Reader<'p>) -> Result<Frame<'p>, Violation> {
        let peer = self.config.side.peer();
        Frame::parse(reader, &self.config.channels, |channel| channel.max_message(peer))
    }

    fn handle_frame(
        &mut self,
        now: Mono,
        number: u64,
        reader: &mut Reader<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Taken, Violation> {
        match self.parse_frame(reader)? {
            Frame::Message { channel, id, bytes } => self.handle_message(number, channel, id, bytes, sink),
            Frame::Fragment { channel, fragment } => self.handle_fragment(now, channel, &fragment, sink),
            Frame::Stream { channel, offset, bytes } => {
                let lane = self.state.lanes.get_mut(usize::from(channel.0)).map(|lane| &mut lane.kind);
                let Some(LaneKind::Ordered { receive, .. }) = lane else { return Err(Violation::WrongChannelKind) };
                let taken = receive.handle(channel, offset, bytes, sink)?;
                self.state.refresh(channel);
                Ok(taken)
            }
            Frame::Window { channel, limit } => {
                let lane = self.state.lanes.get_mut(usize::from(channel.0)).map(|lane| &mut lane.kind);
                let Some(LaneKind::Ordered { send, .. }) = lane else { return Err(Violation::WrongChannelKind) };
                send.raise_limit(limit);
                self.state.refresh(channel);
                Ok(Taken::Yes)
            }
            Frame::Probe => {
                self.state.received.hurry();
                Ok(Taken::Yes)
            }
            Frame::Close(reason) => {
                self.handle_close(reason);
                Ok(Taken::Yes)
            }
            Frame::CloseAck => {
                self.handle_close_ack(now);
                Ok(Taken::Yes)
            }
        }
    }

    fn handle_message(
        &mut self,
        number: u64,
        channel: ChannelId,
        id: Option<u16>,
        bytes: &[u8],
        sink: &mut Sink<'_>,
    ) -> Result<Taken, Violation> {
        let lane = self.state.lanes.get_mut(usize::from(channel.0)).map(|lane| &mut lane.kind);
        match (lane, id) {
            (Some(LaneKind::Unreliable { newest, .. }), id) => {
                if newest.admit(number, id) {
                    sink(channel, bytes);
                    if let (Some(id), Some(reassembly)) = (id, &mut self.state.reassembly) {
                        reassembly.give_up_before(channel, id);
                    }
                } else {
                    self.state.counters.dropped_stale += 1;
                }
                Ok(Taken::Yes)
            }
            (Some(LaneKind::Unordered { receive, .. }), Some(id)) => receive.handle_message(channel, id, bytes, sink),
            _ => Err(Violation::WrongChannelKind),
        }
    }

    fn handle_fragment(
        &mut self,
        now: Mono,
        channel: ChannelId,
        fragment: &Fragment<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Taken, Violation> {
        let Some(lane) = self.state.lanes.get_mut(usize::from(channel.0)) else {
            return Err(Violation::UnknownChannel);
        };
        match &mut lane.kind {
            LaneKind::Unordered { receive, .. } => receive.handle_fragment(channel, fragment, sink),
            LaneKind::Ordered { .. } => Err(Violation::WrongChannelKind),
            LaneKind::Unreliable { newest, .. } => {
                if !newest.would_admit(fragment.id) {
                    self.state.counters.dropped_stale += 1;
                    return Ok(Taken::Yes);
                }
                let mut complete = false;
                let new = || Box::new(Reassembly::new(&self.limits));
                let reassembly = self.state.reassembly.get_or_insert_with(new);
                reassembly.handle(now, channel, lane.priority, fragment, |message| {
                    complete = true;
                    sink(channel, message);
                })?;
                if complete && matches!(newest, super::super::lane::Newest::Id(_)) {
                    newest.admit(0, Some(fragment.id));
                    reassembly.give_up_before(channel, fragment.id);
                }
                Ok(Taken::Yes)
            }
        }
    }

    fn handle_ack(&mut self, now: Mono, ack: &Ack<'_>) {
        self.state.now = now;
        let delay = Span::from_nanos(u64::from(ack.delay) * DELAY_UNIT);
        let tick = self.state.pacer.tick();
        // Where we look only once per tick, that hides more than the peer's delay tells.
        let known = if tick.is_some() { Span::ZERO } else { delay.min(MAX_DELAY) };
        self.state.acked_at = Mono::from_nanos(now.as_nanos().saturating_sub(known.as_nanos()));
        let before = self.sent.in_flight();
        let newest = self.sent.acknowledge(ack, &mut self.state);
        let latest = newest.map(|sent_at| now.after(sent_at));
        if let Some(latest) = latest {
            self.state.rtt.sample(now, latest, delay);
        }
        if self.sent.in_flight() < before {
            self.timeouts = 0;
            self.probe_from = self.probe_from.max(now);
        }
        if latest.is_some() {
            self.state.path.on_confirmed(now);
        }
        self.detect_losses(now);
        let seen = Seen {
            // What waited for data to ride with tells little of the path.
            latest: latest
                .filter(|_| delay < self.config.max_ack_delay.into())
                .map(|latest| latest.saturating_sub(delay)),
            jitter: self.state.rtt.deviation().unwrap_or_default(),
            tick,
            loss_percent: (self.state.loss.share() * 100.0) as u64,
            in_flight: self.sent.bytes_in_flight(),
        };
        self.state.congestion.on_ack_end(now, &seen);
    }

    /// After the end only the peer's goodbye is of interest: it repeats it until it hears that we have heard.
    fn handle_after_end(&mut self, now: Mono, head: &Head<'_>, mut reader: Reader<'_>) {
        if self.state.received.is_duplicate(head.number) {
            return;
        }
        self.state.received.record(now, head.number, true, false, self.config.max_ack_delay.into());
        while !reader.is_empty() {
            match self.parse_frame(&mut reader) {
                Ok(Frame::Close(reason)) => self.handle_close(reason),
                Ok(Frame::CloseAck) => self.handle_close_ack(now),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
