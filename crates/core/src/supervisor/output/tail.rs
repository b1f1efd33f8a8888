//! The end of a daemon's output, bounded in bytes. Nothing is cut into lines until somebody asks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::{memchr, memrchr_iter};

use super::Stream;
use super::lines::Splitter;

const TAIL_BYTES: usize = 256 * 1024;
const TAIL_LINES: usize = 1_000;
/// Small writes are gathered, so that a line costs its bytes and little more.
const CHUNK: usize = 8 * 1024;
/// Two streams that take turns byte by byte make a chunk of each byte.
const CHUNKS_MAX: usize = 4 * 1024;
/// Of the output that goes with an error.
const EXCERPT_LINES: usize = 50;
const EXCERPT_BYTES: usize = 8 * 1024;

/// Of all chunks.
const BEGINNING: (usize, usize) = (0, 0);

#[derive(Debug)]
struct Chunk {
    /// Which process wrote it.
    process: u64,
    stream: Stream,
    /// Whether its first byte is the first of a line.
    begins: bool,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Counts the processes whose output this is.
    process: u64,
    /// Whether the current process's stdout, stderr has a line that has no end yet.
    open: [bool; 2],
}

#[derive(Debug, Default)]
pub struct Tail(Mutex<Inner>);

impl Tail {
    /// The number of the next process: what it writes is told from what was there.
    pub fn begin(&self) -> u64 {
        let mut inner = self.lock();
        inner.open = [false; 2];
        inner.process += 1;
        inner.process
    }

    /// `process`: as [`Tail::begin`] gave it. What an earlier one left alive goes on writing.
    pub fn append(&self, process: u64, stream: Stream, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        let mut inner = self.lock();
        let within = process == inner.process && std::mem::replace(&mut inner.open[stream as usize], *last != b'\n');
        // Of a write larger than the tail only the end is kept.
        let dropped = bytes.len().saturating_sub(TAIL_BYTES);
        let (lost, kept) = bytes.split_at(dropped);
        match inner.chunks.back_mut() {
            Some(last) if last.stream == stream && last.process == process && last.bytes.len() + kept.len() <= CHUNK => {
                last.bytes.extend(kept);
            }
            _ => {
                let begins = lost.last().map_or(!within, |before| *before == b'\n');
                inner.chunks.push_back(Chunk { process, stream, begins, bytes: kept.to_vec() });
            }
        }
        inner.bytes += kept.len();
        // Whole chunks go, and what is left is never less than the tail, unless it is in crumbs.
        let too_much = |inner: &Inner| {
            inner.chunks.len() > CHUNKS_MAX || inner.chunks.front().is_some_and(|oldest| inner.bytes - oldest.bytes.len() >= TAIL_BYTES)
        };
        while too_much(&inner) {
            let Some(oldest) = inner.chunks.pop_front() else { break };
            inner.bytes -= oldest.bytes.len();
        }
    }

    /// The last lines of both streams, oldest first; a line stands where it ended.
    pub fn lines(&self, count: usize) -> Vec<String> {
        self.lock().lines(|_| true, count.min(TAIL_LINES), TAIL_BYTES)
    }

    /// What goes with an error: the last lines that this process wrote to stderr, or to stdout where it
    /// was silent on stderr.
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
        // Whether what was read of the stream is the end of a line whose beginning is not kept. A stream
        // without any newline is shown all the same.
        let mut headless = [None, None];
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
            let headless = headless[stream].get_or_insert(start == BEGINNING && !chunk.begins);
            if *headless && let Some(end) = memchr(b'\n', bytes) {
                bytes = bytes.get(end + 1..).unwrap_or_default();
                splitters[stream].clear();
                *headless = false;
            }
            splitters[stream].feed(bytes, &mut keep);
        }
        splitters.iter_mut().filter_map(Splitter::rest).for_each(&mut keep);
        lines.into()
    }

    /// For each stream the chunk, and the offset therein, from which on at least its part of the last
    /// `count` lines stands. Looked for from the end, so that a thousand lines cost a thousand lines.
    fn starts(&self, wanted: impl Fn(&Chunk) -> bool, count: usize) -> [(usize, usize); 2] {
        let mut starts = [None, None];
        let mut ended = 0;
        for (index, chunk) in self.chunks.iter().enumerate().rev().filter(|(_, chunk)| wanted(chunk)) {
            let start = &mut starts[chunk.stream as usize];
            let mut newlines = memrchr_iter(b'\n', &chunk.bytes);
            while start.is_none() {
                match newlines.next() {
                    Some(_) if ended < count => ended += 1,
                    Some(at) => *start = Some((index, at + 1)),
                    None if chunk.begins && ended >= count => *start = Some((index, 0)),
                    None => break,
                }
            }
            if starts.iter().all(Option::is_some) {
                break;
            }
        }
        starts.map(|start| start.unwrap_or(BEGINNING))
    }
}
