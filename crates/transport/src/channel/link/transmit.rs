//! What leaves.

use super::super::codec::Writer;
use super::super::frame::{Carrier, window_len, write_probe, write_window};
use super::super::lane::LaneKind;
use super::super::received::SPACING;
use super::super::sent::{Cargo, MAX_CARGO};
use super::super::wire::{MIN_ACK, write_head};
use super::Link;
use super::mask::Mask;
use super::state::SMOOTH_BURST;
use crate::Mono;

/// Packets in a row without anything that asks for an ack, after which one asks: else the peer's reports on what it
/// knows would never come, and ours would grow.
const MAX_UNASKING: u32 = 16;

/// What may leave at once after a pause, in packets, whatever the rate.
const BURST: u32 = 4;

/// What may leave of all that could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Allowance {
    /// What keeps the connection alive: acknowledgements, goodbyes, probes.
    Upkeep,
    /// And game traffic: unreliable messages.
    Game,
    /// And reliable messages.
    All,
}

impl Link {
    /// Writes one packet into `buf` and returns its length; `None` when nothing may leave now. `buf` should have room
    /// for [`LinkConfig::mtu`](super::super::LinkConfig::mtu) bytes.
    pub fn poll_packet(&mut self, now: Mono, buf: &mut [u8]) -> Option<usize> {
        self.poll_packet_of(Allowance::All, now, buf)
    }

    /// The same with not more than is allowed.
    pub(crate) fn poll_packet_of(&mut self, allowance: Allowance, now: Mono, buf: &mut [u8]) -> Option<usize> {
        if self.closing.is_closed() {
            return self.poll_closed(now, buf);
        }
        let written = self.write_packet(allowance, now, buf);
        if written.is_none() {
            self.note_waiting();
        }
        written
    }

    fn write_packet(&mut self, allowance: Allowance, now: Mono, buf: &mut [u8]) -> Option<usize> {
        let size = buf.len().min(self.state.path.size());
        let waits = self.state.reliable_waits();
        self.pass_time(now, waits);
        let ack_due = self.state.received.due().is_some_and(|at| at <= now);
        let goodbye_due = self.closing.is_saying() && self.closing.due().is_some_and(|at| at <= now);
        let capped = allowance == Allowance::Upkeep || self.state.is_capped();
        // A probe leaves with data if it may, and that is not the turn of game traffic.
        let probes = if allowance == Allowance::Game { 0 } else { self.probes };
        let reliable =
            allowance == Allowance::All && waits && (self.probes > 0 || self.window_is_open() && self.pacer_is_open());
        let mut but = Mask::default();
        let first = if capped { None } else { self.state.pick(reliable, &but) };
        let windows = !capped && self.state.next_window().is_some();
        if first.is_none() && !ack_due && !goodbye_due && !windows && probes == 0 {
            return if allowance == Allowance::All { self.write_sizing_probe(now, capped, buf) } else { None };
        }

        self.skip_if_due();
        let mut writer = Writer::new(&mut buf[..size]);
        write_head(&mut writer, self.sent.next(), self.sent.acked());
        let head = writer.len();
        // The packets of a message in fragments have one size if the ack rides with the last of them; then one call of the
        // system sends all of them (GSO).
        let amid = first.is_some_and(|index| self.is_amid(index));
        if (ack_due || self.state.received.wants_ack()) && !amid {
            let room = writer.room() - first.map_or(0, |index| self.least_room(index, writer.room()));
            if let Some(Some(largest)) = self.state.received.write_ack(now, &mut writer, room) {
                self.sent.load(Cargo::Report { largest });
            }
        }
        let acked = writer.len() > head;

        let mut asks = self.write_goodbye(now, &mut writer);
        let mut reliable_cargo = asks;
        while let Some(channel) = self.state.next_window().filter(|_| !capped) {
            if writer.room() < window_len(channel) {
                break;
            }
            self.write_window(channel, &mut writer);
            asks = true;
            reliable_cargo = true;
        }
        if reliable && self.is_last_of_window() && writer.room() > 0 {
            write_probe(&mut writer);
        }
        let mut pieces = 0;
        while pieces < MAX_CARGO - 8
            && !capped
            && let Some(index) = self.state.pick(reliable, &but)
        {
            let before = writer.len();
            if self.write_piece(index, &mut writer) {
                asks = true;
                pieces += 1;
                reliable_cargo |= self.state.lanes[index].is_reliable();
                self.state.serve(index, writer.len() - before);
            } else {
                but.put(self.state.lanes[index].id, true);
            }
        }
        let probing = probes > 0 || acked && self.unasking >= MAX_UNASKING;
        if !asks && probing && writer.room() > 0 {
            write_probe(&mut writer);
            asks = true;
        }
        if !asks && !acked {
            return None;
        }
        let length = writer.len();
        self.depart(now, length, asks, reliable_cargo);
        if asks {
            self.state.path.on_sent(now, length);
        }
        Some(length)
    }

