//! Shared by the guardian tests: a guardian, its daemons, their scripts, and waits for their processes.

mod daemon;
mod guardian;
mod order;
pub mod procfs;
mod streams;

use std::fs;

use ally_base::os::{self, Process};

pub use crate::until::until;
pub use daemon::{Daemon, Name};
pub use guardian::{Guardian, hello};
pub use order::TestOrder;
pub use streams::read_all;

/// A leader, a child, and a detached descendant: forked twice, in a POSIX session of its own.
pub const TREE: &str = r"
    (setsid sh -c 'echo detached $$; exec sleep 60' &)
    sh -c 'echo child $$; exec sleep 60' &
    echo leader $$
    exec sleep 60
";

/// The same tree, which ignores SIGTERM. The leader prints `got SIGTERM`, and writes the file `got-sigterm`.
pub const IGNORES_SIGTERM: &str = r"
    trap '' TERM
    (setsid sh -c 'echo detached $$; exec sleep 60' &)
    sh -c 'echo child $$; exec sleep 60' &
    trap 'echo got SIGTERM; : >got-sigterm' TERM
    echo leader $$
    for again in 1 2 3 4 5 6 7 8 9; do wait; done
";

pub fn lives(process: &Process) -> bool {
    os::start_time(process.pid) == Some(process.start)
}

#[track_caller]
pub fn await_gone(processes: &[Process]) {
    until("the processes are gone", || !processes.iter().any(lives));
}

pub fn signal(process: &Process, signal: i32) {
    os::signal(process, signal).unwrap();
}

/// The state of a process, as ps(1) shows it.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}
