//! The table itself.

use super::{ConnectionState, Presence};

/// Which end of a connection this World is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It connected.
    Client,
    /// It accepted.
    Server,
}

/// What can happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The driver reached the server.
    LinkUp,
    /// The peer's protocol record arrived.
    RecordArrived,
    /// The records differ.
    RecordDiffers,
    /// Server: its game code wants to decide. Client: the server said so.
    ApprovalRequired,
    /// Server: nothing (more) stands in the way. Client: the server said so.
    Admitted,
    /// The acceptance is queued (server) or was read (client).
    Established,
    /// [`NetworkStreamInGame`](crate::NetworkStreamInGame) was put.
    EnterGame,
    /// [`NetworkStreamInGame`](crate::NetworkStreamInGame) was removed.
    LeaveGame,
    /// The state's deadline passed.
    DeadlinePassed,
    /// This World wants to end the connection.
    CloseRequested,
    /// The peer sent what may not be sent.
    Violation,
    /// The application despawned the entity.
    EntityDespawned,
    /// The driver reports the end: our goodbye is delivered, the peer's arrived, or the link is dead.
    Ended,
}

impl Input {
    /// Every input.
    pub const ALL: [Self; 13] = [
        Self::LinkUp,
        Self::RecordArrived,
        Self::RecordDiffers,
        Self::ApprovalRequired,
        Self::Admitted,
        Self::Established,
        Self::EnterGame,
        Self::LeaveGame,
        Self::DeadlinePassed,
        Self::CloseRequested,
        Self::Violation,
        Self::EntityDespawned,
        Self::Ended,
    ];
}

/// What a transition makes the session do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send our protocol record.
    SendRecord,
    /// Start the handshake deadline.
    AwaitRecord,
    /// Tell the client that approval is required, and start the approval deadline.
    AskForApproval,
    /// Allot a `NetworkId` and send it with the acceptance.
    Admit,
    /// Start the approval deadline that the server announced.
    AwaitApproval,
    /// No deadline counts any more.
    StopDeadline,
    /// Ask the driver to end the connection, after what is queued was delivered or has lingered.
    CloseLink,
    /// Ask the driver to end the connection at once; the peer is told as far as one attempt can.
    CloseLinkNow,
    /// Give back the id, drop the queues, and let the entity go at the end of the update.
    Retire,
}

/// One row: in state `from`, on `side` (both where `None`), `input` leads to `to`.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// The state before.
    pub from: ConnectionState,
    /// What happened.
    pub input: Input,
    /// The side that has this row; both where `None`.
    pub side: Option<Side>,
    /// The state after; its event is raised.
    pub to: ConnectionState,
    /// What is done on the way.
    pub effects: &'static [Effect],
}

use ConnectionState::{Accepted, Approval, Connecting, Disconnected, Disconnecting, Handshake, ProtocolValidation};
use Input as I;

const NOT_IN_GAME: ConnectionState = ConnectionState::Connected(Presence::NotInGame);
const IN_GAME: ConnectionState = ConnectionState::Connected(Presence::InGame);

const CLIENT: Option<Side> = Some(Side::Client);
const SERVER: Option<Side> = Some(Side::Server);
const BOTH: Option<Side> = None;

const NOTHING: &[Effect] = &[];
const CLOSE: &[Effect] = &[Effect::StopDeadline, Effect::CloseLink];
const RETIRE: &[Effect] = &[Effect::StopDeadline, Effect::Retire];
const CLOSE_NOW: &[Effect] = &[Effect::StopDeadline, Effect::CloseLinkNow, Effect::Retire];

const fn row(
    side: Option<Side>,
    from: ConnectionState,
    input: Input,
    to: ConnectionState,
    effects: &'static [Effect],
) -> Transition {
    Transition { from, input, side, to, effects }
}

