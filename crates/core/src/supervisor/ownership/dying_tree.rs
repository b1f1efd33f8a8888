//! The stop of a tree without a subreaper. Each process is held by a handle (pidfd), so that a signal can't reach a process
//! with a reused pid.

use std::io;
use std::mem;
use std::time::Duration;

use ally_base::os::{self, Handle, Process};
use ally_base::stop::StopStep;
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
pub struct DyingTree {
    members: Vec<Member>,
    /// Whether the first stop signal was sent.
    signalled: bool,
}

struct Member {
    process: Process,
    handle: Handle,
    /// Whether the stop signal was sent to the process.
    signalled: bool,
    /// Whether the process was in the tree at the first stop signal.
    present: bool,
}

impl DyingTree {
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Adds `roots`, and the descendants of roots and members. With `killMode: 'group'`: only descendants in the process
    /// group of a root or member.
    ///
    /// # Errors
    /// A scan that failed.
    pub fn add(&mut self, roots: Vec<Process>, kill_mode: KillMode) -> io::Result<()> {
        let mut found = roots;
        let parents: Vec<Process> = found.iter().chain(self.members.iter().map(|member| &member.process)).copied().collect();
        let groups: Vec<i32> = parents.iter().map(|process| process.group).collect();
        for parent in parents {
            let below = os::descendants(parent.pid);
            // If the parent is gone, its pid may be reused, and these are descendants of another process.
            if parent.lives()? {
                found.extend(below.whole()?.into_iter().filter(|process| kill_mode == KillMode::Tree || groups.contains(&process.group)));
            }
        }
        for process in found {
            if self.members.iter().any(|known| known.process.is(&process)) {
                continue;
            }
            if let Some(handle) = os::open(&process)? {
                self.members.push(Member { process, handle, signalled: false, present: false });
            }
        }
        Ok(())
    }

    /// Sends the stop signal, once to each member that `step` means. SIGCONT follows, and goes to the whole tree with the first
    /// signal: the leader may wait for a suspended worker.
    pub fn send_stop_signal(&mut self, step: StopStep, leader: Option<&Process>, stop_signal: i32) {
        let is_first = !mem::replace(&mut self.signalled, true);
        for member in &mut self.members {
            member.present |= is_first;
            let is_meant = match step {
                StopStep::Leader => leader.is_some_and(|leader| member.process.is(leader)),
                StopStep::Remaining => member.present,
                StopStep::Tree => true,
            };
            let signals = is_meant && !member.signalled;
            if signals {
                member.signal(stop_signal);
                member.signalled = true;
            }
            if signals || is_first {
                member.signal(libc::SIGCONT);
            }
        }
    }

    /// # Errors
    /// A scan that failed. The members that were known before are killed in any case.
    pub fn kill(&mut self, kill_mode: KillMode) -> io::Result<()> {
        // A stopped process can't fork, so after SIGSTOP each scan finds fewer new processes.
        let mut stopped = 0;
        let mut added = Ok(());
        for _ in 0..SCANS_MAX {
            let Some(new) = self.members.get(stopped..).filter(|new| !new.is_empty() && added.is_ok()) else { break };
            new.iter().for_each(|member| member.signal(libc::SIGSTOP));
            stopped = self.members.len();
            added = self.add(Vec::new(), kill_mode);
        }
        self.members.iter().for_each(|member| member.signal(libc::SIGKILL));
        added
    }

    /// Waits until no member lives. False at the `deadline`. Removes dead members.
    pub async fn wait(&mut self, deadline: Instant) -> bool {
        while let Some(member) = self.members.last() {
            if !member.is_gone(deadline).await {
                return false;
            }
            self.members.pop();
        }
        true
    }

    /// Waits until this member does not live. False at the `deadline`. Removes the dead member.
    pub async fn wait_for(&mut self, process: &Process, deadline: Instant) -> bool {
        let Some(member) = self.members.iter().find(|member| member.process.is(process)) else { return true };
        let gone = member.is_gone(deadline).await;
        if gone {
            self.members.retain(|member| !member.process.is(process));
        }
        gone
    }

    /// The pids of the live members. If the state of a process can't be read, it counts as live.
    pub fn survivors(&self) -> Vec<Pid> {
        self.members
            .iter()
            .map(|member| member.process)
            .filter(|process| process.lives().unwrap_or(true))
            .map(|process| process.pid)
            .collect()
    }
}

impl Member {
    fn signal(&self, signal: i32) {
        // If the signal fails, the process is reported as a survivor.
        if let Err(error) = self.handle.signal(signal) {
            tracing::debug!(target: TARGET, pid = self.process.pid, %error, "an orphan can't be signalled");
        }
    }

    /// Waits until the process does not live. False at the `deadline`.
    async fn is_gone(&self, deadline: Instant) -> bool {
        loop {
            let lives = self.process.lives();
            if matches!(lives, Ok(false)) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            if lives.is_ok() {
                self.wait_exit(deadline).await;
            } else {
                sleep(POLL_INTERVAL).await;
            }
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
