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
use crate::plan::{Mischief, Plan};

/// A client that proves who it is and then does what no honest client does.
///
/// The server may end it at any time; nobody else may notice.
pub(crate) struct Rogue {
    number: usize,
    mischief: Mischief,
    interval: Duration,
    clock: NodeClock,
    session: Option<Session>,
    /// The one that swaps challenges with it.
    accomplice: Option<Session>,
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
    /// Packets that came from the server, and packets that went there.
    received: u64,
    sent: u16,
}

/// Of so many fragments one lies about its message.
const LIES: f64 = 0.05;

/// Identities of rogues start here.
const IDENTITIES: u64 = 1 << 32;

impl Rogue {
    pub(crate) fn new(plan: &Plan, number: usize, mischief: Mischief, rate: f64) -> Self {
        Self {
            number,
            mischief,
            interval: Duration::from_secs_f64(1.0 / rate),
            clock: NodeClock::new(Duration::ZERO),
            session: None,
            accomplice: None,
            dice: Dice::new(plan.seed, "rogue", number),
            buf: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, now: Mono, setup: &Setup, network: &mut Network, ledger: &mut Ledger) -> Mono {
        match (self.session.take(), self.accomplice.take()) {
            (None, other) => {
                if let Some(other) = other {
                    self.leave(now, &other, network, ledger);
                }
                self.session = Some(self.join(now, setup, network, ledger));
                if self.mischief == Mischief::SwapChallenges {
                    self.accomplice = Some(self.join(now, setup, network, ledger));
                }
            }
            (Some(mut session), mut other) => {
                for session in [Some(&mut session), other.as_mut()].into_iter().flatten() {
                    self.listen(now, session, network);
                }
                if let Some(other) = &mut other {
                    swap_challenges(&mut session.core, &mut other.core);
                }
                self.accomplice = other.and_then(|other| self.act(now, other, network, ledger));
                self.session = self.act(now, session, network, ledger);
            }
        }
        let pause = if self.session.is_some() { self.interval } else { Duration::from_secs(1) };
        now + pause.mul_f64(0.5 + self.dice.share())
    }

    /// It is not there any more.
    pub(crate) fn vanish(&mut self, now: Mono, network: &mut Network, ledger: &mut Ledger) {
        for session in [self.session.take(), self.accomplice.take()].into_iter().flatten() {
            self.leave(now, &session, network, ledger);
        }
    }

    fn join(&mut self, now: Mono, setup: &Setup, network: &mut Network, ledger: &mut Ledger) -> Session {
        let (attempt, token) = (ledger.attempts.len(), ledger.token_users.len() as u32);
        let identity = IDENTITIES + self.number as u64 * 2 + u64::from(self.session.is_some());
        let address = SocketAddr::from(([198, 51, 101, 1 + self.number as u8], 1024 + (attempt % 60_000) as u16));
        ledger.token_users.push(attempt);
        ledger.attempts.push(Attempt::new(ROGUE, identity, Some(address), token, now));
        let order = &setup.servers[..1];
        let credentials = setup.credentials(identity, token, order, now, &mut self.dice);
        let config = setup.client(credentials, order.to_vec());
        let local = self.clock.at(now);
        let limits = Arc::new(Limits::client());
        let core = netcode::Client::new(config.netcode, &limits, self.dice.random(), local);
        let mut link = config.link;
        link.mtu = MAX_BODY;
        let link = Link::new(&Arc::new(link), &limits, local.mono, self.dice.random());
        let port = network.open(Owner::Client(ROGUE), address);
        let core = core.expect("the address is given");
        Session { core, link, port, attempt, connected: false, received: 0, sent: 0 }
    }

    fn listen(&mut self, now: Mono, session: &mut Session, network: &mut Network) {
        let local = self.clock.at(now);
        while let Some(from) = network.receive(now, session.port, &mut self.buf) {
            if let Some(body) = session.core.handle_datagram(local, from, &mut self.buf) {
                session.received += 1;
                // What the server says is none of its business.
                if self.mischief != Mischief::NeverAcks {
                    let _ = session.link.handle_packet(local.mono, body, &mut |_, _| {});
                }
            }
        }
        session.core.tick(local);
    }

    fn act(&mut self, now: Mono, mut session: Session, network: &mut Network, ledger: &mut Ledger) -> Option<Session> {
        let local = self.clock.at(now);
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
        if session.connected && !matches!(self.mischief, Mischief::NeverAcks | Mischief::SwapChallenges) {
            let len = match self.mischief {
                Mischief::LyingAcks => self.write_lie(&session),
                Mischief::Fragments => self.write_fragment(session.sent),
                _ => self.write_nonsense(local.mono, &mut session.link),
            };
            session.sent = session.sent.wrapping_add(1);
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
        // Not zeros: what is damaged before them shall mean something large.
        let _ = link.send(now, channel, &vec![0xa5; size]);
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

    /// Writes a packet that acknowledges what was never sent, or everything.
    fn write_lie(&mut self, session: &Session) -> usize {
        let Self { dice, buf, .. } = self;
        let number = dice.number(0..=0xffff) as u16;
        // Numbers start at 0 for rogues' servers too, unless the plan says otherwise; then all of this is in the future.
        let largest = match dice.number(0..=2) {
            0 => session.received + dice.number(10..=5000),
            _ => session.received.saturating_sub(1),
        };
        let count = if dice.chance(0.5) { largest.min(0x0fff_ffff) } else { 0x0fff_ffff };
        let mut body = vec![0b101, number as u8, (number >> 8) as u8];
        body.extend_from_slice(&largest.to_le_bytes()[..3]);
        // No delay, no further ranges, and a count of four bytes.
        body.extend_from_slice(&[
            0,
            0,
            0xe0 | (count & 0xf) as u8,
            (count >> 4) as u8,
            (count >> 12) as u8,
            (count >> 20) as u8,
        ]);
        buf[HEADROOM..HEADROOM + body.len()].copy_from_slice(&body);
        body.len()
    }

    /// Writes a packet with the last piece of a message whose other pieces never come; now and then of one that has no
    /// such piece, or more pieces than any message.
    fn write_fragment(&mut self, number: u16) -> usize {
        let Self { dice, buf, .. } = self;
        let [low, high] = number.to_le_bytes();
        let lies = dice.chance(LIES);
        let mut any = || if lies { dice.magnitude(1.0..=f64::from(1 << 28)) as u32 - 1 } else { 1 };
        let (index, count) = (any(), any().max(2));
        // A number of two bytes; a fragment to the end of the packet, on the channel for large messages.
        let mut body = vec![1, low, high, 5 << 5 | ChannelId::UNRELIABLE_FRAGMENTED.0, low, high];
        for value in [index, count] {
            // A varint of four bytes holds any number: its low four bits come first.
            body.extend_from_slice(&(0xe0 | value & 0xf | value >> 4 << 8).to_le_bytes());
        }
        body.push(0xa5);
        buf[HEADROOM..HEADROOM + body.len()].copy_from_slice(&body);
        body.len()
    }

    fn leave(&self, now: Mono, session: &Session, network: &mut Network, ledger: &mut Ledger) {
        network.close(session.port);
        ledger.attempts[session.attempt].ended.get_or_insert((now, None));
    }
}

/// Each answers the other's challenge, if both have one.
#[cfg(feature = "mutants")]
fn swap_challenges(one: &mut netcode::Client, other: &mut netcode::Client) {
    one.swap_challenges(other);
}

/// Without the feature nobody can: they only join.
#[cfg(not(feature = "mutants"))]
fn swap_challenges(_: &mut netcode::Client, _: &mut netcode::Client) {}

/// Many players with good credentials ask to be let in, each from an address of its own, and do not answer.
pub(super) fn send_mob(now: Mono, players: u32, plan: &Plan, setup: &Setup, network: &mut Network) {
    let mut dice = Dice::new(plan.seed, "mob", now.as_nanos() as usize);
    let order = &setup.servers[..1];
    let mut buf = [0; MAX_DATAGRAM_OUT];
    for player in 0..players {
        let credentials = setup.credentials(IDENTITIES * 2 + u64::from(player), u32::MAX, order, now, &mut dice);
        let config = setup.client(credentials, order.to_vec());
        let local = NodeClock::new(Duration::ZERO).at(now);
        let core = netcode::Client::new(config.netcode, &Limits::default(), dice.random(), local);
        let mut core = core.expect("the address is given");
        if let Some(transmit) = core.poll_transmit(local, &mut buf) {
            network.injected.count("mob");
            let own = SocketAddr::from(([192, 18, (player >> 8) as u8, player as u8], 5000));
            network.inject(now, own, transmit.to, &buf[..transmit.len]);
        }
    }
}
