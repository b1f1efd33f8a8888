//! Turns reports of keeper, guardian, probes and timers into events for the machine.

use std::sync::Arc;
use std::time::Duration;

use ally_base::os;
use ally_base::text::printable;
use ally_base::wire::KeeperReport;

use super::Task;
use super::attempt::{AttemptEvent, Completion, Preparation, Sweeping};
use crate::config::KillMode;
use crate::error::Failure;
use crate::lifecycle::{Event, Generation, Timer};
use crate::model::{Exit, ExitUsage, Pid};
use crate::supervisor::guardian::{GuardianReceipt, sweep};
use crate::supervisor::launch::explain;
use crate::supervisor::metrics::TreeId;
use crate::supervisor::notify::Update;
use crate::supervisor::output::Pumps;
use crate::supervisor::ownership::{Lease, find_leader, groups_of, posix_session_members};
use crate::supervisor::probe::{CommandRunner, HealthCheck, ProbedDaemon};
use crate::supervisor::report::log;
use crate::supervisor::runtime::{AbortOnDrop, clock};

impl Task {
    pub(super) fn on_attempt_event(&mut self, generation: Generation, event: AttemptEvent) {
        match event {
            AttemptEvent::Prepared(prepared) => self.on_prepared(generation, prepared),
            AttemptEvent::Ordered(ordered) => self.on_ordered(generation, ordered),
            AttemptEvent::Reported(Some(report)) => self.on_report(generation, report),
            AttemptEvent::Reported(None) => self.on_keeper_gone(generation),
            AttemptEvent::Completed(completion) => self.on_completion(generation, completion),
            AttemptEvent::Notified(update) => self.on_notified(generation, update),
            AttemptEvent::Elapsed(timer) => self.fire(timer, generation),
        }
    }

    fn on_prepared(&mut self, generation: Generation, prepared: Result<Preparation, Failure>) {
        if let Some(attempt) = self.attempt(generation) {
            attempt.preparing = None;
        }
        match prepared {
            Ok(Preparation { lease, log, held }) => {
                if let Some(attempt) = self.attempt(generation) {
                    attempt.log = log;
                }
                if let Some(lease) = lease {
                    self.daemon.remember_lock(&lease.lock);
                    self.lease = Some(lease);
                }
                if let Some(held) = held {
                    self.held = Some(*held);
                }
                self.feed(Event::Prepared { generation });
            }
            Err(failure) => self.feed(Event::PrepareFailed { generation, failure }),
        }
    }

    fn on_ordered(&mut self, generation: Generation, ordered: Result<GuardianReceipt, Failure>) {
        let Some(attempt) = self.attempt(generation) else { return };
        match ordered {
            Ok(receipt) => {
                if let Some(process) = &mut attempt.process {
                    process.receipt = Some(receipt);
                }
            }
            Err(failure) => {
                attempt.process = None;
                self.feed(Event::SpawnFailed { generation, failure });
            }
        }
    }

    fn on_report(&mut self, generation: Generation, report: KeeperReport) {
        match report {
            KeeperReport::Spawned { leader, keeper, keeper_start } => {
                let held = self.held_probe();
                let (job, envs_dir) = (Arc::clone(&self.job), self.context.options.envs_dir.clone());
                if let Some(attempt) = self.attempt(generation) {
                    if let Some(process) = &mut attempt.process {
                        let commands = CommandRunner::new(job, envs_dir, process.token.clone(), process.keeper.prober());
                        attempt.notify.iter().for_each(|notify| notify.set_spawned(leader, keeper));
                        process.set_spawned(ProbedDaemon::new(leader, keeper, commands, attempt.notify.clone(), held), keeper_start);
                    }
                    // The keeper has its copy: no further order follows.
                    attempt.log = None;
                    if let Some(pumps) = &attempt.pumps {
                        pumps.spawned(leader);
                    }
                }
                self.job.member.iter().for_each(|member| member.set_spawned());
                self.daemon.counters.begin_tree(TreeId { keeper, keeper_start }, clock::now().mono);
                // Before the pid is published, so that a caller who reads the pid finds `daemon.pid`.
                let recorded = self.record(generation, leader, keeper);
                self.feed(Event::Spawned { generation, pid: leader });
                if let Err(failure) = recorded {
                    self.feed(Event::RecordFailed { generation, failure });
                }
                self.watch_socket_names();
            }
            KeeperReport::SpawnFailed { stage, errno } => {
                let process = self.attempt(generation).and_then(|attempt| attempt.process.take());
                let programs = process.map(|process| process.programs).unwrap_or_default();
                let failure = explain(stage, errno, &self.job, &programs, &self.context.options.envs_dir);
                self.feed(Event::SpawnFailed { generation, failure });
            }
            KeeperReport::Exited { status, remains, usage, tree_cpu_us } => {
                let usage = ExitUsage { memory_peak: usage.memory_peak, cpu_time: Duration::from_micros(usage.cpu_us) };
                self.on_exited(generation, decode_wait_status(status), Some(usage), remains);
                if !remains {
                    self.daemon.counters.end_tree(Some(Duration::from_micros(tree_cpu_us)));
                    self.end_process(generation);
                }
            }
            KeeperReport::Acknowledged => self.feed(Event::Acknowledged { generation }),
            KeeperReport::TreeGone { tree_cpu_us } => {
                self.daemon.counters.end_tree(Some(Duration::from_micros(tree_cpu_us)));
                self.end_process(generation);
                let leftover_file = self.remove_files();
                self.feed(Event::TreeGone { generation, leftover_file });
            }
        }
    }

