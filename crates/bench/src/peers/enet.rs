//! ENet, in its translation to Rust. Nothing is encrypted.

use std::net::{SocketAddr, UdpSocket};

use bytes::Bytes;
use rusty_enet::{Event, Host, HostSettings, Packet, PeerID};

use crate::end::{Crowd, End, Lane, Server, Setup};
use crate::game::Game;

fn packet(lane: Lane, message: &[u8]) -> Packet {
    match lane {
        Lane::Reliable => Packet::reliable(message),
        Lane::Unreliable => Packet::unreliable(message),
        // Otherwise ENet makes large ones reliable.
        Lane::Fragmented => Packet::always_unreliable(message),
    }
}

fn channel(lane: Lane) -> u8 {
    u8::from(lane == Lane::Reliable)
}

fn host(peers: usize) -> Host<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let settings = HostSettings { peer_limit: peers, channel_limit: 2, ..HostSettings::default() };
    Host::new(socket, settings).expect("loopback")
}

pub(crate) struct EnetServer {
    host: Host<UdpSocket>,
    /// Peers in the order in which they came, and back.
    clients: Vec<PeerID>,
    numbers: Vec<usize>,
}

impl EnetServer {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self { host: host(setup.clients), clients: Vec::new(), numbers: vec![0; setup.clients] }
    }
}

impl Server for EnetServer {
    fn address(&self) -> String {
        self.host.socket().local_addr().expect("bound").to_string()
    }

    fn update(&mut self, game: &mut Game) {
        game.update(self);
        self.host.flush();
    }
}

impl End for EnetServer {
    fn connected(&mut self) -> usize {
        self.clients.len()
    }

    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
        let Self { host, clients, numbers } = self;
        while let Some(event) = host.service().expect("loopback") {
            match event {
                Event::Connect { peer, .. } => {
                    numbers[peer.id().0] = clients.len();
                    clients.push(peer.id());
                }
                Event::Receive { peer, packet, .. } => sink(numbers[peer.id().0], packet.data()),
                Event::Disconnect { .. } => panic!("a client is gone"),
            }
        }
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        self.host.peer_mut(self.clients[client]).send(channel(lane), &packet(lane, message)).is_ok()
    }
}

pub(crate) struct EnetCrowd {
    server: SocketAddr,
    clients: Vec<(Host<UdpSocket>, bool)>,
}

impl EnetCrowd {
    pub(crate) fn new(address: &str) -> Self {
        Self { server: address.parse().expect("an address"), clients: Vec::new() }
    }
}

impl Crowd for EnetCrowd {
    fn connect(&mut self) {
        let mut host = host(1);
        host.connect(self.server, 2, 0).expect("one peer fits");
        self.clients.push((host, false));
    }

    fn flush(&mut self) {
        self.clients.iter_mut().for_each(|(host, _)| host.flush());
    }
}

impl End for EnetCrowd {
    fn connected(&mut self) -> usize {
        self.clients.iter().filter(|(_, connected)| *connected).count()
    }

    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
        for (number, (host, connected)) in self.clients.iter_mut().enumerate() {
            while let Ok(Some(event)) = host.service() {
                match event {
                    Event::Connect { .. } => *connected = true,
                    Event::Receive { packet, .. } => sink(number, packet.data()),
                    Event::Disconnect { .. } => *connected = false,
                }
            }
        }
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        let (host, connected) = &mut self.clients[client];
        *connected && host.peer_mut(PeerID(0)).send(channel(lane), &packet(lane, message)).is_ok()
    }
}
