//! FZ1: any datagram, at both ends, in every state. First byte: which end, or only the reader.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use netstream_fuzz::*;
use netstream_transport::netcode::client::{ClientConfig, Credentials};
use netstream_transport::netcode::server::Received;
use netstream_transport::netcode::{Client, KeyRing, MAX_DATAGRAM_OUT, Server, ServerConfig, fuzzing};
use netstream_transport::{Limits, SeededRandom};

fuzz_target!(|data: &[u8]| {
    let Some((&mode, datagram)) = data.split_first() else { return };
    reader(datagram);
    let connected = mode & 1 == 1;
    PAIRS.with_borrow_mut(|pairs| {
        let pair = &mut pairs[usize::from(connected)];
        if mode & 2 == 0 { server(&mut pair.0, datagram, connected) } else { client(&mut pair.1, datagram, connected) }
    });
});

/// What is read as a header can be written with the same meaning.
fn reader(datagram: &[u8]) {
    fuzzing::is_request(&mut datagram.to_vec());
    let Some((kind, sequence)) = fuzzing::header(datagram) else { return };
    assert!((18..=1225).contains(&datagram.len()) && kind <= 6);
    let again = fuzzing::seal(kind, sequence, &[0; 8], PROTOCOL, &key()).expect("the type exists");
    assert_eq!(fuzzing::header(&again), Some((kind, sequence)));
}

/// A client at `address(0)`, and with `connected` one whose packets the server knows.
fn pair(rounds: usize) -> (Server, Client) {
    let mut keys = KeyRing::new();
    keys.add_key(PROTOCOL, key()).expect("not zero");
    let mut config = ServerConfig::new(keys);
    config.addresses = vec![server_address()];
    let mut server = Server::new(config, &Limits::default(), &mut SeededRandom::new(1), started());
    let config = ClientConfig {
        credentials: Credentials::Token(Box::new(token(1))),
        addresses: Vec::new(),
        allow_local: false,
        cipher: Default::default(),
    };
    let mut client = Client::new(config, &Limits::default(), &mut SeededRandom::new(2), now(0)).expect("dialable");
    let mut buf = [0; MAX_DATAGRAM_OUT];
    for _ in 0..rounds {
        while let Some(transmit) = client.poll_transmit(now(0), &mut buf) {
            server.handle_datagram(now(0), address(0), &mut buf[..transmit.len]);
        }
        while let Some(transmit) = server.poll_transmit(now(0), &mut buf) {
            client.handle_datagram(now(0), server_address(), &mut buf[..transmit.len]);
        }
    }
    (server, client)
}

thread_local! {
    /// Nothing that a datagram does here may last, so one pair of each kind serves for all.
    static PAIRS: RefCell<[(Server, Client); 2]> = RefCell::new([pair(0), pair(2)]);
}

/// A server answers no datagram that it has no key for, and believes none.
fn server(server: &mut Server, datagram: &[u8], connected: bool) {
    while server.poll_event().is_some() {}
    server.tick(now(1));
    let mut copy = datagram.to_vec();
    assert!(matches!(server.handle_datagram(now(1), address(0), &mut copy), Received::Nothing));
    assert!(server.poll_event().is_none());
    assert!(server.poll_transmit(now(1), &mut [0; MAX_DATAGRAM_OUT]).is_none());
    assert_eq!(server.connections(), usize::from(connected));
}

fn client(client: &mut Client, datagram: &[u8], connected: bool) {
    while client.poll_event().is_some() {}
    let mut copy = datagram.to_vec();
    assert!(client.handle_datagram(now(1), server_address(), &mut copy).is_none());
    assert!(client.poll_event().is_none());
    assert_eq!(client.is_connected(), connected);
}
