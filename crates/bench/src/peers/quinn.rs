//! quinn: QUIC datagrams, and one stream for what is reliable.
//!
//! The server's endpoint, its connections and the game share one thread, as a game's server would have it: between two
//! rounds of the game the runtime works.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::end::{Crowd, End, Lane, Server, Setup};
use crate::game::Game;

/// What connections have received, and who is there.
#[derive(Default)]
struct Shared {
    inbox: Vec<(usize, Bytes)>,
    connections: Vec<Peer>,
    connected: usize,
}

struct Peer {
    connection: Option<Connection>,
    /// What waits for the stream.
    outgoing: tokio::sync::mpsc::UnboundedSender<Bytes>,
}

fn runtime() -> (Runtime, LocalSet) {
    (tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"), LocalSet::new())
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.datagram_send_buffer_size(8 << 20).datagram_receive_buffer_size(Some(8 << 20));
    transport.stream_receive_window((8_u32 << 20).into()).receive_window((16_u32 << 20).into());
    transport.send_window(16 << 20).keep_alive_interval(Some(Duration::from_secs(1)));
    Arc::new(transport)
}

fn crypto() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config() -> ServerConfig {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let tls = rustls::ServerConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("TLS 1.3");
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport());
    config
}

/// Reads messages behind u32 lengths from a stream.
async fn read_stream(mut stream: RecvStream, client: usize, shared: Rc<RefCell<Shared>>) {
    let mut waiting = Vec::new();
    while let Ok(Some(chunk)) = stream.read_chunk(64 << 10, true).await {
        waiting.extend_from_slice(&chunk.bytes);
        let mut at = 0;
        while let Some(length) = waiting[at..].first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some(message) = waiting[at + 4..].get(..length) else { break };
            shared.borrow_mut().inbox.push((client, Bytes::copy_from_slice(message)));
            at += 4 + length;
        }
        waiting.drain(..at);
    }
}

async fn write_stream(mut stream: SendStream, mut outgoing: tokio::sync::mpsc::UnboundedReceiver<Bytes>) {
    while let Some(message) = outgoing.recv().await {
        if stream.write_chunk(message).await.is_err() {
            return;
        }
    }
}

/// Serves one connection, from either end.
async fn run(connection: Connection, client: usize, shared: Rc<RefCell<Shared>>, opens: bool) {
    let (sender, outgoing) = tokio::sync::mpsc::unbounded_channel();
    {
        let mut shared = shared.borrow_mut();
        while shared.connections.len() <= client {
            shared.connections.push(Peer { connection: None, outgoing: sender.clone() });
        }
        shared.connections[client] = Peer { connection: Some(connection.clone()), outgoing: sender };
        shared.connected += 1;
    }
    // A stream exists for the other end when something has been written to it.
    let streams = if opens {
        let mut streams = connection.open_bi().await;
        if let Ok((send, _)) = &mut streams {
            let _ = send.write_all(&0_u32.to_le_bytes()).await;
        }
        streams
    } else {
        connection.accept_bi().await
    };
    if let Ok((send, receive)) = streams {
        tokio::task::spawn_local(read_stream(receive, client, shared.clone()));
        tokio::task::spawn_local(write_stream(send, outgoing));
    }
    while let Ok(datagram) = connection.read_datagram().await {
        shared.borrow_mut().inbox.push((client, datagram));
    }
}

fn drain(shared: &Rc<RefCell<Shared>>, sink: &mut dyn FnMut(usize, &[u8])) {
    let mut inbox = std::mem::take(&mut shared.borrow_mut().inbox);
    // The empty message that opens a stream is nobody's.
    inbox.drain(..).filter(|(_, message)| !message.is_empty()).for_each(|(client, message)| sink(client, &message));
    let mut shared = shared.borrow_mut();
    if shared.inbox.is_empty() {
        shared.inbox = inbox;
    }
}

