//! One driver of the demo's own server, from its beginning to its end, again and again.

use std::time::Duration;

use bevy_ecs::entity::Entity;
use netstream::Listening;
use netstream::driver::{DriverId, IpcDriver, LinkProfile, Scheme, Simulated, UdpDriver};
use netstream::prelude::*;
use netstream::transport::Random;

use super::super::network::free_endpoint;
use super::Stage;
use super::guest::{AFTER_REMOVAL, Guest};
use crate::failure::Failure;
use crate::game::Happened;
use crate::report::Audit;

/// Clients of a venue: the last one is the newcomer, who tries to get in while something is done to the driver.
pub(super) const GUESTS: usize = 3;

/// How long a closed door is tried.
const KEPT_OUT: Duration = Duration::from_millis(300);

/// How long the clients of a draining driver may stay.
const DRAIN: Duration = Duration::from_millis(500);

/// The most time that the clients play before the next thing is done.
const PLAY: Duration = Duration::from_millis(300);

/// What a driver's link becomes under its clients.
const LINKS: [LinkProfile; 4] =
    [LinkProfile::BROADBAND, LinkProfile::WIFI, LinkProfile::MOBILE_4G, LinkProfile::INTERCONTINENTAL];

/// What happens to a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is added and listens.
    Open,
    /// All but the newcomer come and play for a while.
    Fill,
    /// It stops listening.
    Stop,
    /// The newcomer is not let in, while the others play on.
    KeepOut,
    /// It listens again.
    Reopen,
    /// The newcomer gets in, while the others play on.
    Admit,
    /// It is drained.
    Drain,
    /// All were told; the first one leaves, the others are closed when the time is over, and nobody gets in.
    Drained,
    /// Its link becomes a bad one, and newcomers need approval.
    Change,
    /// The newcomer asks and is denied.
    Deny,
    /// It asks again and is approved.
    Approve,
    /// Everything is as before.
    ChangeBack,
    /// Everybody leaves.
    Leave,
    /// It is removed, with whoever is there.
    Remove,
    /// Whoever was there has noticed.
    Gone,
}

/// What happens to a driver again and again.
pub(super) struct Story {
    name: &'static str,
    steps: &'static [Step],
}

/// All of them; each is told by a venue of its own.
pub(super) const STORIES: &[Story] = {
    use Step::*;
    &[
        Story { name: "stop", steps: &[Open, Fill, Stop, KeepOut, Reopen, Admit, Leave, Remove, Gone] },
        Story { name: "drain", steps: &[Open, Fill, Drain, Drained, Leave, Remove, Gone] },
        Story { name: "remove", steps: &[Open, Fill, Remove, Gone] },
        Story { name: "change", steps: &[Open, Fill, Change, Deny, Approve, ChangeBack, Admit, Leave, Remove, Gone] },
    ]
};

/// A driver and its clients.
pub(super) struct Venue {
    story: &'static Story,
    step: usize,
    /// When the step began.
    since: Duration,
    /// Chooses the kind of driver; each round takes another one.
    round: usize,
    guests: Vec<Guest>,
    listening: Option<Listening>,
    /// How long the clients play in this round before the next thing is done.
    play: Duration,
    /// What the clients had heard when the step began.
    heard: [u64; GUESTS],
    /// The connection that waits for approval.
    waiting: Option<Entity>,
    /// The server has said that nobody is left on the draining driver.
    drained: bool,
    closing: bool,
}

impl Venue {
    /// A venue that is not open yet.
    pub(super) fn new(story: &'static Story, round: usize, guests: Vec<Guest>) -> Self {
        Self {
            story,
            step: 0,
            since: Duration::ZERO,
            round,
            guests,
            listening: None,
            play: Duration::ZERO,
            heard: [0; GUESTS],
            waiting: None,
            drained: false,
            closing: false,
        }
    }

    /// Its clients.
    pub(super) fn guests(&mut self) -> impl Iterator<Item = &mut Guest> {
        self.guests.iter_mut()
    }

    /// Where its story stands.
    pub(super) fn position(&self) -> String {
        format!("{} {:?}", self.story.name, self.step())
    }

