//! Datagrams of more than 1200 bytes, on the sockets of the operating system.

use std::time::Duration;

use netstream_driver::transport::{ChannelId, ConnectionId};
use netstream_driver::udp::{OsNetwork, UdpConfig};
use netstream_driver::{Clock, Credentials, NetworkDriver};

use crate::game::*;

/// A server and a client that have met.
struct Two {
    game: Game<OsNetwork>,
    server: (usize, ConnectionId),
    client: (usize, ConnectionId),
}

/// What an end asks for, in bytes of datagram.
fn asking(max: usize) -> impl FnOnce(&mut UdpConfig) {
    move |config| {
        *config = config.clone().with_max_datagram(max);
        config.limits.inbound_bytes = u32::MAX;
        config.limits.inbound_byte_burst = u32::MAX;
        config.limits.inbound_packets = u32::MAX;
        config.limits.inbound_packet_burst = u32::MAX;
        config.client_limits.bandwidth = None;
    }
}

impl Two {
    fn meet(host: &str, server: usize, client: usize) -> Self {
        let mut game = Game::new(OsNetwork);
        let server = game.add(asking(server));
        let now = game.clock.now();
        let endpoint = game.peers[server].driver.listen(now, &format!("udp://{host}:0").parse().unwrap()).unwrap();
        let code = Credentials::JoinCode(game.peers[server].driver.join_code().unwrap().clone());
        let (client, id) = game.dial_with(&endpoint, &code, asking(client));
        game.run(Duration::from_millis(300));
        let there = game.accepted(server)[0];
        Self { game, server: (server, there), client: (client, id) }
    }

    fn found(&self) -> [usize; 2] {
        [self.server, self.client].map(|(peer, id)| self.game.peers[peer].driver.stats(id).unwrap().max_datagram)
    }

    /// Bytes of UDP payload and datagrams that an end has sent.
    fn sent(&self, (peer, _): (usize, ConnectionId)) -> (u64, u64) {
        let stats = self.game.peers[peer].driver.socket_stats();
        (stats.bytes_sent, stats.sent)
    }

    /// Moves so many bytes in messages of 64 KiB, all of which arrive as they were; returns the mean size of the datagrams of
    /// the sender.
    fn transfer(&mut self, from: (usize, ConnectionId), to: (usize, ConnectionId), bytes: usize) -> u64 {
        let count = bytes >> 16;
        let message =
            |number: usize| -> Vec<u8> { (0..1 << 16).map(|at: usize| (at ^ (at >> 8) ^ number) as u8).collect() };
        let (before, mut next, mut arrived) = (self.sent(from), 0, 0);
        for _ in 0..6000 {
            let now = self.game.clock.now();
            let driver = &mut self.game.peers[from.0].driver;
            while next < count && driver.send(now, from.1, ChannelId::RELIABLE, &message(next)).is_ok() {
                next += 1;
            }
            self.game.step();
            for report in self.game.peers[to.0].log.drain(..) {
                assert!(report == Report::Message(to.1, ChannelId::RELIABLE, message(arrived)), "message {arrived}");
                arrived += 1;
            }
            if arrived == count {
                let (bytes, datagrams) = self.sent(from);
                return (bytes - before.0) / (datagrams - before.1);
            }
        }
        panic!("{arrived} of {count} messages arrived: {:?}", self.game.peers[from.0].driver.socket_stats());
    }

    /// Both directions, after which all logs are empty.
    fn exchange(&mut self, bytes: usize) -> [u64; 2] {
        self.game.peers.iter_mut().for_each(|peer| peer.log.clear());
        [self.transfer(self.server, self.client, bytes), self.transfer(self.client, self.server, bytes)]
    }

    fn is_up(&self) -> bool {
        let ended = |peer: &Peer<_>| peer.log.iter().any(|report| matches!(report, Report::Ended(..)));
        !self.game.peers.iter().any(ended) && self.found()[0] > 0
    }
}

