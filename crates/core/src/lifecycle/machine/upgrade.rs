//! Upgrades: the second generation of the daemon, and the change-over.

use core::mem;

use super::Machine;
use super::second::{Role, Second, Stage, Step};
use crate::error::Failure;
use crate::lifecycle::Plan;
use crate::lifecycle::event::{Effect, Event, Notice, Timer};
use crate::lifecycle::phase::{LastExit, Now, Phase, Run, StopFor, Ticket, TreeState};
use crate::model::{ExitReason, Pid, ProcessState};

/// The other plan of an upgrade in which the generations run in turn.
#[derive(Debug)]
pub enum Turn {
    /// The old generation is being stopped. The plan of the new one.
    OfOld { new: Plan },
    /// The new generation starts. The plan of the old one, to go back to.
    OfNew { old: Plan },
}

impl Machine {
    pub(super) fn upgrade_requested(&mut self, ticket: Ticket, plan: Plan, beside: bool, now: Now) {
        if self.closed {
            return self.settle(ticket, Err(Failure::ShuttingDown));
        }
        if self.is_upgrading() {
            return self.settle(ticket, Err(Failure::AlreadyUpgrading));
        }
        match self.phase {
            Phase::Stopped | Phase::Failed | Phase::BackingOff { tree: None, .. } => {
                self.adopt(plan);
                self.start_requested(ticket, now);
            }
            Phase::Armed => {
                self.adopt(plan);
                self.started = None;
                self.leave_rest(ticket, None, now);
            }
            Phase::Running { pid, since } if beside => {
                self.pause_checks();
                self.phase = Phase::Upgrading { pid, since };
                self.begin_successor(ticket, plan);
            }
            Phase::Freezing { pid, since, .. } if beside => {
                self.disarm(Timer::Acknowledgement);
                self.thaw();
                self.phase = Phase::Upgrading { pid, since };
                self.begin_successor(ticket, plan);
            }
            Phase::Running { .. } | Phase::Freezing { .. } => {
                self.turn = Some(Turn::OfOld { new: plan });
                self.started = None;
                self.stop_for(StopFor::Upgrade(ticket), now);
            }
            // Processes that SIGKILL did not end still run.
            Phase::Stuck { .. } => self.settle(ticket, Err(Failure::AlreadyRunning(ProcessState::Running))),
            Phase::Arming { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => {
                let failure = self.already();
                self.settle(ticket, Err(failure));
            }
        }
    }

    /// Whether the daemon has a second generation, or a second plan.
    pub const fn is_upgrading(&self) -> bool {
        self.second.is_some() || self.turn.is_some()
    }

    fn adopt(&mut self, plan: Plan) {
        self.plan = plan;
        self.effects.push(Effect::Adopt { generation: self.generation });
    }

    fn begin_successor(&mut self, ticket: Ticket, plan: Plan) {
        let generation = self.issue();
        self.second = Some(Second { generation, plan, ticket: Some(ticket), role: Role::Successor, stage: Stage::Preparing });
        self.effects.push(Effect::Prepare { generation, requested: true, succeeds: Some(self.generation) });
    }

    /// An event of the second generation.
    pub(super) fn on_second(&mut self, event: Event, now: Now) {
        let Some(mut second) = self.second.take() else { return };
        if let (Event::Exited { exit, usage, .. }, Some(pid)) = (&event, second.former_pid()) {
            let (exit, usage, reason) = (*exit, *usage, ExitReason::Upgraded);
            self.last_exit = Some(LastExit { pid, exit, reason, at: now.wall, usage });
            self.effects.push(Effect::Notify(Notice::Exited { pid, exit, reason }));
        }
        let step = second.on(event, &mut self.effects);
        self.take_step(second, step, now);
    }

    fn take_step(&mut self, mut second: Second, step: Step, now: Now) {
        match step {
            Step::Stay => self.second = Some(second),
            Step::Serves { pid, ended } => {
                self.change_over(second, pid, now);
                if let Some(exited) = ended {
                    self.on_serving(*exited, now);
                }
            }
            Step::Gone(outcome) => {
                self.effects.push(Effect::Discard { generation: second.generation });
                self.settle_upgrade(second.ticket, outcome);
                self.serve_on(now);
            }
            Step::Stuck { survivors, outcome } => {
                let failure = Failure::StopFailed { survivors: survivors.clone() };
                self.effects.push(Effect::Warn { failure: failure.clone() });
                let ticket = second.ticket.take();
                self.second = Some(second);
                match outcome {
                    Ok(()) => self.settle_upgrade(ticket, Err(failure)),
                    Err(failure) => self.settle_upgrade(ticket, Err(failure)),
                }
                match &self.phase {
                    Phase::Stopping { tree, .. } if tree.is_gone() => self.stuck_with_second(survivors, now),
                    // The end of the last tree is the end of this.
                    Phase::Stuck { .. } => {}
                    _ => self.serve_on(now),
                }
            }
        }
    }

    fn settle_upgrade(&mut self, ticket: Option<Ticket>, outcome: Result<(), Failure>) {
        let Some(ticket) = ticket else { return };
        let outcome = outcome.map_err(upgrade_failure);
        if let Err(failure) = &outcome {
            self.effects.push(Effect::Notify(Notice::UpgradeFailed { failure: failure.clone() }));
        }
        self.settle(ticket, outcome);
    }

    /// The successor serves from now on, and the former generation leaves.
    fn change_over(&mut self, successor: Second, pid: Pid, now: Now) {
        let Second { generation, plan, ticket, .. } = successor;
        if let Phase::Upgrading { .. } = self.phase {
            self.disarm_reset();
        }
        let former_generation = mem::replace(&mut self.generation, generation);
        let former_plan = mem::replace(&mut self.plan, plan);
        self.effects.push(Effect::Adopt { generation });
        self.attempts = 0;
        self.history.clear();
        self.failed_checks = 0;
        self.exits_after_probe = (0, None);
        self.started = None;
        self.last_error = None;
        self.next_restart_at = None;
        let former = self.phase.clone();
        self.enter(Phase::Running { pid, since: now.mono }, None, now);
        self.effects.push(Effect::Notify(Notice::ChangedOver { former: former.pid(), pid }));
        self.begin_running();
        let stage = match former {
            Phase::Upgrading { pid, .. } => {
                self.effects.push(Effect::Drain { generation: former_generation });
                Stage::Draining { pid }
            }
            Phase::AwaitingSuccessor { tree: Some(tree), .. } => Stage::Leaving { tree, outcome: Ok(()) },
            // Every other phase has no process.
            _ => {
                self.effects.push(Effect::Discard { generation: former_generation });
                self.settle_upgrade(ticket, Ok(()));
                return self.settle_waiters();
            }
        };
        self.second = Some(Second { generation: former_generation, plan: former_plan, ticket, role: Role::Former, stage });
        self.settle_waiters();
    }

    /// The second generation is gone, or can't be waited for any longer.
    fn serve_on(&mut self, now: Now) {
        match self.phase.clone() {
            Phase::Upgrading { pid, since } => {
                self.phase = Phase::Running { pid, since };
                self.resume_checks();
            }
            Phase::AwaitingSuccessor { tree, ended } => self.after_end(*ended, tree.map(Into::into), now),
            Phase::Stopping { tree, stop_for } if tree.is_gone() => self.finish(stop_for, now),
            Phase::Stuck { tree } if tree.is_gone() => {
                self.effects.push(Effect::Release { generation: self.generation });
                self.phase = Phase::Failed;
            }
            _ => {}
        }
    }

    /// A stop ends the second generation as well. The upgrade fails at the end of the stop.
    pub(super) fn stop_second(&mut self, now: Now) {
        let Some(mut second) = self.second.take() else { return };
        // If the successor failed before the stop, that is the answer.
        let failure = second.failure().map_or(Failure::Stopped, |failure| upgrade_failure(failure.clone()));
        self.waiting.extend(second.ticket.take().map(|ticket| (ticket, Err(failure))));
        match second.cancel(Failure::Stopped, &mut self.effects) {
            Step::Gone(_) => self.effects.push(Effect::Discard { generation: second.generation }),
            step => self.take_step(second, step, now),
        }
    }

    /// During the shutdown the daemon serves on, without a successor.
    pub(super) fn cancel_successor(&mut self, now: Now) {
        let Some(mut second) = self.second.take_if(|second| second.is_starting()) else { return };
        let step = second.cancel(Failure::Stopped, &mut self.effects);
        self.take_step(second, step, now);
    }

    /// The serving tree is gone. Whether the end must wait for the second one; then the stop goes on with it.
    pub(super) fn waits_for_second(&mut self, stop_for: &StopFor, now: Now) -> bool {
        let Some(second) = &self.second else { return false };
        let survivors = match &second.stage {
            Stage::Stuck { survivors, .. } => Some(survivors.clone()),
            _ => None,
        };
        self.enter(Phase::Stopping { tree: TreeState::GONE, stop_for: stop_for.clone() }, None, now);
        if let Some(survivors) = survivors {
            self.stuck_with_second(survivors, now);
        }
        true
    }

    fn stuck_with_second(&mut self, survivors: Vec<Pid>, now: Now) {
        if let Phase::Stopping { stop_for: StopFor::Failure { failure, .. }, .. } = &self.phase {
            self.last_error = Some(failure.clone());
        }
        self.stuck(TreeState::GONE, survivors, now);
    }

    /// The old generation is gone, and the new one starts.
    pub(super) fn begin_upgraded(&mut self, ticket: Ticket, now: Now) {
        if let Some(Turn::OfOld { new }) = self.turn.take() {
            self.turn = Some(Turn::OfNew { old: self.plan.clone() });
            self.adopt(new);
        }
        self.prepare(Run::Upgrade(ticket), None, now);
    }

    /// The upgrade comes to nothing: the configuration is again the old one.
    pub(super) fn end_turn(&mut self) {
        if let Some(Turn::OfNew { old }) = self.turn.take() {
            self.adopt(old);
        }
    }

    /// The new generation has failed, and the old one starts again. The upgrade is settled when it runs, or is at rest.
    pub(super) fn roll_back(&mut self, ticket: Ticket, failure: Failure, now: Now) {
        self.end_turn();
        self.last_error = Some(failure.clone());
        let failure = upgrade_failure(failure);
        self.effects.push(Effect::Notify(Notice::UpgradeFailed { failure: failure.clone() }));
        self.waiting.push((ticket, Err(failure)));
        self.attempts = 0;
        self.prepare(Run::Restart, None, now);
    }
}

/// A stop is not a failure of the new generation.
pub(super) fn upgrade_failure(failure: Failure) -> Failure {
    match failure {
        Failure::Stopped | Failure::ShuttingDown | Failure::StopFailed { .. } | Failure::Internal { .. } => failure,
        cause => Failure::Upgrade { cause: Box::new(cause) },
    }
}