/// Every transition there is. What is not here is refused and counted.
#[rustfmt::skip]
pub const TRANSITIONS: &[Transition] = &[
    // The way up.
    row(CLIENT, Connecting,         I::LinkUp,           Handshake,          &[Effect::SendRecord, Effect::AwaitRecord]),
    // The server's record leaves with what follows from the client's.
    row(SERVER, Handshake,          I::RecordArrived,    ProtocolValidation, &[Effect::SendRecord]),
    row(CLIENT, Handshake,          I::RecordArrived,    ProtocolValidation, NOTHING),
    row(SERVER, ProtocolValidation, I::ApprovalRequired, Approval,           &[Effect::AskForApproval]),
    row(CLIENT, ProtocolValidation, I::ApprovalRequired, Approval,           &[Effect::AwaitApproval]),
    row(SERVER, ProtocolValidation, I::Admitted,         Accepted,           &[Effect::StopDeadline, Effect::Admit]),
    row(CLIENT, ProtocolValidation, I::Admitted,         Accepted,           &[Effect::StopDeadline]),
    row(SERVER, Approval,           I::Admitted,         Accepted,           &[Effect::StopDeadline, Effect::Admit]),
    row(CLIENT, Approval,           I::Admitted,         Accepted,           &[Effect::StopDeadline]),
    row(BOTH,   Accepted,           I::Established,      NOT_IN_GAME,        NOTHING),
    row(BOTH,   NOT_IN_GAME,        I::EnterGame,        IN_GAME,            NOTHING),
    row(BOTH,   IN_GAME,            I::LeaveGame,        NOT_IN_GAME,        NOTHING),
    // We end it: by way of Disconnecting, so that the goodbye is delivered.
    row(BOTH,   Handshake,          I::DeadlinePassed,   Disconnecting,      CLOSE),
    row(BOTH,   ProtocolValidation, I::DeadlinePassed,   Disconnecting,      CLOSE),
    row(BOTH,   Approval,           I::DeadlinePassed,   Disconnecting,      CLOSE),
    row(BOTH,   ProtocolValidation, I::RecordDiffers,    Disconnecting,      CLOSE),
    row(CLIENT, Connecting,         I::CloseRequested,   Disconnecting,      CLOSE),
    row(BOTH,   Handshake,          I::CloseRequested,   Disconnecting,      CLOSE),
    row(BOTH,   ProtocolValidation, I::CloseRequested,   Disconnecting,      CLOSE),
    row(BOTH,   Approval,           I::CloseRequested,   Disconnecting,      CLOSE),
    row(BOTH,   Accepted,           I::CloseRequested,   Disconnecting,      CLOSE),
    row(BOTH,   NOT_IN_GAME,        I::CloseRequested,   Disconnecting,      CLOSE),
    row(BOTH,   IN_GAME,            I::CloseRequested,   Disconnecting,      CLOSE),
    // They broke the rules: over at once, and they are told.
    row(BOTH,   Handshake,          I::Violation,        Disconnected,       CLOSE_NOW),
    row(BOTH,   ProtocolValidation, I::Violation,        Disconnected,       CLOSE_NOW),
    row(BOTH,   Approval,           I::Violation,        Disconnected,       CLOSE_NOW),
    row(BOTH,   Accepted,           I::Violation,        Disconnected,       CLOSE_NOW),
    row(BOTH,   NOT_IN_GAME,        I::Violation,        Disconnected,       CLOSE_NOW),
    row(BOTH,   IN_GAME,            I::Violation,        Disconnected,       CLOSE_NOW),
    // The application broke the rules: likewise.
    row(CLIENT, Connecting,         I::EntityDespawned,  Disconnected,       CLOSE_NOW),
    row(BOTH,   Handshake,          I::EntityDespawned,  Disconnected,       CLOSE_NOW),
    row(BOTH,   ProtocolValidation, I::EntityDespawned,  Disconnected,       CLOSE_NOW),
    row(BOTH,   Approval,           I::EntityDespawned,  Disconnected,       CLOSE_NOW),
    row(BOTH,   Accepted,           I::EntityDespawned,  Disconnected,       CLOSE_NOW),
    row(BOTH,   NOT_IN_GAME,        I::EntityDespawned,  Disconnected,       CLOSE_NOW),
    row(BOTH,   IN_GAME,            I::EntityDespawned,  Disconnected,       CLOSE_NOW),
    row(BOTH,   Disconnecting,      I::EntityDespawned,  Disconnected,       RETIRE),
    // The driver says that it is over.
    row(CLIENT, Connecting,         I::Ended,            Disconnected,       RETIRE),
    row(BOTH,   Handshake,          I::Ended,            Disconnected,       RETIRE),
    row(BOTH,   ProtocolValidation, I::Ended,            Disconnected,       RETIRE),
    row(BOTH,   Approval,           I::Ended,            Disconnected,       RETIRE),
    row(BOTH,   Accepted,           I::Ended,            Disconnected,       RETIRE),
    row(BOTH,   NOT_IN_GAME,        I::Ended,            Disconnected,       RETIRE),
    row(BOTH,   IN_GAME,            I::Ended,            Disconnected,       RETIRE),
    row(BOTH,   Disconnecting,      I::Ended,            Disconnected,       RETIRE),
];

