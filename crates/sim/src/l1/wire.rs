//! What can be read from a datagram without any key.

use std::collections::VecDeque;
use std::time::Duration;

use netstream::transport::Mono;

/// How long numbers are remembered. A number that were used again would be used again soon.
const MEMORY: Duration = Duration::from_secs(10);

/// The first number of a server's session has these bits clear: it is made of the second in which it begins.
const FIRST: u64 = (1 << 20) - 1;

/// So many of one address are remembered for [`MEMORY`]; of a busy connection, a tenth of the time is long enough.
const MANY: usize = 1024;

/// The packet numbers that went to one address, to see whether one is used twice.
#[derive(Debug, Default)]
pub(crate) struct Numbers(VecDeque<Used>);

/// Sorted by number, as they are used in this order.
#[derive(Debug)]
struct Used {
    number: u64,
    at: Mono,
    digest: u64,
}

impl Numbers {
    /// From now on other keys are used.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    /// Notes the number of a sealed datagram.
    pub(crate) fn check(&mut self, now: Mono, datagram: &[u8]) -> Result<(), String> {
        if cfg!(feature = "mutants") {
            // Whoever seals is watched then, which is exact.
            return Ok(());
        }
        let Some(number) = number(datagram) else { return Ok(()) };
        if number & FIRST == 0 {
            // A session begins, whose keys are its own; two of them may begin within one second at one address.
            self.forget();
        }
        let used = Used { number, at: now, digest: super::server::digest(datagram) };
        let newest = self.0.back().is_none_or(|newest| newest.number < number);
        let after = if newest { self.0.len() } else { self.0.partition_point(|used| used.number < number) };
        match self.0.get_mut(after).filter(|known| known.number == number) {
            Some(known) if known.digest != used.digest && now.since(known.at) < MEMORY => {
                return Err(format!("number {number} has two meanings"));
            }
            Some(known) => *known = used,
            None => self.0.insert(after, used),
        }
        let memory = if self.0.len() > MANY { MEMORY / 10 } else { MEMORY };
        while self.0.pop_front_if(|used| now.since(used.at) >= memory).is_some() {}
        Ok(())
    }
}

/// The number of a sealed packet; requests have none.
pub(crate) fn number(datagram: &[u8]) -> Option<u64> {
    let (prefix, rest) = datagram.split_first()?;
    let (kind, length) = (prefix & 0xf, usize::from(prefix >> 4));
    if kind == 0 || !(1..=8).contains(&length) {
        return None;
    }
    let mut number = [0; 8];
    number[..length].copy_from_slice(rest.get(..length)?);
    Some(u64::from_le_bytes(number))
}
