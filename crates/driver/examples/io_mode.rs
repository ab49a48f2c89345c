//! A server's driver inline and on a thread of its own, and the same players on two drivers, in turns: what it costs, how
//! long messages take, and how much of it the World feels.
//!
//! ```text
//! cargo run --release -p netstream-driver --example io_mode -- [CLIENTS [SECONDS [ROUNDS]]]
//! ```
//!
//! 100 clients, 5 s and 3 rounds unless something else is said. The server ticks 60 times a second; in each tick every
//! client gets one unreliable message of 1000 bytes, and each sends one of 60 bytes at its own time. The clients are a copy
//! of this program: one process, inline drivers, polled every millisecond (1000
//! of them: every ten). Two drivers have a socket each and, threaded, a thread each, which is what a server with several
//! sockets for one port (SO_REUSEPORT) would have at best. The costs are the server's processor time, of all
//! threads, per client and tick; the latency is from a client's message to the answer that the server's World sends as soon
//! as it sees it, one client at a time. A World polls once a tick, so that half a tick of it is the World's.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cpu_time::{ProcessTime, ThreadTime};
use netstream_driver::transport::netcode::JoinCode;
use netstream_driver::transport::{ChannelId, ConnectionId, Incoming, SeededRandom};
use netstream_driver::udp::{Access, IoMode, UdpConfig};
use netstream_driver::{Clock, Credentials, Endpoint, NetworkDriver, OsRandom, SystemClock, UdpDriver};

const TICK: Duration = Duration::from_nanos(1_000_000_000 / 60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    if arguments.first().is_some_and(|first| first == "--clients") {
        let endpoints: Vec<_> = arguments[1].split(',').map(|text| text.parse().expect("an endpoint")).collect();
        return play(&endpoints, number(2, 0) as usize, number(3, 0));
    }
    let (clients, seconds, rounds) = (number(0, 100) as usize, number(1, 5), number(2, 3));
    println!("{clients} clients, 60 ticks per second, {seconds} s, {rounds} rounds in turns");
    for round in 1..=rounds {
        for (io, sockets) in [(IoMode::Inline, 1), (IoMode::Inline, 2), (IoMode::Thread, 1), (IoMode::Thread, 2)] {
            println!("{round} {io:?} x{sockets}: {}", serve(io, sockets, clients, Duration::from_secs(seconds)));
        }
    }
}

fn config(io: IoMode, most: usize) -> UdpConfig {
    let mut config = UdpConfig::new(&mut OsRandom);
    config.access = Access::JoinCode(code());
    config.io = io;
    config.limits.connections = most;
    config.limits.pending_handshakes = most.max(1024);
    config.limits.inbound_packets = 100_000;
    config
}

/// One for both processes.
fn code() -> JoinCode {
    JoinCode::random(&mut SeededRandom::new(1))
}

/// Serves with so many sockets until so much time was measured, and says how it was.
fn serve(io: IoMode, sockets: usize, clients: usize, time: Duration) -> String {
    let mut drivers: Vec<_> = (0..sockets).map(|_| UdpDriver::with_config(config(io, clients))).collect();
    let clock = SystemClock::new();
    let anywhere = "udp://127.0.0.1:0".parse().expect("valid");
    let listen = |driver: &mut UdpDriver| driver.listen(clock.now(), &anywhere).expect("loopback").to_string();
    let endpoints: Vec<_> = drivers.iter_mut().map(listen).collect();
    let own = std::env::current_exe().expect("this program has a path");
    let arguments = ["--clients".to_owned(), endpoints.join(","), clients.to_string(), time.as_secs().to_string()];
    let mut crowd = Command::new(own).args(arguments).stdout(Stdio::piped()).spawn().expect("a copy of this program");

    let (mut players, mut gone): (Vec<(usize, ConnectionId)>, usize) = (Vec::new(), 0);
    let mut next = Instant::now();
    let mut started: Option<(Instant, ProcessTime)> = None;
    let (mut work, mut received, mut ticks) = (Vec::new(), 0_u64, 0_u64);
    let message = [7; 1000];
    while gone < clients {
        next += TICK;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let full = players.len() == clients;
        if full && started.is_none() {
            started = Some((Instant::now(), ProcessTime::now()));
        }
        let measured = started.is_some_and(|(start, _)| start.elapsed() < time);
        let begin = ThreadTime::now();
        let now = clock.now();
        let mut answers = Vec::new();
        for (at, driver) in drivers.iter_mut().enumerate() {
            driver.receive(now, &mut |incoming| match incoming {
                Incoming::Accepted { connection, .. } => players.push((at, connection)),
                Incoming::Message { connection, channel: ChannelId::RELIABLE, .. } => answers.push((at, connection)),
                Incoming::Message { .. } => received += u64::from(measured),
                Incoming::Disconnected { connection, .. } => {
                    players.retain(|player| *player != (at, connection));
                    gone += 1;
                }
                Incoming::Connected { .. } => {}
            });
        }
        for (at, player) in answers {
            let _ = drivers[at].send(now, player, ChannelId::RELIABLE, b"pong");
        }
        if started.is_some() {
            for (at, player) in &players {
                let _ = drivers[*at].send(now, *player, ChannelId::UNRELIABLE, &message);
            }
        }
        drivers.iter_mut().for_each(|driver| driver.flush(now));
        if measured {
            work.push(begin.elapsed());
            ticks += 1;
        }
        if let Some((_, cpu)) = &started
            && !measured
            && ticks > 0
        {
            // The rest is waiting for the clients to leave.
            let cpu = cpu.elapsed();
            let mut told = String::new();
            let output = crowd.stdout.take().expect("it is a pipe").read_to_string(&mut told);
            output.and_then(|_| crowd.wait()).expect("the clients end by themselves");
            work.sort_unstable();
            let quantile = |share: f64| work[((work.len() - 1) as f64 * share) as usize].as_micros();
            return format!(
                "{:.2} us per client and tick; the World's part {:.2}, p50 {} us p99 {} us a tick; {:.0} % heard; {}",
                cpu.as_secs_f64() * 1e6 / (ticks * clients as u64) as f64,
                work.iter().sum::<Duration>().as_secs_f64() * 1e6 / (ticks * clients as u64) as f64,
                quantile(0.5),
                quantile(0.99),
                received as f64 * 100.0 / (ticks * clients as u64) as f64,
                told.trim(),
            );
        }
    }
    crowd.wait().expect("the clients end by themselves");
    "the clients left too early".to_owned()
}

