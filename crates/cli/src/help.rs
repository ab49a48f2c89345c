//! How to use the commands.

/// The text for a command, or for all of them.
pub(crate) fn text(command: Option<&str>) -> &'static str {
    match command {
        Some("demo") => DEMO,
        Some("serve") => SERVE,
        Some("join") => JOIN,
        Some("bots") => BOTS,
        Some("token") => TOKEN,
        _ => OVERVIEW,
    }
}

const OVERVIEW: &str = "\
netstream: the connection layer of multiplayer games, from the command line

Usage: netstream [COMMAND] [OPTIONS]

Commands:
  demo     a server and some clients in one process, over a bad network (the default, then until Ctrl-C)
  serve    a server
  join     a client
  bots     many clients in one process
  token    keys and connect tokens, for servers whose players come from a back-end
  help     how to use a command, e.g. `netstream help serve`

Options:
  -h, --help       print this text
  -V, --version    print the version

Two terminals:
  netstream serve --listen udp://127.0.0.1:7979
  netstream join udp://127.0.0.1:7979 --join-code CODE      with the code that the server printed

Exit codes: 0 success, 1 what was asked for did not work, 2 the command line is wrong.
Ctrl-C says goodbye to the peers first; a second one does not wait.
";

const DEMO: &str = "\
netstream demo: a server World and some client Worlds in one process, over a bad network

Every client connects, enters the game, sends commands, answers pings and receives snapshots; a quarter of them
leave and rejoin; the server kicks one. Exit code 1 if anything came lost, doubled or out of order.

Usage: netstream demo [OPTIONS]

  --clients N         how many clients [8]
  --drivers LIST      what they connect over, in turn: udp, ipc or udp,ipc [udp,ipc]
  --duration TIME     how long, e.g. 10s, 500ms, 2m, or forever, which is until Ctrl-C [10s]
  --loss SHARE        how much is lost in each direction, e.g. 5% or 0.05 [5%]
  --rate HZ           commands and snapshots per second [30]
  --io MODE           who works the UDP sockets: inline, which is each World's own thread, or thread, one more per
                      driver, so that acks and keep-alives do not wait for a frame [inline]
  --seed N            what all dice start from [1]
  --chaos             meanwhile further drivers are added, stopped, drained, changed, reset and removed under clients
                      of their own; the other clients must not notice. Goes on until each was done at least once
  --json              print nothing but one JSON object at the end
";

const SERVE: &str = "\
netstream serve: a server

Prints where it listens, its join code, and a line for everything that happens to a driver or a connection.

