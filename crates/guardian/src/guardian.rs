//! Takes orders, forks a keeper for each, and ends what a killed keeper left.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use ally_base::os::{self, Process, ProcessScan};
use ally_base::wire::{GuardianReport, Hello, KeeperReport, Stage};
use ally_build_id::{BUILD_ID, VERSION};

use crate::keeper::{self, KeeperExit};
use crate::sys::{self, Reaped};

/// While something of a killed keeper's is left.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

pub struct Guardian {
    /// `None` after the owner's end.
    owner: Option<OwnedFd>,
    keepers: HashSet<i32>,
    /// For the keepers that were killed.
    sweep: Sweep,
    /// Earlier sweeps that a process refuses to end: it belongs to these, and to no later one.
    stuck: Vec<Sweep>,
    /// POSIX sessions of what a keeper left alive on purpose (`killMode: 'group'`), children included.
    spared_sessions: Vec<i32>,
}

/// Keepers that were killed, and what the last scan found of all that they left.
#[derive(Default)]
struct Sweep {
    keepers: Vec<i32>,
    left: Vec<Process>,
}

impl Guardian {
    /// # Errors
    /// Descriptor 0 is no socket; what the system says otherwise.
    pub fn new() -> io::Result<Self> {
        // SAFETY: descriptor 0 is ours by the contract with the addon; the call below refuses anything but a socket.
        let owner = unsafe { OwnedFd::from_raw_fd(0) };
        sys::become_guardian(&owner)?;
        Ok(Self { owner: Some(owner), keepers: HashSet::new(), sweep: Sweep::default(), stuck: Vec::new(), spared_sessions: Vec::new() })
    }

    pub fn run(mut self) -> ExitCode {
        if self.greet().is_err() {
            // The owner has read our greeting, and knows why.
            return ExitCode::from(3);
        }
        while self.owner.is_some() || !self.keepers.is_empty() || !self.sweep.keepers.is_empty() {
            // After a scan that failed, or a process that refuses, no signal tells of the end.
            let pause = (!self.sweep.keepers.is_empty() || !self.stuck.is_empty()).then_some(SCAN_INTERVAL);
            let readable = sys::wait_for([self.owner.as_ref().map(AsRawFd::as_raw_fd)], pause);
            self.reap();
            if readable[0] && self.take_order().is_err() {
                // The owner is gone, or can't be understood, which is as bad.
                self.owner = None;
            }
        }
        ExitCode::SUCCESS
    }

    /// # Errors
    /// The owner is of another build, or gone.
    fn greet(&self) -> io::Result<()> {
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
            // There is no stream on which the end of this order could be told.
            return Err(io::ErrorKind::InvalidData.into());
        }
        sys::send(owner, &GuardianReport::Accepted.encode())?;
        match sys::fork() {
            Ok(0) => {
                self.owner = None;
                keeper::run(payload, descriptors)
            }
            Ok(keeper) => {
                self.keepers.insert(keeper);
            }
            Err(error) => {
                let report = KeeperReport::SpawnFailed { stage: Stage::Fork, errno: error.raw_os_error().unwrap_or(libc::EAGAIN) };
                keeper::report_instead(&payload, descriptors, report);
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        let mut spared = self.reap_keepers();
        self.forget_ended_sessions();
        if spared && self.sweep.keepers.is_empty() {
            let left = self.strays().seen;
            // If a keeper was killed a moment ago, its strays are among these.
            spared = self.reap_keepers() || spared;
            if spared && self.sweep.keepers.is_empty() {
                self.spared_sessions.extend(left.iter().map(|stray| stray.session));
            }
        }
        // While a sweep goes on, the keeper of a stray can't be told; then none is spared.
        if !self.sweep.keepers.is_empty() {
            self.sweep();
        }
        self.check_stuck();
    }

    /// Reaps whatever has ended. Returns whether a keeper among them has left something alive on purpose.
    fn reap_keepers(&mut self) -> bool {
        let mut spared = false;
        while let Reaped::Child { pid, status } = sys::reap() {
            if !self.keepers.remove(&pid) {
                continue;
            }
            match KeeperExit::of(status) {
                Some(KeeperExit::NothingLeft) => {}
                Some(KeeperExit::SomeSpared) => spared = true,
                None => {
                    if !self.sweep.left.is_empty() {
                        self.stuck.push(std::mem::take(&mut self.sweep));
                    }
                    self.sweep.keepers.push(pid);
                }
            }
        }
        spared
    }

    /// Ends what killed keepers left. The leader died with its keeper (PR_SET_PDEATHSIG); the rest of the tree came here.
    fn sweep(&mut self) {
        let strays = self.strays();
        let none = strays.is_certainly_empty();
        let mut refused = strays.failed.is_none();
        self.sweep.left = strays.seen;
        for stray in &self.sweep.left {
            for process in os::descendants(stray.pid).seen.iter().chain([stray]) {
                // A process that can't be killed is reported by the owner, whose time limit runs out.
                refused &= os::signal(process, libc::SIGKILL).is_err();
            }
        }
        if none {
            let sweep = std::mem::take(&mut self.sweep);
            self.report_swept(&sweep);
        } else if refused && !self.sweep.left.is_empty() {
            self.stuck.push(std::mem::take(&mut self.sweep));
        }
    }

    fn check_stuck(&mut self) {
        for sweep in std::mem::take(&mut self.stuck) {
            if sweep.left.iter().any(|stray| stray.lives().unwrap_or(true)) {
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

    /// Children that are neither keepers nor of a spared session, nor known to refuse SIGKILL.
    fn strays(&self) -> ProcessScan {
        let mut children = self.children();
        let refuses = |child: &Process| self.stuck.iter().flat_map(|sweep| &sweep.left).any(|stray| stray.pid == child.pid);
        children.seen.retain(|child| !self.spared_sessions.contains(&child.session) && !refuses(child));
        children
    }

    /// Before the next order: the system may give the number of an ended session to another one.
    fn forget_ended_sessions(&mut self) {
        if self.spared_sessions.is_empty() {
            return;
        }
        let children = self.children();
        self.spared_sessions.retain(|session| children.failed.is_some() || children.seen.iter().any(|child| child.session == *session));
    }

    /// Children that are no keepers.
    fn children(&self) -> ProcessScan {
        let mut children = os::own_children(&self.keepers);
        children.seen.retain(|child| !child.zombie);
        children
    }
}
