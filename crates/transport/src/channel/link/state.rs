//! Everything of a link but the packets under way: what hears of their fate.

use super::super::congestion::Congestion;
use super::super::lane::{Lane, LaneKind};
use super::super::number::expand;
use super::super::pacer::Pacer;
use super::super::path::PathMtu;
use super::super::rare_queue::RareQueue;
use super::super::reassembly::Reassembly;
use super::super::received::Received;
use super::super::rtt::Rtt;
use super::super::sent::{Cargo, Fates, Settled};
use super::super::{ChannelId, LinkConfig, LinkEvent, LinkStats, Receipt};
use super::mask::Mask;
use crate::look::Look;
use crate::{Limits, Mono, Random, SeededRandom};

/// One number in this many to this many more is left out; `security.md` T-D5.
const SKIP_LEAST: u32 = 64;
const SKIP_MOST: u32 = 512;

/// The least rate at which fragments of unreliable messages leave, in bytes per second: 256 KiB in half of the time that
/// the receiver waits for the rest of a message.
const SMOOTH_RATE: u64 = 1 << 20;

/// How many of their packets may leave at once: half of a small router's queue.
pub(super) const SMOOTH_BURST: u32 = 32;

/// In this order in memory: what every packet touches lies side by side, the rest behind it. A server has more
/// connections than fit in the processor's caches.
#[derive(Debug)]
#[repr(C)]
pub(super) struct State {
    pub(super) lanes: Box<[Lane]>,
    /// Which lanes have something that could leave.
    busy: Mask,
    count: Count,
    /// What the lane that was served last has had: where lanes that get work again join in.
    clock: u64,
    /// Charged bytes of all reliable channels.
    pub(super) reliable_charged: usize,
    /// The time of the call that is being processed.
    pub(super) now: Mono,
    /// When the newest packet of the ack that is being processed arrived at the peer, but for the way back.
    pub(super) acked_at: Mono,
    pub(super) traffic: Traffic,
    pub(super) loss: Loss,
    pub(super) rtt: Rtt,
    pub(super) path: PathMtu,
    pub(super) pacer: Pacer,
    pub(super) events: RareQueue<LinkEvent>,
    /// Keeps the bandwidth that the application allows, if it sets a limit.
    pub(super) cap: Option<Box<Pacer>>,
    /// There once a fragment has arrived.
    pub(super) reassembly: Option<Box<Reassembly>>,
    pub(super) congestion: Congestion,
    pub(super) received: Received,
    /// Spreads the fragments of large unreliable messages.
    pub(super) smoother: Pacer,
    pub(super) counters: LinkStats,
    /// The number of the next receipt.
    pub(super) next_receipt: u64,
    /// When reliable data arrived last, or began to wait.
    pub(super) progress_at: Mono,
    /// Whether the peer has taken in a packet with our goodbye.
    pub(super) goodbye_arrived: bool,
    /// Only chooses which numbers are left out.
    random: SeededRandom,
}

/// How many lanes are in `busy`, by kind.
#[derive(Debug, Default)]
struct Count {
    unreliable: i16,
    /// Of those, how many have messages that may need several packets.
    fragmented: i16,
    reliable: i16,
    /// How many lanes, busy or not, want to tell the peer how much it may send.
    windows: i16,
}

/// The counters that every packet touches.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) packets_sent: u64,
    pub(super) bytes_sent: u64,
    pub(super) packets_received: u64,
    pub(super) bytes_received: u64,
}

impl State {
    pub(super) fn new(config: &LinkConfig, limits: &Limits, now: Mono, seed: u64) -> Self {
        let lane = |(id, channel)| Lane::new(config, limits, id, channel);
        Self {
            lanes: config.channels.iter().map(lane).collect(),
            busy: Mask::default(),
            count: Count::default(),
            clock: 0,
            received: Received::new(config.first_packet_number),
            rtt: Rtt::new(),
            congestion: Congestion::new(now, config.packet_size()),
            pacer: Pacer::new(now),
            smoother: Pacer::filled(now, SMOOTH_BURST * config.packet_size() as u32),
            cap: limits.bandwidth.map(|_| Box::new(Pacer::new(now))),
            path: PathMtu::new(config.packet_size(), config.max_mtu),
            reassembly: None,
            events: RareQueue::new(),
            loss: Loss::default(),
            traffic: Traffic::default(),
            counters: LinkStats::default(),
            next_receipt: 1,
            reliable_charged: 0,
            progress_at: now,
            goodbye_arrived: false,
            now,
            acked_at: now,
            random: SeededRandom::new(seed),
        }
    }

