//! Counts dropped lines. A dropped piece may begin or end within a line.

use memchr::{memchr, memchr_iter};

#[derive(Debug, Default)]
pub struct Drops {
    pub lines: u64,
    /// Whether the last dropped piece has no newline yet: the rest of its line must be dropped as well.
    cutting: bool,
}

impl Drops {
    pub fn add(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        let newlines = memchr_iter(b'\n', piece).count() as u64;
        let begun = newlines + u64::from(*last != b'\n');
        // The line that an earlier piece has begun is counted already.
        self.lines += begun - u64::from(self.cutting);
        self.cutting = *last != b'\n';
    }

    /// The part of the next piece that begins a line. To be called when no further line has to be dropped.
    pub fn skip<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        if !self.cutting {
            return piece;
        }
        match memchr(b'\n', piece) {
            Some(at) => {
                self.cutting = false;
                piece.get(at + 1..).unwrap_or_default()
            }
            None => &[],
        }
    }
}
