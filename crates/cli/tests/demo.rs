//! The demo as a user starts it.

mod support;

use serde_json::Value;
use support::Process;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a count"))
}

#[test]
fn the_demo_over_a_bad_network_violates_no_invariant() {
    let demo = Process::start(&["demo", "--duration", "3s", "--loss", "5%", "--json"]).finish();
    demo.succeeded();
    assert_eq!(demo.lines.len(), 1, "{:?}", demo.lines);
    let report = demo.json();
    assert_eq!(report["invariant_violations"], 0, "{:#}", report["violations"]);
    assert_eq!(report["clients"], 8);
    // Everybody was in the arena and moved there, for most of two seconds at 60 Hz.
    let arena = &report["arena"];
    assert_eq!(arena["players"], 8, "{arena:#}");
    assert!(number(&arena["applied"]) > 8 * 30, "{arena:#}");

    let (server, client) = (&report["total"]["server"], &report["total"]["client"]);
    // 8 clients, a quarter of which comes twice.
    for side in [server, client] {
        assert_eq!((&side["connects"], &side["reconnects"]), (&10.into(), &2.into()), "{side:#}");
        for state in ["Handshake", "ProtocolValidation", "Accepted", "NotInGame", "InGame", "Disconnected"] {
            assert_eq!(side["events"][state], 10, "{state}: {side:#}");
        }
    }
    assert_eq!((&server["events"]["Connecting"], &client["events"]["Connecting"]), (&0.into(), &10.into()));
    for (ended, [mine, theirs]) in [
        ("ConnectionClose", ["Remote", "Local"]),
        ("Kicked", ["Local", "Remote"]),
        ("ServerShutdown", ["Local", "Remote"]),
    ] {
        let count = match ended {
            "ConnectionClose" => 2,
            "Kicked" => 1,
            _ => 7,
        };
        assert_eq!(server["disconnects"][ended][mine], count, "{server:#}");
        assert_eq!(client["disconnects"][ended][theirs], count, "{client:#}");
    }

    for (from, to) in [(server, client), (client, server)] {
        let [sent, received] = [number(&from["sent"]["rpcs"]), number(&to["received"]["rpcs"])];
        assert!(received > 10 && received <= sent, "{received} of {sent} RPCs");
        assert!(number(&from["sent"]["bytes"]) > 0 && number(&to["received"]["bytes"]) > 0);
    }
    for (kind, from, to) in [("commands", client, server), ("snapshots", server, client)] {
        let [sent, received] = [number(&from["sent"][kind]), number(&to["received"][kind])];
        // 5 % are lost, and what arrives after the end of its connection; never more than half.
        assert!(received < sent && received * 2 > sent, "{received} of {sent} {kind}");
        assert_eq!(number(&to["sent"][kind]), 0);
    }
}

#[test]
fn in_the_chaos_the_clients_of_untouched_drivers_lose_nothing() {
    let demo = Process::start(&["demo", "--chaos", "--duration", "6s", "--loss", "5%", "--json"]).finish();
    let report = demo.json();
    assert_eq!(report["invariant_violations"], 0, "{:#}", report["violations"]);
    demo.succeeded();

    let chaos = &report["chaos"];
    for deed in [
        "stopped",
        "reopened",
        "newcomers_refused",
        "drained",
        "drain_notices",
        "removed_in_use",
        "removed_empty",
        "simulator_changes",
        "approval_changes",
        "approved",
        "denied",
        "resets_refused",
        "resets",
    ] {
        assert!(number(&chaos[deed]) > 0, "never {deed}: {chaos:#}");
    }
    for driver in ["udp", "ipc"] {
        assert!(number(&chaos["drivers_added"][driver]) > 0, "{chaos:#}");
    }
    let connections = &chaos["connections"];
    for (ended, [server, client]) in [
        ("DriverRemoved", ["Local", "Remote"]),
        ("DrainDeadline", ["Local", "Remote"]),
        ("ApprovalDenied", ["Local", "Remote"]),
        ("ConnectionClose", ["Remote", "Local"]),
    ] {
        assert!(number(&connections["server"]["disconnects"][ended][server]) > 0, "{ended}: {connections:#}");
        assert!(number(&connections["client"]["disconnects"][ended][client]) > 0, "{ended}: {connections:#}");
    }

    // The same as without chaos: 8 clients, a quarter of which comes twice, and one is kicked.
    assert_eq!(chaos["untouched_losses"], 0);
    let client = &report["total"]["client"];
    assert_eq!((&client["attempts"], &client["connects"]), (&10.into(), &10.into()), "{client:#}");
    let ends = serde_json::json!({
        "ConnectionClose": { "Local": 2 },
        "Kicked": { "Remote": 1 },
        "ServerShutdown": { "Remote": 7 },
    });
    assert_eq!(client["disconnects"], ends);
}

