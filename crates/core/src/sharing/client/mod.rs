//! A session: the shared plugins of one manager. Calls return at once; a task of the supervisor's thread has the connection to the
//! host.
//!
//! - `plugin`: a plugin as this session sees it; `path`: the states that listeners are told;
//! - `task`: the connection, and the calls that are not answered;
//! - `death`: what follows the host's death;
//! - `link`, `spawn`: the way to the host, and a new host;
//! - `look`: what the host tells those who share nothing with it.

mod death;
mod link;
mod look;
mod path;
mod plugin;
mod spawn;
mod task;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::plugin::{Plugin, is_refusal};
use crate::config::{Parsed, ProcessConfig, Raw};
use crate::error::{DependencyProblem, Failure};
use crate::lifecycle::Ticket;
use crate::model::{Pid, ProcessState};
use crate::sharing::place::{differing_fields, note};
use crate::supervisor::runtime;
use crate::supervisor::{
    Explained, Follower, ManagerContext, OwnerLimits, PluginMetrics, Published, Refusal, SharedPlugins, Tail, Usable, log_not_stopped,
};

pub use link::{Target, end_host};
pub use look::{HostView, look};
pub use path::path;
pub use plugin::OwnStart;
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
        begun: Instant,
    },
    Upgrade {
        start: Box<OwnStart>,
        changes: String,
    },
    LetGo,
    Everywhere,
    Restart,
    Wait,
    /// Of the call with this ticket.
    Abort(Ticket),
    Metrics,
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

    /// Whether callers know this plugin as a shared one.
    pub fn knows(&self, name: &str) -> bool {
        self.known(name, |_| ()).is_some()
    }

    /// Whether the session has the plugin, or has asked for it.
    pub fn holds(&self, name: &str) -> bool {
        self.peek(name, Plugin::is_held).unwrap_or(false)
    }

    /// Starts the plugin, or attaches to it. Returns whether the plugin has this configuration from now on.
    pub fn start(&self, raw: &Raw, parsed: Parsed, inherited: Arc<str>, owner: OwnerLimits, ticket: Ticket) -> bool {
        let name = parsed.config.plugin_name.clone();
        let start = OwnStart::new(raw.clone(), parsed, inherited, owner, ticket);
        let depends_on = start.config.depends_on.clone();
        if let Err(failure) = self.join(start) {
            self.inner.settle(Some(ticket), &name, Err(failure));
            return false;
        }
        let what = What::Start { begun: Instant::now() };
        let asked = Asked { plugin: name.clone(), ticket: Some(ticket), what };
        if depends_on.is_empty() {
            self.inner.ask(asked);
            return true;
        }
        let inner = Arc::clone(&self.inner);
        drop(runtime::spawn(async move {
            let outcome = tokio::select! {
                biased;
                () = inner.until_parted(&name, ticket) => Err(Failure::Stopped),
                outcome = inner.until_all_usable(&depends_on) => outcome,
            };
            match outcome {
                Ok(()) => {
                    let begun = Instant::now();
                    inner.change(&name, |plugin| plugin.is_withheld = false);
                    inner.ask(Asked { what: What::Start { begun }, ..asked });
                }
                Err(failure) => inner.answered(asked, Err(failure)),
            }
        }));
        true
    }

    /// What the manager of the same caller needs to know of its shared plugins.
    pub fn plugins(&self) -> Arc<dyn SharedPlugins> {
        Arc::clone(&self.inner) as Arc<dyn SharedPlugins>
    }

    pub fn joined(&self, name: &str) -> Joined {
        self.peek(name, Plugin::joined).unwrap_or(Joined::No)
    }

    /// Why a member of a group that this session has with another configuration is not the one that is asked for.
    pub fn difference(&self, config: &ProcessConfig) -> Option<Failure> {
        let has = |plugin: &Plugin| (plugin.joined() != Joined::No).then(|| (Arc::clone(&plugin.start), plugin.is_upgraded));
        let (start, upgraded) = self.peek(&config.plugin_name, has).flatten()?;
        let fields = differing_fields(&start.config, config);
        (!fields.is_empty()).then_some(Failure::SharedDiffers { fields, upgraded })
    }

    fn join(&self, start: OwnStart) -> Result<(), Failure> {
        let name = start.config.plugin_name.clone();
        self.inner.is_used.store(true, Ordering::Release);
        let mut plugins = self.inner.lock();
        let plugin = plugins.entry(name.clone()).or_insert_with(|| Plugin::new(start.clone(), self.inner.context.reporter(&name)));
        if let Some(failure) = plugin.refusal() {
            return Err(failure);
        }
        self.inner.change_in(plugin, |plugin| plugin.join(start));
        Ok(())
    }

    /// Upgrades the plugin. `changes`: the changed fields, as the caller gave them.
    pub fn upgrade(&self, raw: &Raw, parsed: Parsed, inherited: Arc<str>, owner: OwnerLimits, changes: String, ticket: Ticket) {
        let name = parsed.config.plugin_name.clone();
        let start = Box::new(OwnStart::new(raw.clone(), parsed, inherited, owner, ticket));
        self.ask_if_held(&name, ticket, What::Upgrade { start, changes });
    }

    /// Lets go of the plugin.
    pub fn stop(&self, name: &str, ticket: Ticket) {
        let lets_go = self.inner.change(name, Plugin::let_go).unwrap_or(false);
        if lets_go {
            self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::LetGo });
        } else {
            self.inner.settle(Some(ticket), name, Ok(()));
        }
    }

    /// Stops the plugin for all sessions.
    pub fn stop_everywhere(&self, name: &str, ticket: Ticket) {
        self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::Everywhere });
    }

    /// Restarts a plugin that this session need not have.
    pub fn restart_anyhow(&self, name: &str, ticket: Ticket) {
        self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::Restart });
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

    pub fn restart(&self, name: &str, ticket: Ticket) {
        self.ask_if_held(name, ticket, What::Restart);
    }

    pub fn when_running(&self, name: &str, ticket: Ticket) {
        match self.peek(name, Plugin::settled_wait) {
            Some(Some(failure)) => self.inner.settle(Some(ticket), name, Err(failure)),
            Some(None) => self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what: What::Wait }),
            None => self.inner.settle(Some(ticket), name, Err(Failure::NotFound)),
        }
    }

    fn ask_if_held(&self, name: &str, ticket: Ticket, what: What) {
        if self.holds(name) {
            self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what });
        } else if let (true, What::Restart | What::Upgrade { .. }) = (self.knows(name), &what) {
            self.start_again(name, ticket, what);
        } else {
            self.inner.settle(Some(ticket), name, Err(Failure::NotFound));
        }
    }

    /// A restart or an upgrade of a plugin that does not run is a start, as that of an exclusive one.
    fn start_again(&self, name: &str, ticket: Ticket, what: What) {
        let start = match what {
            What::Upgrade { start, .. } => Some(*start),
            _ => self.peek(name, |plugin| OwnStart::clone(&plugin.start)),
        };
        let Some(start) = start else { return self.inner.settle(Some(ticket), name, Err(Failure::NotFound)) };
        match self.join(start) {
            Ok(()) => {
                self.inner.change(name, |plugin| plugin.is_withheld = false);
                let what = What::Start { begun: Instant::now() };
                self.inner.ask(Asked { plugin: name.to_owned(), ticket: Some(ticket), what });
            }
            Err(failure) => self.inner.settle(Some(ticket), name, Err(failure)),
        }
    }

    /// The caller aborts a start or a wait.
    pub fn abort(&self, name: &str, ticket: Ticket) {
        // A start that waits for what it depends on was not sent.
        if self.inner.change(name, |plugin| plugin.start.job == ticket && plugin.abort_withheld()).unwrap_or(false) {
            return;
        }
        self.inner.ask(Asked { plugin: name.to_owned(), ticket: None, what: What::Abort(ticket) });
    }

    /// Lets go of all plugins, dependents first. Returns the failures.
    pub async fn stop_all(&self) -> Vec<Refusal> {
        let held: Vec<(String, Vec<String>)> = self
            .inner
            .lock()
            .values()
            .filter(|plugin| plugin.is_held())
            .map(|plugin| (plugin.name.clone(), plugin.start.config.depends_on.clone()))
            .collect();
        self.stop_in_order(held).await
    }

    /// Lets go of these plugins, each after those that depend on it. Logs and returns the failures.
    pub async fn stop_in_order(&self, mut left: Vec<(String, Vec<String>)>) -> Vec<Refusal> {
        let mut failures = Vec::new();
        while !left.is_empty() {
            let is_needed = |name: &str| left.iter().any(|(_, depends_on)| depends_on.iter().any(|other| other == name));
            let (mut next, rest): (Vec<_>, Vec<_>) = left.iter().cloned().partition(|(name, _)| !is_needed(name));
            left = rest;
            if next.is_empty() {
                // No cycle was started.
                next = std::mem::take(&mut left);
            }
            let answers: Vec<_> = next
                .iter()
                .map(|(name, _)| {
                    let (ticket, answer) = self.inner.context.tickets.for_supervisor();
                    self.stop(name, ticket);
                    answer
                })
                .collect();
            for answer in answers {
                if let Ok(Err(refusal)) = answer.await {
                    log_not_stopped(&self.inner.context, &refusal);
                    failures.push(refusal);
                }
            }
        }
        failures
    }

    /// The plugins that this session has in the group, with what each depends on.
    pub fn group(&self, group: &str) -> Vec<(String, Vec<String>)> {
        let Some(plugins) = self.inner.lock_if_used() else { return Vec::new() };
        let members = plugins.values().filter(|plugin| self.inner.shows(plugin) && plugin.start.config.group.as_deref() == Some(group));
        members.map(|plugin| (plugin.name.clone(), plugin.start.config.depends_on.clone())).collect()
    }

    /// Each known plugin with what it depends on.
    pub fn dependents(&self) -> Vec<(String, Vec<String>)> {
        self.inner.dependents()
    }

    /// False if the plugin is unknown, or a process of it is left.
    pub fn forget(&self, name: &str) -> bool {
        let Some(mut plugins) = self.inner.lock_if_used() else { return false };
        let Some(plugin) = plugins.get_mut(name).filter(|plugin| plugin.may_be_forgotten()) else { return false };
        let (was_known, is_here) = (plugin.is_known(), plugin.is_here());
        plugin.tail.close();
        plugins.remove(name);
        drop(plugins);
        if is_here {
            self.inner.ask(Asked { plugin: name.to_owned(), ticket: None, what: What::LetGo });
        }
        was_known
    }

    pub fn state(&self, name: &str) -> Option<ProcessState> {
        self.known(name, |plugin| plugin.snapshot().state)
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        self.known(name, |plugin| plugin.snapshot().pid).flatten()
    }

    pub fn revision(&self, name: &str) -> Option<u64> {
        self.known(name, Plugin::revision)
    }

    pub fn info(&self, name: &str) -> Option<Published> {
        self.known(name, Plugin::published)
    }

    pub fn names(&self) -> Vec<String> {
        let Some(plugins) = self.inner.lock_if_used() else { return Vec::new() };
        plugins.values().filter(|plugin| self.inner.shows(plugin)).map(|plugin| plugin.name.clone()).collect()
    }

    pub fn metrics(&self, name: &str) -> Option<PluginMetrics> {
        let metrics = self.known(name, Plugin::metrics)?;
        self.ask_for_metrics();
        Some(metrics)
    }

    /// Of all known plugins. `held`: only of those that the session has.
    pub fn all_metrics(&self, held: bool) -> Vec<PluginMetrics> {
        let Some(plugins) = self.inner.lock_if_used() else { return Vec::new() };
        let wanted = plugins.values().filter(|plugin| self.inner.shows(plugin) && (!held || plugin.is_held()));
        let metrics: Vec<_> = wanted.map(Plugin::metrics).collect();
        drop(plugins);
        if !metrics.is_empty() {
            self.ask_for_metrics();
        }
        metrics
    }

    fn ask_for_metrics(&self) {
        let mut asked = self.inner.metrics_asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_none_or(|at| at.elapsed() > METRICS_RENEWAL) && self.inner.lock().values().any(Plugin::is_here) {
            *asked = Some(Instant::now());
            self.inner.ask(Asked { plugin: String::new(), ticket: None, what: What::Metrics });
        }
    }

    pub fn output(&self, name: &str, lines: usize) -> Option<Vec<String>> {
        self.known(name, |plugin| plugin.tail.lines(lines))
    }

    pub fn follow(&self, name: &str, lines: usize, live: bool) -> Option<Arc<Follower>> {
        let follower = self.known(name, |plugin| {
            let follower = Follower::new(live && plugin.is_held(), &self.inner.context.mailbox);
            plugin.tail.follow(lines, &follower);
            follower
        });
        if live {
            self.tell_interest();
        }
        follower
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

impl SharedPlugins for Inner {
    fn dependents(&self) -> Vec<(String, Vec<String>)> {
        let Some(plugins) = self.lock_if_used() else { return Vec::new() };
        plugins
            .values()
            .filter(|plugin| self.shows(plugin))
            .map(|plugin| (plugin.name.clone(), plugin.start.config.depends_on.clone()))
            .collect()
    }

    fn until_usable(self: Arc<Self>, name: &str) -> Option<Usable> {
        let is_known = self.lock_if_used()?.get(name).is_some_and(|plugin| self.shows(plugin));
        let name = name.to_owned();
        is_known.then(|| Box::pin(async move { Self::until_usable(&self, &name).await }) as Usable)
    }

    fn explain(self: Arc<Self>, name: &str, owner: Pid) -> Explained {
        let name = name.to_owned();
        Box::pin(async move {
            if note(&self.target.envs_dir)?.pid != owner {
                return None;
            }
            let HostView { host, plugins } = look(&self.target).await.ok()??;
            let listed = plugins.into_iter().find(|listed| listed.plugin == name).filter(|_| host == owner)?;
            Some(Failure::SharedElsewhere { host, sessions: listed.shown.sessions, linger: listed.linger })
        })
    }
}

impl Inner {
    /// Gives the call to the task. The first call makes it.
    fn ask(self: &Arc<Self>, asked: Asked) {
        let mut commands = self.commands();
        let sender = commands.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            drop(runtime::spawn(task::run(Arc::clone(self), receiver)));
            sender
        });
        let refused = sender.send(Command::Ask(asked));
        drop(commands);
        if let Err(mpsc::error::SendError(Command::Ask(asked))) = refused {
            // Without a runtime, or after a panic of the task.
            self.answered(asked, Err(Failure::Internal { problem: "the connection to the host of shared daemons is gone".to_owned() }));
        }
    }

    /// A call is answered.
    fn answered(&self, asked: Asked, outcome: Result<(), Failure>) {
        let Asked { plugin: name, ticket, what } = asked;
        match what {
            What::Start { .. } => {
                self.change(&name, |plugin| plugin.start_answered(&outcome));
                if outcome.as_ref().err().is_none_or(|failure| !is_refusal(failure)) {
                    // What it was as an exclusive plugin. Of a refused start that stays.
                    self.context.forget(&name);
                }
            }
            What::LetGo => drop(self.change(&name, |plugin| plugin.let_go_answered(&outcome))),
            What::Upgrade { start, .. } if outcome.is_ok() => drop(self.change(&name, |plugin| plugin.has_upgraded(*start))),
            _ => {}
        }
        self.settle(ticket, &name, outcome);
    }

    fn settle(&self, ticket: Option<Ticket>, plugin: &str, outcome: Result<(), Failure>) {
        if let Some(ticket) = ticket {
            self.context.tickets.settle(ticket, outcome.map_err(|failure| Refusal::new(plugin.to_owned(), failure)));
        }
    }

    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Plugin) -> T) -> Option<T> {
        let mut plugins = self.lock();
        let plugin = plugins.get_mut(name)?;
        Some(self.change_in(plugin, change))
    }

    /// Changes a plugin, and with it whether it keeps the event loop alive.
    fn change_in<T>(&self, plugin: &mut Plugin, change: impl FnOnce(&mut Plugin) -> T) -> T {
        let before = plugin.is_pending();
        let value = change(plugin);
        let after = plugin.is_pending();
        if before != after {
            self.context.set_shared_pending(after);
        }
        self.changes.send_replace(());
        value
    }

    /// Whether callers see the plugin as a shared one. Of two of a name they see the shared one while the session has it, and
    /// otherwise the exclusive one, which came later: what it was as a shared one is seen again if the exclusive start is refused.
    fn shows(&self, plugin: &Plugin) -> bool {
        plugin.is_known() && (plugin.is_held() || self.context.daemons.peek(&plugin.name, |_| ()).is_none())
    }

    async fn until_all_usable(&self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            self.until_usable(name).await.map_err(|failure| {
                let problem = DependencyProblem::NotRunning { name: name.clone(), cause: Box::new(failure) };
                Failure::Dependency { problem }
            })?;
        }
        Ok(())
    }

    async fn until_usable(&self, name: &str) -> Result<(), Failure> {
        let usable = || {
            let plugins = self.lock();
            plugins.get(name).filter(|plugin| self.shows(plugin)).map_or(Some(Err(Failure::NotFound)), Plugin::usable)
        };
        self.until(usable).await
    }

    /// Resolves when the session does not start the plugin with this job any more.
    async fn until_parted(&self, name: &str, job: Ticket) {
        self.until(|| {
            let plugins = self.lock();
            let starts = plugins.get(name).is_some_and(|plugin| plugin.start.job == job && plugin.is_joining());
            (!starts).then_some(())
        })
        .await;
    }

    async fn until<T>(&self, read: impl Fn() -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(value) = read() {
                return value;
            }
            // The sender lives as long as this session.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// `None` if there was never a shared plugin.
    fn lock_if_used(&self) -> Option<MutexGuard<'_, HashMap<String, Plugin>>> {
        self.is_used.load(Ordering::Acquire).then(|| self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Plugin>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commands(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
