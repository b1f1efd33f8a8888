//! The phases a daemon goes through, and the five states that callers see of them.

use core::time::Duration;

use crate::error::Failure;
use crate::model::{Exit, ExitReason, Pid, ProcessState};

/// Counts the attempts to run a daemon. Whatever belongs to an older one is ignored by rule.
pub type Generation = u64;
/// Names one caller that waits for an answer.
pub type Ticket = u64;

/// The time of an event. `mono` orders and measures and stands still while the machine is suspended;
/// `wall` (milliseconds since 1970) is only ever shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    pub mono: Duration,
    pub wall: f64,
}

/// On whose behalf a daemon is being brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Run {
    /// A caller waits for it; a failure is the caller's to hear and is not retried.
    Asked(Ticket),
    /// The restart policy; a failure counts as an attempt and leads to the next.
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leader {
    /// The guardian was asked for it and has not answered yet.
    Pending,
    Alive(Pid),
    /// Reaped; what it left behind is still there.
    Exited,
}

/// A tree that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tree {
    pub leader: Leader,
    /// Whether the grace period is over and SIGKILL was sent.
    pub killed: bool,
}

impl Tree {
    pub const fn pid(self) -> Option<Pid> {
        match self.leader {
            Leader::Alive(pid) => Some(pid),
            Leader::Pending | Leader::Exited => None,
        }
    }
}

/// What a tree is being stopped for.
#[derive(Debug, Clone, PartialEq)]
pub enum StopFor {
    /// A caller asked for the end.
    Caller,
    /// It ended by itself, and the policy says that this is no failure.
    CleanExit,
    /// A start failed (`shown` as starting) or there are no attempts left (shown as stopping).
    /// `reason`: what the leader's exit is told as, if it is still to come.
    Failure { failure: Failure, shown: ProcessState, reason: ExitReason },
    /// It was unhealthy; the restart waits until `due` and until the tree is gone.
    UnhealthyRestart { due: Duration },
    /// restartProcess.
    Restart(Ticket),
}

/// What is going on. A pid exists only where there is a process.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Never started, or stopped. Nothing is left.
    Stopped,
    /// Gave up. Nothing is left.
    Failed,
    /// Gave up while something that can't be killed is left.
    Stuck {
        tree: Tree,
    },
    /// Taking the lock, clearing what a dead owner left, looking at the socket path.
    Preparing {
        run: Run,
    },
    /// The guardian was asked for a process.
    /// `orders`: how often it was asked.
    Spawning {
        run: Run,
        orders: u32,
    },
    /// The process lives and is not ready.
    Booting {
        run: Run,
        pid: Pid,
    },
    Running {
        pid: Pid,
        since: Duration,
    },
    Stopping {
        tree: Tree,
        stop_for: StopFor,
    },
    /// A restart is pending. It waits for its delay (`waited`) and for the end of the old tree (`None`).
    BackingOff {
        tree: Option<Tree>,
        waited: bool,
    },
}

impl Phase {
    /// The one place where phases become the states of the API.
    pub const fn state(&self) -> ProcessState {
        match self {
            Self::Stopped => ProcessState::Stopped,
            Self::Failed | Self::Stuck { .. } => ProcessState::Error,
            Self::Preparing { .. } | Self::Spawning { .. } | Self::Booting { .. } | Self::BackingOff { .. } => ProcessState::Starting,
            Self::Running { .. } => ProcessState::Running,
            Self::Stopping { stop_for, .. } => match stop_for {
                StopFor::Failure { shown, .. } => *shown,
                StopFor::Caller | StopFor::CleanExit | StopFor::UnhealthyRestart { .. } | StopFor::Restart(_) => ProcessState::Stopping,
            },
        }
    }

    /// The leader's, while there is one.
    pub const fn pid(&self) -> Option<Pid> {
        match self {
            Self::Booting { pid, .. } | Self::Running { pid, .. } => Some(*pid),
            Self::Stopping { tree, .. } | Self::Stuck { tree } | Self::BackingOff { tree: Some(tree), .. } => tree.pid(),
            Self::Stopped | Self::Failed | Self::Preparing { .. } | Self::Spawning { .. } | Self::BackingOff { tree: None, .. } => None,
        }
    }

    /// Whether a start may bring another configuration.
    pub const fn accepts_config(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }

    /// Whether the plugin can be forgotten: nothing of it is left.
    pub const fn is_forgettable(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }

    pub const fn activity(&self) -> Activity {
        Activity {
            guarded: !matches!(self, Self::Stopped | Self::Failed),
            // A process that can't be killed may never end, and nothing waits for it.
            pending: !matches!(self, Self::Stopped | Self::Failed | Self::Stuck { .. }),
        }
    }
}

/// What a daemon needs from its manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// A process lives, or is coming: the guardian is needed.
    pub guarded: bool,
    /// Something is still going to happen without a call: the event loop is kept alive.
    pub pending: bool,
}

impl Activity {
    /// What is in this and not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self { guarded: self.guarded && !other.guarded, pending: self.pending && !other.pending }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LastExit {
    pub pid: Pid,
    pub exit: Exit,
    pub reason: ExitReason,
    /// Milliseconds since 1970.
    pub at: f64,
}

/// What the getters read. Published after every event.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub state: ProcessState,
    pub pid: Option<Pid>,
    pub forgettable: bool,
    pub failed_health_checks: u32,
    pub restart_attempts: u32,
    pub last_error: Option<String>,
    /// Milliseconds since 1970.
    pub last_state_change: f64,
    pub running_since: Option<Duration>,
    pub total_restarts: u64,
    pub last_exit: Option<LastExit>,
    /// Milliseconds since 1970, while a restart is pending.
    pub next_restart_at: Option<f64>,
}
