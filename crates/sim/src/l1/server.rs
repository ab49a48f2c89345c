//! A server: its core, and what its game does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use netstream::transport::channel::SendError;
use netstream::transport::netcode::LARGEST_DATAGRAM;
use netstream::transport::{ChannelId, DisconnectCode, DisconnectReason, Mono, Server};

use super::ledger::{Accepted, Ledger, ROGUE, downstream};
use super::setup::Setup;
use super::wire::Numbers;
use crate::dice::Dice;
use crate::invariant::Invariant;
use crate::journal::SERVERS;
use crate::network::{Network, Owner, Port};
use crate::plan::{Plan, Workload, slow};
use crate::stage::{Moment, Mood};
use crate::tally::Tally;
use crate::traffic;

/// A server. It may be off.
pub(crate) struct ServerNode {
    index: usize,
    pub(crate) core: Option<Server>,
    /// Whether its wall clock was not ahead when its present life began.
    pub(crate) started_on_time: bool,
    /// Where it listens, while its socket is open.
    port: Port,
    address: SocketAddr,
    /// The connections of its present life.
    bonds: Accepted,
    /// By address that has proven nothing: bytes that came and bytes that went. `None` once it has.
    strangers: BTreeMap<SocketAddr, Option<(u64, u64)>>,
    /// The numbers of packets that left, by address.
    numbers: BTreeMap<SocketAddr, Numbers>,
    last: Mono,
    dice: Dice,
    /// Messages that are sent at once in the next update.
    spurt: u32,
    arrived: Vec<u8>,
    leaving: Vec<u8>,
    message: Vec<u8>,
}

