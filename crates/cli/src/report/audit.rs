//! Compares both ends of every connection of a process.

use std::collections::HashMap;

use netstream::driver::ConnectionKey;
use netstream::prelude::*;

use crate::game::{Fault, Happened, Record, Seen};
use crate::report::Tally;

/// How no connection ends whose two ends play by the rules, as ours do.
const FAULTS: [DisconnectCode; 6] = [
    DisconnectCode::ProtocolViolation,
    DisconnectCode::ProtocolMismatch,
    DisconnectCode::InvalidRpc,
    DisconnectCode::Flood,
    DisconnectCode::SlowConsumer,
    DisconnectCode::EntityDespawned,
];

/// The most violations that are told one by one.
const TOLD: usize = 100;

/// RPCs that were under way when their connection ended: the last ones of their direction, and no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LostInFlight {
    pub(crate) client_to_server: u64,
    pub(crate) server_to_client: u64,
}

impl LostInFlight {
    /// Both sums.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            client_to_server: self.client_to_server + other.client_to_server,
            server_to_client: self.server_to_client + other.server_to_client,
        }
    }

    /// In both directions.
    pub(crate) fn total(self) -> u64 {
        self.client_to_server + self.server_to_client
    }
}

/// Takes in what one server World and its client Worlds see, and says what is wrong about it.
///
/// Call [`server`](Self::server) after each update of the server and [`client`](Self::client) after each update of a
/// client that follows it; then the server's view of a connection is always known before its client's.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// The newest connection of the server by id. An id rests for a minute before it is used again, so it leads to
    /// the right one when the client hears of it.
    by_id: HashMap<NetworkId, ConnectionKey>,
    /// The server's name for a client's connection.
    peers: HashMap<ClientKey, ConnectionKey>,
    /// Ended on one side and not yet on the other, by the server's name.
    server_ended: HashMap<ConnectionKey, Record>,
    client_ended: HashMap<ConnectionKey, Record>,
    tallies: HashMap<&'static str, Tally>,
    lost: LostInFlight,
    violations: u64,
    told: Vec<String>,
}

/// Which client World, and its connection there.
type ClientKey = (usize, ConnectionKey);

impl Audit {
    /// Takes in what the server saw.
    pub(crate) fn server(&mut self, seen: Seen) {
        for happened in &seen.happened {
            if let Some((id, key)) = accepted(happened) {
                self.by_id.insert(id, key);
            }
        }
        self.faults(seen.faults);
        for record in seen.finished {
            self.tallies.entry(record.scheme).or_default().server.add(&record);
            self.check_end(&record);
            if let Some(client) = self.client_ended.remove(&record.key) {
                self.compare(&record, &client);
            } else if record.network_id.is_some() {
                self.server_ended.insert(record.key, record);
            }
            // Without an id it was never accepted, and has no partner.
        }
    }

    /// Takes in what the client World number `index` saw.
    pub(crate) fn client(&mut self, index: usize, seen: Seen) {
        for happened in &seen.happened {
            let Some((id, key)) = accepted(happened) else { continue };
            match self.by_id.get(&id) {
                Some(peer) => drop(self.peers.insert((index, key), *peer)),
                None => self.violation(format!("client {index} was accepted as {id}, which the server never allotted")),
            }
        }
        self.faults(seen.faults);
        for record in seen.finished {
            self.tallies.entry(record.scheme).or_default().client.add(&record);
            self.check_end(&record);
            match self.peers.remove(&(index, record.key)) {
                None if record.connected => {
                    self.violation(format!("{}: Connected without having been accepted", record.name()));
                }
                None => {}
                Some(peer) => match self.server_ended.remove(&peer) {
                    Some(server) => self.compare(&server, &record),
                    None => drop(self.client_ended.insert(peer, record)),
                },
            }
        }
    }

    /// Notes something that must never happen.
    pub(crate) fn violation(&mut self, what: String) {
        self.violations += 1;
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }

