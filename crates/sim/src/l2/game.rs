//! What the games in the Worlds do: play, leave, and call what makes no sense at that moment.

use std::time::Duration;

use bevy_ecs::entity::Entity;
use bevy_ecs::system::RunSystemOnce;
use netstream::BanTarget;
use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::Mono;
use netstream::transport::netcode::JoinCode;

use super::ends::{End, Ends};
use super::peer::{Peer, Word};
use crate::clock::SharedClock;
use crate::dice::Dice;
use crate::invariant::Invariant;
use crate::plan::{Plan, Workload};
use crate::stage::Mood;
use crate::traffic;

/// What every player shows for approval. Nobody else is to see it.
pub(super) const CREDENTIALS: &str = "open, sesame";

/// A client's player.
pub(super) struct Player {
    index: usize,
    pub(super) peer: Option<Peer>,
    pub(super) clock: SharedClock,
    pub(super) next_join: Option<Mono>,
    dice: Dice,
    last: Mono,
}

impl Player {
    pub(super) fn new(index: usize, plan: &Plan) -> Self {
        let mut dice = Dice::new(plan.seed, "player", index);
        let next_join = Some(Mono::ZERO + dice.up_to(plan.workload.join_within));
        Self { index, peer: None, clock: SharedClock::default(), next_join, dice, last: Mono::ZERO }
    }

    /// The connection that is under way or up.
    pub(super) fn current(&self, ends: &Ends) -> Option<usize> {
        let world = self.peer.as_ref()?.world;
        ends.live(world).map(|(place, _)| place).last()
    }

    pub(super) fn step(
        &mut self,
        now: Mono,
        mood: Mood,
        workload: &Workload,
        endpoint: impl Fn(&mut Dice) -> String,
        code: &JoinCode,
        ends: &mut Ends,
    ) {
        let passed = now.since(self.last);
        let current = self.current(ends);
        let Self { index, peer: Some(peer), dice, next_join, .. } = self else { return };
        match current {
            None => match (*next_join, mood) {
                (_, Mood::Leaving) => {}
                (None, Mood::Wild) => *next_join = Some(now + workload.away.mul_f64(dice.share() * 2.0)),
                (None, _) => *next_join = Some(now + Duration::from_secs(1).mul_f64(dice.share())),
                (Some(due), _) if due <= now => {
                    *next_join = None;
                    join(peer, &endpoint(dice), code, dice.chance(0.5));
                }
                (Some(due), Mood::Steady | Mood::Quiet) => *next_join = Some(due.min(now + Duration::from_secs(1))),
                (Some(_), Mood::Wild) => {}
            },
            Some(place) => {
                let (entity, up) = (ends.all[place].entity, ends.all[place].state.is_connected());
                let leaves = match mood {
                    Mood::Wild if up => dice.chance(passed.as_secs_f64() / workload.stay.as_secs_f64()),
                    Mood::Wild => dice.chance(workload.nonsense * passed.as_secs_f64()),
                    Mood::Steady | Mood::Quiet => false,
                    Mood::Leaving => !ends.all[place].state.is_ending(),
                };
                if up && mood.plays() {
                    play(peer, entity, place, &workload.up, passed, dice, ends);
                }
                if leaves {
                    // Leaving in the middle of the update before is the same as after it.
                    let text = format!("client {index} leaves end {place}");
                    leave(peer, entity, &text, mood == Mood::Wild && dice.chance(0.1), dice, ends);
                    *next_join = None;
                }
            }
        }
        if mood == Mood::Wild && dice.chance(workload.nonsense * passed.as_secs_f64()) {
            let any = any_entity(peer, dice, ends);
            call_nonsense(peer, any, dice);
            if peer.side == Side::Client && dice.chance(0.3) {
                join(peer, &endpoint(dice), code, false);
            }
        }
        peer.update(now, ends);
        self.last = now;
    }
}

pub(super) fn join(peer: &mut Peer, endpoint: &str, code: &JoinCode, as_new: bool) {
    let options = ConnectOptions::new().join_code(code.clone()).credentials(CREDENTIALS.as_bytes().to_vec());
    let options = if as_new { options.as_new_player() } else { options };
    // Refused while connected; otherwise the events tell what comes of it. In-process it fails while the server is gone.
    let _ = peer.net().connect_with(endpoint, options);
}

