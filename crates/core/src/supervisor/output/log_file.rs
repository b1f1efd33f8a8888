//! The owner's part of a log file: opens and locks the file for a new attempt, and receives what the log process reports.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ally_base::log_file::{self, Unfit};
use ally_base::os;
use ally_base::text::errno_text;
use ally_base::wire::{FrameBuffer, LogNote};
use nix::sys::stat::{fstat, stat};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::Tail;
use crate::config::LogConfig;
use crate::error::Failure;
use crate::supervisor::report::{Reporter, log};
use crate::supervisor::runtime::spawn;
use crate::supervisor::runtime::{Work, off_thread};

/// The log process of an earlier attempt writes the rest, and ends. flock(2) has no event for that.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// How long a first start waits for the lock. After that another owner has it.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
/// How long a restart waits. After that the disk is slow, and the lines of both attempts may mix.
const RESTART_LOCK_LIMIT: Duration = Duration::from_millis(500);

/// The process name of a log process.
const LOG_PROCESS: &str = "ally-log";

/// A log file for one attempt.
#[derive(Debug)]
pub struct OpenLog {
    /// `None`: the log process waits for the lock, while another owner looks whether it may have the file.
    pub file: Option<OwnedFd>,
    pub folder: OwnedFd,
}

impl OpenLog {
    /// For an order. If the order is lost, the next one gets another copy.
    ///
    /// # Errors
    /// EMFILE.
    pub fn try_clone(&self) -> io::Result<Self> {
        let file = self.file.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(Self { file, folder: self.folder.try_clone()? })
    }
}

/// What the log file of an attempt must know about the plugin.
pub struct LogPlace {
    pub envs_dir: PathBuf,
    /// Whether this owner's earlier attempt has written the file.
    pub is_own: bool,
    /// Whether another generation of the daemon writes the file, and goes on.
    pub is_shared: bool,
}

/// Who else may have the lock of the file.
#[derive(Clone, Copy)]
enum LockedBy {
    Nobody,
    /// The log process of another generation or of an earlier attempt.
    LogProcess,
}

/// The log file of another plugin of this manager.
pub struct OtherLog {
    pub plugin: String,
    pub config: LogConfig,
}

