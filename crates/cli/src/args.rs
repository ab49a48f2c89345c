//! The command line, parsed into one value per command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};
use netstream::GameProtocol;
use netstream::driver::udp::IoMode;
use netstream::driver::{Endpoint, Scheme};
use netstream::transport::netcode::JoinCode;

use crate::drivers::{UdpSettings, remote_endpoint};
use crate::failure::Failure;
use crate::game::game_protocol;
use crate::pace::UPDATES;
use crate::{secrets, token, units};

/// What to do.
pub(crate) enum Command {
    Demo(DemoArgs),
    Serve(ServeArgs),
    Join(JoinArgs),
    Bots(BotsArgs),
    Token(token::Ask),
    /// Print how to use a command, or all of them.
    Help(Option<&'static str>),
    Version,
}

/// `netstream demo`
pub(crate) struct DemoArgs {
    pub(crate) clients: usize,
    /// At least one, each once; clients are dealt out to them in turn.
    pub(crate) drivers: Vec<Scheme>,
    /// `None`: until Ctrl-C.
    pub(crate) duration: Option<Duration>,
    pub(crate) loss: f32,
    pub(crate) rate: f64,
    pub(crate) seed: u64,
    pub(crate) io: IoMode,
    /// Further drivers come, change and go.
    pub(crate) chaos: bool,
    pub(crate) json: bool,
}

impl Default for DemoArgs {
    /// `netstream` without arguments.
    fn default() -> Self {
        let drivers = vec![Scheme::Udp, Scheme::Ipc];
        let io = IoMode::Inline;
        Self { clients: 8, drivers, duration: None, loss: 0.05, rate: 30.0, seed: 1, io, chaos: false, json: false }
    }
}

/// `netstream serve`
pub(crate) struct ServeArgs {
    pub(crate) listen: Vec<Endpoint>,
    pub(crate) join_code: JoinCode,
    pub(crate) password: Option<String>,
    pub(crate) protocol: GameProtocol,
    pub(crate) udp: UdpSettings,
    pub(crate) tick_rate: f64,
    pub(crate) rate: f64,
    /// Bytes of a snapshot; as many as there is to tell where `None`.
    pub(crate) size: Option<usize>,
    pub(crate) duration: Option<Duration>,
    /// Print figures that often, and nothing of single connections.
    pub(crate) figures: Option<Duration>,
    pub(crate) json: bool,
}

/// `netstream join`
pub(crate) struct JoinArgs {
    pub(crate) client: ClientArgs,
    pub(crate) json: bool,
}

/// `netstream bots`
pub(crate) struct BotsArgs {
    pub(crate) client: ClientArgs,
    /// How many at once.
    pub(crate) count: usize,
    /// The most that start to connect in one second.
    pub(crate) ramp: f64,
    /// Bytes of a command; the smallest that say something where `None`.
    pub(crate) size: Option<usize>,
    /// Leave as soon as they play, and others come, until there were so many.
    pub(crate) churn: Option<usize>,
    pub(crate) json: bool,
}

/// How a client, or each of many, reaches its server.
pub(crate) struct ClientArgs {
    pub(crate) endpoint: Endpoint,
    pub(crate) join_code: JoinCode,
    pub(crate) password: Option<String>,
    pub(crate) protocol: GameProtocol,
    pub(crate) udp: UdpSettings,
    pub(crate) rate: f64,
    /// Counted from when all are in the game. `None`: until Ctrl-C.
    pub(crate) duration: Option<Duration>,
}

/// The commands by name.
pub(crate) const COMMANDS: [&str; 5] = ["demo", "serve", "join", "bots", "token"];

/// Reads the arguments, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Failure> {
    let mut arguments = Arguments { parser: Parser::from_args(arguments), command: None };
    let Some(first) = arguments.next()? else { return Ok(Command::Demo(DemoArgs::default())) };
    match first {
        Given::Help => Ok(Command::Help(None)),
        Given::Option(option) if option == "version" => Ok(Command::Version),
        Given::Option(option) => Err(arguments.unknown(&option)),
        Given::Value(value) if value == "help" => {
            let Some(Given::Value(topic)) = arguments.next()? else { return Ok(Command::Help(None)) };
            command_named(&topic).map(|command| Command::Help(Some(command)))
        }
        Given::Value(value) => {
            let command = command_named(&value)?;
            arguments.command = Some(command);
            let parsed = match command {
                "demo" => demo(arguments),
                "serve" => serve(arguments),
                "join" => join(arguments),
                "token" => match token::parse(&mut arguments.parser) {
                    Ok(Some(ask)) => Ok(Command::Token(ask)),
                    Ok(None) => Err(Early::Help),
                    Err(failure) => Err(failure.into()),
                },
                _ => bots(arguments),
            };
            match parsed {
                Err(Early::Help) => Ok(Command::Help(Some(command))),
                Err(Early::Failure(Failure::Usage(why))) => {
                    Err(Failure::Usage(format!("{why} (see `netstream help {command}`)")))
                }
                Err(Early::Failure(failure)) => Err(failure),
                Ok(command) => Ok(command),
            }
        }
    }
}

