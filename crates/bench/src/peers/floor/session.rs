//! One connection of the floor: a header of 16 bytes, one seal per packet, one reliable stream, nothing else.
//!
//! ```text
//! packet = seq u32, ack u32, ack bits u32, next u32, sealed frames, tag
//! frame  = 0, length u16, bytes                              a message
//!        | 1, chunk u32, length u16, bytes                   a piece of the stream: messages behind u32 lengths
//!        | 2, id u16, index u8, count u8, length u16, bytes  a fragment of a message
//! ```
//!
//! `next` is the first chunk of the stream that has not arrived: chunks are acknowledged together and repeated together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

pub(super) const HEADER: usize = 16;
const TAG: usize = 16;
/// Bytes of payload of a full packet.
const CHUNK: usize = 1160;
/// Chunks under way.
const WINDOW: usize = 256;
const RESEND: Duration = Duration::from_millis(100);

pub(super) struct Session {
    key: LessSafeKey,
    /// 0 at the client, 1 at the server: the first byte of our nonces.
    side: u8,
    seq: u32,
    ack: u32,
    ack_bits: u32,
    /// Chunks of the peer that have arrived, and whether it should be told.
    next: u32,
    owes_ack: bool,
    pub(super) sent_at: Instant,
    /// What the peer may still ask for: `stream[start..]`.
    stream: Vec<u8>,
    start: usize,
    /// The lengths of the chunks under way, the number of the first of them, which is to leave next and where it lies.
    flight: VecDeque<u16>,
    acked: u32,
    cursor: usize,
    cursor_at: usize,
    progress: Instant,
    /// What arrived of the peer's stream and is no whole message yet.
    incoming: Vec<u8>,
    fragments: Fragments,
    fragment_id: u16,
}

/// The one fragmented message that is arriving.
#[derive(Default)]
struct Fragments {
    id: u16,
    arrived: u64,
    bytes: Vec<u8>,
}

