//! The client's side: taking commands, and sending one packet per tick.

use bevy_ecs::component::Component;
use bevy_ecs::entity::Entity;
use bevy_ecs::system::{Local, Query, Res, ResMut, SystemParam};

use super::history::History;
use super::registry::{Command, CommandRegistry};
use super::wire::{Header, write_block};
use super::{MAX_COMMAND, WINDOW_AFTER};
use crate::connection::Ending;
use crate::rpc::Append;
use crate::session::control::MessageKind;
use crate::snapshot::SnapshotInbox;
use crate::tick::Tick;
use crate::time::NetworkTime;
use crate::types::short_name;
use crate::{ConnectionState, NetworkStreamDriver};

/// Why a command was not taken. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The type was never registered here.
    #[error("{0} is not registered; call app.register_command::<{0}>() on both sides before the first update")]
    NotRegistered(&'static str),
    /// No connection of this World is in the game.
    #[error("no connection is in the game; insert NetworkStreamInGame on the client's connection first")]
    NotInGame,
    /// The server's tick is not known yet.
    #[error("the server's tick is not known yet; send commands in the NetworkTick schedule, which waits for it")]
    NotSynced,
    /// A command of this type was taken for this tick already, or for a newer one.
    #[error("there is a command for tick {newest} already; one for tick {tick} comes too late")]
    AlreadySent {
        /// The tick that was asked for.
        tick: Tick,
        /// The newest tick that has a command of this type.
        newest: Tick,
    },
    /// The tick is too far from the present one for the server to take it.
    #[error("tick {tick} is too far from the present tick {now}; the server takes 32 ahead")]
    WrongTick {
        /// The tick that was asked for.
        tick: Tick,
        /// The tick of [`NetworkTime::tick`].
        now: Tick,
    },
    /// The command is too large.
    #[error("a command of {size} bytes is over the limit of {}", MAX_COMMAND)]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The command could not be serialised.
    #[error("{0} could not be serialised; its Serialize implementation failed")]
    NotSerialised(&'static str),
}

/// Client: the commands that are on their way.
#[derive(Component, Debug, Default)]
pub(crate) struct OutgoingCommands {
    /// By type number.
    types: Vec<History>,
}

impl OutgoingCommands {
    pub(crate) fn clear(&mut self) {
        self.types.iter_mut().for_each(History::clear);
    }
}

/// Client: sends commands; a parameter for systems.
///
/// What is sent in an update leaves at its end, together with the last commands before it and with what the server must
/// know of the snapshots that arrived.
#[derive(SystemParam)]
pub struct CommandSender<'w, 's> {
    registry: Option<Res<'w, CommandRegistry>>,
    time: Option<Res<'w, NetworkTime>>,
    connections: Query<'w, 's, (&'static ConnectionState, &'static Ending, &'static mut OutgoingCommands)>,
}

impl CommandSender<'_, '_> {
    /// Sends the command for the present tick. After an error nothing was taken.
    pub fn send<C: Command>(&mut self, command: &C) -> Result<(), CommandError> {
        let tick = self.time.as_ref().map(|time| time.tick()).unwrap_or_default();
        self.send_for(tick, command)
    }

    /// The same for another tick, up to 32 after the present one. Ticks may be left out; they only go forward.
    pub fn send_for<C: Command>(&mut self, tick: Tick, command: &C) -> Result<(), CommandError> {
        let number = self.registry.as_ref().and_then(|registry| Some(registry.0.find::<C>()?.0));
        let number = usize::from(number.ok_or_else(|| CommandError::NotRegistered(short_name::<C>()))?);
        let time = self.time.as_ref().ok_or(CommandError::NotSynced)?;
        let mut all = self.connections.iter_mut();
        let in_game = all.find(|(state, ending, _)| ending.judge(**state).is_in_game());
        let (_, _, mut outgoing) = in_game.ok_or(CommandError::NotInGame)?;
        if !time.client.is_synced() {
            return Err(CommandError::NotSynced);
        }
        let now = time.tick();
        if !(0..=WINDOW_AFTER).contains(&tick.since(now)) {
            return Err(CommandError::WrongTick { tick, now });
        }
        if outgoing.types.len() <= number {
            outgoing.types.resize_with(number + 1, History::default);
        }
        let history = &mut outgoing.types[number];
        if let Some(newest) = history.newest()
            && !tick.is_after(newest)
        {
            return Err(CommandError::AlreadySent { tick, newest });
        }
        let mut bytes = history.spare();
        postcard::serialize_with_flavor(command, Append(&mut bytes))
            .map_err(|_| CommandError::NotSerialised(short_name::<C>()))?;
        if bytes.len() > MAX_COMMAND {
            return Err(CommandError::TooLarge { size: bytes.len() });
        }
        history.push(tick, bytes);
        Ok(())
    }
}

/// What [`flush`] works on.
pub(crate) type Unsent<'w, 's> = (
    ResMut<'w, NetworkStreamDriver>,
    Option<Res<'w, CommandRegistry>>,
    ResMut<'w, NetworkTime>,
    Query<
        'w,
        's,
        (Entity, &'static ConnectionState, &'static mut OutgoingCommands, Option<&'static mut SnapshotInbox>),
    >,
    Local<'s, Vec<u8>>,
);

/// Client: sends one packet for the ticks of this update.
pub(crate) fn flush((mut net, registry, mut time, mut connections, mut packet): Unsent<'_, '_>) {
    if !time.client.is_synced() {
        return;
    }
    let types = registry.map(|registry| registry.0.by_number()).unwrap_or_default();
    for (entity, state, mut outgoing, inbox) in &mut connections {
        let fresh = outgoing.types.iter().any(History::has_unsent);
        if !state.is_in_game() || !(time.ran > 0 || fresh) || time.connection != Some(entity) {
            continue;
        }
        // A command may have been made for a tick to come.
        let newest = outgoing.types.iter().filter_map(History::newest).filter(|tick| tick.is_after(time.tick()));
        let tick = newest.fold(time.tick(), |newest, tick| if tick.is_after(newest) { tick } else { newest });
        let (acks, wants_full) = inbox.map_or((None, false), |mut inbox| (inbox.acks(), inbox.ask(net.now().mono)));
        let header = Header { tick, acks, wants_full };
        let limit = net.data_limit(entity);
        // As much redundancy as fits in a datagram; what was never sent must go in any case.
        let mut most = types.iter().map(|entry| entry.redundancy).max().unwrap_or(1);
        loop {
            packet.clear();
            header.write(&mut packet);
            for ((history, entry), number) in outgoing.types.iter().zip(&*types).zip(0..) {
                let count = history.due(tick, entry.redundancy.min(most));
                write_block(&mut packet, number, tick, history, count);
            }
            if packet.len() < limit || most == 1 {
                break;
            }
            most -= 1;
        }
        if let Err(error) = net.send_data(entity, MessageKind::Input, &packet) {
            // A full queue, or an end that its event tells of; the next packet says it again.
            tracing::debug!("commands for {entity} not sent: {error}");
            continue;
        }
        for (history, entry) in outgoing.types.iter_mut().zip(&*types) {
            history.sent(history.due(tick, entry.redundancy.min(most)));
        }
        let ran = time.ran;
        time.client.sent(tick, ran);
    }
}
