//! The diagram of the documentation, drawn from the table.

use std::fmt::Write;

use super::table::{Side, TRANSITIONS, Transition, first_state};
use super::{ConnectionState, Presence};

/// The state machine as a Mermaid `stateDiagram-v2`. `docs/lifecycle.md` holds exactly this text; a test compares them.
pub fn mermaid() -> String {
    let mut out = String::from("stateDiagram-v2\n");
    for (side, name) in [(Side::Client, "connect()"), (Side::Server, "accepted")] {
        let _ = writeln!(out, "    [*] --> {}: {name}", first_state(side).0);
    }
    let inside = |row: &Transition| row.from.is_connected() && row.to.is_connected();
    for row in TRANSITIONS.iter().filter(|row| !inside(row)) {
        draw(&mut out, "    ", row);
    }
    out.push_str("    state Connected {\n");
    let _ = writeln!(out, "        [*] --> {}", ConnectionState::Connected(Presence::NotInGame));
    for row in TRANSITIONS.iter().filter(|row| inside(row)) {
        draw(&mut out, "        ", row);
    }
    out.push_str("    }\n    Disconnected --> [*]\n");
    out
}

fn draw(out: &mut String, indent: &str, row: &Transition) {
    let side = match row.side {
        None => "",
        Some(Side::Client) => " (client)",
        Some(Side::Server) => " (server)",
    };
    let _ = writeln!(out, "{indent}{} --> {}: {:?}{side}", row.from, row.to, row.input);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diagram_in_the_docs_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lifecycle.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("```mermaid\n").expect("docs/lifecycle.md has a mermaid block");
        let (drawn, after) = rest.split_once("```").unwrap();
        if drawn != mermaid() && std::env::var_os("NETSTREAM_BLESS").is_some() {
            std::fs::write(path, format!("{before}```mermaid\n{}```{after}", mermaid())).unwrap();
            return;
        }
        assert_eq!(drawn, mermaid(), "run with NETSTREAM_BLESS=1 to redraw docs/lifecycle.md");
    }
}
