//! What a user of a link can rely on, told one behaviour at a time.

mod channel_pair;

use std::sync::Arc;
use std::time::Duration;

use channel_pair::{CLIENT, Pair, Path, SERVER, ms};
use netstream_transport::channel::{
    ChannelConfig, ChannelKind, DropPolicy, Link, LinkConfig, LinkEvent, Pressure, Receipt, SendError,
};
use netstream_transport::{ChannelId, DisconnectCode, DisconnectReason, Limits, Mono, Origin, SeededRandom};

const RELIABLE: ChannelId = ChannelId::RELIABLE;
const UNRELIABLE: ChannelId = ChannelId::UNRELIABLE;
const FRAGMENTED: ChannelId = ChannelId::UNRELIABLE_FRAGMENTED;

/// Both ends with one more channel.
fn with_channel(seed: u64, channel: ChannelConfig) -> (Pair, ChannelId) {
    let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
    let id = server.channels.declare(channel.clone()).unwrap();
    client.channels.declare(channel).unwrap();
    (Pair::with(seed, server, client), id)
}

#[test]
fn a_message_of_every_standard_channel_arrives_once_and_whole() {
    let mut pair = Pair::new(1);
    let big = vec![7; 60_000];
    let messages = [(UNRELIABLE, b"u".to_vec()), (RELIABLE, big.clone()), (FRAGMENTED, big), (UNRELIABLE, Vec::new())];
    for (channel, message) in &messages {
        pair.send(SERVER, *channel, message);
    }
    pair.run_for(ms(1000));
    for (channel, message) in &messages {
        let copies = pair.ends[CLIENT].inbox.iter().filter(|(c, m)| c == channel && m == message).count();
        assert_eq!(copies, 1, "{channel:?}");
    }
    assert_eq!(pair.ends[CLIENT].inbox.len(), messages.len());
}

#[test]
fn small_messages_share_a_packet() {
    let mut pair = Pair::new(2);
    for index in 0..20 {
        pair.send(SERVER, UNRELIABLE, &[index; 10]);
        pair.send(SERVER, RELIABLE, &[index; 20]);
    }
    pair.flush();
    assert_eq!(pair.packets, 1);
    pair.run_for(ms(500));
    assert_eq!(pair.ends[CLIENT].inbox.len(), 40);
}

#[test]
fn a_lost_last_packet_is_sent_again_without_any_help() {
    let mut pair = Pair::new(3);
    pair.send(CLIENT, RELIABLE, b"warm up");
    pair.run_for(ms(500));
    pair.inbox(SERVER);
    pair.ends[CLIENT].path.cut = true;
    pair.send(CLIENT, RELIABLE, b"last words");
    pair.flush();
    pair.ends[CLIENT].path.cut = false;
    let took = pair.run_until(ms(3000), |pair| !pair.ends[SERVER].inbox.is_empty()).expect("it arrives");
    assert!(took < ms(200), "{took:?}");
    assert_eq!(pair.inbox(SERVER), [b"last words"]);
}

#[test]
fn a_lost_last_ack_stalls_nobody() {
    let mut pair = Pair::new(4);
    pair.send(CLIENT, RELIABLE, b"warm up");
    pair.run_for(ms(500));
    pair.ends[SERVER].path.cut = true;
    pair.send(CLIENT, RELIABLE, b"first");
    pair.run_for(ms(200));
    pair.ends[SERVER].path.cut = false;
    assert!(pair.ends[CLIENT].link.stats().reliable_queued > 0);
    let took = pair.run_until(ms(3000), |pair| pair.ends[CLIENT].link.stats().reliable_queued == 0).expect("acked");
    assert!(took < ms(1000), "{took:?}");
    pair.send(CLIENT, RELIABLE, b"second");
    pair.run_for(ms(500));
    assert_eq!(pair.inbox(SERVER), [&b"warm up"[..], b"first", b"second"]);
}

#[test]
fn a_duplicated_packet_changes_nothing() {
    let mut pair = Pair::new(5).path(Path { duplicate: 1.0, ..Path::default() });
    for index in 0..50u8 {
        pair.send(SERVER, UNRELIABLE, &[index]);
        pair.send(SERVER, RELIABLE, &[index, index]);
        pair.run_for(ms(5));
    }
    pair.run_for(ms(500));
    assert_eq!(pair.ends[CLIENT].inbox.len(), 100);
    assert!(pair.ends[CLIENT].link.stats().packets_duplicate > 0);
}

