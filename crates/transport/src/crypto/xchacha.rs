//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): nonces of 24 bytes, long enough to be drawn at random.

use zeroize::Zeroizing;

use super::{Aead, Cipher, Key, NONCE_BYTES, Tag};

/// "expand 32-byte k", the constant of ChaCha20.
const CONSTANT: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// HChaCha20 (section 2.2 of the draft): the subkey of `key` that belongs to `input`.
pub fn hchacha20(key: &Key, input: &[u8; 16]) -> Key {
    let mut state = Zeroizing::new([0u32; 16]);
    state[..4].copy_from_slice(&CONSTANT);
    let words = key.as_bytes().chunks_exact(4).chain(input.chunks_exact(4));
    for (slot, word) in state[4..].iter_mut().zip(words) {
        *slot = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
    }
    for _ in 0..10 {
        // Four columns, then four diagonals.
        quarter_round(&mut state, 0, 4, 8, 12);
        quarter_round(&mut state, 1, 5, 9, 13);
        quarter_round(&mut state, 2, 6, 10, 14);
        quarter_round(&mut state, 3, 7, 11, 15);
        quarter_round(&mut state, 0, 5, 10, 15);
        quarter_round(&mut state, 1, 6, 11, 12);
        quarter_round(&mut state, 2, 7, 8, 13);
        quarter_round(&mut state, 3, 4, 9, 14);
    }
    // Unlike ChaCha20 itself: no addition of the input, and the middle rows are left out.
    let mut subkey = Zeroizing::new([0; 32]);
    for (bytes, word) in subkey.chunks_exact_mut(4).zip(state[..4].iter().chain(&state[12..])) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Key::from_bytes(*subkey)
}

fn quarter_round(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(16);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(12);
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(8);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(7);
}

/// Splits an extended nonce: the subkey that its first 16 bytes select, and the short nonce that the rest makes.
fn extend(key: &Key, nonce: &[u8; 24]) -> (Cipher, [u8; NONCE_BYTES]) {
    let mut input = [0; 16];
    input.copy_from_slice(&nonce[..16]);
    let mut short = [0; NONCE_BYTES];
    short[4..].copy_from_slice(&nonce[16..]);
    (Cipher::new(&hchacha20(key, &input)), short)
}

/// [`Aead::seal_in_place`] with a nonce of 24 bytes.
pub(crate) fn seal_extended(key: &Key, nonce: &[u8; 24], aad: &[u8], text: &mut [u8]) -> Tag {
    let (cipher, nonce) = extend(key, nonce);
    cipher.seal_in_place(nonce, aad, text)
}

/// [`Aead::open_in_place`] with a nonce of 24 bytes.
pub(crate) fn open_extended<'a>(key: &Key, nonce: &[u8; 24], aad: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let (cipher, nonce) = extend(key, nonce);
    cipher.open_in_place(nonce, aad, sealed)
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{AeadInOut, KeyInit};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};

    use super::*;
    use crate::{Random, SeededRandom};

    #[test]
    fn the_subkey_of_the_draft() {
        // Section 2.2.1.
        let key = Key::from_bytes(std::array::from_fn(|i| i as u8));
        let input = [0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0, 0x31, 0x41, 0x59, 0x27];
        let subkey: Key = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc".parse().unwrap();
        assert!(hchacha20(&key, &input) == subkey);
    }

    #[test]
    fn seals_the_text_of_the_draft() {
        // Appendix A.3.1.
        let key = Key::from_bytes(std::array::from_fn(|i| 0x80 + i as u8));
        let nonce = std::array::from_fn(|i| 0x40 + i as u8);
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it."
            .to_vec();
        let tag = seal_extended(&key, &nonce, &aad, &mut text);
        assert_eq!(text[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);
        assert_eq!(
            tag,
            [0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a, 0xcf, 0x49]
        );
    }

    #[test]
    fn agrees_with_another_implementation() {
        let mut random = SeededRandom::new(24);
        for length in 0..300 {
            let key = Key::random(&mut random);
            let mut nonce = [0; 24];
            random.fill(&mut nonce);
            let mut text = vec![0; length];
            random.fill(&mut text);

            let mut theirs = text.clone();
            let their_tag = XChaCha20Poly1305::new(key.as_bytes().into())
                .encrypt_inout_detached(&XNonce::from(nonce), b"aad", theirs.as_mut_slice().into())
                .unwrap();
            let mut ours = text.clone();
            let our_tag = seal_extended(&key, &nonce, b"aad", &mut ours);
            assert_eq!((&ours, our_tag), (&theirs, their_tag.into()));

            ours.extend_from_slice(&our_tag);
            assert_eq!(open_extended(&key, &nonce, b"aad", &mut ours).unwrap(), &text[..]);
        }
    }
}
