//! Commands that run beside the daemon (probe `exec`).

use ally_base::os::{self, Process};
use ally_base::wire::{KeeperCommand, KeeperReport, OwnerDeath, Stage};

use crate::support::procfs::kinds;
use crate::support::{Guardian, TREE, TestOrder, await_gone, lives, signal, state, until};

/// A leader that prints `got SIGTERM`, and goes on.
const GOES_ON: &str = "trap 'echo got SIGTERM' TERM; echo leader $$; for again in 1 2 3 4 5 6 7 8 9; do sleep 60 & wait; done";

/// A command that ignores SIGTERM, and prints the pid of a process that it has forked twice, in a POSIX session of its own.
const STUBBORN: &str = "trap '' TERM INT; (setsid sh -c 'echo $$; exec sleep 60' &); sleep 60";

fn stubborn() -> TestOrder {
    TestOrder::shell(STUBBORN)
}

/// The wait status of an exit, and whether processes remain.
fn exit_in(report: Option<KeeperReport>) -> Option<(i32, bool)> {
    match report {
        Some(KeeperReport::Exited { status, remains, .. }) => Some((status, remains)),
        _ => None,
    }
}

#[test]
fn probe_reports_the_exit_and_the_end_of_its_stream_when_nothing_is_left() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
    let [leader, keeper] = daemon.spawned();
    let mut probe = daemon.probe(&TestOrder::shell(
        "(setsid sh -c 'echo $$; exec sleep 60' &); for i in $(seq 6000); do test -e go && exit 3; sleep 0.01; done",
    ));
    let [command, prober] = probe.spawned();
    let stray = probe.process();
    std::fs::write(daemon.path("go"), "").unwrap();
    assert_eq!(exit_in(probe.report()), Some((3 << 8, true)));
    assert_eq!(probe.report(), None);
    assert!([command, stray].iter().all(|process| !lives(process)));
    assert_eq!((prober.parent, command.session, lives(&leader)), (keeper.pid, keeper.session, true));
    assert!(![leader.group, prober.group].contains(&command.group) && command.group != command.pid);

    let mut next = daemon.probe(&TestOrder::program(&["/no/such/program"]));
    assert_eq!(next.report(), Some(KeeperReport::SpawnFailed { stage: Stage::Exec, errno: libc::ENOENT }));
    assert_eq!(next.report(), None);
    daemon.command(KeeperCommand::Kill);
    daemon.end();
}

#[test]
fn probe_keeper_holds_nothing_but_its_stream_and_the_command_holds_its_output_alone() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
    daemon.spawned();
    let mut probe = daemon.probe(&TestOrder::shell("echo $$; exec sleep 60"));
    let [command, prober] = probe.spawned();
    assert_eq!(probe.process(), command);
    // anon_inode: the handle of the command's group.
    assert_eq!(kinds(prober.pid), ["/dev/null", "/dev/null", "anon_inode", "socket"]);
    // After its pid it becomes `sleep`, which has its library open while it is loaded.
    until("what the command holds", || kinds(command.pid) == ["/dev/null", "pipe", "pipe"]);
    assert_eq!(std::fs::read_to_string(format!("/proc/{}/comm", prober.pid)).unwrap(), "ally-probe\n");
}

#[test]
fn probe_that_is_given_up_ends_without_a_report_on_its_exit() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
    let [leader, _] = daemon.spawned();
    let mut probe = daemon.probe(&stubborn());
    let [command, _] = probe.spawned();
    let stray = probe.process();
    probe.give_up();
    assert_eq!(probe.report(), None);
    assert!([command, stray].iter().all(|process| !lives(process)) && lives(&leader));

    // The owner has closed it, and gives the next one at once.
    let mut dropped = daemon.probe(&stubborn());
    let [command, _] = dropped.spawned();
    let stray = dropped.process();
    drop(dropped);
    let mut next = daemon.probe(&TestOrder::shell("exit 0"));
    assert!(matches!(next.report(), Some(KeeperReport::Spawned { .. })));
    assert!([command, stray].iter().all(|process| !lives(process)), "two probes run at once");
    assert_eq!(exit_in(next.report()), Some((0, false)));
}

