//! What waits to be told to the caller's thread. Answers to callers are never lost; events and
//! output are dropped, and counted, once too many wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Failure;
use crate::lifecycle::{Notice, Ticket};
use crate::supervisor::Stream;

/// Far more than any healthy reader lets pile up; a reader that is stuck costs no more than this.
const EVENTS_MAX: usize = 10_000;
const OUTPUT_BYTES_MAX: usize = 512 * 1024;
/// How much is handed over in one turn of the reader's loop.
const BATCH: usize = 1_000;

/// Why a caller's wish was not fulfilled.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub plugin: String,
    pub failure: Failure,
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
        fields: Vec<(&'static str, String)>,
    },
    /// So many events and lines were dropped before what follows.
    Dropped {
        events: u64,
        lines: u64,
    },
}

impl Message {
    const fn bytes(&self) -> usize {
        match self {
            Self::Output { line, .. } => line.len(),
            Self::Log { text, .. } => text.len(),
            Self::Settled { .. } | Self::Notice { .. } | Self::Dropped { .. } => 0,
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Message>,
    bytes: usize,
    dropped_events: u64,
    dropped_lines: u64,
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
        match &message {
            Message::Settled { .. } | Message::Dropped { .. } => {}
            Message::Output { .. } | Message::Log { .. } if queue.bytes + message.bytes() > OUTPUT_BYTES_MAX => {
                queue.dropped_lines += 1;
                return;
            }
            Message::Output { .. } | Message::Log { .. } | Message::Notice { .. } if queue.waiting.len() >= EVENTS_MAX => {
                queue.dropped_events += 1;
                return;
            }
            Message::Output { .. } | Message::Log { .. } | Message::Notice { .. } => {}
        }
        queue.bytes += message.bytes();
        queue.waiting.push_back(message);
        let first = queue.waiting.len() == 1;
        drop(queue);
        if first {
            (self.wake)();
        }
    }

    /// So that the reader looks at what is published, without there being news.
    pub fn nudge(&self) {
        (self.wake)();
    }

    /// The oldest messages; wakes the reader again if that is not all.
    pub fn take(&self) -> Vec<Message> {
        let mut queue = self.lock();
        let mut batch = Vec::with_capacity(queue.waiting.len().min(BATCH) + 1);
        let (events, lines) = (std::mem::take(&mut queue.dropped_events), std::mem::take(&mut queue.dropped_lines));
        if events + lines > 0 {
            batch.push(Message::Dropped { events, lines });
        }
        let count = queue.waiting.len().min(BATCH);
        batch.extend(queue.waiting.drain(..count));
        queue.bytes -= batch.iter().map(Message::bytes).sum::<usize>();
        let more = !queue.waiting.is_empty();
        drop(queue);
        if more {
            (self.wake)();
        }
        batch
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A poisoned queue is still a queue: nothing in here is left half-done by a panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
