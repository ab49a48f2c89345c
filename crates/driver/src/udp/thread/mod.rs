//! The UDP driver on a thread of its own.
//!
//! ```text
//!     caller                                       thread
//!       send, disconnect --> Orders --swap--> obey --> Engine --flush--> socket
//!       listen, connect  --> Call   --------> obey                          |
//!       receive          <-- Inbox  <--swap-- receive <----------------- socket
//! ```
//!
//! Both arenas lie under one lock that is held for a swap or an append, never during a system call. The caller wakes the
//! thread with one system call if it sleeps and with none if it works. What has to have an answer (`listen`, `connect`)
//! waits for the thread, a fraction of a millisecond; nothing else does.
//!
//! Everything is bounded. Towards the thread: per connection and reliable channel as much as the channel's own queue holds,
//! then `QueueFull`; of unreliable messages [`DROP_ABOVE`], then they are dropped and counted. Towards the caller: above
//! [`DROP_ABOVE`] unreliable messages are dropped and counted; above [`PAUSE_ABOVE`] reliable ones stay in the protocol, as
//! far as the receive windows reach, so that peers' queues fill and they see a slow consumer if it lasts; above
//! [`STOP_ABOVE`], which only comings and goings can reach, nothing is taken from the socket any more.

mod caller;
mod connections;
mod held;
mod queue;
mod shared;
mod worker;

pub(super) use caller::Threaded;

use netstream_transport::channel::ChannelConfig;

/// Above this many bytes in one direction unreliable messages are dropped: what the socket's receive buffer holds of a
/// driver without a thread.
const DROP_ABOVE: usize = 8 << 20;

/// Above this many bytes that the caller does not fetch reliable messages are not taken from the protocol.
const PAUSE_ABOVE: usize = 2 * DROP_ABOVE;

/// Above this many bytes that the caller does not fetch nothing more is received.
const STOP_ABOVE: usize = 4 * DROP_ABOVE;

/// What a reliable message counts for, as in the queue of its channel.
fn charge(len: usize) -> usize {
    len + ChannelConfig::MESSAGE_COST
}
