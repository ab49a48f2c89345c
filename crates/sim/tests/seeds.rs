//! The slice of the simulation that every change runs.

use std::time::Duration;

use netstream::transport::Mono;
use netstream_sim::{Case, Cut, Effect, Fault, Level, Mischief, Outcome, Plan, Report, Trace, shrink};

const SHORT: Duration = Duration::from_secs(20);

/// Runs seeds until the first failure, which is shown.
fn run(level: Level, seeds: std::ops::Range<u64>) -> Report {
    let mut report = Report::new(level);
    for seed in seeds {
        let case = Case::new(seed, level, SHORT);
        if let Some(violation) = report.run(&case).violation {
            let trace = case.run(Trace::Last).trace.join("\n");
            panic!("{} seed {seed}: {violation}\n{trace}", level.name());
        }
    }
    report
}

#[test]
fn cores_keep_every_rule_whatever_happens() {
    let report = run(Level::L1, 1_000_000..1_000_300);
    assert!(report.datagrams > 100_000, "a simulation that does nothing shows nothing: {report}");
}

#[test]
fn apps_keep_every_rule_whatever_happens() {
    let report = run(Level::L2, 1_000_000..1_000_100);
    assert!(report.datagrams > 10_000, "a simulation that does nothing shows nothing: {report}");
}

#[test]
fn a_seed_is_the_same_run_every_time_and_no_other_seed_is() {
    for level in [Level::L1, Level::L2] {
        let hash = |seed| Case::new(seed, level, SHORT).run(Trace::Hash).hash;
        assert_eq!(hash(7), hash(7));
        assert_ne!(hash(7), hash(8));
    }
}

#[test]
fn a_run_is_right_in_whatever_order_nodes_come_that_are_due_at_once() {
    for level in [Level::L1, Level::L2] {
        for seed in 2_000_000..2_000_020 {
            let case = Case::new(seed, level, SHORT);
            assert_eq!(case.run_permuted().violation, None, "{} seed {seed}", level.name());
        }
    }
}

#[test]
fn an_id_that_is_taken_over_with_a_ticket_is_not_taken_for_two_connections_with_one() {
    // The old connection says goodbye while the new one has the id: that was once held against it.
    assert_eq!(Case::new(237, Level::L2, Duration::from_secs(60)).run(Trace::Hash).violation, None);
}

#[test]
fn clients_that_misbehave_do_not_slow_the_others_down() {
    // I35: the same calm game with and without rogues, half as many as there are players.
    let calm = Plan::calm(Level::L1, Duration::from_secs(30), 8);
    let rogue = |mischief| Fault {
        effect: Effect::Rogue { mischief, rate: 100.0 },
        start: Mono::ZERO + Duration::from_secs(2),
        length: Duration::from_secs(28),
        node: None,
    };
    let mut rough = calm.clone();
    rough.faults =
        [Mischief::Nonsense, Mischief::LyingAcks, Mischief::NeverAcks, Mischief::SwapChallenges].map(rogue).into();
    let (calm, rough) = (calm.run(), rough.run());
    assert_eq!((&calm.violation, &rough.violation), (&None, &None));
    assert!(rough.injected.of("rogue packet") > 100, "{:?}", rough.injected);
    let messages = |outcome: &Outcome| outcome.sometimes.of("messages that honest players got");
    assert!(messages(&calm) > 20_000, "{}", messages(&calm));
    assert!(messages(&rough) * 10 >= messages(&calm) * 9, "{} of {}", messages(&rough), messages(&calm));
}

