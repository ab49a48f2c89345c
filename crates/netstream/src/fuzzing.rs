//! **For fuzzers only**: the decoders by themselves, with what must hold of whatever they accept. A broken promise is a
//! panic.

use crate::command::wire::{Arena, Header, write_block};
use crate::command::{History, MAX_COMMAND, MAX_REDUNDANCY};
use crate::session::control::MessageKind;
use crate::session::incoming::split_rpc;
use crate::session::wire::{Reader, write_id, write_varint};
use crate::snapshot::delta;
use crate::snapshot::wire::{
    MAX_SNAPSHOT, Section, read_header, read_sections, write_delta, write_header, write_whole,
};
use crate::tick::Tick;

/// Memory that is used again and again.
#[derive(Default)]
pub struct Decoders {
    arena: Arena,
    again: Arena,
    sections: Vec<Section>,
    written: Vec<u8>,
    decoded: Vec<u8>,
    twice: Vec<u8>,
}

impl Decoders {
    /// Whether this is the envelope of an RPC, a call or a reply. What is accepted has one form only.
    pub fn rpc(&mut self, message: &[u8]) -> bool {
        let Some((kind, body)) = MessageKind::split(message) else { return false };
        self.written.clear();
        match kind {
            MessageKind::Rpc | MessageKind::RpcCall => {
                let Some((prefix, number, body)) = split_rpc(kind, message) else { return false };
                self.written.extend_from_slice(prefix);
                write_id(&mut self.written, number);
                self.written.extend_from_slice(body);
            }
            MessageKind::RpcReply => {
                let mut reader = Reader(body);
                let Some(call) = reader.varint() else { return false };
                self.written.push(message[0]);
                write_varint(&mut self.written, call);
                self.written.extend_from_slice(reader.0);
            }
            _ => return false,
        }
        assert_eq!(self.written, message, "one form only");
        true
    }

    /// Whether this is a client's packet of a tick, where there are so many types. What is accepted is in bounds, in
    /// order, and the same after having been written and read again.
    pub fn commands(&mut self, packet: &[u8], types: usize) -> bool {
        let mut reader = Reader(packet);
        let Some(header) = Header::read(&mut reader) else { return false };
        self.written.clear();
        header.write(&mut self.written);
        assert!(packet.starts_with(&self.written), "one form only");
        if self.arena.read(reader, header.tick, types).is_none() {
            return false;
        }
        let mut last: Option<(u16, Tick)> = None;
        let mut histories: Vec<(u16, Vec<(Tick, &[u8])>)> = Vec::new();
        for (number, tick, bytes) in self.arena.iter() {
            assert!(usize::from(number) < types && bytes.len() <= MAX_COMMAND);
            assert!(last.is_none_or(|last| number > last.0 || number == last.0 && last.1.is_after(tick)));
            last = Some((number, tick));
            match histories.last_mut().filter(|(of, _)| *of == number) {
                Some((_, commands)) => commands.push((tick, bytes)),
                None => histories.push((number, vec![(tick, bytes)])),
            }
        }
        // Nobody writes a packet that is older than its commands, or has commands half the way round before it.
        let reach = |commands: &[(Tick, &[u8])]| {
            commands.iter().all(|(tick, _)| (0..1 << 30).contains(&header.tick.since(*tick)))
        };
        if !histories.iter().all(|(_, commands)| reach(commands)) {
            return true;
        }
        self.written.clear();
        for (number, commands) in &histories {
            assert!(commands.len() <= MAX_REDUNDANCY);
            let mut history = History::default();
            commands.iter().rev().for_each(|(tick, bytes)| history.push(*tick, bytes.to_vec()));
            write_block(&mut self.written, *number, header.tick, &history, commands.len());
        }
        self.again.read(Reader(&self.written), header.tick, types).expect("what was written is read");
        assert!(self.arena.iter().eq(self.again.iter()), "the same after a round trip");
        true
    }

    /// Whether this is a server's packet of a tick, where there are so many types. What is accepted has one form only
    /// and is in bounds; its deltas, if they fit `base`, give what they say.
    pub fn snapshot(&mut self, packet: &[u8], types: usize, base: &[u8]) -> bool {
        let mut reader = Reader(packet);
        let Some(report) = read_header(&mut reader) else { return false };
        let body = reader.0;
        if read_sections(body, types, &mut self.sections).is_none() {
            return false;
        }
        self.written.clear();
        write_header(&mut self.written, &report);
        for section in &self.sections {
            assert!(section.kind as usize <= types && section.length <= MAX_SNAPSHOT);
            let bytes = &body[section.bytes.clone()];
            let Some(back) = section.back else {
                write_whole(&mut self.written, section.kind, bytes);
                continue;
            };
            write_delta(&mut self.written, section.kind, back, section.length, bytes);
            if delta::decode(base, bytes, section.length, &mut self.decoded).is_ok() {
                assert_eq!(self.decoded.len(), section.length);
                let mut told = Vec::new();
                delta::encode(base, &self.decoded, &mut told);
                delta::decode(base, &told, section.length, &mut self.twice).expect("what was encoded is decoded");
                assert!(self.decoded == self.twice, "the same after a round trip");
            }
        }
        assert_eq!(self.written, packet, "one form only");
        true
    }
}