#[test]
fn ends_that_both_ask_find_out_what_the_path_takes_and_use_it() {
    for host in ["127.0.0.1", "[::1]"] {
        if std::net::UdpSocket::bind((host.trim_matches(['[', ']']), 0)).is_err() {
            println!("SKIPPED: this machine has no {host}");
            continue;
        }
        let mut two = Two::meet(host, 1452, 1452);
        two.exchange(1 << 18);
        assert_eq!(two.found(), [1452; 2], "{host}");
        let mean = two.exchange(16 << 20);
        assert!(mean.iter().all(|mean| *mean > 1300), "{mean:?}");
    }
}

#[test]
fn an_end_that_asks_alone_stays_at_the_floor() {
    for (server, client) in [(1452, 1200), (1200, 1452)] {
        let mut two = Two::meet("127.0.0.1", server, client);
        let mean = two.exchange(1 << 20);
        two.game.run(Duration::from_secs(10));
        assert!(two.found() == [1200; 2] && two.is_up());
        assert!(mean.iter().all(|mean| *mean <= 1200), "{mean:?}");
    }
}

/// Runs `test` again in a process of its own that has a loopback interface of its own, with this MTU. Whether this is that
/// process.
#[cfg(target_os = "linux")]
fn is_on_interface_of(mtu: u32, test: &str) -> bool {
    use std::process::Command;
    const MARK: &str = "NETSTREAM_TEST_INTERFACE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let script = format!("ip link set lo mtu {mtu} up || exit 77; exec \"$0\" --exact \"$1\" --nocapture");
    let program = std::env::current_exe().unwrap();
    let again =
        Command::new("unshare").args(["-rn", "sh", "-c", &script]).arg(program).arg(test).env(MARK, "1").output();
    match again {
        Ok(again) if again.status.success() => {
            assert!(String::from_utf8_lossy(&again.stdout).contains("1 passed"), "there is no {test}");
        }
        // What failed is the test.
        Ok(again) if again.status.code() == Some(101) => {
            panic!("{}{}", String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr))
        }
        other => println!("SKIPPED {test}: no interface of its own to be had: {other:?}"),
    }
    false
}

#[cfg(target_os = "linux")]
#[test]
fn an_interface_that_refuses_large_datagrams_tells_their_size() {
    if !is_on_interface_of(1420, "mtu::an_interface_that_refuses_large_datagrams_tells_their_size") {
        return;
    }
    for host in ["127.0.0.1", "[::1]"] {
        let mut two = Two::meet(host, 1452, 1452);
        let mean = two.exchange(1 << 20);
        two.game.run(Duration::from_secs(10));
        assert!(two.found() == [1372; 2] && two.is_up(), "{host}: {:?}", two.found());
        assert!(mean.iter().all(|mean| *mean > 1200), "{mean:?}");
        for (peer, _) in [two.server, two.client] {
            let stats = two.game.peers[peer].driver.socket_stats();
            assert_eq!(
                (stats.error_message_size, stats.error_other),
                (3, 0),
                "three probes, and nothing else: {stats:?}"
            );
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_interface_that_comes_to_take_less_costs_a_second_and_nothing_reliable() {
    if !is_on_interface_of(65_536, "mtu::an_interface_that_comes_to_take_less_costs_a_second_and_nothing_reliable") {
        return;
    }
    let mut two = Two::meet("127.0.0.1", 1452, 1452);
    two.exchange(1 << 20);
    assert_eq!(two.found(), [1452; 2]);
    let narrow = std::process::Command::new("ip").args(["link", "set", "lo", "mtu", "1280"]).status().unwrap();
    assert!(narrow.success());
    two.exchange(1 << 20);
    assert!(two.found() == [1200; 2] && two.is_up());
    let stats = |two: &Two| two.game.peers[two.server.0].driver.socket_stats();
    assert!(stats(&two).error_message_size > 0);
    // What was refused for its size does not end that datagrams leave together.
    let before = stats(&two);
    two.exchange(4 << 20);
    let after = stats(&two);
    assert!((after.sent - before.sent) > 4 * (after.send_calls - before.send_calls), "{before:?} {after:?}");
}
