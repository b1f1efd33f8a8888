//! One plugin's daemon: its machine, and the published snapshot.
//!
//! - `task`: carries out the machine's effects (`effects`), and feeds the machine events (`reports`);
//! - `held`: the part of the task about a socket that the manager holds;
//! - `attempt`: one try to run the daemon, with its timers (`timers`) and the place of its socket (`socket_place`);
//! - `generations`: the second attempt of an upgrade, and the change-over.

mod attempt;
mod effects;
mod generations;
mod held;
mod reports;
mod socket_place;
mod task;
mod timers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use ally_base::record::LockNote;
use tokio::sync::mpsc;

use super::launch::OwnerLimits;
use super::manager::{ManagerContext, Member};
use super::metrics::{Counters, PluginMetrics};
use super::output::Tail;
use super::ownership::Lock;
use super::report::{Message, Refusal, Reporter, log};
use super::runtime::clock;
use crate::config::{LogConfig, ProcessConfig};
use crate::error::Failure;
use crate::lifecycle::{Activity, Effect, Event, Machine, Notice, Now, Snapshot, Ticket};
use crate::model::ProcessState;

pub use task::Task;

/// A configuration and the environment at the start. Restarts use the same job.
#[derive(Debug, Clone)]
pub struct Job {
    pub config: ProcessConfig,
    /// The caller's environment at the start: `KEY=VALUE`, each with a NUL behind it.
    pub inherited: Arc<str>,
    /// The ticket of the start, by which the caller knows the configuration.
    pub id: Ticket,
    /// Only of a start by startGroup.
    pub member: Option<Arc<Member>>,
    /// What the owner had at the start.
    pub owner: OwnerLimits,
}

/// The effects of one step of the machine, for the task.
pub struct EffectBatch {
    pub effects: Vec<Effect>,
    pub job: Arc<Job>,
    /// Of the other generation of an upgrade.
    pub other_job: Option<Arc<Job>>,
    pub now: Now,
    /// The activity that ended with this step. Reported after the effects, because the process may exit as soon as no activity
    /// is left.
    pub ended: Activity,
}

/// Spawns the task that carries out effects. `None` without a runtime.
pub type SpawnTask = fn(&Arc<Daemon>, &Arc<ManagerContext>, &Arc<Job>) -> Option<mpsc::UnboundedSender<Box<EffectBatch>>>;

/// The values for the getters. A getter never waits for the supervisor's thread.
#[derive(Debug, Clone)]
pub struct Published {
    pub snapshot: Snapshot,
    /// The version of the snapshot, unique over all daemons.
    pub revision: u64,
    /// Milliseconds since RUNNING.
    pub uptime: Option<f64>,
    /// The job that the daemon uses.
    pub job: Ticket,
    /// The last STATUS= of the daemon.
    pub status: Option<String>,
    /// Of a shared daemon: how many sessions have it.
    pub sessions: Option<u32>,
}

impl Published {
    /// A revision that no snapshot of this process has had.
    pub fn next_revision() -> u64 {
        revision()
    }
}

/// What the getters read.
struct Shown {
    snapshot: Snapshot,
    revision: u64,
    /// The id of the job that the daemon uses.
    job: Ticket,
    status: Option<String>,
}

struct Core {
    machine: Machine,
    job: Arc<Job>,
    /// The job before the start that is under way, while that start may be withdrawn.
    former_job: Option<Arc<Job>>,
    /// During an upgrade: the job of the generation that does not serve.
    other_job: Option<Arc<Job>>,
    /// The task that carries out effects. `None` before the first effect and after a panic of the task.
    task: Option<mpsc::UnboundedSender<Box<EffectBatch>>>,
    closed: bool,
    /// The plugin's lock, while the task holds it.
    lock: Weak<Lock>,
}

pub struct Daemon {
    pub name: String,
    pub tail: Arc<Tail>,
    pub reporter: Reporter,
    pub counters: Arc<Counters>,
    context: Arc<ManagerContext>,
    spawn_task: SpawnTask,
    /// Locked for one step of the machine, never across an await.
    core: Mutex<Core>,
    published: RwLock<Shown>,
    /// Whether a message about a changed snapshot waits.
    announced: AtomicBool,
}

impl Daemon {
    pub fn new(job: Job, context: Arc<ManagerContext>, seed: u64, spawn_task: SpawnTask) -> Arc<Self> {
        let machine = Machine::new(job.config.plan(), clock::now(), seed);
        let published = RwLock::new(Shown { snapshot: machine.snapshot(), revision: revision(), job: job.id, status: None });
        let name = job.config.plugin_name.clone();
        let reporter = context.reporter(&name);
        let core = Core { machine, job: Arc::new(job), former_job: None, other_job: None, task: None, closed: false, lock: Weak::new() };
        Arc::new(Self {
            name,
            tail: Arc::default(),
            reporter,
            counters: Arc::new(Counters::new()),
            context,
            spawn_task,
            core: Mutex::new(core),
            published,
            announced: AtomicBool::new(false),
        })
    }

