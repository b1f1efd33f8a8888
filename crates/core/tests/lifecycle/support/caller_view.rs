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
    /// Of a plugin that depends on this one.
    Use,
    /// The abort of a start that became ready, after a later start: no stop.
    LateRevocation,
    Stop,
    /// An upgrade of a daemon that runs. Any other upgrade is settled as a start.
    Upgrade,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one daemon, which no enum would combine")]
pub struct CallerView {
    /// The tickets without an answer.
    pub open: BTreeMap<Ticket, Request>,
    /// The answer of the current event, if that is a late revocation.
    pub settled_late: Option<Ticket>,
    /// The last start that became ready, until a later start or restart.
    pub started: Option<Ticket>,
    /// The last state that was emitted.
    emitted: Option<ProcessState>,
    /// The state of a start that is under way, and not emitted yet.
    pub unannounced: Option<ProcessState>,
    /// The last start is that of a daemon on demand, and may be withdrawn although nothing is left to emit.
    arming: bool,
    /// There is a second generation, or the current event has dropped it.
    second: bool,
    second_dropped: bool,
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
            unannounced: None,
            arming: false,
            second: false,
            second_dropped: false,
            closed: false,
            faulted: false,
            aborted_wait: None,
        }
    }

    /// The state that a listener knows.
    pub fn shown(&self) -> ProcessState {
        self.emitted.unwrap_or(ProcessState::Stopped)
    }

    /// The lowest free ticket, so that histories with different numbers of former callers stay equal.
    pub fn free_ticket(&self) -> Ticket {
        (1..Ticket::MAX).find(|ticket| !self.open.contains_key(ticket)).unwrap_or(0)
    }

    pub fn on(&mut self, event: &Event) {
        self.faulted = matches!(event, Event::Faulted { .. });
        self.second &= !std::mem::take(&mut self.second_dropped);
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
            Event::UseRequested { ticket } => self.open.insert(*ticket, Request::Use),
            Event::StartRequested { ticket } | Event::RestartRequested { ticket } => self.open.insert(*ticket, Request::Start),
            Event::StartRefused { ticket, .. } => self.open.insert(*ticket, Request::RefusedStart),
            Event::StopRequested { ticket } | Event::ShutdownRequested { ticket } => self.open.insert(*ticket, Request::Stop),
            Event::UpgradeRequested { ticket, .. } => self.open.insert(*ticket, Request::Upgrade),
            _ => None,
        };
    }

    /// Whether the current event aborts this wait, which is then settled in any state.
    pub fn aborts_wait(&self, ticket: Ticket) -> bool {
        self.aborted_wait == Some(ticket)
    }

    pub fn judge(&mut self, effect: &Effect, plan: &Plan) -> Verdict {
        match effect {
            Effect::Prepare { succeeds, .. } => {
                self.second |= succeeds.is_some();
                if succeeds.is_none() {
                    self.unannounced = self.unannounced_start(plan);
                }
                self.judge_attempt(effect)
            }
            Effect::Discard { .. } => {
                self.second_dropped = true;
                Ok(())
            }
            Effect::Spawn { .. } => {
                ensure(self.unannounced.is_none(), "a spawn before `starting` is emitted")?;
                self.judge_attempt(effect)
            }
            Effect::Withdraw { .. } => {
                let had_begun = self.unannounced.take().is_some() || std::mem::take(&mut self.arming);
                ensure(had_begun, "a start is withdrawn after `starting` was emitted")
            }
            Effect::Settle { ticket, outcome } => self.settle(*ticket, outcome, plan),
            Effect::Notify(Notice::StateChanged { from, to, .. }) => self.show(*from, *to, plan),
            Effect::Notify(Notice::ChangedOver { .. }) => {
                self.started = None;
                Ok(())
            }
            Effect::Notify(Notice::RestartScheduled { attempt, .. }) => {
                ensure((1..=plan.restart.max_attempts).contains(attempt), format_args!("attempt {attempt} is scheduled"))
            }
            _ => Ok(()),
        }
    }

    /// What the getter shows while a start is not emitted. `None`: the start is emitted, or changes no state.
    fn unannounced_start(&mut self, plan: &Plan) -> Option<ProcessState> {
        let is_shown = self.shown() == ProcessState::Starting;
        self.arming = plan.on_demand && !is_shown;
        match (is_shown, self.arming) {
            (true, _) => None,
            (false, true) => (self.emitted != Some(ProcessState::Stopped)).then_some(ProcessState::Stopped),
            (false, false) => Some(ProcessState::Starting),
        }
    }

    fn judge_attempt(&self, effect: &Effect) -> Verdict {
        ensure(!self.closed, format_args!("{effect:?} after the shutdown"))?;
        ensure(!self.open.values().any(|request| *request == Request::Stop), format_args!("{effect:?} while a stop waits"))
    }

    /// Called after the effects of `event` are judged: an accepted start or restart has no answer yet. An upgrade beside the
    /// daemon forgets the start at the change-over.
    pub fn forget_started(&mut self, event: &Event, machine: &Machine) {
        let (Event::StartRequested { ticket } | Event::RestartRequested { ticket } | Event::UpgradeRequested { ticket, .. }) = event else {
            return;
        };
        let beside = matches!(event, Event::UpgradeRequested { .. }) && machine.second().is_some();
        if self.open.contains_key(ticket) && !beside {
            self.started = None;
        }
    }

    /// Called after each event, once its effects are judged.
    pub fn close(&self, machine: &Machine, plan: &Plan) -> Verdict {
        let seen = machine.snapshot();
        let expected = self.unannounced.unwrap_or_else(|| self.shown());
        ensure(seen.known == (self.emitted.is_some() || self.unannounced.is_some()), format_args!("known is {}", seen.known))?;
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
        // An upgrade waits for the end of the old generation.
        let mut others = self.open.values().filter(|request| **request != Request::Upgrade);
        ensure(seen.state != ProcessState::Running || others.next().is_none(), "the state is RUNNING, and a ticket is open")
    }

    fn settle(&mut self, ticket: Ticket, outcome: &Result<(), Failure>, plan: &Plan) -> Verdict {
        let request = self.open.remove(&ticket);
        let request = request.ok_or_else(|| format!("ticket {ticket} is settled, and it is not open"))?;
        let shown = self.shown();
        // Whether it is armed, the shadow model judges.
        let ready = |shown| shown == ProcessState::Running || (plan.on_demand && shown == ProcessState::Stopped);
        if let (Request::Start, Ok(())) = (request, outcome) {
            self.started = Some(ticket);
        }
        let fits = match (request, outcome) {
            (Request::Start, Ok(())) => ready(shown),
            (Request::Start, Err(failure)) if is_refusal(failure) => true,
            (Request::LateRevocation, outcome) => outcome.is_ok(),
            (Request::Use, Ok(())) => ready(shown),
            (Request::Wait, Ok(())) => shown == ProcessState::Running,
            (Request::Wait | Request::Use, Err(Failure::Stopped)) if self.aborted_wait == Some(ticket) => true,
            (Request::Wait | Request::Use, Err(Failure::NotFound)) => self.emitted.is_none(),
            (Request::Wait | Request::Use, Err(Failure::AtRest)) => shown == ProcessState::Stopped,
            (Request::Wait | Request::Use, Err(_)) => shown == ProcessState::Error,
            (Request::RefusedStart, outcome) => outcome.is_err(),
            // A start rejects after its tree is gone, or after SIGKILL failed to end it.
            (Request::Start, Err(_)) => matches!(shown, ProcessState::Stopped | ProcessState::Error),
            (Request::Stop, Ok(())) => shown == ProcessState::Stopped,
            (Request::Stop, Err(Failure::StopFailed { .. } | Failure::Internal { .. })) => shown == ProcessState::Error,
            // Every process of a generation is gone, but a file could not be removed. The other generation may be stuck.
            (Request::Stop, Err(Failure::Io { .. })) => shown == ProcessState::Stopped || (self.second && shown == ProcessState::Error),
            (Request::Stop, Err(_)) => false,
            // The shadow model knows what became of it.
            (Request::Upgrade, _) => true,
        };
        ensure(fits, format_args!("in {shown:?} a {request:?} is settled with {outcome:?}"))
    }

    fn show(&mut self, former: Option<ProcessState>, to: ProcessState, plan: &Plan) -> Verdict {
        use ProcessState::{Error, Running, Starting, Stopped, Stopping};
        let from = former.unwrap_or(Stopped);
        ensure(former == self.emitted, format_args!("{former:?} -> {to:?} after {:?}", self.emitted))?;
        ensure(from == self.shown(), format_args!("{from:?} -> {to:?} after {:?}", self.shown()))?;
        self.emitted = Some(to);
        self.unannounced = None;
        let documented = match (from, to) {
            (Stopped | Error, Starting) | (Starting, Running | Stopping | Error) => true,
            // A crash with and without a restart; an unhealthy daemon; a clean exit.
            (Running, Starting | Error | Stopping | Stopped) => true,
            (Stopping, Stopped | Error) => true,
            // An unhealthy daemon restarts. `judge` refuses a restart while a stop waits.
            (Stopping, Starting) => true,
            // A stop of a stuck tree; a stop after a failure.
            (Error, Stopping | Stopped) => true,
            // Armed at the first start; in place of a pending restart; the arming fails; a stop while the former generation leaves.
            (Stopped, Stopped) => plan.on_demand && former.is_none(),
            // The old generation of an upgrade ended with code 0, and the new one failed.
            (Starting, Stopped) => plan.on_demand || self.second,
            (Stopped, Error | Stopping) => plan.on_demand,
            (Stopped | Stopping | Error, Running) => false,
            (Starting, Starting) | (Running, Running) | (Stopping, Stopping) | (Error, Error) => false,
        };
        let after_fault = self.faulted && to == Error && from != to;
        ensure(documented || after_fault, format_args!("{from:?} -> {to:?}"))
    }
}

/// A call that was refused at once, and changes nothing.
pub const fn is_refusal(failure: &Failure) -> bool {
    matches!(failure, Failure::AlreadyRunning(_) | Failure::AlreadyArmed | Failure::AlreadyUpgrading | Failure::ShuttingDown)
}
