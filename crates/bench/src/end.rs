//! What every library under measurement can do, in the smallest words.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::game::Game;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// It may be lost; it fits in a datagram.
    Unreliable,
    /// It arrives, in order.
    Reliable,
    /// It may be lost; it needs several datagrams.
    Fragmented,
}

/// What a server should be made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) clients: usize,
    /// The largest reliable message.
    pub(crate) largest: usize,
    /// Whether the game does nothing but answer what arrives.
    pub(crate) only_answers: bool,
}

/// A server with its clients, or a crowd of clients of which each has one server.
pub(crate) trait End {
    /// How many are connected.
    fn connected(&mut self) -> usize;

    /// Takes in what has arrived: of which client, and what.
    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8]));

    /// Sends to, or as, this client; false if it cannot be taken now. The message is what a game has that says the same
    /// to many: shared bytes, which some libraries take as they are.
    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool;
}

/// A server process.
pub(crate) trait Server {
    /// What clients need to know: `ip:port`, and perhaps a secret behind a space.
    fn address(&self) -> String;

    /// One round: the game receives and sends, and everything leaves.
    fn update(&mut self, game: &mut Game);

    /// Waits for the next round.
    fn wait(&mut self, until: Instant) {
        sleep_until(until);
    }
}

/// A process full of clients.
pub(crate) trait Crowd: End {
    /// One more starts to connect.
    fn connect(&mut self);

    /// Lets everything leave.
    fn flush(&mut self);

    /// Waits for the next round.
    fn wait(&mut self, until: Instant) {
        sleep_until(until);
    }
}

pub(crate) fn sleep_until(until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    if left > Duration::ZERO {
        std::thread::sleep(left);
    }
}
