//! Every run of small worlds is right, and each rule of the handshake is needed.

use std::collections::BTreeSet;

use netstream::ConnectionState;
use netstream::state::TRANSITIONS;
use netstream_sim::model::explore;
use netstream_sim::model::handshake::{Handshake, Rule};
use netstream_sim::model::lifecycle::Lifecycle;

/// More states than any of these worlds has.
const MOST: usize = 1_000_000;

#[test]
fn no_attacker_and_no_restart_breaks_the_handshake() {
    let explored = explore(&Handshake::quick(None), MOST);
    assert_eq!(explored.counterexample, None);
    assert!(explored.complete && explored.states > 1000, "{explored:?}");
}

#[test]
fn without_any_one_of_its_rules_the_handshake_can_be_attacked() {
    for (rule, broken) in Rule::ALL.into_iter().zip(["I14", "I14", "I15", "I14", "I8", "I14", "I13"]) {
        let (way, what) =
            explore(&Handshake::quick(Some(rule)), MOST).counterexample.unwrap_or_else(|| panic!("{rule:?} is idle"));
        assert!(what.starts_with(broken), "without {rule:?}: {what} after {way:#?}");
    }
}

#[test]
fn the_table_of_the_lifecycle_does_what_the_lifecycle_says_in_every_run_of_two_ends() {
    let mut taken = BTreeSet::new();
    for (approval, fits) in [(false, true), (true, true), (false, false)] {
        let world = Lifecycle::new(approval, fits);
        let explored = explore(&world, MOST);
        assert_eq!(explored.counterexample, None);
        assert!(explored.complete);
        taken.append(&mut world.taken());
    }
    let idle = (0..TRANSITIONS.len()).filter(|row| !taken.contains(row)).map(|row| TRANSITIONS[row]);
    // Accepted is left in the very step in which it is reached: what else it answers nobody can ask.
    let idle: Vec<_> = idle.filter(|row| row.from != ConnectionState::Accepted).collect();
    assert!(idle.is_empty(), "rows that no run takes: {idle:#?}");
}
