//! `netstream bots`

use std::time::{Duration, Instant};

use netstream::driver::udp;
use netstream::prelude::*;
use netstream::state::Side;
use serde::Serialize;

use crate::args::BotsArgs;
use crate::drivers::crowd_constructor;
use crate::failure::Failure;
use crate::game::{GameWorld, Happened, Load, Record};
use crate::join::options;
use crate::output::Output;
use crate::pace::{Every, Ticker, UPDATES};
use crate::report::{Figures, Gauge, SideTally};
use crate::serve::FAREWELL;
use crate::signals::Stop;

/// The fewest updates per second of a bot: a command rate below that still wants its pings answered soon.
const MIN_UPDATES: f64 = 10.0;

/// Bots that share a World. A World costs as much as some ten bots, and what one update of it sends arrives at once.
const PER_WORLD: usize = 200;

/// Files that are open anyway, and some.
const OTHER_FILES: u64 = 64;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Figures(Progress),
    Summary(Report<'a>),
}

/// How it stands.
#[derive(Serialize)]
struct Progress {
    bots: usize,
    /// Connections that are over.
    out: u64,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize)]
struct Report<'a> {
    bots: usize,
    seconds: f64,
    /// Attempts that were not heard and were made again.
    missed: usize,
    /// The fewest that were in the game since all had arrived; `None` if they never had.
    fewest_playing: Option<u64>,
    /// How long they were there together.
    held_seconds: f64,
    /// Wanted updates of each bot.
    updates_per_second: f64,
    /// What came of that in the slowest second; less means that this machine is too slow for so many.
    slowest_updates_per_second: f64,
    #[serde(flatten)]
    tally: &'a SideTally,
    figures: Figures,
}

/// Lets bots play until they are told to stop or all of them are out.
pub(crate) fn run(args: BotsArgs, output: &mut Output, stop: &Stop) -> Result<(), Failure> {
    let files = args.count as u64 + OTHER_FILES;
    if let Some(allowed) = udp::allow_open_files(files).filter(|allowed| *allowed < files) {
        return Err(Failure::failed(format!(
            "{} bots need {files} open files, one for the socket of each, and this process may have {allowed}; raise the \
             hard limit (`ulimit -Hn`), or start fewer bots",
            args.count
        )));
    }
    let mut crowd = Crowd::new(&args);
    let (mut second, mut slowest, mut held) = (Every::new(Duration::from_secs(1)), None, None);
    let start = Instant::now();
    second.due(start);
    loop {
        let now = crowd.turn(&args)?;
        if second.due(now) {
            let figures = crowd.figures();
            let rate = figures.updates_per_second;
            slowest = Some(slowest.map_or(rate, |slowest: f64| slowest.min(rate)));
            show(output, &args, &crowd, figures, now - start);
        }
        let Crowd { playing, out, .. } = crowd;
        if playing + out >= args.count as u64 && args.churn.is_none() {
            let (_, fewest) = held.get_or_insert((now, playing));
            *fewest = playing.min(*fewest);
        }
        let over = args.client.duration.zip(held).is_some_and(|(duration, (since, _))| now - since >= duration);
        if over || crowd.is_done(&args) || stop.requested() || output.is_closed() {
            break;
        }
    }
    let held_seconds = held.map_or(0.0, |(since, _)| since.elapsed().as_secs_f64());
    let lost = crowd.lost.clone();
    crowd.leave();
    let (seconds, rate) = (start.elapsed().as_secs_f64(), crowd.rate);
    let slowest = slowest.unwrap_or(rate);
    if args.json {
        output.json(&Line::Summary(Report {
            bots: args.count,
            seconds,
            missed: crowd.missed,
            fewest_playing: held.map(|(_, fewest)| fewest),
            held_seconds,
            updates_per_second: rate,
            slowest_updates_per_second: slowest,
            tally: &crowd.tally,
            figures: crowd.gauge.whole(0, &crowd.tally),
        }));
    } else {
        output.line(&format!("{seconds:.1} s: {}", crowd.tally));
        if let Some((_, fewest)) = held {
            output.line(&format!("{fewest} of {} bots stayed for {held_seconds:.1} s", args.count));
        }
        if slowest < rate * 0.9 {
            output.line(&format!("this machine managed only {slowest:.0} of {rate:.0} updates per second at times"));
        }
    }
    match lost.attempts {
        0 => Ok(()),
        count => Err(Failure::failed(format!(
            "{count} of {} bots did not stay: {}",
            args.churn.unwrap_or(args.count),
            lost.ends()
        ))),
    }
}

fn show(output: &mut Output, args: &BotsArgs, crowd: &Crowd, figures: Figures, elapsed: Duration) {
    let Crowd { playing, out, .. } = *crowd;
    if args.json {
        return output.json(&Line::Figures(Progress { bots: args.count, out, figures }));
    }
    let what = if args.churn.is_some() { "came and went" } else { "are out" };
    output.line(&format!(
        "{:.0} s: {playing} of {} bots play, {out} {what}; {figures}",
        elapsed.as_secs_f64(),
        args.count
    ));
}

