//! Who does what when.

use std::collections::VecDeque;
use std::time::Duration;

use super::cast::Cast;
use crate::failure::Failure;

/// How long one act takes if the demo has no end; then the next one begins.
const ACT: Duration = Duration::from_secs(10);

/// The most time between two clients that connect at the beginning.
const STAGGER: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Connect,
    Leave,
    Kicked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    at: Duration,
    deed: Deed,
}

/// What each client still has to do. A deed that is not possible yet is done as soon as it is.
#[derive(Debug)]
pub(super) struct Script {
    /// In the order of time, for each client.
    clients: Vec<VecDeque<Step>>,
    /// When the next act begins, if there is always another one.
    next_act: Option<Duration>,
}

impl Script {
    /// All connect; a quarter leave and rejoin; one is kicked. Without `duration` all but the first happens again and
    /// again, and the one who was kicked comes back.
    pub(super) fn new(clients: usize, duration: Option<Duration>) -> Self {
        let length = duration.unwrap_or(ACT);
        let stagger = STAGGER.min(length / 6 / clients as u32);
        let connects =
            (0..clients as u32).map(|index| VecDeque::from([Step { at: stagger * index, deed: Deed::Connect }]));
        let mut script = Self { clients: connects.collect(), next_act: duration.is_none().then_some(ACT) };
        script.act(Duration::ZERO, length);
        script
    }

    fn act(&mut self, start: Duration, length: Duration) {
        let count = self.clients.len();
        for leaver in leavers(count) {
            let leaves = start + length * 35 / 100;
            self.clients[leaver].push_back(Step { at: leaves, deed: Deed::Leave });
            self.clients[leaver].push_back(Step { at: leaves + length / 10, deed: Deed::Connect });
        }
        let kicked = (0..count).rev().find(|index| !leavers(count).any(|leaver| leaver == *index)).unwrap_or(0);
        self.clients[kicked].push_back(Step { at: start + length * 60 / 100, deed: Deed::Kicked });
        if self.next_act.is_some() {
            self.clients[kicked].push_back(Step { at: start + length * 90 / 100, deed: Deed::Connect });
        }
    }

    /// Does what is due.
    pub(super) fn play(&mut self, elapsed: Duration, cast: &mut Cast) -> Result<(), Failure> {
        if let Some(next) = self.next_act.filter(|next| elapsed >= *next) {
            self.next_act = Some(next + ACT);
            self.act(next, ACT);
        }
        for (index, steps) in self.clients.iter_mut().enumerate() {
            let Some(step) = steps.front().filter(|step| step.at <= elapsed) else { continue };
            let done = match step.deed {
                Deed::Connect => cast.connect(index)?,
                Deed::Leave => cast.leave(index),
                Deed::Kicked => cast.kick(index),
            };
            if done {
                steps.pop_front();
            }
        }
        Ok(())
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.clients.iter().all(VecDeque::is_empty)
    }
}

/// A quarter of the clients, at least one, over all drivers.
fn leavers(clients: usize) -> impl Iterator<Item = usize> {
    (0..(clients / 4).max(1)).map(move |quarter| (quarter * 4 + quarter % 4).min(clients - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deeds(script: &Script) -> Vec<Vec<Deed>> {
        script.clients.iter().map(|steps| steps.iter().map(|step| step.deed).collect()).collect()
    }

    use Deed::{Connect, Kicked, Leave};

    #[test]
    fn a_quarter_leaves_and_rejoins_and_another_one_is_kicked() {
        let script = Script::new(8, Some(Duration::from_secs(10)));
        let mut expected = vec![vec![Connect]; 8];
        expected[0].extend([Leave, Connect]);
        expected[5].extend([Leave, Connect]);
        expected[7].push(Kicked);
        assert_eq!(deeds(&script), expected);
    }

    #[test]
    fn a_single_client_does_it_all() {
        assert_eq!(deeds(&Script::new(1, Some(Duration::from_secs(1)))), [[Connect, Leave, Connect, Kicked]]);
    }

    #[test]
    fn everything_is_due_within_the_duration_and_in_order() {
        for clients in [1, 2, 3, 4, 5, 8, 13, 100, 16_384] {
            let script = Script::new(clients, Some(Duration::from_millis(900)));
            for steps in &script.clients {
                assert!(steps.iter().is_sorted_by_key(|step| step.at));
                assert!(steps.back().is_some_and(|step| step.at < Duration::from_millis(900)));
            }
        }
    }
}
