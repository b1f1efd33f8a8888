//! One reading of a tail: bytes to the last lines.

use std::collections::VecDeque;

use super::follow::Line;
use super::lines::Splitter;
use crate::model::Stream;

/// The lines that were read so far, bounded in number and bytes.
#[derive(Default)]
pub struct Reading {
    count: usize,
    limit: usize,
    pub lines: VecDeque<Line>,
    size: usize,
    pub splitters: [Splitter; 2],
    /// Per stream: process and time of the last bytes.
    last: [(u64, f64); 2],
}

impl Reading {
    /// At most `count` lines and `limit` bytes are kept.
    pub fn new(count: usize, limit: usize) -> Self {
        Self { count, limit, ..Self::default() }
    }

    pub fn feed(&mut self, stream: Stream, process: u64, bytes: &[u8], at: f64) {
        self.last[stream as usize] = (process, at);
        let mut splitter = std::mem::take(&mut self.splitters[stream as usize]);
        splitter.feed(bytes, |text, end| self.keep(stream, text, end));
        self.splitters[stream as usize] = splitter;
    }

    pub fn end_line(&mut self, stream: Stream) {
        if let Some((text, end)) = self.splitters[stream as usize].rest() {
            self.keep(stream, text, end);
        }
    }

    pub fn end_lines(&mut self) {
        [Stream::Stdout, Stream::Stderr].into_iter().for_each(|stream| self.end_line(stream));
    }

    fn keep(&mut self, stream: Stream, text: String, end: u64) {
        let (process, at) = self.last[stream as usize];
        self.size += text.len() + 1;
        self.lines.push_back(Line { stream, text, end, at, process, pid: None });
        while self.lines.len() > self.count || (self.size > self.limit && self.lines.len() > 1) {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.size -= oldest.text.len() + 1;
        }
    }
}
