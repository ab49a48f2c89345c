//! `netstream join`

use std::time::Instant;

use netstream::ConnectOptions;
use netstream::prelude::*;
use netstream::state::Side;

use crate::args::{ClientArgs, JoinArgs};
use crate::failure::Failure;
use crate::game::{GameWorld, Happened, Load};
use crate::lines::Lines;
use crate::output::Output;
use crate::pace::{Ticker, UPDATES};
use crate::report::SideTally;
use crate::serve::FAREWELL;
use crate::signals::Stop;

/// A client World as the command line wants it.
pub(crate) fn client_world(args: &ClientArgs) -> GameWorld {
    let plugin = NetworkStreamPlugin::client()
        .with_protocol(args.protocol.clone())
        .with_driver_constructor(args.udp.clone().client_constructor());
    GameWorld::client(plugin, Load::rate(args.rate))
}

/// What a client shows its server.
pub(crate) fn options(args: &ClientArgs) -> ConnectOptions {
    let options = ConnectOptions::new().join_code(args.join_code.clone());
    match &args.password {
        Some(password) => options.credentials(password.as_bytes()),
        None => options,
    }
}

/// Plays until it is told to stop or the connection ends.
pub(crate) fn run(args: JoinArgs, output: &mut Output, stop: &Stop) -> Result<(), Failure> {
    let JoinArgs { client: args, json } = args;
    let mut world = client_world(&args);
    world.connect(&args.endpoint, options(&args)).map_err(Failure::failed)?;

    let (start, mut ticker) = (Instant::now(), Ticker::new(UPDATES));
    let (mut lines, mut tally) = (Lines::new(output, json), SideTally::default());
    let mut update = |world: &mut GameWorld, lines: &mut Lines<'_>| {
        let now = ticker.wait();
        world.update();
        let (seen, mut ended) = (world.take_journal(), None);
        for happened in &seen.happened {
            lines.happened(world, happened);
            if let Happened::Connection { event: ConnectionEvent { reason: Some(reason), mismatch, .. }, .. } = happened
            {
                let mismatch = mismatch.as_ref().map(|diff| format!("; {diff}")).unwrap_or_default();
                ended = Some(format!("the connection to {} ended, {reason}{mismatch}", args.endpoint));
            }
        }
        seen.finished.iter().for_each(|record| tally.add(record));
        (now, ended)
    };
    let mut since = None;
    let lost = loop {
        let (now, ended) = update(&mut world, &mut lines);
        if world.is_in_game() {
            since.get_or_insert(now);
        }
        let over = args.duration.zip(since).is_some_and(|(duration, since)| now - since >= duration);
        if ended.is_some() || over || stop.requested() || lines.is_closed() {
            break ended;
        }
    };
    world.close(Side::Client);
    let deadline = Instant::now() + FAREWELL;
    while update(&mut world, &mut lines).0 < deadline && !world.is_alone() {}
    lines.summary(start.elapsed().as_secs_f64(), &tally, None);
    lost.map_or(Ok(()), |why| Err(Failure::Failed(why)))
}
