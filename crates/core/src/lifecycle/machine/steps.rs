//! Steps that several events share.

use core::mem;
use core::time::Duration;

use super::tree_stop::TreeStop;
use super::{EXITS_AFTER_CHECK, Machine};
use crate::error::{Code, Failure};
use crate::lifecycle::event::{Effect, Notice, Timer};
use crate::lifecycle::phase::{Acknowledgement, Ended, Generation, Leader, Left, Now, Phase, Rest, Run, StopFor, Ticket, TreeState};
use crate::model::{Exit, ExitReason, Pid, ProbeRole, ProcessState};

impl Machine {
    /// Begins a new attempt.
    pub(super) fn prepare(&mut self, run: Run, rest: Option<Box<Rest>>, now: Now) {
        self.generation = self.issue();
        self.next_restart_at = None;
        self.failed_checks = 0;
        if run == Run::Restart {
            self.total_restarts += 1;
        }
        let reason = (run == Run::Connection).then(|| "connection".to_owned());
        self.enter(Phase::Preparing { run, rest }, reason, now);
        let requested = matches!(run, Run::Requested(_) | Run::Upgrade(_));
        self.effects.push(Effect::Prepare { generation: self.generation, requested, succeeds: None });
    }

    /// A number for a new attempt.
    pub(super) const fn issue(&mut self) -> Generation {
        self.issued += 1;
        self.issued
    }

    /// An attempt failed before readiness. `left`: the leader of the tree that must be stopped.
    pub(super) fn run_failed(&mut self, run: Run, left: Option<Leader>, failure: Failure, now: Now) {
        match run {
            Run::Requested(ticket) => {
                self.waiting.push((ticket, Err(failure.clone())));
                let stop_for = StopFor::Failure { failure, state: ProcessState::Starting, reason: ExitReason::Startup };
                self.stop_or_finish(left.map(Left::Tree), stop_for, now);
            }
            Run::Upgrade(ticket) => self.stop_or_finish(left.map(Left::Tree), StopFor::Rollback { ticket, failure }, now),
            Run::Restart | Run::Connection => self.retry_or_give_up(left.map(Left::Tree), ExitReason::Startup, failure, now),
        }
    }

    /// The leader has ended without a stop.
    pub(super) fn after_end(&mut self, ended: Ended, left: Option<Left>, now: Now) {
        let Ended { reason, failure, clean, connected } = ended;
        if self.plan.on_demand && (reason == ExitReason::Exited || !connected) && self.may_rearm(&failure) {
            if self.history.admit(self.plan.restart.window, now.mono) {
                return self.stop_or_finish(left, StopFor::Rearm(reason), now);
            }
        } else if clean {
            return self.stop_or_finish(left, StopFor::CleanExit, now);
        }
        self.retry_or_give_up(left, reason, failure, now);
    }

    /// Whether the next connection may start the daemon again.
    fn may_rearm(&self, failure: &Failure) -> bool {
        let is_prevented = failure.exit().code.is_some_and(|code| self.plan.restart.prevented_by.contains(code));
        !self.closed && !is_prevented && failure.code() != Code::OwnedElsewhere
    }

    pub(super) fn retry_or_give_up(&mut self, left: Option<Left>, reason: ExitReason, failure: Failure, now: Now) {
        self.last_error = Some(failure.clone());
        match self.admit_restart(failure, now) {
            Ok(delay) => {
                self.schedule(delay, reason, now);
                let tree = left.map(|left| self.stop_left(left));
                self.enter(Phase::BackingOff { tree, waited: false }, Some(reason.as_str().to_owned()), now);
                self.arm(Timer::Backoff, delay);
            }
            Err(failure) => self.stop_or_finish(left, StopFor::Failure { failure, state: ProcessState::Stopping, reason }, now),
        }
    }

    /// The delay of the next restart. If there is none, the failure that ends the restarts.
    pub(super) fn admit_restart(&mut self, failure: Failure, now: Now) -> Result<Duration, Failure> {
        if self.closed || failure.code() == Code::OwnedElsewhere || matches!(failure, Failure::SocketTaken { .. }) {
            // During the shutdown nothing is restarted. Another owner that has the name by now keeps it, and another process the path.
            return Err(failure);
        }
        let plan = &self.plan.restart;
        if let Some(code) = failure.exit().code.filter(|code| plan.prevented_by.contains(*code)) {
            return Err(Failure::RestartPrevented { code, cause: Box::new(failure) });
        }
        if plan.max_attempts == 0 {
            return Err(failure);
        }
        if self.attempts >= plan.max_attempts {
            return Err(Failure::AttemptsExhausted { attempts: self.attempts, last: Box::new(failure) });
        }
        if !self.history.admit(plan.window, now.mono) {
            return Err(Failure::WindowExhausted { limit: plan.window.limit, period: plan.window.period, last: Box::new(failure) });
        }
        Ok(plan.delay_before(self.attempts + 1, self.jitter.next()))
    }

