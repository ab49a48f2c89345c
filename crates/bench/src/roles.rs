//! The two processes of one run: a server, and its crowd of clients.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::end::sleep_until;
use crate::game::{CrowdGame, Game, Workload};
use crate::measure::Usage;
use crate::peers::Peer;

/// This long beyond the time of the measurement, a run has failed.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between the last connection and the measurement.
const SETTLE: Duration = Duration::from_millis(400);

/// One run's parameters, the same for both processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) peer: Peer,
    pub(crate) workload: Workload,
    pub(crate) clients: usize,
    pub(crate) seconds: f64,
}

/// What the server has to say at the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    pub(crate) failed: Option<String>,
    /// Processor time in microseconds.
    pub(crate) cpu: f64,
    /// Seconds.
    pub(crate) wall: f64,
    pub(crate) ticks: u64,
    pub(crate) received: u64,
    pub(crate) allocations: u64,
    /// KiB, before the first client and at the end.
    pub(crate) resident_before: u64,
    pub(crate) resident: u64,
}

/// What the crowd has to say at the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CrowdReport {
    pub(crate) received: u64,
    pub(crate) round_trips: u64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Paces a loop; rounds that were missed are not made up for.
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    fn new(rate: f64) -> Self {
        let interval = if rate > 0.0 { Duration::from_secs_f64(1.0 / rate) } else { Duration::ZERO };
        Self { interval, next: Instant::now() }
    }

    /// When the next round starts; `None` if there is no waiting.
    fn next(&mut self) -> Option<Instant> {
        self.next = (self.next + self.interval).max(Instant::now());
        (self.interval > Duration::ZERO).then_some(self.next)
    }
}

pub(crate) fn serve(run: &Run) -> ServerReport {
    let Run { peer, workload, clients, seconds } = *run;
    let mut server = peer.server(&workload.setup(clients));
    println!("{}", server.address());
    let mut game = Game::new(workload, clients);
    let (begin, mut start) = (Instant::now(), Usage::now());
    let resident_before = start.resident;
    let mut settled = None;
    let mut pace = Pace::new(workload.rate(clients));
    let failed = loop {
        server.update(&mut game);
        if !game.running && workload != Workload::Join && game.connected >= clients {
            let settled = *settled.get_or_insert_with(|| Instant::now() + SETTLE);
            if Instant::now() >= settled {
                start = Usage::now();
                game.start();
            }
        }
        if game.is_done() {
            break None;
        }
        if workload.is_endless() && game.running && start.at.elapsed().as_secs_f64() >= seconds {
            break None;
        }
        if begin.elapsed().as_secs_f64() > PATIENCE.as_secs_f64() + seconds {
            break Some(format!("{} of {clients} connected, {} messages", game.connected, game.received));
        }
        if let Some(next) = pace.next() {
            server.wait(next);
        }
    };
    let end = Usage::now();
    ServerReport {
        failed,
        cpu: end.cpu - start.cpu,
        wall: (end.at - start.at).as_secs_f64(),
        ticks: game.ticks,
        received: game.received,
        allocations: end.allocations - start.allocations,
        resident_before,
        resident: end.resident,
    }
}

/// Runs until standard input ends.
pub(crate) fn crowd(run: &Run, address: &str) -> CrowdReport {
    let over = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let over = over.clone();
        move || {
            let _ = std::io::stdin().read(&mut [0]);
            over.store(true, Ordering::Relaxed);
        }
    });
    let Run { peer, workload, clients, .. } = *run;
    let mut crowd = peer.crowd(address, &workload.setup(clients));
    let mut game = CrowdGame::new(workload, clients);
    let mut pace = Pace::new(workload.rate(clients));
    // Half a round away from the server's rounds, wherever these are; what matters is that nobody is woken up.
    sleep_until(Instant::now() + Duration::from_millis(3));
    while !over.load(Ordering::Relaxed) {
        game.update(&mut *crowd);
        if let Some(next) = pace.next() {
            crowd.wait(next);
        }
    }
    let times = &mut game.round_trips;
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).map_or(0.0, |nanos| *nanos as f64 / 1000.0);
    CrowdReport { received: game.received, round_trips: times.len() as u64, p50: at(0.5), p99: at(0.99) }
}
