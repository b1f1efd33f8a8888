//! The files in a plugin's folder: their names and formats. The owner writes them, the keeper removes them, and other
//! owners read them.

mod identity;
mod lock_note;

pub use identity::Identity;
pub use lock_note::LockNote;

/// The leader's pid and a newline, for other programs.
pub const PID_FILE: &str = "daemon.pid";
/// An [`Identity`]: it makes the pid mean one process.
pub const IDENTITY_FILE: &str = "daemon.id";
/// Its flock(2) is the right to the plugin's name; its text is a [`LockNote`]. Never removed, so that there is only one.
pub const LOCK_FILE: &str = "daemon.lock";

/// The pid in a pid file, if the file holds nothing else and a plugin can have that pid.
pub fn parse_pid(text: &str) -> Option<i32> {
    text.trim_end_matches('\n').parse().ok().filter(|pid| *pid > 1)
}