    pub(super) fn schedule(&mut self, delay: Duration, reason: ExitReason, now: Now) {
        self.attempts += 1;
        self.next_restart_at = Some(now.wall + delay.as_secs_f64() * 1e3);
        self.effects.push(Effect::Notify(Notice::RestartScheduled { attempt: self.attempts, delay, reason }));
    }

    /// Stops the tree if there is one. Otherwise finishes at once.
    pub(super) fn stop_or_finish(&mut self, left: Option<Left>, stop_for: StopFor, now: Now) {
        match left {
            Some(Left::Tree(leader)) => self.stop_tree(leader, stop_for, now),
            Some(Left::Stopping(tree)) => self.enter_stopping(tree, stop_for, now),
            None => self.finish(stop_for, now),
        }
    }

    pub(super) fn stop_left(&mut self, left: Left) -> TreeState {
        match left {
            Left::Tree(leader) => self.begin_stop(leader),
            Left::Stopping(tree) => tree,
        }
    }

    pub(super) fn stop_tree(&mut self, leader: Leader, stop_for: StopFor, now: Now) {
        let tree = self.begin_stop(leader);
        self.enter_stopping(tree, stop_for, now);
    }

    fn enter_stopping(&mut self, tree: TreeState, stop_for: StopFor, now: Now) {
        let reason = match &stop_for {
            // How much of how much.
            StopFor::Replacement { reason: ExitReason::Memory, .. } => self.last_error.as_ref().map(ToString::to_string),
            StopFor::Replacement { reason, .. } | StopFor::Rearm(reason) => Some(reason.as_str().to_owned()),
            StopFor::Failure { failure, .. } => Some(failure.to_string()),
            StopFor::Caller | StopFor::CleanExit | StopFor::Restart(_) | StopFor::Upgrade(_) | StopFor::Rollback { .. } => None,
        };
        self.enter(Phase::Stopping { tree, stop_for }, reason, now);
    }

