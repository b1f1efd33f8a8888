//! The registry of daemons, and the verbs that callers use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::TARGET;
use super::daemon::{Daemon, Job, Published};
use super::mailbox::{Mailbox, Refusal};
use super::shared::{Options, Shared};
use super::task::Task;
use super::{prepare, runtime};
use crate::config::{Raw, parse};
use crate::error::{Failure, Refused, io_text, printable};
use crate::lifecycle::{Event, ProcessState, Snapshot, Ticket};

/// What a start was answered at once; the rest comes with the ticket.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    pub ticket: Ticket,
    /// Whether the configuration is now the daemon's.
    pub taken: bool,
}

pub struct Manager {
    shared: Arc<Shared>,
    daemons: RwLock<HashMap<String, Arc<Daemon>>>,
    tickets: AtomicU64,
    closed: AtomicBool,
}

impl Manager {
    /// `wake` is called, from any thread, when there are messages to take.
    pub fn new(options: Options, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        prepare::enroll(id);
        let shared = Shared::new(id, options, wake);
        Self { shared: Arc::new(shared), daemons: RwLock::default(), tickets: AtomicU64::new(1), closed: AtomicBool::new(false) }
    }

    pub fn id(&self) -> u64 {
        self.shared.id
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.shared.mailbox
    }

    /// # Errors
    /// `InvalidConfig`; `ShuttingDown`; `Spawn` where the supervisor's thread can't be had. All else comes
    /// with the ticket.
    pub fn start(&self, raw: &Raw, inherited: Arc<str>) -> Result<Accepted, Failure> {
        let parsed = parse(raw)?;
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::ShuttingDown);
        }
        runtime::start().map_err(|error| Failure::Spawn {
            problem: format!("the supervisor's thread can't be started: {}", io_text(&error)),
            refused: Refused::by(&error, None, None),
        })?;
        for key in &parsed.unknown {
            tracing::warn!(target: TARGET, manager = self.shared.id, plugin = parsed.config.plugin_name, "unknown configuration key {}", printable(key));
        }
        let name = parsed.config.plugin_name.clone();
        let job = Job { config: parsed.config, inherited };
        let ticket = self.ticket();
        let daemon = self.get(&name);
        let daemon = match daemon {
            Some(daemon) => daemon,
            None => {
                // The seed need only differ between daemons, so that their delays do.
                let seed = ticket ^ std::ptr::from_ref(self).addr() as u64;
                let first = Job { config: job.config.clone(), inherited: Arc::clone(&job.inherited) };
                let daemon = Daemon::new(first, Arc::clone(&self.shared), seed, Task::begin);
                self.write().insert(name, Arc::clone(&daemon));
                daemon
            }
        };
        let taken = daemon.start(ticket, job);
        Ok(Accepted { ticket, taken })
    }

    pub fn abort(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.get(name) {
            daemon.feed(Event::StartAborted { ticket });
        }
    }

    pub fn stop(&self, name: &str) -> Ticket {
        let ticket = self.ticket();
        match self.get(name) {
            Some(daemon) => daemon.feed(Event::StopRequested { ticket }),
            None => self.shared.settle(ticket, Ok(())),
        }
        ticket
    }

    pub fn restart(&self, name: &str) -> Ticket {
        let ticket = self.ticket();
        match self.get(name) {
            Some(daemon) => daemon.feed(Event::RestartRequested { ticket }),
            None => self.shared.settle(ticket, Err(Refusal::new(name.to_owned(), Failure::NotFound))),
        }
        ticket
    }

    pub fn stop_all(&self) -> Ticket {
        self.closed.store(true, Ordering::Relaxed);
        let ticket = self.ticket();
        let daemons: Vec<_> = self.read().values().cloned().collect();
        if daemons.is_empty() {
            self.shared.settle(ticket, Ok(()));
            return ticket;
        }
        let parts: Vec<_> = daemons.iter().map(|_| self.ticket()).collect();
        self.shared.answer_together(ticket, &parts);
        for (daemon, part) in daemons.iter().zip(parts) {
            daemon.feed(Event::ShutdownRequested { ticket: part });
        }
        ticket
    }

    /// False if it is unknown or something of it is left.
    pub fn forget(&self, name: &str) -> bool {
        let mut daemons = self.write();
        if !daemons.get(name).is_some_and(|daemon| daemon.peek(|snapshot| snapshot.at_rest)) {
            return false;
        }
        if let Some(daemon) = daemons.remove(name) {
            daemon.close();
        }
        true
    }

    pub fn state(&self, name: &str) -> Option<ProcessState> {
        self.peek(name, |snapshot| snapshot.state)
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        self.peek(name, |snapshot| snapshot.pid).flatten()
    }

    /// Of what `info` would tell; another one whenever that is another.
    pub fn revision(&self, name: &str) -> Option<u64> {
        Some(self.read().get(name)?.revision())
    }

    pub fn info(&self, name: &str) -> Option<Published> {
        Some(self.get(name)?.published())
    }

    /// All names that are known, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.read().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    pub fn output(&self, name: &str, lines: usize) -> Vec<String> {
        self.get(name).map(|daemon| daemon.tail.lines(lines)).unwrap_or_default()
    }

    /// Which events are listened to, of those that are told only then.
    pub fn listen(&self, output: bool, health: bool) {
        self.shared.listeners.output.store(output, Ordering::Relaxed);
        self.shared.listeners.health.store(health, Ordering::Relaxed);
    }

    /// For the logger: what the mailbox had to drop.
    pub fn tell_dropped(&self, events: u64, lines: u64) {
        let manager = self.shared.id;
        tracing::warn!(target: TARGET, manager, "{events} events and {lines} lines were dropped: the event loop was too busy to take them");
    }

    /// Whether anything is still going to happen by itself.
    pub fn is_active(&self) -> bool {
        self.shared.is_active()
    }

    /// The owner is gone, or does as if: every tree is ended by its keeper (or kept, as the option says).
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for (_, daemon) in self.write().drain() {
            daemon.close();
        }
        prepare::dismiss(self.shared.id);
    }

    fn peek<T>(&self, name: &str, read: impl FnOnce(&Snapshot) -> T) -> Option<T> {
        self.read().get(name).map(|daemon| daemon.peek(read))
    }

    fn ticket(&self) -> Ticket {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    fn get(&self, name: &str) -> Option<Arc<Daemon>> {
        self.read().get(name).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<Daemon>>> {
        self.daemons.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Arc<Daemon>>> {
        self.daemons.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.close();
    }
}