    /// Leaves out a number if it is time to.
    fn skip_if_due(&mut self) {
        if self.skip_in == 0 {
            self.sent.skip(&mut self.state);
            self.skip_in = self.state.draw_skip();
        }
    }

    /// A packet that carries nothing and only tries whether its size arrives: as many probe frames as make it that large.
    fn write_sizing_probe(&mut self, now: Mono, capped: bool, buf: &mut [u8]) -> Option<usize> {
        let size = self.state.path.wants(now).filter(|_| self.closing.is_open())?;
        if capped {
            self.state.path.postpone(now);
            return None;
        }
        let Some(buf) = buf.get_mut(..size) else {
            self.state.path.stop(now);
            return None;
        };
        self.skip_if_due();
        let mut writer = Writer::new(buf);
        write_head(&mut writer, self.sent.next(), self.sent.acked());
        while writer.room() > 0 {
            write_probe(&mut writer);
        }
        self.depart(now, size, true, false);
        self.sent.mark_sizing();
        let timeout = self.probe_timeout();
        self.state.path.on_probe_sent(now, timeout);
        Some(size)
    }

    fn depart(&mut self, now: Mono, length: usize, asks: bool, reliable: bool) {
        let in_flight = self.sent.bytes_in_flight();
        let snapshot = if asks { self.state.congestion.on_sent(now, in_flight) } else { Default::default() };
        self.state.now = now;
        self.sent.depart(now, length, asks, reliable, snapshot, &mut self.state);
        if reliable {
            self.probe_from = now;
        }
        if asks {
            self.unasking = 0;
            self.probes = self.probes.saturating_sub(1);
            if !self.state.reliable_waits() {
                self.state.congestion.on_app_limited(self.sent.bytes_in_flight());
            }
        } else {
            self.unasking += 1;
        }
        self.skip_in -= 1;
        self.state.pacer.spend(length);
        if let Some(cap) = &mut self.state.cap {
            cap.spend(length);
        }
        self.state.traffic.packets_sent += 1;
        self.state.traffic.bytes_sent += length as u64;
    }

    /// Lets the token buckets fill, as far as somebody waits for them.
    fn pass_time(&mut self, now: Mono, waits: bool) {
        let packet = self.state.path.size() as u32;
        if waits {
            match self.state.rate() {
                Some(rate) => self.state.pacer.update(now, rate, BURST * packet),
                None => self.state.pacer.restart(now),
            }
        }
        if self.state.fragments_wait() {
            let rate = self.state.smooth_rate();
            self.state.smoother.update(now, rate, SMOOTH_BURST * packet);
        }
        if let (Some(rate), Some(cap)) = (self.limits.bandwidth, &mut self.state.cap) {
            cap.update(now, rate, BURST * packet);
        }
    }

    /// What leaves is held back by a cap: it does not tell what the path bears.
    pub(crate) fn note_held(&mut self) {
        self.state.congestion.on_app_limited(self.sent.bytes_in_flight());
    }

    /// Tells the token buckets who has to wait for them until the next visit.
    fn note_waiting(&mut self) {
        if self.state.is_capped() && self.state.has_work() {
            self.note_held();
        }
        if self.state.reliable_waits() && self.window_is_open() {
            self.state.pacer.wait();
        }
        if self.state.fragments_wait() {
            self.state.smoother.wait();
        }
        if self.state.has_work()
            && let Some(cap) = &mut self.state.cap
        {
            cap.wait();
        }
    }

