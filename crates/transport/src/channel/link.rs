//! One end of a connection.

mod closing;
mod mask;
mod receive;
mod state;
mod transmit;

pub(crate) use self::transmit::Allowance;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use self::closing::Closing;
use self::state::State;
use super::lane::{Lane, LaneKind};
use super::row::LEAST_SHARED;
use super::sent::Sent;
use super::{Backlog, ChannelId, LinkConfig, LinkEvent, LinkStats, Receipt, SendError};
use crate::look::Look;
use crate::mutants::{audit, mutant, take_work};
use crate::time::Span;
use crate::{Limits, Mono, Random, SharedBytes};

/// How long a link is quiet before it gives the memory of its queues back.
const TRIM_AFTER: Duration = Duration::from_secs(5);

/// No probe for lost packets waits longer, unless the round trip itself does.
const MAX_PROBE_TIMEOUT: Span = Span::from_secs(1);

/// How often the wait for an ack is doubled at most: a dead path costs two packets per wait, and the idle timeout ends
/// it soon.
const MAX_DOUBLINGS: u32 = 2;

/// One end of a connection: turns messages into packets and packets into messages, with the promises of
/// [`ChannelKind`](super::ChannelKind).
///
/// The caller moves packets between two links, as it can: they may be lost, doubled and reordered, but not changed or
/// forged (sealing takes care of that). Per update it
///
/// 1. gives every packet that has arrived to [`handle_packet`](Self::handle_packet); a [`Violation`](super::Violation)
///    means that the peer is not a correct one, and the link must not be used any more but to close it;
/// 2. calls [`handle_timeout`](Self::handle_timeout) if [`poll_timeout`](Self::poll_timeout) has come;
/// 3. takes events from [`poll_event`](Self::poll_event) until there are none;
/// 4. queues messages with [`send`](Self::send);
/// 5. takes packets from [`poll_packet`](Self::poll_packet) until there are none. All of them must leave, or count as
///    lost.
///
/// Steps may be left out and repeated in any order. Nothing happens between the calls: a link whose timeout is ignored
/// resends nothing. `now` may be older in one call than in the one before, e.g. when the kernel recorded the arrival of
/// a packet; the better the arrival times, the better the round-trip time.
///
/// A link without traffic costs nothing: [`has_work`](Self::has_work) and [`poll_timeout`](Self::poll_timeout) are
/// cheap, and there is no timer. After [`LinkEvent::Closed`] or [`LinkEvent::RemoteClosed`] only goodbyes are written.
#[derive(Debug)]
// What every packet touches lies side by side; see `State`.
#[repr(C)]
pub struct Link {
    config: Arc<LinkConfig>,
    limits: Arc<Limits>,
    closing: Closing,
    /// From when the next probe timeout counts.
    probe_from: Mono,
    active_at: Mono,
    /// Probe timeouts since the last ack.
    timeouts: u32,
    /// Packets in a row that asked for no ack.
    unasking: u32,
    /// Numbers until one is left out.
    skip_in: u32,
    /// Probes that may leave whatever the window says.
    probes: u8,
    slow_reported: bool,
    trimmed: bool,
    sent: Sent,
    state: State,
}

/// A message that is to leave.
enum Payload<'a> {
    /// With something of its own in front.
    Copied(&'a [u8], &'a [u8]),
    /// With its memory.
    Taken(&'a mut Vec<u8>),
    /// With memory that others have, too, and something of its own in front.
    Shared(&'a [u8], &'a SharedBytes),
}

impl Payload<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Copied(head, body) => head.len() + body.len(),
            Self::Taken(message) => message.len(),
            Self::Shared(head, body) => head.len() + body.len(),
        }
    }
}

impl Link {
    /// A link without history. Randomness is taken once, to choose which packet numbers are left out.
    pub fn new(config: &Arc<LinkConfig>, limits: &Arc<Limits>, now: Mono, random: &mut dyn Random) -> Self {
        let mut state = State::new(config, limits, now, random.u64());
        Self {
            config: Arc::clone(config),
            limits: Arc::clone(limits),
            sent: Sent::new(config.first_packet_number),
            skip_in: state.draw_skip(),
            state,
            closing: Closing::default(),
            probes: 0,
            timeouts: 0,
            probe_from: now,
            unasking: 0,
            slow_reported: false,
            active_at: now,
            trimmed: true,
        }
    }