fn leave(peer: &mut Peer, entity: Entity, text: &str, rudely: bool, dice: &mut Dice, ends: &mut Ends) {
    let reason = DisconnectReason::local(DisconnectCode::Application(dice.number(0..=9) as u16)).with_text(text);
    ends.said.push(reason.clone());
    if rudely {
        ends.record.sometimes.count("a connection entity is despawned");
        peer.app.world_mut().despawn(entity);
    } else if dice.chance(0.5) {
        let _ = peer.net().disconnect(entity, reason);
    } else if let Ok(mut entity) = peer.app.world_mut().get_entity_mut(entity) {
        entity.insert(NetworkStreamRequestDisconnect { reason });
    }
}

/// Sends what is due on one connection, and goes into the game and out of it.
fn play(
    peer: &mut Peer,
    entity: Entity,
    place: usize,
    rates: &[f64; 5],
    passed: Duration,
    dice: &mut Dice,
    ends: &mut Ends,
) {
    let in_game = peer.app.world().get::<NetworkStreamInGame>(entity).is_some();
    // Somebody's own game enters by itself.
    if peer.guest.is_none()
        && let Ok(mut entity) = peer.app.world_mut().get_entity_mut(entity)
    {
        if !in_game && dice.chance(passed.as_secs_f64()) {
            entity.insert(NetworkStreamInGame);
        } else if in_game && dice.chance(passed.as_secs_f64() / 20.0) {
            entity.remove::<NetworkStreamInGame>();
        }
    }
    let due = traffic::due(rates, passed, dice);
    let mut message = Vec::new();
    for _ in 0..due[1] {
        say(peer, place, ends);
    }
    for _ in 0..due[0] {
        let end = &mut ends.all[place];
        end.sent.next(place as u32, 0).write(ends.largest[0], &mut message);
        let sent = match end.side {
            Side::Client => peer.net().send_command(entity, &message),
            Side::Server => peer.net().send_snapshot(entity, &message),
        };
        if sent.is_ok() {
            end.sent.took(0);
        }
    }
}

/// Sends the next reliable message of this end.
pub(super) fn say(peer: &mut Peer, place: usize, ends: &mut Ends) {
    let (end, mut message) = (&mut ends.all[place], Vec::new());
    end.sent.next(place as u32, 1).write(ends.largest[1], &mut message);
    let (entity, word) = (end.entity, Word(message));
    let sent = peer.app.world_mut().run_system_once(move |mut rpcs: RpcSender<'_, '_>| rpcs.send(entity, &word));
    if matches!(sent, Ok(Ok(()))) {
        end.sent.took(1);
    }
}

/// One of the World's connections of any age.
fn any_entity(peer: &Peer, dice: &mut Dice, ends: &Ends) -> Option<Entity> {
    let mine: Vec<_> = ends.all.iter().filter(|end| end.world == peer.world).map(|end| end.entity).collect();
    (!mine.is_empty()).then(|| dice.pick(&mine))
}

/// Calls that are allowed in any state, and change nothing where they make no sense.
fn call_nonsense(peer: &mut Peer, entity: Option<Entity>, dice: &mut Dice) {
    let Some(entity) = entity else { return };
    // What can be sent would arrive and be judged: only what cannot reach anybody is sent.
    // What `state` says counts at once: after `disconnect` everything is refused, before the event tells of it.
    let connected = peer.net().state(entity).is_some_and(ConnectionState::is_connected);
    match dice.number(0..=7) {
        1 | 2 | 6 if connected => {}
        0 => _ = peer.net().approve(entity),
        1 => _ = peer.net().send_command(entity, b"not now"),
        2 => _ = peer.net().send_snapshot(entity, b"not now"),
        3 => _ = peer.net().extend_approval(entity, Duration::from_secs(1)),
        4 => {
            if let Ok(mut entity) = peer.app.world_mut().get_entity_mut(entity) {
                entity.insert(ConnectionApproved);
            }
        }
        5 => {
            if let Ok(mut entity) = peer.app.world_mut().get_entity_mut(entity) {
                entity.remove::<NetworkStreamInGame>();
            }
        }
        6 => {
            let send = move |mut rpcs: RpcSender<'_, '_>| rpcs.send(entity, &Word(Vec::new())).is_err();
            _ = peer.app.world_mut().run_system_once(send);
        }
        _ => _ = peer.net().state(entity),
    }
}

