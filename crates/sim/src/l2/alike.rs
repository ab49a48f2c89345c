//! The same play over one driver and over another: nobody above the drivers may see a difference.
//!
//! Nothing is played whose end depends on who is faster: two ends that leave at once, or two versions that do not fit. Nothing
//! begins before what was done last is over everywhere, however long the way is: an act that comes too early is another play.

use std::time::Duration;

use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::Mono;

use super::ends::End;
use super::peer::Peer;
use super::{Apps, endpoints_of, game};
use crate::clock::NodeClock;
use crate::dice::Dice;
use crate::invariant::{Invariant, Violation};
use crate::journal::Journal;
use crate::network::Owner;
use crate::oracle::Received;
use crate::plan::{Level, Plan};
use crate::stage::{Cast, Moment};

/// Updates per second of every World.
const RATE: u32 = 30;

/// Until then whatever was done must be over. Nobody gives up before: how late the last message comes is the link's affair.
const PATIENCE: Duration = Duration::from_secs(30);

/// Clients of a play.
const CLIENTS: usize = 3;

/// Acts of a play.
const ACTS: usize = 12;

/// What one act is about. Each concerns one client, who joins first if it is not there.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Both ends say so many words.
    Talk(u64),
    /// The client says so many words and leaves in the same update.
    LastWords(u64),
    /// The server throws the client out.
    Kick,
    /// The client's connection entity is despawned, or the server's.
    Despawn(Side),
    /// The server's process ends in an orderly manner, and starts again.
    Shutdown,
    /// The server does not let the client in, if it is asked.
    Deny,
}

/// What one end has seen: its states, why it ended, and how many reliable messages arrived, which were the right ones.
type Story = (Side, Vec<ConnectionState>, Option<DisconnectReason>, u32);

/// I45: what `seed` plays gives the same story over each driver.
pub(crate) fn check_drivers(seed: u64) -> Option<Violation> {
    let mut dice = Dice::new(seed, "drivers", 0);
    let plan = plan(seed, dice.chance(0.5));
    let acts: Vec<_> = (0..ACTS).map(|_| (dice.number(0..=CLIENTS as u64 - 1) as usize, draw(&mut dice))).collect();
    let play = |endpoint| Play::new(&plan, endpoint).play(&acts);
    let [udp, ipc] = endpoints_of(0);
    let (udp, ipc) = match (play(udp), play(ipc)) {
        (Ok(udp), Ok(ipc)) => (udp, ipc),
        (Err(violation), _) | (_, Err(violation)) => return Some(violation),
    };
    let place = first_difference(&udp, &ipc)?;
    let what = format!("end {place}: {:?} over UDP, {:?} in-process; {acts:?}", udp.get(place), ipc.get(place));
    Some(Violation { invariant: Invariant::I45, at: Mono::ZERO, what })
}

fn plan(seed: u64, approval: bool) -> Plan {
    let mut plan = Plan::calm(Level::L2, Duration::MAX, CLIENTS);
    plan.seed = seed;
    (plan.workload.typed, plan.workload.approval) = (false, approval);
    plan
}

fn first_difference(one: &[Story], other: &[Story]) -> Option<usize> {
    (0..one.len().max(other.len())).find(|&place| one.get(place) != other.get(place))
}

fn draw(dice: &mut Dice) -> Act {
    match dice.number(0..=7) {
        0 | 1 => Act::Talk(dice.number(1..=30)),
        2 => Act::LastWords(dice.number(0..=30)),
        3 => Act::Kick,
        4 => Act::Despawn(Side::Client),
        5 => Act::Despawn(Side::Server),
        6 => Act::Shutdown,
        _ => Act::Deny,
    }
}

/// A play over one driver.
struct Play {
    apps: Apps,
    endpoint: String,
    now: Mono,
    /// Whoever asks now is not let in.
    denies: bool,
}

impl Play {
    fn new(plan: &Plan, endpoint: String) -> Self {
        let apps = Apps::new(plan.clone(), Journal::silent(), None);
        let mut play = Self { apps, endpoint, now: Mono::ZERO, denies: false };
        play.start_server();
        play
    }

