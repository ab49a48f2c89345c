//! Join codes: security from the first day on, without a back-end.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Random;
use crate::crypto::Key;

/// Separates keys from join codes from all other uses of BLAKE3.
const CONTEXT: &str = "netstream join-code v1";

/// Crockford's base 32: no I, L, O or U, so that nothing is mistaken for a digit or read as a word.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 128 bits of code and 12 of checksum, 5 bits each.
const SYMBOLS: usize = 28;

/// Symbols between two dashes.
const GROUP: usize = 4;

/// The fewest characters of a passphrase.
const MIN_PASSPHRASE: usize = 8;

/// Argon2id: memory in KiB and passes, one lane. About 20 ms on a desktop; the first recommendation of the OWASP
/// password storage cheat sheet. Both ends compute it, so the figures are part of the protocol.
const ARGON2: (u32, u32) = (19_456, 2);

/// The secret that lets players enter a server: 128 random bits, printed as text to be passed on.
///
/// Whoever has the code can connect under any client id, and read recordings of the game's traffic. It is wiped when
/// dropped and never shown in `Debug`; [`to_text`](Self::to_text) is the one way to see it.
///
/// ```
/// # use netstream_transport::{SeededRandom, netcode::JoinCode};
/// # let mut random = SeededRandom::new(1);
/// let code = JoinCode::random(&mut random);
/// let text = code.to_text();
/// assert_eq!(text.to_lowercase().replace('-', " ").parse::<JoinCode>(), Ok(code));
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct JoinCode([u8; 16]);

impl JoinCode {
    /// A new code, as good as `random` is.
    pub fn random(random: &mut dyn Random) -> Self {
        let mut code = Self([0; 16]);
        // The all-zero code does not exist; a working source does not give it in the age of the universe.
        while code.0 == [0; 16] {
            random.fill(&mut code.0);
        }
        code
    }

    /// The code behind a passphrase of at least 8 characters, through Argon2id. Takes some 20 ms and 19 MiB.
    ///
    /// Everybody who can see the traffic can test guesses against it at leisure. A code from
    /// [`random`](Self::random) is as easy to share and cannot be guessed.
    pub fn from_passphrase(passphrase: &str) -> Result<Self, JoinCodeError> {
        let passphrase = passphrase.trim();
        if passphrase.chars().count() < MIN_PASSPHRASE {
            return Err(JoinCodeError::PassphraseTooShort);
        }
        let (memory, passes) = ARGON2;
        let params = Params::new(memory, passes, 1, Some(16)).expect("the parameters are constants in range");
        let mut code = Self([0; 16]);
        // Our own memory, because the crate's own would bring three more crates.
        let mut memory = vec![argon2::Block::default(); params.block_count()];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase.as_bytes(), CONTEXT.as_bytes(), &mut code.0, &mut memory)
            .map_err(|_| JoinCodeError::PassphraseTooLong)?;
        Ok(code)
    }

    /// The code as text: 7 groups of 4 letters and digits.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Exact, so that no copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(SYMBOLS + SYMBOLS / GROUP - 1));
        let word = u128::from_be_bytes(self.0);
        for index in 0..SYMBOLS {
            if index > 0 && index % GROUP == 0 {
                text.push('-');
            }
            // The 140 bits: code, then checksum. The symbol at `index` starts `5 * index` bits from the top.
            let symbol = match index {
                0..25 => (word >> (123 - 5 * index)) as u16 & 31,
                25 => (word as u16 & 7) << 2 | self.checksum() >> 10,
                26 => self.checksum() >> 5 & 31,
                _ => self.checksum() & 31,
            };
            text.push(ALPHABET[usize::from(symbol)].into());
        }
        text
    }

    /// The key that seals tokens for `protocol_id` under this code.
    pub fn key(&self, protocol_id: u64) -> Key {
        let mut material = Zeroizing::new([0; 24]);
        material[..16].copy_from_slice(&self.0);
        material[16..].copy_from_slice(&protocol_id.to_le_bytes());
        Key::from_bytes(*Zeroizing::new(blake3::derive_key(CONTEXT, &*material)))
    }

    /// 12 bits that a mistyped code fails with 4095 of 4096.
    fn checksum(&self) -> u16 {
        let hash = blake3::derive_key("netstream join-code v1 checksum", &self.0);
        u16::from_le_bytes([hash[0], hash[1]]) & 0xfff
    }
}

impl PartialEq for JoinCode {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for JoinCode {}

impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinCode(..)")
    }
}

impl FromStr for JoinCode {
    type Err = JoinCodeError;

