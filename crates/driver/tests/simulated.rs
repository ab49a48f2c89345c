//! A bad network around a driver that has no packets: what it does to whole messages.

use std::time::Duration;

use netstream_driver::link::{Direction, LinkProfile, Simulated};
use netstream_driver::transport::{ChannelId, ConnectionId, DisconnectCode, Incoming, Mono, Now, Origin};
use netstream_driver::{Credentials, Endpoint, IpcDriver, IpcHub, NetworkDriver};

const MILLI: Duration = Duration::from_millis(1);

fn at(mono: Mono) -> Now {
    Now { mono, ..Now::default() }
}

/// A server behind a bad network, and clients who have nothing between them and it.
struct Party {
    now: Mono,
    server: Simulated<IpcDriver>,
    clients: Vec<Client>,
    /// Whom the server has accepted, in order.
    accepted: Vec<ConnectionId>,
    ends: Vec<(DisconnectCode, Origin)>,
}

struct Client {
    driver: IpcDriver,
    /// When each message came.
    got: Vec<(Mono, Vec<u8>)>,
}

impl Party {
    fn new(profile: LinkProfile, seed: u64, clients: usize) -> Self {
        let hub = IpcHub::new();
        let endpoint: Endpoint = "ipc://party".parse().unwrap();
        let mut server = Simulated::new(IpcDriver::new(&hub), profile, seed);
        server.listen(at(Mono::ZERO), &endpoint).unwrap();
        let clients = (0..clients).map(|_| {
            let mut driver = IpcDriver::new(&hub);
            driver.connect(at(Mono::ZERO), &endpoint, &Credentials::None).unwrap();
            Client { driver, got: Vec::new() }
        });
        let clients = clients.collect();
        Self { now: Mono::ZERO, server, clients, accepted: Vec::new(), ends: Vec::new() }
    }

    fn step(&mut self) {
        let Self { now, server, clients, accepted, ends } = self;
        server.receive(at(*now), &mut |incoming| {
            if let Incoming::Accepted { connection, .. } = incoming {
                accepted.push(connection);
            }
        });
        server.flush(at(*now));
        for Client { driver, got } in clients {
            driver.receive(at(*now), &mut |incoming| match incoming {
                Incoming::Message { bytes, .. } => got.push((*now, bytes.to_vec())),
                Incoming::Disconnected { reason, .. } => ends.push((reason.code, reason.origin)),
                _ => {}
            });
        }
        *now = *now + MILLI;
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }
}

#[test]
fn nobody_arrives_after_stop_listening() {
    let slow = LinkProfile { delay: 100 * MILLI, ..LinkProfile::PERFECT };
    let mut party = Party::new(slow, 1, 2);
    party.run(50 * MILLI);
    party.server.stop_listening(at(party.now));
    party.run(500 * MILLI);
    assert!(party.accepted.is_empty(), "they were on their way when the door was closed");
    assert_eq!(party.ends, [(DisconnectCode::Refused, Origin::Remote); 2]);
    // Whoever is in stays.
    let mut party = Party::new(slow, 1, 2);
    party.run(150 * MILLI);
    party.server.stop_listening(at(party.now));
    party.run(500 * MILLI);
    assert_eq!((party.accepted.len(), party.ends.len()), (2, 0));
}

#[test]
fn whoever_takes_the_place_of_another_is_reported_after_its_end() {
    let hub = IpcHub::new();
    let endpoint: Endpoint = "ipc://busy".parse().unwrap();
    let profile =
        LinkProfile { delay: 20 * MILLI, jitter: 20 * MILLI, loss: 0.5, reorder: 0.2, ..LinkProfile::PERFECT };
    let mut server = Simulated::new(IpcDriver::new(&hub), profile, 5);
    let mut now = Mono::ZERO;
    server.listen(at(now), &endpoint).unwrap();
    let (mut live, mut gone) = (Vec::<ConnectionId>::new(), 0);
    for round in 0..3000 {
        if round < 2000 {
            let mut client = IpcDriver::new(&hub);
            client.connect(at(now), &endpoint, &Credentials::None).unwrap();
            server.receive(at(now), &mut |incoming| follow(&incoming, &mut live, &mut gone));
        }
        now = now + MILLI;
        server.receive(at(now), &mut |incoming| follow(&incoming, &mut live, &mut gone));
    }
    assert_eq!((live.len(), gone), (0, 2000));
}

