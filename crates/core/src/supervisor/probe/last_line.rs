//! The last line of a command's output, for the reason of a failed probe.

use std::collections::VecDeque;

use ally_base::text::printable;

/// The end of the output that is kept, in bytes: a command may write without bound.
const KEPT_MAX: usize = 1024;
/// The length of a line in a reason, in characters.
const LINE_MAX: usize = 200;

#[derive(Debug, Default)]
pub struct LastLine(VecDeque<u8>);

impl LastLine {
    pub fn feed(&mut self, bytes: &[u8]) {
        let new = bytes.get(bytes.len().saturating_sub(KEPT_MAX)..).unwrap_or_default();
        let surplus = (self.0.len() + new.len()).saturating_sub(KEPT_MAX);
        self.0.drain(..surplus);
        self.0.extend(new);
    }

    /// The last line that is not blank, without control characters. `None` if there is none.
    pub fn text(&self) -> Option<String> {
        let kept: Vec<u8> = self.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&kept);
        let line = text.lines().rev().map(|line| printable(line.trim())).find(|line| !line.trim().is_empty())?;
        let mut short: String = line.trim().chars().take(LINE_MAX).collect();
        if short.len() < line.trim().len() {
            short.push('…');
        }
        Some(short)
    }
}
