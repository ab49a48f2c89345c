//! What travels between the threads: messages back to back in one arena, and what else there is to say, in order.

use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::{ChannelId, ConnectionId, DisconnectReason, Identity, Incoming, copy};

/// From the thread to the caller.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    news: Vec<News>,
    /// How many of them are beginnings or ends, which have memory of their own.
    boxed: usize,
}

/// What [`Incoming`] says, without what it borrows, and what became of what was sent.
#[derive(Debug)]
enum News {
    Message { connection: ConnectionId, channel: ChannelId, len: usize },
    Taken { connection: ConnectionId, channel: ChannelId, charged: usize },
    Connected(ConnectionId),
    Accepted(Box<Arrival>),
    Disconnected(Box<(ConnectionId, DisconnectReason)>),
}

#[derive(Debug)]
struct Arrival {
    connection: ConnectionId,
    address: Option<SocketAddr>,
    identity: Option<Identity>,
}

/// What the caller reads in an [`Inbox`].
pub(super) enum Event<'a> {
    /// To be reported.
    Incoming(Incoming<'a>),
    /// So much of what was sent reliably has left the queue between the threads.
    Taken { connection: ConnectionId, channel: ChannelId, charged: usize },
}

/// What each entry counts for among the bytes.
const NEWS_COST: usize = 64;

/// What the beginning or end of a connection counts for beyond that: an identity has 264 bytes, a reason's text 128.
const BOXED_COST: usize = 448;

impl Inbox {
    pub(super) fn push(&mut self, incoming: Incoming<'_>) {
        self.boxed += usize::from(matches!(incoming, Incoming::Accepted { .. } | Incoming::Disconnected { .. }));
        self.news.push(match incoming {
            Incoming::Message { connection, channel, bytes } => {
                copy::append(&mut self.bytes, bytes);
                News::Message { connection, channel, len: bytes.len() }
            }
            Incoming::Connected { connection } => News::Connected(connection),
            Incoming::Accepted { connection, address, identity } => {
                News::Accepted(Box::new(Arrival { connection, address, identity: identity.cloned() }))
            }
            Incoming::Disconnected { connection, reason } => News::Disconnected(Box::new((connection, reason))),
        });
    }

    pub(super) fn push_taken(&mut self, connection: ConnectionId, channel: ChannelId, charged: usize) {
        if let Some(News::Taken { connection: last, channel: of, charged: sum }) = self.news.last_mut()
            && (*last, *of) == (connection, channel)
        {
            *sum += charged;
            return;
        }
        self.news.push(News::Taken { connection, channel, charged });
    }

    /// How much waits, in bytes.
    pub(super) fn load(&self) -> usize {
        self.bytes.len() + self.news.len() * NEWS_COST + self.boxed * BOXED_COST
    }

    /// Moves everything behind what waits in `other`.
    pub(super) fn move_into(&mut self, other: &mut Self) {
        if other.news.is_empty() {
            std::mem::swap(self, other);
        } else {
            copy::append(&mut other.bytes, &self.bytes);
            other.news.append(&mut self.news);
            other.boxed += self.boxed;
        }
        self.boxed = 0;
        // Whoever read the other may have been cut short.
        self.bytes.clear();
    }

    /// Hands everything out in order and forgets it.
    pub(super) fn drain(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        self.boxed = 0;
        let mut rest = self.bytes.as_slice();
        for news in self.news.drain(..) {
            each(match &news {
                News::Message { connection, channel, len } => {
                    let (bytes, after) = rest.split_at(*len);
                    rest = after;
                    Event::Incoming(Incoming::Message { connection: *connection, channel: *channel, bytes })
                }
                News::Taken { connection, channel, charged } => {
                    Event::Taken { connection: *connection, channel: *channel, charged: *charged }
                }
                News::Connected(connection) => Event::Incoming(Incoming::Connected { connection: *connection }),
                News::Accepted(arrival) => {
                    let Arrival { connection, address, identity } = &**arrival;
                    let identity = identity.as_ref();
                    Event::Incoming(Incoming::Accepted { connection: *connection, address: *address, identity })
                }
                News::Disconnected(end) => {
                    let (connection, reason) = (**end).clone();
                    Event::Incoming(Incoming::Disconnected { connection, reason })
                }
            });
        }
        self.bytes.clear();
    }
}

/// From the caller to the thread.
#[derive(Debug, Default)]
pub(super) struct Orders {
    bytes: Vec<u8>,
    orders: Vec<Entry>,
    unreliable: usize,
}

#[derive(Debug)]
enum Entry {
    Send { connection: ConnectionId, channel: ChannelId, len: usize },
    Disconnect(Box<Parting>),
}

/// What `disconnect` was told.
#[derive(Clone, Debug)]
pub(super) struct Parting {
    pub(super) connection: ConnectionId,
    pub(super) reason: DisconnectReason,
    pub(super) linger: Duration,
}

