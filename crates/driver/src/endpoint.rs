//! Where a driver listens or connects to, as text: `udp://example.org:7979`, `ipc://local`.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The longest text that parses, in bytes. A relay ticket with a connect token inside is the largest thing foreseen.
pub const MAX_TEXT: usize = 8192;

/// The longest name of an in-process endpoint, in bytes.
pub const MAX_IPC_NAME: usize = 64;

/// The longest host name, in bytes (RFC 1035 §2.3.4, without the trailing dot).
pub const MAX_HOST: usize = 253;

macro_rules! schemes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What kind of driver understands an endpoint.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Scheme {
            $($(#[$doc])* $name,)*
        }

        impl Scheme {
            /// Every scheme there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text before `://`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

schemes! {
    /// Datagrams: `udp://host:port`.
    Udp = "udp";
    /// In-process: `ipc://name`.
    Ipc = "ipc";
    /// WebSocket without TLS: `ws://host:port/path`.
    Ws = "ws";
    /// WebSocket with TLS: `wss://host:port/path`.
    Wss = "wss";
    /// WebTransport: `wt://host:port/path`.
    Wt = "wt";
    /// By way of a relay: `relay://ticket`.
    Relay = "relay";
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of an endpoint that names a machine, or the thing in its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A host name, an in-process name or a relay ticket, as it was written.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Where a driver listens or connects to.
///
/// What [`Display`](fmt::Display) prints parses to an equal value. Only well-formed endpoints exist: whether a host
/// can be resolved or a port is free shows when it is used.
///
/// ```
/// use netstream_driver::{Endpoint, Scheme};
///
/// let endpoint: Endpoint = "udp://[::1]:7979".parse()?;
/// assert_eq!(endpoint.scheme(), Scheme::Udp);
/// assert_eq!(endpoint.port(), Some(7979));
/// assert_eq!(endpoint.to_string(), "udp://[::1]:7979");
/// # Ok::<(), netstream_driver::EndpointError>(())
/// ```
///
/// Whoever wants an endpoint takes text as well: `TryInto<Endpoint>` is there for `&str`, `String` and both kinds of
/// `Endpoint`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    host: Host,
    port: Option<u16>,
    path: String,
    fragment: Option<String>,
}

impl Endpoint {
    /// The UDP endpoint at `address`.
    pub fn udp(address: SocketAddr) -> Self {
        Self::socket(Scheme::Udp, address)
    }

    /// The endpoint of `scheme` at `address`.
    pub fn socket(scheme: Scheme, address: SocketAddr) -> Self {
        let host = Host::Ip(address.ip());
        Self { scheme, host, port: Some(address.port()), path: String::new(), fragment: None }
    }

    /// The in-process endpoint called `name`: 1 to 64 letters, digits, `-`, `_` or `.`.
    pub fn ipc(name: &str) -> Result<Self, EndpointError> {
        let host = Host::Name(ipc_name(name)?);
        Ok(Self { scheme: Scheme::Ipc, host, port: None, path: String::new(), fragment: None })
    }

    /// The same endpoint with another port. Endpoints without ports (`ipc`, `relay`) stay as they are.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        if !matches!(self.scheme, Scheme::Ipc | Scheme::Relay) {
            self.port = Some(port);
        }
        self
    }

    /// What kind of driver understands it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The address or host name; of `ipc` the name, of `relay` the ticket.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The host where it is a name.
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }

    /// The port. Always there for `udp`, never for `ipc` and `relay`.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path with its leading slash, or nothing; only `ws`, `wss` and `wt` have one.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows `#`, e.g. the fingerprint of a server's key.
    pub fn fragment(&self) -> Option<&str> {
        self.fragment.as_deref()
    }

    /// The socket address, where the host is an address and there is a port.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match (&self.host, self.port) {
            (Host::Ip(ip), Some(port)) => Some(SocketAddr::new(*ip, port)),
            _ => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)?;
        match &self.fragment {
            Some(fragment) => write!(f, "#{fragment}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<&Endpoint> for Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        endpoint.clone()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.len() > MAX_TEXT {
            return Err(EndpointError::TooLong(text.len()));
        }
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(EndpointError::BadCharacter(bad));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(EndpointError::NoScheme(text.to_owned()));
        };
        let Some(scheme) = Scheme::ALL.iter().copied().find(|s| s.as_str() == scheme) else {
            return Err(EndpointError::UnknownScheme(scheme.to_owned()));
        };
        let (rest, fragment) = match rest.split_once('#') {
            Some((_, "")) => return Err(EndpointError::EmptyFragment),
            Some((_, fragment)) if fragment.contains('#') => return Err(EndpointError::BadCharacter('#')),
            Some((rest, fragment)) => (rest, Some(fragment.to_owned())),
            None => (rest, None),
        };
        let (host, port, path) = match scheme {
            Scheme::Ipc => (Host::Name(ipc_name(rest)?), None, ""),
            Scheme::Relay => (Host::Name(ticket(rest)?), None, ""),
            Scheme::Udp | Scheme::Ws | Scheme::Wss | Scheme::Wt => {
                let slash = rest.find('/').unwrap_or(rest.len());
                let (authority, path) = rest.split_at(slash);
                if scheme == Scheme::Udp && !path.is_empty() {
                    return Err(EndpointError::UnexpectedPath(path.to_owned()));
                }
                let (host, port) = authority_parts(authority)?;
                if scheme == Scheme::Udp && port.is_none() {
                    return Err(EndpointError::NoPort(text.to_owned()));
                }
                (host, port, path)
            }
        };
        Ok(Self { scheme, host, port, path: path.to_owned(), fragment })
    }
}

