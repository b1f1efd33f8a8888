//! What daemons print: always read, kept to a bounded tail, and cut into lines only for those who listen.

mod lines;
mod pump;
mod tail;

pub use lines::Splitter;
pub use pump::Pumps;
pub use tail::Tail;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A longer line is split.
pub const LINE_MAX: usize = 64 * 1024;
