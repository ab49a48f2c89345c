//! `netstream demo`: both ends of every connection in one process, over a bad network.

mod arena;
mod cast;
mod chaos;
mod network;
mod report;
mod script;
mod table;
mod view;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::pace::{Ticker, UPDATES};
use crate::signals::Stop;

use cast::Cast;
use report::Report;
use script::Script;
use view::View;

/// How much longer than asked for the demo may take if this machine is too slow for its script.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the goodbyes may take.
const FAREWELL: Duration = Duration::from_secs(10);

/// Plays the script, then shuts the server down. Exit code 1 if anything happened that must not.
pub(crate) fn run(args: &DemoArgs, output: &mut Output, stop: &Stop) -> Result<ExitCode, Failure> {
    let mut cast = Cast::new(args)?;
    let mut script = Script::new(args.clients, args.duration);
    let mut view = View::new(args.json, output);
    let (start, mut ticker) = (Instant::now(), Ticker::new(UPDATES));
    loop {
        let now = ticker.wait();
        let elapsed = now - start;
        script.play(elapsed, &mut cast)?;
        cast.play_chaos(elapsed)?;
        cast.update(now);
        view.show(output, now, elapsed, &cast);
        let over = args.duration.is_some_and(|duration| {
            let all_done = script.is_over() && cast.has_had_chaos();
            let out_of_patience = elapsed >= duration + PATIENCE;
            if out_of_patience {
                cast.note_undone();
            }
            elapsed >= duration && all_done || out_of_patience
        });
        if over || stop.requested() || output.is_closed() {
            break;
        }
    }
    let deadline = Instant::now() + FAREWELL;
    cast.close_server();
    while !cast.is_alone() {
        let now = ticker.wait();
        if now >= deadline {
            cast.note_leftovers();
            break;
        }
        cast.update(now);
    }
    view.show_last(output, start.elapsed(), &cast);
    cast.finish();
    let report = Report::new(args, start.elapsed(), &cast);
    if args.json {
        output.json(&report);
    } else {
        output.write(report.to_string().as_bytes());
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
