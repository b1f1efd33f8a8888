//! A tree without a subreaper that is being stopped: each process is held by a handle, so that no other one can be meant.

use std::io;
use std::time::Duration;

use ally_base::os::{self, Handle, Process};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::KillMode;
use crate::model::Pid;
use crate::supervisor::TARGET;

/// If the system gives no handle that tells of an exit.
const SCAN_INTERVAL: Duration = Duration::from_millis(5);

/// How often a tree is searched for new processes while it is being killed.
const SCANS_MAX: u32 = 16;

#[derive(Default)]
pub struct DyingTree(Vec<Member>);

struct Member {
    process: Process,
    handle: Handle,
    /// Whether it got the stop signal.
    asked: bool,
}

impl DyingTree {
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds these, and what descends from them or from a member. With `killMode: 'group'` only those of the same group.
    ///
    /// # Errors
    /// A scan that failed.
    pub fn add(&mut self, roots: Vec<Process>, kill_mode: KillMode) -> io::Result<()> {
        let mut found = roots;
        let parents: Vec<Process> = found.iter().chain(self.0.iter().map(|member| &member.process)).copied().collect();
        for parent in parents {
            let below = os::descendants(parent.pid);
            // If the pid was given to another process meanwhile, these are that one's children.
            if parent.lives()? {
                found.extend(below.whole()?.into_iter().filter(|process| kill_mode == KillMode::Tree || process.group == parent.group));
            }
        }
        for process in found {
            if self.0.iter().any(|known| known.process.is(&process)) {
                continue;
            }
            if let Some(handle) = os::open(&process)? {
                self.0.push(Member { process, handle, asked: false });
            }
        }
        Ok(())
    }

    /// The stop signal, once to each member.
    pub fn terminate(&mut self, stop_signal: i32) {
        for member in self.0.iter_mut().filter(|member| !member.asked) {
            member.signal(stop_signal);
            member.signal(libc::SIGCONT);
            member.asked = true;
        }
    }

    /// # Errors
    /// A scan that failed; the members known before it are killed all the same.
    pub fn kill(&mut self, kill_mode: KillMode) -> io::Result<()> {
        // A stopped process forks no more.
        let mut stopped = 0;
        let mut added = Ok(());
        for _ in 0..SCANS_MAX {
            let Some(new) = self.0.get(stopped..).filter(|new| !new.is_empty() && added.is_ok()) else { break };
            new.iter().for_each(|member| member.signal(libc::SIGSTOP));
            stopped = self.0.len();
            added = self.add(Vec::new(), kill_mode);
        }
        self.0.iter().for_each(|member| member.signal(libc::SIGKILL));
        added
    }

    /// Until no member lives (true) or `deadline`. Keeps only the members that live.
    pub async fn wait(&mut self, deadline: Instant) -> bool {
        while let Some(member) = self.0.last() {
            let lives = member.process.lives();
            if matches!(lives, Ok(false)) {
                self.0.pop();
            } else if Instant::now() >= deadline {
                return false;
            } else if lives.is_ok() {
                member.ended(deadline).await;
            } else {
                sleep(SCAN_INTERVAL).await;
            }
        }
        true
    }

    /// A process that can't be looked at counts as one that lives.
    pub fn survivors(&self) -> Vec<Pid> {
        self.0.iter().map(|member| member.process).filter(|process| process.lives().unwrap_or(true)).map(|process| process.pid).collect()
    }
}

impl Member {
    fn signal(&self, signal: i32) {
        // If it refuses, it is named as a survivor at the end.
        if let Err(error) = self.handle.signal(signal) {
            tracing::debug!(target: TARGET, pid = self.process.pid, %error, "an orphan can't be signalled");
        }
    }

    /// Until it has ended, or until it is time to look.
    async fn ended(&self, deadline: Instant) {
        let copy = self.handle.fd.as_ref().and_then(|fd| fd.try_clone().ok());
        // SAFETY: an OwnedFd keeps its descriptor open and unchanged for as long as it lives.
        let watched = copy.and_then(|fd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok());
        if let Some(watched) = watched {
            // Elapsed or ended: the caller looks for itself.
            drop(timeout_at(deadline, watched.readable()).await);
        } else {
            sleep(SCAN_INTERVAL).await;
        }
    }
}
