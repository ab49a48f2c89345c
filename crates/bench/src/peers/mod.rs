//! The libraries under measurement.

mod ecs;
mod floor;
mod netstream;

use crate::end::{Crowd, Server, Setup};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Floor,
    /// The UDP driver alone.
    Netstream,
    /// The whole stack in an `App`.
    NetstreamEcs,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Floor, Self::Netstream, Self::NetstreamEcs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Netstream => "netstream",
            Self::NetstreamEcs => "netstream-ecs",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    pub(crate) fn server(self, setup: &Setup) -> Box<dyn Server> {
        match self {
            Self::Floor => Box::new(floor::FloorServer::new(setup)),
            Self::Netstream => Box::new(netstream::DriverServer::new(setup)),
            Self::NetstreamEcs => Box::new(ecs::EcsServer::new(setup)),
        }
    }

    pub(crate) fn crowd(self, address: &str, setup: &Setup) -> Box<dyn Crowd> {
        match self {
            Self::Floor => Box::new(floor::FloorCrowd::new(address)),
            Self::Netstream => Box::new(netstream::DriverCrowd::new(address, setup)),
            Self::NetstreamEcs => Box::new(ecs::crowd(address, setup)),
        }
    }
}
