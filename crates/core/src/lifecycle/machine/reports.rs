//! Events from the supervisor.

use core::time::Duration;

use super::{Machine, ORDERS_MAX};
use crate::error::{Code, Failure};
use crate::lifecycle::event::{Effect, Notice, Signal, Timer};
use crate::lifecycle::phase::{Ended, LastExit, Leader, Left, Now, Phase, Run, StopFor, TreeState};
use crate::lifecycle::restart::{RestartOn, RestartPlan};
use crate::model::{Exit, ExitReason, ExitUsage, Pid};

/// An exit of the leader. `left`: the leader of what is left of the tree. `connected`: a connection is open or waits.
pub(super) struct Exited {
    pub exit: Exit,
    pub usage: Option<ExitUsage>,
    pub left: Option<Leader>,
    pub connected: bool,
}

impl Machine {
    pub(super) fn prepared(&mut self) {
        match self.phase {
            Phase::Arming { ticket, .. } => self.armed(ticket),
            Phase::Preparing { run, .. } => {
                self.announce();
                // Without `enter`: the public state stays the same.
                self.phase = Phase::Spawning { run, orders: 1 };
                self.effects.push(Effect::Spawn { generation: self.generation });
                self.arm(Timer::Startup, self.plan.startup_timeout);
            }
            Phase::Stopped
            | Phase::Failed
            | Phase::Armed
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stuck { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => {}
        }
    }

    pub(super) fn prepare_failed(&mut self, failure: Failure, now: Now) {
        match &mut self.phase {
            Phase::Preparing { run: Run::Requested(ticket), rest }
                if matches!(failure.code(), Code::OwnedElsewhere | Code::Dependency) && rest.is_some() =>
            {
                let (ticket, rest) = (*ticket, rest.take());
                rest.into_iter().for_each(|rest| self.withdraw(ticket, *rest, &failure));
            }
            Phase::Arming { ticket, rest } if matches!(failure.code(), Code::OwnedElsewhere | Code::Dependency) && rest.is_some() => {
                let (ticket, rest) = (*ticket, rest.take());
                rest.into_iter().for_each(|rest| self.withdraw(ticket, *rest, &failure));
            }
            Phase::Arming { ticket, .. } => {
                let ticket = *ticket;
                self.arming_failed(ticket, failure, now);
            }
            Phase::Preparing { run, .. } => {
                let run = *run;
                self.run_failed(run, None, failure, now);
            }
            Phase::Stopped
            | Phase::Failed
            | Phase::Armed
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stuck { .. }
            | Phase::Spawning { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => {}
        }
    }

    pub(super) fn spawned(&mut self, pid: Pid) {
        let generation = self.generation;
        match &mut self.phase {
            Phase::Spawning { run, .. } => {
                self.phase = Phase::Booting { run: *run, pid };
                self.effects.push(Effect::Notify(Notice::Spawned { pid }));
                self.effects.push(Effect::AwaitReady { generation });
            }
            Phase::Stopping { tree, .. } | Phase::BackingOff { tree: Some(tree), .. } if tree.leader == Leader::Pending => {
                if let Some((mut stop, tree)) = self.stopping() {
                    stop.spawned(tree, pid);
                }
            }
            // SIGKILL was sent before, and has not ended the tree in time.
            Phase::Stuck { tree: TreeState { leader, .. } } | Phase::Overdue { leader, .. } if *leader == Leader::Pending => {
                *leader = Leader::Alive(pid);
                self.effects.push(Effect::Notify(Notice::Spawned { pid }));
                self.effects.push(Effect::Signal { generation: self.generation, signal: Signal::Kill });
            }
            Phase::Stopping { .. }
            | Phase::Stuck { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Preparing { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. } => {}
        }
    }

    pub(super) fn spawn_failed(&mut self, failure: Failure, now: Now) {
        match &self.phase {
            Phase::Spawning { run, .. } => {
                let run = *run;
                self.disarm(Timer::Startup);
                self.run_failed(run, None, failure, now);
            }
            // No process was made, so there is no tree to stop.
            Phase::Stopping { tree, .. } | Phase::Stuck { tree } | Phase::BackingOff { tree: Some(tree), .. }
                if tree.leader == Leader::Pending =>
            {
                self.tree_gone(None, now);
            }
            Phase::Overdue { leader: Leader::Pending, .. } => self.tree_gone(None, now),
            Phase::Stopping { .. }
            | Phase::Stuck { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. }
            | Phase::Stopped
            | Phase::Failed
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Preparing { .. }
            | Phase::Booting { .. }
            | Phase::Running { .. } => {}
        }
    }

    /// The guardian ended with the order. If the daemon is still starting, the order is repeated.
    pub(super) fn order_lost(&mut self, failure: Failure, now: Now) {
        if let Phase::Spawning { orders, .. } = &mut self.phase
            && *orders < ORDERS_MAX
        {
            *orders += 1;
            return self.effects.push(Effect::Spawn { generation: self.generation });
        }
        self.spawn_failed(failure, now);
    }

    /// The attempt fails before readiness: timeout, another process at the socket path, or an unwritable record.
    pub(super) fn boot_failed(&mut self, failure: Failure, now: Now) {
        let (run, leader) = match self.phase {
            Phase::Spawning { run, .. } => (run, Leader::Pending),
            Phase::Booting { run, pid } => (run, Leader::Alive(pid)),
            Phase::Stopped
            | Phase::Failed
            | Phase::Arming { .. }
            | Phase::Armed
            | Phase::Freezing { .. }
            | Phase::Upgrading { .. }
            | Phase::AwaitingSuccessor { .. }
            | Phase::Stuck { .. }
            | Phase::Preparing { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => return,
        };
        self.disarm(Timer::Startup);
        self.effects.push(Effect::StopAwaiting { generation: self.generation });
        self.run_failed(run, Some(leader), failure, now);
    }

    pub(super) fn ready(&mut self, now: Now) {
        match self.phase {
            Phase::Booting { run, pid } => {
                self.disarm(Timer::Startup);
                if self.plan.restart.reset_after.is_zero() {
                    self.attempts = 0;
                }
                self.failed_checks = 0;
                self.last_error = None;
                self.enter(Phase::Running { pid, since: now.mono }, None, now);
                self.begin_running();
                match run {
                    Run::Requested(ticket) => {
                        self.started = Some(ticket);
                        self.settle(ticket, Ok(()));
                    }
                    Run::Upgrade(ticket) => {
                        self.turn = None;
                        self.settle(ticket, Ok(()));
                    }
                    Run::Restart | Run::Connection => {}
                }
                // The old generation runs again after an upgrade that came to nothing.
                self.settle_waiting();
                self.settle_waiters();
            }
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
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::BackingOff { .. }
            | Phase::Overdue { .. } => {}
        }
    }

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

    pub(super) fn probe_due(&mut self) {
        if let Phase::Running { .. } = self.phase {
            self.effects.push(Effect::StartProbe { generation: self.generation });
        }
    }

    pub(super) fn probe_passed(&mut self, latency: Duration) {
        if let (Phase::Running { .. }, Some((interval, _))) = (&self.phase, self.plan.health) {
            self.failed_checks = 0;
            self.effects.push(Effect::Notify(Notice::Checked { healthy: true, latency, failures: 0, error: None }));
            self.arm(Timer::Probe, next_check(interval, latency));
        }
    }

    pub(super) fn probe_failed(&mut self, latency: Duration, error: String, now: Now) {
        let (Phase::Running { pid, .. }, Some((interval, retries))) = (&self.phase, self.plan.health) else { return };
        let pid = *pid;
        self.failed_checks += 1;
        let failures = self.failed_checks;
        self.effects.push(Effect::Notify(Notice::Checked { healthy: false, latency, failures, error: Some(error.clone()) }));
        if failures < retries {
            return self.arm(Timer::Probe, next_check(interval, latency));
        }
        self.disarm_reset();
        self.stop_watching();
        self.stop_watching_idle();
        self.replace_running(pid, ExitReason::Unhealthy, Failure::Unhealthy { checks: failures, last: error }, now);
    }

    pub(super) fn memory_exceeded(&mut self, memory: u64, now: Now) {
        let (Phase::Running { pid, .. }, Some(limit)) = (&self.phase, self.plan.memory) else { return };
        let pid = *pid;
        self.stop_probing();
        self.disarm_reset();
        self.stop_watching_idle();
        self.replace_running(pid, ExitReason::Memory, Failure::OverMemory { memory, limit }, now);
    }

    pub(super) fn socket_lost(&mut self, failure: Failure, now: Now) {
        let pid = match self.phase {
            Phase::Running { pid, .. } => {
                self.leave_running();
                pid
            }
            Phase::Freezing { pid, .. } => {
                self.disarm(Timer::Acknowledgement);
                self.disarm_reset();
                pid
            }
            _ => return self.boot_failed(failure, now),
        };
        self.replace_running(pid, ExitReason::Unhealthy, failure, now);
    }

    pub(super) fn reset_elapsed(&mut self) {
        if self.phase.running_since().is_some() {
            self.attempts = 0;
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

/// Checks begin one interval apart, whatever a check takes. A hung daemon is therefore found within `retries` intervals. If a
/// check took longer than the interval, the next one begins at once.
pub(super) const fn next_check(interval: Duration, latency: Duration) -> Duration {
    interval.saturating_sub(latency)
}
