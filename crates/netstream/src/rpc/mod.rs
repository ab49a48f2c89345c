//! Remote procedure calls: typed messages, exactly once and in order per connection and direction unless their
//! [`RpcOptions`] say otherwise.
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

mod calls;
mod dispatch;
mod entities;
mod held;
mod options;
mod received;
mod registry;
mod sender;
pub(crate) mod shape;

use bevy_app::App;
use bevy_ecs::lifecycle::Add;
use bevy_ecs::observer::On;
use bevy_ecs::system::{Query, Res};

pub use calls::{CallId, ReceivedRequest, RequestError, Response, RpcOutcome, RpcReceipt};
pub(crate) use calls::{Calling, Calls, expire};
pub(crate) use dispatch::{receive, warn_unread};
pub use entities::{NetworkEntityMap, RpcEntityMap, entity_bits};
pub(crate) use held::{HeldRpcs, release};
pub use options::{RpcDirection, RpcOptions};
pub use received::{ReceivedRpc, RpcPayload};
pub use registry::{Rpc, RpcAppExt};
pub(crate) use registry::{RpcPolicy, RpcRegistry};
pub use sender::RpcSender;
pub(crate) use sender::{Append, Unsent, send};

use crate::{NetworkStreamConnection, NetworkStreamDriver, OutgoingRpcBuffer};

/// Adds what RPCs need besides the systems of the plugin.
pub(crate) fn build(app: &mut App) {
    app.init_resource::<RpcRegistry>().add_message::<RpcReceipt>().add_observer(calls::ended).add_observer(born);
}

/// A connection learns what its driver's channels take.
fn born(
    add: On<'_, '_, Add<NetworkStreamConnection>>,
    net: Res<'_, NetworkStreamDriver>,
    registry: Res<'_, RpcRegistry>,
    mut connections: Query<'_, '_, (&NetworkStreamConnection, &mut OutgoingRpcBuffer)>,
) {
    let Ok((connection, mut buffer)) = connections.get_mut(add.entity) else { return };
    let Some(driver) = net.session.store.get(connection.key().driver) else { return };
    for entry in &*registry.types.by_number() {
        let channel = entry.options.channel;
        let reliable = driver.channels().get(channel).is_some_and(|channel| channel.kind.is_reliable());
        buffer.set_channel(channel, driver.max_message(channel), reliable);
    }
}
