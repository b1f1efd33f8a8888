//! The tree of a keeper: scans for its processes, and the signals to them.

use std::collections::HashSet;
use std::mem;
use std::time::{Duration, Instant};

use super::sys;
use ally_base::os::{self, Group, Process, ProcessScan};
use ally_base::stop::StopStep;

/// The first pause between two scans while the tree ends: a process may have been forked during the last scan.
pub const SCAN_INTERVAL: Duration = Duration::from_millis(20);
/// The longest pause between two scans: a process that does not end, or needs not end, may remain for long, and each scan costs
/// time.
pub const SCAN_INTERVAL_MAX: Duration = Duration::from_secs(1);

pub struct Tree {
    /// `None` after the leader was reaped.
    pub leader: Option<i32>,
    /// A child of the keeper that is no part of the tree, with all its descendants: the keeper of a probe.
    pub probe: Option<i32>,
    /// Whether only the leader's groups are to end.
    pub group_only: bool,
    /// The group of the start.
    pub first_group: i32,
    /// That group, and those in which the leader was seen.
    groups: Vec<i32>,
    /// For signals to a whole group in one system call: the group of the start, and the one that the leader has made by setpgid(2)
    /// or setsid(2). Empty if the system has no pidfd.
    group_handles: Vec<Group>,
    stop_signal: i32,
    /// The number of the keeper's POSIX session, for systems without subreapers.
    session: Option<i32>,
    /// The processes of the last scan, for systems without subreapers.
    seen: Vec<Process>,
    signalled: Signalled,
    /// Set if the last scan failed, and so may have missed processes.
    rescan: Option<Rescan>,
    /// The processes that [`Self::freeze`] has stopped.
    pub frozen: Vec<Process>,
}

/// The processes that the stop signal has reached.
#[derive(Default)]
struct Signalled {
    leader: bool,
    /// By pid and start time, as the next ones.
    others: HashSet<(i32, u64)>,
    /// The processes that were in the tree at the first signal.
    present: HashSet<(i32, u64)>,
    /// Whether a scan has found all of these.
    present_is_complete: bool,
}

#[derive(Clone, Copy)]
struct Rescan {
    at: Instant,
    pause: Duration,
}

impl Tree {
    /// The tree of a leader that was just forked. The process that made `group` must not have been reaped.
    pub fn new(leader: i32, group: i32, group_only: bool, stop_signal: i32) -> Self {
        Self {
            leader: Some(leader),
            probe: None,
            group_only,
            first_group: group,
            groups: vec![group],
            group_handles: Group::of(group).into_iter().collect(),
            stop_signal,
            session: Some(os::own_pid()),
            seen: Vec::new(),
            signalled: Signalled::default(),
            rescan: None,
            frozen: Vec::new(),
        }
    }

    /// Whether only a scan shows the end of the tree. Otherwise ECHILD of waitpid(2) shows it.
    pub const fn end_needs_scan(&self) -> bool {
        self.group_only || !os::HAS_SUBREAPER
    }

    /// Whether the tree is gone, once the leader was reaped. `childless`: waitpid(2) has returned ECHILD.
    pub fn is_gone(&mut self, childless: bool) -> bool {
        if self.end_needs_scan() {
            return self.scan(&mut |_| {}).is_certainly_empty();
        }
        childless || self.probe.is_some_and(is_only_child)
    }

    /// Sends the stop signal, once to each process that `step` means. SIGCONT follows, and goes to the whole tree with the first
    /// signal: the leader may wait for a suspended worker.
    pub fn send_stop_signal(&mut self, step: StopStep) {
        // Each member of the tree gets SIGCONT below, after the stop signal that is for it.
        self.frozen = Vec::new();
        self.see_group_of_leader();
        // All signals follow the scan: a process that a daemon forks for its cleanup must not get the stop signal.
        let members = self.scan(&mut |_| {});
        if let Some(leader) = self.leader.filter(|_| !mem::replace(&mut self.signalled.leader, true)) {
            signal_leader(leader, &members, self.stop_signal);
            signal_leader(leader, &members, libc::SIGCONT);
        }
        let Signalled { others, present, present_is_complete, .. } = &mut self.signalled;
        for process in members.seen.iter().filter(|process| Some(process.pid) != self.leader) {
            let id = (process.pid, process.start);
            let continues = !*present_is_complete && present.insert(id);
            let is_meant = match step {
                StopStep::Leader => false,
                StopStep::Remaining => present.contains(&id),
                StopStep::Tree => true,
            };
            let signals = is_meant && others.insert(id);
            if signals {
                sys::ignore(os::signal(process, self.stop_signal));
            }
            if signals || continues {
                sys::ignore(os::signal(process, libc::SIGCONT));
            }
        }
        *present_is_complete |= members.failed.is_none();
        self.rescan = members.failed.map(|_| {
            let pause = self.rescan.map_or(SCAN_INTERVAL, |rescan| (rescan.pause * 2).min(SCAN_INTERVAL_MAX));
            Rescan { at: Instant::now() + pause, pause }
        });
    }