    /// Starts the daemon. Returns whether the configuration was accepted: only without a process and without an attempt that
    /// is under way.
    pub fn start(self: &Arc<Self>, ticket: Ticket, job: Job) -> bool {
        self.start_with(&mut self.lock(), ticket, job)
    }

    /// Upgrades the daemon. Starts one that does not run. Returns whether the configuration was accepted.
    pub fn upgrade(self: &Arc<Self>, ticket: Ticket, job: Job) -> bool {
        let mut core = self.lock();
        if core.machine.phase().is_startable() {
            return self.start_with(&mut core, ticket, job);
        }
        let (plan, beside) = (Box::new(job.config.plan()), job.config.can_run_beside(&core.job.config));
        if !core.machine.is_upgrading() {
            core.other_job = Some(Arc::new(job));
        }
        self.step(&mut core, Event::UpgradeRequested { ticket, plan, beside });
        core.job.id == ticket || core.other_job.as_ref().is_some_and(|job| job.id == ticket)
    }

    fn start_with(self: &Arc<Self>, core: &mut Core, ticket: Ticket, job: Job) -> bool {
        if core.machine.awaits_restart()
            && let Err(failure) = self.move_claim(core, &job)
        {
            self.step(core, Event::StartRefused { ticket, failure });
            return false;
        }
        let accepted = core.machine.replan(job.config.plan());
        if accepted {
            core.former_job = Some(std::mem::replace(&mut core.job, Arc::new(job)));
        }
        self.step(core, Event::StartRequested { ticket });
        accepted
    }

    /// Whether a start with this daemon's name begins at once.
    pub fn is_startable(&self) -> bool {
        self.lock().machine.phase().is_startable()
    }

    /// The configuration that the daemon uses.
    pub fn job(&self) -> Arc<Job> {
        Arc::clone(&self.lock().job)
    }

    /// Whether the daemon uses this log file, or may use it without a further call.
    pub fn writes_log(&self, logs: &LogConfig) -> bool {
        !self.peek(|snapshot| snapshot.forgettable) && self.lock().job.config.logs.as_ref().is_some_and(|own| own.collides(logs))
    }

    /// The log file that the daemon uses, or may use without a further call.
    pub fn log_in_use(&self) -> Option<LogConfig> {
        if self.peek(|snapshot| snapshot.forgettable) { None } else { self.lock().job.config.logs.clone() }
    }

    /// A pending restart claims its socket path. The claim moves to the path of the new configuration.
    fn move_claim(&self, core: &Core, job: &Job) -> Result<(), Failure> {
        let (old, new) = (core.job.config.needed_socket(), job.config.needed_socket());
        if old != new {
            self.context.claims.claim_needed(&job.config, &self.name)?;
            if let Some(old) = old {
                self.context.claims.release(old, &self.name);
            }
        }
        Ok(())
    }

    /// Feeds the machine an event, publishes the snapshot, and passes the effects on.
    pub fn feed(self: &Arc<Self>, event: Event) {
        self.step(&mut self.lock(), event);
    }

    fn step(self: &Arc<Self>, core: &mut Core, event: Event) {
        if core.closed {
            return;
        }
        let now = clock::now();
        let before = core.machine.activity();
        let effects = core.machine.on(event, now);
        let after = core.machine.activity();
        let withdrawn = effects.iter().any(|effect| matches!(effect, Effect::Withdraw { .. }));
        let former = core.former_job.take_if(|_| !core.machine.may_withdraw()).filter(|_| withdrawn);
        let (job, other_job) = (Arc::clone(&core.job), core.other_job.clone());
        for _ in effects.iter().filter(|effect| matches!(effect, Effect::Adopt { .. })) {
            if let Some(other) = &mut core.other_job {
                std::mem::swap(&mut core.job, other);
            }
        }
        if !core.machine.is_upgrading() {
            core.other_job = None;
        }
        if let Some(former) = former {
            core.machine.replan(former.config.plan());
            core.job = former;
        }
        let snapshot = core.machine.snapshot();
        // Before the snapshot is published, so that a caller who reads a state finds it counted.
        self.counters.count(&effects, snapshot.total_restarts, now);
        self.publish(snapshot, core.job.id);
        self.context.activity_began(after.without(before));
        if effects.is_empty() {
            return;
        }
        let batch = Box::new(EffectBatch { effects, job, other_job, now, ended: before.without(after) });
        let batch = match &core.task {
            Some(task) => match task.send(batch) {
                Ok(()) => return,
                Err(refused) => refused.0,
            },
            None => batch,
        };
        match (self.spawn_task)(self, &self.context, &core.job) {
            Some(task) => {
                // The receiver exists: its task was spawned in the line above, and ends only after this sender.
                drop(task.send(batch));
                core.task = Some(task);
            }
            // Without a runtime no process was ever started, so all effects are answers.
            None => {
                batch.effects.into_iter().for_each(|effect| self.deliver(effect, now));
                self.context.activity_ended(batch.ended);
            }
        }
    }