    fn start_server(&mut self) {
        self.apps.start_server(0, self.moment(), true);
        self.apps.servers[0].peer.iter_mut().for_each(be_patient);
    }

    fn moment(&self) -> Moment {
        Moment { truth: self.now, local: NodeClock::new(Duration::ZERO).at(self.now) }
    }

    fn play(mut self, acts: &[(usize, Act)]) -> Result<Vec<Story>, Violation> {
        for &(client, act) in acts {
            self.denies = matches!(act, Act::Deny);
            if let Some((place, other)) = self.join(client)? {
                self.act(client, place, other, act)?;
            }
        }
        let mut ends: Vec<_> = self.apps.ends.all.iter().collect();
        // Which end hears first depends on how long the way is.
        ends.sort_by_key(|end| end.world);
        let tell = |end: &&End| (end.side, end.word.clone(), end.reason.clone(), end.received.arrived(1));
        Ok(ends.iter().map(tell).collect())
    }

    /// Lets a client in, unless it is there, and says which ends are its and the server's. None if the server denied it.
    fn join(&mut self, client: usize) -> Result<Option<(usize, usize)>, Violation> {
        if self.current(client).is_none() {
            self.update_client(client);
            let Self { apps, endpoint, .. } = self;
            if let Some(peer) = &mut apps.clients[client].peer {
                game::join(peer, endpoint, &apps.code, true);
            }
            self.settle()?;
        }
        let Some(place) = self.current(client) else {
            return if self.denies { Ok(None) } else { Err(self.violation(format!("client {client} is not let in"))) };
        };
        // A word tells which end is whose.
        self.say(client, place, 1);
        self.settle()?;
        Ok(self.apps.ends.all[place].other.map(|other| (place, other)))
    }

    fn current(&self, client: usize) -> Option<usize> {
        self.apps.clients[client].current(&self.apps.ends)
    }

    fn act(&mut self, client: usize, place: usize, other: usize, act: Act) -> Result<(), Violation> {
        match act {
            Act::Talk(words) => {
                self.say(client, place, words);
                let Self { apps, .. } = self;
                if let Some(peer) = &mut apps.servers[0].peer {
                    (0..words).for_each(|_| game::say(peer, other, &mut apps.ends));
                }
            }
            Act::LastWords(words) => {
                self.say(client, place, words);
                self.end(place, Side::Client, client, "enough");
            }
            Act::Kick => self.end(other, Side::Server, client, "out"),
            Act::Despawn(side) => {
                let entity = self.apps.ends.all[if side == Side::Client { place } else { other }].entity;
                if let Some(peer) = self.peer(side, client) {
                    peer.app.world_mut().despawn(entity);
                }
            }
            Act::Shutdown => {
                let moment = self.moment();
                self.apps.shut_down_server(0, moment);
                self.settle()?;
                self.start_server();
            }
            Act::Deny => {}
        }
        self.settle()
    }

    fn peer(&mut self, side: Side, client: usize) -> Option<&mut Peer> {
        match side {
            Side::Client => self.apps.clients[client].peer.as_mut(),
            Side::Server => self.apps.servers[0].peer.as_mut(),
        }
    }

    fn say(&mut self, client: usize, place: usize, words: u64) {
        let Apps { clients, ends, .. } = &mut self.apps;
        if let Some(peer) = &mut clients[client].peer {
            (0..words).for_each(|_| game::say(peer, place, ends));
        }
    }

    fn end(&mut self, place: usize, side: Side, client: usize, text: &str) {
        let entity = self.apps.ends.all[place].entity;
        let reason = DisconnectReason::local(DisconnectCode::Application(7)).with_text(text);
        self.apps.ends.said.push(reason.clone());
        if let Some(peer) = self.peer(side, client) {
            let _ = peer.net().disconnect(entity, reason);
        }
    }

