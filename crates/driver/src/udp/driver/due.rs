//! What a thread of its own has to know of the driver: when to act, and what to wait for.

use std::time::Duration;

use netstream_transport::{ConnectionId, Incoming, Mono, Now};
use socket2::Socket;

use super::client::{Dialled, Stage};
use super::{Engine, Listening};
use crate::udp::socket::Network;

/// How often it is looked whether a socket takes more, or a name has been found.
const LOOK: Duration = Duration::from_millis(2);

impl<N: Network> Engine<N> {
    /// When something has to be done at the latest if nothing arrives; `None` if never.
    pub(in crate::udp) fn next_due(&self) -> Option<Mono> {
        let look = self.now.mono + LOOK;
        let server = self.server.as_ref().and_then(|Listening { port, server, .. }| {
            // Once the socket is full there is no use in being told that something waits.
            if port.is_blocked() { Some(look) } else { server.poll_timeout() }
        });
        let clients = self.clients.iter().filter_map(|dialled| match &dialled.stage {
            Stage::Resolving { .. } => Some(look),
            Stage::Up { port, .. } if port.is_blocked() => Some(look),
            Stage::Up { client, .. } => client.poll_timeout(),
        });
        let simulator = self.simulator.as_ref();
        let simulated =
            simulator.and_then(|link| link.outgoing.next_due().into_iter().chain(link.incoming.next_due()).min());
        let ended = (!self.ended.is_empty()).then_some(Mono::ZERO);
        clients.chain(server).chain(simulated).chain(ended).min()
    }

    /// The sockets at which something may arrive.
    pub(in crate::udp) fn handles(&self) -> impl Iterator<Item = &Socket> {
        let server = self.server.iter().map(|listening| &listening.port);
        let clients = self.clients.iter().filter_map(|dialled| match &dialled.stage {
            Stage::Up { port, .. } => Some(port),
            Stage::Resolving { .. } => None,
        });
        server.chain(clients).filter(|_| !self.deaf).filter_map(|port| port.handle())
    }

    /// Leaves everything that has arrived in the kernel from now on, or takes it in again.
    pub(in crate::udp) fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// The caller takes no reliable messages of a connection for now; see [`Server::pause`](netstream_transport::Server::pause).
    pub(in crate::udp) fn pause(&mut self, connection: ConnectionId) {
        if let Some(listening) = &mut self.server {
            listening.server.pause(connection);
        } else if let Some(Dialled { stage: Stage::Up { client, .. }, .. }) = self.client_mut(connection) {
            client.pause();
        }
    }

    /// The caller takes them again: what was kept is reported.
    pub(in crate::udp) fn resume(&mut self, now: Now, connection: ConnectionId, sink: &mut dyn FnMut(Incoming<'_>)) {
        if let Some(listening) = &mut self.server {
            listening.server.resume(now, connection, sink);
        } else if let Some(Dialled { stage: Stage::Up { client, .. }, .. }) = self.client_mut(connection) {
            client.resume(now, sink);
        }
    }
}
