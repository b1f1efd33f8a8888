//! Steps that several requests and reports share.

use core::mem;
use core::time::Duration;

use super::{KILL_PATIENCE, Machine};
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Notice, Signal, Timer};
use crate::lifecycle::state::{Goal, Leader, Now, Phase, Run, Ticket, Tree};
use crate::model::{Exit, ExitReason, ProcessState};

impl Machine {
    /// Begins a new generation.
    pub(super) fn prepare(&mut self, run: Run, reason: Option<String>, now: Now) {
        self.generation += 1;
        self.next_restart_at = None;
        self.failed_checks = 0;
        if run == Run::Restart {
            self.total_restarts += 1;
        }
        self.enter(Phase::Preparing { run }, reason, now);
        self.effects.push(Effect::Prepare { generation: self.generation });
    }

    /// A run ended before it was ready. `left`: what there is to stop.
    pub(super) fn run_failed(&mut self, run: Run, left: Option<Leader>, failure: Failure, now: Now) {
        match run {
            Run::Asked(ticket) => {
                self.waiting.push((ticket, Err(failure.clone())));
                let goal = Goal::Fail { failure, shown: ProcessState::Starting, reason: ExitReason::Startup };
                self.end_with(left, goal, now);
            }
            Run::Restart => self.retry_or_give_up(left, ExitReason::Startup, failure, now),
        }
    }

    pub(super) fn retry_or_give_up(&mut self, left: Option<Leader>, reason: ExitReason, failure: Failure, now: Now) {
        self.last_error = Some(failure.clone());
        match self.admit_restart(failure, now) {
            Ok(delay) => {
                self.schedule(delay, reason, now);
                let tree = left.map(|leader| self.urge(leader));
                self.enter(Phase::BackingOff { tree, waited: false }, Some(reason.as_str().to_owned()), now);
                self.arm(Timer::Backoff, delay);
            }
            Err(failure) => self.end_with(left, Goal::Fail { failure, shown: ProcessState::Stopping, reason }, now),
        }
    }

    /// The delay of the next restart, or why there is none.
    pub(super) fn admit_restart(&mut self, failure: Failure, now: Now) -> Result<Duration, Failure> {
        let plan = &self.plan.restart;
        if plan.max_attempts == 0 {
            return Err(failure);
        }
        if self.attempts >= plan.max_attempts {
            return Err(Failure::AttemptsExhausted { attempts: self.attempts, last: Box::new(failure) });
        }
        if !self.history.admit(plan.window, now.mono) {
            return Err(Failure::WindowExhausted { limit: plan.window.limit, period: plan.window.period, last: Box::new(failure) });
        }
        Ok(plan.delay_before(self.attempts + 1, self.dice.roll()))
    }

    pub(super) fn schedule(&mut self, delay: Duration, reason: ExitReason, now: Now) {
        self.attempts += 1;
        self.next_restart_at = Some(now.wall + delay.as_secs_f64() * 1e3);
        self.effects.push(Effect::Notify(Notice::RestartScheduled { attempt: self.attempts, delay, reason }));
    }

    /// Stops what is left, if anything, and comes to rest.
    pub(super) fn end_with(&mut self, left: Option<Leader>, goal: Goal, now: Now) {
        match left {
            Some(leader) => self.stop_tree(leader, goal, now),
            None => self.come_to_rest(goal, now),
        }
    }

    pub(super) fn stop_tree(&mut self, leader: Leader, goal: Goal, now: Now) {
        let reason = match &goal {
            Goal::Retry { .. } => Some(ExitReason::Unhealthy.as_str().to_owned()),
            Goal::Fail { failure, .. } => Some(failure.to_string()),
            Goal::Halt | Goal::Rest | Goal::Relaunch(_) => None,
        };
        let tree = self.urge(leader);
        self.enter(Phase::Stopping { tree, goal }, reason, now);
    }

