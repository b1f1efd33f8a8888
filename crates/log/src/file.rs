//! The live file: whole lines go in, between two of them comes the rotation. A trouble of the disk costs lines and nothing else.
//! During an upgrade the log process of another generation writes it as well, so each batch of lines is written in a turn.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ally_base::log_file::{self, Unfit};
use ally_base::text::errno_name;
use ally_base::wire::LogNote;
use nix::errno::Errno;

use super::drops::Drops;
use super::live::{Live, first_line};
use super::notes::Notes;
use super::queue::Queue;
use super::rotation::Rotation;

/// The pause before the next try, after a write or a rotation has failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// How often to look for the file again in a row, while another process rotates it.
const CHASES_MAX: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub max_size: u64,
    /// With the live file.
    pub max_files: u32,
    pub compress: bool,
}

pub struct LogFile {
    folder_path: PathBuf,
    max_size: u64,
    pub rotation: Rotation,
    notes: Notes,
    live: Option<Live>,
    trouble: Option<Trouble>,
    drops: Drops,
    /// When to try the next rotation, after one has failed.
    rotate_again: Option<Instant>,
}

/// Why lines are dropped.
struct Trouble {
    errno: i32,
    try_again: Instant,
}

impl LogFile {
    pub fn new(folder: OwnedFd, folder_path: PathBuf, name: PathBuf, limits: &Limits, notes: Notes, queue: Arc<Queue>) -> Self {
        Self {
            folder_path,
            max_size: limits.max_size,
            rotation: Rotation::new(folder, name, limits.max_files, limits.compress, queue),
            notes,
            live: None,
            trouble: None,
            drops: Drops::default(),
            rotate_again: None,
        }
    }

    /// `file`: opened and locked by the owner. Without it, waits while another owner looks whether it may have the file.
    pub fn begin(&mut self, file: Option<File>) {
        let begun = match file {
            Some(file) => Live::of(file).map(|live| self.live = Some(live)),
            None => self.open_and_wait(),
        };
        match begun.and_then(|()| self.begin_turn()) {
            Ok(()) => {
                self.rotation.tidy();
                self.rotation.compress_next();
                self.end_turn();
            }
            Err(unfit) => self.fail(unfit),
        }
    }

    fn open_and_wait(&mut self) -> Result<(), Unfit> {
        loop {
            let file = log_file::open(&self.rotation.folder, &self.rotation.name)?;
            file.lock_shared().map_err(refused)?;
            self.live = Some(Live::of(file)?);
            // Another log process may have rotated meanwhile.
            if self.is_in_place() {
                return Ok(());
            }
        }
    }

    /// Opens the file if necessary, and waits until no other process writes or rotates it.
    fn begin_turn(&mut self) -> Result<(), Unfit> {
        for _ in 0..CHASES_MAX {
            if self.live.is_none() {
                self.open_anew()?;
            }
            let Some(live) = self.live.as_mut().filter(|live| !live.has_turn()) else { return Ok(()) };
            live.begin_turn();
            // If that can't be found out, the file is opened anew, which reports the errno.
            if let Some(size) = log_file::size_at(&self.rotation.folder, &self.rotation.name, live.id).unwrap_or(None) {
                return live.find(size);
            }
            // Somebody has moved or removed it, or another log process has rotated.
            self.live = None;
        }
        Err(Errno::EAGAIN.into())
    }

    fn end_turn(&mut self) {
        self.live.iter_mut().for_each(Live::end_turn);
    }

    /// Between two parts of a batch. With many rotations a batch may take long.
    fn offer_turn(&mut self) -> Result<(), Unfit> {
        if self.live.as_ref().is_some_and(Live::has_long_turn) {
            self.end_turn();
            return self.begin_turn();
        }
        Ok(())
    }

    /// After a batch. A line that has begun keeps the turn for a while.
    fn end_batch(&mut self) {
        if self.turn_left().is_some_and(|left| left.is_zero()) {
            self.end_turn();
        }
    }

