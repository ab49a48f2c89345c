//! Secrets as text: base64url without padding (RFC 4648, section 5) and hexadecimal.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `bytes` as base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    // The capacity is exact: a growing string would leave copies of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity((bytes.len() * 4).div_ceil(3)));
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        for index in 0..=chunk.len() {
            text.push(ALPHABET[(word >> (18 - 6 * index)) as usize & 63].into());
        }
    }
    text
}

/// The `length` bytes behind a text of [`encode`]; `None` if it is not exactly such a text. Padding at the end is
/// tolerated, as other tools write it; so is the alphabet of plain base64.
pub(crate) fn decode(text: &str, length: usize) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim().trim_end_matches('=');
    if text.len() != (length * 4).div_ceil(3) {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    let (mut word, mut bits) = (0u32, 0);
    for char in text.bytes() {
        let digit = match char {
            b'A'..=b'Z' => char - b'A',
            b'a'..=b'z' => char - b'a' + 26,
            b'0'..=b'9' => char - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    // Bits that belong to no byte are zero, so that every secret has one text only.
    (word == 0).then_some(bytes)
}

/// The bytes behind an even number of hexadecimal digits.
pub(crate) fn decode_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.as_bytes().chunks_exact(2) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        bytes.push((high? << 4 | low?) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let examples =
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")];
        for (bytes, text) in examples {
            assert_eq!(*encode(bytes.as_bytes()), text);
            assert_eq!(**decode(text, bytes.len()).unwrap(), *bytes.as_bytes());
        }
        assert_eq!(*encode(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn stray_bits_and_foreign_letters_are_refused() {
        assert!(decode("Zh", 1).is_none());
        assert!(decode("Z!", 1).is_none());
        assert!(decode("Zg", 2).is_none());
        assert_eq!(**decode("Zg==", 1).unwrap(), *b"f");
    }

    proptest! {
        #[test]
        fn bytes_survive_their_text(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(&**decode(&encode(&bytes), bytes.len()).unwrap(), &bytes[..]);
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,40}", length in 0usize..40) {
            let _ = decode(&text, length);
            let _ = decode_hex(&text);
        }
    }
}
