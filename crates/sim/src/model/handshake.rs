//! The way in: tokens, challenges, an attacker, restarts.
//!
//! The network is the set of all messages that were ever sent: each may arrive at any time, again and again, or never.
//! So loss, delay, duplicates and replays are all in there. One honest player has token 0. The attacker sees every
//! message, sends copies from addresses of its own, and has tokens 1 and 2, which are of one identity; it cannot read or
//! make what is sealed under a key that it does not have.
//!
//! What the rules H1 to H7 are for shows when one is switched off: each time the checker finds the attack.

use std::collections::BTreeSet;

use super::Model;

/// The rules of the handshake that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A token is consumed by its first valid response.
    H1,
    /// A challenge is bound to token and address.
    H2,
    /// Packet numbers of runs, servers and connections never meet.
    H3,
    /// Tokens from before the server's start are refused.
    H4,
    /// The first valid response wins, not the first request.
    H5,
    /// A full table of used tokens refuses, and forgets nothing.
    H6,
    /// Of one identity there is one connection.
    H7,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::H1, Self::H2, Self::H3, Self::H4, Self::H5, Self::H6, Self::H7];
}

/// Tokens are of identities: 0 is the honest player's.
const IDENTITIES: [u8; 3] = [0, 1, 1];

/// How many addresses of one token may be challenged at a time.
const ADDRESSES_PER_TOKEN: usize = 4;

/// Where the numbers of connections begin; those of challenges are below.
const CONNECTIONS: u8 = 100;

/// The world: how large it is, and which rule is missing.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    /// 1 or 2, all named by every token.
    pub servers: u8,
    /// How often a server may restart in all.
    pub restarts: u8,
    /// Addresses of the attacker: 1 or 2, after the player's 0.
    pub attackers: u8,
    /// Tokens in the world: 1 to 3.
    pub tokens: u8,
    /// Messages that there can be.
    pub messages: usize,
    /// Used tokens that a server can remember.
    pub table: usize,
    /// The rule that does not hold.
    pub without: Option<Rule>,
}

impl Handshake {
    /// A world that is looked at in seconds.
    pub fn quick(without: Option<Rule>) -> Self {
        let servers = if without == Some(Rule::H3) { 2 } else { 1 };
        let table = if without == Some(Rule::H6) { 1 } else { 3 };
        Self { servers, restarts: 1, attackers: 1, tokens: 3, messages: 10, table, without }
    }

    /// Two servers, an attacker with two addresses, all tokens.
    pub fn full(without: Option<Rule>) -> Self {
        Self { servers: 2, restarts: 1, attackers: 2, tokens: 3, messages: 9, table: 2, without }
    }

    fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

/// A challenge: which run of which server made it, for which token at which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Challenge {
    server: u8,
    run: u8,
    token: u8,
    address: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Request {
        server: u8,
        token: u8,
        from: u8,
    },
    /// Sealed under the token's key.
    Challenge(Challenge),
    /// `challenge`, sealed under the key of `token`.
    Response {
        token: u8,
        from: u8,
        challenge: Challenge,
    },
    /// The server's first packet of a connection.
    Accepted {
        server: u8,
        token: u8,
        to: u8,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Server {
    run: u8,
    /// How many challenges this run has made.
    challenges: u8,
    /// Used tokens, the oldest first.
    consumed: Vec<u8>,
    pending: BTreeSet<(u8, u8)>,
    /// Live connections: identity, token, address.
    live: Vec<(u8, u8, u8)>,
}

/// A state of the world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    network: BTreeSet<Message>,
    servers: Vec<Server>,
    restarts: u8,
    /// Whether the player is connected, and to which server.
    player: Option<u8>,
    /// All that were ever accepted: server, token, token whose data it got, address.
    accepted: Vec<(u8, u8, u8, u8)>,
    /// The key, the server and run whose count it is (0 where all count alike), and the number: all that were used.
    numbers: BTreeSet<(u8, u8, u8)>,
    wrong: Option<&'static str>,
}

impl Handshake {
    fn send(&self, state: &mut State, message: Message) -> bool {
        state.network.contains(&message) || state.network.len() < self.messages && state.network.insert(message)
    }

    /// Uses a number of a key for something new.
    fn seal(&self, state: &mut State, key: u8, server: u8, run: u8, what: u8) {
        // Without H3 all runs of all servers count from zero.
        let number = if self.has(Rule::H3) { (key, 1 + server * 2 + run, what) } else { (key, 0, what) };
        if !state.numbers.insert(number) {
            state.wrong = Some("I15: one number of one key for two packets");
        }
    }

    fn handle_request(&self, state: &mut State, at: u8, token: u8, from: u8) {
        let server = &mut state.servers[usize::from(at)];
        let refused = self.has(Rule::H1) && server.consumed.contains(&token)
            || self.has(Rule::H4) && server.run > 0
            || self.has(Rule::H6) && server.consumed.len() >= self.table;
        if refused || server.pending.contains(&(token, from)) {
            return;
        }
        let mut others = server.pending.iter().filter(|(pending, _)| *pending == token);
        let full = match self.has(Rule::H5) {
            true => others.count() >= ADDRESSES_PER_TOKEN,
            false => others.next().is_some(),
        };
        if full {
            if token == 0 && from == 0 && state.player.is_none() {
                state.wrong = Some("I8: the player is kept out by whoever showed the token first");
            }
            return;
        }
        let (run, made, challenge) =
            (server.run, server.challenges, Challenge { server: at, run: server.run, token, address: from });
        server.pending.insert((token, from));
        let is_new = !state.network.contains(&Message::Challenge(challenge));
        if self.send(state, Message::Challenge(challenge)) && is_new {
            // One more of this run, whomever it is for.
            state.servers[usize::from(at)].challenges += 1;
            self.seal(state, token, at, run, made);
        }
    }

