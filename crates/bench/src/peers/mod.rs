//! The libraries under measurement.

pub(crate) mod ecs;
#[cfg(feature = "peers")]
mod enet;
mod floor;
pub(crate) mod netstream;
#[cfg(feature = "peers")]
mod quinn;
#[cfg(feature = "peers")]
mod renet;

use crate::end::{Crowd, Server, Setup};

macro_rules! peers {
    ($($(#[$attribute:meta])* $peer:ident $name:literal $server:expr, $crowd:expr;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Peer {
            $($(#[$attribute])* $peer,)*
        }

        impl Peer {
            pub(crate) const ALL: &[Self] = &[$($(#[$attribute])* Self::$peer,)*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $($(#[$attribute])* Self::$peer => $name,)*
                }
            }

            pub(crate) fn server(self, setup: &Setup) -> Box<dyn Server> {
                match self {
                    $($(#[$attribute])* Self::$peer => Box::new($server(setup)),)*
                }
            }

            pub(crate) fn crowd(self, address: &str, setup: &Setup) -> Box<dyn Crowd> {
                match self {
                    $($(#[$attribute])* Self::$peer => Box::new($crowd(address, setup)),)*
                }
            }
        }
    };
}

peers! {
    Floor "floor" floor::FloorServer::new, |address, _| floor::FloorCrowd::new(address);
    // The UDP driver alone.
    Netstream "netstream" netstream::DriverServer::new, netstream::DriverCrowd::new;
    // The same with ChaCha20-Poly1305, which clients of the standard use.
    NetstreamChaCha20 "netstream-chacha20" netstream::DriverServer::new, |address, setup| {
        netstream::DriverCrowd::new(address, setup).with_chacha20()
    };
    // The whole stack in an `App`.
    NetstreamEcs "netstream-ecs" ecs::EcsServer::new, ecs::crowd;
    NetstreamEcsChaCha20 "netstream-ecs-chacha20" ecs::EcsServer::new, |address, setup| {
        ecs::crowd(address, setup).with_chacha20()
    };
    #[cfg(feature = "peers")]
    Renet2 "renet2" renet::two::ServerSide::new, |address, _| renet::two::ClientSide::new(address);
    #[cfg(feature = "peers")]
    Renet "renet" renet::one::ServerSide::new, |address, _| renet::one::ClientSide::new(address);
    #[cfg(feature = "peers")]
    Enet "enet" enet::EnetServer::new, |address, _| enet::EnetCrowd::new(address);
    #[cfg(feature = "peers")]
    Quinn "quinn" quinn::QuinnServer::new, |address, _| quinn::QuinnCrowd::new(address);
}

impl Peer {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|peer| peer.name() == name)
    }
}
