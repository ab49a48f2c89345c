//! Many at once, and many one after the other, over real sockets and between processes.

mod support;

use serde_json::Value;
use support::{Process, Server};

/// Starts bots against a server, and returns what they print at the end.
fn bots(server: &Server, more: &[&str]) -> Value {
    let arguments = ["bots", &server.endpoint, "--join-code", &server.join_code, "--json"];
    let bots = Process::start(&[&arguments, more].concat()).finish();
    bots.succeeded();
    bots.json()
}

#[cfg(unix)]
fn stop(server: Server) -> Value {
    server.process.signal("TERM");
    let server = server.process.finish();
    server.succeeded();
    server.json()
}

#[cfg(unix)]
#[test]
fn three_hundred_bots_stay_together() {
    let server = Server::start(&["--max-connections", "300", "--tick-rate", "30", "--rate", "10", "--figures", "1s"]);
    let rate = ["--rate", "10", "--size", "60", "--idle-timeout", "60s"];
    let report = bots(&server, &[&["--count", "300", "--ramp", "300", "--duration", "2s"], &rate[..]].concat());
    assert_eq!(report["event"], "summary", "{report}");
    assert_eq!((&report["fewest_playing"], &report["connects"]), (&300.into(), &300.into()), "{report}");
    assert_eq!(report["disconnects"]["ConnectionClose"]["Local"], 300, "{report}");
    assert!(report["received"]["snapshots"].as_u64() >= Some(300), "{report}");
    let summary = stop(server);
    assert_eq!(summary["disconnects"]["ConnectionClose"]["Remote"], 300, "{summary}");
    assert!(summary["received"]["commands"].as_u64() >= Some(300), "{summary}");
    assert!(summary["figures"]["update_ms"]["p99"].as_f64() > Some(0.0), "{summary}");
}

#[cfg(unix)]
#[test]
fn bots_that_come_and_go_are_all_let_in_and_none_is_left() {
    let server = Server::start(&["--max-connections", "100", "--figures", "1s"]);
    let report = bots(&server, &["--count", "40", "--ramp", "400", "--churn", "200", "--idle-timeout", "60s"]);
    assert_eq!((&report["attempts"], &report["connects"]), (&200.into(), &200.into()), "{report}");
    assert_eq!(report["disconnects"]["ConnectionClose"]["Local"], 200, "{report}");
    let summary = stop(server);
    assert_eq!(summary["connects"], 200, "{summary}");
}

#[test]
fn a_server_that_prints_figures_prints_nothing_of_single_connections() {
    let mut server = Server::start(&["--figures", "100ms"]);
    let mut client = server.join(&[]);
    client.until_state("InGame");
    let figures = server.process.until("a player", |line| line["playing"] == 1);
    assert_eq!(figures["event"], "figures");
    assert!(figures["updates_per_second"].as_f64() > Some(0.0), "{figures}");
    assert!(figures["metrics"]["datagrams_received_total"].as_u64() > Some(0), "{figures}");
    client.kill();
    server.process.kill();
    let lines = server.process.finish().lines;
    assert!(lines.iter().all(|line| !line.contains("\"connection\"")), "{lines:#?}");
}

#[cfg(target_os = "linux")]
#[test]
fn too_few_open_files_are_said_before_anything_starts() {
    let script = format!(
        "ulimit -n 100; exec {} bots udp://127.0.0.1:9 --join-code 'hold the line please' --count 200",
        env!("CARGO_BIN_EXE_netstream")
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("200 bots need 264 open files") && complaint.contains("100"), "{complaint}");
}
