//! renet and renet2, whose faces are nearly the same: NETCODE below, one system call per packet.

use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::end::{Crowd, End, Lane, Server, Setup};
use crate::game::Game;
use bytes::Bytes;

const PROTOCOL: u64 = 7;
const UNRELIABLE: u8 = 0;
const RELIABLE: u8 = 2;

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("loopback")
}

fn channel(lane: Lane) -> u8 {
    if lane == Lane::Reliable { RELIABLE } else { UNRELIABLE }
}

/// Bytes per tick and of queues: nothing is held back.
const PLENTY: usize = 64 << 20;

macro_rules! peer {
    ($name:ident, $renet:ident, $netcode:ident, $config:expr, $server:expr, $client:expr, $new_client:expr) => {
        pub(crate) mod $name {
            use $netcode::{NetcodeClientTransport, NetcodeServerTransport};
            use $renet::{ConnectionConfig, DefaultChannel, RenetClient, RenetServer, ServerEvent};

            use super::*;

            fn config() -> ConnectionConfig {
                let mut channels = DefaultChannel::config();
                channels.iter_mut().for_each(|channel| channel.max_memory_usage_bytes = PLENTY);
                let mut config: ConnectionConfig = $config(channels);
                config.available_bytes_per_tick = PLENTY as u64;
                config
            }

            pub(crate) struct ServerSide {
                server: RenetServer,
                transport: NetcodeServerTransport,
                address: String,
                updated: Instant,
                clients: usize,
            }

            impl ServerSide {
                pub(crate) fn new(setup: &Setup) -> Self {
                    let socket = bind();
                    let address = socket.local_addr().expect("bound");
                    let most = setup.clients.min(1024);
                    let transport: NetcodeServerTransport = $server(most, address, socket);
                    let server = RenetServer::new(config());
                    Self { server, transport, address: address.to_string(), updated: Instant::now(), clients: 0 }
                }
            }

            impl Server for ServerSide {
                fn address(&self) -> String {
                    self.address.clone()
                }

                fn update(&mut self, game: &mut Game) {
                    game.update(self);
                    self.transport.send_packets(&mut self.server);
                }
            }

            // Clients go by the numbers 1, 2, 3 and so on.
            impl End for ServerSide {
                fn connected(&mut self) -> usize {
                    self.clients
                }

                fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
                    let passed = self.updated.elapsed();
                    self.updated += passed;
                    self.server.update(passed);
                    self.transport.update(passed, &mut self.server).expect("loopback");
                    while let Some(event) = self.server.get_event() {
                        match event {
                            ServerEvent::ClientConnected { .. } => self.clients += 1,
                            ServerEvent::ClientDisconnected { reason, .. } => panic!("a client is gone: {reason}"),
                        }
                    }
                    for id in self.server.clients_id() {
                        for channel in [UNRELIABLE, RELIABLE] {
                            while let Some(message) = self.server.receive_message(id, channel) {
                                sink(id as usize - 1, &message);
                            }
                        }
                    }
                }

                fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
                    self.server.send_message(client as u64 + 1, channel(lane), message.clone());
                    true
                }
            }

            pub(crate) struct ClientSide {
                server: String,
                clients: Vec<(RenetClient, NetcodeClientTransport)>,
                updated: Instant,
            }

            impl ClientSide {
                pub(crate) fn new(address: &str) -> Self {
                    Self { server: address.to_owned(), clients: Vec::new(), updated: Instant::now() }
                }
            }

            impl Crowd for ClientSide {
                fn connect(&mut self) {
                    let id = self.clients.len() as u64 + 1;
                    let transport: NetcodeClientTransport =
                        $client(id, self.server.parse().expect("an address"), bind());
                    self.clients.push(($new_client(config()), transport));
                }

                fn flush(&mut self) {
                    for (client, transport) in &mut self.clients {
                        let _ = transport.send_packets(client);
                    }
                }
            }

            impl End for ClientSide {
                fn connected(&mut self) -> usize {
                    self.clients.iter().filter(|(client, _)| client.is_connected()).count()
                }

                fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
                    let passed = self.updated.elapsed();
                    self.updated += passed;
                    for (number, (client, transport)) in self.clients.iter_mut().enumerate() {
                        client.update(passed);
                        let _ = transport.update(passed, client);
                        for channel in [UNRELIABLE, RELIABLE] {
                            while let Some(message) = client.receive_message(channel) {
                                sink(number, &message);
                            }
                        }
                    }
                }

                fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
                    let (client, _) = &mut self.clients[client];
                    client.send_message(channel(lane), message.clone());
                    client.is_connected()
                }
            }
        }
    };
}

/// Tokens are sealed with this key on both ends; what "unsecure" stands for in either library.
fn connection(channels: Vec<renet::ChannelConfig>) -> renet::ConnectionConfig {
    renet::ConnectionConfig {
        available_bytes_per_tick: 0,
        server_channels_config: channels.clone(),
        client_channels_config: channels,
    }
}

peer!(
    one,
    renet,
    renet_netcode,
    connection,
    |most, address, socket| {
        let config = renet_netcode::ServerConfig {
            current_time: unix(),
            max_clients: most,
            protocol_id: PROTOCOL,
            public_addresses: vec![address],
            authentication: renet_netcode::ServerAuthentication::Unsecure,
        };
        NetcodeServerTransport::new(config, socket).expect("loopback")
    },
    |id, server_addr, socket| {
        let authentication = renet_netcode::ClientAuthentication::Unsecure {
            protocol_id: PROTOCOL,
            client_id: id,
            server_addr,
            user_data: None,
        };
        NetcodeClientTransport::new(unix(), authentication, socket).expect("loopback")
    },
    RenetClient::new
);

peer!(
    two,
    renet2,
    renet2_netcode,
    ConnectionConfig::from_shared_channels,
    |most, address, socket| {
        let config = renet2_netcode::ServerSetupConfig {
            current_time: unix(),
            max_token_lifetime: 300,
            max_clients: most,
            protocol_id: PROTOCOL,
            socket_addresses: vec![vec![address]],
            authentication: renet2_netcode::ServerAuthentication::Unsecure,
        };
        let socket = renet2_netcode::NativeSocket::new(socket).expect("loopback");
        NetcodeServerTransport::new(config, socket).expect("loopback")
    },
    |id, server_addr, socket| {
        let authentication = renet2_netcode::ClientAuthentication::Unsecure {
            protocol_id: PROTOCOL,
            client_id: id,
            socket_id: 0,
            server_addr,
            user_data: None,
        };
        let socket = renet2_netcode::NativeSocket::new(socket).expect("loopback");
        NetcodeClientTransport::new(unix(), authentication, socket).expect("loopback")
    },
    |config| RenetClient::new(config, false)
);