#[test]
fn without_chaos_the_report_does_not_speak_of_it() {
    let report = Process::start(&["demo", "--clients", "1", "--duration", "300ms", "--json"]).finish().json();
    assert_eq!(report.get("chaos"), None);
}

#[test]
fn the_chaos_is_summed_up_for_people_too() {
    let demo = Process::start(&["demo", "--chaos", "--clients", "2", "--drivers", "ipc", "--duration", "1s"]).finish();
    demo.succeeded();
    for part in ["chaos server  ", "chaos clients ", " resets", "0 losses on the drivers that nobody touched"] {
        assert!(demo.lines.iter().any(|line| line.contains(part)), "no {part:?} in {:#?}", demo.lines);
    }
}

#[test]
fn the_sums_of_the_drivers_are_the_total() {
    let report =
        Process::start(&["demo", "--clients", "5", "--duration", "1s", "--loss", "0", "--json"]).finish().json();
    assert_eq!(report["drivers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["ipc", "udp"]);
    for side in ["server", "client"] {
        for path in ["/connects", "/events/InGame", "/sent/rpcs", "/received/bytes", "/received/commands"] {
            let of = |tally: &Value| number(tally[side].pointer(path).unwrap());
            let sum = of(&report["drivers"]["udp"]) + of(&report["drivers"]["ipc"]);
            assert_eq!(of(&report["total"]), sum, "{side}{path}");
        }
    }
}

#[test]
fn the_demo_runs_over_each_driver_alone_and_with_a_single_client() {
    for drivers in ["udp", "ipc"] {
        let arguments = ["demo", "--clients", "1", "--drivers", drivers, "--duration", "1s", "--loss", "20%", "--json"];
        let report = Process::start(&arguments).finish();
        report.succeeded();
        let report = report.json();
        assert_eq!(report["invariant_violations"], 0, "{report:#}");
        assert_eq!(report["drivers"].as_object().unwrap().keys().collect::<Vec<_>>(), [drivers]);
        // It comes, leaves, comes back and is kicked.
        assert_eq!(report["total"]["client"]["connects"], 2, "{report:#}");
        assert_eq!(report["total"]["client"]["disconnects"]["Kicked"]["Remote"], 1, "{report:#}");
    }
}

#[test]
fn without_a_terminal_the_demo_prints_lines_and_a_summary_and_no_control_characters() {
    let demo = Process::start(&["demo", "--clients", "2", "--duration", "1s"]).finish();
    demo.succeeded();
    assert!(demo.lines.iter().any(|line| line.contains("of 2 clients in the game")), "{:?}", demo.lines);
    assert!(demo.lines.last().unwrap().starts_with("0 violations of the invariants"), "{:?}", demo.lines);
    assert!(!demo.lines.iter().any(|line| line.contains('\x1b')));
}

#[cfg(unix)]
#[test]
fn without_arguments_the_demo_goes_on_until_ctrl_c_and_then_ends_in_order() {
    let mut demo = Process::start(&[]);
    demo.until_line("everybody in the game", |line| line.contains("8 of 8 clients in the game"));
    demo.signal("INT");
    let demo = demo.finish();
    demo.succeeded();
    for driver in ["udp", "ipc"] {
        let clients = demo.lines.iter().find(|line| line.starts_with(&format!("{driver} clients")));
        assert!(clients.is_some_and(|line| line.contains("4 ServerShutdown (Remote)")), "{:?}", demo.lines);
    }
    assert!(demo.lines.last().unwrap().starts_with("0 violations of the invariants"), "{:?}", demo.lines);
}
