//! SIGSTOP to a whole tree. An idle stop looks at the daemon's socket while no process of the daemon can take a connection from it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ally_base::os::{self, Process, ProcessScan};

use super::sys;
use super::tree::{Tree, signal_leader};

/// The time that a freeze may take. The daemon serves nobody meanwhile. A process in an uninterruptible sleep may need for ever, and
/// where all processors are busy, each thread waits for its turn before it stops.
const FREEZE_LIMIT: Duration = Duration::from_millis(500);
/// The kernel has no event for the stop of a process that is no child.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

impl Tree {
    /// Returns whether no process of the tree runs.
    ///
    /// A process that stops late may have forked, so the proof is a scan that begins after each process that it finds had stopped.
    pub fn freeze(&mut self) -> bool {
        let (limit, mut pause) = (Instant::now() + FREEZE_LIMIT, FIRST_PAUSE);
        let (mut signalled, mut stopped): (Vec<Process>, Vec<Process>) = (Vec::new(), Vec::new());
        let knows = |list: &[Process], process: &Process| list.iter().any(|known| known.is(process));
        let mut all_can_stop = true;
        loop {
            let members = self.scan(&mut |_| {});
            let is_proof = members.failed.is_none() && members.seen.iter().all(|process| knows(&stopped, process));
            if is_proof {
                return self.stop_hidden_leader(&members) && all_can_stop;
            }
            for process in &members.seen {
                if os::is_stopped(process.pid).unwrap_or(false) {
                    // Somebody else may have stopped it, and is to continue it.
                    stopped.push(*process);
                } else if !knows(&signalled, process) {
                    signalled.push(*process);
                    if !knows(&self.frozen, process) {
                        self.frozen.push(*process);
                    }
                    if os::signal(process, libc::SIGSTOP).is_err() {
                        // EPERM: a process of another user.
                        all_can_stop = false;
                        stopped.push(*process);
                    }
                }
            }
            if Instant::now() >= limit {
                return false;
            }
            sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The scan lacks the leader if it has ended, or if /proc hides it (`hidepid`). A hidden leader can't be seen to stop.
    fn stop_hidden_leader(&self, members: &ProcessScan) -> bool {
        let Some(leader) = self.leader.filter(|leader| members.seen.iter().all(|process| process.pid != *leader)) else { return true };
        if os::identify(leader).is_ok_and(|leader| leader.is_none_or(|leader| leader.zombie || self.group_only)) {
            return true;
        }
        signal_leader(leader, members, libc::SIGSTOP);
        false
    }

    pub fn thaw(&mut self) {
        for process in std::mem::take(&mut self.frozen) {
            // ESRCH: it was killed.
            sys::ignore(os::signal(&process, libc::SIGCONT));
        }
    }
}
