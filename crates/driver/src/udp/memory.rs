//! A network within the process: sockets without an operating system, for simulations.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::outbox::Outbox;
use super::socket::{Arrival, Batch, BufferSizes, DatagramSocket, Network, SocketStats};

/// The first port that is given to a socket that does not care.
const FIRST_FREE_PORT: u16 = 49_152;

/// So many datagrams are announced before the first of them is handed over, as one call of a kernel brings.
const BATCH: usize = 32;

/// A network within the process. Datagrams arrive at once and in order; a
/// [`LinkSimulator`](crate::link::LinkSimulator) makes it worse. Clones are the same network and the same machine;
/// [`machine`](Self::machine) is another machine on it.
///
/// Nothing in it depends on clocks or threads: the same calls give the same result.
#[derive(Clone, Debug)]
pub struct MemoryNetwork {
    sockets: Arc<Mutex<HashMap<SocketAddr, Arc<Mutex<Inbox>>>>>,
    names: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
    ip: IpAddr,
}

/// A socket of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemorySocket {
    network: MemoryNetwork,
    local: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
    batch: Waiting,
    stats: SocketStats,
}

/// What waits for one socket.
#[derive(Debug)]
struct Inbox {
    batch: Waiting,
    /// The most bytes that wait.
    room: usize,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    datagrams: Vec<(SocketAddr, usize)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryNetwork {
    /// A network with nobody on it, seen from the machine 127.0.0.1.
    pub fn new() -> Self {
        Self { sockets: Arc::default(), names: Arc::default(), ip: Ipv4Addr::LOCALHOST.into() }
    }

    /// The same network, seen from the machine that has the address `ip`.
    #[must_use]
    pub fn machine(&self, ip: IpAddr) -> Self {
        Self { ip, ..self.clone() }
    }

    /// Gives `host` another address, after those that it has.
    pub fn name(&self, host: &str, ip: IpAddr) {
        lock(&self.names).entry(host.to_owned()).or_default().push(ip);
    }

    /// Sends one datagram that claims to come from `from`, as anybody on a real network can.
    pub fn inject(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.deliver(from, to, datagram);
    }

    fn deliver(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let Some(inbox) = lock(&self.sockets).get(&to).cloned() else { return };
        let mut inbox = lock(&inbox);
        if inbox.batch.bytes.len() + datagram.len() > inbox.room {
            inbox.dropped += 1;
            return;
        }
        inbox.batch.bytes.extend_from_slice(datagram);
        inbox.batch.datagrams.push((from, datagram.len()));
    }
}

impl Default for MemoryNetwork {
    fn default() -> Self {
        Self::new()
    }
}

impl Network for MemoryNetwork {
    type Socket = MemorySocket;
    const REAL_TIME: bool = false;

    /// An unspecified address is the machine's own.
    fn bind(&self, address: SocketAddr, buffers: BufferSizes) -> io::Result<MemorySocket> {
        let ip = if address.ip().is_unspecified() { self.ip } else { address.ip() };
        if ip != self.ip {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let mut sockets = lock(&self.sockets);
        let free = |port: &u16| !sockets.contains_key(&SocketAddr::new(ip, *port));
        let port = match address.port() {
            0 => (FIRST_FREE_PORT..=u16::MAX).find(free),
            port => Some(port).filter(free),
        };
        let local = SocketAddr::new(ip, port.ok_or(io::ErrorKind::AddrInUse)?);
        let inbox = Inbox { batch: Waiting::default(), room: buffers.receive, dropped: 0 };
        let inbox = Arc::new(Mutex::new(inbox));
        sockets.insert(local, inbox.clone());
        let stats = SocketStats { receive_buffer: buffers.receive as u64, ..SocketStats::default() };
        Ok(MemorySocket { network: self.clone(), local, inbox, batch: Waiting::default(), stats })
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        lock(&self.names).get(host).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DatagramSocket for MemorySocket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn receive(&mut self, deliver: &mut dyn FnMut(Arrival<'_>)) -> Batch {
        std::mem::swap(&mut lock(&self.inbox).batch, &mut self.batch);
        let Waiting { bytes, datagrams } = &mut self.batch;
        let count = datagrams.len();
        self.stats.receive_calls += 1;
        self.stats.received += count as u64;
        self.stats.bytes_received += bytes.len() as u64;
        let mut rest = bytes.as_mut_slice();
        for batch in datagrams.chunks(BATCH) {
            for (from, _) in batch {
                deliver(Arrival::Coming(*from));
            }
            for (from, len) in batch {
                let (datagram, after) = rest.split_at_mut(*len);
                deliver(Arrival::Datagram(*from, datagram));
                rest = after;
            }
        }
        datagrams.clear();
        bytes.clear();
        Batch { datagrams: count, more: false }
    }

    fn send(&mut self, outbox: &mut Outbox) {
        for (to, datagram) in outbox.iter() {
            self.network.deliver(self.local, to, datagram);
        }
        let (datagrams, bytes) = outbox.take_off(outbox.len());
        self.stats.send_calls += 1;
        self.stats.sent += datagrams;
        self.stats.bytes_sent += bytes;
    }

    fn stats(&self) -> SocketStats {
        SocketStats { kernel_dropped: lock(&self.inbox).dropped, ..self.stats }
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        lock(&self.network.sockets).remove(&self.local);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(socket: &mut MemorySocket, to: SocketAddr, datagram: &[u8]) {
        let mut outbox = Outbox::new();
        outbox.push(to, datagram);
        socket.send(&mut outbox);
    }

    fn received(socket: &mut MemorySocket) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        socket.receive(&mut |arrival| {
            all.extend(arrival.datagram().map(|(from, bytes)| (from, bytes.to_vec())));
        });
        all
    }

    #[test]
    fn datagrams_go_from_machine_to_machine() {
        let network = MemoryNetwork::new();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut a = network.machine([10, 0, 0, 1].into()).bind(any, BufferSizes::CLIENT).unwrap();
        let mut b = network.machine([10, 0, 0, 2].into()).bind(any, BufferSizes::CLIENT).unwrap();
        assert_eq!(a.local_addr(), SocketAddr::from(([10, 0, 0, 1], FIRST_FREE_PORT)));
        send(&mut a, b.local_addr(), b"one");
        send(&mut a, b.local_addr(), b"");
        send(&mut a, SocketAddr::from(([10, 0, 0, 3], 1)), b"to nobody");
        assert_eq!(received(&mut b), [(a.local_addr(), b"one".to_vec()), (a.local_addr(), Vec::new())]);
        assert_eq!(received(&mut b), []);
    }

    #[test]
    fn an_address_is_taken_until_its_socket_is_gone() {
        let network = MemoryNetwork::new();
        let at = SocketAddr::from(([127, 0, 0, 1], 7));
        let socket = network.bind(at, BufferSizes::CLIENT).unwrap();
        assert_eq!(network.bind(at, BufferSizes::CLIENT).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(network.bind(at, BufferSizes::CLIENT).is_ok());
        let elsewhere = SocketAddr::from(([9, 9, 9, 9], 7));
        assert_eq!(network.bind(elsewhere, BufferSizes::CLIENT).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_full_inbox_drops_and_counts() {
        let network = MemoryNetwork::new();
        let at = SocketAddr::from(([127, 0, 0, 1], 7));
        let mut socket = network.bind(at, BufferSizes { receive: 10, send: 0 }).unwrap();
        for _ in 0..3 {
            network.inject(at, at, b"12345");
        }
        assert_eq!((received(&mut socket).len(), socket.stats().kernel_dropped), (2, 1));
    }
}
