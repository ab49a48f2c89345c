//! Challenge tokens: how the server lets a client prove that it receives at its address, without a word about it.

use std::net::SocketAddr;

use subtle::ConstantTimeEq;

use super::packet::{CHALLENGE_BYTES, nonce};
use super::wire::{Reader, Writer};
use crate::Identity;
use crate::crypto::{Aead, Cipher, Key, TAG_BYTES, Tag};

/// Bytes before sealing: identity 264, and in the 20 that the standard leaves unused what rule H2 asks for.
const TEXT: usize = CHALLENGE_BYTES - TAG_BYTES;

/// What a challenge binds its response to (H2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    /// Where the request came from.
    pub(crate) address: SocketAddr,
    /// Which token it carried.
    pub(crate) mac: Tag,
    /// Whom the token was for.
    pub(crate) client_id: u64,
    /// When the challenge was first made: milliseconds since the server started, modulo 2^32.
    pub(crate) issued: u32,
}

/// Seals and opens the challenges of one server run. Its keys are drawn at the start and never stored.
pub(crate) struct Challenger {
    cipher: Cipher,
    tag_key: Key,
    /// The number of the next challenge, and its nonce.
    next: u64,
}

impl Challenger {
    pub(crate) fn new(seal: &Key, tag: Key) -> Self {
        Self { cipher: Cipher::new(seal), tag_key: tag, next: 0 }
    }

    /// A new challenge for the token's identity, bound to `binding`: its number, and its sealed token in `out`.
    pub(crate) fn make(&mut self, binding: &Binding, user_data: &[u8; 256], out: &mut [u8; CHALLENGE_BYTES]) -> u64 {
        let number = self.next;
        // 2^64 challenges cannot be made.
        self.next = self.next.wrapping_add(1);
        let (text, tag) = out.split_at_mut(TEXT);
        let mut writer = Writer::new(text);
        writer.u64(binding.client_id);
        writer.put(user_data);
        writer.u32(binding.issued);
        writer.put(&self.tag(binding));
        tag.copy_from_slice(&self.cipher.seal_in_place(nonce(number), &[], text));
        number
    }

    /// Opens what a client sent back. `None` unless this server run made it.
    pub(crate) fn open<'a>(&self, number: u64, sealed: &'a mut [u8; CHALLENGE_BYTES]) -> Option<Opened<'a>> {
        let text = self.cipher.open_in_place(nonce(number), &[], sealed)?;
        let mut reader = Reader::new(text);
        Some(Opened {
            client_id: reader.u64()?,
            user_data: reader.array()?,
            issued: reader.u32()?,
            tag: reader.array()?,
        })
    }

    /// Whether `opened` was made for exactly this binding.
    pub(crate) fn matches(&self, opened: &Opened<'_>, binding: &Binding) -> bool {
        opened.client_id == binding.client_id
            && opened.issued == binding.issued
            && bool::from(opened.tag.ct_eq(&self.tag(binding)))
    }

    fn tag(&self, binding: &Binding) -> Tag {
        let mut bytes = [0; 19 + 16 + 8 + 4];
        let mut writer = Writer::new(&mut bytes);
        // The length of the address follows from its first byte, so no two bindings have the same bytes.
        writer.address(&binding.address);
        writer.put(&binding.mac);
        writer.u64(binding.client_id);
        writer.u32(binding.issued);
        let length = writer.len();
        let hash = blake3::keyed_hash(self.tag_key.as_bytes(), &bytes[..length]);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hash.as_bytes()[..TAG_BYTES]);
        tag
    }
}

impl std::fmt::Debug for Challenger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenger").field("next", &self.next).finish_non_exhaustive()
    }
}

/// An opened challenge, not compared with anything yet.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    client_id: u64,
    user_data: &'a [u8; 256],
    issued: u32,
    tag: &'a Tag,
}

impl Opened<'_> {
    /// The identity that the challenge carries. It is the server's own word.
    pub(crate) fn identity(&self) -> Identity {
        Identity { client_id: self.client_id, user_data: *self.user_data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenger() -> Challenger {
        Challenger::new(&Key::from_bytes([1; 32]), Key::from_bytes([2; 32]))
    }

    fn binding() -> Binding {
        Binding { address: ([192, 0, 2, 1], 5000).into(), mac: [5; 16], client_id: 77, issued: 1234 }
    }

    #[test]
    fn a_challenge_comes_back_as_it_was_made() {
        let mut challenger = challenger();
        let mut sealed = [0; CHALLENGE_BYTES];
        let number = challenger.make(&binding(), &[9; 256], &mut sealed);
        let opened = challenger.open(number, &mut sealed).unwrap();
        assert!(challenger.matches(&opened, &binding()));
        assert_eq!(opened.identity(), Identity { client_id: 77, user_data: [9; 256] });
    }

    #[test]
    fn a_challenge_fits_one_binding_only() {
        let mut challenger = challenger();
        let mut sealed = [0; CHALLENGE_BYTES];
        let number = challenger.make(&binding(), &[9; 256], &mut sealed);
        let opened = challenger.open(number, &mut sealed).unwrap();
        for other in [
            Binding { address: ([192, 0, 2, 1], 5001).into(), ..binding() },
            Binding { address: ([192, 0, 2, 2], 5000).into(), ..binding() },
            Binding { mac: [6; 16], ..binding() },
            Binding { client_id: 78, ..binding() },
            Binding { issued: 1235, ..binding() },
        ] {
            assert!(!challenger.matches(&opened, &other), "{other:?}");
        }
    }

    #[test]
    fn challenges_of_another_run_or_number_do_not_open() {
        let mut challenger = challenger();
        let mut sealed = [0; CHALLENGE_BYTES];
        let number = challenger.make(&binding(), &[9; 256], &mut sealed);
        let after_restart = Challenger::new(&Key::from_bytes([3; 32]), Key::from_bytes([4; 32]));
        assert!(after_restart.open(number, &mut sealed.clone()).is_none());
        assert!(challenger.open(number + 1, &mut sealed.clone()).is_none());
    }
}
