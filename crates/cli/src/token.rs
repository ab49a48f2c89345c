//! `netstream token`: keys and connect tokens. What is secret is written to a file of its own or printed on request,
//! never anything else.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};
use netstream::driver::udp::DEFAULT_PROTOCOL_ID;
use netstream::driver::{Clock, OsRandom, SystemClock};
use netstream::transport::crypto::Key;
use netstream::transport::netcode::{ConnectToken, IssueRequest, SessionCipher, TOKEN_LIFETIME};

use crate::failure::Failure;
use crate::output::Output;
use crate::units;

/// What is asked for.
pub(crate) enum Ask {
    Keygen(Place),
    New(Box<New>, Place),
    Show { token: PathBuf, key_file: Option<PathBuf> },
}

/// Where a secret goes.
pub(crate) enum Place {
    /// To a new file that only its owner can read.
    File(PathBuf),
    Print,
}

/// A token to be made.
pub(crate) struct New {
    key_file: PathBuf,
    client_id: u64,
    servers: Vec<SocketAddr>,
    protocol_id: u64,
    user_data: [u8; 256],
    lifetime: Duration,
    timeout: Duration,
    cipher: SessionCipher,
}

/// Reads what follows `token`. `None` if help is asked for.
pub(crate) fn parse(parser: &mut Parser) -> Result<Option<Ask>, Failure> {
    let mut what = None;
    let mut given = Given::default();
    while let Some(arg) = parser.next().map_err(Failure::usage)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Value(value) if what.is_none() => what = Some(value.string().map_err(Failure::usage)?),
            Arg::Value(value) if what.as_deref() == Some("show") && given.token.is_none() => {
                given.token = Some(value.into());
            }
            Arg::Value(value) => {
                return Err(Failure::usage(format!("{:?} is one argument too many", value.to_string_lossy())));
            }
            Arg::Long(name) => {
                let name = name.to_owned();
                given.option(&name, parser)?;
            }
            Arg::Short(letter) => return Err(Failure::usage(format!("token has no option -{letter}; leave it out"))),
        }
    }
    let ask = match what.as_deref() {
        Some("keygen") => Ask::Keygen(given.place()?),
        Some("new") => {
            let place = given.place()?;
            Ask::New(Box::new(given.new_token()?), place)
        }
        Some("show") => {
            let token = given.token.ok_or_else(|| Failure::usage("show needs a file with a token, or -"))?;
            Ask::Show { token, key_file: given.key_file }
        }
        Some(other) => return Err(Failure::usage(format!("{other:?} is none of keygen, new and show"))),
        None => return Err(Failure::usage("say keygen, new or show")),
    };
    Ok(Some(ask))
}

/// Does what is asked for.
pub(crate) fn run(ask: Ask, output: &mut Output) -> Result<(), Failure> {
    match ask {
        Ask::Keygen(place) => put(&Key::random(&mut OsRandom).to_text(), "key", &place, output),
        Ask::New(new, place) => {
            let key = read_key(&new.key_file)?;
            let request = IssueRequest {
                user_data: new.user_data,
                lifetime: new.lifetime,
                timeout: new.timeout,
                cipher: new.cipher,
                ..IssueRequest::new(new.protocol_id, &key, new.client_id, &new.servers)
            };
            let token = ConnectToken::issue(&request, SystemClock::new().now().wall, &mut OsRandom);
            put(&token.map_err(Failure::usage)?.to_text(), "token", &place, output)
        }
        Ask::Show { token, key_file } => show(&token, key_file.as_deref(), output),
    }
}

/// The options, as far as they were there.
#[derive(Default)]
struct Given {
    key_file: Option<PathBuf>,
    client_id: Option<u64>,
    servers: Vec<SocketAddr>,
    protocol_id: Option<u64>,
    user_data: Option<[u8; 256]>,
    lifetime: Option<Duration>,
    timeout: Option<Duration>,
    cipher: SessionCipher,
    out: Option<PathBuf>,
    print: bool,
    token: Option<PathBuf>,
}

impl Given {
    fn option(&mut self, name: &str, parser: &mut Parser) -> Result<(), Failure> {
        if name == "print" {
            self.print = true;
            return Ok(());
        }
        if !OPTIONS.contains(&name) {
            return Err(Failure::usage(format!("token has no option --{name}; leave it out")));
        }
        let value = parser
            .value()
            .map_err(|_| Failure::usage(format!("--{name} needs a value; write it behind the option")))?;
        match name {
            "key-file" => self.key_file = Some(value.into()),
            "out" => self.out = Some(value.into()),
            _ => {
                let text = value.string().map_err(Failure::usage)?;
                self.text(name, &text).map_err(|why| Failure::usage(format!("--{name}: {why}")))?;
            }
        }
        Ok(())
    }

