//! The input of the holds, events, and its output, effects.

use core::time::Duration;

use crate::error::Failure;
use crate::lifecycle::Snapshot;
use crate::model::ProcessState;

/// A manager that is connected to the host.
pub type Session = u64;
/// A call of a session. Unique within the host.
pub type Request = u64;
/// A call of the host to its manager. Unique within a plugin.
pub type CallId = u64;

/// The configuration of a start, compared with the one that the daemon uses: the serving one, or the one that is about to start.
/// Without such a configuration: `Equal`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fit {
    Equal,
    /// `upgraded`: an upgrade made them differ.
    Differs {
        fields: Vec<String>,
        upgraded: bool,
    },
}

/// What the host's manager publishes of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DaemonState {
    /// The manager does not know the plugin.
    Unknown,
    Starting(Stage),
    Running,
    Armed,
    Stopping,
    Stopped,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// No process was reported yet, or the old tree is not gone yet.
    Preparing,
    /// The leader lives, and is not ready.
    Spawned,
    /// A restart is pending, and no process is there: a start begins at once.
    Pending,
}

impl DaemonState {
    pub const fn of(snapshot: &Snapshot) -> Self {
        if !snapshot.known {
            return Self::Unknown;
        }
        match snapshot.state {
            ProcessState::Starting if snapshot.awaits_restart => Self::Starting(Stage::Pending),
            ProcessState::Starting if snapshot.pid.is_some() => Self::Starting(Stage::Spawned),
            ProcessState::Starting => Self::Starting(Stage::Preparing),
            ProcessState::Running => Self::Running,
            ProcessState::Stopping => Self::Stopping,
            ProcessState::Stopped if snapshot.armed => Self::Armed,
            ProcessState::Stopped => Self::Stopped,
            ProcessState::Error => Self::Error,
        }
    }

    /// No process, no armed socket and no pending restart, or processes that SIGKILL did not end.
    pub const fn is_at_rest(self) -> bool {
        matches!(self, Self::Unknown | Self::Stopped | Self::Error)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum HoldEvent {
    /// `timeout`: the session's startupTimeout. `linger`: its `shared.linger`.
    Start {
        session: Session,
        request: Request,
        fit: Fit,
        timeout: Duration,
        linger: Duration,
    },
    /// stopProcess, stopAllProcesses or forgetProcess of the session.
    LetGo {
        session: Session,
        request: Request,
    },
    /// The connection of the session has ended. Its requests are not answered.
    SessionEnded {
        session: Session,
    },
    /// stopProcess with `everywhere`. `by`: `None` if the host itself stops the daemon, because it ends. The session need not hold the
    /// plugin.
    Everywhere {
        by: Option<(Session, Request)>,
    },
    /// The session need not hold the plugin.
    Restart {
        session: Session,
        request: Request,
    },
    /// `linger`: if the upgrade changes it.
    Upgrade {
        session: Session,
        request: Request,
        linger: Option<Duration>,
    },
    /// whenRunning.
    Wait {
        session: Session,
        request: Request,
    },
    /// The AbortSignal of a start or wait.
    Abort {
        session: Session,
        request: Request,
    },
    /// The timer of this start has elapsed. `failure`: what its session is told.
    TimedOut {
        request: Request,
        failure: Failure,
    },
    LingerOver,
    /// The manager's snapshot has changed. Before the `Settled` of a call that the same change has settled.
    Daemon(DaemonState),
    /// The manager has settled a call.
    Settled {
        call: CallId,
        outcome: Result<(), Failure>,
    },
}

/// A call to the host's manager, about this plugin. Each is answered by `Settled`, except after `HoldEffect::Abort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// With the configuration and the environment of this start.
    Start {
        of: Request,
    },
    Stop,
    Restart,
    Upgrade {
        of: Request,
    },
    /// Settled when the daemon runs, or is at rest.
    Wait,
    /// As `Wait`, and also settled when the daemon is armed.
    Use,
}

/// Why a session hears no more of the daemon. Its own state: error after `TimedOut`, as before the start after `Refused`, and
/// stopped otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DetachReason {
    LetGo,
    Aborted,
    TimedOut,
    /// The start was refused before it changed anything.
    Refused,
    /// Stopped for all sessions. The session has heard of the end.
    Everywhere,
    Ended,
}

#[derive(Debug, Clone, PartialEq)]
pub enum HoldEffect {
    Call {
        call: CallId,
        what: Call,
    },
    /// Nobody waits for this `Wait` or `Use` any more.
    Abort {
        call: CallId,
    },
    Answer {
        session: Session,
        request: Request,
        outcome: Result<(), Failure>,
    },
    /// Send the event `Start` of this request again, compared anew: another configuration is about to start.
    Again {
        session: Session,
        request: Request,
    },
    /// The session hears the daemon's events from now on.
    Attach {
        session: Session,
    },
    Detach {
        session: Session,
        reason: DetachReason,
    },
    ArmTimeout {
        request: Request,
        after: Duration,
    },
    DisarmTimeout {
        request: Request,
    },
    /// The call `Start` ends not before `by` from now.
    Extend {
        call: CallId,
        by: Duration,
    },
    /// The time of the call `Start` is over now.
    Expire {
        call: CallId,
    },
    ArmLinger {
        after: Duration,
    },
    DisarmLinger,
    /// Nobody has the plugin, and nothing of it is left: the manager forgets it.
    Forget,
}
