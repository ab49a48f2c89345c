//! Batches on Linux: recvmmsg with GRO, sendmmsg with GSO, the kernel's own count of what it dropped, and a wait that other
//! threads can end.
//!
//! This is the only module of the project with `unsafe` code. Every unsafe block hands the kernel pointers to arrays
//! that live in the calling frame or are borrowed for its length, together with their true sizes; nothing that the
//! kernel writes is used beyond the lengths that it returns, and those are checked against the buffers.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use socket2::Socket;

use super::outbox::Outbox;
use super::shield;
use super::socket::{Arrival, Batch, for_family};

/// The most buffers of a receiving call.
const RECEIVE: usize = 32;
/// The fewest.
const RECEIVE_LEAST: usize = 4;
/// Messages per sending call.
const SEND: usize = 64;
/// Datagrams per sending call.
const SEGMENTS: usize = 256;
/// The most datagrams that the kernel splits one message into (`UDP_MAX_SEGMENTS` of the older kernels).
const MAX_GSO: usize = 64;
/// The most bytes of one message that is to be split: what an IP packet holds.
const MAX_GSO_BYTES: usize = 65_000;
/// Bytes per receiving buffer: the most that GRO joins, and some more, so that the starts of the buffers, which is all
/// that most datagrams fill, do not fall into the same lines of the processor's caches.
const STRIDE: usize = 65_536 + 1_280;
/// Bytes for the control messages of one buffer or message. Ours takes `CMSG_SPACE(4)` = 24.
const CONTROL: usize = 64;