    /// See [`Link::look_to_send`](super::Link::look_to_send).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        self.busy.look(look);
        look.at(&self.clock);
        look.at(&self.traffic.packets_received);
        self.rtt.look(look);
        self.pacer.look(look);
        look.at(&self.reassembly);
        self.received.look(look);
    }

    /// How many numbers to use before the next one is left out.
    pub(super) fn draw_skip(&mut self) -> u32 {
        SKIP_LEAST + self.random.below(u64::from(SKIP_MOST - SKIP_LEAST)) as u32
    }

    /// Notes whether a lane has work, after anything that may have changed it.
    pub(super) fn refresh(&mut self, channel: ChannelId) {
        let Some(lane) = self.lanes.get_mut(usize::from(channel.0)) else { return };
        let busy = lane.has_work();
        if busy != self.busy.has(channel) {
            if busy {
                lane.join(self.clock);
            }
            self.busy.put(channel, busy);
            let Count { unreliable, fragmented, reliable, .. } = &mut self.count;
            let step = if busy { 1 } else { -1 };
            let count = if lane.is_reliable() { reliable } else { unreliable };
            *count += step;
            *fragmented += if lane.is_fragmented() { step } else { 0 };
        }
        self.count.windows += lane.note_window();
    }

    /// Whether the lane has something that could leave.
    pub(super) fn is_busy(&self, channel: ChannelId) -> bool {
        self.busy.has(channel)
    }

    pub(super) fn has_work(&self) -> bool {
        let Count { unreliable, reliable, windows, .. } = self.count;
        unreliable | reliable | windows != 0
    }

    /// Whether a reliable lane has something that could leave.
    pub(super) fn reliable_waits(&self) -> bool {
        self.count.reliable > 0
    }

    /// The lane that is to be served next: of the highest priority, and of those the one that has had least.
    pub(super) fn pick(&self, reliable: bool, but: &Mask) -> Option<usize> {
        let mut best: Option<&Lane> = None;
        self.busy.without(but).each(|channel| {
            let lane = &self.lanes[usize::from(channel.0)];
            if lane.is_reliable() && !reliable {
                return;
            }
            let better = |best: &Lane| (lane.priority, best.served()) > (best.priority, lane.served());
            if best.is_none_or(better) {
                best = Some(lane);
            }
        });
        best.map(|lane| usize::from(lane.id.0))
    }

    /// Notes that bytes of a lane have left.
    pub(super) fn serve(&mut self, index: usize, bytes: usize) {
        if let Some(lane) = self.lanes.get_mut(index) {
            self.clock = lane.served();
            lane.serve(bytes);
            let id = lane.id;
            self.refresh(id);
        }
    }

    /// Whether an unreliable lane has something that could leave.
    pub(super) fn unreliable_waits(&self) -> bool {
        self.count.unreliable > 0
    }

    /// The same of a lane whose messages may leave in fragments.
    pub(super) fn fragments_wait(&self) -> bool {
        self.count.fragmented > 0
    }

    /// At how many bytes per second the fragments of unreliable messages leave: a tenth more than the path was seen to
    /// bear, so that it may turn out to bear more, and at least what brings the largest message across in time.
    pub(super) fn smooth_rate(&self) -> u64 {
        (self.congestion.bandwidth() / 10 * 11).max(SMOOTH_RATE)
    }

    /// At how many bytes per second reliable data may leave; `None` before anything is known.
    pub(super) fn rate(&self) -> Option<u64> {
        self.congestion.rate(&self.rtt, self.pacer.tick().is_some())
    }

    /// The next lane with a window to tell.
    pub(super) fn next_window(&self) -> Option<ChannelId> {
        // There rarely is one, and the lanes lie elsewhere.
        if self.count.windows == 0 {
            return None;
        }
        self.lanes.iter().find(|lane| lane.tells_window()).map(|lane| lane.id)
    }

    /// Whether nothing may leave but what keeps the connection alive.
    pub(super) fn is_capped(&self) -> bool {
        self.cap.as_ref().is_some_and(|cap| !cap.is_open())
    }

    pub(super) fn set_limits(&mut self, limits: &Limits) {
        match limits.bandwidth {
            Some(_) => _ = self.cap.get_or_insert_with(|| Box::new(Pacer::new(self.now))),
            None => self.cap = None,
        }
        if let Some(reassembly) = &mut self.reassembly {
            reassembly.set_limits(limits);
        }
        for index in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(index) else { return };
            lane.set_limits(limits);
            let id = lane.id;
            self.refresh(id);
        }
    }

    pub(super) fn trim(&mut self) {
        for lane in &mut self.lanes {
            lane.trim();
        }
        if let Some(reassembly) = &mut self.reassembly {
            reassembly.trim();
        }
        self.events.trim();
    }

    pub(super) fn heap(&self) -> usize {
        size_of_val(&*self.lanes)
            + self.lanes.iter().map(Lane::heap).sum::<usize>()
            + self.reassembly.as_ref().map_or(0, |reassembly| size_of_val(&**reassembly) + reassembly.heap())
            + self.cap.as_ref().map_or(0, |cap| size_of_val(&**cap))
            + self.path.heap()
            + self.congestion.heap()
    }
}

