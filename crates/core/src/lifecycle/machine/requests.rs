//! Events from callers.

use core::time::Duration;

use super::Machine;
use super::upgrade::upgrade_failure;
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Notice, Timer};
use crate::lifecycle::phase::{Leader, Now, Phase, Rest, Run, StopFor, Ticket};
use crate::model::{Pid, ProcessState};

impl Machine {
    pub(super) fn start_requested(&mut self, ticket: Ticket, now: Now) {
        if self.closed {
            return self.settle(ticket, Err(Failure::ShuttingDown));
        }
        match &self.phase {
            Phase::Stopped | Phase::Failed => {
                let rest = self.rest();
                self.first_start(ticket, Some(rest), now);
            }
            // The start of the caller takes the place of the pending restart.
            Phase::BackingOff { tree: None, .. } => {
                self.leave_backoff();
                self.first_start(ticket, None, now);
            }
            // Processes that SIGKILL did not end still run.
            Phase::Stuck { .. } => self.settle(ticket, Err(Failure::AlreadyRunning(ProcessState::Running))),
            Phase::Arming { .. }
            | Phase::Armed
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { tree: Some(_), .. }
            | Phase::Overdue { .. } => {
                let failure = self.already();
                self.settle(ticket, Err(failure));
            }
        }
    }

    /// The refusal of a start in this phase.
    pub(super) const fn already(&self) -> Failure {
        match self.phase {
            Phase::Arming { .. } | Phase::Armed => Failure::AlreadyArmed,
            _ => Failure::AlreadyRunning(self.phase.state()),
        }
    }

    fn rest(&self) -> Box<Rest> {
        Box::new(Rest {
            phase: self.phase.clone(),
            attempts: self.attempts,
            history: self.history.clone(),
            failed_checks: self.failed_checks,
            last_state_change: self.last_state_change,
            started: self.started,
        })
    }

    fn first_start(&mut self, ticket: Ticket, rest: Option<Box<Rest>>, now: Now) {
        self.started = None;
        self.attempts = 0;
        self.history.clear();
        self.leave_rest(ticket, rest, now);
    }

    pub(super) fn start_refused(&mut self, ticket: Ticket, failure: Failure, now: Now) {
        if self.closed || !self.phase.is_startable() {
            // The same refusal as without the claim of another plugin.
            return self.start_requested(ticket, now);
        }
        self.settle(ticket, Err(failure));
    }

    pub(super) fn start_aborted(&mut self, ticket: Ticket, now: Now) {
        let is_current = match &self.phase {
            Phase::Preparing { run, .. } | Phase::Spawning { run, .. } | Phase::Booting { run, .. } => *run == Run::Requested(ticket),
            Phase::Arming { ticket: arming, .. } => *arming == ticket,
            Phase::Stopping { stop_for, .. } => *stop_for == StopFor::Restart(ticket),
            Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Armed
            | Phase::Running { .. }
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => false,
        };
        if is_current {
            self.stop_requested(None, now);
        }
    }

    pub(super) fn start_revoked(&mut self, ticket: Ticket, answer: Ticket, now: Now) {
        if self.started == Some(ticket) {
            self.stop_requested(Some(answer), now);
        } else {
            self.settle(answer, Ok(()));
        }
    }

    /// Before its process is there, a start has no time limit that could be too short.
    pub(super) fn start_extended(&mut self, ticket: Ticket, by: Duration) {
        if self.boots_for(ticket) {
            self.effects.push(Effect::Extend { timer: Timer::Startup, generation: self.generation, by });
        }
    }

    pub(super) fn start_expired(&mut self, ticket: Ticket) {
        if self.boots_for(ticket) {
            self.disarm(Timer::Startup);
            self.arm(Timer::Startup, Duration::ZERO);
        }
    }

    fn boots_for(&self, ticket: Ticket) -> bool {
        matches!(self.phase, Phase::Booting { run: Run::Requested(booting), .. } if booting == ticket)
    }

    pub(super) fn wait_requested(&mut self, ticket: Ticket) {
        self.waiters.push(ticket);
        self.settle_waiters();
    }

    pub(super) fn use_requested(&mut self, ticket: Ticket) {
        self.dependents.push(ticket);
        self.settle_waiters();
    }

    pub(super) fn wait_aborted(&mut self, ticket: Ticket) {
        let count = |machine: &Self| machine.waiters.len() + machine.dependents.len();
        let before = count(self);
        self.waiters.retain(|waiter| *waiter != ticket);
        self.dependents.retain(|waiter| *waiter != ticket);
        if count(self) < before {
            self.settle(ticket, Err(Failure::Stopped));
        }
    }

