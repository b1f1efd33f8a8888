//! Turns reports of keeper, guardian, probes and timers into events for the machine.

use std::sync::Arc;
use std::time::Duration;

use ally_base::os;
use ally_base::text::printable;
use ally_base::wire::KeeperReport;

use super::Task;
use super::attempt::{AttemptEvent, Completion, CountedTree, Preparation, Sweeping};
use crate::config::KillMode;
use crate::error::Failure;
use crate::lifecycle::{Event, Generation, Timer};
use crate::model::{Exit, ExitUsage, Pid};
use crate::supervisor::guardian::{GuardianReceipt, sweep};
use crate::supervisor::launch::explain;
use crate::supervisor::metrics::TreeId;
use crate::supervisor::notify::Update;
use crate::supervisor::output::Pumps;
use crate::supervisor::ownership::{Lease, SpawnReport, find_leader, groups_of, posix_session_members};
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
                // Nothing refuses the start any more, so the name is that of an exclusive plugin.
                if let Some(shared) = self.context.shared_plugins() {
                    shared.end_following(&self.daemon.name);
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
            KeeperReport::Spawned { leader, leader_start, keeper, keeper_start, group } => {
                let held = self.held_probe(generation);
                let (job, envs_dir) = (self.job_of(generation), self.context.options.envs_dir.clone());
                let tree = CountedTree { id: TreeId { keeper, keeper_start }, spawned: clock::now().mono, counted: Duration::ZERO };
                let is_serving = generation == self.serving;
                if let Some(attempt) = self.attempt(generation) {
                    attempt.tree = Some(tree);
                    let job = Arc::clone(&job);
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
                job.member.iter().for_each(|member| member.set_spawned());
                if is_serving {
                    self.daemon.counters.begin_tree(tree.id, tree.spawned);
                }
                // Before the pid is published, so that a caller who reads the pid finds `daemon.pid`.
                let recorded = self.record(generation, SpawnReport { leader, leader_start, keeper, keeper_start, group });
                self.feed(Event::Spawned { generation, pid: leader });
                if let Err(failure) = recorded {
                    self.feed(Event::RecordFailed { generation, failure });
                }
                self.watch_socket_names();
            }
            KeeperReport::SpawnFailed { stage, errno } => {
                let process = self.attempt(generation).and_then(|attempt| attempt.process.take());
                let programs = process.map(|process| process.programs).unwrap_or_default();
                let failure = explain(stage, errno, &self.job_of(generation), &programs, &self.context.options.envs_dir);
                self.feed(Event::SpawnFailed { generation, failure });
            }
            KeeperReport::Exited { status, remains, usage, tree_cpu_us } => {
                let usage = ExitUsage { memory_peak: usage.memory_peak, cpu_time: Duration::from_micros(usage.cpu_us) };
                self.on_exited(generation, decode_wait_status(status), Some(usage), remains);
                if !remains {
                    self.end_tree(generation, Some(Duration::from_micros(tree_cpu_us)));
                    self.end_process(generation);
                }
            }
            KeeperReport::Frozen { complete } => self.on_frozen(generation, complete),
            KeeperReport::EndedBy { pid } => {
                log!(self.daemon.reporter, warn, process = pid, "process {pid} has sent the keeper SIGTERM, so the daemon is stopped");
                self.feed(Event::EndedBy { generation, pid });
            }
            KeeperReport::Acknowledged => self.feed(Event::Acknowledged { generation }),
            KeeperReport::TreeGone { tree_cpu_us } => {
                self.end_tree(generation, Some(Duration::from_micros(tree_cpu_us)));
                self.end_process(generation);
                let leftover_file = self.remove_files(generation);
                self.feed(Event::TreeGone { generation, leftover_file });
            }
        }
    }

    /// `cpu`: of the whole tree, by the keeper. `None` if the keeper was killed.
    fn end_tree(&mut self, generation: Generation, cpu: Option<Duration>) {
        let is_serving = generation == self.serving;
        let Some(CountedTree { counted, .. }) = self.attempt(generation).and_then(|attempt| attempt.tree.take()) else { return };
        if is_serving {
            self.daemon.counters.end_tree(cpu);
        } else {
            self.daemon.counters.add_cpu(cpu.unwrap_or_default().saturating_sub(counted));
        }
    }

    /// The tree is gone, and with it the keeper's stream and the output.
    fn end_process(&mut self, generation: Generation) {
        let is_serving = generation == self.serving;
        if let Some(attempt) = self.attempt(generation) {
            attempt.process = None;
            attempt.log_watch = None;
            attempt.end_notifications();
            attempt.pumps.take().into_iter().for_each(Pumps::end);
            if is_serving {
                self.daemon.set_status(None);
            }
        }
        if let Some(held) = self.held.as_mut().filter(|_| is_serving) {
            held.unwatch_names();
        }
    }

    fn on_notified(&mut self, generation: Generation, Update { status, extend, check }: Update) {
        if generation == self.serving {
            status.into_iter().for_each(|status| self.daemon.set_status(Some(status)));
        } else if let Some(attempt) = self.attempt(generation) {
            attempt.status = status.or_else(|| attempt.status.take());
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
        if exit.succeeded() && self.was_ready(generation) {
            self.on_ready(generation);
        }
        let after_probe = self.attempt(generation).and_then(|attempt| attempt.spawned()?.recently_connected());
        if let Some(attempt) = self.attempt(generation) {
            if let Some(process) = &mut attempt.process {
                process.leader_reaped = true;
            }
            if let Some(pumps) = &attempt.pumps {
                pumps.finish();
            }
        }
        let leftover_file = if remains { None } else { self.remove_files(generation) };
        let name_lost = self.lease.as_ref().and_then(Lease::name_lost);
        let tail = self.error_excerpt(generation);
        self.after_exit(generation, exit, &tail);
        let connected = self.is_connected(generation);
        self.feed(Event::Exited { generation, exit, usage, remains, after_probe, tail, leftover_file, name_lost, connected });
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
        self.end_tree(generation, None);
        let reporter = self.daemon.reporter.clone();
        let Some(attempt) = self.attempt(generation) else { return };
        let (job, leader, done) = (Arc::clone(attempt.told()), attempt.identity.clone(), attempt.completion());
        let swept = leader.clone();
        let sweep = AbortOnDrop::spawn(async move {
            sweep(process.receipt, spawned.keeper, swept, &job.config, &reporter).await;
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
            Completion::Ready(Ok(())) => self.on_ready(generation),
            Completion::ReadyInPublic => {
                self.set_public(generation);
                self.on_ready(generation);
            }
            Completion::Idle => self.feed(Event::Idle { generation }),
            Completion::Drained(left) => {
                if let Some(attempt) = self.attempt(generation) {
                    attempt.draining = None;
                }
                self.feed(Event::Drained { generation, left });
            }
            Completion::Ready(Err(failure)) => self.feed(Event::NotReady { generation, failure }),
            Completion::Checked(checked) => self.on_checked(generation, checked),
            Completion::MemoryExceeded(memory) => self.feed(Event::MemoryExceeded { generation, memory }),
            Completion::OrderLost(failure) => {
                if let Some(attempt) = self.attempt(generation) {
                    attempt.losing = None;
                }
                self.feed(Event::OrderLost { generation, failure });
            }
            Completion::Swept => {
                if let Some(attempt) = self.attempt(generation) {
                    attempt.sweeping = None;
                }
                self.end_process(generation);
                let leftover_file = self.remove_files(generation);
                self.feed(Event::TreeGone { generation, leftover_file });
            }
        }
    }

    fn on_checked(&mut self, generation: Generation, HealthCheck { latency, outcome }: HealthCheck) {
        if let Some(attempt) = self.attempt(generation) {
            attempt.watching_idle.iter().for_each(|watch| watch.pause(false));
        }
        self.feed(match outcome {
            Ok(()) => Event::ProbePassed { generation, latency },
            // The event `health` has this text, with the path of the socket.
            Err(error) => Event::ProbeFailed { generation, latency, error: printable(&error) },
        });
    }

    fn on_ready(&mut self, generation: Generation) {
        if let Some(notify) = self.attempt(generation).and_then(|attempt| attempt.notify.as_ref()) {
            notify.begin_checks();
        }
        // A restart after an upgrade. The socket of a successor is published at the change-over.
        let published = if generation == self.serving { self.publish(generation) } else { Ok(()) };
        self.feed(match published {
            Ok(()) => Event::Ready { generation },
            Err(failure) => Event::NotReady { generation, failure },
        });
    }

    pub(super) fn fire(&self, timer: Timer, generation: Generation) {
        self.feed(match timer {
            Timer::Startup => {
                let attempt = self.attempts.iter().find(|attempt| attempt.generation == generation);
                // The last lines may still be in the pipes.
                if let Some(pumps) = attempt.and_then(|attempt| attempt.pumps.as_ref()) {
                    pumps.drain();
                }
                let last_problem = attempt.and_then(|attempt| attempt.awaiting_ready.as_ref()).and_then(|(_, status)| status.last());
                Event::StartupElapsed { generation, last_problem, tail: self.error_excerpt(generation) }
            }
            Timer::Acknowledgement => Event::AcknowledgementElapsed { generation },
            Timer::Grace => Event::GraceElapsed { generation },
            Timer::Kill => Event::KillElapsed { generation, survivors: self.survivors(generation) },
            Timer::Reset => Event::ResetElapsed { generation },
            Timer::Backoff => Event::BackoffElapsed { generation },
            Timer::Probe => Event::ProbeDue { generation },
        });
    }

    fn error_excerpt(&self, generation: Generation) -> String {
        let attempt = self.attempts.iter().find(|attempt| attempt.generation == generation);
        attempt.map(|attempt| self.daemon.tail.error_excerpt_of(attempt.output)).unwrap_or_default()
    }

    fn survivors(&self, generation: Generation) -> Vec<Pid> {
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.generation == generation) else { return Vec::new() };
        let group_only = attempt.job.config.kill_mode == KillMode::Group;
        let members = if let Some(spawned) = attempt.spawned() {
            let mut members = os::members(spawned.keeper, &mut Some(spawned.keeper), &[], &mut |_| {}).seen;
            if let Some(identity) = attempt.identity.as_ref().filter(|_| group_only) {
                let groups = groups_of(identity, find_leader(identity).unwrap_or_default().as_ref());
                members.retain(|process| groups.contains(&process.group));
            }
            members
        } else if let Some(leader) = attempt.sweeping.as_ref().and_then(|sweeping| sweeping.leader.as_ref()) {
            let left = posix_session_members(leader, &attempt.told().config, &[]).unwrap_or_default();
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
