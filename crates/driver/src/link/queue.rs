//! The engine: what happens to the packets of one direction.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use netstream_transport::{Mono, Random, SeededRandom};

use super::LinkProfile;

/// The most packets that one queue holds; further ones are lost. At 1200 B they are 77 MB.
const MAX_PACKETS: usize = 1 << 16;

/// How long a reordered packet is held back at least at most: enough for the next packet of a 60-Hz sender.
const REORDER_HOLD: Duration = Duration::from_millis(20);

/// How often a reliable message is sent at most.
const MAX_ATTEMPTS: u32 = 64;

/// What a queue did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Packets that were put in.
    pub packets: u64,
    /// Of those, lost by chance.
    pub lost: u64,
    /// Of those, lost because the queue in front of a limited rate was full.
    pub overflowed: u64,
    /// Copies that were made in addition.
    pub duplicated: u64,
    /// Of those put in, held back so that others overtake.
    pub reordered: u64,
    /// Of those put in, damaged.
    pub corrupted: u64,
    /// Packets and copies that came out.
    pub delivered: u64,
}

/// What the link does with one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives.
    Arrives {
        /// When.
        due: Mono,
        /// When a copy of it arrives too.
        copy: Option<Mono>,
    },
}

/// One direction of a simulated link: opaque packets with a tag `T` go in, and come out late, twice, in another order
/// or not at all. The same seed, profile, packets and times give the same result.
///
/// ```
/// use netstream_driver::link::{LinkProfile, LinkQueue};
/// use netstream_driver::transport::Mono;
/// use std::time::Duration;
///
/// let delay = Duration::from_millis(5);
/// let mut queue = LinkQueue::new(LinkProfile { delay, ..LinkProfile::PERFECT }, 1);
/// queue.push(Mono::ZERO, "to", b"packet");
/// queue.poll(Mono::ZERO, &mut |_, _| unreachable!("it is not due yet"));
/// assert_eq!(queue.next_due(), Some(Mono::ZERO + delay));
/// queue.poll(Mono::ZERO + delay, &mut |to, bytes| assert_eq!((*to, &*bytes), ("to", b"packet".as_slice())));
/// ```
#[derive(Debug)]
pub struct LinkQueue<T> {
    profile: LinkProfile,
    random: SeededRandom,
    /// (due, order of arrival, place in `parcels`), the earliest first.
    order: BinaryHeap<Reverse<(Mono, u64, usize)>>,
    parcels: Vec<Parcel<T>>,
    /// Places in `parcels` whose buffers wait to be used again.
    free: Vec<usize>,
    pushed: u64,
    /// When the latest packet is due that was not held back.
    latest: Mono,
    /// Until when a limited rate is busy with the packets so far.
    busy: Mono,
    in_burst: bool,
    stats: LinkStats,
}

#[derive(Debug)]
struct Parcel<T> {
    tag: T,
    bytes: Vec<u8>,
}

impl<T: Clone> LinkQueue<T> {
    /// An empty queue that does what `profile` says, by the dice of `seed`.
    pub fn new(profile: LinkProfile, seed: u64) -> Self {
        Self {
            profile,
            random: SeededRandom::new(seed),
            order: BinaryHeap::new(),
            parcels: Vec::new(),
            free: Vec::new(),
            pushed: 0,
            latest: Mono::ZERO,
            busy: Mono::ZERO,
            in_burst: false,
            stats: LinkStats::default(),
        }
    }

    /// Changes the profile for the packets to come; those under way keep their due times.
    pub fn set_profile(&mut self, profile: LinkProfile) {
        self.profile = profile;
    }

    /// Rolls the dice from `seed` anew.
    pub fn reseed(&mut self, seed: u64) {
        self.random = SeededRandom::new(seed);
    }

    /// Puts one packet in.
    pub fn push(&mut self, now: Mono, tag: T, packet: &[u8]) {
        let Fate::Arrives { due, copy } = self.fate(now, packet.len()) else { return };
        let corrupt = !packet.is_empty() && self.roll(self.profile.corrupt);
        if let Some(copy) = copy {
            self.push_due(copy, tag.clone(), packet);
        }
        if let Some(place) = self.push_due(due, tag, packet)
            && corrupt
        {
            let bit = self.random.below(packet.len() as u64 * 8) as usize;
            self.parcels[place].bytes[bit / 8] ^= 1 << (bit % 8);
            self.stats.corrupted += 1;
        }
    }

