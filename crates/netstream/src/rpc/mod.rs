//! Remote procedure calls: typed messages, exactly once and in order per connection and direction.
//!
//! Register a type on both sides, send it with [`RpcSender`], read it as a message:
//!
//! ```
//! # use netstream::prelude::*;
//! # use bevy_app::{App, Update};
//! # use bevy_ecs::prelude::*;
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Chat(String);
//!
//! fn echo(mut inbox: MessageReader<ReceivedRpc<Chat>>, mut rpcs: RpcSender) {
//!     for chat in inbox.read() {
//!         if let Err(error) = rpcs.send(chat.connection, &Chat(format!("you said {}", chat.rpc.0))) {
//!             println!("no echo: {error}");
//!         }
//!     }
//! }
//!
//! let mut app = App::new();
//! app.add_plugins(NetworkStreamPlugin::server()).register_rpc::<Chat>().add_systems(Update, echo);
//! ```

mod registry;
mod sender;
mod shape;

pub(crate) use registry::RpcRegistry;
pub use registry::{ReceivedRpc, RegisterRpcError, Rpc, RpcAppExt};
pub use sender::RpcSender;