    /// From now on every connection may end.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Hears what the server saw.
    pub(super) fn hear(&mut self, happened: &Happened) {
        let Some(Listening { driver: mine, .. }) = &self.listening else { return };
        match happened {
            Happened::Connection { event, .. }
                if event.driver() == *mine && event.state == ConnectionState::Approval =>
            {
                self.waiting = Some(event.connection);
            }
            Happened::Driver(DriverEvent::Drained { driver }) => self.drained |= driver == mine,
            _ => {}
        }
    }

    /// Lets its clients go on by one update.
    pub(super) fn update(&mut self, audit: &mut Audit) {
        let expected: &[DisconnectCode] = match self.step() {
            Step::Leave => &[DisconnectCode::ConnectionClose],
            Step::Drained => &[DisconnectCode::ConnectionClose, DisconnectCode::DrainDeadline],
            Step::Gone => &AFTER_REMOVAL,
            _ => &[],
        };
        for guest in &mut self.guests {
            guest.update((!self.closing).then_some(expected), audit);
        }
    }

    /// Goes on with the story, by one step at most.
    pub(super) fn play(&mut self, elapsed: Duration, stage: &mut Stage<'_>) -> Result<(), Failure> {
        let done = match &self.listening {
            None => {
                self.open(stage)?;
                true
            }
            Some(listening) => {
                let listening = listening.clone();
                self.act(&listening, stage)? || self.is_reached(&listening, elapsed, stage)?
            }
        };
        if done {
            if self.step() == Step::Gone {
                self.listening = None;
            }
            self.step = (self.step + 1) % self.story.steps.len();
            self.since = elapsed;
            for (heard, guest) in self.heard.iter_mut().zip(&self.guests) {
                *heard = guest.heard();
            }
        }
        Ok(())
    }

    fn step(&self) -> Step {
        self.story.steps[self.step]
    }

    fn open(&mut self, stage: &mut Stage<'_>) -> Result<(), Failure> {
        let scheme = stage.schemes[self.round % stage.schemes.len()];
        let mut net = stage.server.net();
        let driver = match scheme {
            Scheme::Udp => net.add_driver(stage.network.udp_driver()),
            _ => net.add_driver(stage.network.ipc_driver()),
        };
        self.listening = Some(net.listen_on(driver, &free_endpoint(scheme)?).map_err(Failure::failed)?);
        stage.deeds.drivers_added.count(scheme);
        self.play = PLAY.mul_f64(stage.dice.below(1000) as f64 / 1e3);
        self.round += 1;
        self.guests.iter_mut().for_each(Guest::forget);
        Ok(())
    }

    /// Does the step, if it is one that the server does at once.
    fn act(&self, at: &Listening, stage: &mut Stage<'_>) -> Result<bool, Failure> {
        let (mut net, deeds) = (stage.server.net(), &mut *stage.deeds);
        let done = match self.step() {
            Step::Stop => {
                deeds.stopped += 1;
                net.stop_listening(at.driver)
            }
            Step::Reopen => {
                deeds.reopened += 1;
                net.listen_on(at.driver, &at.endpoint).map_err(Failure::failed)?;
                Ok(())
            }
            Step::Drain => net.drain(at.driver, DRAIN, "the demo drains this driver"),
            step @ (Step::Change | Step::ChangeBack) => {
                let back = step == Step::ChangeBack;
                let link = LINKS[stage.dice.below(LINKS.len() as u64) as usize];
                set_link(&mut net, at.driver, if back { LinkProfile::PERFECT } else { link });
                deeds.simulator_changes += 1;
                deeds.approval_changes += 1;
                net.require_approval_on(at.driver, (!back).then_some(true))
            }
            Step::Remove => {
                let in_use = self.guests.iter().any(Guest::is_in_game);
                *(if in_use { &mut deeds.removed_in_use } else { &mut deeds.removed_empty }) += 1;
                let reason = DisconnectReason::local(DisconnectCode::DriverRemoved);
                net.remove_driver(at.driver, reason.with_text("the demo removes this driver"))
            }
            _ => return Ok(false),
        };
        done.map(|()| true).map_err(Failure::failed)
    }

