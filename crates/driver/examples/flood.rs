//! A server with players under a flood of garbage from another process: what a tick costs, who stays, who gets in.
//!
//! ```text
//! cargo run --release -p netstream-driver --example flood -- [DATAGRAMS_PER_SECOND [SECONDS [PLAYERS [fitting]]]]
//! ```
//!
//! 100 000 per second, 15 s and 64 players unless something else is said. The server ticks 60 times a second, and the
//! work of a tick is everything that the driver does in it: receiving, one message of 200 bytes to each player, sending.
//! It is told by the thread's processor time, and by the wall, which on a busy machine measures the other programs too. The
//! exit code is 0 if the flood adds at most 1 ms to the 99th percentile of the work of the ticks that come on time (who is
//! woken up late has more to do), nobody is lost and everybody gets in.
//!
//! With `thread` as the last argument the server's driver works on a thread of its own, and the work of a tick is what is
//! left to the World.
//!
//! The players run on a thread of their own, the flood is a process: a copy of this program. Garbage comes from 64
//! addresses (on Linux) and is of four kinds in equal shares: noise, headers of packets that fit, connection requests
//! with random tokens, and datagrams of 0 to 20 bytes. With `fitting` it is only the second and the third: what no filter
//! that does not know the players can tell from theirs.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use netstream_driver::transport::netcode::JoinCode;
use netstream_driver::transport::{ChannelId, ConnectionId, Incoming, Random, SeededRandom};
use netstream_driver::udp::{BufferSizes, DatagramSocket, IoMode, Outbox, UdpConfig, UdpSocket};
use netstream_driver::{Clock, Credentials, Endpoint, NetworkDriver, OsRandom, SystemClock, UdpDriver};

const TICK: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// Addresses that the flood comes from.
const SOURCES: u8 = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    if arguments.first().is_some_and(|first| first == "--flooder") {
        let fitting = arguments.get(4).is_some_and(|kind| kind == "fitting");
        return flood(arguments[1].parse().expect("an address"), number(2, 0), number(3, 0), fitting);
    }
    let (rate, seconds, players) = (number(0, 100_000), number(1, 15), number(2, 64) as usize);

    let mut server = Server::new();
    let endpoint = server.endpoint.clone();
    let shared = Arc::new(Shared::default());
    let crowd = thread::spawn({
        let (shared, code) = (shared.clone(), server.code.clone());
        move || Crowd::new(endpoint, code, players).run(&shared)
    });
    let patience = Instant::now() + Duration::from_secs(10);
    while shared.joined.load(Ordering::Relaxed) < players as u64 {
        assert!(Instant::now() < patience, "the players did not get in; are there too many for this machine?");
        server.tick();
    }
    let quiet = server.measure(Duration::from_secs(seconds.div_ceil(2)), &shared);

    let own = std::env::current_exe().expect("this program has a path");
    let at = server.address.to_string();
    let mut flooder = Command::new(own);
    flooder.args(["--flooder", &at, &rate.to_string(), &(seconds + 1).to_string()]).args(arguments.get(3));
    let mut flooder = flooder.spawn().expect("a second process can be started");
    // Not the moment at which it starts.
    server.measure(Duration::from_millis(500), &shared);
    let flooded = server.measure(Duration::from_secs(seconds), &shared);
    shared.over.store(true, Ordering::Relaxed);
    let crowd = crowd.join().expect("players do not panic");
    flooder.wait().expect("the flood ends by itself");

    println!(
        "{players} players, 60 ticks per second, {seconds} s; garbage from {SOURCES} addresses of another process"
    );
    println!("receive buffer {} KiB", server.driver.socket_stats().receive_buffer / 1024);
    quiet.print("quiet");
    flooded.print("flood");
    let more = flooded.regular.p99.saturating_sub(quiet.regular.p99);
    let all = flooded.work.p99.saturating_sub(quiet.work.p99);
    println!(
        "p99 of the work per tick under the flood: +{} us in ticks on time, +{} us in all; players lost: {}",
        more.as_micros(),
        all.as_micros(),
        crowd.lost
    );
    let held = more <= Duration::from_millis(1) && crowd.lost == 0 && flooded.joins > 0 && flooded.failed == 0;
    println!("{}", if held { "held" } else { "NOT held" });
    std::process::exit(i32::from(!held));
}

/// What both threads know.
#[derive(Default)]
struct Shared {
    joined: AtomicU64,
    failed: AtomicU64,
    slowest_join_millis: AtomicU64,
    heard: AtomicU64,
    over: AtomicBool,
}

struct Server {
    driver: UdpDriver,
    clock: SystemClock,
    endpoint: Endpoint,
    address: SocketAddr,
    code: JoinCode,
    players: Vec<ConnectionId>,
    next: Instant,
    last: Instant,
    said: u64,
}

