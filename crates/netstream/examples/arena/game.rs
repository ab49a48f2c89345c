//! What server and clients share: the messages, and the rules that both compute alike.

use bevy_app::App;
use netstream::prelude::*;
use netstream::{RpcDirection, RpcOptions};
use serde::{Deserialize, Serialize};

/// Half the side of the square that everybody is in.
pub const SIZE: f32 = 20.0;
/// How far a player goes in one tick.
const SPEED: f32 = 0.15;
/// How far a shot reaches, and how near to its line is a hit.
const RANGE: f32 = 12.0;
const NEAR: f32 = 0.6;
/// Ticks between two shots.
pub const RELOAD: u32 = 30;

/// What a player wants in one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// -1, 0 or 1 each.
    pub go: [i8; 2],
    /// The direction of a shot, in radians.
    pub shoot: Option<f32>,
}

/// One player, as everybody sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Player {
    pub id: u32,
    pub at: [f32; 2],
    pub score: u32,
    /// The tick of the last shot.
    pub shot: Option<Tick>,
}

/// The whole arena at one tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arena {
    pub players: Vec<Player>,
    /// Of the client that this is for: which tick's input was applied last.
    pub applied: Option<Tick>,
}

/// Said by one player to all; the server puts the name in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shout {
    pub from: u32,
    pub text: String,
}

/// Told by the server: who hit whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    pub by: u32,
    pub who: u32,
}

/// What travels, alike on both sides.
pub fn register(app: &mut App) {
    app.register_command::<Input>()
        .register_snapshot_with::<Arena>(SnapshotOptions::new().delta())
        .register_rpc_with::<Shout>(RpcOptions::new().max_size(256))
        .register_rpc_with::<Hit>(RpcOptions::new().direction(RpcDirection::ToClient));
}

/// Where somebody is after one tick.
pub fn walk(at: [f32; 2], go: [i8; 2]) -> [f32; 2] {
    [0, 1].map(|axis| (at[axis] + SPEED * f32::from(go[axis].signum())).clamp(-SIZE, SIZE))
}

/// Whether a shot from `at` hits what is at `target`.
pub fn hits(at: [f32; 2], angle: f32, target: [f32; 2]) -> bool {
    let (sin, cos) = angle.sin_cos();
    let [x, y] = [target[0] - at[0], target[1] - at[1]];
    let (along, beside) = (x * cos + y * sin, (y * cos - x * sin).abs());
    (0.0..=RANGE).contains(&along) && beside <= NEAR
}