    /// The tree is gone, and with it the keeper's stream and the output.
    fn end_process(&mut self, generation: Generation) {
        if let Some(attempt) = self.attempt(generation) {
            attempt.process = None;
            attempt.end_notifications();
            attempt.pumps.take().into_iter().for_each(Pumps::end);
            self.daemon.set_status(None);
        }
        if let Some(held) = &mut self.held {
            held.unwatch_names();
        }
    }

    fn on_notified(&mut self, generation: Generation, Update { status, extend, check }: Update) {
        if status.is_some() {
            self.daemon.set_status(status);
        }
        if let Some(by) = extend {
            self.feed(Event::Extended { generation, by });
        }
        // If no check is pending, one is under way, and reads the reason itself.
        if check && self.attempt(generation).is_some_and(|attempt| attempt.timers.take(Timer::Probe)) {
            self.feed(Event::ProbeDue { generation });
        }
    }

    fn on_exited(&mut self, generation: Generation, exit: Exit, usage: Option<ExitUsage>, remains: bool) {
        let after_probe = self.attempt(generation).and_then(|attempt| attempt.spawned()?.recently_connected());
        if let Some(attempt) = self.attempt(generation) {
            if let Some(process) = &mut attempt.process {
                process.leader_reaped = true;
            }
            if let Some(pumps) = &attempt.pumps {
                pumps.finish();
            }
        }
        let leftover_file = if remains { None } else { self.remove_files() };
        let name_lost = self.lease.as_ref().and_then(Lease::name_lost);
        let tail = self.daemon.tail.error_excerpt();
        self.after_exit(generation, exit, &tail);
        self.feed(Event::Exited { generation, exit, usage, remains, after_probe, tail, leftover_file, name_lost });
    }

    /// The keeper is gone, and has not reported that the tree is gone.
    fn on_keeper_gone(&mut self, generation: Generation) {
        let Some(process) = self.attempt(generation).and_then(|attempt| attempt.process.take()) else { return };
        let Some(spawned) = process.spawned else {
            return self.on_order_lost(generation, process.receipt);
        };
        log!(self.daemon.reporter, warn, keeper = spawned.keeper, "the keeper was killed; its tree is swept");
        if !process.leader_reaped {
            // The leader dies with its keeper (PR_SET_PDEATHSIG); its wait status went to the guardian.
            self.on_exited(generation, Exit::UNKNOWN, None, true);
        }
        self.daemon.counters.end_tree(None);
        let (job, reporter, leader) = (Arc::clone(&self.job), self.daemon.reporter.clone(), process.identity.clone());
        let Some(attempt) = self.attempt(generation) else { return };
        let done = attempt.completion();
        let sweep = AbortOnDrop::spawn(async move {
            sweep(process.receipt, spawned.keeper, process.identity, &job.config, &reporter).await;
            done(Completion::Swept);
        });
        attempt.sweeping = Some(Sweeping { _sweep: sweep, leader });
    }

