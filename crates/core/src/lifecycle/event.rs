//! What the machine hears (past tense) and what it asks for (imperative).

use core::time::Duration;

use super::phase::{Generation, Ticket};
use crate::error::Failure;
use crate::model::{Exit, ExitReason, Pid, ProcessState};

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    StartRequested {
        ticket: Ticket,
    },
    /// The caller of this start lost interest.
    StartAborted {
        ticket: Ticket,
    },
    StopRequested {
        ticket: Ticket,
    },
    RestartRequested {
        ticket: Ticket,
    },
    /// A stop, after which nothing starts any more.
    ShutdownRequested {
        ticket: Ticket,
    },

    Prepared {
        generation: Generation,
    },
    PrepareFailed {
        generation: Generation,
        failure: Failure,
    },
    /// Who it is has been written down before anybody can learn the pid; where it could not be, `RecordFailed` follows.
    Spawned {
        generation: Generation,
        pid: Pid,
    },
    SpawnFailed {
        generation: Generation,
        failure: Failure,
    },
    /// The guardian is gone, and whether it ever looked at the order can't be known; no process came of it.
    OrderLost {
        generation: Generation,
    },
    /// The pid file or the identity could not be written.
    RecordFailed {
        generation: Generation,
        failure: Failure,
    },
    Ready {
        generation: Generation,
    },
    /// Readiness can't come any more: somebody else answers.
    NotReady {
        generation: Generation,
        failure: Failure,
    },
    /// The leader was reaped. `remains`: others of its tree are left. `tail`: its last lines. `leftover_file`: as with `TreeGone`.
    Exited {
        generation: Generation,
        exit: Exit,
        remains: bool,
        tail: String,
        leftover_file: Option<Failure>,
    },
    /// Nothing of it is left. Its files were removed before this is told; `leftover_file`: why one of them could not be.
    TreeGone {
        generation: Generation,
        leftover_file: Option<Failure>,
    },
    ProbePassed {
        generation: Generation,
        latency: Duration,
    },
    ProbeFailed {
        generation: Generation,
        latency: Duration,
        error: String,
    },

    /// `seen`: why it was not taken for ready at the last look, if there was one.
    StartupElapsed {
        generation: Generation,
        seen: Option<String>,
        tail: String,
    },
    GraceElapsed {
        generation: Generation,
    },
    /// Time is up for what SIGKILL should have ended. `survivors`: what is left.
    KillElapsed {
        generation: Generation,
        survivors: Vec<Pid>,
    },
    BackoffElapsed {
        generation: Generation,
    },
    ProbeDue {
        generation: Generation,
    },

    /// The task that carries out the effects broke down.
    Faulted {
        message: String,
    },
}

impl Event {
    /// `None` for what concerns the daemon whatever its generation.
    pub const fn generation(&self) -> Option<Generation> {
        match self {
            Self::StartRequested { .. }
            | Self::StartAborted { .. }
            | Self::StopRequested { .. }
            | Self::RestartRequested { .. }
            | Self::ShutdownRequested { .. }
            | Self::Faulted { .. } => None,
            Self::Prepared { generation }
            | Self::PrepareFailed { generation, .. }
            | Self::Spawned { generation, .. }
            | Self::SpawnFailed { generation, .. }
            | Self::OrderLost { generation }
            | Self::RecordFailed { generation, .. }
            | Self::Ready { generation }
            | Self::NotReady { generation, .. }
            | Self::Exited { generation, .. }
            | Self::TreeGone { generation, .. }
            | Self::ProbePassed { generation, .. }
            | Self::ProbeFailed { generation, .. }
            | Self::StartupElapsed { generation, .. }
            | Self::GraceElapsed { generation }
            | Self::KillElapsed { generation, .. }
            | Self::BackoffElapsed { generation }
            | Self::ProbeDue { generation } => Some(*generation),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    Startup,
    Grace,
    Kill,
    Backoff,
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// The configured stop signal, then SIGCONT.
    Terminate,
    Kill,
}

/// Each but the answers and notices names the attempt that it is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Prepare {
        generation: Generation,
    },
    CancelPrepare {
        generation: Generation,
    },
    Spawn {
        generation: Generation,
    },
    AwaitReady {
        generation: Generation,
    },
    StopAwaiting {
        generation: Generation,
    },
    Signal {
        generation: Generation,
        signal: Signal,
    },
    StartProbe {
        generation: Generation,
    },
    StopProbe {
        generation: Generation,
    },
    Arm {
        timer: Timer,
        generation: Generation,
        after: Duration,
    },
    Disarm {
        timer: Timer,
        generation: Generation,
    },
    /// The attempt is over: give up the plugin's name, so that another owner can start it.
    Release {
        generation: Generation,
    },
    /// Drop the attempt as it is; the keeper ends the tree.
    Abandon {
        generation: Generation,
    },
    Settle {
        ticket: Ticket,
        outcome: Result<(), Failure>,
    },
    Notify(Notice),
}

/// What listeners and the logger are told.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// `from` is missing where it was never started before.
    StateChanged {
        from: Option<ProcessState>,
        to: ProcessState,
        pid: Option<Pid>,
        reason: Option<String>,
    },
    Spawned {
        pid: Pid,
    },
    Exited {
        pid: Pid,
        exit: Exit,
        reason: ExitReason,
    },
    RestartScheduled {
        attempt: u32,
        delay: Duration,
        reason: ExitReason,
    },
    Checked {
        healthy: bool,
        latency: Duration,
        failures: u32,
        error: Option<String>,
    },
}
