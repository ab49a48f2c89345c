//! FZ10: the reassembler of unreliable messages, against fragments in any order, of any message, at any time: what comes
//! out is what one sender cut up, and memory keeps within its cap.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::Script;
use netstream_transport::channel::fuzzing::{FRAGMENT, Fragments};
use netstream_transport::{Limits, Mono};

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let mut limits = Limits::server();
    let mut fragments = Fragments::new(&limits);
    // The script only lowers the limits. Memory that larger ones gave is kept until it is used up.
    let cap = fragments.heap(&limits).1;
    let mut now = Mono::ZERO;
    for _ in 0..1000 {
        if script.is_over() {
            break;
        }
        match script.u8() {
            0..=3 => {
                limits.reassembly_bytes = usize::from(script.u16());
                limits.reassembly_messages = usize::from(script.u8() % 5);
                fragments.set_limits(&limits);
            }
            4..=20 => {
                now = now + Duration::from_millis(script.u8().into());
                fragments.expire(now);
                assert!(fragments.expires_at().is_none_or(|at| at > now));
            }
            21..=24 => fragments.trim(),
            choice => {
                let (channel, id) = (choice % 2, u16::from(script.u8() % 8));
                // What the reader of frames lets through: an index below the count, and the length for its place.
                let count = 1 + u32::from(script.u8() % 60);
                let index = u32::from(script.u8()) % count;
                let last = index + 1 == count;
                let length = if last { 1 + usize::from(script.u16()) % FRAGMENT } else { FRAGMENT };
                let bytes = vec![tag(channel, id, index); length];
                let priority = script.u8() % 3;
                match fragments.handle(now, channel, priority, (id, index, count), &bytes) {
                    Ok(Some(whole)) => {
                        assert_eq!(whole.len().div_ceil(FRAGMENT), count as usize);
                        for (index, piece) in whole.chunks(FRAGMENT).enumerate() {
                            let tag = tag(channel, id, index as u32);
                            assert!(piece.iter().all(|byte| *byte == tag), "another message's");
                        }
                    }
                    Ok(None) => {}
                    // A link does not live on after it.
                    Err(_) => fragments = Fragments::new(&limits),
                }
            }
        }
        let (heap, _) = fragments.heap(&limits);
        assert!(heap <= cap, "{heap} of {cap}");
    }
    fragments.expire(now + Duration::from_secs(1));
    assert_eq!(fragments.expires_at(), None);
});

fn tag(channel: u8, id: u16, index: u32) -> u8 {
    (index as u8).wrapping_mul(31) ^ (id as u8) << 1 ^ channel
}
