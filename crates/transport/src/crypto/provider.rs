//! Who computes ChaCha20-Poly1305, and AES-128-GCM.

use ring::aead::{AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Key, NONCE_BYTES, TAG_BYTES, Tag};
use crate::look::Look;
#[cfg(feature = "mutants")]
use crate::mutants::Mark;

/// An AEAD under one key, whose schedule is kept: ChaCha20-Poly1305 (RFC 8439) where nothing else is
/// said.
///
/// The caller never seals two texts with the same nonce.
pub trait Aead: Sized + Send + Sync {
    /// Prepares `key`.
    fn new(key: &Key) -> Self;

    /// Encrypts `text` where it lies and returns the tag that belongs behind it.
    fn seal_in_place(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], text: &mut [u8]) -> Tag;

    /// Decrypts `sealed` (text and tag) where it lies and returns the text. `None` if it was not sealed under this key
    /// with this nonce and `aad`; the contents of `sealed` are unspecified then.
    fn open_in_place<'a>(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]>;
}

/// The provider in use: ring.
///
/// ring keeps its own copy of the key, and that copy is not wiped when it is dropped; [`Key`]s are.
pub struct RingCipher(LessSafeKey, #[cfg(feature = "mutants")] Mark);

impl RingCipher {
    /// AES-128-GCM (NIST SP 800-38D) instead, with the same nonces and tags. Whoever seals two texts with the same nonce
    /// gives away what lets others forge any text under this key, so the key must be of one session alone. Half of its bytes
    /// are used.
    pub fn aes(key: &Key) -> Self {
        Self::of(&AES_128_GCM, key)
    }

    /// Looks at the key, of which ring lets nothing be seen but the algorithm.
    #[inline]
    pub(crate) fn look(&self, look: &mut impl Look) {
        look.at(&std::ptr::from_ref(self.0.algorithm()).addr());
    }

    fn of(algorithm: &'static Algorithm, key: &Key) -> Self {
        // Only a key of another length can fail here.
        let bytes = &key.as_bytes()[..algorithm.key_len()];
        let prepared = UnboundKey::new(algorithm, bytes).expect("as many bytes as it asks for");
        Self(
            LessSafeKey::new(prepared),
            #[cfg(feature = "mutants")]
            Mark::new(key),
        )
    }
}

impl Aead for RingCipher {
    fn new(key: &Key) -> Self {
        Self::of(&CHACHA20_POLY1305, key)
    }

    #[inline]
    fn seal_in_place(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], text: &mut [u8]) -> Tag {
        #[cfg(feature = "mutants")]
        crate::mutants::note_sealed(self.1, nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        // Fails above 256 GiB only.
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text).expect("texts are datagrams");
        let mut out = [0; TAG_BYTES];
        out.copy_from_slice(tag.as_ref());
        out
    }

    #[inline]
    fn open_in_place<'a>(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), sealed).ok()
    }
}

#[cfg(feature = "mutants")]
impl RingCipher {
    /// Tells keys and their users apart, for the simulator.
    pub(crate) fn mark(&self) -> Mark {
        self.1
    }

    /// From now on it counts as another user of its key.
    pub(crate) fn mark_anew(&mut self) {
        self.1 = self.1.anew();
    }
}

impl std::fmt::Debug for RingCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RingCipher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::portable::PortableCipher;
    use super::*;
    use crate::{Random, SeededRandom};

    /// RFC 8439, section 2.8.2.
    fn sunscreen() -> (Key, [u8; 12], [u8; 12], Vec<u8>) {
        let key = Key::from_bytes(std::array::from_fn(|i| 0x80 + i as u8));
        let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        (key, nonce, aad, text.to_vec())
    }

    fn seals_the_text_of_the_rfc<A: Aead>() {
        let (key, nonce, aad, mut text) = sunscreen();
        let tag = A::new(&key).seal_in_place(nonce, &aad, &mut text);
        assert_eq!(text[..8], [0xd3, 0x1a, 0x8d, 0x34, 0x64, 0x8e, 0x60, 0xdb]);
        assert_eq!(
            tag,
            [0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a, 0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06, 0x91]
        );
    }

    #[test]
    fn both_providers_seal_the_text_of_the_rfc() {
        seals_the_text_of_the_rfc::<RingCipher>();
        seals_the_text_of_the_rfc::<PortableCipher>();
    }

    /// Seals under `A`, opens under `B`; then with one bit of key, nonce, aad, text or tag turned.
    fn agree<A: Aead, B: Aead>(random: &mut SeededRandom) {
        let mut key = Key::random(random);
        let mut nonce = [0; NONCE_BYTES];
        random.fill(&mut nonce);
        let mut aad = vec![0; random.below(40) as usize];
        random.fill(&mut aad);
        let mut text = vec![0; random.below(1300) as usize];
        random.fill(&mut text);

        let mut sealed = text.clone();
        let tag = A::new(&key).seal_in_place(nonce, &aad, &mut sealed);
        sealed.extend_from_slice(&tag);
        let mut opened = sealed.clone();
        assert_eq!(B::new(&key).open_in_place(nonce, &aad, &mut opened).unwrap(), &text[..]);

        let turn = |bytes: &mut [u8], random: &mut SeededRandom| {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        };
        match random.below(4) {
            0 => {
                let mut bytes = *key.as_bytes();
                turn(&mut bytes, random);
                key = Key::from_bytes(bytes);
            }
            1 => turn(&mut nonce, random),
            2 if !aad.is_empty() => turn(&mut aad, random),
            _ => turn(&mut sealed, random),
        }
        assert!(B::new(&key).open_in_place(nonce, &aad, &mut sealed).is_none());
    }

    #[test]
    fn providers_agree_on_random_texts() {
        let mut random = SeededRandom::new(8439);
        for _ in 0..2_000 {
            agree::<RingCipher, PortableCipher>(&mut random);
            agree::<PortableCipher, RingCipher>(&mut random);
        }
    }

    #[test]
    #[ignore = "the long form of the test above"]
    fn providers_agree_on_a_million_random_texts() {
        let mut random = SeededRandom::new(1_000_000);
        for _ in 0..500_000 {
            agree::<RingCipher, PortableCipher>(&mut random);
            agree::<PortableCipher, RingCipher>(&mut random);
        }
    }

    #[test]
    fn texts_shorter_than_a_tag_do_not_open() {
        let cipher = RingCipher::new(&Key::from_bytes([1; 32]));
        for length in 0..TAG_BYTES {
            assert!(cipher.open_in_place([0; 12], b"", &mut vec![0; length]).is_none());
        }
    }
}
