//! Carries out the effects of the machine.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ally_base::os;
use ally_base::wire::KeeperCommand;
use tokio::sync::oneshot;

use super::attempt::{Attempt, Completion, LaunchedProcess, Preparation};
use super::socket_place::SocketPlace;
use super::{EffectBatch, Task};
use crate::error::Failure;
use crate::lifecycle::{Effect, Event, Generation, Signal, Timer};
use crate::model::Pid;
use crate::supervisor::launch::{Launch, no_process};
use crate::supervisor::manager::await_dependencies;
use crate::supervisor::metrics::{exceeds, sample_at_ready};
use crate::supervisor::notify::NotifySocket;
use crate::supervisor::output::{LineMatch, LogPlace, LogWatch, OpenLog, Pumps, open_log, receive_notes};
use crate::supervisor::ownership::{Lease, LeaseGuard, LockFile, SpawnReport, living_leader, reported_leader};
use crate::supervisor::probe::{ProbedDaemon, ReadinessStatus, await_other_socket, await_ready, check};
use crate::supervisor::report::log;
use crate::supervisor::runtime::{self, AbortOnDrop};
use crate::supervisor::socket::{HeldSocket, SocketFileId};

impl Task {
    pub(super) fn carry_out(&mut self, batch: EffectBatch) {
        self.job = batch.job;
        self.other_job = batch.other_job;
        for effect in batch.effects {
            match effect {
                Effect::Prepare { generation, requested, succeeds: None } => self.prepare(generation, requested),
                Effect::Prepare { generation, succeeds: Some(_), .. } => self.prepare_successor(generation),
                Effect::CancelPrepare { generation } => self.cancel(generation, Attempt::cancel_preparation),
                Effect::Spawn { generation } => self.spawn_process(generation),
                Effect::AwaitReady { generation } => self.await_ready(generation),
                Effect::StopAwaiting { generation } => self.cancel(generation, Attempt::stop_awaiting),
                Effect::Signal { generation, signal } => self.signal(generation, signal),
                Effect::WakeKeeper { generation } => self.wake_keeper(generation),
                Effect::KillKeeper { generation } => self.kill_keeper(generation),
                Effect::StartProbe { generation } => self.check_health(generation),
                Effect::StopProbe { generation } => self.cancel(generation, |attempt| attempt.checking = None),
                Effect::WatchMemory { generation } => self.watch_memory(generation),
                Effect::StopWatching { generation } => self.cancel(generation, |attempt| attempt.watching = None),
                Effect::Arm { timer, generation, after } if after.is_zero() => self.fire(timer, generation),
                Effect::Arm { timer, generation, after } => {
                    if let Some(attempt) = self.attempt(generation) {
                        attempt.timers.arm(timer, after);
                    }
                }
                Effect::Disarm { timer, generation } => self.cancel(generation, |attempt| attempt.timers.disarm(timer)),
                Effect::Extend { timer, generation, by } => self.extend(timer, generation, by),
                Effect::Listen { .. } => self.listen(),
                Effect::WatchIdle { generation } => self.watch_idle(generation),
                Effect::StopWatchingIdle { generation } => self.cancel(generation, |attempt| attempt.watching_idle = None),
                Effect::Freeze { generation } => self.command(generation, KeeperCommand::Freeze),
                Effect::Thaw { generation } => self.command(generation, KeeperCommand::Thaw),
                Effect::ChangeOver { generation } => self.change_over(generation),
                Effect::Drain { generation } => self.drain(generation),
                Effect::StopDraining { generation } => self.cancel(generation, |attempt| attempt.draining = None),
                Effect::Adopt { .. } => self.adopt(),
                Effect::Discard { generation } => self.discard(generation),
                Effect::CloseSocket { .. } => self.give_up_socket(),
                Effect::Release { generation } | Effect::Withdraw { generation } => self.release(generation),
                Effect::Abandon { generation } => self.abandon(generation),
                report @ (Effect::Settle { .. } | Effect::Notify(_) | Effect::Warn { .. }) => self.daemon.deliver(report, batch.now),
            }
        }
        // Last, because the process may exit as soon as no activity is left.
        self.context.activity_ended(batch.ended);
    }

    fn cancel(&mut self, generation: Generation, cancel: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = self.attempt(generation) {
            cancel(attempt);
        }
    }

