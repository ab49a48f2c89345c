//! Packets that come very late: as late as the replay window of the layer below lets through.

use std::sync::Arc;
use std::time::Duration;

use netstream_transport::channel::{ChannelConfig, ChannelKind, Link, LinkConfig};
use netstream_transport::{ChannelId, Limits, Mono, SeededRandom};

/// Each packet carries one number, and is acknowledged at once; one of them arrives `late` packets late. Returns the
/// numbers in the order of their arrival.
fn numbers_with_one_packet_late(late: u32) -> Vec<u32> {
    let mut random = SeededRandom::new(1);
    let mut now = Mono::from_nanos(1_000_000_000);
    let [mut sender, mut receiver] = [LinkConfig::server(), LinkConfig::client()].map(|mut config| {
        config.channels.declare(ChannelConfig::new(ChannelKind::UnreliableSequenced)).unwrap();
        Link::new(&Arc::new(config), &Arc::new(Limits::server()), now, &mut random)
    });
    let (mut buf, mut held, mut arrived) = ([0; 1200], Vec::new(), Vec::new());
    for number in 0..=late + 50 {
        now = now + Duration::from_millis(16);
        sender.send(now, ChannelId(3), &number.to_le_bytes()).unwrap();
        let mut packets = Vec::new();
        while let Some(length) = sender.poll_packet(now, &mut buf) {
            packets.push(buf[..length].to_vec());
        }
        if number == 40 {
            held = std::mem::take(&mut packets);
        }
        if number == 40 + late {
            packets.append(&mut held);
        }
        for packet in packets {
            let mut take = |_, bytes: &[u8]| arrived.push(u32::from_le_bytes(bytes.try_into().unwrap()));
            receiver.handle_packet(now, &packet, &mut take).expect("the sender keeps to the protocol");
        }
        now = now + Duration::from_millis(30);
        receiver.handle_timeout(now);
        while let Some(length) = receiver.poll_packet(now, &mut buf) {
            sender.handle_packet(now, &buf[..length], &mut |_, _| {}).expect("the receiver keeps to the protocol");
        }
    }
    arrived
}

#[test]
fn a_packet_that_comes_late_is_not_taken_for_another_one() {
    // With less than the replay window of the numbers on the wire, it would be taken for one yet to come: stale data
    // would pass for new, and an ack for it would look like a lie.
    for late in [1, 50, 127, 130, 200, 255, 300, 900] {
        let arrived = numbers_with_one_packet_late(late);
        assert!(arrived.is_sorted(), "{late} packets late: {arrived:?}");
        assert!(!arrived.contains(&40), "what is older than the newest is dropped");
    }
}
