//! What a server tells the people who run it.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Somebody should look at it.
    Warn,
    /// Good to know.
    Info,
    /// For whoever looks for the cause of something.
    Debug,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        })
    }
}

/// Where a server's events go. Called on its event loops, so it must be quick; the library itself writes nothing anywhere.
pub trait ServerLog: Send + Sync {
    /// One event: what happened, in words that are the same each time, and its particulars.
    fn event(&self, level: Level, message: &str, fields: &[(&str, &dyn fmt::Display)]);

    /// Whether events of this level are wanted at all.
    fn wants(&self, _level: Level) -> bool {
        true
    }
}

/// Throws everything away.
pub(super) struct Silent;

impl ServerLog for Silent {
    fn event(&self, _: Level, _: &str, _: &[(&str, &dyn fmt::Display)]) {}

    fn wants(&self, _: Level) -> bool {
        false
    }
}
