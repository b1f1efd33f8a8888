//! The shadow model's facts: which process there is, who holds the lock, which answers and timers
//! are outstanding. They follow from the events and effects alone, never from the machine's inside,
//! and say which events can happen next.

use super::events::{Filling, code, exited, of_generation, unspawnable, unwritable};
use super::ledger::Ledger;
use super::{Verdict, ensure};
use ally_core::error::Failure;
use ally_core::lifecycle::{Event, Generation, Machine, Now, Plan, RestartOn, Signal, Timer};
use ally_core::model::Pid;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tree {
    None,
    /// A process was asked for.
    Asked,
    Alive,
    /// The leader was reaped, others are left.
    Remains,
}

/// Answers that the supervisor owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owed {
    Prepare,
    Record,
    Ready,
    Probe,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub ledger: Ledger,
    pub tree: Tree,
    pub lock: bool,
    pub owed: BTreeSet<Owed>,
    pub armed: BTreeSet<Timer>,
    /// Called off, and perhaps already under way to the machine when it did so.
    pub late_answers: BTreeSet<Owed>,
    pub late_timers: BTreeSet<Timer>,
    /// The strongest signal that this tree got.
    pub signalled: Option<Signal>,
    /// Whether the daemon of this generation was ready once.
    pub was_ready: bool,
    /// Health checks that failed in a row.
    pub failures: u32,
    /// Restarts in a row that did not become ready.
    pub attempts: u32,
}

/// Each generation has its own, so that a mix-up shows.
pub fn pid_of(generation: Generation) -> Pid {
    70_000 + Pid::try_from(generation % 10_000).unwrap_or(0)
}

impl World {
    pub fn new() -> Self {
        Self {
            ledger: Ledger::new(),
            tree: Tree::None,
            lock: false,
            owed: BTreeSet::new(),
            armed: BTreeSet::new(),
            late_answers: BTreeSet::new(),
            late_timers: BTreeSet::new(),
            signalled: None,
            was_ready: false,
            failures: 0,
            attempts: 0,
        }
    }

    /// What callers may ask for.
    pub fn wishes(&self) -> Vec<Event> {
        let ticket = self.ledger.free_ticket();
        let mut wishes = vec![
            Event::StartRequested { ticket },
            Event::StopRequested { ticket },
            Event::RestartRequested { ticket },
            Event::ShutdownRequested { ticket },
        ];
        wishes.extend(self.ledger.open.keys().map(|ticket| Event::StartAborted { ticket: *ticket }));
        wishes
    }

    /// What the supervisor may report, and the timers that may fire.
    pub fn reports(&self, generation: Generation, plan: &Plan) -> Vec<Event> {
        let pid = pid_of(generation);
        let mut reports: Vec<Event> = self.owed.iter().flat_map(|owed| answers(*owed, generation)).collect();
        match self.tree {
            Tree::None => {}
            Tree::Asked => {
                reports.push(Event::Spawned { generation, pid });
                reports.push(Event::SpawnFailed { generation, failure: unspawnable() });
                reports.push(Event::OrderLost { generation });
            }
            Tree::Alive => {
                // The code matters only to a policy that looks at it.
                let codes: &[i32] = if plan.restart.on == RestartOn::Failure { &[1, 0] } else { &[1] };
                for number in codes {
                    reports.push(exited(generation, code(*number), false));
                    reports.push(exited(generation, code(*number), true));
                }
            }
            Tree::Remains => {
                reports.push(Event::TreeGone { generation, leftover_file: None });
                reports.push(Event::TreeGone { generation, leftover_file: Some(unwritable()) });
            }
        }
        reports.extend(self.armed.iter().map(|timer| fired(*timer, generation)));
        reports
    }

    /// What must leave no trace: all of other generations, and what this one has called off.
    pub fn echoes(&self, generation: Generation) -> Vec<Event> {
        let others = [generation.wrapping_sub(1), generation + 1];
        let strangers = others.map(|generation| of_generation(Filling { generation, ticket: 0, pid: pid_of(generation) }));
        let mut echoes: Vec<Event> = strangers.into_iter().flatten().collect();
        echoes.extend(self.late_answers.iter().flat_map(|owed| answers(*owed, generation)));
        echoes.extend(self.late_timers.iter().map(|timer| fired(*timer, generation)));
        echoes
    }

