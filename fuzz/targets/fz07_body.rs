//! FZ7: one packet body after opening, of any bytes, against a link that has sent and received: acks, frames, fragments.
//! A body that is taken twice is a duplicate; memory grows by a small multiple of what arrived.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::Script;
use netstream_fuzz::channels::{End, STARTS};
use netstream_transport::channel::Side;
use netstream_transport::{ChannelId, Mono};

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let settings = script.u8();
    let side = if settings & 1 == 0 { Side::Server } else { Side::Client };
    let mut end = End::new(side, STARTS[usize::from(settings >> 1) % STARTS.len()], Mono::ZERO);
    let mut buf = [0; 1400];
    // Something to acknowledge.
    for number in 0..8 {
        let now = Mono::from_nanos(number * 10_000_000);
        end.link.send(now, ChannelId::UNRELIABLE, b"state").expect("open");
        end.link.send(now, ChannelId::RELIABLE, &[number as u8; 200]).expect("room");
        while end.link.poll_packet(now, &mut buf).is_some() {}
    }
    let now = Mono::from_nanos(100_000_000);
    let body = script.0.get(..1200).unwrap_or(script.0);
    let before = end.link.heap();
    let mut delivered = 0;
    let taken = end.link.handle_packet(now, body, &mut |_, message| delivered += 1 + message.len());
    assert!(delivered <= 2 * body.len() + 2, "{delivered} out of {}", body.len());
    assert!(end.link.heap() <= before + 4096 + 4 * body.len());
    if taken.is_ok() {
        let stats = end.link.stats();
        let again = end.link.handle_packet(now, body, &mut |_, _| panic!("delivered twice"));
        assert!(again.is_ok(), "a violation only the second time");
        assert_eq!(end.link.stats().packets_received, stats.packets_received);
    }
    end.check();
    end.link.handle_timeout(Mono::from_nanos(2_000_000_000));
    while end.link.poll_packet(Mono::from_nanos(2_000_000_000), &mut buf).is_some() {}
    while end.link.poll_event().is_some() {}
    end.check();
});