    /// Reads [`to_text`](Self::to_text) in any case, with or without dashes and spaces, with `O` for 0 and `I` or `L`
    /// for 1.
    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        let mut code = Zeroizing::new(0u128);
        let mut checksum = 0u16;
        let mut count = 0;
        for char in text.chars().filter(|char| !char.is_whitespace() && !matches!(char, '-' | '_' | '.')) {
            let symbol = match char.to_ascii_uppercase() {
                'O' => 0,
                'I' | 'L' => 1,
                char => ALPHABET.iter().position(|&symbol| char::from(symbol) == char).ok_or(JoinCodeError::Letter)?,
            };
            let symbol = symbol as u16;
            match count {
                0..25 => *code = *code << 5 | u128::from(symbol),
                25 => {
                    *code = *code << 3 | u128::from(symbol >> 2);
                    checksum = symbol & 3;
                }
                26 | 27 => checksum = checksum << 5 | symbol,
                _ => return Err(JoinCodeError::Length),
            }
            count += 1;
        }
        if count != SYMBOLS {
            return Err(JoinCodeError::Length);
        }
        let code = Self(code.to_be_bytes());
        if code.0 == [0; 16] || code.checksum() != checksum {
            return Err(JoinCodeError::Mistyped);
        }
        Ok(code)
    }
}

/// Why a text is no join code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinCodeError {
    /// Too few or too many symbols.
    #[error("a join code has {SYMBOLS} letters and digits; copy all of what the server printed")]
    Length,
    /// A letter that codes do not have.
    #[error("a join code has no such letter; copy exactly what the server printed")]
    Letter,
    /// The checksum does not fit.
    #[error("the join code is mistyped; compare it with what the server printed")]
    Mistyped,
    /// A passphrase that is guessed at once.
    #[error("a passphrase has at least {MIN_PASSPHRASE} characters")]
    PassphraseTooShort,
    /// A passphrase beyond the 4 GiB that Argon2 takes.
    #[error("the passphrase is too long")]
    PassphraseTooLong,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SeededRandom;

    #[test]
    fn a_code_is_seven_groups_of_four() {
        let text = JoinCode([0xff; 16]).to_text();
        assert_eq!(text.len(), 34);
        assert!(text.split('-').all(|group| group.len() == 4), "{}", *text);
        assert!(text.starts_with("ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-Z"));
    }

    #[test]
    fn keys_differ_by_code_and_protocol() {
        let [first, second] = [JoinCode([1; 16]), JoinCode([2; 16])];
        assert_eq!(first.key(7), first.key(7));
        assert_ne!(first.key(7), first.key(8));
        assert_ne!(first.key(7), second.key(7));
    }

    #[test]
    fn typing_errors_are_noticed() {
        let code = JoinCode::random(&mut SeededRandom::new(2));
        let text = code.to_text();
        let mut missed = 0;
        for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
            for &symbol in ALPHABET {
                let mut typed = text.as_bytes().to_vec();
                if std::mem::replace(&mut typed[at], symbol) != symbol {
                    missed += usize::from(std::str::from_utf8(&typed).unwrap().parse::<JoinCode>().is_ok());
                }
            }
        }
        // 868 single errors; 12 bits of checksum let 0.2 of them through on average.
        assert!(missed <= 2, "{missed}");
    }

    #[test]
    fn malformed_codes_are_refused_with_a_hint() {
        assert_eq!("".parse::<JoinCode>(), Err(JoinCodeError::Length));
        assert_eq!("0".repeat(29).parse::<JoinCode>(), Err(JoinCodeError::Length));
        assert_eq!("U".repeat(28).parse::<JoinCode>(), Err(JoinCodeError::Letter));
        assert_eq!("é".repeat(28).parse::<JoinCode>(), Err(JoinCodeError::Letter));
        assert_eq!("0".repeat(28).parse::<JoinCode>(), Err(JoinCodeError::Mistyped));
    }

    #[test]
    fn the_all_zero_code_is_refused_even_with_its_checksum() {
        let zero = JoinCode([0; 16]).to_text();
        assert_eq!(zero.parse::<JoinCode>(), Err(JoinCodeError::Mistyped));
    }

    #[test]
    fn passphrases_give_codes() {
        let code = JoinCode::from_passphrase("correct horse battery staple").unwrap();
        assert_eq!(JoinCode::from_passphrase("  correct horse battery staple\n"), Ok(code.clone()));
        assert_ne!(JoinCode::from_passphrase("correct horse battery stapler"), Ok(code));
        assert_eq!(JoinCode::from_passphrase("1234567"), Err(JoinCodeError::PassphraseTooShort));
    }

    proptest! {
        #[test]
        fn codes_survive_any_way_of_typing_them(bytes in any::<[u8; 16]>(), lower: bool, dashes: bool) {
            prop_assume!(bytes != [0; 16]);
            let code = JoinCode(bytes);
            let mut text = code.to_text().to_string();
            if lower {
                text = text.to_lowercase().replace('0', "o").replace('1', "l");
            }
            if !dashes {
                text = text.replace('-', "");
            }
            prop_assert_eq!(text.parse::<JoinCode>(), Ok(code));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}") {
            let _ = text.parse::<JoinCode>();
        }
    }
}
