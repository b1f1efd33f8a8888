//! The total function from (phase, event) to (phase, effects).
//!
//! - `requests`: events from callers;
//! - `reports`, `watch`, `ends`: events from the supervisor, on the way to RUNNING, in RUNNING, and at the end;
//! - `limits`: the time limits of a stop, for the serving generation;
//! - `steps`: steps that several events share;
//! - `tree_stop`: the stop of one tree;
//! - `on_demand`: daemons that start at the first connection;
//! - `upgrade`: upgrades, with the second generation (`second`).

mod ends;
mod limits;
mod on_demand;
mod reports;
mod requests;
mod second;
mod steps;
mod tree_stop;
mod upgrade;
mod watch;

use core::mem;
use core::time::Duration;

use self::ends::Exited;
pub use self::second::{Role, Second, Stage};
use self::upgrade::Turn;
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Event};
use crate::lifecycle::phase::{Activity, Generation, LastExit, Leader, Now, Phase, Snapshot, Ticket};
use crate::lifecycle::restart::{History, Jitter, RestartPlan};
use crate::model::{MemoryLimit, ProbeRole};

/// The time from SIGKILL until a tree that still lives fails the stop (ERR_STOP_FAILED).
pub const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// The time in which a keeper must answer a command before it gets SIGCONT.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(1);

/// If SIGKILL is due, the time in which a keeper must answer after SIGCONT.
const WAKE_TIMEOUT: Duration = Duration::from_millis(500);

/// If the guardian is killed with an order, the order is repeated. After this many orders the spawn fails.
const ORDERS_MAX: u32 = 3;

/// The part of the configuration that the machine uses.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub socket_path: String,
    pub startup_timeout: Duration,
    pub grace: Duration,
    /// The interval of health checks, and the number of failures in a row that causes a restart.
    pub health: Option<(Duration, u32)>,
    pub restart: RestartPlan,
    pub memory: Option<MemoryLimit>,
    /// The first connection starts the daemon.
    pub on_demand: bool,
    /// Without a connection for `idleTimeout` the daemon is stopped.
    pub stops_idle: bool,
}

/// A daemon may exit once or twice just after a health check for another reason. From this number of times in a row on, the
/// failure names the check.
const EXITS_AFTER_CHECK: u32 = 3;

#[derive(Debug)]
pub struct Machine {
    plan: Plan,
    phase: Phase,
    /// Of the attempt that serves, or may serve.
    generation: Generation,
    /// The last generation so far.
    issued: Generation,
    /// During an upgrade.
    second: Option<Second>,
    /// During an upgrade that stops the old generation first.
    turn: Option<Turn>,
    closed: bool,
    attempts: u32,
    history: History,
    /// When connections started the daemon.
    activations: History,
    jitter: Jitter,
    failed_checks: u32,
    /// The number of exits in a row that came just after a probe had connected, and the role of the last probe.
    exits_after_probe: (u32, Option<ProbeRole>),
    /// The tickets that are settled when the machine reaches Stopped, Failed or Stuck, each with its outcome; the failure of an
    /// upgrade also in Running.
    waiting: Vec<(Ticket, Result<(), Failure>)>,
    /// The tickets of whenRunning that are not settled yet.
    waiters: Vec<Ticket>,
    /// The same of plugins that depend on this one.
    dependents: Vec<Ticket>,
    /// The last start that became ready or armed, until a later start, restart or upgrade.
    started: Option<Ticket>,
    last_error: Option<Failure>,
    last_state_change: f64,
    /// Whether a state was ever reported.
    known: bool,
    last_exit: Option<LastExit>,
    next_restart_at: Option<f64>,
    total_restarts: u64,
    effects: Vec<Effect>,
}

impl Machine {
    pub fn new(plan: Plan, now: Now, seed: u64) -> Self {
        Self {
            plan,
            phase: Phase::Stopped,
            generation: 0,
            issued: 0,
            second: None,
            turn: None,
            closed: false,
            attempts: 0,
            history: History::default(),
            activations: History::default(),
            jitter: Jitter(seed),
            failed_checks: 0,
            exits_after_probe: (0, None),
            waiting: Vec::new(),
            waiters: Vec::new(),
            dependents: Vec::new(),
            started: None,
            last_error: None,
            last_state_change: now.wall,
            known: false,
            last_exit: None,
            next_restart_at: None,
            total_restarts: 0,
            effects: Vec::new(),
        }
    }

    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The generation beside the one that serves, during an upgrade.
    pub const fn second(&self) -> Option<&Second> {
        self.second.as_ref()
    }

    /// Whether a restart is pending, and no process is there. The daemon then still holds its name and its socket path.
    pub const fn awaits_restart(&self) -> bool {
        matches!(self.phase, Phase::BackingOff { tree: None, .. })
    }

    /// Whether the start that is under way may still turn out to have changed nothing.
    pub const fn may_withdraw(&self) -> bool {
        matches!(self.phase, Phase::Preparing { rest: Some(_), .. } | Phase::Arming { rest: Some(_), .. })
    }

    /// Replaces the configuration before a start. Returns false, and changes nothing, if a process lives or an attempt is
    /// under way.
    pub fn replan(&mut self, plan: Plan) -> bool {
        let accepted = self.phase.is_startable();
        if accepted {
            self.plan = plan;
        }
        accepted
    }

