//! Whatever is typed, the answer is one sentence and an exit code.

mod support;

use support::Process;

#[test]
fn a_wrong_command_line_is_answered_with_one_sentence_and_exit_code_2() {
    for (line, says) in [
        ("dance", "use one of demo, serve, join, bots"),
        ("--dance", "netstream help"),
        ("serve --dance", "serve has no option --dance"),
        ("serve --listen", "--listen needs a value"),
        ("serve --listen 127.0.0.1:7979", "write udp://127.0.0.1:7979"),
        ("serve --listen tcp://127.0.0.1:7979", "udp"),
        ("serve --listen udp://127.0.0.1", "port"),
        ("serve --listen udp://127.0.0.1:99999", "99999"),
        ("serve --listen udp://", "netstream help serve"),
        ("serve --listen ipc://arena", "use udp://"),
        ("serve --listen ws://127.0.0.1:80", "use udp://"),
        ("serve --join-code short", "8 characters"),
        ("serve --join-code 0000-0000-0000-0000-0000-0000-0000", "mistyped"),
        ("serve --join-code one-of-two --join-code-file other", "give one"),
        ("serve --protocol nameless", "NAME:VERSION"),
        ("serve --duration soon", "write e.g. 10s"),
        ("serve everywhere", "one argument too many"),
        ("join", "endpoint is missing"),
        ("join nowhere --join-code whatever-it-is", "write udp://nowhere"),
        ("join udp://127.0.0.1:7979", "--join-code is missing"),
        ("join udp://127.0.0.1:7979 --join-code", "--join-code needs a value"),
        ("join udp://127.0.0.1:7979 udp://127.0.0.1:7980", "one argument too many"),
        ("bots udp://127.0.0.1:7979 --join-code whatever-it-is", "--count is missing"),
        ("bots udp://127.0.0.1:7979 --join-code whatever-it-is --count many", "from 1 to 16384"),
        ("demo --clients 0", "from 1 to 16384"),
        ("demo --drivers udp,pigeon", "write udp, ipc or udp,ipc"),
        ("demo --loss 100%", "write e.g. 5%"),
        ("demo --json=please", "leave it out"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let finished = Process::start(&arguments).finish();
        finished.failed(2, &["netstream: ", says]);
        assert!(finished.lines.is_empty(), "{line}: {:?}", finished.lines);
    }
}

#[test]
fn what_is_impossible_is_answered_with_one_sentence_and_exit_code_1() {
    for (line, says) in [
        ("serve --join-code-file /nowhere/at/all", "/nowhere/at/all"),
        // An address for documentation, which is none of this machine's.
        ("serve --listen udp://192.0.2.1:7979", "use an address of this machine"),
        ("join udp://127.0.0.1:0 --join-code whatever-it-is", "port from 1 to 65535"),
        ("join udp://nobody.invalid:7979 --join-code whatever-it-is", "HostNotFound"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        Process::start(&arguments).finish().failed(1, &["netstream: ", says]);
    }
}

#[test]
fn a_secret_is_not_repeated_in_an_error() {
    let finished = Process::start(&["join", "udp://127.0.0.1:7979", "--join-code", "s3cr3t"]).finish();
    finished.failed(2, &["8 characters"]);
    assert!(!finished.complaints.contains("s3cr3t"));
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (line, says) in [
        ("--help", "Commands:"),
        ("help", "Commands:"),
        ("help serve", "netstream serve: a server"),
        ("join --help", "netstream join: a client"),
        ("bots -h", "netstream bots: many clients"),
        ("help demo", "netstream demo: a server World"),
        ("--version", concat!("netstream ", env!("CARGO_PKG_VERSION"))),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let finished = Process::start(&arguments).finish();
        finished.succeeded();
        assert!(finished.lines.join("\n").contains(says), "{line}: {:?}", finished.lines);
    }
}

#[test]
fn nobody_reading_is_no_reason_to_panic() {
    for line in ["serve --listen udp://127.0.0.1:0", "help", "demo --duration 500ms --json", "demo --duration forever"]
    {
        // Who writes notices, and goes by itself.
        Process::start_unread(&line.split(' ').collect::<Vec<_>>()).finish().succeeded();
    }
}
