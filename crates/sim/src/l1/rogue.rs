//! Clients with good credentials and bad intentions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netstream::transport::channel::Link;
use netstream::transport::netcode::{self, HEADROOM, MAX_BODY, MAX_DATAGRAM_OUT};
use netstream::transport::{ChannelId, Limits, Mono};

use super::ledger::{Attempt, Ledger, ROGUE};
use super::setup::Setup;
use crate::attacker::{damage, noise};
use crate::clock::NodeClock;
use crate::dice::Dice;
use crate::network::{Network, Owner, Port};
use crate::oracle::{Received, Sent};
use crate::plan::Plan;

/// A client that proves who it is and then sends nonsense inside its sealed packets.
///
/// The server may end it at any time; nobody else may notice.
pub(crate) struct Rogue {
    number: usize,
    interval: Duration,
    clock: NodeClock,
    session: Option<Session>,
    dice: Dice,
    buf: Vec<u8>,
}

struct Session {
    core: netcode::Client,
    /// Makes what is right, to be spoilt.
    link: Link,
    port: Port,
    attempt: usize,
    connected: bool,
}

/// Identities of rogues start here.
const IDENTITIES: u64 = 1 << 32;

impl Rogue {
    pub(crate) fn new(plan: &Plan, number: usize, rate: f64) -> Self {
        Self {
            number,
            interval: Duration::from_secs_f64(1.0 / rate),
            clock: NodeClock::new(Duration::ZERO),
            session: None,
            dice: Dice::new(plan.seed, "rogue", number),
            buf: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, now: Mono, setup: &Setup, network: &mut Network, ledger: &mut Ledger) -> Mono {
        match self.session.take() {
            None => self.session = Some(self.join(now, setup, network, ledger)),
            Some(session) => self.session = self.act(now, session, network, ledger),
        }
        let pause = if self.session.is_some() { self.interval } else { Duration::from_secs(1) };
        now + pause.mul_f64(0.5 + self.dice.share())
    }

    /// It is not there any more.
    pub(crate) fn vanish(&mut self, now: Mono, network: &mut Network, ledger: &mut Ledger) {
        if let Some(session) = self.session.take() {
            self.leave(now, &session, network, ledger);
        }
    }

    fn join(&mut self, now: Mono, setup: &Setup, network: &mut Network, ledger: &mut Ledger) -> Session {
        let (attempt, token) = (ledger.attempts.len(), ledger.token_users.len() as u32);
        let identity = IDENTITIES + self.number as u64;
        ledger.token_users.push(attempt);
        ledger.attempts.push(Attempt {
            client: ROGUE,
            identity,
            token,
            started: now,
            connected: None,
            ended: None,
            goodbyes: Vec::new(),
            sent: Sent::default(),
            received: Received::default(),
            bond: None,
        });
        let order = &setup.servers[..1];
        let credentials = setup.credentials(identity, token, order, now, &mut self.dice);
        let config = setup.client(credentials, order.to_vec());
        let local = self.clock.at(now);
        let limits = Arc::new(Limits::client());
        let core = netcode::Client::new(config.netcode, &limits, self.dice.random(), local);
        let mut link = config.link;
        link.mtu = MAX_BODY;
        let link = Link::new(&Arc::new(link), &limits, local.mono, self.dice.random());
        let address = SocketAddr::from(([198, 51, 101, 1 + self.number as u8], 1024 + (attempt % 60_000) as u16));
        let port = network.open(Owner::Client(ROGUE), address);
        Session { core: core.expect("the address is given"), link, port, attempt, connected: false }
    }

    fn act(&mut self, now: Mono, mut session: Session, network: &mut Network, ledger: &mut Ledger) -> Option<Session> {
        let local = self.clock.at(now);
        while let Some(from) = network.receive(now, session.port, &mut self.buf) {
            if let Some(body) = session.core.handle_datagram(local, from, &mut self.buf) {
                // What the server says is none of its business.
                let _ = session.link.handle_packet(local.mono, body, &mut |_, _| {});
            }
        }
        session.core.tick(local);
        while let Some(event) = session.core.poll_event() {
            match event {
                netcode::client::Event::Connected { .. } => session.connected = true,
                _ => {
                    self.leave(now, &session, network, ledger);
                    return None;
                }
            }
        }
        self.buf.resize(MAX_DATAGRAM_OUT, 0);
        if session.connected {
            let len = self.write_nonsense(local.mono, &mut session.link);
            if let Some((to, at)) = session.core.seal_payload(local, &mut self.buf, len) {
                network.injected.count("rogue packet");
                network.send(now, session.port, to, &self.buf[at]);
            }
        }
        while let Some(transmit) = session.core.poll_transmit(local, &mut self.buf) {
            network.send(now, session.port, transmit.to, &self.buf[..transmit.len]);
        }
        Some(session)
    }

    /// Writes a body that is wrong somewhere, or right, and returns its length.
    fn write_nonsense(&mut self, now: Mono, link: &mut Link) -> usize {
        let Self { dice, buf, .. } = self;
        let channel = ChannelId(dice.number(0..=4) as u8);
        let size = dice.magnitude(1.0..=3000.0) as usize;
        let _ = link.send(now, channel, &vec![0; size]);
        link.handle_timeout(now);
        let room = &mut buf[HEADROOM..HEADROOM + MAX_BODY];
        let right = link.poll_packet(now, room);
        let mut body = match right {
            Some(len) => room[..len].to_vec(),
            None => noise(dice),
        };
        if dice.chance(0.7) {
            damage(&mut body, dice);
        }
        let len = body.len().clamp(1, MAX_BODY);
        body.resize(len, 0);
        room[..len].copy_from_slice(&body);
        len
    }

    fn leave(&self, now: Mono, session: &Session, network: &mut Network, ledger: &mut Ledger) {
        network.close(session.port);
        ledger.attempts[session.attempt].ended.get_or_insert((now, None));
    }
}
