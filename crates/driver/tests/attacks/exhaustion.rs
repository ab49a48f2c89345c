//! T-A2: state for strangers. T-A7: empty and oversized datagrams. T-A8: lines in logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cpu_time::ThreadTime;
use netstream_driver::transport::{Random, SeededRandom};
use tracing::span;

use crate::arena::{Arena, TICK, request};
use crate::attack;
use crate::spoof::Spoofer;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The value below which `share` of `values` are.
fn quantile<T: Copy + Ord>(values: &mut [T], share: f64) -> T {
    values.sort_unstable();
    values[((values.len() - 1) as f64 * share) as usize]
}

/// How many ticks one honest client takes to connect, while `attack` goes on between them.
fn join(arena: &mut Arena, id: u64, attack: &mut dyn FnMut(&mut Arena)) -> u64 {
    let client = arena.dial(&arena.token(id));
    for tick in 1..=1_000 {
        attack(arena);
        arena.step();
        assert!(arena.clients[client].ended.is_empty(), "{:?}", arena.clients[client].ended);
        if arena.clients[client].is_connected() {
            arena.leave_quietly(client);
            return tick;
        }
    }
    panic!("an honest client did not get in");
}

impl Arena {
    /// Drops a client, whose goodbye leaves at once.
    fn leave_quietly(&mut self, client: usize) {
        self.clients.remove(client);
        self.network.forget();
    }
}

attack!(strangers_take_no_memory, t_a2_full: spoofed_requests, 40_000, 1_000_000);

/// Spoofed requests with random tokens, each from an address of its own, 100 000 per second.
fn spoofed_requests(count: u64) {
    let mut arena = Arena::with_server(|_| {});
    let usual = join(&mut arena, 1, &mut |_| {});
    arena.step();
    arena.server().accepted.clear();
    let already = arena.server().metric("datagrams_received_total");
    let to = arena.address(0);
    let mut spoofer = Spoofer::new();
    let mut random = SeededRandom::new(0xa2);
    let mut packet = request(&arena.token(1));
    let (mut answers, mut before) = (0, 0);
    for number in 0..count {
        if number == 2_000 {
            // The first packets only wake the process up.
            before = resident();
        }
        random.fill(&mut packet[54..]);
        spoofer.send(Spoofer::source(number), to, &packet);
        if number % 1_000 == 999 {
            arena.step();
            answers += spoofer.count_answers().0;
            let expiry = request(&arena.token(1));
            packet[22..54].copy_from_slice(&expiry[22..54]);
        }
    }
    let grown = resident().saturating_sub(before);
    let server = arena.server();
    println!(
        "T-A2 {count} spoofed requests of as many sources: resident memory +{:.2} MiB, {} connections, {answers} \
         answers; {} opened in vain, {} over the budget, {} dropped by the kernel",
        mib(grown),
        server.accepted.len(),
        server.metric("requests_dropped_open_failed_total"),
        server.metric("requests_dropped_budget_total"),
        server.metric("kernel_dropped_total"),
    );
    assert!(grown < 4 << 20);
    assert_eq!((server.accepted.len(), answers), (0, 0));
    assert_eq!(server.metric("datagrams_received_total"), already + count);
    assert_eq!(join(&mut arena, 7, &mut |_| {}), usual, "an honest client connects as ever");
}

attack!(spoofed_requests_with_good_tokens_hold_nobody_up, t_a2_valid_full: valid_tokens, 4_000, 100_000);

/// The same with genuine tokens, of which the attacker has plenty; honest clients join meanwhile.
fn valid_tokens(count: u64) {
    let mut arena = Arena::with_server(|_| {});
    let mut baseline: Vec<_> = (0..30).map(|id| join(&mut arena, id, &mut |_| {})).collect();
    let to = arena.address(0);
    for per_second in [1_000, 4_000] {
        let mut spoofer = Spoofer::new();
        let (mut sent, mut answers) = (0, 0);
        let mut joins = Vec::new();
        let before = resident();
        let mut id = 1_000_000;
        while sent < count {
            id += 1;
            let took = join(&mut arena, id, &mut |arena| {
                for _ in 0..per_second * TICK.as_millis() as u64 / 1000 {
                    spoofer.send(Spoofer::source(sent), to, &request(&arena.token(1 << 40 | sent)));
                    sent += 1;
                }
                answers += spoofer.count_answers().0;
            });
            joins.push(took);
            // A join every tenth of a second, no faster than players come.
            for _ in 0..8 {
                for _ in 0..per_second * TICK.as_millis() as u64 / 1000 {
                    spoofer.send(Spoofer::source(sent), to, &request(&arena.token(1 << 40 | sent)));
                    sent += 1;
                }
                arena.step();
            }
        }
        let grown = resident().saturating_sub(before);
        let (joined, p50, p99) = (joins.len(), quantile(&mut joins, 0.5), quantile(&mut joins, 0.99));
        let usual = quantile(&mut baseline, 0.99);
        let millis = |ticks: u64| ticks * TICK.as_millis() as u64;
        println!(
            "T-A2 {sent} spoofed requests with good tokens, {per_second}/s, {answers} answers: resident memory \
             +{:.2} MiB; {joined} honest joins, p50 {} ms, p99 {} ms (without attack p99 {} ms)",
            mib(grown),
            millis(p50),
            millis(p99),
            millis(usual),
        );
        assert!(grown < 8 << 20);
        assert!(millis(p99) < 2 * millis(usual) + 100);
    }
    let server = arena.server();
    assert!(server.metric("pending_handshakes_high") <= 1024);
    assert_eq!(server.metric("connections_high"), 1);
}

