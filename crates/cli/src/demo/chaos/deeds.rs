//! What was done how often.

use std::fmt;

use netstream::driver::Scheme;
use serde::Serialize;

macro_rules! deeds {
    ($($(#[$doc:meta])* $name:ident, $says:literal;)*) => {
        /// How often each thing was done to drivers while their clients played.
        #[derive(Clone, Debug, Default, Serialize)]
        pub(in crate::demo) struct Deeds {
            /// Drivers that were added to a server that runs.
            pub(super) drivers_added: Added,
            $($(#[$doc])* pub(super) $name: u64,)*
        }

        impl Deeds {
            /// Whether each was done at least once.
            pub(super) fn is_complete(&self) -> bool {
                $(self.$name > 0 &&)* self.drivers_added.udp + self.drivers_added.ipc > 0
            }
        }

        impl fmt::Display for Deeds {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} drivers added", self.drivers_added.udp + self.drivers_added.ipc)?;
                $(write!(f, concat!(", {} ", $says), self.$name)?;)*
                Ok(())
            }
        }
    };
}

deeds! {
    /// Drivers that stopped listening while clients played on them.
    stopped, "stopped";
    /// Those of them that listened again, the same clients still playing.
    reopened, "reopened";
    /// Newcomers who found a stopped or draining driver and were not let in.
    newcomers_refused, "newcomers refused";
    /// Drivers that were drained to the end.
    drained, "drained";
    /// Clients who were told that their driver drains.
    drain_notices, "drain notices";
    /// Drivers that were removed under clients who played.
    removed_in_use, "removed in use";
    /// Drivers that were removed after their last client had left.
    removed_empty, "removed empty";
    /// Changes of a link simulator under clients who played.
    simulator_changes, "simulator changes";
    /// Changes of whether newcomers need approval.
    approval_changes, "approval changes";
    /// Newcomers who were approved.
    approved, "approved";
    /// Newcomers who were denied.
    denied, "denied";
    /// Resets that were refused because of the clients, and changed nothing.
    resets_refused, "resets refused";
    /// Resets that closed everything.
    resets, "resets";
}

/// Drivers by kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Added {
    udp: u64,
    ipc: u64,
}

impl Added {
    /// One more.
    pub(super) fn count(&mut self, scheme: Scheme) {
        if scheme == Scheme::Udp {
            self.udp += 1;
        } else {
            self.ipc += 1;
        }
    }
}
