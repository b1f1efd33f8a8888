//! Who has a shared plugin: a pure machine of one plugin in the host. Events in, effects out, without a clock and without I/O.
//!
//! A session has the plugin from its start until it lets go. The first start makes the daemon, a further one attaches. If the
//! last session lets go, the daemon is stopped, or lingers first. Starts that come during this stop wait for its end.
//!
//! The host's manager decides about the daemon itself. The holds only make calls, one for the start that is under way and one
//! for a stop, however many sessions wait for it.
//!
//! - `event`: the events and effects;
//! - `requests`: events from sessions;
//! - `leave`: how a session lets go, and stops;
//! - `reports`: events from the host's manager and its timers.

mod event;
mod leave;
mod reports;
mod requests;

use core::mem;
use core::time::Duration;
use std::collections::BTreeMap;

pub use event::{Call, CallId, DaemonState, DetachReason, Fit, HoldEffect, HoldEvent, Request, Session, Stage};

use crate::error::Failure;

#[derive(Debug, Clone, Copy)]
struct Hold {
    linger: Duration,
}

/// A start that is not answered yet.
#[derive(Debug, Clone, Copy)]
struct Waiter {
    session: Session,
    request: Request,
    timeout: Duration,
    linger: Duration,
    /// The session did not have the plugin before.
    fresh: bool,
    /// The session was told that it has the plugin.
    entered: bool,
    /// Its timer runs.
    timed: bool,
}

/// The call `Start` that is under way.
#[derive(Debug, Clone)]
struct Starting {
    call: CallId,
    /// The startupTimeout of the session whose start makes the daemon.
    limit: Duration,
    waiters: Vec<Waiter>,
}

/// A start of a session that has let go. It is answered at the end of the stop.
#[derive(Debug, Clone)]
struct Parting {
    session: Session,
    request: Request,
    failure: Failure,
}

/// The call `Stop` that is under way.
#[derive(Debug, Clone)]
struct Stopping {
    call: CallId,
    requests: Vec<(Session, Request)>,
    partings: Vec<Parting>,
    /// The last session, which has let go.
    leaver: Option<(Session, Hold)>,
    /// The sessions that had the plugin when it was stopped for all.
    leaving: BTreeMap<Session, Hold>,
}

/// Another call that is under way.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Restart {
        session: Session,
        request: Request,
    },
    Upgrade {
        session: Session,
        request: Request,
        linger: Option<Duration>,
    },
    Wait {
        session: Session,
        request: Request,
    },
    /// A start that waits for a restart.
    Use(Waiter),
    /// A restart or an upgrade whose session has let go.
    Unasked,
}

impl Asked {
    /// Who waits for the answer.
    const fn asker(&self) -> Option<(Session, Request)> {
        match self {
            Self::Restart { session, request } | Self::Upgrade { session, request, .. } | Self::Wait { session, request } => {
                Some((*session, *request))
            }
            Self::Use(waiter) => Some((waiter.session, waiter.request)),
            Self::Unasked => None,
        }
    }

    fn is_of(&self, session: Session) -> bool {
        self.asker().is_some_and(|(asker, _)| asker == session)
    }

    const fn waiter(&self) -> Option<&Waiter> {
        if let Self::Use(waiter) = self { Some(waiter) } else { None }
    }

    const fn waiter_mut(&mut self) -> Option<&mut Waiter> {
        if let Self::Use(waiter) = self { Some(waiter) } else { None }
    }

    /// Whether the call changes the daemon.
    const fn acts(&self) -> bool {
        matches!(self, Self::Restart { .. } | Self::Upgrade { .. } | Self::Unasked)
    }
}

#[derive(Debug, Clone)]
pub struct Holds {
    daemon: DaemonState,
    /// The sessions that have the plugin. Empty while a stop is under way.
    has: BTreeMap<Session, Hold>,
    /// The starts that wait for the end of a stop.
    queue: Vec<Waiter>,
    /// whenRunning of sessions whose start waits for the end of a stop.
    withheld: Vec<(Session, Request)>,
    start: Option<Starting>,
    stop: Option<Stopping>,
    calls: BTreeMap<CallId, Asked>,
    lingers: bool,
    ending: Ending,
    issued: CallId,
    effects: Vec<HoldEffect>,
}

/// Whether the host ends.
#[derive(Debug, Clone)]
enum Ending {
    No,
    /// Sessions that have the plugin do not keep the host, and nothing new begins.
    Begun,
    /// The host can't end the daemon. It leaves all the same: keepers and guardian stay with what is left.
    Failed(Failure),
}

impl Default for Holds {
    fn default() -> Self {
        Self::new()
    }
}

impl Holds {
    pub const fn new() -> Self {
        Self {
            daemon: DaemonState::Unknown,
            has: BTreeMap::new(),
            queue: Vec::new(),
            withheld: Vec::new(),
            start: None,
            stop: None,
            calls: BTreeMap::new(),
            lingers: false,
            ending: Ending::No,
            issued: 0,
            effects: Vec::new(),
        }
    }

    /// How many sessions have the plugin.
    pub fn sessions(&self) -> usize {
        self.has.len()
    }

    /// How many sessions hear that they have the plugin: also those that a stop for all parts from it, until that stop is over.
    pub fn sharers(&self) -> usize {
        self.has.len() + self.stop.as_ref().map_or(0, |stop| stop.leaving.len())
    }

