//! `KeeperCommand::Freeze`: no process of the tree runs until Thaw, a stop, or the owner's death.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use ally_base::os::{self, Process};
use ally_base::wire::{KeeperCommand, KeeperReport, OwnerDeath};

use crate::support::{Daemon, Guardian, TREE, TestOrder, await_gone, lives, signal, state, until};

#[track_caller]
fn freeze(daemon: &mut Daemon) -> bool {
    daemon.command(KeeperCommand::Freeze);
    match daemon.any_report() {
        Some(KeeperReport::Frozen { complete }) => complete,
        other => panic!("not frozen: {other:?}"),
    }
}

fn are_stopped(tree: &[Process]) -> bool {
    tree.iter().all(|process| os::is_stopped(process.pid).unwrap())
}

#[track_caller]
fn await_running(tree: &[Process]) {
    until("the tree runs", || tree.iter().all(|process| !os::is_stopped(process.pid).unwrap()));
}

#[test]
fn freeze_stops_the_whole_tree_and_thaw_continues_it() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [keeper, tree @ ..] = daemon.tree();
    for _ in 0..3 {
        assert!(freeze(&mut daemon));
        assert!(are_stopped(&tree) && !os::is_stopped(keeper.pid).unwrap());
        assert!(freeze(&mut daemon), "again");
        daemon.command(KeeperCommand::Thaw);
        await_running(&tree);
    }
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.any_report(), Some(KeeperReport::Acknowledged), "Thaw has no answer");
    await_gone(&tree);
}

/// Four threads, and a process that forks a child per millisecond, each of which runs for as long.
const FORKS_AND_THREADS: &str = r"
import os, threading, time
end = time.monotonic() + 60
def spin():
    while time.monotonic() < end: pass
for _ in range(3): threading.Thread(target=spin, daemon=True).start()
if os.fork() == 0:
    while time.monotonic() < end:
        if os.fork() == 0:
            until = time.monotonic() + 0.005
            while time.monotonic() < until: pass
            os._exit(0)
        time.sleep(0.001)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]: pass
        except ChildProcessError: pass
    os._exit(0)
print('leader', os.getpid(), flush=True)
spin()
";

#[test]
fn freeze_leaves_no_thread_and_no_new_child_running() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::program(&["/usr/bin/env", "python3", "-c", FORKS_AND_THREADS]));
    let [_, keeper] = daemon.spawned();
    daemon.await_introductions(["leader"]);
    let mut proven = 0;
    for _ in 0..20 {
        let complete = freeze(&mut daemon);
        let tree = os::descendants(keeper.pid).seen;
        assert!(tree.len() >= 2 && (!complete || are_stopped(&tree)), "{tree:?}");
        proven += u32::from(complete);
        daemon.command(KeeperCommand::Thaw);
        // Until the forks go on.
        until("another tree", || os::descendants(keeper.pid).seen.iter().any(|now| !tree.iter().any(|before| before.is(now))));
    }
    // Where all processors are busy, a freeze may run out of time.
    assert!(proven >= 10, "{proven} of 20");
}

/// The counter changes with each instruction of the loop that runs.
const COUNTS_IN_A_FILE: &str = r"
import mmap, os, struct, sys, time
with open('counter', 'wb') as file: file.write(bytes(8))
counter = mmap.mmap(os.open('counter', os.O_RDWR), 8)
print('leader', os.getpid(), flush=True)
end, number = time.monotonic() + 60, 0
while time.monotonic() < end:
    number += 1
    counter[:] = struct.pack('=Q', number)
";

#[test]
fn terminate_after_a_freeze_is_pending_before_the_leader_runs_again() {
    let guardian = Guardian::start();
    for _ in 0..20 {
        let mut daemon = guardian.spawn(&TestOrder::program(&["/usr/bin/env", "python3", "-c", COUNTS_IN_A_FILE]));
        daemon.spawned();
        daemon.await_introductions(["leader"]);
        let count = |daemon: &Daemon| fs::read(daemon.path("counter")).unwrap();
        until("the daemon counts", || count(&daemon) != [0; 8]);
        assert!(freeze(&mut daemon));
        let frozen = count(&daemon);
        daemon.command(KeeperCommand::Terminate);
        assert_eq!(daemon.end(), libc::SIGTERM);
        assert_eq!(count(&daemon), frozen);
    }
}