#[test]
fn what_has_been_acknowledged_is_never_sent_again() {
    let mut pair = Pair::new(6);
    for _ in 0..200 {
        pair.send(SERVER, RELIABLE, &[1; 900]);
        pair.run_for(ms(3));
    }
    pair.run_for(ms(2000));
    assert_eq!(pair.ends[SERVER].link.stats().bytes_resent, 0);
    assert_eq!(pair.ends[CLIENT].inbox.len(), 200);
}

#[test]
fn an_idle_link_sends_nothing_and_has_no_timer() {
    let mut pair = Pair::new(7);
    pair.send(SERVER, RELIABLE, b"hello");
    pair.run_for(ms(10_000));
    let before = pair.packets;
    pair.run_for(Duration::from_secs(3600));
    assert_eq!(pair.packets, before);
    for end in [SERVER, CLIENT] {
        assert_eq!(pair.ends[end].link.poll_timeout(), None);
        assert!(pair.ends[end].link.is_idle());
        assert!(pair.ends[end].link.heap() < 4096, "{}", pair.ends[end].link.heap());
    }
}

#[test]
fn the_caller_learns_what_is_wrong_with_a_message() {
    let mut pair = Pair::new(8);
    let now = pair.now;
    let link = &mut pair.ends[SERVER].link;
    assert_eq!(link.send(now, ChannelId(9), b""), Err(SendError::UnknownChannel(ChannelId(9))));
    assert_eq!(link.send(now, UNRELIABLE, &[0; 1151]), Err(SendError::TooLarge { size: 1151, limit: 1150 }));
    assert_eq!(link.send(now, RELIABLE, &[0; 65_537]), Err(SendError::TooLarge { size: 65_537, limit: 65_536 }));
    assert_eq!(link.send(now, FRAGMENTED, &vec![0; 262_144]), Ok(()));
    let link = &mut pair.ends[CLIENT].link;
    assert_eq!(link.send(now, FRAGMENTED, &[0; 16_385]), Err(SendError::TooLarge { size: 16_385, limit: 16_384 }));
    link.close(now, &DisconnectReason::local(DisconnectCode::ConnectionClose), ms(100));
    assert_eq!(link.send(now, UNRELIABLE, b""), Err(SendError::NotConnected));
}

#[test]
fn a_full_reliable_queue_is_announced_and_then_refuses_without_loss() {
    let mut pair = Pair::new(9);
    pair.ends[SERVER].path.cut = true;
    let now = pair.now;
    let link = &mut pair.ends[SERVER].link;
    let mut seen = vec![link.backlog(RELIABLE).unwrap().pressure];
    let mut queued = 0u32;
    while link.send(now, RELIABLE, &queued.to_le_bytes()) == Ok(()) {
        queued += 1;
        let pressure = link.backlog(RELIABLE).unwrap().pressure;
        if seen.last() != Some(&pressure) {
            seen.push(pressure);
        }
    }
    assert_eq!(link.send(now, RELIABLE, b"more"), Err(SendError::QueueFull));
    assert_eq!(seen, [Pressure::Ok, Pressure::Pressing, Pressure::Full]);
    // Each message of 4 bytes is charged for 68.
    assert_eq!(queued, (256 << 10) / 68);
    pair.ends[SERVER].path.cut = false;
    pair.run_for(ms(5000));
    let arrived = pair.inbox(CLIENT);
    assert_eq!(arrived.len(), queued as usize);
    assert!((0..queued).zip(&arrived).all(|(index, message)| *message == index.to_le_bytes()));
}

#[test]
fn empty_messages_are_not_free() {
    let mut pair = Pair::new(10);
    pair.ends[SERVER].path.cut = true;
    let now = pair.now;
    let link = &mut pair.ends[SERVER].link;
    let taken = (0..1_000_000).take_while(|_| link.send(now, RELIABLE, b"") == Ok(())).count();
    assert_eq!(taken, (256 << 10) / 64);
    for _ in 0..1_000_000 {
        link.send(now, UNRELIABLE, b"").unwrap();
    }
    assert_eq!(link.backlog(UNRELIABLE).unwrap().bytes, 64 << 10);
    assert!(link.heap() < 640 << 10);
}

