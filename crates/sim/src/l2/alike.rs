//! The same play over one driver and over another: nobody above the drivers may see a difference.
//!
//! Nothing is played whose end depends on who is faster: two ends that leave at once, or two versions that do not fit.

use std::time::Duration;

use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::Mono;

use super::ends::End;
use super::{Apps, endpoints_of, game};
use crate::clock::NodeClock;
use crate::dice::Dice;
use crate::invariant::{Invariant, Violation};
use crate::journal::Journal;
use crate::network::Owner;
use crate::plan::{Level, Plan};
use crate::stage::{Cast, Moment};

/// Updates per second of every World.
const RATE: u32 = 30;

/// How long everybody goes on after each act: long enough for it to be over everywhere.
const AFTERWARDS: Duration = Duration::from_millis(1500);

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
    let mut plan = Plan::calm(Level::L2, Duration::MAX, CLIENTS);
    plan.seed = seed;
    plan.workload.typed = false;
    plan.workload.approval = dice.chance(0.5);
    let acts: Vec<_> = (0..ACTS).map(|_| (dice.number(0..=CLIENTS as u64 - 1) as usize, draw(&mut dice))).collect();
    let play = |ipc: usize| Play::new(&plan, ipc).play(&acts);
    let ((udp, wrong), (ipc, also_wrong)) = (play(0), play(1));
    let differs = || {
        let place = (0..udp.len().max(ipc.len())).find(|&place| udp.get(place) != ipc.get(place))?;
        let what = format!("end {place}: {:?} over UDP, {:?} in-process; {acts:?}", udp.get(place), ipc.get(place));
        Some(Violation { invariant: Invariant::I45, at: Mono::ZERO, what })
    };
    wrong.or(also_wrong).or_else(differs)
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
    fn new(plan: &Plan, endpoint: usize) -> Self {
        let apps = Apps::new(plan.clone(), Journal::silent(), None);
        let mut play = Self { apps, endpoint: endpoints_of(0)[endpoint].clone(), now: Mono::ZERO, denies: false };
        play.apps.start_server(0, play.moment(), true);
        play
    }

    fn moment(&self) -> Moment {
        Moment { truth: self.now, local: NodeClock::new(Duration::ZERO).at(self.now) }
    }

    fn play(mut self, acts: &[(usize, Act)]) -> (Vec<Story>, Option<Violation>) {
        for &(client, act) in acts {
            self.denies = matches!(act, Act::Deny);
            let server = self.join(client);
            self.act(client, server, act);
            self.go_on(AFTERWARDS);
        }
        let mut ends: Vec<_> = self.apps.ends.all.iter().collect();
        // Which end hears first depends on how long the way is.
        ends.sort_by_key(|end| end.world);
        let tell = |end: &&End| (end.side, end.word.clone(), end.reason.clone(), end.received.arrived(1));
        (ends.iter().map(tell).collect(), self.apps.ends.record.violation)
    }

    /// Lets a client in, unless it is there, and says which end on the server is its.
    fn join(&mut self, client: usize) -> Option<usize> {
        if self.current(client).is_none() {
            self.update_client(client);
            let Self { apps, endpoint, .. } = self;
            let peer = apps.clients[client].peer.as_mut()?;
            game::join(peer, endpoint, &apps.code, true);
            self.go_on(AFTERWARDS);
        }
        // A word tells which end is whose.
        let place = self.current(client)?;
        self.say(client, place, 1);
        self.go_on(AFTERWARDS / 2);
        self.apps.ends.all[place].other
    }

    fn current(&self, client: usize) -> Option<usize> {
        let place = self.apps.clients[client].current(&self.apps.ends)?;
        self.apps.ends.all[place].state.is_connected().then_some(place)
    }

    fn act(&mut self, client: usize, server: Option<usize>, act: Act) {
        let (Some(place), Some(other)) = (self.current(client), server) else { return };
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
                self.go_on(AFTERWARDS);
                let moment = self.moment();
                self.apps.start_server(0, moment, true);
            }
            Act::Deny => {}
        }
    }

    fn peer(&mut self, side: Side, client: usize) -> Option<&mut super::Peer> {
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

    /// Everybody is updated for so long.
    fn go_on(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = self.now + Duration::from_secs(1) / RATE;
            self.update_server();
            (0..CLIENTS).for_each(|client| self.update_client(client));
        }
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
            let peer = self.apps.world(Owner::Client(client), &clock, now);
            self.apps.clients[client].peer = Some(peer);
        }
        let Apps { clients, ends, .. } = &mut self.apps;
        if let Some(peer) = &mut clients[client].peer {
            peer.update(now, ends);
        }
    }
}