#[test]
fn a_play_gives_the_same_story_over_every_driver() {
    for seed in 0..10 {
        assert_eq!(Case::new(seed, Level::L2, SHORT).run_over_drivers(), None, "seed {seed}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn a_driver_that_does_not_tell_of_its_servers_end_gives_another_story() {
    let found = (0..20).find_map(|seed| Case { mutant: 30, ..Case::new(seed, Level::L2, SHORT) }.run_over_drivers());
    assert_eq!(found.map(|violation| violation.invariant), Some(netstream_sim::Invariant::I45));
}

#[test]
fn a_server_that_loses_everybody_at_once_does_not_flood_the_log() {
    let mut plan = Plan::calm(Level::L2, Duration::from_secs(12), 24);
    let gone = |seconds| Fault {
        effect: Effect::DriverRemoved,
        start: Mono::ZERO + Duration::from_secs(seconds),
        length: Duration::from_secs(60),
        node: Some(0),
    };
    // Both of its drivers: one has all the players.
    plan.faults = vec![gone(6), gone(7)];
    let outcome = plan.run();
    assert_eq!(outcome.violation, None);
    assert_eq!(outcome.sometimes.of("Server: ServerShutdown Local"), 24);
}

#[test]
fn a_report_is_the_same_for_any_number_of_threads() {
    let report = |jobs| {
        let mut report = Report::new(Level::L1);
        let mut seeds = Vec::new();
        let cases = (0..6).map(|seed| Case::new(seed, Level::L1, Duration::from_secs(2)));
        report.run_all(cases, jobs, |_, case, _| seeds.push(case.seed));
        assert_eq!(seeds, [0, 1, 2, 3, 4, 5]);
        (report.hash, report.to_string())
    };
    assert_eq!(report(1), report(3));
}

#[test]
fn watching_a_run_does_not_change_it() {
    let case = Case::new(11, Level::L1, SHORT);
    let (silent, traced) = (case.run(Trace::Hash), case.run(Trace::Last));
    assert_eq!((silent.hash, silent.entries), (traced.hash, traced.entries));
    assert!(!traced.trace.is_empty());
}

#[test]
fn leaving_a_fault_out_leaves_the_others_as_they_were() {
    let full = (0..).map(|seed| Plan::new(seed, Level::L1, SHORT)).find(|plan| plan.faults.len() > 4).unwrap();
    let cut = Cut { faults: Some(vec![0, 3]), clients: Some(1), length: None };
    let smaller = full.clone().cut(&cut);
    assert_eq!(smaller.faults, [full.faults[0].clone(), full.faults[3].clone()]);
    assert_eq!(smaller.clients, 1);
}

#[test]
fn all_kinds_of_faults_are_drawn() {
    let mut names = std::collections::BTreeSet::new();
    for (seed, level) in (0..600).zip([Level::L1, Level::L2].into_iter().cycle()) {
        names.extend(Plan::new(seed, level, SHORT).faults.iter().map(|fault| fault.effect.name()));
    }
    assert_eq!(names.len(), 43, "{names:?}");
}

#[test]
fn calm_runs_exist_and_so_do_storms() {
    let plans: Vec<_> = (0..200).map(|seed| Plan::new(seed, Level::L1, SHORT)).collect();
    assert!(plans.iter().any(|plan| plan.faults.is_empty()));
    assert!(plans.iter().any(|plan| plan.faults.len() > 15));
    assert!(plans.iter().any(|plan| plan.heals_at.is_some()) && plans.iter().any(|plan| plan.heals_at.is_none()));
}

#[test]
fn what_does_not_fail_is_not_made_smaller() {
    let case = Case::new(3, Level::L1, Duration::from_secs(2));
    let shrunk = shrink(&case, netstream_sim::Invariant::I19, 3);
    assert_eq!(shrunk.case, case);
    assert!(shrunk.runs <= 3);
}

#[test]
fn faults_end_before_the_network_is_well() {
    for seed in 0..200 {
        let plan = Plan::new(seed, Level::L1, SHORT);
        let Some(healed) = plan.heals_at else { continue };
        let late = plan.faults.iter().find(|fault| fault.end() > healed && !matches!(fault.effect, Effect::PortChange));
        assert_eq!(late, None);
    }
}