#[test]
fn a_full_unreliable_queue_drops_what_its_policy_says() {
    for (policy, expected) in [(DropPolicy::Oldest, [2, 3]), (DropPolicy::Newest, [1, 2])] {
        let channel = ChannelConfig::new(ChannelKind::Unreliable).with_budget(2500).with_drop(policy);
        let (mut pair, id) = with_channel(11, channel);
        for index in 1..=3 {
            pair.send(SERVER, id, &[index; 1000]);
        }
        pair.run_for(ms(100));
        let first_bytes: Vec<u8> = pair.inbox(CLIENT).iter().map(|message| message[0]).collect();
        assert_eq!(first_bytes, expected, "{policy:?}");
        assert_eq!(pair.ends[SERVER].link.stats().dropped_full, 1);
    }
}

#[test]
fn receipts_tell_of_delivery_and_of_nothing_else() {
    for kind in [ChannelKind::ReliableOrdered, ChannelKind::ReliableUnordered] {
        let (mut pair, id) = with_channel(12, ChannelConfig::new(kind).fragmented(64 << 10));
        let now = pair.now;
        let link = &mut pair.ends[SERVER].link;
        let first = link.send_with_receipt(now, id, &[1; 30_000]).unwrap();
        link.send(now, id, b"nobody asked").unwrap();
        let second = link.send_with_receipt(now, id, b"").unwrap();
        assert_ne!(first, second);
        pair.flush();
        assert!(pair.ends[SERVER].events.is_empty(), "nothing has arrived yet");
        pair.run_for(ms(1000));
        let mut receipts: Vec<Receipt> = pair.ends[SERVER]
            .events
            .iter()
            .map(|event| match event {
                LinkEvent::Delivered(receipt) => *receipt,
                other => panic!("{other:?}"),
            })
            .collect();
        receipts.sort();
        assert_eq!(receipts, [first, second], "{kind:?}");
    }
}

#[test]
fn a_peer_that_takes_nothing_is_reported_once_after_ten_seconds() {
    let mut pair = Pair::new(13);
    pair.ends[SERVER].path.cut = true;
    pair.send(SERVER, RELIABLE, b"is anybody there");
    pair.run_for(ms(9_900));
    assert!(pair.ends[SERVER].events.is_empty());
    pair.run_for(ms(60_000));
    assert_eq!(pair.ends[SERVER].events, [LinkEvent::SlowConsumer]);
}

#[test]
fn a_sequenced_channel_never_goes_back() {
    for fragmented in [false, true] {
        let channel = ChannelConfig::new(ChannelKind::UnreliableSequenced);
        let (pair, id) = with_channel(14, if fragmented { channel.fragmented(8 << 10) } else { channel });
        let mut pair = pair.path(Path { jitter: ms(40), ..Path::default() });
        for index in 0..200u16 {
            let size = if fragmented { usize::from(index % 5) * 900 + 2 } else { 2 };
            let mut message = vec![0; size];
            message[..2].copy_from_slice(&index.to_le_bytes());
            pair.send(SERVER, id, &message);
            pair.run_for(ms(4));
        }
        pair.run_for(ms(500));
        let order: Vec<u16> =
            pair.inbox(CLIENT).iter().map(|message| u16::from_le_bytes([message[0], message[1]])).collect();
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
        assert!(order.len() > 20 && order.len() < 200, "{}", order.len());
        assert!(pair.ends[CLIENT].link.stats().dropped_stale > 0);
    }
}

#[test]
fn a_lost_message_of_one_channel_does_not_hold_up_another() {
    let (mut pair, other) = with_channel(15, ChannelConfig::new(ChannelKind::ReliableOrdered));
    pair.send(SERVER, RELIABLE, b"warm up");
    pair.run_for(ms(300));
    pair.inbox(CLIENT);
    pair.ends[SERVER].path.cut = true;
    pair.send(SERVER, RELIABLE, b"lost");
    pair.flush();
    pair.ends[SERVER].path.cut = false;
    pair.send(SERVER, other, b"other");
    pair.send(SERVER, UNRELIABLE, b"unreliable");
    pair.run_for(ms(11));
    let inbox = pair.inbox(CLIENT);
    assert_eq!(inbox.len(), 2, "{inbox:?}");
    pair.run_for(ms(500));
    assert_eq!(pair.inbox(CLIENT), [b"lost"]);
}

