//! The socket that the manager holds for the daemon: when it is made, put right and given up.

use std::os::fd::OwnedFd;

use super::Task;
use super::attempt::Attempt;
use crate::config::{KillMode, StartMode};
use crate::error::Failure;
use crate::lifecycle::{Event, Generation};
use crate::model::{Exit, Pid};
use crate::supervisor::probe::HeldProbe;
use crate::supervisor::report::log;
use crate::supervisor::socket::{HeldEvent, HeldSocket, Restored};

impl Task {
    /// A start in place of a pending restart may have another socket.
    pub(super) fn give_up_former_socket(&mut self) {
        let config = &self.job.config;
        if self.held.as_ref().is_some_and(|held| !config.holds_socket() || held.path() != config.socket_path) {
            self.give_up_socket();
        }
    }

    /// Makes the socket, if the manager must and does not have it. The path is free.
    pub(super) fn hold_socket(&mut self) -> Result<(), Failure> {
        if self.job.config.holds_socket() && self.held.is_none() {
            self.held = Some(HeldSocket::bind(&self.job.config.socket_path)?);
        }
        Ok(())
    }

    /// The copy for the leader.
    pub(super) fn listener_for_spawn(&mut self) -> Result<Option<OwnedFd>, Failure> {
        let others_may_hold = self.job.config.kill_mode == KillMode::Group;
        self.held.as_mut().map(|held| held.before_spawn(others_may_hold)).transpose()
    }

    pub(super) fn held_probe(&self) -> Option<HeldProbe> {
        let on_connect = self.job.config.start == StartMode::OnConnect;
        self.held.as_ref().map(|held| HeldProbe { listener: held.listener().clone(), on_connect })
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
            // No socket is armed.
            HeldEvent::Connected => {}
        }
    }

    /// Puts the socket right. The machine decides what becomes of a daemon that can't serve it any more.
    fn restore_and_tell(&mut self) {
        let Some(generation) = self.attempt.as_ref().map(|attempt| attempt.generation) else { return };
        if let Some(failure) = self.restore_socket(generation) {
            self.feed(Event::SocketLost { generation, failure });
        }
    }

    /// Makes `socketPath` lead to the held socket, which accepts connections. Returns why the daemon can't serve the socket any more.
    fn restore_socket(&mut self, generation: Generation) -> Option<Failure> {
        let held = self.held.as_mut()?;
        let path = held.path().display().to_string();
        match held.restore(self.attempt.as_ref().and_then(tree_of)) {
            Ok(Restored::InPlace) => None,
            Ok(Restored::PutBack) => {
                self.warn_of_names("removes SOCKET_PATH although the socket is the manager's; it was put back");
                None
            }
            Ok(Restored::PutBackOverDaemon) => {
                self.warn_of_names("binds SOCKET_PATH itself although the socket is the manager's, which was put back");
                self.feed(Event::NotReady { generation, failure: Failure::BindsHeldSocket { path, cause: None } });
                None
            }
            Ok(Restored::Replaced) => {
                self.warn_of_names("removes SOCKET_PATH although the socket is the manager's; there is a new socket");
                Some(Failure::SocketReplaced { path })
            }
            Ok(Restored::AfterShutdown) => Some(Failure::SocketShutDown { path }),
            Err(failure) => {
                log!(self.daemon.reporter, warn, %failure, "a held socket can't be put right; the next spawn tries again");
                if held.is_shut_down() {
                    return Some(Failure::SocketShutDown { path });
                }
                // Otherwise the daemon still serves the connections that it has.
                Some(failure).filter(|failure| matches!(failure, Failure::SocketTaken { .. }))
            }
        }
    }

    fn warn_of_names(&mut self, what: &str) {
        if !std::mem::replace(&mut self.has_warned_of_names, true) {
            log!(self.daemon.reporter, warn, "the daemon {what}");
        }
    }

    /// The leader has exited.
    pub(super) fn after_exit(&mut self, generation: Generation, exit: Exit, tail: &str) {
        let Some(held) = &self.held else { return };
        held.after_exit();
        let path = held.path().display().to_string();
        // The exit says more than the state of the socket, and the next spawn finds out who else has taken the path.
        drop(self.restore_socket(generation));
        if is_address_in_use(tail) {
            // Counts only before readiness.
            let cause = Box::new(Failure::StartupExit { exit, tail: tail.to_owned() });
            self.feed(Event::NotReady { generation, failure: Failure::BindsHeldSocket { path, cause: Some(cause) } });
        }
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
