//! The tree of one keeper: its processes, and the signals that they get.

use std::time::{Duration, Instant};

use super::sys;
use ally_base::os::{self, Group, Process, ProcessScan};

/// How often the tree is looked through again while it ends: a process may have been forked during the last look.
pub const SCAN_INTERVAL: Duration = Duration::from_millis(20);
/// What has not gone by then, or was not asked to, may never go, and costs a look now and then.
pub const SCAN_INTERVAL_MAX: Duration = Duration::from_secs(1);

pub struct Tree {
    /// The leader until it is reaped.
    pub leader: Option<i32>,
    /// Whether only the leader's group is to end.
    pub group_only: bool,
    group: i32,
    /// The same, for signals to the whole group at once. `None` where the system has no such thing.
    whole_group: Option<Group>,
    stop_signal: i32,
    /// The leader, while the session that it made has not been seen empty.
    session_of: Option<i32>,
    /// Who there was at the last look, where what loses its parent doesn't come back.
    seen: Vec<Process>,
    /// Who was asked to stop, by pid.
    asked: Vec<i32>,
    /// If some may have been missed then.
    again: Option<Again>,
}

/// Another look that is due.
#[derive(Clone, Copy)]
struct Again {
    at: Instant,
    pause: Duration,
}

impl Tree {
    /// Of a leader that was just made.
    pub fn new(leader: i32, group_only: bool, stop_signal: i32) -> Self {
        Self {
            leader: Some(leader),
            group_only,
            group: leader,
            whole_group: Group::of(leader).ok(),
            stop_signal,
            session_of: Some(leader),
            seen: Vec::new(),
            asked: Vec::new(),
            again: None,
        }
    }

    /// Whether it can end without the end of a child of ours: then only a look tells.
    pub const fn ends_unnoticed(&self) -> bool {
        self.group_only || !os::HAS_SUBREAPER
    }

    /// Once the leader was reaped. `childless`: this process has no child left.
    pub fn is_gone(&mut self, childless: bool) -> bool {
        if self.ends_unnoticed() { self.scan(&mut |_| {}).is_certainly_empty() } else { childless }
    }

    /// Asks everyone to stop who wasn't asked before.
    pub fn ask(&mut self) {
        // Only when the look is over: what one starts to clean up is not asked to stop.
        let members = self.scan(&mut |_| {});
        for process in &members.seen {
            if !self.asked.contains(&process.pid) {
                sys::ignore(os::signal(process, self.stop_signal));
                sys::ignore(os::signal(process, libc::SIGCONT));
                self.asked.push(process.pid);
            }
        }
        if let Some(leader) = self.unseen_leader(&members).filter(|leader| !self.asked.contains(leader)) {
            sys::ignore(sys::kill(leader, self.stop_signal));
            sys::ignore(sys::kill(leader, libc::SIGCONT));
            self.asked.push(leader);
        }
        self.again = members.failed.map(|_| {
            let pause = self.again.map_or(SCAN_INTERVAL, |again| (again.pause * 2).min(SCAN_INTERVAL_MAX));
            Again { at: Instant::now() + pause, pause }
        });
    }

    /// When to ask again those who may have been missed.
    pub fn next_ask(&self) -> Option<Instant> {
        self.again.map(|again| again.at)
    }

    pub fn kill(&mut self) {
        if let Some(group) = &self.whole_group {
            sys::ignore(group.signal(libc::SIGKILL));
        }
        // One that can't be killed is named by the owner when its patience ends.
        let members = self.scan(&mut |process| sys::ignore(os::signal(process, libc::SIGKILL)));
        if let Some(leader) = self.unseen_leader(&members) {
            sys::ignore(sys::kill(leader, libc::SIGKILL));
        }
    }

    /// A leader that we have not reaped and that doesn't show: /proc may hide it. Its pid is nobody else's.
    fn unseen_leader(&self, members: &ProcessScan) -> Option<i32> {
        self.leader.filter(|leader| !members.seen.iter().any(|process| process.pid == *leader))
    }

    /// Who there is, each handed to `on_found` when it is found.
    fn scan(&mut self, on_found: &mut dyn FnMut(&Process)) -> ProcessScan {
        let (group, group_only) = (self.group, self.group_only);
        let counts = |process: &Process| !group_only || process.group == group;
        let mut members = os::members(os::own_pid(), &mut self.session_of, &self.seen, &mut |process| {
            if counts(process) {
                on_found(process);
            }
        });
        members.seen.retain(counts);
        if !os::HAS_SUBREAPER {
            // Who was missed may be there all the same.
            let missed = self.seen.iter().filter(|before| members.failed.is_some() && !members.seen.iter().any(|now| now.is(before)));
            self.seen = members.seen.iter().chain(missed).copied().collect();
        }
        members
    }
}
