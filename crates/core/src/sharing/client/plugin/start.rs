//! The starts of this session: sent, answered, taken back.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Former, OwnStart, Plugin, Resync, Times, View};
use crate::error::{Code, Failure};
use crate::lifecycle::{Snapshot, Ticket};
use crate::model::ProcessState;
use crate::supervisor::Reporter;
use crate::supervisor::runtime::clock;

impl Plugin {
    /// Why a start of this session is refused at once.
    pub const fn refusal(&self) -> Option<Failure> {
        match self.view {
            View::Away => None,
            View::Joining => Some(Failure::AlreadyRunning(ProcessState::Starting)),
            View::Leaving(_) => Some(Failure::AlreadyRunning(ProcessState::Stopping)),
            View::Here if self.snapshot.armed => Some(Failure::AlreadyArmed),
            View::Here => match self.snapshot.state {
                ProcessState::Stopped | ProcessState::Error => None,
                ProcessState::Starting if self.snapshot.awaits_restart => None,
                state => Some(Failure::AlreadyRunning(state)),
            },
        }
    }

    /// The start is about to be sent. The state is STARTING at once; listeners hear of it when the host has accepted the start.
    pub fn join(&mut self, start: OwnStart, number: u64) {
        let left_by = self.left_by.take();
        let former = Former { snapshot: self.snapshot.clone(), start: Arc::clone(&self.start), view: self.view, left_by };
        self.former = Some(former);
        (self.former_restarts, self.former_exit) = (0, None);
        self.times = Times::default();
        self.withhold(!start.config.depends_on.is_empty());
        (self.is_upgraded, self.ends_for_all, self.resync) = (false, false, Resync::No);
        self.start = Arc::new(start);
        self.number = number;
        self.view = View::Joining;
        self.snapshot = Snapshot {
            known: true,
            state: ProcessState::Starting,
            last_state_change: clock::wall(),
            last_error: None,
            ..Self::frozen(&self.snapshot, ProcessState::Starting)
        };
        self.changed();
    }

    /// Whether the start waits for what the plugin depends on.
    pub fn withhold(&mut self, is_withheld: bool) {
        self.is_withheld = is_withheld;
        if !is_withheld {
            self.times.sent = Some(Instant::now());
        }
    }

    /// The start is made again: the host was killed.
    pub fn rejoin(&mut self) {
        self.view = View::Joining;
        self.former = None;
    }

    /// The caller has aborted the start.
    pub fn abort_start(&mut self) {
        if matches!(self.view, View::Joining | View::Here) {
            self.view = View::Leaving(ProcessState::Stopped);
            self.begin_leaving();
        }
    }

    /// The caller has aborted a start that waits for what the plugin depends on. False if it was sent.
    pub fn abort_withheld(&mut self) -> bool {
        let is_withheld = self.is_joining() && std::mem::take(&mut self.is_withheld);
        if is_withheld {
            self.abort_start();
        }
        is_withheld
    }

    /// Whether a start waits for what the plugin depends on.
    pub const fn withholds(&self) -> bool {
        self.is_joining() && self.is_withheld
    }

    /// A caller waits for a start that is withheld. False if none is.
    pub fn wait_withheld(&mut self, ticket: Ticket) -> bool {
        let is_withheld = self.withholds();
        if is_withheld {
            self.withheld_waits.push(ticket);
        }
        is_withheld
    }

    /// Whether that caller waits still. It is told once.
    pub fn take_withheld(&mut self, ticket: Ticket) -> bool {
        let place = self.withheld_waits.iter().position(|waiting| *waiting == ticket);
        place.map(|place| self.withheld_waits.swap_remove(place)).is_some()
    }

    /// The host does not read the start, and is told to take it back.
    pub fn abandon(&mut self) {
        self.abandoned += 1;
        self.resynced = None;
    }

    /// What takes the place of a plugin that is forgotten while the host tells of it still.
    pub fn forgotten(&self, reporter: Reporter) -> Option<Self> {
        let abandoned = self.abandoned + u32::from(self.is_here());
        (abandoned > 0).then(|| Self { abandoned, ..Self::new(OwnStart::clone(&self.start), reporter) })
    }

    /// The host has taken it back.
    pub const fn has_abandoned(&mut self) {
        self.abandoned = self.abandoned.saturating_sub(1);
    }

    /// Whether what the host tells is of a start that was given up.
    pub const fn is_abandoned(&self) -> bool {
        self.abandoned > 0
    }

    /// The host has answered a start. That of a former one changes nothing: what followed it was told.
    pub fn start_answered(&mut self, number: u64, outcome: &Result<(), Failure>) {
        if number != self.number {
            return;
        }
        let Err(failure) = outcome else {
            self.failure = None;
            if self.view == View::Joining && std::mem::take(&mut self.resync) == Resync::Parted {
                self.leave(ProcessState::Stopped, None);
            }
            if self.view == View::Here {
                self.former = None;
                self.tell_if_armed();
            }
            return;
        };
        match self.view {
            View::Away => {}
            // Refused before the session had the plugin.
            View::Joining if is_refusal(failure) && self.former.is_some() => self.revert(),
            // For all, and what told it was lost.
            View::Joining if failure.code() == Code::Stopped => self.leave(ProcessState::Stopped, None),
            View::Joining => {
                self.failure = Some(failure.clone());
                self.tell(ProcessState::Starting, None);
                self.leave(ProcessState::Error, Some(failure));
            }
            View::Leaving(state) => {
                self.failure = Some(failure.clone()).filter(|_| state == ProcessState::Error);
                let failure = self.failure.clone();
                self.leave(state, failure.as_ref());
            }
            // The daemon's state tells.
            View::Here => {
                if let Some(former) = self.former.take_if(|_| is_refusal(failure)) {
                    self.start = former.start;
                    self.changed();
                }
                self.failure = Some(failure.clone());
            }
        }
    }

    /// The host tells nothing if it knew the plugin as stopped: for it, arming is no change of the state.
    fn tell_if_armed(&mut self) {
        let is_armed = self.snapshot.state == ProcessState::Stopped && self.snapshot.armed;
        if is_armed && matches!(self.told, None | Some(ProcessState::Error)) {
            self.tell(ProcessState::Stopped, None);
        }
    }

    /// The start was refused before it changed anything.
    pub(super) fn revert(&mut self) {
        let Some(Former { snapshot, start, view, left_by }) = self.former.take() else { return };
        self.left_by = left_by;
        self.snapshot = snapshot;
        self.start = start;
        self.view = view;
        if view == View::Away {
            self.sessions = None;
        }
        self.changed();
        // It may have changed meanwhile.
        if self.told.is_some() {
            self.tell(self.snapshot.state, None);
        }
    }

    /// The session had the plugin, and has asked to start it again. The host has taken it from the session before it has read that.
    pub(super) fn part_from_former(&mut self) {
        let Some(former) = &mut self.former else { return };
        former.view = View::Away;
        former.snapshot = Self::frozen(&former.snapshot, ProcessState::Stopped);
        (self.status, self.sessions, self.metrics.resources) = (None, None, None);
    }
}

/// Whether the start has changed nothing.
pub fn is_refusal(failure: &Failure) -> bool {
    let code = failure.code();
    matches!(code, Code::OwnedElsewhere | Code::Dependency | Code::InvalidConfig | Code::ShuttingDown | Code::AlreadyRunning)
}
