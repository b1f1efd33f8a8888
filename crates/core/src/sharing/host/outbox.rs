//! The messages that wait for one session. A session that does not read loses messages, and catches up from a resync.

use std::collections::VecDeque;

/// The bytes of states and details that wait at most. Answers are kept beyond it, and the host reads no further requests of the session
/// while so much waits.
pub const OUTBOX_MAX: usize = 1024 * 1024;

/// What may be lost. A later class is lost later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Output, health and log entries.
    Detail,
    /// States and events.
    State,
    /// Never lost.
    Answer,
}

#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<(Class, Vec<u8>)>,
    bytes: usize,
    /// The bytes of what may be lost. One long answer, as that of an upgrade, is no sign that the session does not read.
    losable: usize,
    /// Messages that were lost since the last resync.
    lost: u64,
    /// How often messages that waited were lost.
    losses: u64,
    /// Whether a resync must come before the next message.
    is_resync_due: bool,
}

impl Outbox {
    pub fn push(&mut self, class: Class, frame: Vec<u8>) {
        if class != Class::Answer && self.is_resync_due {
            // The resync tells what is, when it is sent.
            self.lost += 1;
            return;
        }
        self.count(class, frame.len());
        self.waiting.push_back((class, frame));
        if self.losable > OUTBOX_MAX {
            self.drop_all(|class| class == Class::Detail);
        }
        if self.losable > OUTBOX_MAX && self.drop_all(|class| class != Class::Answer) {
            self.is_resync_due = true;
        }
    }

    /// Returns whether something was dropped.
    fn drop_all(&mut self, is_lost: impl Fn(Class) -> bool) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(class, frame)| {
            let is_lost = is_lost(*class);
            if is_lost {
                self.bytes -= frame.len();
                self.losable -= frame.len();
            }
            !is_lost
        });
        let dropped = before - self.waiting.len();
        self.lost += dropped as u64;
        self.losses += u64::from(dropped > 0);
        dropped > 0
    }

    /// The number of lost messages, if a resync is due. The caller then pushes the resync by [`Self::push_first`].
    pub fn take_resync(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.is_resync_due) {
            return None;
        }
        Some(std::mem::take(&mut self.lost))
    }

    /// Drops everything: the connection takes nothing any more.
    pub fn lose_all(&mut self) {
        let lost = self.clear();
        (self.lost, self.is_resync_due) = (lost, true);
    }

    /// Drops everything: the session has another connection. Returns the number of messages.
    pub fn clear(&mut self) -> u64 {
        let lost = self.lost + self.waiting.len() as u64;
        *self = Self { losses: self.losses + 1, ..Self::default() };
        lost
    }

    /// Puts frames in front of all that wait.
    pub fn push_first(&mut self, frames: Vec<Vec<u8>>) {
        for frame in frames.into_iter().rev() {
            self.count(Class::State, frame.len());
            self.waiting.push_front((Class::State, frame));
        }
    }

    /// The oldest frames, at least one, in one piece of about `size` bytes. Empty if nothing waits.
    pub fn take(&mut self, size: usize) -> Vec<u8> {
        let mut piece = Vec::new();
        while let Some((class, frame)) = self.waiting.front().filter(|(_, frame)| piece.is_empty() || piece.len() + frame.len() <= size) {
            self.bytes -= frame.len();
            if *class != Class::Answer {
                self.losable -= frame.len();
            }
            piece.extend(frame);
            self.waiting.pop_front();
        }
        piece
    }

    fn count(&mut self, class: Class, bytes: usize) {
        self.bytes += bytes;
        if class != Class::Answer {
            self.losable += bytes;
        }
    }

    /// Whether what is pushed is lost, until the session reads.
    pub const fn is_resync_due(&self) -> bool {
        self.is_resync_due
    }

    /// Changes when messages that waited are lost.
    pub const fn losses(&self) -> u64 {
        self.losses
    }

    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so much waits that no further request should be read.
    pub const fn is_full(&self) -> bool {
        self.bytes > OUTBOX_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.is_resync_due
    }
}