impl Fates for State {
    fn acked(&mut self, packet: &Settled, was_lost: bool) {
        self.congestion.on_acked(self.acked_at, packet);
        if packet.sizing {
            self.path.on_probe_acked(self.now, packet.size);
            return;
        }
        self.path.on_acked(packet.size);
        if was_lost {
            self.counters.packets_lost -= 1;
            self.loss.take_back();
        } else {
            self.loss.note(false);
        }
    }

    fn lost(&mut self, packet: &Settled) {
        if packet.sizing {
            self.path.on_probe_lost(self.now);
            return;
        }
        self.counters.packets_lost += 1;
        self.loss.note(true);
    }

    fn delivered(&mut self, cargo: Cargo) {
        match cargo {
            Cargo::Reliable { channel, length, offset } => {
                let lane = self.lanes.get_mut(usize::from(channel.0));
                if let Some(send) = lane.and_then(Lane::send_buffer) {
                    let before = send.charged();
                    send.on_arrived(offset, length, |receipt| {
                        let receipt = expand(u64::from(receipt.get()), 32, self.next_receipt);
                        self.events.push_back(LinkEvent::Delivered(Receipt(receipt)));
                    });
                    self.reliable_charged -= before - send.charged();
                    self.progress_at = self.now;
                    self.refresh(channel);
                }
            }
            Cargo::Report { largest } => self.received.on_report_arrived(largest),
            Cargo::Close => self.goodbye_arrived = true,
            Cargo::Window { .. } => {}
        }
    }

    fn resend(&mut self, cargo: Cargo) {
        match cargo {
            Cargo::Reliable { channel, length, offset } => {
                let lane = self.lanes.get_mut(usize::from(channel.0));
                if let Some(send) = lane.and_then(Lane::send_buffer) {
                    send.on_lost(offset, length);
                    self.refresh(channel);
                }
            }
            Cargo::Window { channel } => {
                let lane = self.lanes.get_mut(usize::from(channel.0));
                if let Some(LaneKind::Ordered { receive, .. }) = lane.map(|lane| &mut lane.kind) {
                    receive.on_window_lost();
                    self.refresh(channel);
                }
            }
            // Reports are made anew, and the goodbye is repeated by the clock.
            Cargo::Report { .. } | Cargo::Close => {}
        }
    }
}

/// The share of packets that were lost lately: a mean over about the last [`Loss::MEMORY`] packets.
#[derive(Debug, Default)]
pub(super) struct Loss {
    share: f32,
    settled: u32,
}

impl Loss {
    const MEMORY: u32 = 128;

    fn note(&mut self, lost: bool) {
        self.settled = (self.settled + 1).min(Self::MEMORY);
        let sample = if lost { 1.0 } else { 0.0 };
        self.share += (sample - self.share) / self.settled as f32;
    }

    /// A packet that was noted as lost has arrived after all.
    fn take_back(&mut self) {
        self.share = (self.share - 1.0 / self.settled.max(1) as f32).max(0.0);
    }

    pub(super) fn share(&self) -> f32 {
        self.share
    }
}