    fn window_is_open(&self) -> bool {
        self.window_takes(1)
    }

    /// Whether the window takes so many more full packets.
    fn window_takes(&self, packets: usize) -> bool {
        self.sent.bytes_in_flight() + packets * self.state.path.size() <= self.state.congestion.window()
    }

    /// Whether nothing reliable may follow the packet that is being written until an ack comes, which on a short path
    /// takes longer to leave than to arrive.
    fn is_last_of_window(&self) -> bool {
        !self.window_takes(2) && self.state.rtt.smoothed().is_some_and(|rtt| rtt < SPACING)
    }

    fn pacer_is_open(&self) -> bool {
        self.state.rate().is_none() || self.state.pacer.is_open()
    }

    /// When the token buckets let something leave that waits for them.
    pub(super) fn opens_at(&self) -> Option<Mono> {
        if !self.state.has_work() {
            return None;
        }
        let cap = self.state.cap.as_ref().filter(|cap| !cap.is_open());
        let cap = cap.and_then(|cap| Some(cap.opens_at(self.limits.bandwidth?)));
        let paced = !self.state.pacer.is_open() && self.state.reliable_waits() && self.window_is_open();
        let pace = if paced { self.state.rate().map(|rate| self.state.pacer.opens_at(rate)) } else { None };
        let smooth = !self.state.smoother.is_open() && self.state.fragments_wait();
        let smooth = smooth.then(|| self.state.smoother.opens_at(self.state.smooth_rate()));
        cap.max([pace, smooth].into_iter().flatten().min())
    }

    /// Whether this lane's next piece is a fragment that may leave, with others behind it.
    fn is_amid(&self, index: usize) -> bool {
        let LaneKind::Unreliable { queue, .. } = &self.state.lanes[index].kind else { return false };
        queue.is_amid() && self.state.smoother.is_open()
    }

    /// What the next piece of a lane needs, so that an ack leaves it room.
    fn least_room(&self, index: usize, room: usize) -> usize {
        let lane = &self.state.lanes[index];
        let need = match &lane.kind {
            LaneKind::Unreliable { queue, .. } => {
                queue.next_piece(room, lane.id).map(|piece| piece.carrier.head_len(lane.id) + piece.length)
            }
            // A stream is cut anywhere.
            LaneKind::Ordered { .. } => Some(64),
            LaneKind::Unordered { send, .. } => {
                send.next_piece(room, lane.id).map(|piece| piece.carrier.head_len(lane.id) + piece.length)
            }
        };
        need.unwrap_or(0).min(room.saturating_sub(MIN_ACK))
    }

    fn write_window(&mut self, channel: super::ChannelId, writer: &mut Writer<'_>) {
        if let LaneKind::Ordered { receive, .. } = &mut self.state.lanes[usize::from(channel.0)].kind {
            write_window(writer, channel, receive.take_window());
            self.sent.load(Cargo::Window { channel });
        }
        self.state.refresh(channel);
    }

    /// Writes the next piece of a lane if it fits.
    fn write_piece(&mut self, index: usize, writer: &mut Writer<'_>) -> bool {
        let lane = &mut self.state.lanes[index];
        match &mut lane.kind {
            LaneKind::Unreliable { queue, .. } => {
                let Some(piece) = queue.next_piece(writer.room(), lane.id) else { return false };
                if matches!(piece.carrier, Carrier::Fragment { .. }) {
                    if !self.state.smoother.is_open() {
                        return false;
                    }
                    self.state.smoother.spend(piece.length);
                }
                queue.take_piece(&piece, piece.carrier.write(writer, lane.id, piece.length));
            }
            LaneKind::Ordered { send, .. } | LaneKind::Unordered { send, .. } => {
                let Some(piece) = send.next_piece(writer.room(), lane.id) else { return false };
                let length = send.take_piece(&piece, piece.carrier.write(writer, lane.id, piece.length));
                self.sent.load(Cargo::Reliable { channel: lane.id, length, offset: piece.offset });
            }
        }
        true
    }
}