/// What happened during one measurement.
struct Figures {
    /// By the clock on the wall, and by what the thread got of a processor.
    wall: Quantiles,
    work: Quantiles,
    /// The work of the ticks that came on time, and how many did not.
    regular: Quantiles,
    late: usize,
    per_second: f64,
    kernel_dropped: u64,
    shielded: u64,
    dropped: Vec<(&'static str, u64)>,
    joins: u64,
    failed: u64,
    slowest_join: u64,
    heard: f64,
}

impl Server {
    fn new() -> Self {
        let mut config = UdpConfig::new(&mut OsRandom);
        if std::env::args().any(|argument| argument == "thread") {
            config.io = IoMode::Thread;
        }
        let (mut driver, clock) = (UdpDriver::with_config(config), SystemClock::new());
        let endpoint = driver.listen(clock.now(), &"udp://127.0.0.1:0".parse().expect("valid")).expect("loopback");
        let code = driver.join_code().expect("the default").clone();
        let address = (Ipv4Addr::LOCALHOST, endpoint.port().expect("a bound port")).into();
        Self {
            driver,
            clock,
            endpoint,
            address,
            code,
            players: Vec::new(),
            next: Instant::now(),
            last: Instant::now(),
            said: 0,
        }
    }

    /// Waits for the next tick, and returns how long its work took: by the wall, and on the processor. Also whether it
    /// came on time; one that is late has more to do.
    fn tick(&mut self) -> (Duration, Duration, bool) {
        self.next += TICK;
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
        let (start, work) = (Instant::now(), ThreadTime::now());
        let on_time = start - std::mem::replace(&mut self.last, start) < TICK * 5 / 4;
        let now = self.clock.now();
        let Self { driver, players, .. } = self;
        driver.receive(now, &mut |incoming| match incoming {
            Incoming::Accepted { connection, .. } => players.push(connection),
            Incoming::Disconnected { connection, .. } => players.retain(|player| *player != connection),
            _ => {}
        });
        for player in &self.players {
            self.said += u64::from(self.driver.send(now, *player, ChannelId::UNRELIABLE, &[7; 200]).is_ok());
        }
        self.driver.flush(now);
        (start.elapsed(), work.elapsed(), on_time)
    }

    fn metrics(&self) -> Vec<(&'static str, u64)> {
        let mut all = Vec::new();
        self.driver.metrics(&mut |name, value| all.push((name, value)));
        all
    }

    fn measure(&mut self, time: Duration, shared: &Shared) -> Figures {
        let (before, heard, said) = (self.metrics(), shared.heard.load(Ordering::Relaxed), self.said);
        let (joins, failed) = (shared.joined.load(Ordering::Relaxed), shared.failed.load(Ordering::Relaxed));
        shared.slowest_join_millis.store(0, Ordering::Relaxed);
        let start = Instant::now();
        let (mut wall, mut work, mut regular) = (Vec::new(), Vec::new(), Vec::new());
        while start.elapsed() < time {
            let (by_wall, on_processor, on_time) = self.tick();
            wall.push(by_wall);
            work.push(on_processor);
            if on_time {
                regular.push(on_processor);
            }
        }
        let difference = |name: &str| {
            let of = |all: &[(&str, u64)]| all.iter().find(|(other, _)| *other == name).map_or(0, |(_, value)| *value);
            of(&self.metrics()) - of(&before)
        };
        let dropped = self.metrics().into_iter().filter(|(name, _)| name.contains("dropped_"));
        let dropped = dropped.map(|(name, _)| (name, difference(name))).filter(|(_, count)| *count > 0).collect();
        Figures {
            wall: Quantiles::of(wall),
            late: work.len() - regular.len(),
            work: Quantiles::of(work),
            regular: Quantiles::of(regular),
            per_second: difference("datagrams_received_total") as f64 / start.elapsed().as_secs_f64(),
            kernel_dropped: difference("kernel_dropped_total"),
            shielded: difference("shielded_total"),
            dropped,
            joins: shared.joined.load(Ordering::Relaxed) - joins,
            failed: shared.failed.load(Ordering::Relaxed) - failed,
            slowest_join: shared.slowest_join_millis.load(Ordering::Relaxed),
            heard: (shared.heard.load(Ordering::Relaxed) - heard) as f64 / (self.said - said) as f64,
        }
    }
}

/// The median, what 99 of 100 stay below, and the most.
struct Quantiles {
    p50: Duration,
    p99: Duration,
    most: Duration,
}

impl Quantiles {
    fn of(mut values: Vec<Duration>) -> Self {
        values.sort_unstable();
        let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
        Self { p50: at(0.5), p99: at(0.99), most: at(1.0) }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, most } = self;
        write!(f, "p50 {} us, p99 {} us, max {} us", p50.as_micros(), p99.as_micros(), most.as_micros())
    }
}

impl Figures {
    fn print(&self, name: &str) {
        let Self { wall, work, regular, late, per_second, kernel_dropped, shielded, .. } = self;
        let Self { joins, failed, slowest_join, heard, .. } = self;
        println!("{name}: work per tick {work}; with waiting for a processor {wall}");
        println!("  ticks on time: {regular}; {late} came late");
        println!(
            "  {per_second:.0} datagrams/s taken in; {shielded} dropped by the shield, {kernel_dropped} for lack of room"
        );
        println!("  {:.1} % of the messages to players arrived", heard * 100.0);
        println!("  {joins} joins, the slowest in {slowest_join} ms; {failed} failed");
        for (name, count) in &self.dropped {
            println!("  {name} {count}");
        }
    }
}

