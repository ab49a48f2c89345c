//! Finds out how large packets may be on the way to the peer; after RFC 8899 (DPLPMTUD).
//!
//! Opt-in: where [`LinkConfig::max_mtu`](super::LinkConfig::max_mtu) is not above the floor, nothing here ever happens.

use crate::Mono;
use crate::netcode::{IP_HEADERS, LARGEST_BODY, datagram_of};
use crate::time::Span;

/// The sizes that are tried, in bytes of packets: what fits an MTU of 1280 (the least that IPv6 allows), 1420 (WireGuard),
/// 1492 (PPPoE) and 1500 (Ethernet), sealed and over IPv6.
const LADDER: [u16; 4] = [fitting(1280), fitting(1420), fitting(1492), MAX_PACKET as u16];

/// The largest of them.
pub(super) const MAX_PACKET: usize = LARGEST_BODY;

const fn fitting(mtu: usize) -> u16 {
    (mtu - IP_HEADERS - datagram_of(0)) as u16
}

/// Losses of one size that end the search; `MAX_PROBES` of RFC 8899 §5.1.2.
const MAX_FAILURES: u8 = 3;

/// After that long a larger size is tried again; `PMTU_RAISE_TIMER` of RFC 8899 §5.1.1.
const RAISE: Span = Span::from_secs(600);

/// A probe that a cap holds back is tried again after this.
const POSTPONED: Span = Span::from_millis(100);

/// So many packets above the floor have to go without an ack before the path counts as a black hole: at 20 % of random
/// loss that happens to one run of four in 600.
const UNHEARD: u32 = 4;

/// And for at least this long, or three probe timeouts: an outage of that length costs a few percent of headers.
const UNHEARD_FOR: Span = Span::from_secs(1);

#[derive(Debug)]
pub(super) struct PathMtu {
    size: u16,
    /// Where larger packets than usual may leave.
    search: Option<Box<Search>>,
}

#[derive(Debug)]
struct Search {
    floor: u16,
    max: u16,
    /// Losses of the size that is being tried.
    failures: u8,
    /// When the probe under way counts as lost, if nothing tells before.
    expires: Option<Mono>,
    /// When the next probe may leave.
    next: Option<Mono>,
    /// Packets above the floor that left since one was acknowledged, and when the first of them did.
    unheard: u32,
    unheard_since: Mono,
    figures: Figures,
}

/// How the search went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) probes: u64,
    pub(super) probes_lost: u64,
    pub(super) black_holes: u64,
}

impl PathMtu {
    /// Packets of `floor` bytes are taken for granted; more than `max` is never tried.
    pub(super) fn new(floor: usize, max: usize) -> Self {
        let (floor, max) = (floor.min(MAX_PACKET) as u16, max.min(MAX_PACKET) as u16);
        let search = || {
            Box::new(Search {
                floor,
                max,
                failures: 0,
                expires: None,
                next: None,
                unheard: 0,
                unheard_since: Mono::ZERO,
                figures: Figures::default(),
            })
        };
        Self { size: floor, search: (max > floor).then(search) }
    }

    /// The largest packet that may be written, in bytes.
    pub(super) fn size(&self) -> usize {
        usize::from(self.size)
    }

    pub(super) fn figures(&self) -> Figures {
        self.search.as_ref().map_or_else(Figures::default, |search| search.figures)
    }

    /// The peer has acknowledged something: the search may begin, if it has not.
    #[inline]
    pub(super) fn on_confirmed(&mut self, now: Mono) {
        let Some(search) = &mut self.search else { return };
        if search.candidate(self.size).is_some() && search.next.is_none() && search.expires.is_none() {
            search.next = Some(now);
        }
    }

    /// The size of the probe that may leave now.
    #[inline]
    pub(super) fn wants(&self, now: Mono) -> Option<usize> {
        let search = self.search.as_ref()?;
        let due = search.expires.is_none() && search.next.is_some_and(|at| at <= now);
        search.candidate(self.size).filter(|_| due).map(usize::from)
    }

