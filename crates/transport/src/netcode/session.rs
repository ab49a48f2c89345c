//! The two directions of one connection: keys, sequence numbers, replay window, liveness.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::ops::Range;

use super::SessionCipher;
use super::counters::Counter;
use super::packet::{self, CHALLENGE_BODY, Header, KEEP_ALIVE_BODY, PacketType};
use super::replay::ReplayWindow;
use crate::crypto::{Aead, Cipher, Key};
use crate::look::Look;
use crate::mutants;
use crate::{DisconnectCode, DisconnectReason, Mono, Random};
use zeroize::Zeroizing;

/// Forgeries after which a key is no longer trusted (RFC 9001, section 6.6).
const FORGERY_LIMIT: u64 = 1 << 36;

/// Where the numbers of a direction start if its key may be used again elsewhere: a token can be shown in a second attempt,
/// by another process, or to another server with another clock, and none of them knows what the others have sent (H3, P6).
/// Below 2^48, six bytes on the wire: two attempts of `n` packets each meet with a probability of `n` / 2^47.
pub(crate) fn first_number(random: &mut dyn Random) -> u64 {
    if mutants::mutant(18) { 0 } else { random.u64() >> 16 }
}

/// Separates the keys of sessions from all other uses of BLAKE3.
const CONTEXT: &str = "netstream session keys v1";

/// After so many packets under AES-128-GCM no more are sealed: 2^36 blocks of 16 bytes, up to which nobody tells the cipher
/// from a perfect one with more luck than 2^-57. At 1000 packets a second that is 12 days.
pub(super) const AES_PACKETS: u64 = if cfg!(test) { 1 << 16 } else { 1 << 30 };

/// Where so many of them are left the connection is to end, so that its last words are sealed, too. A server looks twice a
/// second, whatever is sent meanwhile.
const AES_LAST_PACKETS: u64 = AES_PACKETS / 32;

/// The ciphers of types 4, 5 and 6, as (client to server, server to client). `challenge` is what the client has answered: its
/// number and the sealed token. A server makes no two alike, so that keys which are made with it are of this connection
/// alone, wherever else the token is shown.
pub(crate) fn ciphers(
    cipher: SessionCipher,
    client_to_server: &Key,
    server_to_client: &Key,
    challenge: &[u8; CHALLENGE_BODY],
) -> (Cipher, Cipher) {
    match cipher {
        SessionCipher::ChaCha20Poly1305 => (Cipher::new(client_to_server), Cipher::new(server_to_client)),
        SessionCipher::Aes128Gcm => {
            let mut keys = Zeroizing::new([[0; 32]; 2]);
            let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
            hasher.update(client_to_server.as_bytes()).update(server_to_client.as_bytes()).update(challenge);
            hasher.finalize_xof().fill(keys.as_flattened_mut());
            let [up, down] = keys.map(Key::from_bytes);
            (Cipher::aes(&up), Cipher::aes(&down))
        }
    }
}

/// What both ends of a connection do with packets of types 4, 5 and 6. In this order in memory: what every packet touches
/// comes first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Session {
    pub(crate) protocol_id: u64,
    /// The number of the next packet that we send, and the one that is not reached.
    next: u64,
    end: u64,
    pub(crate) last_sent: Mono,
    /// When the last authentic packet arrived (H12).
    pub(crate) last_received: Mono,
    replay: ReplayWindow,
    seal: Cipher,
    open: Cipher,
    forgeries: u64,
    /// From this number on the connection is to end.
    used_up: u64,
}

impl Session {
    /// A session under the keys in a token.
    pub(crate) fn new(protocol_id: u64, seal: &Key, open: &Key, first: u64, now: Mono) -> Self {
        Self::with(protocol_id, (Cipher::new(seal), Cipher::new(open)), first, now)
    }

