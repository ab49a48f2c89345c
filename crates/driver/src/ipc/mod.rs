//! Worlds of one process, joined without sockets: `ipc://name`.
//!
//! ```text
//!   client World                    IpcHub                     server World
//!   IpcDriver --connect "local"--> listeners by name <--listen "local"-- IpcDriver
//!       |                                                               |
//!       +--send--> lane: one byte arena behind a lock --swap, receive-->+
//!       +<--receive, swap-- lane: the same the other way <-------send---+
//! ```
//!
//! A message is copied once, into the arena of its direction; the receiver swaps the whole arena out and lends slices
//! of it to the sink. The two ends may live on different threads. Nothing is global: only drivers made from clones of
//! one [`IpcHub`] can meet.
//!
//! The promises, states and bounds are those of the UDP driver: a reliable queue that is full says so, unreliable
//! messages over the bound are dropped and counted, and each end learns exactly once why a connection is over,
//! whether it was closed, its driver was dropped, or nobody came to accept it.

mod driver;
mod hub;
mod lane;

pub use driver::IpcDriver;
pub use hub::IpcHub;
