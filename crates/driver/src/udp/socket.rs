//! Datagram sockets: what a UDP driver needs of one, and the operating system's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

use super::outbox::Outbox;
use super::shell;

#[cfg(target_os = "linux")]
use super::kernel::Batched;
#[cfg(not(target_os = "linux"))]
use super::portable::Batched;

/// Where sockets come from: the operating system ([`OsNetwork`]) or a test ([`MemoryNetwork`](super::MemoryNetwork)).
pub trait Network: Clone + Send + Sync + 'static {
    /// Its sockets.
    type Socket: DatagramSocket;

    /// Whether time on this network is the machine's: then a driver may limit how long it works at a stretch by the
    /// machine's clock.
    const REAL_TIME: bool;

    /// Opens a socket at `address`; port 0 asks for any free one.
    fn bind(&self, address: SocketAddr, buffers: BufferSizes) -> io::Result<Self::Socket>;

    /// The addresses of a host name, the best first. May take seconds where time is real.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// A socket that never waits.
pub trait DatagramSocket: Send + Sync + 'static {
    /// Where it is bound.
    fn local_addr(&self) -> SocketAddr;

    /// Lends out one batch of datagrams and says how many there were.
    fn receive(&mut self, deliver: &mut dyn FnMut(Arrival<'_>)) -> Batch;

    /// Sends from the front of `outbox` and takes off what was sent or failed for good. What is left afterwards did
    /// not fit into the socket now.
    fn send(&mut self, outbox: &mut Outbox);

    /// Whether so much waits to be received that what arrives soon may be lost.
    fn is_crowded(&self) -> bool {
        false
    }

    /// Asks the system to drop, unseen, what no client ever sends to a server that takes payloads of up to so many bytes,
    /// until it is `None`. A socket that cannot does nothing.
    fn shield(&mut self, _max_body: Option<usize>) {}

    /// Whether the system may cut datagrams into fragments, so that the size of those that arrive says nothing of the path.
    fn may_fragment(&self) -> bool {
        false
    }

    /// The operating system's socket behind this one, for a thread that waits for what arrives; `None` where there is
    /// none.
    fn system(&self) -> Option<&UdpSocket> {
        None
    }

    /// What happened so far.
    fn stats(&self) -> SocketStats;
}

/// What a socket has to say of a batch of datagrams. Addresses are canonical: IPv4 is never written as IPv6.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<'d> {
    /// The batch holds a datagram from here. A socket that knows of several says so of each before it lends the first, so
    /// that what is known of all the senders can be fetched at once.
    Coming(SocketAddr),
    /// Where a datagram came from, and its bytes.
    Datagram(SocketAddr, &'d mut [u8]),
}

impl<'d> Arrival<'d> {
    /// Where a datagram came from, and its bytes, if it is one.
    pub fn datagram(self) -> Option<(SocketAddr, &'d mut [u8])> {
        match self {
            Self::Coming(_) => None,
            Self::Datagram(from, bytes) => Some((from, bytes)),
        }
    }
}

/// What came of one attempt to receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// How many datagrams there were.
    pub datagrams: usize,
    /// Whether others may be waiting.
    pub more: bool,
}

/// Bytes that the operating system is asked to buffer for one socket. It may grant less; [`SocketStats`] says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// For datagrams that have arrived.
    pub receive: usize,
    /// For datagrams that are to leave.
    pub send: usize,
}

impl BufferSizes {
    /// Enough for one tick of 4000 clients, or for a second of one busy stream.
    pub const SERVER: Self = Self { receive: 8 << 20, send: 8 << 20 };
    /// Enough for a snapshot in many fragments.
    pub const CLIENT: Self = Self { receive: 1 << 20, send: 1 << 18 };
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident = $metric:literal;)*) => {
        /// What a socket did and met since it was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct SocketStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl SocketStats {
            /// Adds the figures of another socket.
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Reports each figure under its metric's name.
            pub(super) fn report(&self, report: &mut dyn FnMut(&'static str, u64)) {
                $(report($metric, self.$name);)*
            }
        }
    };
}

