//! The log process of the daemon, if it has a log file: forks it, forks another one if it was killed, and lets it catch up before
//! the keeper reports. The keeper itself never waits for a disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::wire::LogOrder;
use ally_log::{Limits, Parts};

use crate::sys;

/// How long a report waits until what the daemon has printed is on its way. A log process that is suspended, or whose disk hangs,
/// delays no report for longer.
const CATCH_UP_LIMIT: Duration = Duration::from_millis(200);
/// The pause before the next fork, after a log process that did not live for as long.
const REFORK_PAUSE: Duration = Duration::from_millis(100);

pub struct KeeperLog {
    limits: Limits,
    folder_path: PathBuf,
    name: PathBuf,
    /// For the first log process, which then holds the lock of the file alone.
    file: Option<OwnedFd>,
    folder: OwnedFd,
    copies: [OwnedFd; 2],
    notes: OwnedFd,
    /// Where a log process tells the guardian its pid.
    registry: Option<OwnedFd>,
    /// The stream to the log process. `None` before the fork, and after its end.
    stream: Option<OwnedFd>,
    forked: Option<Instant>,
    /// When to fork the next one.
    fork_at: Option<Instant>,
}

/// The descriptors of an order that are for the log.
pub struct LogDescriptors {
    pub file: Option<OwnedFd>,
    pub folder: OwnedFd,
    pub copies: [OwnedFd; 2],
    pub notes: OwnedFd,
}

impl KeeperLog {
    pub fn new(order: LogOrder, descriptors: LogDescriptors, registry: Option<OwnedFd>) -> Self {
        let LogDescriptors { file, folder, copies, notes } = descriptors;
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        Self {
            limits: Limits { max_size: order.max_size, max_files: order.max_files, compress: order.compress },
            folder_path: path(order.folder),
            name: path(order.name),
            file,
            folder,
            copies,
            notes,
            registry,
            stream: None,
            forked: None,
            fork_at: Some(Instant::now()),
        }
    }

    /// Readable at the end of the log process.
    pub fn stream_fd(&self) -> Option<RawFd> {
        self.stream.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub fn next_deadline(&self) -> Option<Duration> {
        self.fork_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether [`Self::fork`] must follow.
    pub fn is_fork_due(&self) -> bool {
        self.fork_at.is_some_and(|at| at <= Instant::now())
    }

    /// The stream is readable: the log process has ended, or answers too late.
    pub fn on_readable(&mut self) {
        if let Some(stream) = &self.stream
            && !sys::discard(stream)
        {
            self.on_gone();
        }
    }

    fn on_gone(&mut self) {
        self.stream = None;
        let lived = self.forked.map_or(Duration::ZERO, |at| at.elapsed());
        self.fork_at = Some(Instant::now() + if lived < REFORK_PAUSE { REFORK_PAUSE } else { Duration::ZERO });
    }

    /// Forks the log process. In the child: what [`run`] needs.
    pub fn fork(&mut self, outputs: &[Option<OwnedFd>; 2]) -> Option<Parts> {
        let replaces = self.forked.is_some();
        self.fork_at = None;
        match self.try_fork(outputs, replaces) {
            Ok(forked) => forked,
            Err(_) => {
                // EAGAIN, ENOMEM or EMFILE may be over soon. Until then the output stays in the pipes.
                self.fork_at = Some(Instant::now() + REFORK_PAUSE);
                None
            }
        }
    }

    fn try_fork(&mut self, outputs: &[Option<OwnedFd>; 2], replaces: bool) -> io::Result<Option<Parts>> {
        let (ours, theirs) = UnixStream::pair()?;
        let copy = |fd: &OwnedFd| fd.try_clone();
        let [Some(stdout), Some(stderr)] = outputs else { return Ok(None) };
        // Only copies before the fork, so that a failure loses nothing.
        let parts = Parts {
            outputs: [copy(stdout)?, copy(stderr)?],
            copies: [copy(&self.copies[0])?, copy(&self.copies[1])?],
            control: theirs.into(),
            notes: copy(&self.notes)?,
            file: None,
            folder: copy(&self.folder)?,
            folder_path: self.folder_path.clone(),
            name: self.name.clone(),
            limits: self.limits.clone(),
            replaces,
        };
        if sys::fork_sibling()? {
            if let Some(registry) = &self.registry {
                // First, because the guardian kills unknown children in a sweep. EPIPE: the guardian is gone.
                let registered = registry.try_clone().and_then(|pipe| File::from(pipe).write_all(&os::own_pid().to_ne_bytes()));
                sys::ignore(registered);
            }
            return Ok(Some(Parts { file: self.file.take().map(File::from), ..parts }));
        }
        // The lock must end with the log process, and an older file must not keep its space.
        self.file = None;
        self.stream = Some(OwnedFd::from(ours));
        self.forked = Some(Instant::now());
        Ok(None)
    }

    /// Sends `word`, and waits for the answer. False if the log process is gone.
    pub fn catch_up(&mut self, word: u8) -> bool {
        let Some(stream) = &self.stream else { return false };
        let limit = Instant::now() + CATCH_UP_LIMIT;
        if sys::send(stream, &[word]).is_err() {
            self.on_gone();
            return false;
        }
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            let [events] = sys::poll([(Some(stream), libc::POLLIN)], Some(left));
            if events == 0 {
                if left.is_zero() {
                    return true;
                }
                continue;
            }
            let mut answer = [0];
            match sys::receive(stream, &mut answer) {
                Ok((1, _)) if answer == [word] => return true,
                Ok((1, _)) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.on_gone();
                    return false;
                }
            }
        }
    }
}

/// Becomes the log process. It may live longer than the keeper, so it must hold neither the lock of the name nor any other of the
/// keeper's descriptors.
pub fn run(parts: Parts) -> ! {
    sys::close_all_but([0, 1, 2].into_iter().chain(parts.descriptors()).collect());
    sys::set_log_name();
    // Signals to the keeper's POSIX session are not meant for the log.
    sys::ignore(nix::unistd::setsid().map_err(io::Error::from));
    ally_log::run(parts)
}
