//! The owner's copy of one stream. If the owner does not read in time, the oldest lines are dropped: the last ones are those that
//! an error quotes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ally_base::os;
use memchr::{memchr, memchr_iter};
use nix::errno::Errno;

/// The bytes that wait for the owner, beside those in the pipe.
const WAITING_MAX: usize = 256 * 1024;
/// What is left after lines were dropped. The rest is moved only once for so many bytes.
const WAITING_LEFT: usize = 128 * 1024;
/// The capacity of the pipe, once it was full.
const FULL_CAPACITY: i32 = 64 * 1024;

#[derive(Debug)]
pub struct OwnerCopy {
    /// `None` after the owner's death.
    pipe: Option<OwnedFd>,
    waiting: Vec<u8>,
    /// Whether the last byte in the pipe is no newline.
    mid_line: bool,
    /// Whether `waiting` begins with a newline that ends a line whose rest was dropped.
    is_cut: bool,
    enlarged: bool,
    /// The lines that were dropped since the last note.
    pub dropped: u64,
}

impl OwnerCopy {
    /// `pipe`: a write end that does not block.
    pub const fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), waiting: Vec::new(), mid_line: false, is_cut: false, enlarged: false, dropped: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let written = if self.waiting.is_empty() { self.write(bytes) } else { 0 };
        if self.pipe.is_none() {
            return;
        }
        let rest = bytes.get(written..).unwrap_or_default();
        if self.waiting.len() + rest.len() <= WAITING_MAX {
            self.waiting.extend(rest);
        } else {
            self.keep_newest(rest);
        }
    }

    /// The pipe has room, or the owner is dead.
    pub fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let written = self.write(&waiting);
        if self.pipe.is_some() && written < waiting.len() {
            self.waiting = waiting;
            self.waiting.drain(..written);
        }
    }

    /// Whether everything is in the pipe, or nobody reads it.
    pub const fn is_delivered(&self) -> bool {
        self.waiting.is_empty()
    }

    /// For poll(2): the pipe, and whether its room matters. The owner's death is reported in any case.
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// No bytes follow.
    pub fn close(&mut self) {
        self.pipe = None;
        self.waiting = Vec::new();
    }

    fn write(&mut self, mut bytes: &[u8]) -> usize {
        let length = bytes.len();
        while let (Some(pipe), Some(_)) = (&self.pipe, bytes.first()) {
            match nix::unistd::write(pipe, bytes) {
                Ok(count) => {
                    let (written, rest) = bytes.split_at(count.min(bytes.len()));
                    self.mid_line = written.last().map_or(self.mid_line, |last| *last != b'\n');
                    self.is_cut = false;
                    bytes = rest;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if !self.enlarged => {
                    self.enlarged = true;
                    if os::resize_pipe(pipe, FULL_CAPACITY).is_err() {
                        break;
                    }
                }
                Err(Errno::EAGAIN) => break,
                // EPIPE: the owner is dead.
                Err(_) => self.close(),
            }
        }
        length - bytes.len()
    }

    /// Only whole lines are dropped. If a line is begun in the pipe, its rest is dropped, and a newline ends it.
    fn keep_newest(&mut self, rest: &[u8]) {
        let count = |bytes: &[u8]| memchr_iter(b'\n', bytes).count() as u64;
        let surplus = (self.waiting.len() + rest.len()).saturating_sub(WAITING_LEFT);
        // The first newline behind the surplus ends what is dropped.
        let (of_waiting, of_rest) = (surplus.min(self.waiting.len()), surplus.saturating_sub(self.waiting.len()));
        let after = |bytes: &[u8], from: usize| memchr(b'\n', bytes.get(from..).unwrap_or_default()).map(|at| from + at + 1);
        let (of_waiting, of_rest) = match after(&self.waiting, of_waiting) {
            Some(end) if of_rest == 0 => (end, 0),
            _ => (self.waiting.len(), after(rest, of_rest).unwrap_or(rest.len())),
        };
        let lost = count(self.waiting.get(..of_waiting).unwrap_or_default()) + count(rest.get(..of_rest).unwrap_or_default());
        self.dropped += lost.saturating_sub(u64::from(self.is_cut)).max(1);
        self.is_cut = self.mid_line;
        let kept = self.waiting.split_off(of_waiting);
        self.waiting.clear();
        if self.mid_line {
            self.waiting.push(b'\n');
        }
        self.waiting.extend(kept);
        self.waiting.extend(rest.get(of_rest..).unwrap_or_default());
    }
}
