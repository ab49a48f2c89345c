//! Attacks on real sockets: what strangers, listeners and forgers can do to a server, in figures.
//!
//! `cargo test -p netstream-driver --test attacks` runs them at reduced counts. At full counts, with the figures printed:
//!
//! ```text
//! cargo test --release -p netstream-driver --test attacks -- --ignored --nocapture --test-threads 1
//! ```
//!
//! The names T-A1, T-B3 and so on are those of the threats in `docs/security.md`. The protocol's time is virtual, so the
//! outcome does not depend on the machine; its sockets are the operating system's, on loopback, where any address of
//! 127.0.0.0/8 can be feigned as a source. The flood from another process is the example `flood`.

#![cfg(target_os = "linux")]

mod arena;
mod exhaustion;
mod injection;
mod nonces;
mod races;
mod reflection;
mod replay;
mod spoof;
mod tap;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One attack at a time: some of them watch the memory of the process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The two sizes of an attack.
macro_rules! attack {
    ($name:ident, $full:ident: $attack:path, $reduced:expr, $all:expr) => {
        #[test]
        fn $name() {
            let _alone = crate::alone();
            $attack($reduced);
        }

        #[test]
        #[ignore = "the full count of the test above; takes seconds to minutes"]
        fn $full() {
            let _alone = crate::alone();
            $attack($all);
        }
    };
}
pub(crate) use attack;
