//! The socket that the manager holds for the daemon: when it is made, put right and given up.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ally_base::os::{self, Waiting};

use super::Task;
use super::attempt::{Attempt, Completion, Queue};
use crate::config::{KillMode, Probe, StartMode};
use crate::error::Failure;
use crate::lifecycle::{Event, Generation};
use crate::model::{Exit, Pid};
use crate::supervisor::probe::{HeldProbe, has_taken};
use crate::supervisor::report::log;
use crate::supervisor::socket::{Activity, HeldEvent, HeldSocket, IdleGuard, Restored, WatchedDaemon, make_free, remove_dead};

impl Task {
    /// Makes the places of an attempt's sockets free, and makes the socket if the manager must. Without the name the preparation does
    /// it, when it has the name.
    pub(super) fn prepare_socket(&mut self, generation: Generation) -> Result<(), Failure> {
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.generation == generation) else { return Ok(()) };
        let (job, place, is_successor) = (Arc::clone(&attempt.job), attempt.place.clone(), generation != self.serving);
        if !is_successor {
            self.give_up_former_socket();
            if self.lease.is_none() {
                return Ok(());
            }
        }
        // This owner holds the lock, so there are no orphans.
        if !place.is_public() {
            remove_dead(&place.told())?;
            if is_successor {
                // `socketPath` and the ports are those of the generation that serves.
                return Ok(());
            }
        }
        if !is_successor {
            make_free(&job.config, self.held.is_some())?;
            return self.hold_socket();
        }
        let path = &job.config.socket_path;
        let socket = match self.held.as_ref().filter(|held| held.path() == path) {
            Some(held) => Some(held.successor()?),
            None => {
                make_free(&job.config, false)?;
                job.config.holds_socket().then(|| HeldSocket::bind(path)).transpose()?
            }
        };
        if let Some(attempt) = self.attempt(generation) {
            attempt.held = socket;
        }
        Ok(())
    }

    /// A start in place of a pending restart, and an upgrade that stops the old generation first, may have another socket.
    fn give_up_former_socket(&mut self) {
        let config = &self.job.config;
        if self.held.as_ref().is_some_and(|held| !config.holds_socket() || held.path() != config.socket_path) {
            self.give_up_socket();
        }
    }

    /// Makes the socket, if the manager must and does not have it. The path is free.
    fn hold_socket(&mut self) -> Result<(), Failure> {
        if self.job.config.holds_socket() && self.held.is_none() {
            self.held = Some(HeldSocket::bind(&self.job.config.socket_path)?);
        }
        Ok(())
    }

    /// The copy for the leader.
    pub(super) fn listener_for_spawn(&mut self, generation: Generation) -> Result<Option<OwnedFd>, Failure> {
        let others_may_hold = self.job.config.kill_mode == KillMode::Group;
        if let Some(held) = self.attempt(generation).and_then(|attempt| attempt.held.as_mut()) {
            return held.before_spawn(false).map(Some);
        }
        let held = self.held.as_mut().filter(|_| generation == self.serving);
        held.map(|held| held.before_spawn(others_may_hold)).transpose()
    }

    pub(super) fn held_probe(&self, generation: Generation) -> Option<HeldProbe> {
        let attempt = self.attempts.iter().find(|attempt| attempt.generation == generation)?;
        let held = attempt.held.as_ref().or_else(|| self.held.as_ref().filter(|_| generation == self.serving))?;
        // The socket of a successor has no client that it could be ready for.
        let on_connect = attempt.job.config.start == StartMode::OnConnect && attempt.held.is_none();
        Some(HeldProbe { listener: held.listener().clone(), on_connect })
    }

    /// The leader was spawned.
    pub(super) fn watch_socket_names(&mut self) {
        if let Some(held) = &mut self.held {
            held.watch_names();
            // It may have changed the names before the watch.
            self.restore_and_tell();
        }
    }

    pub(super) fn on_held_event(&mut self, event: HeldEvent) {
        match event {
            HeldEvent::Renamed | HeldEvent::HungUp => self.restore_and_tell(),
            HeldEvent::Connected => self.feed(Event::Connected { generation: self.serving }),
        }
    }

    /// The next connection starts the daemon, or one that waits already.
    pub(super) fn listen(&mut self) {
        if let Some(Err(error)) = self.held.as_ref().map(HeldSocket::arm) {
            let failure = Failure::at(&self.job.config.socket_path, error);
            log!(self.daemon.reporter, error, %failure, "the first connection can't be waited for");
        }
    }

    /// Puts the socket right. The machine decides what becomes of a daemon that can't serve it any more.
    fn restore_and_tell(&mut self) {
        if let Some(failure) = self.restore_socket() {
            // During an upgrade it may be the successor's turn soon.
            self.socket_lost = Some(failure.clone()).filter(|_| self.attempts.len() > 1);
            self.feed(Event::SocketLost { generation: self.serving, failure });
        }
    }

    /// Makes `socketPath` lead to the held socket, which accepts connections. Returns why the daemon can't serve the socket any more.
    fn restore_socket(&mut self) -> Option<Failure> {
        let held = self.held.as_mut()?;
        let (generation, path) = (self.serving, held.path().display().to_string());
        let tree = |serves: bool| self.attempts.iter().find(|attempt| (attempt.generation == generation) == serves).and_then(tree_of);
        let restored = held.restore(tree(true));
        // During an upgrade the daemon that binds the path may be the other generation.
        let (restored, binder) = match (restored, tree(false)) {
            (Err(Failure::SocketTaken { .. }), Some(other)) => (held.restore(Some(other)), self.other_generation()),
            (restored, _) => (restored, Some(generation)),
        };
        match restored {
            Ok(Restored::InPlace) => None,
            Ok(Restored::PutBack) => {
                self.warn_of_names("removes SOCKET_PATH although the socket is the manager's; it was put back");
                None
            }
            Ok(Restored::PutBackOverDaemon) => {
                self.warn_of_names("binds SOCKET_PATH itself although the socket is the manager's, which was put back");
                let failure = Failure::BindsHeldSocket { path, cause: None };
                binder.into_iter().for_each(|generation| self.feed(Event::NotReady { generation, failure: failure.clone() }));
                None
            }
            Ok(Restored::Replaced) => {
                self.warn_of_names("removes SOCKET_PATH although the socket is the manager's; there is a new socket");
                Some(Failure::SocketReplaced { path })
            }
            Ok(Restored::AfterShutdown) => Some(Failure::SocketShutDown { path }),
            Err(failure) => {
                let is_shut_down = self.held.as_ref().is_some_and(HeldSocket::is_shut_down);
                log!(self.daemon.reporter, warn, %failure, "a held socket can't be put right; the next spawn tries again");
                if is_shut_down {
                    return Some(Failure::SocketShutDown { path });
                }
                // Otherwise the daemon still serves the connections that it has.
                Some(failure).filter(|failure| matches!(failure, Failure::SocketTaken { .. }))
            }
        }
    }

    fn other_generation(&self) -> Option<Generation> {
        self.attempts.iter().map(|attempt| attempt.generation).find(|generation| *generation != self.serving)
    }

    fn warn_of_names(&mut self, what: &str) {
        if !std::mem::replace(&mut self.has_warned_of_names, true) {
            log!(self.daemon.reporter, warn, "the daemon {what}");
        }
    }

    /// The leader has exited.
    pub(super) fn after_exit(&mut self, generation: Generation, exit: Exit, tail: &str) {
        if !self.job_of(generation).config.holds_socket() {
            return;
        }
        if let Some(held) = self.held.as_ref().filter(|_| generation == self.serving) {
            held.after_exit();
            // The exit says more than the state of the socket, and the next spawn finds out who else has taken the path.
            drop(self.restore_socket());
        }
        if is_address_in_use(tail) {
            // Counts only before readiness.
            let path = self.job_of(generation).config.socket_path.display().to_string();
            let cause = Box::new(Failure::StartupExit { exit, tail: tail.to_owned() });
            self.feed(Event::NotReady { generation, failure: Failure::BindsHeldSocket { path, cause: Some(cause) } });
        }
    }

    /// Clients of this generation come to another socket from now on: `held`. The queue of the former one is left to it.
    pub(super) fn promote(&mut self, generation: Generation) -> Result<(), Failure> {
        let next = self.attempt(generation).and_then(|attempt| attempt.held.take());
        let Some(mut next) = next else {
            let former = self.held.take();
            if former.is_none() {
                // The old generation has a socket of its own at another path.
                let queue = os::listening_socket(&self.job.config.socket_path).ok().flatten();
                queue.into_iter().for_each(|queue| self.set_queue(generation, Queue::Own(queue)));
            }
            self.retire(generation, former);
            return Ok(());
        };
        if self.held.as_ref().is_some_and(|held| held.path() == next.path()) {
            if let Err(failure) = next.promote() {
                if let Some(attempt) = self.attempt(generation) {
                    attempt.held = Some(next);
                }
                return Err(failure);
            }
            let retired = self.held.take().map(HeldSocket::retire);
            retired.into_iter().for_each(|retired| self.set_queue(generation, Queue::Retired(retired)));
        } else {
            let former = self.held.take();
            self.retire(generation, former);
        }
        next.watch_names();
        self.held = Some(next);
        Ok(())
    }

    /// A socket at another path stays until the former generation is gone.
    fn retire(&mut self, generation: Generation, former: Option<HeldSocket>) {
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.generation != generation) {
            attempt.held = former;
        }
    }

    /// `generation`: the one that serves now.
    pub(super) fn set_queue(&mut self, generation: Generation, queue: Queue) {
        if let Some(former) = self.attempts.iter_mut().find(|attempt| attempt.generation != generation) {
            former.queue = Some(queue);
        }
    }

    /// A generation that does not serve is gone.
    pub(super) fn end_socket_of(&self, attempt: &mut Attempt) {
        if let Some(Queue::Retired(socket)) = attempt.queue.take() {
            socket.close();
        }
        let ended = attempt.held.take().map(|held| if held.is_next() { held.discard_successor() } else { held.give_up() });
        if let Some(Err(failure)) = ended {
            log!(self.daemon.reporter, warn, %failure, "a name of a held socket stays");
        }
    }

    /// Of a daemon that starts at the first connection: whether one waits, or was open at the last look.
    pub(super) fn is_connected(&self, generation: Generation) -> bool {
        let Some(held) = self.held.as_ref().filter(|_| generation == self.serving) else { return false };
        let attempt = self.attempts.iter().find(|attempt| attempt.generation == generation);
        let was_used = attempt.and_then(|attempt| attempt.watching_idle.as_ref()).is_some_and(IdleGuard::was_used);
        was_used || held.queue_len().is_ok_and(|waiting| waiting > 0)
    }

    /// The queue of a daemon that is started by a connection, and is ready when it has taken it.
    pub(super) fn queue_of_readiness(&self, generation: Generation) -> Option<Waiting> {
        let accepts = |attempt: &&Attempt| {
            let config = &attempt.job.config;
            attempt.generation == generation && config.start == StartMode::OnConnect && matches!(config.readiness, Probe::Accept)
        };
        self.attempts.iter().find(accepts)?;
        self.held.as_ref().filter(|_| generation == self.serving)?.listener().waiting().ok()
    }

    /// Whether a daemon that has just exited had taken a connection before readiness could see it. Others may wait by now.
    pub(super) fn was_ready(&self, generation: Generation) -> bool {
        let attempt = self.attempts.iter().find(|attempt| attempt.generation == generation && attempt.awaiting_ready.is_some());
        let Some(before) = attempt.and_then(|attempt| attempt.queue_before.as_ref()) else { return false };
        self.queue_of_readiness(generation).is_some_and(|now| has_taken(before, &now))
    }

    pub(super) fn watch_idle(&mut self, generation: Generation) {
        let (watch, listener) = (Arc::clone(&self.context.idle), self.held.as_ref().map(|held| Arc::clone(held.listener())));
        let Some(attempt) = self.attempt(generation) else { return };
        let (tree, idle_timeout) = (tree_of(attempt), attempt.job.config.idle_timeout);
        let (Some(listener), Some(tree), Some(idle_timeout)) = (listener, tree, idle_timeout) else { return };
        let done = attempt.completion();
        attempt.watching_idle = Some(watch.watch(WatchedDaemon { listener, tree, idle_timeout }, move || done(Completion::Idle)));
    }

    /// The tree is suspended, as far as it can be. `complete`: each process of it.
    pub(super) fn on_frozen(&mut self, generation: Generation, complete: bool) {
        if !complete && !std::mem::replace(&mut self.has_warned_of_freeze, true) {
            log!(
                self.daemon.reporter,
                warn,
                "a process of an idle daemon can't be suspended; a connection in the instant of the stop may be lost"
            );
        }
        let attempt = self.attempts.iter().find(|attempt| attempt.generation == generation);
        let activity = self.held.as_ref().zip(attempt.and_then(tree_of)).map(|(held, tree)| held.look(tree));
        // If nobody can tell, the daemon goes on.
        let idle = activity.is_some_and(|activity| activity.is_ok_and(Activity::is_none));
        self.feed(Event::Frozen { generation, idle });
    }

    /// Removes the names and closes what waits.
    pub(super) fn give_up_socket(&mut self) {
        if let Some(Err(failure)) = self.held.take().map(HeldSocket::give_up) {
            log!(self.daemon.reporter, warn, %failure, "a name of a held socket stays");
        }
    }
}

/// Keeper and leader.
fn tree_of(attempt: &Attempt) -> Option<(Pid, Pid)> {
    attempt.spawned().map(|daemon| (daemon.keeper, daemon.leader))
}

/// EADDRINUSE, as C libraries, Node.js and Go print it.
fn is_address_in_use(tail: &str) -> bool {
    tail.contains("EADDRINUSE") || tail.to_ascii_lowercase().contains("address already in use")
}
