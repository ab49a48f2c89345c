//! A socket with what waits to leave through it, and the simulated link in front of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netstream_transport::{Mono, Transmit};

use super::outbox::{Outbox, ROOM};
use super::socket::{DatagramSocket, SocketStats};
use crate::link::{LinkSimulator, Route};

/// The most datagrams that one update takes in. Four for each of the most connections that a server may have.
const MAX_DATAGRAMS: usize = 65_536;

/// How long one update takes datagrams in at a stretch; what is left waits in the kernel for the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// `None` where time is not the machine's.
    pub(super) time: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Port<S> {
    socket: S,
    outbox: Outbox,
    /// Tells the sockets of one driver apart.
    number: u64,
}

impl<S: DatagramSocket> Port<S> {
    pub(super) fn new(socket: S, number: u64) -> Self {
        Self { socket, outbox: Outbox::new(), number }
    }

    /// Takes in what has arrived. Where there is a simulator that does anything, it gets the datagrams instead of
    /// `handle`.
    pub(super) fn receive(
        &mut self,
        now: Mono,
        simulator: Option<&mut LinkSimulator>,
        budget: Budget,
        handle: &mut dyn FnMut(SocketAddr, &mut [u8]),
    ) {
        let mut simulator = simulator.filter(|simulator| !simulator.incoming.is_transparent());
        let mut datagrams = 0;
        let start = budget.time.map(|time| (Instant::now(), time));
        loop {
            let batch = self.socket.receive(&mut |peer, datagram| match &mut simulator {
                None => handle(peer, datagram),
                Some(simulator) => {
                    simulator.incoming.push(now, Route { socket: self.number, peer }, datagram);
                }
            });
            datagrams += batch.datagrams;
            let late = || start.is_some_and(|(start, time)| start.elapsed() >= time);
            if !batch.more || datagrams >= MAX_DATAGRAMS || late() {
                return;
            }
        }
    }

    /// Sends whatever `poll` writes, until it has nothing more or the socket is full. Where there is a simulator that
    /// does anything, it gets the datagrams instead.
    pub(super) fn send(
        &mut self,
        now: Mono,
        simulator: Option<&mut LinkSimulator>,
        poll: &mut dyn FnMut(&mut [u8]) -> Option<Transmit>,
    ) {
        if let Some(simulator) = simulator.filter(|simulator| !simulator.outgoing.is_transparent()) {
            let mut room = [0; ROOM];
            while let Some(Transmit { to, at }) = poll(&mut room) {
                if let Some(datagram) = room.get(at) {
                    simulator.outgoing.push(now, Route { socket: self.number, peer: to }, datagram);
                }
            }
            return;
        }
        loop {
            let done = self.fill(poll);
            self.flush();
            if done || !self.outbox.is_empty() {
                return;
            }
        }
    }

    /// Sends one datagram that has come through the simulator.
    pub(super) fn forward(&mut self, to: SocketAddr, datagram: &[u8]) {
        if !self.outbox.push(to, datagram) {
            self.flush();
            // Full all the same: lost, as a datagram may be.
            self.outbox.push(to, datagram);
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        if !self.outbox.is_empty() {
            self.socket.send(&mut self.outbox);
        }
    }

    /// Whether there is nothing more to write.
    fn fill(&mut self, poll: &mut dyn FnMut(&mut [u8]) -> Option<Transmit>) -> bool {
        while let Some(room) = self.outbox.room() {
            let Some(Transmit { to, at }) = poll(room) else { return true };
            self.outbox.commit(to, at);
        }
        false
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    pub(super) fn stats(&self) -> SocketStats {
        self.socket.stats()
    }
}
