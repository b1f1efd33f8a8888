//! Bytes to lines.

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
            let room = LINE_MAX - self.partial.len();
            let window = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                let (head, rest) = bytes.split_at(end);
                self.partial.extend(head);
                line(self.cut(self.partial.len()));
                bytes = rest.get(1..).unwrap_or_default();
            } else {
                self.partial.extend(window);
                bytes = bytes.get(window.len()..).unwrap_or_default();
                if self.partial.len() == LINE_MAX {
                    line(self.cut(whole_characters(&self.partial)));
                }
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
        let mut line = std::mem::replace(&mut self.partial, rest);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8_lossy(&line).into_owned()
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