/// The state that a connection is born in, and what is done at once.
pub const fn first_state(side: Side) -> (ConnectionState, &'static [Effect]) {
    match side {
        Side::Client => (Connecting, NOTHING),
        Side::Server => (Handshake, &[Effect::AwaitRecord]),
    }
}

/// Looks a row up; `None` means that the input is refused in this state.
pub fn transition(side: Side, from: ConnectionState, input: Input) -> Option<&'static Transition> {
    // 45 rows of a few words each: a scan is as fast as a map, and a transition is rare beside a message.
    TRANSITIONS.iter().find(|row| row.from == from && row.input == input && row.side.is_none_or(|only| only == side))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must hold of every (side, state, input), said once more without the table: how far up a state is, and what
    /// each input may do to it.
    fn expected(side: Side, from: ConnectionState, input: Input) -> Option<ConnectionState> {
        let client = side == Side::Client;
        let exists = client || from != Connecting;
        let live = exists && !from.is_ending();
        let before_accepted = matches!(from, ProtocolValidation | Approval);
        match input {
            I::LinkUp => (client && from == Connecting).then_some(Handshake),
            I::RecordArrived => (from == Handshake).then_some(ProtocolValidation),
            I::RecordDiffers => (from == ProtocolValidation).then_some(Disconnecting),
            I::ApprovalRequired => (from == ProtocolValidation).then_some(Approval),
            I::Admitted => before_accepted.then_some(Accepted),
            I::Established => (from == Accepted).then_some(NOT_IN_GAME),
            I::EnterGame => (from == NOT_IN_GAME).then_some(IN_GAME),
            I::LeaveGame => (from == IN_GAME).then_some(NOT_IN_GAME),
            I::DeadlinePassed => (before_accepted || from == Handshake).then_some(Disconnecting),
            I::CloseRequested => live.then_some(Disconnecting),
            I::Violation => (live && from != Connecting).then_some(Disconnected),
            I::EntityDespawned | I::Ended => (exists && from != Disconnected).then_some(Disconnected),
        }
    }

    #[test]
    fn every_state_answers_every_input_as_the_lifecycle_says() {
        for side in [Side::Client, Side::Server] {
            for from in ConnectionState::ALL {
                for input in Input::ALL {
                    let to = transition(side, from, input).map(|row| row.to);
                    assert_eq!(to, expected(side, from, input), "{side:?} {from} {input:?}");
                }
            }
        }
    }

    #[test]
    fn no_two_rows_answer_the_same_input() {
        for side in [Side::Client, Side::Server] {
            for from in ConnectionState::ALL {
                for input in Input::ALL {
                    let fits = |row: &&Transition| {
                        row.from == from && row.input == input && row.side.is_none_or(|only| only == side)
                    };
                    assert!(TRANSITIONS.iter().filter(fits).count() <= 1, "{side:?} {from} {input:?}");
                }
            }
        }
    }

    #[test]
    fn every_state_is_reached_and_every_connection_can_end() {
        for side in [Side::Client, Side::Server] {
            let mut reached = vec![first_state(side).0];
            let mut next = 0;
            while next < reached.len() {
                for input in Input::ALL {
                    if let Some(row) = transition(side, reached[next], input)
                        && !reached.contains(&row.to)
                    {
                        reached.push(row.to);
                    }
                }
                next += 1;
            }
            for state in ConnectionState::ALL {
                let is_here = side == Side::Client || state != Connecting;
                assert_eq!(reached.contains(&state), is_here, "{side:?} {state}");
                if is_here && state != Disconnected {
                    assert!(transition(side, state, I::Ended).is_some_and(|row| row.to == Disconnected));
                }
            }
        }
    }

    #[test]
    fn whoever_becomes_disconnected_is_retired_and_nobody_else() {
        for row in TRANSITIONS {
            assert_eq!(row.to == Disconnected, row.effects.contains(&Effect::Retire), "{row:?}");
            assert_eq!(row.to == Disconnecting, row.effects.contains(&Effect::CloseLink), "{row:?}");
        }
    }
}
