//! The floor: what the design costs when nothing is left but system calls, one seal per packet and flat arrays. No
//! handshake worth the name, no limits, no congestion control, nobody who lies.

mod session;
mod socket;

use std::time::{Duration, Instant};

use bytes::Bytes;

use self::session::Session;
use self::socket::{Inbox, Outbox, Socket};
use crate::end::{End, Lane, Server, Setup};
use crate::game::Game;

/// The first bytes of a client: this, and its key.
const HELLO: [u8; 16] = *b"hello, hello, hi";
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const NOBODY: u32 = u32::MAX;

/// A server on one socket.
pub(crate) struct FloorServer {
    socket: Socket,
    inbox: Inbox,
    outbox: Outbox,
    /// By port.
    by_port: Box<[u32]>,
    ports: Vec<u16>,
    sessions: Vec<Session>,
    /// Clients that may have something to send.
    dirty: Vec<u32>,
    now: Instant,
    alive_at: Instant,
}

impl FloorServer {
    pub(crate) fn new(_: &Setup) -> Self {
        let now = Instant::now();
        Self {
            socket: Socket::bind(8 << 20),
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            by_port: vec![NOBODY; 65_536].into_boxed_slice(),
            ports: Vec::new(),
            sessions: Vec::new(),
            dirty: Vec::new(),
            now,
            alive_at: now,
        }
    }
}

impl Server for FloorServer {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.socket.port)
    }

    fn update(&mut self, game: &mut Game) {
        self.now = Instant::now();
        game.update(self);
        self.flush();
    }
}

impl FloorServer {
    fn flush(&mut self) {
        let Self { socket, outbox, sessions, ports, dirty, now, .. } = self;
        for client in dirty.drain(..) {
            let session = &mut sessions[client as usize];
            while let Some(length) = session.poll(*now, outbox.room(socket)) {
                outbox.commit(ports[client as usize], length);
            }
            // Acknowledgements say when more can leave.
        }
        if *now - self.alive_at > KEEP_ALIVE / 10 {
            self.alive_at = *now;
            for (session, port) in sessions.iter_mut().zip(&*ports) {
                if *now - session.sent_at > KEEP_ALIVE {
                    let length = session.write_empty(*now, outbox.room(socket));
                    outbox.commit(*port, length);
                }
            }
        }
        outbox.flush(socket);
    }
}

impl End for FloorServer {
    fn connected(&mut self) -> usize {
        self.sessions.len()
    }

    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
        let Self { socket, inbox, outbox, by_port, ports, sessions, dirty, now, .. } = self;
        inbox.receive(socket, |port, packet| {
            let client = by_port[usize::from(port)];
            if client != NOBODY {
                let session = &mut sessions[client as usize];
                session.handle(*now, packet, &mut |message| sink(client as usize, message));
                if session.has_work() {
                    dirty.push(client);
                }
                return;
            }
            if let Some((hello, key)) = packet.split_first_chunk()
                && *hello == HELLO
                && let Ok(key) = key.try_into()
            {
                by_port[usize::from(port)] = sessions.len() as u32;
                ports.push(port);
                let mut session = Session::new(key, 1, *now);
                let length = session.write_empty(*now, outbox.room(socket));
                outbox.commit(port, length);
                sessions.push(session);
            }
        });
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        let Self { socket, outbox, ports, sessions, dirty, now, .. } = self;
        send(*now, socket, outbox, ports[client], &mut sessions[client], lane, message);
        if lane == Lane::Reliable {
            dirty.push(client as u32);
        }
        true
    }
}

fn send(
    now: Instant,
    socket: &Socket,
    outbox: &mut Outbox,
    port: u16,
    session: &mut Session,
    lane: Lane,
    message: &[u8],
) {
    match lane {
        Lane::Reliable => session.queue(now, message),
        Lane::Unreliable => {
            let length = session.write_message(now, outbox.room(socket), message);
            outbox.commit(port, length);
        }
        Lane::Fragmented => session.write_fragments(message, |session, parts| {
            let length = session.write_parts(now, outbox.room(socket), parts);
            outbox.commit(port, length);
        }),
    }
}

/// Clients, each on its own socket.
pub(crate) struct FloorCrowd {
    server: u16,
    inbox: Inbox,
    outbox: Outbox,
    clients: Vec<Client>,
    now: Instant,
}

struct Client {
    socket: Socket,
    session: Session,
    key: [u8; 16],
    connected: bool,
    hello_at: Option<Instant>,
}

impl FloorCrowd {
    pub(crate) fn new(address: &str) -> Self {
        let server = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        Self { server, inbox: Inbox::new(), outbox: Outbox::new(), clients: Vec::new(), now: Instant::now() }
    }
}

impl crate::end::Crowd for FloorCrowd {
    fn connect(&mut self) {
        let number = self.clients.len() as u128;
        let key = (number ^ 0x0123_4567_89ab_cdef).to_le_bytes();
        let session = Session::new(&key, 0, self.now);
        let socket = Socket::bind(4 << 20);
        self.clients.push(Client { socket, session, key, connected: false, hello_at: None });
    }

    fn flush(&mut self) {
        let Self { clients, outbox, now, server, .. } = self;
        *now = Instant::now();
        for Client { socket, session, key, connected, hello_at } in clients {
            if !*connected {
                if hello_at.is_none_or(|at| *now - at > Duration::from_millis(250)) {
                    *hello_at = Some(*now);
                    let room = outbox.room(socket);
                    room[..16].copy_from_slice(&HELLO);
                    room[16..32].copy_from_slice(key);
                    outbox.commit(*server, 32);
                    outbox.flush(socket);
                }
                continue;
            }
            while let Some(length) = session.poll(*now, outbox.room(socket)) {
                outbox.commit(*server, length);
            }
            if *now - session.sent_at > KEEP_ALIVE {
                let length = session.write_empty(*now, outbox.room(socket));
                outbox.commit(*server, length);
            }
            outbox.flush(socket);
        }
    }
}

impl End for FloorCrowd {
    fn connected(&mut self) -> usize {
        self.clients.iter().filter(|client| client.connected).count()
    }

    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
        let Self { clients, inbox, now, .. } = self;
        *now = Instant::now();
        for (number, Client { socket, session, connected, .. }) in clients.iter_mut().enumerate() {
            inbox.receive(socket, |_, packet| {
                *connected |= session.handle(*now, packet, &mut |message| sink(number, message));
            });
        }
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        let Self { clients, outbox, server, now, .. } = self;
        let Client { socket, session, .. } = &mut clients[client];
        send(*now, socket, outbox, *server, session, lane, message);
        outbox.flush(socket);
        true
    }
}
