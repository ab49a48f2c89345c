//! FZ8: one live link and a peer that writes whatever it likes, for long: packets with right numbers, frames of the
//! script's making, acks of what was sent or not, time, pauses, limits, the end.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::Script;
use netstream_fuzz::channels::{End, STARTS, message};
use netstream_transport::channel::Side;
use netstream_transport::{ChannelId, DisconnectCode, DisconnectReason, Limits, Mono};

fuzz_target!(|data: &[u8]| {
    let mut script = Script(data);
    let settings = script.u8();
    let side = if settings & 1 == 0 { Side::Server } else { Side::Client };
    let first = STARTS[usize::from(settings >> 1) % STARTS.len()];
    let mut end = End::new(side, first, Mono::ZERO);
    let (mut now, mut number, mut sent) = (Mono::ZERO, first, 0u32);
    let mut buf = [0; 1400];
    for _ in 0..400 {
        if script.is_over() {
            break;
        }
        match script.u8() % 10 {
            0..=3 => {
                let mut packet = vec![3];
                packet.extend_from_slice(&(number as u32).to_le_bytes());
                packet.extend_from_slice(script.bytes());
                packet.truncate(1200);
                number = number.wrapping_add(1);
                if end.link.handle_packet(now, &packet, &mut |_, _| {}).is_err() {
                    break;
                }
            }
            4 => {
                // An ack of so many packets up to one of the latest; the number of packets sent is not known here.
                let mut packet = vec![7];
                packet.extend_from_slice(&(number as u32).to_le_bytes());
                let largest = first.wrapping_add(u64::from(script.u16()) % (u64::from(sent) + 2));
                packet.extend_from_slice(&(largest as u32).to_le_bytes()[..3]);
                packet.extend_from_slice(&[script.u8() & 0x7f, 0, script.u8() & 0x7f]);
                number = number.wrapping_add(1);
                if end.link.handle_packet(now, &packet, &mut |_, _| {}).is_err() {
                    break;
                }
            }
            5 | 6 => {
                let channel = ChannelId(script.u8() % 8);
                let length = usize::from(script.u16()) % 20_000;
                let _ = end.link.send(now, channel, &message(channel, sent, length));
            }
            7 => {
                now = now + Duration::from_millis(script.u8().into()) * 4;
                if end.link.poll_timeout().is_some_and(|at| at <= now) {
                    end.link.handle_timeout(now);
                }
            }
            8 => match script.u8() % 8 {
                0 => end.link.pause(),
                1 | 2 => {
                    if end.link.resume(&mut |_, _| {}).is_err() {
                        break;
                    }
                }
                3 => {
                    let mut limits = if side == Side::Server { Limits::server() } else { Limits::client() };
                    limits.reassembly_bytes = usize::from(script.u16()).min(limits.reassembly_bytes);
                    limits.reassembly_messages = usize::from(script.u8() % 5);
                    limits.bandwidth = Some(u64::from(script.u16()) * 100);
                    end.link.set_limits(&Arc::new(limits));
                }
                4 => {
                    let reason = DisconnectReason::local(DisconnectCode::ConnectionClose);
                    end.link.close(now, &reason, Duration::from_millis(script.u8().into()));
                }
                _ => {}
            },
            _ => {
                for _ in 0..=script.u8() {
                    if end.link.poll_packet(now, &mut buf).is_none() {
                        break;
                    }
                    sent += 1;
                }
            }
        }
        while end.link.poll_event().is_some() {}
        end.check();
    }
    // Whatever was done to it, it comes to rest.
    for _ in 0..200 {
        now = now + Duration::from_millis(500);
        end.link.handle_timeout(now);
        let mut packets = 0;
        while end.link.poll_packet(now, &mut buf).is_some() {
            packets += 1;
            assert!(packets < 4096, "it never stops");
        }
    }
    end.check();
});