    /// Decides about a packet of `len` bytes without taking it, and counts it.
    pub fn fate(&mut self, now: Mono, len: usize) -> Fate {
        self.stats.packets += 1;
        if self.lose() {
            self.stats.lost += 1;
            return Fate::Lost;
        }
        let Some(wait) = self.wait_for_turn(now, len) else {
            self.stats.overflowed += 1;
            return Fate::Lost;
        };
        let mut due = now + wait + self.travel_time();
        let copy = self.roll(self.profile.duplicate).then(|| now + wait + self.travel_time());
        self.stats.duplicated += u64::from(copy.is_some());
        if self.roll(self.profile.reorder) {
            let hold = REORDER_HOLD.max(self.profile.jitter * 2);
            due = due + self.up_to(hold);
            self.stats.reordered += 1;
        } else {
            due = due.max(self.latest);
            self.latest = due;
        }
        Fate::Arrives { due, copy: copy.map(|copy| copy.max(due)) }
    }

    /// When a message arrives that is sent again, each time `again` later, until it is not lost.
    ///
    /// Only its first attempt is a packet of the present, which takes its turn at a limited rate (however long that is:
    /// it is not lost there) and keeps the order with its neighbours. What becomes of later attempts is the message's own
    /// affair and moves no other packet.
    pub(super) fn due_of_reliable(&mut self, now: Mono, len: usize, again: Duration) -> Mono {
        self.stats.packets += 1;
        let lost = self.lose();
        let sent = now + self.turn(now, len);
        if !lost {
            let due = (sent + self.travel_time()).max(self.latest);
            self.latest = due;
            return due;
        }
        self.stats.lost += 1;
        let (mut sent, loss) = (sent + again, self.profile.loss);
        // With total loss it arrives that much later all the same: whoever has no packets has nothing that times out.
        for _ in 1..MAX_ATTEMPTS {
            self.stats.packets += 1;
            // A burst is over by then.
            if !self.roll(loss) {
                break;
            }
            self.stats.lost += 1;
            sent = sent + again;
        }
        sent + self.travel_time()
    }

    /// Puts one packet in that comes out at `due`, whatever the profile says. `None` if the queue is full and it is
    /// lost; else its place.
    fn push_due(&mut self, due: Mono, tag: T, packet: &[u8]) -> Option<usize> {
        if self.order.len() >= MAX_PACKETS {
            self.stats.overflowed += 1;
            return None;
        }
        let place = match self.free.pop() {
            Some(place) => {
                let parcel = &mut self.parcels[place];
                parcel.tag = tag;
                parcel.bytes.clear();
                parcel.bytes.extend_from_slice(packet);
                place
            }
            None => {
                self.parcels.push(Parcel { tag, bytes: packet.to_vec() });
                self.parcels.len() - 1
            }
        };
        self.order.push(Reverse((due, self.pushed, place)));
        self.pushed += 1;
        Some(place)
    }

    /// Puts one packet in that comes out at `due`, whatever the profile says; `false` if the queue is full.
    pub fn push_at(&mut self, due: Mono, tag: T, packet: &[u8]) -> bool {
        self.push_due(due, tag, packet).is_some()
    }

    /// Lends out, one by one and in order, every packet that is due.
    pub fn poll(&mut self, now: Mono, deliver: &mut dyn FnMut(&T, &mut [u8])) {
        while let Some(Reverse((due, _, place))) = self.order.peek().copied()
            && due <= now
        {
            self.order.pop();
            let parcel = &mut self.parcels[place];
            deliver(&parcel.tag, &mut parcel.bytes);
            self.free.push(place);
            self.stats.delivered += 1;
        }
    }

    /// When the next packet is due; `None` if there is none.
    pub fn next_due(&self) -> Option<Mono> {
        self.order.peek().map(|Reverse((due, ..))| *due)
    }

    /// How many packets are under way.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether no packet is under way.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether a packet that is put in now would come out at once and unchanged.
    pub fn is_transparent(&self) -> bool {
        self.order.is_empty() && self.profile.is_perfect()
    }

    /// The profile in force.
    pub fn profile(&self) -> LinkProfile {
        self.profile
    }

    /// What happened so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Shows these figures from now on.
    pub(super) fn show(&mut self, stats: LinkStats) {
        self.stats = stats;
    }

