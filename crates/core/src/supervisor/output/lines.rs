//! Bytes to lines.

use memchr::memchr;

use super::LINE_MAX;

/// Cuts one stream into lines: at every newline, and where a line gets too long. UTF-8, with U+FFFD for
/// what is not.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    pub fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while !bytes.is_empty() {
            // What is cut off only once it is known that neither a newline follows nor a carriage return with one.
            let room = LINE_MAX + 2 - self.partial.len();
            let window = bytes.get(..room).unwrap_or(bytes);
            let newline = memchr(b'\n', window);
            let (text, _) = window.split_at(newline.unwrap_or(window.len()));
            self.partial.extend(text);
            bytes = bytes.get(text.len() + usize::from(newline.is_some())..).unwrap_or_default();
            let returns = self.partial.last() == Some(&b'\r');
            if newline.is_some() && returns {
                self.partial.pop();
            } else if returns && self.partial.len() == LINE_MAX + 1 {
                continue;
            }
            while self.partial.len() > LINE_MAX {
                line(self.cut(whole_characters(self.partial.get(..LINE_MAX).unwrap_or_default())));
            }
            if newline.is_some() {
                line(self.cut(self.partial.len()));
            }
        }
    }

    /// What came after the last newline.
    pub fn rest(&mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| self.cut(self.partial.len()))
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

/// Where to split a line so that no character is cut in two.
fn whole_characters(bytes: &[u8]) -> usize {
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
