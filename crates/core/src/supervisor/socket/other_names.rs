//! The names beside `socketPath`. While a socket is there under two names, or two generations have a socket each, the second one
//! has the path with a suffix.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::remove_dead;
use crate::config::ProcessConfig;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherName {
    /// A second name of the socket that serves.
    Held,
    /// What a new generation is told instead of `socketPath`, in turn.
    Next1,
    Next2,
}

impl OtherName {
    const ALL: [Self; 3] = [Self::Held, Self::Next1, Self::Next2];

    /// All have the same length: the check of a configuration leaves room for it.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Held => ".held",
            Self::Next1 => ".nxt1",
            Self::Next2 => ".nxt2",
        }
    }

    pub fn of(self, path: &Path) -> PathBuf {
        let mut text = OsString::from(path);
        text.push(self.suffix());
        text.into()
    }
}

/// Removes the names that an owner left which was killed during an upgrade. A name that is in use stays.
pub fn remove_other_names(config: &ProcessConfig) {
    for name in OtherName::ALL {
        let path = name.of(&config.socket_path);
        if let Err(failure) = remove_dead(&path) {
            tracing::debug!(target: crate::supervisor::TARGET, %failure, "a name beside a socket stays");
        }
    }
}
