//! Splits output into lines.

use memchr::memchr;

use super::LINE_MAX;

/// Splits one stream into lines: at each newline, and before a line exceeds `LINE_MAX`. Bytes that are not UTF-8 become
/// U+FFFD. A line comes with its end: the position behind it in the stream, which no other line has.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
    /// Behind the last byte that was fed.
    position: u64,
}

impl Splitter {
    /// What is fed next begins here.
    pub const fn seek(&mut self, position: u64) {
        self.position = position;
    }

    pub fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(String, u64)) {
        while !bytes.is_empty() {
            // Two bytes more than LINE_MAX: a line of exactly LINE_MAX bytes must not be split before its "\r\n".
            let room = LINE_MAX + 2 - self.partial.len();
            let window = bytes.get(..room).unwrap_or(bytes);
            let newline = memchr(b'\n', window);
            let (text, _) = window.split_at(newline.unwrap_or(window.len()));
            self.partial.extend(text);
            let fed = text.len() + usize::from(newline.is_some());
            bytes = bytes.get(fed..).unwrap_or_default();
            self.position += fed as u64;
            // Behind `partial`, so that a piece of a long line ends at one place, whether or not the newline has come.
            let mut end = self.position - u64::from(newline.is_some());
            let returns = self.partial.last() == Some(&b'\r');
            if newline.is_some() && returns {
                self.partial.pop();
                end -= 1;
            } else if returns && self.partial.len() == LINE_MAX + 1 {
                continue;
            }
            while self.partial.len() > LINE_MAX {
                let text = self.cut(whole_characters(self.partial.get(..LINE_MAX).unwrap_or_default()));
                line(text, end - self.partial.len() as u64);
            }
            if newline.is_some() {
                line(self.cut(self.partial.len()), self.position);
            }
        }
    }

    /// The text behind the last newline.
    pub fn rest(&mut self) -> Option<(String, u64)> {
        (!self.partial.is_empty()).then(|| (self.cut(self.partial.len()), self.position))
    }

    pub fn clear(&mut self) {
        self.partial.clear();
    }

    fn cut(&mut self, at: usize) -> String {
        let rest = self.partial.split_off(at);
        let line = std::mem::replace(&mut self.partial, rest);
        String::from_utf8(line).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// The length up to which `bytes` hold whole UTF-8 characters.
pub(super) fn whole_characters(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(4);
    let last = bytes.iter().enumerate().skip(start).rev().find(|(_, byte)| **byte & 0xC0 != 0x80);
    match last {
        Some((at, lead)) => {
            let width = match lead {
                0xF0..=0xF7 => 4,
                0xE0..=0xEF => 3,
                0xC0..=0xDF => 2,
                _ => 1,
            };
            if at + width > bytes.len() { at } else { bytes.len() }
        }
        None => bytes.len(),
    }
}