    fn publish(&self, snapshot: Snapshot, job: Ticket) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if published.snapshot != snapshot || published.job != job {
            published.snapshot = snapshot;
            published.job = job;
            published.revision = revision();
            self.announce();
        }
    }

    /// The daemon's STATUS=. It decides nothing, so it does not pass through the machine.
    pub fn set_status(&self, status: Option<String>) {
        let status = status.filter(|status| !status.is_empty());
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if published.status != status {
            published.status = status;
            published.revision = revision();
            self.announce();
        }
    }

    fn announce(&self) {
        if self.context.announces() && !self.announced.swap(true, Ordering::AcqRel) {
            self.context.mailbox.post(Message::Published { plugin: self.name.clone() });
        }
    }

    /// The snapshot is about to be read: its next change is announced.
    pub fn was_shown(&self) {
        self.announced.store(false, Ordering::Release);
    }

    /// Carries out `Settle`, `Notify` and `Warn`, which need no task.
    pub fn deliver(&self, effect: Effect, now: Now) {
        match effect {
            Effect::Settle { ticket, outcome } => {
                let outcome = outcome.map_err(|failure| Refusal::new(self.name.clone(), failure));
                self.context.tickets.settle(ticket, outcome);
            }
            Effect::Notify(notice) => {
                let at = if let Notice::StateChanged { at, .. } = notice { at } else { now.wall };
                self.reporter.notice(notice, at);
            }
            Effect::Warn { failure } => log!(self.reporter, warn, %failure, "the restart waits for the end of the old tree"),
            _ => {}
        }
    }

    /// The task panicked: settles every waiting call. The next start spawns a new task.
    pub fn break_down(self: &Arc<Self>, message: String) {
        let mut core = self.lock();
        core.task = None;
        self.step(&mut core, Event::Faulted { message });
    }

    pub fn published(&self) -> Published {
        let (snapshot, revision, status, job) =
            self.read(|shown| (shown.snapshot.clone(), shown.revision, shown.status.clone(), shown.job));
        let uptime = snapshot.running_since.map(|since| clock::since(since).as_secs_f64() * 1e3);
        Published { snapshot, revision, uptime, job, status, sessions: None }
    }

    pub fn metrics(&self) -> PluginMetrics {
        PluginMetrics { check_quantiles: self.counters.check_quantiles(), ..self.metrics_without_quantiles() }
    }

    /// The quantiles sort the last durations, which the text of the metrics does not need.
    pub fn metrics_without_quantiles(&self) -> PluginMetrics {
        let (state, since) = self.peek(|snapshot| (snapshot.state, snapshot.running_since));
        let (resources, cpu_time) = self.counters.resources();
        PluginMetrics {
            plugin: self.name.clone(),
            shared: false,
            state,
            uptime: since.map(|since| clock::since(since).as_secs_f64() * 1e3),
            counts: self.counters.counts(),
            check_quantiles: None,
            output: self.tail.counts(),
            resources: resources.filter(|_| state == ProcessState::Running),
            cpu_time,
        }
    }

    /// Reads one value of the snapshot without a copy of the others.
    pub fn peek<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        self.read(|shown| read(&shown.snapshot))
    }

    pub fn revision(&self) -> u64 {
        self.read(|shown| shown.revision)
    }

    fn read<T>(&self, read: impl FnOnce(&Shown) -> T) -> T {
        read(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The task holds this lock from now on.
    pub fn remember_lock(&self, lock: &Arc<Lock>) {
        self.lock().lock = Arc::downgrade(lock);
    }

    /// Ends the task, which closes the stream to the keeper. The keeper then ends the tree.
    pub fn close(&self) {
        self.tail.close();
        let mut core = self.lock();
        core.closed = true;
        // If a worker was terminated, its process lives on, and the note would still name a live owner. Another start would
        // then fail with ERR_OWNED_ELSEWHERE and not wait for the tree. The note is cleared before the streams are closed, so
        // that no other owner finds a closed manager in it.
        if let Some(Err(error)) = core.lock.upgrade().map(|lock| lock.note(&LockNote::Nobody)) {
            log!(self.reporter, warn, %error, "a plugin's lock still names its owner");
        }
        core.task = None;
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new number at each call. If a plugin is forgotten and started again, a cached snapshot of it must not match.
fn revision() -> u64 {
    static REVISIONS: AtomicU64 = AtomicU64::new(1);
    REVISIONS.fetch_add(1, Ordering::Relaxed)
}
