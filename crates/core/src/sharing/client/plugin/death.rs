//! What the end of the host, or of the connection to it, is for a plugin.

use std::time::Duration;

use super::{Plugin, View};
use crate::error::Failure;
use crate::lifecycle::{LastExit, Notice, Snapshot};
use crate::model::{Exit, ExitReason, Pid, ProcessState};
use crate::supervisor::runtime::clock;

impl Plugin {
    /// The host has left, because nobody has a daemon there. `outlives`: the host, if processes of the daemon outlive it.
    pub fn host_left(&mut self, outlives: Option<Pid>) {
        if self.view == View::Here {
            let state = if self.snapshot.state == ProcessState::Error { ProcessState::Error } else { ProcessState::Stopped };
            self.leave(state, None);
            self.left_by = outlives;
        }
    }

    /// The keepers of this host, which is gone, could not end the daemon in time.
    pub fn not_ended(&mut self, failure: &Failure, host: Pid) {
        if matches!(self.view, View::Leaving(_)) {
            self.leave(ProcessState::Error, Some(failure));
            self.left_by = Some(host);
        }
    }

    /// Whether processes outlive the host.
    pub fn is_left(&self) -> bool {
        self.left_by.is_some() && self.view == View::Away
    }

    /// A stop of what a host has left, or what its keepers may still end: waits for that, also beside another stop. The host; `None` if
    /// nothing is known to be left.
    pub fn stop_left(&mut self) -> Option<Pid> {
        let host = match self.view {
            View::Away => self.left_by.or(self.died_with),
            View::Leaving(_) => self.left_by,
            View::Joining | View::Here => None,
        }?;
        self.view = View::Leaving(ProcessState::Stopped);
        Some(host)
    }

    /// The host has closed the connection, and lives. Returns whether a start must be made again.
    pub fn connection_lost(&mut self) -> bool {
        match self.view {
            View::Away | View::Leaving(_) => false,
            View::Joining => !self.is_withheld,
            View::Here => {
                self.rejoin();
                true
            }
        }
    }

    /// The host was killed, and the daemon with it. Returns whether a start must be made again.
    pub fn host_died(&mut self, host: Pid) -> bool {
        if self.is_held() && self.snapshot.pid.is_some() {
            self.died_with = Some(host);
        }
        let had = self.snapshot.pid.take();
        let is_at_rest = self.is_at_rest();
        match self.view {
            View::Away => return false,
            View::Joining => return !self.is_withheld,
            View::Leaving(_) => return false,
            View::Here if is_at_rest => {
                self.leave(self.snapshot.state, None);
                return false;
            }
            // No process has ended, so listeners hear nothing: it is armed again.
            View::Here if self.is_armed() => {
                (self.former_restarts, self.former_exit) = (self.snapshot.total_restarts, self.snapshot.last_exit);
                self.rejoin();
                return true;
            }
            View::Here => {}
        }
        let at = clock::wall();
        if let Some(pid) = had {
            self.former_exit = Some(LastExit { pid, exit: Exit::UNKNOWN, reason: ExitReason::Crashed, at, usage: None });
            self.snapshot.last_exit = self.former_exit;
            self.reporter.notice(Notice::Exited { pid, exit: Exit::UNKNOWN, reason: ExitReason::Crashed }, at);
        }
        if self.start.config.restart.max_attempts == 0 && had.is_some() {
            let failure = Failure::Internal { problem: "the host of the shared daemon was killed".to_owned() };
            self.failure = Some(failure.clone());
            self.leave(ProcessState::Error, Some(&failure));
            return false;
        }
        self.former_restarts = self.snapshot.total_restarts + u64::from(had.is_some());
        self.snapshot = Snapshot { total_restarts: self.former_restarts, ..Self::frozen(&self.snapshot, ProcessState::Starting) };
        self.snapshot.forgettable = false;
        self.snapshot.last_state_change = at;
        self.changed();
        if had.is_some() {
            let reason = ExitReason::Crashed;
            self.reporter.notice(Notice::RestartScheduled { attempt: 1, delay: Duration::ZERO, reason }, at);
        }
        self.tell(ProcessState::Starting, Some(ExitReason::Crashed.as_str().to_owned()));
        self.rejoin();
        true
    }

    const fn is_at_rest(&self) -> bool {
        matches!(self.snapshot.state, ProcessState::Stopped | ProcessState::Error) && !self.snapshot.armed
    }

    /// Whether its socket listens, and no process is there.
    const fn is_armed(&self) -> bool {
        matches!(self.snapshot.state, ProcessState::Stopped) && self.snapshot.armed
    }

    /// The host was killed while it stopped the plugin for all, as this session or the host has said. So nothing is started again.
    pub fn host_died_stopping(&mut self, host: Pid) -> bool {
        if self.view == View::Joining {
            // Its start follows to the next host, and is refused there.
            return !self.is_withheld;
        }
        if self.view != View::Here {
            return false;
        }
        let had = self.snapshot.pid.take();
        self.died_with = had.and(Some(host));
        if self.is_at_rest() {
            self.leave(self.snapshot.state, None);
            return false;
        }
        self.view = View::Leaving(ProcessState::Stopped);
        if self.is_armed() {
            return false;
        }
        self.begin_leaving();
        if let Some(pid) = had {
            let (at, reason) = (clock::wall(), ExitReason::Stopped);
            self.snapshot.last_exit = Some(LastExit { pid, exit: Exit::UNKNOWN, reason, at, usage: None });
            self.reporter.notice(Notice::Exited { pid, exit: Exit::UNKNOWN, reason }, at);
        }
        false
    }
}
