//! The registry of daemons, and the calls of the API.
//!
//! - `starts`, `stops`, `getters`, `group_calls`: the calls, and `host_calls` those of the host of shared daemons;
//! - `groups`: the start and the stop of a group;
//! - `registry`, `tickets`, `context`: what they work with.

mod context;
mod getters;
mod group_calls;
mod groups;
mod host_calls;
mod registry;
mod starts;
mod stops;
mod tickets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ally_base::os;
use ally_base::text::io_text;

use super::TARGET;
use super::launch::TurnLimits;
use super::ownership::live_managers;
use super::report::{Mailbox, ManagerId, MemberStart, Refusal};
use super::runtime;
use crate::config::{Parsed, Raw, SystemSupport, parse};
use crate::error::{Failure, Refused};
use crate::lifecycle::Ticket;

pub use context::{Explained, ManagerContext, Options, SharedPlugins, Usable};
pub use groups::{
    Begun, GroupStart, Member, at_index, await_dependencies, log_not_stopped, not_started, not_stopped, parse_all, settle_group,
};
pub use host_calls::SessionStart;
pub use registry::Registry;
pub use tickets::{Outcome, Tickets};

/// The immediate answer to a start. The outcome settles the ticket.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    pub ticket: Ticket,
    /// Whether the daemon uses this configuration from now on.
    pub accepted: bool,
}

/// The immediate answer to a startGroup.
#[derive(Debug)]
pub struct AcceptedGroup {
    pub ticket: Ticket,
    /// Per configuration: the ticket by which the daemon knows it. 0 if it was not accepted.
    pub jobs: Vec<Ticket>,
}

/// The outcome of a startGroup.
pub(crate) type GroupOutcome = Result<Vec<MemberStart>, Refusal>;

/// What happens to what another owner has of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// Its processes are stopped, then its files are removed.
    Stop,
    /// Its files are removed, if no process of it lives.
    Tidy,
    /// The daemon of a living owner is ended, through its keeper.
    Force,
}

pub struct Manager {
    context: Arc<ManagerContext>,
    closed: AtomicBool,
    turn: TurnLimits,
}

impl Manager {
    /// `wake` is called if messages wait, from any thread.
    pub fn new(options: Options, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        live_managers::register(id);
        let context = ManagerContext::new(id, options, wake);
        Self { context: Arc::new(context), closed: AtomicBool::new(false), turn: TurnLimits::default() }
    }

    pub fn id(&self) -> ManagerId {
        self.context.id
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.context.mailbox
    }

    pub(crate) const fn context(&self) -> &Arc<ManagerContext> {
        &self.context
    }

    pub(crate) fn must_be_open(&self) -> Result<(), Failure> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::ShuttingDown);
        }
        runtime::start().map_err(|error| Failure::Spawn {
            problem: format!("the supervisor's thread can't be started: {}", io_text(&error)),
            refused: Refused::by(&error, None, None),
        })
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
        for daemon in self.context.daemons.take_all() {
            daemon.close();
        }
        self.context.tickets.abandon();
        live_managers::unregister(self.context.id);
    }
}

/// A checked configuration that this system can carry out. Changes nothing.
///
/// # Errors
/// `InvalidConfig` with the first field that is wrong.
pub fn check(raw: &Raw) -> Result<Parsed, Failure> {
    let parsed = parse(raw)?;
    SystemSupport { accept_queue: os::accept_queue_is_visible(), oom_score: os::HAS_OOM_SCORE }.check(&parsed.config)?;
    Ok(parsed)
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.close();
    }
}