fn follow(incoming: &Incoming<'_>, live: &mut Vec<ConnectionId>, gone: &mut u32) {
    match *incoming {
        Incoming::Accepted { connection, .. } => {
            assert!(live.iter().all(|other| other.index != connection.index), "{connection:?} with {live:?}");
            live.push(connection);
        }
        Incoming::Disconnected { connection, .. } => {
            live.retain(|other| *other != connection);
            *gone += 1;
        }
        _ => {}
    }
}

/// Three players get some traffic of a game each; the share that a preset names is what is lost, and nothing else is.
#[test]
fn a_preset_loses_what_it_says_also_without_packets() {
    for (name, profile) in LinkProfile::PRESETS.iter().filter(|(_, profile)| !profile.is_perfect()) {
        let mut party = Party::new(*profile, 7, 3);
        while party.accepted.len() < 3 {
            party.step();
        }
        let (steps, before) = (40_000u32, Simulated::stats(&mut party.server, Direction::Outgoing));
        let mut unreliable = 0u32;
        for step in 0..steps {
            if step % 16 == 0 {
                for place in 0..3 {
                    let (now, to) = (at(party.now), party.accepted[place]);
                    party.server.send(now, to, ChannelId::UNRELIABLE, &[0; 300]).unwrap();
                    party.server.send(now, to, ChannelId::RELIABLE, &[1; 60]).unwrap();
                    unreliable += 1;
                }
            }
            party.step();
        }
        party.run(Duration::from_secs(5));
        let stats = Simulated::stats(&mut party.server, Direction::Outgoing);
        assert_eq!(stats.overflowed, 0, "{name}: the link has room for all of it");
        let got =
            |kind| party.clients.iter().flat_map(|client| &client.got).filter(|(_, bytes)| bytes[0] == kind).count();
        assert_eq!(got(1), unreliable as usize, "{name}: as many reliable ones were sent, and all arrive");
        // Six deviations of a binomial distribution; a burst makes them larger.
        let share = f64::from(profile.loss);
        let spread = 6.0 * (share * (1.0 - share) * f64::from(profile.burst) * 2.0 / f64::from(unreliable)).sqrt();
        let extra = f64::from(profile.duplicate) * f64::from(unreliable);
        let lost = 1.0 - (got(0) as f64 - extra) / f64::from(unreliable);
        assert!((lost - share).abs() <= spread, "{name}: {lost:.3} of the unreliable ones, {share} said");
        let (packets, all) = (stats.packets - before.packets, stats.lost - before.lost);
        let rate = all as f64 / packets as f64;
        assert!((rate - share).abs() <= spread, "{name}: {rate:.3} of all, {share} said");
    }
}

#[test]
fn the_losses_of_one_connection_delay_no_other() {
    // Half of all is lost, so that a reliable message of the first player is late by hundreds of milliseconds.
    let profile = LinkProfile { delay: 20 * MILLI, loss: 0.5, rate: Some(1_000_000), ..LinkProfile::PERFECT };
    let mut party = Party::new(profile, 3, 2);
    while party.accepted.len() < 2 {
        party.step();
    }
    let mut latest = Duration::ZERO;
    for step in 0..5000u32 {
        let now = at(party.now);
        let _ = party.server.send(now, party.accepted[0], ChannelId::RELIABLE, &[0; 100]);
        party.server.send(now, party.accepted[1], ChannelId::UNRELIABLE, &step.to_le_bytes()).unwrap();
        party.step();
    }
    party.run(Duration::from_secs(1));
    let first = party.now;
    let mut count = 0u32;
    for (when, bytes) in &party.clients[1].got {
        let number = u32::from_le_bytes(bytes[..].try_into().unwrap());
        let sent = first.since(Mono::ZERO) - Duration::from_secs(1) - (5000 - number) * MILLI;
        latest = latest.max(when.since(Mono::ZERO) - sent);
        count += 1;
    }
    assert!((2200..2800).contains(&count), "{count} of 5000 arrived");
    assert!(latest <= 25 * MILLI, "an unreliable message took {latest:?} over 20 ms");
}
