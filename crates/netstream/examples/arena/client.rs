//! A client asks: it sends its input, shows at once what it will do to its own player, and corrects itself by what the
//! server says. Others are drawn a little in the past, between two snapshots.

use std::collections::VecDeque;

use bevy_app::{App, AppExit, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;

use super::game::{Arena, Hit, Input, SIZE, Shout, register, walk};

/// Snapshots that are kept for drawing.
const KEPT: usize = 16;
/// Inputs that are kept until the server has applied them.
const PENDING: usize = 128;

/// What this client knows and thinks.
#[derive(Resource, Default)]
pub struct View {
    name: String,
    /// Whether what happens is printed.
    loud: bool,
    pub me: u32,
    /// By tick, oldest first.
    pub snapshots: VecDeque<(Tick, Arena)>,
    /// Inputs that the server has not applied yet, as far as is known.
    pending: VecDeque<(Tick, Input)>,
    /// Where the own player is, predicted.
    pub at: [f32; 2],
    /// How far predictions were off, all together.
    pub corrections: f32,
    /// What was said by whom, the last first, and how often somebody was hit.
    pub shouts: Vec<Shout>,
    pub hits: u32,
    greeted: bool,
    printed: u32,
}

pub fn app(plugin: NetworkStreamPlugin, name: &str, loud: bool) -> App {
    let mut app = App::new();
    app.add_plugins(plugin.with_protocol(GameProtocol::new("arena", 1)).with_tick_rate(60));
    add(&mut app, name, loud);
    app
}

/// Lets a client World play, beside whatever else it does.
pub fn add(app: &mut App, name: &str, loud: bool) {
    register(app);
    app.insert_resource(View { name: name.to_owned(), loud, ..View::default() })
        .add_systems(NetworkTick, predict)
        .add_systems(Update, (enter, correct, draw, listen).chain());
}

fn enter(
    mut events: MessageReader<ConnectionEvent>,
    mut commands: Commands,
    mut view: ResMut<View>,
    mut exit: MessageWriter<AppExit>,
) {
    for event in events.read() {
        match (event.state, event.network_id, &event.reason) {
            (ConnectionState::Connected(_), Some(id), _) => {
                view.me = id.number();
                commands.entity(event.connection).try_insert_if_new(NetworkStreamInGame);
            }
            (ConnectionState::Disconnected, _, Some(reason)) => {
                if view.loud {
                    println!("{} is out: {reason}", view.name);
                }
                exit.write(AppExit::Success);
            }
            _ => {}
        }
    }
}

/// Nobody sits at this keyboard: the player runs in circles and shoots at whoever is nearest.
fn think(view: &View, tick: Tick) -> Input {
    let turn = (tick.number() / 40 + view.me * 3) % 8;
    let go = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]][turn as usize];
    let distance = |at: [f32; 2]| (at[0] - view.at[0]).hypot(at[1] - view.at[1]);
    let others = view.snapshots.back().into_iter().flat_map(|(_, arena)| &arena.players);
    let others = others.filter(|player| player.id != view.me && distance(player.at) < SIZE);
    let target = others.min_by(|one, other| distance(one.at).total_cmp(&distance(other.at)));
    let aim = |at: [f32; 2]| (at[1] - view.at[1]).atan2(at[0] - view.at[0]);
    let shoot = target.filter(|_| tick.number().is_multiple_of(35)).map(|player| aim(player.at));
    Input { go, shoot }
}

fn predict(time: Res<NetworkTime>, mut commands: CommandSender, mut view: ResMut<View>) {
    let tick = time.tick();
    let input = think(&view, tick);
    if let Err(error) = commands.send(&input) {
        eprintln!("{}: {error}", view.name);
        return;
    }
    view.at = walk(view.at, input.go);
    view.pending.push_back((tick, input));
    if view.pending.len() > PENDING {
        view.pending.pop_front();
    }
}

/// What the server says counts; what it does not know yet is put on top.
fn correct(mut inbox: MessageReader<ReceivedSnapshot<Arena>>, mut view: ResMut<View>) {
    for received in inbox.read() {
        let (tick, arena) = (received.tick, received.snapshot.clone());
        let applied = arena.applied.unwrap_or(tick);
        if let Some(me) = arena.players.iter().find(|player| player.id == view.me) {
            view.pending.retain(|(tick, _)| tick.is_after(applied));
            let at = view.pending.iter().fold(me.at, |at, (_, input)| walk(at, input.go));
            if !view.snapshots.is_empty() {
                view.corrections += (at[0] - view.at[0]).hypot(at[1] - view.at[1]);
            }
            view.at = at;
        }
        view.snapshots.push_back((tick, arena));
        if view.snapshots.len() > KEPT {
            view.snapshots.pop_front();
        }
    }
}

/// Where somebody else is drawn: between the two snapshots around the interpolation's position.
pub fn between(view: &View, time: &NetworkTime, id: u32) -> Option<[f32; 2]> {
    let at = |arena: &Arena| arena.players.iter().find(|player| player.id == id).map(|player| player.at);
    let now = time.interpolation_tick();
    let (old_tick, old) = view.snapshots.iter().rev().find(|(tick, _)| !tick.is_after(now))?;
    let Some((new_tick, new)) = view.snapshots.iter().find(|(tick, _)| tick.is_after(now)) else { return at(old) };
    let share = (now.since(*old_tick) as f32 + time.interpolation_fraction()) / new_tick.since(*old_tick) as f32;
    let (old, new) = (at(old)?, at(new)?);
    Some([0, 1].map(|axis| old[axis] + (new[axis] - old[axis]) * share))
}

fn draw(
    mut view: ResMut<View>,
    time: Res<NetworkTime>,
    mut rpcs: RpcSender,
    connections: Query<Entity, With<NetworkStreamInGame>>,
) {
    let second = time.tick().number() / 60;
    if !time.is_synced() || view.printed == second {
        return;
    }
    view.printed = second;
    if let (false, Ok(server)) = (view.greeted, connections.single()) {
        let text = format!("hello from {}", view.name);
        view.greeted = rpcs.send(server, &Shout { from: 0, text }).is_ok();
    }
    if !view.loud {
        return;
    }
    let Some((_, arena)) = view.snapshots.back() else { return };
    let scores: Vec<_> = arena.players.iter().map(|player| format!("{}: {}", player.id, player.score)).collect();
    let others = arena.players.iter().filter(|player| player.id != view.me);
    let others: Vec<_> = others
        .filter_map(|player| between(&view, &time, player.id))
        .map(|[x, y]| format!("({x:.1}, {y:.1})"))
        .collect();
    println!(
        "tick {}, the server's {}: at ({:.1}, {:.1}), others at {}, score {}, corrected by {:.2} so far",
        time.tick(),
        time.server_tick(),
        view.at[0],
        view.at[1],
        others.join(" "),
        scores.join(", "),
        view.corrections,
    );
}

fn listen(
    mut shouts: MessageReader<ReceivedRpc<Shout>>,
    mut hits: MessageReader<ReceivedRpc<Hit>>,
    mut view: ResMut<View>,
) {
    for shout in shouts.read() {
        if view.loud {
            println!("player {} says: {}", shout.rpc.from, shout.rpc.text);
        }
        view.shouts.truncate(KEPT);
        view.shouts.insert(0, shout.rpc.clone());
    }
    for hit in hits.read() {
        if view.loud {
            println!("player {} has hit player {}", hit.rpc.by, hit.rpc.who);
        }
        view.hits += 1;
    }
}
