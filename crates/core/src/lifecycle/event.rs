//! The input of the machine, events (past tense), and its output, effects (imperative).

use core::time::Duration;

use super::Plan;
use super::phase::{Generation, Ticket};
use crate::error::Failure;
use crate::model::{Exit, ExitReason, ExitUsage, Pid, ProbeRole, ProcessState};

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    StartRequested {
        ticket: Ticket,
    },
    /// A start with a socket path that another plugin of the manager claims. A pending restart stays as it is.
    StartRefused {
        ticket: Ticket,
        failure: Failure,
    },
    /// The caller aborted the AbortSignal of this start.
    StartAborted {
        ticket: Ticket,
    },
    /// The caller aborted the AbortSignal of this start after readiness, and before the promise settled: a stop. `answer` is
    /// settled at the end of the stop. After a later start or restart: settled at once.
    StartRevoked {
        ticket: Ticket,
        answer: Ticket,
    },
    /// Another session waits for the shared start with this ticket, too: it ends not before `by` from now.
    StartExtended {
        ticket: Ticket,
        by: Duration,
    },
    /// The time of every session that waits for the shared start with this ticket is over.
    StartExpired {
        ticket: Ticket,
    },
    /// whenRunning. The ticket is settled in Running, and at rest: in Stopped, Failed and Stuck.
    WaitRequested {
        ticket: Ticket,
    },
    /// Another plugin depends on this one. As WaitRequested, and also settled in Armed, where a connection starts the daemon.
    UseRequested {
        ticket: Ticket,
    },
    /// The caller aborted the AbortSignal of this wait.
    WaitAborted {
        ticket: Ticket,
    },
    StopRequested {
        ticket: Ticket,
    },
    RestartRequested {
        ticket: Ticket,
    },
    /// upgradeProcess. `plan`: of the new configuration. `beside`: the new generation can run beside the old one. Otherwise the
    /// old one is stopped first.
    UpgradeRequested {
        ticket: Ticket,
        plan: Box<Plan>,
        beside: bool,
    },
    /// The shutdown began, and what depends on this daemon is stopped first. From now on the machine refuses every start, and
    /// restarts nothing. A daemon that does not run is stopped at once.
    Closed,
    /// A stop. After it the machine refuses every start and restart.
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
    /// The record is written before this event, because the event publishes the pid. If the record could not be written,
    /// `RecordFailed` follows.
    Spawned {
        generation: Generation,
        pid: Pid,
    },
    SpawnFailed {
        generation: Generation,
        failure: Failure,
    },
    /// The guardian ended before the keeper reported a process. No process was made.
    OrderLost {
        generation: Generation,
        failure: Failure,
    },
    /// The keeper has carried out the last command.
    Acknowledged {
        generation: Generation,
    },
    /// `daemon.pid` or `daemon.id` could not be written.
    RecordFailed {
        generation: Generation,
        failure: Failure,
    },
    Ready {
        generation: Generation,
    },
    /// Another process answers at the socket path, so this attempt can't become ready.
    NotReady {
        generation: Generation,
        failure: Failure,
    },
    /// A connection waits at the armed socket.
    Connected {
        generation: Generation,
    },
    /// The daemon had no connection for `idleTimeout`.
    Idle {
        generation: Generation,
    },
    /// The answer to `Freeze`. `idle`: with the tree suspended, no connection is open, and none waits.
    Frozen {
        generation: Generation,
        idle: bool,
    },
    /// The answer to `ChangeOver`: clients now reach the new generation, and the record names it.
    ChangedOver {
        generation: Generation,
    },
    ChangeOverFailed {
        generation: Generation,
        failure: Failure,
    },
    /// The answer to `Drain`. `left`: the connections that the old generation has not taken in time.
    Drained {
        generation: Generation,
        left: u32,
    },
    /// The process `pid`, of the same user, has sent the keeper SIGTERM, and the keeper ends the tree.
    EndedBy {
        generation: Generation,
        pid: Pid,
    },
    /// The leader was reaped. `usage`: `None` if the keeper was killed. `remains`: other processes of the tree live.
    /// `after_probe`: a probe connected just before. `tail`: the last lines of the output. `leftover_file`: see `TreeGone`. `name_lost`: another owner has the name by now
    /// (`OwnedElsewhere`), so the daemon can't be restarted. `connected`: a connection is open or waits, of a daemon that starts
    /// at the first connection.
    Exited {
        generation: Generation,
        exit: Exit,
        usage: Option<ExitUsage>,
        remains: bool,
        after_probe: Option<ProbeRole>,
        tail: String,
        leftover_file: Option<Failure>,
        name_lost: Option<Failure>,
        connected: bool,
    },
    /// Every process of the tree is gone. The files were removed before this event. `leftover_file`: the reason why a file
    /// could not be removed.
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

    /// The tree used more memory than its limit, for as long as the limit says. Bytes.
    MemoryExceeded {
        generation: Generation,
        memory: u64,
    },

    /// The socket that the manager holds for the daemon can't be served by it any more: `SocketShutDown`, `SocketReplaced`; or another
    /// process has taken its place: `SocketTaken`.
    SocketLost {
        generation: Generation,
        failure: Failure,
    },

    /// `last_problem`: the reason of the last failed readiness probe.
    StartupElapsed {
        generation: Generation,
        last_problem: Option<String>,
        tail: String,
    },
    /// The keeper has not answered the last command in time.
    AcknowledgementElapsed {
        generation: Generation,
    },
    GraceElapsed {
        generation: Generation,
    },
    /// `KILL_TIMEOUT` after SIGKILL. `survivors`: the processes that still live.
    KillElapsed {
        generation: Generation,
        survivors: Vec<Pid>,
    },
    BackoffElapsed {
        generation: Generation,
    },
    /// The daemon has been in Running for `restart.resetAfter`.
    ResetElapsed {
        generation: Generation,
    },
    ProbeDue {
        generation: Generation,
    },
    /// The daemon asks for more time (EXTEND_TIMEOUT_USEC of sd_notify(3)), for its start or for its stop: at least `by` from now.
    Extended {
        generation: Generation,
        by: Duration,
    },

    /// The task that carries out the effects panicked.
    Faulted {
        message: String,
    },
}

