//! FZ11: the history of sent packets against acks of any bytes and acks that name what was sent: in flight is what
//! neither arrived nor was lost, nothing is delivered twice, a lie has no effect.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::Script;
use netstream_fuzz::channels::STARTS;
use netstream_transport::Mono;
use netstream_transport::channel::fuzzing::History;

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let first = STARTS[usize::from(script.u8()) % STARTS.len()];
    let mut history = History::new(first);
    let mut now = Mono::from_nanos(1);
    // Numbers that were left out, counted from the first.
    let mut skipped = BTreeSet::new();
    let (mut offset, mut asking, mut seen) = (0, 0u64, BTreeSet::new());
    for _ in 0..2000 {
        if script.is_over() {
            break;
        }
        match script.u8() % 8 {
            0 | 1 => {
                for _ in 0..=script.u8() % 64 {
                    let asks = script.u8() % 8 != 0;
                    history.send(now, 40 + usize::from(script.u8()), asks, offset);
                    offset += 1;
                    asking += u64::from(asks);
                }
            }
            2 => {
                skipped.insert(history.next().wrapping_sub(first));
                history.skip();
            }
            3 => {
                let bytes = script.bytes();
                let before = history.in_flight();
                if history.acknowledge(bytes).is_err() {
                    assert_eq!(history.in_flight(), before, "a lie with an effect");
                    return;
                }
            }
            4 | 5 => {
                // Names what was sent, and goes around what was left out.
                let sent = history.next().wrapping_sub(first);
                let Some(top) = sent.checked_sub(1 + u64::from(script.u8())) else { continue };
                if skipped.contains(&top) {
                    continue;
                }
                let mut count = 0;
                while count < u64::from(script.u8() & 0x3f) && count < top && !skipped.contains(&(top - count - 1)) {
                    count += 1;
                }
                let [a, b, c, ..] = first.wrapping_add(top).to_le_bytes();
                history.acknowledge(&[a, b, c, 0, 0, count as u8]).expect("the truth");
            }
            6 => {
                now = now + Duration::from_millis(script.u8().into());
                history.detect(now, Duration::from_millis(100), Duration::from_millis(500));
            }
            _ => match script.u8() % 4 {
                0 => history.requeue(usize::from(script.u8() % 8)),
                1 => history.trim(),
                _ => {}
            },
        }
        for delivered in history.fates.delivered.drain(..) {
            assert!(delivered < offset && seen.insert(delivered), "{delivered} delivered twice");
        }
        for again in history.fates.resent.drain(..) {
            assert!(!seen.contains(&again), "{again} sent again after its ack");
        }
        let (packets, bytes) = history.in_flight();
        assert!(packets <= 1024 && bytes <= packets * 295 && bytes >= packets * 40);
        assert!(packets as u64 + history.fates.acked.len() as u64 <= asking);
        let (heap, cap) = history.heap();
        assert!(heap <= cap, "{heap} of {cap}");
    }
});
