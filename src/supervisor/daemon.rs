//! One plugin's daemon as the manager knows it: its machine, and what the getters read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{mpsc, watch};

use super::TARGET;
use super::announce::announce;
use super::clock;
use super::files::{Lock, LockNote};
use super::mailbox::Refusal;
use super::output::{Audience, Tail};
use super::shared::Shared;
use crate::config::ProcessConfig;
use crate::lifecycle::{Effect, Event, Machine, Now, Snapshot, Ticket};

/// A configuration and what the start captured with it; restarts use the same.
#[derive(Debug)]
pub struct Job {
    pub config: ProcessConfig,
    /// The caller's environment at the start: KEY=VALUE, a NUL behind each.
    pub inherited: Arc<str>,
}

/// What one step of the machine asks for.
pub struct Work {
    pub effects: Vec<Effect>,
    pub job: Arc<Job>,
    pub now: Now,
    /// Whether the daemon comes to rest with this.
    pub rested: bool,
}

/// Makes the task that carries work out; `None` without a runtime.
pub type Hire = fn(&Arc<Daemon>, &Arc<Shared>, &Arc<Job>) -> Option<mpsc::UnboundedSender<Work>>;

/// What the getters read, without waiting for anyone.
#[derive(Debug, Clone)]
pub struct Published {
    pub snapshot: Snapshot,
    /// Another one whenever the snapshot is another, of any daemon.
    pub revision: u64,
    /// Milliseconds since RUNNING.
    pub uptime: Option<f64>,
}

struct Core {
    machine: Machine,
    job: Arc<Job>,
    /// The task that carries out effects; `None` before the first and after a breakdown.
    task: Option<mpsc::UnboundedSender<Work>>,
    closed: bool,
    /// The plugin's lock, while the task has it.
    lock: Weak<Lock>,
}

pub struct Daemon {
    pub name: String,
    pub tail: Arc<Tail>,
    shared: Arc<Shared>,
    hire: Hire,
    /// Held for one step of the machine, never across an await.
    core: Mutex<Core>,
    published: watch::Sender<(Snapshot, u64)>,
}

impl Daemon {
    pub fn new(job: Job, shared: Arc<Shared>, seed: u64, hire: Hire) -> Arc<Self> {
        let machine = Machine::new(job.config.plan(), clock::now(), seed);
        let published = watch::Sender::new((machine.snapshot(), revision()));
        let name = job.config.plugin_name.clone();
        let core = Core { machine, job: Arc::new(job), task: None, closed: false, lock: Weak::new() };
        Arc::new(Self { name, tail: Arc::default(), shared, hire, core: Mutex::new(core), published })
    }

    /// Starts with this configuration, if nothing is going on. Says whether the configuration was taken.
    pub fn start(self: &Arc<Self>, ticket: Ticket, job: Job) -> bool {
        let mut core = self.lock();
        let taken = core.machine.phase().at_rest();
        if taken {
            core.machine.replan(job.config.plan());
            core.job = Arc::new(job);
        }
        self.step(&mut core, Event::StartRequested { ticket });
        taken
    }

    /// Tells the machine what happened, publishes what came of it, and hands on what is to be done.
    pub fn feed(self: &Arc<Self>, event: Event) {
        self.step(&mut self.lock(), event);
    }

    fn step(self: &Arc<Self>, core: &mut Core, event: Event) {
        if core.closed {
            return;
        }
        let now = clock::now();
        let effects = core.machine.on(event, now);
        let snapshot = core.machine.snapshot();
        let active = snapshot.active;
        let mut was_active = active;
        self.published.send_if_modified(|(published, number)| {
            was_active = published.active;
            let modified = *published != snapshot;
            if modified {
                (*published, *number) = (snapshot, revision());
            }
            modified
        });
        let changed = was_active != active;
        if changed && active {
            self.shared.activity_changed(true);
        }
        if effects.is_empty() {
            return;
        }
        // Told when all else has been: then the program may end.
        let rested = changed && !active;
        let work = Work { effects, job: Arc::clone(&core.job), now, rested };
        let work = match &core.task {
            Some(task) => match task.send(work) {
                Ok(()) => return,
                Err(refused) => refused.0,
            },
            None => work,
        };
        match (self.hire)(self, &self.shared, &core.job) {
            Some(task) => {
                // The receiver was made a moment ago and lives in a task that can't have ended.
                drop(task.send(work));
                core.task = Some(task);
            }
            // Without a runtime nothing was ever started; there are only answers to give.
            None => {
                work.effects.into_iter().for_each(|effect| self.tell(effect, now));
                if rested {
                    self.shared.activity_changed(false);
                }
            }
        }
    }

    /// Carries out what needs no hands. The rest is for the task.
    pub fn tell(&self, effect: Effect, now: Now) {
        match effect {
            Effect::Settle { ticket, outcome } => {
                let outcome = outcome.map_err(|failure| Refusal::new(self.name.clone(), failure));
                self.shared.settle(ticket, outcome);
            }
            Effect::Notify(notice) => announce(&self.shared, &self.name, notice, now.wall),
            _ => {}
        }
    }

    /// The task broke down: whoever waits is told, and the next start makes a new one.
    pub fn break_down(self: &Arc<Self>, message: String) {
        let mut core = self.lock();
        core.task = None;
        self.step(&mut core, Event::Faulted { message });
    }

    pub fn published(&self) -> Published {
        let (snapshot, revision) = self.published.borrow().clone();
        let uptime = snapshot.running_since.map(|since| clock::since(since).as_secs_f64() * 1e3);
        Published { snapshot, revision, uptime }
    }

    /// Reads one thing of what is published, without copying the rest.
    pub fn peek<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        read(&self.published.borrow().0)
    }

    pub fn revision(&self) -> u64 {
        self.published.borrow().1
    }

    pub fn audience(&self) -> Arc<Audience> {
        Arc::new(Audience {
            plugin: self.name.clone(),
            manager: self.shared.id,
            mailbox: Arc::clone(&self.shared.mailbox),
            listeners: Arc::clone(&self.shared.listeners),
        })
    }

    pub fn hold(&self, lock: &Arc<Lock>) {
        self.lock().lock = Arc::downgrade(lock);
    }

    /// Lets go of everything: the task ends, and with its end of the stream the keeper ends the tree.
    pub fn close(&self) {
        let mut core = self.lock();
        core.closed = true;
        // Before anyone can know that this manager is gone: where its process lives on (a worker ended), nothing
        // else tells others that the tree is on its way out and worth waiting for.
        if let Some(Err(error)) = core.lock.upgrade().map(|lock| lock.note(&LockNote::Nobody)) {
            tracing::warn!(target: TARGET, manager = self.shared.id, plugin = self.name, %error, "a plugin's lock still names its owner");
        }
        core.task = None;
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never the same twice, so that a name that was forgotten and came back isn't taken for what it was.
fn revision() -> u64 {
    static REVISIONS: AtomicU64 = AtomicU64::new(1);
    REVISIONS.fetch_add(1, Ordering::Relaxed)
}
