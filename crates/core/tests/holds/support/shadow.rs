//! The rules: what must hold after each event, by the events and effects alone.

use super::world::{World, timeout};
use super::{Verdict, ensure};
use ally_core::error::{Code, Failure};
use ally_core::lifecycle::holds::{Call, CallId, DaemonState, DetachReason, Fit, HoldEffect, HoldEvent, Holds, Request, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What differs between the sessions of a search.
#[derive(Debug, Clone, Copy)]
pub struct Habit {
    pub config: u8,
    pub linger: Duration,
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Start,
    LetGo,
    Everywhere,
    Restart,
    Upgrade,
    Wait,
}

#[derive(Debug, Clone)]
pub struct Shadow {
    pub holds: Holds,
    pub world: World,
    pub open: BTreeMap<Request, (Session, Kind)>,
    pub attached: BTreeSet<Session>,
    pub timers: BTreeSet<Request>,
    pub lingers: bool,
    /// The host ends.
    pub ends: bool,
    told: DaemonState,
    start: Option<Outstanding>,
    stop: Option<Outstanding>,
}

#[derive(Debug, Clone, Copy)]
struct Outstanding {
    call: CallId,
}

impl Shadow {
    pub const fn new(on_demand: bool) -> Self {
        Self {
            holds: Holds::new(),
            world: World::new(on_demand),
            open: BTreeMap::new(),
            attached: BTreeSet::new(),
            timers: BTreeSet::new(),
            lingers: false,
            ends: false,
            told: DaemonState::Unknown,
            start: None,
            stop: None,
        }
    }

    /// The lowest free number, so that equal states look equal.
    pub fn free_request(&self) -> Request {
        (1..=Request::MAX).find(|request| !self.open.contains_key(request)).unwrap_or_default()
    }

    pub fn fit(&self, habit: &Habit) -> Fit {
        match self.world.config {
            Some(config) if config != habit.config => Fit::Differs { fields: vec!["args[0]".to_owned()], upgraded: false },
            _ => Fit::Equal,
        }
    }

    pub fn start(&self, session: Session, request: Request, habit: &Habit) -> HoldEvent {
        HoldEvent::Start { session, request, fit: self.fit(habit), timeout: habit.timeout, linger: habit.linger }
    }

    pub fn timed_out(request: Request) -> HoldEvent {
        HoldEvent::TimedOut { request, failure: timeout() }
    }

    pub fn step(&mut self, event: &HoldEvent, habits: &[Habit]) -> Verdict {
        self.note(event);
        let before: Vec<Session> = (0..habits.len() as Session).filter(|session| self.holds.has(*session)).collect();
        let effects = self.holds.on(event.clone());
        let mut refused = BTreeSet::new();
        for effect in &effects {
            self.judge(effect, event, &mut refused, habits).map_err(|rule| format!("{rule}\neffects: {effects:?}"))?;
        }
        for session in before.into_iter().filter(|session| !self.holds.has(*session)) {
            let lets_go = match event {
                HoldEvent::LetGo { session: actor, .. } | HoldEvent::SessionEnded { session: actor } => *actor == session,
                HoldEvent::Abort { session: actor, .. } => *actor == session,
                HoldEvent::Everywhere { .. } => true,
                // Its own start.
                HoldEvent::TimedOut { .. } | HoldEvent::Settled { .. } => refused.contains(&session),
                _ => false,
            };
            ensure(lets_go, format_args!("session {session} loses its hold: {effects:?}"))?;
        }
        self.invariants()?;
        // The host sends a start again at once.
        for effect in effects {
            if let HoldEffect::Again { session, request } = effect {
                let habit = habits[usize::try_from(session).unwrap_or_default()];
                self.open.remove(&request);
                self.step(&self.start(session, request, &habit), habits)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, event: &HoldEvent) {
        let opened = match event {
            HoldEvent::Start { session, request, .. } => Some((*request, *session, Kind::Start)),
            HoldEvent::LetGo { session, request } => Some((*request, *session, Kind::LetGo)),
            HoldEvent::Everywhere { by: Some((session, request)) } => Some((*request, *session, Kind::Everywhere)),
            HoldEvent::Restart { session, request } => Some((*request, *session, Kind::Restart)),
            HoldEvent::Upgrade { session, request, .. } => Some((*request, *session, Kind::Upgrade)),
            HoldEvent::Wait { session, request } => Some((*request, *session, Kind::Wait)),
            _ => None,
        };
        self.open.extend(opened.map(|(request, session, kind)| (request, (session, kind))));
        match event {
            HoldEvent::SessionEnded { session } => self.open.retain(|_, (asker, _)| asker != session),
            HoldEvent::TimedOut { request, .. } => drop(self.timers.remove(request)),
            HoldEvent::LingerOver => self.lingers = false,
            HoldEvent::Everywhere { by: None } => self.ends = true,
            HoldEvent::Daemon(state) => self.told = *state,
            HoldEvent::Settled { call, .. } => {
                self.start.take_if(|start| start.call == *call);
                self.stop.take_if(|stop| stop.call == *call);
            }
            _ => {}
        }
    }

    fn judge(&mut self, effect: &HoldEffect, event: &HoldEvent, refused: &mut BTreeSet<Session>, habits: &[Habit]) -> Verdict {
        match effect {
            HoldEffect::Call { call, what } => self.judge_call(*call, *what, habits),
            HoldEffect::Abort { call } => {
                self.world.abort(*call);
                Ok(())
            }
            HoldEffect::Answer { session, request, outcome } => {
                let Some((asker, kind)) = self.open.remove(request) else { return Err(format!("an answer to nothing: {request}")) };
                ensure(asker == *session, "an answer to another session")?;
                ensure(!self.timers.contains(request), "an answer while the timer runs")?;
                self.judge_answer(*session, kind, outcome)?;
                if outcome.is_err() && kind == Kind::Start {
                    refused.insert(*session);
                }
                Ok(())
            }
            HoldEffect::Again { request, .. } => ensure(matches!(self.open.get(request), Some((_, Kind::Start))), "no such start"),
            HoldEffect::Attach { session } => {
                // One that has the plugin hears that its start was taken.
                let starts = self.open.values().any(|(asker, kind)| asker == session && matches!(kind, Kind::Start));
                ensure(self.attached.insert(*session) || starts, "attached twice")
            }
            HoldEffect::Detach { session, reason } => {
                ensure(self.attached.remove(session), "detached without being attached")?;
                // A start that its stop or its timer ends is answered at the end of the stop, if it is the last.
                if matches!(reason, DetachReason::TimedOut | DetachReason::Aborted) {
                    refused.insert(*session);
                }
                let is_ended = matches!(event, HoldEvent::SessionEnded { .. });
                ensure(is_ended == (*reason == DetachReason::Ended), format_args!("{reason:?} by {event:?}"))
            }
            HoldEffect::ArmTimeout { request, .. } => {
                ensure(matches!(self.open.get(request), Some((_, Kind::Start))), "a timer of no start")?;
                ensure(self.timers.insert(*request), "a timer that runs is armed")
            }
            HoldEffect::DisarmTimeout { request } => ensure(self.timers.remove(request), "a timer that does not run is disarmed"),
            HoldEffect::Extend { call, .. } => ensure(self.start.is_some_and(|start| start.call == *call), "no such start"),
            HoldEffect::Expire { call } => {
                ensure(self.start.is_some_and(|start| start.call == *call), "no such start")?;
                self.world.expire(*call);
                Ok(())
            }
            HoldEffect::ArmLinger { after } => {
                // Only who lets go, or ends, leaves a daemon behind that serves.
                let (HoldEvent::LetGo { session, .. } | HoldEvent::SessionEnded { session } | HoldEvent::Abort { session, .. }) = event
                else {
                    return Err(format!("it lingers after {event:?}"));
                };
                let linger = habits[usize::try_from(*session).unwrap_or_default()].linger;
                ensure(*after == linger, format_args!("it lingers {after:?}, and the last session gave {linger:?}"))?;
                ensure(!after.is_zero() && !std::mem::replace(&mut self.lingers, true), "it lingers already, or not at all")
            }
            HoldEffect::DisarmLinger => ensure(std::mem::take(&mut self.lingers), "it does not linger"),
            HoldEffect::Forget => {
                ensure(self.world.forget(), "a plugin is forgotten while something of it is left")?;
                self.told = DaemonState::Unknown;
                Ok(())
            }
        }
    }

    fn judge_call(&mut self, call: CallId, what: Call, habits: &[Habit]) -> Verdict {
        match what {
            Call::Start { of } => {
                ensure(matches!(self.open.get(&of), Some((_, Kind::Start))), "a call for no start")?;
                ensure(self.start.replace(Outstanding { call }).is_none(), "two starts at once")?;
                ensure(self.stop.is_none(), "a start during a stop")?;
            }
            Call::Stop => {
                ensure(self.holds.sessions() == 0, "a stop while a session has the plugin")?;
                ensure(self.stop.replace(Outstanding { call }).is_none(), "two stops at once")?;
                // Its caller has been taken over by the stop.
                self.start = None;
            }
            Call::Restart | Call::Upgrade { .. } | Call::Wait | Call::Use => {}
        }
        let sessions: BTreeMap<Request, Session> = self.open.iter().map(|(request, (session, _))| (*request, *session)).collect();
        let config = |request| habits[usize::try_from(sessions[&request]).unwrap_or_default()].config;
        self.world.call(call, what, config);
        Ok(())
    }

    fn judge_answer(&self, session: Session, kind: Kind, outcome: &Result<(), Failure>) -> Verdict {
        match (kind, outcome) {
            (Kind::Start, Ok(())) => {
                ensure(self.holds.has(session) && self.attached.contains(&session), "a start resolves without a hold")?;
                let serves = matches!(self.told, DaemonState::Running | DaemonState::Armed);
                ensure(serves, format_args!("a start resolves, and the state is {:?}", self.told))
            }
            (Kind::Start, Err(Failure::SharedDiffers { .. })) => {
                ensure(!self.holds.has(session) && self.holds.sessions() > 0, "refused as different, and nobody else has it")
            }
            (Kind::LetGo, Ok(())) => ensure(!self.holds.has(session), "let go, and it has a hold"),
            (Kind::LetGo | Kind::Everywhere, Err(failure)) => {
                ensure(failure.code() == Code::StopFailed, format_args!("a stop rejects with {failure:?}"))
            }
            _ => Ok(()),
        }
    }

    fn invariants(&self) -> Verdict {
        ensure(self.lingers == self.holds.lingers(), "the linger time")?;
        ensure(!self.lingers || self.holds.sessions() == 0, "it lingers while a session has it")?;
        ensure(self.stop.is_none() || self.holds.sessions() == 0, "a hold during a stop")?;
        ensure(self.holds.sessions() <= self.attached.len(), "a hold without being attached")?;
        ensure(self.holds.sharers() <= self.attached.len(), "a session that hears nothing is counted")?;
        let must_live = !self.open.is_empty() && self.open.values().any(|(_, kind)| *kind == Kind::Start);
        ensure(!must_live || self.holds.keeps_host(), "the host may leave while a start waits")?;
        // Nobody wants it, so something brings its end.
        let is_alone = self.holds.sessions() == 0 && !self.lingers && self.stop.is_none() && self.start.is_none();
        let is_left = is_alone && !self.told.is_at_rest();
        ensure(!is_left, format_args!("nobody has it, and it is left {:?}", self.told))
    }
}