    /// Changes the limits in force. Messages in the making that are over a smaller one give way; a receive window that
    /// the peer knows of is kept to, and the next one is smaller.
    pub fn set_limits(&mut self, limits: &Arc<Limits>) {
        self.limits = Arc::clone(limits);
        self.state.set_limits(limits);
    }

    /// Queues one whole message. On an unreliable channel whose queue is full a message is dropped, as its
    /// [`DropPolicy`](super::DropPolicy) says; that is no error.
    pub fn send(&mut self, now: Mono, channel: ChannelId, message: &[u8]) -> Result<(), SendError> {
        self.queue(now, channel, Payload::Copied(&[], message), None)
    }

    /// The same with a message that is not needed any more: a long one is not copied, but its memory taken over. It is
    /// empty afterwards, and untouched after an error.
    pub fn send_owned(&mut self, now: Mono, channel: ChannelId, message: &mut Vec<u8>) -> Result<(), SendError> {
        self.queue(now, channel, Payload::Taken(message), None)
    }

    /// The same with a message that is `head` and behind it `body`. A long body is not copied, but kept until all of it
    /// has left, or arrived on a reliable channel; it counts like any message against what the channel may queue.
    pub fn send_shared(
        &mut self,
        now: Mono,
        channel: ChannelId,
        head: &[u8],
        body: &SharedBytes,
    ) -> Result<(), SendError> {
        let payload = if body.len() < LEAST_SHARED { Payload::Copied(head, body) } else { Payload::Shared(head, body) };
        self.queue(now, channel, payload, None)
    }

    /// The same for a reliable channel, with a [`LinkEvent::Delivered`] once the peer has got the message. Messages of
    /// unreliable channels never earn one.
    pub fn send_with_receipt(&mut self, now: Mono, channel: ChannelId, message: &[u8]) -> Result<Receipt, SendError> {
        let number = self.state.next_receipt;
        // Only the low 32 bits are kept with the message, where zero stands for none.
        let Some(receipt) = NonZeroU32::new(number as u32) else {
            self.state.next_receipt += 1;
            return self.send_with_receipt(now, channel, message);
        };
        self.queue(now, channel, Payload::Copied(&[], message), Some(receipt))?;
        self.state.next_receipt += 1;
        Ok(Receipt(number))
    }

    fn queue(
        &mut self,
        now: Mono,
        channel: ChannelId,
        message: Payload<'_>,
        receipt: Option<NonZeroU32>,
    ) -> Result<(), SendError> {
        if !self.closing.is_open() {
            return Err(SendError::NotConnected);
        }
        let Some(lane) = self.state.lanes.get_mut(usize::from(channel.0)) else {
            return Err(SendError::UnknownChannel(channel));
        };
        let limit = lane.max_message();
        let size = message.len();
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let has_room = lane.has_room(size);
        match &mut lane.kind {
            LaneKind::Unreliable { queue, .. } => match message {
                Payload::Copied(head, body) => queue.push(head, body),
                Payload::Taken(message) => queue.push_shared(&[], &std::mem::take(message).into()),
                Payload::Shared(head, body) => queue.push_shared(head, body),
            },
            LaneKind::Ordered { send, .. } | LaneKind::Unordered { send, .. } => {
                if !has_room {
                    self.state.counters.refused_queue += 1;
                    return Err(SendError::QueueFull);
                }
                if self.state.reliable_charged == 0 {
                    self.state.progress_at = now;
                }
                let before = send.charged();
                match message {
                    Payload::Copied(head, body) => send.push(head, body, receipt),
                    Payload::Taken(message) => send.push_shared(&[], &std::mem::take(message).into(), receipt),
                    Payload::Shared(head, body) => send.push_shared(head, body, receipt),
                }
                self.state.reliable_charged += send.charged() - before;
            }
        }
        // More of what could leave already changes nothing.
        if !self.state.is_busy(channel) {
            self.state.refresh(channel);
        }
        self.touch(now);
        Ok(())
    }

