//! Batches on every system: quinn-udp receives, one call per datagram sends.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::Socket;

use super::outbox::Outbox;
use super::socket::{Arrival, Batch, for_family};

/// The buffers of one socket's batches.
pub(super) struct Batched {
    state: UdpSocketState,
    slab: Box<[u8]>,
    /// Bytes per buffer: all segments that the system may join.
    stride: usize,
}

impl std::fmt::Debug for Batched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batched").finish_non_exhaustive()
    }
}

impl Batched {
    pub(super) fn new(socket: &Socket, _local: SocketAddr) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(socket))?;
        // A joined buffer holds at most one IP packet's worth of payload.
        let stride = 1 << 16;
        // Zeroed memory of this size is not resident before it is written to.
        let slab = vec![0; stride * quinn_udp::BATCH_SIZE].into_boxed_slice();
        Ok(Self { state, slab, stride })
    }

    /// Receives one batch.
    pub(super) fn receive(
        &mut self,
        socket: &Socket,
        truncated: &mut u64,
        deliver: &mut dyn FnMut(Arrival<'_>),
    ) -> io::Result<Batch> {
        let mut metas = [RecvMeta::default(); quinn_udp::BATCH_SIZE];
        let mut chunks = self.slab.chunks_exact_mut(self.stride);
        let mut buffers: [IoSliceMut<'_>; quinn_udp::BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let count = self.state.recv(UdpSockRef::from(socket), &mut buffers, &mut metas)?;
        for meta in metas.iter().take(count) {
            deliver(Arrival::Coming(meta.addr));
        }
        let mut datagrams = 0;
        for (meta, buffer) in metas.iter().zip(&mut buffers).take(count) {
            let Some(bytes) = buffer.get_mut(..meta.len) else {
                *truncated += 1;
                datagrams += 1;
                continue;
            };
            if bytes.is_empty() {
                datagrams += 1;
                deliver(Arrival::Datagram(meta.addr, bytes));
                continue;
            }
            for segment in bytes.chunks_mut(meta.stride.max(1)) {
                datagrams += 1;
                deliver(Arrival::Datagram(meta.addr, segment));
            }
        }
        Ok(Batch { datagrams, more: count >= quinn_udp::BATCH_SIZE })
    }

    /// Sends the first datagram of `outbox`; returns how many left.
    pub(super) fn send(&mut self, socket: &Socket, ipv6: bool, outbox: &Outbox) -> io::Result<usize> {
        let Some((to, datagram)) = outbox.iter().next() else { return Ok(0) };
        socket.send_to(datagram, &for_family(to, ipv6).into()).map(|_| 1)
    }

    /// The system does not tell how many datagrams it dropped.
    pub(super) fn dropped(&self, _socket: &Socket) -> u64 {
        0
    }

    /// Whether datagrams may be cut into fragments on their way.
    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// There is no such thing everywhere.
    pub(super) fn shield(&mut self, _socket: &Socket, _max_body: Option<usize>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The system does not tell how much waits, so it may be a lot.
    pub(super) fn is_crowded(&self, _socket: &Socket) -> bool {
        true
    }
}

/// How often sockets are looked at where nothing tells that something has arrived.
const LOOK: Duration = Duration::from_millis(1);

/// Lets other threads end the wait of the one that waits for sockets. The standard library cannot wait for both, so that
/// the sockets are looked at every millisecond.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self::default())
    }

    /// Ends the wait that goes on, or else the next one.
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    /// Waits until the bell rings, something may have arrived at one of the sockets, or the time is over.
    pub(super) fn wait<'s>(&self, mut sockets: impl Iterator<Item = &'s Socket>, time: Duration) {
        let time = if sockets.next().is_some() { time.min(LOOK) } else { time };
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.wait_timeout_while(rung, time, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_heard_whether_it_rings_before_the_wait_or_during_it() {
        let bell = Bell::new().unwrap();
        let forever = Duration::from_secs(3600);
        bell.ring();
        bell.wait(std::iter::empty(), forever);
        std::thread::scope(|scope| {
            scope.spawn(|| bell.wait(std::iter::empty(), forever));
            bell.ring();
        });
        bell.wait(std::iter::empty(), Duration::ZERO);
    }
}
