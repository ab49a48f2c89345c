//! Clients that speak the lower layers well, and nonsense to the Worlds above.

use std::sync::Arc;
use std::time::Duration;

use netstream::driver::udp::UdpConfig;
use netstream::transport::channel::{Link, LinkConfig};
use netstream::transport::netcode::{self, HEADROOM, JoinCode, MAX_BODY, MAX_DATAGRAM_OUT, client};
use netstream::transport::{ChannelId, Limits, Mono, SeededRandom};

use super::{ServerWorld, address_of};
use crate::attacker::{damage, noise};
use crate::clock::NodeClock;
use crate::dice::Dice;
use crate::network::{Network, Owner, Port};

/// Identities of rogues start here.
pub(super) const IDENTITIES: u64 = 1 << 32;

/// A client without a World: real handshake, real channels, messages of all kinds with anything in them.
pub(super) struct Rogue {
    number: u64,
    interval: Duration,
    session: Option<Session>,
    sockets: u16,
    dice: Dice,
    buf: Vec<u8>,
}

struct Session {
    core: netcode::Client,
    link: Link,
    port: Port,
    connected: bool,
    /// What a client says first, and what the server has said, to be said back with faults in it.
    heard: Vec<Vec<u8>>,
}

impl Rogue {
    pub(super) fn new(seed: u64, number: usize, rate: f64) -> Self {
        Self {
            number: number as u64,
            interval: Duration::from_secs_f64(1.0 / rate),
            session: None,
            sockets: 0,
            dice: Dice::new(seed, "rogue", number),
            buf: Vec::new(),
        }
    }

    /// One turn; says when the next is due.
    pub(super) fn step(&mut self, now: Mono, server: &mut ServerWorld, code: &JoinCode, network: &mut Network) -> Mono {
        match self.session.take() {
            None => self.session = Some(self.join(now, server, code, network)),
            Some(session) => self.session = self.act(now, session, network),
        }
        let pause = if self.session.is_some() { self.interval } else { Duration::from_secs(1) };
        now + pause.mul_f64(0.5 + self.dice.share())
    }

    fn join(&mut self, now: Mono, server: &mut ServerWorld, code: &JoinCode, network: &mut Network) -> Session {
        let protocol_id = UdpConfig::new(&mut SeededRandom::new(1)).protocol_id;
        let credentials = client::Credentials::JoinCode {
            code: code.clone(),
            protocol_id,
            client_id: IDENTITIES + self.number,
            user_data: Box::new([0; 256]),
        };
        let config = client::ClientConfig {
            credentials,
            addresses: vec![address_of(0)],
            allow_local: false,
            cipher: Default::default(),
        };
        let local = NodeClock::new(Duration::ZERO).at(now);
        let core = netcode::Client::new(config, &Limits::default(), self.dice.random(), local);
        let mut link = LinkConfig::client();
        link.mtu = MAX_BODY;
        let link = Link::new(&Arc::new(link), &Arc::new(Limits::client()), local.mono, self.dice.random());
        self.sockets = self.sockets.wrapping_add(1);
        let address = ([198, 51, 101, 1 + self.number as u8], 1024 + self.sockets % 60_000).into();
        let port = network.open(Owner::Client(usize::MAX), address);
        Session {
            core: core.expect("the address is given"),
            link,
            port,
            connected: false,
            heard: Vec::from_iter(server.greeting()),
        }
    }

    fn act(&mut self, now: Mono, mut session: Session, network: &mut Network) -> Option<Session> {
        let local = NodeClock::new(Duration::ZERO).at(now);
        let Session { core, link, port, connected, heard } = &mut session;
        while let Some(from) = network.receive(now, *port, &mut self.buf) {
            if let Some(body) = core.handle_datagram(local, from, &mut self.buf) {
                let _ = link.handle_packet(local.mono, body, &mut |_, message| heard.push(message.to_vec()));
            }
        }
        core.tick(local);
        while let Some(event) = core.poll_event() {
            match event {
                client::Event::Connected { .. } => *connected = true,
                _ => {
                    network.close(*port);
                    return None;
                }
            }
        }
        self.buf.resize(MAX_DATAGRAM_OUT, 0);
        if *connected {
            let dice = &mut self.dice;
            let mut message = match heard.last() {
                Some(heard) if dice.chance(0.7) => heard.clone(),
                _ => {
                    let mut message = noise(dice);
                    message.insert(0, dice.number(0..=8) as u8);
                    message
                }
            };
            if dice.chance(0.5) {
                damage(&mut message, dice);
            }
            heard.truncate(8);
            let _ = link.send(local.mono, ChannelId(dice.pick(&[0, 1, 1, 2])), &message);
            link.handle_timeout(local.mono);
            while let Some(len) = link.poll_packet(local.mono, &mut self.buf[HEADROOM..HEADROOM + MAX_BODY]) {
                if let Some((to, at)) = core.seal_payload(local, &mut self.buf, len) {
                    network.injected.count("rogue packet");
                    network.send(now, *port, to, &self.buf[at]);
                }
            }
        }
        while let Some(transmit) = core.poll_transmit(local, &mut self.buf) {
            network.send(now, *port, transmit.to, &self.buf[..transmit.len]);
        }
        Some(session)
    }

    /// It is not there any more.
    pub(super) fn vanish(&mut self, network: &mut Network) {
        if let Some(session) = self.session.take() {
            network.close(session.port);
        }
    }
}
