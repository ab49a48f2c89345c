//! FZ3: the plaintext of challenges, as if an attacker had the server's sealing key but not the one of its tags.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::*;
use netstream_transport::netcode::fuzzing::{CHALLENGE_TEXT, Challenges};

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let (from, id, issued) = (script.u8(), script.number(), u32::from(script.u16()));
    let mac = [script.u8(); 16];
    let mut challenges = Challenges::new();
    let genuine = challenges.text(address(from), mac, id, issued);
    let mut text: [u8; CHALLENGE_TEXT] = genuine.as_slice().try_into().expect("a challenge has this size");
    assert!(challenges.takes(&text, address(from), mac, id, issued));
    assert!(!challenges.takes(&text, address(from.wrapping_add(1)), mac, id, issued));

    // Patches over the genuine text, or all of it anew.
    while !script.is_over() {
        let at = usize::from(script.u16()) % CHALLENGE_TEXT;
        let patch = script.bytes();
        for (byte, new) in text[at..].iter_mut().zip(patch) {
            *byte = *new;
        }
    }
    let binding = |text: &[u8]| (text[..8].to_vec(), text[264..].to_vec());
    let same = binding(&text) == binding(&genuine);
    assert_eq!(challenges.takes(&text, address(from), mac, id, issued), same);
});
