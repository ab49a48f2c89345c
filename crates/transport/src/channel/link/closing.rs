//! Saying goodbye so that the other side hears it, and why.

use std::time::Duration;

use super::super::codec::Writer;
use super::super::frame::{write_close, write_close_ack};
use super::super::sent::Cargo;
use super::super::wire::write_head;
use super::super::{LinkEvent, wire};
use super::Link;
use crate::mutants::mutant;
use crate::{DisconnectReason, Mono};

/// The goodbye is repeated this often until it is acknowledged.
const REPEAT: Duration = Duration::from_millis(50);

/// How often a peer's goodbye is acknowledged; `udp-protocol.md` §8.
const MAX_ACKS: u8 = 10;

/// Where a link stands on its way to the end.
#[derive(Debug, Default)]
pub(super) struct Closing {
    phase: Phase,
    /// Our goodbye, encoded, if we close.
    goodbye: Vec<u8>,
    /// Acknowledgements of the peer's goodbye: those that are still to leave and those that may be asked for yet.
    acks_owed: u8,
    acks_sent: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// What was queued reliably is delivered first.
    Flushing {
        until: Mono,
    },
    /// The goodbye is repeated.
    Saying {
        next: Mono,
        until: Mono,
    },
    Closed,
}

impl Closing {
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(super) fn is_saying(&self) -> bool {
        matches!(self.phase, Phase::Saying { .. })
    }

    /// Whether the peer's goodbye is to be acknowledged.
    pub(super) fn owes_ack(&self) -> bool {
        self.acks_owed > 0
    }

    pub(super) fn due(&self) -> Option<Mono> {
        match self.phase {
            Phase::Open | Phase::Closed => None,
            Phase::Flushing { until } => Some(until),
            Phase::Saying { next, until } => Some(next.min(until)),
        }
    }
}

impl Link {
    /// Ends the connection. Nothing more can be sent. What is queued on reliable channels is delivered first, then the
    /// reason is repeated every 50 ms until the peer has acknowledged it; all that for at most `linger`, after which
    /// [`LinkEvent::Closed`] comes in any case. A second call changes nothing.
    pub fn close(&mut self, now: Mono, reason: &DisconnectReason, linger: Duration) {
        if !self.closing.is_open() {
            return;
        }
        reason.encode(&mut self.closing.goodbye);
        let linger = if mutant(15) { Duration::ZERO } else { linger };
        self.closing.phase = Phase::Flushing { until: now + linger };
        self.advance_closing(now);
    }

    /// Writes one more copy of our goodbye, for after the linger time; `None` if the peer needs none: it has
    /// acknowledged one, or has closed itself.
    pub fn goodbye_packet(&mut self, now: Mono, buf: &mut [u8]) -> Option<usize> {
        if self.closing.goodbye.is_empty() || self.state.goodbye_arrived {
            return None;
        }
        let room = buf.len().min(self.config.packet_size());
        let mut writer = Writer::new(&mut buf[..room]);
        write_head(&mut writer, self.sent.next(), self.sent.acked());
        write_close(&mut writer, &self.closing.goodbye);
        Some(self.depart_alone(now, writer.len()))
    }

    fn depart_alone(&mut self, now: Mono, size: usize) -> usize {
        self.sent.depart(now, size, false, false, Default::default(), &mut self.state);
        self.state.traffic.packets_sent += 1;
        self.state.traffic.bytes_sent += size as u64;
        size
    }

    /// Moves on where nothing stands in the way any more.
    pub(super) fn advance_closing(&mut self, now: Mono) {
        if let Phase::Flushing { until } = self.closing.phase
            && self.state.reliable_charged == 0
        {
            self.closing.phase = Phase::Saying { next: now, until };
        }
        match self.closing.phase {
            Phase::Saying { .. } if self.state.goodbye_arrived => self.end(LinkEvent::Closed),
            Phase::Flushing { until } | Phase::Saying { until, .. } if until <= now => self.end(LinkEvent::Closed),
            _ => {}
        }
    }

    fn end(&mut self, event: LinkEvent) {
        self.closing.phase = Phase::Closed;
        self.state.events.push_back(event);
    }

    /// The peer's goodbye has arrived, for the first time or again.
    pub(super) fn handle_close(&mut self, reason: DisconnectReason) {
        if self.closing.acks_owed + self.closing.acks_sent < MAX_ACKS {
            self.closing.acks_owed += 1;
        }
        match self.closing.phase {
            Phase::Open => self.end(LinkEvent::RemoteClosed(reason)),
            Phase::Flushing { .. } | Phase::Saying { .. } if mutant(2) => self.closing.phase = Phase::Closed,
            // Both sides close: each keeps its own reason, and nobody is left to take the rest.
            Phase::Flushing { .. } | Phase::Saying { .. } => self.end(LinkEvent::Closed),
            Phase::Closed => {}
        }
        self.state.goodbye_arrived = true;
    }

    pub(super) fn handle_close_ack(&mut self, now: Mono) {
        if !self.closing.goodbye.is_empty() {
            self.state.goodbye_arrived = true;
            self.advance_closing(now);
        }
    }

    /// What a closed link still has to say.
    pub(super) fn poll_closed(&mut self, now: Mono, buf: &mut [u8]) -> Option<usize> {
        if self.closing.acks_owed == 0 {
            return None;
        }
        self.closing.acks_owed = 0;
        self.closing.acks_sent += 1;
        let room = buf.len().min(self.config.packet_size());
        let mut writer = Writer::new(&mut buf[..room]);
        write_head(&mut writer, self.sent.next(), self.sent.acked());
        self.state.received.write_ack(now, &mut writer, wire::MIN_ACK);
        write_close_ack(&mut writer);
        Some(self.depart_alone(now, writer.len()))
    }

    /// Writes the goodbye if it is due.
    pub(super) fn write_goodbye(&mut self, now: Mono, writer: &mut Writer<'_>) -> bool {
        let Phase::Saying { next, until } = self.closing.phase else { return false };
        if next > now || writer.room() < 1 + self.closing.goodbye.len() {
            return false;
        }
        self.closing.phase = Phase::Saying { next: now + REPEAT, until };
        write_close(writer, &self.closing.goodbye);
        self.sent.load(Cargo::Close);
        true
    }
}
