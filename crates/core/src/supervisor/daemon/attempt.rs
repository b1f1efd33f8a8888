//! One attempt: the tasks, timers and streams of one try to run the daemon. An attempt is dropped as a whole.

use std::future::poll_fn;
use std::future::{Future, pending};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ally_base::os::{self, Process, Waiting};
use ally_base::record::Identity;
use ally_base::wire::KeeperReport;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::Job;
use super::socket_place::SocketPlace;
use super::timers::Timers;
use crate::error::Failure;
use crate::lifecycle::{Generation, Timer};
use crate::supervisor::guardian::{GuardianReceipt, KeeperStream, StreamEnd};
use crate::supervisor::metrics::TreeId;
use crate::supervisor::notify::{NotifySocket, Update};
use crate::supervisor::output::{LineMatch, LogWatch, OpenLog, Pumps};
use crate::supervisor::ownership::Lease;
use crate::supervisor::probe::{HealthCheck, ProbedDaemon, ReadinessStatus};
use crate::supervisor::runtime::{AbortOnDrop, Boxed};
use crate::supervisor::socket::{HeldListener, HeldSocket, IdleGuard, RetiredSocket, SocketFileId};

pub struct Attempt {
    pub generation: Generation,
    pub job: Arc<Job>,
    /// The same with the socket path that the daemon is told.
    told: Arc<Job>,
    /// Where the daemon makes its socket.
    pub place: SocketPlace,
    /// Whether clients find the socket of this attempt at `socketPath`.
    pub is_public: bool,
    /// In boxes, because a channel has room for 32 messages from the beginning.
    completions: (UnboundedSender<Box<Completion>>, UnboundedReceiver<Box<Completion>>),
    pub timers: Timers,
    /// The preparation. The task polls this future itself, so a drop releases the lock before the next effect.
    pub preparing: Option<Preparing>,
    /// The wait for the plugins that this one depends on. The preparation comes after it.
    pub awaiting_dependencies: Option<AbortOnDrop>,
    /// From the preparation until the spawn.
    pub log: Option<OpenLog>,
    pub process: Option<LaunchedProcess>,
    /// The file at `socketPath` before the spawn. Another one may be this daemon's, whatever it was told.
    pub former_file: Option<SocketFileId>,
    /// Of a daemon that a connection starts: who waited before the spawn.
    pub queue_before: Option<Waiting>,
    pub pumps: Option<Pumps>,
    /// From before the spawn until the tree is gone.
    pub log_watch: Option<LogWatch>,
    /// From before the spawn until the tree is gone, if a probe is `notify`.
    pub notify: Option<Arc<NotifySocket>>,
    pub awaiting_ready: Option<(AbortOnDrop, ReadinessStatus)>,
    /// The search of readiness `output`, from the spawn on.
    pub line_match: Option<Arc<LineMatch>>,
    pub checking: Option<AbortOnDrop>,
    pub watching: Option<AbortOnDrop>,
    pub sweeping: Option<Sweeping>,
    /// The wait for the reason why an order was lost.
    pub losing: Option<AbortOnDrop>,
    /// After an upgrade: the wait for the connections that this generation has not taken yet.
    pub draining: Option<AbortOnDrop>,
    /// The number of its process in the output of the plugin.
    pub output: u64,
    /// The identity of the leader, from the keeper's report on. It is recorded if the leader lived then.
    pub identity: Option<Identity>,
    /// The socket that the manager holds for this attempt, if it is not that of the attempt that serves.
    pub held: Option<HeldSocket>,
    /// After the change-over: the queue that the former generation works off.
    pub queue: Option<Queue>,
    /// Looks whether the daemon has connections.
    pub watching_idle: Option<IdleGuard>,
    /// The STATUS= of a successor, until it serves.
    pub status: Option<String>,
    /// From the spawn on.
    pub tree: Option<CountedTree>,
}

/// A tree in the metrics.
#[derive(Debug, Clone, Copy)]
pub struct CountedTree {
    pub id: TreeId,
    /// The monotonic time.
    pub spawned: Duration,
    /// How much of its CPU time is counted.
    pub counted: Duration,
}

pub type Preparing = Boxed<Result<Preparation, Failure>>;

/// A queue of connections that no further client reaches.
pub enum Queue {
    Retired(RetiredSocket),
    /// Of a socket that the daemon has made: the kernel's number of the socket.
    Own(u64),
}

impl Queue {
    fn watched(&self) -> DrainedQueue {
        match self {
            Self::Retired(socket) => DrainedQueue::Held(socket.listener()),
            Self::Own(socket) => DrainedQueue::Own(*socket),
        }
    }
}

