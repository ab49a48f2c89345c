//! What a socket does about errors of its system calls: count them, and try again once where that helps. None ends a
//! connection, none closes the socket, and none is tried for ever.

use std::io;

use super::outbox::Outbox;
use super::socket::{Batch, SocketStats};

/// Receives one batch through `call`.
pub(super) fn receive(stats: &mut SocketStats, call: &mut dyn FnMut(&mut SocketStats) -> io::Result<Batch>) -> Batch {
    // One error takes the place of one batch, and is worth one more attempt: it may be about a datagram that we sent,
    // with others waiting behind it.
    for _ in 0..2 {
        stats.receive_calls += 1;
        match call(stats) {
            Ok(batch) => return batch,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => stats.count(&error),
        }
    }
    Batch::default()
}

/// Sends all of `outbox` through `call`, which sends from its front and says how many datagrams left. An error is about
/// the first one, which is lost then: what matters is sent again by who has to know whether it has arrived.
pub(super) fn send(stats: &mut SocketStats, outbox: &mut Outbox, call: &mut dyn FnMut(&Outbox) -> io::Result<usize>) {
    let mut retried = false;
    while !outbox.is_empty() {
        stats.send_calls += 1;
        match call(outbox) {
            Ok(sent) => {
                let (datagrams, bytes) = outbox.take_off(sent);
                stats.sent += datagrams;
                stats.bytes_sent += bytes;
                retried = false;
            }
            Err(error) => {
                stats.count(&error);
                use io::ErrorKind as K;
                match error.kind() {
                    K::WouldBlock => return,
                    // A refusal is about an earlier datagram; this one has not been tried.
                    K::Interrupted | K::ConnectionRefused | K::ConnectionReset if !retried => retried = true,
                    _ => {
                        outbox.take_off(1);
                        retried = false;
                    }
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use netstream_transport::{ChannelId, Incoming, Random, SeededRandom};

    use super::super::memory::{MemoryNetwork, MemorySocket};
    use super::super::socket::{Arrival, BufferSizes, DatagramSocket, Network};
    use super::super::{UdpConfig, UdpDriver};
    use super::*;
    use crate::{Clock, Credentials, ManualClock, NetworkDriver};

    /// EINTR, EMSGSIZE, ENETUNREACH, ECONNRESET, ENOBUFS, ECONNREFUSED.
    const ERRORS: [i32; 6] = [4, 90, 101, 104, 105, 111];

    static SEEDS: AtomicU64 = AtomicU64::new(0);

    /// A network whose system calls fail one time in ten, each time for another reason.
    #[derive(Clone)]
    struct Faulty(MemoryNetwork);

    struct FaultySocket {
        socket: MemorySocket,
        dice: SeededRandom,
        stats: SocketStats,
    }

    fn fault(dice: &mut SeededRandom) -> io::Result<()> {
        if dice.chance(0.1) {
            return Err(io::Error::from_raw_os_error(ERRORS[dice.below(6) as usize]));
        }
        Ok(())
    }

    impl Network for Faulty {
        type Socket = FaultySocket;
        const REAL_TIME: bool = false;

        fn bind(&self, address: SocketAddr, buffers: BufferSizes) -> io::Result<FaultySocket> {
            let dice = SeededRandom::new(SEEDS.fetch_add(1, Ordering::Relaxed));
            Ok(FaultySocket { socket: self.0.bind(address, buffers)?, dice, stats: SocketStats::default() })
        }

        fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            self.0.resolve(host)
        }
    }

    impl DatagramSocket for FaultySocket {
        fn local_addr(&self) -> SocketAddr {
            self.socket.local_addr()
        }

        fn receive(&mut self, deliver: &mut dyn FnMut(Arrival<'_>)) -> Batch {
            let Self { socket, dice, stats } = self;
            receive(stats, &mut |_| fault(dice).map(|()| socket.receive(deliver)))
        }

        fn send(&mut self, outbox: &mut Outbox) {
            let Self { socket, dice, stats } = self;
            let mut one = Outbox::new();
            send(stats, outbox, &mut |outbox| {
                fault(dice)?;
                // As a system that sends one at a time.
                let (to, datagram) = outbox.iter().next().expect("there is one");
                one.push(to, datagram);
                socket.send(&mut one);
                Ok(1)
            });
        }

        fn stats(&self) -> SocketStats {
            self.stats
        }
    }

    #[test]
    fn errors_of_one_call_in_ten_end_nothing() {
        const CLIENTS: usize = 8;
        let (network, clock) = (Faulty(MemoryNetwork::new()), ManualClock::new());
        let driver = |seed: u64| {
            let mut random = SeededRandom::new(seed);
            UdpDriver::on(network.clone(), UdpConfig::new(&mut random), Box::new(random))
        };
        let mut server = driver(0);
        let endpoint = server.listen(clock.now(), &"udp://127.0.0.1:7979".parse().unwrap()).unwrap();
        let code = Credentials::JoinCode(server.join_code().unwrap().clone());
        let mut clients: Vec<_> = (1..=CLIENTS as u64).map(driver).collect();
        let ids: Vec<_> =
            clients.iter_mut().map(|client| client.connect(clock.now(), &endpoint, &code).unwrap()).collect();
        let (mut connected, mut there, mut heard, mut sent) = (0, Vec::new(), 0, 0);
        // A minute; then what is reliable has time to arrive.
        for tick in 0..60 * 65 {
            let now = clock.advance(Duration::from_micros(16_667));
            for (client, id) in clients.iter_mut().zip(&ids) {
                client.receive(now, &mut |incoming| match incoming {
                    Incoming::Connected { .. } => connected += 1,
                    Incoming::Message { .. } => heard += 1,
                    other => panic!("{other:?}"),
                });
                if tick < 60 * 60 && client.send(now, *id, ChannelId::RELIABLE, &[1; 40]).is_ok() {
                    sent += 1;
                }
                client.flush(now);
            }
            server.receive(now, &mut |incoming| match incoming {
                Incoming::Accepted { connection, .. } => there.push(connection),
                Incoming::Message { .. } => heard += 1,
                other => panic!("{other:?}"),
            });
            for id in &there {
                if tick < 60 * 60 && server.send(now, *id, ChannelId::RELIABLE, &[2; 40]).is_ok() {
                    sent += 1;
                }
            }
            server.flush(now);
        }
        assert_eq!((connected, there.len()), (CLIENTS, CLIENTS));
        assert_eq!(heard, sent, "everything reliable has arrived");
        assert!(sent > 2 * CLIENTS * 3_000);
        let mut all = server.socket_stats();
        for client in &clients {
            all.add(&client.socket_stats());
        }
        let SocketStats { error_refused, error_message_size, error_no_buffers, error_unreachable, .. } = all;
        let classes = [error_refused, error_message_size, error_no_buffers, error_unreachable, all.error_interrupted];
        assert!(classes.iter().all(|count| *count > 500), "{all:?}");
        assert_eq!((all.error_other, all.error_blocked, all.error_denied), (0, 0, 0));
        // Every call was a first attempt, or the one that follows an error.
        let errors: u64 = classes.iter().sum();
        let lost = all.send_calls - all.sent;
        assert!(lost <= errors);
        let rounds = (CLIENTS as u64 + 1) * 60 * 65;
        assert!(all.receive_calls <= rounds + errors, "{all:?}");
        println!(
            "T-A6: {errors} errors in {} calls, {CLIENTS} clients, a minute of play: 0 disconnects",
            all.send_calls + all.receive_calls
        );
    }

    #[test]
    fn an_error_that_does_not_go_away_is_not_tried_for_ever() {
        for code in ERRORS {
            let (mut stats, mut outbox, mut calls) = (SocketStats::default(), Outbox::new(), 0);
            for _ in 0..10 {
                outbox.push(([127, 0, 0, 1], 1).into(), b"lost");
            }
            send(&mut stats, &mut outbox, &mut |_| {
                calls += 1;
                Err(io::Error::from_raw_os_error(code))
            });
            assert!(outbox.is_empty() && calls <= 20, "{code}: {calls} calls for 10 datagrams");
            let mut calls = 0;
            let batch = receive(&mut stats, &mut |_| {
                calls += 1;
                Err(io::Error::from_raw_os_error(code))
            });
            assert_eq!((batch, calls), (Batch::default(), 2), "{code}");
        }
    }
}
