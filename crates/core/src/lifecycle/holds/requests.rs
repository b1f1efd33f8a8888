//! Events from sessions that have the plugin, or want it.

use core::time::Duration;

use super::{Asked, Call, DaemonState, Fit, Hold, HoldEffect, Holds, Request, Session, Stage, Starting, Waiter};
use crate::error::Failure;
use crate::model::ProcessState;

impl Holds {
    pub(super) fn start_requested(&mut self, waiter: Waiter, fit: Fit) {
        if let Some(failure) = self.already(waiter.session) {
            return self.refuse(&waiter, &failure);
        }
        if self.stop.is_some() {
            return self.queue.push(waiter);
        }
        if self.start.is_none()
            && (self.is_idle() || self.daemon == DaemonState::Starting(Stage::Pending) && self.may_replace(&waiter, &fit))
        {
            return self.begin_start(waiter);
        }
        match fit {
            Fit::Equal => self.attach_to_daemon(waiter),
            // Only a daemon that nobody has makes room.
            Fit::Differs { .. } if self.has.is_empty() => {
                self.begin_stop(None);
                self.queue.push(waiter);
            }
            Fit::Differs { fields, upgraded } => self.refuse(&waiter, &Failure::SharedDiffers { fields, upgraded }),
        }
    }

    fn refuse(&mut self, waiter: &Waiter, failure: &Failure) {
        self.answer(waiter.session, waiter.request, Err(failure.clone()));
        if !self.queue.iter().any(|queued| queued.session == waiter.session) {
            for (session, request) in self.take_withheld(waiter.session) {
                self.answer(session, request, Err(failure.clone()));
            }
        }
    }

    pub(super) fn take_withheld(&mut self, session: Session) -> Vec<(Session, Request)> {
        self.withheld.extract_if(.., |(other, _)| *other == session).collect()
    }

    /// A pending restart makes room for a start with its own configuration, or with that of the only session that has the plugin.
    fn may_replace(&self, waiter: &Waiter, fit: &Fit) -> bool {
        *fit == Fit::Equal || self.has.keys().all(|session| *session == waiter.session)
    }

    /// Why this session can't start the plugin: its own former call is under way, or it has the daemon.
    fn already(&self, session: Session) -> Option<Failure> {
        if self.queue.iter().any(|waiter| waiter.session == session) {
            return Some(Failure::AlreadyRunning(ProcessState::Starting));
        }
        if let Some(stop) = &self.stop {
            let is_leaving = stop.leaving.contains_key(&session) || stop.leaver.is_some_and(|(leaver, _)| leaver == session);
            return is_leaving.then_some(Failure::AlreadyRunning(ProcessState::Stopping));
        }
        if !self.has(session) || self.is_idle() {
            return None;
        }
        match self.daemon {
            _ if self.start.is_some() => Some(Failure::AlreadyRunning(ProcessState::Starting)),
            DaemonState::Starting(Stage::Pending) => None,
            DaemonState::Armed => Some(Failure::AlreadyArmed),
            DaemonState::Running => Some(Failure::AlreadyRunning(ProcessState::Running)),
            DaemonState::Stopping => Some(Failure::AlreadyRunning(ProcessState::Stopping)),
            DaemonState::Starting(_) | DaemonState::Unknown | DaemonState::Stopped | DaemonState::Error => {
                Some(Failure::AlreadyRunning(ProcessState::Starting))
            }
        }
    }

    /// The session has the plugin from now on.
    fn enter(&mut self, waiter: &mut Waiter) {
        self.end_linger();
        self.has.insert(waiter.session, Hold { linger: waiter.linger });
        // Also to one that has it, as after a start that failed: it waits to hear that this start was taken.
        if !core::mem::replace(&mut waiter.entered, true) {
            self.effects.push(HoldEffect::Attach { session: waiter.session });
        }
        for (session, request) in self.take_withheld(waiter.session) {
            self.wait_requested(session, request);
        }
    }

    /// Makes the daemon. Starts that wait for a restart wait for this start from now on.
    pub(super) fn begin_start(&mut self, mut maker: Waiter) {
        let call = self.call(Call::Start { of: maker.request });
        self.enter(&mut maker);
        let mut waiters = vec![maker];
        waiters.extend(self.take_uses(|waiter| waiter.request != maker.request));
        self.start = Some(Starting { call, limit: maker.timeout, waiters });
    }

    fn attach_to_daemon(&mut self, mut waiter: Waiter) {
        self.enter(&mut waiter);
        let is_spawned = self.daemon == DaemonState::Starting(Stage::Spawned);
        if let Some(start) = &mut self.start {
            if is_spawned {
                self.effects.push(HoldEffect::Extend { call: start.call, by: waiter.timeout });
                time(&mut waiter, &mut self.effects);
            }
            start.waiters.push(waiter);
        } else if matches!(self.daemon, DaemonState::Running | DaemonState::Armed) && !self.is_restarting() {
            self.answer(waiter.session, waiter.request, Ok(()));
        } else {
            self.wait_for_daemon(waiter);
        }
    }

    pub(super) fn is_restarting(&self) -> bool {
        self.calls.values().any(|asked| matches!(asked, Asked::Restart { .. } | Asked::Unasked))
    }

    /// Until the restart that is under way has made the daemon.
    pub(super) fn wait_for_daemon(&mut self, mut waiter: Waiter) {
        if self.daemon == DaemonState::Starting(Stage::Spawned) {
            time(&mut waiter, &mut self.effects);
        }
        self.ask(Call::Use, Asked::Use(waiter));
    }

    pub(super) fn restart_requested(&mut self, session: Session, request: Request) {
        if self.stop.is_some() {
            return self.answer(session, request, Err(Failure::AlreadyRunning(ProcessState::Stopping)));
        }
        if self.has.is_empty() && !self.lingers {
            return self.answer(session, request, Err(Failure::NotFound));
        }
        // The other sessions wait for the restart: see `start_settled`.
        if let Some(start) = &mut self.start {
            let own: Vec<Waiter> = start.waiters.extract_if(.., |waiter| waiter.session == session).collect();
            own.iter().for_each(|waiter| self.answer_start(waiter, Err(Failure::Stopped)));
        }
        self.ask(Call::Restart, Asked::Restart { session, request });
    }

    pub(super) fn upgrade_requested(&mut self, session: Session, request: Request, linger: Option<Duration>) {
        if self.has(session) {
            self.ask(Call::Upgrade { of: request }, Asked::Upgrade { session, request, linger });
            return;
        }
        let is_leaving = self.stop.as_ref().is_some_and(|stop| stop.leaving.contains_key(&session));
        let failure = if is_leaving { Failure::AlreadyRunning(ProcessState::Stopping) } else { Failure::NotFound };
        self.answer(session, request, Err(failure));
    }

    pub(super) fn wait_requested(&mut self, session: Session, request: Request) {
        let is_leaving = self.stop.as_ref().is_some_and(|stop| stop.leaving.contains_key(&session));
        if self.queue.iter().any(|waiter| waiter.session == session) {
            self.withheld.push((session, request));
        } else if self.has(session) || is_leaving {
            self.ask(Call::Wait, Asked::Wait { session, request });
        } else {
            self.answer(session, request, Err(Failure::NotFound));
        }
    }
}

/// Starts the timer of a start.
pub(super) fn time(waiter: &mut Waiter, effects: &mut Vec<HoldEffect>) {
    if !waiter.timed {
        waiter.timed = true;
        effects.push(HoldEffect::ArmTimeout { request: waiter.request, after: waiter.timeout });
    }
}