fn send(shared: &Rc<RefCell<Shared>>, client: usize, lane: Lane, message: &Bytes) -> bool {
    let shared = shared.borrow();
    let Some(Peer { connection: Some(connection), outgoing }) = shared.connections.get(client) else { return false };
    match lane {
        Lane::Unreliable => connection.send_datagram(message.clone()).is_ok(),
        Lane::Reliable => {
            let length = (message.len() as u32).to_le_bytes();
            // One write for a small message, no copy of a large one.
            if message.len() < 4096 {
                return outgoing.send([&length, &**message].concat().into()).is_ok();
            }
            outgoing.send(Bytes::copy_from_slice(&length)).is_ok() && outgoing.send(message.clone()).is_ok()
        }
        // QUIC has no large datagrams.
        Lane::Fragmented => false,
    }
}

/// Lets the runtime work until then, and at least through what is ready.
fn work(runtime: &Runtime, tasks: &LocalSet, until: Instant) {
    tasks.block_on(runtime, async { tokio::time::sleep_until(until.into()).await });
}

/// Lets the runtime do what is ready.
fn turn(runtime: &Runtime, tasks: &LocalSet) {
    tasks.block_on(runtime, async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    });
}

pub(crate) struct QuinnServer {
    runtime: Runtime,
    tasks: LocalSet,
    shared: Rc<RefCell<Shared>>,
    address: String,
}

impl QuinnServer {
    pub(crate) fn new(_: &Setup) -> Self {
        let (runtime, tasks) = runtime();
        let shared = Rc::<RefCell<Shared>>::default();
        let guard = runtime.enter();
        let endpoint = Endpoint::server(server_config(), "127.0.0.1:0".parse().expect("valid")).expect("loopback");
        let address = endpoint.local_addr().expect("bound").to_string();
        let everybody = shared.clone();
        tasks.spawn_local(async move {
            while let Some(incoming) = endpoint.accept().await {
                let shared = everybody.clone();
                tokio::task::spawn_local(async move {
                    if let Ok(connection) = incoming.await {
                        let client = shared.borrow().connected;
                        run(connection, client, shared, false).await;
                    }
                });
            }
        });
        drop(guard);
        Self { runtime, tasks, shared, address }
    }
}

impl Server for QuinnServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn update(&mut self, game: &mut Game) {
        turn(&self.runtime, &self.tasks);
        game.update(self);
        turn(&self.runtime, &self.tasks);
    }

    fn wait(&mut self, until: Instant) {
        work(&self.runtime, &self.tasks, until);
    }
}

impl End for QuinnServer {
    fn connected(&mut self) -> usize {
        self.shared.borrow().connected
    }

    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
        drain(&self.shared, sink);
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        send(&self.shared, client, lane, message)
    }
}

/// Clients, each with an endpoint of its own.
pub(crate) struct QuinnCrowd {
    runtime: Runtime,
    tasks: LocalSet,
    shared: Rc<RefCell<Shared>>,
    server: SocketAddr,
    config: ClientConfig,
    started: usize,
}

impl QuinnCrowd {
    pub(crate) fn new(address: &str) -> Self {
        let (runtime, tasks) = runtime();
        let tls = rustls::ClientConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")));
        config.transport_config(transport());
        let server = address.parse().expect("an address");
        Self { runtime, tasks, shared: Rc::default(), server, config, started: 0 }
    }
}

impl Crowd for QuinnCrowd {
    fn connect(&mut self) {
        let _guard = self.runtime.enter();
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().expect("valid")).expect("loopback");
        endpoint.set_default_client_config(self.config.clone());
        let (shared, server, client) = (self.shared.clone(), self.server, self.started);
        self.started += 1;
        self.tasks.spawn_local(async move {
            let connecting = endpoint.connect(server, "localhost").expect("a name");
            if let Ok(connection) = connecting.await {
                run(connection, client, shared, true).await;
            }
        });
    }

    fn flush(&mut self) {
        turn(&self.runtime, &self.tasks);
    }

    fn wait(&mut self, until: Instant) {
        work(&self.runtime, &self.tasks, until);
    }
}

impl End for QuinnCrowd {
    fn connected(&mut self) -> usize {
        self.shared.borrow().connected
    }

    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
        turn(&self.runtime, &self.tasks);
        drain(&self.shared, sink);
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        send(&self.shared, client, lane, message)
    }
}

/// Trusts every certificate: the bench made it a moment ago.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
