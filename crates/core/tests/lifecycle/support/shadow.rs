//! The facts of the shadow model: the tree, the lock, the expected replies, the armed timers. They
//! follow from events and effects alone, never from the machine's fields, and determine the events
//! that can happen next.

use super::caller_view::{CallerView, Request};
use super::events::{
    Filling, claimed, code, exited, exited_after_loss, lost, of_generation, owned, shut_down, taken, unspawnable, unwritable,
};
use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Event, Generation, Machine, Now, Plan, RestartOn, Signal, Timer};
use ally_core::model::Pid;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tree {
    None,
    /// Spawn was ordered, and has no reply yet.
    Asked,
    Alive,
    /// The leader was reaped; descendants are left.
    Remains,
}

/// A reply that the supervisor has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reply {
    Prepare,
    Record,
    Ready,
    Probe,
    /// That the memory limit is exceeded. It may never come.
    Memory,
    /// The keeper's answer to the last command.
    Acknowledge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one daemon, which no enum would combine")]
pub struct ShadowModel {
    pub callers: CallerView,
    pub tree: Tree,
    pub lock: bool,
    pub expected_replies: BTreeSet<Reply>,
    pub armed: BTreeSet<Timer>,
    /// Cancelled replies. The supervisor may have sent them before the cancellation.
    pub late_replies: BTreeSet<Reply>,
    pub late_timers: BTreeSet<Timer>,
    /// The strongest signal to this tree.
    pub signalled: Option<Signal>,
    /// The daemon of this generation was ready once.
    pub was_ready: bool,
    /// Failed health checks in a row.
    pub failures: u32,
    /// Restarts in a row without readiness.
    pub attempts: u32,
    /// `attempts` before a start that is not emitted yet.
    pub former_attempts: u32,
    /// `restart.resetAfter` has not elapsed since readiness.
    pub reset_pending: bool,
    /// A restart was scheduled, and has not begun. Only a caller or a fault cancels it.
    pub restart_pending: bool,
}

/// Each generation has a pid of its own, so that a mix-up shows.
pub fn pid_of(generation: Generation) -> Pid {
    70_000 + Pid::try_from(generation % 10_000).unwrap_or(0)
}

impl ShadowModel {
    pub fn new() -> Self {
        Self {
            callers: CallerView::new(),
            tree: Tree::None,
            lock: false,
            expected_replies: BTreeSet::new(),
            armed: BTreeSet::new(),
            late_replies: BTreeSet::new(),
            late_timers: BTreeSet::new(),
            signalled: None,
            was_ready: false,
            failures: 0,
            attempts: 0,
            reset_pending: false,
            former_attempts: 0,
            restart_pending: false,
        }
    }

    /// The requests of callers.
    pub fn requests(&self) -> Vec<Event> {
        let ticket = self.callers.free_ticket();
        let mut requests = vec![
            Event::StartRequested { ticket },
            Event::StartRefused { ticket, failure: claimed() },
            Event::WaitRequested { ticket },
            Event::StopRequested { ticket },
            Event::RestartRequested { ticket },
            Event::Closed,
            Event::ShutdownRequested { ticket },
        ];
        // A caller can revoke only a start that became ready.
        requests.extend(self.callers.started.map(|started| Event::StartRevoked { ticket: started, answer: ticket }));
        requests.extend(self.callers.open.iter().map(|(ticket, request)| match request {
            Request::Wait => Event::WaitAborted { ticket: *ticket },
            _ => Event::StartAborted { ticket: *ticket },
        }));
        requests
    }

