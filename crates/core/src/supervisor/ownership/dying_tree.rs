//! The stop of a tree without a subreaper. Each process is held by a handle (pidfd), so that a signal can't reach a process
//! with a reused pid.

use std::io;
use std::time::Duration;

use ally_base::os::{self, Handle, Process};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::KillMode;
use crate::model::Pid;
use crate::supervisor::TARGET;
use crate::supervisor::runtime::exit;

/// The interval of polls, if the handle has no event for the exit.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The largest number of scans for new processes during a kill.
const SCANS_MAX: u32 = 16;

#[derive(Default)]
pub struct DyingTree(Vec<Member>);

struct Member {
    process: Process,
    handle: Handle,
    /// Whether the stop signal was sent to the process.
    signalled: bool,
}

impl DyingTree {
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `roots`, and the descendants of roots and members. With `killMode: 'group'`: only descendants in the process
    /// group of a root or member.
    ///
    /// # Errors
    /// A scan that failed.
    pub fn add(&mut self, roots: Vec<Process>, kill_mode: KillMode) -> io::Result<()> {
        let mut found = roots;
        let parents: Vec<Process> = found.iter().chain(self.0.iter().map(|member| &member.process)).copied().collect();
        let groups: Vec<i32> = parents.iter().map(|process| process.group).collect();
        for parent in parents {
            let below = os::descendants(parent.pid);
            // If the parent is gone, its pid may be reused, and these are descendants of another process.
            if parent.lives()? {
                found.extend(below.whole()?.into_iter().filter(|process| kill_mode == KillMode::Tree || groups.contains(&process.group)));
            }
        }
        for process in found {
            if self.0.iter().any(|known| known.process.is(&process)) {
                continue;
            }
            if let Some(handle) = os::open(&process)? {
                self.0.push(Member { process, handle, signalled: false });
            }
        }
        Ok(())
    }

    /// Sends the stop signal, once to each member.
    pub fn terminate(&mut self, stop_signal: i32) {
        for member in self.0.iter_mut().filter(|member| !member.signalled) {
            member.signal(stop_signal);
            member.signal(libc::SIGCONT);
            member.signalled = true;
        }
    }

    /// # Errors
    /// A scan that failed. The members that were known before are killed in any case.
    pub fn kill(&mut self, kill_mode: KillMode) -> io::Result<()> {
        // A stopped process can't fork, so after SIGSTOP each scan finds fewer new processes.
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

    /// Waits until no member lives. False at the `deadline`. Removes dead members.
    pub async fn wait(&mut self, deadline: Instant) -> bool {
        while let Some(member) = self.0.last() {
            let lives = member.process.lives();
            if matches!(lives, Ok(false)) {
                self.0.pop();
            } else if Instant::now() >= deadline {
                return false;
            } else if lives.is_ok() {
                member.wait_exit(deadline).await;
            } else {
                sleep(POLL_INTERVAL).await;
            }
        }
        true
    }

    /// The pids of the live members. If the state of a process can't be read, it counts as live.
    pub fn survivors(&self) -> Vec<Pid> {
        self.0.iter().map(|member| member.process).filter(|process| process.lives().unwrap_or(true)).map(|process| process.pid).collect()
    }
}

impl Member {
    fn signal(&self, signal: i32) {
        // If the signal fails, the process is reported as a survivor.
        if let Err(error) = self.handle.signal(signal) {
            tracing::debug!(target: TARGET, pid = self.process.pid, %error, "an orphan can't be signalled");
        }
    }

    /// Waits until the process has exited, or until `deadline`. Without an event: for one interval.
    async fn wait_exit(&self, deadline: Instant) {
        // After the exit and after the timeout alike, the caller checks the process.
        if let Ok(None) = timeout_at(deadline, exit(&self.handle)).await {
            sleep(POLL_INTERVAL).await;
        }
    }
}
