//! What waits to be told to the caller's thread. Answers to callers are never lost; events and
//! output are dropped, and counted, once too many wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Failure;
use crate::lifecycle::{Notice, Ticket};
use crate::supervisor::Stream;

/// Far more than any healthy reader lets pile up; a reader that is stuck costs no more than this.
const EVENTS_MAX: usize = 10_000;
const LINES_MAX: usize = 4_000;
const LINE_BYTES_MAX: usize = 512 * 1024;
/// How much is handed over in one turn of the reader's loop: about a millisecond of its time.
const BATCH: usize = 256;
/// How often the reader is told that something was dropped.
const TELL_DROPS: Duration = Duration::from_secs(1);

/// Why a caller's wish was not fulfilled.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub plugin: String,
    pub failure: Failure,
    /// Where several failed: each of them.
    pub causes: Vec<Self>,
}

impl Refusal {
    pub const fn new(plugin: String, failure: Failure) -> Self {
        Self { plugin, failure, causes: Vec::new() }
    }
}

/// The value of a log entry's field, of the type that the entry was written with.
#[derive(Debug, Clone, PartialEq)]
pub enum LogValue {
    Bool(bool),
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Settled {
        ticket: Ticket,
        outcome: Result<(), Refusal>,
    },
    /// `at`: milliseconds since 1970.
    Notice {
        plugin: String,
        notice: Notice,
        at: f64,
    },
    Output {
        plugin: String,
        stream: Stream,
        line: String,
    },
    Log {
        level: tracing::Level,
        text: String,
        fields: Vec<(&'static str, LogValue)>,
    },
    /// So many events and lines were dropped since the last time that it was told.
    Dropped {
        events: u64,
        lines: u64,
    },
}

enum Kind {
    /// Never dropped.
    Answer,
    /// Rare, and what happened can't be told without it.
    Event,
    /// As many as a daemon cares to print. With its length.
    Line(usize),
}

impl Message {
    fn kind(&self) -> Kind {
        match self {
            Self::Settled { .. } | Self::Dropped { .. } => Kind::Answer,
            Self::Notice { .. } => Kind::Event,
            Self::Output { line, .. } => Kind::Line(line.len()),
            Self::Log { level, text, .. } => {
                if *level <= tracing::Level::INFO {
                    Kind::Event
                } else {
                    Kind::Line(text.len())
                }
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Message>,
    events: usize,
    lines: usize,
    line_bytes: usize,
    dropped_events: u64,
    dropped_lines: u64,
    told: Option<Instant>,
    /// Whether the reader was called, or has been told to come again.
    expected: bool,
}

impl Queue {
    fn drops(&mut self) -> Option<Message> {
        let (events, lines) = (std::mem::take(&mut self.dropped_events), std::mem::take(&mut self.dropped_lines));
        (events + lines > 0).then(|| {
            self.told = Some(Instant::now());
            Message::Dropped { events, lines }
        })
    }
}

pub struct Mailbox {
    queue: Mutex<Queue>,
    /// Called when there is something to take and nobody was called since the last take.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { queue: Mutex::default(), wake }
    }

    pub fn post(&self, message: Message) {
        let mut queue = self.lock();
        match message.kind() {
            Kind::Answer => {}
            Kind::Event if queue.events >= EVENTS_MAX => {
                queue.dropped_events += 1;
                return;
            }
            Kind::Event => queue.events += 1,
            Kind::Line(bytes) if queue.lines >= LINES_MAX || queue.line_bytes + bytes > LINE_BYTES_MAX => {
                queue.dropped_lines += 1;
                return;
            }
            Kind::Line(bytes) => {
                queue.lines += 1;
                queue.line_bytes += bytes;
            }
        }
        queue.waiting.push_back(message);
        self.call(queue);
    }

    /// Counts one more line as dropped if there is no room for any: asked before a line is copied and put into words, which
    /// costs far more than this.
    pub fn drops_line(&self) -> bool {
        let mut queue = self.lock();
        let full = queue.lines >= LINES_MAX || queue.line_bytes >= LINE_BYTES_MAX;
        queue.dropped_lines += u64::from(full);
        full
    }

    /// So that the reader looks at what is published, without there being news.
    pub fn nudge(&self) {
        self.call(self.lock());
    }

    fn call(&self, mut queue: MutexGuard<'_, Queue>) {
        if !std::mem::replace(&mut queue.expected, true) {
            drop(queue);
            (self.wake)();
        }
    }

    /// The oldest messages. A reader that was not given all comes again by itself, when its loop has had a
    /// turn: it is not called before it has taken the last.
    pub fn take(&self) -> Vec<Message> {
        let mut queue = self.lock();
        let mut batch = Vec::with_capacity(queue.waiting.len().min(BATCH) + 1);
        if queue.told.is_none_or(|told| told.elapsed() >= TELL_DROPS) {
            batch.extend(queue.drops());
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
            // Nothing may follow for hours that could bring the count along.
            batch.extend(queue.drops());
        }
        queue.expected = !queue.waiting.is_empty();
        batch
    }

    /// Whether the reader is to come again.
    pub fn has_more(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A poisoned queue is still a queue: nothing in here is left half-done by a panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