    /// Ends the audit: every World is alone now. Whoever waits for the other end waits in vain.
    pub(crate) fn finish(&mut self) {
        for (_, client) in std::mem::take(&mut self.client_ended) {
            self.violation(format!("{}: ended, but the server's end of it never did", client.name()));
        }
        // A server's connection whose client never heard of its acceptance has no partner, rightly.
        self.server_ended.clear();
    }

    /// How many things happened that must not.
    pub(crate) fn violations(&self) -> u64 {
        self.violations
    }

    /// What they were, the first of them.
    pub(crate) fn told(&self) -> &[String] {
        &self.told
    }

    /// RPCs that were lost rightly.
    pub(crate) fn lost(&self) -> LostInFlight {
        self.lost
    }

    /// The sums of one driver.
    pub(crate) fn tally(&self, scheme: &str) -> Tally {
        self.tallies.get(scheme).cloned().unwrap_or_default()
    }

    /// The sums of all drivers.
    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.tallies.values().for_each(|tally| total.merge(tally));
        total
    }

    fn faults(&mut self, faults: Vec<Fault>) {
        for fault in faults {
            self.violation(fault.what);
        }
    }

    fn check_end(&mut self, record: &Record) {
        let ends = record.count(ConnectionState::Disconnected);
        if ends != 1 {
            self.violation(format!("{}: {ends} Disconnected events", record.name()));
        }
        if let Some(reason) = record.reason.as_ref().filter(|reason| FAULTS.contains(&reason.code)) {
            self.violation(format!("{}: {reason}", record.name()));
        }
    }

    fn compare(&mut self, server: &Record, client: &Record) {
        if client.connected && !server.connected {
            self.violation(format!("{}: Connected only on the client", client.name()));
        }
        self.lost.client_to_server += self.missing(client, server);
        self.lost.server_to_client += self.missing(server, client);
    }

    /// How many RPCs at the end of one direction did not arrive. (Those in the middle were noticed when they were
    /// passed over.)
    fn missing(&mut self, sender: &Record, receiver: &Record) -> u64 {
        let (sent, heard) = (sender.sent.rpcs, receiver.lane.complete());
        let Some(missing) = sent.checked_sub(heard) else {
            self.violation(format!("{}: {heard} RPCs arrived of {sent} that were sent", receiver.name()));
            return 0;
        };
        if missing > 0 && closed_in_order(sender, receiver) {
            let code = sender.reason.as_ref().map_or("?", |reason| reason.code.name());
            let name = sender.name();
            self.violation(format!("{name}: closed in order ({code}), but its last {missing} RPCs were lost"));
            return 0;
        }
        missing
    }
}

/// Whether the sender said goodbye and the receiver heard it: then what was sent before it has arrived. A driver that is
/// removed does not wait for that, and a receiver that was leaving itself did not listen any more.
fn closed_in_order(sender: &Record, receiver: &Record) -> bool {
    let (Some(said), Some(heard)) = (&sender.reason, &receiver.reason) else { return false };
    let waits = said.code != DisconnectCode::DriverRemoved;
    let listens = receiver.count(ConnectionState::Disconnecting) == 0;
    waits && listens && said.origin == Origin::Local && heard.origin == Origin::Remote && said.code == heard.code
}