/// The queue that is waited for.
pub enum DrainedQueue {
    Held(Arc<HeldListener>),
    Own(u64),
}

impl DrainedQueue {
    /// # Errors
    /// The kernel doesn't tell.
    pub fn length(&self) -> io::Result<u32> {
        match self {
            Self::Held(listener) => listener.waiting().map(|waiting| waiting.count),
            Self::Own(socket) => os::waiting_in(*socket),
        }
    }
}

/// What a preparation has obtained.
pub struct Preparation {
    /// `None` at a restart, which keeps the lease.
    pub lease: Option<Lease>,
    /// The log file, if the configuration names one.
    pub log: Option<OpenLog>,
    /// The socket that the manager holds for the daemon. `None` if there is none, or there was one before.
    pub held: Option<Box<HeldSocket>>,
}

/// The leader and its keeper.
pub struct LaunchedProcess {
    pub keeper: KeeperStream,
    /// `None` after the guardian has accepted the order, or is gone.
    pub order: Option<oneshot::Receiver<Result<GuardianReceipt, Failure>>>,
    pub receipt: Option<GuardianReceipt>,
    /// The paths that the keeper tries as the program. Empty after the spawn.
    pub programs: Vec<String>,
    /// The token of the attempt, for the record.
    pub token: String,
    /// `None` before the keeper's report `Spawned`.
    pub spawned: Option<ProbedDaemon>,
    /// The start time of the keeper, which distinguishes it from a later process with its pid.
    keeper_start: u64,
    pub leader_reaped: bool,
}

/// The sweep after a killed keeper.
pub struct Sweeping {
    /// A drop aborts the sweep.
    pub _sweep: AbortOnDrop,
    /// The identity of the leader. `None` if the boot could not be read.
    pub leader: Option<Identity>,
}

/// The result of a job that ran beside the task.
pub enum Completion {
    DependenciesRun(Result<(), Failure>),
    Ready(Result<(), Failure>),
    /// The daemon was told another path, and has made its socket at `socketPath` all the same.
    ReadyInPublic,
    Checked(HealthCheck),
    Swept,
    OrderLost(Failure),
    /// The memory, in bytes.
    MemoryExceeded(u64),
    /// The number of connections that were not taken in time.
    Drained(u32),
    Idle,
}

pub enum AttemptEvent {
    Prepared(Result<Preparation, Failure>),
    Ordered(Result<GuardianReceipt, Failure>),
    /// `None`: the keeper is gone.
    Reported(Option<KeeperReport>),
    Completed(Completion),
    Notified(Update),
    Elapsed(Timer),
}

impl Attempt {
    pub fn new(generation: Generation, job: Arc<Job>, place: SocketPlace) -> Self {
        let told = place.tell(&job);
        Self {
            generation,
            job,
            told,
            is_public: place.is_public(),
            place,
            output: 0,
            identity: None,
            held: None,
            queue: None,
            watching_idle: None,
            status: None,
            tree: None,
            completions: mpsc::unbounded_channel(),
            timers: Timers::default(),
            preparing: None,
            awaiting_dependencies: None,
            log: None,
            process: None,
            former_file: None,
            queue_before: None,
            pumps: None,
            log_watch: None,
            notify: None,
            awaiting_ready: None,
            line_match: None,
            checking: None,
            watching: None,
            sweeping: None,
            losing: None,
            draining: None,
        }
    }

    pub fn cancel_preparation(&mut self) {
        self.preparing = None;
        self.awaiting_dependencies = None;
    }

    pub fn stop_awaiting(&mut self) {
        self.awaiting_ready = None;
        if let Some(line_match) = self.line_match.take() {
            line_match.close();
        }
    }

    /// The next event of one of the attempts. Without an attempt, waits for ever. Cancel-safe: a dropped future loses no event.
    pub async fn next(attempts: &mut [Self]) -> (Generation, AttemptEvent) {
        match attempts {
            [] => pending().await,
            [one] => one.next_event().await,
            // During an upgrade.
            [one, other] => tokio::select! {
                event = one.next_event() => event,
                event = other.next_event() => event,
            },
            // And beside it a generation that is over, and whose keeper or guardian is not.
            all => {
                let mut events: Vec<_> = all.iter_mut().map(|attempt| Box::pin(attempt.next_event())).collect();
                poll_fn(|context| {
                    let next = events.iter_mut().map(|event| event.as_mut().poll(context)).find(Poll::is_ready);
                    next.unwrap_or(Poll::Pending)
                })
                .await
            }
        }
    }

