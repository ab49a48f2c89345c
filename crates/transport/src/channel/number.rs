//! Serial numbers: 64-bit counters of which only the low bits travel.
//!
//! All comparisons subtract first (RFC 1982), so that a counter may start anywhere, even right below 2^64.

/// Whether `a` comes before `b`.
pub(super) const fn is_before(a: u64, b: u64) -> bool {
    (a.wrapping_sub(b) as i64) < 0
}

/// The later of the two.
pub(super) const fn later(a: u64, b: u64) -> u64 {
    if is_before(a, b) { b } else { a }
}

/// The earlier of the two.
pub(super) const fn earlier(a: u64, b: u64) -> u64 {
    if is_before(a, b) { a } else { b }
}

/// Whether `a` comes before `b` where only 16 bits are known and the two are closer than 2^15.
pub(super) const fn is_before_u16(a: u16, b: u16) -> bool {
    (a.wrapping_sub(b) as i16) < 0
}

/// The number nearest to `expected` whose low `bits` bits are those of `truncated`. `bits` is 8 to 63.
pub(super) const fn expand(truncated: u64, bits: u32, expected: u64) -> u64 {
    // Sign-extending the difference gives the nearest candidate: -2^(bits-1) <= ahead < 2^(bits-1).
    let unused = 64 - bits;
    let ahead = (truncated.wrapping_sub(expected) << unused) as i64 >> unused;
    expected.wrapping_add(ahead as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_number_is_found_again_around_every_wrap() {
        for centre in [0u64, 1 << 8, 1 << 16, 1 << 24, 1 << 32, 1 << 63, u64::MAX] {
            for bits in [8, 16, 24, 32] {
                let reach = 1i64 << (bits - 1);
                for ahead in [-reach, 1 - reach, -5, -1, 0, 1, 5, reach - 1] {
                    for shift in -3i64..=3 {
                        let expected = centre.wrapping_add(shift as u64);
                        let number = expected.wrapping_add(ahead as u64);
                        let truncated = number & ((1 << bits) - 1);
                        assert_eq!(expand(truncated, bits, expected), number, "{bits} bits, {ahead} of {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn order_survives_the_wrap() {
        assert!(is_before(u64::MAX, 0));
        assert!(!is_before(0, u64::MAX));
        assert!(!is_before(7, 7));
        assert_eq!(later(u64::MAX, 2), 2);
        assert_eq!(earlier(u64::MAX, 2), u64::MAX);
        assert!(is_before_u16(u16::MAX, 0));
        assert!(!is_before_u16(5, 5));
    }
}