fn command_named(name: &str) -> Result<&'static str, Failure> {
    COMMANDS.into_iter().find(|command| *command == name).ok_or_else(|| {
        Failure::usage(format!(
            "there is no command {name:?}; use one of {} (see `netstream help`)",
            COMMANDS.join(", ")
        ))
    })
}

fn demo(mut arguments: Arguments) -> Result<Command, Early> {
    let mut args = DemoArgs { duration: Some(Duration::from_secs(10)), ..DemoArgs::default() };
    while let Some(option) = arguments.option()? {
        match option.as_str() {
            "clients" => args.clients = arguments.value("clients", units::count)?,
            "drivers" => args.drivers = arguments.value("drivers", drivers)?,
            "duration" => {
                args.duration = arguments.value("duration", |text| match text {
                    "forever" => Ok(None),
                    text => units::duration(text).map(Some),
                })?;
            }
            "loss" => args.loss = arguments.value("loss", units::share)?,
            "rate" => args.rate = arguments.value("rate", units::rate)?,
            "seed" => args.seed = arguments.value("seed", units::seed)?,
            "io" => args.io = arguments.value("io", units::io_mode)?,
            "chaos" => args.chaos = true,
            "json" => args.json = true,
            _ => return Err(arguments.unknown(&option).into()),
        }
    }
    Ok(Command::Demo(args))
}

fn drivers(text: &str) -> Result<Vec<Scheme>, String> {
    let mut schemes = Vec::new();
    for name in text.split(',') {
        let scheme = [Scheme::Udp, Scheme::Ipc].into_iter().find(|scheme| scheme.as_str() == name);
        let scheme =
            scheme.ok_or_else(|| format!("{name:?} is not a driver of the demo; write udp, ipc or udp,ipc"))?;
        if !schemes.contains(&scheme) {
            schemes.push(scheme);
        }
    }
    Ok(schemes)
}

fn serve(mut arguments: Arguments) -> Result<Command, Early> {
    let (mut listen, mut secret, mut password) = (Vec::new(), Secret::default(), None);
    let (mut protocol, mut udp, mut rate) = (game_protocol(), UdpSettings::default(), 30.0);
    let (mut tick_rate, mut size, mut figures) = (UPDATES, None, None);
    let (mut duration, mut json) = (None, false);
    while let Some(option) = arguments.option()? {
        match option.as_str() {
            "listen" => listen.push(remote_endpoint(&arguments.text("listen")?)?),
            "join-code" => secret.text = Some(arguments.text("join-code")?),
            "join-code-file" => secret.file = Some(arguments.path("join-code-file")?),
            "require-approval" => password = Some(arguments.text("require-approval")?),
            "protocol" => protocol = arguments.value("protocol", game)?,
            "idle-timeout" => udp.idle_timeout = Some(arguments.value("idle-timeout", idle_timeout)?),
            "io" => udp.io = arguments.value("io", units::io_mode)?,
            "keep-alive" => udp.keep_alive = Some(arguments.value("keep-alive", keep_alive)?),
            "max-datagram" => udp.max_datagram = Some(arguments.value("max-datagram", units::datagram)?),
            "max-connections" => udp.connections = Some(arguments.value("max-connections", units::count)?),
            "tick-rate" => tick_rate = arguments.value("tick-rate", units::rate)?,
            "rate" => rate = arguments.value("rate", units::rate)?,
            "size" => size = Some(arguments.value("size", units::size)?),
            "figures" => figures = Some(arguments.value("figures", units::duration)?),
            "duration" => duration = Some(arguments.value("duration", units::duration)?),
            "json" => json = true,
            _ => return Err(arguments.unknown(&option).into()),
        }
    }
    if listen.is_empty() {
        listen.push(remote_endpoint(DEFAULT_ENDPOINT)?);
    }
    let join_code = secret.read()?.unwrap_or_else(secrets::new_join_code);
    Ok(Command::Serve(ServeArgs {
        listen,
        join_code,
        password,
        protocol,
        udp,
        tick_rate,
        rate,
        size,
        duration,
        figures,
        json,
    }))
}