Usage: netstream serve [OPTIONS]

  --listen ENDPOINT            where, as often as you like; port 0 is any free one [udp://127.0.0.1:7979]
  --join-code CODE             the code that lets clients in, or a passphrase of 8 characters or more [a new one]
  --join-code-file FILE        the same from the first line of a file, out of sight of other users
  --require-approval PASSWORD  let in only those who join with this --password
  --protocol NAME:VERSION      the game; both ends need the same [netstream-cli:1]
  --idle-timeout TIME          silence after which a connection ends [10s]
  --keep-alive TIME            time without sending after which a sign of life leaves [500ms]
  --max-datagram BYTES         look for paths that take larger datagrams, and take them in, up to 1452; clients need the
                               same [1200]
  --max-connections N          connections of each listener, up to 16384 [256]
  --io MODE                    who works the sockets: inline, which is the World's own thread, or thread, one more per
                               listener, so that acks and keep-alives do not wait for a frame [inline]
  --tick-rate HZ               updates of the World per second [60]
  --rate HZ                    snapshots per second for each client, not to all with the same update [30]
  --size BYTES                 bytes of a snapshot [12 for each player, up to 64 of them]
  --duration TIME              how long, e.g. 10s [until Ctrl-C]
  --figures TIME               print that often how hard the work is: joins, time per update, messages, processor,
                               memory (and with --json all metrics), and no lines for single connections
  --json                       print a JSON object per line
";

const JOIN: &str = "\
netstream join: a client

Connects, enters the game, sends commands and prints what happens. Exit code 0 if it left by itself.

Usage: netstream join ENDPOINT --join-code CODE [OPTIONS]

  ENDPOINT                 where the server listens, e.g. udp://127.0.0.1:7979
  --join-code CODE         the code or passphrase of the server
  --join-code-file FILE    the same from the first line of a file, out of sight of other users
  --password PASSWORD      for a server that requires approval
  --protocol NAME:VERSION  the game; both ends need the same [netstream-cli:1]
  --idle-timeout TIME      silence after which the connection ends [10s]
  --keep-alive TIME        time without sending after which a sign of life leaves [500ms]
  --max-datagram BYTES     look for a path that takes larger datagrams, and take them in, up to 1452; the server needs
                           the same [1200]
  --cipher NAME            how the connection is sealed, aes or chacha20; aes is faster where both ends have a processor
                           that computes it, as nearly all do [aes if this one does]
  --rate HZ                commands per second [30]
  --duration TIME          how long to play, e.g. 10s [until Ctrl-C]
  --json                   print a JSON object per line
";

const BOTS: &str = "\
netstream bots: many clients in one process

A bot is a full client over UDP with a socket, a handshake and a state machine of its own. To be many they share Worlds,
200 each, and they do not look at the snapshots that they receive. They run on one thread: where the line that is printed
each second shows fewer updates per second than wanted, this process is the limit, and not the server.

Usage: netstream bots ENDPOINT --count N --join-code CODE [OPTIONS]

  ENDPOINT                 where the server listens, e.g. udp://127.0.0.1:7979
  --count N                how many at once, up to 16384; over 256 the server needs a higher --max-connections, and
                           the hard limit of open files (`ulimit -Hn`) must be above it
  --ramp N                 how many start to connect in one second, e.g. 500 or 500/s [120]
  --churn N                each leaves as soon as it is in the game, and another comes, until there were N
  --join-code CODE         the code or passphrase of the server
  --join-code-file FILE    the same from the first line of a file, out of sight of other users
  --password PASSWORD      for a server that requires approval
  --protocol NAME:VERSION  the game; both ends need the same [netstream-cli:1]
  --idle-timeout TIME      silence after which a connection ends [10s]
  --keep-alive TIME        time without sending after which a sign of life leaves [500ms]
  --max-datagram BYTES     look for paths that take larger datagrams, and take them in, up to 1452; the server needs
                           the same [1200]
  --cipher NAME            how the connections are sealed, aes or chacha20; aes is faster where both ends have a
                           processor that computes it, as nearly all do [aes if this one does]
  --rate HZ                commands per second of each [30]
  --size BYTES             bytes of a command [8]
  --duration TIME          how long to play once all have arrived, e.g. 10s [until Ctrl-C]
  --json                   print a JSON object per second, and one at the end
";

const TOKEN: &str = "\
netstream token: keys and connect tokens, for servers whose players come from a back-end

Keys and tokens are secrets: they go to a new file that only you can read, or to the terminal if you ask for it.

Usage: netstream token keygen (--out FILE | --print)
       netstream token new --key-file FILE --client-id N --server ADDRESS (--out FILE | --print) [OPTIONS]
       netstream token show FILE [--key-file FILE]

  keygen                   a new key, which the back-end and its servers share
  new                      a token for one player, good for one connection
  show                     what a token says about itself; - reads it from standard input

  --key-file FILE          the key, from the first line of a file; show tells with it whom the token is for
  --client-id N            the back-end's number of the player
  --server ADDRESS         where the server is, e.g. 203.0.113.7:7979; again for others, tried in this order
  --protocol-id N          names the game and its key, decimal or 0x... [the one of games that choose none]
  --user-data TEXT         up to 256 bytes for the server
  --lifetime TIME          how long the token can be used; the servers need the same figure [45s]
  --timeout TIME           silence after which the connection ends, 1s to 60s [10s]
  --cipher NAME            how the connection is sealed: chacha20, as NETCODE 1.02 has it, or aes, if client and server
                           are netstream's [chacha20]
  --out FILE               where the secret goes; a file that exists is left alone
  --print                  print the secret
";