/// Plays for so many seconds once everybody is in, spread over the endpoints.
fn play(endpoints: &[Endpoint], count: usize, seconds: u64) {
    let clock = SystemClock::new();
    let credentials = Credentials::JoinCode(code());
    let mut players: Vec<_> = Vec::new();
    let mut ids = vec![None; count];
    let (mut start, mut last_join) = (None, Instant::now());
    let (mut heard, mut latencies, mut asked) = (0_u64, Vec::new(), None::<(usize, Instant)>);
    let mut due = vec![Instant::now(); count];
    let mut asker = 0;
    while start.is_none_or(|start: Instant| start.elapsed() < Duration::from_secs(seconds + 1)) {
        // To poll a thousand sockets takes milliseconds.
        std::thread::sleep(Duration::from_micros(1000.max(10 * count as u64)));
        let now = clock.now();
        if players.len() < count && last_join.elapsed() > Duration::from_micros(500) {
            last_join = Instant::now();
            for _ in 0..8.min(count - players.len()) {
                let mut driver = UdpDriver::with_config(config(IoMode::Inline, 1));
                driver.connect(now, &endpoints[players.len() % endpoints.len()], &credentials).expect("loopback");
                players.push(driver);
            }
        }
        for (number, player) in players.iter_mut().enumerate() {
            player.receive(now, &mut |incoming| match incoming {
                Incoming::Connected { connection } => {
                    ids[number] = Some(connection);
                    // Each at its own time.
                    due[number] = Instant::now() + TICK * number as u32 / count as u32;
                }
                Incoming::Message { channel: ChannelId::RELIABLE, .. } => {
                    if let Some((_, since)) = asked.take_if(|(who, _)| *who == number) {
                        latencies.push(since.elapsed());
                    }
                }
                Incoming::Message { .. } => heard += 1,
                Incoming::Disconnected { reason, .. } => panic!("a player is lost: {reason:?}"),
                Incoming::Accepted { .. } => {}
            });
            if let Some(id) = ids[number] {
                if Instant::now() >= due[number] {
                    due[number] += TICK;
                    let _ = player.send(now, id, ChannelId::UNRELIABLE, &[3; 60]);
                }
                if start.is_some() && asked.is_none() && asker % count == number {
                    asked = Some((number, Instant::now()));
                    asker += 1;
                    let _ = player.send(now, id, ChannelId::RELIABLE, b"ping");
                }
            }
            player.flush(now);
        }
        if start.is_none() && ids.iter().all(Option::is_some) && players.len() == count {
            start = Some(Instant::now());
        }
    }
    latencies.sort_unstable();
    let quantile = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let mut rtts: Vec<_> = players.iter().zip(&ids).filter_map(|(player, id)| player.stats((*id)?)?.rtt).collect();
    rtts.sort_unstable();
    let rtt = rtts.get(rtts.len() / 2).map_or(0.0, |rtt| rtt.as_secs_f64() * 1e3);
    println!(
        "answer p50 {:.1} ms p99 {:.1} ms; measured RTT {rtt:.1} ms; {heard} messages",
        quantile(0.5),
        quantile(0.99)
    );
}
