//! The live file as one log process knows it: its size, its last line, and the turn to write.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ally_base::log_file::{FileId, Unfit};
use memchr::{memchr, memrchr};

use super::file::refused;
use super::turn;

const COPY_CHUNK: usize = 64 * 1024;
/// A line without its newline keeps the turn, so that it is not broken by the lines of the other log process. After this time it is
/// broken: the rest may never come.
const LINE_LIMIT: Duration = Duration::from_millis(500);

/// A turn ends after this time between two lines, although there are more. The other log process must not drop lines meanwhile.
const TURN_LIMIT: Duration = Duration::from_millis(50);

pub struct Live {
    pub file: File,
    pub id: FileId,
    pub size: u64,
    /// Where the line begins that has no newline yet. The size, if there is no such line.
    pub line: u64,
    /// Another process has left a last line without a newline.
    pub is_torn: bool,
    /// Since when this process has the turn.
    turn: Option<Instant>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end_turn();
    }
}

impl Live {
    pub fn of(file: File) -> Result<Self, Unfit> {
        let size = file.metadata().map_err(refused)?.len();
        let mut live = Self { id: FileId::of(&file)?, file, size: 0, line: 0, is_torn: false, turn: None };
        live.find(size)?;
        Ok(live)
    }

    /// The size of the file in this turn. If another process has written since the last one, its last line is whole, or will get its
    /// newline from this one; so does the line that this process has begun.
    pub fn find(&mut self, size: u64) -> Result<(), Unfit> {
        if size == self.size {
            return Ok(());
        }
        let mut last = [b'\n'];
        if size > 0 {
            self.file.read_exact_at(&mut last, size - 1).map_err(refused)?;
        }
        (self.size, self.line, self.is_torn) = (size, size, last != [b'\n']);
        Ok(())
    }

    pub fn begin_turn(&mut self) {
        if self.turn.is_none() {
            turn::begin(&self.file);
            self.turn = Some(Instant::now());
        }
    }

    pub fn end_turn(&mut self) {
        if self.turn.take().is_some() {
            turn::end(&self.file);
        }
    }

    pub const fn has_turn(&self) -> bool {
        self.turn.is_some()
    }

    pub fn has_long_turn(&self) -> bool {
        !self.is_within_line() && self.turn.is_some_and(|since| since.elapsed() >= TURN_LIMIT)
    }

    /// Whether a line has begun that has no newline yet.
    pub const fn is_within_line(&self) -> bool {
        self.line != self.size
    }

    /// How long this process may keep its turn for the rest of a line. `None` without a turn.
    pub fn turn_left(&self) -> Option<Duration> {
        let left = || LINE_LIMIT.saturating_sub(self.turn?.elapsed()).into();
        if self.is_within_line() { left() } else { self.turn.map(|_| Duration::ZERO) }
    }

    /// The bytes that belong into this file: whole lines up to the limit, or the rest of a line. 0: into the next file.
    pub fn fitting(&self, bytes: &[u8], max_size: u64) -> usize {
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
    pub fn write(&mut self, part: &[u8]) -> Result<(), (usize, Unfit)> {
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
    pub fn copy_line_to(&self, mut to: &File) -> io::Result<()> {
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
pub fn first_line(bytes: &[u8]) -> usize {
    memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}
