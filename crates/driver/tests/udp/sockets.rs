//! Strangers, and the sockets of the operating system.

use std::net::SocketAddr;
use std::time::Duration;

use netstream_driver::transport::{ChannelId, Random, SeededRandom};
use netstream_driver::udp::{MemoryNetwork, OsNetwork};
use netstream_driver::{Clock, Credentials, NetworkDriver};

use crate::game::*;

#[test]
fn garbage_from_strangers_and_in_the_name_of_peers_changes_nothing_but_counters() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    let at = endpoint.socket_addr().unwrap();
    let peer = game.peers[server].driver.stats(there).unwrap().remote.unwrap();
    let mut random = SeededRandom::new(1);
    let sent = game.metrics(server)["datagrams_sent_total"];
    for round in 0..2000_u32 {
        let mut garbage = vec![0; round as usize % 1300];
        random.fill(&mut garbage);
        // Half of it looks like a packet of some type.
        if let (0, Some(first)) = (round % 2, garbage.first_mut()) {
            *first = (round % 7) as u8 | 0x20;
        }
        game.network.inject(peer, at, &garbage);
        game.network.inject(SocketAddr::from(([1, 2, 3, 4], 5)), at, &garbage);
        game.network.inject(at, peer, &garbage);
        if round % 20 == 0 {
            game.step();
        }
    }
    game.run(Duration::from_secs(1));
    assert!(game.is_connected(client, id));
    assert_eq!(game.accepted(server), [there]);
    assert_eq!(game.end_of(server, there), None);
    // Nobody was answered: what left are the keep-alives of some three seconds.
    assert!(game.metrics(server)["datagrams_sent_total"] - sent < 20);
}

#[test]
fn a_server_of_both_families_takes_clients_of_either() {
    let mut game = Game::new(OsNetwork);
    let server = game.add(|_| {});
    let now = game.clock.now();
    // Without IPv6 on this machine there is nothing to test.
    let Ok(bound) = game.peers[server].driver.listen(now, &"udp://[::]:0".parse().unwrap()) else { return };
    let credentials = Credentials::JoinCode(game.peers[server].driver.join_code().unwrap().clone());
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let endpoint = format!("udp://{host}:{}", bound.port().unwrap()).parse().unwrap();
        let (client, id) = game.dial(&endpoint, &credentials);
        for _ in 0..200 {
            game.step();
            // Looking a name up takes real time.
            if !game.is_connected(client, id) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(game.is_connected(client, id), "{host}: {:?}", game.peers[client].log);
    }
    let addresses = game.accepted(server).into_iter().map(|id| game.peers[server].driver.stats(id).unwrap().remote);
    let v4 = addresses.flatten().filter(SocketAddr::is_ipv4).count();
    assert!(v4 >= 1, "IPv4 is not written as IPv6");
}

#[test]
fn what_a_server_prints_can_be_dialled_on_the_same_machine() {
    let mut game = Game::new(OsNetwork);
    let server = game.add(|_| {});
    let now = game.clock.now();
    let bound = game.peers[server].driver.listen(now, &"udp://0.0.0.0:0".parse().unwrap()).unwrap();
    let credentials = Credentials::JoinCode(game.peers[server].driver.join_code().unwrap().clone());
    let (client, id) = game.dial(&bound, &credentials);
    game.run(Duration::from_millis(300));
    assert!(game.is_connected(client, id));
}

#[test]
fn many_clients_join_at_once_on_real_sockets() {
    const CLIENTS: usize = 200;
    let mut game = Game::new(OsNetwork);
    let (server, endpoint, credentials) = game.serve(|_| {});
    let clients: Vec<_> = (0..CLIENTS).map(|_| game.dial(&endpoint, &credentials)).collect();
    game.run(Duration::from_secs(2));
    assert!(clients.iter().all(|(client, id)| game.is_connected(*client, *id)));
    let now = game.clock.now();
    for id in game.accepted(server) {
        game.peers[server].driver.send(now, id, ChannelId::RELIABLE, &id.index.to_le_bytes()).unwrap();
    }
    game.run(Duration::from_millis(100));
    for (client, id) in clients {
        let message = game.peers[client].log.iter().find_map(|report| match report {
            Report::Message(on, _, bytes) => Some((*on, bytes.len())),
            _ => None,
        });
        assert_eq!(message, Some((id, 4)));
    }
}
