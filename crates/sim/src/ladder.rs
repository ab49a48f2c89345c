//! Grading: well-known bugs are switched on one by one; how soon is each found?
//!
//! Each rung is a bug that other network libraries had, at the place in our code where it would be. A simulator whose
//! silence is to count for something finds them.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::invariant::Violation;
use crate::plan::Level;
use crate::run::{Case, Trace};
use crate::spread::spread;

/// A well-known bug.
#[derive(Clone, Copy, Debug)]
pub struct Rung {
    /// Its number in the test design, and in the code (`mutant(7)`).
    pub number: u8,
    /// What goes wrong.
    pub bug: &'static str,
    /// Where it can be seen; `None` where the code that could have it does not exist.
    pub level: Option<Level>,
}

const L1: Option<Level> = Some(Level::L1);
const L2: Option<Level> = Some(Level::L2);

const fn rung(number: u8, level: Option<Level>, bug: &'static str) -> Rung {
    Rung { number, bug, level }
}

/// The bug ladder.
pub const LADDER: &[Rung] = &[
    rung(1, L1, "the end of a connection is told that never was told of"),
    rung(2, L1, "both ends leave at once and the end gets lost"),
    rung(3, L2, "the state shows the end one update before the event"),
    rung(4, L1, "data behind a lost last handshake packet is dropped"),
    rung(5, L1, "a duplicate of reliable data stalls the window"),
    rung(6, L1, "the last packet gets lost, nothing more is sent, and all stands still"),
    rung(7, L1, "what was acknowledged is sent again"),
    rung(8, L1, "a wrap at 16 bits takes new messages for old ones"),
    rung(9, L1, "a window over 64 spoils what is sent a second time"),
    rung(10, L1, "a connection that closes with unsent data leaks its place"),
    rung(11, L2, "the id of who was disconnected by us is never free again"),
    rung(12, L2, "an RPC arrives on a connection that was ended"),
    rung(13, L2, "the handshake passes without the client's version"),
    rung(14, L2, "several ends in one update crash"),
    rung(15, L1, "what is sent right before closing is lost"),
    rung(16, None, "a sleeping relay loses the end"),
    rung(17, L1, "packet numbers of a server begin anew when it restarts"),
    rung(18, L1, "two counters share the nonces of one key"),
    rung(19, L1, "the replay window adds, and overflows"),
    rung(20, L1, "duplicates are taken in"),
    rung(21, L1, "the index of a fragment is used before it is compared"),
    rung(22, L1, "messages without a byte cost nothing"),
    rung(23, L1, "memory is reserved by the count that a fragment tells"),
    rung(24, L1, "ranges of acknowledgements are walked number by number"),
    rung(25, L1, "acknowledgements of what was never sent are taken"),
    rung(26, L1, "a challenge is not bound to its token and address"),
    rung(27, L1, "a token belongs to who shows it first"),
    rung(28, L1, "every unknown sender gets a place in a table"),
    rung(29, L2, "a datagram without a byte ends the reading"),
    rung(30, L2, "the in-process client never hears of its server's end"),
];

/// What came of a rung.
#[derive(Clone, Debug)]
pub struct Climb {
    /// Which.
    pub rung: Rung,
    /// How many seeds it took, and what was seen; `None` if no seed found it.
    pub caught: Option<(u64, Violation)>,
}

/// How long a run takes in virtual time.
const LENGTH: Duration = Duration::from_secs(60);

/// Looks for the bug in one seed after the other.
///
/// A violation counts if the same seed without the bug has none.
pub fn climb(rung: Rung, seeds: Range<u64>) -> Climb {
    let first = seeds.start;
    let caught = rung.level.and_then(|level| {
        seeds.into_iter().find_map(|seed| {
            let right = Case::new(seed, level, LENGTH);
            let case = Case { mutant: rung.number, ..right.clone() };
            let violation = case.run(Trace::Hash).violation?;
            right.run(Trace::Hash).violation.is_none().then_some((seed - first + 1, violation))
        })
    });
    Climb { rung, caught }
}

/// Climbs several rungs on so many threads; `look` sees them in their order.
pub fn climb_all(rungs: &[Rung], seeds: Range<u64>, jobs: usize, mut look: impl FnMut(Climb)) {
    spread(rungs.iter(), jobs, |rung| climb(**rung, seeds.clone()), |_, climb| look(climb));
}

impl fmt::Display for Climb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rung { number, bug, level } = self.rung;
        let name = format!("M{number}");
        let level_name = level.map_or("-", Level::name);
        match (&self.caught, level) {
            (Some((seeds, violation)), _) => {
                write!(f, "{name:<4} {level_name}  {seeds:>5}  {:<4} {bug}", violation.invariant.name())
            }
            (None, Some(_)) => write!(f, "{name:<4} {level_name}  never  -    {bug}"),
            (None, None) => write!(f, "{name:<4} {level_name}     --  -    {bug}: no such code here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_numbered_from_one_without_gap() {
        assert!(LADDER.iter().zip(1..).all(|(rung, number)| rung.number == number));
        assert_eq!(LADDER.len(), 30);
    }
}