    fn handle_response(&self, state: &mut State, token: u8, from: u8, challenge: Challenge) {
        let at = challenge.server;
        let server = &mut state.servers[usize::from(at)];
        let bound = challenge.token == token && challenge.address == from;
        // The keys of challenges are drawn at each start.
        if !server.pending.contains(&(token, from)) || challenge.run != server.run || self.has(Rule::H2) && !bound {
            return;
        }
        if self.has(Rule::H1) && server.consumed.contains(&token) {
            return;
        }
        if server.consumed.len() >= self.table {
            if self.has(Rule::H6) {
                return;
            }
            server.consumed.remove(0);
        }
        if !server.consumed.contains(&token) {
            server.consumed.push(token);
        }
        if self.has(Rule::H1) {
            server.pending.retain(|(pending, _)| *pending != token);
        } else {
            server.pending.remove(&(token, from));
        }
        let identity = IDENTITIES[usize::from(challenge.token)];
        if self.has(Rule::H7) {
            server.live.retain(|(live, ..)| *live != identity);
        }
        server.live.push((identity, token, from));
        let run = server.run;
        if state.accepted.iter().any(|(server, used, ..)| (*server, *used) == (at, token)) {
            state.wrong = Some("I14: a token made two connections");
        }
        if challenge.token != token {
            state.wrong = Some("I14: a connection with the data of another token");
        }
        if challenge.address != from {
            state.wrong = Some("I11: a connection with an address that proved nothing");
        }
        state.accepted.push((at, token, challenge.token, from));
        // Numbers of connections begin with the time of their acceptance.
        let begin = if self.has(Rule::H3) { CONNECTIONS + state.accepted.len() as u8 } else { CONNECTIONS };
        self.seal(state, token, at, run, begin);
        self.send(state, Message::Accepted { server: at, token, to: from });
    }

    fn restart(state: &mut State, at: usize) {
        let run = state.servers[at].run + 1;
        state.servers[at] = Server { run, ..Server::default() };
        state.restarts += 1;
    }
}

impl Model for Handshake {
    type State = State;

    fn start(&self) -> State {
        State { servers: vec![Server::default(); usize::from(self.servers)], ..State::default() }
    }

    fn steps(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let mut step = |what: String, act: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            act(&mut next);
            if next != *state {
                steps.push((what, next));
            }
        };
        for message in &state.network {
            step(format!("{message:?} arrives"), &|next| match *message {
                Message::Request { server, token, from } => self.handle_request(next, server, token, from),
                Message::Response { token, from, challenge } => self.handle_response(next, token, from, challenge),
                // The player answers what was asked of it; attackers answer when they like.
                Message::Challenge(challenge) if challenge.token == 0 && challenge.address == 0 => {
                    self.send(next, Message::Response { token: 0, from: 0, challenge });
                }
                Message::Accepted { server, token: 0, to: 0 } => next.player = next.player.or(Some(server)),
                Message::Challenge(_) | Message::Accepted { .. } => {}
            });
            // What the attacker sees it sends again, as its own.
            for from in 1..=self.attackers {
                match *message {
                    Message::Request { server, token, .. } => step(format!("{from} copies {message:?}"), &|next| {
                        self.send(next, Message::Request { server, token, from });
                    }),
                    Message::Response { token, challenge, .. } => step(format!("{from} copies {message:?}"), &|next| {
                        self.send(next, Message::Response { token, from, challenge });
                    }),
                    Message::Challenge(challenge) if challenge.token > 0 => {
                        // It reads what is sealed under its own keys, and seals under either.
                        for token in 1..self.tokens {
                            step(format!("{from} answers {challenge:?} as {token}"), &|next| {
                                self.send(next, Message::Response { token, from, challenge });
                            });
                        }
                    }
                    Message::Challenge(_) | Message::Accepted { .. } => {}
                }
            }
        }
        for server in 0..self.servers {
            if state.player.is_none() {
                step(format!("the player asks {server}"), &|next| {
                    self.send(next, Message::Request { server, token: 0, from: 0 });
                });
            }
            for token in 1..self.tokens {
                step(format!("the attacker asks {server} with {token}"), &|next| {
                    self.send(next, Message::Request { server, token, from: 1 });
                });
            }
            if state.restarts < self.restarts {
                step(format!("{server} restarts"), &|next| Self::restart(next, usize::from(server)));
            }
        }
    }

    fn wrong(&self, state: &State) -> Option<String> {
        let twice = state.servers.iter().any(|server| {
            let mut identities: Vec<_> = server.live.iter().map(|(identity, ..)| *identity).collect();
            identities.sort_unstable();
            identities.windows(2).any(|pair| pair[0] == pair[1])
        });
        if twice {
            return Some("I13: one identity has two connections".to_owned());
        }
        if let Some(server) = state.player
            && !state.accepted.iter().any(|(at, token, ..)| (*at, *token) == (server, 0))
        {
            return Some("I7: the player is connected and nobody accepted it".to_owned());
        }
        state.wrong.map(str::to_owned)
    }
}