#[test]
fn channels_of_higher_priority_leave_first_and_equals_share_by_weight() {
    let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
    let declare = |config: &mut LinkConfig| {
        let bulk = ChannelConfig::new(ChannelKind::ReliableOrdered).with_priority(10);
        let urgent = bulk.clone().with_priority(200);
        [
            config.channels.declare(bulk.clone().with_weight(10)).unwrap(),
            config.channels.declare(bulk.with_weight(30)).unwrap(),
            config.channels.declare(urgent).unwrap(),
        ]
    };
    let [light, heavy, urgent] = declare(&mut server);
    declare(&mut client);
    let mut pair = Pair::with(16, server, client);
    for _ in 0..200 {
        pair.send(SERVER, light, &[0; 1000]);
        pair.send(SERVER, heavy, &[0; 1000]);
    }
    pair.send(SERVER, urgent, b"now");
    pair.run_until(ms(10_000), |pair| pair.ends[CLIENT].inbox.len() >= 120).unwrap();
    let inbox = &pair.ends[CLIENT].inbox;
    assert_eq!(inbox[0].0, urgent);
    let heavy_share = inbox.iter().filter(|(channel, _)| *channel == heavy).count();
    assert!((80..=100).contains(&heavy_share), "{heavy_share} of {}", inbox.len());
}

#[test]
fn an_incomplete_unreliable_message_is_forgotten_after_half_a_second() {
    let mut pair = Pair::new(17);
    let mut sent = 0;
    // Loses the second of two fragments.
    pair.send(SERVER, FRAGMENTED, &[1; 2000]);
    let mut buf = [0; 1400];
    while let Some(length) = pair.ends[SERVER].link.poll_packet(pair.now, &mut buf) {
        if sent == 0 {
            pair.launch(SERVER, &buf[..length]);
        }
        sent += 1;
    }
    pair.run_for(ms(300));
    assert!(pair.ends[CLIENT].link.heap() > 1100);
    pair.run_for(ms(300));
    assert_eq!(pair.ends[CLIENT].link.stats().reassembly_expired, 1);
    assert!(pair.ends[CLIENT].inbox.is_empty());
}

#[test]
fn close_delivers_what_was_sent_before_it_and_then_its_reason() {
    let path = Path { loss: 0.3, ..Path::default() };
    for seed in 0..50 {
        let mut pair = Pair::new(seed).path(path.clone());
        for index in 0..20 {
            pair.send(SERVER, RELIABLE, &[index; 500]);
        }
        let reason = DisconnectReason::local(DisconnectCode::Kicked).with_text("bye");
        let now = pair.now;
        pair.ends[SERVER].link.close(now, &reason, ms(5000));
        pair.run_for(ms(6000));
        assert_eq!(pair.ends[CLIENT].inbox.len(), 20, "seed {seed}");
        let events = &pair.ends[CLIENT].events;
        assert_eq!(events[..], [LinkEvent::RemoteClosed(reason.seen_by_peer())], "seed {seed}");
        assert_eq!(pair.ends[SERVER].events, [LinkEvent::Closed], "seed {seed}");
    }
}

#[test]
fn close_does_not_wait_longer_than_it_may_and_the_goodbye_can_still_be_given() {
    let mut pair = Pair::new(18);
    pair.ends[SERVER].path.cut = true;
    pair.send(SERVER, RELIABLE, b"never arrives");
    let now = pair.now;
    pair.ends[SERVER].link.close(now, &DisconnectReason::local(DisconnectCode::Banned), ms(250));
    let took = pair.run_until(ms(1000), |pair| !pair.ends[SERVER].events.is_empty()).unwrap();
    assert_eq!(took, ms(250));
    assert_eq!(pair.ends[SERVER].events, [LinkEvent::Closed]);
    pair.ends[SERVER].path.cut = false;
    for _ in 0..5 {
        let mut buf = [0; 1400];
        if let Some(length) = pair.ends[SERVER].link.goodbye_packet(pair.now, &mut buf) {
            pair.launch(SERVER, &buf[..length]);
        }
        pair.run_for(ms(50));
    }
    assert!(pair.ends[SERVER].link.goodbye_packet(pair.now, &mut [0; 1400]).is_none(), "it was acknowledged");
    let reason = DisconnectReason::remote(DisconnectCode::Banned);
    assert_eq!(pair.ends[CLIENT].events, [LinkEvent::RemoteClosed(reason)]);
    assert!(pair.ends[CLIENT].inbox.is_empty());
}

#[test]
fn a_close_without_linger_ends_at_once() {
    let mut pair = Pair::new(19);
    let now = pair.now;
    pair.ends[CLIENT].link.close(now, &DisconnectReason::local(DisconnectCode::ConnectionClose), Duration::ZERO);
    assert_eq!(pair.ends[CLIENT].link.poll_event(), Some(LinkEvent::Closed));
    assert!(pair.ends[CLIENT].link.goodbye_packet(now, &mut [0; 1400]).is_some());
}

