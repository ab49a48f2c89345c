//! The drivers of netstream: how messages travel.
//!
//! A [`NetworkDriver`] speaks messages, not packets. The [`NetworkDriverStore`] holds any number of them under
//! generational ids. Everything above this crate is the same whatever the driver.

pub mod driver;

pub use driver::{
    ConnectError, ConnectionKey, ConnectionStats, Credentials, DriverId, ListenError, NetworkDriver, SendError,
};
pub use netstream_transport as transport;
