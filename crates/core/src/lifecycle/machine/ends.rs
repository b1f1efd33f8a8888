//! Events from the supervisor about the end of a process or tree, and of the task.

use super::Machine;
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Notice, Timer};
use crate::lifecycle::phase::{Ended, LastExit, Leader, Left, Now, Phase, Run, StopFor, TreeState};
use crate::lifecycle::restart::{RestartOn, RestartPlan};
use crate::model::{Exit, ExitReason, ExitUsage};

/// An exit of the leader. `left`: the leader of what is left of the tree. `connected`: a connection is open or waits.
pub(super) struct Exited {
    pub exit: Exit,
    pub usage: Option<ExitUsage>,
    pub left: Option<Leader>,
    pub connected: bool,
}

impl Machine {
    pub(super) fn exited(
        &mut self,
        Exited { exit, usage, left, connected }: Exited,
        tail: String,
        leftover_file: Option<Failure>,
        name_lost: Option<Failure>,
        now: Now,
    ) {
        let Some(pid) = self.phase.pid() else { return };
        let reason = self.exit_reason(exit, connected);
        self.last_exit = Some(LastExit { pid, exit, reason, at: now.wall, usage });
        self.effects.push(Effect::Notify(Notice::Exited { pid, exit, reason }));
        match &mut self.phase {
            Phase::Booting { run, .. } => {
                let run = *run;
                self.disarm(Timer::Startup);
                self.effects.push(Effect::StopAwaiting { generation: self.generation });
                if self.has_served(run, connected) {
                    let ended = self.ended(exit, reason, tail, name_lost, connected);
                    return self.after_end(ended, left.map(Left::Tree), now);
                }
                let exited = self.with_probe_named(Failure::StartupExit { exit, tail });
                let is_requested = matches!(run, Run::Requested(_) | Run::Upgrade(_));
                let failure = name_lost.filter(|_| !is_requested).unwrap_or(exited);
                self.run_failed(run, left, failure, now);
            }
            Phase::Running { .. } => {
                self.leave_running();
                let ended = self.ended(exit, reason, tail, name_lost, connected);
                self.after_end(ended, left.map(Left::Tree), now);
            }
            Phase::Freezing { .. } => {
                self.disarm(Timer::Acknowledgement);
                self.disarm_reset();
                let ended = self.ended(exit, reason, tail, name_lost, connected);
                self.after_end(ended, left.map(Left::Tree), now);
            }
            Phase::Upgrading { .. } => {
                self.disarm_reset();
                let ended = Box::new(self.ended(exit, reason, tail, name_lost, connected));
                self.last_error = Some(ended.failure.clone());
                let tree = left.map(|leader| self.begin_stop(leader));
                self.enter(Phase::AwaitingSuccessor { tree, ended }, Some(reason.as_str().to_owned()), now);
            }
            Phase::Stopping { tree, .. }
            | Phase::Stuck { tree }
            | Phase::AwaitingSuccessor { tree: Some(tree), .. }
            | Phase::BackingOff { tree: Some(tree), .. } => {
                tree.leader = Leader::Exited;
                if left.is_none() {
                    self.tree_gone(leftover_file, now);
                }
            }
            Phase::Overdue { leader, .. } => {
                *leader = Leader::Exited;
                if left.is_none() {
                    self.tree_gone(leftover_file, now);
                }
            }
            Phase::Stopped
            | Phase::Failed
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::AwaitingSuccessor { tree: None, .. }
            | Phase::BackingOff { tree: None, .. } => {}
        }
    }

    fn ended(&self, exit: Exit, reason: ExitReason, tail: String, name_lost: Option<Failure>, connected: bool) -> Ended {
        let RestartPlan { on, prevented_by, .. } = self.plan.restart;
        let clean = reason == ExitReason::Exited && on == RestartOn::Failure && !prevented_by.contains(0) && name_lost.is_none();
        let failure = name_lost.unwrap_or_else(|| self.with_probe_named(Failure::Ended { exit, tail }));
        Ended { reason, failure, clean, connected }
    }

    pub(super) fn tree_gone(&mut self, leftover_file: Option<Failure>, now: Now) {
        match self.phase.clone() {
            Phase::Stopping { stop_for, .. } => {
                self.disarm_stop();
                if let Some(failure) = leftover_file {
                    self.fail_stops(failure);
                }
                self.finish(stop_for, now);
            }
            Phase::Stuck { .. } if self.second.is_some() => self.phase = Phase::Stuck { tree: TreeState::GONE },
            Phase::Stuck { .. } => {
                self.effects.push(Effect::Release { generation: self.generation });
                self.phase = Phase::Failed;
            }
            Phase::AwaitingSuccessor { tree: Some(_), ended } => {
                self.phase = Phase::AwaitingSuccessor { tree: None, ended };
                self.disarm_stop();
            }
            Phase::BackingOff { tree: Some(_), waited } => {
                self.phase = Phase::BackingOff { tree: None, waited };
                self.disarm_stop();
                if waited {
                    self.prepare(Run::Restart, None, now);
                }
            }
            Phase::Overdue { waited: true, .. } => self.prepare(Run::Restart, None, now),
            Phase::Overdue { waited: false, .. } => self.phase = Phase::BackingOff { tree: None, waited: false },
            Phase::Stopped
            | Phase::Failed
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { tree: None, .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::BackingOff { tree: None, .. } => {}
        }
    }

    pub(super) fn backoff_elapsed(&mut self, now: Now) {
        match &mut self.phase {
            Phase::BackingOff { tree: None, .. } => self.prepare(Run::Restart, None, now),
            Phase::BackingOff { waited, .. } | Phase::Overdue { waited, .. } => *waited = true,
            Phase::Stopped
            | Phase::Failed
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. } => {}
        }
    }

    /// The task panicked, so no more events come from it. Every waiting call is settled with this failure.
    pub(super) fn faulted(&mut self, problem: String, now: Now) {
        let failure = Failure::Internal { problem };
        match &self.phase {
            Phase::Arming { ticket, .. } => self.waiting.push((*ticket, Ok(()))),
            Phase::Preparing { run, .. } | Phase::Spawning { run, .. } | Phase::Booting { run, .. } => {
                if let Run::Requested(ticket) | Run::Upgrade(ticket) = run {
                    self.waiting.push((*ticket, Ok(())));
                }
            }
            Phase::Stopping { stop_for, .. } => {
                if let StopFor::Restart(ticket) | StopFor::Upgrade(ticket) | StopFor::Rollback { ticket, .. } = stop_for {
                    self.waiting.push((*ticket, Ok(())));
                }
            }
            Phase::Stopped
            | Phase::Failed
            | Phase::Armed
            | Phase::Stuck { .. }
            | Phase::Running { .. }
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => {}
        }
        self.end_turn();
        if let Some(second) = self.second.take() {
            self.waiting.extend(second.ticket.map(|ticket| (ticket, Ok(()))));
            self.effects.push(Effect::Abandon { generation: second.generation });
        }
        for (_, outcome) in &mut self.waiting {
            *outcome = Err(failure.clone());
        }
        self.next_restart_at = None;
        self.last_error = Some(failure);
        self.effects.push(Effect::Abandon { generation: self.generation });
        self.generation = self.issue();
        self.enter(Phase::Failed, self.last_error.as_ref().map(ToString::to_string), now);
        self.settle_waiting();
        self.settle_waiters();
    }
}
