//! Explicit-state models: small worlds of which every run there can be is looked at.
//!
//! A simulation meets what its seeds lead to; a model meets everything, of a world that is small enough. [`handshake`] is
//! the way in, with attackers and restarts; [`lifecycle`] is two Worlds with one connection between them, held beside the
//! production table step by step.

pub mod handshake;
pub mod lifecycle;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;

/// A world of finitely many states.
pub trait Model {
    /// One state.
    type State: Clone + Eq + Hash + Debug;

    /// Where all runs begin.
    fn start(&self) -> Self::State;

    /// Every next step from here: what is done, and where it leads.
    fn steps(&self, state: &Self::State, steps: &mut Vec<(String, Self::State)>);

    /// Which rule does not hold here, if any.
    fn wrong(&self, state: &Self::State) -> Option<String>;
}

/// What came of looking at all states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explored {
    /// How many states there are, or were looked at.
    pub states: usize,
    /// Whether these are all.
    pub complete: bool,
    /// The shortest way to a state that is wrong, and what is wrong there.
    pub counterexample: Option<(Vec<String>, String)>,
}

/// Looks at all states breadth first, at most at `most`, until one is wrong.
pub fn explore<M: Model>(model: &M, most: usize) -> Explored {
    let start = model.start();
    let mut known = HashMap::from([(start.clone(), 0usize)]);
    let mut states = vec![start];
    // By state: where it was reached from, and by what.
    let mut ways: Vec<(usize, String)> = vec![(0, String::new())];
    let mut steps = Vec::new();
    let mut at = 0;
    while at < states.len() {
        if let Some(what) = model.wrong(&states[at]) {
            let mut way = Vec::new();
            let mut place = at;
            while place != 0 {
                way.push(std::mem::take(&mut ways[place].1));
                place = ways[place].0;
            }
            way.reverse();
            return Explored { states: states.len(), complete: false, counterexample: Some((way, what)) };
        }
        model.steps(&states[at], &mut steps);
        for (what, state) in steps.drain(..) {
            if states.len() >= most {
                return Explored { states: states.len(), complete: false, counterexample: None };
            }
            if let Entry::Vacant(entry) = known.entry(state) {
                states.push(entry.key().clone());
                entry.insert(states.len() - 1);
                ways.push((at, what));
            }
        }
        at += 1;
    }
    Explored { states: states.len(), complete: true, counterexample: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that grows by 2 or 3, up to a limit.
    struct Stairs;

    impl Model for Stairs {
        type State = u32;

        fn start(&self) -> u32 {
            0
        }

        fn steps(&self, state: &u32, steps: &mut Vec<(String, u32)>) {
            steps.extend([2, 3].map(|by| (format!("+{by}"), (state + by).min(20))));
        }

        fn wrong(&self, state: &u32) -> Option<String> {
            (*state == 7).then(|| "seven".to_owned())
        }
    }

    #[test]
    fn the_shortest_way_to_what_is_wrong_is_found() {
        let (way, what) = explore(&Stairs, 100).counterexample.unwrap();
        assert_eq!((way.len(), what.as_str()), (3, "seven"));
    }

    #[test]
    fn too_many_states_are_not_all() {
        let explored = explore(&Stairs, 3);
        assert!(!explored.complete && explored.counterexample.is_none());
    }
}
