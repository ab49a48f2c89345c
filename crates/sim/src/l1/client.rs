//! A client: its machine, its attempts to connect, and what its player does.

use std::net::SocketAddr;
use std::time::Duration;

use netstream::transport::channel::SendError;
use netstream::transport::netcode::LARGEST_DATAGRAM;
use netstream::transport::netcode::client::Credentials;
use netstream::transport::{ChannelId, Client, ConnectionId, DisconnectCode, DisconnectReason, Mono};

use super::ledger::{Attempt, Ledger, upstream};
use super::server::digest;
use super::setup::Setup;
use super::wire::Numbers;
use crate::dice::Dice;
use crate::invariant::Invariant;
use crate::network::{Network, Owner, Port};
use crate::plan::{Plan, Workload, slow};
use crate::stage::{Moment, Mood};
use crate::traffic;

/// How often an old token is shown again that has let somebody in.
const STALE_TOKEN: f64 = 0.05;

/// A client.
pub(crate) struct ClientNode {
    index: usize,
    /// The newest is the last; those before it are saying goodbye.
    sessions: Vec<Session>,
    /// When it connects next, unless it is connected.
    next_join: Option<Mono>,
    identity: u64,
    sockets: u16,
    last: Mono,
    /// What the last attempt has shown, where a back-end made it.
    used: Option<(u32, Credentials)>,
    dice: Dice,
    /// Messages that are sent at once in the next update.
    spurt: u32,
    arrived: Vec<u8>,
    leaving: Vec<u8>,
    message: Vec<u8>,
}

/// One attempt, with a socket of its own.
struct Session {
    attempt: usize,
    core: Client,
    port: Port,
    numbers: Numbers,
    last_to: Option<SocketAddr>,
    /// Packets of the link that had left when reliable data was first seen waiting, and when that was.
    stalled: Option<super::checks::Stalled>,
}

impl ClientNode {
    pub(crate) fn new(index: usize, plan: &Plan) -> Self {
        let mut dice = Dice::new(plan.seed, "client", index);
        let workload = &plan.workload;
        Self {
            index,
            sessions: Vec::new(),
            next_join: Some(Mono::ZERO + dice.up_to(workload.join_within)),
            identity: 1 + (index % workload.identities) as u64,
            sockets: 0,
            last: Mono::ZERO,
            used: None,
            dice,
            spurt: 0,
            arrived: Vec::new(),
            leaving: vec![0; LARGEST_DATAGRAM],
            message: Vec::new(),
        }
    }

    /// Sends so many messages in the next update.
    pub(crate) fn spurt(&mut self, messages: u32) {
        self.spurt = messages;
    }

    /// Its attempt if it is up and stays, and how much it has still to deliver.
    pub(crate) fn queued(&self) -> Option<(usize, usize)> {
        let session =
            self.sessions.last().filter(|session| !session.core.is_connecting() && !session.core.is_ending())?;
        Some((session.attempt, session.core.stats().reliable_queued))
    }

    /// The newest socket.
    pub(crate) fn port(&self) -> Option<Port> {
        self.sessions.last().map(|session| session.port)
    }

    /// The attempt that is under way or up, if any.
    pub(crate) fn current(&self, ledger: &Ledger) -> Option<usize> {
        self.sessions.last().map(|session| session.attempt).filter(|&attempt| ledger.attempts[attempt].ended.is_none())
    }

    /// The process is gone without a word, and starts again after `pause`.
    pub(crate) fn crash(&mut self, now: Mono, pause: Duration, network: &mut Network, ledger: &mut Ledger) {
        for session in self.sessions.drain(..) {
            network.close(session.port);
            ledger.attempts[session.attempt].ended.get_or_insert((now, None));
        }
        // Now and then the next attempt comes from the same port.
        if self.dice.chance(0.5) {
            self.sockets = self.sockets.saturating_sub(1);
        }
        self.next_join = Some(now + pause);
    }

