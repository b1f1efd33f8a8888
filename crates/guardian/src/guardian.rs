//! The guardian: receives orders, forks a keeper for each, and sweeps after a killed keeper.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ally_base::notify_folder;
use ally_base::os::{self, Process, ProcessScan};
use ally_base::wire::{GuardianReport, Hello, KeeperReport, Order, Stage};
use ally_build_id::{BUILD_ID, VERSION};

use crate::keeper::{self, KeeperExit};
use crate::logs::LogRegistry;
use crate::sys::{self, Reaped};

/// The pause between two scans during a sweep.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The time from the owner's death until the remaining keepers get SIGCONT.
const WAKE_DELAY: Duration = Duration::from_secs(1);

pub struct Guardian {
    /// `None` after the owner's death.
    owner: Option<OwnedFd>,
    /// After the owner's death: when to continue the keepers. A suspended keeper does not see that death.
    wake_keepers: Option<Instant>,
    keepers: HashSet<i32>,
    /// The current sweep. Its list of keepers is empty if there is no sweep.
    sweep: Sweep,
    /// Earlier sweeps that wait for processes that refuse SIGKILL. Such a process belongs to its sweep, and to no later sweep.
    stuck: Vec<Sweep>,
    /// The log processes, which a sweep spares.
    logs: LogRegistry,
    /// POSIX sessions of the processes that a keeper left alive on purpose (`killMode: 'group'`).
    spared_sessions: Vec<i32>,
}

/// The sweep after the death of one or more killed keepers.
#[derive(Default)]
struct Sweep {
    keepers: Vec<i32>,
    /// The processes that the last scan found.
    remaining: Vec<Process>,
}