    fn prepare(&mut self, generation: Generation, requested: bool) {
        // A restart after an upgrade: the former generation may still be there, and may have been told `socketPath`.
        let goes_on = !requested && self.attempts.iter().any(|attempt| attempt.generation == self.serving && !attempt.place.is_public());
        self.end_attempts(|attempt| !attempt.has_tree());
        if self.attempts.is_empty() {
            self.drop_second_name();
        }
        self.check_lease();
        self.serving = generation;
        let path = &self.job.config.socket_path;
        let beside = (goes_on || !self.attempts.is_empty()) && !self.job.config.holds_socket();
        let place =
            if beside { SocketPlace::beside(path, self.attempts.iter().map(|attempt| &attempt.place)) } else { SocketPlace::at(path) };
        self.attempts.push(Attempt::new(generation, Arc::clone(&self.job), place));
        self.await_dependencies(generation, requested);
    }

    fn end_attempts(&mut self, are_over: impl Fn(&Attempt) -> bool) {
        for mut ended in self.attempts.extract_if(.., |attempt| are_over(attempt)).collect::<Vec<_>>() {
            self.end_attempt(&mut ended);
        }
    }

    /// An attempt beside the generation that serves.
    fn prepare_successor(&mut self, generation: Generation) {
        let Some(job) = self.other_job.clone() else {
            let failure = Failure::Internal { problem: "an upgrade without a configuration".to_owned() };
            return self.feed(Event::PrepareFailed { generation, failure });
        };
        let serving = self.serving;
        // The end of its keeper may have been heard of late.
        self.end_attempts(|attempt| attempt.generation != serving && !attempt.has_tree());
        let path = &job.config.socket_path;
        // Where the manager makes the sockets, each generation has one of its own, and is told `socketPath`.
        let beside = *path == self.job.config.socket_path && !job.config.holds_socket();
        let place =
            if beside { SocketPlace::beside(path, self.attempts.iter().map(|attempt| &attempt.place)) } else { SocketPlace::at(path) };
        self.attempts.push(Attempt::new(generation, job, place));
        if beside {
            self.guard_socket();
        }
        self.await_dependencies(generation, true);
    }

    fn await_dependencies(&mut self, generation: Generation, requested: bool) {
        let context = Arc::clone(&self.context);
        let Some(attempt) = self.attempt(generation) else { return };
        let (job, done) = (Arc::clone(&attempt.job), attempt.completion());
        if !requested || job.config.depends_on.is_empty() {
            let queued = job.member.as_ref().filter(|_| requested).map_or(Ok(()), |member| member.queue());
            return self.on_dependencies_run(generation, queued);
        }
        attempt.awaiting_dependencies = Some(AbortOnDrop::spawn(async move {
            done(Completion::DependenciesRun(await_dependencies(context, job).await));
        }));
    }