    /// Whether the clients have got where the step wants them; until then it does what brings them there.
    fn is_reached(&mut self, at: &Listening, elapsed: Duration, stage: &mut Stage<'_>) -> Result<bool, Failure> {
        let over = |time| elapsed.saturating_sub(self.since) >= time;
        let (step, deeds) = (self.step(), &mut *stage.deeds);
        let (newcomer, others) = self.guests.split_last_mut().expect("a venue has guests");
        let play_on =
            |guests: &[Guest]| guests.iter().zip(&self.heard).all(|(guest, before)| guest.plays_on_since(*before));
        match step {
            Step::Fill => {
                for guest in &mut *others {
                    guest.come(&at.endpoint).map_err(Failure::failed)?;
                }
                Ok(over(self.play) && play_on(others))
            }
            Step::KeepOut => {
                let refused = is_kept_out(newcomer, at, stage.audit);
                let done = over(KEPT_OUT) && play_on(others);
                deeds.newcomers_refused += u64::from(done && refused);
                Ok(done)
            }
            Step::Admit => {
                newcomer.come(&at.endpoint).map_err(Failure::failed)?;
                Ok(newcomer.is_in_game() && play_on(others))
            }
            Step::Drained => {
                let refused = is_kept_out(newcomer, at, stage.audit);
                let stays = others.len() - 1;
                for guest in others.iter_mut().skip(stays).filter(|guest| guest.was_warned() && guest.is_in_game()) {
                    guest.leave();
                }
                if !self.drained || !others.iter_mut().all(Guest::is_alone) {
                    return Ok(false);
                }
                self.drained = false;
                for guest in &*others {
                    deeds.drain_notices += u64::from(guest.was_warned());
                    if !guest.was_warned() && guest.end() == Some(DisconnectCode::DrainDeadline) {
                        stage.audit.violation(format!("{} was not told that its server drains", guest.name()));
                    }
                }
                deeds.drained += 1;
                deeds.newcomers_refused += u64::from(refused);
                Ok(true)
            }
            Step::Deny => {
                if let Some(connection) = self.waiting.take() {
                    // It may have ended in the meantime; then it asks again.
                    let _ = stage.server.net().deny(connection, "the demo denies everybody the first time");
                }
                let denied = newcomer.end() == Some(DisconnectCode::ApprovalDenied);
                deeds.denied += u64::from(denied);
                if newcomer.was_connected() {
                    stage.audit.violation(format!("{} was connected without approval", newcomer.name()));
                }
                if !denied {
                    newcomer.come(&at.endpoint).map_err(Failure::failed)?;
                }
                Ok(denied)
            }
            Step::Approve => {
                newcomer.come(&at.endpoint).map_err(Failure::failed)?;
                if let Some(connection) = self.waiting.take() {
                    let _ = stage.server.net().approve(connection);
                }
                let approved = newcomer.is_in_game();
                deeds.approved += u64::from(approved);
                Ok(approved)
            }
            Step::Leave => {
                self.guests.iter_mut().for_each(Guest::leave);
                Ok(self.guests.iter_mut().all(Guest::is_alone) && !stage.server.has_connections_over(at.driver))
            }
            _ => Ok(self.guests.iter_mut().all(Guest::is_alone)),
        }
    }
}

/// Lets somebody try to get in where nobody may. False if it got in, which is a violation.
fn is_kept_out(newcomer: &mut Guest, at: &Listening, audit: &mut Audit) -> bool {
    // In-process the call itself is refused.
    let _ = newcomer.come(&at.endpoint);
    let entered = newcomer.was_connected();
    if entered {
        audit.violation(format!("{} got in at {}, which takes nobody", newcomer.name(), at.endpoint));
        newcomer.leave();
    }
    !entered
}

/// Changes the link of one driver under its connections.
fn set_link(net: &mut NetworkStreamDriver, driver: DriverId, link: LinkProfile) {
    let drivers = net.drivers_mut();
    if let Some(udp) = drivers.get_mut_as::<Simulated<UdpDriver>>(driver) {
        udp.set_both(link);
    } else if let Some(ipc) = drivers.get_mut_as::<Simulated<IpcDriver>>(driver) {
        ipc.set_both(link);
    }
}
