//! Resume tickets: how a player gets the same `NetworkId` again.

use std::collections::BTreeMap;
use std::fmt;

use netstream_driver::transport::Random;

use crate::NetworkId;

/// Bytes of a ticket on the wire: the id u32, then the secret.
pub(crate) const TICKET_BYTES: usize = 4 + 16;

/// The secret with which a player proves to be the one who held a [`NetworkId`] before.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ResumeTicket(pub(crate) [u8; TICKET_BYTES]);

impl ResumeTicket {
    /// The id that the ticket is about; `None` for an impossible one.
    pub(crate) fn id(&self) -> Option<NetworkId> {
        let [a, b, c, d, ..] = self.0;
        NetworkId::new(u32::from_le_bytes([a, b, c, d]))
    }
}

impl fmt::Debug for ResumeTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeTicket(..)")
    }
}

/// The newest ticket of every id. It cannot grow beyond the number of ids that were ever in use at once.
#[derive(Default)]
pub(crate) struct TicketBook {
    secrets: BTreeMap<NetworkId, [u8; 16]>,
}

impl TicketBook {
    /// A fresh ticket for the holder of `id`. Whatever ticket this id had before is worth nothing from now on.
    pub(crate) fn issue(&mut self, id: NetworkId, random: &mut dyn Random) -> ResumeTicket {
        let mut secret = [0; 16];
        random.fill(&mut secret);
        self.secrets.insert(id, secret);
        let mut ticket = [0; TICKET_BYTES];
        ticket[..4].copy_from_slice(&id.number().to_le_bytes());
        ticket[4..].copy_from_slice(&secret);
        ResumeTicket(ticket)
    }

    /// The id that this ticket is good for; `None` if it is forged or stale.
    pub(crate) fn redeem(&self, ticket: &ResumeTicket) -> Option<NetworkId> {
        let (_, secret) = ticket.0.split_first_chunk::<4>()?;
        let id = ticket.id()?;
        let ours = self.secrets.get(&id)?;
        // Every byte is compared, so that the time says nothing about how many were right.
        let difference = ours.iter().zip(secret).fold(0, |sum, (ours, theirs)| sum | (ours ^ theirs));
        (difference == 0).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstream_driver::transport::SeededRandom;

    #[test]
    fn only_the_newest_ticket_of_an_id_is_good() {
        let (mut book, mut random) = (TicketBook::default(), SeededRandom::new(1));
        let id = NetworkId::new(7).unwrap();
        let old = book.issue(id, &mut random);
        assert_eq!(book.redeem(&old), Some(id));
        let new = book.issue(id, &mut random);
        assert_eq!(book.redeem(&old), None);
        assert_eq!(book.redeem(&new), Some(id));
        for place in 0..TICKET_BYTES {
            let mut forged = new.clone();
            forged.0[place] ^= 1;
            assert_eq!(book.redeem(&forged), None, "byte {place}");
        }
        assert_eq!(format!("{new:?}"), "ResumeTicket(..)");
    }
}
