//! What the host tells of a plugin.

use std::sync::Arc;
use std::time::Duration;

use super::{OwnStart, Plugin, Resync, Resynced, Source, View};
use crate::lifecycle::Notice;
use crate::model::{Pid, ProcessState, Stream};
use crate::sharing::client::path::path;
use crate::sharing::protocol::{Detachment, SentLine, Shown, Told};
use crate::supervisor::runtime::clock;

/// Two measurements of one time differ by less.
const SAME_TIME: Duration = Duration::from_millis(100);

impl Plugin {
    /// Whether the session has the plugin, and has asked to start it again.
    pub(super) fn stays_attached(&self) -> bool {
        self.view == View::Joining && self.former.as_ref().is_some_and(|former| former.view == View::Here)
    }

    pub fn attached(&mut self, shown: Shown, at: f64, host: Pid) {
        if matches!(self.view, View::Away | View::Leaving(_)) {
            return;
        }
        self.come_here(at, host);
        self.show(shown);
        // A start that is being prepared may still be refused, and then listeners hear nothing. So may an armed one, whose socket is
        // about to be made.
        let is_arming = self.snapshot.state == ProcessState::Stopped && !self.snapshot.armed;
        if self.is_certain() && !is_arming {
            self.former = None;
            self.tell(self.snapshot.state, None);
        }
    }

    /// The session has the plugin.
    fn come_here(&mut self, at: f64, host: Pid) {
        if !self.stays_attached() {
            self.attached_at = at;
        }
        self.host = host;
        self.view = View::Here;
    }

    const fn is_certain(&self) -> bool {
        !matches!(self.snapshot.state, ProcessState::Starting) || self.snapshot.pid.is_some()
    }

    pub fn show(&mut self, shown: Shown) {
        let Shown { mut snapshot, uptime, status, sessions, ends_for_all, metrics } = shown;
        snapshot.running_since = uptime.map(|uptime| clock::now().mono.saturating_sub(uptime));
        if self.stays_attached() {
            // If the start is refused, this is what the plugin is.
            if let Some(former) = &mut self.former {
                former.snapshot = snapshot;
            }
            (self.status, self.sessions, self.metrics) = (status, Some(sessions), metrics);
            return;
        }
        if self.view != View::Here {
            return;
        }
        self.ends_for_all = ends_for_all;
        if let (Some(old), Some(new)) = (self.snapshot.running_since, snapshot.running_since)
            && old.abs_diff(new) < SAME_TIME
        {
            snapshot.running_since = Some(old);
        }
        if snapshot.pid.is_some() {
            // It was spawned when the old tree was gone.
            self.died_with = None;
        }
        snapshot.total_restarts += self.former_restarts;
        snapshot.last_exit = snapshot.last_exit.or(self.former_exit);
        self.metrics = metrics;
        self.times.note(&snapshot);
        if (&self.snapshot, &self.status, self.sessions) != (&snapshot, &status, Some(sessions)) {
            (self.snapshot, self.status, self.sessions) = (snapshot, status, Some(sessions));
            self.changed();
        }
    }

    /// An event of the daemon itself.
    pub fn tell_event(&mut self, told: Told, at: f64) {
        if self.view != View::Here {
            return;
        }
        self.former = None;
        match told {
            Told::StateChanged { from, to, pid, reason } => {
                // Of a change that the host tells in whole, nothing is missing.
                let mut states = if from == self.told { vec![to] } else { path(self.told, to) };
                let last = states.pop();
                states.into_iter().for_each(|state| self.tell_state(state, None, None, at));
                if let Some(last) = last {
                    self.post_state(last, pid, reason, at);
                }
            }
            Told::Exited { pid, exit, reason } => self.reporter.event(Notice::Exited { pid, exit, reason }, at),
            Told::RestartScheduled { attempt, delay, reason } => {
                self.reporter.event(Notice::RestartScheduled { attempt, delay, reason }, at);
            }
            Told::Checked { healthy, latency, failures, error } => {
                self.reporter.event(Notice::Checked { healthy, latency, failures, error }, at);
            }
        }
    }

    /// Messages were lost.
    pub fn resync(&mut self, resynced: Resynced) {
        if self.is_abandoned() {
            self.resynced = Some((resynced, None));
            return;
        }
        let Resynced { is_held, is_started, host } = resynced;
        self.resync = match (is_held, is_started) {
            (true, _) => Resync::Shows,
            (false, true) => Resync::Parted,
            (false, false) => Resync::No,
        };
        match self.view {
            // Without a start that was taken, it is the former hold.
            View::Joining if is_held && is_started => self.come_here(self.snapshot.last_state_change, host),
            View::Joining if !is_held && !is_started && self.stays_attached() => self.part_from_former(),
            // It has the failure.
            View::Here if !is_held && is_started => self.view = View::Joining,
            // The stop for all sessions was lost.
            View::Here if !is_held => self.leave(ProcessState::Stopped, None),
            View::Away | View::Joining | View::Here | View::Leaving(_) => {}
        }
    }