    pub fn ignores_echoes(&self, machine: &mut Machine, now: Now) -> Verdict {
        let before = format!("{machine:?}");
        for echo in self.echoes(machine.generation()) {
            let effects = machine.on(echo.clone(), now);
            ensure(effects.is_empty(), format_args!("the late {echo:?} causes {effects:?}"))?;
        }
        ensure(before == format!("{machine:?}"), format_args!("a late event changes {before} to {machine:?}"))
    }

    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Prepared { .. } => {
                self.lock = true;
                self.owed.remove(&Owed::Prepare);
            }
            Event::PrepareFailed { failure, .. } => {
                // Whoever else holds the name: we don't. Any other failure finds us with the lock.
                self.lock |= !matches!(failure, Failure::OwnedElsewhere { .. });
                self.owed.remove(&Owed::Prepare);
            }
            Event::Spawned { .. } => {
                self.tree = Tree::Alive;
                self.owed.insert(Owed::Record);
            }
            Event::SpawnFailed { .. } | Event::OrderLost { .. } | Event::TreeGone { .. } => self.bury(),
            Event::RecordFailed { .. } => {
                self.owed.remove(&Owed::Record);
            }
            Event::Ready { .. } => {
                self.was_ready = true;
                self.failures = 0;
                self.attempts = 0;
                self.answer_ready();
            }
            Event::NotReady { .. } => self.answer_ready(),
            Event::Exited { remains: true, .. } => self.tree = Tree::Remains,
            Event::Exited { remains: false, .. } => self.bury(),
            Event::ProbePassed { .. } => {
                self.failures = 0;
                self.owed.remove(&Owed::Probe);
            }
            Event::ProbeFailed { .. } => {
                self.failures += 1;
                self.owed.remove(&Owed::Probe);
            }
            Event::StartupElapsed { .. } => self.ring(Timer::Startup),
            Event::GraceElapsed { .. } => self.ring(Timer::Grace),
            Event::KillElapsed { .. } => self.ring(Timer::Kill),
            Event::BackoffElapsed { .. } => self.ring(Timer::Backoff),
            Event::ProbeDue { .. } => self.ring(Timer::Probe),
            Event::StartRequested { .. }
            | Event::StartAborted { .. }
            | Event::StopRequested { .. }
            | Event::RestartRequested { .. }
            | Event::ShutdownRequested { .. }
            | Event::Faulted { .. } => {}
        }
    }

    fn bury(&mut self) {
        self.tree = Tree::None;
        self.signalled = None;
        // Nobody writes down who a process is that is gone.
        self.owed.remove(&Owed::Record);
    }

    /// What is written down about a process is written before anybody waits for it to be ready.
    fn answer_ready(&mut self) {
        self.owed.remove(&Owed::Record);
        self.owed.remove(&Owed::Ready);
    }

    fn ring(&mut self, timer: Timer) {
        self.armed.remove(&timer);
    }
}

fn answers(owed: Owed, generation: Generation) -> Vec<Event> {
    let failure = unwritable();
    match owed {
        Owed::Prepare => vec![
            Event::Prepared { generation },
            Event::PrepareFailed { generation, failure },
            Event::PrepareFailed { generation, failure: Failure::OwnedElsewhere { owner: Some(1234) } },
        ],
        // Success is not reported.
        Owed::Record => vec![Event::RecordFailed { generation, failure }],
        Owed::Ready => vec![Event::Ready { generation }, Event::NotReady { generation, failure }],
        Owed::Probe => {
            let latency = Duration::from_millis(1);
            vec![Event::ProbePassed { generation, latency }, Event::ProbeFailed { generation, latency, error: "refused".to_owned() }]
        }
    }
}

fn fired(timer: Timer, generation: Generation) -> Event {
    match timer {
        Timer::Startup => Event::StartupElapsed { generation, last_problem: None, tail: String::new() },
        Timer::Grace => Event::GraceElapsed { generation },
        Timer::Kill => Event::KillElapsed { generation, survivors: vec![pid_of(generation)] },
        Timer::Backoff => Event::BackoffElapsed { generation },
        Timer::Probe => Event::ProbeDue { generation },
    }
}
