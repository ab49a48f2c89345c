//! The drivers of netstream: how messages travel.
//!
//! A [`NetworkDriver`] speaks messages, not packets. The [`NetworkDriverStore`] holds any number of them under
//! generational ids. Everything above this crate is the same whatever the driver.
//!
//! | module | what it is |
//! |---|---|
//! | [`driver`] | the contract |
//! | [`endpoint`] | `udp://host:port`, `ipc://name`, ... |
//! | [`store`] | the drivers of one World |
//! | [`ipc`] | Worlds of one process, without sockets |
//! | [`udp`] | sockets, and the protocol of [`transport`] on them |
//! | [`link`] | bad networks on purpose |
//! | [`clock`], [`random`] | what the pure core is told: time and randomness |

pub mod clock;
pub mod driver;
pub mod endpoint;
pub mod ipc;
pub mod link;
pub mod random;
mod slots;
pub mod store;
pub mod udp;

pub use clock::{Clock, ManualClock, SystemClock};
pub use driver::{
    ConnectError, ConnectionKey, ConnectionStats, Credentials, DriverId, ListenError, NetworkDriver, SendError,
};
pub use endpoint::{Endpoint, EndpointError, Host, Scheme};
pub use ipc::{IpcDriver, IpcHub};
pub use link::{LinkProfile, LinkSimulator, Simulated};
pub use netstream_transport as transport;
pub use random::OsRandom;
pub use store::NetworkDriverStore;
pub use udp::UdpDriver;