    fn lose(&mut self) -> bool {
        let loss = f64::from(self.profile.loss).clamp(0.0, 1.0);
        let burst = f64::from(self.profile.burst);
        if burst <= 1.0 || loss >= 1.0 {
            self.in_burst = false;
            return self.random.chance(loss);
        }
        // Gilbert's two states: everything is lost in the bad one. Its mean stay is `burst` packets; how often it is
        // entered follows from the share that is to be lost.
        let turn = if self.in_burst { 1.0 / burst } else { loss / (burst * (1.0 - loss)) };
        if self.random.chance(turn) {
            self.in_burst = !self.in_burst;
        }
        self.in_burst
    }

    /// How long a packet waits until the rate lets it through; `None` if that is too long.
    fn wait_for_turn(&mut self, now: Mono, len: usize) -> Option<Duration> {
        let fits = self.profile.rate.is_none() || self.busy.since(now) <= self.profile.queue;
        fits.then(|| self.turn(now, len))
    }

    /// How long a packet waits until the rate lets it through, however long that is.
    fn turn(&mut self, now: Mono, len: usize) -> Duration {
        let Some(rate) = self.profile.rate else { return Duration::ZERO };
        let takes = Duration::from_nanos(len as u64 * 1_000_000_000 / u64::from(rate.max(1)));
        self.busy = now + self.busy.since(now) + takes;
        self.busy.since(now)
    }