    /// Only a daemon that runs serves those that are stopped before it.
    pub(super) fn close(&mut self, now: Now) {
        self.closed = true;
        match self.phase {
            Phase::Stopped | Phase::Failed | Phase::Stuck { .. } => {}
            // An idle daemon is not stopped any more, because it could not be started again.
            Phase::Running { .. } => self.stop_watching_idle(),
            Phase::Freezing { .. } => self.stop_freezing(),
            Phase::Upgrading { .. } => self.cancel_successor(now),
            Phase::Arming { .. }
            | Phase::Armed
            | Phase::AwaitingSuccessor { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => self.stop_requested(None, now),
        }
    }

    /// A stop overrides every start and restart. `ticket`: settled at the end of the stop.
    pub(super) fn stop_requested(&mut self, ticket: Option<Ticket>, now: Now) {
        self.waiting.extend(ticket.map(|ticket| (ticket, Ok(()))));
        self.stop_second(now);
        self.stop_for(StopFor::Caller, now);
    }

    /// A process has ended the tree through the keeper: a stop that nobody waits for. A stop that is under way goes on as it is. The
    /// end of a second generation is that of a process, so only the serving one counts.
    pub(super) fn ended_by(&mut self, pid: Pid, now: Now) {
        match self.phase {
            Phase::Stopping { stop_for: StopFor::Caller, .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Preparing { .. }
            | Phase::AwaitingSuccessor { tree: None, .. }
            | Phase::BackingOff { tree: None, .. } => {}
            Phase::Stuck { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => {
                self.stop_requested(None, now);
                self.last_error = Some(Failure::EndedBy { pid });
            }
        }
    }

    pub(super) fn restart_requested(&mut self, ticket: Ticket, now: Now) {
        if self.closed {
            return self.settle(ticket, Err(Failure::ShuttingDown));
        }
        if self.is_upgrading() {
            return self.settle(ticket, Err(Failure::AlreadyUpgrading));
        }
        match &mut self.phase {
            Phase::Stopped | Phase::Failed => self.start_requested(ticket, now),
            Phase::Stopping { stop_for: StopFor::Restart(_), .. } => {
                self.settle(ticket, Err(Failure::AlreadyRunning(ProcessState::Stopping)));
            }
            Phase::Arming { .. } => self.settle(ticket, Err(Failure::AlreadyArmed)),
            // The socket listens already, and no process is there.
            Phase::Armed => {
                self.started = Some(ticket);
                self.settle(ticket, Ok(()));
            }
            Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => {
                self.started = None;
                self.stop_for(StopFor::Restart(ticket), now);
            }
        }
    }

    /// Stops the daemon, for a stop or for a restart.
    pub(super) fn stop_for(&mut self, stop_for: StopFor, now: Now) {
        match self.phase.clone() {
            Phase::Stopped | Phase::Failed => self.finish(stop_for, now),
            Phase::Arming { ticket, .. } => {
                self.waiting.push((ticket, Err(Failure::Stopped)));
                self.effects.push(Effect::CancelPrepare { generation: self.generation });
                self.announce();
                self.finish(stop_for, now);
            }
            Phase::Armed => {
                self.effects.push(Effect::Notify(Notice::Disarmed));
                self.finish(stop_for, now);
            }
            Phase::Preparing { run, .. } => {
                self.fail_start(run);
                self.effects.push(Effect::CancelPrepare { generation: self.generation });
                self.show_stopping(stop_for.clone(), now);
                self.finish(stop_for, now);
            }
            Phase::Spawning { run, .. } => {
                self.fail_start(run);
                self.disarm(Timer::Startup);
                self.stop_tree(Leader::Pending, stop_for, now);
            }
            Phase::Booting { run, pid } => {
                self.fail_start(run);
                self.disarm(Timer::Startup);
                self.effects.push(Effect::StopAwaiting { generation: self.generation });
                self.stop_tree(Leader::Alive(pid), stop_for, now);
            }
            Phase::Running { pid, .. } => {
                self.leave_running();
                self.stop_tree(Leader::Alive(pid), stop_for, now);
            }
            Phase::Freezing { pid, .. } => {
                self.disarm(Timer::Acknowledgement);
                self.disarm_reset();
                self.stop_tree(Leader::Alive(pid), stop_for, now);
            }
            Phase::Upgrading { pid, .. } => {
                self.disarm_reset();
                self.stop_tree(Leader::Alive(pid), stop_for, now);
            }
            Phase::AwaitingSuccessor { tree: Some(tree), .. } => self.enter(Phase::Stopping { tree, stop_for }, None, now),
            Phase::AwaitingSuccessor { tree: None, .. } => {
                self.show_stopping(stop_for.clone(), now);
                self.finish(stop_for, now);
            }
            Phase::Stuck { tree } if tree.is_gone() => {
                self.show_stopping(stop_for.clone(), now);
                self.finish(stop_for, now);
            }
            Phase::Stuck { tree } => self.stop_tree(tree.leader, stop_for, now),
            Phase::BackingOff { tree: None, .. } => {
                self.leave_backoff();
                self.show_stopping(stop_for.clone(), now);
                self.finish(stop_for, now);
            }
            Phase::BackingOff { tree: Some(tree), .. } => {
                self.leave_backoff();
                self.enter(Phase::Stopping { tree, stop_for }, None, now);
            }
            // The tree got the stop signal and its grace period before. SIGKILL gets a time limit of its own.
            Phase::Overdue { leader, .. } => {
                self.leave_backoff();
                let tree = self.kill_tree(leader);
                self.enter(Phase::Stopping { tree, stop_for }, None, now);
            }
            Phase::Stopping { tree, stop_for: former } => {
                self.next_restart_at = None;
                match former {
                    // The new stop cancels the restart, or the upgrade.
                    StopFor::Restart(ticket) | StopFor::Upgrade(ticket) => self.waiting.push((ticket, Err(Failure::Stopped))),
                    // The start failed before the stop, and its caller already has the failure.
                    StopFor::Failure { failure, .. } => self.last_error = Some(failure),
                    StopFor::Rollback { ticket, failure } => {
                        self.last_error = Some(failure.clone());
                        self.waiting.push((ticket, Err(upgrade_failure(failure))));
                    }
                    StopFor::Caller | StopFor::CleanExit | StopFor::Replacement { .. } | StopFor::Rearm(_) => {}
                }
                self.enter(Phase::Stopping { tree, stop_for }, None, now);
            }
        }
    }
}