#[test]
fn exit_of_the_leader_ends_the_probe_and_leaves_no_remains() {
    for group_only in [false, true] {
        let guardian = Guardian::start();
        let mut daemon = guardian.spawn(&TestOrder { group_only, ..TestOrder::shell("exec sleep 60") });
        let [leader, _] = daemon.spawned();
        let mut probe = daemon.probe(&stubborn());
        let [command, _] = probe.spawned();
        let stray = probe.process();
        signal(&leader, libc::SIGKILL);
        assert_eq!(exit_in(daemon.report()), Some((libc::SIGKILL, false)), "group_only {group_only}");
        assert_eq!(probe.report(), None);
        assert!([command, stray].iter().all(|process| !lives(process)));
        assert_eq!(daemon.report(), None);
    }
}

#[test]
fn stop_ends_the_probe_by_sigkill_and_the_stop_signal_is_the_daemons() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(GOES_ON));
    daemon.spawned();
    assert!(daemon.line().starts_with("leader "));
    let mut probe =
        daemon.probe(&TestOrder::shell("trap 'echo got SIGTERM >termed' TERM; echo $$; for i in 1 2 3 4; do sleep 60 & wait; done"));
    let [command, _] = probe.spawned();
    probe.process();
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "got SIGTERM");
    await_gone(&[command]);
    assert!(!daemon.path("termed").exists());
    // After a stop has begun, no probe is run.
    assert_eq!(daemon.probe(&TestOrder::shell(": >late")).report(), None);
    assert!(!daemon.path("late").exists());
    daemon.command(KeeperCommand::Kill);
    assert_eq!(daemon.end(), libc::SIGKILL);
}

#[test]
fn owner_death_ends_the_probe_also_if_the_daemon_is_kept() {
    for owner_death in [OwnerDeath::Stop, OwnerDeath::Keep] {
        let mut guardian = Guardian::start();
        let mut daemon = guardian.spawn(&TestOrder { owner_death, ..TestOrder::shell("exec sleep 60") });
        let [leader, keeper] = daemon.spawned();
        let mut probe = daemon.probe(&stubborn());
        let processes: Vec<Process> = probe.spawned().into_iter().chain([probe.process()]).collect();
        drop(probe);
        daemon.close_owner_ends();
        guardian.close_stream();
        await_gone(&processes);
        if owner_death == OwnerDeath::Keep {
            assert!(lives(&leader) && lives(&keeper));
            signal(&keeper, libc::SIGTERM);
        }
        await_gone(&[leader, keeper]);
    }
}

#[test]
fn killed_keeper_takes_the_probe_with_it() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [keeper, tree @ ..] = daemon.tree();
    let mut probe = daemon.probe(&stubborn());
    let processes: Vec<Process> = probe.spawned().into_iter().chain([probe.process()]).chain(tree).collect();
    signal(&keeper, libc::SIGKILL);
    assert!(matches!(guardian.report(), Some(ally_base::wire::GuardianReport::Swept { .. })));
    assert!(!processes.iter().any(lives));
}

#[test]
fn suspended_probe_keeper_holds_up_neither_a_crash_nor_a_stop() {
    for crash in [true, false] {
        let guardian = Guardian::start();
        let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
        let [leader, _] = daemon.spawned();
        let mut probe = daemon.probe(&stubborn());
        let [command, prober] = probe.spawned();
        let stray = probe.process();
        signal(&prober, libc::SIGSTOP);
        until("the probe keeper is suspended", || state(prober.pid) == Some('T'));
        if crash {
            signal(&leader, libc::SIGKILL);
        } else {
            daemon.command(KeeperCommand::Terminate);
        }
        daemon.end();
        await_gone(&[command, prober, stray]);
    }
}

#[test]
fn probe_of_a_suspended_keeper_is_run_only_if_the_owner_still_waits() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
    let [_, keeper] = daemon.spawned();
    signal(&keeper, libc::SIGSTOP);
    until("the keeper is suspended", || state(keeper.pid) == Some('T'));
    for _ in 0..5 {
        drop(daemon.probe(&TestOrder::shell(": >given-up")));
    }
    let mut waits = daemon.probe(&TestOrder::shell("exit 4"));
    signal(&keeper, libc::SIGCONT);
    assert!(matches!(waits.report(), Some(KeeperReport::Spawned { .. })));
    assert_eq!(exit_in(waits.report()), Some((4 << 8, false)));
    assert!(!daemon.path("given-up").exists());
    assert_eq!(os::look_up(keeper.pid).map(|now| now.is(&keeper)), Some(true));
}
