//! The targets that the table of `examples/goodput.rs` in `docs/channels.md` is about. Virtual time: the figures are the
//! same on every machine.

mod channel_measure;
mod channel_pair;

use std::time::Duration;

use channel_measure::{RATE, delays, large, pair, rpcs};
use channel_pair::{CLIENT, SERVER, ms};
use netstream_transport::ChannelId;

#[test]
fn at_1_percent_loss_and_50_ms_nine_tenths_of_the_link_are_used() {
    let share = large(pair(1, ms(50), 0.01)).goodput() / RATE as f64;
    assert!(share >= 0.9, "16 MiB: {share:.3}");
    let share = rpcs(pair(1, ms(50), 0.01)).goodput() / RATE as f64;
    assert!(share >= 0.9, "RPCs: {share:.3}");
}

#[test]
fn at_20_percent_loss_nothing_stalls_for_longer_than_3_rto() {
    for (rtt, seed) in [(1, 1), (1, 2), (1, 3), (50, 1), (200, 1)] {
        let outcome = large(pair(seed, ms(rtt), 0.2));
        assert!(outcome.stall_rto <= 3.0, "16 MiB at {rtt} ms: {:.2} RTO, {:?}", outcome.stall_rto, outcome.stall);
        let outcome = rpcs(pair(seed, ms(rtt), 0.2));
        assert!(outcome.stall_rto <= 3.0, "RPCs at {rtt} ms: {:.2} RTO, {:?}", outcome.stall_rto, outcome.stall);
    }
}

#[test]
fn beside_a_transfer_the_99th_percentile_of_game_traffic_stays_within_twice_its_delay() {
    for rtt in [20, 50, 100, 200] {
        for per_message in [0, 1, 2] {
            let [alone, beside] = [false, true].map(|transfer| {
                let (delays, _) = delays(ms(rtt), transfer, per_message, 13);
                delays[(delays.len() - 1) * 99 / 100]
            });
            assert!(beside <= alone * 2, "{rtt} ms, {per_message} ticks per message: {beside:?}, alone {alone:?}");
        }
    }
}

#[test]
fn a_stream_does_not_starve_where_an_end_waits_for_a_processor() {
    let mut pair = pair(1, Duration::from_micros(100), 0.0);
    for end in &mut pair.ends {
        end.path.rate = Some((125_000_000, 4096));
    }
    pair.send(SERVER, ChannelId::RELIABLE, &vec![7; 16 << 20]);
    // The path is seen to be as short as it is; from then on the client gets a processor every 3 ms.
    pair.run_for(ms(5));
    pair.ends[CLIENT].tick = ms(3);
    pair.run_for(ms(1000));
    assert_eq!(pair.ends[CLIENT].received_messages, 1, "16 MiB in a second");
}
