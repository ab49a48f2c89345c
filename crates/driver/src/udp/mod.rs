//! UDP.
//!
//! ```text
//!     Network -- bind --> DatagramSocket --receive--> [simulator] --> transport::{Server, Client} --> sink
//!                                        <---send---- [simulator] <-- outbox <-- poll_transmit
//! ```
//!
//! All of it works either where it is called from, or on a thread of its own ([`IoMode`]); then messages travel between the
//! two in arenas that are swapped whole.
//!
//! The socket shell makes no protocol decisions: it moves datagrams in batches, counts every error, and closes and
//! repeats nothing because of one.

mod config;
mod dial;
mod driver;
#[cfg(target_os = "linux")]
mod kernel;
mod memory;
mod outbox;
mod place;
mod port;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
mod shell;
#[cfg(target_os = "linux")]
mod shield;
mod socket;
mod thread;

/// Asks the operating system to let this process have `wanted` files open, every socket being one; returns how many it
/// may have afterwards, which can be fewer. `None` where nobody knows. Of use to processes with very many drivers.
pub fn allow_open_files(wanted: u64) -> Option<u64> {
    #[cfg(target_os = "linux")]
    return kernel::allow_open_files(wanted);
    #[cfg(not(target_os = "linux"))]
    return None.filter(|_: &u64| wanted > 0);
}

pub use config::{Access, DEFAULT_PROTOCOL_ID, IoMode, UdpConfig};
pub use memory::{MemoryNetwork, MemorySocket};
pub use outbox::Outbox;
pub use place::UdpDriver;
pub use socket::{Arrival, Batch, BufferSizes, DatagramSocket, Network, OsNetwork, SocketStats, UdpSocket};
