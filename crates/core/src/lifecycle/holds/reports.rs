//! Events from the host's manager.

use core::mem;
use core::time::Duration;

use super::requests::time;
use super::{Asked, CallId, DaemonState, DetachReason, Ending, HoldEffect, Holds, Stage, Starting, Stopping, Waiter};
use crate::error::{Code, Failure};

impl Holds {
    pub(super) fn daemon_changed(&mut self, state: DaemonState) {
        self.daemon = state;
        match state {
            DaemonState::Starting(Stage::Spawned) => self.attempt_spawned(),
            // A start that comes now begins at once, and so does one that came before.
            DaemonState::Starting(Stage::Pending) if self.start.is_none() && self.stop.is_none() => {
                // The others join it.
                if let Some(call) = self.calls.iter().find_map(|(call, asked)| asked.waiter().map(|_| *call))
                    && let Some(Asked::Use(waiter)) = self.take_call(call)
                {
                    self.begin_start(Waiter { fresh: false, ..waiter });
                }
            }
            _ => {}
        }
        self.settle_rest();
    }

    /// The time of the starts that wait for this attempt begins.
    fn attempt_spawned(&mut self) {
        if let Some(start) = &mut self.start {
            let longest = start.waiters.iter().map(|waiter| waiter.timeout).max().unwrap_or(Duration::ZERO);
            if longest > start.limit {
                self.effects.push(HoldEffect::Extend { call: start.call, by: longest });
            }
            start.waiters.iter_mut().for_each(|waiter| time(waiter, &mut self.effects));
        }
        self.calls.values_mut().filter_map(Asked::waiter_mut).for_each(|waiter| time(waiter, &mut self.effects));
    }

    pub(super) fn settled(&mut self, call: CallId, outcome: Result<(), Failure>) {
        if let Some(start) = self.start.take_if(|start| start.call == call) {
            self.start_settled(start, outcome);
        } else if let Some(stop) = self.stop.take_if(|stop| stop.call == call) {
            self.stop_settled(stop, &outcome);
        } else if let Some(asked) = self.calls.remove(&call) {
            self.asked_settled(asked, outcome);
        }
        self.settle_rest();
    }

    fn start_settled(&mut self, start: Starting, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => start.waiters.iter().for_each(|waiter| self.answer_start(waiter, Ok(()))),
            // A restart has overtaken the start, or the daemon was restarted before the call arrived.
            Err(Failure::Stopped | Failure::AlreadyRunning(_) | Failure::AlreadyArmed)
                if !self.daemon.is_at_rest() || self.is_restarting() =>
            {
                start.waiters.into_iter().for_each(|waiter| self.wait_for_daemon(waiter));
            }
            Err(failure) => {
                let is_refusal = self.daemon == DaemonState::Unknown || is_refusal(&failure);
                for waiter in start.waiters {
                    self.answer_start(&waiter, Err(failure.clone()));
                    if is_refusal && waiter.fresh && self.has.remove(&waiter.session).is_some() {
                        self.detach(waiter.session, DetachReason::Refused);
                    }
                }
            }
        }
    }

    fn stop_settled(&mut self, stop: Stopping, outcome: &Result<(), Failure>) {
        let Stopping { requests, partings, leaver, leaving, .. } = stop;
        let is_gone = outcome.as_ref().err().is_none_or(|failure| failure.code() == Code::Io);
        if is_gone {
            self.daemon = DaemonState::Stopped;
            leaving.keys().for_each(|session| self.detach(*session, DetachReason::Everywhere));
        } else {
            // The daemon is still theirs, in the state 'error'.
            self.daemon = DaemonState::Error;
            if let (true, Err(failure)) = (self.is_ending(), outcome) {
                self.ending = Ending::Failed(failure.clone());
            }
            self.has = leaving;
            if let Some((session, hold)) = leaver {
                self.has.insert(session, hold);
                self.effects.push(HoldEffect::Attach { session });
            }
        }
        for parting in partings {
            self.answer(parting.session, parting.request, Err(parting.failure));
        }
        for (session, request) in requests {
            self.answer(session, request, outcome.clone());
        }
        let mut queue = mem::take(&mut self.queue).into_iter();
        if let Some(first) = queue.next() {
            self.begin_start(Waiter { fresh: !self.has(first.session), ..first });
        }
        for Waiter { session, request, .. } in queue {
            self.effects.push(HoldEffect::Again { session, request });
        }
    }

    fn asked_settled(&mut self, asked: Asked, outcome: Result<(), Failure>) {
        match asked {
            Asked::Use(waiter) => match outcome {
                // The daemon has ended by itself.
                Err(Failure::AtRest | Failure::NotFound) if self.start.is_none() => self.begin_start(Waiter { fresh: false, ..waiter }),
                outcome => self.answer_start(&waiter, outcome),
            },
            Asked::Upgrade { session, request, linger } => {
                if let (Ok(()), Some(linger), Some(hold)) = (&outcome, linger, self.has.get_mut(&session)) {
                    hold.linger = linger;
                }
                self.answer(session, request, outcome);
            }
            Asked::Restart { session, request } | Asked::Wait { session, request } => self.answer(session, request, outcome),
            Asked::Unasked => {}
        }
    }
}

/// Whether the start has changed nothing.
fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.code(), Code::OwnedElsewhere | Code::Dependency | Code::InvalidConfig | Code::ShuttingDown | Code::AlreadyRunning)
}
