//! A second server, all of whose drivers are exchanged at once, again and again.
//!
//! It is a World of its own, because a reset is meant to spare nobody: on the demo's own server the clients that nobody
//! touches would be gone with it.

use std::time::Duration;

use netstream::driver::{NetworkDriver, Scheme};
use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::Random;
use netstream::{Listening, ResetPolicy};

use super::super::network::{Network, free_endpoint};
use super::Stage;
use super::guest::{AFTER_REMOVAL, Guest};
use crate::failure::Failure;
use crate::game::GameWorld;
use crate::report::Audit;

/// Its clients, dealt out to its drivers.
pub(super) const GUESTS: usize = 4;

/// The most time between all clients playing and the next reset.
const PLAY: Duration = Duration::from_secs(1);

/// The second server and its clients.
pub(super) struct Resets {
    server: GameWorld,
    schemes: Vec<Scheme>,
    listening: Vec<Listening>,
    guests: Vec<Guest>,
    audit: Audit,
    step: Step,
    closing: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The clients come.
    Fill,
    /// They play until then.
    Play(Duration),
    /// They notice the reset.
    Gone,
}

impl Resets {
    /// The server listens; nobody is connected yet.
    pub(super) fn new(network: &Network, schemes: &[Scheme], guests: Vec<Guest>) -> Result<Self, Failure> {
        let mut server = network.server();
        let endpoints = schemes.iter().map(|scheme| Ok(free_endpoint(*scheme)?.to_string()));
        let endpoints = endpoints.collect::<Result<Vec<String>, Failure>>()?;
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let listening = server.net().listen_all(&endpoints).map_err(|errors| {
            let errors: Vec<String> = errors.into_iter().map(|(_, error)| error.to_string()).collect();
            Failure::failed(errors.join("; "))
        })?;
        let (schemes, audit) = (schemes.to_vec(), Audit::default());
        Ok(Self { server, schemes, listening, guests, audit, step: Step::Fill, closing: false })
    }

    /// Does what is due.
    pub(super) fn play(&mut self, elapsed: Duration, stage: &mut Stage<'_>) -> Result<(), Failure> {
        match self.step {
            Step::Fill => {
                for (guest, at) in self.guests.iter_mut().zip(self.listening.iter().cycle()) {
                    guest.come(&at.endpoint).map_err(Failure::failed)?;
                }
                if self.all_play() {
                    self.step = Step::Play(elapsed + PLAY.mul_f64(stage.dice.below(1000) as f64 / 1e3));
                }
            }
            Step::Play(until) if elapsed >= until && self.all_play() => {
                self.reset(stage)?;
                self.step = Step::Gone;
            }
            Step::Play(_) => {}
            Step::Gone => {
                if self.guests.iter_mut().all(Guest::is_alone) {
                    self.step = Step::Fill;
                }
            }
        }
        Ok(())
    }

    fn all_play(&self) -> bool {
        self.guests.iter().all(Guest::is_in_game)
    }

    /// Exchanges all drivers, after a try that must change nothing.
    fn reset(&mut self, stage: &mut Stage<'_>) -> Result<(), Failure> {
        let mut net = self.server.net();
        match net.reset(Vec::new(), &ResetPolicy::RefuseIfConnected) {
            Err(_) => stage.deeds.resets_refused += 1,
            Ok(_) => self.audit.violation("a reset that should have been refused was not".to_owned()),
        }
        let drivers = self.schemes.iter().map(|scheme| match scheme {
            Scheme::Udp => Box::new(stage.network.udp_driver()) as Box<dyn NetworkDriver>,
            _ => Box::new(stage.network.ipc_driver()),
        });
        let reason = DisconnectReason::local(DisconnectCode::DriverRemoved).with_text("the demo resets this server");
        let drivers = net.reset(drivers.collect(), &ResetPolicy::CloseConnections(reason)).map_err(Failure::failed)?;
        stage.deeds.resets += 1;
        self.listening.clear();
        for (driver, scheme) in drivers.into_iter().zip(&self.schemes) {
            self.listening.push(net.listen_on(driver, &free_endpoint(*scheme)?).map_err(Failure::failed)?);
            stage.deeds.drivers_added.count(*scheme);
        }
        Ok(())
    }

    /// Lets its Worlds go on by one update.
    pub(super) fn update(&mut self) {
        self.server.update();
        self.audit.server(self.server.take_journal());
        let expected: &[DisconnectCode] = match self.step {
            Step::Gone => &AFTER_REMOVAL,
            _ => &[],
        };
        for guest in &mut self.guests {
            guest.update((!self.closing).then_some(expected), &mut self.audit);
        }
    }

    /// The server says goodbye to everybody.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.server.close(Side::Server);
    }

    /// Whether every connection is over. Clients that are still on their way give up.
    pub(super) fn is_alone(&mut self) -> bool {
        if !self.server.is_alone() {
            // Somebody may have come over a slow link after the first goodbye.
            self.server.close(Side::Server);
            return false;
        }
        self.guests.iter_mut().map(Guest::gives_up).fold(true, |all, alone| all & alone)
    }

    /// Notes what should have ended and did not.
    pub(super) fn note_leftovers(&mut self) {
        for connection in self.server.leftovers() {
            self.audit.violation(format!("the second server: {connection} does not end"));
        }
        for guest in &mut self.guests {
            guest.note_leftover(&mut self.audit);
        }
    }

    /// How far it is with the present reset.
    pub(super) fn position(&self) -> String {
        format!("reset {:?}", self.step)
    }

    /// What its audit found.
    pub(super) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Ends the audit.
    pub(super) fn finish(&mut self) {
        self.audit.finish();
    }
}
