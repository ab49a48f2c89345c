//! The game that the command-line tool plays, the same for `demo`, `serve`, `join` and `bots`.
//!
//! The server pings and each client answers; both greet each other once; clients send commands and the server sends
//! snapshots, all of it counted and, for RPCs, numbered.
//!
//! | module | what it is |
//! |---|---|
//! | [`messages`] | what travels |
//! | [`lane`] | whether numbered RPCs arrive once and in order |
//! | [`record`] | what one connection has been through |
//! | [`journal`] | what a World has seen, for whoever drives it |
//! | [`play`] | the systems |

mod journal;
mod lane;
mod messages;
mod play;
mod record;
mod world;

pub(crate) use journal::{Fault, Happened};
pub(crate) use play::Load;
pub(crate) use record::{Counts, Record, STATES};
pub(crate) use world::{GameWorld, Seen, game_protocol};
