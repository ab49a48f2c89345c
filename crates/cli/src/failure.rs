//! Why the program ends without success: one sentence that says what to do, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// Ends the program.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong; exit code 2.
    Usage(String),
    /// What was asked for did not work; exit code 1.
    Failed(String),
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(why: impl fmt::Display) -> Self {
        Self::Usage(why.to_string())
    }

    /// What was asked for did not work.
    pub(crate) fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }

    /// What a shell sees.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}
