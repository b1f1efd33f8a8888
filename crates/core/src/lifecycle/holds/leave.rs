//! How a session lets go of the plugin, and what follows if it was the last one.

use core::mem;
use std::collections::BTreeMap;

use super::{Asked, Call, DaemonState, DetachReason, Hold, HoldEffect, Holds, Parting, Request, Session, Stopping, Waiter};
use crate::error::Failure;

impl Holds {
    pub(super) fn let_go(&mut self, session: Session, request: Request) {
        self.reject_queued(|waiter| waiter.session == session);
        if let Some(stop) = &mut self.stop
            && (stop.leaving.contains_key(&session) || stop.leaver.is_some_and(|(leaver, _)| leaver == session))
        {
            return stop.requests.push((session, request));
        }
        if let Some(failure) = self.outlives_host().filter(|_| self.has(session)) {
            // As that of an exclusive plugin, this session's state is 'error'.
            let failure = failure.clone();
            self.answer(session, request, Err(failure));
        } else if self.has(session) {
            self.leave(session, DetachReason::LetGo, &Failure::Stopped, Some(request));
        } else {
            self.answer(session, request, Ok(()));
        }
    }

    /// A start or a wait is aborted. An unknown one was answered before.
    pub(super) fn aborted(&mut self, session: Session, request: Request) {
        let starts = self.start.iter().flat_map(|start| &start.waiters).any(|waiter| waiter.request == request);
        let uses = self.calls.values().filter_map(Asked::waiter).any(|waiter| waiter.request == request);
        if starts || uses {
            return self.leave(session, DetachReason::Aborted, &Failure::Stopped, None);
        }
        self.reject_queued(|waiter| waiter.request == request);
        for (session, request) in self.withheld.extract_if(.., |(_, other)| *other == request).collect::<Vec<_>>() {
            self.answer(session, request, Err(Failure::Stopped));
        }
        for wait in self.take_calls(|asked| matches!(asked, Asked::Wait { request: other, .. } if *other == request)) {
            self.answer_asked(wait);
        }
    }

    /// The time of one start is over. The start itself goes on for the others.
    pub(super) fn timed_out(&mut self, request: Request, failure: Failure) {
        if let Some(start) = &mut self.start
            && let Some(waiter) = start.waiters.iter_mut().find(|waiter| waiter.request == request)
        {
            waiter.timed = false;
            let session = waiter.session;
            return if start.waiters.len() > 1 {
                self.leave(session, DetachReason::TimedOut, &failure, None);
            } else {
                self.effects.push(HoldEffect::Expire { call: start.call });
            };
        }
        if let Some(waiter) = self.calls.values_mut().filter_map(Asked::waiter_mut).find(|waiter| waiter.request == request) {
            waiter.timed = false;
            let session = waiter.session;
            self.leave(session, DetachReason::TimedOut, &failure, None);
        }
    }

    /// What the session has asked for is not answered any more.
    pub(super) fn session_ended(&mut self, session: Session) {
        self.queue.retain(|waiter| waiter.session != session);
        self.withheld.retain(|(other, _)| *other != session);
        if let Some(stop) = &mut self.stop {
            stop.requests.retain(|(other, _)| *other != session);
            stop.partings.retain(|parting| parting.session != session);
            stop.leaver.take_if(|(leaver, _)| *leaver == session);
            if stop.leaving.remove(&session).is_some() {
                self.detach(session, DetachReason::Ended);
            }
        }
        if self.has(session) {
            self.leave(session, DetachReason::Ended, &Failure::Stopped, None);
        }
        // Also of a session that did not have the plugin.
        drop(self.take_calls(|asked| asked.is_of(session)));
        self.settle_rest();
    }

    /// The session no longer has the plugin. `failure`: of its start, if that is not answered yet. `request`: stopProcess.
    fn leave(&mut self, session: Session, reason: DetachReason, failure: &Failure, request: Option<Request>) {
        let Some(hold) = self.has.remove(&session) else { return };
        let starts = self.take_starts(session);
        self.detach(session, reason);
        let is_warm = starts.is_empty() && self.start.is_none() && !self.daemon.is_at_rest();
        let lingers = self.has.is_empty() && is_warm && !hold.linger.is_zero();
        if self.has.is_empty() && !lingers && !self.is_over() {
            self.begin_stop(Some((session, hold)));
            return self.answer_at_end(session, reason, starts, failure, request);
        }
        if reason == DetachReason::Ended {
            starts.iter().for_each(|waiter| self.disarm(waiter));
        } else {
            starts.iter().for_each(|waiter| self.answer_start(waiter, Err(failure.clone())));
            for asked in self.take_calls(|asked| asked.is_of(session)) {
                self.answer_asked(asked);
            }
            if let Some(request) = request {
                self.answer(session, request, Ok(()));
            }
        }
        if lingers {
            self.lingers = true;
            self.effects.push(HoldEffect::ArmLinger { after: hold.linger });
        }
        self.settle_rest();
    }