#[test]
fn a_repeated_goodbye_is_acknowledged_ten_times_at_most_and_told_once() {
    let mut pair = Pair::new(20);
    pair.ends[CLIENT].path.cut = true;
    let now = pair.now;
    pair.ends[SERVER].link.close(now, &DisconnectReason::local(DisconnectCode::ServerShutdown), ms(5000));
    let mut acks = 0;
    let until = pair.now + ms(6000);
    let before = pair.ends[CLIENT].link.stats().packets_sent;
    pair.flush();
    while pair.step(until) {
        acks = pair.ends[CLIENT].link.stats().packets_sent - before;
    }
    assert_eq!(acks, 10);
    assert_eq!(pair.ends[CLIENT].events.len(), 1);
}

#[test]
fn two_ends_that_close_at_once_both_end_with_their_own_reason() {
    let mut pair = Pair::new(21);
    let now = pair.now;
    for end in [SERVER, CLIENT] {
        pair.ends[end].link.close(now, &DisconnectReason::local(DisconnectCode::ConnectionClose), ms(1000));
    }
    pair.run_for(ms(2000));
    assert_eq!(pair.ends[SERVER].events, [LinkEvent::Closed]);
    assert_eq!(pair.ends[CLIENT].events, [LinkEvent::Closed]);
}

#[test]
fn the_reason_of_a_close_arrives_as_the_peers() {
    let mut pair = Pair::new(22);
    let now = pair.now;
    let reason = DisconnectReason::local(DisconnectCode::Application(7)).with_text("the round is over");
    pair.ends[CLIENT].link.close(now, &reason, ms(1000));
    pair.run_for(ms(500));
    let [LinkEvent::RemoteClosed(seen)] = &pair.ends[SERVER].events[..] else { panic!() };
    assert_eq!((seen.code, seen.origin, seen.text.as_str()), (reason.code, Origin::Remote, "the round is over"));
}

#[test]
fn the_round_trip_time_does_not_contain_the_peers_ack_delay() {
    let mut pair = Pair::new(23).path(Path { delay: ms(25), ..Path::default() });
    for _ in 0..100 {
        pair.send(CLIENT, UNRELIABLE, b"command");
        pair.run_for(ms(40));
    }
    let stats = pair.ends[CLIENT].link.stats();
    // Each ack waited 25 ms for data that never came.
    let rtt = stats.rtt.unwrap();
    assert!(rtt.abs_diff(ms(50)) < ms(2), "{rtt:?}");
    assert!(stats.jitter.unwrap() < ms(2));
}

#[test]
fn figures_stay_right_when_both_ends_only_act_every_33_ms() {
    let mut pair = Pair::new(24).path(Path { delay: ms(25), loss: 0.05, ..Path::default() });
    for (end, phase) in [(SERVER, 0), (CLIENT, 11)] {
        pair.ends[end].tick = ms(33);
        pair.ends[end].phase = ms(phase);
    }
    for _ in 0..1500 {
        pair.send(SERVER, UNRELIABLE, &[0; 300]);
        pair.send(CLIENT, UNRELIABLE, &[0; 60]);
        pair.run_for(ms(33));
    }
    for end in [SERVER, CLIENT] {
        let stats = pair.ends[end].link.stats();
        // 50 ms on the way, and at each end up to a tick until somebody looks.
        let (rtt, min) = (stats.rtt.unwrap(), stats.min_rtt.unwrap());
        assert!(rtt >= ms(50) && rtt <= ms(50 + 66), "{rtt:?}");
        assert!(min >= ms(50) && min <= rtt, "{min:?}");
        let lost = stats.packets_lost as f64 / stats.packets_sent as f64;
        assert!((0.03..0.07).contains(&lost), "{lost}");
        assert!(stats.loss > 0.0 && stats.loss < 0.2, "{}", stats.loss);
    }
}

#[test]
fn losses_are_not_counted_where_packets_only_come_late() {
    let mut pair = Pair::new(25).path(Path { delay: ms(20), jitter: ms(60), ..Path::default() });
    for _ in 0..2000 {
        pair.send(SERVER, UNRELIABLE, &[0; 100]);
        pair.run_for(ms(8));
    }
    pair.run_for(ms(500));
    let stats = pair.ends[SERVER].link.stats();
    assert!(stats.packets_lost < 20, "{}", stats.packets_lost);
}