/// Bots in their Worlds, which are updated in turn, so that the server does not hear from all of them at once.
struct Crowd {
    worlds: Vec<GameWorld>,
    /// Bots of each World whose connections are not gone yet.
    present: Vec<usize>,
    /// Updates of each World per second.
    rate: f64,
    ticker: Ticker,
    turn: usize,
    last_turn: Instant,
    /// How many may start to connect.
    allowed: f64,
    started: usize,
    playing: u64,
    out: u64,
    /// Attempts that others took the place of.
    missed: usize,
    /// All that are over, and those of them that did not leave by themselves.
    tally: SideTally,
    lost: SideTally,
    gauge: Gauge,
    /// The time of the Worlds' updates since all had one.
    spent: Duration,
}

impl Crowd {
    fn new(args: &BotsArgs) -> Self {
        let client = &args.client;
        let count = args.count.div_ceil(PER_WORLD);
        let world = || {
            let plugin = NetworkStreamPlugin::thin_client()
                .with_protocol(client.protocol.clone())
                .with_driver_constructor(crowd_constructor(client.udp.clone()));
            GameWorld::client(plugin, Load { size: args.size, ..Load::rate(client.rate) })
        };
        let rate = client.rate.clamp(MIN_UPDATES, UPDATES);
        Self {
            worlds: (0..count).map(|_| world()).collect(),
            present: vec![0; count],
            rate,
            ticker: Ticker::new(rate * count as f64),
            turn: 0,
            last_turn: Instant::now(),
            allowed: 1.0,
            started: 0,
            playing: 0,
            out: 0,
            missed: 0,
            tally: SideTally::default(),
            lost: SideTally::default(),
            gauge: Gauge::new(),
            spent: Duration::ZERO,
        }
    }

    /// Waits for the turn of the next World, lets newcomers connect there, and updates it.
    fn turn(&mut self, args: &BotsArgs) -> Result<Instant, Failure> {
        let now = self.ticker.wait();
        // What was not used within a second is forfeit, so that a pause is not followed by a storm.
        self.allowed = (self.allowed + (now - self.last_turn).as_secs_f64() * args.ramp).min(args.ramp.max(1.0));
        self.last_turn = now;
        let wanted = args.churn.unwrap_or(args.count) + self.missed;
        // As many in each World, and one more in the first ones.
        let places = (args.count + self.worlds.len() - 1 - self.turn) / self.worlds.len();
        while self.allowed >= 1.0 && self.started < wanted && self.present[self.turn] < places {
            let (endpoint, options) = (args.client.endpoint.to_string(), options(&args.client));
            self.worlds[self.turn].connect_another(&endpoint, options).map_err(|error| {
                Failure::failed(format!("bot {} of {wanted} cannot connect: {error}", self.started + 1))
            })?;
            self.allowed -= 1.0;
            self.started += 1;
            self.present[self.turn] += 1;
        }
        self.update(args.churn.is_some(), args.count);
        Ok(now)
    }

    /// `retries` is how often in all another may try who was not heard.
    fn update(&mut self, churn: bool, retries: usize) {
        let start = Instant::now();
        let world = &mut self.worlds[self.turn];
        world.update();
        let seen = world.take_journal();
        for happened in &seen.happened {
            let Happened::Connection { event, .. } = happened else { continue };
            if event.state.is_in_game() {
                self.playing += 1;
                if churn {
                    world.leave(event.connection);
                }
            }
        }
        for record in &seen.finished {
            self.present[self.turn] -= 1;
            self.playing -= u64::from(was_in_game(record));
            self.tally.add(record);
            // The handshake of somebody was not answered in time, and others play: he is to try again, as players do.
            if was_unheard(record) && self.playing > 0 && self.missed < retries {
                self.missed += 1;
                continue;
            }
            self.out += 1;
            let ours = record.reason.as_ref().is_some_and(|reason| reason.origin == Origin::Local);
            if !ours || !was_in_game(record) {
                self.lost.add(record);
            }
        }
        self.spent += start.elapsed();
        self.turn += 1;
        if self.turn == self.worlds.len() {
            self.turn = 0;
            self.gauge.update(std::mem::take(&mut self.spent));
        }
    }

    /// What happened since the last call.
    fn figures(&mut self) -> Figures {
        let mut all = self.tally.clone();
        for world in &mut self.worlds {
            world.count_present(|record| all.add(record));
            all.received.snapshots += world.net().counters().thin_unread;
        }
        self.gauge.recent(self.playing, &all)
    }

    /// Whether nobody is left to wait for.
    fn is_done(&self, args: &BotsArgs) -> bool {
        self.out >= args.churn.unwrap_or(args.count) as u64
    }

    /// Says goodbye for all, and waits a little for the answers.
    fn leave(&mut self) {
        for world in &mut self.worlds {
            world.close(Side::Client);
        }
        // A thousand goodbyes a second is what a small machine manages.
        let deadline = Instant::now() + FAREWELL + Duration::from_millis(self.playing);
        while self.out < (self.started - self.missed) as u64 && self.ticker.wait() < deadline {
            self.update(false, 0);
        }
        for world in &mut self.worlds {
            self.tally.received.snapshots += world.net().counters().thin_unread;
        }
    }
}

fn was_unheard(record: &Record) -> bool {
    let code = record.reason.as_ref().map(|reason| reason.code);
    matches!(code, Some(DisconnectCode::MaxConnectionAttempts | DisconnectCode::HandshakeTimeout))
        && !was_in_game(record)
}

fn was_in_game(record: &Record) -> bool {
    record.count(ConnectionState::Connected(Presence::InGame)) > 0
}
