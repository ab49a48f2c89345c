//! A server and clients as separate processes over a real socket.

mod support;

use support::{Process, Server};

#[test]
fn a_client_joins_plays_and_leaves() {
    let mut server = Server::start(&[]);
    let mut client = server.join(&["--duration", "1s"]);
    server.process.until_state("InGame");
    assert_eq!(server.process.until("a greeting", |line| line["event"] == "chat")["text"], "hello from player 1");
    assert_eq!(client.until_state("Accepted")["network_id"], 1);
    assert_eq!(server.process.until_disconnected(), "ConnectionClose Remote");

    let client = client.finish();
    client.succeeded();
    let summary = client.json();
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["disconnects"]["ConnectionClose"]["Local"], 1);
    assert!(summary["sent"]["commands"].as_u64() > Some(0), "{summary}");
    assert!(summary["received"]["snapshots"].as_u64() > Some(0), "{summary}");
}

#[test]
fn a_client_sees_every_state_on_its_way() {
    let server = Server::start(&[]);
    let client = server.join(&["--duration", "500ms"]).finish();
    let states: Vec<String> = client
        .lines
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["event"] == "connection")
        .map(|line| line["state"].as_str().unwrap().to_owned())
        .collect();
    let way = ["Connecting", "Handshake", "ProtocolValidation", "Accepted", "NotInGame", "InGame"];
    assert_eq!(states, [&way[..], &["Disconnecting", "Disconnected"]].concat());
}

#[test]
fn a_killed_server_is_noticed_by_its_client() {
    let mut server = Server::start(&[]);
    let mut client = server.join(&["--idle-timeout", "2s"]);
    client.until_state("InGame");
    server.process.kill();
    assert_eq!(client.until_disconnected(), "Timeout Link");
    client.finish().failed(1, &[&server.endpoint, "Timeout", "fell silent"]);
}

#[test]
fn a_killed_client_is_noticed_by_its_server() {
    let mut server = Server::start(&["--idle-timeout", "2s"]);
    let mut client = server.join(&[]);
    client.until_state("InGame");
    client.kill();
    assert_eq!(server.process.until_disconnected(), "Timeout Link");
}

#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_stop_says_goodbye() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let mut client = server.join(&[]);
        client.until_state("InGame");
        server.process.signal(signal);
        assert_eq!(client.until_disconnected(), "ServerShutdown Remote");
        client.finish().failed(1, &["ServerShutdown", "shutting down"]);

        assert_eq!(server.process.until_disconnected(), "ServerShutdown Local");
        let server = server.process.finish();
        server.succeeded();
        assert_eq!(server.json()["disconnects"]["ServerShutdown"]["Local"], 1);
    }
}

#[cfg(unix)]
#[test]
fn a_client_that_is_told_to_stop_says_goodbye() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let mut client = server.join(&[]);
        client.until_state("InGame");
        client.signal(signal);
        assert_eq!(server.process.until_disconnected(), "ConnectionClose Remote");
        client.finish().succeeded();
    }
}

#[test]
fn a_wrong_join_code_opens_nothing_and_harms_nobody() {
    let mut server = Server::start(&[]);
    let wrong = ["join", &server.endpoint, "--join-code", "not the code of this server"];
    Process::start(&wrong).finish().failed(1, &["MaxConnectionAttempts", "join code"]);

    server.join(&["--duration", "200ms"]).finish().succeeded();
    assert_eq!(server.process.until_state("Accepted")["network_id"], 1);
}

