//! What the operating system says of this process. Figures that it does not give are `None`.

use std::time::Duration;

/// Bytes of memory that are resident now.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Time that processors have spent for this process: its own, and the kernel's on its behalf.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Processor {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Processor {
    /// So far.
    pub(crate) fn spent() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is a name in brackets that may hold anything; the times are the 14th and the 15th.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut next = || fields.next()?.parse::<u64>().ok().map(|ticks| Duration::from_millis(ticks * 10));
        // Linux counts these in hundredths of a second on every machine (`USER_HZ`).
        Some(Self { user: next()?, system: next()? })
    }

    /// What was spent since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_memory_and_time() {
        assert!(resident().is_some_and(|bytes| (100_000..1 << 40).contains(&bytes)), "{:?}", resident());
        let start = std::time::Instant::now();
        while Processor::spent().is_some_and(|spent| spent.user + spent.system == Duration::ZERO) {
            assert!(start.elapsed() < Duration::from_secs(60), "no time passes");
        }
        assert!(Processor::spent().is_some());
    }
}
