//! The registry of daemons, and the calls of the API.

mod context;
mod tickets;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ally_base::os;
use ally_base::text::{io_text, printable};

use tokio::sync::oneshot;

use super::TARGET;
use super::daemon::{Daemon, Job, Published, Task};
use super::ownership::live_managers;
use super::report::{Mailbox, ManagerId, Refusal, log};
use super::runtime;
use crate::config::{LogConfig, Parsed, Raw, SystemSupport, parse};
use crate::error::{Failure, Refused};
use crate::lifecycle::{Event, Snapshot, Ticket};
use crate::model::ProcessState;

pub use context::{ManagerContext, Options};
pub use tickets::Tickets;

/// The immediate answer to a start. The outcome settles the ticket.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    pub ticket: Ticket,
    /// Whether the daemon uses this configuration from now on.
    pub accepted: bool,
}

pub struct Manager {
    context: Arc<ManagerContext>,
    daemons: RwLock<HashMap<String, Arc<Daemon>>>,
    closed: AtomicBool,
}

impl Manager {
    /// `wake` is called if messages wait, from any thread.
    pub fn new(options: Options, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        live_managers::register(id);
        let context = ManagerContext::new(id, options, wake);
        Self { context: Arc::new(context), daemons: RwLock::default(), closed: AtomicBool::new(false) }
    }

    pub fn id(&self) -> ManagerId {
        self.context.id
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.context.mailbox
    }