stats! {
    /// Datagrams that left.
    sent = "datagrams_sent_total";
    /// Bytes of UDP payload that left.
    bytes_sent = "bytes_sent_total";
    /// Datagrams that arrived.
    received = "datagrams_received_total";
    /// Bytes of UDP payload that arrived.
    bytes_received = "bytes_received_total";
    /// System calls that sent.
    send_calls = "send_calls_total";
    /// System calls that received.
    receive_calls = "receive_calls_total";
    /// Datagrams that the kernel dropped because the receive buffer was full; 0 where it does not tell.
    kernel_dropped = "kernel_dropped_total";
    /// Datagrams that the kernel dropped while a flood of strangers had the shield up: what no client ever sends, and what
    /// did not fit into the receive buffer.
    shielded = "shielded_total";
    /// Datagrams that were cut because they were larger than any of ours; not delivered.
    truncated = "truncated_total";
    /// How often the send buffer was full. The rest waits for the next flush.
    error_blocked = "errors_blocked_total";
    /// A peer's machine said that nobody listens there. Ignored: anybody can say so.
    error_refused = "errors_refused_total";
    /// A datagram was larger than the path takes.
    error_message_size = "errors_message_size_total";
    /// The kernel had no memory for a datagram.
    error_no_buffers = "errors_no_buffers_total";
    /// There is no route to a peer.
    error_unreachable = "errors_unreachable_total";
    /// A firewall or the system's policy refused to send.
    error_denied = "errors_denied_total";
    /// A signal interrupted a call; it was repeated once.
    error_interrupted = "errors_interrupted_total";
    /// Any other error.
    error_other = "errors_other_total";
    /// Bytes that the operating system really buffers for receiving.
    receive_buffer = "receive_buffer_bytes";
    /// Bytes that the operating system really buffers for sending.
    send_buffer = "send_buffer_bytes";
}

impl SocketStats {
    /// Counts an error of a system call. No error of a socket does more than that.
    pub(super) fn count(&mut self, error: &io::Error) {
        use io::ErrorKind as K;
        let counter = match error.kind() {
            K::WouldBlock => &mut self.error_blocked,
            K::ConnectionRefused | K::ConnectionReset | K::ConnectionAborted => &mut self.error_refused,
            K::OutOfMemory => &mut self.error_no_buffers,
            K::NetworkUnreachable | K::HostUnreachable | K::NetworkDown | K::AddrNotAvailable => {
                &mut self.error_unreachable
            }
            K::PermissionDenied => &mut self.error_denied,
            K::Interrupted => &mut self.error_interrupted,
            _ if is_message_size(error) => &mut self.error_message_size,
            _ if is_no_buffers(error) => &mut self.error_no_buffers,
            _ => &mut self.error_other,
        };
        *counter += 1;
    }
}

fn is_message_size(error: &io::Error) -> bool {
    quinn_udp::is_msg_size_err(error)
}

/// ENOBUFS has no [`io::ErrorKind`].
fn is_no_buffers(error: &io::Error) -> bool {
    let code = match () {
        () if cfg!(windows) => 10_055,
        () if cfg!(any(target_os = "linux", target_os = "android")) => 105,
        () => 55,
    };
    error.raw_os_error() == Some(code)
}

/// The sockets of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsNetwork;

impl Network for OsNetwork {
    type Socket = UdpSocket;
    const REAL_TIME: bool = true;

    fn bind(&self, address: SocketAddr, buffers: BufferSizes) -> io::Result<UdpSocket> {
        UdpSocket::bind(address, buffers)
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// A non-blocking UDP socket that receives and sends in batches.
///
/// At `[::]` it takes IPv4 too.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    local: SocketAddr,
    batched: Batched,
    stats: SocketStats,
    /// What the kernel had dropped when the shield went up.
    shielded_from: Option<u64>,
}

impl UdpSocket {
    /// Opens a socket at `address`; port 0 asks for any free one.
    pub fn bind(address: SocketAddr, buffers: BufferSizes) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // Both families at [::] is the default of some systems only. Where it cannot be had, IPv6 alone is better
            // than nothing.
            let _ = socket.set_only_v6(!address.ip().is_unspecified());
        }
        // What is too much for the system is cut by it or refused; the figures in force are reported.
        let _ = socket.set_recv_buffer_size(buffers.receive);
        let _ = socket.set_send_buffer_size(buffers.send);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let batched = Batched::new(&socket, local)?;
        let size = |size: io::Result<usize>| size.unwrap_or(0) as u64;
        let stats = SocketStats {
            receive_buffer: size(socket.recv_buffer_size()),
            send_buffer: size(socket.send_buffer_size()),
            ..SocketStats::default()
        };
        Ok(Self { socket, local, batched, stats, shielded_from: None })
    }

    /// What the kernel has dropped since the shield went up.
    fn shielded(&self, dropped: u64) -> u64 {
        self.shielded_from.map_or(0, |from| dropped.saturating_sub(from))
    }

    /// What the kernel is asked to wait for.
    pub(super) fn handle(&self) -> &Socket {
        &self.socket
    }
}

