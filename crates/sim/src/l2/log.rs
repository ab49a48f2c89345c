//! What the Worlds write to the log: not too much, and no secret.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netstream::transport::Mono;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines of one module in one World in any second. Only what is shown where nobody asks for more.
const LINES: usize = 10;

/// A second by the fastest clock of a node.
const SECOND: Duration = Duration::from_millis(900);

/// Reads the log of all Worlds of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogWatch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    now: Mono,
    world: usize,
    secrets: Vec<String>,
    /// When each module of each World wrote its last lines.
    written: BTreeMap<(usize, &'static str), VecDeque<Mono>>,
    /// What is wrong with the log.
    wrong: Option<String>,
}

impl LogWatch {
    /// Nothing of this may be written anywhere.
    pub(super) fn add_secret(&self, secret: impl Into<String>) {
        self.lock().secrets.push(secret.into());
    }

    /// What is written from now on is written by this World at this time.
    pub(super) fn set(&self, now: Mono, world: usize) {
        let mut seen = self.lock();
        (seen.now, seen.world) = (now, world);
    }

    /// What was wrong since the last call.
    pub(super) fn take_wrong(&self) -> Option<String> {
        self.lock().wrong.take()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn read(&mut self, level: Level, module: &'static str, text: &str) {
        let Self { now, world, secrets, written, wrong } = self;
        if secrets.iter().any(|secret| text.contains(secret)) {
            *wrong = Some(format!("world {world} writes a secret to the log: {text}"));
        }
        if level > Level::INFO {
            return;
        }
        let written = written.entry((*world, module)).or_default();
        if written.len() == LINES
            && let Some(oldest) = written.pop_front()
            && now.since(oldest) < SECOND
        {
            *wrong = Some(format!("world {world} writes more than {LINES} lines a second: {module}: {text}"));
        }
        written.push_back(*now);
    }
}

impl Subscriber for LogWatch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("netstream")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.lock().read(*event.metadata().level(), event.metadata().target(), &text.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// All fields of a line.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A String takes everything.
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(write: impl FnOnce(&LogWatch)) -> Option<String> {
        let watch = LogWatch::default();
        watch.add_secret("sesame");
        tracing::subscriber::with_default(watch.clone(), || write(&watch));
        watch.take_wrong()
    }

    fn at(millis: u64) -> Mono {
        Mono::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn more_lines_than_ten_in_a_second_are_too_many() {
        let lines = |count: u64, every: u64| {
            watched(|watch| {
                for line in 0..count {
                    watch.set(at(line * every), 0);
                    tracing::info!("line {line}");
                    tracing::debug!("asked for: {line}");
                }
            })
        };
        assert_eq!(lines(10, 0), None);
        assert_eq!(lines(100, 90), None);
        assert!(lines(11, 0).is_some_and(|wrong| wrong.contains("more than 10")));
        assert!(lines(11, 89).is_some());
        let worlds = watched(|watch| {
            for world in 0..20 {
                watch.set(at(0), world);
                tracing::warn!("each of them once");
            }
        });
        assert_eq!(worlds, None);
    }

    #[test]
    fn secrets_are_seen_in_any_line() {
        assert_eq!(watched(|_| tracing::info!("nothing to hide")), None);
        assert!(watched(|_| tracing::trace!("open {}", "sesame")).is_some_and(|wrong| wrong.contains("secret")));
        assert!(watched(|_| tracing::error!(code = "sesame", "no")).is_some());
    }
}