    /// # Errors
    /// `InvalidConfig`; `ShuttingDown`; `Spawn` where the supervisor's thread can't be had. All else comes
    /// with the ticket.
    pub fn start(&self, raw: &Raw, inherited: Arc<str>) -> Result<Accepted, Failure> {
        let parsed = check(raw)?;
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::ShuttingDown);
        }
        if let Some(logs) = &parsed.config.logs {
            self.check_log_file(&parsed.config.plugin_name, logs)?;
        }
        runtime::start().map_err(|error| Failure::Spawn {
            problem: format!("the supervisor's thread can't be started: {}", io_text(&error)),
            refused: Refused::by(&error, None, None),
        })?;
        for key in &parsed.unknown {
            log!(self.context.reporter(&parsed.config.plugin_name), warn, "unknown configuration key {}", printable(key));
        }
        let name = parsed.config.plugin_name.clone();
        let job = Job { config: parsed.config, inherited };
        let ticket = self.context.tickets.for_caller();
        let daemon = self.get(&name);
        let daemon = match daemon {
            Some(daemon) => daemon,
            None => {
                // The seed need only differ between daemons, so that their delays do.
                let seed = ticket ^ std::ptr::from_ref(self).addr() as u64;
                let first = Job { config: job.config.clone(), inherited: Arc::clone(&job.inherited) };
                let daemon = Daemon::new(first, Arc::clone(&self.context), seed, Task::spawn);
                self.write().insert(name, Arc::clone(&daemon));
                daemon
            }
        };
        let accepted = daemon.start(ticket, job);
        Ok(Accepted { ticket, accepted })
    }

    /// Two plugins must not write one log file. Another owner is found by the lock of the file.
    fn check_log_file(&self, name: &str, logs: &LogConfig) -> Result<(), Failure> {
        match self.read().values().find(|daemon| daemon.name != name && daemon.writes_log(logs)) {
            Some(other) => {
                let problem = format!("must not be a log file of plugin '{}' as well: {}", other.name, logs.file.display());
                Err(Failure::InvalidConfig { field: "logs.file".to_owned(), problem })
            }
            None => Ok(()),
        }
    }

    pub fn abort(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.get(name) {
            daemon.feed(Event::StartAborted { ticket });
        }
    }

    /// Stops the daemon of a start that became ready and was aborted before its promise settled. The ticket is settled at the
    /// end of the stop.
    pub fn revoke(&self, name: &str, ticket: Ticket) -> Ticket {
        self.request(name, |answer| Event::StartRevoked { ticket, answer })
    }

    /// The ticket is settled when the plugin runs, or is at rest.
    pub fn when_running(&self, name: &str) -> Ticket {
        self.request(name, |ticket| Event::WaitRequested { ticket })
    }

    pub fn abort_wait(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.get(name) {
            daemon.feed(Event::WaitAborted { ticket });
        }
    }

    pub fn stop(&self, name: &str) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        match self.get_known(name) {
            Some(daemon) => daemon.feed(Event::StopRequested { ticket }),
            None => self.context.tickets.settle(ticket, Ok(())),
        }
        ticket
    }

    pub fn restart(&self, name: &str) -> Ticket {
        self.request(name, |ticket| Event::RestartRequested { ticket })
    }

    /// A request of a known plugin. For an unknown one: `NotFound`.
    fn request(&self, name: &str, event: impl FnOnce(Ticket) -> Event) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        match self.get_known(name) {
            Some(daemon) => daemon.feed(event(ticket)),
            None => self.context.tickets.settle(ticket, Err(Refusal::new(name.to_owned(), Failure::NotFound))),
        }
        ticket
    }

    pub fn stop_all(&self) -> Ticket {
        self.closed.store(true, Ordering::Relaxed);
        let ticket = self.context.tickets.for_caller();
        let daemons: Vec<_> = self.read().values().filter(|daemon| is_known(daemon)).cloned().collect();
        if daemons.is_empty() {
            self.context.tickets.settle(ticket, Ok(()));
            return ticket;
        }
        let answers: Vec<_> = daemons
            .iter()
            .map(|daemon| {
                let (part, answer) = self.context.tickets.for_supervisor();
                daemon.feed(Event::ShutdownRequested { ticket: part });
                answer
            })
            .collect();
        let context = Arc::clone(&self.context);
        let waiting = runtime::spawn(async move {
            // Each failure is logged when it happens, not after the slower stops.
            let stops: Vec<_> = answers.into_iter().map(|answer| tokio::spawn(log_failed_stop(answer, Arc::clone(&context)))).collect();
            for stop in stops {
                drop(stop.await);
            }
            context.tickets.settle(ticket, Ok(()));
        });
        if waiting.is_none() {
            // Without a runtime no daemon was ever started.
            self.context.tickets.settle(ticket, Ok(()));
        }
        ticket
    }

    /// False if the plugin is unknown, or a process of it is left. Also removes what an unknown plugin's refused start left.
    pub fn forget(&self, name: &str) -> bool {
        let mut daemons = self.write();
        let forgettable = |daemon: &Arc<Daemon>| daemon.peek(|snapshot| snapshot.forgettable.then_some(snapshot.known));
        let Some(known) = daemons.get(name).and_then(forgettable) else { return false };
        if let Some(daemon) = daemons.remove(name) {
            daemon.close();
        }
        known
    }

    pub fn state(&self, name: &str) -> Option<ProcessState> {
        self.peek(name, |snapshot| snapshot.state)
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        self.peek(name, |snapshot| snapshot.pid).flatten()
    }

    /// The version of the snapshot that `info` returns. It changes with each new snapshot.
    pub fn revision(&self, name: &str) -> Option<u64> {
        Some(self.get_known(name)?.revision())
    }

    pub fn info(&self, name: &str) -> Option<Published> {
        Some(self.get_known(name)?.published())
    }

    /// The names of all known plugins, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.read().values().filter(|daemon| is_known(daemon)).map(|daemon| daemon.name.clone()).collect();
        names.sort_unstable();
        names
    }

    pub fn output(&self, name: &str, lines: usize) -> Vec<String> {
        self.get(name).map(|daemon| daemon.tail.lines(lines)).unwrap_or_default()
    }

    /// Sets which of the events `output` and `health` have listeners. Events without a listener are not posted.
    pub fn listen(&self, output: bool, health: bool) {
        self.context.listeners.set(output, health);
    }

    /// Logs how many messages the mailbox dropped.
    pub fn log_dropped(&self, events: u64, lines: u64) {
        let manager = self.context.id;
        tracing::warn!(target: TARGET, manager, "{events} events and {lines} lines were dropped: the event loop was too busy to take them");
    }

    /// Whether a daemon keeps the event loop alive.
    pub fn is_pending(&self) -> bool {
        self.context.is_pending()
    }

    /// The owner ends, or its worker does. Closes the streams to all keepers, which then end their trees, or keep them with
    /// `onOwnerDeath: 'keep'`.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for (_, daemon) in self.write().drain() {
            daemon.close();
        }
        self.context.tickets.abandon();
        live_managers::unregister(self.context.id);
    }

    fn peek<T>(&self, name: &str, read: impl FnOnce(&Snapshot) -> T) -> Option<T> {
        self.read().get(name).filter(|daemon| is_known(daemon)).map(|daemon| daemon.peek(read))
    }

    fn get_known(&self, name: &str) -> Option<Arc<Daemon>> {
        self.get(name).filter(is_known)
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

/// A first start that another owner's name refused leaves a daemon that callers never see.
fn is_known(daemon: &Arc<Daemon>) -> bool {
    daemon.peek(|snapshot| snapshot.known)
}

async fn log_failed_stop(answer: oneshot::Receiver<Result<(), Refusal>>, context: Arc<ManagerContext>) {
    if let Ok(Err(Refusal { plugin, failure, .. })) = answer.await {
        let problem = failure.message(&plugin);
        log!(context.reporter(&plugin), error, problem, "could not be stopped");
    }
}

/// A checked configuration that this system can carry out. Changes nothing.
///
/// # Errors
/// `InvalidConfig` with the first field that is wrong.
pub fn check(raw: &Raw) -> Result<Parsed, Failure> {
    let parsed = parse(raw)?;
    SystemSupport { accept_queue: os::accept_queue_is_visible() }.check(&parsed.config)?;
    Ok(parsed)
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.close();
    }
}
