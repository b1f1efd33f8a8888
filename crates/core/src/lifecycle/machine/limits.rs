//! The time limits of a stop, and what ends the wait for a tree.

use core::time::Duration;

use super::tree_stop::TreeStop;
use super::upgrade::upgrade_failure;
use super::{KILL_TIMEOUT, Machine};
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Timer};
use crate::lifecycle::phase::{Leader, Now, Phase, StopFor, TreeState};
use crate::model::{ExitReason, Pid};

impl Machine {
    /// The stop of the serving generation, and the tree that is being stopped.
    pub(super) const fn stopping(&mut self) -> Option<(TreeStop<'_>, &mut TreeState)> {
        match self.phase.stopping_tree() {
            Some(tree) => Some((TreeStop { generation: self.generation, grace: self.plan.grace, effects: &mut self.effects }, tree)),
            None => None,
        }
    }

    pub(super) fn acknowledged(&mut self) {
        if let Some((mut stop, tree)) = self.stopping() {
            stop.acknowledged(tree);
        }
    }

    pub(super) fn acknowledgement_elapsed(&mut self) {
        self.freeze_overdue();
        if let Some((mut stop, tree)) = self.stopping() {
            stop.acknowledgement_elapsed(tree);
        }
    }

    pub(super) fn grace_elapsed(&mut self) {
        if let Some((mut stop, tree)) = self.stopping() {
            stop.grace_elapsed(tree);
        }
    }

    /// After SIGKILL there is nothing to extend.
    pub(super) fn extended(&mut self, by: Duration) {
        let timer = match &self.phase {
            Phase::Booting { .. } => Timer::Startup,
            Phase::Stopping { tree, .. }
            | Phase::BackingOff { tree: Some(tree), .. }
            | Phase::AwaitingSuccessor { tree: Some(tree), .. }
                if tree.is_extensible() =>
            {
                Timer::Grace
            }
            Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Running { .. }
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Overdue { .. } => return,
        };
        self.effects.push(Effect::Extend { timer, generation: self.generation, by });
    }

    pub(super) fn kill_elapsed(&mut self, survivors: Vec<Pid>, now: Now) {
        let Some((mut stop, tree)) = self.stopping() else { return };
        if !stop.kill_elapsed(tree) {
            return;
        }
        let tree = *tree;
        match self.phase.clone() {
            Phase::Stopping { stop_for: StopFor::Replacement { due, reason }, .. } => {
                self.restart_overdue(tree.leader, false, reason, survivors, now);
                self.arm(Timer::Backoff, due.saturating_sub(now.mono));
            }
            Phase::Stopping { stop_for, .. } => {
                match stop_for {
                    StopFor::Restart(ticket) | StopFor::Upgrade(ticket) => self.waiting.push((ticket, Ok(()))),
                    StopFor::Rollback { ticket, failure } => self.waiting.push((ticket, Err(upgrade_failure(failure)))),
                    StopFor::Caller | StopFor::CleanExit | StopFor::Failure { .. } | StopFor::Replacement { .. } | StopFor::Rearm(_) => {}
                }
                self.stuck(tree, survivors, now);
            }
            Phase::BackingOff { waited, .. } => self.restart_overdue(tree.leader, waited, ExitReason::Startup, survivors, now),
            // The successor is waited for, whatever becomes of this tree. What follows has a time limit of its own again.
            Phase::AwaitingSuccessor { .. } => self.arm(Timer::Kill, KILL_TIMEOUT),
            Phase::Overdue { .. }
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. } => {}
        }
    }

    pub(super) fn stuck(&mut self, tree: TreeState, survivors: Vec<Pid>, now: Now) {
        self.fail_stops(Failure::StopFailed { survivors });
        self.end_turn();
        self.next_restart_at = None;
        self.effects.push(Effect::CloseSocket { generation: self.generation });
        self.enter(Phase::Stuck { tree }, self.last_error.as_ref().map(ToString::to_string), now);
        self.settle_waiting();
        self.settle_waiters();
    }

    /// The pending restart waits for a tree that SIGKILL did not end in time.
    fn restart_overdue(&mut self, leader: Leader, waited: bool, reason: ExitReason, survivors: Vec<Pid>, now: Now) {
        let failure = Failure::StopFailed { survivors };
        self.effects.push(Effect::Warn { failure: failure.clone() });
        self.last_error = Some(failure);
        self.enter(Phase::Overdue { leader, waited, reason }, Some(reason.as_str().to_owned()), now);
        // An upgrade that came to nothing waits for the old generation to run again, and this wait has no limit.
        self.settle_waiting();
    }

    /// Fails every waiting stop. A waiting start already has a failure, and keeps it.
    pub(super) fn fail_stops(&mut self, failure: Failure) {
        for (_, outcome) in &mut self.waiting {
            if outcome.is_ok() {
                *outcome = Err(failure.clone());
            }
        }
        self.last_error = Some(failure);
    }
}