    /// One update.
    pub(crate) fn step(
        &mut self,
        at: Moment,
        mood: Mood,
        setup: &Setup,
        workload: &Workload,
        network: &mut Network,
        ledger: &mut Ledger,
    ) {
        let Moment { truth: now, local } = at;
        for Session { core, port, attempt, .. } in &mut self.sessions {
            let mut report = |incoming: netstream::transport::Incoming<'_>| {
                ledger.client_reports(now, *attempt, &incoming);
            };
            let mut fetched = 0;
            while network.may_receive(now, *port, fetched)
                && let Some(from) = network.receive(now, *port, &mut self.arrived)
            {
                fetched += 1;
                core.handle_datagram(local, from, &mut self.arrived, &mut report);
            }
            core.tick(local, &mut report);
        }
        self.decide(at, mood, setup, workload, network, ledger);
        if mood.plays() {
            self.play(at, workload, ledger);
        }
        self.transmit(at, workload, network, ledger);
        self.sessions.retain(|session| {
            let over = session.core.is_over();
            if over {
                network.close(session.port);
            }
            !over
        });
        self.last = now;
    }

    /// Whether to come, to stay or to go.
    fn decide(
        &mut self,
        at: Moment,
        mood: Mood,
        setup: &Setup,
        workload: &Workload,
        network: &mut Network,
        ledger: &mut Ledger,
    ) {
        let Moment { truth: now, local } = at;
        let passed = now.since(self.last).as_secs_f64();
        match self.current(ledger) {
            None => match (self.next_join, mood) {
                (_, Mood::Leaving) => {}
                (None, Mood::Wild) => self.next_join = Some(now + workload.away.mul_f64(self.dice.share() * 2.0)),
                (None, _) => self.next_join = Some(now + Duration::from_secs(1).mul_f64(self.dice.share())),
                (Some(due), _) if due <= now => self.join(at, mood, setup, network, ledger),
                (Some(due), Mood::Steady | Mood::Quiet) => self.next_join = Some(due.min(now + Duration::from_secs(1))),
                (Some(_), Mood::Wild) => {}
            },
            Some(attempt) => {
                let is_up = ledger.attempts[attempt].is_up();
                let leaves = match mood {
                    Mood::Wild if is_up => self.dice.chance(passed / workload.stay.as_secs_f64()),
                    // Changing one's mind in the middle of the handshake makes no sense, but is allowed.
                    Mood::Wild => self.dice.chance(workload.nonsense * passed),
                    Mood::Steady | Mood::Quiet => false,
                    Mood::Leaving => ledger.attempts[attempt].goodbyes.is_empty(),
                };
                if leaves {
                    if is_up {
                        for _ in 0..workload.last_words {
                            self.send(at, 1, ledger);
                        }
                    }
                    let linger = if mood == Mood::Leaving { Duration::from_secs(5) } else { workload.linger };
                    let code = DisconnectCode::Application(self.dice.number(0..=65_535) as u16);
                    let reason = DisconnectReason::local(code).with_text(&format!("attempt {attempt} has had enough"));
                    ledger.attempts[attempt].goodbyes.push(reason.clone());
                    ledger.attempts[attempt].over_by.get_or_insert(now + slow(linger));
                    if let Some(session) = self.sessions.last_mut() {
                        session.core.disconnect(local, &reason, linger);
                        if mood == Mood::Wild && self.dice.chance(0.2) {
                            // Twice, with other words, which nobody may hear.
                            let other = DisconnectReason::local(DisconnectCode::Banned);
                            session.core.disconnect(local, &other, Duration::ZERO);
                        }
                    }
                    self.next_join = None;
                }
            }
        }
    }

    /// Starts an attempt.
    fn join(&mut self, at: Moment, mood: Mood, setup: &Setup, network: &mut Network, ledger: &mut Ledger) {
        let now = at.truth;
        self.next_join = None;
        let attempt = ledger.attempts.len();
        let mut order = setup.servers.clone();
        if self.dice.chance(0.5) {
            order.reverse();
        }
        let stale = mood == Mood::Wild && self.dice.chance(STALE_TOKEN);
        // Shown again before it let anybody in, it would not be a used one.
        let was_used =
            |(token, _): &(u32, Credentials)| ledger.attempts[ledger.token_users[*token as usize]].connected.is_some();
        let (token, credentials) = match self.used.take().filter(|used| stale && was_used(used)) {
            Some(used) => {
                ledger.record.sometimes.count("a used token is shown again");
                used
            }
            None => {
                let token = ledger.token_users.len() as u32;
                ledger.token_users.push(attempt);
                (token, setup.credentials(self.identity, token, &order, now, &mut self.dice))
            }
        };
        // A join code makes a new token each time; only a back-end's can be shown twice.
        if matches!(credentials, Credentials::Token(_)) {
            self.used = Some((token, credentials.clone()));
        }
        ledger.token_users[token as usize] = attempt;
        ledger.attempts.push(Attempt::new(self.index, self.identity, None, token, now));
        let addresses = if matches!(credentials, Credentials::Token(_)) { Vec::new() } else { order };
        let config = setup.client(credentials, addresses);
        let id = ConnectionId { index: 0, generation: attempt as u32 };
        match Client::new(id, config, self.dice.random(), at.local) {
            Ok(core) => {
                self.sockets = self.sockets % 20_000 + 1;
                let port = network.open(Owner::Client(self.index), Setup::client_address(self.index, self.sockets));
                let numbers = Numbers::default();
                self.sessions.push(Session { attempt, core, port, numbers, last_to: None, stalled: None });
                ledger.record.journal.note(now, self.index as u32, "join", attempt as u64, || {
                    format!("attempt {attempt} token {token} identity {}", self.identity)
                });
            }
            Err(error) => ledger.violate(now, Invariant::I8, format!("client {} cannot start: {error}", self.index)),
        }
    }

    fn play(&mut self, at: Moment, workload: &Workload, ledger: &mut Ledger) {
        let Some(attempt) = self.current(ledger) else { return };
        if !ledger.attempts[attempt].is_up() {
            return;
        }
        for _ in 0..std::mem::take(&mut self.spurt) {
            if let Some(session) = self.sessions.last_mut() {
                let _ = session.core.send(at.local, ChannelId::UNRELIABLE, &[]);
            }
        }
        let due = traffic::due(&workload.up, at.truth.since(self.last), &mut self.dice);
        for (channel, count) in (0u8..).zip(due) {
            for _ in 0..count {
                self.send(at, channel, ledger);
            }
        }
    }

    fn send(&mut self, at: Moment, channel: u8, ledger: &mut Ledger) {
        let Moment { truth: now, local } = at;
        let Some(Session { attempt, core, .. }) = self.sessions.last_mut() else { return };
        let sent = &mut ledger.attempts[*attempt].sent;
        sent.next(upstream(*attempt), channel).write(ledger.largest_up[usize::from(channel)], &mut self.message);
        // Long ones of odd lengths leave with their memory; that must make no difference.
        let owned = self.message.len() > 4096 && self.message.len() % 2 == 1;
        let sent_off = match owned {
            true => core.send_owned(local, ChannelId(channel), &mut self.message.clone()),
            false => core.send(local, ChannelId(channel), &self.message),
        };
        match sent_off {
            Ok(()) => sent.took(channel),
            Err(SendError::QueueFull) => ledger.record.sometimes.count("client: send queue full"),
            Err(SendError::NotConnected) => {}
            Err(error) => ledger.violate(now, Invariant::I33, format!("client cannot send: {error}")),
        }
    }

    fn transmit(&mut self, at: Moment, workload: &Workload, network: &mut Network, ledger: &mut Ledger) {
        let (Moment { truth: now, local }, index) = (at, self.index);
        for Session { core, port, numbers, last_to, .. } in &mut self.sessions {
            while let Some(transmit) = core.poll_transmit(local, &mut self.leaving) {
                let datagram = &self.leaving[transmit.at];
                ledger.record.journal.note(now, index as u32, "send", digest(datagram), || {
                    format!("{} {} B type {}", transmit.to, datagram.len(), datagram[0] & 0xf)
                });
                if last_to.replace(transmit.to) != Some(transmit.to) && !workload.tokens {
                    // Each address is tried with a token of its own, and each token has keys of its own.
                    numbers.forget();
                }
                if let Err(what) = numbers.check(now, datagram) {
                    ledger.violate(now, Invariant::I15, format!("client {index} to {}: {what}", transmit.to));
                }
                if !network.refuses(now, *port) {
                    network.send(now, *port, transmit.to, datagram);
                }
            }
        }
    }

    /// What must hold at any time, looked at now and then.
    pub(crate) fn check(&mut self, now: Mono, awake_since: Mono, ledger: &mut Ledger) {
        for Session { attempt, core, stalled, .. } in &mut self.sessions {
            let who = format!("client {} attempt {attempt}", self.index);
            if core.violations().next().is_some() {
                ledger.violate(now, Invariant::I26, format!("{who} saw {:?}", core.violations().collect::<Vec<_>>()));
            }
            let stats = core.stats();
            super::checks::check_stats(now, &stats, &who, ledger);
            if ledger.attempts[*attempt].is_up() && !core.is_ending() {
                super::checks::check_progress(now, awake_since, &stats, stalled, &who, ledger);
            }
        }
    }
}