    fn touch(&mut self, now: Mono) {
        self.active_at = now;
        self.trimmed = false;
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_packet`](Self::poll_packet) should be called next if
    /// nothing else happens; `None` if never.
    pub fn poll_timeout(&self) -> Option<Mono> {
        sooner(self.ack_due(), self.poll_timeout_but_ack(Allowance::All))
    }

    /// When an ack has to leave on its own.
    #[inline]
    pub(crate) fn ack_due(&self) -> Option<Mono> {
        self.state.received.due().filter(|_| !self.closing.is_closed())
    }

    /// When to call for anything else, where nothing more than is allowed may leave.
    pub(crate) fn poll_timeout_but_ack(&self, allowance: Allowance) -> Option<Mono> {
        if self.closing.is_closed() {
            return None;
        }
        let trim = (!self.trimmed).then(|| self.active_at + TRIM_AFTER);
        let slow = (self.state.reliable_charged > 0 && !self.slow_reported)
            .then(|| self.state.progress_at + self.limits.slow_consumer);
        let all = allowance == Allowance::All;
        let due = sooner(self.sent.loss_at(), self.probe_at());
        let due = sooner(due, if all { self.opens_at() } else { None });
        let due = sooner(due, self.closing.due());
        let due = sooner(due, if all { self.sizing_due() } else { None });
        let due = sooner(due, self.state.reassembly.as_ref().and_then(|reassembly| reassembly.expires_at()));
        sooner(due, sooner(slow, trim))
    }

    /// How long to wait for an ack before asking for one.
    fn probe_timeout(&self) -> Span {
        self.state.rtt.probe_timeout(self.config.max_ack_delay.into())
    }

    /// When the search for a larger packet size goes on.
    fn sizing_due(&self) -> Option<Mono> {
        if !self.closing.is_open() || self.state.path.is_settled() {
            return None;
        }
        self.state.path.due(self.probe_timeout())
    }

    /// When the ack of something that holds others up will have been waited for too long.
    fn probe_at(&self) -> Option<Mono> {
        let waiting = self.sent.reliable_in_flight() > 0 || self.sent.in_flight() > 0 && self.state.reliable_waits();
        let waiting = waiting && !mutant(6);
        waiting.then(|| {
            let base = self.probe_timeout();
            let backed_off = base * (1 << self.timeouts.min(MAX_DOUBLINGS));
            self.probe_from + backed_off.min(MAX_PROBE_TIMEOUT.max(base))
        })
    }

    /// Lets timers act that have come.
    pub fn handle_timeout(&mut self, now: Mono) {
        if self.closing.is_closed() {
            return;
        }
        if self.sent.loss_at().is_some_and(|at| at <= now) {
            self.detect_losses(now);
        }
        if self.probe_at().is_some_and(|at| at <= now) {
            self.timeouts += 1;
            self.probe_from = now;
            self.probes = 2;
            self.sent.requeue_oldest(2, &mut self.state);
        }
        self.state.now = self.state.now.max(now);
        if self.state.path.is_expired(now) {
            self.sent.lose_sizing(&mut self.state);
        }
        let timeout = self.probe_timeout();
        self.state.path.check(now, timeout);
        if let Some(reassembly) = &mut self.state.reassembly {
            reassembly.expire(now);
        }
        let slow = self.state.reliable_charged > 0 && self.state.progress_at + self.limits.slow_consumer <= now;
        if slow && !self.slow_reported {
            self.slow_reported = true;
            self.state.counters.slow_consumers = 1;
            self.state.events.push_back(LinkEvent::SlowConsumer);
        }
        self.advance_closing(now);
        if !self.trimmed && self.active_at + TRIM_AFTER <= now {
            // Where something is still under way this looks again later.
            self.active_at = now;
            if self.is_idle() {
                self.trimmed = true;
                self.sent.trim();
                self.state.trim();
            }
        }
    }

    fn detect_losses(&mut self, now: Mono) {
        let loss_delay = self.state.rtt.loss_delay();
        let keep = loss_delay + self.probe_timeout() * 2;
        self.sent.detect(now, loss_delay, keep, &mut self.state);
    }

    /// The next thing that happened, oldest first.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.state.events.pop_front()
    }

    /// Whether [`poll_packet`](Self::poll_packet) may have something to write, now or soon.
    pub fn has_work(&self) -> bool {
        self.has_work_but_ack() || self.ack_due().is_some()
    }

    /// The same for anything but an ack for what has arrived.
    #[inline]
    pub(crate) fn has_work_but_ack(&self) -> bool {
        if self.closing.is_closed() {
            return self.closing.owes_ack();
        }
        self.state.has_work() || self.probes > 0 || self.closing.is_saying()
    }

    /// Whether unreliable messages wait for their departure.
    pub(crate) fn game_waits(&self) -> bool {
        !self.closing.is_closed() && self.state.unreliable_waits()
    }

    /// Whether nothing is queued, on its way or expected back.
    pub fn is_idle(&self) -> bool {
        !self.has_work() && self.state.reliable_charged == 0 && self.sent.reliable_in_flight() == 0
    }

    /// The largest message that may be sent on `channel`, in bytes; `None` if there is no such channel.
    pub fn max_message(&self, channel: ChannelId) -> Option<usize> {
        self.state.lanes.get(usize::from(channel.0)).map(Lane::max_message)
    }

    /// How full the send queue of `channel` is; `None` if there is no such channel.
    pub fn backlog(&self, channel: ChannelId) -> Option<Backlog> {
        let lane = self.state.lanes.get(usize::from(channel.0))?;
        let bytes = lane.charged();
        let rate = self.state.congestion.bandwidth();
        let delay = (rate > 0).then(|| Duration::from_secs_f64(bytes as f64 / rate as f64));
        Some(Backlog { pressure: lane.pressure(), bytes, delay })
    }

    /// Looks at everything here that the next packet to arrive will need: at one word at least of each 64 bytes.
    #[inline]
    pub(crate) fn look_to_receive(&self, look: &mut impl Look) {
        self.look(look);
        self.state.congestion.look_to_receive(look);
    }

    /// The same for the next packet to leave.
    #[inline]
    pub(crate) fn look_to_send(&self, look: &mut impl Look) {
        self.look(look);
        self.state.congestion.look_to_send(look);
    }

    #[inline]
    fn look(&self, look: &mut impl Look) {
        look.at(&self.probe_from);
        self.sent.look(look);
        self.state.look(look);
    }

    /// The same of either for what lies elsewhere, whose place has to be known first.
    #[inline]
    pub(crate) fn look_far(&self, look: &mut impl Look) {
        if let Some(lane) = self.state.lanes.first() {
            lane.look(look);
        }
        self.sent.look_far(look);
    }

    /// Figures, since the link exists.
    pub fn stats(&self) -> LinkStats {
        let (state, path) = (&self.state, self.state.path.figures());
        let mut stats = LinkStats {
            rtt: state.rtt.smoothed().map(Duration::from),
            min_rtt: state.rtt.min().map(Duration::from),
            jitter: state.rtt.deviation().map(Duration::from),
            loss: state.loss.share(),
            packets_sent: state.traffic.packets_sent,
            packets_received: state.traffic.packets_received,
            bytes_sent: state.traffic.bytes_sent,
            bytes_received: state.traffic.bytes_received,
            reliable_queued: state.reliable_charged,
            in_flight: self.sent.bytes_in_flight(),
            congestion_window: state.congestion.window(),
            pacing_rate: state.congestion.bandwidth(),
            packet_size: state.path.size(),
            mtu_probes: path.probes,
            mtu_probes_lost: path.probes_lost,
            mtu_black_holes: path.black_holes,
            reassembly_evicted: state.reassembly.as_ref().map_or(0, |reassembly| reassembly.evicted),
            reassembly_expired: state.reassembly.as_ref().map_or(0, |reassembly| reassembly.expired),
            ..state.counters
        };
        for lane in &state.lanes {
            match &lane.kind {
                LaneKind::Unreliable { queue, .. } => stats.dropped_full += queue.dropped(),
                LaneKind::Ordered { send, .. } | LaneKind::Unordered { send, .. } => {
                    stats.bytes_resent += send.resent();
                }
            }
        }
        stats
    }

    /// What only a simulation looks at: that memory and work stay within their bounds, whatever a packet says.
    fn audit_resources(&self, packet: usize) {
        audit(30, || {
            let (heap, cap) = (self.heap(), self.config.heap_cap(&self.limits));
            (heap > cap).then(|| format!("a link has {heap} B of heap, the cap is {cap}"))
        });
        audit(34, || {
            // Every range of an ack, every packet that it can settle, every frame.
            let (steps, cap) = (take_work(), (super::wire::MAX_ACK_RANGES + super::sent::HISTORY + packet) as u64);
            (steps > cap).then(|| format!("{steps} steps for a packet of {packet} B"))
        });
    }

    /// Bytes of heap that this link has, but for its goodbye and for events that were not polled; at most
    /// [`LinkConfig::heap_cap`] of the limits in force, and what larger ones have let it grow to, until that is used up.
    pub fn heap(&self) -> usize {
        self.sent.heap() + self.state.heap()
    }
}

#[inline]
pub(crate) fn sooner(a: Option<Mono>, b: Option<Mono>) -> Option<Mono> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        _ => a.or(b),
    }
}
