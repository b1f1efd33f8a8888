//! Events from the supervisor on the way to RUNNING.

use super::{Machine, ORDERS_MAX};
use crate::error::{Code, Failure};
use crate::lifecycle::event::{Effect, Notice, Signal, Timer};
use crate::lifecycle::phase::{Leader, Now, Phase, Run, TreeState};
use crate::model::Pid;

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
            Phase::Preparing { run: Run::Requested(ticket), rest } if changes_nothing(&failure) && rest.is_some() => {
                let (ticket, rest) = (*ticket, rest.take());
                rest.into_iter().for_each(|rest| self.withdraw(ticket, *rest, &failure));
            }
            Phase::Arming { ticket, rest } if changes_nothing(&failure) && rest.is_some() => {
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
}

/// Whether a start that fails for this reason leaves the plugin as it was before the call. A configuration that is found wrong only
/// by the file system is as wrong as one that is found wrong at once.
fn changes_nothing(failure: &Failure) -> bool {
    matches!(failure.code(), Code::OwnedElsewhere | Code::Dependency | Code::InvalidConfig)
}
