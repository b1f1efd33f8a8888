//! A scenario of one daemon: a machine, its effects so far, and the time.

use super::plan::at;
use ally_core::error::Failure;
use ally_core::lifecycle::{Effect, Event, Generation, Machine, Notice, Plan, Snapshot};
use ally_core::model::{Exit, ExitReason, ProbeRole, ProcessState};
use std::time::Duration;

pub const PID: i32 = 4242;

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn code(code: i32) -> Exit {
    Exit { code: Some(code), signal: None }
}

pub fn settled(effects: &[Effect], ticket: u64) -> Option<&Result<(), Failure>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Settle { ticket: settled, outcome } if *settled == ticket => Some(outcome),
        _ => None,
    })
}

pub struct Scenario {
    pub machine: Machine,
    pub effects: Vec<Effect>,
    pub clock: u64,
    /// Whether the keeper answers each command at once.
    pub keeper_answers: bool,
}

impl Scenario {
    pub fn new(plan: Plan) -> Self {
        Self::seeded(plan, 1)
    }

    pub fn seeded(plan: Plan, seed: u64) -> Self {
        Self { machine: Machine::new(plan, at(0), seed), effects: Vec::new(), clock: 0, keeper_answers: true }
    }

    pub fn started(plan: Plan) -> Self {
        let mut story = Self::new(plan);
        story.start();
        story
    }

    /// From Stopped to Running.
    pub fn start(&mut self) {
        self.on(Event::StartRequested { ticket: 1 });
        self.up();
    }

    /// From Preparing to Running.
    pub fn up(&mut self) {
        self.boot();
        self.on(Event::Ready { generation: self.machine.generation() });
    }

    /// From Preparing to Booting.
    pub fn boot(&mut self) {
        let generation = self.machine.generation();
        self.on(Event::Prepared { generation });
        self.on(Event::Spawned { generation, pid: PID });
    }

    pub fn on(&mut self, event: Event) -> &[Effect] {
        let before = self.effects.len();
        self.effects.extend(self.machine.on(event, at(self.clock)));
        let signalled = self.effects[before..].iter().filter_map(|effect| match effect {
            Effect::Signal { generation, .. } => Some(*generation),
            _ => None,
        });
        let signalled: Vec<Generation> = signalled.filter(|_| self.keeper_answers).collect();
        for generation in signalled {
            self.effects.extend(self.machine.on(Event::Acknowledged { generation }, at(self.clock)));
        }
        &self.effects[before..]
    }

    pub fn exit(&mut self, exit: Exit) -> &[Effect] {
        self.exit_after(exit, None)
    }

    /// An exit just after a probe of this role has connected.
    pub fn exit_after(&mut self, exit: Exit, after_probe: Option<ProbeRole>) -> &[Effect] {
        let (generation, tail) = (self.machine.generation(), String::new());
        self.on(Event::Exited {
            generation,
            exit,
            usage: None,
            remains: false,
            after_probe,
            tail,
            leftover_file: None,
            name_lost: None,
            connected: false,
        })
    }

    pub fn crash(&mut self) -> &[Effect] {
        self.exit(code(1))
    }

    pub fn backoff(&mut self) {
        self.on(Event::BackoffElapsed { generation: self.machine.generation() });
    }

    pub fn unhealthy(&mut self) {
        self.on(Event::ProbeFailed { generation: self.machine.generation(), latency: ms(1), error: "refused".to_owned() });
    }

    pub fn over_memory(&mut self) {
        self.on(Event::MemoryExceeded { generation: self.machine.generation(), memory: 200 << 20 });
    }

    pub fn socket_lost(&mut self, failure: Failure) {
        self.on(Event::SocketLost { generation: self.machine.generation(), failure });
    }

    pub fn timeout(&mut self) {
        self.on(Event::StartupElapsed { generation: self.machine.generation(), last_problem: None, tail: String::new() });
    }

    pub fn seen(&self) -> Snapshot {
        self.machine.snapshot()
    }

    pub fn last_error(&self) -> String {
        self.seen().last_error.unwrap_or_default()
    }

    /// The states that were emitted since `effects` had this length.
    pub fn states_since(&self, mark: usize) -> Vec<&'static str> {
        let notices = self.effects[mark..].iter();
        notices
            .filter_map(|effect| match effect {
                Effect::Notify(Notice::StateChanged { to, .. }) => Some(to.as_str()),
                _ => None,
            })
            .collect()
    }

    pub fn scheduled(&self) -> Vec<(u32, Duration)> {
        let scheduled = self.effects.iter().filter_map(|effect| match effect {
            Effect::Notify(Notice::RestartScheduled { attempt, delay, .. }) => Some((*attempt, *delay)),
            _ => None,
        });
        scheduled.collect()
    }

    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.seen().last_exit.map(|last| last.reason)
    }

    /// Crashes at this time. True if no restart follows.
    pub fn crash_at(&mut self, clock: u64) -> bool {
        self.clock = clock;
        self.crash();
        let given_up = self.seen().state == ProcessState::Error;
        if !given_up {
            self.backoff();
            self.up();
        }
        given_up
    }
}