#[test]
fn a_passphrase_works_as_a_join_code_also_from_a_file() {
    let path = std::env::temp_dir().join(format!("netstream-join-code-{}", std::process::id()));
    std::fs::write(&path, "correct horse battery staple\n").unwrap();
    let file = path.to_str().unwrap();
    let server = Server::start(&["--join-code-file", file]);
    let text = ["join", &server.endpoint, "--join-code", "correct horse battery staple", "--duration", "200ms"];
    Process::start(&text).finish().succeeded();
    Process::start(&["join", &server.endpoint, "--join-code-file", file, "--duration", "200ms"]).finish().succeeded();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_client_that_asks_for_aes_plays_beside_one_that_asks_for_chacha20() {
    let mut server = Server::start(&[]);
    let clients = ["aes", "chacha20"].map(|cipher| server.join(&["--cipher", cipher, "--duration", "1s"]));
    for _ in &clients {
        server.process.until_state("InGame");
    }
    for client in clients {
        let client = client.finish();
        client.succeeded();
        assert!(client.json()["received"]["snapshots"].as_u64() > Some(0), "{}", client.json());
    }
}

#[test]
fn a_server_that_requires_approval_lets_in_only_those_with_the_password() {
    let mut server = Server::start(&["--require-approval", "sesame"]);
    let wrong = server.join(&["--password", "open"]).finish();
    wrong.failed(1, &["ApprovalDenied", "wrong password"]);
    assert_eq!(server.process.until_disconnected(), "ApprovalDenied Local wrong password");
    server.join(&[]).finish().failed(1, &["ApprovalDenied", "a password is needed"]);

    let mut client = server.join(&["--password", "sesame", "--duration", "200ms"]);
    client.until_state("Approval");
    assert_eq!(client.until_state("Accepted")["network_id"], 1);
    client.finish().succeeded();
}

#[test]
fn another_game_is_refused_with_the_difference() {
    let mut server = Server::start(&["--protocol", "arena:3"]);
    server
        .join(&["--protocol", "arena:4"])
        .finish()
        .failed(1, &["ProtocolMismatch", "arena", "version 3", "version 4"]);
    let ended = server.process.until_state("Disconnected");
    assert_eq!(ended["reason"]["code"], "ProtocolMismatch");
    assert!(ended["mismatch"].as_str().unwrap().contains("version 4"), "{ended}");
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let server = Server::start(&[]);
    Process::start(&["serve", "--listen", &server.endpoint]).finish().failed(1, &[&server.endpoint, "taken"]);
}

#[test]
fn one_server_listens_at_several_endpoints() {
    let mut server = Server::start(&["--listen", "udp://127.0.0.1:0"]);
    let second = server.process.until("the second listener", |line| line["event"] == "listening");
    assert_eq!(second["join_code"], server.join_code.as_str());
    assert_ne!(second["endpoint"], server.endpoint.as_str());
    server.join(&["--duration", "200ms"]).finish().succeeded();
    server.endpoint = second["endpoint"].as_str().unwrap().to_owned();
    server.join(&["--duration", "200ms"]).finish().succeeded();
}

#[test]
fn nobody_at_the_endpoint_is_an_error_with_a_reason() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("udp://{}", free.local_addr().unwrap());
    let client = Process::start(&["join", &endpoint, "--join-code", "whatever it takes"]);
    client.finish().failed(1, &[&endpoint, "nobody answers"]);
}

#[test]
fn many_bots_play_and_leave() {
    let server = Server::start(&[]);
    let arguments = ["--join-code", &server.join_code, "--count", "20", "--duration", "3s", "--json"];
    let bots = Process::start(&[&["bots", server.endpoint.as_str()], &arguments[..]].concat()).finish();
    bots.succeeded();
    let report = bots.json();
    assert_eq!((&report["bots"], &report["connects"]), (&20.into(), &20.into()), "{report}");
    assert_eq!(report["disconnects"]["ConnectionClose"]["Local"], 20, "{report}");
    assert!(report["sent"]["commands"].as_u64() >= Some(20), "{report}");
}

#[test]
fn bots_that_are_refused_are_counted_and_make_the_run_fail() {
    let server = Server::start(&["--max-connections", "3"]);
    let arguments = ["--join-code", &server.join_code, "--count", "5", "--duration", "60s"];
    let mut bots = Process::start(&[&["bots", server.endpoint.as_str()], &arguments[..]].concat());
    bots.until_line("two that are out", |line| line.contains("3 of 5 bots play, 2 are out"));
    #[cfg(unix)]
    {
        bots.signal("INT");
        bots.finish().failed(1, &["2 of 5 bots did not stay", "ServerFull"]);
    }
}
