//! The messages that bring a connection up. They travel on the reliable channel.

use std::time::Duration;

use super::protocol::{PeerList, ProtocolRecord};
use super::wire::Reader;
use crate::NetworkId;

/// The first byte of every message says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MessageKind {
    /// One of [`Control`]; reliable only.
    Control = 0,
    /// An RPC: id, then its postcard body; reliable only.
    Rpc = 1,
    /// Client to server; unreliable or unreliable fragmented.
    Command = 2,
    /// Server to client; unreliable or unreliable fragmented.
    Snapshot = 3,
}

impl MessageKind {
    pub(crate) fn split(message: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = message.split_first()?;
        let kind = match kind {
            0 => Self::Control,
            1 => Self::Rpc,
            2 => Self::Command,
            3 => Self::Snapshot,
            _ => return None,
        };
        Some((kind, rest))
    }
}

/// A control message: its tag byte, then its fields, little-endian.
#[derive(Debug, PartialEq)]
pub(crate) enum Control<'a> {
    /// 1: what each end speaks; and, from the client, credentials for the server's game code (length u16, bytes).
    Record { record: ProtocolRecord, credentials: &'a [u8] },
    /// 2: all message types, because the records differ.
    List(PeerList),
    /// 3, from the server: its game code will decide within this time (milliseconds u32).
    ApprovalRequired { within: Duration },
    /// 4, from the server: welcome, and this is your id (u32).
    Admitted { id: NetworkId },
}

const RECORD: u8 = 1;
const LIST: u8 = 2;
const APPROVAL_REQUIRED: u8 = 3;
const ADMITTED: u8 = 4;

impl<'a> Control<'a> {
    /// Reads what follows the kind byte. Trailing bytes are refused.
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(message);
        match reader.u8()? {
            RECORD => {
                let record = ProtocolRecord::read(&mut reader)?;
                let length = usize::from(reader.u16()?);
                let credentials = reader.bytes(length)?;
                reader.end(Self::Record { record, credentials })
            }
            LIST => PeerList::read(reader).map(Self::List),
            APPROVAL_REQUIRED => {
                let within = Duration::from_millis(u64::from(reader.u32()?));
                reader.end(Self::ApprovalRequired { within })
            }
            ADMITTED => {
                let id = NetworkId::new(reader.u32()?)?;
                reader.end(Self::Admitted { id })
            }
            _ => None,
        }
    }
}

/// Writes a record; `credentials` are at most 4096 bytes, which `connect` has checked.
pub(crate) fn write_record(out: &mut Vec<u8>, record: &ProtocolRecord, credentials: &[u8]) {
    out.extend_from_slice(&[MessageKind::Control as u8, RECORD]);
    record.write(out);
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
    out.extend_from_slice(&u32::try_from(within.as_millis()).unwrap_or(u32::MAX).to_le_bytes());
}

/// Writes the acceptance.
pub(crate) fn write_admitted(out: &mut Vec<u8>, id: NetworkId) {
    out.extend_from_slice(&[MessageKind::Control as u8, ADMITTED]);
    out.extend_from_slice(&id.number().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GameProtocol;
    use crate::session::protocol::Protocol;

    fn read(bytes: &[u8]) -> Option<Control<'_>> {
        let (kind, rest) = MessageKind::split(bytes)?;
        assert_eq!(kind, MessageKind::Control);
        Control::read(rest)
    }

    #[test]
    fn control_messages_survive_the_wire_whole_and_only_whole() {
        let protocol = Protocol::new(GameProtocol::new("arena", 7), Vec::new());
        let mut messages = [const { Vec::new() }; 3];
        write_record(&mut messages[0], &protocol.record(), b"secret");
        write_approval_required(&mut messages[1], Duration::from_secs(30));
        write_admitted(&mut messages[2], NetworkId::new(5).unwrap());
        assert_eq!(
            read(&messages[0]),
            Some(Control::Record { record: protocol.record(), credentials: b"secret" })
        );
        assert_eq!(read(&messages[1]), Some(Control::ApprovalRequired { within: Duration::from_secs(30) }));
        assert_eq!(read(&messages[2]), Some(Control::Admitted { id: NetworkId::new(5).unwrap() }));
        for message in &messages {
            for length in 1..message.len() {
                assert_eq!(read(&message[..length]), None);
            }
            assert_eq!(read(&[message, &b"!"[..]].concat()), None);
        }
    }

    #[test]
    fn an_id_of_zero_is_refused() {
        assert_eq!(Control::read(&[ADMITTED, 0, 0, 0, 0]), None);
    }
}
