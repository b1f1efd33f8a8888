//! The turn of one log process: during an upgrade two of them write one file, and each looks and writes in its turn only.
//!
//! A turn is a lock of a byte that no file has. It belongs to the open file, so the kernel ends it with the process. A second byte
//! is the queue: who waits for the turn has it, so that a process that writes without a pause can't take the next turn as well.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::off_t;

const QUEUE: off_t = off_t::MAX - 2;
const TURN: off_t = off_t::MAX - 1;

/// Waits for the turn at this file. Where the file system has no such locks, there are no turns.
pub fn begin(file: &File) {
    let begun = match lock(file, libc::F_OFD_SETLK, libc::F_WRLCK, QUEUE, 2) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            lock(file, libc::F_OFD_SETLKW, libc::F_WRLCK, QUEUE, 1).and_then(|()| lock(file, libc::F_OFD_SETLKW, libc::F_WRLCK, TURN, 1))
        }
        begun => begun,
    };
    if begun.is_ok() {
        unlock(file, QUEUE);
    }
}

pub fn end(file: &File) {
    unlock(file, TURN);
}

fn unlock(file: &File, byte: off_t) {
    // An error: there was no lock.
    lock(file, libc::F_OFD_SETLK, libc::F_UNLCK, byte, 1).unwrap_or_default();
}

fn lock(file: &File, command: libc::c_int, kind: impl TryInto<libc::c_short>, first: off_t, count: off_t) -> io::Result<()> {
    // SAFETY: integers only, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind.try_into().unwrap_or_default();
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    (lock.l_start, lock.l_len) = (first, count);
    // SAFETY: the structure outlives the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
