//! The parts that all daemons of one manager share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use ally_base::wire::OwnerDeath;

use super::{Registry, Tickets};
use crate::error::Failure;
use crate::lifecycle::Activity;
use crate::model::Pid;
use crate::supervisor::LINES_TARGET;
use crate::supervisor::daemon::Daemon;
use crate::supervisor::guardian::{GuardianClient, GuardianProgram};
use crate::supervisor::metrics::Sampler;
use crate::supervisor::output::OtherLog;
use crate::supervisor::report::{Listeners, Mailbox, ManagerId, Reporter};
use crate::supervisor::runtime::Boxed;
use crate::supervisor::socket::{IdleWatch, SocketClaims};

pub struct Options {
    pub envs_dir: PathBuf,
    pub owner_death: OwnerDeath,
    /// The guardian's program.
    pub guardian: GuardianProgram,
}

/// Resolves when a plugin runs or is armed.
pub type Usable = Boxed<Result<(), Failure>>;

/// `None` if there is nothing to add.
pub type Explained = Boxed<Option<Failure>>;

/// The plugins of this manager's caller that another process supervises. Daemons of the manager may depend on them.
pub trait SharedPlugins: Send + Sync {
    /// Each with what it depends on.
    fn dependents(&self) -> Vec<(String, Vec<String>)>;
    /// Resolves when the plugin runs or is armed, or fails when it is at rest. `None` for an unknown plugin.
    fn until_usable(self: Arc<Self>, name: &str) -> Option<Usable>;
    /// Why this owner has the plugin, if it is the host of shared daemons.
    fn explain(self: Arc<Self>, name: &str, owner: Pid) -> Explained;
    /// The name is that of an exclusive plugin now: followers of the shared one's output get no further line.
    fn end_following(&self, name: &str);
}

pub struct ManagerContext {
    pub id: ManagerId,
    pub options: Options,
    pub guardian: Arc<GuardianClient>,
    pub claims: SocketClaims,
    pub tickets: Tickets,
    /// The daemons refer to this context, so [`Manager::close`](super::Manager::close) must clear it.
    pub daemons: Arc<Registry>,
    pub mailbox: Arc<Mailbox>,
    pub sampler: Arc<Sampler>,
    /// The looks at the daemons that are stopped when nobody uses them.
    pub idle: Arc<IdleWatch>,
    pub listeners: Arc<Listeners>,
    /// Whether each change of a published snapshot is a message.
    announces: AtomicBool,
    /// Whether log entries of this manager go to its mailbox.
    has_logger: AtomicBool,
    /// Weak, because the shared plugins refer to this context, and the end of the context releases the guardian.
    shared: OnceLock<Weak<dyn SharedPlugins>>,
    /// The number of daemons that need the guardian.
    guarded: AtomicUsize,
    /// The number of daemons that keep the event loop alive.
    pending: AtomicUsize,
}

impl ManagerContext {
    pub fn new(id: ManagerId, options: Options, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let mailbox = Arc::new(Mailbox::new(wake));
        Self {
            id,
            guardian: GuardianClient::new(options.guardian.clone(), id),
            options,
            claims: SocketClaims::default(),
            tickets: Tickets::new(&mailbox),
            daemons: Arc::default(),
            mailbox,
            sampler: Sampler::new(id),
            idle: Arc::default(),
            listeners: Arc::default(),
            announces: AtomicBool::new(false),
            has_logger: AtomicBool::new(false),
            shared: OnceLock::new(),
            guarded: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
        }
    }

    /// False if the plugin is unknown, or a process of it is left.
    pub fn forget(&self, name: &str) -> bool {
        let forgettable = |daemon: &Arc<Daemon>| daemon.peek(|snapshot| snapshot.forgettable.then_some(snapshot.known));
        let Some((daemon, known)) = self.daemons.take_if(name, forgettable) else { return false };
        daemon.close();
        known
    }

    pub fn reporter(&self, plugin: &str) -> Reporter {
        Reporter::new(self.id, plugin, &self.mailbox, &self.listeners)
    }

    /// The shared plugins of the same caller. Only the first call counts.
    pub fn set_shared_plugins(&self, shared: Weak<dyn SharedPlugins>) {
        self.shared.get_or_init(|| shared);
    }

    /// The log files of the other plugins.
    pub fn other_logs(&self, name: &str) -> Vec<OtherLog> {
        let others = self.daemons.known().into_iter().filter(|daemon| daemon.name != name);
        others.filter_map(|daemon| Some(OtherLog { plugin: daemon.name.clone(), config: daemon.log_in_use()? })).collect()
    }

    /// The failure of a preparation in the words for the caller.
    pub async fn explained(&self, name: &str, failure: Failure) -> Failure {
        match (&failure, self.shared_plugins()) {
            (Failure::OwnedElsewhere { owner: Some(owner) }, Some(shared)) => shared.explain(name, *owner).await.unwrap_or(failure),
            _ => failure,
        }
    }

    pub fn shared_plugins(&self) -> Option<Arc<dyn SharedPlugins>> {
        self.shared.get()?.upgrade()
    }

    /// From now on each change of a published snapshot is a message.
    pub fn announce(&self) {
        self.announces.store(true, Ordering::Relaxed);
    }

    /// Log entries of this manager go to its mailbox.
    pub fn set_logger(&self) {
        self.has_logger.store(true, Ordering::Relaxed);
    }

    pub fn has_logger(&self) -> bool {
        self.has_logger.load(Ordering::Relaxed)
    }

    /// Whether a listener or a log subscriber reads lines of output.
    pub fn takes_lines(&self) -> bool {
        self.listeners.output() || tracing::enabled!(target: LINES_TARGET, tracing::Level::DEBUG)
    }

    pub fn announces(&self) -> bool {
        self.announces.load(Ordering::Relaxed)
    }

    /// A shared plugin keeps the event loop alive, or does not any more.
    pub fn set_shared_pending(&self, begins: bool) {
        let pending = Activity { guarded: false, pending: true };
        if begins { self.activity_began(pending) } else { self.activity_ended(pending) }
    }

    /// Whether a daemon keeps the event loop alive.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    /// Adds the needs of one daemon.
    pub fn activity_began(&self, began: Activity) {
        if began.guarded {
            self.guarded.fetch_add(1, Ordering::AcqRel);
            self.guardian.keep();
        }
        if began.pending {
            self.pending.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Removes the needs of one daemon.
    pub fn activity_ended(&self, ended: Activity) {
        if ended.guarded && self.guarded.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.guardian.release();
        }
        if ended.pending && self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.mailbox.wake_reader();
        }
    }
}
