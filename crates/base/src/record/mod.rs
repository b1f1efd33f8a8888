//! Names and formats of the files in a plugin's folder. The owner writes the record, each keeper removes its own generation from
//! it, and other owners read all files.

mod files;
mod identity;
mod lock_note;
mod place;

pub use files::{READ_MAX, RecordError, RecordFiles};
pub use identity::{DAEMON_ID, Identity, TOKEN_BYTES, VERSION, identities_text, parse_identities, token_text};
pub use lock_note::LockNote;
pub use place::{Elsewhere, SameBoot, compare_boots, elsewhere, has_boot_id, own_place};

use std::path::Path;

/// The pid of the serving generation's leader, and a newline. For programs outside this package.
pub const PID_FILE: &str = "daemon.pid";
/// An [`Identity`] for each generation that lives: [`parse_identities`].
pub const IDENTITY_FILE: &str = "daemon.id";
/// The path of the plugin's `logs.file`, and a newline. Written by a start with a log file, and left by the end of the daemon: output
/// is read most often after the end. The manager itself never reads it.
pub const LOG_PATH_FILE: &str = "daemon.log-path";
/// A flock(2) on this file is the lease of the plugin's name. The text is a [`LockNote`]. The file is never removed: a second
/// file of this name would be a second lock.
pub const LOCK_FILE: &str = "daemon.lock";

/// Whether a file of this name in a plugin's folder is one of these files, or becomes one.
pub fn is_of_record(name: &Path) -> bool {
    let ours = [PID_FILE, IDENTITY_FILE, LOCK_FILE, LOG_PATH_FILE];
    ours.iter().any(|file| name == Path::new(file) || name == Path::new(&files::temporary(file)))
}

/// The pid in a pid file. `None` if the file has other content, or if the pid is 0, 1 or negative.
pub fn parse_pid(text: &str) -> Option<i32> {
    text.trim_end_matches('\n').parse().ok().filter(|pid| *pid > 1)
}
