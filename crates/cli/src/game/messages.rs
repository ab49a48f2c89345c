//! What travels in this game.

use netstream::Rpc;
use serde::{Deserialize, Serialize};

/// The server asks whether the client is still awake.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ping {
    number: u64,
}

/// The client is.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pong {
    number: u64,
}

/// Somebody says something.
#[derive(Serialize, Deserialize)]
pub(crate) struct Chat {
    number: u64,
    pub(crate) text: String,
}

impl Ping {
    pub(crate) fn new(number: u64) -> Self {
        Self { number }
    }
}

impl Pong {
    pub(crate) fn new(number: u64) -> Self {
        Self { number }
    }
}

impl Chat {
    pub(crate) fn new(number: u64, text: String) -> Self {
        Self { number, text }
    }
}

/// An RPC that carries its number: the RPCs of one connection and direction are numbered from 1, across all types.
pub(crate) trait Numbered: Rpc {
    /// Which type it is, a small number.
    const KIND: usize;

    /// The number.
    fn number(&self) -> u64;
}

/// How many types there are.
pub(crate) const KINDS: usize = 3;

macro_rules! numbered {
    ($($name:ident = $kind:literal;)*) => {
        $(impl Numbered for $name {
            const KIND: usize = $kind;

            fn number(&self) -> u64 {
                self.number
            }
        })*
    };
}

numbered! {
    Ping = 0;
    Pong = 1;
    Chat = 2;
}
