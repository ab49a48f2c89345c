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

/// Where a link stands on its way to the end. Of one that is open there is nothing to keep.
#[derive(Debug, Default)]
pub(super) struct Closing(Option<Box<Ending>>);

#[derive(Debug)]
struct Ending {
    phase: Phase,
    /// Our goodbye, encoded, if we close.
    goodbye: Vec<u8>,
    /// Acknowledgements of the peer's goodbye: those that are still to leave and those that may be asked for yet.
    acks_owed: u8,
    acks_sent: u8,
}

impl Ending {
    fn new(phase: Phase, goodbye: Vec<u8>) -> Box<Self> {
        Box::new(Self { phase, goodbye, acks_owed: 0, acks_sent: 0 })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.phase() == Some(Phase::Closed)
    }

    #[inline]
    pub(super) fn is_saying(&self) -> bool {
        matches!(self.phase(), Some(Phase::Saying { .. }))
    }

    /// Whether the peer's goodbye is to be acknowledged.
    pub(super) fn owes_ack(&self) -> bool {
        self.0.as_ref().is_some_and(|ending| ending.acks_owed > 0)
    }

    #[inline]
    pub(super) fn due(&self) -> Option<Mono> {
        match self.phase()? {
            Phase::Closed => None,
            Phase::Flushing { until } => Some(until),
            Phase::Saying { next, until } => Some(next.min(until)),
        }
    }

    #[inline]
    fn phase(&self) -> Option<Phase> {
        self.0.as_ref().map(|ending| ending.phase)
    }

    /// Our goodbye, encoded; `None` if we do not close.
    fn goodbye(&self) -> Option<&[u8]> {
        self.0.as_ref().map(|ending| &ending.goodbye[..]).filter(|goodbye| !goodbye.is_empty())
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
        let mut goodbye = Vec::new();
        reason.encode(&mut goodbye);
        let linger = if mutant(15) { Duration::ZERO } else { linger };
        let phase = Phase::Flushing { until: now + linger };
        self.closing = Closing(Some(Ending::new(phase, goodbye)));
        self.advance_closing(now);
    }

    /// Writes one more copy of our goodbye, for after the linger time; `None` if the peer needs none: it has
    /// acknowledged one, or has closed itself.
    pub fn goodbye_packet(&mut self, now: Mono, buf: &mut [u8]) -> Option<usize> {
        let goodbye = self.closing.goodbye().filter(|_| !self.state.goodbye_arrived)?;
        let room = buf.len().min(self.config.packet_size());
        let mut writer = Writer::new(&mut buf[..room]);
        write_head(&mut writer, self.sent.next(), self.sent.acked());
        write_close(&mut writer, goodbye);
        Some(self.depart_alone(now, writer.len()))
    }

    fn depart_alone(&mut self, now: Mono, size: usize) -> usize {
        self.sent.depart(now, size, false, false, Default::default(), &mut self.state);
        self.state.traffic.packets_sent += 1;
        self.state.traffic.bytes_sent += size as u64;
        size
    }

    /// Moves on where nothing stands in the way any more.
    #[inline]
    pub(super) fn advance_closing(&mut self, now: Mono) {
        let Closing(Some(ending)) = &mut self.closing else { return };
        if let Phase::Flushing { until } = ending.phase
            && self.state.reliable_charged == 0
        {
            ending.phase = Phase::Saying { next: now, until };
        }
        let over = match ending.phase {
            Phase::Saying { .. } if self.state.goodbye_arrived => true,
            Phase::Flushing { until } | Phase::Saying { until, .. } => until <= now,
            Phase::Closed => false,
        };
        if over {
            ending.phase = Phase::Closed;
            self.state.events.push_back(LinkEvent::Closed);
        }
    }

    /// The peer's goodbye has arrived, for the first time or again.
    pub(super) fn handle_close(&mut self, reason: DisconnectReason) {
        let open = self.closing.is_open();
        let ending = self.closing.0.get_or_insert_with(|| Ending::new(Phase::Closed, Vec::new()));
        if ending.acks_owed + ending.acks_sent < MAX_ACKS {
            ending.acks_owed += 1;
        }
        match ending.phase {
            _ if open => self.state.events.push_back(LinkEvent::RemoteClosed(reason)),
            Phase::Flushing { .. } | Phase::Saying { .. } if mutant(2) => {}
            // Both sides close: each keeps its own reason, and nobody is left to take the rest.
            Phase::Flushing { .. } | Phase::Saying { .. } => self.state.events.push_back(LinkEvent::Closed),
            Phase::Closed => {}
        }
        ending.phase = Phase::Closed;
        self.state.goodbye_arrived = true;
    }

    pub(super) fn handle_close_ack(&mut self, now: Mono) {
        if self.closing.goodbye().is_some() {
            self.state.goodbye_arrived = true;
            self.advance_closing(now);
        }
    }

    /// What a closed link still has to say.
    pub(super) fn poll_closed(&mut self, now: Mono, buf: &mut [u8]) -> Option<usize> {
        let ending = self.closing.0.as_mut().filter(|ending| ending.acks_owed > 0)?;
        ending.acks_owed = 0;
        ending.acks_sent += 1;
        let room = buf.len().min(self.config.packet_size());
        let mut writer = Writer::new(&mut buf[..room]);
        write_head(&mut writer, self.sent.next(), self.sent.acked());
        self.state.received.write_ack(now, &mut writer, wire::MIN_ACK);
        write_close_ack(&mut writer);
        Some(self.depart_alone(now, writer.len()))
    }

    /// Writes the goodbye if it is due.
    #[inline]
    pub(super) fn write_goodbye(&mut self, now: Mono, writer: &mut Writer<'_>) -> bool {
        let Closing(Some(ending)) = &mut self.closing else { return false };
        let Phase::Saying { next, until } = ending.phase else { return false };
        if next > now || writer.room() < 1 + ending.goodbye.len() {
            return false;
        }
        ending.phase = Phase::Saying { next: now + REPEAT, until };
        write_close(writer, &ending.goodbye);
        self.sent.load(Cargo::Close);
        true
    }
}