    fn stop(&mut self) -> TreeStop<'_> {
        TreeStop { generation: self.generation, grace: self.plan.grace, effects: &mut self.effects }
    }

    pub(super) fn begin_stop(&mut self, leader: Leader) -> TreeState {
        self.stop().begin(leader)
    }

    pub(super) fn kill_tree(&mut self, leader: Leader) -> TreeState {
        self.stop().kill(leader)
    }

    /// The tree is gone: continues with the reason of the stop.
    pub(super) fn finish(&mut self, stop_for: StopFor, now: Now) {
        let ends = matches!(stop_for, StopFor::Caller | StopFor::CleanExit | StopFor::Failure { .. });
        if ends {
            if self.waits_for_second(&stop_for, now) {
                return;
            }
            self.end_turn();
        }
        match stop_for {
            StopFor::Caller | StopFor::CleanExit => {
                self.effects.push(Effect::Release { generation: self.generation });
                self.enter(Phase::Stopped, (stop_for == StopFor::CleanExit).then(|| ExitReason::Exited.as_str().to_owned()), now);
                self.settle_waiting();
                self.settle_waiters();
            }
            StopFor::Failure { failure, .. } => {
                self.effects.push(Effect::Release { generation: self.generation });
                let reason = failure.to_string();
                self.last_error = Some(failure);
                self.enter(Phase::Failed, Some(reason), now);
                self.settle_waiting();
                self.settle_waiters();
            }
            StopFor::Replacement { due, reason } => {
                self.enter(Phase::BackingOff { tree: None, waited: false }, Some(reason.as_str().to_owned()), now);
                self.arm(Timer::Backoff, due.saturating_sub(now.mono));
            }
            StopFor::Rearm(reason) => self.rearm(reason, now),
            StopFor::Rollback { ticket, failure } => self.roll_back(ticket, failure, now),
            StopFor::Restart(ticket) | StopFor::Upgrade(ticket) => {
                let is_upgrade = matches!(stop_for, StopFor::Upgrade(_));
                if self.waiting.iter().any(|(_, outcome)| outcome.is_ok()) {
                    // stopProcess came before the restart, and its promise resolves now. From then on other owners may start
                    // the plugin.
                    self.effects.push(Effect::Release { generation: self.generation });
                }
                // Waiters stay: STOPPED on the way to a restart is not the end of the daemon.
                self.enter(Phase::Stopped, None, now);
                self.settle_waiting();
                self.attempts = 0;
                if is_upgrade {
                    self.begin_upgraded(ticket, now);
                } else {
                    self.prepare(Run::Requested(ticket), None, now);
                }
            }
        }
    }

    /// Without a process, a stop still passes through the state 'stopping'.
    pub(super) fn show_stopping(&mut self, stop_for: StopFor, now: Now) {
        self.enter(
            Phase::Stopping { tree: TreeState { leader: Leader::Exited, killed: false, acknowledgement: Acknowledgement::Done }, stop_for },
            None,
            now,
        );
    }

    pub(super) fn enter(&mut self, phase: Phase, reason: Option<String>, now: Now) {
        self.announce();
        let from = self.phase.state();
        self.phase = phase;
        if from != self.phase.state() {
            self.last_state_change = now.wall;
            if !self.may_withdraw() {
                self.notify_state(from, reason);
            }
        }
    }

    /// Reports a start from rest, which from here on can't be withdrawn.
    pub(super) fn announce(&mut self) {
        let (rest, reason) = match &mut self.phase {
            Phase::Preparing { rest, .. } => (rest.take(), None),
            Phase::Arming { rest, .. } => (rest.take(), Some("armed".to_owned())),
            _ => return,
        };
        if let Some(rest) = rest
            && !(self.known && rest.phase.state() == self.phase.state())
        {
            self.notify_state(rest.phase.state(), reason);
        }
    }

    fn notify_state(&mut self, from: ProcessState, reason: Option<String>) {
        let from = self.known.then_some(from);
        self.known = true;
        let (to, pid) = (self.phase.state(), self.phase.pid());
        self.effects.push(Effect::Notify(Notice::StateChanged { at: self.last_state_change, from, to, pid, reason }));
    }

    /// The start was refused before it changed anything: everything is as before.
    pub(super) fn withdraw(&mut self, ticket: Ticket, rest: Rest, failure: &Failure) {
        let Rest { phase, attempts, history, failed_checks, last_state_change, started } = rest;
        self.phase = phase;
        self.attempts = attempts;
        self.history = history;
        self.failed_checks = failed_checks;
        self.last_state_change = last_state_change;
        self.started = started;
        self.effects.push(Effect::Withdraw { generation: self.generation });
        self.settle(ticket, Err(failure.clone()));
        self.settle_waiters();
    }

    pub(super) fn leave_running(&mut self) {
        self.disarm_reset();
        self.pause_checks();
    }

    /// Of a daemon that runs, from now on.
    pub(super) fn begin_running(&mut self) {
        if !self.plan.restart.reset_after.is_zero() {
            self.arm(Timer::Reset, self.plan.restart.reset_after);
        }
        self.resume_checks();
    }

    /// The daemon runs on without checks. `restart.resetAfter` goes on.
    pub(super) fn pause_checks(&mut self) {
        self.stop_probing();
        self.stop_watching();
        self.stop_watching_idle();
    }

    pub(super) fn resume_checks(&mut self) {
        if let Some((interval, _)) = self.plan.health {
            self.arm(Timer::Probe, interval);
        }
        if self.plan.memory.is_some() {
            self.effects.push(Effect::WatchMemory { generation: self.generation });
        }
        if self.plan.stops_idle && !self.closed {
            self.effects.push(Effect::WatchIdle { generation: self.generation });
        }
    }

    pub(super) fn stop_probing(&mut self) {
        if self.plan.health.is_some() {
            self.disarm(Timer::Probe);
            self.effects.push(Effect::StopProbe { generation: self.generation });
        }
    }

    pub(super) fn disarm_reset(&mut self) {
        if !self.plan.restart.reset_after.is_zero() {
            self.disarm(Timer::Reset);
        }
    }

    pub(super) fn stop_watching(&mut self) {
        if self.plan.memory.is_some() {
            self.effects.push(Effect::StopWatching { generation: self.generation });
        }
    }

    pub(super) fn stop_watching_idle(&mut self) {
        if self.plan.stops_idle {
            self.effects.push(Effect::StopWatchingIdle { generation: self.generation });
        }
    }

    /// Stops a running daemon, and restarts it if the policy allows. Its checks have ended.
    pub(super) fn replace_running(&mut self, pid: Pid, reason: ExitReason, failure: Failure, now: Now) {
        self.last_error = Some(failure.clone());
        let stop_for = match self.admit_restart(failure, now) {
            Ok(delay) => {
                self.schedule(delay, reason, now);
                StopFor::Replacement { due: now.mono + delay, reason }
            }
            Err(failure) => StopFor::Failure { failure, state: ProcessState::Stopping, reason },
        };
        self.stop_tree(Leader::Alive(pid), stop_for, now);
    }

    pub(super) fn leave_backoff(&mut self) {
        self.next_restart_at = None;
        self.disarm(Timer::Backoff);
    }

    /// A stop overtakes the start: the start's ticket fails at the end of the stop.
    pub(super) fn fail_start(&mut self, run: Run) {
        match run {
            Run::Requested(ticket) | Run::Upgrade(ticket) => self.waiting.push((ticket, Err(Failure::Stopped))),
            Run::Restart | Run::Connection => {}
        }
    }

    /// Only an exit that nobody asked for counts, and not the loss of a killed keeper. Any other exit ends the row.
    pub(super) fn count_exit_after_probe(&mut self, exit: Exit, after_probe: Option<ProbeRole>) {
        let by_itself = exit != Exit::UNKNOWN
            && matches!(self.phase, Phase::Booting { .. } | Phase::Running { .. } | Phase::Freezing { .. } | Phase::Upgrading { .. });
        let count = if by_itself && after_probe.is_some() { self.exits_after_probe.0.saturating_add(1) } else { 0 };
        self.exits_after_probe = (count, after_probe);
    }

    /// The failure of an exit. If the connection of a probe is the likely reason, the failure says so.
    pub(super) fn with_probe_named(&self, failure: Failure) -> Failure {
        match self.exits_after_probe {
            // A readiness probe connects once an attempt, so a single exit just after it is enough.
            (1.., Some(by @ ProbeRole::Readiness)) | (EXITS_AFTER_CHECK.., Some(by @ ProbeRole::Health)) => {
                Failure::ExitsWhenProbed { by, cause: Box::new(failure) }
            }
            _ => failure,
        }
    }

    /// Whether a daemon that started for a connection has taken it before it exited: none waits any more. So it was ready.
    pub(super) const fn has_served(&self, run: Run, connected: bool) -> bool {
        self.plan.on_demand && !connected && matches!(run, Run::Connection | Run::Restart)
    }

    pub(super) fn exit_reason(&self, exit: Exit, connected: bool) -> ExitReason {
        match &self.phase {
            Phase::Booting { run, .. } if self.has_served(*run, connected) && exit.succeeded() => ExitReason::Exited,
            Phase::Booting { run, .. } if self.has_served(*run, connected) => ExitReason::Crashed,
            Phase::Running { .. } | Phase::Freezing { .. } | Phase::Upgrading { .. } if exit.succeeded() => ExitReason::Exited,
            Phase::Running { .. } | Phase::Freezing { .. } | Phase::Upgrading { .. } => ExitReason::Crashed,
            Phase::Stopping {
                stop_for: StopFor::Replacement { reason, .. } | StopFor::Failure { reason, .. } | StopFor::Rearm(reason),
                ..
            }
            | Phase::Overdue { reason, .. } => *reason,
            Phase::Booting { .. } | Phase::BackingOff { .. } | Phase::Stopping { stop_for: StopFor::Rollback { .. }, .. } => {
                ExitReason::Startup
            }
            Phase::Stopping { stop_for: StopFor::Upgrade(_), .. } => ExitReason::Upgraded,
            Phase::Stopping { stop_for: StopFor::Caller | StopFor::CleanExit | StopFor::Restart(_), .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Stuck { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Preparing { .. }
            | Phase::Spawning { .. } => ExitReason::Stopped,
        }
    }

    pub(super) fn arm(&mut self, timer: Timer, after: Duration) {
        self.effects.push(Effect::Arm { timer, generation: self.generation, after });
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        self.effects.push(Effect::Disarm { timer, generation: self.generation });
    }

    /// The tree is gone.
    pub(super) fn disarm_stop(&mut self) {
        self.stop().end();
    }

    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Result<(), Failure>) {
        self.effects.push(Effect::Settle { ticket, outcome });
    }

    pub(super) fn settle_waiting(&mut self) {
        for (ticket, outcome) in mem::take(&mut self.waiting) {
            self.settle(ticket, outcome);
        }
    }

    /// Settles the waiters if the daemon runs or is at rest. Otherwise they wait on.
    pub(super) fn settle_waiters(&mut self) {
        if self.phase == Phase::Armed {
            for ticket in mem::take(&mut self.dependents) {
                self.settle(ticket, Ok(()));
            }
            return;
        }
        let outcome = match self.phase {
            Phase::Running { .. } | Phase::Freezing { .. } | Phase::Upgrading { .. } => Ok(()),
            Phase::Stopped if !self.known => Err(Failure::NotFound),
            Phase::Stopped => Err(Failure::AtRest),
            Phase::Failed | Phase::Stuck { .. } => Err(self.last_error.clone().unwrap_or(Failure::AtRest)),
            Phase::Arming { .. }
            | Phase::Armed
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => return,
        };
        for ticket in mem::take(&mut self.waiters).into_iter().chain(mem::take(&mut self.dependents)) {
            self.settle(ticket, outcome.clone());
        }
    }
}