fn accepted(happened: &Happened) -> Option<(NetworkId, ConnectionKey)> {
    match happened {
        Happened::Connection { event, .. } if event.state == ConnectionState::Accepted => {
            Some((event.network_id?, event.key))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netstream::driver::{IpcDriver, NetworkDriverStore};
    use netstream::state::Side;
    use netstream::transport::ConnectionId;

    use super::*;

    fn key(index: u32) -> ConnectionKey {
        let driver = NetworkDriverStore::new().add(IpcDriver::new(&IpcHub::new()));
        ConnectionKey { driver, connection: ConnectionId { index, generation: 0 } }
    }

    /// A connection that was Connected and has ended for this reason.
    fn ended(side: Side, key: ConnectionKey, sent: u64, received: u64, reason: DisconnectReason) -> Record {
        let mut record = Record::new(key, side, "ipc");
        record.connected = true;
        record.events[ConnectionState::ALL.len() - 1] = 1;
        record.reason = Some(reason);
        record.sent.rpcs = sent;
        for number in 1..=received {
            record.lane.arrive(0, number, |fault| panic!("{fault}"));
        }
        record.lane.settle(|fault| panic!("{fault}"));
        record
    }

    /// An audit of one connection: what each side sent and received, and why it ended on the server.
    fn audit(server: [u64; 2], client: [u64; 2], reason: DisconnectReason) -> Audit {
        let (mut audit, id) = (Audit::default(), NetworkId::new(1).unwrap());
        let there = match reason.origin {
            Origin::Local => DisconnectReason::remote(reason.code),
            Origin::Remote => DisconnectReason::local(reason.code),
            Origin::Link => reason.clone(),
        };
        audit.by_id.insert(id, key(7));
        audit.peers.insert((0, key(1)), key(7));
        let quiet = |record| Seen { happened: Vec::new(), finished: vec![record], faults: Vec::new() };
        audit.client(0, quiet(ended(Side::Client, key(1), client[0], client[1], there)));
        audit.server(quiet(ended(Side::Server, key(7), server[0], server[1], reason)));
        audit.finish();
        audit
    }

    #[test]
    fn equal_ends_are_in_order() {
        let audit = audit([5, 3], [3, 5], DisconnectReason::local(DisconnectCode::Kicked));
        assert_eq!(audit.told(), [""; 0]);
        assert_eq!(audit.lost(), LostInFlight::default());
        assert_eq!(audit.tally("ipc").server.connects, 1);
    }

    #[test]
    fn the_last_rpcs_may_be_lost_with_the_link_but_not_behind_a_goodbye() {
        let lost = audit([5, 3], [4, 4], DisconnectReason::link(DisconnectCode::Timeout));
        assert_eq!((lost.violations(), lost.lost()), (0, LostInFlight { client_to_server: 1, server_to_client: 1 }));
        let broken = audit([5, 3], [4, 4], DisconnectReason::local(DisconnectCode::Kicked));
        assert_eq!(
            broken.told(),
            ["ipc server connection without id: closed in order (Kicked), but its last 1 RPCs were lost"]
        );
        assert_eq!(broken.lost(), LostInFlight { client_to_server: 1, server_to_client: 0 });
    }

    #[test]
    fn a_driver_that_is_removed_does_not_wait_for_the_last_rpcs() {
        let removed = audit([5, 3], [4, 4], DisconnectReason::local(DisconnectCode::DriverRemoved));
        assert_eq!((removed.violations(), removed.lost().total()), (0, 2));
    }

    #[test]
    fn who_is_leaving_itself_may_miss_what_was_sent_before_the_others_goodbye() {
        let reason = DisconnectReason::local(DisconnectCode::ServerShutdown);
        let sender = ended(Side::Server, key(7), 1, 0, reason.clone());
        let mut receiver = ended(Side::Client, key(1), 0, 0, reason.seen_by_peer());
        assert!(closed_in_order(&sender, &receiver));
        let leaving = ConnectionState::ALL.iter().position(|state| *state == ConnectionState::Disconnecting);
        receiver.events[leaving.unwrap()] = 1;
        assert!(!closed_in_order(&sender, &receiver));
    }

    #[test]
    fn an_rpc_from_nowhere_is_a_violation() {
        let audit = audit([5, 4], [3, 5], DisconnectReason::link(DisconnectCode::Timeout));
        assert_eq!(audit.told(), ["ipc server connection without id: 4 RPCs arrived of 3 that were sent"]);
    }

    #[test]
    fn an_end_that_only_one_side_saw_is_a_violation() {
        let mut audit = Audit::default();
        audit.peers.insert((0, key(1)), key(7));
        let reason = DisconnectReason::link(DisconnectCode::Timeout);
        let finished = vec![ended(Side::Client, key(1), 0, 0, reason)];
        audit.client(0, Seen { happened: Vec::new(), finished, faults: Vec::new() });
        audit.finish();
        assert_eq!(audit.violations(), 1);
    }
}
