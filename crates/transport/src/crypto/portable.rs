//! The provider in pure Rust: the second opinion of the tests, and for machines that ring does not know.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};

use super::{Aead, Key, NONCE_BYTES, TAG_BYTES, Tag};

/// ChaCha20-Poly1305 by RustCrypto.
pub struct PortableCipher(ChaCha20Poly1305);

impl Aead for PortableCipher {
    fn new(key: &Key) -> Self {
        Self(ChaCha20Poly1305::new(key.as_bytes().into()))
    }

    fn seal_in_place(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], text: &mut [u8]) -> Tag {
        // Fails above 256 GiB only.
        let tag = self.0.encrypt_inout_detached(&Nonce::from(nonce), aad, text.into()).expect("texts are datagrams");
        tag.into()
    }

    fn open_in_place<'a>(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let length = sealed.len().checked_sub(TAG_BYTES)?;
        let (text, tag) = sealed.split_at_mut(length);
        let tag = Tag::try_from(&*tag).ok()?;
        self.0.decrypt_inout_detached(&Nonce::from(nonce), aad, (&mut *text).into(), &tag.into()).ok()?;
        Some(text)
    }
}

impl std::fmt::Debug for PortableCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PortableCipher(..)")
    }
}
