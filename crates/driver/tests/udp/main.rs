//! What is particular to the UDP driver. Time is virtual and the network is in memory unless a test says otherwise.

mod coming_back;
mod dialling;
mod ends;
#[cfg(target_os = "linux")]
mod flood;
mod game;
mod links;
mod mtu;
mod sockets;
mod tokens;
