//! The driver as a client: look-ups, the connection, and goodbyes that outlast it.

use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::{Client, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Mono, Now, netcode};

use super::super::DatagramSocket;
use super::super::dial::{Answer, Dial, StartFailure};
use super::super::port::Port;
use super::super::socket::{Network, SocketStats};
use super::{Engine, send_last};
use crate::SendError;
use crate::link::LinkSimulator;

/// How long a host name may take to be looked up.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of a client that are over and still say goodbye. More are cut short.
const MAX_PARTING: usize = 8;

/// A connection that this driver asked for.
#[derive(Debug)]
pub(super) struct Dialled<S> {
    pub(super) id: ConnectionId,
    pub(super) stage: Stage<S>,
}

#[derive(Debug)]
pub(super) enum Stage<S> {
    Resolving { answer: Answer, port: u16, shown: Box<netcode::client::Credentials>, deadline: Mono },
    Up { port: Port<S>, client: Box<Client> },
}

impl<N: Network> Engine<N> {
    pub(super) fn receive_as_client(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        let budget = self.budget();
        for index in 0..self.clients.len() {
            self.resolved(now, index);
        }
        let Self { clients, simulator, deaf, .. } = self;
        for dialled in clients.iter_mut().filter(|_| !*deaf) {
            let Stage::Up { port, client } = &mut dialled.stage else { continue };
            port.receive(now.mono, simulator.as_deref_mut(), budget, &mut |arrival, _| {
                if let Some((from, datagram)) = arrival.datagram() {
                    client.handle_datagram(now, from, datagram, sink);
                }
                // A client has one peer, and no work for others.
                true
            });
        }
        if let Some(simulator) = simulator {
            simulator.incoming.poll(now.mono, &mut |route, datagram| {
                for dialled in clients.iter_mut() {
                    if let Stage::Up { port, client } = &mut dialled.stage
                        && port.number() == route.socket
                    {
                        client.handle_datagram(now, route.peer, datagram, sink);
                    }
                }
            });
        }
        for dialled in clients.iter_mut() {
            if let Stage::Up { client, .. } = &mut dialled.stage {
                client.tick(now, sink);
            }
        }
        let Self { ids, past, .. } = self;
        self.clients.retain(|dialled| {
            let Stage::Up { client, port } = &dialled.stage else { return true };
            if client.is_reported() {
                ids.remove(dialled.id);
            }
            if client.is_over() {
                bury(past, port);
            }
            !client.is_over()
        });
    }

    /// Goes on with a client whose host name has been looked up, or gives it up.
    pub(super) fn resolved(&mut self, now: Now, index: usize) {
        let Some(Dialled { id, stage: Stage::Resolving { answer, port, deadline, .. } }) = self.clients.get(index)
        else {
            return;
        };
        let (id, port, deadline) = (*id, *port, *deadline);
        let addresses: Vec<_> = match answer.get() {
            Some(ips) => ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
            None if now.mono < deadline => return,
            None => Vec::new(),
        };
        let Stage::Resolving { shown, .. } = self.clients.swap_remove(index).stage else { return };
        if addresses.is_empty() {
            self.end(id, DisconnectReason::link(DisconnectCode::HostNotFound));
        } else if let Err(error) = self.start(now, id, *shown, addresses) {
            let reason = DisconnectReason::link(DisconnectCode::LinkError);
            self.end(
                id,
                match error {
                    StartFailure::Socket(error) => reason.with_text(&error.to_string()),
                    StartFailure::Credentials(error) => reason.with_text(&error.to_string()),
                },
            );
        }
    }

    pub(super) fn start(
        &mut self,
        now: Now,
        id: ConnectionId,
        shown: netcode::client::Credentials,
        addresses: Vec<SocketAddr>,
    ) -> Result<(), StartFailure> {
        let number = self.number();
        let Self { network, config, random, .. } = self;
        let dial = Dial { id, number, shown, addresses };
        let (port, client) = dial.start(network, config, random, now)?;
        self.clients.push(Dialled { id, stage: Stage::Up { port, client: Box::new(client) } });
        Ok(())
    }

    pub(super) fn end(&mut self, id: ConnectionId, reason: DisconnectReason) {
        self.ids.remove(id);
        self.ended.push_back((id, reason));
    }

    /// Cuts the goodbye of the oldest client short if there are too many.
    pub(super) fn make_room(&mut self, now: Now) {
        if self.clients.len() < MAX_PARTING {
            return;
        }
        let Dialled { id, stage } = self.clients.remove(0);
        let Stage::Up { mut port, mut client } = stage else { return };
        part(&mut port, &mut client, now, self.simulator.as_deref_mut());
        let ended = &mut self.ended;
        client.tick(now, &mut |incoming| {
            if let Incoming::Disconnected { connection, reason } = incoming {
                ended.push_back((connection, reason));
            }
        });
        self.ids.remove(id);
        bury(&mut self.past, &port);
    }

    pub(super) fn client_mut(&mut self, id: ConnectionId) -> Option<&mut Dialled<N::Socket>> {
        self.ids.get(id)?;
        self.clients.iter_mut().find(|dialled| dialled.id == id)
    }

    /// The client that has reached its server, so that something may be sent.
    pub(super) fn reached(&mut self, id: ConnectionId) -> Result<&mut Client, SendError> {
        match &mut self.client_mut(id).ok_or(SendError::NotConnected)?.stage {
            Stage::Up { client, .. } if !client.is_connecting() => Ok(client),
            _ => Err(SendError::NotReady),
        }
    }
}

/// Says goodbye with whatever leaves at once.
pub(super) fn part<S: DatagramSocket>(
    port: &mut Port<S>,
    client: &mut Client,
    now: Now,
    mut simulator: Option<&mut LinkSimulator>,
) {
    // What was queued a moment ago gets its one chance.
    send_last(port, now, simulator.as_deref_mut(), &mut |room| client.poll_transmit(now, room));
    client.say_goodbye(now, &DisconnectReason::local(DisconnectCode::ConnectionClose));
    send_last(port, now, simulator, &mut |room| client.poll_transmit(now, room));
}

/// Keeps the counters of a socket that goes. Its buffers go with it.
pub(super) fn bury<S: DatagramSocket>(past: &mut SocketStats, port: &Port<S>) {
    past.add(&SocketStats { receive_buffer: 0, send_buffer: 0, ..port.stats() });
}
