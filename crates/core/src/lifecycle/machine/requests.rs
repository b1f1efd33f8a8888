//! What callers ask for.

use core::mem;

use super::Machine;
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Timer};
use crate::lifecycle::state::{Goal, Leader, Now, Phase, Run, Ticket};
use crate::model::ProcessState;

impl Machine {
    pub(super) fn start_requested(&mut self, ticket: Ticket, now: Now) {
        if self.closed {
            return self.settle(ticket, Err(Failure::ShuttingDown));
        }
        match &self.phase {
            Phase::Stopped | Phase::Failed => {
                self.attempts = 0;
                self.history.clear();
                self.prepare(Run::Asked(ticket), None, now);
            }
            // What could not be killed is still running.
            Phase::Stuck { .. } => self.settle(ticket, Err(Failure::AlreadyRunning(ProcessState::Running))),
            Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. } => self.settle(ticket, Err(Failure::AlreadyRunning(self.phase.state()))),
        }
    }

    pub(super) fn start_aborted(&mut self, ticket: Ticket, now: Now) {
        let asked = match &self.phase {
            Phase::Preparing { run } | Phase::Spawning { run, .. } | Phase::Booting { run, .. } => *run == Run::Asked(ticket),
            Phase::Stopping { goal, .. } => *goal == Goal::Relaunch(ticket),
            Phase::Stopped | Phase::Failed | Phase::Stuck { .. } | Phase::Running { .. } | Phase::BackingOff { .. } => false,
        };
        if asked {
            self.stop_requested(None, now);
        }
    }

    /// Wins over everything. `ticket`: who is to be told, if anyone.
    pub(super) fn stop_requested(&mut self, ticket: Option<Ticket>, now: Now) {
        self.waiting.extend(ticket.map(|ticket| (ticket, Ok(()))));
        self.halt(Goal::Halt, now);
    }

    pub(super) fn restart_requested(&mut self, ticket: Ticket, now: Now) {
        if self.closed {
            return self.settle(ticket, Err(Failure::ShuttingDown));
        }
        match &mut self.phase {
            Phase::Stopped | Phase::Failed => self.start_requested(ticket, now),
            Phase::Stopping { goal: Goal::Relaunch(_), .. } => {
                self.settle(ticket, Err(Failure::AlreadyRunning(ProcessState::Stopping)));
            }
            Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. } => self.halt(Goal::Relaunch(ticket), now),
        }
    }

    /// Whatever is going on, ends it for `goal` (Halt or Relaunch).
    pub(super) fn halt(&mut self, goal: Goal, now: Now) {
        match mem::replace(&mut self.phase, Phase::Stopped) {
            phase @ (Phase::Stopped | Phase::Failed) => {
                self.phase = phase;
                self.come_to_rest(goal, now);
            }
            Phase::Preparing { run } => {
                self.phase = Phase::Preparing { run };
                self.doom(run);
                self.effects.push(Effect::CancelPrepare);
                self.show_stopping(goal.clone(), now);
                self.come_to_rest(goal, now);
            }
            Phase::Spawning { run, orders } => {
                self.phase = Phase::Spawning { run, orders };
                self.doom(run);
                self.disarm(Timer::Startup);
                self.stop_tree(Leader::Unborn, goal, now);
            }
            Phase::Booting { run, pid } => {
                self.phase = Phase::Booting { run, pid };
                self.doom(run);
                self.disarm(Timer::Startup);
                self.effects.push(Effect::StopAwaiting);
                self.stop_tree(Leader::Alive(pid), goal, now);
            }
            Phase::Running { pid, since } => {
                self.phase = Phase::Running { pid, since };
                self.leave_running();
                self.stop_tree(Leader::Alive(pid), goal, now);
            }
            Phase::Stuck { tree } => {
                self.phase = Phase::Stuck { tree };
                self.stop_tree(tree.leader, goal, now);
            }
            Phase::BackingOff { tree: None, waited } => {
                self.phase = Phase::BackingOff { tree: None, waited };
                self.leave_backoff();
                self.show_stopping(goal.clone(), now);
                self.come_to_rest(goal, now);
            }
            Phase::BackingOff { tree: Some(tree), waited } => {
                self.phase = Phase::BackingOff { tree: Some(tree), waited };
                self.leave_backoff();
                self.enter(Phase::Stopping { tree, goal }, None, now);
            }
            Phase::Stopping { tree, goal: former } => {
                self.phase = Phase::Stopping { tree, goal: former.clone() };
                self.next_restart_at = None;
                match former {
                    // The restart that was asked for is off.
                    Goal::Relaunch(ticket) => self.waiting.push((ticket, Err(Failure::Stopped))),
                    // The start has failed before it was stopped, and is told why it failed.
                    Goal::Fail { failure, .. } => self.last_error = Some(failure),
                    Goal::Halt | Goal::Rest | Goal::Retry { .. } => {}
                }
                self.enter(Phase::Stopping { tree, goal }, None, now);
            }
        }
    }
}