impl Session {
    pub(super) fn new(key: &[u8; 16], side: u8, now: Instant) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, key).expect("16 bytes");
        Self {
            key: LessSafeKey::new(key),
            side,
            seq: 0,
            ack: 0,
            ack_bits: 0,
            next: 0,
            owes_ack: false,
            sent_at: now,
            stream: Vec::new(),
            start: 0,
            flight: VecDeque::new(),
            acked: 0,
            cursor: 0,
            cursor_at: 0,
            progress: now,
            incoming: Vec::new(),
            fragments: Fragments::default(),
            fragment_id: 0,
        }
    }

    fn nonce(side: u8, seq: u32) -> Nonce {
        let mut nonce = [0; 12];
        nonce[0] = side;
        nonce[8..].copy_from_slice(&seq.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals `packet[HEADER..HEADER + body]` where it lies and returns the length of the datagram.
    fn seal(&mut self, now: Instant, packet: &mut [u8], body: usize) -> usize {
        self.seq += 1;
        let (header, rest) = packet.split_at_mut(HEADER);
        for (place, value) in header.chunks_exact_mut(4).zip([self.seq, self.ack, self.ack_bits, self.next]) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        let nonce = Self::nonce(self.side, self.seq);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), &mut rest[..body]).expect("short");
        rest[body..body + TAG].copy_from_slice(tag.as_ref());
        self.owes_ack = false;
        self.sent_at = now;
        HEADER + body + TAG
    }

    /// A packet without frames.
    pub(super) fn write_empty(&mut self, now: Instant, packet: &mut [u8]) -> usize {
        self.seal(now, packet, 0)
    }

    /// A packet with one message.
    pub(super) fn write_message(&mut self, now: Instant, packet: &mut [u8], message: &[u8]) -> usize {
        let body = &mut packet[HEADER..];
        body[0] = 0;
        body[1..3].copy_from_slice(&(message.len() as u16).to_le_bytes());
        body[3..3 + message.len()].copy_from_slice(message);
        self.seal(now, packet, 3 + message.len())
    }

    /// One packet for each fragment of a message; `write` lends the room and takes the length.
    pub(super) fn write_fragments(&mut self, message: &[u8], mut packet: impl FnMut(&mut Self, &[&[u8]])) {
        self.fragment_id = self.fragment_id.wrapping_add(1);
        let id = self.fragment_id.to_le_bytes();
        let count = message.len().div_ceil(CHUNK) as u8;
        for (index, piece) in message.chunks(CHUNK).enumerate() {
            let [low, high] = (piece.len() as u16).to_le_bytes();
            packet(self, &[&[2, id[0], id[1], index as u8, count, low, high], piece]);
        }
    }

    /// A packet of these bytes.
    pub(super) fn write_parts(&mut self, now: Instant, packet: &mut [u8], parts: &[&[u8]]) -> usize {
        let mut body = 0;
        for part in parts {
            packet[HEADER + body..HEADER + body + part.len()].copy_from_slice(part);
            body += part.len();
        }
        self.seal(now, packet, body)
    }

    /// Queues a reliable message.
    pub(super) fn queue(&mut self, now: Instant, message: &[u8]) {
        if self.stream.is_empty() {
            self.progress = now;
        }
        self.stream.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.stream.extend_from_slice(message);
    }

    pub(super) fn has_work(&self) -> bool {
        self.owes_ack || !self.stream.is_empty()
    }

    /// The next packet of the stream, or an acknowledgement that is due.
    pub(super) fn poll(&mut self, now: Instant, packet: &mut [u8]) -> Option<usize> {
        if !self.flight.is_empty() && now - self.progress > RESEND {
            (self.cursor, self.cursor_at, self.progress) = (0, self.start, now);
        }
        if self.cursor == self.flight.len() && self.cursor < WINDOW && self.cursor_at < self.stream.len() {
            self.flight.push_back((self.stream.len() - self.cursor_at).min(CHUNK) as u16);
        }
        if let Some(&length) = self.flight.get(self.cursor) {
            let chunk = self.acked + self.cursor as u32;
            let body = &mut packet[HEADER..];
            body[0] = 1;
            body[1..5].copy_from_slice(&chunk.to_le_bytes());
            body[5..7].copy_from_slice(&length.to_le_bytes());
            let length = usize::from(length);
            body[7..7 + length].copy_from_slice(&self.stream[self.cursor_at..self.cursor_at + length]);
            self.cursor += 1;
            self.cursor_at += length;
            return Some(self.seal(now, packet, 7 + length));
        }
        self.owes_ack.then(|| self.seal(now, packet, 0))
    }

    /// Opens a packet and hands out its messages; false if it is not one of the peer's.
    pub(super) fn handle(&mut self, now: Instant, packet: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> bool {
        if packet.len() < HEADER + TAG {
            return false;
        }
        let (header, body) = packet.split_at_mut(HEADER);
        let [seq, _, _, next] = [0, 4, 8, 12].map(|at| u32::from_le_bytes(header[at..at + 4].try_into().expect("4")));
        let nonce = Self::nonce(1 - self.side, seq);
        let Ok(body) = self.key.open_in_place(nonce, Aad::from(&*header), body) else { return false };
        let ahead = seq.wrapping_sub(self.ack) as i32;
        if ahead > 0 {
            self.ack_bits = if ahead < 32 { self.ack_bits << ahead | 1 << (ahead - 1) } else { 0 };
            self.ack = seq;
        } else if ahead < 0 && ahead > -32 {
            self.ack_bits |= 1 << (-ahead - 1);
        }
        for _ in 0..next.wrapping_sub(self.acked).min(self.flight.len() as u32) {
            self.start += usize::from(self.flight.pop_front().expect("counted"));
            self.acked += 1;
            self.cursor = self.cursor.saturating_sub(1);
            self.cursor_at = self.cursor_at.max(self.start);
            self.progress = now;
        }
        if self.start == self.stream.len() {
            self.stream.clear();
            (self.start, self.cursor_at) = (0, 0);
        }
        let mut rest = &*body;
        while let Some((&kind, after)) = rest.split_first() {
            let head = [2, 6, 6][usize::from(kind)];
            let length = usize::from(u16::from_le_bytes([after[head - 2], after[head - 1]]));
            let (fields, bytes) = (&after[..head], &after[head..head + length]);
            rest = &after[head + length..];
            match kind {
                0 => sink(bytes),
                1 => self.handle_chunk(u32::from_le_bytes(fields[..4].try_into().expect("4")), bytes, sink),
                _ => self.handle_fragment(fields, bytes, sink),
            }
        }
        true
    }

    fn handle_chunk(&mut self, chunk: u32, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        self.owes_ack = true;
        if chunk != self.next {
            return;
        }
        self.next += 1;
        self.incoming.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = self.incoming[at..].first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some(message) = self.incoming[at + 4..].get(..length) else { break };
            sink(message);
            at += 4 + length;
        }
        self.incoming.drain(..at);
    }

    fn handle_fragment(&mut self, fields: &[u8], bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        let (id, index, count) = (u16::from_le_bytes([fields[0], fields[1]]), fields[2], fields[3]);
        let kept = &mut self.fragments;
        if kept.id != id {
            (kept.id, kept.arrived) = (id, 0);
            kept.bytes.resize(usize::from(count) * CHUNK, 0);
        }
        kept.arrived |= 1 << index;
        kept.bytes[usize::from(index) * CHUNK..][..bytes.len()].copy_from_slice(bytes);
        if index == count - 1 {
            kept.bytes.truncate(usize::from(index) * CHUNK + bytes.len());
        }
        if kept.arrived == (1 << count) - 1 {
            sink(&kept.bytes);
            kept.arrived = 0;
        }
    }
}
