//! Commands of a living owner: the stop signal and SIGKILL to a tree or a group.

use ally_base::os;
use ally_base::wire::{GuardianReport, KeeperCommand, KeeperReport};

use crate::namespace::can_unshare;
use crate::rerun::rerun;
use crate::support::{Guardian, IGNORES_SIGTERM, TREE, TestOrder, await_gone, lives, signal, state, until};

#[test]
fn terminate_reaches_detached_descendants() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [_, tree @ ..] = daemon.tree();
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.end(), libc::SIGTERM);
    await_gone(&tree);
    assert_eq!(daemon.output(), "", "no process holds the pipe");
}

#[test]
fn terminate_continues_stopped_processes() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(
        "(setsid sh -c 'trap \"echo got SIGTERM; exit\" TERM; echo stopped $$; kill -STOP $$; for again in $(seq 600); do sleep 0.1; done' &); echo leader $$; kill -STOP $$; exec sleep 60",
    ));
    daemon.spawned();
    let both = daemon.await_introductions(["leader", "stopped"]);
    until("both are stopped", || both.iter().all(|process| state(process.pid) == Some('T')));
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "got SIGTERM");
    assert_eq!(daemon.end(), libc::SIGTERM);
    await_gone(&both);
}

#[test]
fn terminate_sends_the_stop_signal_of_the_order() {
    let guardian = Guardian::start();
    let script = "trap 'exit 5' INT; trap '' TERM; echo leader $$; for again in $(seq 6000); do sleep 0.01; done";
    let mut daemon = guardian.spawn(&TestOrder { stop_signal: libc::SIGINT, ..TestOrder::shell(script) });
    daemon.spawned();
    daemon.await_introductions(["leader"]);
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.end(), 5 << 8);
}

#[test]
fn kill_ends_a_tree_that_ignores_sigterm() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(IGNORES_SIGTERM));
    let [_, tree @ ..] = daemon.tree();
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "got SIGTERM");
    assert!(tree.iter().all(lives));
    daemon.command(KeeperCommand::Kill);
    assert_eq!(daemon.end(), libc::SIGKILL);
    await_gone(&tree);
}

#[test]
fn kill_ends_a_stopped_process() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("echo leader $$; kill -STOP $$"));
    daemon.spawned();
    let [leader] = daemon.await_introductions(["leader"]);
    until("the leader is stopped", || state(leader.pid) == Some('T'));
    daemon.command(KeeperCommand::Kill);
    assert_eq!(daemon.end(), libc::SIGKILL);
}

#[test]
fn kill_ends_a_tree_that_forks_without_end() {
    let guardian = Guardian::start();
    // Each process forks the next one, in a new POSIX session, and exits before a signal can reach it.
    let script = "import os, time\nend = time.monotonic() + 60\nprint('off', flush=True)\nwhile time.monotonic() < end:\n if os.fork(): os._exit(0)\n os.setsid()";
    let mut daemon = guardian.spawn(&TestOrder::program(&["/usr/bin/env", "python3", "-c", script]));
    assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
    assert_eq!(daemon.line(), "off");
    assert_eq!(daemon.exited(), (0, true));
    daemon.command(KeeperCommand::Kill);
    daemon.tree_gone();
    assert_eq!(daemon.output(), "");
}

#[test]
fn tree_gone_is_reported_after_the_last_process_of_the_tree() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("(setsid sh -c 'echo detached $$; exec sleep 60' &); exit 3"));
    assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
    let [detached] = daemon.await_introductions(["detached"]);
    assert_eq!(daemon.exited(), (3 << 8, true));
    assert!(lives(&detached) && !daemon.is_unlocked(), "the lock is held while a process of the tree lives");
    signal(&detached, libc::SIGKILL);
    daemon.tree_gone();
    assert_eq!(daemon.report(), None);
    until("the lock is released", || daemon.is_unlocked());
}

#[test]
fn commands_reach_descendants_of_an_exited_leader() {
    let guardian = Guardian::start();
    for (command, script) in [
        (KeeperCommand::Terminate, "(setsid sh -c 'echo detached $$; exec sleep 60' &); exit 3"),
        (KeeperCommand::Kill, "trap '' TERM; (setsid sh -c 'echo detached $$; exec sleep 60' &); exit 3"),
    ] {
        let mut daemon = guardian.spawn(&TestOrder::shell(script));
        assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
        let [detached] = daemon.await_introductions(["detached"]);
        assert_eq!(daemon.exited(), (3 << 8, true));
        daemon.command(command);
        daemon.tree_gone();
        assert!(!lives(&detached));
    }
}