    /// Whether nothing is [due](Self::due), whatever the timeout.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.search
            .as_ref()
            .is_none_or(|search| search.expires.is_none() && search.next.is_none() && search.unheard < UNHEARD)
    }

    /// When something has to be done at the latest; `None` if never.
    pub(super) fn due(&self, timeout: Span) -> Option<Mono> {
        let search = self.search.as_ref()?;
        let probe = search.expires.or(search.next);
        [probe, search.blind_at(timeout)].into_iter().flatten().min()
    }

    /// A probe cannot leave at present.
    pub(super) fn postpone(&mut self, now: Mono) {
        if let Some(search) = &mut self.search {
            search.next = Some(now + POSTPONED);
        }
    }

    /// Probes of this size cannot leave from here at all.
    pub(super) fn stop(&mut self, now: Mono) {
        if let Some(search) = &mut self.search {
            search.stop(now);
        }
    }

    pub(super) fn on_probe_sent(&mut self, now: Mono, timeout: Span) {
        let Some(search) = &mut self.search else { return };
        search.figures.probes += 1;
        search.next = None;
        search.expires = Some(now + timeout * 2);
    }

    /// Whether the probe under way has to be given up.
    pub(super) fn is_expired(&self, now: Mono) -> bool {
        self.search.as_ref().is_some_and(|search| search.expires.is_some_and(|at| at <= now))
    }

    /// A probe has arrived. One that had been given up tells nothing new.
    pub(super) fn on_probe_acked(&mut self, now: Mono, size: usize) {
        let Some(search) = &mut self.search else { return };
        if search.expires.take().is_none() {
            return;
        }
        search.failures = 0;
        search.unheard = 0;
        self.size = self.size.max((size.min(MAX_PACKET) as u16).min(search.max));
        search.next = search.candidate(self.size).map(|_| now);
    }

    /// The probe is lost: that says nothing of congestion, and it carried nothing.
    pub(super) fn on_probe_lost(&mut self, now: Mono) {
        let Some(search) = &mut self.search else { return };
        search.figures.probes_lost += 1;
        if search.expires.take().is_none() {
            return;
        }
        search.failures += 1;
        if search.failures < MAX_FAILURES {
            search.next = Some(now);
        } else {
            search.stop(now);
        }
    }

    /// A packet has left that asks for an ack and is no probe.
    #[inline]
    pub(super) fn on_sent(&mut self, now: Mono, size: usize) {
        let Some(search) = &mut self.search else { return };
        if size > usize::from(search.floor) && self.size > search.floor {
            if search.unheard == 0 {
                search.unheard_since = now;
            }
            search.unheard = search.unheard.saturating_add(1);
        }
    }

    #[inline]
    pub(super) fn on_acked(&mut self, size: usize) {
        if let Some(search) = &mut self.search
            && size > usize::from(search.floor)
        {
            search.unheard = 0;
        }
    }

    /// Goes back to the floor where nothing larger arrives any more.
    pub(super) fn check(&mut self, now: Mono, timeout: Span) {
        let Some(search) = &mut self.search else { return };
        if search.blind_at(timeout).is_some_and(|at| at <= now) {
            search.figures.black_holes += 1;
            search.unheard = 0;
            search.expires = None;
            search.stop(now);
            self.size = search.floor;
        }
    }

    /// The most that [`heap`](Self::heap) can be.
    pub(super) const fn heap_cap() -> usize {
        size_of::<Search>()
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.search.as_ref().map_or(0, |search| size_of_val(&**search))
    }
}

impl Search {
    /// The next size to try that is larger than `size`.
    fn candidate(&self, size: u16) -> Option<u16> {
        let step = LADDER.into_iter().find(|step| *step > size).unwrap_or(self.max).min(self.max);
        (step > size).then_some(step)
    }

    fn stop(&mut self, now: Mono) {
        self.failures = 0;
        self.next = Some(now + RAISE);
    }

    fn blind_at(&self, timeout: Span) -> Option<Mono> {
        (self.unheard >= UNHEARD).then(|| self.unheard_since + UNHEARD_FOR.max(timeout * 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Span = Span::from_millis(100);

    /// The size found where the path drops what is over `path`, and the probes that it took.
    fn search(mtu: &mut PathMtu, path: usize, now: Mono) -> (usize, u64) {
        while let Some(size) = mtu.wants(now) {
            mtu.on_probe_sent(now, TIMEOUT);
            if size <= path { mtu.on_probe_acked(now, size) } else { mtu.on_probe_lost(now) }
        }
        (mtu.size(), mtu.figures().probes)
    }

    #[test]
    fn the_largest_step_that_fits_is_found_and_a_larger_one_tried_again_later() {
        let start = Mono::from_nanos(1);
        let cases = [
            (1175, (1175, 3)),
            (1207, (1207, 4)),
            (1400, (1347, 5)),
            (1426, (1419, 6)),
            (1427, (1427, 4)),
            (1475, (1427, 4)),
        ];
        for (path, found) in cases {
            let mut mtu = PathMtu::new(1175, 9000);
            mtu.on_confirmed(start);
            assert_eq!(search(&mut mtu, path, start), found, "{path}");
            mtu.on_confirmed(start);
            assert_eq!(mtu.wants(start + RAISE / 2), None);
            assert_eq!(search(&mut mtu, 1475, start + RAISE).0, 1427);
        }
    }

    #[test]
    fn an_ack_never_raises_beyond_the_maximum() {
        let now = Mono::from_nanos(1);
        let mut mtu = PathMtu::new(1175, 1300);
        mtu.on_confirmed(now);
        assert_eq!(search(&mut mtu, 5000, now), (1300, 2));
        mtu.on_probe_acked(now, 60_000);
        assert_eq!(mtu.size(), 1300);
        mtu.on_probe_sent(now, TIMEOUT);
        mtu.on_probe_acked(now, 60_000);
        assert_eq!(mtu.size(), 1300);
    }

    #[test]
    fn without_a_larger_maximum_there_is_nothing_to_do_ever() {
        let now = Mono::from_nanos(1);
        let mut mtu = PathMtu::new(1400, 1175);
        mtu.on_confirmed(now);
        for _ in 0..10 {
            mtu.on_sent(now, 1400);
        }
        assert_eq!((mtu.wants(now), mtu.due(TIMEOUT), mtu.size()), (None, None, 1400));
    }
}
