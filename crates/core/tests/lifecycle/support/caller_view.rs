//! The rules of what callers and listeners see. They hold for any events, also for impossible ones:
//! each ticket is settled once, its outcome fits the state, and states follow the documented transitions.

use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Machine, Notice, Plan, Ticket};
use ally_core::model::ProcessState;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// A start, or a restart, which is settled as a start.
    Start,
    /// A start that another plugin's claim refuses.
    RefusedStart,
    /// whenRunning.
    Wait,
    /// The abort of a start that became ready, after a later start: no stop.
    LateRevocation,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallerView {
    /// The tickets without an answer.
    pub open: BTreeMap<Ticket, Request>,
    /// The answer of the current event, if that is a late revocation.
    pub settled_late: Option<Ticket>,
    /// The last start that became ready, until a later start or restart.
    pub started: Option<Ticket>,
    /// The last state that was emitted.
    emitted: Option<ProcessState>,
    /// A start is under way, and is not emitted yet.
    pub unannounced: bool,
    /// After a shutdown: every start is refused.
    pub closed: bool,
    /// The current event is a fault, after which every state may be ERROR.
    faulted: bool,
    /// The current event aborts this wait.
    aborted_wait: Option<Ticket>,
}

impl CallerView {
    pub fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            settled_late: None,
            started: None,
            emitted: None,
            unannounced: false,
            closed: false,
            faulted: false,
            aborted_wait: None,
        }
    }

    /// The state that a listener knows.
    fn shown(&self) -> ProcessState {
        self.emitted.unwrap_or(ProcessState::Stopped)
    }

    /// The lowest free ticket, so that histories with different numbers of former callers stay equal.
    pub fn free_ticket(&self) -> Ticket {
        (1..Ticket::MAX).find(|ticket| !self.open.contains_key(ticket)).unwrap_or(0)
    }

    pub fn on(&mut self, event: &Event) {
        self.faulted = matches!(event, Event::Faulted { .. });
        self.closed |= matches!(event, Event::ShutdownRequested { .. } | Event::Closed);
        self.settled_late = match event {
            Event::StartRevoked { ticket, answer } if self.started != Some(*ticket) => Some(*answer),
            _ => None,
        };
        self.aborted_wait = match event {
            Event::WaitAborted { ticket } => Some(*ticket),
            _ => None,
        };
        match event {
            Event::StartRevoked { ticket, answer } => {
                let request = if self.started == Some(*ticket) { Request::Stop } else { Request::LateRevocation };
                self.open.insert(*answer, request)
            }
            Event::WaitRequested { ticket } => self.open.insert(*ticket, Request::Wait),
            Event::StartRequested { ticket } | Event::RestartRequested { ticket } => self.open.insert(*ticket, Request::Start),
            Event::StartRefused { ticket, .. } => self.open.insert(*ticket, Request::RefusedStart),
            Event::StopRequested { ticket } | Event::ShutdownRequested { ticket } => self.open.insert(*ticket, Request::Stop),
            _ => None,
        };
    }

    /// Whether the current event aborts this wait, which is then settled in any state.
    pub fn aborts_wait(&self, ticket: Ticket) -> bool {
        self.aborted_wait == Some(ticket)
    }

    pub fn judge(&mut self, effect: &Effect, plan: &Plan) -> Verdict {
        match effect {
            Effect::Prepare { .. } | Effect::Spawn { .. } => {
                self.unannounced = self.shown() != ProcessState::Starting;
                ensure(!self.unannounced || matches!(effect, Effect::Prepare { .. }), "a spawn before `starting` is emitted")?;
                ensure(!self.closed, format_args!("{effect:?} after the shutdown"))?;
                ensure(!self.open.values().any(|request| *request == Request::Stop), format_args!("{effect:?} while a stop waits"))
            }
            Effect::Withdraw { .. } => ensure(std::mem::take(&mut self.unannounced), "a start is withdrawn after `starting` was emitted"),
            Effect::Settle { ticket, outcome } => self.settle(*ticket, outcome),
            Effect::Notify(Notice::StateChanged { from, to, .. }) => self.show(from.unwrap_or(ProcessState::Stopped), *to),
            Effect::Notify(Notice::RestartScheduled { attempt, .. }) => {
                ensure((1..=plan.restart.max_attempts).contains(attempt), format_args!("attempt {attempt} is scheduled"))
            }
            _ => Ok(()),
        }
    }

    /// Called after the effects of `event` are judged: an accepted start or restart has no answer yet.
    pub fn forget_started(&mut self, event: &Event) {
        if let Event::StartRequested { ticket } | Event::RestartRequested { ticket } = event
            && self.open.contains_key(ticket)
        {
            self.started = None;
        }
    }

    /// Called after each event, once its effects are judged.
    pub fn close(&self, machine: &Machine, plan: &Plan) -> Verdict {
        let seen = machine.snapshot();
        let expected = if self.unannounced { ProcessState::Starting } else { self.shown() };
        ensure(seen.known == (self.emitted.is_some() || self.unannounced), format_args!("known is {}", seen.known))?;
        ensure(
            seen.state == expected,
            format_args!("getProcessState is {:?}, the last stateChange was to {:?}", seen.state, self.shown()),
        )?;
        ensure(seen.restart_attempts <= plan.restart.max_attempts, format_args!("{} attempts", seen.restart_attempts))?;
        ensure(
            machine.activity().pending || self.open.is_empty(),
            format_args!("no activity is pending, and tickets are open: {:?}", self.open),
        )?;
        ensure(seen.running_since.is_some() == (seen.state == ProcessState::Running), "uptime and state differ")?;
        let may_pend = matches!(seen.state, ProcessState::Starting | ProcessState::Stopping);
        ensure(may_pend || seen.next_restart_at.is_none(), format_args!("a restart is pending in {:?}", seen.state))?;
        ensure(self.open.is_empty() || seen.state != ProcessState::Running, "the state is RUNNING, and a ticket is open")
    }

    fn settle(&mut self, ticket: Ticket, outcome: &Result<(), Failure>) -> Verdict {
        let request = self.open.remove(&ticket);
        let request = request.ok_or_else(|| format!("ticket {ticket} is settled, and it is not open"))?;
        let shown = self.shown();
        if let (Request::Start, Ok(())) = (request, outcome) {
            self.started = Some(ticket);
        }
        let fits = match (request, outcome) {
            (Request::Start, Ok(())) => shown == ProcessState::Running,
            (Request::Start, Err(Failure::AlreadyRunning(_) | Failure::ShuttingDown)) => true,
            (Request::LateRevocation, outcome) => outcome.is_ok(),
            (Request::Wait, Ok(())) => shown == ProcessState::Running,
            (Request::Wait, Err(Failure::Stopped)) if self.aborted_wait == Some(ticket) => true,
            (Request::Wait, Err(Failure::NotFound)) => self.emitted.is_none(),
            (Request::Wait, Err(Failure::AtRest)) => shown == ProcessState::Stopped,
            (Request::Wait, Err(_)) => shown == ProcessState::Error,
            (Request::RefusedStart, outcome) => outcome.is_err(),
            // A start rejects after its tree is gone, or after SIGKILL failed to end it.
            (Request::Start, Err(_)) => matches!(shown, ProcessState::Stopped | ProcessState::Error),
            (Request::Stop, Ok(())) => shown == ProcessState::Stopped,
            (Request::Stop, Err(Failure::StopFailed { .. } | Failure::Internal { .. })) => shown == ProcessState::Error,
            // Every process is gone, but a file could not be removed.
            (Request::Stop, Err(Failure::Io { .. })) => shown == ProcessState::Stopped,
            (Request::Stop, Err(_)) => false,
        };
        ensure(fits, format_args!("in {shown:?} a {request:?} is settled with {outcome:?}"))
    }

    fn show(&mut self, from: ProcessState, to: ProcessState) -> Verdict {
        use ProcessState::{Error, Running, Starting, Stopped, Stopping};
        ensure(from == self.shown(), format_args!("{from:?} -> {to:?} after {:?}", self.shown()))?;
        self.emitted = Some(to);
        self.unannounced = false;
        let documented = match (from, to) {
            (Stopped | Error, Starting) | (Starting, Running | Stopping | Error) => true,
            // A crash with and without a restart; an unhealthy daemon; a clean exit.
            (Running, Starting | Error | Stopping | Stopped) => true,
            (Stopping, Stopped | Error) => true,
            // An unhealthy daemon restarts. `judge` refuses a restart while a stop waits.
            (Stopping, Starting) => true,
            // A stop of a stuck tree; a stop after a failure.
            (Error, Stopping | Stopped) => true,
            (Stopped, Running | Stopping | Error) | (Starting, Stopped) | (Stopping | Error, Running) => false,
            (Stopped, Stopped) | (Starting, Starting) | (Running, Running) | (Stopping, Stopping) | (Error, Error) => false,
        };
        let after_fault = self.faulted && to == Error && from != to;
        ensure(documented || after_fault, format_args!("{from:?} -> {to:?}"))
    }
}