impl From<Infallible> for EndpointError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Why a text is not an endpoint, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Nothing at all.
    #[error("an endpoint is needed, e.g. udp://127.0.0.1:7979 or ipc://local")]
    Empty,
    /// More than [`MAX_TEXT`] bytes.
    #[error("an endpoint of {0} bytes is too long; at most {MAX_TEXT} are allowed")]
    TooLong(usize),
    /// Something that is not a visible ASCII character, or one that has no business where it stands.
    #[error("the character {0:?} does not belong into an endpoint here; write e.g. udp://127.0.0.1:7979")]
    BadCharacter(char),
    /// No `://`.
    #[error("the endpoint {0:?} has no scheme; write udp://{0}")]
    NoScheme(String),
    /// Nobody knows the scheme.
    #[error("unknown scheme {0:?}; the known ones are udp, ipc, ws, wss, wt and relay")]
    UnknownScheme(String),
    /// Nothing between the scheme and the port.
    #[error("the endpoint has no host; write e.g. 127.0.0.1, [::1] or a host name after the scheme")]
    NoHost,
    /// The host is neither an address nor a host name.
    #[error("{0:?} is not a host; write an IPv4 address, an IPv6 address in brackets, or a host name")]
    BadHost(String),
    /// A UDP endpoint without its port.
    #[error("the endpoint {0:?} has no port; append one, e.g. :7979 (a server may ask for any free one with :0)")]
    NoPort(String),
    /// The port is not a number from 0 to 65 535.
    #[error("{0:?} is not a port; write a number from 0 to 65535")]
    BadPort(String),
    /// The name of an in-process endpoint is empty, too long or has other characters.
    #[error("{0:?} is not an in-process name; use 1 to {MAX_IPC_NAME} letters, digits, '-', '_' or '.'")]
    BadIpcName(String),
    /// A path where there is none.
    #[error("this kind of endpoint has no path; remove {0:?}")]
    UnexpectedPath(String),
    /// A `#` with nothing behind it.
    #[error("nothing follows the '#'; remove it")]
    EmptyFragment,
}

fn ipc_name(text: &str) -> Result<String, EndpointError> {
    let fits = (1..=MAX_IPC_NAME).contains(&text.len());
    if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        Ok(text.to_owned())
    } else {
        Err(EndpointError::BadIpcName(text.to_owned()))
    }
}

fn ticket(text: &str) -> Result<String, EndpointError> {
    if text.is_empty() { Err(EndpointError::NoHost) } else { Ok(text.to_owned()) }
}

fn authority_parts(text: &str) -> Result<(Host, Option<u16>), EndpointError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((ip, after)) = rest.split_once(']') else {
            return Err(EndpointError::BadHost(text.to_owned()));
        };
        let ip = ip.parse().map_err(|_| EndpointError::BadHost(format!("[{ip}]")))?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(EndpointError::BadHost(text.to_owned())),
        };
        (Host::Ip(IpAddr::V6(ip)), port)
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) => (host_of(host)?, Some(port)),
            None => (host_of(text)?, None),
        }
    };
    Ok((host, port.map(port_of).transpose()?))
}

fn host_of(text: &str) -> Result<Host, EndpointError> {
    if text.is_empty() {
        return Err(EndpointError::NoHost);
    }
    if let Ok(ip) = text.parse() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if text.len() <= MAX_HOST && text.strip_suffix('.').unwrap_or(text).split('.').all(label) {
        Ok(Host::Name(text.to_owned()))
    } else {
        Err(EndpointError::BadHost(text.to_owned()))
    }
}