#[test]
fn freeze_of_a_tree_that_is_being_stopped_does_nothing_and_is_not_complete() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("trap '' TERM; echo leader $$; sleep 60"));
    daemon.spawned();
    let leader = daemon.await_introductions(["leader"]);
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.any_report(), Some(KeeperReport::Acknowledged));
    assert!(!freeze(&mut daemon) && !are_stopped(&leader));
}

#[test]
fn owner_death_wakes_a_frozen_tree_by_its_stop_or_to_keep_it() {
    let guardian = Guardian::start();
    for owner_death in [OwnerDeath::Stop, OwnerDeath::Keep] {
        let mut daemon = guardian.spawn(&TestOrder { owner_death, ..TestOrder::shell(TREE) });
        let [keeper, tree @ ..] = daemon.tree();
        assert!(freeze(&mut daemon));
        daemon.close_owner_ends();
        if owner_death == OwnerDeath::Keep {
            await_running(&tree);
            signal(&keeper, libc::SIGTERM);
        }
        await_gone(&tree);
    }
}

#[test]
fn leader_that_is_killed_while_it_is_frozen_is_reported() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [_, tree @ ..] = daemon.tree();
    assert!(freeze(&mut daemon));
    signal(&tree[0], libc::SIGKILL);
    assert_eq!(daemon.exited(), (libc::SIGKILL, true));
    assert!(lives(&tree[1]) && are_stopped(&tree[1..]));
    daemon.command(KeeperCommand::Terminate);
    daemon.tree_gone();
    await_gone(&tree);
}

#[test]
fn thaw_leaves_a_process_that_somebody_else_has_stopped() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [_, leader, child, detached] = daemon.tree();
    signal(&child, libc::SIGSTOP);
    until("the child is suspended", || state(child.pid) == Some('T'));
    assert!(freeze(&mut daemon));
    daemon.command(KeeperCommand::Thaw);
    await_running(&[leader, detached]);
    assert!(are_stopped(&[child]));
}

#[test]
fn freeze_with_kill_mode_group_is_of_the_group() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder { group_only: true, ..TestOrder::shell(TREE) });
    let [_, leader, child, detached] = daemon.tree();
    assert!(freeze(&mut daemon));
    assert!(are_stopped(&[leader, child]) && !are_stopped(&[detached]));
    daemon.command(KeeperCommand::Kill);
    await_gone(&[leader, child]);
    signal(&detached, libc::SIGKILL);
}

/// The guardian and the leader belong to user 65534, and a set-user-id program makes a child of user 1.
#[test]
fn freeze_of_a_tree_with_a_process_of_another_user_is_not_complete() {
    if !nix::unistd::geteuid().is_root() || fs::metadata("/usr/bin/setpriv").is_err() {
        eprintln!("skipped: only root can prepare it, and with setpriv(1)");
        return;
    }
    let shared = tempfile::tempdir().unwrap();
    let other_user = shared.path().join("other-user");
    fs::copy("/usr/bin/setpriv", &other_user).unwrap();
    for (path, mode) in [(shared.path(), 0o755), (&other_user, 0o4755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let guardian = Guardian::start_with(|program| {
        program.uid(65534).gid(65534);
    });
    let child = "echo child $$; exec sleep 60";
    let script = format!("{} --reuid 1 --clear-groups sh -c '{child}' & echo leader $$; exec sleep 60", other_user.display());
    let mut daemon = guardian.spawn(&TestOrder { folder: Some(shared.path().to_owned()), ..TestOrder::shell(&script) });
    daemon.spawned();
    let [leader, child] = daemon.await_introductions(["leader", "child"]);
    assert!(!freeze(&mut daemon));
    assert!(are_stopped(&[leader]) && !are_stopped(&[child]));
    daemon.command(KeeperCommand::Thaw);
    await_running(&[leader]);
    // The keeper can't end it either.
    signal(&child, libc::SIGKILL);
    daemon.command(KeeperCommand::Kill);
    await_gone(&[leader, child]);
}
