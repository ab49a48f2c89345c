//! The kinds of drivers and links over which the stories are told.

use std::time::Duration;

use netstream_driver::link::{LinkProfile, Simulated};
use netstream_driver::transport::SeededRandom;
use netstream_driver::transport::netcode::SessionCipher;
use netstream_driver::udp::{IoMode, MemoryNetwork, Network, OsNetwork, UdpConfig};
use netstream_driver::{Credentials, IpcDriver, IpcHub, ManualClock, NetworkDriver, UdpDriver};

use crate::harness::{Peer, Setup, TICK};

/// A fifth of everything is lost, some of it arrives twice or late.
const LOSSY: LinkProfile = LinkProfile {
    loss: 0.2,
    duplicate: 0.05,
    reorder: 0.05,
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(10),
    ..LinkProfile::PERFECT
};

pub(crate) fn ipc() -> Setup {
    in_process(|driver| Box::new(driver))
}

pub(crate) fn ipc_lossy() -> Setup {
    let mut seed = 0;
    in_process(move |driver| {
        seed += 1;
        // The first is the server; the link of each client is bad enough for both.
        let profile = if seed == 1 { LinkProfile::PERFECT } else { LOSSY };
        Box::new(Simulated::new(driver, profile, seed))
    })
}

pub(crate) fn udp_memory() -> Setup {
    udp(MemoryNetwork::new(), LinkProfile::PERFECT)
}

pub(crate) fn udp_memory_lossy() -> Setup {
    udp(MemoryNetwork::new(), LOSSY)
}

pub(crate) fn udp_chacha20_lossy() -> Setup {
    udp_with(MemoryNetwork::new(), LOSSY, |config| config.cipher = SessionCipher::ChaCha20Poly1305)
}

pub(crate) fn udp_loopback() -> Setup {
    udp(OsNetwork, LinkProfile::PERFECT)
}

pub(crate) fn udp_loopback_lossy() -> Setup {
    udp(OsNetwork, LOSSY)
}

pub(crate) fn udp_thread() -> Setup {
    threaded(LinkProfile::PERFECT)
}

pub(crate) fn udp_thread_lossy() -> Setup {
    threaded(LOSSY)
}

/// Real time passes too, at the same pace: the threads live by it.
fn threaded(profile: LinkProfile) -> Setup {
    Setup { pause: TICK, ..udp_with(OsNetwork, profile, |config| config.io = IoMode::Thread) }
}

fn in_process(mut wrap: impl FnMut(IpcDriver) -> Box<dyn NetworkDriver> + 'static) -> Setup {
    let hub = IpcHub::new();
    Setup {
        server: Peer::new(wrap(IpcDriver::new(&hub))),
        client: Peer::new(wrap(IpcDriver::new(&hub))),
        clock: ManualClock::new(),
        pause: Duration::ZERO,
        listen: "ipc://here".parse().expect("an endpoint"),
        credentials: Credentials::None,
        make_client: Box::new(move || wrap(IpcDriver::new(&hub))),
    }
}

/// The time between two packets is virtual, on real sockets too: what is sent on loopback can be received at once.
fn udp<N: Network>(network: N, profile: LinkProfile) -> Setup {
    udp_with(network, profile, |_| {})
}

fn udp_with<N: Network>(network: N, profile: LinkProfile, change: fn(&mut UdpConfig)) -> Setup {
    let mut seed = 0;
    let mut make = move || {
        seed += 1;
        let mut random = SeededRandom::new(seed);
        let mut config = UdpConfig::new(&mut random);
        change(&mut config);
        UdpDriver::on(network.clone(), config, Box::new(random))
    };
    let server = make();
    let code = server.join_code().expect("the default").clone();
    let mut seeds = 100..;
    let mut make_client = move || -> Box<dyn NetworkDriver> {
        Box::new(Simulated::new(make(), profile, seeds.next().expect("enough seeds")))
    };
    Setup {
        server: Peer::new(Box::new(server)),
        client: Peer::new(make_client()),
        clock: ManualClock::new(),
        pause: Duration::ZERO,
        listen: "udp://127.0.0.1:0".parse().expect("an endpoint"),
        credentials: Credentials::JoinCode(code),
        make_client: Box::new(make_client),
    }
}
