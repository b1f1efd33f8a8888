//! `ally-guardian`: the daemons' parent, one per manager, started by the addon at the first start.
//!
//! ```text
//!   owner (Node) ──── stream ──── guardian ── fork ──▶ keeper ── fork, exec ──▶ leader ──▶ …
//!        └───────────────── stream per daemon ───────────┘
//! ```
//!
//! It forks from a megabyte instead of from Node's heap, and it is a subreaper: nothing that it made
//! can get past it. For each daemon it forks a **keeper**, which is the subreaper of that one tree,
//! reaps and reports, and holds the plugin's lock, so that a free lock means a gone tree. A keeper
//! talks to the owner itself: if the guardian is killed the daemons don't notice, and if the owner is
//! gone, however that came, the keeper reads end of file and stops its tree.
//!
//! Its signals stay blocked from before its first instruction (the addon spawns it from a thread that
//! blocks them all), so nothing that is sent to the owner's group or terminal touches it. One thread,
//! no environment, nothing of a plugin in its arguments. It ends when the owner's stream has ended
//! and no keeper is left.

mod child;
mod keeper;
mod survivors;
mod sys;
mod tree;

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use ally_base::os::{self, Look, Process};
use ally_base::wire::{Report, Stage};
use keeper::Farewell;
use sys::Reaped;

/// While something of a killed keeper's is left.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match Guardian::new() {
        Ok(guardian) => guardian.run(),
        Err(error) => {
            eprintln!("ally-guardian is started by @ally/background-process-manager and is of no use by itself: {error}");
            ExitCode::from(2)
        }
    }
}

struct Guardian {
    /// `None` once the owner is gone.
    owner: Option<OwnedFd>,
    keepers: HashSet<i32>,
    /// What goes on for keepers that were killed.
    sweep: Sweep,
    /// Earlier sweeps that something refuses to end. What refuses is of these, and of no later one.
    stuck: Vec<Sweep>,
    /// Sessions of what a keeper left alive on purpose (`killMode: 'group'`). Their children are theirs.
    released: Vec<i32>,
}

/// Keepers that were killed, and what the last look found of all that they have left.
#[derive(Default)]
struct Sweep {
    keepers: Vec<i32>,
    left: Vec<Process>,
}

impl Guardian {
    fn new() -> io::Result<Self> {
        // SAFETY: descriptor 0 is ours by the contract with the addon; the call below refuses anything but a socket.
        let owner = unsafe { OwnedFd::from_raw_fd(0) };
        sys::become_guardian(&owner)?;
        Ok(Self { owner: Some(owner), keepers: HashSet::new(), sweep: Sweep::default(), stuck: Vec::new(), released: Vec::new() })
    }

    fn run(mut self) -> ExitCode {
        while self.owner.is_some() || !self.keepers.is_empty() || !self.sweep.keepers.is_empty() {
            // A look that failed, or a process that refuses, is followed by no signal.
            let pause = (!self.sweep.keepers.is_empty() || !self.stuck.is_empty()).then_some(LOOK_AGAIN);
            let readable = sys::wait_for([self.owner.as_ref().map(AsRawFd::as_raw_fd)], pause);
            self.reap();
            if readable[0] && self.take_order().is_err() {
                // Gone, or no longer to be understood, which is as bad.
                self.owner = None;
            }
        }
        ExitCode::SUCCESS
    }

    fn take_order(&mut self) -> io::Result<()> {
        let Some(owner) = &self.owner else { return Ok(()) };
        let (payload, descriptors) = sys::receive_order(owner)?;
        let Some(stream) = descriptors.first() else { return Err(io::ErrorKind::InvalidData.into()) };
        sys::send_report(owner, Report::Taken)?;
        match sys::fork() {
            Ok(0) => {
                self.owner = None;
                keeper::run(payload, descriptors)
            }
            Ok(keeper) => {
                self.keepers.insert(keeper);
            }
            Err(error) => {
                let report = Report::SpawnFailed { stage: Stage::Fork, errno: error.raw_os_error().unwrap_or(libc::EAGAIN) };
                // A daemon that is given up meanwhile is no reason to give up the owner.
                sys::note(sys::send_report(stream, report));
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        let mut released = self.bury();
        self.forget_ended();
        if released && self.sweep.keepers.is_empty() {
            let left = self.strays().seen;
            // One that was killed a moment ago has strays among these.
            released = self.bury() || released;
            if released && self.sweep.keepers.is_empty() {
                self.released.extend(left.iter().map(|stray| stray.session));
            }
        }
        // While something is swept, whose a stray is can't be told; then none is spared.
        if !self.sweep.keepers.is_empty() {
            self.sweep();
        }
        self.look_after_stuck();
    }

    /// Reaps whoever has ended. Whether a keeper among them has left something alive on purpose.
    fn bury(&mut self) -> bool {
        let mut released = false;
        while let Reaped::Child { pid, status } = sys::reap() {
            if !self.keepers.remove(&pid) {
                continue;
            }
            match Farewell::of(status) {
                Some(Farewell::NothingLeft) => {}
                Some(Farewell::SomeReleased) => released = true,
                None => {
                    if !self.sweep.left.is_empty() {
                        self.stuck.push(std::mem::take(&mut self.sweep));
                    }
                    self.sweep.keepers.push(pid);
                }
            }
        }
        released
    }

    /// Ends what keepers that were killed have left. The leader died with its keeper
    /// (PR_SET_PDEATHSIG); the rest of the tree came here.
    fn sweep(&mut self) {
        let strays = self.strays();
        let nobody = strays.found_nobody();
        let mut refused = strays.failed.is_none();
        self.sweep.left = strays.seen;
        for stray in &self.sweep.left {
            for process in os::descendants(stray.pid).seen.iter().chain([stray]) {
                // What can't be killed is not ours to report: the owner's patience ends by itself.
                refused &= os::signal(process, libc::SIGKILL).is_err();
            }
        }
        if nobody {
            let sweep = std::mem::take(&mut self.sweep);
            self.tell_swept(&sweep);
        } else if refused && !self.sweep.left.is_empty() {
            self.stuck.push(std::mem::take(&mut self.sweep));
        }
    }

    fn look_after_stuck(&mut self) {
        for sweep in std::mem::take(&mut self.stuck) {
            if sweep.left.iter().any(|stray| stray.lives().unwrap_or(true)) {
                self.stuck.push(sweep);
            } else {
                self.tell_swept(&sweep);
            }
        }
    }

    fn tell_swept(&self, sweep: &Sweep) {
        for keeper in &sweep.keepers {
            if let Some(owner) = &self.owner {
                sys::note(sys::send_report(owner, Report::Swept { keeper: *keeper }));
            }
        }
    }

    /// Children that are neither keepers nor of a released session, nor known to refuse.
    fn strays(&self) -> Look {
        let mut children = self.left();
        let refuses = |child: &Process| self.stuck.iter().flat_map(|sweep| &sweep.left).any(|stray| stray.pid == child.pid);
        children.seen.retain(|child| !self.released.contains(&child.session) && !refuses(child));
        children
    }

    /// A released session that has ended is forgotten, before the next order: the system may give its number to anyone.
    fn forget_ended(&mut self) {
        if self.released.is_empty() {
            return;
        }
        let left = self.left();
        self.released.retain(|session| left.failed.is_some() || left.seen.iter().any(|child| child.session == *session));
    }

    /// Children that are no keepers.
    fn left(&self) -> Look {
        let mut children = os::own_children(&self.keepers);
        children.seen.retain(|child| !child.zombie);
        children
    }
}