    /// When to call [`Self::send_stop_signal`] again, for processes that the last scan may have missed.
    pub fn next_rescan(&self) -> Option<Instant> {
        self.rescan.map(|rescan| rescan.at)
    }

    pub fn kill(&mut self) {
        self.see_group_of_leader();
        for group in &self.group_handles {
            sys::ignore(group.signal(libc::SIGKILL));
        }
        // EPERM: the owner names the process in ERR_STOP_FAILED 2 s after SIGKILL.
        let members = self.scan(&mut |process| sys::ignore(os::signal(process, libc::SIGKILL)));
        if let Some(leader) = self.leader.filter(|leader| find(*leader, &members).is_none()) {
            signal_leader(leader, &members, libc::SIGKILL);
        }
    }

    /// For a child that has ended and is not reaped. After the leader is reaped, the kernel no longer knows its group.
    pub fn on_ended(&mut self, child: i32) {
        if Some(child) == self.leader {
            self.see_group_of_leader();
        }
    }

    fn see_group_of_leader(&mut self) {
        let Some(leader) = self.leader.and_then(|leader| os::identify(leader).ok().flatten()) else { return };
        if !self.groups.contains(&leader.group) {
            self.groups.push(leader.group);
            // A group with another number was made by a process that may be gone, and its number may be reused.
            self.group_handles.extend((leader.group == leader.pid).then(|| Group::of(leader.pid)).into_iter().flatten());
        }
    }

    /// The processes that are to end. `on_found` is called for each as soon as the scan finds the process.
    pub fn scan(&mut self, on_found: &mut dyn FnMut(&Process)) -> ProcessScan {
        let (groups, group_only) = (&self.groups, self.group_only);
        // A scan finds parents before their children.
        let mut probes: Vec<i32> = self.probe.into_iter().collect();
        let mut is_to_end = |process: &Process| {
            if probes.contains(&process.pid) {
                return false;
            }
            if probes.contains(&process.parent) {
                probes.push(process.pid);
                return false;
            }
            !group_only || groups.contains(&process.group)
        };
        let mut members = os::members(os::own_pid(), &mut self.session, &self.seen, &mut |process| {
            if is_to_end(process) {
                on_found(process);
            }
        });
        members.seen.retain(|process| is_to_end(process));
        if !os::HAS_SUBREAPER {
            // A failed scan may have missed processes, so the earlier ones are kept.
            let missed = self.seen.iter().filter(|before| members.failed.is_some() && !members.seen.iter().any(|now| now.is(before)));
            self.seen = members.seen.iter().chain(missed).copied().collect();
        }
        members
    }
}

/// Whether this process has no living child but `child`.
fn is_only_child(child: i32) -> bool {
    let mut others = os::own_children(&HashSet::from([child]));
    others.seen.retain(|process| !process.zombie);
    others.is_certainly_empty()
}

fn find(pid: i32, scan: &ProcessScan) -> Option<&Process> {
    scan.seen.iter().find(|process| process.pid == pid)
}

/// For a leader that is not reaped, so that its pid is not reused. The scan lacks the leader if /proc hides it (`hidepid`).
pub fn signal_leader(leader: i32, scan: &ProcessScan, signal: i32) {
    sys::ignore(match find(leader, scan) {
        Some(process) => os::signal(process, signal),
        None => sys::kill_relative(leader, signal),
    });
}
