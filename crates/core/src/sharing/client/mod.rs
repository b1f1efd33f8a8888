//! A session: the shared plugins of one manager. Calls return at once; a task of the supervisor's thread has the connection to the
//! host.
//!
//! - `starts`, `stops`, `getters`: the calls;
//! - `inner`: what they have in common with the task;
//! - `plugin`: a plugin as this session sees it; `path`: the states that listeners are told;
//! - `task`: the connection, and the calls that are not answered;
//! - `death`: what follows the host's death;
//! - `link`, `spawn`: the way to the host, and a new host;
//! - `look`: what the host tells those who share nothing with it.

mod death;
mod getters;
mod inner;
mod link;
mod look;
mod path;
mod plugin;
mod spawn;
mod starts;
mod stops;
mod task;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::plugin::Plugin;
use crate::error::Failure;
use crate::lifecycle::Ticket;
use crate::model::{Changes, Pid};
use crate::supervisor::runtime;
use crate::supervisor::{Follower, ManagerContext, SharedPlugins, Tail};

pub use link::{Target, end_host};
pub use look::{HostView, look};
pub use path::path;
pub use plugin::{OwnStart, Times};
pub use spawn::ROLE;

/// Metrics are asked for anew after this time, although the host sends them for longer.
const METRICS_RENEWAL: Duration = Duration::from_secs(20);

pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<ManagerContext>,
    target: Target,
    plugins: Mutex<HashMap<String, Plugin>>,
    /// False before the first start. Getters of sessions without shared plugins then need no lock.
    is_used: AtomicBool,
    /// To the task. `None` before the first call, and after the end of the manager.
    commands: Mutex<Option<mpsc::UnboundedSender<Command>>>,
    metrics_asked: Mutex<Option<Instant>>,
    /// Whether a listener or the logger takes lines of output.
    takes_lines: AtomicBool,
    requests: AtomicU64,
    /// Sent at each change of a plugin.
    changes: watch::Sender<()>,
}

/// Whether a session has a plugin, for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    No,
    Starting,
    /// It runs, or is armed.
    Usable,
}

/// A call for the host.
#[derive(Debug)]
pub(super) struct Asked {
    plugin: String,
    /// `None` if no caller waits.
    ticket: Option<Ticket>,
    what: What,
}

#[derive(Debug)]
enum What {
    Start {
        /// By which the plugin tells it from its later starts.
        number: u64,
        begun: Instant,
        /// The host after whose death it is made again.
        after: Option<Pid>,
    },
    Upgrade {
        start: Box<OwnStart>,
        changes: Changes,
    },
    LetGo,
    /// Behind a start that was given up, which the host may still read.
    Abandon,
    Everywhere {
        /// The host after whose death it is asked again.
        after: Option<Pid>,
    },
    Restart,
    Wait,
    /// Of the call with this ticket.
    Abort(Ticket),
    Metrics,
}

impl What {
    /// Without a host one is made. A stop for all sessions needs one after a host's death: other sessions are about to start the
    /// plugin again.
    const fn needs_host(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::Wait | Self::Everywhere { after: Some(_) })
    }
}

#[derive(Debug)]
enum Command {
    Ask(Asked),
    /// What the session wants to hear has changed.
    Listen,
}

impl Client {
    pub fn new(context: &Arc<ManagerContext>) -> Self {
        let options = &context.options;
        let target = Target { envs_dir: options.envs_dir.clone(), program: options.guardian.clone() };
        let inner = Inner {
            context: Arc::clone(context),
            target,
            plugins: Mutex::default(),
            is_used: AtomicBool::new(false),
            commands: Mutex::default(),
            metrics_asked: Mutex::default(),
            takes_lines: AtomicBool::new(false),
            requests: AtomicU64::new(1),
            changes: watch::Sender::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What the manager of the same caller needs to know of its shared plugins.
    pub fn plugins(&self) -> Arc<dyn SharedPlugins> {
        Arc::clone(&self.inner) as Arc<dyn SharedPlugins>
    }

    /// The output of a plugin that this session need not have: what the host keeps, and with `live` what comes.
    pub fn watch(&self, name: &str, lines: usize, live: bool) -> Arc<Follower> {
        let follower = Follower::new(true, &self.inner.context.mailbox);
        let tail = Tail::default();
        tail.follow(0, &follower);
        let (target, name) = (self.inner.target.clone(), name.to_owned());
        drop(runtime::spawn(async move { look::output(&target, &name, lines, live, tail).await }));
        follower
    }

    /// Ends every daemon of the host, and the host, of whatever build.
    pub fn end_host(&self, ticket: Ticket) {
        let inner = Arc::clone(&self.inner);
        drop(runtime::spawn(async move {
            let ended = link::end_host(&inner.target).await.map(drop);
            inner.settle(Some(ticket), "", ended);
        }));
    }

    /// What the host tells of itself, for a caller that may wait. `None` without a host.
    ///
    /// # Errors
    /// As [`look`].
    pub fn view_host(&self) -> Result<Option<HostView>, Failure> {
        let (answer, answered) = std::sync::mpsc::channel();
        let target = self.inner.target.clone();
        // The receiver waits for it.
        drop(runtime::spawn(async move { drop(answer.send(look(&target).await)) }));
        let gone = || Failure::Internal { problem: "the supervisor's thread is gone".to_owned() };
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// The listeners of the manager, or the level of its logger, have changed.
    pub fn listen(&self) {
        let takes_lines = self.inner.context.takes_lines();
        if !self.inner.takes_lines.swap(takes_lines, Ordering::AcqRel) && takes_lines {
            self.inner.lock().values_mut().for_each(Plugin::listened_to);
        }
        self.tell_interest();
    }

    fn tell_interest(&self) {
        if let Some(commands) = &*self.inner.commands() {
            // The task ends with the manager.
            drop(commands.send(Command::Listen));
        }
    }

    /// The manager ends. The end of the connection lets go of all plugins.
    pub fn close(&self) {
        *self.inner.commands() = None;
        self.inner.lock().values_mut().for_each(Plugin::close);
        // A start that waits for what its plugin depends on ends.
        self.inner.changes.send_replace(());
    }

    fn peek<T>(&self, name: &str, read: impl FnOnce(&Plugin) -> T) -> Option<T> {
        self.inner.lock_if_used()?.get(name).map(read)
    }

    fn known<T>(&self, name: &str, read: impl FnOnce(&Plugin) -> T) -> Option<T> {
        self.inner.lock_if_used()?.get(name).filter(|plugin| self.inner.shows(plugin)).map(read)
    }
}
