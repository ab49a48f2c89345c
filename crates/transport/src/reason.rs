//! Why a connection ended: one typed reason, seen on both ends exactly once.

use std::fmt;

/// The most bytes of UTF-8 that a reason's text may have on the wire.
pub const MAX_TEXT: usize = 128;

/// The most bytes that [`DisconnectReason::encode`] writes.
pub const MAX_ENCODED: usize = 4 + 1 + MAX_TEXT;

/// The number that an application code starts at on the wire; built-in codes stay below.
const APPLICATION_BASE: u32 = 0x1_0000;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $says:literal;)*) => {
        /// What ended a connection. The numbers are part of the wire format and never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DisconnectCode {
            $($(#[$doc])* $name,)*
            /// The application's own code; 0 to 65 535, meaning up to the game.
            Application(u16),
            /// A code of a newer version of netstream than this one.
            Unknown(u16),
        }

        impl DisconnectCode {
            /// All built-in codes.
            pub const BUILT_IN: &'static [Self] = &[$(Self::$name,)*];

            /// The number on the wire: built-in codes below 65 536, application codes 65 536 + n.
            pub const fn to_wire(self) -> u32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Application(code) => APPLICATION_BASE + code as u32,
                    Self::Unknown(code) => code as u32,
                }
            }

            /// The code behind a number from the wire; `None` above the application range.
            pub fn from_wire(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => match number.checked_sub(APPLICATION_BASE) {
                        None => u16::try_from(number).ok().map(Self::Unknown),
                        Some(code) => u16::try_from(code).ok().map(Self::Application),
                    },
                }
            }

            /// The code's name, for logs, metrics and JSON. Application codes share one.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Application(_) => "Application",
                    Self::Unknown(_) => "Unknown",
                }
            }

            const fn says(self) -> &'static str {
                match self {
                    $(Self::$name => $says,)*
                    Self::Application(_) => "the game ended the connection",
                    Self::Unknown(_) => "a reason that this version does not know",
                }
            }
        }
    };
}

codes! {
    /// An ordinary goodbye.
    ConnectionClose = 0, "the connection was closed";
    /// The server (or the whole application) went away in an orderly manner.
    ServerShutdown = 1, "the server is shutting down";
    /// No slot was free.
    ServerFull = 2, "the server is full";
    /// The server's operator or game removed this player.
    Kicked = 3, "kicked from the server";
    /// This identity or address may not connect.
    Banned = 4, "banned from the server";
    /// The same identity connected again and took this connection's place.
    Superseded = 5, "replaced by a newer connection of the same identity";
    /// Nothing was heard for the idle timeout.
    Timeout = 6, "the peer fell silent";
    /// Nobody answered the attempts to connect.
    MaxConnectionAttempts = 7, "nobody answers at this address, or the join code or token is not the server's";
    /// The host name has no address.
    HostNotFound = 8, "the host name could not be resolved";
    /// The peer is there and does not take connections.
    Refused = 9, "the server does not accept connections";
    /// The handshake was not finished in time.
    HandshakeTimeout = 10, "the handshake took too long";
    /// The two ends run different games, versions or message sets.
    ProtocolMismatch = 11, "the two ends speak different versions";
    /// The server's game code said no.
    ApprovalDenied = 12, "the server denied the connection";
    /// The server's game code did not decide in time.
    ApprovalTimeout = 13, "the server did not approve in time";
    /// The credentials were not accepted by the transport.
    AuthenticationFailure = 14, "authentication failed";
    /// An RPC that is unknown, malformed or not allowed in this state.
    InvalidRpc = 15, "an invalid RPC arrived";
    /// The peer broke the protocol.
    ProtocolViolation = 16, "the peer broke the protocol";
    /// The peer sent more than its share for too long.
    Flood = 17, "too much was sent for too long";
    /// The peer did not take its reliable data for too long.
    SlowConsumer = 18, "reliable data was not taken for too long";
    /// The application despawned the connection's entity instead of disconnecting.
    EntityDespawned = 19, "the connection's entity was despawned";
    /// The driver that carried the connection was removed.
    DriverRemoved = 20, "the driver was removed";
    /// The driver was drained and its deadline has passed.
    DrainDeadline = 21, "the server is draining and the deadline has passed";
    /// The link below failed in a way that has no better name.
    LinkError = 22, "the link failed";
    /// The connect token expired before the connection was established.
    TokenExpired = 23, "the connect token has expired; ask for a new one";
    /// The identity is connected already and the server keeps the old connection.
    IdentityInUse = 24, "this identity is connected already";
    /// The server presented another key than the one that was pinned.
    ServerIdentityChanged = 25, "the server's identity has changed";
    /// The server's certificate has expired.
    CertificateExpired = 26, "the server's certificate has expired";
    /// The thread that did the driver's work has panicked.
    DriverFailed = 27, "the driver has failed";
}