    /// After a resync, what was lost is told as far as it changed the state.
    pub fn catch_up_or_show(&mut self, shown: Shown) {
        if self.is_abandoned() {
            if let Some((_, waiting)) = &mut self.resynced {
                *waiting = Some(shown);
            }
            return;
        }
        self.show(shown);
        if std::mem::take(&mut self.resync) == Resync::Shows && self.view == View::Here && self.is_certain() {
            self.tell(self.snapshot.state, None);
        }
    }

    /// The host has answered that a start which was given up is taken back.
    pub fn catch_up(&mut self) {
        if self.is_abandoned() {
            return;
        }
        let Some((resynced, shown)) = self.resynced.take() else { return };
        self.resync(resynced);
        if let Some(shown) = shown {
            self.catch_up_or_show(shown);
        }
    }

    /// There is another connection, which tells anew.
    pub fn connected(&mut self) {
        self.resynced = None;
    }

    /// `is_awaited`: the answer of a call tells the end of it. Without it: of a call that was given up.
    pub fn detached(&mut self, why: Detachment, is_awaited: bool) {
        match (self.view, why) {
            (View::Away, _) => {}
            (View::Here, Detachment::Stopped) if !is_awaited => self.leave(ProcessState::Stopped, None),
            // The answer that follows has the failure.
            (_, Detachment::Refused) => self.view = View::Joining,
            (View::Leaving(_), Detachment::Stopped | Detachment::TimedOut) => {}
            (View::Joining | View::Here, Detachment::Stopped) => {
                self.view = View::Leaving(ProcessState::Stopped);
                self.begin_leaving();
            }
            (View::Joining | View::Here, Detachment::TimedOut) => self.view = View::Leaving(ProcessState::Error),
            // The host reads the start behind it.
            (View::Joining, Detachment::Everywhere) if self.stays_attached() && !self.is_withheld => self.part_from_former(),
            (_, Detachment::Everywhere) => self.leave(ProcessState::Stopped, None),
        }
    }

    /// Output of the daemon. A session that has the plugin anew, or to which lines were lost, is sent everything that is kept, also
    /// what it has already.
    pub fn lines(&mut self, source: Source, dropped: u64, lines: Vec<SentLine>) {
        // While it lets go, the last lines come that getOutput shows afterwards.
        if !matches!(self.view, View::Here | View::Leaving(_)) && !self.stays_attached() {
            return;
        }
        self.tail.count_dropped_lines(dropped);
        if self.source != source {
            (self.source, self.read) = (source, [0; 2]);
        }
        for SentLine { stream, text, end, at, pid } in lines {
            let read = &mut self.read[stream as usize];
            if end <= *read {
                continue;
            }
            *read = end;
            if self.process.0 == 0 || (pid.is_some() && pid != self.process.1) {
                let process = self.tail.begin();
                if let Some(pid) = pid {
                    self.tail.name_process(process, pid);
                }
                self.process = (process, pid);
            }
            self.line(stream, text, at);
        }
    }

    /// A listener for lines comes. It does not hear those that were written before.
    pub fn listened_to(&mut self) {
        self.attached_at = clock::wall();
    }

    pub(super) fn line(&self, stream: Stream, text: String, at: f64) {
        let mut bytes = text.into_bytes();
        bytes.push(b'\n');
        self.tail.append_at(self.process.0, stream, &bytes, at);
        if at >= self.attached_at && self.view == View::Here && self.reporter.wants_lines() {
            bytes.pop();
            // From a String, so nothing is lost.
            self.reporter.line(stream, String::from_utf8_lossy(&bytes).into_owned());
        }
    }

    /// Another session has upgraded the daemon. What belongs to this session alone stays.
    pub fn upgraded(&mut self, mut start: OwnStart) {
        let own = &self.start;
        start.config.startup_timeout = own.config.startup_timeout;
        start.config.shared = own.config.shared;
        start.config.group.clone_from(&own.config.group);
        start.config.depends_on.clone_from(&own.config.depends_on);
        start.raw = start.raw.with_entries_of(&own.raw, &["startupTimeout", "shared", "group", "dependsOn"]);
        start.job = self.start.job;
        self.start = Arc::new(start);
        self.is_upgraded = true;
        self.changed();
    }
}
