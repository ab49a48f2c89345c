//! `netstream demo --chaos`: drivers that come, change and go while the demo plays on.
//!
//! | module | what it is |
//! |---|---|
//! | [`venue`] | a driver of the demo's own server that is stopped, drained, changed or removed under its clients |
//! | [`resets`] | a second server, all of whose drivers are exchanged at once |
//! | [`guest`] | a client of either |
//! | [`deeds`] | what was done how often |

mod deeds;
mod guest;
mod resets;
mod venue;

use std::time::Duration;

use netstream::driver::Scheme;
use netstream::transport::SeededRandom;
use serde::Serialize;

use super::network::Network;
use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::game::{GameWorld, Seen};
use crate::report::{Audit, LostInFlight, Tally};

use deeds::Deeds;
pub(super) use guest::Guest;
use resets::Resets;
use venue::{STORIES, Venue};

/// Every driver that changes, its clients, and the audit of what they see.
pub(super) struct Chaos {
    venues: Vec<Venue>,
    resets: Resets,
    deeds: Deeds,
    dice: SeededRandom,
    /// Of the connections to the demo's own server; the second server has its own.
    audit: Audit,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct ChaosReport {
    #[serde(flatten)]
    pub(super) deeds: Deeds,
    /// The connections over drivers that changed, on both servers.
    pub(super) connections: Tally,
    pub(super) rpcs_lost_in_flight: LostInFlight,
    /// What the clients of the other drivers lost: ends that nobody asked for, and whatever else is wrong with their
    /// connections.
    pub(super) untouched_losses: u64,
}

/// What a driver's story may use.
struct Stage<'a> {
    server: &'a mut GameWorld,
    network: &'a Network,
    schemes: &'a [Scheme],
    deeds: &'a mut Deeds,
    dice: &'a mut SeededRandom,
    audit: &'a mut Audit,
}

impl Chaos {
    /// Nothing has happened yet.
    pub(super) fn new(args: &DemoArgs, network: &Network) -> Result<Self, Failure> {
        // The numbers of the demo's own clients, whose dice these must not repeat, end here.
        let mut numbers = args.clients..;
        let mut guests =
            |count| -> Vec<Guest> { numbers.by_ref().take(count).map(|n| Guest::new(network, n)).collect() };
        let venues = STORIES.iter().enumerate().map(|(index, story)| Venue::new(story, index, guests(venue::GUESTS)));
        let venues = venues.collect();
        let resets = Resets::new(network, &args.drivers, guests(resets::GUESTS))?;
        let dice = SeededRandom::new(args.seed);
        Ok(Self { venues, resets, deeds: Deeds::default(), dice, audit: Audit::default() })
    }

    /// Does what is due.
    pub(super) fn play(
        &mut self,
        elapsed: Duration,
        server: &mut GameWorld,
        network: &Network,
        schemes: &[Scheme],
    ) -> Result<(), Failure> {
        let Self { venues, resets, deeds, dice, audit } = self;
        let mut stage = Stage { server, network, schemes, deeds, dice, audit };
        for venue in venues {
            venue.play(elapsed, &mut stage)?;
        }
        resets.play(elapsed, &mut stage)
    }

    /// Takes in what the demo's own server saw on drivers that change.
    pub(super) fn server(&mut self, seen: Seen) {
        for happened in &seen.happened {
            self.venues.iter_mut().for_each(|venue| venue.hear(happened));
        }
        self.audit.server(seen);
    }

    /// Lets every World go on by one update.
    pub(super) fn update(&mut self) {
        for venue in &mut self.venues {
            venue.update(&mut self.audit);
        }
        self.resets.update();
    }

    /// From now on every connection may end. The second server says goodbye; the first is for its owner to close.
    pub(super) fn close(&mut self) {
        self.venues.iter_mut().for_each(Venue::close);
        self.resets.close();
    }

    /// Whether every connection is over. Clients that are still on their way give up.
    pub(super) fn is_alone(&mut self) -> bool {
        let guests = self.venues.iter_mut().flat_map(Venue::guests);
        // Each is asked, not only those before the first that is not.
        let guests = guests.map(Guest::gives_up).fold(true, |all, alone| all & alone);
        self.resets.is_alone() & guests
    }

    /// Notes what should have ended and did not.
    pub(super) fn note_leftovers(&mut self) {
        for guest in self.venues.iter_mut().flat_map(Venue::guests) {
            guest.note_leftover(&mut self.audit);
        }
        self.resets.note_leftovers();
    }

    /// Whether each kind of deed was done.
    pub(super) fn has_done_everything(&self) -> bool {
        self.deeds.is_complete()
    }

    /// Notes what hangs, where not everything was done in a time that is enough for all of it.
    pub(super) fn note_undone(&mut self) {
        let venues = self.venues.iter().map(Venue::position);
        let positions: Vec<String> = venues.chain([self.resets.position()]).collect();
        self.audit.violation(format!("chaos: not everything could be done; it stands at {}", positions.join(", ")));
    }

    /// What was done so far, in a line.
    pub(super) fn line(&self) -> String {
        self.deeds.to_string()
    }

    /// What the audits found so far.
    pub(super) fn violations(&self) -> u64 {
        self.audit.violations() + self.resets.audit().violations()
    }

    /// What happened that must not.
    pub(super) fn told(&self) -> impl Iterator<Item = &String> {
        self.audit.told().iter().chain(self.resets.audit().told())
    }

    /// Ends the audits.
    pub(super) fn finish(&mut self) {
        self.audit.finish();
        self.resets.finish();
    }

    /// Sums up.
    pub(super) fn report(&self, untouched_losses: u64) -> ChaosReport {
        let (here, there) = (&self.audit, self.resets.audit());
        let mut connections = here.total();
        connections.merge(&there.total());
        let rpcs_lost_in_flight = here.lost().plus(there.lost());
        ChaosReport { deeds: self.deeds.clone(), connections, rpcs_lost_in_flight, untouched_losses }
    }
}
