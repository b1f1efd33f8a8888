//! The facts about one generation: its tree, the expected replies, the armed timers.

use super::events::{code, exited, exited_after_loss, exited_connected, lost, owned, shut_down, taken, unspawnable, unwritable};
use super::{Verdict, ensure};
use ally_core::lifecycle::{Event, Generation, Plan, RestartOn, Signal, Timer};
use ally_core::model::Pid;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
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
    /// That a connection waits. It may never come, and so may the next one.
    Connection,
    /// That the daemon had no connection for `idleTimeout`.
    Idle,
    Freeze,
    ChangeOver,
    Drain,
    /// The keeper's answer to the last command.
    Acknowledge,
}

/// The number of a generation. It decides nothing, so states that differ in numbers are equal.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub Generation);

impl PartialEq for Number {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub number: Number,
    pub tree: Tree,
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
    /// Suspended, and not let go on.
    pub frozen: bool,
    /// The leader ended while clients were brought over to it. Only the answer to `ChangeOver` tells whose end that is.
    pub exit_held: bool,
}

/// Each generation has a pid of its own, so that a mix-up shows.
pub fn pid_of(generation: Generation) -> Pid {
    70_000 + Pid::try_from(generation % 10_000).unwrap_or(0)
}

impl Attempt {
    pub fn new(number: Generation) -> Self {
        Self {
            number: Number(number),
            tree: Tree::None,
            expected_replies: BTreeSet::new(),
            armed: BTreeSet::new(),
            late_replies: BTreeSet::new(),
            late_timers: BTreeSet::new(),
            signalled: None,
            was_ready: false,
            failures: 0,
            frozen: false,
            exit_held: false,
        }
    }

    pub const fn generation(&self) -> Generation {
        self.number.0
    }

    pub fn expects(&self, reply: Reply) -> bool {
        self.expected_replies.contains(&reply)
    }

    /// The pid of the leader, while the leader lives.
    pub fn pid(&self) -> Option<Pid> {
        (self.tree == Tree::Alive).then(|| pid_of(self.generation()))
    }

    /// It became ready, and nothing has ended it since.
    pub fn runs(&self) -> bool {
        self.was_ready && self.tree == Tree::Alive && self.signalled.is_none()
    }

    /// Its stop has begun. Before the spawn there is nobody to signal.
    pub fn is_leaving(&self) -> bool {
        self.signalled.is_some() || self.armed.contains(&Timer::Grace)
    }

    /// The possible reports of the supervisor about this generation, and the timers that may fire.
    pub fn reports(&self, plan: &Plan, serves: bool) -> Vec<Event> {
        let generation = self.generation();
        let mut reports: Vec<Event> = self.expected_replies.iter().flat_map(|reply| replies(*reply, generation)).collect();
        match self.tree {
            Tree::None => {}
            Tree::Asked => {
                reports.push(Event::Spawned { generation, pid: pid_of(generation) });
                reports.push(Event::SpawnFailed { generation, failure: unspawnable() });
                reports.push(Event::OrderLost { generation, failure: lost() });
            }
            Tree::Alive => {
                reports.extend(exits(generation, plan, serves));
                let lost = [shut_down(), taken()].map(|failure| Event::SocketLost { generation, failure });
                reports.extend(lost.into_iter().filter(|_| serves && self.runs()));
            }
            Tree::Remains => {
                reports.push(Event::TreeGone { generation, leftover_file: None });
                reports.extend(serves.then(|| Event::TreeGone { generation, leftover_file: Some(unwritable()) }));
            }
        }
        if matches!(self.tree, Tree::Alive | Tree::Remains) {
            reports.push(Event::Extended { generation, by: Duration::from_secs(7) });
            reports.push(Event::EndedBy { generation, pid: 77 });
        }
        reports.extend(self.armed.iter().map(|timer| fired(*timer, generation)));
        reports
    }

    /// Cancelled replies and timers. They must change nothing.
    pub fn late_events(&self) -> Vec<Event> {
        let replies = self.late_replies.iter().flat_map(|reply| replies(*reply, self.generation()));
        replies.chain(self.late_timers.iter().map(|timer| fired(*timer, self.generation()))).collect()
    }

