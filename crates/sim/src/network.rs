//! The network: every datagram of a run goes through here, and here it gets lost.

mod weather;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use netstream::transport::Mono;

use self::weather::Weather;
use crate::dice::Dice;
use crate::plan::{Effect, Plan, Toward};
use crate::tally::Tally;

/// Names a socket for all time.
pub(crate) type Port = usize;

/// The most bytes that wait in a socket that nobody reads.
const INBOX: usize = 4 << 20;

/// The most datagrams that wait in a socket: what replays and floods come to is bounded.
const INBOX_DATAGRAMS: usize = 1 << 15;

/// The most datagrams that one call fetches, as in the driver.
const BATCH: usize = 32;

/// Which way a datagram goes, and past whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A socket of this client.
    Client(usize),
    /// A socket of this server.
    Server(usize),
}

/// A datagram that somebody has seen.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    /// Whom it claims to come from.
    pub(crate) from: SocketAddr,
    /// Where it went.
    pub(crate) to: SocketAddr,
    /// What it was.
    pub(crate) bytes: Vec<u8>,
}

/// All sockets of a run, their addresses as the world sees them, and what is under way between them.
#[derive(Debug)]
pub(crate) struct Network {
    sockets: Vec<Socket>,
    /// Who gets what is sent to an address.
    routes: BTreeMap<SocketAddr, Port>,
    parcels: Vec<Parcel>,
    free: Vec<usize>,
    pushed: u64,
    weather: Weather,
    latency: Duration,
    /// Some of what was sent, old and new, for attackers.
    sightings: Vec<Sighting>,
    watched: bool,
    /// From how many addresses somebody sends copies of requests.
    snatchers: u8,
    snatches: u16,
    /// One datagram of each type and length, by these; where somebody wants them.
    tapped: Option<BTreeMap<(u8, usize), Vec<u8>>>,
    /// Whether the operating systems refuse calls now and then.
    refuses: bool,
    seen: u64,
    dice: Dice,
    /// What was done to how many packets.
    pub(crate) injected: Tally,
    /// Datagrams that were sent.
    pub(crate) datagrams: u64,
}

#[derive(Debug)]
struct Socket {
    owner: Owner,
    /// Where its packets come from, as others see it.
    address: SocketAddr,
    open: bool,
    waiting: BinaryHeap<Reverse<(Mono, u64, usize)>>,
    bytes: usize,
}

