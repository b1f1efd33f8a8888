//! The time limits of a stop: the keeper's answer, the grace period, SIGKILL.

use core::mem;
use core::time::Duration;

use super::{ACKNOWLEDGEMENT_TIMEOUT, KILL_TIMEOUT, Machine, WAKE_TIMEOUT};
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Signal, Timer};
use crate::lifecycle::phase::{Acknowledgement, Leader, Now, Phase, StopFor, TreeState};
use crate::model::{ExitReason, Pid};

impl Machine {
    pub(super) fn acknowledged(&mut self) {
        if let Some(tree) = self.phase.stopping_tree()
            && mem::replace(&mut tree.acknowledgement, Acknowledgement::Done) != Acknowledgement::Done
        {
            self.disarm(Timer::Acknowledgement);
        }
    }

    pub(super) fn acknowledgement_elapsed(&mut self) {
        let Some(tree) = self.phase.stopping_tree().copied() else { return };
        let acknowledgement = match tree.acknowledgement {
            Acknowledgement::Done => return,
            Acknowledgement::Pending => {
                self.effects.push(Effect::WakeKeeper { generation: self.generation });
                if tree.killed {
                    self.arm(Timer::Acknowledgement, WAKE_TIMEOUT);
                }
                Acknowledgement::Late
            }
            // Before SIGKILL is due the keeper may be late.
            Acknowledgement::Late if !tree.killed => return,
            Acknowledgement::Late => self.kill_keeper(),
        };
        self.set_stopping_tree(TreeState { acknowledgement, ..tree });
    }

    pub(super) fn grace_elapsed(&mut self) {
        let Some(tree) = self.phase.stopping_tree().copied().filter(|tree| !tree.killed) else { return };
        if tree.acknowledgement == Acknowledgement::Done {
            let tree = self.kill_tree(tree.leader);
            return self.set_stopping_tree(tree);
        }
        // Also beside the end of the keeper: it may not be possible to signal the keeper.
        self.effects.push(Effect::Signal { generation: self.generation, signal: Signal::Kill });
        if tree.acknowledgement == Acknowledgement::Pending {
            self.effects.push(Effect::WakeKeeper { generation: self.generation });
        }
        let has_had_its_time = self.plan.grace >= ACKNOWLEDGEMENT_TIMEOUT + WAKE_TIMEOUT;
        let acknowledgement = if tree.acknowledgement == Acknowledgement::Late && has_had_its_time {
            self.kill_keeper()
        } else {
            self.rearm(Timer::Acknowledgement, WAKE_TIMEOUT);
            self.arm(Timer::Kill, KILL_TIMEOUT);
            Acknowledgement::Late
        };
        self.set_stopping_tree(TreeState { killed: true, acknowledgement, ..tree });
    }

    /// After SIGKILL there is nothing to extend.
    pub(super) fn extended(&mut self, by: Duration) {
        let timer = match &self.phase {
            Phase::Booting { .. } => Timer::Startup,
            Phase::Stopping { tree, .. } | Phase::BackingOff { tree: Some(tree), .. } if !tree.killed && tree.leader != Leader::Pending => {
                Timer::Grace
            }
            Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Running { .. }
            | Phase::Overdue { .. } => return,
        };
        self.effects.push(Effect::Extend { timer, generation: self.generation, by });
    }

    fn set_stopping_tree(&mut self, tree: TreeState) {
        if let Some(stopping) = self.phase.stopping_tree() {
            *stopping = tree;
        }
    }

    pub(super) fn kill_elapsed(&mut self, survivors: Vec<Pid>, now: Now) {
        if let Some(tree) = self.phase.stopping_tree().copied()
            && tree.killed
            && tree.acknowledgement != Acknowledgement::Done
        {
            // The keeper has sent no SIGKILL.
            let acknowledgement = self.kill_keeper();
            return self.set_stopping_tree(TreeState { acknowledgement, ..tree });
        }
        let tree = match self.phase.clone() {
            Phase::Stopping { tree, stop_for: StopFor::Replacement { due, reason } } if tree.killed => {
                self.restart_overdue(tree.leader, false, reason, survivors, now);
                return self.arm(Timer::Backoff, due.saturating_sub(now.mono));
            }
            Phase::Stopping { tree, stop_for } if tree.killed => {
                if let StopFor::Restart(ticket) = stop_for {
                    self.waiting.push((ticket, Ok(())));
                }
                tree
            }
            Phase::BackingOff { tree: Some(tree), waited } if tree.killed => {
                return self.restart_overdue(tree.leader, waited, ExitReason::Startup, survivors, now);
            }
            Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. } => return,
        };
        self.fail_stops(Failure::StopFailed { survivors });
        self.next_restart_at = None;
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
