//! Invariants that are looked at from outside, now and then or at the end.

use std::time::Duration;

use netstream::transport::Mono;
use netstream::transport::channel::LinkStats;

use super::ledger::Ledger;
use crate::invariant::Invariant;
use crate::plan::Plan;

/// A probe for unacknowledged data waits for a second, or for as long as the link takes a round trip to be at most.
const PROBE: Duration = Duration::from_secs(1);

/// How much later it may leave: a tick of the slowest client, and two looks at it.
const PROBE_LATE: Duration = Duration::from_secs(3);

/// The most that may wait in one connection: the budgets of all channels, and a message of the largest size each.
const QUEUES: usize = 2 << 20;

/// Round-trip times above this are not believed.
const MAX_RTT: Duration = Duration::from_secs(120);

/// I29 and I33: figures in range.
pub(super) fn check_stats(now: Mono, stats: &LinkStats, who: &str, ledger: &mut Ledger) {
    let times = [stats.rtt, stats.min_rtt, stats.jitter];
    let in_range = (0.0..=1.0).contains(&stats.loss) && times.into_iter().flatten().all(|time| time <= MAX_RTT);
    if !in_range {
        ledger.violate(now, Invariant::I29, format!("{who}: {stats:?}"));
    }
    if stats.reliable_queued > QUEUES {
        ledger.violate(now, Invariant::I33, format!("{who}: {} B are queued", stats.reliable_queued));
    }
    let sometimes = &mut ledger.record.sometimes;
    sometimes.add("unreliable queue full", stats.dropped_full.min(1));
    sometimes.add("sequenced message too late", stats.dropped_stale.min(1));
    sometimes.add("reassembly evicted", stats.reassembly_evicted.min(1));
    sometimes.add("reassembly expired", stats.reassembly_expired.min(1));
    sometimes.add("reliable data refused for want of room", stats.refused_full.min(1));
    sometimes.add("reliable data sent again", stats.bytes_resent.min(1));
    sometimes.add("duplicate packet", stats.packets_duplicate.min(1));
}

/// How many packets a connection has sent and received, and since when and when last that changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stalled {
    sent: u64,
    received: u64,
    since: Mono,
    heard: Mono,
}

/// I28: what is not acknowledged is probed for, and what the peer has room for is sent.
pub(super) fn check_progress(
    now: Mono,
    awake_since: Mono,
    stats: &LinkStats,
    stalled: &mut Option<Stalled>,
    who: &str,
    ledger: &mut Ledger,
) {
    match stalled {
        _ if stats.reliable_queued == 0 => *stalled = None,
        Some(Stalled { sent, received, since, heard }) if *sent == stats.packets_sent => {
            if std::mem::replace(received, stats.packets_received) != stats.packets_received {
                *heard = now;
            }
            // With nothing under way it may wait to hear that there is room, unless it hears other things.
            let until = if stats.in_flight == 0 { *heard } else { now };
            let waited = until.since((*since).max(awake_since));
            let round_trip = stats.rtt.unwrap_or_default() + stats.jitter.unwrap_or_default() * 4;
            if waited > PROBE.max(round_trip) + PROBE_LATE {
                let what = format!("{who}: {} B wait since {waited:?} without a packet", stats.reliable_queued);
                ledger.violate(now, Invariant::I28, what);
            }
        }
        _ => {
            let (sent, received) = (stats.packets_sent, stats.packets_received);
            *stalled = Some(Stalled { sent, received, since: now, heard: now });
        }
    }
}

/// I25: a client has nothing left to deliver, so the server has got all of it.
pub(super) fn check_acks_up(now: Mono, attempt: usize, queued: usize, ledger: &mut Ledger) {
    let Some(bond) = ledger.bonds.iter().rposition(|bond| bond.attempt == attempt) else { return };
    // Who is about to leave takes nothing more in.
    if queued == 0
        && ledger.bonds[bond].over_by.is_none()
        && let Some(what) = ledger.bonds[bond].received.missing(&ledger.attempts[attempt].sent)
    {
        ledger.violate(
            now,
            Invariant::I25,
            format!("attempt {attempt} has nothing left to deliver; bond {bond}: {what}"),
        );
    }
}

/// I25 the other way.
pub(super) fn check_acks_down(now: Mono, bond: usize, queued: usize, ledger: &mut Ledger) {
    let attempt = ledger.bonds[bond].attempt;
    if queued == 0
        && ledger.attempts[attempt].over_by.is_none()
        && ledger.attempts[attempt].client != super::ledger::ROGUE
        && let Some(what) = ledger.attempts[attempt].received.missing(&ledger.bonds[bond].sent)
    {
        ledger.violate(
            now,
            Invariant::I25,
            format!("bond {bond} has nothing left to deliver; attempt {attempt}: {what}"),
        );
    }
}

/// I9: who has been asked to end is over in time, whatever the other end does.
pub(super) fn check_endings(now: Mono, plan: &Plan, ledger: &mut Ledger) {
    let stops = plan.stops();
    let late = |over_by: Option<Mono>| over_by.is_some_and(|by| now > by + stops);
    let attempt = ledger.attempts.iter().position(|attempt| attempt.ended.is_none() && late(attempt.over_by));
    let bond = ledger.bonds.iter().position(|bond| bond.ended.is_none() && late(bond.over_by));
    if attempt.is_some() || bond.is_some() {
        let what = format!("asked to end and not over: attempt {attempt:?} bond {bond:?}");
        ledger.violate(now, Invariant::I9, what);
    }
}