/// Control messages, aligned as the kernel wants them.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Any socket address, as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C)]
union Address {
    any: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// The buffers of one socket's batches.
#[derive(Debug)]
pub(super) struct Batched {
    slab: Box<[u8]>,
    /// Buffers that the next receiving call offers: twice what the last one filled. Who looks often finds little, and
    /// each buffer has to be described to the kernel.
    offered: usize,
    gso: bool,
    may_fragment: bool,
}

impl Batched {
    pub(super) fn new(socket: &Socket, local: SocketAddr) -> io::Result<Self> {
        // What an old kernel does not know it does without: no joining, and fragments where a path is too narrow.
        let _ = set(socket, libc::SOL_UDP, libc::UDP_GRO, 1);
        // Do not fragment, and do not believe what anybody says about the path's MTU (RFC 9000 §14.2.1).
        let mut whole = set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE);
        if local.is_ipv6() {
            whole = whole.and(set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE));
        }
        // Setting the size 0 changes nothing and fails where the kernel cannot split.
        let gso = set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        // Zeroed memory of this size is not resident before it is written to.
        let slab = vec![0; RECEIVE * STRIDE].into_boxed_slice();
        Ok(Self { slab, offered: RECEIVE_LEAST, gso, may_fragment: whole.is_err() })
    }

    /// Receives one batch.
    pub(super) fn receive(
        &mut self,
        socket: &Socket,
        truncated: &mut u64,
        deliver: &mut dyn FnMut(Arrival<'_>),
    ) -> io::Result<Batch> {
        let mut addresses = [MaybeUninit::<Address>::uninit(); RECEIVE];
        let mut controls = [MaybeUninit::<Control>::uninit(); RECEIVE];
        let mut vectors = [MaybeUninit::<libc::iovec>::uninit(); RECEIVE];
        let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); RECEIVE];
        let offered = self.offered;
        for (index, buffer) in self.slab.chunks_exact_mut(STRIDE).enumerate().take(offered) {
            vectors[index].write(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
            let header = &mut empty(&mut headers[index]).msg_hdr;
            header.msg_name = addresses[index].as_mut_ptr().cast();
            header.msg_namelen = size_of::<Address>() as libc::socklen_t;
            header.msg_iov = vectors[index].as_mut_ptr();
            header.msg_iovlen = 1;
            header.msg_control = controls[index].as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
        }
        // SAFETY: the first `offered` headers are written and point at arrays that outlive the call, with their true sizes.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                offered as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        self.offered = (2 * usize::try_from(count).unwrap_or(0)).clamp(RECEIVE_LEAST, RECEIVE);
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let filled = headers.iter().take(count).map(|header| {
            // SAFETY: the kernel has filled no more headers than were offered, this one and what it points at; all of it
            // is still there.
            unsafe {
                let header = header.assume_init_ref();
                (header, address(&header.msg_hdr), gro_segment(&header.msg_hdr))
            }
        });
        if count > 1 {
            let senders = filled.clone().filter_map(|(_, from, _)| from);
            senders.for_each(|from| deliver(Arrival::Coming(from)));
        }
        let mut datagrams = 0;
        for (index, (header, from, segment)) in filled.enumerate() {
            let bytes = self.slab.get_mut(index * STRIDE..index * STRIDE + header.msg_len as usize);
            let (Some(from), Some(bytes)) = (from, bytes) else { continue };
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                *truncated += 1;
                datagrams += 1;
                continue;
            }
            if bytes.is_empty() {
                datagrams += 1;
                deliver(Arrival::Datagram(from, bytes));
                continue;
            }
            let segment = segment.unwrap_or(bytes.len()).max(1);
            for segment in bytes.chunks_mut(segment) {
                datagrams += 1;
                deliver(Arrival::Datagram(from, segment));
            }
        }
        Ok(Batch { datagrams, more: count >= offered })
    }

    /// Sends from the front of `outbox`, as much as one call takes; returns how many datagrams left. An error is about
    /// the first one.
    pub(super) fn send(&mut self, socket: &Socket, ipv6: bool, outbox: &Outbox) -> io::Result<usize> {
        let sent = self.send_once(socket, ipv6, outbox);
        match sent {
            // A device that cannot split after all says EIO (a checksum it cannot make) or EINVAL.
            Err(error) if self.gso && matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) => {
                self.gso = false;
                let sent = self.send_once(socket, ipv6, outbox);
                // Older kernels say EINVAL too where the parts are larger than the device takes.
                self.gso = sent.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EMSGSIZE));
                sent
            }
            sent => sent,
        }
    }

    fn send_once(&self, socket: &Socket, ipv6: bool, outbox: &Outbox) -> io::Result<usize> {
        let mut addresses = [MaybeUninit::<Address>::uninit(); SEND];
        let mut controls = [MaybeUninit::<Control>::uninit(); SEND];
        let mut vectors = [MaybeUninit::<libc::iovec>::uninit(); SEGMENTS];
        let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); SEND];
        // Datagrams of each message.
        let mut runs = [0_u8; SEND];
        let mut waiting = outbox.iter().peekable();
        let (mut messages, mut segments) = (0, 0);
        while messages < SEND
            && segments < SEGMENTS
            && let Some((to, first)) = waiting.next()
        {
            let start = segments;
            let mut bytes = first.len();
            vectors[segments].write(vector(first));
            segments += 1;
            // A run: the same peer, equal sizes, only the last may be shorter.
            let mut last = first.len();
            while self.gso
                && segments < SEGMENTS
                && segments - start < MAX_GSO
                && let Some((_, next)) = waiting.next_if(|(next_to, next)| {
                    *next_to == to
                        && !next.is_empty()
                        && last == first.len()
                        && next.len() <= first.len()
                        && bytes + next.len() <= MAX_GSO_BYTES
                })
            {
                last = next.len();
                bytes += last;
                vectors[segments].write(vector(next));
                segments += 1;
            }
            let header = &mut empty(&mut headers[messages]).msg_hdr;
            header.msg_namelen = write_address(&mut addresses[messages], for_family(to, ipv6));
            header.msg_name = addresses[messages].as_mut_ptr().cast();
            header.msg_iov = vectors[start..].as_mut_ptr().cast();
            header.msg_iovlen = (segments - start) as _;
            if segments - start > 1 {
                // SAFETY: the control buffer is aligned, outlives the call below and holds CMSG_SPACE(2) bytes.
                unsafe { write_gso_segment(header, &mut controls[messages], first.len() as u16) };
            }
            runs[messages] = (segments - start) as u8; // at most MAX_GSO
            messages += 1;
        }
        if messages == 0 {
            return Ok(0);
        }
        let (first, count) = (headers.as_mut_ptr().cast(), messages as libc::c_uint);
        // SAFETY: the first `messages` headers are written and point at arrays that outlive the call, of which as much is
        // written as they say; the slab that the vectors point into is borrowed with `outbox` and only read.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), first, count, libc::MSG_DONTWAIT as _) };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        Ok(runs.iter().take(sent).map(|run| usize::from(*run)).sum())
    }

    /// Whether datagrams may be cut into fragments on their way.
    pub(super) fn may_fragment(&self) -> bool {
        self.may_fragment
    }

    /// How many datagrams the kernel has dropped: the receive buffer was full, or the shield was up.
    pub(super) fn dropped(&self, socket: &Socket) -> u64 {
        memory(socket).map_or(0, |figures| figures[libc::SK_MEMINFO_DROPS as usize].into())
    }

    /// Has the kernel drop what no client ever sends where payloads have up to `max_body` bytes, or stops that. What it drops
    /// counts as [`dropped`](Self::dropped).
    pub(super) fn shield(&mut self, socket: &Socket, max_body: Option<usize>) -> io::Result<()> {
        // The program knows single datagrams, so nothing may be joined while it is in force.
        set(socket, libc::SOL_UDP, libc::UDP_GRO, i32::from(max_body.is_none()))?;
        let Some(max_body) = max_body else {
            return set(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0);
        };
        let mut program = shield::program(max_body);
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the kernel copies the lines that `program` points at, which are there until the end of this function.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether half of the receive buffer is taken, or nobody knows.
    pub(super) fn is_crowded(&self, socket: &Socket) -> bool {
        memory(socket).is_none_or(|figures| {
            figures[libc::SK_MEMINFO_RMEM_ALLOC as usize] >= figures[libc::SK_MEMINFO_RCVBUF as usize] / 2
        })
    }
}

