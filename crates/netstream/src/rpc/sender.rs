//! Sending RPCs.

use bevy_ecs::entity::Entity;
use bevy_ecs::system::{Query, Res, SystemParam};
use postcard::ser_flavors::Flavor;

use super::Rpc;
use super::registry::{RpcRegistry, short_name};
use crate::errors::NetworkSendError;
use crate::queue::MessageQueue;
use crate::session::control::MessageKind;
use crate::session::wire::write_id;
use crate::{ConnectionState, OutgoingRpcBuffer};

/// Sends RPCs; a parameter for systems.
///
/// What is sent leaves with the next [`NetworkStreamSystems::Send`](crate::NetworkStreamSystems::Send), in the order of
/// the calls, across all types.
#[derive(SystemParam)]
pub struct RpcSender<'w, 's> {
    registry: Res<'w, RpcRegistry>,
    connections: Query<'w, 's, (Entity, &'static ConnectionState, &'static mut OutgoingRpcBuffer)>,
}

impl RpcSender<'_, '_> {
    /// Sends to one connection. After an error nothing was queued, and everything queued before is unaffected.
    pub fn send<T: Rpc>(&mut self, connection: Entity, rpc: &T) -> Result<(), NetworkSendError> {
        let Ok((_, &state, buffer)) = self.connections.get_mut(connection) else {
            return Err(NetworkSendError::Unknown(connection));
        };
        let (number, approval) = number::<T>(&self.registry)?;
        check(state, approval)?;
        enqueue(buffer.into_inner(), number, rpc)
    }

    /// Sends to every connection that may take it now, and says how many these are. A connection whose buffer is full
    /// or that does not know the type is passed over; an RPC that is too large, or of a type that is not registered, is an error.
    pub fn broadcast<T: Rpc>(&mut self, rpc: &T) -> Result<usize, NetworkSendError> {
        self.broadcast_if(rpc, |_| true)
    }

    /// [`broadcast`](Self::broadcast) to all but one.
    pub fn broadcast_except<T: Rpc>(&mut self, except: Entity, rpc: &T) -> Result<usize, NetworkSendError> {
        self.broadcast_if(rpc, |connection| connection != except)
    }

    fn broadcast_if<T: Rpc>(&mut self, rpc: &T, wanted: impl Fn(Entity) -> bool) -> Result<usize, NetworkSendError> {
        let (number, approval) = number::<T>(&self.registry)?;
        let mut sent = 0;
        for (connection, &state, buffer) in &mut self.connections {
            if !wanted(connection) || check(state, approval).is_err() {
                continue;
            }
            match enqueue(buffer.into_inner(), number, rpc) {
                Ok(()) => sent += 1,
                Err(NetworkSendError::BufferFull(_) | NetworkSendError::UnknownToPeer(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

fn number<T: Rpc>(registry: &RpcRegistry) -> Result<(u16, bool), NetworkSendError> {
    registry.number::<T>().ok_or(NetworkSendError::NotRegistered(short_name::<T>()))
}

fn check(state: ConnectionState, approval: bool) -> Result<(), NetworkSendError> {
    match state {
        ConnectionState::Connected(_) => Ok(()),
        ConnectionState::Approval if approval => Ok(()),
        _ => Err(NetworkSendError::NotReady(state)),
    }
}

fn enqueue<T: Rpc>(buffer: &mut OutgoingRpcBuffer, number: u16, rpc: &T) -> Result<(), NetworkSendError> {
    if buffer.lacking.as_ref().is_some_and(|lacking| lacking.get(usize::from(number)) == Some(&true)) {
        return Err(NetworkSendError::UnknownToPeer(short_name::<T>()));
    }
    let waiting = buffer.queue.byte_len();
    let size = buffer.queue.try_push_with(|bytes| {
        bytes.push(MessageKind::Rpc as u8);
        write_id(bytes, number);
        postcard::serialize_with_flavor(rpc, Append(bytes))
            .map_err(|_| NetworkSendError::NotSerialised(short_name::<T>()))
    })?;
    let refused = if size > buffer.max_message {
        NetworkSendError::Driver(netstream_driver::SendError::TooLarge { size, limit: buffer.max_message })
    } else if waiting + size > buffer.max_bytes {
        NetworkSendError::BufferFull(waiting)
    } else {
        return Ok(());
    };
    MessageQueue::pop_back(&mut buffer.queue);
    Err(refused)
}

/// Lets postcard write to the end of a vector.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
