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
#[path = "../os/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the addon uses more of it than the guardian")]
mod os;
#[expect(dead_code, reason = "the other end of each record is the addon's")]
mod protocol;
mod survivors;
mod sys;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use keeper::Farewell;
use protocol::{Report, Stage};
use sys::Reaped;

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
    keepers: Vec<i32>,
    /// Keepers that were killed, whose leavings are being killed.
    sweeping: Vec<i32>,
    /// Sessions of what a keeper left alive on purpose (`killMode: 'group'`). Their children are theirs.
    released: Vec<i32>,
}

impl Guardian {
    fn new() -> io::Result<Self> {
        // SAFETY: descriptor 0 is ours by the contract with the addon; the call below refuses anything but a socket.
        let owner = unsafe { OwnedFd::from_raw_fd(0) };
        sys::become_guardian(&owner)?;
        Ok(Self { owner: Some(owner), keepers: Vec::new(), sweeping: Vec::new(), released: Vec::new() })
    }

    fn run(mut self) -> ExitCode {
        while self.owner.is_some() || !self.keepers.is_empty() || !self.sweeping.is_empty() {
            let readable = sys::wait_for([self.owner.as_ref().map(AsRawFd::as_raw_fd)], None);
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
            Ok(keeper) => self.keepers.push(keeper),
            Err(error) => {
                let report = Report::SpawnFailed { stage: Stage::Fork, errno: error.raw_os_error().unwrap_or(libc::EAGAIN) };
                // A daemon that is given up meanwhile is no reason to give up the owner.
                sys::note(sys::send_report(stream, report));
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        let mut released = false;
        while let Reaped::Child { pid, status } = sys::reap() {
            let Some(index) = self.keepers.iter().position(|keeper| *keeper == pid) else { continue };
            self.keepers.swap_remove(index);
            match Farewell::of(status) {
                Some(Farewell::NothingLeft) => {}
                Some(Farewell::SomeReleased) => released = true,
                None => self.sweeping.push(pid),
            }
        }
        if !self.released.is_empty() {
            self.forget_ended();
        }
        // While something is swept, whose a stray is can't be told; then none is spared.
        if !self.sweeping.is_empty() {
            self.sweep();
        } else if released {
            let left = self.strays();
            self.released.extend(left.iter().map(|stray| stray.session));
        }
    }

    /// Ends what keepers that were killed have left. The leader died with its keeper
    /// (PR_SET_PDEATHSIG); the rest of the tree came here.
    fn sweep(&mut self) {
        let mut left = false;
        for stray in self.strays() {
            left = true;
            for process in os::descendants(stray.pid).iter().chain([&stray]) {
                // What can't be killed is not ours to report: the owner's patience ends by itself.
                sys::note(os::signal(process, libc::SIGKILL));
            }
        }
        if !left {
            for keeper in std::mem::take(&mut self.sweeping) {
                if let Some(owner) = &self.owner {
                    sys::note(sys::send_report(owner, Report::Swept { keeper }));
                }
            }
        }
    }

    /// Children that are neither keepers nor of a released session.
    fn strays(&self) -> Vec<os::Process> {
        let mut children = self.left();
        children.retain(|child| !self.released.contains(&child.session));
        children
    }

    /// A released session that has ended is forgotten, before the next order: the system may give its number to anyone.
    fn forget_ended(&mut self) {
        let left = self.left();
        self.released.retain(|session| left.iter().any(|child| child.session == *session));
    }

    /// Children that are no keepers.
    fn left(&self) -> Vec<os::Process> {
        let own = sys::own_pid();
        let mut children = os::children(own, own, &self.keepers);
        children.retain(|child| !child.zombie);
        children
    }
}