    /// The reason is known only when the guardian is reaped.
    fn on_order_lost(&mut self, generation: Generation, mut receipt: Option<GuardianReceipt>) {
        let (guardian, reporter) = (Arc::clone(&self.context.guardian), self.daemon.reporter.clone());
        let Some(attempt) = self.attempt(generation) else { return };
        let done = attempt.completion();
        attempt.losing = Some(AbortOnDrop::spawn(async move {
            let failure = guardian.lost(receipt.as_mut()).await;
            log!(reporter, warn, %failure, "an order was lost");
            done(Completion::OrderLost(failure));
        }));
    }

    fn on_completion(&mut self, generation: Generation, completion: Completion) {
        match completion {
            Completion::DependenciesRun(outcome) => self.on_dependencies_run(generation, outcome),
            Completion::Ready(Ok(())) => {
                if let Some(notify) = self.attempt(generation).and_then(|attempt| attempt.notify.as_ref()) {
                    notify.begin_checks();
                }
                self.feed(Event::Ready { generation });
            }
            Completion::Ready(Err(failure)) => self.feed(Event::NotReady { generation, failure }),
            Completion::Checked(HealthCheck { latency, outcome: Ok(()) }) => self.feed(Event::ProbePassed { generation, latency }),
            Completion::Checked(HealthCheck { latency, outcome: Err(error) }) => {
                // The event `health` has this text, with the path of the socket.
                let error = printable(&error);
                self.feed(Event::ProbeFailed { generation, latency, error });
            }
            Completion::MemoryExceeded(memory) => self.feed(Event::MemoryExceeded { generation, memory }),
            Completion::OrderLost(failure) => self.feed(Event::OrderLost { generation, failure }),
            Completion::Swept => {
                if let Some(attempt) = self.attempt(generation) {
                    attempt.sweeping = None;
                }
                self.end_process(generation);
                let leftover_file = self.remove_files();
                self.feed(Event::TreeGone { generation, leftover_file });
            }
        }
    }

    pub(super) fn fire(&self, timer: Timer, generation: Generation) {
        self.feed(match timer {
            Timer::Startup => {
                let attempt = self.attempt.as_ref();
                // The last lines may still be in the pipes.
                if let Some(pumps) = attempt.and_then(|attempt| attempt.pumps.as_ref()) {
                    pumps.drain();
                }
                let last_problem = attempt.and_then(|attempt| attempt.awaiting_ready.as_ref()).and_then(|(_, status)| status.last());
                Event::StartupElapsed { generation, last_problem, tail: self.daemon.tail.error_excerpt() }
            }
            Timer::Acknowledgement => Event::AcknowledgementElapsed { generation },
            Timer::Grace => Event::GraceElapsed { generation },
            Timer::Kill => Event::KillElapsed { generation, survivors: self.survivors() },
            Timer::Reset => Event::ResetElapsed { generation },
            Timer::Backoff => Event::BackoffElapsed { generation },
            Timer::Probe => Event::ProbeDue { generation },
        });
    }

    fn survivors(&self) -> Vec<Pid> {
        let Some(attempt) = &self.attempt else { return Vec::new() };
        let group_only = self.job.config.kill_mode == KillMode::Group;
        let members = if let Some(spawned) = attempt.spawned() {
            let mut members = os::members(spawned.keeper, &mut Some(spawned.keeper), &[], &mut |_| {}).seen;
            let identity = attempt.process.as_ref().and_then(|process| process.identity.as_ref());
            if let Some(identity) = identity.filter(|_| group_only) {
                let groups = groups_of(identity, find_leader(identity).unwrap_or_default().as_ref());
                members.retain(|process| groups.contains(&process.group));
            }
            members
        } else if let Some(leader) = attempt.sweeping.as_ref().and_then(|sweeping| sweeping.leader.as_ref()) {
            let left = posix_session_members(leader, &self.job.config, &[]).unwrap_or_default();
            left.certain.into_iter().chain(left.doubtful).collect()
        } else {
            Vec::new()
        };
        members.into_iter().map(|process| process.pid).collect()
    }
}

fn decode_wait_status(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        Exit { code: Some(libc::WEXITSTATUS(status)), signal: None }
    } else if libc::WIFSIGNALED(status) {
        Exit { code: None, signal: Some(libc::WTERMSIG(status)) }
    } else {
        Exit::UNKNOWN
    }
}