impl Guardian {
    /// # Errors
    /// ENOTSOCK if descriptor 0 is no socket, and errors of the system calls.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the addon passes the stream as descriptor 0, and no other value owns it. If descriptor 0 is no socket,
        // `become_guardian` fails.
        let owner = unsafe { OwnedFd::from_raw_fd(0) };
        sys::become_guardian(&owner)?;
        Ok(Self {
            owner: Some(owner),
            wake_keepers: None,
            keepers: HashSet::new(),
            sweep: Sweep::default(),
            stuck: Vec::new(),
            logs: LogRegistry::default(),
            spared_sessions: Vec::new(),
        })
    }

    pub fn run(mut self) -> ExitCode {
        if self.exchange_hello().is_err() {
            // The owner reports the cause: it has this guardian's Hello.
            return ExitCode::from(3);
        }
        notify_folder::sweep();
        while self.owner.is_some() || !self.keepers.is_empty() || !self.sweep.keepers.is_empty() {
            // After a failed scan, or while a process refuses SIGKILL, no SIGCHLD announces the end of the sweep.
            let pause = (!self.sweep.keepers.is_empty() || !self.stuck.is_empty()).then_some(SWEEP_INTERVAL);
            let until_wake = self.wake_keepers.map(|at| at.saturating_duration_since(Instant::now()));
            let pause = pause.into_iter().chain(until_wake).min();
            let readable = sys::wait_for([self.owner.as_ref().map(AsRawFd::as_raw_fd)], pause);
            self.reap();
            if readable[0] && self.take_order().is_err() {
                // The owner is dead, or its stream is malformed and no later order can be read.
                self.owner = None;
                self.wake_keepers = Some(Instant::now() + WAKE_DELAY);
            }
            if self.wake_keepers.take_if(|at| Instant::now() >= *at).is_some() {
                for keeper in &self.keepers {
                    sys::ignore(sys::kill_relative(*keeper, libc::SIGCONT));
                }
            }
        }
        ExitCode::SUCCESS
    }

    /// # Errors
    /// The owner is of another build, or dead.
    fn exchange_hello(&self) -> io::Result<()> {
        let Some(owner) = &self.owner else { return Ok(()) };
        let own = Hello { version: VERSION.to_owned(), build: BUILD_ID.to_owned(), pid: os::own_pid() };
        sys::send(owner, &own.encode())?;
        let hello = sys::receive_hello(owner)?;
        if hello.build == own.build { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn take_order(&mut self) -> io::Result<()> {
        let Some(owner) = &self.owner else { return Ok(()) };
        let (payload, descriptors) = sys::receive_order(owner)?;
        if descriptors.is_empty() {
            // Without a stream the failure of this order can't be reported.
            return Err(io::ErrorKind::InvalidData.into());
        }
        sys::send(owner, &GuardianReport::Accepted.encode())?;
        let registry = if Order::has_log(payload.bytes()) { self.logs.register() } else { None };
        match sys::fork() {
            Ok(0) => {
                self.owner = None;
                self.logs.close();
                keeper::run(payload, descriptors, registry)
            }
            Ok(keeper) => {
                self.keepers.insert(keeper);
            }
            Err(error) => {
                let report = KeeperReport::SpawnFailed { stage: Stage::Fork, errno: error.raw_os_error().unwrap_or(libc::EAGAIN) };
                keeper::report_without_keeper(&payload, descriptors, report);
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        let mut spared = self.reap_keepers();
        self.forget_ended_sessions();
        if spared && self.sweep.keepers.is_empty() {
            let unclaimed = self.unclaimed_children().seen;
            // If a keeper was killed before this scan, the unclaimed children include its tree.
            spared = self.reap_keepers() || spared;
            if spared && self.sweep.keepers.is_empty() {
                self.spared_sessions.extend(unclaimed.iter().map(|child| child.session));
            }
        }
        // During a sweep no child is spared: the keeper of an unclaimed child is unknown.
        if !self.sweep.keepers.is_empty() {
            self.sweep();
        }
        self.check_stuck();
    }

    /// Reaps all ended children. Returns whether a keeper among them has left processes alive on purpose.
    fn reap_keepers(&mut self) -> bool {
        let mut spared = false;
        while let Reaped::Child { pid, status, .. } = sys::reap() {
            if !self.keepers.remove(&pid) {
                self.logs.remove(pid);
                continue;
            }
            match KeeperExit::of(status) {
                Some(KeeperExit::NothingLeft) => {}
                Some(KeeperExit::SomeSpared) => spared = true,
                None => {
                    if !self.sweep.remaining.is_empty() {
                        self.stuck.push(std::mem::take(&mut self.sweep));
                    }
                    self.sweep.keepers.push(pid);
                }
            }
        }
        spared
    }

    /// Ends the trees of killed keepers. The leader died with its keeper (PR_SET_PDEATHSIG). The guardian, as the next subreaper,
    /// became the parent of the other processes.
    fn sweep(&mut self) {
        let unclaimed = self.unclaimed_children();
        let none = unclaimed.is_certainly_empty();
        let mut all_refused = unclaimed.failed.is_none();
        self.sweep.remaining = unclaimed.seen;
        for child in &self.sweep.remaining {
            for process in os::descendants(child.pid).seen.iter().chain([child]) {
                // EPERM: the owner names the process when its own time limit has elapsed.
                all_refused &= os::signal(process, libc::SIGKILL).is_err();
            }
        }
        if none {
            let sweep = std::mem::take(&mut self.sweep);
            self.report_swept(&sweep);
        } else if all_refused && !self.sweep.remaining.is_empty() {
            self.stuck.push(std::mem::take(&mut self.sweep));
        }
    }

    fn check_stuck(&mut self) {
        for sweep in std::mem::take(&mut self.stuck) {
            if sweep.remaining.iter().any(|process| process.lives().unwrap_or(true)) {
                self.stuck.push(sweep);
            } else {
                self.report_swept(&sweep);
            }
        }
    }

    fn report_swept(&self, sweep: &Sweep) {
        for keeper in &sweep.keepers {
            if let Some(owner) = &self.owner {
                sys::ignore(sys::send(owner, &GuardianReport::Swept { keeper: *keeper }.encode()));
            }
        }
    }

    /// The living children that are no keepers, no log processes, in no spared POSIX session and in no stuck sweep.
    fn unclaimed_children(&mut self) -> ProcessScan {
        let mut children = self.children();
        // After the scan: a log process writes its pid first, so those that the scan has found are there.
        children.seen.retain(|child| !self.logs.contains(child.pid));
        let is_stuck = |child: &Process| self.stuck.iter().flat_map(|sweep| &sweep.remaining).any(|process| process.pid == child.pid);
        children.seen.retain(|child| !self.spared_sessions.contains(&child.session) && !is_stuck(child));
        children
    }

    /// Must precede the next order: the kernel may reuse the number of an ended POSIX session.
    fn forget_ended_sessions(&mut self) {
        if self.spared_sessions.is_empty() {
            return;
        }
        let children = self.children();
        self.spared_sessions.retain(|session| children.failed.is_some() || children.seen.iter().any(|child| child.session == *session));
    }

    /// The living children that are no keepers.
    fn children(&self) -> ProcessScan {
        let mut children = os::own_children(&self.keepers);
        children.seen.retain(|child| !child.zombie);
        children
    }
}
