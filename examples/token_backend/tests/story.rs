//! All three programs on loopback.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use netstream_driver::OsRandom;
use netstream_driver::transport::crypto::Key;

/// A server process; ends with the test.
struct Running {
    child: Child,
    first_line: String,
}

impl Running {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut first_line = String::new();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut first_line).unwrap();
        // What it says later is of no interest, but it must be able to say it.
        std::thread::spawn(move || reader.lines().map_while(Result::ok).for_each(drop));
        Self { child, first_line: first_line.trim().to_owned() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_client")).args(arguments).output().unwrap()
}

#[test]
fn who_logs_in_gets_a_token_that_is_good_for_one_connection() {
    let key_file = std::env::temp_dir().join(format!("token-backend-{}", std::process::id()));
    std::fs::write(&key_file, Key::random(&mut OsRandom).to_text().as_bytes()).unwrap();
    let key_file = key_file.to_str().unwrap();
    let server = Running::start(env!("CARGO_BIN_EXE_game_server"), &[key_file]);
    let address = server.first_line.trim_start_matches("udp://");
    let backend = Running::start(env!("CARGO_BIN_EXE_backend"), &[key_file, address]);

    let wrong = client(&[&backend.first_line, "alice:wrong"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("401"), "{wrong:?}");

    // Tokens of the second in which the server started are those of the time before it (docs/tokens.md).
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let bob = client(&[&backend.first_line, "bob:builder", "--twice"]);
    let said = String::from_utf8_lossy(&bob.stdout);
    // The second time the token is used up, and the server does not answer.
    let story = "connected\nthe server says: welcome, player 2\nover: ConnectionClose\nover: MaxConnectionAttempts\n";
    assert_eq!(said, story, "{bob:?}");
    std::fs::remove_file(key_file).unwrap();
}