/// What the server's game does in one update.
pub(super) fn serve(
    server: &mut Peer,
    passed: Duration,
    mood: Mood,
    workload: &Workload,
    dice: &mut Dice,
    ends: &mut Ends,
) {
    let live: Vec<_> = ends.live(server.world).map(|(place, end)| (place, end.entity, end.state)).collect();
    for (place, entity, state) in live {
        if state == ConnectionState::Approval {
            decide(server, entity, mood, dice, ends);
        }
        if !state.is_connected() {
            continue;
        }
        if mood.plays() {
            play(server, entity, place, &workload.down, passed, dice, ends);
        }
        if mood == Mood::Wild && dice.chance(workload.kicks * passed.as_secs_f64()) {
            let text = format!("end {place} has to go");
            ends.said.push(DisconnectReason::local(DisconnectCode::Kicked).with_text(&text));
            let _ = server.net().kick(entity, &text);
        }
        if mood == Mood::Wild
            && dice.chance(workload.bans * passed.as_secs_f64())
            && let Some(address) = server.net().remote_address(entity)
        {
            ends.record.sometimes.count("an address is banned");
            let time = dice.up_to(Duration::from_secs(5));
            server.net().ban(BanTarget::address(address.ip()), Some(time), "for a moment");
        }
        if mood == Mood::Wild && dice.chance(workload.nonsense * passed.as_secs_f64() / 10.0) {
            ends.record.sometimes.count("a connection entity is despawned");
            server.app.world_mut().despawn(entity);
        }
    }
    if mood == Mood::Wild && dice.chance(workload.nonsense * passed.as_secs_f64()) {
        let any = any_entity(server, dice, ends);
        call_nonsense(server, any, dice);
    }
}

/// Lets somebody in or not, at once or later.
fn decide(server: &mut Peer, entity: Entity, mood: Mood, dice: &mut Dice, ends: &mut Ends) {
    match dice.number(0..=99) {
        _ if mood != Mood::Wild => _ = server.net().approve(entity),
        0..10 => _ = server.net().approve(entity),
        10..12 => {
            ends.record.sometimes.count("approval is denied");
            let _ = server.net().deny(entity, "no");
        }
        12..14 => {
            ends.record.sometimes.count("approval is extended");
            let _ = server.net().extend_approval(entity, Duration::from_secs(2));
        }
        _ => {}
    }
}

/// I9: who is alone notices it.
pub(super) fn check_loneliness(now: Mono, plan: &Plan, ends: &mut Ends) {
    if plan.has_replays() {
        return;
    }
    let stops = plan.stops();
    // Idle timeout by a slow clock, a goodbye that lingers, and a tick.
    let patience = plan.workload.idle_timeout.mul_f64(1.2) + Duration::from_secs(4) + plan.longest_travel() + stops;
    let is_lonely = |end: &&End| {
        let other = end.other.and_then(|other| ends.all[other].ended);
        end.ended.is_none() && other.is_some_and(|ended| now.since(ended) > patience)
    };
    if let Some(end) = ends.all.iter().find(is_lonely) {
        let what = format!("{end:?} is still there, the other end is gone for long");
        ends.record.violate(now, Invariant::I9, what);
    }
}

/// I7, I8: everybody is in, on both ends.
pub(super) fn check_everybody_is_in<'p>(
    now: Mono,
    plan: &Plan,
    clients: &[Player],
    servers: impl Iterator<Item = &'p Peer>,
    ends: &mut Ends,
) {
    let connected = |place: usize| ends.all[place].state.is_connected();
    let foreign = plan.workload.foreign;
    let mut ours = clients.iter().filter(|client| Some(client.index) != foreign);
    let out = ours.find(|client| !client.current(ends).is_some_and(connected));
    let present =
        |server: &Peer| ends.live(server.world).filter(|(_, end)| end.state.is_connected() && !end.rogue).count();
    let there: usize = servers.map(present).sum();
    let expected = clients.iter().filter(|client| Some(client.index) != foreign).count();
    let what = match out {
        Some(client) => {
            format!("client {} is not in: {:?}", client.index, client.current(ends).map(|end| &ends.all[end]))
        }
        None if there != expected => format!("{expected} clients are in, the servers know {there}"),
        None => return,
    };
    ends.record.violate(now, Invariant::I8, what);
}

/// I20: what was sent reliably has arrived.
pub(super) fn check_everything_arrived(now: Mono, settled: Mono, ends: &mut Ends) {
    let missing = ends.all.iter().enumerate().find_map(|(place, end)| {
        let other = &ends.all[end.other?];
        let lives = end.ended.is_none() && other.ended.is_none() && end.connected? < settled;
        lives.then(|| end.received.missing(&other.sent)).flatten().map(|what| format!("at end {place}: {what}"))
    });
    if let Some(what) = missing {
        ends.record.violate(now, Invariant::I20, what);
    }
}
