//! Standard output that may be closed at any time: whoever reads us may stop reading.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Standard output, line by line.
#[derive(Debug, Default)]
pub(crate) struct Output {
    closed: bool,
}

impl Output {
    /// Writes lines, at once.
    pub(crate) fn line(&mut self, text: &str) {
        self.write(format!("{}\n", printable(text)).as_bytes());
    }

    /// Writes one JSON value on a line of its own, at once.
    pub(crate) fn json(&mut self, value: &impl Serialize) {
        let text = serde_json::to_string(value).expect("our own types have string keys and finite numbers");
        self.line(&text);
    }

    /// Writes bytes as they are, at once.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let mut out = io::stdout().lock();
        // Nobody is left to be told of an error here.
        self.closed = out.write_all(bytes).and_then(|()| out.flush()).is_err();
    }

    /// Whether nobody reads any more. What is written afterwards is dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a person watches.
    pub(crate) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }
}

/// Writes one line to standard error, if anybody reads it.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "netstream: {}", printable(text));
}

/// The text without characters that steer a terminal: some of it may be a stranger's.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() && char != '\n' { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\u{9b}c\nd"), "a [2Jb  c\nd");
    }
}
