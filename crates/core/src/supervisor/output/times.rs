//! The times at which lines were read, so that each line of the tail has one.

use std::collections::VecDeque;

/// Marks within a millisecond are one mark. The last marks, as many as the tail has lines, cover every line of the tail,
/// because each mark has a newline.
#[derive(Debug, Default)]
pub struct Times {
    /// The position behind an append with a newline, and its time in milliseconds since 1970.
    marks: VecDeque<(u64, f64)>,
}

impl Times {
    /// `end`: the position behind the bytes that were read at `at`.
    pub fn mark(&mut self, end: u64, at: f64, most: usize) {
        match self.marks.back_mut() {
            Some((last, time)) if (at - *time).abs() < 1.0 => *last = end,
            _ => self.marks.push_back((end, at)),
        }
        if self.marks.len() > most {
            self.marks.pop_front();
        }
    }

    /// Cuts `bytes`, which begin at `position`, where the time changes. `latest`: the time of what has no newline yet.
    pub fn cut<'a>(&self, mut position: u64, mut bytes: &'a [u8], latest: f64, mut piece: impl FnMut(&'a [u8], f64)) {
        let next = self.marks.partition_point(|(end, _)| *end <= position);
        let mut marks = self.marks.range(next..);
        while !bytes.is_empty() {
            let (length, at) = match marks.next() {
                Some((end, at)) => (usize::try_from(end - position).map_or(bytes.len(), |length| length.min(bytes.len())), *at),
                None => (bytes.len(), latest),
            };
            let (head, rest) = bytes.split_at(length);
            piece(head, at);
            position += head.len() as u64;
            bytes = rest;
        }
    }
}
