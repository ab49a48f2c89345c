//! Two Worlds and one connection between them: every run there can be, step by step beside the production table.
//!
//! What each end does is said here once more, without the table. At every step the table must say the same, and over all
//! runs every row of it must be taken.

use std::cell::RefCell;
use std::collections::BTreeSet;

use netstream::ConnectionState::{
    self, Accepted, Approval, Connected, Connecting, Disconnected, Disconnecting, Handshake, ProtocolValidation,
};
use netstream::Presence::{InGame, NotInGame};
use netstream::state::{Input, Side, TRANSITIONS, Transition, transition};

use super::Model;

/// What the ends tell each other; the link keeps the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Record,
    ApprovalRequired,
    Admitted,
    /// The last word on the link.
    Goodbye,
}

/// One end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct End {
    state: ConnectionState,
    /// What the other end has sent, oldest first.
    inbox: Vec<Word>,
    /// Whether it has raised Connected, and how often Disconnected.
    connected: bool,
    ended: u8,
}

/// What an end does, what it says by that, and what is wrong with it.
type Act<'a> = dyn Fn(&mut End, &mut Vec<Word>, &mut Option<&'static str>) + 'a;

/// Both ends; the server's is there from its acceptance on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    client: End,
    server: Option<End>,
    wrong: Option<&'static str>,
}

/// The world: whether the server asks for approval, and whether both play the same game.
#[derive(Debug)]
pub struct Lifecycle {
    /// The server's game decides who enters.
    pub approval: bool,
    /// Both have the same version.
    pub fits: bool,
    taken: RefCell<BTreeSet<usize>>,
}

impl Lifecycle {
    /// A world in which nothing has happened.
    pub fn new(approval: bool, fits: bool) -> Self {
        Self { approval, fits, taken: RefCell::default() }
    }

    /// The rows of the production table that runs have taken so far, by their place.
    pub fn taken(&self) -> BTreeSet<usize> {
        self.taken.borrow().clone()
    }

    /// What an input does, as the lifecycle document has it.
    fn expected(side: Side, from: ConnectionState, input: Input) -> Option<ConnectionState> {
        let live = !matches!(from, Disconnecting | Disconnected);
        Some(match (input, from) {
            (Input::LinkUp, Connecting) if side == Side::Client => Handshake,
            (Input::RecordArrived, Handshake) => ProtocolValidation,
            (Input::RecordDiffers, ProtocolValidation) => Disconnecting,
            (Input::ApprovalRequired, ProtocolValidation) => Approval,
            (Input::Admitted, ProtocolValidation | Approval) => Accepted,
            (Input::Established, Accepted) | (Input::LeaveGame, Connected(InGame)) => Connected(NotInGame),
            (Input::EnterGame, Connected(NotInGame)) => Connected(InGame),
            (Input::DeadlinePassed, Handshake | ProtocolValidation | Approval) => Disconnecting,
            (Input::CloseRequested, _) if live => Disconnecting,
            (Input::Violation, _) if live && from != Connecting => Disconnected,
            (Input::EntityDespawned | Input::Ended, _) if from != Disconnected => Disconnected,
            _ => return None,
        })
    }

    /// Gives an input to an end, and looks whether the table says the same.
    fn input(&self, end: &mut End, side: Side, input: Input, wrong: &mut Option<&'static str>) -> bool {
        let row = transition(side, end.state, input);
        let expected = Self::expected(side, end.state, input);
        if row.map(|row| row.to) != expected {
            *wrong = Some("the table differs from the lifecycle");
        }
        let Some(to) = expected else { return false };
        if let Some(row) = row {
            let place = TRANSITIONS.iter().position(|known: &Transition| {
                (known.from, known.input, known.side) == (row.from, row.input, row.side)
            });
            self.taken.borrow_mut().extend(place);
        }
        end.state = to;
        end.connected |= to.is_connected();
        if to == Disconnected {
            end.ended += 1;
            end.inbox.clear();
        }
        true
    }

