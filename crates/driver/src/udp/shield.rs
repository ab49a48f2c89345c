//! What Linux drops under a flood: datagrams that no client ever sends, before they take a place in the receive buffer.
//!
//! A program for the kernel's filter machine (classic BPF), which sees a datagram from its UDP header on. It looks at type
//! and length alone, exactly as `docs/wire.md` §1.6 has them, and never drops what a server would have opened.

use libc::sock_filter;
use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_LEN, BPF_MISC};
use libc::{BPF_RET, BPF_RSH, BPF_SUB, BPF_TAX, BPF_TXA, BPF_W, BPF_X};
use netstream_transport::netcode::{TAILROOM, datagram_of};

/// Bytes in front of the payload.
const UDP_HEADER: u32 = 8;
/// Everything but the body, where the number takes one byte.
const OVERHEAD: u32 = UDP_HEADER + 2 + TAILROOM as u32;

/// The program's last two lines.
const KEEP: u8 = 30;
const DROP: u8 = 31;

/// The program, for payloads of up to `max_body` bytes. A subtraction that goes below zero gives a huge number, which fits
/// nowhere.
#[rustfmt::skip]
pub(super) fn program(max_body: usize) -> [sock_filter; 32] {
    let (largest, max_body) = (datagram_of(max_body) as u32, max_body as u32);
    let length = || line(BPF_LD | BPF_W | BPF_LEN, 0);
    let first_byte = || line(BPF_LD | BPF_B | BPF_ABS, UDP_HEADER);
    let body = || line(BPF_MISC | BPF_TXA, 0);
    let keep_if = |at, size| jump(at, BPF_JEQ, size, KEEP, DROP);
    [
        /*  0 */ length(),
        /*  1 */ jump(1, BPF_JGT, UDP_HEADER + largest, DROP, 2),
        /*  2 */ jump(2, BPF_JGT, UDP_HEADER, 3, DROP),
        /*  3 */ first_byte(),
        /*  4 */ jump(4, BPF_JEQ, 0, 28, 5),
        // The length of the number, 1 to 8.
        /*  5 */ line(BPF_ALU | BPF_RSH | BPF_K, 4),
        /*  6 */ line(BPF_ALU | BPF_SUB | BPF_K, 1),
        /*  7 */ jump(7, BPF_JGT, 7, DROP, 8),
        // The length of the body, kept in the other register.
        /*  8 */ line(BPF_MISC | BPF_TAX, 0),
        /*  9 */ length(),
        /* 10 */ line(BPF_ALU | BPF_SUB | BPF_X, 0),
        /* 11 */ line(BPF_ALU | BPF_SUB | BPF_K, OVERHEAD),
        /* 12 */ line(BPF_MISC | BPF_TAX, 0),
        // The type.
        /* 13 */ first_byte(),
        /* 14 */ line(BPF_ALU | BPF_AND | BPF_K, 0xf),
        /* 15 */ jump(15, BPF_JEQ, 5, 19, 16),
        /* 16 */ jump(16, BPF_JEQ, 4, 22, 17),
        /* 17 */ jump(17, BPF_JEQ, 6, 24, 18),
        /* 18 */ jump(18, BPF_JEQ, 3, 26, DROP),
        // Payload: at least 1 byte.
        /* 19 */ body(),
        /* 20 */ line(BPF_ALU | BPF_SUB | BPF_K, 1),
        /* 21 */ jump(21, BPF_JGT, max_body - 1, DROP, KEEP),
        // Keep-alive.
        /* 22 */ body(),
        /* 23 */ keep_if(23, 8),
        // Disconnect.
        /* 24 */ body(),
        /* 25 */ keep_if(25, 0),
        // Response.
        /* 26 */ body(),
        /* 27 */ keep_if(27, 308),
        // Request.
        /* 28 */ length(),
        /* 29 */ keep_if(29, UDP_HEADER + 1078),
        /* 30 */ line(BPF_RET | BPF_K, u32::MAX),
        /* 31 */ line(BPF_RET | BPF_K, 0),
    ]
}

fn line(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Line `at`: compares, and goes on at line `yes` or `no`, which are below it.
fn jump(at: u8, test: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | test | BPF_K) as u16, jt: yes - at - 1, jf: no - at - 1, k }
}