    fn travel_time(&mut self) -> Duration {
        let LinkProfile { delay, jitter, .. } = self.profile;
        if jitter.is_zero() {
            return delay;
        }
        (delay + self.up_to(jitter * 2)).saturating_sub(jitter)
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.below(most.saturating_add(1)))
    }

    fn roll(&mut self, share: f32) -> bool {
        // No draw where there is nothing to decide, so that adding a knob does not change the runs without it.
        share > 0.0 && self.random.chance(f64::from(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Pushes `count` packets, one a millisecond, and returns (number, time of arrival in ms) in order of arrival.
    fn run(profile: LinkProfile, seed: u64, count: u32) -> (Vec<(u32, u64)>, LinkStats) {
        let mut queue = LinkQueue::new(profile, seed);
        let (mut now, mut arrived) = (Mono::ZERO, Vec::new());
        for step in 0..count + 10_000 {
            if step < count {
                queue.push(now, (), &step.to_le_bytes());
            }
            queue.poll(now, &mut |(), bytes| {
                let number = u32::from_le_bytes((&*bytes).try_into().unwrap());
                arrived.push((number, now.as_nanos() / 1_000_000));
            });
            now = now + MILLI;
        }
        assert!(queue.is_empty());
        (arrived, queue.stats())
    }

    fn share(part: u64, whole: u32) -> f64 {
        part as f64 / f64::from(whole)
    }

    #[test]
    fn a_perfect_link_changes_nothing() {
        let (arrived, stats) = run(LinkProfile::PERFECT, 1, 100);
        assert_eq!(arrived, (0..100).map(|n| (n, u64::from(n))).collect::<Vec<_>>());
        assert_eq!((stats.packets, stats.delivered, stats.lost), (100, 100, 0));
    }

    #[test]
    fn the_same_seed_gives_the_same_run_and_another_seed_another() {
        assert_eq!(run(LinkProfile::AWFUL, 7, 500).0, run(LinkProfile::AWFUL, 7, 500).0);
        assert_ne!(run(LinkProfile::AWFUL, 7, 500).0, run(LinkProfile::AWFUL, 8, 500).0);
    }

    #[test]
    fn loss_is_the_share_that_was_asked_for() {
        // Five standard deviations of a binomial distribution: fails by chance for one seed in 1.7 million, and these
        // seeds are fixed.
        const COUNT: u32 = 20_000;
        for (seed, loss) in [(1, 0.01), (2, 0.2), (3, 0.5), (4, 0.9)] {
            let (arrived, stats) = run(LinkProfile { loss, ..LinkProfile::PERFECT }, seed, COUNT);
            let p = f64::from(loss);
            let deviation = (p * (1.0 - p) / f64::from(COUNT)).sqrt();
            assert!((share(stats.lost, COUNT) - p).abs() < 5.0 * deviation, "{stats:?} at {loss}");
            assert_eq!(arrived.len() as u64, u64::from(COUNT) - stats.lost);
        }
    }

    #[test]
    fn single_losses_are_independent_of_each_other() {
        const COUNT: u32 = 20_000;
        let (arrived, _) = run(LinkProfile { loss: 0.2, ..LinkProfile::PERFECT }, 5, COUNT);
        let mut lost = vec![true; COUNT as usize];
        for (number, _) in arrived {
            lost[number as usize] = false;
        }
        // After a loss the next one is as likely as ever: 0.2 +- 5 deviations of 4000 trials.
        let pairs = lost.windows(2).filter(|pair| pair[0]);
        let (both, all) = pairs.fold((0, 0), |(both, all), pair| (both + u64::from(pair[1]), all + 1));
        assert!((share(both, all) - 0.2).abs() < 0.032, "{both} of {all}");
    }

    #[test]
    fn bursts_have_the_mean_length_that_was_asked_for() {
        const COUNT: u32 = 50_000;
        let (arrived, stats) = run(LinkProfile { loss: 0.1, burst: 5.0, ..LinkProfile::PERFECT }, 6, COUNT);
        let bursts = arrived.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 1).count();
        let mean = stats.lost as f64 / bursts as f64;
        assert!((4.0..6.0).contains(&mean), "mean burst {mean}");
        assert!((0.08..0.12).contains(&share(stats.lost, COUNT)), "{stats:?}");
    }

    #[test]
    fn delay_and_jitter_stay_in_their_range_and_keep_the_order() {
        let profile = LinkProfile { delay: 50 * MILLI, jitter: 20 * MILLI, ..LinkProfile::PERFECT };
        let (arrived, _) = run(profile, 7, 1000);
        assert!(arrived.iter().map(|(number, _)| *number).eq(0..1000));
        for (number, at) in arrived {
            let took = at - u64::from(number);
            assert!((30..=71).contains(&took), "packet {number} took {took} ms");
        }
    }

    #[test]
    fn duplicates_and_reordering_happen_as_often_as_asked() {
        const COUNT: u32 = 10_000;
        let profile = LinkProfile { duplicate: 0.1, reorder: 0.05, delay: MILLI, ..LinkProfile::PERFECT };
        let (arrived, stats) = run(profile, 8, COUNT);
        assert_eq!(arrived.len() as u64, u64::from(COUNT) + stats.duplicated);
        assert!((0.085..0.115).contains(&share(stats.duplicated, COUNT)), "{stats:?}");
        assert!((0.039..0.061).contains(&share(stats.reordered, COUNT)), "{stats:?}");
        let overtaken = arrived.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        assert!(overtaken > 200, "only {overtaken} were overtaken");
    }

    #[test]
    fn a_narrow_link_delays_up_to_its_queue_and_loses_the_rest() {
        // 4 bytes a millisecond come in, 2 go through.
        let profile = LinkProfile { rate: Some(2000), queue: 50 * MILLI, ..LinkProfile::PERFECT };
        let (arrived, stats) = run(profile, 9, 1000);
        assert!(stats.overflowed > 400, "{stats:?}");
        assert_eq!(arrived.len() as u64, 1000 - stats.overflowed);
        assert!(arrived.iter().all(|(number, at)| at - u64::from(*number) <= 53));
    }

    #[test]
    fn a_corrupted_packet_differs_in_one_bit() {
        let mut queue = LinkQueue::new(LinkProfile { corrupt: 1.0, ..LinkProfile::PERFECT }, 10);
        queue.push(Mono::ZERO, (), &[0; 100]);
        queue.poll(Mono::ZERO, &mut |(), bytes| {
            assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        });
        assert_eq!(queue.stats().corrupted, 1);
    }

    #[test]
    fn a_queue_is_bounded() {
        let mut queue = LinkQueue::new(LinkProfile { delay: MILLI, ..LinkProfile::PERFECT }, 11);
        for _ in 0..MAX_PACKETS + 5 {
            queue.push(Mono::ZERO, (), b"x");
        }
        assert_eq!((queue.len(), queue.stats().overflowed), (MAX_PACKETS, 5));
    }

    #[test]
    fn a_new_profile_applies_to_the_next_packet() {
        let mut queue = LinkQueue::new(LinkProfile { loss: 1.0, ..LinkProfile::PERFECT }, 12);
        queue.push(Mono::ZERO, (), b"x");
        assert!(queue.is_empty() && !queue.is_transparent());
        queue.set_profile(LinkProfile::PERFECT);
        assert!(queue.is_transparent());
        queue.push(Mono::ZERO, (), b"x");
        assert_eq!(queue.len(), 1);
    }
}