/// The players, and one more who joins, leaves and joins again.
struct Crowd {
    endpoint: Endpoint,
    code: JoinCode,
    clock: SystemClock,
    players: Vec<UdpDriver>,
    lost: u64,
}

impl Crowd {
    fn new(endpoint: Endpoint, code: JoinCode, count: usize) -> Self {
        let clock = SystemClock::new();
        let mut crowd = Self { endpoint, code, clock, players: Vec::new(), lost: 0 };
        crowd.players = (0..count).map(|_| crowd.dial()).collect();
        crowd
    }

    fn dial(&self) -> UdpDriver {
        let mut driver = UdpDriver::new();
        let credentials = Credentials::JoinCode(self.code.clone());
        driver.connect(self.clock.now(), &self.endpoint, &credentials).expect("loopback");
        driver
    }

    fn run(mut self, shared: &Shared) -> Self {
        let mut next = Instant::now();
        let mut newcomer: Option<(UdpDriver, Instant)> = None;
        let mut tick = 0_u64;
        while !shared.over.load(Ordering::Relaxed) {
            next += TICK;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let now = self.clock.now();
            tick += 1;
            for (number, player) in self.players.iter_mut().enumerate() {
                let mut me = None;
                player.receive(now, &mut |incoming| match incoming {
                    Incoming::Connected { .. } => {
                        shared.joined.fetch_add(1, Ordering::Relaxed);
                    }
                    Incoming::Message { connection, .. } => {
                        shared.heard.fetch_add(1, Ordering::Relaxed);
                        me = Some(connection);
                    }
                    Incoming::Disconnected { reason, .. } => {
                        eprintln!("player {number} is lost: {reason:?}");
                        self.lost += 1;
                    }
                    Incoming::Accepted { .. } => {}
                });
                if let Some(me) = me {
                    let _ = player.send(now, me, ChannelId::UNRELIABLE, &[3; 40]);
                }
                player.flush(now);
            }
            // One join every quarter of a second.
            if tick.is_multiple_of(15)
                && newcomer.is_none()
                && shared.joined.load(Ordering::Relaxed) >= self.players.len() as u64
            {
                newcomer = Some((self.dial(), Instant::now()));
            }
            let Some((driver, since)) = &mut newcomer else { continue };
            let mut done = false;
            driver.receive(now, &mut |incoming| match incoming {
                Incoming::Connected { .. } => {
                    shared.joined.fetch_add(1, Ordering::Relaxed);
                    shared.slowest_join_millis.fetch_max(since.elapsed().as_millis() as u64, Ordering::Relaxed);
                    done = true;
                }
                Incoming::Disconnected { .. } => {
                    shared.failed.fetch_add(1, Ordering::Relaxed);
                    done = true;
                }
                _ => {}
            });
            driver.flush(now);
            if done {
                newcomer = None;
            }
        }
        self
    }
}

/// Sends garbage at an even pace for so many seconds.
fn flood(to: SocketAddr, per_second: u64, seconds: u64, fitting: bool) {
    let mut random = SeededRandom::new(0xf100d);
    let buffers = BufferSizes { receive: 1 << 16, send: 8 << 20 };
    let mut sockets: Vec<_> = (0..SOURCES)
        .map(|number| {
            let own = if cfg!(target_os = "linux") { Ipv4Addr::new(127, 99, number, 1) } else { Ipv4Addr::LOCALHOST };
            UdpSocket::bind((own, 0).into(), buffers).expect("a loopback address")
        })
        .collect();
    let mut outbox = Outbox::new();
    let mut garbage = [0; 1200];
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        let due = (start.elapsed().as_secs_f64() * per_second as f64) as u64;
        while sent < due {
            let socket = (sent / 16) as usize % sockets.len();
            for _ in 0..16 {
                random.fill(&mut garbage[..64]);
                let length = match if fitting { 1 + random.below(2) } else { random.below(4) } {
                    0 => random.below(1200) as usize,
                    1 => {
                        garbage[0] = 0x80 | if fitting { 5 } else { 3 + random.below(4) as u8 };
                        26 + random.below(1174) as usize
                    }
                    2 => {
                        garbage[0] = 0;
                        garbage[1..14].copy_from_slice(b"NETCODE 1.02\0");
                        garbage[14..22].copy_from_slice(&netstream_driver::udp::DEFAULT_PROTOCOL_ID.to_le_bytes());
                        let now = SystemClock::new().now().wall.as_unix();
                        garbage[22..30].copy_from_slice(&(now + 40).to_le_bytes());
                        1078
                    }
                    _ => random.below(21) as usize,
                };
                outbox.push(to, &garbage[..length]);
                sent += 1;
            }
            sockets[socket].send(&mut outbox);
        }
        thread::sleep(Duration::from_micros(200));
    }
    eprintln!("the flood: {sent} datagrams in {seconds} s");
}
