//! Signals reach the identified process or group and no other.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use ally_base::os::{self, Process, own_pid};

use crate::shell::Shell;
use crate::until::until;

#[test]
fn group_signal_reaches_every_member_and_no_later_group_of_that_number() {
    let mut shell = Shell::from(Command::new("/bin/sh").args(["-c", "sleep 60 & sleep 60 & echo; read end"]).process_group(0));
    shell.line();
    let group = os::Group::of(shell.pid()).unwrap();
    match group.signal(0) {
        // Group signals by pidfd need Linux 6.9.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
        result => result.unwrap(),
    }
    let members: Vec<Process> = os::descendants(shell.pid()).whole().unwrap();
    assert_eq!(members.len(), 2);
    group.signal(libc::SIGKILL).unwrap();
    until("the members are gone", || members.iter().all(|member| !member.lives().unwrap()));
    drop(shell);
    group.signal(libc::SIGKILL).unwrap();
}

#[test]
fn signal_to_a_pid_with_another_start_time_is_not_sent() {
    let mut shell = Shell::start("trap 'echo got SIGTERM' TERM; echo; read end; echo ended");
    shell.line();
    let process = shell.look_up();
    for other in [Process { start: process.start + 1, ..process }, Process { start: process.start - 1, ..process }] {
        os::signal(&other, libc::SIGTERM).unwrap();
        os::signal(&other, libc::SIGKILL).unwrap();
        assert!(os::open(&other).unwrap().is_none());
    }
    assert_eq!(os::start_time(process.pid), Some(process.start));
    drop(shell.child.stdin.take());
    assert_eq!(shell.line(), "ended", "the shell got no signal");
}

#[test]
fn signal_by_handle_arrives_and_is_ignored_after_the_end() {
    let mut shell = Shell::start("trap 'echo got SIGTERM; exit' TERM; echo; for again in $(seq 6000); do sleep 0.01; done");
    shell.line();
    let handle = os::open(&shell.look_up()).unwrap().unwrap();
    handle.signal(libc::SIGTERM).unwrap();
    assert_eq!(shell.line(), "got SIGTERM");
    shell.child.wait().unwrap();
    handle.signal(libc::SIGKILL).unwrap();
    os::signal(&Process { pid: shell.pid(), parent: own_pid(), group: 1, session: 1, start: 1, zombie: false }, libc::SIGKILL).unwrap();
}

#[test]
fn pidfd_of_a_handle_is_readable_when_the_process_has_ended() {
    let shell = Shell::start("read end");
    let handle = os::open(&shell.look_up()).unwrap().unwrap();
    let ended = |timeout| {
        let mut poll = libc::pollfd { fd: handle.fd.as_ref().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive for the call.
        unsafe { libc::poll(&raw mut poll, 1, timeout) == 1 }
    };
    assert!(!ended(0));
    handle.signal(libc::SIGKILL).unwrap();
    assert!(ended(20_000));
}
