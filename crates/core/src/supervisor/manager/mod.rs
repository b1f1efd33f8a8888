//! The registry of daemons, and the calls of the API.

mod context;
mod groups;
mod host_calls;
mod registry;
mod tickets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ally_base::os;
use ally_base::text::{io_text, printable};

use self::groups::{Starting, stop_in_order};
use self::registry::dependents;
use super::TARGET;
use super::daemon::{Daemon, Job, Published, Task};
use super::launch::{OwnerLimits, TurnLimits};
use super::metrics::{PluginMetrics, TextFormat, text};
use super::output::Follower;
use super::ownership::{end_by_force, live_managers, stop_leftovers, tidy_leftovers};
use super::report::{Mailbox, ManagerId, MemberStart, Refusal, log};
use super::runtime;
use crate::config::{Parsed, ProcessConfig, Raw, SystemSupport, parse};
use crate::error::{DependencyProblem, Failure, Refused};
use crate::lifecycle::dependencies::{Dependent, start_order};
use crate::lifecycle::{Event, Ticket};
use crate::model::ProcessState;

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

    /// The starts that follow are made in this turn of the caller's event loop.
    pub fn enter_turn(&self, turn: u32) {
        self.turn.enter(turn);
    }

    /// # Errors
    /// `InvalidConfig`; `ShuttingDown`; `Spawn` where the supervisor's thread can't be had. All else comes
    /// with the ticket.
    pub fn start(&self, raw: &Raw, inherited: Arc<str>) -> Result<Accepted, Failure> {
        self.start_parsed(check(raw)?, inherited)
    }

    /// As [`Self::start`], of a checked configuration.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_parsed(&self, parsed: Parsed, inherited: Arc<str>) -> Result<Accepted, Failure> {
        self.must_be_open()?;
        self.check_log_file(&parsed.config)?;
        self.check_dependencies(&parsed)?;
        Ok(self.begin(parsed, inherited, None, self.context.tickets.for_caller(), None))
    }

    /// Upgrades a known plugin to the configuration `raw`.
    ///
    /// # Errors
    /// As [`Self::start`], and `NotFound`.
    pub fn upgrade(&self, raw: &Raw, inherited: Arc<str>) -> Result<Accepted, Failure> {
        self.upgrade_parsed(check(raw)?, inherited)
    }

    /// As [`Self::upgrade`], to a checked configuration.
    ///
    /// # Errors
    /// As [`Self::upgrade`].
    pub(crate) fn upgrade_parsed(&self, parsed: Parsed, inherited: Arc<str>) -> Result<Accepted, Failure> {
        let daemon = self.context.daemons.get_known(&parsed.config.plugin_name).ok_or(Failure::NotFound)?;
        self.must_be_open()?;
        self.check_log_file(&parsed.config)?;
        self.check_dependencies(&parsed)?;
        let ticket = self.context.tickets.for_caller();
        let job = self.job(parsed, inherited, None, ticket, None);
        Ok(Accepted { ticket, accepted: daemon.upgrade(ticket, job) })
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

    fn check_dependencies(&self, Parsed { config, .. }: &Parsed) -> Result<(), Failure> {
        if config.depends_on.is_empty() {
            return Ok(());
        }
        let starting = [Dependent { name: &config.plugin_name, depends_on: &config.depends_on }];
        self.order(&starting).map(drop).map_err(|(_, problem)| Failure::Dependency { problem })
    }

    /// The order in which plugins start, beside those that the caller's managers know.
    fn order(&self, starting: &[Dependent<'_>]) -> Result<Vec<usize>, (usize, DependencyProblem)> {
        let jobs = self.jobs();
        let shared = self.context.shared_plugins().map(|shared| shared.dependents()).unwrap_or_default();
        let mut known = dependents(&jobs);
        known.extend(shared.iter().map(|(name, depends_on)| Dependent { name, depends_on }));
        start_order(starting, &known)
    }

    /// Each known plugin with what it depends on.
    pub(crate) fn dependents(&self) -> Vec<(String, Vec<String>)> {
        self.jobs().iter().map(|job| (job.config.plugin_name.clone(), job.config.depends_on.clone())).collect()
    }

    fn jobs(&self) -> Vec<Arc<Job>> {
        self.context.daemons.known().iter().map(|daemon| daemon.job()).collect()
    }

    /// `owner`: of another process than this one.
    fn begin(
        &self,
        parsed: Parsed,
        inherited: Arc<str>,
        member: Option<Arc<Member>>,
        ticket: Ticket,
        owner: Option<OwnerLimits>,
    ) -> Accepted {
        let job = self.job(parsed, inherited, member, ticket, owner);
        let daemon = self.context.daemons.get_or_insert(&job.config.plugin_name, || {
            // The seed need only differ between daemons, so that their delays do.
            let seed = ticket ^ std::ptr::from_ref(self).addr() as u64;
            let first = Job { member: None, ..job.clone() };
            Daemon::new(first, Arc::clone(&self.context), seed, Task::spawn)
        });
        let accepted = daemon.start(ticket, job);
        Accepted { ticket, accepted }
    }

    fn job(&self, parsed: Parsed, inherited: Arc<str>, member: Option<Arc<Member>>, ticket: Ticket, owner: Option<OwnerLimits>) -> Job {
        self.warn_of_unknown(&parsed);
        let Parsed { config, .. } = parsed;
        if !config.depends_on.is_empty() {
            self.context.daemons.note_dependents();
        }
        let owner = owner.unwrap_or_else(|| self.owner_limits(&config));
        Job { config, inherited, id: ticket, member, owner }
    }

    pub(crate) fn warn_of_unknown(&self, Parsed { config, unknown }: &Parsed) {
        for key in unknown {
            log!(self.context.reporter(&config.plugin_name), warn, "unknown configuration key {}", printable(key));
        }
    }

    /// The limits of this process in this turn of the caller's event loop.
    pub fn owner_limits(&self, config: &ProcessConfig) -> OwnerLimits {
        OwnerLimits::now(self.turn.read(), config.umask.is_none())
    }

    /// Starts all of `configs`, each after what it depends on. If one fails, those that were started are stopped.
    ///
    /// # Errors
    /// One cause for each configuration that is wrong. Nothing was started then.
    pub fn start_group(&self, configs: &[Raw], inherited: &Arc<str>) -> Result<AcceptedGroup, Box<Refusal>> {
        self.start_parsed_group(groups::parse_all(configs)?, inherited)
    }

    /// As [`Self::start_group`], of checked configurations.
    ///
    /// # Errors
    /// As [`Self::start_group`].
    pub fn start_parsed_group(&self, parsed: Vec<Parsed>, inherited: &Arc<str>) -> Result<AcceptedGroup, Box<Refusal>> {
        let Begun { jobs, started, .. } = self.begin_group(parsed, inherited)?;
        let (ticket, context) = (self.context.tickets.for_caller(), Arc::clone(&self.context));
        drop(runtime::spawn(async move {
            if let Some(outcome) = started.await {
                groups::settle_group(&context, ticket, outcome);
            }
        }));
        Ok(AcceptedGroup { ticket, jobs })
    }

    /// As [`Self::start_parsed_group`], without a ticket for the whole group.
    ///
    /// # Errors
    /// As [`Self::start_group`].
    pub(crate) fn begin_group(
        &self,
        parsed: Vec<Parsed>,
        inherited: &Arc<str>,
    ) -> Result<Begun<impl Future<Output = Option<GroupOutcome>> + Send + use<>>, Box<Refusal>> {
        self.must_be_open().map_err(|failure| Box::new(Refusal::new(String::new(), failure)))?;
        let order = self.group_order(&parsed)?;
        let mut jobs = vec![0; parsed.len()];
        let mut waiting: Vec<Option<Parsed>> = parsed.into_iter().map(Some).collect();
        let group = GroupStart::new();
        let mut starting = Vec::new();
        for index in order {
            let Some(parsed) = waiting.get_mut(index).and_then(Option::take) else { continue };
            let name = parsed.config.plugin_name.clone();
            let member = group.member();
            let (ticket, answer) = self.context.tickets.for_supervisor();
            let accepted = self.begin(parsed, Arc::clone(inherited), Some(Arc::clone(&member)), ticket, None);
            if let Some(job) = jobs.get_mut(index).filter(|_| accepted.accepted) {
                *job = accepted.ticket;
            }
            if let Some(daemon) = self.context.daemons.get(&name) {
                starting.push(Starting { daemon, member, answer });
            }
        }
        let started = groups::finish_group(Arc::clone(&self.context), Arc::clone(&group), starting);
        Ok(Begun { jobs, group, started })
    }

    /// The indices of a group's plugins in the order of their starts.
    fn group_order(&self, parsed: &[Parsed]) -> Result<Vec<usize>, Box<Refusal>> {
        let refused = |index: usize, failure| {
            let name = parsed.get(index).map(|parsed| parsed.config.plugin_name.clone()).unwrap_or_default();
            Refusal::new(name, failure)
        };
        let starting: Vec<_> =
            parsed.iter().map(|Parsed { config, .. }| Dependent { name: &config.plugin_name, depends_on: &config.depends_on }).collect();
        let order = self.order(&starting).map_err(|(index, problem)| {
            Box::new(groups::not_started(parsed.len(), vec![refused(index, Failure::Dependency { problem })]))
        })?;
        let causes: Vec<_> = parsed.iter().enumerate().filter_map(|(index, parsed)| self.unstartable(index, &parsed.config)).collect();
        if causes.is_empty() { Ok(order) } else { Err(Box::new(groups::not_started(parsed.len(), causes))) }
    }

    /// Why the plugin at this index of a group can't be started.
    pub(crate) fn unstartable(&self, index: usize, config: &ProcessConfig) -> Option<Refusal> {
        let refused = |failure| Some(Refusal::new(config.plugin_name.clone(), failure));
        if let Err(failure) = self.check_log_file(config) {
            return refused(groups::at_index(index, failure));
        }
        let daemon = self.context.daemons.get_known(&config.plugin_name).filter(|daemon| !daemon.is_startable())?;
        refused(Failure::AlreadyRunning(daemon.peek(|snapshot| snapshot.state)))
    }

    /// Stops the plugins whose configuration has this group, dependents first.
    pub fn stop_group(&self, group: &str) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        self.stop_group_for(ticket, group);
        ticket
    }

    /// As [`Self::stop_group`], for a ticket that exists.
    pub(crate) fn stop_group_for(&self, ticket: Ticket, group: &str) {
        let is_member = |daemon: &Arc<Daemon>| daemon.job().config.group.as_deref() == Some(group);
        let members: Vec<_> = self.context.daemons.known().into_iter().filter(is_member).collect();
        if members.is_empty() {
            return self.context.tickets.settle(ticket, Ok(()));
        }
        let names: Vec<String> = members.iter().map(|daemon| daemon.name.clone()).collect();
        names.iter().for_each(|name| self.warn_of_dependents(name, &names));
        let (context, count) = (Arc::clone(&self.context), members.len());
        let stopping = runtime::spawn(async move {
            let causes = stop_in_order(Arc::clone(&context), members, |ticket| Event::StopRequested { ticket }).await;
            let outcome = if causes.is_empty() { Ok(()) } else { Err(groups::not_stopped(count, causes)) };
            context.tickets.settle(ticket, outcome);
        });
        if stopping.is_none() {
            // Without a runtime no daemon was ever started.
            self.context.tickets.settle(ticket, Ok(()));
        }
    }

    /// Stops these plugins, dependents first. Returns the failures.
    pub(crate) async fn stop_named(&self, names: &[String]) -> Vec<Refusal> {
        let daemons = names.iter().filter_map(|name| self.context.daemons.get_known(name)).collect();
        stop_in_order(Arc::clone(&self.context), daemons, |ticket| Event::StopRequested { ticket }).await
    }

    /// `stopping`: the plugins that are stopped as well.
    fn warn_of_dependents(&self, name: &str, stopping: &[String]) {
        if !self.context.daemons.has_dependents() {
            return;
        }
        let depends = |daemon: &Arc<Daemon>| {
            daemon.peek(|snapshot| snapshot.pid.is_some())
                && !stopping.contains(&daemon.name)
                && daemon.job().config.depends_on.iter().any(|other| other == name)
        };
        let mut left: Vec<String> =
            self.context.daemons.known().iter().filter(|daemon| depends(daemon)).map(|daemon| daemon.name.clone()).collect();
        if !left.is_empty() {
            left.sort_unstable();
            log!(self.context.reporter(name), warn, "is stopped while plugins that depend on it run: {}", left.join(", "));
        }
    }

    /// Two plugins must not write one log file. Another owner is found by the lock of the file.
    fn check_log_file(&self, config: &ProcessConfig) -> Result<(), Failure> {
        let Some(logs) = &config.logs else { return Ok(()) };
        let daemons = self.context.daemons.known();
        let other = daemons.iter().find(|daemon| daemon.name != config.plugin_name && daemon.writes_log(logs));
        other.map_or(Ok(()), |other| Err(groups::same_log_file(&other.name, logs)))
    }

    pub fn abort(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.context.daemons.get(name) {
            daemon.feed(Event::StartAborted { ticket });
        }
    }

    /// The start ends not before `by` from now. Without effect before its process is there.
    pub fn extend_start(&self, name: &str, ticket: Ticket, by: Duration) {
        if let Some(daemon) = self.context.daemons.get(name) {
            daemon.feed(Event::StartExtended { ticket, by });
        }
    }

    /// The start fails now, as if its startupTimeout were over. Without effect before its process is there.
    pub fn expire_start(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.context.daemons.get(name) {
            daemon.feed(Event::StartExpired { ticket });
        }
    }

    /// Stops the daemon of a start that became ready and was aborted before its promise settled. The ticket is settled at the
    /// end of the stop.
    pub fn revoke(&self, name: &str, ticket: Ticket) -> Ticket {
        self.request(name, |answer| Event::StartRevoked { ticket, answer })
    }

    /// Ends what another owner has or left of a plugin that this manager does not know. Starts nothing.
    ///
    /// # Errors
    /// As [`Self::start`], without `InvalidConfig`. All else comes with the ticket.
    pub fn end_leftovers(&self, name: &str, what: Leftovers) -> Result<Ticket, Failure> {
        self.must_be_open()?;
        let ticket = self.context.tickets.for_caller();
        let (context, reporter, name) = (Arc::clone(&self.context), self.context.reporter(name), name.to_owned());
        let ending = async move {
            let envs_dir = &context.options.envs_dir;
            let ended = match what {
                Leftovers::Stop => stop_leftovers(envs_dir, &name, &reporter).await,
                Leftovers::Tidy => tidy_leftovers(envs_dir, &name, &reporter),
                Leftovers::Force => end_by_force(envs_dir, &name).await,
            };
            context.tickets.settle(ticket, ended.map_err(|failure| Refusal::new(name, failure)));
        };
        // The supervisor's thread runs: `must_be_open`.
        drop(runtime::spawn(ending));
        Ok(ticket)
    }

    /// The ticket is settled when the plugin runs, or is at rest.
    pub fn when_running(&self, name: &str) -> Ticket {
        self.request(name, |ticket| Event::WaitRequested { ticket })
    }

    /// The ticket is settled when the plugin runs, is armed, or is at rest.
    pub fn when_usable(&self, name: &str) -> Ticket {
        self.request(name, |ticket| Event::UseRequested { ticket })
    }

    pub fn abort_wait(&self, name: &str, ticket: Ticket) {
        if let Some(daemon) = self.context.daemons.get(name) {
            daemon.feed(Event::WaitAborted { ticket });
        }
    }

    pub fn stop(&self, name: &str) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        match self.context.daemons.get_known(name) {
            Some(daemon) => {
                self.warn_of_dependents(name, &[]);
                daemon.feed(Event::StopRequested { ticket });
            }
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
        match self.context.daemons.get_known(name) {
            Some(daemon) => daemon.feed(event(ticket)),
            None => self.context.tickets.settle(ticket, Err(Refusal::new(name.to_owned(), Failure::NotFound))),
        }
        ticket
    }

    pub fn stop_all(&self) -> Ticket {
        let ticket = self.context.tickets.for_caller();
        self.stop_all_for(ticket);
        ticket
    }

    /// As [`Self::stop_all`], for a ticket that exists.
    pub(crate) fn stop_all_for(&self, ticket: Ticket) {
        self.closed.store(true, Ordering::Relaxed);
        let daemons = self.context.daemons.known();
        if daemons.is_empty() {
            return self.context.tickets.settle(ticket, Ok(()));
        }
        if self.context.daemons.has_dependents() {
            // First, so that nothing is started or restarted while others are stopped.
            daemons.iter().for_each(|daemon| daemon.feed(Event::Closed));
        }
        let context = Arc::clone(&self.context);
        let stopping = runtime::spawn(async move {
            // Each failure is logged when it happens.
            drop(stop_in_order(Arc::clone(&context), daemons, |ticket| Event::ShutdownRequested { ticket }).await);
            context.tickets.settle(ticket, Ok(()));
        });
        if stopping.is_none() {
            // Without a runtime no daemon was ever started.
            self.context.tickets.settle(ticket, Ok(()));
        }
    }

    /// False if the plugin is unknown, or a process of it is left. Also removes what an unknown plugin's refused start left.
    pub fn forget(&self, name: &str) -> bool {
        self.context.forget(name)
    }

    /// Whether no process of the plugin is left.
    pub(crate) fn may_be_forgotten(&self, name: &str) -> bool {
        self.context.daemons.peek(name, |daemon| daemon.peek(|snapshot| snapshot.forgettable)).unwrap_or(true)
    }

    pub fn state(&self, name: &str) -> Option<ProcessState> {
        self.context.daemons.peek(name, |daemon| daemon.peek(|snapshot| snapshot.state))
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        self.context.daemons.peek(name, |daemon| daemon.peek(|snapshot| snapshot.pid)).flatten()
    }

    /// The version of the snapshot that `info` returns. It changes with each new snapshot.
    pub fn revision(&self, name: &str) -> Option<u64> {
        Some(self.context.daemons.get_known(name)?.revision())
    }

    pub fn info(&self, name: &str) -> Option<Published> {
        Some(self.context.daemons.get_known(name)?.published())
    }

    /// The names of all known plugins, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.context.daemons.known().iter().map(|daemon| daemon.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// The newest values. Asks for samples in the next minute.
    pub fn metrics(&self, name: &str) -> Option<PluginMetrics> {
        let metrics = self.context.daemons.get_known(name)?.metrics();
        self.context.sampler.ask(&self.context.daemons);
        Some(metrics)
    }

    /// As [`Manager::metrics`], of all known plugins, sorted by name.
    pub fn all_metrics(&self) -> Vec<PluginMetrics> {
        self.collect_metrics(Daemon::metrics)
    }

    /// As [`Manager::all_metrics`], as text.
    pub fn metrics_text(&self, format: TextFormat) -> String {
        text(&self.collect_metrics(Daemon::metrics_without_quantiles), self.context.options.guardian.version, format)
    }

    fn collect_metrics(&self, of: impl Fn(&Daemon) -> PluginMetrics) -> Vec<PluginMetrics> {
        let mut all: Vec<_> = self.context.daemons.known().iter().map(|daemon| of(daemon)).collect();
        self.context.sampler.ask(&self.context.daemons);
        all.sort_unstable_by(|one, other| one.plugin.cmp(&other.plugin));
        all
    }

    pub fn output(&self, name: &str, lines: usize) -> Vec<String> {
        self.context.daemons.get(name).map(|daemon| daemon.tail.lines(lines)).unwrap_or_default()
    }

    /// The last `lines` lines of output and, with `live`, each line after them.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn follow(&self, name: &str, lines: usize, live: bool) -> Result<Arc<Follower>, Failure> {
        let daemon = self.context.daemons.get_known(name).ok_or(Failure::NotFound)?;
        let follower = Follower::new(live, &self.context.mailbox);
        daemon.tail.follow(lines, &follower);
        Ok(follower)
    }

    /// Follows the output anew, for a follower that has parted from it.
    pub fn follow_again(&self, name: &str, lines: usize, follower: &Arc<Follower>) {
        if let Some(daemon) = self.context.daemons.get_known(name) {
            daemon.tail.follow(lines, follower);
        }
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
