//! Tickets: each call that will be answered later has a number, and the answer goes to whoever waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::lifecycle::Ticket;
use crate::supervisor::report::{Mailbox, Message, Refusal};

pub type Outcome = Result<(), Refusal>;

pub struct Tickets {
    next: AtomicU64,
    /// The tickets that are waited for in here. All others are the caller's, and are answered by a message.
    inside: Mutex<HashMap<Ticket, oneshot::Sender<Outcome>>>,
    mailbox: Arc<Mailbox>,
}

impl Tickets {
    pub fn new(mailbox: &Arc<Mailbox>) -> Self {
        Self { next: AtomicU64::new(1), inside: Mutex::default(), mailbox: Arc::clone(mailbox) }
    }

    /// A ticket whose answer is a message to the caller's thread.
    pub fn for_caller(&self) -> Ticket {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A ticket whose answer is awaited by the supervisor itself.
    pub fn for_supervisor(&self) -> (Ticket, oneshot::Receiver<Outcome>) {
        let ticket = self.for_caller();
        let (answer, awaited) = oneshot::channel();
        self.inside().insert(ticket, answer);
        (ticket, awaited)
    }

    pub fn settle(&self, ticket: Ticket, outcome: Outcome) {
        let inside = self.inside().remove(&ticket);
        match inside {
            // If the receiver is gone, the answer has no reader.
            Some(answer) => drop(answer.send(outcome)),
            None => self.mailbox.post(Message::Settled { ticket, outcome }),
        }
    }

    /// No answer will come any more: the supervisor stops waiting.
    pub fn abandon(&self) {
        self.inside().clear();
    }

    fn inside(&self) -> MutexGuard<'_, HashMap<Ticket, oneshot::Sender<Outcome>>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