    /// The session was the last one: its start and its stop are answered at the end of the stop.
    fn answer_at_end(&mut self, session: Session, reason: DetachReason, starts: Vec<Waiter>, failure: &Failure, request: Option<Request>) {
        starts.iter().for_each(|waiter| self.disarm(waiter));
        let Some(stop) = &mut self.stop else { return };
        if reason == DetachReason::Ended {
            stop.leaver = None;
            return;
        }
        stop.partings.extend(starts.iter().map(|waiter| Parting { session, request: waiter.request, failure: failure.clone() }));
        stop.requests.extend(request.map(|request| (session, request)));
    }

    /// The starts of the session that are not answered yet.
    fn take_starts(&mut self, session: Session) -> Vec<Waiter> {
        let mut starts: Vec<Waiter> =
            self.start.iter_mut().flat_map(|start| start.waiters.extract_if(.., |waiter| waiter.session == session)).collect();
        starts.extend(self.take_uses(|waiter| waiter.session == session));
        starts
    }

    /// The session of the call has let go.
    fn answer_asked(&mut self, asked: Asked) {
        if let Some((session, request)) = asked.asker() {
            self.answer(session, request, Err(Failure::Stopped));
        }
    }

    fn reject_queued(&mut self, wanted: impl Fn(&Waiter) -> bool) {
        for waiter in self.queue.extract_if(.., |waiter| wanted(waiter)).collect::<Vec<_>>() {
            self.answer(waiter.session, waiter.request, Err(Failure::Stopped));
            for (session, request) in self.take_withheld(waiter.session) {
                self.answer(session, request, Err(Failure::Stopped));
            }
        }
    }

    pub(super) fn stop_everywhere(&mut self, by: Option<(Session, Request)>) {
        self.reject_queued(|_| true);
        if let (Some(failure), true) = (self.outlives_host(), self.stop.is_none()) {
            let failure = failure.clone();
            if let Some((session, request)) = by {
                self.answer(session, request, Err(failure));
            }
            return;
        }
        if self.stop.is_none() && self.is_over() {
            for session in mem::take(&mut self.has).into_keys() {
                self.detach(session, DetachReason::Everywhere);
            }
            // Starts that waited for a restart, which came to nothing.
            for waiter in self.take_uses(|_| true) {
                self.answer_start(&waiter, Err(Failure::Stopped));
            }
            if let Some((session, request)) = by {
                self.answer(session, request, Ok(()));
            }
            return self.settle_rest();
        }
        if self.stop.is_none() {
            let leaving = mem::take(&mut self.has);
            self.begin_stop(None);
            if let Some(stop) = &mut self.stop {
                stop.leaving = leaving;
            }
        }
        if let Some(stop) = &mut self.stop {
            stop.requests.extend(by);
        }
    }

    /// Stops the daemon. The starts that are under way fail at the end of the stop.
    pub(super) fn begin_stop(&mut self, leaver: Option<(Session, Hold)>) {
        self.end_linger();
        let mut waiters = self.start.take().map(|start| start.waiters).unwrap_or_default();
        waiters.extend(self.take_uses(|_| true));
        waiters.iter().for_each(|waiter| self.disarm(waiter));
        let parting = |Waiter { session, request, .. }| Parting { session, request, failure: Failure::Stopped };
        let partings = waiters.into_iter().map(parting).collect();
        let call = self.call(Call::Stop);
        self.stop = Some(Stopping { call, requests: Vec::new(), partings, leaver, leaving: BTreeMap::new() });
    }

    pub(super) fn linger_over(&mut self) {
        if mem::take(&mut self.lingers) {
            self.begin_stop(None);
        }
    }

    /// If nobody has the plugin, and nothing of it is left: it is forgotten. Processes that SIGKILL did not end are stopped again.
    pub(super) fn settle_rest(&mut self) {
        if !self.has.is_empty() || !self.queue.is_empty() || self.stop.is_some() {
            return;
        }
        if !self.is_idle() {
            // A restart by another session has overtaken the end of the last one.
            if !self.daemon.is_at_rest() && self.start.is_none() && !self.lingers {
                self.begin_stop(None);
            }
            return;
        }
        self.end_linger();
        match self.daemon {
            DaemonState::Error if self.outlives_host().is_some() => {}
            DaemonState::Error => self.begin_stop(None),
            DaemonState::Stopped => {
                self.daemon = DaemonState::Unknown;
                self.effects.push(HoldEffect::Forget);
            }
            _ => {}
        }
    }
}
