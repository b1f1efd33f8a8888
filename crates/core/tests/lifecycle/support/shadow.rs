//! The facts of the shadow model: the generations, the lock, the upgrade. They follow from events and effects alone, never from
//! the machine's fields, and determine the events that can happen next.

pub use super::attempt::{Attempt, Number, Reply, Tree, pid_of};
use super::caller_view::{CallerView, Request};
use super::events::{Filling, claimed, of_generation};
use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Event, Generation, Machine, Now, Plan, Ticket, Timer};
use ally_core::model::ProcessState;
use std::time::Duration;

/// What became of an upgrade, and so how its ticket must be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    Open,
    /// The new generation serves. The ticket waits for the end of the old one.
    ChangedOver,
    /// The new generation has failed.
    Failed,
    /// A stop came before anything else.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Upgrade {
    pub ticket: Ticket,
    pub fate: Fate,
    /// The old generation is stopped first.
    pub in_turn: bool,
    /// The new configuration is the daemon's.
    pub adopted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one daemon, which no enum would combine")]
pub struct ShadowModel {
    pub callers: CallerView,
    pub lock: bool,
    /// The last number of a generation.
    pub issued: Number,
    /// The generation that serves, or may serve.
    pub serving: Attempt,
    /// During an upgrade: the successor, and after the change-over the former one.
    pub second: Option<Attempt>,
    /// The second generation has served before.
    pub is_former: bool,
    /// While its ticket is open.
    pub upgrade: Option<Upgrade>,
    /// Restarts in a row without readiness.
    pub attempts: u32,
    /// `attempts` before a start that is not emitted yet.
    pub former_attempts: u32,
    /// `restart.resetAfter` has not elapsed since readiness.
    pub reset_pending: bool,
    /// A restart was scheduled, and has not begun. Only a caller or a fault cancels it.
    pub restart_pending: bool,
}

impl ShadowModel {
    pub fn new() -> Self {
        Self {
            callers: CallerView::new(),
            lock: false,
            issued: Number(0),
            serving: Attempt::new(0),
            second: None,
            is_former: false,
            upgrade: None,
            attempts: 0,
            former_attempts: 0,
            reset_pending: false,
            restart_pending: false,
        }
    }

    /// The requests of callers.
    pub fn requests(&self, plan: &Plan) -> Vec<Event> {
        let ticket = self.callers.free_ticket();
        let upgrade = |beside| Event::UpgradeRequested { ticket, plan: Box::new(plan.clone()), beside };
        let mut requests = vec![
            Event::StartRequested { ticket },
            Event::StartRefused { ticket, failure: claimed() },
            Event::WaitRequested { ticket },
            Event::StopRequested { ticket },
            Event::RestartRequested { ticket },
            upgrade(true),
            upgrade(false),
            Event::Closed,
            Event::ShutdownRequested { ticket },
        ];
        // A caller can revoke only a start that became ready.
        requests.extend(self.callers.started.map(|started| Event::StartRevoked { ticket: started, answer: ticket }));
        for (ticket, _) in self.callers.open.iter().filter(|(_, request)| **request == Request::Start) {
            requests.push(Event::StartExtended { ticket: *ticket, by: Duration::from_secs(8) });
            requests.push(Event::StartExpired { ticket: *ticket });
        }
        requests.extend(self.callers.open.iter().filter_map(|(ticket, request)| match request {
            Request::Wait | Request::Use => Some(Event::WaitAborted { ticket: *ticket }),
            // An upgrade has no signal.
            Request::Upgrade => None,
            Request::Start | Request::RefusedStart | Request::LateRevocation | Request::Stop => {
                Some(Event::StartAborted { ticket: *ticket })
            }
        }));
        requests
    }

    /// The possible reports of the supervisor, and the timers that may fire.
    pub fn reports(&self, plan: &Plan) -> Vec<Event> {
        let mut reports = self.serving.reports(plan, true);
        reports.extend(self.second.iter().flat_map(|second| second.reports(plan, false)));
        reports
    }

    /// The events that must change nothing: those of other generations, and cancelled ones of these.
    fn late_events(&self) -> Vec<Event> {
        let present: Vec<Generation> = self.attempts().map(Attempt::generation).collect();
        let mut late_events: Vec<Event> = self.attempts().flat_map(Attempt::late_events).collect();
        let beside = present.iter().flat_map(|generation| [generation.wrapping_sub(1), generation + 1]);
        for generation in beside.filter(|generation| !present.contains(generation)) {
            late_events.extend(of_generation(Filling { generation, ticket: 0, pid: pid_of(generation) }));
        }
        late_events
    }

