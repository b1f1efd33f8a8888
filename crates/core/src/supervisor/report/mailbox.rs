//! The queue of messages to the caller's thread. Answers are never dropped. If too many events or lines wait, further ones
//! are dropped and counted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::message::{Kind, Message};

/// The bounds of the queue. A working reader stays far below them; for a blocked reader they limit the memory.
const EVENTS_MAX: usize = 10_000;
const LINES_MAX: usize = 4_000;
const LINE_BYTES_MAX: usize = 512 * 1024;
/// The messages per turn of the event loop. The reader needs about 1 ms for them.
const BATCH: usize = 256;
/// The shortest time between two reports of dropped messages, except when the queue is empty.
const DROP_REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Message>,
    events: usize,
    lines: usize,
    line_bytes: usize,
    dropped_events: u64,
    dropped_lines: u64,
    /// The time of the last report of dropped messages.
    drops_reported: Option<Instant>,
    /// Whether a call of the reader is due: the reader was woken, or [`Mailbox::has_more`] is true.
    reader_woken: bool,
}

impl Queue {
    fn report_drops(&mut self) -> Option<Message> {
        let (events, lines) = (std::mem::take(&mut self.dropped_events), std::mem::take(&mut self.dropped_lines));
        (events + lines > 0).then(|| {
            self.drops_reported = Some(Instant::now());
            Message::Dropped { events, lines }
        })
    }
}

pub struct Mailbox {
    queue: Mutex<Queue>,
    /// Called if messages wait and the reader was not woken since it emptied the queue.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { queue: Mutex::default(), wake }
    }

    pub fn post(&self, message: Message) {
        self.offer(message);
    }

    /// As [`Mailbox::post`]. False if the message was dropped.
    pub fn offer(&self, message: Message) -> bool {
        let mut queue = self.lock();
        match message.kind() {
            Kind::Answer => {}
            Kind::Event if queue.events >= EVENTS_MAX => {
                queue.dropped_events += 1;
                return false;
            }
            Kind::Event => queue.events += 1,
            Kind::Line(bytes) if queue.lines >= LINES_MAX || queue.line_bytes + bytes > LINE_BYTES_MAX => {
                queue.dropped_lines += 1;
                return false;
            }
            Kind::Line(bytes) => {
                queue.lines += 1;
                queue.line_bytes += bytes;
            }
        }
        queue.waiting.push_back(message);
        self.wake(queue);
        true
    }

    /// If the queue has no room for a line, counts one as dropped and returns true. The caller then need not format or copy
    /// the line, which costs far more than this call.
    pub fn drop_line_if_full(&self) -> bool {
        let mut queue = self.lock();
        let full = queue.lines >= LINES_MAX || queue.line_bytes >= LINE_BYTES_MAX;
        queue.dropped_lines += u64::from(full);
        full
    }

    /// Wakes the reader without a message, so that it reads the published state.
    pub fn wake_reader(&self) {
        self.wake(self.lock());
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if !std::mem::replace(&mut queue.reader_woken, true) {
            drop(queue);
            (self.wake)();
        }
    }

    /// Takes the oldest messages. If messages are left, the reader calls again after a turn of the event loop, without being
    /// woken: see [`Mailbox::has_more`].
    pub fn take(&self) -> Vec<Message> {
        let mut queue = self.lock();
        let mut batch = Vec::with_capacity(queue.waiting.len().min(BATCH) + 1);
        if queue.drops_reported.is_none_or(|last| last.elapsed() >= DROP_REPORT_INTERVAL) {
            batch.extend(queue.report_drops());
        }
        let count = queue.waiting.len().min(BATCH);
        for message in queue.waiting.drain(..count).collect::<Vec<_>>() {
            match message.kind() {
                Kind::Answer => {}
                Kind::Event => queue.events -= 1,
                Kind::Line(bytes) => {
                    queue.lines -= 1;
                    queue.line_bytes -= bytes;
                }
            }
            batch.push(message);
        }
        if queue.waiting.is_empty() {
            // The next message may be hours away, so the count is reported now.
            batch.extend(queue.report_drops());
        }
        queue.reader_woken = !queue.waiting.is_empty();
        batch
    }

    /// Whether messages wait after a take, so that the reader must call again.
    pub fn has_more(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A poisoned lock is safe to use: no code in this file panics between two changes that belong together.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