    /// How long the turn may last without further lines, until [`Self::break_line`]. `None` without a turn.
    pub fn turn_left(&self) -> Option<Duration> {
        self.live.as_ref().and_then(Live::turn_left)
    }

    /// The rest of a line did not come in time: other processes may write.
    pub fn break_line(&mut self) {
        self.end_turn();
    }

    /// A compression has ended.
    pub fn on_compressed(&mut self) {
        match self.begin_turn() {
            Ok(()) => self.rotation.on_compressed(),
            // Without a turn no file may be renamed.
            Err(_) => self.rotation.cancel(),
        }
        self.end_batch();
    }

    /// Whole lines, or a piece of a long line. Lines that can't be written are dropped and counted.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.trouble.as_ref().is_some_and(|trouble| Instant::now() < trouble.try_again) {
            return self.drops.add(bytes);
        }
        let (done, failed) = self.try_write(bytes);
        if let Err(unfit) = failed {
            self.drops.add(bytes.get(done..).unwrap_or_default());
            self.fail(unfit);
        }
        self.end_batch();
    }

    /// A line of this package's own.
    pub fn write_marker(&mut self, text: &str) {
        let line = format!("[ally] {text}\n");
        // In the turn, because another process may have ended the line.
        let has_turn = self.trouble.is_none() && self.begin_turn().is_ok();
        let torn = has_turn && self.live.as_ref().is_some_and(Live::is_within_line);
        self.write(if torn { format!("\n{line}") } else { line }.as_bytes());
    }

    /// Returns how many bytes are done.
    fn try_write(&mut self, bytes: &[u8]) -> (usize, Result<(), Unfit>) {
        if let Err(unfit) = self.ready() {
            return (0, Err(unfit));
        }
        let bytes_left = self.drops.skip(bytes);
        let mut done = bytes.len() - bytes_left.len();
        while done < bytes.len() {
            if let Err(unfit) = self.offer_turn() {
                return (done, Err(unfit));
            }
            let rest = bytes.get(done..).unwrap_or_default();
            match self.put(rest) {
                Ok(count) => done += count,
                Err((count, unfit)) => return (done + count, Err(unfit)),
            }
        }
        (done, Ok(()))
    }

    /// Opens the file if necessary, and reports the end of a trouble.
    fn ready(&mut self) -> Result<(), Unfit> {
        self.begin_turn()?;
        if let Some(live) = self.live.as_mut().filter(|live| live.is_torn) {
            live.write(b"\n").map_err(|(_, unfit)| unfit)?;
            live.is_torn = false;
        }
        if let Some(Trouble { errno, .. }) = self.trouble {
            let lines = self.drops.lines;
            let text = format!("[ally] {lines} lines were dropped: {}\n", errno_name(errno));
            if let Some(live) = self.live.as_mut().filter(|live| live.is_within_line()) {
                live.write(b"\n").map_err(|(_, unfit)| unfit)?;
            }
            self.put(text.as_bytes()).map_err(|(_, unfit)| unfit)?;
            self.drops.lines = 0;
            self.trouble = None;
            self.notes.send(LogNote::FileDropped { lines, errno });
        }
        Ok(())
    }

    /// Writes as much as belongs into one file, after a rotation if necessary. Returns the bytes that are done, in a failure too.
    fn put(&mut self, bytes: &[u8]) -> Result<usize, (usize, Unfit)> {
        let Some(live) = &self.live else { return Err((0, Errno::EBADF.into())) };
        let mut part = live.fitting(bytes, self.max_size);
        let begins_earlier = live.is_within_line();
        let passes = begins_earlier && live.line > 0 && live.size + part as u64 > self.max_size;
        if (part == 0 || passes) && !self.rotate() {
            // The lines are worth more than the limit.
            part = first_line(bytes);
        }
        if part == 0 {
            return Ok(0);
        }
        let Some(live) = &mut self.live else { return Err((0, Errno::EBADF.into())) };
        live.write(bytes.get(..part).unwrap_or_default()).map(|()| part)
    }

    fn is_in_place(&self) -> bool {
        let Some(live) = &self.live else { return false };
        // If that can't be found out, the file is opened anew, which reports the errno.
        log_file::is_at(&self.rotation.folder, &self.rotation.name, &live.file).unwrap_or(false)
    }

    /// Somebody has moved or removed the file, or its folder.
    fn open_anew(&mut self) -> Result<(), Unfit> {
        // Until a file can be opened, lines must not go to the moved one.
        self.live = None;
        let name = self.rotation.name.clone();
        let file = match log_file::open(&self.rotation.folder, &name) {
            Err(Unfit::Refused(Errno::ENOENT)) => {
                self.rotation.folder = log_file::open_folder(&self.folder_path)?;
                log_file::open(&self.rotation.folder, &name)?
            }
            opened => opened?,
        };
        lock_now(&file)?;
        self.live = Some(Live::of(file)?);
        self.notes.send(LogNote::Reopened);
        Ok(())
    }

    /// Begins a new file. The unfinished line, if there is one, moves there as a whole. False if that failed.
    fn rotate(&mut self) -> bool {
        if self.rotate_again.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let mut rotated = self.try_rotate();
        if rotated.is_err() && !self.is_in_place() {
            // Half a rotation: the lines belong into the new file.
            self.live = None;
            rotated = rotated.and(self.begin_turn());
        }
        self.rotate_again = match rotated {
            Ok(()) => None,
            Err(unfit) => {
                if self.rotate_again.is_none() {
                    self.notes.send(LogNote::FileFailed { errno: unfit.errno() });
                }
                Some(Instant::now() + RETRY_INTERVAL)
            }
        };
        self.rotate_again.is_none()
    }

    fn try_rotate(&mut self) -> Result<(), Unfit> {
        if !self.is_in_place() {
            // A file that somebody has moved is not one of the older files.
            self.live = None;
            return self.begin_turn();
        }
        let Some(old) = &self.live else { return Err(Errno::EBADF.into()) };
        let new_name = self.rotation.new_name();
        self.rotation.settle_new_name()?;
        let file = log_file::create(&self.rotation.folder, &new_name)?;
        // Before the file has its name, so that no other owner can take it.
        lock_now(&file)?;
        let mut new = Live::of(file)?;
        // As well before, so that no other log process writes it before the line has moved.
        new.begin_turn();
        self.rotation.replace_live(&new_name)?;
        old.copy_line_to(&new.file).map_err(refused)?;
        new.size = old.size - old.line;
        if new.size > 0 && old.file.set_len(old.line).is_err() {
            // The beginning of the line stays in the older file as well.
        }
        self.live = Some(new);
        self.rotation.compress_next();
        Ok(())
    }

    fn fail(&mut self, unfit: Unfit) {
        let (errno, try_again) = (unfit.errno(), Instant::now() + RETRY_INTERVAL);
        if self.trouble.is_none() {
            self.notes.send(LogNote::FileFailed { errno });
        }
        let errno = self.trouble.as_ref().map_or(errno, |trouble| trouble.errno);
        self.trouble = Some(Trouble { errno, try_again });
    }

    /// No bytes follow. If lines were dropped, tries to say so.
    pub fn finish(&mut self) {
        if self.trouble.is_some() && self.ready().is_err() {
            let (lines, errno) = (self.drops.lines, self.trouble.as_ref().map_or(0, |trouble| trouble.errno));
            self.notes.send(LogNote::FileDropped { lines, errno });
        }
    }
}

/// The lock of a log file is shared: the log processes of two generations have it at once. Another owner, which must have it alone at
/// first, does not get it.
fn lock_now(file: &File) -> Result<(), Unfit> {
    file.try_lock_shared().map_err(|error| match error {
        // Another owner looks whether it may have the file.
        TryLockError::WouldBlock => Errno::EWOULDBLOCK.into(),
        TryLockError::Error(error) => refused(error),
    })
}

pub fn refused(error: io::Error) -> Unfit {
    Unfit::Refused(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}