    pub const fn generation(&self) -> Generation {
        self.generation
    }

    pub fn activity(&self) -> Activity {
        let activity = self.phase.activity();
        let is_awaited = self.second.as_ref().is_some_and(|second| second.ticket.is_some());
        Activity { guarded: activity.guarded || self.second.is_some(), pending: activity.pending || is_awaited }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            known: self.known || self.phase != Phase::Stopped,
            state: self.phase.state(),
            armed: self.phase == Phase::Armed,
            pid: self.phase.pid(),
            forgettable: self.phase.is_forgettable(),
            awaits_restart: self.awaits_restart(),
            failed_health_checks: self.failed_checks,
            restart_attempts: self.attempts,
            last_error: self.last_error.as_ref().map(ToString::to_string),
            last_state_change: self.last_state_change,
            running_since: self.phase.running_since(),
            total_restarts: self.total_restarts,
            last_exit: self.last_exit,
            next_restart_at: match self.phase {
                Phase::Overdue { .. } => None,
                _ => self.next_restart_at,
            },
        }
    }

    /// Handles one event. Returns the effects, in the order in which they must be carried out.
    pub fn on(&mut self, event: Event, now: Now) -> Vec<Effect> {
        if let Some(generation) = event.generation().filter(|generation| *generation != self.generation) {
            if self.second.as_ref().is_some_and(|second| second.generation == generation) {
                self.on_second(event, now);
            }
        } else {
            self.on_serving(event, now);
        }
        mem::take(&mut self.effects)
    }

    fn on_serving(&mut self, event: Event, now: Now) {
        match event {
            Event::StartRequested { ticket } => self.start_requested(ticket, now),
            Event::StartRefused { ticket, failure } => self.start_refused(ticket, failure, now),
            Event::StartAborted { ticket } => self.start_aborted(ticket, now),
            Event::StartRevoked { ticket, answer } => self.start_revoked(ticket, answer, now),
            Event::StartExtended { ticket, by } => self.start_extended(ticket, by),
            Event::StartExpired { ticket } => self.start_expired(ticket),
            Event::WaitRequested { ticket } => self.wait_requested(ticket),
            Event::UseRequested { ticket } => self.use_requested(ticket),
            Event::WaitAborted { ticket } => self.wait_aborted(ticket),
            Event::StopRequested { ticket } => self.stop_requested(Some(ticket), now),
            Event::RestartRequested { ticket } => self.restart_requested(ticket, now),
            Event::UpgradeRequested { ticket, plan, beside } => self.upgrade_requested(ticket, *plan, beside, now),
            Event::Closed => self.close(now),
            Event::ShutdownRequested { ticket } => {
                self.closed = true;
                self.stop_requested(Some(ticket), now);
            }
            Event::Prepared { .. } => self.prepared(),
            Event::PrepareFailed { failure, .. } => self.prepare_failed(failure, now),
            Event::Spawned { pid, .. } => self.spawned(pid),
            Event::SpawnFailed { failure, .. } => self.spawn_failed(failure, now),
            Event::OrderLost { failure, .. } => self.order_lost(failure, now),
            Event::Acknowledged { .. } => self.acknowledged(),
            Event::AcknowledgementElapsed { .. } => self.acknowledgement_elapsed(),
            Event::RecordFailed { failure, .. } | Event::NotReady { failure, .. } => self.boot_failed(failure, now),
            Event::Ready { .. } => self.ready(now),
            Event::Connected { .. } => self.connected(now),
            Event::Idle { .. } => self.idle(),
            Event::EndedBy { pid, .. } => self.ended_by(pid, now),
            Event::Frozen { idle, .. } => self.frozen(idle, now),
            // Only a second generation changes over, or is drained.
            Event::ChangedOver { .. } | Event::ChangeOverFailed { .. } | Event::Drained { .. } => {}
            Event::Exited { exit, usage, remains, after_probe, tail, leftover_file, name_lost, connected, .. } => {
                self.count_exit_after_probe(exit, after_probe);
                let exited = Exited { exit, usage, left: remains.then_some(Leader::Exited), connected };
                self.exited(exited, tail, leftover_file, name_lost, now);
            }
            Event::TreeGone { leftover_file, .. } => self.tree_gone(leftover_file, now),
            Event::ProbePassed { latency, .. } => self.probe_passed(latency),
            Event::ProbeFailed { latency, error, .. } => self.probe_failed(latency, error, now),
            Event::MemoryExceeded { memory, .. } => self.memory_exceeded(memory, now),
            Event::SocketLost { failure, .. } => self.socket_lost(failure, now),
            Event::StartupElapsed { last_problem, tail, .. } => {
                let failure =
                    Failure::StartupTimeout { socket: self.plan.socket_path.clone(), after: self.plan.startup_timeout, last_problem, tail };
                self.boot_failed(failure, now);
            }
            Event::GraceElapsed { .. } => self.grace_elapsed(),
            Event::KillElapsed { survivors, .. } => self.kill_elapsed(survivors, now),
            Event::BackoffElapsed { .. } => self.backoff_elapsed(now),
            Event::ResetElapsed { .. } => self.reset_elapsed(),
            Event::ProbeDue { .. } => self.probe_due(),
            Event::Extended { by, .. } => self.extended(by),
            Event::Faulted { message } => self.faulted(message, now),
        }
    }
}
