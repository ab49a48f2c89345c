//! What ChaCha20-Poly1305 costs, by provider: 100 and 1200 bytes, in batches of 64, sealed and opened in place.
//!
//! Before anything is measured, all providers must know the edge cases and agree on a thousand random texts and at the edges
//! of blocks.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use netstream_transport::crypto::portable::PortableCipher;
use netstream_transport::crypto::{Aead, Key, NONCE_BYTES, RingCipher, TAG_BYTES, Tag};
use netstream_transport::{Random, SeededRandom};

const BATCH: usize = 64;
const ROUNDS: usize = 2_000;

struct AwsCipher(LessSafeKey);

impl Aead for AwsCipher {
    fn new(key: &Key) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes()).expect("ChaCha20 takes keys of 32 bytes");
        Self(LessSafeKey::new(key))
    }

    fn seal_in_place(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], text: &mut [u8]) -> Tag {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text).expect("texts are short");
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }

    fn open_in_place<'a>(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), sealed).ok()
    }
}

fn main() {
    agree::<RingCipher, AwsCipher>();
    agree::<AwsCipher, PortableCipher>();
    agree::<PortableCipher, RingCipher>();
    let edges = knows_the_edges::<RingCipher>() + knows_the_edges::<AwsCipher>() + knows_the_edges::<PortableCipher>();
    println!("{edges} edge cases, 3 pairs of providers agree");
    println!("{}, commit {}", machine(), commit());
    println!("median of {ROUNDS} batches of {BATCH}, ns per packet");
    println!("{:<12} {:>9} {:>9} {:>9} {:>9}", "", "seal 100", "open 100", "seal 1200", "open 1200");
    measure::<RingCipher>("ring");
    measure::<AwsCipher>("aws-lc-rs");
    measure::<PortableCipher>("RustCrypto");
}

/// The edge cases that ring and RustCrypto know in the tests of the transport. Returns how many there are.
fn knows_the_edges<A: Aead>() -> usize {
    let vectors = include_str!("../../../crates/transport/tests/vectors/aead.txt");
    let mut count = 0;
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, fields)) = line.split_once(": ") else { continue };
        let fields: Vec<_> = fields.split(' ').map(hex).collect();
        let [key, nonce, aad, text, sealed] = fields.try_into().expect("five fields");
        let cipher = A::new(&Key::from_bytes(key.try_into().expect("32 bytes")));
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().expect("12 bytes");
        let mut own = text.clone();
        let tag = cipher.seal_in_place(nonce, &aad, &mut own);
        assert_eq!([own.as_slice(), &tag].concat(), sealed, "{name}");
        assert_eq!(cipher.open_in_place(nonce, &aad, &mut sealed.clone()), Some(text.clone().as_mut_slice()), "{name}");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cipher.open_in_place(nonce, &aad, &mut changed), None, "{name}: bit {bit}");
        }
        count += 1;
    }
    count
}

fn hex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect()
}

/// Seals with one and opens with the other: random texts, and lengths around the blocks of both algorithms.
fn agree<A: Aead, B: Aead>() {
    let mut random = SeededRandom::new(1);
    let edges = [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1175, 1200];
    let lengths: Vec<_> = (0..1_000).map(|_| random.below(1300) as usize).chain(edges).collect();
    for length in lengths {
        let key = Key::random(&mut random);
        let mut text = vec![0; length];
        random.fill(&mut text);
        let aad = &text[..length.min(29)].to_vec();
        let mut sealed = text.clone();
        let tag = A::new(&key).seal_in_place([7; NONCE_BYTES], aad, &mut sealed);
        sealed.extend_from_slice(&tag);
        assert_eq!(B::new(&key).open_in_place([7; NONCE_BYTES], aad, &mut sealed), Some(text.as_mut_slice()));
    }
}

fn measure<A: Aead>(name: &str) {
    let cipher = A::new(&Key::from_bytes([7; 32]));
    let aad = [1; 22];
    let mut line = format!("{name:<12}");
    for size in [100, 1200] {
        let mut texts = vec![vec![0u8; size + TAG_BYTES]; BATCH];
        let (mut seals, mut opens) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for (number, text) in texts.iter_mut().enumerate() {
                let (text, tag) = text.split_at_mut(size);
                tag.copy_from_slice(&cipher.seal_in_place([number as u8; NONCE_BYTES], &aad, black_box(text)));
            }
            seals.push(start.elapsed());
            // What was sealed is opened where it lies, and is a text again for the next round.
            let start = Instant::now();
            for (number, text) in texts.iter_mut().enumerate() {
                assert!(cipher.open_in_place([number as u8; NONCE_BYTES], &aad, black_box(text)).is_some());
            }
            opens.push(start.elapsed());
        }
        for times in [&mut seals, &mut opens] {
            times.sort_unstable();
            line += &format!(" {:>9}", times[ROUNDS / 2].as_nanos() / BATCH as u128);
        }
    }
    println!("{line}");
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or(std::env::consts::ARCH, |(_, model)| model).to_owned()
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
