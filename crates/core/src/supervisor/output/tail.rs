//! The last part of a daemon's output, bounded in bytes. The bytes are split into lines only when they are read.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::{memchr, memrchr_iter};

use super::lines::Splitter;
use crate::model::Stream;

const TAIL_BYTES: usize = 256 * 1024;
const TAIL_LINES: usize = 1_000;
/// Small writes are appended to a chunk up to this size, which saves an allocation per write.
const CHUNK: usize = 8 * 1024;
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
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// The number of the current process, counted from 1.
    process: u64,
    /// Whether the tree of the current process is gone.
    ended: bool,
    /// Per stream of the current process: whether the last line has no newline yet.
    open: [bool; 2],
    dropped: DroppedLines,
}

/// The lines of all processes that a log process could not deliver in time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DroppedLines {
    /// To this owner: they are missing in the tail and in events.
    pub here: u64,
    /// To the log file.
    pub in_file: u64,
}

#[derive(Debug, Default)]
pub struct Tail(Mutex<Inner>);

impl Tail {
    /// Begins the output of the next process, and returns the number of that process.
    pub fn begin(&self) -> u64 {
        let mut inner = self.lock();
        inner.open = [false; 2];
        inner.ended = false;
        inner.process += 1;
        inner.process
    }

    pub fn count_dropped(&self, here: u64, in_file: u64) {
        let dropped = &mut self.lock().dropped;
        dropped.here += here;
        dropped.in_file += in_file;
    }

    pub fn dropped(&self) -> DroppedLines {
        self.lock().dropped
    }

    /// The tree of this process is gone: further bytes are not its output.
    pub fn end(&self, process: u64) {
        let mut inner = self.lock();
        inner.ended |= process == inner.process;
    }

    /// `process`: the number from [`Tail::begin`]. Returns false, and keeps nothing, if that process has ended: what
    /// `killMode: 'group'` spared still writes, and its lines would pass for those of the next process.
    pub fn append(&self, process: u64, stream: Stream, bytes: &[u8]) -> bool {
        let mut inner = self.lock();
        if process != inner.process || inner.ended {
            return false;
        }
        let Some(last) = bytes.last() else { return true };
        let mid_line = std::mem::replace(&mut inner.open[stream as usize], *last != b'\n');
        // If a write is larger than the tail, only its end is kept.
        let dropped = bytes.len().saturating_sub(TAIL_BYTES);
        let (lost, kept) = bytes.split_at(dropped);
        match inner.chunks.back_mut() {
            Some(last) if last.stream == stream && last.process == process && last.bytes.len() + kept.len() <= CHUNK => {
                last.bytes.extend(kept);
            }
            _ => {
                let starts_line = lost.last().map_or(!mid_line, |before| *before == b'\n');
                inner.chunks.push_back(Chunk { process, stream, starts_line, bytes: kept.to_vec() });
            }
        }
        inner.bytes += kept.len();
        // Only whole chunks are dropped, so the rest holds at least TAIL_BYTES, unless there are too many chunks.
        let too_much = |inner: &Inner| {
            inner.chunks.len() > CHUNKS_MAX || inner.chunks.front().is_some_and(|oldest| inner.bytes - oldest.bytes.len() >= TAIL_BYTES)
        };
        while too_much(&inner) {
            let Some(oldest) = inner.chunks.pop_front() else { break };
            inner.bytes -= oldest.bytes.len();
        }
        true
    }

    /// The last lines of both streams, oldest first, in the order of their newlines.
    pub fn lines(&self, count: usize) -> Vec<String> {
        self.lock().lines(|_| true, count.min(TAIL_LINES), TAIL_BYTES)
    }

    /// The output for a failure: the last lines of the current process on stderr. If stderr is empty: on stdout.
    pub fn error_excerpt(&self) -> String {
        let inner = self.lock();
        let of = |stream| {
            let wanted = |chunk: &Chunk| chunk.stream == stream && chunk.process == inner.process;
            inner.lines(wanted, EXCERPT_LINES, EXCERPT_BYTES).join("\n")
        };
        let stderr = of(Stream::Stderr);
        if stderr.is_empty() { of(Stream::Stdout) } else { stderr }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn lines(&self, wanted: impl Fn(&Chunk) -> bool, count: usize, limit: usize) -> Vec<String> {
        let starts = self.starts(&wanted, count);
        let mut lines = VecDeque::new();
        let mut size = 0;
        let mut keep = |line: String| {
            size += line.len() + 1;
            lines.push_back(line);
            while lines.len() > count || (size > limit && lines.len() > 1) {
                let Some(oldest) = lines.pop_front() else { break };
                size -= oldest.len() + 1;
            }
        };
        let mut splitters = [Splitter::default(), Splitter::default()];
        // Per stream: whether the bytes so far belong to a line with a dropped beginning. Such a line is discarded at its
        // newline. A stream without any newline is kept.
        let mut truncated = [None, None];
        let mut process = 0;
        for (index, chunk) in self.chunks.iter().enumerate().filter(|(_, chunk)| wanted(chunk)) {
            let stream = chunk.stream as usize;
            let start = starts[stream];
            if index < start.0 {
                continue;
            }
            if std::mem::replace(&mut process, chunk.process) != chunk.process {
                splitters.iter_mut().filter_map(Splitter::rest).for_each(&mut keep);
            }
            let mut bytes = chunk.bytes.get(if index == start.0 { start.1 } else { 0 }..).unwrap_or_default();
            let truncated = truncated[stream].get_or_insert(start == OLDEST && !chunk.starts_line);
            if *truncated && let Some(end) = memchr(b'\n', bytes) {
                bytes = bytes.get(end + 1..).unwrap_or_default();
                splitters[stream].clear();
                *truncated = false;
            }
            splitters[stream].feed(bytes, &mut keep);
        }
        splitters.iter_mut().filter_map(Splitter::rest).for_each(&mut keep);
        lines.into()
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
