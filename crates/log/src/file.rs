//! The live file: whole lines go in, between two of them comes the rotation. A trouble of the disk costs lines and nothing else.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ally_base::log_file::{self, Unfit};
use ally_base::text::errno_name;
use ally_base::wire::LogNote;
use memchr::{memchr, memrchr};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::drops::Drops;
use super::notes::Notes;
use super::queue::Queue;
use super::rotation::Rotation;

/// How often to look whether the file is still there, while lines come.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The pause before the next try, after a write or a rotation has failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
const COPY_CHUNK: usize = 64 * 1024;

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
    /// When the place of the file was last looked at.
    checked: Instant,
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

struct Live {
    file: File,
    size: u64,
    /// Where the line begins that has no newline yet. The size, if there is no such line.
    line: u64,
    /// An earlier process has left a last line without a newline.
    is_torn: bool,
}

impl LogFile {
    pub fn new(folder: OwnedFd, folder_path: PathBuf, name: PathBuf, limits: &Limits, notes: Notes, queue: Arc<Queue>) -> Self {
        Self {
            folder_path,
            max_size: limits.max_size,
            rotation: Rotation::new(folder, name, limits.max_files, limits.compress, queue),
            notes,
            live: None,
            checked: Instant::now(),
            trouble: None,
            drops: Drops::default(),
            rotate_again: None,
        }
    }

    /// `file`: opened and locked by the owner. Without it, waits until an earlier log process has ended.
    pub fn begin(&mut self, file: Option<File>) {
        let begun = match file {
            Some(file) => Live::of(file).map(|live| self.live = Some(live)),
            None => self.open_and_wait(),
        };
        match begun {
            Ok(()) => {
                self.rotation.tidy();
                self.rotation.compress_next();
            }
            Err(unfit) => self.fail(unfit),
        }
    }

    fn open_and_wait(&mut self) -> Result<(), Unfit> {
        loop {
            let file = log_file::open(&self.rotation.folder, &self.rotation.name)?;
            file.lock().map_err(refused)?;
            self.live = Some(Live::of(file)?);
            // The earlier process may have rotated meanwhile.
            if self.is_in_place() {
                return Ok(());
            }
        }
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
    }

