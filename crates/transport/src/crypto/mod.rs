//! Keys, sealing and the few derivations that the protocol needs.
//!
//! One internal trait, [`Aead`], hides who computes ChaCha20-Poly1305 (RFC 8439). The provider is ring; a portable one
//! in pure Rust is compiled for tests and under the feature `portable-crypto`, and both must agree on every byte.
//! XChaCha20-Poly1305, which only connect tokens use, is a subkey derivation ([`hchacha20`]) in front of the same
//! provider.

mod drbg;
mod key;
#[cfg(any(test, feature = "portable-crypto"))]
pub mod portable;
pub mod provider;
pub(crate) mod text;
#[cfg(test)]
mod vectors;
mod xchacha;

pub(crate) use drbg::Drbg;
pub use key::{Key, KeyError};
pub use provider::{Aead, RingCipher};
pub use xchacha::hchacha20;
pub(crate) use xchacha::{open_extended, seal_extended};

/// The cipher that connections use.
pub(crate) type Cipher = RingCipher;

/// Bytes that sealing adds to a text.
pub const TAG_BYTES: usize = 16;

/// Bytes of the nonce of [`Aead`].
pub const NONCE_BYTES: usize = 12;

/// The authentication tag of one sealed text.
pub type Tag = [u8; TAG_BYTES];