    /// Everybody is updated until nothing is under way.
    fn settle(&mut self) -> Result<(), Violation> {
        let until = self.now + PATIENCE;
        while self.now < until {
            self.now = self.now + Duration::from_secs(1) / RATE;
            self.update_server();
            (0..CLIENTS).for_each(|client| self.update_client(client));
            if let Some(violation) = self.apps.ends.record.violation.take() {
                return Err(violation);
            }
            if self.is_settled() {
                return Ok(());
            }
        }
        let live: Vec<_> = self.live().map(|end| (end.side, &end.word)).collect();
        Err(self.violation(format!("not over after {PATIENCE:?}: {live:?}")))
    }

    /// Whether both ends of every connection are there, or none, and everything that was said has arrived.
    fn is_settled(&self) -> bool {
        let (all, nothing) = (&self.apps.ends.all, Received::default());
        let count = |side| self.live().filter(|end| end.side == side).count();
        let heard_by = |other: Option<usize>| other.map_or(&nothing, |other| &all[other].received);
        count(Side::Client) == count(Side::Server)
            && self.live().all(|end| end.state.is_connected() && heard_by(end.other).missing(&end.sent).is_none())
    }

    fn live(&self) -> impl Iterator<Item = &End> {
        self.apps.ends.all.iter().filter(|end| end.ended.is_none())
    }

    fn violation(&self, what: String) -> Violation {
        Violation { invariant: Invariant::I45, at: self.now, what: format!("over {}: {what}", self.endpoint) }
    }

    fn update_server(&mut self) {
        let (now, moment, denies) = (self.now, self.moment(), self.denies);
        self.apps.at(now);
        let Apps { servers, ends, .. } = &mut self.apps;
        servers[0].clock.set(moment.local);
        let Some(peer) = &mut servers[0].peer else { return };
        let live = ends.live(peer.world);
        let asking: Vec<_> = live.filter(|(_, end)| end.state == ConnectionState::Approval).collect();
        for entity in asking.into_iter().map(|(_, end)| end.entity).collect::<Vec<_>>() {
            let _ = if denies { peer.net().deny(entity, "no") } else { peer.net().approve(entity) };
        }
        peer.update(now, ends);
    }

    fn update_client(&mut self, client: usize) {
        let (now, moment) = (self.now, self.moment());
        self.apps.at(now);
        let clock = self.apps.clients[client].clock.clone();
        clock.set(moment.local);
        if self.apps.clients[client].peer.is_none() {
            let mut peer = self.apps.world(Owner::Client(client), &clock, now);
            be_patient(&mut peer);
            self.apps.clients[client].peer = Some(peer);
        }
        let Apps { clients, ends, .. } = &mut self.apps;
        if let Some(peer) = &mut clients[client].peer {
            peer.update(now, ends);
        }
    }
}

fn be_patient(peer: &mut Peer) {
    let mut net = peer.net();
    let limits = net.limits_mut();
    (limits.handshake, limits.linger) = (PATIENCE, PATIENCE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_play_is_another_story() {
        let story = |acts: &[Act]| {
            let acts: Vec<_> = acts.iter().map(|&act| (0, act)).collect();
            endpoints_of(0).map(|endpoint| Play::new(&plan(3, true), endpoint).play(&acts).unwrap())
        };
        let plays: [&[Act]; 8] = [
            &[Act::Talk(3)],
            &[Act::Talk(4)],
            &[Act::LastWords(3)],
            &[Act::Kick],
            &[Act::Despawn(Side::Client)],
            &[Act::Despawn(Side::Server)],
            &[Act::Deny],
            &[Act::Kick, Act::Kick],
        ];
        let stories = plays.map(story);
        for (place, [udp, ipc]) in stories.iter().enumerate() {
            assert_eq!(first_difference(udp, ipc), None, "{:?}", plays[place]);
            for (earlier, [other, _]) in stories[..place].iter().enumerate() {
                assert!(first_difference(udp, other).is_some(), "{:?} and {:?}", plays[earlier], plays[place]);
            }
        }
    }
}