/// Bots that start to connect in one second: of the default limits of a server the closest is that 182 tokens a second
/// can be remembered.
const RAMP: f64 = 120.0;

/// Where `serve` listens unless it is told otherwise.
const DEFAULT_ENDPOINT: &str = "udp://127.0.0.1:7979";

fn join(arguments: Arguments) -> Result<Command, Early> {
    let Client { args: client, json, .. } = client(arguments)?;
    Ok(Command::Join(JoinArgs { client, json }))
}

fn bots(arguments: Arguments) -> Result<Command, Early> {
    let Client { args: client, crowd: Crowd { count, ramp, size, churn }, json } = client(arguments)?;
    let count = count.ok_or_else(|| Failure::usage("--count is missing; say how many bots, e.g. --count 100"))?;
    Ok(Command::Bots(BotsArgs { client, count, ramp, size, churn, json }))
}

struct Client {
    args: ClientArgs,
    crowd: Crowd,
    json: bool,
}

/// What only `bots` have.
struct Crowd {
    count: Option<usize>,
    ramp: f64,
    size: Option<usize>,
    churn: Option<usize>,
}

/// What `join` and `bots` have in common.
fn client(mut arguments: Arguments) -> Result<Client, Early> {
    let many = arguments.command == Some("bots");
    let (mut endpoint, mut secret, mut password) = (None, Secret::default(), None);
    let (mut protocol, mut udp, mut rate) = (game_protocol(), UdpSettings::default(), 30.0);
    let (mut duration, mut json) = (None, false);
    let mut crowd = Crowd { count: None, ramp: RAMP, size: None, churn: None };
    while let Some(given) = arguments.next()? {
        let option = match given {
            Given::Help => return Err(Early::Help),
            Given::Value(text) if endpoint.is_none() => {
                endpoint = Some(remote_endpoint(&text)?);
                continue;
            }
            Given::Value(text) => return Err(arguments.unexpected(&text).into()),
            Given::Option(option) => option,
        };
        match option.as_str() {
            "join-code" => secret.text = Some(arguments.text("join-code")?),
            "join-code-file" => secret.file = Some(arguments.path("join-code-file")?),
            "password" => password = Some(arguments.text("password")?),
            "protocol" => protocol = arguments.value("protocol", game)?,
            "idle-timeout" => udp.idle_timeout = Some(arguments.value("idle-timeout", idle_timeout)?),
            "keep-alive" => udp.keep_alive = Some(arguments.value("keep-alive", keep_alive)?),
            "max-datagram" => udp.max_datagram = Some(arguments.value("max-datagram", units::datagram)?),
            "cipher" => udp.cipher = Some(arguments.value("cipher", units::cipher)?),
            "rate" => rate = arguments.value("rate", units::rate)?,
            "duration" => duration = Some(arguments.value("duration", units::duration)?),
            "count" if many => crowd.count = Some(arguments.value("count", units::count)?),
            "ramp" if many => crowd.ramp = arguments.value("ramp", units::ramp)?,
            "size" if many => crowd.size = Some(arguments.value("size", units::size)?),
            "churn" if many => crowd.churn = Some(arguments.value("churn", units::number)?),
            "json" => json = true,
            _ => return Err(arguments.unknown(&option).into()),
        }
    }
    let endpoint = endpoint.ok_or_else(|| {
        Failure::usage("the server's endpoint is missing; give the one that it printed, e.g. udp://127.0.0.1:7979")
    })?;
    let join_code = secret
        .read()?
        .ok_or_else(|| Failure::usage("--join-code is missing; pass the code that the server printed"))?;
    let args = ClientArgs { endpoint, join_code, password, protocol, udp, rate, duration };
    Ok(Client { args, crowd, json })
}

/// A join code, given as text or in a file.
#[derive(Default)]
struct Secret {
    text: Option<String>,
    file: Option<PathBuf>,
}

