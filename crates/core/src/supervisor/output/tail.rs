//! The last part of a daemon's output, bounded in bytes. The bytes are split into lines only when they are read, or followed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use memchr::{memchr, memrchr, memrchr_iter};
use serde::{Deserialize, Serialize};

use super::follow::{Follower, Following, Line};
use super::reading::Reading;
use super::times::Times;
use crate::model::{Pid, Stream};
use crate::supervisor::runtime::clock;

const TAIL_BYTES: usize = 256 * 1024;
const TAIL_LINES: usize = 1_000;
/// Small writes are appended to a chunk up to this size, which saves an allocation per write.
const CHUNK: usize = 8 * 1024;
/// A buffer with so many bytes becomes a chunk. At most half of its memory is unused then, so the tail has 0.6 MiB at most.
const TAKEN_MIN: usize = 32 * 1024;
/// If stdout and stderr alternate byte by byte, each byte is a chunk. This bounds the number of chunks.
const CHUNKS_MAX: usize = 4 * 1024;
/// The size of the output in a failure.
const EXCERPT_LINES: usize = 50;
const EXCERPT_BYTES: usize = 8 * 1024;

/// Chunk and offset of the oldest byte.
const OLDEST: (usize, usize) = (0, 0);

#[derive(Debug)]
struct Chunk {
    /// The number of the process that wrote the bytes.
    process: u64,
    stream: Stream,
    /// Whether the first byte is the first of a line.
    starts_line: bool,
    /// The last line has no newline, and what follows in the stream is another one.
    ends_line: bool,
    bytes: Vec<u8>,
}

/// What was read of all processes of one plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputCounts {
    /// Bytes of stdout and of stderr.
    pub bytes: [u64; 2],
    /// Lines that are missing somewhere: in events, because too many waited for their listener; in this owner's copy of a log
    /// process; in the log file. A line that is missing in two places counts twice.
    pub dropped_lines: u64,
}

#[derive(Default)]
struct Inner {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// The number of the newest process, counted from 1.
    process: u64,
    /// The processes whose trees are not gone: one, and during an upgrade two.
    live: Vec<u64>,
    /// Per stream: the process that wrote last.
    writer: [u64; 2],
    /// Per stream: whether the last line of that process has no newline yet.
    open: [bool; 2],
    /// The position behind the newest byte, counted from the first.
    end: u64,
    times: Times,
    /// Per stream: the time of the last bytes.
    read_at: [f64; 2],
    /// The pids of the processes in `chunks`, and of the current one.
    pids: VecDeque<(u64, Pid)>,
    following: Option<Following>,
    /// The followers of kept lines only, with a line whose pid is not known yet.
    unnamed: Vec<Weak<Follower>>,
    counts: OutputCounts,
}

pub struct Tail {
    /// Names this output within the process.
    number: u64,
    inner: Mutex<Inner>,
}

impl Default for Tail {
    fn default() -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        // Before the first process has begun, its number is 0.
        let inner = Mutex::new(Inner { live: vec![0], ..Inner::default() });
        Self { number: NUMBERS.fetch_add(1, Ordering::Relaxed), inner }
    }
}

impl Tail {
    /// Begins the output of the next process, and returns the number of that process. What a former one still writes is not kept.
    pub fn begin(&self) -> u64 {
        let mut inner = self.lock();
        [Stream::Stdout, Stream::Stderr].into_iter().for_each(|stream| inner.end_line(stream));
        for process in inner.live.clone() {
            inner.end_process(process);
        }
        inner.begin()
    }

    /// As [`Tail::begin`], beside a process that goes on to write.
    pub fn begin_beside(&self) -> u64 {
        self.lock().begin()
    }

    /// The keeper has reported the leader of this process.
    pub fn name_process(&self, process: u64, pid: Pid) {
        self.lock().name_process(process, pid);
    }

    /// What follows in this stream is another line.
    pub fn end_line(&self, process: u64, stream: Stream) {
        let mut inner = self.lock();
        if inner.is_live(process) && inner.writer[stream as usize] == process {
            inner.end_line(stream);
        }
    }

    /// The tree of this process is gone: further bytes are not its output.
    pub fn end(&self, process: u64) {
        let mut inner = self.lock();
        if inner.is_live(process) {
            inner.end_process(process);
        }
    }

