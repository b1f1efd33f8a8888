//! Tickets: the numbers of calls that are answered later. An answer goes to the caller's thread, or to a waiting task of the
//! supervisor.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::lifecycle::Ticket;
use crate::supervisor::report::{Mailbox, Message, Refusal};

pub type Outcome = Result<(), Refusal>;

pub struct Tickets {
    next: AtomicU64,
    /// The tickets of the supervisor's own tasks. The answers of all other tickets are messages.
    own: Mutex<HashMap<Ticket, oneshot::Sender<Outcome>>>,
    mailbox: Arc<Mailbox>,
}

impl Tickets {
    pub fn new(mailbox: &Arc<Mailbox>) -> Self {
        Self { next: AtomicU64::new(1), own: Mutex::default(), mailbox: Arc::clone(mailbox) }
    }

    /// A ticket whose answer is a message to the caller's thread.
    pub fn for_caller(&self) -> Ticket {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A ticket whose answer goes to a task of the supervisor.
    pub fn for_supervisor(&self) -> (Ticket, oneshot::Receiver<Outcome>) {
        let ticket = self.for_caller();
        let (answer, awaited) = oneshot::channel();
        self.own().insert(ticket, answer);
        (ticket, awaited)
    }

    pub fn settle(&self, ticket: Ticket, outcome: Outcome) {
        let waiting = self.own().remove(&ticket);
        match waiting {
            // If the receiver is gone, the answer is dropped.
            Some(answer) => drop(answer.send(outcome)),
            None => self.mailbox.post(Message::Settled { ticket, outcome }),
        }
    }

    /// No answer comes any more: ends the waits of the supervisor's tasks.
    pub fn abandon(&self) {
        self.own().clear();
    }

    fn own(&self) -> MutexGuard<'_, HashMap<Ticket, oneshot::Sender<Outcome>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
