//! Batched datagrams on loopback: recvmmsg with GRO, sendmmsg with GSO, nothing allocated after the start.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Datagrams, or runs of joined ones, per receiving call.
const RECEIVE: usize = 64;
/// Room for what GRO joins.
const STRIDE: usize = 65_536;
/// Messages per sending call.
const SEND: usize = 128;
/// Bytes that wait before a sending call.
const SLAB: usize = 160 * 1024;
/// The largest datagram.
pub(super) const DATAGRAM: usize = 1280;
/// Segments, and bytes, that the kernel splits one message into.
const SEGMENTS: usize = 64;
const SEGMENT_BYTES: usize = 65_000;

/// A socket at 127.0.0.1. Peers are told apart by their ports.
pub(super) struct Socket {
    fd: OwnedFd,
    pub(super) port: u16,
}

fn address(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as _,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

impl Socket {
    pub(super) fn bind(buffer: i32) -> Self {
        // SAFETY: plain calls with pointers to locals of the stated sizes.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            let fd = OwnedFd::from_raw_fd(fd);
            for (level, option, value) in [
                (libc::SOL_SOCKET, libc::SO_RCVBUF, buffer),
                (libc::SOL_SOCKET, libc::SO_SNDBUF, buffer),
                (libc::SOL_UDP, libc::UDP_GRO, 1),
            ] {
                libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), 4);
            }
            let (mut at, mut size) = (address(0), size_of::<libc::sockaddr_in>() as libc::socklen_t);
            assert_eq!(libc::bind(fd.as_raw_fd(), (&raw const at).cast(), size), 0);
            assert_eq!(libc::getsockname(fd.as_raw_fd(), (&raw mut at).cast(), &raw mut size), 0);
            Self { fd, port: u16::from_be(at.sin_port) }
        }
    }
}

/// Where datagrams arrive; one does for any number of sockets.
pub(super) struct Inbox {
    slab: Box<[u8]>,
    addresses: Box<[libc::sockaddr_in; RECEIVE]>,
    controls: Box<[[u64; 4]; RECEIVE]>,
    vectors: Box<[libc::iovec; RECEIVE]>,
    headers: Box<[libc::mmsghdr; RECEIVE]>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        // SAFETY: all-zero bytes are valid for these plain structures.
        let (vectors, headers) = unsafe { (Box::new(mem::zeroed()), Box::new(mem::zeroed())) };
        let mut inbox = Self {
            slab: vec![0; RECEIVE * STRIDE].into_boxed_slice(),
            addresses: Box::new([address(0); RECEIVE]),
            controls: Box::new([[0; 4]; RECEIVE]),
            vectors,
            headers,
        };
        for (index, buffer) in inbox.slab.chunks_exact_mut(STRIDE).enumerate() {
            inbox.vectors[index] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: STRIDE };
            let header = &mut inbox.headers[index].msg_hdr;
            header.msg_name = (&raw mut inbox.addresses[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as _;
            header.msg_iov = &raw mut inbox.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut inbox.controls[index]).cast();
            header.msg_controllen = 32;
        }
        inbox
    }

    /// Hands out everything that has arrived: from which port, and what.
    pub(super) fn receive(&mut self, socket: &Socket, mut sink: impl FnMut(u16, &mut [u8])) {
        loop {
            let (fd, flags) = (socket.fd.as_raw_fd(), libc::MSG_DONTWAIT);
            // SAFETY: the headers point into `self`, whose boxes do not move.
            let count = unsafe {
                libc::recvmmsg(fd, self.headers.as_mut_ptr(), RECEIVE as _, flags as _, std::ptr::null_mut())
            };
            let Ok(count) = usize::try_from(count) else { return };
            for index in 0..count {
                let length = self.headers[index].msg_len as usize;
                let segment = self.segment(index).unwrap_or(length).max(1);
                let from = u16::from_be(self.addresses[index].sin_port);
                for datagram in self.slab[index * STRIDE..][..length].chunks_mut(segment) {
                    sink(from, datagram);
                }
                self.headers[index].msg_hdr.msg_controllen = 32;
            }
            if count < RECEIVE {
                return;
            }
        }
    }

    /// The size of joined datagrams.
    fn segment(&self, index: usize) -> Option<usize> {
        let header = &self.headers[index].msg_hdr;
        // SAFETY: the kernel has written control messages within msg_controllen.
        unsafe {
            let control = libc::CMSG_FIRSTHDR(header);
            let joined = !control.is_null() && (*control).cmsg_type == libc::UDP_GRO;
            joined.then(|| libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned() as usize)
        }
    }
}