impl fmt::Display for DisconnectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application(code) => write!(f, "Application({code})"),
            Self::Unknown(code) => write!(f, "Unknown({code})"),
            named => f.write_str(named.name()),
        }
    }
}

/// Who ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// We did.
    Local,
    /// They did, and said so.
    Remote,
    /// Nobody did: it broke.
    Link,
}

/// Human-readable text of at most [`MAX_TEXT`] bytes on a single line: control characters are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReasonText(String);

impl ReasonText {
    /// Sanitises `text`: control characters become spaces, and what is over [`MAX_TEXT`] bytes is cut at a character
    /// boundary.
    pub fn new(text: &str) -> Self {
        let mut clean = String::with_capacity(text.len().min(MAX_TEXT));
        for char in text.chars() {
            // Line and paragraph separators break single-line logs as control characters do, and directional marks
            // let a text pretend to be another.
            let hostile = char.is_control()
                || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let char = if hostile { ' ' } else { char };
            if clean.len() + char.len_utf8() > MAX_TEXT {
                break;
            }
            clean.push(char);
        }
        Self(clean)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a connection ended.
///
/// Code and text cross the wire on every driver; the other end sees them with [`Origin::Remote`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DisconnectReason {
    /// What ended it.
    pub code: DisconnectCode,
    /// Who ended it.
    pub origin: Origin,
    /// What the one who ended it wants to be read; often empty.
    pub text: ReasonText,
}

impl DisconnectReason {
    /// We end the connection.
    pub fn local(code: DisconnectCode) -> Self {
        Self { code, origin: Origin::Local, text: ReasonText::default() }
    }

    /// The link broke.
    pub fn link(code: DisconnectCode) -> Self {
        Self { code, origin: Origin::Link, text: ReasonText::default() }
    }

    /// They ended the connection.
    pub fn remote(code: DisconnectCode) -> Self {
        Self { code, origin: Origin::Remote, text: ReasonText::default() }
    }

    /// The same with a text, sanitised by [`ReasonText::new`].
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.text = ReasonText::new(text);
        self
    }

    /// What the other end sees of it.
    #[must_use]
    pub fn seen_by_peer(&self) -> Self {
        Self { origin: Origin::Remote, ..self.clone() }
    }

    /// Appends code and text: code u32 little-endian, text length u8, text.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.to_wire().to_le_bytes());
        // `ReasonText` never holds more than MAX_TEXT = 128 bytes.
        out.push(self.text.0.len() as u8);
        out.extend_from_slice(self.text.0.as_bytes());
    }

    /// Reads what a peer's [`encode`](Self::encode) wrote, as seen from here, and what follows it. `None` if it is
    /// malformed. Text that is not UTF-8 is repaired, never trusted.
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (code, rest) = bytes.split_first_chunk::<4>()?;
        let code = DisconnectCode::from_wire(u32::from_le_bytes(*code))?;
        let (length, rest) = rest.split_first()?;
        let length = usize::from(*length);
        if length > MAX_TEXT {
            return None;
        }
        let (text, rest) = rest.split_at_checked(length)?;
        Some((Self::remote(code).with_text(&String::from_utf8_lossy(text)), rest))
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.origin {
            Origin::Local => "by us",
            Origin::Remote => "by the peer",
            Origin::Link => "by the link",
        };
        write!(f, "{} {by}: {}", self.code, self.code.says())?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " ({:?})", self.text.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        let codes = DisconnectCode::BUILT_IN.iter().copied();
        for code in codes.chain([DisconnectCode::Application(0), DisconnectCode::Application(u16::MAX)]) {
            let mut bytes = Vec::new();
            DisconnectReason::local(code).with_text("bye").encode(&mut bytes);
            let (seen, rest) = DisconnectReason::decode(&bytes).unwrap();
            assert_eq!(seen, DisconnectReason::remote(code).with_text("bye"));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_code_of_a_newer_version_is_not_lost() {
        let code = DisconnectCode::from_wire(999).unwrap();
        assert_eq!(code, DisconnectCode::Unknown(999));
        assert_eq!(code.to_wire(), 999);
        assert_eq!(DisconnectCode::from_wire(0x2_0000), None);
    }

    #[test]
    fn hostile_text_becomes_one_short_line() {
        let text = ReasonText::new("a\nb\r\u{1b}[31m\u{202e}c");
        assert_eq!(text.as_str(), "a b  [31m c");
        let long = "é".repeat(200);
        assert_eq!(ReasonText::new(&long).as_str().len(), MAX_TEXT);
    }

    #[test]
    fn truncated_reasons_are_refused() {
        let mut bytes = Vec::new();
        DisconnectReason::local(DisconnectCode::Kicked).with_text("language").encode(&mut bytes);
        assert!(bytes.len() <= MAX_ENCODED);
        for length in 0..bytes.len() {
            assert!(DisconnectReason::decode(&bytes[..length]).is_none());
        }
    }
}
