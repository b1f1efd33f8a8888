//! What the kernel knows about Unix sockets. macOS tells the length of a listener's queue only with the
//! descriptor table of the listening process (`proc_pidfdinfo`), and that is not built: probe `accept` is
//! refused there instead of guessed.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Waiting,
    Accepted,
}

pub fn accept_queue_is_visible() -> bool {
    false
}

pub fn was_taken(_client: &(impl AsFd + AsRawFd)) -> io::Result<Taken> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Asked of sockets that refuse. One that is bound and not yet listening can't be told from a dead one
/// here, and counts as dead.
pub fn is_held(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Not told here.
pub fn holder(_path: &Path) -> Option<i32> {
    None
}