    pub fn ignores_late_events(&self, machine: &mut Machine, now: Now) -> Verdict {
        let before = format!("{machine:?}");
        for late in self.late_events() {
            let effects = machine.on(late.clone(), now);
            ensure(effects.is_empty(), format_args!("the late {late:?} causes {effects:?}"))?;
        }
        ensure(before == format!("{machine:?}"), format_args!("a late event changes {before} to {machine:?}"))
    }

    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        [&self.serving].into_iter().chain(&self.second)
    }

    /// No process of any generation is left, and none was ordered.
    pub fn no_tree(&self) -> bool {
        self.attempts().all(|attempt| attempt.tree == Tree::None)
    }

    /// The generation that is to serve next, and has not begun to leave.
    pub fn successor(&self) -> Option<&Attempt> {
        self.second.as_ref().filter(|second| !self.is_former && !second.is_leaving())
    }

    /// Two generations, or two configurations. A rollback is over for the machine once the old configuration is back.
    pub fn is_upgrading(&self) -> bool {
        self.second.is_some() || self.upgrade.is_some_and(|upgrade| upgrade.fate == Fate::Open || upgrade.adopted)
    }

    /// A connection starts the daemon.
    pub fn is_armed(&self) -> bool {
        self.serving.expects(Reply::Connection)
    }

    /// A start begins at once: there is no process, and no attempt is under way.
    pub fn is_startable(&self) -> bool {
        let under_way = self.serving.expects(Reply::Prepare) || self.waits_for_second() || self.is_armed();
        self.serving.tree == Tree::None && !under_way && !self.callers.closed
    }

    /// The serving generation has ended, and what follows depends on the second one: the successor is awaited, or a stop waits.
    fn waits_for_second(&self) -> bool {
        let restarts = self.restart_pending && self.serving.tree == Tree::None;
        self.second.is_some() && self.serving.tree == Tree::None && !restarts && !self.is_armed()
    }

    pub fn record_event(&mut self, event: &Event, plan: &Plan) {
        let of = event.generation();
        if of == Some(self.serving.generation()) {
            self.record_serving(event, plan);
            self.serving.record_event(event);
        } else if let Some(second) = self.second.as_mut().filter(|second| of == Some(second.generation())) {
            second.record_event(event);
            if let Event::ChangedOver { .. } = event {
                self.change_over(plan);
            }
        }
        match event {
            Event::StopRequested { .. } | Event::ShutdownRequested { .. } => self.stopped(),
            Event::RestartRequested { .. } if !self.is_upgrading() => self.restart_pending = false,
            Event::StartRevoked { ticket, .. } if self.callers.started == Some(*ticket) => self.stopped(),
            Event::EndedBy { generation, .. } if *generation == self.serving.generation() => self.stopped(),
            Event::Closed => self.closed(),
            _ => {}
        }
    }

    fn record_serving(&mut self, event: &Event, plan: &Plan) {
        match event {
            Event::Prepared { .. } => self.lock = true,
            // If another owner has the name, the lock was not taken. Any other failure comes after the lock.
            Event::PrepareFailed { failure, .. } => self.lock |= !matches!(failure, Failure::OwnedElsewhere { .. }),
            Event::Ready { .. } => self.became_ready(plan),
            Event::ResetElapsed { .. } => {
                self.reset_pending = false;
                self.attempts = 0;
            }
            _ => {}
        }
    }

    /// Ready, so it runs.
    fn became_ready(&mut self, plan: &Plan) {
        self.reset_pending = !plan.restart.reset_after.is_zero();
        if !self.reset_pending {
            self.attempts = 0;
        }
    }

    fn change_over(&mut self, plan: &Plan) {
        let Some(successor) = self.second.take() else { return };
        self.second = Some(std::mem::replace(&mut self.serving, successor));
        self.is_former = true;
        self.became_ready(plan);
        self.attempts = 0;
        self.restart_pending = false;
        self.set_fate(Fate::ChangedOver);
    }

    pub fn set_fate(&mut self, fate: Fate) {
        if let Some(upgrade) = &mut self.upgrade
            && (upgrade.fate == Fate::Open || (upgrade.fate == Fate::ChangedOver && fate == Fate::Stopped))
        {
            upgrade.fate = fate;
        }
    }

    fn stopped(&mut self) {
        self.restart_pending = false;
        self.set_fate(Fate::Stopped);
    }

    /// Only what runs goes on: an upgrade that brings clients over, and one that has brought them over.
    fn closed(&mut self) {
        self.restart_pending = false;
        if self.callers.shown() == ProcessState::Error {
            // What is left has been told to end before.
            return;
        }
        let brings_over = self.second.as_ref().is_some_and(|second| second.expects(Reply::ChangeOver)) && self.serving.runs();
        let has_brought_over = self.is_former && self.serving.runs();
        if !brings_over && !has_brought_over {
            self.set_fate(Fate::Stopped);
        }
    }

    /// The time limits of this generation that a daemon may ask to extend.
    pub fn limits(&self, generation: Generation) -> usize {
        let attempt = self.attempts().find(|attempt| attempt.generation() == generation);
        attempt.map_or(0, |attempt| [Timer::Startup, Timer::Grace].into_iter().filter(|timer| attempt.armed.contains(timer)).count())
    }
}