    async fn next_event(&mut self) -> (Generation, AttemptEvent) {
        let event = tokio::select! {
            biased;
            event = LaunchedProcess::next(&mut self.process) => event,
            lease = next_or_pending(&mut self.preparing) => AttemptEvent::Prepared(lease),
            // Before the completions: what the daemon said with READY=1 or before it is known when the start is ready.
            update = NotifySocket::next(self.notify.as_ref()) => AttemptEvent::Notified(update),
            Some(completion) = self.completions.1.recv() => AttemptEvent::Completed(*completion),
            timer = self.timers.next() => AttemptEvent::Elapsed(timer),
        };
        (self.generation, event)
    }

    /// The configuration with the path at which this attempt's socket is.
    const fn reachable(&self) -> &Arc<Job> {
        if self.is_public { &self.job } else { &self.told }
    }

    /// Where the probes find the socket of this attempt.
    pub fn probed_path(&self) -> PathBuf {
        match &self.held {
            Some(held) => held.bound_path(),
            None => self.reachable().config.socket_path.clone(),
        }
    }

    /// What this attempt works off after the change-over.
    pub fn drained_queue(&self) -> Option<DrainedQueue> {
        let held = self.held.as_ref().map(|held| DrainedQueue::Held(Arc::clone(held.listener())));
        held.or_else(|| self.queue.as_ref().map(Queue::watched))
    }

    /// What the daemon is told.
    pub const fn told(&self) -> &Arc<Job> {
        &self.told
    }

    /// Whether the leader lives, as far as is known.
    pub fn has_leader(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.spawned.is_some() && !process.leader_reaped)
    }

    /// Whether a process of the attempt may live.
    pub const fn has_tree(&self) -> bool {
        self.process.is_some() || self.sweeping.is_some() || self.losing.is_some()
    }

    /// A function that reports one completion to this attempt. If the attempt is over by then, the completion is dropped.
    pub fn completion(&self) -> impl FnOnce(Completion) + Send + 'static {
        let completions = self.completions.0.clone();
        move |completion| drop(completions.send(Box::new(completion)))
    }

    /// The tree is gone, or there is none.
    pub fn end_notifications(&mut self) {
        if let Some(notify) = self.notify.take() {
            notify.remove();
        }
    }

    /// The pids of leader and keeper, after the report `Spawned`.
    pub fn spawned(&self) -> Option<&ProbedDaemon> {
        self.process.as_ref()?.spawned.as_ref()
    }
}

impl LaunchedProcess {
    pub fn new(
        keeper: KeeperStream,
        order: oneshot::Receiver<Result<GuardianReceipt, Failure>>,
        programs: Vec<String>,
        token: String,
    ) -> Self {
        Self { keeper, order: Some(order), receipt: None, programs, token, spawned: None, keeper_start: 0, leader_reaped: false }
    }

    pub fn set_spawned(&mut self, spawned: ProbedDaemon, keeper_start: u64) {
        self.programs = Vec::new();
        self.spawned = Some(spawned);
        self.keeper_start = keeper_start;
    }

    /// The process of the keeper. `None` before the report `Spawned`, and after the keeper's end.
    ///
    /// # Errors
    /// A file of /proc can't be read.
    pub fn keeper_process(&self) -> io::Result<Option<Process>> {
        let Some(spawned) = &self.spawned else { return Ok(None) };
        Ok(os::identify(spawned.keeper)?.filter(|process| process.start == self.keeper_start))
    }

    /// The receipt is returned before the end of the keeper's stream.
    async fn next(process: &mut Option<Self>) -> AttemptEvent {
        let Some(process) = process else { return pending().await };
        let Some(order) = &mut process.order else { return AttemptEvent::Reported(process.keeper.next().await.ok()) };
        let ordered = tokio::select! {
            biased;
            ordered = &mut *order => ordered,
            report = process.keeper.next() => match report {
                Ok(report) => return AttemptEvent::Reported(Some(report)),
                // The end of the stream is read again after the receipt, which may have the reason.
                Err(StreamEnd::Closed) => order.await,
                // A guardian that never accepts the order must not hold up the attempt.
                Err(StreamEnd::Malformed) => return AttemptEvent::Reported(None),
            },
        };
        process.order = None;
        AttemptEvent::Ordered(ordered.unwrap_or_else(|_| Err(Failure::Internal { problem: "an order was dropped".to_owned() })))
    }
}

async fn next_or_pending<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
