//! A socket with what waits to leave through it, and the simulated link in front of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netstream_transport::mutants::mutant;
use netstream_transport::{Mono, Transmit};
use socket2::Socket;

use super::outbox::{Outbox, ROOM};
use super::socket::{Arrival, DatagramSocket, SocketStats, UdpSocket};
use crate::link::{LinkSimulator, Route};

/// The most datagrams that one update takes in. Four for each of the most connections that a server may have.
const MAX_DATAGRAMS: usize = 65_536;

/// Datagrams of strangers in one update from which on it is a flood: 8000 per second at 60 Hz, ten times what all clients
/// that join at once send.
const FLOOD: u32 = 128;

/// How long the shield is up then, until it is seen whether the flood goes on.
const SHIELDED: Duration = Duration::from_secs(10);

/// How long one update takes datagrams in at a stretch; what is left waits in the kernel for the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// For everything, or half of the time since the last update if that is more: who has much else to do must not fall
    /// behind what arrives meanwhile. `None` where time is not the machine's.
    pub(super) time: Option<Duration>,
    /// For strangers, or a sixteenth of the time since the last update: they too come by the second, not by the update.
    pub(super) strangers: Duration,
}

impl Budget {
    /// What there is for an update `passed` after the one before.
    fn after(self, passed: Duration) -> Self {
        // Not more than a second: whoever has slept has other worries.
        let time = self.time.map(|time| time.max((passed / 2).min(Duration::from_secs(1))));
        Self { time, strangers: self.strangers.max((passed / 16).min(Duration::from_millis(100))) }
    }
}

#[derive(Debug)]
pub(super) struct Port<S> {
    socket: S,
    outbox: Outbox,
    /// Tells the sockets of one driver apart.
    number: u64,
    /// The largest payload that is taken in.
    max_body: usize,
    /// When the shield goes down.
    shielded_until: Option<Mono>,
    /// When the last update took datagrams in.
    last: Mono,
}

impl<S: DatagramSocket> Port<S> {
    pub(super) fn new(socket: S, number: u64, max_body: usize) -> Self {
        Self { socket, outbox: Outbox::new(), number, max_body, shielded_until: None, last: Mono::ZERO }
    }

