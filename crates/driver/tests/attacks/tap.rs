//! The operating system's sockets, with a way to listen at them, to hold back what leaves, and to speak through them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netstream_driver::udp::{
    Arrival, Batch, BufferSizes, DatagramSocket, Network, OsNetwork, Outbox, SocketStats, UdpSocket,
};

/// A datagram that one of our sockets sent.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Datagram {
    /// The packet's type.
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[0] & 0xf
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TapNetwork {
    taps: Arc<Mutex<Vec<Tap>>>,
}

/// One socket, seen by whoever listens at it. Clones are the same socket.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    local: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    socket: UdpSocket,
    recording: bool,
    holding: bool,
    sent: Vec<Datagram>,
}

pub(crate) struct TapSocket(Tap);

impl TapNetwork {
    /// The socket that was opened last.
    pub(crate) fn newest(&self) -> Tap {
        self.taps.lock().unwrap().last().expect("a socket was opened").clone()
    }

    /// Forgets the sockets: those whose drivers are gone close.
    pub(crate) fn forget(&self) {
        self.taps.lock().unwrap().clear();
    }
}

impl Tap {
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Keeps a copy of everything that leaves from now on.
    pub(crate) fn record(&self) {
        self.lock().recording = true;
    }

    /// Keeps everything that is to leave from now on, and lets nothing out.
    pub(crate) fn hold(&self, hold: bool) {
        self.lock().holding = hold;
    }

    /// What was kept since the last time.
    pub(crate) fn take(&self) -> Vec<Datagram> {
        std::mem::take(&mut self.lock().sent)
    }

    /// Sends through this socket as its owner would.
    pub(crate) fn send<'a>(&self, datagrams: impl IntoIterator<Item = (SocketAddr, &'a [u8])>) {
        let Inner { socket, .. } = &mut *self.lock();
        let mut outbox = Outbox::new();
        for (to, bytes) in datagrams {
            if !outbox.push(to, bytes) {
                socket.send(&mut outbox);
                assert!(outbox.is_empty() && outbox.push(to, bytes), "loopback takes all");
            }
        }
        socket.send(&mut outbox);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network for TapNetwork {
    type Socket = TapSocket;
    const REAL_TIME: bool = true;

    fn bind(&self, address: SocketAddr, buffers: BufferSizes) -> io::Result<TapSocket> {
        let socket = UdpSocket::bind(address, buffers)?;
        let mut local = socket.local_addr();
        if local.ip().is_unspecified() {
            local.set_ip(IpAddr::from([127, 0, 0, 1]));
        }
        let inner = Inner { socket, recording: false, holding: false, sent: Vec::new() };
        let tap = Tap { local, inner: Arc::new(Mutex::new(inner)) };
        self.taps.lock().unwrap().push(tap.clone());
        Ok(TapSocket(tap))
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        OsNetwork.resolve(host)
    }
}

impl DatagramSocket for TapSocket {
    fn local_addr(&self) -> SocketAddr {
        self.0.lock().socket.local_addr()
    }

    fn receive(&mut self, deliver: &mut dyn FnMut(Arrival<'_>)) -> Batch {
        self.0.lock().socket.receive(deliver)
    }

    fn send(&mut self, outbox: &mut Outbox) {
        let from = self.0.local;
        let inner = &mut *self.0.lock();
        if inner.recording || inner.holding {
            let datagrams = outbox.iter().map(|(to, bytes)| Datagram { from, to, bytes: bytes.to_vec() });
            inner.sent.extend(datagrams);
        }
        if inner.holding {
            outbox.take_off(outbox.len());
        } else {
            inner.socket.send(outbox);
        }
    }

    fn stats(&self) -> SocketStats {
        self.0.lock().socket.stats()
    }
}
