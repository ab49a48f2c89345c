//! What every provider of [`Aead`] must do, in the manner of Wycheproof: known answers, the edges of lengths, and tags that
//! are almost right.

use super::portable::PortableCipher;
use super::{Aead, Key, NONCE_BYTES, RingCipher, TAG_BYTES};

struct Vector {
    key: &'static str,
    nonce: &'static str,
    aad: &'static str,
    text: &'static [u8],
    sealed: &'static str,
}

/// RFC 8439: section 2.8.2 and appendix A.5.
const KNOWN: [Vector; 2] = [
    Vector {
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        nonce: "070000004041424344454647",
        aad: "50515253c0c1c2c3c4c5c6c7",
        text: b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.",
        sealed: "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
            1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
            3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
    },
    Vector {
        key: "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
        nonce: "000000000102030405060708",
        aad: "f33388860000000000004e91",
        text: b"Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, \
            or obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference \
            material or to cite them other than as /\xe2\x80\x9cwork in progress./\xe2\x80\x9d",
        sealed: "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0\
            bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855\
            9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9\
            9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a\
            0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130\
            305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38",
    },
];

fn hex(text: &str) -> Vec<u8> {
    super::text::decode_hex(text).expect("hexadecimal").to_vec()
}

fn seal<A: Aead>(key: &Key, nonce: [u8; NONCE_BYTES], aad: &[u8], text: &[u8]) -> Vec<u8> {
    let mut sealed = text.to_vec();
    let tag = A::new(key).seal_in_place(nonce, aad, &mut sealed);
    [sealed.as_slice(), &tag].concat()
}

fn open<A: Aead>(key: &Key, nonce: [u8; NONCE_BYTES], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    A::new(key).open_in_place(nonce, aad, &mut sealed.to_vec()).map(|text| text.to_vec())
}

fn knows_the_answers<A: Aead>() {
    for vector in &KNOWN {
        let key = Key::from_bytes(hex(vector.key).try_into().unwrap());
        let nonce = hex(vector.nonce).try_into().unwrap();
        let (aad, sealed) = (hex(vector.aad), hex(vector.sealed));
        assert_eq!(seal::<A>(&key, nonce, &aad, vector.text), sealed);
        assert_eq!(open::<A>(&key, nonce, &aad, &sealed).as_deref(), Some(vector.text));
    }
}

#[test]
fn every_provider_knows_the_answers_of_the_rfc() {
    knows_the_answers::<RingCipher>();
    knows_the_answers::<PortableCipher>();
}

/// The edge cases of `tests/vectors/aead.txt`; `benches/aead` puts the providers that are not used through the same.
fn knows_the_edges<A: Aead>() {
    let mut count = 0;
    for line in include_str!("../../tests/vectors/aead.txt").lines().filter(|line| !line.starts_with('#')) {
        let Some((name, fields)) = line.split_once(": ") else { continue };
        let fields: Vec<_> =
            fields.split(' ').map(|field| if field == "-" { Vec::new() } else { hex(field) }).collect();
        let [key, nonce, aad, text, sealed] = fields.try_into().unwrap();
        let (key, nonce) = (Key::from_bytes(key.try_into().unwrap()), nonce.try_into().unwrap());
        assert_eq!(seal::<A>(&key, nonce, &aad, &text), sealed, "{name}");
        assert_eq!(open::<A>(&key, nonce, &aad, &sealed), Some(text), "{name}");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open::<A>(&key, nonce, &aad, &changed), None, "{name}: bit {bit}");
        }
        count += 1;
    }
    assert_eq!(count, 31);
}

#[test]
fn every_provider_knows_the_edges_of_the_arithmetic() {
    knows_the_edges::<RingCipher>();
    knows_the_edges::<PortableCipher>();
}

/// Lengths at and around the blocks of ChaCha20 (64 B) and Poly1305 (16 B), and those of full datagrams.
fn agrees_at_the_edges<A: Aead, B: Aead>() {
    let key = Key::from_bytes([0x5c; 32]);
    let lengths = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1175, 1200];
    for text in lengths {
        for aad in [0, 1, 15, 16, 17, 22, 29, 64] {
            for nonce in [[0; NONCE_BYTES], [0xff; NONCE_BYTES]] {
                let (text, aad) = (vec![0xa5; text], vec![0x3c; aad]);
                let sealed = seal::<A>(&key, nonce, &aad, &text);
                assert_eq!(sealed.len(), text.len() + TAG_BYTES);
                assert_eq!(sealed, seal::<B>(&key, nonce, &aad, &text));
                assert_eq!(open::<B>(&key, nonce, &aad, &sealed), Some(text));
                // What is authenticated may not move between text and associated data.
                assert_eq!(open::<B>(&key, nonce, &[aad.as_slice(), &[0]].concat(), &sealed), None);
            }
        }
    }
}

#[test]
fn providers_agree_on_empty_texts_and_at_the_edges_of_blocks() {
    agrees_at_the_edges::<RingCipher, PortableCipher>();
    agrees_at_the_edges::<PortableCipher, RingCipher>();
}

fn refuses_what_is_almost_right<A: Aead>() {
    let (key, nonce) = (Key::from_bytes([9; 32]), [3; NONCE_BYTES]);
    for text in [&b""[..], b"x", &[0; 64], &[7; 1200]] {
        let sealed = seal::<A>(&key, nonce, b"aad", text);
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut changed = sealed.clone();
            change(&mut changed);
            assert_ne!(changed, sealed);
            assert_eq!(open::<A>(&key, nonce, b"aad", &changed), None);
        };
        let tag = sealed.len() - TAG_BYTES;
        for bit in 0..TAG_BYTES * 8 {
            refused(&|sealed| sealed[tag + bit / 8] ^= 1 << (bit % 8));
        }
        refused(&|sealed| sealed[tag..].fill(0));
        refused(&|sealed| sealed[tag..].fill(0xff));
        refused(&|sealed| sealed[tag..].iter_mut().for_each(|byte| *byte = !*byte));
        refused(&|sealed| sealed[tag..].iter_mut().for_each(|byte| *byte ^= 0x80));
        refused(&|sealed| sealed[tag..].reverse());
        refused(&|sealed| sealed[tag..].rotate_left(8));
        refused(&|sealed| sealed.truncate(sealed.len() - 1));
        refused(&|sealed| sealed.push(0));
        refused(&|sealed| sealed.truncate(TAG_BYTES - 1));
        refused(&|sealed| sealed.clear());
        for byte in 0..text.len() {
            refused(&|sealed| sealed[byte] ^= 1);
        }
        for bit in 0..NONCE_BYTES * 8 {
            let mut other = nonce;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open::<A>(&key, other, b"aad", &sealed), None);
        }
        for aad in [&b""[..], b"aae", b"aad\0", b"aa"] {
            assert_eq!(open::<A>(&key, nonce, aad, &sealed), None);
        }
    }
}

#[test]
fn every_provider_refuses_what_is_almost_right() {
    refuses_what_is_almost_right::<RingCipher>();
    refuses_what_is_almost_right::<PortableCipher>();
}
