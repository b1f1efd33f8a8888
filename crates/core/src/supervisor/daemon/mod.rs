//! One plugin's daemon as its manager knows it: its machine, and the snapshot that the getters read.
//!
//! - `task`: carries out the machine's effects (`effects`) and feeds back what happens (`reports`);
//! - `attempt`: what belongs to one try to run the daemon, timers (`timers`) included.

mod attempt;
mod effects;
mod reports;
mod task;
mod timers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use ally_base::record::LockNote;
use tokio::sync::mpsc;

use super::manager::ManagerContext;
use super::output::Tail;
use super::ownership::Lock;
use super::report::{Refusal, Reporter, log};
use super::runtime::clock;
use crate::config::ProcessConfig;
use crate::lifecycle::{Activity, Effect, Event, Machine, Now, Snapshot, Ticket};

pub use task::Task;

/// A configuration and what the start captured with it; restarts use the same.
#[derive(Debug)]
pub struct Job {
    pub config: ProcessConfig,
    /// The caller's environment at the start: KEY=VALUE, a NUL behind each.
    pub inherited: Arc<str>,
}

/// The effects of one step of the machine, for the task.
pub struct EffectBatch {
    pub effects: Vec<Effect>,
    pub job: Arc<Job>,
    pub now: Now,
    /// What of the daemon's activity ended with this step. Reported after the effects: the process may exit as soon as it
    /// hears it.
    pub ended: Activity,
}

/// Spawns the task that carries out effects; `None` without a runtime.
pub type SpawnTask = fn(&Arc<Daemon>, &Arc<ManagerContext>, &Arc<Job>) -> Option<mpsc::UnboundedSender<EffectBatch>>;

/// What the getters read, without waiting for another thread.
#[derive(Debug, Clone)]
pub struct Published {
    pub snapshot: Snapshot,
    /// Version of the snapshot; no two snapshots of any daemons have the same.
    pub revision: u64,
    /// Milliseconds since RUNNING.
    pub uptime: Option<f64>,
}

struct Core {
    machine: Machine,
    job: Arc<Job>,
    /// The task that carries out effects; `None` before the first and after a breakdown.
    task: Option<mpsc::UnboundedSender<EffectBatch>>,
    closed: bool,
    /// The plugin's lock, while the task has it.
    lock: Weak<Lock>,
}

pub struct Daemon {
    pub name: String,
    pub tail: Arc<Tail>,
    pub reporter: Reporter,
    context: Arc<ManagerContext>,
    spawn_task: SpawnTask,
    /// Locked for one step of the machine, never across an await.
    core: Mutex<Core>,
    published: RwLock<(Snapshot, u64)>,
}

impl Daemon {
    pub fn new(job: Job, context: Arc<ManagerContext>, seed: u64, spawn_task: SpawnTask) -> Arc<Self> {
        let machine = Machine::new(job.config.plan(), clock::now(), seed);
        let published = RwLock::new((machine.snapshot(), revision()));
        let name = job.config.plugin_name.clone();
        let reporter = context.reporter(&name);
        let core = Core { machine, job: Arc::new(job), task: None, closed: false, lock: Weak::new() };
        Arc::new(Self { name, tail: Arc::default(), reporter, context, spawn_task, core: Mutex::new(core), published })
    }

    /// Starts with this configuration, if the daemon is at rest. Returns whether the configuration was accepted.
    pub fn start(self: &Arc<Self>, ticket: Ticket, job: Job) -> bool {
        let mut core = self.lock();
        let accepted = core.machine.replan(job.config.plan());
        if accepted {
            core.job = Arc::new(job);
        }
        self.step(&mut core, Event::StartRequested { ticket });
        accepted
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
        self.publish(core.machine.snapshot());
        self.context.activity_began(after.without(before));
        if effects.is_empty() {
            return;
        }
        let batch = EffectBatch { effects, job: Arc::clone(&core.job), now, ended: before.without(after) };
        let batch = match &core.task {
            Some(task) => match task.send(batch) {
                Ok(()) => return,
                Err(refused) => refused.0,
            },
            None => batch,
        };
        match (self.spawn_task)(self, &self.context, &core.job) {
            Some(task) => {
                // The receiver was made a moment ago, in a task that has not ended yet.
                drop(task.send(batch));
                core.task = Some(task);
            }
            // Without a runtime no process was ever started; the effects are answers.
            None => {
                batch.effects.into_iter().for_each(|effect| self.deliver(effect, now));
                self.context.activity_ended(batch.ended);
            }
        }
    }

    fn publish(&self, snapshot: Snapshot) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if published.0 != snapshot {
            *published = (snapshot, revision());
        }
    }

    /// Carries out an effect that only reports. The others are the task's.
    pub fn deliver(&self, effect: Effect, now: Now) {
        match effect {
            Effect::Settle { ticket, outcome } => {
                let outcome = outcome.map_err(|failure| Refusal::new(self.name.clone(), failure));
                self.context.tickets.settle(ticket, outcome);
            }
            Effect::Notify(notice) => self.reporter.notice(notice, now.wall),
            _ => {}
        }
    }

    /// The task broke down: every waiting call is answered, and the next start spawns a new task.
    pub fn break_down(self: &Arc<Self>, message: String) {
        let mut core = self.lock();
        core.task = None;
        self.step(&mut core, Event::Faulted { message });
    }

    pub fn published(&self) -> Published {
        let (snapshot, revision) = self.read(Clone::clone);
        let uptime = snapshot.running_since.map(|since| clock::since(since).as_secs_f64() * 1e3);
        Published { snapshot, revision, uptime }
    }

    /// Reads one value of the snapshot, without a copy of the rest.
    pub fn peek<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        self.read(|(snapshot, _)| read(snapshot))
    }

    pub fn revision(&self) -> u64 {
        self.read(|(_, revision)| *revision)
    }

    fn read<T>(&self, read: impl FnOnce(&(Snapshot, u64)) -> T) -> T {
        read(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The task has the plugin's lock from now on.
    pub fn remember_lock(&self, lock: &Arc<Lock>) {
        self.lock().lock = Arc::downgrade(lock);
    }

    /// Ends the task. With the task's end of its stream closed, the keeper ends the tree.
    pub fn close(&self) {
        let mut core = self.lock();
        core.closed = true;
        // If only a worker has ended, its process lives on: without this, other owners would take this one for alive, and not
        // wait for its tree. Before the streams are closed, so that no owner can see a closed manager with a live note.
        if let Some(Err(error)) = core.lock.upgrade().map(|lock| lock.note(&LockNote::Nobody)) {
            log!(self.reporter, warn, %error, "a plugin's lock still names its owner");
        }
        core.task = None;
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never the same twice: a plugin that was forgotten and started again must not be taken for unchanged.
fn revision() -> u64 {
    static REVISIONS: AtomicU64 = AtomicU64::new(1);
    REVISIONS.fetch_add(1, Ordering::Relaxed)
}