    /// What an end can do or suffer by itself, with what it tells the other end.
    fn own_inputs(&self, side: Side) -> &'static [(Input, Option<Word>)] {
        use Input as I;
        match side {
            Side::Client => &[
                (I::EnterGame, None),
                (I::LeaveGame, None),
                (I::DeadlinePassed, None),
                (I::CloseRequested, None),
                (I::Violation, Some(Word::Goodbye)),
                (I::EntityDespawned, Some(Word::Goodbye)),
            ],
            Side::Server => &[
                (I::EnterGame, None),
                (I::LeaveGame, None),
                (I::DeadlinePassed, None),
                (I::CloseRequested, None),
                (I::Violation, Some(Word::Goodbye)),
                (I::EntityDespawned, Some(Word::Goodbye)),
            ],
        }
    }

    /// An end reads the oldest word.
    fn read(&self, end: &mut End, side: Side, replies: &mut Vec<Word>, wrong: &mut Option<&'static str>) {
        let word = end.inbox.remove(0);
        if word == Word::Goodbye {
            self.input(end, side, Input::Ended, wrong);
            return;
        }
        if end.state.is_ending() {
            return;
        }
        match (word, side) {
            (Word::Record, _) => {
                self.input(end, side, Input::RecordArrived, wrong);
                if !self.fits {
                    self.input(end, side, Input::RecordDiffers, wrong);
                } else if side == Side::Server && self.approval {
                    self.input(end, side, Input::ApprovalRequired, wrong);
                    replies.push(Word::ApprovalRequired);
                } else if side == Side::Server {
                    self.admit(end, side, replies, wrong);
                }
            }
            (Word::ApprovalRequired, Side::Client) => _ = self.input(end, side, Input::ApprovalRequired, wrong),
            (Word::Admitted, Side::Client) => {
                self.input(end, side, Input::Admitted, wrong);
                self.input(end, side, Input::Established, wrong);
            }
            _ => *wrong = Some("a word that nobody says"),
        }
    }

    fn admit(&self, end: &mut End, side: Side, replies: &mut Vec<Word>, wrong: &mut Option<&'static str>) {
        if self.input(end, side, Input::Admitted, wrong) {
            replies.push(Word::Admitted);
            self.input(end, side, Input::Established, wrong);
        }
    }
}

fn born(state: ConnectionState, inbox: Vec<Word>) -> End {
    End { state, inbox, connected: false, ended: 0 }
}

impl Model for Lifecycle {
    type State = State;

    fn start(&self) -> State {
        State { client: born(Connecting, Vec::new()), server: None, wrong: None }
    }

    fn steps(&self, state: &State, steps: &mut Vec<(String, State)>) {
        // The link comes up: on the server first, then on the client, who may have left by then.
        if state.server.is_none() && state.client.state == Connecting {
            let mut next = state.clone();
            next.server = Some(born(Handshake, Vec::new()));
            next.client.inbox.push(Word::Record);
            steps.push(("the server accepts".to_owned(), next));
        }
        for side in [Side::Client, Side::Server] {
            let mut step = |what: String, act: &Act<'_>| {
                let mut next = state.clone();
                let State { client, server, wrong } = &mut next;
                let (end, other) = match (side, server) {
                    (Side::Client, server) => (client, server.as_mut()),
                    (Side::Server, Some(server)) => (server, Some(client)),
                    (Side::Server, None) => return,
                };
                let mut words = Vec::new();
                act(end, &mut words, wrong);
                if let Some(other) = other.filter(|other| other.state != Disconnected) {
                    other.inbox.extend(words);
                }
                if next != *state {
                    steps.push((format!("{side:?}: {what}"), next));
                }
            };
            let is_up = state.server.is_some();
            let end = if side == Side::Client { Some(&state.client) } else { state.server.as_ref() };
            let Some(end) = end else { continue };
            if side == Side::Client && is_up && end.state == Connecting {
                step("the link is up".to_owned(), &|end, words, wrong| {
                    self.input(end, side, Input::LinkUp, wrong);
                    words.push(Word::Record);
                });
            }
            // Nothing is read before the link is up.
            if !end.inbox.is_empty() && end.state != Connecting {
                step(format!("reads {:?}", end.inbox[0]), &|end, words, wrong| self.read(end, side, words, wrong));
            }
            for (input, word) in self.own_inputs(side) {
                step(format!("{input:?}"), &|end, words, wrong| {
                    if self.input(end, side, *input, wrong) {
                        words.extend(*word);
                    }
                });
            }
            if side == Side::Server && end.state == Approval {
                step("the game approves".to_owned(), &|end, words, wrong| self.admit(end, side, words, wrong));
            }
            // The goodbye has been delivered or has lingered long enough; or the link is dead.
            step("the driver says that it is over".to_owned(), &|end, words, wrong| {
                let said = end.state == Disconnecting;
                if self.input(end, side, Input::Ended, wrong) && said {
                    words.push(Word::Goodbye);
                }
            });
        }
    }

    fn wrong(&self, state: &State) -> Option<String> {
        let ends = [Some(&state.client), state.server.as_ref()];
        if ends.into_iter().flatten().any(|end| end.ended != u8::from(end.state == Disconnected)) {
            return Some("I2: the end is told once, and nothing after it".to_owned());
        }
        if state.client.connected && !state.server.as_ref().is_some_and(|server| server.connected) {
            return Some("I7: the client is Connected and the server never was".to_owned());
        }
        if !self.fits && ends.into_iter().flatten().any(|end| end.connected) {
            return Some("I11: Connected across versions".to_owned());
        }
        state.wrong.map(str::to_owned)
    }
}
