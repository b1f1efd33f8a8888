//! The phases of the machine, and their mapping to the five public states.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::lifecycle::restart::History;
use crate::model::{Exit, ExitReason, ExitUsage, Pid, ProcessState};

/// The number of an attempt. The machine drops events of older attempts.
pub type Generation = u64;
/// A caller's claim to an answer.
pub type Ticket = u64;

/// The time of an event. `mono` is for measuring, and stands still while the computer is suspended. `wall` (milliseconds
/// since 1970) is only for display.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    pub mono: Duration,
    pub wall: f64,
}

/// The reason of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Run {
    /// A start or restart by a caller. A failure settles the caller's ticket, and is not retried.
    Requested(Ticket),
    /// A restart by the restart policy. A failure counts as an attempt, and leads to the next one.
    Restart,
    /// The first connection to an armed socket. As above.
    Connection,
    /// An upgrade that has stopped the old generation. After a failure the old generation is started again.
    Upgrade(Ticket),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leader {
    /// The order was given, and the keeper has not reported a process yet.
    Pending,
    Alive(Pid),
    /// The leader was reaped. Other processes of the tree may live.
    Exited,
    /// Every process of the tree is gone. The stop waits for the tree of another generation.
    Gone,
}

/// The answer of the keeper to the last command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acknowledgement {
    /// The keeper has carried the command out, or has no command. No answer is expected of a keeper that was killed.
    Done,
    Pending,
    /// The keeper did not answer in time, and got SIGCONT.
    Late,
}

/// A tree that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeState {
    pub leader: Leader,
    /// Whether SIGKILL was sent, after the grace period.
    pub killed: bool,
    pub acknowledgement: Acknowledgement,
}

impl TreeState {
    pub const GONE: Self = Self { leader: Leader::Gone, killed: false, acknowledgement: Acknowledgement::Done };

    pub const fn is_gone(self) -> bool {
        matches!(self.leader, Leader::Gone)
    }

    /// Whether the daemon may ask for a longer grace period.
    pub const fn is_extensible(self) -> bool {
        !self.killed && !matches!(self.leader, Leader::Pending | Leader::Gone)
    }

    pub const fn pid(self) -> Option<Pid> {
        match self.leader {
            Leader::Alive(pid) => Some(pid),
            Leader::Pending | Leader::Exited | Leader::Gone => None,
        }
    }
}

/// What is left of a daemon that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// A tree that is not being stopped yet, with this leader.
    Tree(Leader),
    Stopping(TreeState),
}

impl From<TreeState> for Left {
    fn from(tree: TreeState) -> Self {
        Self::Stopping(tree)
    }
}

/// The reason of a stop.
#[derive(Debug, Clone, PartialEq)]
pub enum StopFor {
    /// stopProcess or stopAllProcesses.
    Caller,
    /// The leader exited with code 0, and `restart.on` is 'failure'.
    CleanExit,
    /// A start failed, or no restart attempt is left. `state`: the public state until the tree is gone, STARTING for a
    /// failed start and STOPPING otherwise. `reason`: the reason of the leader's exit, if the leader still lives.
    Failure { failure: Failure, state: ProcessState, reason: ExitReason },
    /// A running daemon failed its health checks, or used too much memory. The restart waits until `due` and until the tree is
    /// gone.
    Replacement { due: Duration, reason: ExitReason },
    /// restartProcess.
    Restart(Ticket),
    /// An upgrade in which the new generation can't run beside the old one.
    Upgrade(Ticket),
    /// The new generation of such an upgrade has failed.
    Rollback { ticket: Ticket, failure: Failure },
    /// The daemon is armed again when its tree is gone: it had no connection for `idleTimeout` (`Idle`), or it ended by itself.
    Rearm(ExitReason),
}

/// How the leader of a daemon ended without a stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub reason: ExitReason,
    pub failure: Failure,
    /// By the restart policy this is no failure, and the end of the daemon.
    pub clean: bool,
    /// A connection was open, or waited.
    pub connected: bool,
}

