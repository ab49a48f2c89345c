//! How a link finds out what size of packets a path bears.

mod channel_pair;

use std::time::Duration;

use channel_pair::{CLIENT, Pair, Path, SEALING, SERVER, ms};
use netstream_transport::ChannelId;
use netstream_transport::channel::LinkConfig;

const RELIABLE: ChannelId = ChannelId::RELIABLE;

/// Both ends look for packets of up to `max` bytes, on a path of datagrams of `mtu` bytes.
fn searching(seed: u64, max: usize, mtu: usize) -> Pair {
    let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
    (server.max_mtu, client.max_mtu) = (max, max);
    Pair::with(seed, server, client).path(Path { mtu, rate: Some((1_250_000, 64)), ..Path::default() })
}

/// Says something in both directions, so that both ends know that there is a path, and lets the search end.
fn search(pair: &mut Pair) {
    for end in [SERVER, CLIENT] {
        pair.send(end, RELIABLE, b"hello");
    }
    pair.run_for(ms(5000));
}

/// Moves `count` messages of 60 000 bytes to the client, all of which must arrive as they were; returns how long it took.
fn transfer(pair: &mut Pair, count: u8) -> Duration {
    let mut next = 0;
    pair.ends[CLIENT].inbox.clear();
    let took = pair.run_until(Duration::from_secs(60), |pair| {
        while next < count && pair.ends[SERVER].link.send(pair.now, RELIABLE, &vec![next; 60_000]).is_ok() {
            next += 1;
        }
        pair.act(SERVER);
        pair.ends[CLIENT].inbox.len() == usize::from(count)
    });
    let took = took.expect("the transfer does not end");
    for (index, message) in pair.inbox(CLIENT).iter().enumerate() {
        assert!(message.len() == 60_000 && message.iter().all(|byte| usize::from(*byte) == index), "{index}");
    }
    assert_eq!((pair.ends[SERVER].violation, pair.ends[CLIENT].violation), (None, None));
    took
}

#[test]
fn the_size_found_is_the_largest_step_that_the_path_bears() {
    for (mtu, found) in [(1200, 1200), (1280, 1232), (1400, 1372), (1451, 1444), (1452, 1452), (1500, 1452)] {
        let mut pair = searching(1, 1427, mtu);
        search(&mut pair);
        for end in [SERVER, CLIENT] {
            let stats = pair.ends[end].link.stats();
            assert_eq!(stats.packet_size + SEALING, found, "path of {mtu}");
            assert_eq!(stats.mtu_probes_lost, if found == 1452 { 0 } else { 3 }, "path of {mtu}");
            assert_eq!(stats.packets_lost, 0, "probes are no losses");
        }
        let probes = pair.ends[SERVER].link.stats().mtu_probes;
        transfer(&mut pair, 4);
        assert_eq!(pair.ends[SERVER].link.stats().mtu_probes, probes, "the search is over");
        assert!(pair.ends[SERVER].link.stats().packets_lost < 20);
    }
}

#[test]
fn a_path_that_comes_to_bear_more_is_found_out_minutes_later() {
    let mut pair = searching(2, 1427, 1200);
    search(&mut pair);
    pair = pair.path(Path { mtu: 1500, ..Path::default() });
    pair.run_for(Duration::from_secs(300));
    assert_eq!(pair.ends[SERVER].link.stats().packet_size, 1175);
    pair.run_for(Duration::from_secs(310));
    assert_eq!(pair.ends[SERVER].link.stats().packet_size, 1427);
}

#[test]
fn a_path_that_comes_to_bear_less_is_noticed_within_seconds_and_nothing_reliable_is_lost() {
    let mut pair = searching(3, 1427, 1500);
    search(&mut pair);
    transfer(&mut pair, 10);
    assert_eq!(pair.ends[SERVER].link.stats().packet_size, 1427);
    pair.run_for(ms(200));
    for index in 0..3 {
        pair.send(SERVER, RELIABLE, &vec![index; 60_000]);
    }
    pair.run_for(ms(20));
    for end in &mut pair.ends {
        end.path.mtu = 1200;
    }
    pair.run_for(ms(3000));
    assert_eq!(pair.ends[SERVER].link.stats().packet_size, 1175);
    assert_eq!(pair.ends[SERVER].link.stats().mtu_black_holes, 1);
    let got = pair.inbox(CLIENT);
    assert_eq!(got.len(), 3, "what was under way arrives in smaller packets");
    transfer(&mut pair, 4);
}

#[test]
fn lost_probes_do_not_slow_a_transfer_down() {
    let took = |max| transfer(&mut searching(4, max, 1200), 40);
    let (without, with) = (took(1175), took(1427));
    assert!(with < without + without / 50, "{with:?} rather than {without:?}");
}

#[test]
fn random_loss_does_not_look_like_a_black_hole() {
    let mut pair = searching(5, 1427, 1500);
    search(&mut pair);
    for end in &mut pair.ends {
        end.path.loss = 0.05;
    }
    transfer(&mut pair, 60);
    assert_eq!(pair.ends[SERVER].link.stats().packet_size, 1427);
}

#[test]
fn unless_asked_for_no_packet_is_ever_larger_than_the_floor() {
    let mut pair = Pair::new(6).path(Path { rate: Some((1_250_000, 64)), ..Path::default() });
    search(&mut pair);
    transfer(&mut pair, 10);
    pair.run_for(Duration::from_secs(1300));
    for end in [SERVER, CLIENT] {
        let stats = pair.ends[end].link.stats();
        assert_eq!((stats.packet_size, stats.mtu_probes), (1175, 0));
    }
    assert!(pair.largest.iter().all(|size| *size <= 1175), "{:?}", pair.largest);
}