    /// Whether the daemon is being stopped for all sessions that have it.
    pub fn ends_for_all(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| !stop.leaving.is_empty())
    }

    /// The sessions whose start waits for the end of a stop.
    pub fn queued(&self) -> impl Iterator<Item = Session> + '_ {
        self.queue.iter().map(|waiter| waiter.session)
    }

    pub fn has(&self, session: Session) -> bool {
        self.has.contains_key(&session)
    }

    /// The daemon serves only until its linger time is over.
    pub const fn lingers(&self) -> bool {
        self.lingers
    }

    /// Whether the host must live on for this plugin.
    pub fn keeps_host(&self) -> bool {
        let is_active = !self.daemon.is_at_rest() || self.is_busy();
        is_active || !self.is_ending() && self.is_wanted()
    }

    /// Whether nobody has the plugin, and nothing of it is left.
    pub fn is_unused(&self) -> bool {
        !self.keeps_host() && !self.is_wanted() && self.outlives_host().is_none()
    }

    fn is_wanted(&self) -> bool {
        !self.has.is_empty() || !self.queue.is_empty() || self.lingers
    }

    /// Whether the host, which ends, has a stop of this session to answer: it has the plugin, or had it when the end began.
    pub fn ends_for(&self, session: Session) -> bool {
        let is_leaving = |stop: &Stopping| stop.leaving.contains_key(&session) || stop.leaver.is_some_and(|(leaver, _)| leaver == session);
        self.is_ending() && (self.has(session) || self.stop.as_ref().is_some_and(is_leaving))
    }

    /// Why processes of the plugin outlive the host.
    pub const fn outlives_host(&self) -> Option<&Failure> {
        match &self.ending {
            Ending::Failed(failure) if matches!(self.daemon, DaemonState::Error) => Some(failure),
            _ => None,
        }
    }

    const fn is_ending(&self) -> bool {
        !matches!(self.ending, Ending::No)
    }

    /// Handles one event. Returns the effects, in the order in which they must be carried out.
    pub fn on(&mut self, event: HoldEvent) -> Vec<HoldEffect> {
        match event {
            HoldEvent::Start { session, request, fit, timeout, linger } => {
                let waiter = Waiter { session, request, timeout, linger, fresh: !self.has(session), entered: false, timed: false };
                self.start_requested(waiter, fit);
            }
            HoldEvent::LetGo { session, request } => self.let_go(session, request),
            HoldEvent::SessionEnded { session } => self.session_ended(session),
            HoldEvent::Everywhere { by } => {
                if by.is_none() && !self.is_ending() {
                    self.ending = Ending::Begun;
                }
                self.stop_everywhere(by);
            }
            HoldEvent::Restart { session, request } => self.restart_requested(session, request),
            HoldEvent::Upgrade { session, request, linger } => self.upgrade_requested(session, request, linger),
            HoldEvent::Wait { session, request } => self.wait_requested(session, request),
            HoldEvent::Abort { session, request } => self.aborted(session, request),
            HoldEvent::TimedOut { request, failure } => self.timed_out(request, failure),
            HoldEvent::LingerOver => self.linger_over(),
            HoldEvent::Daemon(state) => self.daemon_changed(state),
            HoldEvent::Settled { call, outcome } => self.settled(call, outcome),
        }
        mem::take(&mut self.effects)
    }

    /// Whether a call is under way.
    fn is_busy(&self) -> bool {
        self.start.is_some() || self.stop.is_some() || !self.calls.is_empty()
    }

    /// Whether a stop is of no use: nothing of the daemon is left, or the host, which ends, has tried it.
    fn is_over(&self) -> bool {
        self.is_idle() && (self.daemon != DaemonState::Error || self.outlives_host().is_some())
    }

    /// Whether the daemon is at rest, and no call is under way that changes this.
    fn is_idle(&self) -> bool {
        self.daemon.is_at_rest() && self.start.is_none() && self.stop.is_none() && !self.calls.values().any(Asked::acts)
    }

    fn call(&mut self, what: Call) -> CallId {
        self.issued += 1;
        self.effects.push(HoldEffect::Call { call: self.issued, what });
        self.issued
    }

    fn ask(&mut self, what: Call, asked: Asked) {
        let call = self.call(what);
        self.calls.insert(call, asked);
    }

    fn answer(&mut self, session: Session, request: Request, outcome: Result<(), Failure>) {
        self.effects.push(HoldEffect::Answer { session, request, outcome });
    }

    fn answer_start(&mut self, waiter: &Waiter, outcome: Result<(), Failure>) {
        self.disarm(waiter);
        self.answer(waiter.session, waiter.request, outcome);
    }

    fn disarm(&mut self, waiter: &Waiter) {
        if waiter.timed {
            self.effects.push(HoldEffect::DisarmTimeout { request: waiter.request });
        }
    }

    fn detach(&mut self, session: Session, reason: DetachReason) {
        self.effects.push(HoldEffect::Detach { session, reason });
    }

    fn end_linger(&mut self) {
        if mem::take(&mut self.lingers) {
            self.effects.push(HoldEffect::DisarmLinger);
        }
    }

    /// Nobody waits for these calls any more.
    fn take_calls(&mut self, wanted: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let calls: Vec<CallId> = self.calls.iter().filter(|(_, asked)| wanted(asked)).map(|(call, _)| *call).collect();
        calls.into_iter().filter_map(|call| self.take_call(call)).collect()
    }

    fn take_call(&mut self, call: CallId) -> Option<Asked> {
        let asked = self.calls.remove(&call)?;
        if asked.acts() {
            // The daemon is not at rest before it is over.
            self.calls.insert(call, Asked::Unasked);
        } else {
            self.effects.push(HoldEffect::Abort { call });
        }
        Some(asked)
    }

    fn take_uses(&mut self, wanted: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        self.take_calls(|asked| asked.waiter().is_some_and(&wanted)).iter().filter_map(Asked::waiter).copied().collect()
    }
}