    fn text(&mut self, name: &str, text: &str) -> Result<(), String> {
        match name {
            "client-id" => self.client_id = Some(number(text)?),
            "server" => {
                let address = text.strip_prefix("udp://").unwrap_or(text);
                self.servers.push(address.parse().map_err(|_| {
                    format!("{text:?} is not an address with a port; write e.g. 203.0.113.7:7979 or [2001:db8::7]:7979")
                })?);
            }
            "protocol-id" => self.protocol_id = Some(number(text)?),
            "user-data" => {
                let mut data = [0; 256];
                let place = data.get_mut(..text.len()).ok_or("at most 256 bytes fit")?;
                place.copy_from_slice(text.as_bytes());
                self.user_data = Some(data);
            }
            "lifetime" => self.lifetime = Some(units::duration(text)?),
            "cipher" => self.cipher = units::cipher(text)?,
            _ => self.timeout = Some(units::duration(text)?),
        }
        Ok(())
    }

    fn place(&mut self) -> Result<Place, Failure> {
        match (self.out.take(), self.print) {
            (Some(path), false) => Ok(Place::File(path)),
            (None, true) => Ok(Place::Print),
            _ => Err(Failure::usage("a secret goes to --out FILE, or is shown with --print; give one of them")),
        }
    }

    fn new_token(self) -> Result<New, Failure> {
        let missing = |what: &str| Failure::usage(format!("--{what} is missing"));
        if self.servers.is_empty() {
            return Err(missing("server"));
        }
        Ok(New {
            key_file: self.key_file.ok_or_else(|| missing("key-file"))?,
            client_id: self.client_id.ok_or_else(|| missing("client-id"))?,
            servers: self.servers,
            protocol_id: self.protocol_id.unwrap_or(DEFAULT_PROTOCOL_ID),
            user_data: self.user_data.unwrap_or([0; 256]),
            lifetime: self.lifetime.unwrap_or(TOKEN_LIFETIME),
            timeout: self.timeout.unwrap_or(Duration::from_secs(10)),
            cipher: self.cipher,
        })
    }
}

/// The options with a value.
const OPTIONS: [&str; 9] =
    ["key-file", "client-id", "server", "protocol-id", "user-data", "lifetime", "timeout", "cipher", "out"];

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number of 64 bits; write it in decimal or as 0x..."))
}

fn read_key(path: &Path) -> Result<Key, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::failed(format!("cannot read the key from {}: {error}; make one with `token keygen`", path.display()))
    })?;
    let line = text.lines().next().unwrap_or_default();
    line.parse().map_err(|error| Failure::failed(format!("{} holds no key: {error}", path.display())))
}

fn put(secret: &str, what: &str, place: &Place, output: &mut Output) -> Result<(), Failure> {
    match place {
        Place::Print => output.line(secret),
        Place::File(path) => {
            write_secret(path, secret).map_err(|error| {
                Failure::failed(format!("cannot write {}: {error}; choose a file that does not exist", path.display()))
            })?;
            output.line(&format!("the {what} is in {}", path.display()));
        }
    }
    Ok(())
}

/// Writes a new file that nobody else can read, not even for a moment.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{secret}")
}

fn show(path: &Path, key_file: Option<&Path>, output: &mut Output) -> Result<(), Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).map(drop)
    } else {
        fs::read_to_string(path).map(|read| text = read)
    };
    read.map_err(|error| Failure::failed(format!("cannot read a token from {}: {error}", path.display())))?;
    let token: ConnectToken = text
        .trim()
        .parse()
        .map_err(|error| Failure::failed(format!("{} holds no connect token: {error}", path.display())))?;
    let now = SystemClock::new().now().wall.as_unix();
    let (created, expiry) = (token.created().as_unix(), token.expiry().as_unix());
    output.line(&format!("protocol id  {:#018x}", token.protocol_id()));
    output.line(&format!("created      {created} (seconds since 1970), lifetime {} s", expiry - created));
    let rest = match expiry.checked_sub(now) {
        Some(left @ 1..) => format!("{left} s left"),
        _ => format!("expired {} s ago", now - expiry),
    };
    output.line(&format!("expiry       {expiry}, {rest}"));
    output.line(&format!("cipher       {}", units::cipher_name(token.cipher())));
    for address in token.addresses() {
        output.line(&format!("server       {address}"));
    }
    let Some(key_file) = key_file else { return Ok(()) };
    let identity = token
        .open(&read_key(key_file)?)
        .ok_or_else(|| Failure::failed("the token was not sealed with this key, or has been changed"))?;
    output.line(&format!("client id    {}", identity.client_id));
    let used = identity.user_data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    output.line(&format!("user data    {:?}", String::from_utf8_lossy(&identity.user_data[..used])));
    Ok(())
}