    /// An event of this generation.
    pub fn record_event(&mut self, event: &Event) {
        match event {
            Event::Prepared { .. } | Event::PrepareFailed { .. } => self.replied(Reply::Prepare),
            Event::Spawned { .. } => {
                self.tree = Tree::Alive;
                self.expected_replies.insert(Reply::Record);
            }
            Event::SpawnFailed { .. } | Event::OrderLost { .. } | Event::TreeGone { .. } => self.tree_ended(),
            Event::Acknowledged { .. } => self.replied(Reply::Acknowledge),
            Event::RecordFailed { .. } => self.replied(Reply::Record),
            Event::Ready { .. } => {
                self.was_ready = true;
                self.ready_replied();
            }
            Event::NotReady { .. } => self.ready_replied(),
            Event::Connected { .. } => self.replied(Reply::Connection),
            Event::Idle { .. } => self.replied(Reply::Idle),
            Event::Frozen { .. } => self.replied(Reply::Freeze),
            Event::ChangedOver { .. } | Event::ChangeOverFailed { .. } => self.replied(Reply::ChangeOver),
            Event::Drained { .. } => self.replied(Reply::Drain),
            Event::Exited { remains, .. } => {
                self.exit_held = self.expects(Reply::ChangeOver);
                self.cancel_reply(Reply::Freeze);
                if *remains {
                    self.tree = Tree::Remains;
                } else {
                    self.tree_ended();
                }
            }
            Event::ProbePassed { .. } => {
                self.failures = 0;
                self.replied(Reply::Probe);
            }
            Event::ProbeFailed { .. } => {
                self.failures += 1;
                self.replied(Reply::Probe);
            }
            Event::MemoryExceeded { .. } => self.replied(Reply::Memory),
            Event::StartupElapsed { .. } => self.fired(Timer::Startup),
            Event::AcknowledgementElapsed { .. } => self.fired(Timer::Acknowledgement),
            Event::GraceElapsed { .. } => self.fired(Timer::Grace),
            Event::KillElapsed { .. } => self.fired(Timer::Kill),
            Event::BackoffElapsed { .. } => self.fired(Timer::Backoff),
            Event::ResetElapsed { .. } => self.fired(Timer::Reset),
            Event::ProbeDue { .. } => self.fired(Timer::Probe),
            Event::Extended { .. }
            | Event::StartRequested { .. }
            | Event::StartRefused { .. }
            | Event::StartAborted { .. }
            | Event::StartRevoked { .. }
            | Event::StartExtended { .. }
            | Event::StartExpired { .. }
            | Event::EndedBy { .. }
            | Event::WaitRequested { .. }
            | Event::UseRequested { .. }
            | Event::SocketLost { .. }
            | Event::WaitAborted { .. }
            | Event::StopRequested { .. }
            | Event::RestartRequested { .. }
            | Event::UpgradeRequested { .. }
            | Event::Closed
            | Event::ShutdownRequested { .. }
            | Event::Faulted { .. } => {}
        }
    }

    pub fn expect_reply(&mut self, reply: Reply) -> Verdict {
        // A reply that is expected anew can't be distinguished from the cancelled one.
        self.late_replies.remove(&reply);
        ensure(self.expected_replies.insert(reply), format_args!("{reply:?} is requested twice"))
    }

    pub fn cancel_reply(&mut self, reply: Reply) {
        if self.expected_replies.remove(&reply) {
            self.late_replies.insert(reply);
        }
    }

    fn replied(&mut self, reply: Reply) {
        self.expected_replies.remove(&reply);
    }

    fn tree_ended(&mut self) {
        self.tree = Tree::None;
        self.signalled = None;
        self.frozen = false;
        // The record of a dead leader is not written, and its keeper is gone.
        self.replied(Reply::Record);
        self.replied(Reply::Acknowledge);
    }

    /// The record of a leader is written before the wait for readiness.
    fn ready_replied(&mut self) {
        self.replied(Reply::Record);
        self.replied(Reply::Ready);
    }

    fn fired(&mut self, timer: Timer) {
        self.armed.remove(&timer);
    }
}

fn exits(generation: Generation, plan: &Plan, serves: bool) -> Vec<Event> {
    let mut exits = Vec::new();
    // The exit code, the name and the connections matter only for the generation that serves, and a code of 0 only where it
    // ends the restarts or arms the daemon again.
    let codes: &[i32] = if serves && (plan.restart.on == RestartOn::Failure || plan.on_demand) { &[1, 0] } else { &[1] };
    for number in codes {
        for remains in [false, true] {
            exits.push(exited(generation, code(*number), remains));
            if serves {
                exits.push(exited_after_loss(generation, code(*number), remains));
            }
            if serves && plan.on_demand {
                exits.push(exited_connected(generation, code(*number), remains));
            }
        }
    }
    exits
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
        Reply::Connection => vec![Event::Connected { generation }],
        Reply::Idle => vec![Event::Idle { generation }],
        Reply::Freeze => vec![Event::Frozen { generation, idle: true }, Event::Frozen { generation, idle: false }],
        Reply::ChangeOver => vec![Event::ChangedOver { generation }, Event::ChangeOverFailed { generation, failure }],
        Reply::Drain => vec![Event::Drained { generation, left: 0 }, Event::Drained { generation, left: 2 }],
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
