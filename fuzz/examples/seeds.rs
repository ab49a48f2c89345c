//! Writes what the fuzzers start from: the golden vectors and the stories that every connection goes through.
//!
//! ```text
//! cargo run --example seeds -- DIRECTORY
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use netstream_fuzz::channels::{End, message};
use netstream_fuzz::*;
use netstream_transport::channel::Side;
use netstream_transport::netcode::fuzzing;
use netstream_transport::{ChannelId, Mono};

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
    rpcs(&root)?;
    commands(&root)?;
    snapshots(&root)?;
    channels(&root)
}

/// RPCs of the World of FZ12: Chat 0, Hint 1, Login 2, Question 3, Score 4. Good ones, and each kind of bad one that a
/// test knows.
fn rpcs(root: &Path) -> std::io::Result<()> {
    let messages: [(&str, &[u8]); 24] = [
        ("hello", &[1, 0, 0]),
        ("say", &[1, 0, 1, 2, b'h', b'i']),
        ("draw", &[1, 0, 2, 2, 2, 4, 1, 3, 1, 0x80, 0x80, 4]),
        ("draw-nothing", &[1, 0, 2, 0, 0]),
        ("hint", &[1, 1, 0x80, 1]),
        ("login", &[1, 2, 3, b'm', b'e', b'!', 1, 2, 3, 4]),
        ("question", &[6, 0, 3, 2, 7, 7]),
        ("question-later", &[6, 0x80, 1, 3, 0]),
        ("receipt-wanted", &[6, 5, 0, 0]),
        ("delivered", &[7, 1, 0]),
        ("answer", &[7, 0, 1, 9]),
        ("answer-too-long", &[7, 0, 1, 9, 9]),
        ("answer-missing", &[7, 0, 1]),
        ("delivered-request", &[7, 0, 0]),
        ("answer-for-receipt", &[7, 1, 1, 9]),
        ("reply-to-nothing", &[7, 0x80, 0x80, 1, 0]),
        ("wrong-direction", &[1, 4, 1, 0]),
        ("plain-question", &[1, 3, 0]),
        ("unknown", &[1, 5, 0]),
        ("long-number", &[1, 0x80, 0, 0]),
        ("not-utf8", &[1, 0, 1, 2, 0xff, 0xff]),
        ("short", &[1, 0, 1, 9, b'h']),
        ("trailing", &[1, 0, 0, 0]),
        ("large-hint", &[1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
    ];
    let step = |message: &[u8], update: u8| {
        let kind =
            [(1, 0), (6, 1), (7, 2)].into_iter().find(|(kind, _)| *kind == message[0]).map_or(0, |(_, code)| code);
        [&[kind | update, message.len() as u8 - 1], &message[1..]].concat()
    };
    for (name, message) in messages {
        write(root, "fz12_rpc", &format!("{name}-bytes"), &[&[0x80], message].concat())?;
        for mode in [0x40, 0x41, 0x42, 0x43, 0] {
            write(root, "fz12_rpc", &format!("{name}-{mode}"), &[vec![mode], step(message, 0)].concat())?;
        }
        // One in several of others.
        for (other, with) in messages {
            let all = [vec![0x43], step(with, 0x20), step(message, 0), step(with, 0x20)].concat();
            write(root, "fz12_rpc", &format!("{name}-and-{other}"), &all)?;
        }
    }
    Ok(())
}

/// Blocks of a client's packet: Jump is 0, Move is 1.
fn commands(root: &Path) -> std::io::Result<()> {
    let blocks: [(&str, &[u8]); 17] = [
        ("none", &[]),
        ("jump", &[0, 1, 0, 1, 1]),
        ("move", &[1, 1, 0, 5, 2, 3, b'a', b'b', b'c']),
        ("four-alike", &[1, 4, 0, 2, 2, 0, 3, 3, 3]),
        ("four-differing", &[1, 4, 0, 2, 2, 0, 2, 2, 3, 0, 1, 4, 5, 2, 2, 3, 0, 1, 6, 2, 2, 3, 0, 1, 4]),
        ("growing", &[1, 2, 0, 2, 2, 0, 2, 4, 4, 1, 3, 2, b'a', b'b']),
        ("both", &[0, 2, 0, 1, 1, 3, 1, 2, 1, 2, 2, 0, 3]),
        ("gaps", &[0, 3, 7, 1, 0, 9, 13]),
        ("far-back", &[0, 1, 0x80, 0x80, 0x80, 1, 1, 1]),
        ("unknown-type", &[2, 1, 0, 1, 1]),
        ("twice", &[0, 1, 0, 1, 1, 0, 1, 1, 1, 1]),
        ("none-in-block", &[0, 0, 0, 1, 1]),
        ("too-many", &[0, 33, 0, 1, 1]),
        ("same-tick", &[0, 2, 0, 1, 1, 1]),
        ("too-long", &[1, 1, 0, 0x81, 8]),
        ("bad-delta", &[1, 2, 0, 2, 2, 0, 2, 2, 3, 9, 1, 1]),
        ("no-bool", &[0, 1, 0, 1, 7]),
    ];
    for (name, block) in blocks {
        let tick = 100_u32.to_le_bytes();
        let acks: &[u8] = &[99, 0, 0, 0, 0xff, 1, 0, 0];
        write(root, "fz13_commands", &format!("{name}-bytes"), &[&[0x80, 0], &tick[..], block].concat())?;
        write(root, "fz13_commands", &format!("{name}-bytes-acks"), &[&[0x80, 3], &tick[..], acks, block].concat())?;
        for far in [0, 2, 5, 31, 33, 0xf0, 0xc0, 0xbf] {
            let length = block.len() as u8;
            write(root, "fz13_commands", &format!("{name}-{far}"), &[&[0, 0x20, far, length], block].concat())?;
            // With acknowledgements, of which the newest stands before; and twice.
            let with_mask = [&[0, 0x21, far, length + 4, 0xff, 0, 0, 0], block].concat();
            write(root, "fz13_commands", &format!("{name}-{far}-acks"), &with_mask)?;
            let once = [&[0x20, far, length], block].concat();
            write(root, "fz13_commands", &format!("{name}-{far}-twice"), &[&[0], once.as_slice(), &once].concat())?;
        }
    }
    Ok(())
}

/// Sections of a server's packet: bytes 0, Scene 1 (with deltas), Score 2.
fn snapshots(root: &Path) -> std::io::Result<()> {
    let sections: [(&str, &[u8]); 16] = [
        ("time", &[]),
        ("raw", &[0, 0, 3, b'r', b'a', b'w']),
        ("scene", &[1, 0, 5, 4, 7, 7, 7, 7]),
        ("score", &[2, 0, 2, 5, 0]),
        ("named-score", &[2, 0, 6, 5, 1, 3, b'a', b'b', b'c']),
        ("all", &[0, 0, 1, 1, 1, 0, 3, 2, 7, 7, 2, 0, 2, 5, 0]),
        ("delta", &[1, 1, 5, 3, 2, 1, 3]),
        ("delta-nothing", &[1, 1, 5, 0]),
        ("delta-longer", &[1, 1, 6, 6, 0, 1, 1, 4, 1, 9]),
        ("delta-unknown", &[1, 100, 5, 3, 2, 1, 3]),
        ("delta-bad", &[1, 1, 5, 3, 9, 1, 3]),
        ("delta-and-score", &[1, 1, 5, 3, 2, 1, 3, 2, 0, 2, 5, 0]),
        ("delta-of-score", &[2, 1, 2, 0]),
        ("unknown-type", &[3, 0, 1, 1]),
        ("huge", &[1, 0, 0x80, 0x80, 0x80, 1]),
        ("short", &[1, 0, 9, 4, 7]),
    ];
    let report: &[u8] = &[90, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 3];
    for (name, section) in sections {
        let tick = 100_u32.to_le_bytes();
        write(root, "fz14_snapshots", &format!("{name}-bytes"), &[&[0x80, 0], &tick[..], &[9], section].concat())?;
        let told = [&[0x80, 1], &tick[..], &[9], report, section].concat();
        write(root, "fz14_snapshots", &format!("{name}-bytes-report"), &told)?;
        // A whole scene comes before, so that deltas have something to differ from.
        let step = |flags: u8, far: u8, rest: &[u8]| [&[flags, far, rest.len() as u8 + 1, 0], rest].concat();
        let whole = step(4, 1, &[1, 0, 5, 4, 7, 7, 7, 7]);
        for (mode, far) in [(0, 1), (1, 1), (2, 5), (1, 0xff), (0, 0)] {
            let story = [&[mode], whole.as_slice(), &step(4, far, section)].concat();
            write(root, "fz14_snapshots", &format!("{name}-{mode}-{far}"), &story)?;
            let story = [&[mode], step(0, far, section).as_slice(), &step(4, 1, section), &whole].concat();
            write(root, "fz14_snapshots", &format!("{name}-{mode}-{far}-one-update"), &story)?;
        }
    }
    Ok(())
}

/// What two correct links say to each other, and scripts of every operation.
fn channels(root: &Path) -> std::io::Result<()> {
    for (settings, packets) in talk().into_iter().enumerate() {
        let mut script = vec![settings as u8];
        for (index, packet) in packets.iter().enumerate() {
            write(root, "fz07_body", &format!("{settings}-{index}"), &[&[settings as u8], packet.as_slice()].concat())?;
            // FZ8 writes the number itself: one of four bytes.
            let frames = packet.get(1 + usize::from(packet[0] & 3) + 1..).unwrap_or_default();
            if packet[0] & 4 == 0 {
                script.extend([0, frames.len() as u8, (frames.len() >> 8) as u8]);
                script.extend_from_slice(frames);
            }
            script.extend([5, index as u8, 200, 3, 9, 20, 7, 9, 4, index as u8, 0, 0, 1]);
        }
        write(root, "fz08_link", &format!("talk-{settings}"), &script)?;
    }
    // Operations of FZ9: 0 send, 2 transmit, 3 deliver, 5 trouble, 6 time, 7 pause; the high bit names the end.
    let say = [0, 1, 232, 3, 0, 5, 200, 20, 0, 2, 0, 16, 0, 4, 9, 9, 2, 131, 9, 130, 3, 9];
    let trouble = [5, 0, 0, 133, 1, 1, 6, 50, 130, 3, 20, 5, 0, 2];
    for start in 0..6 {
        write(root, "fz09_pair", &format!("say-{start}"), &[&[start], &say[..], &[6, 30], &say].concat())?;
        write(
            root,
            "fz09_pair",
            &format!("trouble-{start}"),
            &[&[start], &say[..], &trouble, &say, &trouble].concat(),
        )?;
        let paused = [&[start, 135, 0], &say[..], &[6, 30, 130], &say, &[135, 1]].concat();
        write(root, "fz09_pair", &format!("paused-{start}"), &paused)?;
    }
    // FZ10: time, limits, and messages of three fragments in each order.
    for (name, order) in [("forward", [0, 1, 2]), ("backward", [2, 1, 0]), ("doubled", [0, 0, 2])] {
        let message: Vec<u8> = order.iter().flat_map(|index| fragment(3, *index)).collect();
        write(root, "fz10_reassembly", name, &[&message[..], &[10, 200], &message, &[0, 0, 8, 2], &message].concat())?;
    }
    // FZ11: 0 send, 2 skip, 3 any ack, 4 true ack, 6 detect, 7 requeue and trim.
    let send = [&[0, 15][..], &[1, 60].repeat(16)].concat();
    for start in 0..6 {
        let story = [&[start], &send[..], &[2], &send, &[4, 0, 9, 6, 40, 4, 20, 9, 7, 0, 2, 6, 250], &send].concat();
        write(root, "fz11_history", &format!("acked-{start}"), &story)?;
        let story = [&[start], &send[..], &[3, 6, 0, 15, 0, 0, 0, 0, 3, 6, 250, 7, 1]].concat();
        write(root, "fz11_history", &format!("bytes-{start}"), &story)?;
    }
    Ok(())
}

fn fragment(count: u8, index: u8) -> Vec<u8> {
    let last: &[u8] = if index + 1 == count { &[100, 0] } else { &[] };
    [&[30, 1, count - 1, index], last, &[1]].concat()
}

/// The packets of a conversation with a lost packet, from each end.
fn talk() -> [Vec<Vec<u8>>; 2] {
    let now = |step: u64| Mono::from_nanos(step * 10_000_000);
    let mut ends = [Side::Server, Side::Client].map(|side| End::new(side, 0, now(0)));
    let mut said = [Vec::new(), Vec::new()];
    for step in 0..20u64 {
        for at in 0..2 {
            for channel in 0..7 {
                if step % 4 == at as u64 {
                    let length = [40, 3000, 5000, 50, 2500, 4000, 60][usize::from(channel)];
                    let _ = ends[at].link.send(now(step), ChannelId(channel), &message(ChannelId(channel), 0, length));
                }
            }
            ends[at].link.handle_timeout(now(step));
            let mut buf = [0; 1400];
            while let Some(length) = ends[at].link.poll_packet(now(step), &mut buf) {
                said[at].push(buf[..length].to_vec());
                if said[at].len() % 9 != 4 {
                    ends[1 - at].link.handle_packet(now(step), &buf[..length], &mut |_, _| {}).expect("correct");
                }
            }
        }
    }
    // What the server says is what a client is to read.
    let [server, client] = said;
    [client, server]
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