/// What a start changes. If another owner has the name, the start changes nothing, and this is restored.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    /// Stopped or Failed.
    pub phase: Phase,
    pub attempts: u32,
    pub history: History,
    pub failed_checks: u32,
    pub last_state_change: f64,
    pub started: Option<Ticket>,
}

/// The phase of a daemon. Only phases with a process hold a pid.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Never started, or stopped. There is no process.
    Stopped,
    /// Given up. There is no process.
    Failed,
    /// As Preparing, of a daemon that starts at the first connection.
    Arming {
        ticket: Ticket,
        rest: Option<Box<Rest>>,
    },
    /// The socket listens, and the first connection starts the daemon. There is no process.
    Armed,
    /// Given up while processes live that SIGKILL did not end in time.
    Stuck {
        tree: TreeState,
    },
    /// The supervisor takes the lock, stops orphans and removes a dead socket. `rest`: what a start from rest found. Until this
    /// owner has the name, no listener knows of the start.
    Preparing {
        run: Run,
        rest: Option<Box<Rest>>,
    },
    /// The order was given to the guardian. `orders`: how often; more than once if the guardian was killed.
    Spawning {
        run: Run,
        orders: u32,
    },
    /// The leader lives, and is not ready.
    Booting {
        run: Run,
        pid: Pid,
    },
    Running {
        pid: Pid,
        since: Duration,
    },
    /// Running, and without a connection for `idleTimeout`. The tree is suspended for a last look at its connections.
    Freezing {
        pid: Pid,
        since: Duration,
        acknowledgement: Acknowledgement,
    },
    /// Running, while its successor starts. Nothing is checked.
    Upgrading {
        pid: Pid,
        since: Duration,
    },
    /// The daemon ended while its successor starts. `tree`: what is left.
    AwaitingSuccessor {
        tree: Option<TreeState>,
        ended: Box<Ended>,
    },
    Stopping {
        tree: TreeState,
        stop_for: StopFor,
    },
    /// A restart is pending. It waits until its delay is over (`waited`) and until the old tree is gone (`tree` is `None`).
    BackingOff {
        tree: Option<TreeState>,
        waited: bool,
    },
    /// A restart is pending, and SIGKILL did not end the old tree in time. The restart goes on when the tree is gone and its
    /// delay is over (`waited`). `reason`: the reason of the leader's exit, if the leader still lives.
    Overdue {
        leader: Leader,
        waited: bool,
        reason: ExitReason,
    },
}

impl Phase {
    /// The public state of this phase.
    pub const fn state(&self) -> ProcessState {
        match self {
            Self::Stopped | Self::Arming { .. } | Self::Armed => ProcessState::Stopped,
            Self::Failed | Self::Stuck { .. } => ProcessState::Error,
            Self::Preparing { .. }
            | Self::Spawning { .. }
            | Self::Booting { .. }
            | Self::AwaitingSuccessor { .. }
            | Self::BackingOff { .. }
            | Self::Overdue { .. } => ProcessState::Starting,
            Self::Running { .. } | Self::Freezing { .. } | Self::Upgrading { .. } => ProcessState::Running,
            Self::Stopping { stop_for, .. } => match stop_for {
                StopFor::Failure { state, .. } => *state,
                StopFor::Rollback { .. } => ProcessState::Starting,
                StopFor::Caller
                | StopFor::CleanExit
                | StopFor::Replacement { .. }
                | StopFor::Restart(_)
                | StopFor::Upgrade(_)
                | StopFor::Rearm(_) => ProcessState::Stopping,
            },
        }
    }

    /// The pid of the leader, while the leader lives.
    pub const fn pid(&self) -> Option<Pid> {
        match self {
            Self::Booting { pid, .. }
            | Self::Running { pid, .. }
            | Self::Freezing { pid, .. }
            | Self::Upgrading { pid, .. }
            | Self::Overdue { leader: Leader::Alive(pid), .. } => Some(*pid),
            Self::Stopping { tree, .. }
            | Self::Stuck { tree }
            | Self::AwaitingSuccessor { tree: Some(tree), .. }
            | Self::BackingOff { tree: Some(tree), .. } => tree.pid(),
            Self::Stopped
            | Self::Failed
            | Self::Arming { .. }
            | Self::Armed
            | Self::Preparing { .. }
            | Self::Spawning { .. }
            | Self::AwaitingSuccessor { tree: None, .. }
            | Self::BackingOff { tree: None, .. }
            | Self::Overdue { .. } => None,
        }
    }