impl ServerNode {
    pub(crate) fn new(index: usize, plan: &Plan, setup: &Setup) -> Self {
        Self {
            index,
            core: None,
            started_on_time: true,
            port: 0,
            address: setup.servers[index],
            bonds: Accepted::default(),
            strangers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last: Mono::ZERO,
            dice: Dice::new(plan.seed, "server", index),
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

    /// Its connections that are up, and how much each has still to deliver.
    pub(crate) fn queued(&self) -> impl Iterator<Item = (usize, usize)> {
        self.bonds.iter().filter_map(|(id, bond)| Some((*bond, self.core.as_ref()?.stats(*id)?.reliable_queued)))
    }

    /// The process starts, unless it is there.
    pub(crate) fn start(&mut self, at: Moment, on_time: bool, setup: &Setup, network: &mut Network) {
        if self.core.is_some() {
            return;
        }
        self.port = network.open(Owner::Server(self.index), self.address);
        self.core = Some(Server::new(setup.server(), self.dice.random(), at.local));
        self.started_on_time = on_time;
        self.last = at.truth;
    }

    /// The process is gone, with everything that it knew.
    pub(crate) fn crash(&mut self, now: Mono, network: &mut Network, ledger: &mut Ledger) {
        if let Some(core) = self.core.take() {
            count_everything(&core, &mut ledger.record.sometimes);
            network.close(self.port);
        }
        for (_, bond) in std::mem::take(&mut self.bonds).iter() {
            ledger.bonds[*bond].ended.get_or_insert((now, None));
        }
        self.strangers.clear();
        self.numbers.clear();
    }

    /// The process ends in an orderly manner.
    pub(crate) fn shut_down(&mut self, at: Moment, network: &mut Network, ledger: &mut Ledger) {
        if let Some(core) = &mut self.core {
            let reason = DisconnectReason::local(DisconnectCode::ServerShutdown);
            for (_, bond) in self.bonds.iter() {
                ledger.bonds[*bond].goodbyes.push(reason.clone());
            }
            core.say_goodbye(at.local, &reason);
            self.transmit(at, network, ledger);
        }
        self.crash(at.truth, network, ledger);
    }

    /// One update: what has arrived is handled, the game sends, everything leaves.
    pub(crate) fn step(
        &mut self,
        at: Moment,
        mood: Mood,
        workload: &Workload,
        network: &mut Network,
        ledger: &mut Ledger,
    ) {
        let Self { core: Some(core), bonds, strangers, numbers, port, arrived, index, .. } = self else { return };
        let Moment { truth: now, local } = at;
        let (mut accepted, mut fetched) = (false, 0);
        // In another order than they will come, and not all may.
        network.senders(now, *port).for_each(|from| core.expect(from));
        while network.may_receive(now, *port, fetched)
            && let Some(from) = network.receive(now, *port, arrived)
        {
            fetched += 1;
            if let Some((received, _)) = strangers.entry(from).or_insert(Some((0, 0))) {
                *received += arrived.len() as u64;
            }
            core.handle_datagram(local, from, arrived, &mut |incoming| {
                if let Some(proven) = ledger.server_reports(now, *index, bonds, &incoming) {
                    accepted = true;
                    strangers.insert(proven, None);
                    numbers.entry(proven).or_default().forget();
                }
            });
        }
        core.tick(local, &mut |incoming| _ = ledger.server_reports(now, *index, bonds, &incoming));
        if accepted {
            ledger.check_identities(now, bonds);
        }
        if mood.plays() {
            self.play(at, workload, ledger);
        }
        self.transmit(at, network, ledger);
        self.last = now;
    }

    /// What the game does: sends to everybody, throws somebody out now and then.
    fn play(&mut self, at: Moment, workload: &Workload, ledger: &mut Ledger) {
        let Self { core: Some(core), bonds, dice, message, last, spurt, .. } = self else { return };
        let Moment { truth: now, local } = at;
        let passed = now.since(*last);
        let spurt = std::mem::take(spurt);
        if spurt > 0 && !bonds.is_empty() {
            // Without a byte: what such a message costs is only its place.
            let (id, _) = bonds[bonds.len() - 1];
            ledger.record.sometimes.add("10^3 messages in one update", u64::from(spurt >= 1000));
            for _ in 0..spurt {
                let _ = core.send(local, id, ChannelId::UNRELIABLE, &[]);
            }
        }
        for &(id, bond) in bonds.iter() {
            if ledger.bonds[bond].ended.is_some() {
                continue;
            }
            for (channel, count) in (0u8..).zip(traffic::due(&workload.down, passed, dice)) {
                for _ in 0..count {
                    let sent = &mut ledger.bonds[bond].sent;
                    let largest = ledger.largest_down[usize::from(channel)];
                    sent.next(downstream(bond), channel).write(largest, message);
                    // Long ones of odd lengths are shared rather than copied; that must make no difference.
                    let shared = message.len() > 4096 && message.len() % 2 == 1;
                    let sent_off = match message.split_at_checked(1).filter(|_| shared) {
                        Some((head, body)) => {
                            core.send_shared(local, id, ChannelId(channel), head, &body.to_vec().into())
                        }
                        None => core.send(local, id, ChannelId(channel), message),
                    };
                    match sent_off {
                        Ok(()) => sent.took(channel),
                        Err(SendError::QueueFull) => ledger.record.sometimes.count("server: send queue full"),
                        // It is leaving: the end has been asked for and not been reported yet.
                        Err(SendError::NotConnected) => {}
                        Err(error) => ledger.violate(now, Invariant::I33, format!("server cannot send: {error}")),
                    }
                }
            }
            // Now and then the very player is thrown out who is about to leave.
            let is_leaving = ledger.attempts[ledger.bonds[bond].attempt].over_by.is_some();
            let spite = if is_leaving { workload.spite } else { 0.0 };
            if dice.chance(workload.kicks * passed.as_secs_f64()) || dice.chance(spite) {
                let reason =
                    DisconnectReason::local(DisconnectCode::Kicked).with_text(&format!("bond {bond} has to go"));
                ledger.bonds[bond].goodbyes.push(reason.clone());
                ledger.bonds[bond].over_by.get_or_insert(now + slow(workload.linger));
                core.disconnect(local, id, &reason, workload.linger);
            }
        }
        if dice.chance(workload.nonsense * passed.as_secs_f64()) && !bonds.is_empty() {
            // Ids of all ages: what is over stays over, and nothing happens.
            let (id, bond) = bonds[dice.number(0..=bonds.len() as u64 - 1) as usize];
            let reason = DisconnectReason::local(DisconnectCode::Application(7)).with_text(&format!("twice {bond}"));
            ledger.bonds[bond].goodbyes.push(reason.clone());
            core.disconnect(local, id, &reason, Duration::ZERO);
            core.disconnect(local, id, &DisconnectReason::local(DisconnectCode::Banned), Duration::ZERO);
        }
    }

    fn transmit(&mut self, at: Moment, network: &mut Network, ledger: &mut Ledger) {
        let Self { core: Some(core), strangers, numbers, port, leaving, index, .. } = self else { return };
        let Moment { truth: now, local } = at;
        while let Some(transmit) = core.poll_transmit(local, leaving) {
            let datagram = &leaving[transmit.at];
            ledger.record.journal.note(now, SERVERS + *index as u32, "send", digest(datagram), || {
                format!("{} {} B type {}", transmit.to, datagram.len(), datagram[0] & 0xf)
            });
            if let Some((received, sent)) = strangers.entry(transmit.to).or_insert(Some((0, 0))) {
                *sent += datagram.len() as u64;
                if sent > received {
                    let what = format!("{sent} B to {}, {received} B from there", transmit.to);
                    ledger.violate(now, Invariant::I16, what);
                }
            }
            if let Err(what) = numbers.entry(transmit.to).or_default().check(now, datagram) {
                ledger.violate(now, Invariant::I15, format!("server {index} to {}: {what}", transmit.to));
            }
            if !network.refuses(now, *port) {
                network.send(now, *port, transmit.to, datagram);
            }
        }
    }

    /// What must hold at any time, looked at now and then.
    pub(crate) fn check(&self, now: Mono, ledger: &mut Ledger) {
        let Some(core) = &self.core else { return };
        // The core does not say whose they were; those of honest clients show by how they end (I6).
        let only_honest = ledger.attempts.iter().all(|attempt| attempt.client != ROGUE);
        if only_honest && core.violations().next().is_some() {
            let what = format!("server {} saw {:?}", self.index, core.violations().collect::<Vec<_>>());
            ledger.violate(now, Invariant::I26, what);
        }
        let limits = core.limits();
        let mut over = None;
        core.metrics(&mut |name, value| {
            let cap = match name {
                "connections_high" => limits.connections,
                "pending_handshakes_high" => limits.pending_handshakes,
                "consumed_tokens_high" => limits.consumed_tokens,
                // Each may have a predecessor that says goodbye.
                "addresses" | "links" => limits.connections.max(1) * 2,
                _ => return,
            };
            if value > cap as u64 {
                over = Some(format!("{name} is {value}, the cap is {cap}"));
            }
        });
        if let Some(what) = over {
            ledger.violate(now, Invariant::I31, what);
        }
        for &(id, bond) in self.bonds.iter() {
            if let Some(stats) = core.stats(id) {
                super::checks::check_stats(now, &stats, &format!("server {} bond {bond}", self.index), ledger);
            }
        }
    }

    /// I32: everybody has left, and so has everything that was kept for them.
    pub(crate) fn check_empty(&self, now: Mono, ledger: &mut Ledger) {
        let Some(core) = &self.core else { return };
        let mut left = Vec::new();
        core.metrics(&mut |name, value| {
            if value > 0 && ["connections", "pending_handshakes", "goodbyes", "links", "addresses"].contains(&name) {
                left.push(format!("{name}: {value}"));
            }
        });
        if !left.is_empty() {
            ledger.violate(now, Invariant::I32, format!("server {}: {}", self.index, left.join(", ")));
        }
    }
}

/// Every counter that is not zero is a situation that was reached.
pub(crate) fn count_everything(core: &Server, sometimes: &mut Tally) {
    core.metrics(&mut |name, value| {
        if name.ends_with("_total") {
            sometimes.add(&format!("counter: {name}"), value);
        }
    });
}

/// Enough of a datagram to tell two apart: its end is a tag over everything.
pub(crate) fn digest(datagram: &[u8]) -> u64 {
    let tail = datagram.last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail));
    tail ^ (datagram.len() as u64) << 48
}
