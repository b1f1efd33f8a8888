//! The host's manager and one daemon, as far as the holds can tell: what a call leads to, and what can happen by itself. Reports wait
//! in a mailbox, so that events of sessions come between.

use ally_core::error::Failure;
use ally_core::lifecycle::holds::{Call, CallId, DaemonState, HoldEvent, Request, Stage};
use ally_core::model::{Exit, ProcessState};
use std::collections::VecDeque;

use DaemonState::{Armed, Error, Running, Starting, Stopped, Stopping, Unknown};
use Stage::{Pending, Preparing, Spawned};

/// Why the daemon is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Caller,
    Restart,
    Itself,
}

/// What can happen by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The next good thing: a process is there, it is ready, the tree is gone, an upgrade is done.
    Progress,
    /// A start fails before readiness, a stop leaves a process, an upgrade fails.
    Failure,
    /// Another owner has the name.
    Refusal,
    Crash,
    GiveUp,
    CleanExit,
    Unhealthy,
}

pub const MOVES: [Move; 7] = [Move::Progress, Move::Failure, Move::Refusal, Move::Crash, Move::GiveUp, Move::CleanExit, Move::Unhealthy];

#[derive(Debug, Clone)]
pub struct World {
    pub state: DaemonState,
    /// The start whose configuration the daemon has.
    pub config: Option<u8>,
    /// A start resolves at `Armed`.
    on_demand: bool,
    before: DaemonState,
    stuck: bool,
    ending: Option<Ending>,
    /// The call that is settled when the daemon runs.
    starting: Option<Settling>,
    stops: Vec<Settling>,
    /// Calls that fail at the end of the stop.
    failing: Vec<Settling>,
    upgrade: Option<Settling>,
    waits: Vec<Waiting>,
    pub mail: VecDeque<HoldEvent>,
}

#[derive(Debug, Clone, Copy)]
struct Settling {
    call: CallId,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    call: CallId,
    is_use: bool,
}

impl World {
    pub const fn new(on_demand: bool) -> Self {
        Self {
            state: Unknown,
            config: None,
            on_demand,
            before: Unknown,
            stuck: false,
            ending: None,
            starting: None,
            stops: Vec::new(),
            failing: Vec::new(),
            upgrade: None,
            waits: Vec::new(),
            mail: VecDeque::new(),
        }
    }

    fn settle(&mut self, call: CallId, outcome: Result<(), Failure>) {
        self.mail.push_back(HoldEvent::Settled { call, outcome });
    }

    fn settle_starting(&mut self, outcome: Result<(), Failure>) {
        if let Some(Settling { call }) = self.starting.take() {
            self.settle(call, outcome);
        }
    }

    fn fail_all(&mut self) {
        for Settling { call } in std::mem::take(&mut self.failing) {
            self.settle(call, Err(Failure::Stopped));
        }
    }

    fn enter(&mut self, state: DaemonState) {
        self.state = state;
        self.mail.push_back(HoldEvent::Daemon(state));
        let outcome = match state {
            Running | Armed => Ok(()),
            Unknown => Err(Failure::NotFound),
            Stopped => Err(Failure::AtRest),
            Error => Err(exited()),
            Starting(_) | Stopping => return,
        };
        for Waiting { call, is_use } in std::mem::take(&mut self.waits) {
            if state == Armed && !is_use {
                self.waits.push(Waiting { call, is_use });
            } else {
                self.settle(call, outcome.clone());
            }
        }
    }

    fn prepare(&mut self, call: CallId) {
        self.before = self.state;
        self.starting = Some(Settling { call });
        self.enter(Starting(Preparing));
    }

    const fn has_process(&self) -> bool {
        self.stuck || matches!(self.state, Running | Starting(Spawned) | Stopping)
    }

    /// `config`: of the request of a start.
    pub fn call(&mut self, call: CallId, what: Call, config: impl Fn(Request) -> u8) {
        match what {
            Call::Start { of } if !self.stuck && (self.state.is_at_rest() || self.state == Starting(Pending)) => {
                self.config = Some(config(of));
                self.prepare(call);
            }
            Call::Start { .. } => self.settle(call, Err(Failure::AlreadyRunning(ProcessState::Running))),
            Call::Stop => self.stop(call),
            Call::Restart => self.restart(call),
            Call::Upgrade { .. } if !self.stuck && (matches!(self.state, Stopped | Error) || self.state == Starting(Pending)) => {
                self.prepare(call);
            }
            Call::Upgrade { .. } if self.state == Running && self.upgrade.is_none() => self.upgrade = Some(Settling { call }),
            Call::Upgrade { .. } => self.settle(call, Err(Failure::AlreadyUpgrading)),
            Call::Wait | Call::Use => {
                self.waits.push(Waiting { call, is_use: what == Call::Use });
                if !matches!(self.state, Starting(_) | Stopping) {
                    let told = self.mail.len();
                    self.enter(self.state);
                    // The state itself is no news.
                    self.mail.remove(told);
                }
            }
        }
    }