    /// The possible reports of the supervisor, and the timers that may fire.
    pub fn reports(&self, generation: Generation, plan: &Plan) -> Vec<Event> {
        let pid = pid_of(generation);
        let mut reports: Vec<Event> = self.expected_replies.iter().flat_map(|reply| replies(*reply, generation)).collect();
        match self.tree {
            Tree::None => {}
            Tree::Asked => {
                reports.push(Event::Spawned { generation, pid });
                reports.push(Event::SpawnFailed { generation, failure: unspawnable() });
                reports.push(Event::OrderLost { generation, failure: lost() });
            }
            Tree::Alive => {
                // The exit code matters only with `restart.on: 'failure'`.
                let codes: &[i32] = if plan.restart.on == RestartOn::Failure { &[1, 0] } else { &[1] };
                reports.extend([shut_down(), taken()].map(|failure| Event::SocketLost { generation, failure }));
                for number in codes {
                    reports.push(exited(generation, code(*number), false));
                    reports.push(exited(generation, code(*number), true));
                    reports.push(exited_after_loss(generation, code(*number), false));
                    reports.push(exited_after_loss(generation, code(*number), true));
                }
            }
            Tree::Remains => {
                reports.push(Event::TreeGone { generation, leftover_file: None });
                reports.push(Event::TreeGone { generation, leftover_file: Some(unwritable()) });
            }
        }
        if matches!(self.tree, Tree::Alive | Tree::Remains) {
            reports.push(Event::Extended { generation, by: Duration::from_secs(7) });
        }
        reports.extend(self.armed.iter().map(|timer| fired(*timer, generation)));
        reports
    }

    /// The events that must change nothing: those of other generations, and cancelled ones of this generation.
    pub fn late_events(&self, generation: Generation) -> Vec<Event> {
        let generations = [generation.wrapping_sub(1), generation + 1];
        let other_generations = generations.map(|generation| of_generation(Filling { generation, ticket: 0, pid: pid_of(generation) }));
        let mut late_events: Vec<Event> = other_generations.into_iter().flatten().collect();
        late_events.extend(self.late_replies.iter().flat_map(|reply| replies(*reply, generation)));
        late_events.extend(self.late_timers.iter().map(|timer| fired(*timer, generation)));
        late_events
    }

    pub fn ignores_late_events(&self, machine: &mut Machine, now: Now) -> Verdict {
        let before = format!("{machine:?}");
        for late in self.late_events(machine.generation()) {
            let effects = machine.on(late.clone(), now);
            ensure(effects.is_empty(), format_args!("the late {late:?} causes {effects:?}"))?;
        }
        ensure(before == format!("{machine:?}"), format_args!("a late event changes {before} to {machine:?}"))
    }

    /// A start begins at once: there is no process, and no attempt is under way.
    pub fn is_startable(&self) -> bool {
        self.tree == Tree::None && !self.expected_replies.contains(&Reply::Prepare) && !self.callers.closed
    }

