//! Puts the lines of two streams one after the other. A line of one stream is never broken by the other stream.

use memchr::{memchr, memrchr};

/// A line is held until its newline comes, up to this length. The rest of a longer line is passed on as it comes, and the other
/// stream waits meanwhile.
pub const HELD_MAX: usize = 64 * 1024;
/// The bytes for which the other stream waits. Then the long line is broken by a newline.
const WAITING_MAX: usize = 256 * 1024;

#[derive(Debug, Default)]
pub struct Lines {
    /// Per stream: what came behind the last newline. Of a stream that waits: also whole lines.
    held: [Vec<u8>; 2],
    /// The stream of a long line that is being passed on.
    long: Option<usize>,
}

impl Lines {
    /// `stream`: 0 or 1. `out` gets whole lines, or a piece of a long line.
    pub fn feed(&mut self, stream: usize, mut bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        if self.long == Some(stream) {
            let Some(end) = memchr(b'\n', bytes) else { return out(bytes) };
            let (rest_of_line, next) = bytes.split_at(end + 1);
            out(rest_of_line);
            self.long = None;
            self.release(1 - stream, out);
            bytes = next;
        }
        let rest = if self.long.is_none() { self.pass_lines(stream, bytes, out) } else { bytes };
        self.held[stream].extend(rest);
        let waiting = self.held[stream].len();
        if self.long.is_some() {
            if waiting > WAITING_MAX {
                out(b"\n");
                self.long = None;
                self.release(stream, out);
            }
        } else if waiting > HELD_MAX {
            self.release(stream, out);
        }
    }

    /// Passes the whole lines on, with what was held before them. Returns the rest.
    fn pass_lines<'a>(&mut self, stream: usize, bytes: &'a [u8], out: &mut dyn FnMut(&[u8])) -> &'a [u8] {
        let Some(first) = memchr(b'\n', bytes) else { return bytes };
        let mut begin = 0;
        if !self.held[stream].is_empty() {
            let mut line = std::mem::take(&mut self.held[stream]);
            begin = first + 1;
            line.extend(bytes.get(..begin).unwrap_or_default());
            out(&line);
        }
        let end = memrchr(b'\n', bytes).map_or(begin, |last| last + 1);
        out(bytes.get(begin..end).unwrap_or_default());
        bytes.get(end..).unwrap_or_default()
    }

    /// Passes on what is held: the whole lines, and a rest that is too long to be held.
    fn release(&mut self, stream: usize, out: &mut dyn FnMut(&[u8])) {
        let held = std::mem::take(&mut self.held[stream]);
        let end = memrchr(b'\n', &held).map_or(0, |last| last + 1);
        let (lines, rest) = held.split_at(end);
        out(lines);
        if rest.len() > HELD_MAX {
            out(rest);
            self.long = Some(stream);
        } else {
            self.held[stream] = rest.to_vec();
        }
    }

    /// Passes on the last lines, which have no newline. A newline is added only between two of them.
    pub fn finish(&mut self, out: &mut dyn FnMut(&[u8])) {
        let mut is_open = self.long.take().is_some();
        for held in &mut self.held {
            let held = std::mem::take(held);
            let Some(last) = held.last() else { continue };
            if is_open {
                out(b"\n");
            }
            out(&held);
            is_open = *last != b'\n';
        }
    }
}