/// I9: who is alone notices it.
pub(super) fn check_loneliness(now: Mono, plan: &Plan, ledger: &mut Ledger) {
    // Somebody who repeats old packets can keep an end alive for as many of them as got lost before.
    if plan.has_replays() {
        return;
    }
    let stops = plan.stops();
    let slowest_clock = 1.2;
    let idle = plan.workload.idle_timeout.mul_f64(slowest_clock);
    // A goodbye may linger before it is given up.
    let patience = idle
        + plan.workload.linger.max(Duration::from_secs(5))
        + plan.longest_travel()
        + stops
        + Duration::from_secs(2);
    let over = |ended: Mono| now.since(ended) > patience;
    let mut lonely = None;
    for (index, bond) in ledger.bonds.iter().enumerate() {
        let attempt = &ledger.attempts[bond.attempt];
        match (&bond.ended, &attempt.ended) {
            (None, Some((ended, _))) if over(*ended) => {
                lonely = Some(format!(
                    "bond {index} still there, attempt {} ended {:?} ago",
                    bond.attempt,
                    now.since(*ended)
                ));
            }
            (Some((ended, _)), None) if attempt.bond == Some(index) && over(*ended) => {
                lonely = Some(format!(
                    "attempt {} still there, bond {index} ended {:?} ago",
                    bond.attempt,
                    now.since(*ended)
                ));
            }
            _ => {}
        }
    }
    if let Some(what) = lonely {
        ledger.violate(now, Invariant::I9, what);
    }
}

/// I8: after a while on a well network everybody is in who can be.
pub(super) fn check_everybody_is_in(now: Mono, plan: &Plan, ledger: &mut Ledger, current: &[Option<usize>]) {
    let workload = &plan.workload;
    // With fewer places or identities than players somebody is always out, and rightly so.
    if workload.capacity < plan.clients + 8 || workload.identities < plan.clients || workload.identity_joins < 1000 {
        return;
    }
    for (client, attempt) in current.iter().enumerate() {
        if !attempt.is_some_and(|attempt| ledger.attempts[attempt].is_up()) {
            let last = ledger.attempts.iter().rev().find(|attempt| attempt.client == client);
            let last = last.map(|attempt| (attempt.started, &attempt.ended));
            let what = format!("client {client} is not in; its last attempt: {last:?}");
            return ledger.violate(now, Invariant::I8, what);
        }
    }
}

/// I20: what was sent reliably has arrived.
pub(super) fn check_everything_arrived(now: Mono, ledger: &mut Ledger, settled: Mono) {
    let mut missing = None;
    for (index, bond) in ledger.bonds.iter().enumerate() {
        let attempt = &ledger.attempts[bond.attempt];
        let is_old = attempt.connected.is_some_and(|connected| connected < settled);
        if bond.ended.is_some() || !attempt.is_up() || !is_old {
            continue;
        }
        let up = bond
            .received
            .missing(&attempt.sent)
            .map(|what| format!("attempt {} to bond {index}: {what}", bond.attempt));
        let down = attempt
            .received
            .missing(&bond.sent)
            .map(|what| format!("bond {index} to attempt {}: {what}", bond.attempt));
        missing = missing.or(up).or(down);
    }
    if let Some(what) = missing {
        ledger.violate(now, Invariant::I20, what);
    }
}

/// I2, I6 and I20 after everybody has left a well network: each end knows of it, in the right words, and the last words
/// have arrived.
pub(super) fn check_farewells(now: Mono, ledger: &mut Ledger, left_at: Mono) {
    let mut wrong = None;
    for (index, attempt) in ledger.attempts.iter().enumerate() {
        if attempt.ended.is_none() {
            wrong = Some((Invariant::I2, format!("attempt {index} has left and is not over")));
        }
        // Only those who were up when all were asked to leave.
        let left_now = attempt.connected.is_some_and(|connected| connected < left_at)
            && attempt.ended.as_ref().is_some_and(|(ended, reason)| *ended >= left_at && reason.is_some());
        let Some(goodbye) = attempt.goodbyes.last().filter(|_| left_now) else { continue };
        let Some(bond) = ledger.bonds.iter().rev().find(|bond| bond.attempt == index) else { continue };
        match &bond.ended {
            Some((_, Some(reason))) if *reason == goodbye.seen_by_peer() => {
                if let Some(what) = bond.received.missing(&attempt.sent) {
                    wrong = Some((Invariant::I20, format!("last words of attempt {index}: {what}")));
                }
            }
            // The server or the network ended it first.
            Some((ended, _)) if *ended < left_at + Duration::from_millis(500) => {}
            other => wrong = Some((Invariant::I6, format!("attempt {index} said {goodbye}, the server saw {other:?}"))),
        }
    }
    for (index, bond) in ledger.bonds.iter().enumerate() {
        if bond.ended.is_none() {
            wrong = Some((Invariant::I32, format!("bond {index} {:?} is left over", bond.id)));
        }
    }
    if let Some((rule, what)) = wrong {
        ledger.violate(now, rule, what);
    }
}
