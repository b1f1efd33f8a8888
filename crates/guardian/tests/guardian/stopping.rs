//! How trees end while their owner lives.

use ally_base::os;
use ally_base::wire::{GuardianReport, KeeperCommand, KeeperReport};
use std::ffi::OsStr;
use std::process::Command as Program;

use crate::world::{FAMILY, Guardian, Plan, STUBBORN, await_gone, lives, signal, state, until};

#[test]
fn terminate_reaches_what_fled_too() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(FAMILY));
    let [_, family @ ..] = daemon.family();
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.end(), libc::SIGTERM);
    await_gone(&family);
    assert_eq!(daemon.output(), "", "nobody is left to hold the pipe");
}

#[test]
fn terminate_continues_what_is_stopped() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(
        "(setsid sh -c 'trap \"echo heard; exit\" TERM; echo stopped $$; kill -STOP $$; exec sleep 60' &); echo leader $$; kill -STOP $$; exec sleep 60",
    ));
    daemon.born();
    let both = daemon.on_found(["leader", "stopped"]);
    until("both to stop", || both.iter().all(|process| state(process.pid) == Some('T')));
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "heard");
    assert_eq!(daemon.end(), libc::SIGTERM);
    await_gone(&both);
}

#[test]
fn the_stop_signal_is_the_order_s() {
    let guardian = Guardian::start();
    let script = "trap 'exit 5' INT; trap '' TERM; echo leader $$; for again in $(seq 6000); do sleep 0.01; done";
    let mut daemon = guardian.make(&Plan { stop_signal: libc::SIGINT, ..Plan::shell(script) });
    daemon.born();
    daemon.on_found(["leader"]);
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.end(), 5 << 8);
}

#[test]
fn kill_ends_a_stubborn_tree() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(STUBBORN));
    let [_, family @ ..] = daemon.family();
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "heard");
    assert!(family.iter().all(lives));
    daemon.command(KeeperCommand::Kill);
    assert_eq!(daemon.end(), libc::SIGKILL);
    await_gone(&family);
}

#[test]
fn kill_ends_what_is_stopped() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell("echo leader $$; kill -STOP $$"));
    daemon.born();
    let [leader] = daemon.on_found(["leader"]);
    until("it to stop", || state(leader.pid) == Some('T'));
    daemon.command(KeeperCommand::Kill);
    assert_eq!(daemon.end(), libc::SIGKILL);
}

#[test]
fn kill_ends_a_tree_that_runs_away() {
    let guardian = Guardian::start();
    // Each one forks the next, in a new session, and is gone before anyone who saw it can do it harm.
    let script = "import os, time\nend = time.monotonic() + 60\nprint('off', flush=True)\nwhile time.monotonic() < end:\n if os.fork(): os._exit(0)\n os.setsid()";
    let mut daemon = guardian.make(&Plan::program(&["/usr/bin/env", "python3", "-c", script]));
    assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
    assert_eq!(daemon.line(), "off");
    assert_eq!(daemon.report(), Some(KeeperReport::Exited { status: 0, remains: true }));
    daemon.command(KeeperCommand::Kill);
    assert_eq!(daemon.report(), Some(KeeperReport::TreeGone));
    assert_eq!(daemon.output(), "");
}

#[test]
fn a_tree_is_gone_when_its_last_process_is() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell("(setsid sh -c 'echo fled $$; exec sleep 60' &); exit 3"));
    assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
    let [fled] = daemon.on_found(["fled"]);
    assert_eq!(daemon.report(), Some(KeeperReport::Exited { status: 3 << 8, remains: true }));
    assert!(lives(&fled) && !daemon.is_unlocked(), "the lock is held while anyone of the tree lives");
    signal(&fled, libc::SIGKILL);
    assert_eq!(daemon.report(), Some(KeeperReport::TreeGone));
    assert_eq!(daemon.report(), None);
    until("the lock's release", || daemon.is_unlocked());
}

#[test]
fn what_is_left_can_still_be_ended() {
    let guardian = Guardian::start();
    for (command, script) in [
        (KeeperCommand::Terminate, "(setsid sh -c 'echo fled $$; exec sleep 60' &); exit 3"),
        (KeeperCommand::Kill, "trap '' TERM; (setsid sh -c 'echo fled $$; exec sleep 60' &); exit 3"),
    ] {
        let mut daemon = guardian.make(&Plan::shell(script));
        assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
        let [fled] = daemon.on_found(["fled"]);
        assert_eq!(daemon.report(), Some(KeeperReport::Exited { status: 3 << 8, remains: true }));
        daemon.command(command);
        assert_eq!(daemon.report(), Some(KeeperReport::TreeGone));
        assert!(!lives(&fled));
    }
}

#[test]
fn one_daemon_s_end_is_not_another_s() {
    let guardian = Guardian::start();
    let [mut first, mut second] = [(); 2].map(|()| guardian.make(&Plan::shell(FAMILY)));
    let (gone, left) = (first.family(), second.family());
    first.command(KeeperCommand::Kill);
    first.end();
    await_gone(&gone);
    assert!(left.iter().all(lives) && !second.is_unlocked());
    second.command(KeeperCommand::Terminate);
    assert_eq!(second.end(), libc::SIGTERM);
}

// The group alone.

