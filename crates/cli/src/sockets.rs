//! Sockets for a crowd in one process: the library's own keep megabytes of buffers each, which is right for one
//! connection and too much for thousands.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use netstream::driver::udp::{Arrival, Batch, BufferSizes, DatagramSocket, Network, Outbox, SocketStats};

/// The most datagrams that are taken in at a stretch.
const BATCH: usize = 32;

/// More than any datagram of ours has.
const ROOM: usize = 2048;

/// The operating system's network, through sockets without buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrowdNetwork;

/// A socket without buffers.
pub(crate) struct CrowdSocket {
    socket: UdpSocket,
    local: SocketAddr,
    stats: SocketStats,
}

impl Network for CrowdNetwork {
    type Socket = CrowdSocket;
    const REAL_TIME: bool = true;

    /// The kernel's usual buffers, which hold hundreds of datagrams, are enough for one bot.
    fn bind(&self, address: SocketAddr, _: BufferSizes) -> io::Result<CrowdSocket> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(CrowdSocket { local: socket.local_addr()?, socket, stats: SocketStats::default() })
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        netstream::driver::udp::OsNetwork.resolve(host)
    }
}

impl DatagramSocket for CrowdSocket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn receive(&mut self, deliver: &mut dyn FnMut(Arrival<'_>)) -> Batch {
        let mut room = [0; ROOM];
        let mut batch = Batch::default();
        while batch.datagrams < BATCH {
            self.stats.receive_calls += 1;
            match self.socket.recv_from(&mut room) {
                Ok((len, from)) => {
                    batch.datagrams += 1;
                    self.stats.received += 1;
                    self.stats.bytes_received += len as u64;
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    deliver(Arrival::Datagram(from, &mut room[..len]));
                }
                // Nothing is there; or an error, which is about a datagram that was sent, and tells nothing for sure.
                Err(error) => {
                    self.stats.error_other += u64::from(error.kind() != ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        batch.more = batch.datagrams == BATCH;
        batch
    }

    fn send(&mut self, outbox: &mut Outbox) {
        let Self { socket, local, stats } = self;
        let mut done = 0;
        for (to, datagram) in outbox.iter() {
            let to = match to.ip() {
                IpAddr::V4(ip) if local.is_ipv6() => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
                _ => to,
            };
            stats.send_calls += 1;
            match socket.send_to(datagram, to) {
                Ok(sent) => {
                    stats.sent += 1;
                    stats.bytes_sent += sent as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stats.error_blocked += 1;
                    break;
                }
                Err(_) => stats.error_other += 1,
            }
            done += 1;
        }
        outbox.take_off(done);
    }

    fn stats(&self) -> SocketStats {
        self.stats
    }
}
