//! Writes what the fuzzers start from: the golden vectors and the stories that every connection goes through.
//!
//! ```text
//! cargo run --example seeds -- DIRECTORY
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use netstream_fuzz::*;
use netstream_transport::netcode::fuzzing;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned()));
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/transport/tests/vectors/netcode.txt");
    let vectors = fs::read_to_string(vectors)?;
    let vectors: Vec<_> = vectors.lines().filter_map(vector).collect();

    for (name, bytes) in &vectors {
        for mode in 0..4 {
            write(&root, "fz01_header", &format!("{name}-{mode}"), &[&[mode], bytes.as_slice()].concat())?;
        }
        if name.starts_with("token") {
            write(&root, "fz02_connect_token", name, &[&[0x80], bytes.as_slice()].concat())?;
        }
    }
    let own = token(7);
    let text = fuzzing::private_text(&own, &key()).expect("our own key");
    write(&root, "fz02_connect_token", "private", &[&[2], text.as_slice()].concat())?;
    write(&root, "fz02_connect_token", "text", &[&[1], own.to_text().as_bytes()].concat())?;

    for from in 0..4 {
        write(&root, "fz03_challenge", &format!("genuine-{from}"), &[from, 2, 5, 1, 9, 0, 3])?;
        let patched = [from, 2, 5, 1, 9, 0, 3, 0, 1, 4, 0, 1, 2, 3, 4];
        write(&root, "fz03_challenge", &format!("patched-{from}"), &patched)?;
    }

    // Operations of FZ4: 1 request, 4 response, 6 packet, 0 time, 8 close, 9 payload, 10 wishes, 11 copy.
    let join = |token, from| vec![1, token, from, 4, token, from, 1, 0, 0, 6, token, from, 5, 1, 1, 3, 0, 1, 2, 3];
    let stories: [(&str, Vec<u8>); 9] = [
        ("join", join(0, 0)),
        ("join-and-leave", [join(0, 0), vec![6, 0, 0, 6, 1, 2, 0, 0]].concat()),
        ("two", [join(0, 0), join(1, 3), vec![9, 0, 200, 0, 0, 125, 8, 0, 0, 0, 10]].concat()),
        ("full", [join(0, 0), join(1, 1), join(3, 2), vec![0, 125]].concat()),
        ("again", [join(0, 0), join(2, 1)].concat()),
        ("moves", [join(0, 0), join(1, 0)].concat()),
        ("replay", [join(0, 0), vec![11, 0, 0, 11, 1, 0, 11, 2, 0, 11, 0, 1, 11, 2, 1]].concat()),
        ("copied", vec![1, 0, 1, 1, 0, 2, 1, 0, 0, 4, 0, 0, 1, 0, 0, 4, 0, 1, 1, 0, 0]),
        ("silence", [join(0, 0), [0, 255].repeat(6)].concat()),
    ];
    for (name, story) in stories {
        for settings in 0..8 {
            write(&root, "fz04_server", &format!("{name}-{settings}"), &[&[settings], story.as_slice()].concat())?;
        }
    }
    // Operations of FZ5: 1 what an honest server says, 2 sealed packet, 0 time, 6 payload, 7 close.
    let stories: [(&str, &[u8]); 7] = [
        ("connect", &[1, 1, 4, 2, 5, 1, 9, 3, 0, 1, 2, 3, 6, 100, 0]),
        ("denied", &[2, 1, 8, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 20]),
        ("left", &[1, 1, 4, 2, 6, 1, 9, 0, 0]),
        ("leaves", &[1, 1, 4, 7, 0, 0, 3, 0, 3, 0, 3, 0, 60]),
        ("silence", &[1, 1, 4, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255]),
        ("failover", &[0, 255, 0, 255, 0, 255, 1, 1, 4]),
        ("nobody", &[0, 13, 0, 13, 0, 13, 0, 13]),
    ];
    for (name, story) in stories {
        for settings in 0..2 {
            write(&root, "fz05_client", &format!("{name}-{settings}"), &[&[settings], story].concat())?;
        }
    }
    Ok(())
}

fn vector(line: &str) -> Option<(String, Vec<u8>)> {
    let (name, hex) = line.split_once(" = ")?;
    let digits: Option<Vec<u8>> =
        (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    Some((name.replace(' ', "-"), digits?))
}

fn write(root: &Path, target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let directory = root.join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(format!("seed-{name}")), bytes)
}