    /// A session of `cipher` with the ciphers of [`ciphers`], to seal and to open.
    pub(crate) fn of(
        cipher: SessionCipher,
        protocol_id: u64,
        seal_and_open: (Cipher, Cipher),
        first: u64,
        now: Mono,
    ) -> Self {
        let mut session = Self::with(protocol_id, seal_and_open, first, now);
        if cipher == SessionCipher::Aes128Gcm {
            session.end = session.end.min(session.next.saturating_add(AES_PACKETS));
            session.used_up = session.next.saturating_add(AES_PACKETS - AES_LAST_PACKETS);
        }
        session
    }

    fn with(protocol_id: u64, (seal, open): (Cipher, Cipher), first: u64, now: Mono) -> Self {
        Self {
            protocol_id,
            seal,
            open,
            end: mutants::number_limit(),
            used_up: u64::MAX,
            next: mutants::first_number(first),
            replay: ReplayWindow::default(),
            last_sent: now,
            last_received: now,
            forgeries: 0,
        }
    }

    /// Steps 6 to 10 of the reading order; a payload may have up to `max_body` bytes. After an error nothing has changed, but
    /// the number of forgeries.
    #[inline]
    pub(crate) fn open<'d>(
        &mut self,
        now: Mono,
        header: Header,
        datagram: &'d mut [u8],
        max_body: usize,
    ) -> Result<&'d mut [u8], Counter> {
        if !self.replay.accepts(header.sequence) {
            return Err(Counter::PacketReplay);
        }
        let Some(body) = header.open(&self.open, self.protocol_id, datagram) else {
            self.forgeries += 1;
            return Err(Counter::PacketOpenFailed);
        };
        self.replay.advance(header.sequence);
        let fits = match header.kind {
            PacketType::KeepAlive => body.len() == KEEP_ALIVE_BODY,
            PacketType::Payload => (1..=max_body).contains(&body.len()),
            _ => body.is_empty(),
        };
        if !fits {
            return Err(Counter::PacketBodySize);
        }
        self.last_received = now;
        mutants::note_opened(&self.open, header.sequence);
        Ok(body)
    }

    /// Opens a packet that has no part in the replay window: challenge or denied.
    pub(crate) fn open_unwindowed<'d>(&self, header: Header, datagram: &'d mut [u8]) -> Option<&'d mut [u8]> {
        header.open(&self.open, self.protocol_id, datagram)
    }

    /// Seals as [`packet::seal`] does, under the next number. `None` if there is no next number.
    #[inline]
    pub(crate) fn seal(&mut self, now: Mono, kind: PacketType, buf: &mut [u8], body: usize) -> Option<Range<usize>> {
        let sequence = self.take_number()?;
        self.last_sent = now;
        Some(packet::seal(&self.seal, self.protocol_id, kind, sequence, buf, body))
    }

    /// Seals as [`packet::seal_small`] does.
    pub(crate) fn seal_small(&mut self, now: Mono, kind: PacketType, buf: &mut [u8], body: &[u8]) -> Option<usize> {
        let sequence = self.take_number()?;
        self.last_sent = now;
        Some(packet::seal_small(&self.seal, self.protocol_id, kind, sequence, buf, body))
    }

    /// Forgets what has arrived: another server is going to send, whose numbers have nothing to do with the last one's.
    /// Ours go on (H11).
    pub(crate) fn expect_another_peer(&mut self) {
        self.replay = ReplayWindow::default();
        mutants::note_another_peer(&mut self.open);
    }

    /// Whether so many forgeries have been tried on the key that it must not be used further.
    pub(crate) fn is_worn_out(&self) -> bool {
        self.forgeries >= FORGERY_LIMIT
    }

    /// Why the connection has to end, if its key has sealed almost all that it may.
    pub(crate) fn used_up(&self) -> Option<DisconnectReason> {
        let text = "the keys of this connection are used up; connect again";
        (self.next >= self.used_up).then(|| DisconnectReason::link(DisconnectCode::LinkError).with_text(text))
    }

    /// Looks at what opening the next packet needs.
    #[inline]
    pub(crate) fn look_to_open(&self, look: &mut impl Look) {
        look.at(&self.last_received);
        self.replay.look(look);
        self.open.look(look);
    }

    /// The same for sealing.
    #[inline]
    pub(crate) fn look_to_seal(&self, look: &mut impl Look) {
        look.at(&self.next);
        look.at(&self.end);
        self.seal.look(look);
    }

    /// The number of the next packet.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// No number is used twice, and the server's numbers stay below those of its challenges.
    fn take_number(&mut self) -> Option<u64> {
        let number = self.next;
        self.next = number.checked_add(1).filter(|&next| next < self.end)?;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netcode::{MAX_BODY_IN, MAX_DATAGRAM_IN};

    fn pair(first: u64) -> (Session, Session) {
        let [a, b] = [Key::from_bytes([1; 32]), Key::from_bytes([2; 32])];
        (Session::new(1, &a, &b, first, Mono::ZERO), Session::new(1, &b, &a, 0, Mono::ZERO))
    }

    fn at(nanos: u64) -> Mono {
        Mono::from_nanos(nanos)
    }

    fn open(session: &mut Session, now: Mono, datagram: &mut [u8]) -> Result<usize, Counter> {
        let header = Header::parse(datagram, MAX_BODY_IN).unwrap();
        session.open(now, header, datagram, MAX_BODY_IN).map(|body| body.len())
    }

    #[test]
    fn a_packet_opens_once() {
        let (mut left, mut right) = pair(0);
        let mut buf = [0; 64];
        let length = left.seal_small(at(1), PacketType::Payload, &mut buf, b"hello").unwrap();
        assert_eq!(open(&mut right, at(2), &mut { buf }[..length]), Ok(5));
        assert_eq!(open(&mut right, at(3), &mut buf[..length]), Err(Counter::PacketReplay));
        assert_eq!(right.last_received, at(2));
    }

    #[test]
    fn a_forgery_moves_neither_window_nor_liveness() {
        let (mut left, mut right) = pair(0);
        let mut forged = [0; 64];
        let length = left.seal_small(at(1), PacketType::Payload, &mut forged, b"hello").unwrap();
        // The number of the forgery is far ahead.
        let mut genuine = forged;
        forged[1] = 0xff;
        assert_eq!(open(&mut right, at(9), &mut forged[..length]), Err(Counter::PacketOpenFailed));
        assert_eq!(right.last_received, at(0));
        assert_eq!(open(&mut right, at(9), &mut genuine[..length]), Ok(5));
    }

    #[test]
    fn bodies_have_the_size_of_their_type() {
        let (mut left, mut right) = pair(0);
        for (kind, size, fits) in [
            (PacketType::KeepAlive, 8, true),
            (PacketType::KeepAlive, 7, false),
            (PacketType::Payload, 0, false),
            (PacketType::Payload, 1, true),
            (PacketType::Payload, 1200, true),
            (PacketType::Disconnect, 0, true),
            (PacketType::Disconnect, 1, false),
        ] {
            let mut buf = [0; MAX_DATAGRAM_IN];
            let length = left.seal_small(at(1), kind, &mut buf, &vec![0; size]).unwrap();
            let expected = if fits { Ok(size) } else { Err(Counter::PacketBodySize) };
            assert_eq!(open(&mut right, at(1), &mut buf[..length]), expected, "{kind:?} of {size}");
        }
    }

    #[test]
    fn numbers_end_before_they_repeat() {
        let (mut left, _) = pair((1 << 63) - 2);
        let mut buf = [0; 64];
        assert!(left.seal_small(at(1), PacketType::KeepAlive, &mut buf, &[0; 8]).is_some());
        assert!(left.seal_small(at(1), PacketType::KeepAlive, &mut buf, &[0; 8]).is_none());
        assert!(left.seal_small(at(1), PacketType::KeepAlive, &mut buf, &[0; 8]).is_none());
    }
}