#[derive(Debug)]
struct Parcel {
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// How many sightings an attacker keeps.
const SIGHTINGS: usize = 512;

impl Network {
    /// The network of a plan, with nobody on it.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            sockets: Vec::new(),
            routes: BTreeMap::new(),
            parcels: Vec::new(),
            free: Vec::new(),
            pushed: 0,
            weather: Weather::new(plan),
            latency: plan.workload.latency,
            sightings: Vec::new(),
            watched: plan.has_replays(),
            snatchers: 0,
            snatches: 0,
            tapped: None,
            refuses: plan.faults.iter().any(|fault| matches!(fault.effect, Effect::SocketErrors { .. })),
            seen: 0,
            dice: Dice::new(plan.seed, "network", 0),
            injected: Tally::default(),
            datagrams: 0,
        }
    }

    /// Opens a socket that the world sees at `address`. Who had that address before has none any more.
    pub(crate) fn open(&mut self, owner: Owner, address: SocketAddr) -> Port {
        let socket = Socket { owner, address, open: true, waiting: BinaryHeap::new(), bytes: 0 };
        self.sockets.push(socket);
        let port = self.sockets.len() - 1;
        self.routes.insert(address, port);
        port
    }

    /// Closes a socket; what waits in it is lost.
    pub(crate) fn close(&mut self, port: Port) {
        let socket = &mut self.sockets[port];
        if !std::mem::replace(&mut socket.open, false) {
            return;
        }
        socket.bytes = 0;
        let waiting = std::mem::take(&mut socket.waiting);
        self.free.extend(waiting.into_iter().map(|Reverse((.., parcel))| parcel));
        let address = self.sockets[port].address;
        if self.routes.get(&address) == Some(&port) {
            self.routes.remove(&address);
        }
    }

    /// Where the world sees a socket.
    pub(crate) fn address(&self, port: Port) -> SocketAddr {
        self.sockets[port].address
    }

    /// The newest open socket of `owner`.
    pub(crate) fn newest(&self, owner: Owner) -> Option<Port> {
        self.sockets.iter().rposition(|socket| socket.open && socket.owner == owner)
    }

    /// Closes all sockets of `owner`.
    pub(crate) fn close_all(&mut self, owner: Owner) {
        for port in 0..self.sockets.len() {
            if self.sockets[port].owner == owner {
                self.close(port);
            }
        }
    }

    /// A translator on the way gives the socket another address. What is sent to the old one reaches nobody.
    pub(crate) fn rebind(&mut self, port: Port, address: SocketAddr) {
        let old = std::mem::replace(&mut self.sockets[port].address, address);
        if self.routes.get(&old) == Some(&port) {
            self.routes.remove(&old);
        }
        if self.sockets[port].open {
            self.routes.insert(address, port);
        }
    }

    /// From now on a stranger sends copies of requests, so that they arrive first.
    pub(crate) fn snatch(&mut self, addresses: u8) {
        self.snatchers = self.snatchers.max(addresses);
    }

    /// Keeps a datagram of each type and length from now on.
    pub(crate) fn tap(&mut self) {
        self.tapped = Some(BTreeMap::new());
    }

    /// What was kept.
    pub(crate) fn take_tapped(&mut self) -> Vec<Vec<u8>> {
        self.tapped.take().into_iter().flatten().map(|(_, bytes)| bytes).collect()
    }

    /// Whether the operating system refuses a call on this socket.
    pub(crate) fn refuses(&mut self, now: Mono, port: Port) -> bool {
        if !self.refuses {
            return false;
        }
        let client = match self.sockets[port].owner {
            Owner::Client(client) => Some(client),
            Owner::Server(_) => None,
        };
        self.weather.refuses(now, client, &mut self.injected)
    }

    /// Sends a datagram from a socket.
    pub(crate) fn send(&mut self, now: Mono, port: Port, to: SocketAddr, bytes: &[u8]) {
        if !self.sockets[port].open {
            return;
        }
        if self.snatchers > 0 && bytes.first() == Some(&0) && bytes.len() > 1000 {
            for address in 0..self.snatchers {
                // A new port each time: whoever is told off comes again.
                self.snatches = self.snatches.wrapping_add(1);
                let own = SocketAddr::from(([198, 51, 102, address], 1024 + self.snatches % 60_000));
                self.injected.count("attack: snatch");
                self.inject(now, own, to, bytes);
            }
        }
        if let (Some(tapped), Some(first)) = (&mut self.tapped, bytes.first()) {
            tapped.entry((*first, bytes.len())).or_insert_with(|| bytes.to_vec());
        }
        let from = self.sockets[port].address;
        self.see(from, to, bytes);
        self.carry(now, self.sockets[port].owner, from, to, bytes);
    }

    /// Sends a datagram that claims to come from `from`. Nothing happens to it on the way.
    pub(crate) fn inject(&mut self, now: Mono, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(&target) = self.routes.get(&to) else { return };
        // An attacker sits near his victim.
        let due = now + self.latency / 4;
        self.deliver(due, target, from, |parcel| parcel.extend_from_slice(bytes));
    }

    /// Whether one more datagram can be fetched in an update that has fetched so many. As in the driver, a call fetches a
    /// batch, and one that is refused is tried once more.
    pub(crate) fn may_receive(&mut self, now: Mono, port: Port, fetched: usize) -> bool {
        !(fetched.is_multiple_of(BATCH) && self.refuses(now, port) && self.refuses(now, port))
    }

    /// Takes the next datagram that has reached the socket by `now` into `buf`, and says where it claims to be from.
    pub(crate) fn receive(&mut self, now: Mono, port: Port, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        let socket = &mut self.sockets[port];
        let &Reverse((due, _, parcel)) = socket.waiting.peek()?;
        if due > now {
            return None;
        }
        socket.waiting.pop();
        let parcel_bytes = &mut self.parcels[parcel];
        std::mem::swap(buf, &mut parcel_bytes.bytes);
        socket.bytes -= buf.len();
        let from = parcel_bytes.from;
        self.free.push(parcel);
        Some(from)
    }

    /// Where the datagrams that have reached the socket by `now` claim to be from, in no order.
    pub(crate) fn senders(&self, now: Mono, port: Port) -> impl Iterator<Item = SocketAddr> {
        let due = self.sockets[port].waiting.iter().filter(move |Reverse((due, ..))| *due <= now);
        due.map(|Reverse((.., parcel))| self.parcels[*parcel].from)
    }

    /// One of the datagrams that were seen, of any age.
    pub(crate) fn sighting(&self, dice: &mut Dice) -> Option<&Sighting> {
        let last = (self.sightings.len() as u64).checked_sub(1)?;
        self.sightings.get(dice.number(0..=last) as usize)
    }

    /// The datagram that was seen last.
    pub(crate) fn last_sighting(&self) -> Option<&Sighting> {
        // Reservoir places are random, so the last one is kept apart at the end.
        self.sightings.last()
    }

    fn see(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if !self.watched {
            return;
        }
        self.seen += 1;
        let sighting = Sighting { from, to, bytes: bytes.to_vec() };
        if self.sightings.len() < SIGHTINGS {
            return self.sightings.push(sighting);
        }
        // Vitter's reservoir for the past, so that packets of long-gone connections stay; the last place for the present.
        let last = std::mem::replace(&mut self.sightings[SIGHTINGS - 1], sighting);
        let place = self.dice.number(0..=self.seen) as usize;
        if let Some(kept) = self.sightings[..SIGHTINGS - 1].get_mut(place) {
            *kept = last;
        }
    }

    fn carry(&mut self, now: Mono, sender: Owner, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.datagrams += 1;
        let Some(&target) = self.routes.get(&to) else { return self.injected.count("nobody there") };
        let (client, toward) = match (sender, self.sockets[target].owner) {
            (Owner::Client(client), _) => (client, Toward::Server),
            (Owner::Server(_), Owner::Client(client)) => (client, Toward::Client),
            // Servers do not talk to each other; if one is made to, nothing happens to the packet.
            (Owner::Server(_), Owner::Server(_)) => (usize::MAX, Toward::Both),
        };
        let Some(fate) = self.weather.fate(now, client, toward, bytes.len(), &mut self.injected) else { return };
        let latency = self.latency;
        for copy in &fate.copies {
            self.deliver(now + latency + *copy, target, from, |parcel| parcel.extend_from_slice(bytes));
        }
        let damage = fate.damage;
        let mut previous = std::mem::take(&mut self.weather.previous);
        let dice = &mut self.weather.dice;
        let due = now + latency + fate.travel;
        // Borrowed apart from `self`: the closure runs while the parcel is held.
        let mut damaged = Vec::new();
        if let Some(damage) = damage {
            damaged.extend_from_slice(bytes);
            damage.apply(&mut damaged, &previous, dice);
        }
        let is_damaged = damage.is_some();
        self.deliver(due, target, from, |parcel| parcel.extend_from_slice(if is_damaged { &damaged } else { bytes }));
        previous.clear();
        if self.weather.remembers {
            previous.extend_from_slice(bytes);
        }
        self.weather.previous = previous;
    }

    fn deliver(&mut self, due: Mono, target: Port, from: SocketAddr, fill: impl FnOnce(&mut Vec<u8>)) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.parcels.push(Parcel { from, bytes: Vec::with_capacity(1200) });
            self.parcels.len() - 1
        });
        let parcel = &mut self.parcels[place];
        parcel.from = from;
        parcel.bytes.clear();
        fill(&mut parcel.bytes);
        let socket = &mut self.sockets[target];
        if socket.bytes + parcel.bytes.len() > INBOX || socket.waiting.len() >= INBOX_DATAGRAMS {
            self.injected.count("inbox overflow");
            self.free.push(place);
            return;
        }
        socket.bytes += parcel.bytes.len();
        socket.waiting.push(Reverse((due, self.pushed, place)));
        self.pushed += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{Fault, Level};

    /// One refused call had ended the reading of an update, so that a busy server fell behind by seconds (seed 5691).
    #[test]
    fn refused_calls_do_not_keep_a_node_from_what_has_arrived() {
        let mut plan = Plan::new(1, Level::L1, Duration::from_secs(100));
        let effect = Effect::SocketErrors { share: 0.1 };
        plan.faults = vec![Fault { effect, start: Mono::ZERO, length: Duration::from_secs(100), node: None }];
        let mut network = Network::new(&plan);
        let [here, there] = [1, 2].map(|port| SocketAddr::from(([203, 0, 113, 1], port)));
        let port = network.open(Owner::Server(0), here);
        (0..10_000).for_each(|_| network.inject(Mono::ZERO, there, here, &[7; 100]));
        let (now, mut buf, mut updates, mut left) = (Mono::ZERO + Duration::from_secs(50), Vec::new(), 0, 10_000);
        while left > 0 {
            updates += 1;
            let mut fetched = 0;
            while network.may_receive(now, port, fetched) && network.receive(now, port, &mut buf).is_some() {
                fetched += 1;
                left -= 1;
            }
        }
        assert!((2..20).contains(&updates), "313 calls, of which one in a hundred fails for good: {updates} updates");
    }
}
