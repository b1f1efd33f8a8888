//! The socket for the daemon's notifications (probe `notify`). While the owner lives, the owner reads it. After the owner's death the
//! keeper does, so that a daemon that notifies neither blocks nor fails.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use ally_base::os::receive_datagram;

use crate::sys;

/// The datagrams in a row before the keeper looks at its other tasks.
const DATAGRAMS_PER_TURN: u32 = 64;

pub struct NotifySocket {
    socket: OwnedFd,
    path: PathBuf,
}

impl AsRawFd for NotifySocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl NotifySocket {
    pub fn new(socket: OwnedFd, path: &[u8]) -> Self {
        Self { socket, path: OsStr::from_bytes(path).into() }
    }

    /// Reads and drops what has come. A sender of BARRIER=1 waits until its descriptor is closed, which this does.
    pub fn discard(&self) {
        for _ in 0..DATAGRAMS_PER_TURN {
            // The rest of a longer datagram is dropped with it.
            if receive_datagram(self, &mut [0]).is_err() {
                return;
            }
        }
    }

    pub fn remove(&self) {
        // ENOENT: somebody has removed it.
        sys::ignore(fs::remove_file(&self.path));
    }
}