    pub fn record_event(&mut self, event: &Event, plan: &Plan) {
        match event {
            Event::Prepared { .. } => {
                self.lock = true;
                self.expected_replies.remove(&Reply::Prepare);
            }
            Event::PrepareFailed { failure, .. } => {
                // If another owner has the name, the lock was not taken. Any other failure comes after the lock.
                self.lock |= !matches!(failure, Failure::OwnedElsewhere { .. });
                self.expected_replies.remove(&Reply::Prepare);
            }
            Event::Spawned { .. } => {
                self.tree = Tree::Alive;
                self.expected_replies.insert(Reply::Record);
            }
            Event::SpawnFailed { .. } | Event::OrderLost { .. } | Event::TreeGone { .. } => self.tree_ended(),
            Event::Acknowledged { .. } => {
                self.expected_replies.remove(&Reply::Acknowledge);
            }
            Event::RecordFailed { .. } => {
                self.expected_replies.remove(&Reply::Record);
            }
            Event::Ready { .. } => {
                self.was_ready = true;
                self.failures = 0;
                self.reset_pending = !plan.restart.reset_after.is_zero();
                if !self.reset_pending {
                    self.attempts = 0;
                }
                self.ready_replied();
            }
            Event::NotReady { .. } => self.ready_replied(),
            Event::Exited { remains: true, .. } => self.tree = Tree::Remains,
            Event::Exited { remains: false, .. } => self.tree_ended(),
            Event::ProbePassed { .. } => {
                self.failures = 0;
                self.expected_replies.remove(&Reply::Probe);
            }
            Event::ProbeFailed { .. } => {
                self.failures += 1;
                self.expected_replies.remove(&Reply::Probe);
            }
            Event::MemoryExceeded { .. } => {
                self.expected_replies.remove(&Reply::Memory);
            }
            Event::SocketLost { .. } => {}
            Event::StartupElapsed { .. } => self.timer_fired(Timer::Startup),
            Event::AcknowledgementElapsed { .. } => self.timer_fired(Timer::Acknowledgement),
            Event::GraceElapsed { .. } => self.timer_fired(Timer::Grace),
            Event::KillElapsed { .. } => self.timer_fired(Timer::Kill),
            Event::BackoffElapsed { .. } => self.timer_fired(Timer::Backoff),
            Event::ResetElapsed { .. } => {
                self.reset_pending = false;
                self.attempts = 0;
                self.timer_fired(Timer::Reset);
            }
            Event::ProbeDue { .. } => self.timer_fired(Timer::Probe),
            Event::StopRequested { .. } | Event::RestartRequested { .. } | Event::ShutdownRequested { .. } | Event::Closed => {
                self.restart_pending = false;
            }
            Event::StartRevoked { ticket, .. } => self.restart_pending &= self.callers.started != Some(*ticket),
            Event::StartRequested { .. }
            | Event::StartRefused { .. }
            | Event::StartAborted { .. }
            | Event::WaitRequested { .. }
            | Event::WaitAborted { .. }
            | Event::Extended { .. }
            | Event::Faulted { .. } => {}
        }
    }

    fn tree_ended(&mut self) {
        self.tree = Tree::None;
        self.signalled = None;
        // The record of a dead leader is not written, and its keeper is gone.
        self.expected_replies.remove(&Reply::Record);
        self.expected_replies.remove(&Reply::Acknowledge);
    }

    /// The record of a leader is written before the wait for readiness.
    fn ready_replied(&mut self) {
        self.expected_replies.remove(&Reply::Record);
        self.expected_replies.remove(&Reply::Ready);
    }

    fn timer_fired(&mut self, timer: Timer) {
        self.armed.remove(&timer);
    }
}

fn replies(reply: Reply, generation: Generation) -> Vec<Event> {
    let failure = unwritable();
    match reply {
        Reply::Prepare => vec![
            Event::Prepared { generation },
            Event::PrepareFailed { generation, failure },
            Event::PrepareFailed { generation, failure: owned() },
        ],
        // A written record is not reported.
        Reply::Record => vec![Event::RecordFailed { generation, failure }],
        Reply::Acknowledge => vec![Event::Acknowledged { generation }],
        Reply::Ready => vec![Event::Ready { generation }, Event::NotReady { generation, failure }],
        Reply::Memory => vec![Event::MemoryExceeded { generation, memory: 200 << 20 }],
        Reply::Probe => {
            let latency = Duration::from_millis(1);
            vec![Event::ProbePassed { generation, latency }, Event::ProbeFailed { generation, latency, error: "refused".to_owned() }]
        }
    }
}

fn fired(timer: Timer, generation: Generation) -> Event {
    match timer {
        Timer::Startup => Event::StartupElapsed { generation, last_problem: None, tail: String::new() },
        Timer::Acknowledgement => Event::AcknowledgementElapsed { generation },
        Timer::Grace => Event::GraceElapsed { generation },
        Timer::Kill => Event::KillElapsed { generation, survivors: vec![pid_of(generation)] },
        Timer::Backoff => Event::BackoffElapsed { generation },
        Timer::Reset => Event::ResetElapsed { generation },
        Timer::Probe => Event::ProbeDue { generation },
    }
}
