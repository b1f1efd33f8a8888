//! Daemons that start at the first connection, and are stopped when they have none.

use core::time::Duration;

use super::{ACKNOWLEDGEMENT_TIMEOUT, Machine, WAKE_TIMEOUT};
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Notice, Timer};
use crate::lifecycle::phase::{Acknowledgement, Leader, Now, Phase, Rest, Run, StopFor, Ticket};
use crate::lifecycle::restart::Window;
use crate::model::{ExitReason, ProcessState};

/// A daemon that connections start more often than this does not serve them.
const ACTIVATIONS: Window = Window { limit: 20, period: Duration::from_secs(10) };

impl Machine {
    /// A start or an upgrade of a daemon without a process.
    pub(super) fn leave_rest(&mut self, ticket: Ticket, rest: Option<Box<Rest>>, now: Now) {
        if !self.plan.on_demand {
            return self.prepare(Run::Requested(ticket), rest, now);
        }
        self.generation = self.issue();
        self.enter(Phase::Arming { ticket, rest }, Some("armed".to_owned()), now);
        self.effects.push(Effect::Prepare { generation: self.generation, requested: true, succeeds: None });
    }

    /// The preparation is over, and the socket listens.
    pub(super) fn armed(&mut self, ticket: Ticket) {
        self.announce();
        self.last_error = None;
        self.phase = Phase::Armed;
        self.started = Some(ticket);
        self.listen();
        // As in `ready`: a start took the place of the old generation's restart.
        self.settle_waiting();
        self.settle(ticket, Ok(()));
    }

    fn listen(&mut self) {
        self.attempts = 0;
        self.failed_checks = 0;
        self.effects.push(Effect::Listen { generation: self.generation });
        self.effects.push(Effect::Notify(Notice::Armed));
        self.settle_waiters();
    }

    pub(super) fn arming_failed(&mut self, ticket: Ticket, failure: Failure, now: Now) {
        self.waiting.push((ticket, Err(failure.clone())));
        self.finish(StopFor::Failure { failure, state: ProcessState::Stopped, reason: ExitReason::Startup }, now);
    }

    pub(super) fn connected(&mut self, now: Now) {
        if self.phase != Phase::Armed {
            return;
        }
        if !self.activations.admit(ACTIVATIONS, now.mono) {
            let failure = Failure::TooManyActivations { limit: ACTIVATIONS.limit, period: ACTIVATIONS.period };
            return self.finish(StopFor::Failure { failure, state: ProcessState::Stopped, reason: ExitReason::Startup }, now);
        }
        self.effects.push(Effect::Notify(Notice::Connected));
        self.prepare(Run::Connection, None, now);
    }

    /// The tree is gone, and the socket waits for the next connection.
    pub(super) fn rearm(&mut self, reason: ExitReason, now: Now) {
        self.enter(Phase::Armed, Some(reason.as_str().to_owned()), now);
        self.listen();
        // The old generation has served again after an upgrade that came to nothing.
        self.settle_waiting();
    }

    pub(super) fn idle(&mut self) {
        if let Phase::Running { pid, since } = self.phase
            && self.plan.stops_idle
            && !self.closed
        {
            self.pause_checks();
            self.phase = Phase::Freezing { pid, since, acknowledgement: Acknowledgement::Pending };
            self.effects.push(Effect::Freeze { generation: self.generation });
            self.arm(Timer::Acknowledgement, ACKNOWLEDGEMENT_TIMEOUT);
        }
    }

    pub(super) fn frozen(&mut self, idle: bool, now: Now) {
        let Phase::Freezing { pid, .. } = self.phase else { return };
        if idle {
            self.disarm(Timer::Acknowledgement);
            self.disarm_reset();
            // The stop signal comes before SIGCONT, so the daemon runs no code before it.
            self.stop_tree(Leader::Alive(pid), StopFor::Rearm(ExitReason::Idle), now);
        } else {
            self.stop_freezing();
        }
    }

    /// The keeper has not answered `Freeze` in time.
    pub(super) fn freeze_overdue(&mut self) {
        if let Phase::Freezing { acknowledgement, .. } = &mut self.phase {
            if *acknowledgement == Acknowledgement::Late {
                return self.run_on();
            }
            *acknowledgement = Acknowledgement::Late;
            self.effects.push(Effect::WakeKeeper { generation: self.generation });
            self.arm(Timer::Acknowledgement, WAKE_TIMEOUT);
        }
    }

    /// Something else follows than the stop of an idle daemon.
    pub(super) fn stop_freezing(&mut self) {
        if matches!(self.phase, Phase::Freezing { .. }) {
            self.disarm(Timer::Acknowledgement);
            self.run_on();
        }
    }

    fn run_on(&mut self) {
        if let Phase::Freezing { pid, since, .. } = self.phase {
            self.thaw();
            self.phase = Phase::Running { pid, since };
            self.resume_checks();
        }
    }

    pub(super) fn thaw(&mut self) {
        self.effects.push(Effect::Thaw { generation: self.generation });
    }
}
