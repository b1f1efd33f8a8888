//! Notes to the owner.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ally_base::wire::LogNote;

/// The write end of the pipe for notes. Without an owner, and if the pipe is full, a note is lost.
#[derive(Debug, Clone)]
pub struct Notes(Arc<File>);

impl Notes {
    /// `pipe` must not block.
    pub fn new(pipe: OwnedFd) -> Self {
        Self(Arc::new(pipe.into()))
    }

    /// Returns whether the note is on its way. A note is shorter than `PIPE_BUF`, so it is written whole or not at all: pipe(7).
    pub fn send(&self, note: LogNote) -> bool {
        (&*self.0).write(&note.encode()).is_ok()
    }
}
