//! The second generation of a daemon. During an upgrade a daemon has two: first the one that serves and its successor, then, after
//! the change-over, the one that serves and the former one.
//!
//! ```text
//!   Preparing ─▶ Spawning ─▶ Booting ─▶ Proving ─▶ ChangingOver ─▶ (it serves, and the former one takes its place here)
//!       │            │          │          │            │                                     │
//!       └────────────┴──────────┴──────────┴────────────┴──▶ Leaving ◀─────── Draining ◀──────┘
//!                                                               │
//!                                                               └──▶ Stuck
//! ```

use super::tree_stop::TreeStop;
use super::watch::next_check;
use super::{ORDERS_MAX, Plan};
use crate::error::Failure;
use crate::lifecycle::event::{Effect, Event, Notice, Timer};
use crate::lifecycle::phase::{Generation, Leader, Ticket, TreeState};
use crate::model::Pid;

#[derive(Debug, Clone, PartialEq)]
pub struct Second {
    pub generation: Generation,
    pub plan: Plan,
    /// The ticket of the upgrade. `None` once it is settled, or waits for the end of a stop.
    pub ticket: Option<Ticket>,
    pub role: Role,
    pub stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Successor,
    /// It has served before.
    Former,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    Preparing,
    /// `orders`: how often the order was given.
    Spawning {
        orders: u32,
    },
    Booting {
        pid: Pid,
    },
    /// It is ready, and must pass one health check.
    Proving {
        pid: Pid,
        failures: u32,
    },
    /// Clients and the record are brought over to it. `ended`: the exit of the leader meanwhile. The answer to `ChangeOver`
    /// decides whether that was a failed successor, or the daemon that serves.
    ChangingOver {
        pid: Pid,
        ended: Option<Box<Event>>,
    },
    /// The former generation takes the connections that wait.
    Draining {
        pid: Pid,
    },
    /// Its tree is being stopped. `outcome`: of the upgrade.
    Leaving {
        tree: TreeState,
        outcome: Result<(), Failure>,
    },
    /// SIGKILL did not end the tree in time.
    Stuck {
        tree: TreeState,
        survivors: Vec<Pid>,
    },
}

/// What follows for the daemon.
#[derive(Debug, PartialEq)]
pub enum Step {
    Stay,
    /// Its clients and the record are brought over. `ended`: its exit, if it has ended.
    Serves {
        pid: Pid,
        ended: Option<Box<Event>>,
    },
    /// Its tree is gone. With the outcome of the upgrade.
    Gone(Result<(), Failure>),
    /// Its tree is not gone 2 s after SIGKILL.
    Stuck {
        survivors: Vec<Pid>,
        outcome: Result<(), Failure>,
    },
}

impl Second {
    /// The leader of the former generation, while it lives.
    pub const fn former_pid(&self) -> Option<Pid> {
        match (self.role, &self.stage) {
            (Role::Former, Stage::Draining { pid }) => Some(*pid),
            (Role::Former, Stage::Leaving { tree, .. } | Stage::Stuck { tree, .. }) => tree.pid(),
            _ => None,
        }
    }