    /// Sends the first signal of a stop. A grace period of 0 means SIGKILL at once.
    pub(super) fn urge(&mut self, leader: Leader) -> Tree {
        let killed = self.plan.grace.is_zero();
        let (signal, timer, after) =
            if killed { (Signal::Kill, Timer::Kill, KILL_PATIENCE) } else { (Signal::Terminate, Timer::Grace, self.plan.grace) };
        // One that is being made is asked when it is there; SIGKILL may meet it on its way.
        if leader != Leader::Unborn || killed {
            self.effects.push(Effect::Signal { signal });
        }
        self.arm(timer, after);
        Tree { leader, killed }
    }

    /// Nothing is left; on to what the end was for.
    pub(super) fn come_to_rest(&mut self, goal: Goal, now: Now) {
        match goal {
            Goal::Halt | Goal::Rest => {
                self.effects.push(Effect::Release);
                self.enter(Phase::Stopped, (goal == Goal::Rest).then(|| ExitReason::Exited.as_str().to_owned()), now);
                self.settle_waiting();
            }
            Goal::Fail { failure, .. } => {
                self.effects.push(Effect::Release);
                let reason = failure.to_string();
                self.last_error = Some(failure);
                self.enter(Phase::Failed, Some(reason), now);
                self.settle_waiting();
            }
            Goal::Retry { due } => {
                self.enter(Phase::BackingOff { tree: None, waited: false }, Some(ExitReason::Unhealthy.as_str().to_owned()), now);
                self.arm(Timer::Backoff, due.saturating_sub(now.mono));
            }
            Goal::Relaunch(ticket) => {
                if self.waiting.iter().any(|(_, outcome)| outcome.is_ok()) {
                    // A stop came before the restart: the moment it resolves, the name is free for others.
                    self.effects.push(Effect::Release);
                }
                self.enter(Phase::Stopped, None, now);
                self.settle_waiting();
                self.attempts = 0;
                self.prepare(Run::Asked(ticket), None, now);
            }
        }
    }

    /// A stop without a process still passes through 'stopping'.
    pub(super) fn show_stopping(&mut self, goal: Goal, now: Now) {
        self.enter(Phase::Stopping { tree: Tree { leader: Leader::Exited, killed: false }, goal }, None, now);
    }

    pub(super) fn enter(&mut self, phase: Phase, reason: Option<String>, now: Now) {
        let from = self.phase.state();
        self.phase = phase;
        let to = self.phase.state();
        if from != to {
            self.last_state_change = now.wall;
            let from = (self.generation > 1 || from != ProcessState::Stopped).then_some(from);
            self.effects.push(Effect::Notify(Notice::StateChanged { from, to, pid: self.phase.pid(), reason }));
        }
    }

    pub(super) fn leave_running(&mut self) {
        if self.plan.health.is_some() {
            self.disarm(Timer::Probe);
            self.effects.push(Effect::StopProbe);
        }
    }

    pub(super) fn leave_backoff(&mut self) {
        self.next_restart_at = None;
        self.disarm(Timer::Backoff);
    }

    /// A caller whose start is overtaken by a stop hears of it at the end of that stop.
    pub(super) fn doom(&mut self, run: Run) {
        if let Run::Asked(ticket) = run {
            self.waiting.push((ticket, Err(Failure::Stopped)));
        }
    }

    pub(super) fn exit_reason(&self, exit: Exit) -> ExitReason {
        match &self.phase {
            Phase::Running { .. } if exit.succeeded() => ExitReason::Exited,
            Phase::Running { .. } => ExitReason::Crashed,
            Phase::Stopping { goal: Goal::Retry { .. }, .. } => ExitReason::Unhealthy,
            Phase::Stopping { goal: Goal::Fail { reason, .. }, .. } => *reason,
            Phase::Booting { .. } | Phase::BackingOff { .. } => ExitReason::Startup,
            Phase::Stopping { goal: Goal::Halt | Goal::Rest | Goal::Relaunch(_), .. }
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
        self.effects.push(Effect::Disarm { timer });
    }

    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Result<(), Failure>) {
        self.effects.push(Effect::Settle { ticket, outcome });
    }

    pub(super) fn settle_waiting(&mut self) {
        for (ticket, outcome) in mem::take(&mut self.waiting) {
            self.settle(ticket, outcome);
        }
    }
}