    /// The tree while it is being stopped, and no time limit has elapsed.
    pub const fn stopping_tree(&mut self) -> Option<&mut TreeState> {
        match self {
            Self::Stopping { tree, .. } | Self::BackingOff { tree: Some(tree), .. } | Self::AwaitingSuccessor { tree: Some(tree), .. }
                if !tree.is_gone() =>
            {
                Some(tree)
            }
            Self::Stopping { .. }
            | Self::BackingOff { .. }
            | Self::AwaitingSuccessor { .. }
            | Self::Stopped
            | Self::Failed
            | Self::Stuck { .. }
            | Self::Arming { .. }
            | Self::Armed
            | Self::Preparing { .. }
            | Self::Spawning { .. }
            | Self::Booting { .. }
            | Self::Running { .. }
            | Self::Freezing { .. }
            | Self::Upgrading { .. }
            | Self::Overdue { .. } => None,
        }
    }

    /// RUNNING since when.
    pub const fn running_since(&self) -> Option<Duration> {
        match self {
            Self::Running { since, .. } | Self::Freezing { since, .. } | Self::Upgrading { since, .. } => Some(*since),
            _ => None,
        }
    }

    /// Whether a start begins at once, with a new configuration: there is no process, and no attempt is under way.
    pub const fn is_startable(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::BackingOff { tree: None, .. })
    }

    /// Whether forgetProcess may forget the plugin, because no process is left.
    pub const fn is_forgettable(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }

    pub const fn activity(&self) -> Activity {
        Activity {
            guarded: !matches!(self, Self::Stopped | Self::Failed | Self::Armed),
            // A process that SIGKILL did not end may never end, so the event loop does not wait for it.
            pending: !matches!(self, Self::Stopped | Self::Failed | Self::Stuck { .. }),
        }
    }
}

/// The needs of a daemon while it has a process or a pending restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// A process lives or is about to be forked, so the guardian is needed.
    pub guarded: bool,
    /// The phase can change without a call, so the event loop is kept alive.
    pub pending: bool,
}

impl Activity {
    /// The set difference: the needs of `self` that `other` lacks.
    pub const fn without(self, other: Self) -> Self {
        Self { guarded: self.guarded && !other.guarded, pending: self.pending && !other.pending }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LastExit {
    pub pid: Pid,
    pub exit: Exit,
    pub reason: ExitReason,
    /// Milliseconds since 1970.
    pub at: f64,
    /// `None` if the keeper was killed.
    pub usage: Option<ExitUsage>,
}

/// The values for the getters. Published after every event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "facts that getters and callers of a start ask for one by one")]
pub struct Snapshot {
    /// False before the first start, and after first starts that were refused because another owner has the name.
    pub known: bool,
    pub state: ProcessState,
    /// The socket listens, and the first connection starts the daemon.
    pub armed: bool,
    pub pid: Option<Pid>,
    pub forgettable: bool,
    /// A restart is pending, and no process is there: a start begins at once.
    pub awaits_restart: bool,
    pub failed_health_checks: u32,
    pub restart_attempts: u32,
    pub last_error: Option<String>,
    /// Milliseconds since 1970.
    pub last_state_change: f64,
    pub running_since: Option<Duration>,
    pub total_restarts: u64,
    pub last_exit: Option<LastExit>,
    /// Milliseconds since 1970, while a restart is pending. `None` in phase Overdue, because the time is not known.
    pub next_restart_at: Option<f64>,
}

impl Snapshot {
    /// Of a plugin that was never started.
    pub const fn none() -> Self {
        Self {
            known: false,
            state: ProcessState::Stopped,
            armed: false,
            pid: None,
            forgettable: true,
            awaits_restart: false,
            failed_health_checks: 0,
            restart_attempts: 0,
            last_error: None,
            last_state_change: 0.0,
            running_since: None,
            total_restarts: 0,
            last_exit: None,
            next_restart_at: None,
        }
    }
}
