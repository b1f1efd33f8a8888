//! What happens, told to the machine.

use std::sync::Arc;

use super::{Outcome, Task, report};
use crate::config::KillMode;
use crate::error::Failure;
use crate::lifecycle::{Event, Generation, Timer};
use crate::model::{Exit, Pid};
use crate::supervisor::TARGET;
use crate::supervisor::guardian_client::Maker;
use crate::supervisor::prepare::Lease;
use crate::supervisor::probe::{self, Checkup};
use crate::supervisor::{order, orphan, runtime};
use ally_base::os;
use ally_base::wire::Report;

impl Task {
    pub(super) fn hear(&mut self, generation: Generation, report: Option<Report>) {
        match report {
            Some(Report::Spawned { leader, keeper }) => {
                if let Some(hands) = &mut self.hands {
                    hands.born = Some(probe::Daemon::new(leader, keeper));
                }
                // Before the pid is published: whoever learns it from us finds its file.
                let recorded = self.record(leader, keeper);
                self.feed(Event::Spawned { generation, pid: leader });
                if let Err(failure) = recorded {
                    self.feed(Event::RecordFailed { generation, failure });
                }
            }
            Some(Report::SpawnFailed { stage, errno }) => {
                self.hands = None;
                let failure = order::explain(stage, errno, &self.job, &self.shared.options.envs_dir);
                self.feed(Event::SpawnFailed { generation, failure });
            }
            Some(Report::Exited { status, remains }) => {
                self.exited(generation, decode(status), remains);
                if !remains {
                    self.hands = None;
                }
            }
            Some(Report::TreeGone) => {
                self.hands = None;
                let litter = self.clean();
                self.feed(Event::TreeGone { generation, litter });
            }
            // Those are for the guardian to tell.
            Some(Report::Swept { .. } | Report::Taken) => {}
            None => self.lost(generation),
        }
    }

    pub(super) fn exited(&mut self, generation: Generation, exit: Exit, remains: bool) {
        if let Some(hands) = &mut self.hands {
            hands.leader_reaped = true;
        }
        if let Some(pumps) = &self.pumps {
            pumps.finish();
        }
        let litter = if remains { None } else { self.clean() };
        self.feed(Event::Exited { generation, exit, remains, tail: self.evidence(), litter });
    }

    /// Its last lines, those included that still wait in the pipes.
    pub(super) fn evidence(&self) -> String {
        if let Some(pumps) = &self.pumps {
            pumps.drain();
        }
        self.daemon.tail.evidence()
    }

    /// The keeper is gone without having said that its tree is.
    pub(super) fn lost(&mut self, generation: Generation) {
        let Some(hands) = self.hands.take() else { return };
        let Some(born) = hands.born else {
            tracing::warn!(target: TARGET, manager = self.shared.id, plugin = self.daemon.name, "the guardian was lost with an order");
            return self.feed(Event::OrderLost { generation });
        };
        tracing::warn!(target: TARGET, manager = self.shared.id, plugin = self.daemon.name, keeper = born.keeper, "the keeper was killed; its tree is swept");
        if !hands.leader_reaped {
            // The leader goes with its keeper (PR_SET_PDEATHSIG); its status went to the guardian.
            self.exited(generation, Exit::UNKNOWN, true);
        }
        let (maker, identity) = (hands.maker, hands.identity);
        let (job, manager, done) = (Arc::clone(&self.job), self.shared.id, self.outcomes.0.clone());
        let leader = identity.clone();
        let errand = runtime::Errand::new(async move {
            orphan::sweep(maker, born.keeper, leader, &job.config, manager).await;
            report(&done, Outcome::Swept(generation));
        });
        self.sweeping = Some((errand, identity));
    }

    pub(super) fn prepared(&mut self, generation: Generation, lease: Result<Lease, Failure>) {
        self.preparing = None;
        match lease {
            Ok(lease) => {
                self.daemon.hold(&lease.lock);
                self.lease = Some(lease);
                self.feed(Event::Prepared { generation });
            }
            Err(failure) => self.feed(Event::PrepareFailed { generation, failure }),
        }
    }

    pub(super) fn ordered(&mut self, generation: Generation, ordered: Result<Maker, Failure>) {
        match ordered {
            Ok(maker) => {
                if let Some(hands) = &mut self.hands {
                    hands.maker = Some(maker);
                }
            }
            Err(failure) => {
                self.hands = None;
                self.feed(Event::SpawnFailed { generation, failure });
            }
        }
    }

    pub(super) fn conclude(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ready(generation, Ok(())) => self.feed(Event::Ready { generation }),
            Outcome::Ready(generation, Err(failure)) => self.feed(Event::NotReady { generation, failure }),
            Outcome::Checked(generation, Checkup { latency, outcome }) => self.feed(match outcome {
                Ok(()) => Event::ProbePassed { generation, latency },
                Err(error) => Event::ProbeFailed { generation, latency, error },
            }),
            Outcome::Swept(generation) => {
                self.sweeping = None;
                let litter = self.clean();
                self.feed(Event::TreeGone { generation, litter });
            }
        }
    }

    pub(super) fn fire(&self, timer: Timer, generation: Generation) {
        self.feed(match timer {
            Timer::Startup => {
                let seen = self.awaiting.as_ref().and_then(|(_, sight)| sight.last());
                Event::StartupElapsed { generation, seen, tail: self.evidence() }
            }
            Timer::Grace => Event::GraceElapsed { generation },
            Timer::Kill => Event::KillElapsed { generation, survivors: self.survivors() },
            Timer::Backoff => Event::BackoffElapsed { generation },
            Timer::Probe => Event::ProbeDue { generation },
        });
    }

    pub(super) fn survivors(&self) -> Vec<Pid> {
        let group_only = self.job.config.kill_mode == KillMode::Group;
        let members = if let Some(born) = self.hands.as_ref().and_then(|hands| hands.born.as_ref()) {
            let mut members = os::members(born.keeper, &mut Some(born.leader), &[], &mut |_| {}).seen;
            members.retain(|process| !group_only || process.group == born.leader);
            members
        } else if let Some((_, Some(leader))) = &self.sweeping {
            let left = orphan::left_of(leader, &self.job.config, &[]).unwrap_or_default();
            left.certain.into_iter().chain(left.doubtful).collect()
        } else {
            Vec::new()
        };
        members.into_iter().map(|process| process.pid).collect()
    }
}

fn decode(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        Exit { code: Some(libc::WEXITSTATUS(status)), signal: None }
    } else if libc::WIFSIGNALED(status) {
        Exit { code: None, signal: Some(libc::WTERMSIG(status)) }
    } else {
        Exit::UNKNOWN
    }
}