    /// A line of this package's own.
    pub fn write_marker(&mut self, text: &str) {
        let line = format!("[ally] {text}\n");
        let torn = self.live.as_ref().is_some_and(|live| live.line != live.size);
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
        if self.live.is_none() || (self.checked.elapsed() >= CHECK_INTERVAL && !self.is_in_place()) {
            self.open_anew()?;
        }
        if let Some(live) = self.live.as_mut().filter(|live| live.is_torn) {
            live.write(b"\n").map_err(|(_, unfit)| unfit)?;
            live.is_torn = false;
        }
        if let Some(Trouble { errno, .. }) = self.trouble {
            let lines = self.drops.lines;
            let text = format!("[ally] {lines} lines were dropped: {}\n", errno_name(errno));
            if let Some(live) = self.live.as_mut().filter(|live| live.line != live.size) {
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
        let begins_earlier = live.line != live.size;
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

    fn is_in_place(&mut self) -> bool {
        self.checked = Instant::now();
        let Some(live) = &self.live else { return false };
        // If that can't be found out, the file is opened anew, which reports the errno.
        log_file::is_at(&self.rotation.folder, &self.rotation.name, &live.file).unwrap_or(false)
    }

    /// Somebody has moved or removed the file, or its folder.
    fn open_anew(&mut self) -> Result<(), Unfit> {
        // Until a file can be opened, lines must not go to the moved one.
        self.live = None;
        self.checked = Instant::now();
        let name = self.rotation.name.clone();
        let file = match log_file::open(&self.rotation.folder, &name) {
            Err(Unfit::Refused(Errno::ENOENT)) => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                self.rotation.folder = openat(AT_FDCWD, &self.folder_path, flags, Mode::empty())?;
                log_file::open(&self.rotation.folder, &name)?
            }
            opened => opened?,
        };
        lock_now(&file)?;
        self.live = Some(Live::of(file)?);
        Ok(())
    }

    /// Begins a new file. The unfinished line, if there is one, moves there as a whole. False if that failed.
    fn rotate(&mut self) -> bool {
        if self.rotate_again.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let rotated = self.try_rotate();
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
            return self.open_anew();
        }
        let Some(old) = &self.live else { return Err(Errno::EBADF.into()) };
        let new_name = self.rotation.new_name();
        self.rotation.remove(&new_name)?;
        let file = log_file::create(&self.rotation.folder, &new_name)?;
        // Before the file has its name, so that no other owner can take it.
        lock_now(&file)?;
        self.rotation.replace_live(&new_name)?;
        old.copy_line_to(&file).map_err(refused)?;
        let mut new = Live::of(file)?;
        new.is_torn = false;
        if new.size > 0 {
            new.line = 0;
            if old.file.set_len(old.line).is_err() {
                // The beginning of the line stays in the older file as well.
            }
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

impl Live {
    fn of(file: File) -> Result<Self, Unfit> {
        let size = file.metadata().map_err(refused)?.len();
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1).map_err(refused)?;
        }
        Ok(Self { file, size, line: size, is_torn: last != [b'\n'] })
    }

    /// The bytes that belong into this file: whole lines up to the limit, or the rest of a line. 0: into the next file.
    fn fitting(&self, bytes: &[u8], max_size: u64) -> usize {
        if self.line != self.size {
            return first_line(bytes);
        }
        let room = usize::try_from(max_size.saturating_sub(self.size)).unwrap_or(usize::MAX);
        match bytes.get(..room) {
            None => bytes.len(),
            Some(window) if window.len() == bytes.len() => bytes.len(),
            Some(window) => match memrchr(b'\n', window) {
                Some(last) => last + 1,
                None if self.size == 0 => first_line(bytes),
                None => 0,
            },
        }
    }

    /// In a failure, only whole lines stay in the file. With the length of these.
    fn write(&mut self, part: &[u8]) -> Result<(), (usize, Unfit)> {
        let mut written = 0;
        while let Some(rest) = part.get(written..).filter(|rest| !rest.is_empty()) {
            let error = match self.file.write(rest) {
                Ok(count) if count > 0 => {
                    written += count;
                    continue;
                }
                Ok(_) => io::ErrorKind::WriteZero.into(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let kept = self.keep_lines(part.get(..written).unwrap_or_default());
            return Err((kept, refused(error)));
        }
        self.note_written(part);
        Ok(())
    }

    fn keep_lines(&mut self, written: &[u8]) -> usize {
        let kept = memrchr(b'\n', written).map_or(0, |last| last + 1);
        let torn = written.len() - kept;
        self.note_written(written);
        // If this fails as well, the part of a line stays, and a newline will end it.
        if torn > 0 && self.file.set_len(self.size - torn as u64).is_ok() {
            self.size -= torn as u64;
        }
        kept
    }

    fn note_written(&mut self, bytes: &[u8]) {
        let before = self.size;
        self.size += bytes.len() as u64;
        if let Some(last) = memrchr(b'\n', bytes) {
            self.line = before + last as u64 + 1;
        }
    }

    /// Copies the line that has no newline yet.
    fn copy_line_to(&self, mut to: &File) -> io::Result<()> {
        let mut buffer = vec![0; COPY_CHUNK.min(usize::try_from(self.size - self.line).unwrap_or(COPY_CHUNK))];
        let mut at = self.line;
        while at < self.size {
            let count = self.file.read_at(&mut buffer, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all(buffer.get(..count).unwrap_or_default())?;
            at += count as u64;
        }
        Ok(())
    }
}

/// The length of the first line, or of all bytes.
fn first_line(bytes: &[u8]) -> usize {
    memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}

fn lock_now(file: &File) -> Result<(), Unfit> {
    file.try_lock().map_err(|error| match error {
        // Another owner's log.
        TryLockError::WouldBlock => Errno::EWOULDBLOCK.into(),
        TryLockError::Error(error) => refused(error),
    })
}

fn refused(error: io::Error) -> Unfit {
    Unfit::Refused(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}
