//! How people write durations, shares, rates and counts.

use std::time::Duration;

use netstream::driver::udp::IoMode;
use netstream::transport::netcode::{LARGEST_DATAGRAM, MAX_DATAGRAM_OUT, SessionCipher};

/// `10s`, `500ms`, `2m`, `1.5h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write e.g. 10s, 500ms or 2m");
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    // A year is more than anybody waits for, and far from where `Instant` ends.
    let seconds = number * seconds;
    if seconds > 366.0 * 86_400.0 {
        return Err(format!("{text:?} is longer than a year; leave the option out to go on until Ctrl-C"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `5%` or `0.05`, from 0 to below 1.
pub(crate) fn share(text: &str) -> Result<f32, String> {
    let wrong = || format!("{text:?} is not a share below 100 %; write e.g. 5% or 0.05");
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let share = number.parse::<f32>().map_err(|_| wrong())? / whole;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err(wrong()) }
}

/// Times per second, `30` or `30hz`, from 0.1 to 240.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is not a rate from 0.1 to 240 per second; write e.g. 30");
    let lower = text.to_ascii_lowercase();
    let number: f64 = lower.strip_suffix("hz").unwrap_or(&lower).trim_end().parse().map_err(|_| wrong())?;
    if (0.1..=240.0).contains(&number) { Ok(number) } else { Err(wrong()) }
}

/// A whole number from 1 to 16 384, the most connections that a server takes.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=16_384).contains(number));
    number.ok_or_else(|| format!("{text:?} is not a number from 1 to 16384"))
}

/// A whole number from 1 on.
pub(crate) fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{text:?} is not a number from 1 on"))
}

/// Bytes of a message, from 8, which hold its number, to 64 KiB.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| (8..=65_536).contains(size));
    size.ok_or_else(|| format!("{text:?} is not a size from 8 to 65536 bytes"))
}

/// Bytes of a datagram, from 1200 to 1452.
pub(crate) fn datagram(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| (MAX_DATAGRAM_OUT..=LARGEST_DATAGRAM).contains(size));
    size.ok_or_else(|| format!("{text:?} is not a size from {MAX_DATAGRAM_OUT} to {LARGEST_DATAGRAM} bytes"))
}

/// What [`cipher`] reads.
pub(crate) fn cipher_name(cipher: SessionCipher) -> &'static str {
    match cipher {
        SessionCipher::Aes128Gcm => "aes",
        _ => "chacha20",
    }
}

/// `chacha20` or `aes`.
pub(crate) fn cipher(text: &str) -> Result<SessionCipher, String> {
    match text {
        "chacha20" => Ok(SessionCipher::ChaCha20Poly1305),
        "aes" => Ok(SessionCipher::Aes128Gcm),
        _ => Err(format!("{text:?} is no cipher; write chacha20 or aes")),
    }
}

/// Times per second, `500` or `500/s`, from 0.1 to 10 000.
pub(crate) fn ramp(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim_end().parse::<f64>();
    let number = number.ok().filter(|number| (0.1..=10_000.0).contains(number));
    number.ok_or_else(|| format!("{text:?} is not a number from 0.1 to 10000 per second; write e.g. 500"))
}

/// `inline` or `thread`.
pub(crate) fn io_mode(text: &str) -> Result<IoMode, String> {
    match text {
        "inline" => Ok(IoMode::Inline),
        "thread" => Ok(IoMode::Thread),
        _ => Err(format!("{text:?} is not a way to work the sockets; write inline or thread")),
    }
}

/// Any whole number of 64 bits.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number from 0 to {}", u64::MAX))
}

/// Bytes per second as people read them.
pub(crate) fn bytes(number: f64) -> String {
    match number {
        ..1e3 => format!("{number:.0} B"),
        ..1e6 => format!("{:.1} kB", number / 1e3),
        ..1e9 => format!("{:.1} MB", number / 1e6),
        _ => format!("{:.1} GB", number / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "10", "s", "ten s", "-1s", "1.2.3s", "10 s", "1d", "infs", "9999999h", "1e9s", "."] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn shares_are_percentages_or_fractions_below_one() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.05"), Ok(0.05));
        assert_eq!(share("0"), Ok(0.0));
        for wrong in ["", "%", "100%", "1", "-5%", "NaN", "five"] {
            assert!(share(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rates_and_counts_have_ends() {
        assert_eq!(rate("30"), Ok(30.0));
        assert_eq!(rate("60Hz"), Ok(60.0));
        assert!(rate("0").is_err() && rate("241").is_err() && rate("NaN").is_err());
        assert_eq!(count("8"), Ok(8));
        assert!(count("0").is_err() && count("16385").is_err() && count("-1").is_err() && count("8.0").is_err());
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(999.0), "999 B");
        assert_eq!(bytes(1500.0), "1.5 kB");
        assert_eq!(bytes(2_340_000.0), "2.3 MB");
    }
}