/// What the kernel keeps for a socket, by `SK_MEMINFO_*`.
fn memory(socket: &Socket) -> Option<[u32; 16]> {
    let mut figures = [0_u32; 16];
    let mut size = size_of_val(&figures) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which is what `figures` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            figures.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    // The drops are the last figure that is of use.
    (result == 0 && size as usize > libc::SK_MEMINFO_DROPS as usize * 4).then_some(figures)
}

/// A header without content in this place.
fn empty(place: &mut MaybeUninit<libc::mmsghdr>) -> &mut libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid mmsghdr.
    place.write(unsafe { mem::zeroed() })
}

fn vector(bytes: &[u8]) -> libc::iovec {
    // The kernel only reads what a sending call points at.
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writes `to` as the kernel wants it and returns its length.
fn write_address(place: &mut MaybeUninit<Address>, to: SocketAddr) -> libc::socklen_t {
    match to {
        SocketAddr::V4(v4) => {
            let v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            place.write(Address { v4 });
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            place.write(Address { v6 });
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Whom a received message is from.
///
/// # Safety
///
/// The kernel must have filled `header`, and what `msg_name` points at must be an [`Address`] that is still there.
unsafe fn address(header: &libc::msghdr) -> Option<SocketAddr> {
    let place = header.msg_name.cast::<Address>();
    let len = header.msg_namelen as usize;
    if len < size_of::<libc::sockaddr_in>() {
        return None;
    }
    // SAFETY: the kernel has written `len` bytes, and each family is read only if they are all its own.
    unsafe {
        match i32::from((*place).any) {
            libc::AF_INET => {
                let v4 = (*place).v4;
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
                let v6 = (*place).v6;
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// The size of the datagrams that the kernel has joined; `None` if it is only one.
///
/// # Safety
///
/// The kernel must have filled `header`, and what `msg_control` points at must still be there.
unsafe fn gro_segment(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the macros walk the control messages within `msg_controllen`, which the kernel has set; the payload of
    // UDP_GRO is an int.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_UDP && (*control).cmsg_type == libc::UDP_GRO {
                let size = libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(size).ok().filter(|size| *size > 0);
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

/// Asks the kernel to split a message into datagrams of `size` bytes.
///
/// # Safety
///
/// `place` must outlive the use of `header`.
unsafe fn write_gso_segment(header: &mut libc::msghdr, place: &mut MaybeUninit<Control>, size: u16) {
    place.write(Control([0; CONTROL]));
    header.msg_control = place.as_mut_ptr().cast();
    // SAFETY: `place` is aligned for cmsghdr and larger than CMSG_SPACE(2), so the first control message fits.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as libc::c_uint) as _;
        let control = libc::CMSG_FIRSTHDR(header);
        (*control).cmsg_level = libc::SOL_UDP;
        (*control).cmsg_type = libc::UDP_SEGMENT;
        (*control).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) as _;
        libc::CMSG_DATA(control).cast::<u16>().write_unaligned(size);
    }
}

/// Lets this process have `wanted` files open, sockets included, as far as the system allows; returns how many it may
/// have afterwards.
pub(super) fn allow_open_files(wanted: u64) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to where one is.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
        // SAFETY: the kernel reads one rlimit from where one is.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    Some(limit.rlim_cur)
}

/// The most sockets that one thread waits for: a server's, or those of a client that parts and dials anew.
const WAIT: usize = 16;

/// Lets other threads end the wait of the one that waits for sockets: an eventfd.
#[derive(Debug)]
pub(super) struct Bell(File);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor has just been opened and nobody else has it.
        Ok(Self(unsafe { File::from_raw_fd(descriptor) }))
    }

    /// Ends the wait that goes on, or else the next one.
    pub(super) fn ring(&self) {
        // It fails only where the bell has rung 2^64 times without being heard.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Waits until the bell rings, something arrives at one of the sockets, or the time is over.
    pub(super) fn wait<'s>(&self, sockets: impl Iterator<Item = &'s Socket>, time: Duration) {
        let heard = |descriptor| libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        let mut waiting = [heard(-1); 1 + WAIT];
        let (bell, places) = waiting.split_first_mut().expect("it is not empty");
        *bell = heard(self.0.as_raw_fd());
        for (place, socket) in places.iter_mut().zip(sockets) {
            *place = heard(socket.as_raw_fd());
        }
        let time = libc::timespec {
            tv_sec: time.as_secs().min(3600) as libc::time_t,
            // Below 10^9.
            tv_nsec: time.subsec_nanos() as _,
        };
        // SAFETY: the array and the time outlive the call; the kernel looks past negative descriptors.
        unsafe { libc::ppoll(waiting.as_mut_ptr(), waiting.len() as libc::nfds_t, &raw const time, std::ptr::null()) };
        if waiting[0].revents != 0 {
            // However often it rang, one reading silences it.
            let _ = (&self.0).read(&mut [0; 8]);
        }
    }
}