impl Event {
    /// `None` for an event that concerns the daemon in every generation.
    pub const fn generation(&self) -> Option<Generation> {
        match self {
            Self::StartRequested { .. }
            | Self::StartRefused { .. }
            | Self::StartAborted { .. }
            | Self::StartRevoked { .. }
            | Self::StartExtended { .. }
            | Self::StartExpired { .. }
            | Self::WaitRequested { .. }
            | Self::UseRequested { .. }
            | Self::WaitAborted { .. }
            | Self::StopRequested { .. }
            | Self::RestartRequested { .. }
            | Self::UpgradeRequested { .. }
            | Self::Closed
            | Self::ShutdownRequested { .. }
            | Self::Faulted { .. } => None,
            Self::Prepared { generation }
            | Self::PrepareFailed { generation, .. }
            | Self::Spawned { generation, .. }
            | Self::SpawnFailed { generation, .. }
            | Self::OrderLost { generation, .. }
            | Self::Acknowledged { generation }
            | Self::AcknowledgementElapsed { generation }
            | Self::RecordFailed { generation, .. }
            | Self::Ready { generation }
            | Self::NotReady { generation, .. }
            | Self::Connected { generation }
            | Self::Idle { generation }
            | Self::Frozen { generation, .. }
            | Self::ChangedOver { generation }
            | Self::ChangeOverFailed { generation, .. }
            | Self::Drained { generation, .. }
            | Self::EndedBy { generation, .. }
            | Self::Exited { generation, .. }
            | Self::TreeGone { generation, .. }
            | Self::ProbePassed { generation, .. }
            | Self::ProbeFailed { generation, .. }
            | Self::MemoryExceeded { generation, .. }
            | Self::SocketLost { generation, .. }
            | Self::StartupElapsed { generation, .. }
            | Self::GraceElapsed { generation }
            | Self::KillElapsed { generation, .. }
            | Self::BackoffElapsed { generation }
            | Self::ResetElapsed { generation }
            | Self::ProbeDue { generation }
            | Self::Extended { generation, .. } => Some(*generation),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    Startup,
    Acknowledgement,
    Grace,
    Kill,
    Backoff,
    /// `restart.resetAfter`.
    Reset,
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// The configured stop signal, then SIGCONT.
    Terminate,
    Kill,
}

/// Each effect except `Settle`, `Notify` and `Warn` names its attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// `requested`: a caller asked for this attempt, so what the daemon depends on must run first. `succeeds`: the generation
    /// beside which this one runs, with the configuration of the upgrade.
    Prepare {
        generation: Generation,
        requested: bool,
        succeeds: Option<Generation>,
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
    /// Send the keeper SIGCONT: it may be suspended.
    WakeKeeper {
        generation: Generation,
    },
    /// Send the keeper SIGKILL. The leader dies with its keeper, and the guardian sweeps the rest.
    KillKeeper {
        generation: Generation,
    },
    StartProbe {
        generation: Generation,
    },
    StopProbe {
        generation: Generation,
    },
    /// Compare the memory of the tree with the limit, until it is exceeded.
    WatchMemory {
        generation: Generation,
    },
    StopWatching {
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
    /// The armed timer elapses not before `by` from now.
    Extend {
        timer: Timer,
        generation: Generation,
        by: Duration,
    },
    /// Tell of the first connection to the socket.
    Listen {
        generation: Generation,
    },
    /// Look whether the daemon has connections, until it had none for `idleTimeout`.
    WatchIdle {
        generation: Generation,
    },
    StopWatchingIdle {
        generation: Generation,
    },
    /// Suspend the tree, and look at its connections.
    Freeze {
        generation: Generation,
    },
    /// Let the tree go on.
    Thaw {
        generation: Generation,
    },
    /// Bring the socket path and the record over to this generation. There is always an answer, unless the daemon is stopped
    /// meanwhile: then `Discard` comes, or the stop of this generation, and the answer has no effect.
    ChangeOver {
        generation: Generation,
    },
    /// Wait until this generation, which clients no longer reach, has taken the connections that wait.
    Drain {
        generation: Generation,
    },
    StopDraining {
        generation: Generation,
    },
    /// The configuration of the upgrade is the daemon's from now on. In an upgrade that stops the old generation first, a second
    /// `Adopt` brings the old configuration back: the upgrade came to nothing.
    Adopt {
        generation: Generation,
    },
    /// This generation is gone, and the name is kept: drop the attempt.
    Discard {
        generation: Generation,
    },
    /// Close the socket that is held for the daemon, although a process of the daemon lives that SIGKILL did not end.
    CloseSocket {
        generation: Generation,
    },
    /// The attempt is over: release the plugin's lock, so that another owner can start the plugin.
    Release {
        generation: Generation,
    },
    /// Another owner has the name, or what the daemon depends on does not run: the attempt is over, and the configuration is again the one before the start.
    Withdraw {
        generation: Generation,
    },
    /// Drop the attempt and close the stream to the keeper. The keeper then ends the tree.
    Abandon {
        generation: Generation,
    },
    Settle {
        ticket: Ticket,
        outcome: Result<(), Failure>,
    },
    Notify(Notice),
    /// A warning for the logger alone.
    Warn {
        failure: Failure,
    },
}

/// A report for listeners and the logger.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// `from` is `None` at the first start. `at`: milliseconds since 1970. A start from rest is reported when its preparation is
    /// over, which is later than the change.
    StateChanged {
        at: f64,
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
    Armed,
    Disarmed,
    /// A connection starts the daemon.
    Connected,
    /// `pid` serves instead of the former one, which may have crashed.
    ChangedOver {
        former: Option<Pid>,
        pid: Pid,
    },
    UpgradeFailed {
        failure: Failure,
    },
    /// The old generation is stopped although connections wait that it has not taken.
    NotDrained {
        left: u32,
    },
    Checked {
        healthy: bool,
        latency: Duration,
        failures: u32,
        error: Option<String>,
    },
}