fn port_of(text: &str) -> Result<u16, EndpointError> {
    // `u16::from_str` takes a leading plus sign.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EndpointError::BadPort(text.to_owned()));
    }
    text.parse().map_err(|_| EndpointError::BadPort(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        text.parse()
    }

    #[test]
    fn what_was_written_is_what_is_printed() {
        for text in [
            "udp://0.0.0.0:0",
            "udp://[::]:7979",
            "udp://[2001:db8::1]:65535",
            "udp://play.example.org:7979",
            "udp://10.0.0.1:7979#c0ffee",
            "ipc://local",
            "ipc://7979",
            "ws://example.org:80/game?x=1",
            "wss://example.org/game",
            "wt://[::1]:4433",
            "relay://AbCd_-0123.4/5",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_parts_are_what_they_look_like() {
        let endpoint = parse("udp://10.0.0.1:7979#c0ffee").unwrap();
        assert_eq!(endpoint.socket_addr(), Some("10.0.0.1:7979".parse().unwrap()));
        assert_eq!(endpoint.fragment(), Some("c0ffee"));
        assert_eq!(endpoint.name(), None);
        let endpoint = parse("ws://play.example.org:80/game").unwrap();
        assert_eq!((endpoint.name(), endpoint.path()), (Some("play.example.org"), "/game"));
        assert_eq!(endpoint.socket_addr(), None);
        assert_eq!(Endpoint::ipc("local").unwrap(), parse("ipc://local").unwrap());
        assert_eq!(parse("udp://[::1]:0").unwrap().with_port(9).port(), Some(9));
        assert_eq!(parse("ipc://x").unwrap().with_port(9).port(), None);
    }

    #[test]
    fn a_missing_scheme_is_suggested() {
        let error = parse("127.0.0.1:7979").unwrap_err();
        assert!(error.to_string().contains("write udp://127.0.0.1:7979"), "{error}");
    }

    #[test]
    fn an_unknown_scheme_lists_all_known_ones() {
        let error = parse("tcp://127.0.0.1:7979").unwrap_err().to_string();
        for scheme in Scheme::ALL {
            assert!(error.contains(scheme.as_str()), "{error} lacks {scheme}");
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        use EndpointError as E;
        let is = |text: &str, error: E| assert_eq!(parse(text), Err(error), "{text}");
        is("", E::Empty);
        is("udp://127.0.0.1", E::NoPort("udp://127.0.0.1".into()));
        is("udp://:7979", E::NoHost);
        is("udp://127.0.0.1:", E::BadPort(String::new()));
        is("udp://127.0.0.1:+1", E::BadPort("+1".into()));
        is("udp://127.0.0.1:65536", E::BadPort("65536".into()));
        is("udp://::1:7979", E::BadHost("::1".into()));
        is("udp://[::1:7979", E::BadHost("[::1:7979".into()));
        is("udp://[::1]7979", E::BadHost("[::1]7979".into()));
        is("udp://-a.org:1", E::BadHost("-a.org".into()));
        is("udp://a..org:1", E::BadHost("a..org".into()));
        is("udp://a.org:1/x", E::UnexpectedPath("/x".into()));
        is("udp://a.org:1#", E::EmptyFragment);
        is("udp://a.org:1#a#b", E::BadCharacter('#'));
        is("udp://a b:1", E::BadCharacter(' '));
        is("udp://é:1", E::BadCharacter('é'));
        is("ipc://", E::BadIpcName(String::new()));
        is("ipc://a/b", E::BadIpcName("a/b".into()));
        is("relay://", E::NoHost);
        let long = format!("relay://{}", "x".repeat(MAX_TEXT));
        is(&long, E::TooLong(long.len()));
    }

    proptest! {
        #[test]
        fn whatever_parses_survives_printing(text in "(udp|ipc|ws|wss|wt|relay)://[-a-zA-Z0-9.:\\[\\]/#_]{0,24}") {
            if let Ok(endpoint) = parse(&text) {
                prop_assert_eq!(parse(&endpoint.to_string()), Ok(endpoint));
            }
        }

        #[test]
        fn every_socket_address_survives(address: SocketAddr) {
            // Flow labels and scopes are not part of an endpoint.
            let address = SocketAddr::new(address.ip(), address.port());
            let endpoint = parse(&Endpoint::udp(address).to_string()).unwrap();
            prop_assert_eq!(endpoint.socket_addr(), Some(address));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