attack!(empty_tiny_and_huge_datagrams_are_counted_and_cost_little, t_a7_full: odd_sizes, 3_000, 1_000_000);

/// Empty datagrams, single bytes and the largest that exist, in turn.
fn odd_sizes(count: u64) {
    let mut arena = Arena::with_server(|_| {});
    let usual = join(&mut arena, 1, &mut |_| {});
    let to = arena.address(0);
    let huge = vec![0x15; 65_507];
    // As many of a size as 100 000 per second are in a tick, or as fit into the receive buffer.
    for (name, contents, per_tick) in [("empty", &huge[..0], 1_000), ("1 B", &huge[..1], 1_000), ("65507 B", &huge, 25)]
    {
        let mut spoofer = Spoofer::new();
        let mut work = Vec::new();
        // The goodbye of whoever was here before.
        arena.step();
        let before = arena.server().driver.socket_stats();
        let mut sent = 0;
        while sent < count {
            for _ in 0..per_tick {
                spoofer.send(Spoofer::source(sent), to, contents);
                sent += 1;
            }
            arena.clock.advance(TICK);
            // Of the processor, not of the wall: the machine may be busy with other things.
            let start = ThreadTime::now();
            arena.servers[0].update(&arena.clock);
            work.push(start.elapsed());
        }
        let after = arena.server().driver.socket_stats();
        let arrived = after.received + after.truncated - before.received - before.truncated;
        let mut sent_more = 0;
        let took = join(&mut arena, 2 + per_tick, &mut |_| {
            for _ in 0..per_tick {
                spoofer.send(Spoofer::source(sent_more), to, contents);
                sent_more += 1;
            }
        });
        println!(
            "T-A7 {sent} datagrams of {name}, {per_tick} per tick: {arrived} arrived, 0 answered; work per tick p50 {:?}, \
             p99 {:?}; an honest join meanwhile {took} ticks (usually {usual})",
            quantile(&mut work, 0.5),
            quantile(&mut work, 0.99),
        );
        assert_eq!(arrived + after.kernel_dropped - before.kernel_dropped, sent);
        assert!(took <= usual + 1);
        assert_eq!(spoofer.count_answers().0, 0);
    }
    assert!(arena.server().metric("packets_dropped_size_total") >= count);
}

/// Counts what would be written to a log.
struct Lines(Arc<AtomicU64>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

attack!(a_flood_writes_no_log, t_a8_full: logs, 4_000, 600_000);

/// Garbage of every kind, good and bad requests, for a minute of the server's time at the full count.
fn logs(count: u64) {
    let lines = Arc::new(AtomicU64::new(0));
    tracing::subscriber::with_default(Lines(lines.clone()), || {
        tracing::info!("the subscriber counts");
        assert_eq!(lines.swap(0, Ordering::Relaxed), 1);
        let mut arena = Arena::with_server(|_| {});
        let client = arena.join(1);
        let tap = arena.clients[client].tap.clone();
        let to = arena.address(0);
        let mut spoofer = Spoofer::new();
        let mut random = SeededRandom::new(0xa8);
        let start = arena.clock_millis();
        let mut packet = vec![0; 1200];
        for number in 0..count {
            random.fill(&mut packet);
            packet[0] = random.below(256) as u8;
            let length = random.below(1200) as usize;
            match number % 4 {
                0 => spoofer.send(Spoofer::source(number), to, &request(&arena.token(number))),
                1 => tap.send([(to, &packet[..length])]),
                _ => spoofer.send(Spoofer::source(number), to, &packet[..length]),
            }
            if number % 100 == 99 {
                arena.step();
                spoofer.count_answers();
            }
        }
        let seconds = Duration::from_millis(arena.clock_millis() - start).as_secs();
        let lines = lines.load(Ordering::Relaxed);
        println!("T-A8 {count} packets in {seconds} s: {lines} lines of log");
        assert!(lines <= 10 * seconds.max(1));
        assert!(arena.clients[client].is_connected());
    });
}

impl Arena {
    fn clock_millis(&self) -> u64 {
        use netstream_driver::Clock;
        self.clock.now().mono.as_nanos() / 1_000_000
    }
}
