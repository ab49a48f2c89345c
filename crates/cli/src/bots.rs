//! `netstream bots`

use std::time::{Duration, Instant};

use netstream::state::Side;
use serde::Serialize;

use crate::args::BotsArgs;
use crate::failure::Failure;
use crate::game::GameWorld;
use crate::join::{client_world, options};
use crate::output::Output;
use crate::pace::{Every, Ticker, UPDATES};
use crate::report::SideTally;
use crate::serve::FAREWELL;
use crate::signals::Stop;

/// Bots that start to connect in one second, fewer than the 182 whose tokens a server remembers.
const CONNECTS: f64 = 120.0;

/// The fewest updates per second of a bot: a command rate below that still wants its pings answered soon.
const MIN_UPDATES: f64 = 20.0;

#[derive(Serialize)]
struct Report<'a> {
    bots: usize,
    seconds: f64,
    /// Wanted updates of each bot.
    updates_per_second: f64,
    /// What came of that in the slowest second; less means that this machine is too slow for so many.
    slowest_updates_per_second: f64,
    #[serde(flatten)]
    tally: &'a SideTally,
}

/// Lets bots play until they are told to stop or all of them are out.
pub(crate) fn run(args: BotsArgs, output: &mut Output, stop: &Stop) -> Result<(), Failure> {
    let BotsArgs { client: args, count, json } = args;
    let options = options(&args);
    let mut bots: Vec<GameWorld> = Vec::with_capacity(count);
    let mut tally = SideTally::default();
    let rate = args.rate.clamp(MIN_UPDATES, UPDATES);
    let (start, mut ticker) = (Instant::now(), Ticker::new(rate));
    let (mut second, mut pace) = (Every::new(Duration::from_secs(1)), Pace::default());
    // When all had arrived.
    let mut since = None;
    loop {
        let now = ticker.wait();
        for _ in bots.len()..count.min(bots.len() + (CONNECTS / rate).ceil() as usize) {
            let mut bot = client_world(&args);
            bot.connect(&args.endpoint, options.clone()).map_err(|error| {
                let playing = bots.len();
                Failure::failed(format!("bot {} of {count} cannot connect: {error}", playing + 1))
            })?;
            bots.push(bot);
        }
        update(&mut bots, &mut tally);
        pace.update(now);
        let playing = bots.iter().filter(|bot| bot.is_in_game()).count();
        let ended = tally.attempts as usize;
        if second.due(now) && !json {
            output.line(&format!(
                "{:.0} s: {playing} of {count} bots play, {ended} are out",
                (now - start).as_secs_f64()
            ));
        }
        if playing + ended == count {
            since.get_or_insert(now);
        }
        let over = args.duration.zip(since).is_some_and(|(duration, since)| now - since >= duration);
        if over || ended == count || stop.requested() || output.is_closed() {
            break;
        }
    }
    let out = tally.clone();
    bots.iter_mut().for_each(|bot| bot.close(Side::Client));
    let deadline = Instant::now() + FAREWELL;
    while ticker.wait() < deadline && (tally.attempts as usize) < bots.len() {
        update(&mut bots, &mut tally);
    }
    let seconds = start.elapsed().as_secs_f64();
    if json {
        let slowest = pace.slowest.unwrap_or(rate);
        output.json(&Report {
            bots: count,
            seconds,
            updates_per_second: rate,
            slowest_updates_per_second: slowest,
            tally: &tally,
        });
    } else {
        output.line(&format!("{seconds:.1} s: {tally}"));
        if let Some(slowest) = pace.slowest.filter(|slowest| *slowest < rate * 0.9) {
            output.line(&format!("this machine managed only {slowest:.0} of {rate:.0} updates per second at times"));
        }
    }
    match out.attempts {
        0 => Ok(()),
        lost => Err(Failure::failed(format!("{lost} of {count} bots did not stay: {}", out.ends()))),
    }
}

fn update(bots: &mut [GameWorld], tally: &mut SideTally) {
    for bot in bots {
        bot.update();
        bot.take_journal().finished.iter().for_each(|record| tally.add(record));
    }
}

/// How fast the updates really went.
#[derive(Debug, Default)]
struct Pace {
    since: Option<Instant>,
    updates: u32,
    /// Updates per second in the slowest second; `None` before the first is over.
    slowest: Option<f64>,
}

impl Pace {
    fn update(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now - since;
        if passed >= Duration::from_secs(1) {
            let rate = f64::from(self.updates) / passed.as_secs_f64();
            self.slowest = Some(self.slowest.map_or(rate, |slowest| slowest.min(rate)));
            (self.since, self.updates) = (Some(now), 0);
        }
        self.updates += 1;
    }
}
