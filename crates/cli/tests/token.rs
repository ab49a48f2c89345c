//! `netstream token`: keys and tokens on the command line.

mod support;

use std::fs;
use std::path::PathBuf;

use support::Process;

/// A directory of this test's own.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("netstream-token-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).unwrap();
    path
}

fn netstream(arguments: &[&str]) -> (Option<i32>, String, String) {
    let finished = Process::start(&[&["token"], arguments].concat()).finish();
    (finished.code, finished.lines.join("\n"), finished.complaints)
}

#[test]
fn a_key_makes_a_token_that_shows_whom_it_is_for() {
    let directory = directory("story");
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (code, said, _) = netstream(&["keygen", "--out", &path("key")]);
    assert_eq!(code, Some(0));
    let key = fs::read_to_string(path("key")).unwrap();
    assert_eq!(key.trim().len(), 43);
    assert!(!said.contains(key.trim()), "{said}");

    let new = ["new", "--key-file", &path("key"), "--client-id", "42", "--server", "203.0.113.7:7979"];
    let more =
        ["--server", "[2001:db8::7]:7979", "--user-data", "team blue", "--lifetime", "60s", "--out", &path("token")];
    let more = [more.as_slice(), &["--cipher", "aes"]].concat();
    let (code, said, complaints) = netstream(&[new.as_slice(), &more].concat());
    assert_eq!(code, Some(0), "{complaints}");
    let token = fs::read_to_string(path("token")).unwrap();
    assert!(!said.contains(&token[..40]), "{said}");

    let (code, said, complaints) = netstream(&["show", &path("token"), "--key-file", &path("key")]);
    assert_eq!(code, Some(0), "{complaints}");
    for line in [
        "server       203.0.113.7:7979",
        "server       [2001:db8::7]:7979",
        "client id    42",
        "user data    \"team blue\"",
        "lifetime 60 s",
        "cipher       aes",
        "s left",
    ] {
        assert!(said.contains(line), "{said}");
    }
    // Without the key nothing that is sealed is known.
    let (code, said, _) = netstream(&["show", &path("token")]);
    assert_eq!(code, Some(0));
    assert!(!said.contains("42\n") && !said.contains("team blue"), "{said}");

    netstream(&["keygen", "--out", &path("other")]);
    let (code, said, complaints) = netstream(&["show", &path("token"), "--key-file", &path("other")]);
    assert_eq!(code, Some(1));
    assert!(complaints.contains("was not sealed with this key") && !said.contains("client id"), "{complaints}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_secret_is_printed_only_on_request_and_never_written_over() {
    let directory = directory("secrets");
    let file = directory.join("key").to_str().unwrap().to_owned();
    let (code, said, complaints) = netstream(&["keygen"]);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(complaints.contains("--out FILE") && complaints.contains("--print"), "{complaints}");
    let (code, key, _) = netstream(&["keygen", "--print"]);
    assert_eq!((code, key.len()), (Some(0), 43));
    assert_eq!(netstream(&["keygen", "--out", &file]).0, Some(0));
    let first = fs::read_to_string(&file).unwrap();
    assert_eq!(netstream(&["keygen", "--out", &file]).0, Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn wrong_lines_say_what_to_do() {
    for (line, says) in [
        ("", "say keygen, new or show"),
        ("mint", "none of keygen, new and show"),
        ("keygen --out a --print", "give one of them"),
        ("keygen --shout", "token has no option --shout"),
        ("new --print", "--server is missing"),
        ("new --print --server 127.0.0.1:1", "--key-file is missing"),
        ("new --print --server nowhere", "write e.g. 203.0.113.7:7979"),
        ("new --print --client-id me", "write it in decimal"),
        ("new --print --cipher rot13", "write chacha20 or aes"),
        ("show", "needs a file"),
        ("show a b", "one argument too many"),
    ] {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let (code, _, complaints) = netstream(&arguments);
        assert_eq!(code, Some(2), "{line:?}: {complaints}");
        assert!(complaints.contains(says) && complaints.contains("netstream help token"), "{line:?}: {complaints}");
    }
    let (code, _, complaints) = netstream(&["show", "/nowhere/at/all"]);
    assert_eq!(code, Some(1), "{complaints}");
}
