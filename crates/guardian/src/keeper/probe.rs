//! Probes that run a command beside the daemon (probe `exec`).
//!
//! If the command were a child of the keeper, a process that it forks twice would become a child of the keeper as well, and so a
//! part of the daemon's tree. So each command has a *probe keeper*: a child of the keeper, and a subreaper. The owner gives it the
//! command and reads its reports on a stream of their own. The end of this stream ends the command, also after the owner's death.
//!
//! If the keeper is killed, the probe keeper and the command die with it (PR_SET_PDEATHSIG), and the guardian sweeps the rest.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::wire::{KeeperCommand, KeeperReport, Order, Stage};

use super::stop::StopProgress;
use super::{Keeper, PosixSession, fork_leader};
use crate::child::{FAILURE_SIZE, LeaderFiles, decode_failure, set_parent_death_signal};
use crate::sys::{self, Reaped};
use crate::tree::{SCAN_INTERVAL, SCAN_INTERVAL_MAX, Tree};

/// The time in which a probe must end before the keeper goes on. It gets SIGKILL, so only an uninterruptible one takes longer.
pub const PROBE_END_MAX: Duration = Duration::from_millis(100);

impl Keeper {
    /// If the command can't be run now, the drop of the stream says so.
    pub(super) fn start_probe(&mut self) {
        if self.descriptors.len() < KeeperCommand::PROBE_DESCRIPTORS {
            return;
        }
        let (Some(stream), Some(output)) = (self.descriptors.pop_front(), self.descriptors.pop_front()) else { return };
        // The owner waits for the end of a command before it gives the next one, except if it has lost interest in the first.
        self.end_probe(PROBE_END_MAX);
        let is_late = self.tree.leader.is_none() || self.stop != StopProgress::NotBegun || sys::is_closed(&stream);
        if is_late || self.tree.probe.is_some() {
            return;
        }
        let keeper = os::own_pid();
        match sys::fork() {
            Ok(0) => run(stream, output, keeper),
            Ok(probe) => self.tree.probe = Some(probe),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
                sys::ignore(sys::send(&stream, &KeeperReport::SpawnFailed { stage: Stage::Fork, errno }.encode()));
            }
        }
    }

    /// Tells the probe to end. It may be suspended.
    pub(super) fn ask_probe_to_end(&self) {
        if let Some(probe) = self.tree.probe {
            sys::ignore(sys::kill_relative(probe, libc::SIGTERM));
            sys::ignore(sys::kill_relative(probe, libc::SIGCONT));
        }
    }

    /// Ends the probe, and waits for its end.
    pub(super) fn end_probe(&mut self, limit: Duration) {
        if self.tree.probe.is_none() {
            return;
        }
        self.ask_probe_to_end();
        let deadline = Instant::now() + limit;
        while let Some(probe) = self.tree.probe {
            let left = deadline.saturating_duration_since(Instant::now());
            if !matches!(sys::reap_any_of(probe), Reaped::NoneEnded) {
                self.tree.probe = None;
            } else if left.is_zero() {
                break;
            } else {
                sys::wait_for([], Some(left));
            }
        }
        // The wait may have consumed the SIGCHLD of another child.
        self.reaps_again = true;
    }

    /// As the last act of the keeper: a probe keeper that can't end, because the command is uninterruptible, must not hold the
    /// keeper up. All its processes have got SIGKILL.
    pub(super) fn end_probe_for_good(&mut self) {
        const LIMIT: Duration = Duration::from_secs(1);
        self.end_probe(LIMIT);
        if let Some(probe) = self.tree.probe {
            sys::ignore(sys::kill_relative(probe, libc::SIGKILL));
        }
    }
}

/// The probe keeper. Never returns to the keeper's loop.
fn run(stream: OwnedFd, output: OwnedFd, keeper: i32) -> ! {
    // A copy of the lock would keep the name, and a copy of the owner's stream would hide the end of the keeper.
    sys::close_all_but(vec![1, 2, stream.as_raw_fd(), output.as_raw_fd()]);
    sys::set_process_name(c"ally-probe");
    sys::clear_stop_request();
    if set_parent_death_signal(keeper).is_ok() {
        keep(stream, output);
    }
    // SAFETY: _exit(2) runs no exit handlers, which belong to the guardian.
    unsafe { libc::_exit(0) }
}

