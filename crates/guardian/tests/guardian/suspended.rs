//! Guardian and keepers that are suspended (SIGSTOP).

use ally_base::os;
use ally_base::wire::{KeeperCommand, KeeperReport, OwnerDeath};

use crate::support::{Guardian, IGNORES_SIGTERM, TREE, TestOrder, await_gone, signal, state, until};

#[test]
fn order_that_was_given_up_makes_no_leader() {
    for owner_death in [OwnerDeath::Stop, OwnerDeath::Keep] {
        let guardian = Guardian::start();
        let own = os::look_up(guardian.pid()).unwrap();
        // Its keeper would continue the guardian when its stream is closed.
        let mut first = guardian.spawn(&TestOrder::shell("exit 0"));
        assert!(matches!(first.report(), Some(KeeperReport::Spawned { .. })));
        assert_eq!(first.end(), 0);
        signal(&own, libc::SIGSTOP);
        until("the guardian is suspended", || state(own.pid) == Some('T'));
        let mut given_up = guardian.spawn(&TestOrder { owner_death, ..TestOrder::shell("echo $$ >ran; exec sleep 60") });
        given_up.close_owner_ends();
        signal(&own, libc::SIGCONT);
        assert_eq!(guardian.spawn(&TestOrder::shell("echo next")).output(), "next\n");
        until("the keeper is gone", || given_up.is_unlocked());
        assert!(!given_up.path("ran").exists(), "{owner_death:?}");
    }
}

#[test]
fn keeper_acknowledges_a_command_after_it_is_carried_out() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(IGNORES_SIGTERM));
    let [keeper, ..] = daemon.tree();
    signal(&keeper, libc::SIGSTOP);
    until("the keeper is suspended", || state(keeper.pid) == Some('T'));
    daemon.command(KeeperCommand::Terminate);
    assert!(!daemon.got_sigterm());
    signal(&keeper, libc::SIGCONT);
    assert_eq!(daemon.any_report(), Some(KeeperReport::Acknowledged));
    assert_eq!(daemon.line(), "got SIGTERM");
    daemon.command(KeeperCommand::Kill);
    assert_eq!(daemon.any_report(), Some(KeeperReport::Acknowledged));
    assert_eq!(daemon.end(), libc::SIGKILL);
}

#[test]
fn owner_death_the_guardian_continues_a_suspended_keeper() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let processes = daemon.tree();
    signal(&processes[0], libc::SIGSTOP);
    until("the keeper is suspended", || state(processes[0].pid) == Some('T'));
    daemon.close_owner_ends();
    guardian.close_stream();
    await_gone(&processes);
    assert!(guardian.await_exit().success());
}

#[test]
fn owner_death_a_keeper_continues_a_suspended_guardian() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let processes = daemon.tree();
    let own = os::look_up(guardian.pid()).unwrap();
    signal(&own, libc::SIGSTOP);
    until("the guardian is suspended", || state(own.pid) == Some('T'));
    daemon.close_owner_ends();
    guardian.close_stream();
    await_gone(&processes[1..]);
    assert!(guardian.await_exit().success());
}