impl DatagramSocket for UdpSocket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn receive(&mut self, deliver: &mut dyn FnMut(Arrival<'_>)) -> Batch {
        let Self { socket, batched, stats, .. } = self;
        shell::receive(stats, &mut |stats| {
            let SocketStats { received, bytes_received, truncated, .. } = stats;
            batched.receive(socket, truncated, &mut |arrival| match arrival {
                Arrival::Coming(from) => deliver(Arrival::Coming(canonical(from))),
                Arrival::Datagram(from, datagram) => {
                    *received += 1;
                    *bytes_received += datagram.len() as u64;
                    deliver(Arrival::Datagram(canonical(from), datagram));
                }
            })
        })
    }

    fn send(&mut self, outbox: &mut Outbox) {
        let Self { socket, batched, stats, local, .. } = self;
        shell::send(stats, outbox, &mut |outbox| batched.send(socket, local.is_ipv6(), outbox));
    }

    fn is_crowded(&self) -> bool {
        self.batched.is_crowded(&self.socket)
    }

    fn shield(&mut self, max_body: Option<usize>) {
        let up = max_body.is_some();
        if self.shielded_from.is_some() == up {
            return;
        }
        let dropped = self.batched.dropped(&self.socket);
        self.stats.shielded += self.shielded(dropped);
        self.shielded_from = self.batched.shield(&self.socket, max_body).is_ok_and(|()| up).then_some(dropped);
    }

    fn may_fragment(&self) -> bool {
        self.batched.may_fragment()
    }

    fn system(&self) -> Option<&UdpSocket> {
        Some(self)
    }

    fn stats(&self) -> SocketStats {
        let dropped = self.batched.dropped(&self.socket);
        let shielded = self.stats.shielded + self.shielded(dropped);
        SocketStats { kernel_dropped: dropped.saturating_sub(shielded), shielded, ..self.stats }
    }
}

/// IPv4 as IPv4, and no flow labels: one peer has one spelling.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(IpAddr::V4(ip), v6.port()),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

/// How a socket of one family writes an address of any.
pub(super) fn for_family(address: SocketAddr, ipv6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if ipv6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        _ => address,
    }
}

