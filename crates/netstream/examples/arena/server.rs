//! The server decides: it applies each player's input for the tick, and shows everybody the result.

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;

use super::game::{Arena, Hit, Input, Player, RELOAD, Shout, hits, register, walk};

/// A player's figure, on its connection's entity.
#[derive(Component)]
struct Figure {
    player: Player,
    /// What was asked for last; goes on where a command is missing.
    input: Input,
    applied: Option<Tick>,
}

pub fn app(plugin: NetworkStreamPlugin) -> App {
    let mut app = App::new();
    app.add_plugins(plugin.with_protocol(GameProtocol::new("arena", 1)).with_tick_rate(60));
    add(&mut app, true);
    app
}

/// What has happened in the arena.
#[derive(Resource, Default)]
pub struct Chronicle {
    /// Whether it is printed, too.
    loud: bool,
    /// Inputs that were applied, each for its tick.
    pub applied: u64,
    pub hits: u64,
}

/// Lets a server World be an arena, beside whatever else it does.
pub fn add(app: &mut App, loud: bool) {
    register(app);
    app.insert_resource(Chronicle { loud, ..Chronicle::default() })
        .add_systems(NetworkTick, (simulate, show).chain())
        .add_systems(Update, (welcome, relay));
}

fn welcome(
    mut events: MessageReader<ConnectionEvent>,
    mut commands: Commands,
    figures: Query<(), With<Figure>>,
    chronicle: Res<Chronicle>,
) {
    for event in events.read() {
        match (event.state, event.network_id, &event.reason) {
            (ConnectionState::Connected(_), Some(id), _) if !figures.contains(event.connection) => {
                let id = id.number();
                // Spread over the arena by the golden angle.
                let angle = id as f32 * 2.4;
                let player = Player { id, at: [8.0 * angle.cos(), 8.0 * angle.sin()], score: 0, shot: None };
                let figure = Figure { player, input: Input::default(), applied: None };
                commands.entity(event.connection).try_insert_if_new((figure, NetworkStreamInGame));
                if chronicle.loud {
                    println!("player {id} has come");
                }
            }
            (ConnectionState::Disconnected, Some(id), Some(reason)) if chronicle.loud => {
                println!("player {id} has gone: {reason}");
            }
            _ => {}
        }
    }
}

fn simulate(
    time: Res<NetworkTime>,
    mut figures: Query<(&mut Figure, &mut CommandBuffer<Input>)>,
    mut rpcs: RpcSender,
    mut chronicle: ResMut<Chronicle>,
) {
    let tick = time.tick();
    let mut shots = Vec::new();
    for (mut figure, mut commands) in &mut figures {
        if let Some(input) = commands.take(tick) {
            figure.input = input;
            figure.applied = Some(tick);
            chronicle.applied += 1;
        } else {
            figure.input.shoot = None;
        }
        figure.player.at = walk(figure.player.at, figure.input.go);
        let loaded = figure.player.shot.is_none_or(|shot| tick.since(shot) >= RELOAD as i32);
        if let (Some(angle), true) = (figure.input.shoot, loaded) {
            figure.player.shot = Some(tick);
            shots.push((figure.player.id, figure.player.at, angle));
        }
    }
    for (by, at, angle) in shots {
        let targets = figures.iter().map(|(figure, _)| &figure.player);
        let hit: Vec<_> = targets.filter(|who| who.id != by && hits(at, angle, who.at)).map(|who| who.id).collect();
        for who in hit {
            if let Some((mut figure, _)) = figures.iter_mut().find(|(figure, _)| figure.player.id == by) {
                figure.player.score += 1;
            }
            chronicle.hits += 1;
            let _ = rpcs.broadcast(&Hit { by, who });
        }
    }
}

fn show(figures: Query<(Entity, &Figure, &ConnectionState)>, mut snapshots: SnapshotSender) {
    // Who is just leaving is not shown and sees nothing any more.
    let figures = figures.iter().filter(|(_, _, state)| state.is_in_game());
    let mut players: Vec<_> = figures.clone().map(|(_, figure, _)| figure.player.clone()).collect();
    players.sort_by_key(|player| player.id);
    let mut arena = Arena { players, applied: None };
    for (connection, figure, _) in figures {
        arena.applied = figure.applied;
        if let Err(error) = snapshots.send(connection, &arena) {
            eprintln!("no snapshot for {connection}: {error}");
        }
    }
}

fn relay(mut inbox: MessageReader<ReceivedRpc<Shout>>, figures: Query<&Figure>, mut rpcs: RpcSender) {
    for shout in inbox.read() {
        // Who it is from, the server knows better.
        let Ok(figure) = figures.get(shout.connection) else { continue };
        let _ = rpcs.broadcast(&Shout { from: figure.player.id, text: shout.rpc.text.clone() });
    }
}
