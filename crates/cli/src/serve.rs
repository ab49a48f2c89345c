//! `netstream serve`

use std::time::{Duration, Instant};

use bevy_app::Update;
use bevy_ecs::prelude::*;
use netstream::driver::{NetworkDriver, Scheme};
use netstream::prelude::*;
use netstream::state::Side;

use crate::args::ServeArgs;
use crate::failure::Failure;
use crate::game::{GameWorld, Happened, Load};
use crate::lines::Lines;
use crate::output::Output;
use crate::pace::{Every, Ticker};
use crate::report::{Gauge, SideTally};
use crate::secrets;
use crate::signals::Stop;

/// How long the goodbyes may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(3);

/// Serves until it is told to stop.
pub(crate) fn run(args: ServeArgs, output: &mut Output, stop: &Stop) -> Result<(), Failure> {
    let (udp, code) = (args.udp, args.join_code);
    let plugin = NetworkStreamPlugin::server().with_protocol(args.protocol).with_driver_constructor(move |endpoint| {
        (endpoint.scheme() == Scheme::Udp).then(|| Box::new(udp.server(&code)) as Box<dyn NetworkDriver>)
    });
    let mut world = GameWorld::server(plugin, Load { size: args.size, ..Load::rate(args.rate) });
    if let Some(password) = args.password {
        require_password(&mut world, password);
    }
    let endpoints: Vec<String> = args.listen.iter().map(ToString::to_string).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    world.net().listen_all(&endpoints).map_err(|errors| {
        let errors: Vec<String> = errors.into_iter().map(|(_, error)| error.to_string()).collect();
        Failure::failed(errors.join("; "))
    })?;

    let (start, mut ticker) = (Instant::now(), Ticker::new(args.tick_rate));
    let (mut lines, mut tally) = (Lines::new(output, args.json), SideTally::default());
    let (mut gauge, mut every) = (Gauge::new(), args.figures.map(Every::new));
    let quiet = every.is_some();
    let mut update = |world: &mut GameWorld, lines: &mut Lines<'_>| {
        let now = ticker.wait();
        world.update();
        gauge.update(now.elapsed());
        let seen = world.take_journal();
        let shown = seen.happened.iter().filter(|happened| !quiet || matches!(happened, Happened::Driver(_)));
        shown.for_each(|happened| lines.happened(world, happened));
        seen.finished.iter().for_each(|record| tally.add(record));
        if every.as_mut().is_some_and(|every| every.due(now)) {
            let mut all = tally.clone();
            let playing = world.count_present(|record| all.add(record));
            lines.figures(&gauge.recent(playing, &all), world.metrics());
        }
        now
    };
    loop {
        let now = update(&mut world, &mut lines);
        let over = args.duration.is_some_and(|duration| now - start >= duration);
        if over || stop.requested() || lines.is_closed() {
            break;
        }
    }
    world.close(Side::Server);
    let deadline = Instant::now() + FAREWELL;
    while update(&mut world, &mut lines) < deadline && !world.is_alone() {}
    lines.summary(start.elapsed().as_secs_f64(), &tally, Some(&gauge.whole(0, &tally)));
    Ok(())
}

#[derive(Resource)]
struct Password(String);

fn require_password(world: &mut GameWorld, password: String) {
    world.net().require_approval(true);
    world.app().insert_resource(Password(password)).add_systems(Update, admit);
}

/// Lets in those who know the password.
fn admit(
    mut events: MessageReader<ConnectionEvent>,
    shown: Query<&ConnectionCredentials>,
    password: Res<Password>,
    mut net: ResMut<NetworkStreamDriver>,
) {
    for event in events.read().filter(|event| event.state == ConnectionState::Approval) {
        let decided = match shown.get(event.connection) {
            Ok(shown) if secrets::same_password(&shown.0, password.0.as_bytes()) => net.approve(event.connection),
            Ok(_) => net.deny(event.connection, "wrong password"),
            Err(_) => net.deny(event.connection, "a password is needed"),
        };
        // An error means that the client is gone already.
        let _ = decided;
    }
}