    /// Takes in what has arrived. `handle` also hears whether strangers have had their time, and says whether what it was
    /// given is of somebody who is connected, as far as it looked. Where there is a simulator that does anything, it gets the
    /// datagrams instead.
    pub(super) fn receive(
        &mut self,
        now: Mono,
        simulator: Option<&mut LinkSimulator>,
        budget: Budget,
        handle: &mut dyn FnMut(Arrival<'_>, bool) -> bool,
    ) {
        if self.shielded_until.take_if(|until| now >= *until).is_some() {
            self.socket.shield(None);
        }
        if self.take_in(now, simulator, budget, handle) >= FLOOD && self.shielded_until.is_none() {
            self.shielded_until = Some(now + SHIELDED);
            self.socket.shield(Some(self.max_body));
        }
    }

    /// Returns how many datagrams were of strangers.
    fn take_in(
        &mut self,
        now: Mono,
        simulator: Option<&mut LinkSimulator>,
        budget: Budget,
        handle: &mut dyn FnMut(Arrival<'_>, bool) -> bool,
    ) -> u32 {
        let mut simulator = simulator.filter(|simulator| !simulator.incoming.is_transparent());
        let (mut datagrams, mut all_strangers) = (0, 0);
        let budget = budget.after(now.since(std::mem::replace(&mut self.last, now)));
        let start = budget.time.map(|time| (Instant::now(), time));
        let mut batch_start = start.map(|(start, _)| start);
        let mut for_strangers = Duration::ZERO;
        loop {
            let mut strangers = 0;
            let spent = for_strangers >= budget.strangers / 2;
            let mut over = false;
            let batch = self.socket.receive(&mut |arrival| match (&mut simulator, arrival) {
                (_, Arrival::Datagram(_, [])) if mutant(29) => over = true,
                (None, arrival) => strangers += u32::from(!handle(arrival, spent)),
                (Some(simulator), Arrival::Datagram(peer, datagram)) => {
                    simulator.incoming.push(now, Route { socket: self.number, peer }, datagram);
                }
                (Some(_), Arrival::Coming(_)) => {}
            });
            datagrams += batch.datagrams;
            all_strangers += strangers;
            if !batch.more || datagrams >= MAX_DATAGRAMS || over {
                return all_strangers;
            }
            let (Some((start, time)), Some(batch_start)) = (start, &mut batch_start) else { continue };
            let now = Instant::now();
            // A batch's time is shared out by heads.
            let heads = u32::try_from(batch.datagrams).unwrap_or(u32::MAX).max(1);
            for_strangers += (now - *batch_start) * strangers / heads;
            *batch_start = now;
            let enough = for_strangers >= budget.strangers && !self.socket.is_crowded();
            if enough || now - start >= time {
                return all_strangers;
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

    /// Whether the socket did not take everything.
    pub(super) fn is_blocked(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// What a thread can wait for.
    pub(super) fn handle(&self) -> Option<&Socket> {
        self.socket.system().map(UdpSocket::handle)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn stats(&self) -> SocketStats {
        self.socket.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::Batch;

    /// A socket at which so many datagrams arrive for every `receive`.
    struct Crowd {
        count: usize,
        shield: Vec<bool>,
    }

    impl DatagramSocket for Crowd {
        fn local_addr(&self) -> SocketAddr {
            ([127, 0, 0, 1], 1).into()
        }

        fn receive(&mut self, deliver: &mut dyn FnMut(Arrival<'_>)) -> Batch {
            for _ in 0..self.count {
                deliver(Arrival::Datagram(([127, 0, 0, 1], 2).into(), &mut [1, 2, 3]));
            }
            Batch { datagrams: self.count, more: false }
        }

        fn send(&mut self, _: &mut Outbox) {}

        fn shield(&mut self, max_body: Option<usize>) {
            self.shield.push(max_body.is_some());
        }

        fn stats(&self) -> SocketStats {
            SocketStats::default()
        }
    }

    /// What becomes of the shield while, each second, so many datagrams come from strangers, or from players.
    fn shield(counts: &[usize], strangers: bool) -> Vec<bool> {
        let mut port = Port::new(Crowd { count: 0, shield: Vec::new() }, 1, 1200);
        let budget = Budget { time: None, strangers: Duration::MAX };
        for (second, count) in counts.iter().enumerate() {
            port.socket.count = *count;
            let now = Mono::from_nanos(second as u64 * 1_000_000_000);
            port.receive(now, None, budget, &mut |_, _| !strangers);
        }
        port.socket.shield
    }

    #[test]
    fn who_updates_rarely_has_as_much_time_for_strangers_in_a_second() {
        let budget = Budget { time: Some(Duration::from_millis(16)), strangers: Duration::from_millis(1) };
        for hertz in [10, 30, 60] {
            let budget = budget.after(Duration::from_secs(1) / hertz);
            assert!(budget.strangers * hertz >= Duration::from_millis(60), "{hertz} Hz: {budget:?}");
            assert!(budget.strangers * hertz <= Duration::from_millis(63), "{hertz} Hz: {budget:?}");
        }
        assert_eq!(budget.after(Duration::ZERO).strangers, Duration::from_millis(1));
        assert_eq!(budget.after(Duration::from_secs(60)).strangers, Duration::from_millis(100));
    }

    #[test]
    fn a_flood_of_strangers_raises_the_shield_for_ten_seconds() {
        let flood = FLOOD as usize;
        assert_eq!(shield(&[flood - 1; 30], true), []);
        assert_eq!(shield(&[flood * 10; 30], false), [], "players are no flood");
        let one_second: Vec<_> = (0..30).map(|second| if second == 3 { flood } else { 5 }).collect();
        assert_eq!(shield(&one_second[..13], true), [true]);
        assert_eq!(shield(&one_second, true), [true, false]);
        assert_eq!(shield(&[flood; 12], true), [true, false, true], "still there: up again at once");
    }
}
