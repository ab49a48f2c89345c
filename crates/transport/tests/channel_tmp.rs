mod channel_pair;
use channel_pair::*;
use netstream_transport::*;
use netstream_transport::channel::*;
use std::time::Duration;
#[test]
fn t() {
    let rtt: u64 = std::env::var("RTT").unwrap().parse().unwrap();
    let loss: f64 = std::env::var("LOSS").unwrap().parse().unwrap();
    let tick: u64 = std::env::var("TICK").unwrap_or("0".into()).parse().unwrap();
    let secs: u64 = std::env::var("SECS").unwrap_or("6".into()).parse().unwrap();
    let every: u64 = std::env::var("EVERY").unwrap_or("100".into()).parse().unwrap();
    let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
    for config in [&mut server, &mut client] {
        config.channels.get_mut(ChannelId::RELIABLE).expect("standard").max_to_client = 16<<20;
    }
    let path = Path { delay: ms(rtt) / 2, loss, rate: Some((1250000, 64)), ..Path::default() };
    let mut pair = Pair::with(1, server, client).path(path);
    pair.ends[0].tick = ms(tick);
    pair.send(SERVER, ChannelId::RELIABLE, &vec![7; 16<<20]);
    let start = pair.now;
    let tickd = Duration::from_nanos(1_000_000_000 / 60) * std::env::var("T60").unwrap_or("1".into()).parse::<u32>().unwrap();
    pair.ends[0].tick = tickd;
    for i in 0..secs*1000/every {
        let until = start + ms(every) * (i as u32 + 1);
        for k in 0..every as u32/33 { pair.send(SERVER, ChannelId::UNRELIABLE, &[1;500]); pair.act(SERVER); let u = start+ms(every)*(i as u32)+Duration::from_nanos(1_000_000_000/30)*(k+1); while pair.step(u) {}
          let d: Vec<u64> = pair.ends[1].inbox.drain(..).zip(pair.ends[1].arrived_at.drain(..)).map(|(_,t)| t.as_nanos()/1000%1000000).collect(); if i%5==0 {println!("   sent {} arr {:?}", (pair.now.as_nanos()/1000)%1000000, d);}
        }
        while pair.step(until) {}
        let s = pair.ends[0].link.stats();
        println!("{:5} cw {:7} inflight {:7} bw {:8} rtt {:?} min {:?} lost {} over {} {}", i*every, s.congestion_window, s.in_flight, s.pacing_rate, s.rtt.unwrap_or_default(), s.min_rtt.unwrap_or_default(), s.packets_lost, pair.ends[0].overflowed, pair.ends[0].link.debug_congestion());
    }
}