#[test]
fn a_group_ends_without_what_left_it() {
    let mut guardian = Guardian::start();
    for command in [KeeperCommand::Terminate, KeeperCommand::Kill] {
        let mut daemon = guardian.make(&Plan { group_only: true, ..Plan::shell(FAMILY) });
        let [_, leader, child, fled] = daemon.family();
        daemon.command(command);
        let status = daemon.end();
        assert_eq!(status, if command == KeeperCommand::Kill { libc::SIGKILL } else { libc::SIGTERM });
        await_gone(&[leader, child]);
        assert!(lives(&fled), "it was meant to outlive them");
        signal(&fled, libc::SIGKILL);
    }
    guardian.let_go();
    assert!(guardian.await_exit().success());
}

#[test]
fn a_group_remains_while_one_of_its_members_lives() {
    let guardian = Guardian::start();
    let mut daemon =
        guardian.make(&Plan { group_only: true, ..Plan::shell("sh -c 'echo child $$; exec sleep 60' & echo leader $$; read go") });
    // Its stdin is at its end, so it is off at once.
    assert!(matches!(daemon.report(), Some(KeeperReport::Spawned { .. })));
    assert_eq!(daemon.report(), Some(KeeperReport::Exited { status: 1 << 8, remains: true }));
    assert!(!daemon.is_unlocked());
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.report(), Some(KeeperReport::TreeGone));
    assert_eq!(daemon.report(), None);
}

#[test]
fn what_was_left_alive_on_purpose_is_swept_by_nobody() {
    let mut guardian = Guardian::start();
    let mut first = guardian.make(&Plan { group_only: true, ..Plan::shell(FAMILY) });
    let [.., survivor] = first.family();
    first.command(KeeperCommand::Terminate);
    first.end();
    let mut second = guardian.make(&Plan::shell(FAMILY));
    let [keeper, family @ ..] = second.family();
    signal(&keeper, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    await_gone(&family);
    assert!(lives(&survivor));
    guardian.let_go();
    assert!(guardian.await_exit().success(), "it doesn't wait for what it doesn't keep");
    assert!(lives(&survivor));
    signal(&survivor, libc::SIGKILL);
}

/// A session that was left alive on purpose stays spared, also for those of it that only come to the guardian later.
#[test]
fn what_outlives_a_group_that_went_by_itself_is_told_from_another_s_strays() {
    let mut guardian = Guardian::start();
    let mut other = guardian.make(&Plan::shell(STUBBORN));
    let [keeper, family @ ..] = other.family();
    let script = "(setsid sh -c 'sh -c \"echo below \\$\\$; exec sleep 60\" & echo survivor $$; : >out; wait' &)
        for again in $(seq 6000); do test -e out && exit 0; sleep 0.01; done";
    let mut first = guardian.make(&Plan { group_only: true, ..Plan::shell(script) });
    assert!(matches!(first.report(), Some(KeeperReport::Spawned { .. })));
    let [survivor, below] = first.on_found(["survivor", "below"]);
    assert_eq!(first.end(), 0);
    // By the time that it makes another one, the guardian knows of the first one's end.
    assert_eq!(guardian.make(&Plan::shell("echo next")).output(), "next\n");
    signal(&survivor, libc::SIGKILL);
    until("the guardian to inherit", || os::look_up(below.pid).is_some_and(|process| process.parent == guardian.pid()));
    signal(&keeper, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    assert!(!family.iter().any(lives));
    assert!(lives(&below));
    signal(&below, libc::SIGKILL);
}

/// The last of what was released ends, and the system gives its session's number to a new leader, which is then nobody's to
/// spare. The test runs itself again in a pid namespace, where it can say which number comes next.
#[test]
fn a_released_session_s_number_that_is_given_out_again_spares_nobody() {
    const ALONE: &str = "ALLY_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let unshare = |words: &[&OsStr]| {
            let mut program = Program::new("unshare");
            program.args(["-pf", "--mount-proc", "--kill-child"]).args(words).env(ALONE, "1").output().unwrap()
        };
        if !unshare(&["sh".as_ref(), "-c".as_ref(), "echo 1000 > /proc/sys/kernel/ns_last_pid".as_ref()]).status.success() {
            eprintln!("skipped: a pid namespace whose numbers can be chosen can't be had here");
            return;
        }
        let own = std::env::current_exe().unwrap();
        let test = ["--exact", "stopping::a_released_session_s_number_that_is_given_out_again_spares_nobody", "--nocapture"];
        let words: Vec<&OsStr> = [own.as_os_str()].into_iter().chain(test.map(AsRef::as_ref)).collect();
        let run = unshare(&words);
        let told = format!("{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let mut guardian = Guardian::start();
    let script = "(setsid sh -c 'echo survivor $$; : >out; exec sleep 60' &)
        for again in $(seq 6000); do test -e out && exit 0; sleep 0.01; done";
    let mut first = guardian.make(&Plan { group_only: true, ..Plan::shell(script) });
    assert!(matches!(first.report(), Some(KeeperReport::Spawned { .. })));
    let [survivor] = first.on_found(["survivor"]);
    assert_eq!(first.end(), 0);
    // The guardian has it by now.
    assert_eq!(guardian.make(&Plan::shell("echo next")).output(), "next\n");
    signal(&survivor, libc::SIGKILL);
    until("its reaping", || os::look_up(survivor.pid).is_none());
    // The next keeper gets the number before it, the next leader its own.
    std::fs::write("/proc/sys/kernel/ns_last_pid", (survivor.session - 2).to_string()).unwrap();
    let mut second = guardian.make(&Plan::shell(STUBBORN));
    let [keeper, leader, child, fled] = second.family();
    assert_eq!(leader.pid, survivor.session);
    signal(&keeper, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    assert!(![leader, child, fled].iter().any(lives), "it was taken for what was released");
}
