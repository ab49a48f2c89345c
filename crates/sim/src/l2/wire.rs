//! The simulated network as a [`Network`](udp::Network) of the UDP driver.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netstream::driver::udp::{self, Arrival, Batch, BufferSizes, DatagramSocket, Outbox, SocketStats};
use netstream::transport::Mono;

use crate::network::{Network, Owner, Port};

/// The first port that is given to a socket that does not care.
const FIRST_FREE_PORT: u16 = 20_000;

/// Datagrams that the operating system gives at a time.
const BATCH: usize = 2;

/// The network that all nodes share, and the true time.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) network: Network,
    pub(super) now: Mono,
    next_port: u16,
}

/// A node's access to it.
#[derive(Clone, Debug)]
pub(super) struct Access {
    wire: Arc<Mutex<Wire>>,
    owner: Owner,
    ip: IpAddr,
}

/// A socket of a node.
#[derive(Debug)]
pub(super) struct Socket {
    wire: Arc<Mutex<Wire>>,
    port: Port,
    local: SocketAddr,
    buf: Vec<u8>,
}

pub(super) fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    pub(super) fn new(network: Network) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { network, now: Mono::ZERO, next_port: FIRST_FREE_PORT }))
    }
}

impl Access {
    pub(super) fn new(wire: &Arc<Mutex<Wire>>, owner: Owner, ip: IpAddr) -> Self {
        Self { wire: wire.clone(), owner, ip }
    }
}

impl udp::Network for Access {
    type Socket = Socket;
    const REAL_TIME: bool = false;

    fn bind(&self, address: SocketAddr, _: BufferSizes) -> io::Result<Socket> {
        let mut wire = lock(&self.wire);
        let port = match address.port() {
            0 => {
                wire.next_port = wire.next_port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
                wire.next_port
            }
            port => port,
        };
        let local = SocketAddr::new(self.ip, port);
        let port = wire.network.open(self.owner, local);
        Ok(Socket { wire: self.wire.clone(), port, local, buf: Vec::new() })
    }

    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

impl DatagramSocket for Socket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn receive(&mut self, deliver: &mut dyn FnMut(Arrival<'_>)) -> Batch {
        let mut datagrams = 0;
        loop {
            let from = {
                let mut wire = lock(&self.wire);
                let now = wire.now;
                match wire.network.refuses(now, self.port) {
                    true => None,
                    false => wire.network.receive(now, self.port, &mut self.buf),
                }
            };
            let Some(from) = from else { return Batch { datagrams, more: false } };
            deliver(Arrival::Datagram(from, &mut self.buf));
            datagrams += 1;
            if datagrams == BATCH {
                return Batch { datagrams, more: true };
            }
        }
    }

    fn send(&mut self, outbox: &mut Outbox) {
        let mut wire = lock(&self.wire);
        let now = wire.now;
        let mut count = 0;
        for (to, datagram) in outbox.iter() {
            if wire.network.refuses(now, self.port) {
                // What is left does not fit now.
                break;
            }
            wire.network.send(now, self.port, to, datagram);
            count += 1;
        }
        outbox.take_off(count);
    }

    fn stats(&self) -> SocketStats {
        SocketStats::default()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        lock(&self.wire).network.close(self.port);
    }
}