/// Opens and locks the file in a thread of its own: the disk may hang, and the supervisor's thread must not. `others`: called if
/// somebody has the file locked.
///
/// # Errors
/// `InvalidConfig`; `Io` with the path; `LogFileOwned`.
pub async fn open_log(config: LogConfig, place: LogPlace, others: impl Fn() -> Vec<OtherLog>) -> Result<OpenLog, Failure> {
    let limit = Instant::now() + if place.is_own { RESTART_LOCK_LIMIT } else { LOCK_LIMIT };
    let (config, place) = (Arc::new(config), Arc::new(place));
    let mut is_compared = place.is_own;
    loop {
        let (wanted, at) = (Arc::clone(&config), Arc::clone(&place));
        let is_last = Instant::now() >= limit;
        let besides = if place.is_own && (place.is_shared || is_last) { LockedBy::LogProcess } else { LockedBy::Nobody };
        let (folder, file, locked) = off_thread(Work::OpenFile, move || try_open(&wanted, &at, besides)).await?;
        if locked {
            return Ok(OpenLog { file: Some(file.into()), folder });
        }
        if is_last {
            if place.is_own && !is_locked_by_other(&file) {
                return Ok(OpenLog { file: None, folder });
            }
            return Err(Failure::LogFileOwned { path: config.file.display().to_string(), owner: os::flock_holder(&file) });
        }
        if !std::mem::replace(&mut is_compared, true) {
            let (wanted, others) = (Arc::clone(&config), others());
            off_thread(Work::OpenFile, move || check_others(&wanted, &folder, &others)).await?;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// The call has compared the paths as they are written. A symbolic link or `..` in the folder's path is found here: only the file
/// system knows, and only a locked file makes it necessary to ask.
fn check_others(config: &LogConfig, folder: &OwnedFd, others: &[OtherLog]) -> Result<(), Failure> {
    let here = fstat(folder).map_err(|errno| Failure::call("fstat", config.folder(), errno))?;
    let is_here = |folder: &Path| stat(folder).is_ok_and(|there| (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino));
    let other = others.iter().find(|other| other.config.collides_in_one_folder(config) && is_here(other.config.folder()));
    other.map_or(Ok(()), |other| Err(same_log_file(&other.plugin, config)))
}

/// Folder and file, and whether the file is locked. The lock is shared in the end: a further generation gets it as well. But a first
/// generation must have had it alone, so that nobody else writes the file.
fn try_open(config: &LogConfig, place: &LogPlace, besides: LockedBy) -> Result<(OwnedFd, File, bool), Failure> {
    let (path, name) = (&config.file, config.name());
    let folder = open_folder(config.folder(), &place.envs_dir)?;
    let file = log_file::open(&folder, name).map_err(|unfit| unfit_failure(path, unfit))?;
    if matches!(besides, LockedBy::LogProcess) && is_locked_by_other(&file) {
        return Ok((folder, file, false));
    }
    let alone = match besides {
        LockedBy::Nobody => file.try_lock(),
        LockedBy::LogProcess => Ok(()),
    };
    match alone.and_then(|()| file.try_lock_shared()) {
        Ok(()) => {
            // The log process that held the lock may have rotated just before.
            let is_current = log_file::is_at(&folder, name, &file).map_err(|errno| Failure::call("fstatat", path, errno))?;
            Ok((folder, file, is_current))
        }
        Err(TryLockError::WouldBlock) => Ok((folder, file, false)),
        Err(TryLockError::Error(error)) => Err(Failure::call("flock", path, error)),
    }
}

/// In the list of locks a file that was handed on belongs to this process, and one that was rotated to a log process.
fn is_locked_by_other(file: &File) -> bool {
    os::flock_holder(file).is_some_and(|pid| pid != os::own_pid() && !os::holds(pid, LOG_PROCESS, file))
}

/// Below `envsDir` a missing folder is made, for this user only. Elsewhere it may be a mistake in the path.
fn open_folder(folder: &Path, envs_dir: &Path) -> Result<OwnedFd, Failure> {
    if folder.starts_with(envs_dir) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Failure::call("mkdir", folder, error))?;
    }
    log_file::open_folder(folder).map_err(|errno| Failure::call("open", folder, errno))
}

fn unfit_failure(path: &Path, unfit: Unfit) -> Failure {
    match unfit {
        Unfit::Link => Failure::io(path, "is a symbolic link, which is never followed here"),
        Unfit::NotPlain => Failure::io(path, "must be a plain file"),
        Unfit::Foreign(user) => Failure::io(path, format!("belongs to user {user}")),
        Unfit::Named => Failure::io(path, "has another name as well (a hard link), which may be somebody else's file"),
        Unfit::Refused(errno) => Failure::call("open", path, io::Error::from(errno)),
    }
}

/// Two plugins must not write one log file.
pub fn same_log_file(other: &str, logs: &LogConfig) -> Failure {
    let problem = format!("must not be a log file of plugin '{other}' as well: {}", logs.file.display());
    Failure::InvalidConfig { field: "logs.file".to_owned(), problem }
}

/// Logs and counts what the log process of one attempt reports. `reopened`: woken when it had to open the file again.
///
/// # Errors
/// The errno of epoll_ctl(2) or kevent(2).
pub fn receive_notes(pipe: OwnedFd, path: PathBuf, reopened: Arc<Notify>, tail: &Arc<Tail>, reporter: &Reporter) -> io::Result<()> {
    let (pipe, tail, reporter) = (Receiver::from_owned_fd(pipe)?, Arc::clone(tail), reporter.clone());
    drop(spawn(Notes { pipe, path, reopened, tail, reporter, is_warned: false }.run()));
    Ok(())
}

struct Notes {
    pipe: Receiver,
    path: PathBuf,
    reopened: Arc<Notify>,
    tail: Arc<Tail>,
    reporter: Reporter,
    /// Whether lines missing in the owner's copy were logged as a warning.
    is_warned: bool,
}

impl Notes {
    async fn run(mut self) {
        let mut received = FrameBuffer::default();
        let mut bytes = [0; 256];
        loop {
            match self.pipe.readable().await.and_then(|()| self.pipe.try_read(&mut bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(count) if count > 0 => received.extend(bytes.get(..count).unwrap_or_default()),
                // The log process has ended.
                Ok(_) | Err(_) => return,
            }
            while let Ok(Some(frame)) = received.next_frame() {
                if let Some(note) = LogNote::decode(&frame) {
                    self.on_note(note);
                }
            }
        }
    }

    fn on_note(&mut self, note: LogNote) {
        let file = ally_base::text::printable(&self.path.display().to_string());
        match note {
            LogNote::CopyDropped { lines } => {
                self.tail.count_dropped_lines(lines);
                if std::mem::replace(&mut self.is_warned, true) {
                    log!(
                        self.reporter,
                        debug,
                        lines,
                        "output came too fast: lines are missing in events and getOutput, not in the log file"
                    );
                } else {
                    log!(
                        self.reporter,
                        warn,
                        lines,
                        "output came too fast: lines are missing in events and getOutput, not in the log file"
                    );
                }
            }
            LogNote::FileFailed { errno } => {
                log!(self.reporter, warn, file, "the log file can't be written: {}", errno_text(errno));
            }
            LogNote::FileDropped { lines, errno } => {
                self.tail.count_dropped_lines(lines);
                let reason = if errno == 0 { "the disk is too slow".to_owned() } else { errno_text(errno) };
                log!(self.reporter, warn, file, lines, "lines are missing in the log file: {reason}");
            }
            LogNote::Reopened => self.reopened.notify_one(),
            LogNote::Replaced => {
                log!(self.reporter, warn, file, "the log process was killed, and replaced: lines may be missing in the log file");
            }
        }
    }
}