    /// `process`: the number from [`Tail::begin`]. Returns false, and keeps nothing, if that process has ended: what
    /// `killMode: 'group'` spared still writes, and its lines would pass for those of the next process.
    pub fn append(&self, process: u64, stream: Stream, bytes: &[u8]) -> bool {
        self.append_at(process, stream, bytes, clock::wall())
    }

    /// `at`: milliseconds since 1970.
    pub fn append_at(&self, process: u64, stream: Stream, bytes: &[u8], at: f64) -> bool {
        let mut inner = self.lock();
        if !inner.is_live(process) {
            return false;
        }
        // If a write is larger than the tail, only its end is kept.
        let (lost, kept) = bytes.split_at(bytes.len().saturating_sub(TAIL_BYTES));
        let Some(mut starts_line) = inner.note(process, stream, bytes, at) else { return true };
        if let Some(before) = lost.last() {
            starts_line = *before == b'\n';
        }
        match inner.chunks.back_mut() {
            Some(last) if last.continues(process, stream, !starts_line) && last.bytes.len() + kept.len() <= CHUNK => {
                last.bytes.extend(kept);
            }
            _ => inner.chunks.push_back(Chunk { process, stream, starts_line, ends_line: false, bytes: kept.to_vec() }),
        }
        drop(inner.make_room(kept.len(), at, memrchr(b'\n', kept).is_some()));
        true
    }

    /// As [`Tail::append`] of the first `count` bytes of a buffer. If these are many, the tail takes the whole buffer, and gives
    /// another one of the same size back: a daemon that floods is read without a copy.
    pub fn append_buffer(&self, process: u64, stream: Stream, buffer: &mut Vec<u8>, count: usize) -> bool {
        let Some(bytes) = buffer.get(..count).filter(|bytes| (TAKEN_MIN..=TAIL_BYTES).contains(&bytes.len())) else {
            return self.append(process, stream, buffer.get(..count).unwrap_or_default());
        };
        let (mut inner, at, size) = (self.lock(), clock::wall(), buffer.len());
        if !inner.is_live(process) {
            return false;
        }
        let Some(starts_line) = inner.note(process, stream, bytes, at) else { return true };
        let has_newline = memrchr(b'\n', bytes).is_some();
        let mut bytes = std::mem::take(buffer);
        bytes.truncate(count);
        inner.chunks.push_back(Chunk { process, stream, starts_line, ends_line: false, bytes });
        let removed = inner.make_room(count, at, has_newline);
        *buffer = removed.filter(|oldest| oldest.capacity() >= size).unwrap_or_default();
        buffer.resize(size, 0);
        true
    }

    pub fn count_dropped_lines(&self, lines: u64) {
        self.lock().counts.dropped_lines += lines;
    }

    pub fn counts(&self) -> OutputCounts {
        self.lock().counts
    }

    /// The last lines of both streams, oldest first, in the order of their newlines.
    pub fn lines(&self, count: usize) -> Vec<String> {
        self.lock().lines(|_| true, count.min(TAIL_LINES), TAIL_BYTES)
    }

    /// The follower gets the last `count` lines and, if it is live, each line after them. A line that is not complete comes
    /// when it is. Under one lock, so that no line is missing or comes twice.
    pub fn follow(&self, count: usize, follower: &Arc<Follower>) {
        let mut inner = self.lock();
        let mut reading = inner.read(|_| true, count.min(TAIL_LINES), TAIL_BYTES);
        if !follower.is_live() {
            reading.end_lines();
        }
        let Reading { lines, splitters, .. } = reading;
        follower.follows(self.number);
        let goes_on = follower.push(lines.into_iter().map(|line| Line { pid: inner.pid_of(line.process), ..line }));
        if follower.is_live() && goes_on {
            // The splitters of other followers have the same rest.
            inner.following.get_or_insert_with(|| Following::new(splitters)).add(follower);
        } else if follower.lacks_pid() {
            inner.unnamed.push(Arc::downgrade(follower));
        }
    }

    /// Gives a live follower the last `count` lines once more, as far as they do not wait for its reader: they were lost behind it.
    pub fn repeat(&self, count: usize, follower: &Follower) {
        let inner = self.lock();
        let lines = inner.read(|_| true, count.min(TAIL_LINES), TAIL_BYTES).lines;
        follower.put_back(self.number, lines.into_iter().map(|line| Line { pid: inner.pid_of(line.process), ..line }));
    }

