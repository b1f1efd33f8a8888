//! The bounded queue between the reader and the writer.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memrchr;

use super::drops::Drops;

/// The bytes that wait for the disk at most. As many again may be in the hands of the writer.
pub const CAPACITY: usize = 1024 * 1024;
/// From here on the reader waits for the writer, so that a daemon that prints faster than the disk writes loses nothing.
const FULL: usize = CAPACITY / 2;
/// How long the reader waits, and with it the daemon, while the writer makes no progress. After that lines are dropped.
///
/// A machine whose processors are all busy can hold up a thread for some hundred milliseconds, and no line must be lost by that.
pub const STALL_LIMIT: Duration = Duration::from_secs(1);
/// A buffer that grew beyond this is given back before a wait.
const SPARE_CAPACITY: usize = 32 * 1024;

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// What came behind `bytes` and did not fit. Until the writer takes this count, everything is dropped, so that the place of
    /// the gap is known.
    dropped: Drops,
    closed: bool,
    compressed: bool,
    /// Since when the queue is full.
    full: Option<Instant>,
    /// Whether the reader waits for room.
    reader_waits: bool,
}

#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// A pipe: gets a byte when a waiting reader has room.
    room: File,
}

/// What the writer has taken, beside the bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The lines that were dropped behind the bytes.
    pub dropped: u64,
    /// Nothing comes after this.
    pub closed: bool,
    /// A compression has ended.
    pub compressed: bool,
}

impl Queue {
    /// `room`: the write end of a pipe, which gets a byte when a waiting reader has room.
    pub fn new(room: OwnedFd) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), room: room.into() }
    }

    /// Whether the reader may push. If not, the pipe gets a byte when it may, or the reader asks again after this time.
    pub fn wait_for_room(&self) -> Option<Duration> {
        let mut state = self.lock();
        let waited = state.full?.elapsed();
        let left = STALL_LIMIT.checked_sub(waited).filter(|left| !left.is_zero());
        state.reader_waits = left.is_some();
        left
    }

    /// Whole lines, or a piece of a long line. Never waits.
    pub fn push(&self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.push(piece);
        self.changed.notify_one();
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// A compression has ended.
    pub fn report_compressed(&self) {
        self.lock().compressed = true;
        self.changed.notify_one();
    }

    /// Waits for bytes, the end, or a compression. `buffer` gets the bytes.
    pub fn take(&self, buffer: &mut Vec<u8>) -> Taken {
        loop {
            if let Some(taken) = self.take_within(buffer, None) {
                return taken;
            }
        }
    }

    /// As [`Self::take`]. `None` if nothing came within `limit`.
    pub fn take_within(&self, buffer: &mut Vec<u8>, limit: Option<Duration>) -> Option<Taken> {
        buffer.clear();
        let until = limit.map(|limit| Instant::now() + limit);
        let mut state = self.lock();
        while state.bytes.is_empty() && state.dropped.lines == 0 && !state.closed && !state.compressed {
            for buffer in [&mut *buffer, &mut state.bytes] {
                if buffer.capacity() > SPARE_CAPACITY {
                    *buffer = Vec::new();
                }
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return None,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        std::mem::swap(buffer, &mut state.bytes);
        state.full = None;
        if std::mem::take(&mut state.reader_waits) && (&self.room).write_all(b".").is_err() {
            // The reader asks again by itself.
        }
        let dropped = std::mem::take(&mut state.dropped.lines);
        Some(Taken { dropped, closed: state.closed, compressed: std::mem::take(&mut state.compressed) })
    }

    /// Waits for the end of a compression. False if the time is over.
    pub fn wait_compressed(&self, limit: Instant) -> bool {
        let left = limit.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), left, |state| !state.compressed);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.compressed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, piece: &[u8]) {
        if self.dropped.lines > 0 {
            return self.dropped.add(piece);
        }
        let piece = self.dropped.skip(piece);
        let room = CAPACITY - self.bytes.len();
        let fits = match piece.get(..room) {
            Some(window) if piece.len() > room => memrchr(b'\n', window).map_or(0, |last| last + 1),
            Some(_) | None => piece.len(),
        };
        let (kept, lost) = piece.split_at(fits);
        self.bytes.extend(kept);
        self.dropped.add(lost);
        if self.bytes.len() > FULL {
            self.full.get_or_insert_with(Instant::now);
        }
    }
}