impl Secret {
    fn read(self) -> Result<Option<JoinCode>, Failure> {
        match (self.text, self.file) {
            (Some(_), Some(_)) => Err(Failure::usage("--join-code and --join-code-file exclude each other; give one")),
            (Some(text), None) => secrets::join_code(&text).map(Some),
            (None, Some(path)) => secrets::join_code_file(&path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// `NAME:VERSION`
fn game(text: &str) -> Result<GameProtocol, String> {
    let parsed = text.rsplit_once(':').and_then(|(name, version)| Some((name, version.parse().ok()?)));
    match parsed {
        Some((name, version)) if !name.is_empty() => Ok(GameProtocol::new(name, version)),
        _ => Err(format!("{text:?} is not NAME:VERSION; write e.g. my-game:3")),
    }
}

fn keep_alive(text: &str) -> Result<Duration, String> {
    let time = units::duration(text)?;
    if time < Duration::from_millis(10) {
        return Err(format!("{text:?} is too short; use 10ms or more, and less than a third of the idle timeout"));
    }
    Ok(time)
}

fn idle_timeout(text: &str) -> Result<Duration, String> {
    let timeout = units::duration(text)?;
    // Below a second a busy machine looks like a dead one; tokens count in whole seconds.
    if timeout < Duration::from_secs(1) {
        return Err(format!("{text:?} is too short; use 1s or more"));
    }
    Ok(timeout)
}

/// Why parsing ends before its end.
enum Early {
    /// The user asked for help.
    Help,
    Failure(Failure),
}

impl From<Failure> for Early {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// One thing on the command line.
enum Given {
    Help,
    /// An option's name without dashes.
    Option(String),
    /// Something without dashes.
    Value(String),
}

struct Arguments {
    parser: Parser,
    command: Option<&'static str>,
}

impl Arguments {
    fn next(&mut self) -> Result<Option<Given>, Failure> {
        let given = match self.parser.next().map_err(|error| Failure::usage(format!("{error}; leave it out")))? {
            None => return Ok(None),
            Some(Arg::Short('h') | Arg::Long("help")) => Given::Help,
            Some(Arg::Short('V')) => Given::Option("version".to_owned()),
            Some(Arg::Short(other)) => {
                let other = other.to_string();
                return Err(self.unknown(&other));
            }
            Some(Arg::Long(name)) => Given::Option(name.to_owned()),
            Some(Arg::Value(value)) => Given::Value(utf8(value)?),
        };
        Ok(Some(given))
    }

    /// The next option of a command that has nothing else.
    fn option(&mut self) -> Result<Option<String>, Early> {
        match self.next()? {
            None => Ok(None),
            Some(Given::Help) => Err(Early::Help),
            Some(Given::Option(option)) => Ok(Some(option)),
            Some(Given::Value(value)) => Err(self.unexpected(&value).into()),
        }
    }

    fn os_text(&mut self, name: &str) -> Result<OsString, Failure> {
        self.parser.value().map_err(|_| Failure::usage(format!("--{name} needs a value; write it behind the option")))
    }

    fn text(&mut self, name: &str) -> Result<String, Failure> {
        utf8(self.os_text(name)?)
    }

    fn path(&mut self, name: &str) -> Result<PathBuf, Failure> {
        self.os_text(name).map(PathBuf::from)
    }

    fn value<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Failure> {
        let text = self.text(name)?;
        read(&text).map_err(|why| Failure::usage(format!("--{name}: {why}")))
    }

    fn unknown(&self, option: &str) -> Failure {
        let dashes = if option.chars().count() == 1 { "-" } else { "--" };
        match self.command {
            Some(command) => Failure::usage(format!("{command} has no option {dashes}{option}; leave it out")),
            None => {
                Failure::usage(format!("there is no option {dashes}{option} before the command; see `netstream help`"))
            }
        }
    }

    fn unexpected(&self, value: &str) -> Failure {
        Failure::usage(format!("{value:?} is one argument too many; leave it out"))
    }
}

fn utf8(text: OsString) -> Result<String, Failure> {
    text.into_string().map_err(|text| Failure::usage(format!("{text:?} is not Unicode; write it in plain characters")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn complaint(line: &str) -> String {
        match parsed(line) {
            Err(Failure::Usage(why)) => why,
            Err(Failure::Failed(why)) => panic!("{line:?} is no usage error: {why}"),
            Ok(_) => panic!("{line:?} is taken"),
        }
    }

    #[test]
    fn nothing_is_the_demo_until_ctrl_c_and_demo_ends_by_itself() {
        assert!(matches!(parsed(""), Ok(Command::Demo(DemoArgs { duration: None, clients: 8, .. }))));
        let ten = Some(Duration::from_secs(10));
        assert!(matches!(parsed("demo"), Ok(Command::Demo(DemoArgs { duration, .. })) if duration == ten));
        assert!(matches!(parsed("demo --duration forever"), Ok(Command::Demo(DemoArgs { duration: None, .. }))));
    }

    #[test]
    fn the_demo_reads_its_options() {
        let Ok(Command::Demo(args)) = parsed(
            "demo --clients 3 --drivers ipc --duration 500ms --loss 5% --seed=7 --rate 60 --io thread --chaos --json",
        ) else {
            panic!("not taken");
        };
        assert_eq!((args.clients, args.drivers, args.seed), (3, vec![Scheme::Ipc], 7));
        assert_eq!((args.loss, args.rate, args.chaos, args.json), (0.05, 60.0, true, true));
        assert_eq!(args.io, IoMode::Thread);
    }

    #[test]
    fn clients_need_an_endpoint_and_a_code() {
        assert!(complaint("join").contains("endpoint is missing"));
        assert!(complaint("join udp://127.0.0.1:1").contains("--join-code is missing"));
        assert!(complaint("bots udp://127.0.0.1:1 --join-code eight-letters-and-more").contains("--count is missing"));
        assert!(complaint("join udp://127.0.0.1:1 --count 3").contains("no option --count"));
        assert!(matches!(parsed("join udp://127.0.0.1:1 --join-code eight-letters"), Ok(Command::Join(_))));
    }

    #[test]
    fn help_is_found_everywhere() {
        assert!(matches!(parsed("--help"), Ok(Command::Help(None))));
        assert!(matches!(parsed("help"), Ok(Command::Help(None))));
        assert!(matches!(parsed("help bots"), Ok(Command::Help(Some("bots")))));
        assert!(matches!(parsed("join --help"), Ok(Command::Help(Some("join")))));
        assert!(matches!(parsed("--version"), Ok(Command::Version)));
        assert!(complaint("help nobody").contains("demo, serve, join, bots"));
    }

    #[test]
    fn wrong_lines_say_what_to_do() {
        for (line, says) in [
            ("dance", "there is no command \"dance\"; use one of"),
            ("--dance", "there is no option --dance before the command"),
            ("demo --dance", "demo has no option --dance"),
            ("demo -x", "demo has no option -x"),
            ("demo --json=yes", "leave it out"),
            ("demo --chaos=no", "leave it out"),
            ("demo more", "\"more\" is one argument too many"),
            ("demo --clients", "--clients needs a value"),
            ("demo --clients none", "--clients: \"none\" is not a number"),
            ("demo --drivers pigeon", "\"pigeon\" is not a driver"),
            ("demo --duration 10", "write e.g. 10s"),
            ("demo --loss 200%", "write e.g. 5%"),
            ("serve --io fibre", "write inline or thread"),
            ("serve --listen 127.0.0.1:7979", "write udp://127.0.0.1:7979"),
            ("serve --listen tcp://127.0.0.1:7979", "tcp"),
            ("serve --listen ipc://here", "one process"),
            ("serve --protocol game", "NAME:VERSION"),
            ("serve --idle-timeout 10ms", "use 1s or more"),
            ("serve --keep-alive 0s", "use 10ms or more"),
            ("serve --size 4", "not a size from 8 to 65536"),
            ("serve --max-datagram 1500", "not a size from 1200 to 1452"),
            ("join udp://127.0.0.1:1 --cipher rot13", "write chacha20 or aes"),
            ("serve --max-connections 20000", "not a number from 1 to 16384"),
            ("bots udp://127.0.0.1:1 --ramp 0", "not a number from 0.1 to 10000"),
            ("bots udp://127.0.0.1:1 --churn 0", "not a number from 1 on"),
            ("join udp://h:1 --join-code short", "8 characters"),
        ] {
            let complaint = complaint(line);
            assert!(complaint.contains(says), "{line:?}: {complaint}");
            assert!(complaint.contains("netstream help"), "{line:?}: {complaint}");
        }
    }
}