/// Any port of every address of this machine, of both families or only IPv4.
pub(super) fn any_address(ipv6: bool) -> SocketAddr {
    if ipv6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use netstream_transport::netcode::LARGEST_BODY;

    use super::super::portable;
    use super::*;

    fn localhost() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    fn open(address: SocketAddr) -> UdpSocket {
        UdpSocket::bind(address, BufferSizes::SERVER).unwrap()
    }

    fn copied(arrival: Arrival<'_>) -> Option<(SocketAddr, Vec<u8>)> {
        arrival.datagram().map(|(from, bytes)| (from, bytes.to_vec()))
    }

    fn drain(socket: &mut UdpSocket) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        while socket.receive(&mut |arrival| all.extend(copied(arrival))).more {}
        all
    }

    /// Sizes and destinations in patterns that make runs of equal segments, broken runs, and single datagrams.
    fn pattern(peers: &[SocketAddr]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        for number in 0..100_usize {
            let size = match number {
                0..20 => 1200,
                20 => 700,
                21..30 => 1200,
                30..40 => 60 + number % 3,
                40 => 0,
                _ => 1 + (number * 13) % 90,
            };
            let to = if number < 35 { peers[0] } else { peers[number % peers.len()] };
            all.push((to, vec![number as u8; size]));
        }
        all
    }

    fn sent_to(all: &[(SocketAddr, Vec<u8>)], to: SocketAddr) -> impl Iterator<Item = &[u8]> {
        all.iter().filter(move |(peer, _)| *peer == to).map(|(_, bytes)| bytes.as_slice())
    }

    #[test]
    fn batches_arrive_as_single_datagrams_would() {
        let mut receivers = [open(localhost()), open(localhost()), open(localhost())];
        let peers: Vec<_> = receivers.iter().map(UdpSocket::local_addr).collect();
        let pattern = pattern(&peers);
        let mut outbox = Outbox::new();
        for (to, bytes) in &pattern {
            assert!(outbox.push(*to, bytes));
        }
        let mut sender = open(localhost());
        sender.send(&mut outbox);
        assert!(outbox.is_empty());
        assert_eq!((sender.stats().sent, sender.stats().error_other), (100, 0), "{:?}", sender.stats());
        for receiver in &mut receivers {
            let (to, from) = (receiver.local_addr(), sender.local_addr());
            let arrived = drain(receiver);
            assert!(arrived.iter().all(|(peer, _)| *peer == from));
            assert!(arrived.iter().map(|(_, bytes)| bytes.as_slice()).eq(sent_to(&pattern, to)));
        }
        if cfg!(target_os = "linux") {
            assert!(sender.stats().send_calls <= 2, "{:?}", sender.stats());
        }
    }

    #[test]
    fn the_portable_way_sends_and_receives_the_same() {
        let receiver = open(localhost());
        let sender = open(localhost());
        let mut batched = portable::Batched::new(&receiver.socket, receiver.local).unwrap();
        let pattern = pattern(&[receiver.local]);
        let mut outbox = Outbox::new();
        for (to, bytes) in &pattern {
            assert!(outbox.push(*to, bytes));
        }
        while !outbox.is_empty() {
            let sent = batched.send(&sender.socket, false, &outbox).unwrap();
            outbox.take_off(sent);
        }
        let (mut arrived, mut truncated) = (Vec::new(), 0);
        while let Ok(Batch { more: true, .. }) =
            batched.receive(&receiver.socket, &mut truncated, &mut |arrival| arrived.extend(copied(arrival)))
        {}
        assert!(arrived.iter().all(|(from, _)| *from == sender.local));
        assert!(arrived.iter().map(|(_, bytes)| bytes).eq(pattern.iter().map(|(_, bytes)| bytes)));
        assert_eq!((truncated, batched.dropped(&receiver.socket)), (0, 0));
        assert!(!batched.may_fragment() || cfg!(not(target_os = "linux")));
        // What nobody can tell is taken for the worse.
        assert!(batched.is_crowded(&receiver.socket) && batched.shield(&receiver.socket, Some(1200)).is_err());
    }

    #[test]
    fn a_socket_of_both_families_spells_ipv4_as_ipv4() {
        // Without IPv6 on this machine there is nothing to test.
        let Ok(mut both) = UdpSocket::bind(any_address(true), BufferSizes::CLIENT) else { return };
        let mut v4 = open(localhost());
        let to_both = SocketAddr::from((Ipv4Addr::LOCALHOST, both.local_addr().port()));
        let mut outbox = Outbox::new();
        outbox.push(to_both, b"ping");
        v4.send(&mut outbox);
        assert_eq!(drain(&mut both), [(v4.local_addr(), b"ping".to_vec())]);
        outbox.push(v4.local_addr(), b"pong");
        both.send(&mut outbox);
        assert_eq!(drain(&mut v4), [(to_both, b"pong".to_vec())]);
    }

    #[test]
    fn a_peer_that_does_not_listen_costs_nothing_but_a_counter() {
        let gone = open(localhost()).local_addr();
        let mut receiver = open(localhost());
        let mut sender = open(localhost());
        let mut outbox = Outbox::new();
        for _ in 0..5 {
            outbox.push(gone, b"anybody?");
            outbox.push(receiver.local_addr(), b"hello");
            sender.send(&mut outbox);
            assert!(outbox.is_empty());
            drain(&mut sender);
        }
        assert_eq!(drain(&mut receiver).len(), 5);
    }

    #[test]
    fn a_datagram_that_cannot_leave_does_not_stop_the_next() {
        let mut receiver = open(localhost());
        let mut sender = open(localhost());
        let mut outbox = Outbox::new();
        // An IPv4 socket cannot reach IPv6 at all.
        outbox.push((Ipv6Addr::LOCALHOST, 9).into(), b"lost");
        outbox.push(receiver.local_addr(), b"fine");
        sender.send(&mut outbox);
        assert!(outbox.is_empty());
        assert_eq!(drain(&mut receiver), [(sender.local_addr(), b"fine".to_vec())]);
        let stats = sender.stats();
        assert_eq!((stats.sent, stats.error_unreachable + stats.error_other), (1, 1), "{stats:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_kernel_drops_is_known() {
        let mut receiver = UdpSocket::bind(localhost(), BufferSizes { receive: 4096, send: 4096 }).unwrap();
        let mut sender = open(localhost());
        let mut outbox = Outbox::new();
        for _ in 0..100 {
            outbox.push(receiver.local_addr(), &[0; 1000]);
        }
        sender.send(&mut outbox);
        let arrived = drain(&mut receiver).len() as u64;
        let stats = receiver.stats();
        assert!(arrived < 100, "a buffer of {} bytes took all", stats.receive_buffer);
        assert!(stats.kernel_dropped > 0, "{stats:?}");
    }

    /// Whether a datagram of this length and first byte could be a client's, by `docs/wire.md` §1.6, where payloads have up
    /// to `max_body` bytes.
    #[cfg(target_os = "linux")]
    fn is_possible(first: u8, length: usize, max_body: usize) -> bool {
        let number = usize::from(first >> 4);
        let Some(body) = length.checked_sub(1 + number + 16) else { return false };
        match first & 0xf {
            0 => first == 0 && length == 1078,
            _ if !(1..=8).contains(&number) => false,
            3 => body == 308,
            4 => body == 8,
            5 => (1..=max_body).contains(&body),
            6 => body == 0,
            _ => false,
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_shield_drops_what_no_client_sends_and_nothing_else() {
        for max_body in [1200, LARGEST_BODY] {
            check_shield(max_body);
        }
    }

    #[cfg(target_os = "linux")]
    fn check_shield(max_body: usize) {
        let mut receiver = open(localhost());
        let mut sender = open(localhost());
        receiver.shield(Some(max_body));
        let mut lengths = vec![1, 2, 17, 18, 23, 25, 26, 27, 31, 33, 326, 331, 333, 1077, 1078, 1079, 1200];
        lengths.extend([1224, 1225, 1226, 1444, 1445, 1451, 1452, 1453]);
        let (mut dropped, mut kept) = (1, 0);
        let mut outbox = Outbox::new();
        let mut send = |bytes: &[u8]| {
            // One by one: what is sent together can arrive as one.
            outbox.push(receiver.local_addr(), bytes);
            sender.send(&mut outbox);
            drain(&mut receiver).len()
        };
        assert_eq!(send(&[]), 0);
        for first in 0..=u8::MAX {
            for length in lengths.iter().copied() {
                let possible = is_possible(first, length, max_body);
                let mut bytes = [0x55; 1500];
                bytes[0] = first;
                assert_eq!(send(&bytes[..length]), usize::from(possible), "{length} bytes, the first {first:#x}");
                kept += u64::from(possible);
                dropped += u64::from(!possible);
            }
        }
        assert!(kept > 50);
        let stats = receiver.stats();
        assert_eq!((stats.received, stats.shielded, stats.kernel_dropped), (kept, dropped, 0));
        // Down again, everything arrives, and what was dropped stays known.
        receiver.shield(None);
        outbox.push(receiver.local_addr(), b"anything");
        sender.send(&mut outbox);
        assert_eq!(drain(&mut receiver).len(), 1);
        assert_eq!(receiver.stats().shielded, dropped);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_sent_at_once_passes_the_shield_as_single_datagrams() {
        let mut receiver = open(localhost());
        let mut sender = open(localhost());
        receiver.shield(Some(1200));
        let mut outbox = Outbox::new();
        // Five goodbyes and one more of another length behind them leave as one.
        let mut goodbye = [0x66; 23];
        for _ in 0..5 {
            outbox.push(receiver.local_addr(), &goodbye);
        }
        goodbye[0] = 0x56;
        outbox.push(receiver.local_addr(), &goodbye[..22]);
        sender.send(&mut outbox);
        assert_eq!(sender.stats().send_calls, 1);
        assert_eq!(drain(&mut receiver).len(), 6);
    }

    #[test]
    fn the_buffers_in_force_are_reported() {
        let socket = open(localhost());
        assert!(socket.stats().receive_buffer > 0 && socket.stats().send_buffer > 0);
        let mut names = Vec::new();
        socket.stats().report(&mut |name, _| names.push(name));
        assert!(names.contains(&"receive_buffer_bytes") && names.contains(&"kernel_dropped_total"));
    }

    #[test]
    fn each_class_of_error_has_its_counter() {
        let mut stats = SocketStats::default();
        for kind in [
            io::ErrorKind::WouldBlock,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::Interrupted,
            io::ErrorKind::BrokenPipe,
        ] {
            stats.count(&kind.into());
        }
        if cfg!(target_os = "linux") {
            stats.count(&io::Error::from_raw_os_error(90));
            stats.count(&io::Error::from_raw_os_error(105));
        }
        let linux = u64::from(cfg!(target_os = "linux"));
        assert_eq!(
            stats,
            SocketStats {
                error_blocked: 1,
                error_refused: 2,
                error_unreachable: 1,
                error_denied: 1,
                error_interrupted: 1,
                error_other: 1,
                error_message_size: linux,
                error_no_buffers: linux,
                ..SocketStats::default()
            }
        );
    }
}