/// A message for the kernel: one datagram, or a run of equal ones to the same peer.
#[derive(Clone, Copy)]
struct Run {
    port: u16,
    start: usize,
    bytes: usize,
    segment: usize,
    segments: usize,
}

/// Where datagrams wait, back to back.
pub(super) struct Outbox {
    slab: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
    addresses: Box<[libc::sockaddr_in; SEND]>,
    controls: Box<[[u64; 4]; SEND]>,
    vectors: Box<[libc::iovec; SEND]>,
    headers: Box<[libc::mmsghdr; SEND]>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        // SAFETY: all-zero bytes are valid for these plain structures.
        let (vectors, headers) = unsafe { (Box::new(mem::zeroed()), Box::new(mem::zeroed())) };
        Self {
            slab: vec![0; SLAB].into_boxed_slice(),
            used: 0,
            runs: Vec::with_capacity(SEND),
            addresses: Box::new([address(0); SEND]),
            controls: Box::new([[0; 4]; SEND]),
            vectors,
            headers,
        }
    }

    /// Room for one datagram; sends what waits if there is none.
    pub(super) fn room(&mut self, socket: &Socket) -> &mut [u8] {
        if self.runs.len() == SEND || self.used + DATAGRAM > SLAB {
            self.flush(socket);
        }
        &mut self.slab[self.used..self.used + DATAGRAM]
    }

    /// What was written into the room goes to this port.
    pub(super) fn commit(&mut self, port: u16, length: usize) {
        let start = self.used;
        self.used += length;
        if let Some(last) = self.runs.last_mut()
            && last.port == port
            && last.segment >= length
            && last.bytes == last.segments * last.segment
            && last.segments < SEGMENTS
            && last.bytes + length <= SEGMENT_BYTES
        {
            last.bytes += length;
            last.segments += 1;
            return;
        }
        self.runs.push(Run { port, start, bytes: length, segment: length, segments: 1 });
    }

    pub(super) fn flush(&mut self, socket: &Socket) {
        for (index, run) in self.runs.iter().enumerate() {
            self.addresses[index] = address(run.port);
            let bytes = &mut self.slab[run.start..run.start + run.bytes];
            self.vectors[index] = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: run.bytes };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.addresses[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as _;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_controllen = 0;
            if run.segments > 1 {
                header.msg_control = (&raw mut self.controls[index]).cast();
                // SAFETY: CMSG_SPACE(2) is 24 bytes of the 32 that are there.
                unsafe {
                    header.msg_controllen = libc::CMSG_SPACE(2) as _;
                    let control = libc::CMSG_FIRSTHDR(header);
                    (*control).cmsg_level = libc::SOL_UDP;
                    (*control).cmsg_type = libc::UDP_SEGMENT;
                    (*control).cmsg_len = libc::CMSG_LEN(2) as _;
                    libc::CMSG_DATA(control).cast::<u16>().write_unaligned(run.segment as u16);
                }
            }
        }
        let mut done = 0;
        while done < self.runs.len() {
            let left = &mut self.headers[done..self.runs.len()];
            let (fd, flags) = (socket.fd.as_raw_fd(), libc::MSG_DONTWAIT);
            // SAFETY: the headers point into `self`, whose boxes do not move.
            let sent = unsafe { libc::sendmmsg(fd, left.as_mut_ptr(), left.len() as _, flags as _) };
            // Full, or refused: lost, as a datagram may be.
            done += usize::try_from(sent).unwrap_or(1).max(1);
        }
        self.runs.clear();
        self.used = 0;
    }
}