    pub(super) fn on_dependencies_run(&mut self, generation: Generation, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => self.take_name(generation),
            Err(failure) => self.feed(Event::PrepareFailed { generation, failure }),
        }
    }

    fn take_name(&mut self, generation: Generation) {
        let (has_name, is_held) = (self.lease.is_some(), self.held.is_some());
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.generation == generation) else { return };
        attempt.awaiting_dependencies = None;
        let job = Arc::clone(&attempt.job);
        if let Err(failure) = self.context.claims.claim_needed(&job.config, &self.daemon.name) {
            return self.feed(Event::PrepareFailed { generation, failure });
        }
        if let Err(failure) = self.prepare_socket(generation) {
            return self.feed(Event::PrepareFailed { generation, failure });
        }
        // The other generation may still write the log file.
        let is_shared = self.attempts.iter().any(|attempt| attempt.generation != generation && attempt.has_tree());
        if has_name && job.config.logs.is_none() {
            return self.feed(Event::Prepared { generation });
        }
        // A start in place of a pending restart may have another file, which another owner may write.
        let is_own = job.config.logs.as_ref().is_some_and(|logs| self.writes_log(&logs.file));
        let makes_socket = job.config.holds_socket() && !is_held && !has_name;
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.generation == generation) else { return };
        let (context, reporter) = (Arc::clone(&self.context), self.daemon.reporter.clone());
        attempt.preparing = Some(Box::pin(async move {
            let (envs_dir, config) = (&context.options.envs_dir, &job.config);
            let prepared = if has_name { Ok(None) } else { Lease::prepare(envs_dir, config, is_held, &reporter).await.map(Some) };
            let lease = match prepared {
                Ok(lease) => LeaseGuard::of(lease),
                Err(failure) => return Err(context.explained(&config.plugin_name, failure).await),
            };
            // Nothing may be awaited after the bind: a drop of this future would leave the socket's names.
            let bind = || makes_socket.then(|| HeldSocket::bind(&config.socket_path).map(Box::new)).transpose();
            let Some(logs) = config.logs.clone() else {
                let held = bind()?;
                return Ok(Preparation { lease: lease.keep(), log: None, held });
            };
            let place = LogPlace { envs_dir: envs_dir.clone(), is_own, is_shared };
            let log = open_log(logs, place, || context.other_logs(&config.plugin_name)).await?;
            let held = bind()?;
            Ok(Preparation { lease: lease.keep(), log: Some(log), held })
        }));
    }

    /// Whether this is the log file of the last spawn, or of a generation that lives: its successor may have had another one, and
    /// have failed.
    fn writes_log(&self, file: &Path) -> bool {
        let of = |attempt: &Attempt| attempt.has_tree() && attempt.job.config.logs.as_ref().is_some_and(|logs| logs.file == file);
        self.logged.as_deref() == Some(file) || self.attempts.iter().any(of)
    }

    /// Before a restart: if the name is no longer this owner's, gives the lease up, because the lock of the new folder must be
    /// acquired.
    fn check_lease(&mut self) {
        if self.keep_lock_file() == LockFile::Lost
            && let Some(Err(error)) = self.lease.take().map(|lease| lease.lock.release())
        {
            log!(self.daemon.reporter, warn, %error, "a plugin's lock could not be released");
        }
    }

    /// If the plugin's folder was cleared, makes the lock file anew.
    pub(super) fn keep_lock_file(&mut self) -> LockFile {
        let Some(lease) = &mut self.lease else { return LockFile::Kept };
        let lock_file = lease.keep_lock_file();
        if lock_file == LockFile::Restored {
            self.daemon.remember_lock(&lease.lock);
            log!(self.daemon.reporter, warn, "daemon.lock was removed; it was made anew");
        }
        lock_file
    }

    fn spawn_process(&mut self, generation: Generation) {
        let listener = match self.listener_for_spawn(generation) {
            Ok(listener) => listener,
            Err(failure) => return self.feed(Event::SpawnFailed { generation, failure }),
        };
        let Some(lease) = &self.lease else {
            let failure = Failure::Internal { problem: "a spawn without the plugin's lock".to_owned() };
            return self.feed(Event::SpawnFailed { generation, failure });
        };
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.generation == generation) else { return };
        let job = Arc::clone(attempt.told());
        let start_watch = |(log, logs): (&OpenLog, _)| Ok::<_, io::Error>((log.try_clone()?, LogWatch::start(logs, &log.folder)?));
        let (log, log_watch) = match attempt.log.as_ref().zip(job.config.logs.as_ref()).map(start_watch).transpose() {
            Ok(log) => log.unzip(),
            Err(error) => return self.feed(Event::SpawnFailed { generation, failure: no_process(&job, &error) }),
        };
        let notify = match NotifySocket::bind(&job, &self.daemon.reporter) {
            Ok(notify) => notify,
            Err(failure) => return self.feed(Event::SpawnFailed { generation, failure }),
        };
        let beside = self.attempts.iter().any(|attempt| attempt.generation != generation && attempt.has_tree());
        // Before the spawn, so that it sees the first line.
        let line_match = LineMatch::of(&job.config.readiness).map(Arc::new);
        let owner_death = self.context.options.owner_death;
        let launch = Launch::build(&job, owner_death, lease, notify.as_deref(), listener, log).and_then(|launch| {
            let pumps = Pumps::start(launch.outputs, &self.daemon.tail, beside, &self.daemon.reporter, line_match.as_ref())?;
            if let (Some(notes), Some(logs), Some(watch)) = (launch.log_notes, &job.config.logs, &log_watch) {
                receive_notes(notes, logs.file.clone(), Arc::clone(&watch.reopened), &self.daemon.tail, &self.daemon.reporter)?;
            }
            Ok((pumps, launch.keeper, launch.order, launch.programs, launch.token))
        });
        self.logged = job.config.logs.as_ref().map(|logs| logs.file.clone());
        let (pumps, keeper, order, programs, token) = match launch {
            Ok(launch) => launch,
            Err(error) => {
                notify.iter().for_each(|notify| notify.remove());
                return self.feed(Event::SpawnFailed { generation, failure: no_process(&job, &error) });
            }
        };
        let (ordered, order_result) = oneshot::channel();
        let guardian = Arc::clone(&self.context.guardian);
        let queue_before = self.queue_of_readiness(generation);
        if let Some(attempt) = self.attempt(generation) {
            attempt.queue_before = queue_before;
            attempt.former_file = (!attempt.place.is_public()).then(|| SocketFileId::at(&attempt.job.config.socket_path)).flatten();
            attempt.output = pumps.process();
            attempt.pumps = Some(pumps);
            attempt.log_watch = log_watch;
            attempt.line_match = line_match;
            // An order that was lost had a socket of its own.
            attempt.end_notifications();
            attempt.notify = notify;
            attempt.process = Some(LaunchedProcess::new(keeper, order_result, programs, token));
        }
        // Not aborted with the attempt: after a partial write the guardian would read the next order as the rest of this one.
        drop(runtime::spawn(async move {
            // If the attempt is over by then, the receipt is dropped.
            drop(ordered.send(guardian.order(&order).await));
        }));
    }

    /// Writes the record: the identity of the leader.
    pub(super) fn record(&mut self, generation: Generation, spawned: SpawnReport) -> Result<(), Failure> {
        let process = self.attempt(generation).and_then(|attempt| attempt.process.as_ref());
        let Some(token) = process.map(|process| process.token.clone()) else { return Ok(()) };
        let grace = self.job_of(generation).config.shutdown_grace_period;
        let reported = reported_leader(spawned, token, grace)?;
        if let Some(attempt) = self.attempt(generation) {
            attempt.identity = Some(reported.clone());
        }
        // The pid file never names a process that is gone. The keeper reports the exit next.
        let Some(identity) = living_leader(&reported)? else { return Ok(()) };
        let is_successor = generation != self.serving;
        let recorded = self
            .lease
            .as_mut()
            .map_or(Ok(()), |lease| if is_successor { lease.record_successor(&identity) } else { lease.record(&identity) });
        if let Some(attempt) = self.attempt(generation) {
            attempt.identity = Some(identity);
        }
        if !is_successor {
            self.put_log_path(generation);
        }
        recorded
    }

    /// Other programs find the log file by this, so a failure is no failure of the start.
    pub(super) fn put_log_path(&mut self, generation: Generation) {
        let job = self.attempt(generation).map(|attempt| Arc::clone(&attempt.job));
        let (Some(job), Some(lease)) = (job, &mut self.lease) else { return };
        if let Err(error) = lease.put_log_path(job.config.logs.as_ref().map(|logs| logs.file.as_path())) {
            log!(self.daemon.reporter, warn, %error, "the path of the log file could not be noted for the command line");
        }
    }

    fn await_ready(&mut self, generation: Generation) {
        // The tree of a successor is sampled when it serves.
        let counters = (generation == self.serving).then(|| Arc::clone(&self.daemon.counters));
        let Some(attempt) = self.attempt(generation) else { return };
        let (job, public) = (Arc::clone(attempt.told()), Arc::clone(&attempt.job));
        let (is_beside, path, former) = (!attempt.place.is_public(), attempt.probed_path(), attempt.former_file.clone());
        let Some(daemon) = attempt.spawned().cloned() else { return };
        let (status, done) = (ReadinessStatus::new(attempt.line_match.clone()), attempt.completion());
        let shared_status = status.clone();
        let waiting = AbortOnDrop::spawn(async move {
            let readiness = &job.config.readiness;
            let ready = await_ready(&path, readiness, &daemon, &shared_status);
            let ready = if is_beside && readiness.needs_socket() {
                let public = &public.config.socket_path;
                tokio::select! {
                    ready = ready => Completion::Ready(ready),
                    () = await_other_socket(public, former, readiness, &daemon) => Completion::ReadyInPublic,
                }
            } else {
                Completion::Ready(ready.await)
            };
            if let (Completion::Ready(Ok(())) | Completion::ReadyInPublic, Some(counters)) = (&ready, &counters) {
                sample_at_ready(counters).await;
            }
            done(ready);
        });
        attempt.awaiting_ready = Some((waiting, status));
    }

    /// The keeper counts the leader's share of the grace period.
    fn extend(&mut self, timer: Timer, generation: Generation, by: Duration) {
        let Some(attempt) = self.attempt(generation) else { return };
        attempt.timers.extend(timer, by);
        if let (Timer::Grace, Some(process)) = (timer, &attempt.process) {
            process.keeper.command(KeeperCommand::Extend { by_ms: u32::try_from(by.as_millis()).unwrap_or(u32::MAX) });
        }
    }

    fn signal(&mut self, generation: Generation, signal: Signal) {
        if let Some(process) = self.attempt(generation).and_then(|attempt| attempt.process.as_ref()) {
            // A daemon that drains its queue at a stop must not wait for a probe.
            drop(process.spawned.as_ref().and_then(ProbedDaemon::take_waiting));
            process.keeper.command(match signal {
                Signal::Terminate => KeeperCommand::Terminate,
                Signal::Kill => KeeperCommand::Kill,
            });
        }
    }

    fn command(&mut self, generation: Generation, command: KeeperCommand) {
        if let Some(process) = self.attempt(generation).and_then(|attempt| attempt.process.as_ref()) {
            process.keeper.command(command);
        }
    }

    fn wake_keeper(&mut self, generation: Generation) {
        let Some(keeper) = self.signal_keeper(generation, libc::SIGCONT) else { return };
        log!(self.daemon.reporter, warn, keeper, "the keeper does not act; SIGCONT was sent, in case it is suspended");
    }

    fn kill_keeper(&mut self, generation: Generation) {
        let Some(keeper) = self.signal_keeper(generation, libc::SIGKILL) else { return };
        log!(self.daemon.reporter, warn, keeper, "the keeper does not act; it was killed, and its tree is swept");
    }

    /// Sends the keeper a signal. Returns its pid. `None` if the keeper is gone, so that the end of its stream follows, or if it
    /// can't be signalled.
    fn signal_keeper(&mut self, generation: Generation, signal: i32) -> Option<Pid> {
        let process = self.attempt(generation)?.process.as_ref()?;
        let sent = process.keeper_process().and_then(|keeper| {
            let Some(keeper) = keeper else { return Ok(None) };
            os::signal(&keeper, signal).map(|()| Some(keeper.pid))
        });
        sent.unwrap_or_else(|error| {
            log!(self.daemon.reporter, warn, %error, "a keeper that does not act can't be signalled");
            None
        })
    }

    fn check_health(&mut self, generation: Generation) {
        let Some(attempt) = self.attempt(generation) else { return };
        let (path, health) = (attempt.probed_path(), attempt.job.config.health.clone());
        let (Some(health), Some(daemon)) = (health, attempt.spawned().cloned()) else { return };
        let done = attempt.completion();
        // An idle stop waits for the check.
        attempt.watching_idle.iter().for_each(|watch| watch.pause(true));
        attempt.checking = Some(AbortOnDrop::spawn(async move {
            done(Completion::Checked(check(&path, &health, &daemon).await));
        }));
    }

    fn watch_memory(&mut self, generation: Generation) {
        let tree = self.daemon.counters.tree();
        let Some(attempt) = self.attempt(generation) else { return };
        let limit = attempt.job.config.limits.memory;
        let (Some(limit), Some(tree), done) = (limit, tree, attempt.completion()) else { return };
        attempt.watching = Some(AbortOnDrop::spawn(async move {
            done(Completion::MemoryExceeded(exceeds(limit, tree).await));
        }));
    }

    /// Every tree is gone: releases the name for other owners.
    fn release(&mut self, generation: Generation) {
        self.cancel(generation, Attempt::end_notifications);
        self.logged = None;
        for mut ended in std::mem::take(&mut self.attempts) {
            self.end_attempt(&mut ended);
        }
        self.drop_second_name();
        self.give_up_socket();
        if let Some(Err(error)) = self.lease.take().map(|lease| lease.lock.release()) {
            log!(self.daemon.reporter, warn, %error, "a plugin's lock could not be released");
        }
        self.context.claims.release(&self.job.config.socket_path, &self.daemon.name);
    }

    /// An attempt is over, and its tree is gone.
    pub(super) fn end_attempt(&mut self, attempt: &mut Attempt) {
        attempt.end_notifications();
        self.end_socket_of(attempt);
        let path = &attempt.job.config.socket_path;
        let is_used = *path == self.job.config.socket_path || self.attempts.iter().any(|other| other.job.config.socket_path == *path);
        if !is_used {
            self.context.claims.release(path, &self.daemon.name);
        }
    }

    /// Closes the stream to the keeper. The keeper ends the tree, and holds the lock until the tree is gone.
    fn abandon(&mut self, generation: Generation) {
        self.drop_attempt(generation);
        self.drop_second_name();
        self.give_up_socket();
        self.lease = None;
        self.logged = None;
        self.context.claims.release(&self.job.config.socket_path, &self.daemon.name);
    }

    fn drop_attempt(&mut self, generation: Generation) {
        // After `Abandon` the tree lives on, and its keeper removes the socket for notifications.
        self.attempts.retain(|attempt| attempt.generation != generation);
    }
}