    fn stop(&mut self, call: CallId) {
        self.failing.extend(self.starting.take());
        self.failing.extend(self.upgrade.take());
        if self.has_process() {
            self.stuck = false;
            self.stops.push(Settling { call });
            self.ending = Some(Ending::Caller);
            if self.state != Stopping {
                self.enter(Stopping);
            }
            return;
        }
        if !matches!(self.state, Unknown | Stopped) {
            self.enter(Stopped);
        }
        self.settle(call, Ok(()));
        self.fail_all();
    }

    fn restart(&mut self, call: CallId) {
        assert_ne!(self.ending, Some(Ending::Caller), "a restart during a stop");
        if self.upgrade.is_some() || self.ending == Some(Ending::Restart) {
            return self.settle(call, Err(Failure::AlreadyUpgrading));
        }
        match self.state {
            Unknown => self.settle(call, Err(Failure::NotFound)),
            Armed => self.settle(call, Ok(())),
            _ if self.has_process() => {
                self.failing.extend(self.starting.take());
                self.starting = Some(Settling { call });
                self.ending = Some(Ending::Restart);
                self.stuck = false;
                self.enter(Stopping);
            }
            Stopped | Error => self.prepare(call),
            _ => {
                self.settle_starting(Err(Failure::Stopped));
                self.prepare(call);
            }
        }
    }

    pub fn abort(&mut self, call: CallId) {
        self.waits.retain(|waiting| waiting.call != call);
    }

    pub fn expire(&mut self, call: CallId) {
        if self.state == Starting(Spawned) && self.starting.is_some_and(|starting| starting.call == call) {
            self.enter(Error);
            self.settle_starting(Err(timeout()));
        }
    }

    /// The manager forgets the plugin.
    pub fn forget(&mut self) -> bool {
        let is_forgettable = matches!(self.state, Stopped | Unknown);
        self.state = Unknown;
        self.config = None;
        is_forgettable
    }

    /// False if this can't happen now.
    pub fn happen(&mut self, what: Move) -> bool {
        if !self.mail.is_empty() {
            return false;
        }
        match (self.state, what) {
            (Starting(Preparing), Move::Progress) if self.on_demand && self.starting.is_some() => {
                self.enter(Armed);
                self.settle_starting(Ok(()));
            }
            (Starting(Preparing), Move::Progress) => self.enter(Starting(Spawned)),
            (Starting(Preparing), Move::Refusal) if self.starting.is_some() && self.before.is_at_rest() => {
                self.enter(self.before);
                self.settle_starting(Err(Failure::OwnedElsewhere { owner: Some(7) }));
            }
            (Starting(Spawned), Move::Progress) => {
                self.enter(Running);
                self.settle_starting(Ok(()));
            }
            (Starting(Preparing | Spawned), Move::Failure) if self.starting.is_some() => {
                self.enter(Error);
                self.settle_starting(Err(exited()));
            }
            (Starting(Spawned), Move::Crash) if self.starting.is_none() => self.enter(Starting(Pending)),
            (Starting(Spawned), Move::GiveUp) if self.starting.is_none() => self.enter(Error),
            (Starting(Pending) | Armed, Move::Progress) => self.enter(Starting(Preparing)),
            (Running, Move::Progress) if self.upgrade.is_some() => self.settle_upgrade(Ok(())),
            (Running, Move::Failure) if self.upgrade.is_some() => self.settle_upgrade(Err(exited())),
            (Running, Move::Crash) if self.upgrade.is_none() => self.enter(Starting(Pending)),
            (Running, Move::GiveUp) if self.upgrade.is_none() => self.enter(Error),
            (Running, Move::CleanExit) if self.upgrade.is_none() => self.enter(Stopped),
            (Running, Move::Unhealthy) if self.upgrade.is_none() => {
                self.ending = Some(Ending::Itself);
                self.enter(Stopping);
            }
            (Stopping, Move::Progress) => self.tree_gone(),
            (Stopping, Move::Failure) if self.ending == Some(Ending::Caller) => {
                self.ending = None;
                self.stuck = true;
                self.enter(Error);
                self.settle_stops(&Err(Failure::StopFailed { survivors: vec![9] }));
                self.fail_all();
            }
            _ => return false,
        }
        true
    }

    fn settle_upgrade(&mut self, outcome: Result<(), Failure>) {
        if let Some(Settling { call }) = self.upgrade.take() {
            self.settle(call, outcome);
        }
    }

    fn settle_stops(&mut self, outcome: &Result<(), Failure>) {
        for Settling { call } in std::mem::take(&mut self.stops) {
            self.settle(call, outcome.clone());
        }
    }

    fn tree_gone(&mut self) {
        match self.ending.take() {
            Some(Ending::Restart) => {
                self.fail_all();
                self.enter(Starting(Preparing));
            }
            Some(Ending::Itself) => self.enter(Starting(Pending)),
            Some(Ending::Caller) | None => {
                self.enter(Stopped);
                self.settle_stops(&Ok(()));
                self.fail_all();
            }
        }
    }
}

fn exited() -> Failure {
    Failure::StartupExit { exit: Exit { code: Some(1), signal: None }, tail: String::new() }
}

pub fn timeout() -> Failure {
    let after = std::time::Duration::from_secs(1);
    Failure::StartupTimeout { socket: "/run/p.sock".to_owned(), after, last_problem: None, tail: String::new() }
}