#[test]
fn keeper_removes_the_record_of_its_own_leader_alone() {
    let guardian = Guardian::start();
    for own in [true, false] {
        let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
        let [leader, _] = daemon.spawned();
        let named = if own { leader.pid } else { leader.pid + 1 };
        std::fs::write(daemon.path("daemon.pid"), format!("{named}\n")).unwrap();
        std::fs::write(daemon.path("daemon.id"), format!("ally-daemon 1\npid {named}\nstart 5\nboot b\n")).unwrap();
        daemon.command(KeeperCommand::Kill);
        assert_eq!(daemon.end(), libc::SIGKILL);
        let left = ["daemon.pid", "daemon.id"].map(|name| daemon.path(name).exists());
        assert_eq!(left, [!own; 2]);
    }
}

#[test]
fn kill_reaches_no_other_daemon() {
    let guardian = Guardian::start();
    let [mut first, mut second] = [(); 2].map(|()| guardian.spawn(&TestOrder::shell(TREE)));
    let (gone, left) = (first.tree(), second.tree());
    first.command(KeeperCommand::Kill);
    first.end();
    await_gone(&gone);
    assert!(left.iter().all(lives) && !second.is_unlocked());
    second.command(KeeperCommand::Terminate);
    assert_eq!(second.end(), libc::SIGTERM);
}

// killMode: 'group'.

#[test]
fn kill_mode_group_spares_processes_outside_of_the_group() {
    let mut guardian = Guardian::start();
    for command in [KeeperCommand::Terminate, KeeperCommand::Kill] {
        let mut daemon = guardian.spawn(&TestOrder { group_only: true, ..TestOrder::shell(TREE) });
        let [_, leader, child, detached] = daemon.tree();
        daemon.command(command);
        let status = daemon.end();
        assert_eq!(status, if command == KeeperCommand::Kill { libc::SIGKILL } else { libc::SIGTERM });
        await_gone(&[leader, child]);
        assert!(lives(&detached), "a process outside of the group survives");
        signal(&detached, libc::SIGKILL);
    }
    guardian.close_stream();
    assert!(guardian.await_exit().success());
}

