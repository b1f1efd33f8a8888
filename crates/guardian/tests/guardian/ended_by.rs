//! SIGTERM to the keeper of a living owner: `ally-daemons stop --force`.

use std::process::Command;
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::wire::{KeeperCommand, KeeperReport, OwnerDeath};

use crate::support::procfs::{bit, mask, status};
use crate::support::{Daemon, Guardian, IGNORES_SIGTERM, TREE, TestOrder, await_gone, lives, signal, until};

const GRACE: Duration = Duration::from_millis(250);
const SLACK: Duration = Duration::from_secs(2);

#[track_caller]
fn assert_ended_by(daemon: &mut Daemon, pid: i32) {
    assert_eq!(daemon.report(), Some(KeeperReport::EndedBy { pid }));
}

/// Sends SIGTERM with the real uid 65534. False if this process may not.
pub fn signal_as_another_user(pid: i32) -> bool {
    let script = format!("import os; os.setresuid(65534, 0, 0); os.kill({pid}, 15)");
    nix::unistd::geteuid().is_root() && Command::new("python3").args(["-c", &script]).status().unwrap().success()
}

pub fn await_handled(keeper: i32) {
    until("the signal is not pending any more", || {
        let status = status(keeper);
        (mask(&status, "SigPnd") | mask(&status, "ShdPnd")) & bit(libc::SIGTERM) == 0
    });
}

#[test]
fn sigterm_to_the_keeper_of_a_living_owner_ends_the_tree_and_names_the_sender_once() {
    let guardian = Guardian::start();
    for owner_death in [OwnerDeath::Stop, OwnerDeath::Keep] {
        let mut daemon = guardian.spawn(&TestOrder { owner_death, ..TestOrder::shell(TREE) });
        let [keeper, tree @ ..] = daemon.tree();
        signal(&keeper, libc::SIGTERM);
        assert_ended_by(&mut daemon, os::own_pid());
        signal(&keeper, libc::SIGTERM);
        assert_eq!(daemon.end(), libc::SIGTERM);
        await_gone(&tree);
    }
}

/// The owner may be suspended, so nobody else sends SIGKILL.
#[test]
fn sigterm_to_the_keeper_of_a_living_owner_kills_after_the_grace_period_and_not_before() {
    let guardian = Guardian::start();
    for grace in [GRACE, Duration::ZERO] {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap();
        let mut daemon = guardian.spawn(&TestOrder { grace_ms, ..TestOrder::shell(IGNORES_SIGTERM) });
        let [keeper, tree @ ..] = daemon.tree();
        let begun = Instant::now();
        signal(&keeper, libc::SIGTERM);
        assert_ended_by(&mut daemon, os::own_pid());
        await_gone(&tree);
        let took = begun.elapsed();
        assert!(took >= grace && took < grace + SLACK, "{took:?}");
        assert_eq!(daemon.got_sigterm(), !grace.is_zero());
        assert_eq!(daemon.end(), libc::SIGKILL);
    }
}

#[test]
fn sigterm_to_the_keeper_of_a_living_owner_ends_a_tree_that_is_suspended_for_a_look() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [keeper, tree @ ..] = daemon.tree();
    daemon.command(KeeperCommand::Freeze);
    assert_eq!(daemon.report(), Some(KeeperReport::Frozen { complete: true }));
    signal(&keeper, libc::SIGTERM);
    assert_ended_by(&mut daemon, os::own_pid());
    assert_eq!(daemon.end(), libc::SIGTERM);
    await_gone(&tree);
}

#[test]
fn sigterm_to_the_keeper_of_a_living_owner_goes_together_with_the_stop_of_the_owner() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(IGNORES_SIGTERM));
    let [keeper, tree @ ..] = daemon.tree();
    daemon.command(KeeperCommand::Terminate);
    until("the leader has got the stop signal", || daemon.got_sigterm());
    signal(&keeper, libc::SIGTERM);
    assert_ended_by(&mut daemon, os::own_pid());
    // The grace period of 30 s is not over.
    assert!(tree.iter().all(lives));
    daemon.command(KeeperCommand::Kill);
    assert_eq!(daemon.end(), libc::SIGKILL);
    await_gone(&tree);
}

#[test]
fn sigterm_to_the_keeper_of_a_living_owner_goes_on_after_the_death_of_the_owner() {
    let guardian = Guardian::start();
    let grace_ms = u32::try_from(GRACE.as_millis()).unwrap();
    let mut daemon = guardian.spawn(&TestOrder { grace_ms, owner_death: OwnerDeath::Keep, ..TestOrder::shell(IGNORES_SIGTERM) });
    let [keeper, tree @ ..] = daemon.tree();
    signal(&keeper, libc::SIGTERM);
    until("the leader has got the stop signal", || daemon.got_sigterm());
    daemon.close_owner_ends();
    await_gone(&tree);
    until("the lock is released", || daemon.is_unlocked());
}

#[test]
fn sigterm_of_another_user_to_the_keeper_of_a_living_owner_is_no_request() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [keeper, tree @ ..] = daemon.tree();
    if !signal_as_another_user(keeper.pid) {
        eprintln!("skipped: not root, or no python3");
        return;
    }
    await_handled(keeper.pid);
    // The keeper answers, and has nothing to report.
    daemon.command(KeeperCommand::Thaw);
    daemon.command(KeeperCommand::Freeze);
    assert_eq!(daemon.report(), Some(KeeperReport::Frozen { complete: true }));
    assert!(tree.iter().all(lives));
    signal(&keeper, libc::SIGTERM);
    assert_ended_by(&mut daemon, os::own_pid());
    await_gone(&tree);
}
