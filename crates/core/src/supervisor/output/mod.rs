//! stdout and stderr of daemons. The pipes are always read, and a bounded tail is kept. Output is split into lines only if
//! there is a listener, a logger or a follower for lines.

mod follow;
mod line_match;
mod lines;
mod log_file;
mod log_watch;
mod pump;
mod reading;
mod tail;
mod times;

pub use follow::{Batch, Follower, FollowerId, Line};
pub use line_match::{LineMatch, LineSearch};
pub use lines::Splitter;
pub use log_file::{LogPlace, OpenLog, OtherLog, open_log, receive_notes, same_log_file};
pub use log_watch::LogWatch;
pub use pump::Pumps;
pub use tail::{OutputCounts, Tail};

/// The capacity of a pipe at the start of a daemon, which [`Pumps`] enlarges for a daemon that fills it. Linux gives an ordinary
/// user 16,384 pages for pipes (`pipe-user-pages-soft`), and after that only pipes of two pages. With the default capacity, 512
/// daemons use them up.
pub const QUIET_CAPACITY: i32 = 16 * 1024;

/// The longest line in bytes. A longer line is split.
pub const LINE_MAX: usize = 64 * 1024;
