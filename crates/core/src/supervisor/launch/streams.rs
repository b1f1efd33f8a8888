//! The pipes of one attempt. Without a log file the owner reads what the daemon writes. With one, the log process reads it, and the
//! owner reads a copy.

use std::io;
use std::os::fd::OwnedFd;

use ally_base::os;

use crate::supervisor::TARGET;
use crate::supervisor::output::{OpenLog, QUIET_CAPACITY};

/// Both streams are in the order stdout, stderr.
pub struct Streams {
    /// The read ends of the owner.
    pub outputs: [OwnedFd; 2],
    /// The write ends of the daemon.
    pub writers: [OwnedFd; 2],
    /// The read ends of the keeper, or of the log process.
    pub readers: [OwnedFd; 2],
    pub log: Option<LogStreams>,
}

pub struct LogStreams {
    pub open: OpenLog,
    /// The write ends of the owner's copy.
    pub copies: [OwnedFd; 2],
    /// Read end and write end of the pipe for the reports of the log process.
    pub notes: OwnedFd,
    pub noted: OwnedFd,
}

impl Streams {
    /// # Errors
    /// EMFILE or ENFILE.
    pub fn make(log: Option<OpenLog>) -> io::Result<Self> {
        let (stdout_reader, stdout) = pipe()?;
        let (stderr_reader, stderr) = pipe()?;
        let (readers, writers) = ([stdout_reader, stderr_reader], [stdout, stderr]);
        let Some(open) = log else {
            let outputs = [readers[0].try_clone()?, readers[1].try_clone()?];
            return Ok(Self { outputs, writers, readers, log: None });
        };
        let (stdout, stdout_copy) = pipe()?;
        let (stderr, stderr_copy) = pipe()?;
        let (notes, noted) = io::pipe()?;
        let log = LogStreams { open, copies: [stdout_copy, stderr_copy], notes: notes.into(), noted: noted.into() };
        Ok(Self { outputs: [stdout, stderr], writers, readers, log: Some(log) })
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = io::pipe()?;
    if let Err(error) = os::resize_pipe(&read, QUIET_CAPACITY) {
        // The user's pages are used up, so the pipe is even smaller. It works all the same.
        tracing::debug!(target: TARGET, %error, "a pipe keeps the capacity that the kernel gave it");
    }
    Ok((read.into(), write.into()))
}
