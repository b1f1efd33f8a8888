//! What callers and listeners can hold the machine to, even where the events make no sense: each
//! call is answered once and truly, the states follow each other lawfully, and an end is an end.

use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Machine, Notice, Plan, Ticket};
use ally_core::model::ProcessState;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// A start, and a restart, which ends as one.
    Start,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// Who waits for an answer.
    pub open: BTreeMap<Ticket, Wish>,
    /// The last state that listeners were told.
    pub shown: ProcessState,
    /// Nothing may start any more.
    pub closed: bool,
    /// The event in hand is a fault, which may end anything.
    faulted: bool,
}

impl Ledger {
    pub fn new() -> Self {
        Self { open: BTreeMap::new(), shown: ProcessState::Stopped, closed: false, faulted: false }
    }

    /// The lowest that nobody holds: histories that differ only in the count of former callers stay
    /// alike.
    pub fn free_ticket(&self) -> Ticket {
        (1..Ticket::MAX).find(|ticket| !self.open.contains_key(ticket)).unwrap_or(0)
    }

    pub fn hear(&mut self, event: &Event) {
        self.faulted = matches!(event, Event::Faulted { .. });
        self.closed |= matches!(event, Event::ShutdownRequested { .. });
        match event {
            Event::StartRequested { ticket } | Event::RestartRequested { ticket } => self.open.insert(*ticket, Wish::Start),
            Event::StopRequested { ticket } | Event::ShutdownRequested { ticket } => self.open.insert(*ticket, Wish::Stop),
            _ => None,
        };
    }

    pub fn judge(&mut self, effect: &Effect, plan: &Plan) -> Verdict {
        match effect {
            Effect::Prepare { .. } | Effect::Spawn { .. } => {
                ensure(!self.closed, format_args!("{effect:?} after the shutdown"))?;
                ensure(!self.open.values().any(|wish| *wish == Wish::Stop), format_args!("{effect:?} while a stop waits"))
            }
            Effect::Settle { ticket, outcome } => self.settle(*ticket, outcome),
            Effect::Notify(Notice::StateChanged { from, to, .. }) => self.show(from.unwrap_or(ProcessState::Stopped), *to),
            Effect::Notify(Notice::RestartScheduled { attempt, .. }) => {
                ensure((1..=plan.restart.max_attempts).contains(attempt), format_args!("attempt {attempt} is scheduled"))
            }
            _ => Ok(()),
        }
    }

    /// After every event, when its effects have been judged.
    pub fn close(&self, machine: &Machine, plan: &Plan) -> Verdict {
        let seen = machine.snapshot();
        ensure(seen.state == self.shown, format_args!("the getters say {:?}, the listeners heard {:?}", seen.state, self.shown))?;
        ensure(seen.restart_attempts <= plan.restart.max_attempts, format_args!("{} attempts", seen.restart_attempts))?;
        ensure(machine.activity().pending || self.open.is_empty(), format_args!("all is over, and {:?} still wait", self.open))?;
        ensure(seen.running_since.is_some() == (seen.state == ProcessState::Running), "uptime and state differ")?;
        let may_pend = matches!(seen.state, ProcessState::Starting | ProcessState::Stopping);
        ensure(may_pend || seen.next_restart_at.is_none(), format_args!("a restart is pending in {:?}", seen.state))?;
        ensure(self.open.is_empty() || seen.state != ProcessState::Running, "it runs, and somebody waits")
    }

    fn settle(&mut self, ticket: Ticket, outcome: &Result<(), Failure>) -> Verdict {
        let wish = self.open.remove(&ticket);
        let wish = wish.ok_or_else(|| format!("ticket {ticket} is settled, and nobody holds it"))?;
        let shown = self.shown;
        let true_answer = match (wish, outcome) {
            (Wish::Start, Ok(())) => shown == ProcessState::Running,
            (Wish::Start, Err(Failure::AlreadyRunning(_) | Failure::ShuttingDown)) => true,
            // The caller of a failed start hears of it when nothing is left, or nothing more can be done.
            (Wish::Start, Err(_)) => matches!(shown, ProcessState::Stopped | ProcessState::Error),
            (Wish::Stop, Ok(())) => shown == ProcessState::Stopped,
            (Wish::Stop, Err(Failure::StopFailed { .. } | Failure::Internal { .. })) => shown == ProcessState::Error,
            // Nothing runs any more, but a file stays.
            (Wish::Stop, Err(Failure::Io { .. })) => shown == ProcessState::Stopped,
            (Wish::Stop, Err(_)) => false,
        };
        ensure(true_answer, format_args!("in {shown:?} a {wish:?} is answered {outcome:?}"))
    }

    fn show(&mut self, from: ProcessState, to: ProcessState) -> Verdict {
        use ProcessState::{Error, Running, Starting, Stopped, Stopping};
        ensure(from == self.shown, format_args!("{from:?} -> {to:?} after {:?}", self.shown))?;
        self.shown = to;
        let lawful = match (from, to) {
            (Stopped | Error, Starting) | (Starting, Running | Stopping | Error) => true,
            // A crash, with a restart and without; an unhealthy one; an exit that is no failure.
            (Running, Starting | Error | Stopping | Stopped) => true,
            (Stopping, Stopped | Error) => true,
            // Unhealthy. No restart gets past a stop: `judge` sees to that.
            (Stopping, Starting) => true,
            // Stopping what is stuck; forgetting a failure.
            (Error, Stopping | Stopped) => true,
            (Stopped, Running | Stopping | Error) | (Starting, Stopped) | (Stopping | Error, Running) => false,
            (Stopped, Stopped) | (Starting, Starting) | (Running, Running) | (Stopping, Stopping) | (Error, Error) => false,
        };
        let broke_down = self.faulted && to == Error && from != to;
        ensure(lawful || broke_down, format_args!("{from:?} -> {to:?}"))
    }
}