    /// Whether somebody follows.
    pub fn is_followed(&self) -> bool {
        self.lock().following.as_ref().is_some_and(Following::is_followed)
    }

    /// No line will follow: the plugin is forgotten.
    pub fn close(&self) {
        if let Some(mut following) = self.lock().following.take() {
            following.end();
        }
    }

    /// [`Tail::error_excerpt_of`] the newest process.
    pub fn error_excerpt(&self) -> String {
        let newest = self.lock().process;
        self.error_excerpt_of(newest)
    }

    /// The output for a failure: the last lines of this process on stderr. If stderr is empty: on stdout.
    pub fn error_excerpt_of(&self, process: u64) -> String {
        let inner = self.lock();
        let of = |stream| {
            let wanted = |chunk: &Chunk| chunk.stream == stream && chunk.process == process;
            inner.lines(wanted, EXCERPT_LINES, EXCERPT_BYTES).join("\n")
        };
        let stderr = of(Stream::Stderr);
        if stderr.is_empty() { of(Stream::Stdout) } else { stderr }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunk {
    /// Whether further bytes may be added. Not those of another line, if this one was ended without a newline.
    fn continues(&self, process: u64, stream: Stream, mid_line: bool) -> bool {
        self.stream == stream && self.process == process && (mid_line || self.bytes.last() == Some(&b'\n'))
    }
}

impl Inner {
    fn lines(&self, wanted: impl Fn(&Chunk) -> bool, count: usize, limit: usize) -> Vec<String> {
        let mut reading = self.read(wanted, count, limit);
        reading.end_lines();
        reading.lines.into_iter().map(|line| line.text).collect()
    }

    /// Reads the last lines. The splitters have what is behind the last newline.
    fn read(&self, wanted: impl Fn(&Chunk) -> bool, count: usize, limit: usize) -> Reading {
        let starts = self.starts(&wanted, count);
        let mut reading = Reading::new(count, limit);
        // Per stream: whether the bytes so far belong to a line with a dropped beginning. Such a line is discarded at its
        // newline. A stream without any newline is kept.
        let mut truncated = [None, None];
        let mut position = self.end - self.bytes as u64;
        // The same for the bytes of each stream.
        let mut ends = self.counts.bytes;
        for chunk in &self.chunks {
            ends[chunk.stream as usize] -= chunk.bytes.len() as u64;
        }
        for (index, chunk) in self.chunks.iter().enumerate() {
            let begin = position;
            position += chunk.bytes.len() as u64;
            let stream = chunk.stream as usize;
            ends[stream] += chunk.bytes.len() as u64;
            let start = starts[stream];
            if index < start.0 || !wanted(chunk) {
                continue;
            }
            if chunk.starts_line {
                reading.end_line(chunk.stream);
                truncated[stream] = Some(false);
            }
            let offset = if index == start.0 { start.1 } else { 0 };
            let mut bytes = chunk.bytes.get(offset..).unwrap_or_default();
            let truncated = truncated[stream].get_or_insert(start == OLDEST && !chunk.starts_line);
            if *truncated && let Some(end) = memchr(b'\n', bytes) {
                bytes = bytes.get(end + 1..).unwrap_or_default();
                reading.splitters[stream].clear();
                *truncated = false;
            }
            let position = begin + (chunk.bytes.len() - bytes.len()) as u64;
            reading.splitters[stream].seek(ends[stream] - bytes.len() as u64);
            self.times.cut(position, bytes, self.read_at[stream], |bytes, at| reading.feed(chunk.stream, chunk.process, bytes, at));
            if chunk.ends_line {
                reading.end_line(chunk.stream);
            }
        }
        for (splitter, end) in reading.splitters.iter_mut().zip(self.counts.bytes) {
            splitter.seek(end);
        }
        reading
    }

    fn begin(&mut self) -> u64 {
        self.process += 1;
        self.live.push(self.process);
        self.process
    }

    fn is_live(&self, process: u64) -> bool {
        self.live.contains(&process)
    }

    /// Counts new bytes, and passes them to the followers. Returns whether they begin a line; `None` if there are none.
    fn note(&mut self, process: u64, stream: Stream, bytes: &[u8], at: f64) -> Option<bool> {
        let last = bytes.last()?;
        if self.writer[stream as usize] != process {
            // The line of the other process is cut here.
            self.end_line(stream);
            self.writer[stream as usize] = process;
        }
        self.counts.bytes[stream as usize] += bytes.len() as u64;
        let mid_line = std::mem::replace(&mut self.open[stream as usize], *last != b'\n');
        self.read_at[stream as usize] = at;
        if self.following.is_some() {
            self.feed_followers(stream, bytes);
        }
        Some(!mid_line)
    }

    /// The newest chunk has so many bytes more. Returns the bytes of the last chunk that had to go, if one had to.
    fn make_room(&mut self, count: usize, at: f64, has_newline: bool) -> Option<Vec<u8>> {
        self.bytes += count;
        self.end += count as u64;
        if has_newline {
            self.times.mark(self.end, at, TAIL_LINES);
        }
        let mut removed = None;
        // Only whole chunks are dropped, so the rest holds at least TAIL_BYTES, unless there are too many chunks.
        while self.chunks.len() > CHUNKS_MAX || self.chunks.front().is_some_and(|oldest| self.bytes - oldest.bytes.len() >= TAIL_BYTES) {
            let Some(oldest) = self.chunks.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
            removed = Some(oldest.bytes);
        }
        removed
    }

    fn end_line(&mut self, stream: Stream) {
        if std::mem::replace(&mut self.open[stream as usize], false) {
            self.times.mark(self.end, self.read_at[stream as usize], TAIL_LINES);
            if let Some(chunk) = self.chunks.iter_mut().rev().find(|chunk| chunk.stream == stream) {
                chunk.ends_line = true;
            }
        }
        let line = self.line(stream);
        if let Some(following) = &mut self.following {
            following.end_line(stream, line);
        }
    }

    fn end_process(&mut self, process: u64) {
        self.live.retain(|live| *live != process);
        if self.pid_of(process).is_none() {
            // The keeper was killed before its report. Lines may wait for the pid.
            self.name_process(process, 0);
        }
    }

    fn feed_followers(&mut self, stream: Stream, bytes: &[u8]) {
        let line = self.line(stream);
        if let Some(following) = &mut self.following {
            following.feed(stream, bytes, line);
        }
        self.following.take_if(|following| following.is_over());
    }

    /// Makes lines of the process that wrote last.
    fn line(&self, stream: Stream) -> impl Fn(String, u64) -> Line + use<> {
        let process = self.writer[stream as usize];
        let (at, pid) = (self.read_at[stream as usize], self.pid_of(process));
        move |text, end| Line { stream, text, end, at, process, pid }
    }

    fn pid_of(&self, process: u64) -> Option<Pid> {
        self.pids.iter().find_map(|(number, pid)| (*number == process).then_some(*pid))
    }

    fn name_process(&mut self, process: u64, pid: Pid) {
        // After an upgrade the first chunk may be of the newer process.
        let oldest = self.chunks.iter().map(|chunk| chunk.process).min().unwrap_or(process);
        let live = &self.live;
        self.pids.retain(|(number, _)| *number >= oldest || live.contains(number));
        self.pids.push_back((process, pid));
        if let Some(following) = &mut self.following {
            following.name_process(process, pid);
        }
        self.unnamed.drain(..).filter_map(|follower| follower.upgrade()).for_each(|follower| follower.name_process(process, pid));
    }

    /// Per stream: chunk and offset from which the last `count` lines can be read. The search runs backwards from the end, so
    /// its cost depends on `count` and not on the size of the tail.
    fn starts(&self, wanted: impl Fn(&Chunk) -> bool, count: usize) -> [(usize, usize); 2] {
        let mut starts = [None, None];
        let mut newline_count = 0;
        for (index, chunk) in self.chunks.iter().enumerate().rev().filter(|(_, chunk)| wanted(chunk)) {
            let start = &mut starts[chunk.stream as usize];
            let mut newlines = memrchr_iter(b'\n', &chunk.bytes);
            while start.is_none() {
                match newlines.next() {
                    Some(_) if newline_count < count => newline_count += 1,
                    Some(at) => *start = Some((index, at + 1)),
                    None if chunk.starts_line && newline_count >= count => *start = Some((index, 0)),
                    None => break,
                }
            }
            if starts.iter().all(Option::is_some) {
                break;
            }
        }
        starts.map(|start| start.unwrap_or(OLDEST))
    }
}