#[test]
fn a_bandwidth_cap_is_kept() {
    let mut limits = Limits::server();
    limits.bandwidth = Some(50_000);
    let mut pair = Pair::with_limits(26, (LinkConfig::server(), limits), (LinkConfig::client(), Limits::client()));
    for _ in 0..400 {
        let now = pair.now;
        let _ = pair.ends[SERVER].link.send(now, RELIABLE, &[0; 1000]);
        pair.send(SERVER, UNRELIABLE, &[0; 300]);
        pair.run_for(ms(10));
    }
    let rate = pair.ends[SERVER].link.stats().bytes_sent as f64 / 4.0;
    assert!((45_000.0..=53_000.0).contains(&rate), "{rate}");
}

#[test]
fn a_limit_can_be_raised_to_16_mebibytes() {
    let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
    for config in [&mut server, &mut client] {
        config.channels.get_mut(RELIABLE).unwrap().max_to_client = 16 << 20;
    }
    let mut pair = Pair::with(27, server, client);
    let message: Vec<u8> = (0..16u32 << 20).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    pair.send(SERVER, RELIABLE, &message);
    pair.run_until(Duration::from_secs(60), |pair| !pair.ends[CLIENT].inbox.is_empty()).expect("it arrives");
    assert!(pair.inbox(CLIENT)[0] == message);
}

#[test]
fn a_large_unreliable_message_does_not_overflow_a_small_queue_on_the_way() {
    // 10 Mb/s with a queue of 64 packets; the message has 235.
    let path = Path { delay: ms(25), rate: Some((1_250_000, 64)), ..Path::default() };
    for tick in [0, 16, 33] {
        let mut pair = Pair::new(28).path(path.clone());
        pair.ends[SERVER].tick = ms(tick);
        for _ in 0..3 {
            pair.send(SERVER, FRAGMENTED, &vec![7; 256 << 10]);
            pair.run_for(ms(600));
        }
        assert_eq!(pair.inbox(CLIENT).len(), 3, "server acts every {tick} ms");
        assert_eq!(pair.ends[SERVER].overflowed, 0);
    }
}

#[test]
fn game_traffic_leaves_at_once_whatever_else_waits() {
    let mut pair = Pair::new(29).path(Path { rate: Some((125_000, 20)), ..Path::default() });
    pair.send(SERVER, RELIABLE, &[1; 60_000]);
    pair.run_for(ms(500));
    for round in 0..50 {
        let _ = pair.ends[SERVER].link.send(pair.now, RELIABLE, &[1; 60_000]);
        for _ in 0..10 {
            pair.send(SERVER, UNRELIABLE, &[round; 1000]);
        }
        pair.flush();
        assert_eq!(pair.ends[SERVER].link.backlog(UNRELIABLE).unwrap().bytes, 0, "round {round}");
        pair.run_for(ms(100));
    }
}

/// The packets of one message go to the kernel as one run if they are alike.
#[test]
fn the_packets_of_a_large_message_have_one_size_though_an_ack_is_owed() {
    let (mut now, mut buf) = (Mono::ZERO, [0; 1400]);
    let limits = Arc::new(Limits::default());
    let mut random = SeededRandom::new(1);
    let mut server = Link::new(&Arc::new(LinkConfig::server()), &limits, now, &mut random);
    let mut client = Link::new(&Arc::new(LinkConfig::client()), &limits, now, &mut random);
    client.send(now, ChannelId::UNRELIABLE, b"asks for an ack").unwrap();
    let length = client.poll_packet(now, &mut buf).unwrap();
    server.handle_packet(now, &buf[..length], &mut |_, _| {}).unwrap();
    now = now + ms(1);
    server.send(now, ChannelId::UNRELIABLE_FRAGMENTED, &[7; 8192]).unwrap();
    let mut sizes = Vec::new();
    let mut got = 0;
    while let Some(length) = server.poll_packet(now, &mut buf) {
        sizes.push(length);
        client.handle_packet(now, &buf[..length], &mut |_, message| got += message.len()).unwrap();
    }
    let (last, others) = sizes.split_last().unwrap();
    assert_eq!((others.len(), got), (7, 8192));
    assert!(others.iter().all(|size| *size == others[0]) && *last < others[0], "{sizes:?}");
    assert!(client.stats().rtt.is_some(), "the ack was forgotten");
}
