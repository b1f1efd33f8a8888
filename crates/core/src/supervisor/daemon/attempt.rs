//! One attempt: the tasks, timers and streams of one try to run the daemon. An attempt is dropped as a whole.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use ally_base::os::{self, Process};
use ally_base::record::Identity;
use ally_base::wire::KeeperReport;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::timers::Timers;
use crate::error::Failure;
use crate::lifecycle::{Generation, Timer};
use crate::supervisor::guardian::{GuardianReceipt, KeeperStream, StreamEnd};
use crate::supervisor::notify::{NotifySocket, Update};
use crate::supervisor::output::{LineMatch, OpenLog, Pumps};
use crate::supervisor::ownership::Lease;
use crate::supervisor::probe::{HealthCheck, ProbedDaemon, ReadinessStatus};
use crate::supervisor::runtime::AbortOnDrop;
use crate::supervisor::socket::HeldSocket;

pub struct Attempt {
    pub generation: Generation,
    completions: (UnboundedSender<Completion>, UnboundedReceiver<Completion>),
    pub timers: Timers,
    /// The preparation. The task polls this future itself, so a drop releases the lock before the next effect.
    pub preparing: Option<Preparing>,
    /// The wait for the plugins that this one depends on. The preparation comes after it.
    pub awaiting_dependencies: Option<AbortOnDrop>,
    /// From the preparation until the spawn.
    pub log: Option<OpenLog>,
    pub process: Option<LaunchedProcess>,
    pub pumps: Option<Pumps>,
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
}

pub type Preparing = Pin<Box<dyn Future<Output = Result<Preparation, Failure>> + Send>>;

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
    /// The recorded identity of the leader.
    pub identity: Option<Identity>,
    pub leader_reaped: bool,
}

/// The sweep after a killed keeper.
pub struct Sweeping {
    /// A drop aborts the sweep.
    pub _sweep: AbortOnDrop,
    /// The recorded identity of the leader, if there is one.
    pub leader: Option<Identity>,
}

/// The result of a job that ran beside the task.
pub enum Completion {
    DependenciesRun(Result<(), Failure>),
    Ready(Result<(), Failure>),
    Checked(HealthCheck),
    Swept,
    OrderLost(Failure),
    /// The memory, in bytes.
    MemoryExceeded(u64),
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
    pub fn new(generation: Generation) -> Self {
        Self {
            generation,
            completions: mpsc::unbounded_channel(),
            timers: Timers::default(),
            preparing: None,
            awaiting_dependencies: None,
            log: None,
            process: None,
            pumps: None,
            notify: None,
            awaiting_ready: None,
            line_match: None,
            checking: None,
            watching: None,
            sweeping: None,
            losing: None,
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

    /// The next event of the attempt. Without an attempt, waits for ever. Cancel-safe: a dropped future loses no event.
    pub async fn next(attempt: &mut Option<Self>) -> (Generation, AttemptEvent) {
        let Some(attempt) = attempt else { return pending().await };
        let event = tokio::select! {
            biased;
            event = LaunchedProcess::next(&mut attempt.process) => event,
            lease = next_or_pending(&mut attempt.preparing) => AttemptEvent::Prepared(lease),
            Some(completion) = attempt.completions.1.recv() => AttemptEvent::Completed(completion),
            update = NotifySocket::next(attempt.notify.as_ref()) => AttemptEvent::Notified(update),
            timer = attempt.timers.next() => AttemptEvent::Elapsed(timer),
        };
        (attempt.generation, event)
    }

    /// A function that reports one completion to this attempt. If the attempt is over by then, the completion is dropped.
    pub fn completion(&self) -> impl FnOnce(Completion) + Send + 'static {
        let completions = self.completions.0.clone();
        move |completion| drop(completions.send(completion))
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
        Self {
            keeper,
            order: Some(order),
            receipt: None,
            programs,
            token,
            spawned: None,
            keeper_start: 0,
            identity: None,
            leader_reaped: false,
        }
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
