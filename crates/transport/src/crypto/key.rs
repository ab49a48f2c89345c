//! A secret key.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::text;
use crate::Random;

/// A secret key of 256 bits. It is wiped when dropped, compared in constant time, and never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new key. The strength of the key is that of `random`.
    pub fn random(random: &mut dyn Random) -> Self {
        let mut key = Self([0; 32]);
        random.fill(&mut key.0);
        key
    }

    /// The secret itself.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The secret as 43 characters of base64url; what [`FromStr`] reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::encode(&self.0)
    }

    /// Whether this is the all-zero key, which protects nothing and is refused everywhere.
    pub fn is_zero(&self) -> bool {
        self.0.ct_eq(&[0; 32]).into()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl FromStr for Key {
    type Err = KeyError;

    /// Reads base64url (43 characters) or hexadecimal (64 characters).
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bytes = if text.len() == 64 { text::decode_hex(text) } else { text::decode(text, 32) };
        let mut bytes = bytes.ok_or(KeyError::Malformed)?;
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map(Self).map_err(|_| KeyError::Malformed);
        bytes.zeroize();
        match key {
            Ok(key) if key.is_zero() => Err(KeyError::Zero),
            key => key,
        }
    }
}

/// Why a text or number is no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither 43 characters of base64url nor 64 hexadecimal digits.
    #[error("a key is 43 characters of base64url or 64 hexadecimal digits")]
    Malformed,
    /// The all-zero key.
    #[error("the all-zero key protects nothing; generate one")]
    Zero,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    #[test]
    fn a_key_survives_its_text() {
        let key = Key::random(&mut SeededRandom::new(1));
        assert_eq!(key.to_text().len(), 43);
        assert_eq!(key.to_text().parse::<Key>().unwrap(), key);
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.parse::<Key>().unwrap(), key);
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = Key::from_bytes([0x5a; 32]);
        assert_eq!(format!("{key:?}"), "Key(..)");
    }

    #[test]
    fn weak_and_malformed_keys_are_refused() {
        assert_eq!("0".repeat(64).parse::<Key>(), Err(KeyError::Zero));
        assert_eq!("A".repeat(43).parse::<Key>(), Err(KeyError::Zero));
        assert_eq!("A".repeat(42).parse::<Key>(), Err(KeyError::Malformed));
        assert_eq!("é".repeat(32).parse::<Key>(), Err(KeyError::Malformed));
    }
}