/// A leader that has changed its group. Its child `before` is in the group of the start, `after` in the leader's, `apart` in
/// another one.
const CHANGES_ITS_GROUP: &str = "
import os, time
def child(name, *change):
    if os.fork() == 0:
        for call in change:
            call()
        print(name, os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
child('before')
CHANGE()
child('after')
child('apart', os.setpgrp)
print('leader', os.getpid(), flush=True)
end = time.monotonic() + 60
while not os.access('go', os.F_OK) and time.monotonic() < end:
    time.sleep(0.005)
";

#[test]
fn kill_mode_group_ends_the_group_of_the_start_and_the_one_of_the_leader() {
    let guardian = Guardian::start();
    for change in ["os.setpgrp", "os.setsid"] {
        for command in [Some(KeeperCommand::Terminate), Some(KeeperCommand::Kill), None] {
            let script = CHANGES_ITS_GROUP.replace("CHANGE", change);
            let plan = TestOrder { group_only: true, ..TestOrder::program(&["/usr/bin/env", "python3", "-S", "-c", &script]) };
            let mut daemon = guardian.spawn(&plan);
            daemon.spawned();
            let [before, leader, after, apart] = daemon.await_introductions(["before", "leader", "after", "apart"]);
            assert_eq!((leader.group, after.group, apart.group), (leader.pid, leader.pid, apart.pid));
            if let Some(command) = command {
                daemon.command(command);
            } else {
                // The leader exits by itself, and its group is known when the stop begins.
                std::fs::write(daemon.path("go"), "").unwrap();
                assert_eq!(daemon.exited(), (0, true));
                daemon.command(KeeperCommand::Terminate);
                daemon.tree_gone();
            }
            await_gone(&[before, leader, after]);
            assert!(lives(&apart), "{change}");
            signal(&apart, libc::SIGKILL);
        }
    }
}

#[test]
fn kill_mode_group_remains_while_a_member_lives() {
    let guardian = Guardian::start();
    let mut daemon = guardian
        .spawn(&TestOrder { group_only: true, ..TestOrder::shell("sh -c 'echo child $$; exec sleep 60' & echo leader $$; read go") });
    // Its stdin is empty, so the leader exits at once.
    assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
    assert_eq!(daemon.exited(), (1 << 8, true));
    assert!(!daemon.is_unlocked());
    daemon.command(KeeperCommand::Terminate);
    daemon.tree_gone();
    assert_eq!(daemon.report(), None);
}

#[test]
fn kill_mode_group_a_sweep_spares_the_survivors_of_another_daemon() {
    let mut guardian = Guardian::start();
    let mut first = guardian.spawn(&TestOrder { group_only: true, ..TestOrder::shell(TREE) });
    let [ended, .., survivor] = first.tree();
    first.command(KeeperCommand::Terminate);
    first.end();
    // During a sweep nothing is spared.
    await_gone(&[ended]);
    let mut second = guardian.spawn(&TestOrder::shell(TREE));
    let [keeper, tree @ ..] = second.tree();
    signal(&keeper, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    await_gone(&tree);
    assert!(lives(&survivor));
    guardian.close_stream();
    assert!(guardian.await_exit().success(), "the guardian does not wait for the survivor");
    assert!(lives(&survivor));
    signal(&survivor, libc::SIGKILL);
}

/// A surviving POSIX session is spared as a whole, also its processes that become children of the guardian later.
#[test]
fn kill_mode_group_a_sweep_spares_survivors_that_the_guardian_inherits_later() {
    let mut guardian = Guardian::start();
    let mut other = guardian.spawn(&TestOrder::shell(IGNORES_SIGTERM));
    let [keeper, tree @ ..] = other.tree();
    let script = "(setsid sh -c 'sh -c \"echo below \\$\\$; exec sleep 60\" & echo survivor $$; : >out; wait' &)
        for again in $(seq 6000); do test -e out && exit 0; sleep 0.01; done";
    let mut first = guardian.spawn(&TestOrder { group_only: true, ..TestOrder::shell(script) });
    assert!(matches!(first.report(), Some(KeeperReport::Spawned { .. })));
    let [survivor, below] = first.await_introductions(["survivor", "below"]);
    assert_eq!(first.end(), 0);
    // After this spawn the guardian has handled the end of the first daemon.
    assert_eq!(guardian.spawn(&TestOrder::shell("echo next")).output(), "next\n");
    signal(&survivor, libc::SIGKILL);
    until("the guardian is the parent", || os::look_up(below.pid).is_some_and(|process| process.parent == guardian.pid()));
    signal(&keeper, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    assert!(!tree.iter().any(lives));
    assert!(lives(&below));
    signal(&below, libc::SIGKILL);
}

/// After the last process of a spared POSIX session has ended, a new daemon can get its number, and must not be spared. The
/// test runs again in a pid namespace, where it can set the next pid.
#[test]
fn kill_mode_group_a_reused_posix_session_number_is_swept() {
    const ALONE: &str = "ALLY_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        if can_unshare(&["-pf", "--mount-proc", "--kill-child", "sh", "-c", "echo 1000 > /proc/sys/kernel/ns_last_pid"]) {
            let unshare = ["unshare", "-pf", "--mount-proc", "--kill-child"];
            rerun(&unshare, "stopping::kill_mode_group_a_reused_posix_session_number_is_swept", ALONE, "1");
        }
        return;
    }
    let mut guardian = Guardian::start();
    let script = "(setsid sh -c 'echo survivor $$; : >out; exec sleep 60' &)
        for again in $(seq 6000); do test -e out && exit 0; sleep 0.01; done";
    let mut first = guardian.spawn(&TestOrder { group_only: true, ..TestOrder::shell(script) });
    assert!(matches!(first.report(), Some(KeeperReport::Spawned { .. })));
    let [survivor] = first.await_introductions(["survivor"]);
    assert_eq!(first.end(), 0);
    // After this spawn the guardian has handled the end of the first daemon.
    assert_eq!(guardian.spawn(&TestOrder::shell("echo next")).output(), "next\n");
    signal(&survivor, libc::SIGKILL);
    until("the survivor is reaped", || os::look_up(survivor.pid).is_none());
    // The next keeper gets that number, and makes a POSIX session.
    std::fs::write("/proc/sys/kernel/ns_last_pid", (survivor.session - 1).to_string()).unwrap();
    let mut second = guardian.spawn(&TestOrder::shell(IGNORES_SIGTERM));
    let [keeper, leader, child, detached] = second.tree();
    assert_eq!(leader.session, survivor.session);
    signal(&keeper, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    assert!(![leader, child, detached].iter().any(lives), "the new tree was spared");
}
