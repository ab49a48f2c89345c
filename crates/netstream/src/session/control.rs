//! The messages that bring a connection up. They travel on the reliable channel.

use std::time::Duration;

use super::protocol::{PeerList, ProtocolRecord};
use super::tickets::ResumeTicket;
use super::wire::{Reader, write_millis};
use crate::NetworkId;

/// The first byte of every message says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MessageKind {
    /// One of [`Control`]; reliable only.
    Control = 0,
    /// An RPC: its type's number, then its postcard body; on the channel that it is registered with.
    Rpc = 1,
    /// Client to server; unreliable or unreliable fragmented.
    Command = 2,
    /// Server to client; unreliable or unreliable fragmented.
    Snapshot = 3,
    /// Client to server: its commands of a tick, and acknowledgements of snapshots; unreliable or unreliable fragmented.
    Input = 4,
    /// Server to client: its snapshots of a tick, and the time; unreliable or unreliable fragmented.
    TickSnapshot = 5,
    /// An RPC of which the sender wants to hear: the call's number in 7-bit groups, then as [`Rpc`](Self::Rpc).
    RpcCall = 6,
    /// What became of one: the call's number in 7-bit groups, then 0: dispatched, or 1 and the postcard body of the
    /// answer; reliable only.
    RpcReply = 7,
}

impl MessageKind {
    pub(crate) fn split(message: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = message.split_first()?;
        let kind = match kind {
            0 => Self::Control,
            1 => Self::Rpc,
            2 => Self::Command,
            3 => Self::Snapshot,
            4 => Self::Input,
            5 => Self::TickSnapshot,
            6 => Self::RpcCall,
            7 => Self::RpcReply,
            _ => return None,
        };
        Some((kind, rest))
    }
}

/// A control message: its tag byte, then its fields, little-endian.
#[derive(Debug, PartialEq)]
pub(crate) enum Control<'a> {
    /// 1: what each end speaks; and, from the client, the resume ticket of an earlier connection (presence byte, 20
    /// bytes) and credentials for the server's game code (length u16, bytes).
    Record { record: ProtocolRecord, ticket: Option<ResumeTicket>, credentials: &'a [u8] },
    /// 2: all message types, because the records differ.
    List(PeerList),
    /// 3, from the server: its game code will decide within this time (milliseconds u32).
    ApprovalRequired { within: Duration },
    /// 4, from the server: welcome. This is your id (in the ticket), whether you had it before (byte), and the ticket with
    /// which you get it again (20 bytes).
    Admitted { id: NetworkId, resumed: bool, ticket: ResumeTicket },
    /// 5, from the server: it takes nobody new and ends within this time (milliseconds u32).
    Draining { within: Duration },
}

const RECORD: u8 = 1;
const LIST: u8 = 2;
const APPROVAL_REQUIRED: u8 = 3;
const ADMITTED: u8 = 4;
const DRAINING: u8 = 5;

impl<'a> Control<'a> {
    /// Reads what follows the kind byte. Trailing bytes are refused.
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(message);
        match reader.u8()? {
            RECORD => {
                let record = ProtocolRecord::read(&mut reader)?;
                let ticket = match reader.u8()? {
                    0 => None,
                    1 => Some(ResumeTicket(reader.array()?)),
                    _ => return None,
                };
                let length = usize::from(reader.u16()?);
                let credentials = reader.bytes(length)?;
                reader.end(Self::Record { record, ticket, credentials })
            }
            LIST => PeerList::read(reader).map(Self::List),
            APPROVAL_REQUIRED => {
                let within = reader.millis()?;
                reader.end(Self::ApprovalRequired { within })
            }
            ADMITTED => {
                let resumed = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                let ticket = ResumeTicket(reader.array()?);
                let id = ticket.id()?;
                reader.end(Self::Admitted { id, resumed, ticket })
            }
            DRAINING => {
                let within = reader.millis()?;
                reader.end(Self::Draining { within })
            }
            _ => None,
        }
    }
}

/// Writes a record; `credentials` are at most 4096 bytes, which `connect` has checked.
pub(crate) fn write_record(
    out: &mut Vec<u8>,
    record: &ProtocolRecord,
    ticket: Option<&ResumeTicket>,
    credentials: &[u8],
) {
    out.extend_from_slice(&[MessageKind::Control as u8, RECORD]);
    record.write(out);
    match ticket {
        None => out.push(0),
        Some(ticket) => {
            out.push(1);
            out.extend_from_slice(&ticket.0);
        }
    }
    out.extend_from_slice(&(credentials.len() as u16).to_le_bytes());
    out.extend_from_slice(credentials);
}

/// Writes a list with `write`.
pub(crate) fn write_list(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[MessageKind::Control as u8, LIST]);
    write(out);
}

/// Writes the demand for approval.
pub(crate) fn write_approval_required(out: &mut Vec<u8>, within: Duration) {
    out.extend_from_slice(&[MessageKind::Control as u8, APPROVAL_REQUIRED]);
    write_millis(out, within);
}

/// Writes the acceptance; the id is in the ticket.
pub(crate) fn write_admitted(out: &mut Vec<u8>, resumed: bool, ticket: &ResumeTicket) {
    out.extend_from_slice(&[MessageKind::Control as u8, ADMITTED, resumed.into()]);
    out.extend_from_slice(&ticket.0);
}

/// Writes the announcement of the end.
pub(crate) fn write_draining(out: &mut Vec<u8>, within: Duration) {
    out.extend_from_slice(&[MessageKind::Control as u8, DRAINING]);
    write_millis(out, within);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GameProtocol;
    use crate::session::protocol::Protocol;
    use crate::session::tickets::TicketBook;
    use netstream_driver::transport::SeededRandom;

    fn read(bytes: &[u8]) -> Option<Control<'_>> {
        let (kind, rest) = MessageKind::split(bytes)?;
        assert_eq!(kind, MessageKind::Control);
        Control::read(rest)
    }

    #[test]
    fn control_messages_survive_the_wire_whole_and_only_whole() {
        let protocol = Protocol::new(GameProtocol::new("arena", 7), Vec::new());
        let id = NetworkId::new(5).unwrap();
        let ticket = TicketBook::default().issue(id, &mut SeededRandom::new(1));
        let within = Duration::from_secs(30);
        let mut messages = [const { Vec::new() }; 5];
        write_record(&mut messages[0], &protocol.record(), None, b"secret");
        write_record(&mut messages[1], &protocol.record(), Some(&ticket), b"");
        write_approval_required(&mut messages[2], within);
        write_admitted(&mut messages[3], true, &ticket);
        write_draining(&mut messages[4], within);
        let record = |ticket, credentials| Control::Record { record: protocol.record(), ticket, credentials };
        assert_eq!(read(&messages[0]), Some(record(None, b"secret")));
        assert_eq!(read(&messages[1]), Some(record(Some(ticket.clone()), b"")));
        assert_eq!(read(&messages[2]), Some(Control::ApprovalRequired { within }));
        assert_eq!(read(&messages[3]), Some(Control::Admitted { id, resumed: true, ticket }));
        assert_eq!(read(&messages[4]), Some(Control::Draining { within }));
        for message in &messages {
            for length in 1..message.len() {
                assert_eq!(read(&message[..length]), None);
            }
            assert_eq!(read(&[message, &b"!"[..]].concat()), None);
        }
    }

    #[test]
    fn an_id_of_zero_is_refused() {
        assert_eq!(Control::read(&[&[ADMITTED, 0][..], &[0; 20]].concat()), None);
    }
}