    /// Whether it has not begun to serve, and may be given up. While clients are brought over it is too late for that.
    pub const fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Preparing | Stage::Spawning { .. } | Stage::Booting { .. } | Stage::Proving { .. })
    }

    /// The reason why the upgrade has failed, while the successor leaves.
    pub const fn failure(&self) -> Option<&Failure> {
        match &self.stage {
            Stage::Leaving { outcome: Err(failure), .. } => Some(failure),
            _ => None,
        }
    }

    pub fn on(&mut self, event: Event, effects: &mut Vec<Effect>) -> Step {
        let generation = self.generation;
        match (&mut self.stage, event) {
            (Stage::Preparing, Event::Prepared { .. }) => {
                self.stage = Stage::Spawning { orders: 1 };
                effects.push(Effect::Spawn { generation });
                effects.push(Effect::Arm { timer: Timer::Startup, generation, after: self.plan.startup_timeout });
                Step::Stay
            }
            (Stage::Preparing, Event::PrepareFailed { failure, .. }) => Step::Gone(Err(failure)),
            (Stage::Spawning { .. }, Event::Spawned { pid, .. }) => {
                self.stage = Stage::Booting { pid };
                effects.extend([Effect::Notify(Notice::Spawned { pid }), Effect::AwaitReady { generation }]);
                Step::Stay
            }
            (Stage::Spawning { orders }, Event::OrderLost { .. }) if *orders < ORDERS_MAX => {
                *orders += 1;
                effects.push(Effect::Spawn { generation });
                Step::Stay
            }
            (Stage::Spawning { .. }, Event::SpawnFailed { failure, .. } | Event::OrderLost { failure, .. }) => {
                effects.push(Effect::Disarm { timer: Timer::Startup, generation });
                Step::Gone(Err(failure))
            }
            (Stage::Spawning { .. } | Stage::Booting { .. }, Event::StartupElapsed { last_problem, tail, .. }) => {
                let (socket, after) = (self.plan.socket_path.clone(), self.plan.startup_timeout);
                self.fail(Failure::StartupTimeout { socket, after, last_problem, tail }, effects)
            }
            (Stage::Booting { .. }, Event::RecordFailed { failure, .. } | Event::NotReady { failure, .. }) => self.fail(failure, effects),
            (Stage::Booting { pid }, Event::Ready { .. }) => {
                let pid = *pid;
                effects.push(Effect::Disarm { timer: Timer::Startup, generation });
                if self.plan.health.is_some() {
                    self.stage = Stage::Proving { pid, failures: 0 };
                    effects.push(Effect::StartProbe { generation });
                } else {
                    self.change_over(pid, effects);
                }
                Step::Stay
            }
            (Stage::Proving { pid, .. }, Event::ProbePassed { .. }) => {
                let pid = *pid;
                self.change_over(pid, effects);
                Step::Stay
            }
            (Stage::Proving { failures, .. }, Event::ProbeFailed { latency, error, .. }) => {
                *failures += 1;
                let failures = *failures;
                match self.plan.health {
                    Some((interval, retries)) if failures < retries => {
                        effects.push(Effect::Arm { timer: Timer::Probe, generation, after: next_check(interval, latency) });
                        Step::Stay
                    }
                    _ => self.fail(Failure::Unhealthy { checks: failures, last: error }, effects),
                }
            }
            (Stage::Proving { .. }, Event::ProbeDue { .. }) => {
                effects.push(Effect::StartProbe { generation });
                Step::Stay
            }
            (Stage::ChangingOver { pid, ended }, Event::ChangedOver { .. }) => Step::Serves { pid: *pid, ended: ended.take() },
            (Stage::ChangingOver { ended, .. }, Event::ChangeOverFailed { failure, .. }) => match ended.take().map(|exited| *exited) {
                Some(Event::Exited { exit, remains, tail, .. }) => self.exited(remains, Failure::StartupExit { exit, tail }, effects),
                _ => self.fail(failure, effects),
            },
            (Stage::ChangingOver { ended, .. }, exited @ Event::Exited { .. }) => {
                *ended = Some(Box::new(exited));
                Step::Stay
            }
            (Stage::ChangingOver { ended, .. }, Event::TreeGone { leftover_file: file, .. }) => {
                if let Some(Event::Exited { remains, leftover_file, .. }) = ended.as_deref_mut() {
                    *remains = false;
                    *leftover_file = file;
                }
                Step::Stay
            }
            (Stage::Draining { .. }, Event::Drained { left, .. }) => {
                if left > 0 {
                    effects.push(Effect::Notify(Notice::NotDrained { left }));
                }
                self.leave(Ok(()), effects)
            }
            (_, Event::Exited { exit, remains, tail, .. }) => self.exited(remains, Failure::StartupExit { exit, tail }, effects),
            (_, Event::TreeGone { .. }) => self.gone(effects),
            (Stage::Booting { .. }, Event::Extended { by, .. }) => {
                effects.push(Effect::Extend { timer: Timer::Startup, generation, by });
                Step::Stay
            }
            (Stage::Leaving { tree, .. }, Event::Extended { by, .. }) if tree.is_extensible() => {
                effects.push(Effect::Extend { timer: Timer::Grace, generation, by });
                Step::Stay
            }
            (Stage::Leaving { .. }, Event::KillElapsed { survivors, .. }) => self.kill_elapsed(survivors, effects),
            (Stage::Leaving { .. } | Stage::Stuck { .. }, event) => self.leaving(&event, effects),
            _ => Step::Stay,
        }
    }

    /// What happens to a tree that is being stopped.
    fn leaving(&mut self, event: &Event, effects: &mut Vec<Effect>) -> Step {
        let mut stop = TreeStop { generation: self.generation, grace: self.plan.grace, effects };
        match (&mut self.stage, event) {
            (Stage::Leaving { tree, .. }, Event::Spawned { pid, .. }) if tree.leader == Leader::Pending => stop.spawned(tree, *pid),
            (Stage::Leaving { tree, .. } | Stage::Stuck { tree, .. }, Event::SpawnFailed { .. } | Event::OrderLost { .. })
                if tree.leader == Leader::Pending =>
            {
                return self.gone(effects);
            }
            (Stage::Stuck { tree, .. }, Event::Spawned { pid, .. }) if tree.leader == Leader::Pending => *tree = stop.kill_late(*pid),
            (Stage::Leaving { tree, .. }, Event::Acknowledged { .. }) => stop.acknowledged(tree),
            (Stage::Leaving { tree, .. }, Event::AcknowledgementElapsed { .. }) => stop.acknowledgement_elapsed(tree),
            (Stage::Leaving { tree, .. }, Event::GraceElapsed { .. }) => stop.grace_elapsed(tree),
            _ => {}
        }
        Step::Stay
    }

    fn kill_elapsed(&mut self, survivors: Vec<Pid>, effects: &mut Vec<Effect>) -> Step {
        let mut stop = self.stop(effects);
        let Stage::Leaving { tree, outcome } = &mut self.stage else { return Step::Stay };
        if !stop.kill_elapsed(tree) {
            return Step::Stay;
        }
        let (tree, outcome) = (*tree, outcome.clone());
        self.stage = Stage::Stuck { tree, survivors: survivors.clone() };
        Step::Stuck { survivors, outcome }
    }

    /// A stop of the daemon, or its shutdown. `failure`: of the upgrade.
    pub fn cancel(&mut self, failure: Failure, effects: &mut Vec<Effect>) -> Step {
        match &mut self.stage {
            Stage::Preparing => {
                effects.push(Effect::CancelPrepare { generation: self.generation });
                Step::Gone(Err(failure))
            }
            Stage::Leaving { .. } => Step::Stay,
            Stage::Stuck { tree, .. } => {
                let leader = tree.leader;
                let tree = self.stop(effects).kill(leader);
                self.stage = Stage::Leaving { tree, outcome: Err(failure) };
                Step::Stay
            }
            _ => self.leave(Err(failure), effects),
        }
    }

    fn fail(&mut self, failure: Failure, effects: &mut Vec<Effect>) -> Step {
        self.leave(Err(failure), effects)
    }

    /// Stops the tree.
    fn leave(&mut self, outcome: Result<(), Failure>, effects: &mut Vec<Effect>) -> Step {
        let leader = match &self.stage {
            Stage::Spawning { .. } => Leader::Pending,
            Stage::ChangingOver { ended: Some(ended), .. } => match **ended {
                Event::Exited { remains: false, .. } => return Step::Gone(outcome),
                _ => Leader::Exited,
            },
            Stage::Booting { pid } | Stage::Proving { pid, .. } | Stage::ChangingOver { pid, ended: None } | Stage::Draining { pid } => {
                Leader::Alive(*pid)
            }
            Stage::Preparing | Stage::Leaving { .. } | Stage::Stuck { .. } => return Step::Stay,
        };
        self.leave_tree(leader, outcome, effects)
    }

    fn leave_tree(&mut self, leader: Leader, outcome: Result<(), Failure>, effects: &mut Vec<Effect>) -> Step {
        self.end_stage(effects);
        let tree = self.stop(effects).begin(leader);
        self.stage = Stage::Leaving { tree, outcome };
        Step::Stay
    }

    /// Cancels what the stage waits for.
    fn end_stage(&self, effects: &mut Vec<Effect>) {
        let generation = self.generation;
        match self.stage {
            Stage::Spawning { .. } => effects.push(Effect::Disarm { timer: Timer::Startup, generation }),
            Stage::Booting { .. } => {
                effects.extend([Effect::Disarm { timer: Timer::Startup, generation }, Effect::StopAwaiting { generation }]);
            }
            Stage::Proving { .. } => {
                effects.extend([Effect::Disarm { timer: Timer::Probe, generation }, Effect::StopProbe { generation }]);
            }
            Stage::Draining { .. } => effects.push(Effect::StopDraining { generation }),
            Stage::Preparing | Stage::ChangingOver { .. } | Stage::Leaving { .. } | Stage::Stuck { .. } => {}
        }
    }

    /// The leader has exited. `failure`: of a successor.
    fn exited(&mut self, remains: bool, failure: Failure, effects: &mut Vec<Effect>) -> Step {
        let outcome = match &mut self.stage {
            Stage::Booting { .. } | Stage::Proving { .. } | Stage::ChangingOver { .. } => Err(failure),
            Stage::Draining { .. } => Ok(()),
            Stage::Leaving { tree, .. } | Stage::Stuck { tree, .. } => {
                tree.leader = Leader::Exited;
                return if remains { Step::Stay } else { self.gone(effects) };
            }
            Stage::Preparing | Stage::Spawning { .. } => return Step::Stay,
        };
        if remains {
            return self.leave_tree(Leader::Exited, outcome, effects);
        }
        self.end_stage(effects);
        Step::Gone(outcome)
    }

    fn gone(&mut self, effects: &mut Vec<Effect>) -> Step {
        match &self.stage {
            Stage::Leaving { outcome, .. } => {
                let outcome = outcome.clone();
                self.stop(effects).end();
                Step::Gone(outcome)
            }
            Stage::Stuck { .. } => Step::Gone(Ok(())),
            _ => Step::Stay,
        }
    }

    fn change_over(&mut self, pid: Pid, effects: &mut Vec<Effect>) {
        self.stage = Stage::ChangingOver { pid, ended: None };
        effects.push(Effect::ChangeOver { generation: self.generation });
    }

    fn stop<'a>(&self, effects: &'a mut Vec<Effect>) -> TreeStop<'a> {
        TreeStop { generation: self.generation, grace: self.plan.grace, effects }
    }
}