/// Returns when the command and everything that it started are gone.
fn keep(stream: OwnedFd, output: OwnedFd) {
    // The owner is gone, or has given the command up.
    let Ok((payload, _)) = sys::receive_order(&stream) else { return };
    let Some(order) = Order::decode(payload.bytes()) else { return };
    // The keeper's POSIX session, so that a sweep by POSIX session finds the command too. Without subreapers, scans find the
    // command's own tree only by a POSIX session of its own.
    let session = if os::HAS_SUBREAPER { PosixSession::Inherited } else { PosixSession::New };
    let forked = fork_leader(&order, &LeaderFiles { outputs: [&output, &output], listener: None }, session);
    drop((payload, output));
    match forked {
        Ok((exec_result, tree)) => Command { stream, is_given_up: false, exec_result: Some(exec_result), tree, killing: None }.keep(),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
            sys::ignore(sys::send(&stream, &KeeperReport::SpawnFailed { stage: Stage::Fork, errno }.encode()));
        }
    }
}

struct Command {
    /// Open until the end of the probe keeper: the owner then knows that nothing of the command is left.
    stream: OwnedFd,
    /// The stream has ended, or the keeper ends the command. No report may follow: it would say something about the daemon.
    is_given_up: bool,
    /// As [`Keeper::exec_result`].
    exec_result: Option<OwnedFd>,
    tree: Tree,
    /// The pause before the next SIGKILL.
    killing: Option<Duration>,
}

impl Command {
    fn keep(mut self) {
        loop {
            let fds = [Some(&self.stream).filter(|_| !self.is_given_up), self.exec_result.as_ref()];
            let [stream_ended, exec_done] = sys::wait_for(fds.map(|fd| fd.map(AsRawFd::as_raw_fd)), self.killing);
            if exec_done {
                self.on_exec_result();
            }
            // The owner sends nothing after the order.
            self.is_given_up |= stream_ended || sys::stop_requested();
            if self.reap() {
                return;
            }
            // What the command has started and left behind ends with it.
            if self.is_given_up || self.tree.leader.is_none() {
                self.killing = Some(self.killing.map_or(SCAN_INTERVAL, |pause| (pause * 2).min(SCAN_INTERVAL_MAX)));
                self.tree.kill();
            }
        }
    }

    fn on_exec_result(&mut self) {
        let (Some(exec_result), Some(leader)) = (self.exec_result.take(), self.tree.leader) else { return };
        let mut failure = [0; FAILURE_SIZE];
        if File::from(exec_result).read_exact(&mut failure).is_err() {
            return self.report(KeeperReport::Spawned {
                leader,
                leader_start: 0,
                keeper: os::own_pid(),
                keeper_start: 0,
                group: self.tree.first_group,
            });
        }
        let (stage, errno) = decode_failure(failure);
        self.report(KeeperReport::SpawnFailed { stage, errno });
        // The exit of the child is no exit of the command.
        self.is_given_up = true;
    }

    /// Reaps all ended children. Returns whether none is left.
    fn reap(&mut self) -> bool {
        let mut exited = None;
        let childless = loop {
            match sys::reap_after(|pid| self.tree.on_ended(pid)) {
                Reaped::Child { pid, status, usage } if Some(pid) == self.tree.leader => exited = Some((status, usage)),
                Reaped::Child { .. } => {}
                Reaped::NoneEnded => break false,
                Reaped::NoChildren => break true,
            }
        };
        if let Some((status, usage)) = exited {
            self.on_exec_result();
            self.tree.leader = None;
            self.report(KeeperReport::Exited { status, remains: !childless, usage, tree_cpu_us: sys::reaped_cpu_us() });
        }
        self.tree.leader.is_none() && self.tree.is_gone(childless)
    }

    fn report(&self, report: KeeperReport) {
        if !self.is_given_up {
            // EPIPE: the owner has given the command up, and the next read finds it out.
            sys::ignore(sys::send(&self.stream, &report.encode()));
        }
    }
}