/// What the thread reads in [`Orders`].
pub(super) enum Order<'a> {
    Send { connection: ConnectionId, channel: ChannelId, message: &'a [u8] },
    Disconnect(&'a Parting),
}

impl Orders {
    pub(super) fn send(&mut self, connection: ConnectionId, channel: ChannelId, reliable: bool, message: &[u8]) {
        copy::append(&mut self.bytes, message);
        self.orders.push(Entry::Send { connection, channel, len: message.len() });
        if !reliable {
            self.unreliable += message.len() + NEWS_COST;
        }
    }

    pub(super) fn disconnect(&mut self, parting: Parting) {
        self.orders.push(Entry::Disconnect(Box::new(parting)));
    }

    /// How much of it may be dropped, in bytes.
    pub(super) fn unreliable(&self) -> usize {
        self.unreliable
    }

    pub(super) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Moves everything behind what waits in `other`.
    pub(super) fn move_into(&mut self, other: &mut Self) {
        if other.orders.is_empty() {
            std::mem::swap(self, other);
        } else {
            copy::append(&mut other.bytes, &self.bytes);
            other.orders.append(&mut self.orders);
            other.unreliable += self.unreliable;
        }
        self.clear();
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.orders.clear();
        self.unreliable = 0;
    }

    /// Hands everything out in order and forgets it.
    pub(super) fn drain(&mut self, each: &mut dyn FnMut(Order<'_>)) {
        let mut rest = self.bytes.as_slice();
        for order in &self.orders {
            each(match order {
                Entry::Send { connection, channel, len } => {
                    let (message, after) = rest.split_at(*len);
                    rest = after;
                    Order::Send { connection: *connection, channel: *channel, message }
                }
                Entry::Disconnect(parting) => Order::Disconnect(parting),
            });
        }
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use netstream_transport::DisconnectCode;

    use super::*;

    const ID: ConnectionId = ConnectionId { index: 3, generation: 1 };

    fn say(inbox: &mut Inbox, bytes: &[u8]) {
        inbox.push(Incoming::Message { connection: ID, channel: ChannelId::RELIABLE, bytes });
    }

    fn read(inbox: &mut Inbox) -> Vec<String> {
        let mut all = Vec::new();
        inbox.drain(&mut |event| {
            all.push(match event {
                Event::Incoming(Incoming::Message { bytes, .. }) => String::from_utf8_lossy(bytes).into_owned(),
                Event::Incoming(Incoming::Connected { .. }) => "up".to_owned(),
                Event::Incoming(Incoming::Accepted { .. }) => "in".to_owned(),
                Event::Incoming(Incoming::Disconnected { reason, .. }) => reason.code.to_string(),
                Event::Taken { charged, .. } => charged.to_string(),
            });
        });
        all
    }

    #[test]
    fn what_was_said_comes_out_in_its_order_whether_swapped_or_appended() {
        let (mut there, mut here) = (Inbox::default(), Inbox::default());
        there.push(Incoming::Accepted { connection: ID, address: None, identity: None });
        say(&mut there, b"one");
        there.move_into(&mut here);
        assert_eq!(there.load(), 0);
        say(&mut there, b"");
        there.push_taken(ID, ChannelId::RELIABLE, 3);
        there.push_taken(ID, ChannelId::RELIABLE, 4);
        say(&mut there, b"two");
        let reason = DisconnectReason::local(DisconnectCode::Kicked);
        there.push(Incoming::Disconnected { connection: ID, reason });
        there.move_into(&mut here);
        assert_eq!((there.load(), here.load()), (0, 6 + 6 * NEWS_COST + 2 * BOXED_COST));
        assert_eq!(read(&mut here), ["in", "one", "", "7", "two", "Kicked"]);
        assert_eq!((here.load(), read(&mut here).len()), (0, 0));
    }

    #[test]
    fn orders_keep_their_order_and_know_what_may_be_dropped() {
        let (mut here, mut there) = (Orders::default(), Orders::default());
        for round in 0..2 {
            here.send(ID, ChannelId::UNRELIABLE, false, &[round; 10]);
            here.send(ID, ChannelId::RELIABLE, true, &[round; 20]);
            let reason = DisconnectReason::local(DisconnectCode::Kicked);
            here.disconnect(Parting { connection: ID, reason, linger: Duration::ZERO });
            here.move_into(&mut there);
            assert!(here.is_empty() && here.unreliable() == 0);
        }
        assert_eq!(there.unreliable(), 2 * (10 + NEWS_COST));
        let mut all = Vec::new();
        there.drain(&mut |order| {
            all.push(match order {
                Order::Send { message, .. } => (message.len(), message.first().copied()),
                Order::Disconnect(_) => (0, None),
            });
        });
        assert_eq!(all, [(10, Some(0)), (20, Some(0)), (0, None), (10, Some(1)), (20, Some(1)), (0, None)]);
        assert!(there.is_empty() && there.unreliable() == 0);
    }
}
