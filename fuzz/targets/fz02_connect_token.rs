//! FZ2: connect tokens: the public one as a client gets it (also as text), the private one after opening.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netstream_transport::netcode::{CONNECT_TOKEN_BYTES, ConnectToken, fuzzing};

fuzz_target!(|data: &[u8]| {
    let Some((&mode, bytes)) = data.split_first() else { return };
    match mode % 4 {
        0 => {
            // Any length must be refused or read; the right one is what is worth the most tries.
            let mut whole = bytes.to_vec();
            if mode & 0x80 == 0 {
                whole.resize(CONNECT_TOKEN_BYTES, 0);
            }
            public(&whole);
        }
        1 => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(token) = text.parse::<ConnectToken>()
            {
                public(&token.to_bytes());
            }
        }
        2 => private(bytes),
        _ => {
            let mut whole = bytes.to_vec();
            whole.resize(fuzzing::PRIVATE_TEXT, 0);
            private(&whole);
        }
    }
});

fn public(bytes: &[u8]) {
    let Ok(token) = ConnectToken::from_bytes(bytes) else { return };
    assert!((1..=32).contains(&token.addresses().len()));
    assert!(token.created() <= token.expiry());
    let written = token.to_bytes();
    let again = ConnectToken::from_bytes(&written).expect("what we write can be read");
    assert_eq!(again.to_bytes(), written);
    assert_eq!(again.addresses(), token.addresses());
    assert_eq!(token.to_text().parse::<ConnectToken>().expect("text").to_bytes(), written);
    // Printing shows no key: a `Debug` that panics or leaks would do so here.
    assert!(!format!("{token:?}").is_empty());
}

fn private(text: &[u8]) {
    let Some(written) = fuzzing::rewrite_private(text) else { return };
    assert_eq!(fuzzing::rewrite_private(&written), Some(written.clone()));
    // All fields lie where they lay; only what no field covers may differ.
    assert_eq!(written[..16], text[..16]);
}
