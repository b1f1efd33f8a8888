//! The end of a daemon's output, bounded in bytes. Nothing is cut into lines until somebody asks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Stream;
use super::lines::Splitter;

const TAIL_BYTES: usize = 256 * 1024;
const TAIL_LINES: usize = 1_000;
/// Small writes are gathered, so that a line costs its bytes and little more.
const CHUNK: usize = 8 * 1024;
/// Two streams that take turns byte by byte make a chunk of each byte.
const CHUNKS_MAX: usize = 4 * 1024;
/// Of the output that goes with an error.
const EVIDENCE_LINES: usize = 50;
const EVIDENCE_BYTES: usize = 8 * 1024;

#[derive(Debug)]
struct Chunk {
    stream: Stream,
    /// Which process wrote it.
    process: u64,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Whether the oldest kept byte of stdout, of stderr, is in the middle of a line.
    cut: [bool; 2],
    /// Counts the processes whose output this is.
    process: u64,
}

#[derive(Debug, Default)]
pub struct Tail(Mutex<Inner>);

impl Tail {
    pub fn append(&self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let process = inner.process;
        // Of a write larger than the tail only the end is kept.
        let kept = bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or(bytes);
        match inner.chunks.back_mut() {
            Some(last) if last.stream == stream && last.process == process && last.bytes.len() + kept.len() <= CHUNK => {
                last.bytes.extend(kept)
            }
            _ => inner.chunks.push_back(Chunk { stream, process, bytes: kept.to_vec() }),
        }
        inner.bytes += kept.len();
        // Whole chunks go, and what is left is never less than the tail, unless it is in crumbs.
        let too_much = |inner: &Inner| {
            inner.chunks.len() > CHUNKS_MAX || inner.chunks.front().is_some_and(|oldest| inner.bytes - oldest.bytes.len() >= TAIL_BYTES)
        };
        while too_much(&inner) {
            let Some(oldest) = inner.chunks.pop_front() else { break };
            inner.bytes -= oldest.bytes.len();
            if let Some(cut) = inner.cut.get_mut(oldest.stream as usize) {
                *cut = oldest.bytes.last() != Some(&b'\n');
            }
        }
    }

    /// What comes from now on is another process's.
    pub fn begin(&self) {
        self.lock().process += 1;
    }

    /// The last lines of both streams, oldest first; a line stands where it ended.
    pub fn lines(&self, count: usize) -> Vec<String> {
        Self::collect(&self.lock(), |_| true, count.min(TAIL_LINES), TAIL_BYTES)
    }

    /// What goes with an error: the last lines that this process wrote to stderr, or to stdout where it
    /// was silent on stderr.
    pub fn evidence(&self) -> String {
        let inner = self.lock();
        let of = |stream| {
            Self::collect(&inner, |chunk| chunk.stream == stream && chunk.process == inner.process, EVIDENCE_LINES, EVIDENCE_BYTES)
                .join("\n")
        };
        let stderr = of(Stream::Stderr);
        if stderr.is_empty() { of(Stream::Stdout) } else { stderr }
    }

    fn collect(inner: &Inner, wanted: impl Fn(&Chunk) -> bool, count: usize, limit: usize) -> Vec<String> {
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
        let mut cut = inner.cut;
        for chunk in inner.chunks.iter().filter(|chunk| wanted(chunk)) {
            let index = chunk.stream as usize;
            let (Some(splitter), Some(cut)) = (splitters.get_mut(index), cut.get_mut(index)) else { continue };
            let mut bytes = chunk.bytes.as_slice();
            if *cut {
                // The first line is no whole one. A stream without any newline is shown all the same.
                if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                    bytes = bytes.get(end + 1..).unwrap_or_default();
                    splitter.clear();
                    *cut = false;
                }
            }
            splitter.feed(bytes, &mut keep);
        }
        for splitter in &mut splitters {
            splitter.rest().into_iter().for_each(&mut keep);
        }
        lines.into()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
