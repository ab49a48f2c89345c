//! A stranger who sends under any loopback address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netstream_driver::udp::BufferSizes;
use quinn_udp::{Transmit, UdpSocketState};

/// Sends under addresses of 127.0.0.0/8, from one port, and gets what is answered to any of them.
pub(crate) struct Spoofer {
    socket: std::net::UdpSocket,
    state: UdpSocketState,
    /// What was sent, in datagrams and bytes.
    pub(crate) sent: (u64, u64),
}

impl Spoofer {
    pub(crate) fn new() -> Self {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let state = UdpSocketState::new((&socket).into()).unwrap();
        let _ = state.set_recv_buffer_size((&socket).into(), BufferSizes::SERVER.receive);
        Self { socket, state, sent: (0, 0) }
    }

    /// The address with this number; 2^23 of them differ, in many networks.
    pub(crate) fn source(number: u64) -> Ipv4Addr {
        // 127.128.0.0 and up: not where anybody else is. Consecutive numbers are in different /24 networks.
        let number = (number as u32).reverse_bits() >> 9;
        Ipv4Addr::from(0x7f80_0000 | number)
    }

    pub(crate) fn address(&self, source: Ipv4Addr) -> SocketAddr {
        (source, self.socket.local_addr().unwrap().port()).into()
    }

    pub(crate) fn send(&mut self, source: Ipv4Addr, destination: SocketAddr, contents: &[u8]) {
        let src_ip = Some(IpAddr::V4(source));
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip };
        self.state.try_send((&self.socket).into(), &transmit).expect("loopback takes it");
        self.sent.0 += 1;
        self.sent.1 += contents.len() as u64;
    }

    /// What was answered since the last time, in datagrams and bytes.
    pub(crate) fn count_answers(&self) -> (u64, u64) {
        let mut buf = [0; 2048];
        let mut count = (0, 0);
        while let Ok(length) = self.socket.recv(&mut buf) {
            count = (count.0 + 1, count.1 + length as u64);
        }
        count
    }
}
