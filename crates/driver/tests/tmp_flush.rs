#[path = "contract/harness.rs"]
#[allow(dead_code)]
mod harness;
use harness::*;
use netstream_driver::link::*;
use netstream_driver::transport::*;
use netstream_driver::udp::*;
use netstream_driver::*;
use std::time::Duration;
#[test]
fn flush() {
    for seed in 0..4000u64 {
        let network = MemoryNetwork::new();
        let mut mk = |s: u64, loss: f32| {
            let mut random = SeededRandom::new(s);
            let config = UdpConfig::new(&mut random);
            let code = match &config.access { Access::JoinCode(c) => c.clone(), _ => panic!() };
            let d = UdpDriver::on(network.clone(), config, Box::new(random));
            (Simulated::new(d, LinkProfile { loss, delay: Duration::from_millis(20), jitter: Duration::from_millis(10), duplicate: 0.05, reorder: 0.05, ..LinkProfile::PERFECT }, s), code)
        };
        let (s, code) = mk(seed * 2, 0.2);
        let (c, _) = mk(seed * 2 + 1, 0.2);
        let mut setup = Setup {
            server: Peer::new(Box::new(s)), client: Peer::new(Box::new(c)), clock: ManualClock::new(),
            listen: "udp://127.0.0.1:7".parse().unwrap(), credentials: Credentials::JoinCode(code),
            make_client: Box::new(|| unimplemented!()),
        };
        let (server, client) = setup.connect();
        let now = setup.now();
        for n in 0..100u8 { setup.server.driver.send(now, server, ChannelId::RELIABLE, &[n; 600]).unwrap(); }
        let t0 = setup.now().mono;
        setup.server.driver.disconnect(now, server, &DisconnectReason::local(DisconnectCode::Kicked), Duration::from_secs(30));
        setup.until("x", |s| s.server.end_of(server).is_some() && s.client.end_of(client).is_some());
        let n = setup.client.messages(client, ChannelId::RELIABLE).len();
        println!("seed {seed}: {n} after {:?} server {:?} client {:?}", setup.now().mono.since(t0), setup.server.end_of(server).unwrap(), setup.client.end_of(client).unwrap());
    }
}
