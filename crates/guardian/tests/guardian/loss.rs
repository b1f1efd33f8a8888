//! Guardians and keepers that somebody kills.

use ally_base::wire::{GuardianReport, KeeperCommand, KeeperReport};

use crate::world::{FAMILY, Guardian, Plan, STUBBORN, await_gone, lives, signal, until};

#[test]
fn the_tree_of_a_killed_keeper_is_swept() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(STUBBORN));
    let [keeper, family @ ..] = daemon.family();
    signal(&keeper, libc::SIGKILL);
    assert_eq!(daemon.report(), None, "that is how the owner learns of it");
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    assert!(!family.iter().any(lives), "it is said when it is done, and not before");
    until("the lock's release", || daemon.is_unlocked());
}

#[test]
fn what_a_killed_keeper_s_leader_left_is_swept_with_all_below_it() {
    let mut guardian = Guardian::start();
    let script = "trap '' TERM; (setsid sh -c 'setsid -f sh -c \"echo below \\$\\$; exec sleep 60\"; echo fled $$; sleep 60; :' &)";
    let mut daemon = guardian.make(&Plan::shell(script));
    let Some(KeeperReport::Spawned { keeper, .. }) = daemon.report() else { panic!("not spawned") };
    let left = daemon.on_found(["fled", "below"]);
    assert_eq!(daemon.report(), Some(KeeperReport::Exited { status: 0, remains: true }));
    let keeper = ally_base::os::look_up(keeper).unwrap();
    signal(&keeper, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    assert!(!left.iter().any(lives));
    assert_eq!(daemon.output(), "", "nor is anyone else left who held the pipe");
}

#[test]
fn the_death_of_one_keeper_costs_no_other_daemon_anything() {
    let mut guardian = Guardian::start();
    let [mut first, mut second, mut third] = [(); 3].map(|()| guardian.make(&Plan::shell(FAMILY)));
    let [lost, family @ ..] = second.family();
    let others = [first.family(), third.family()].concat();
    signal(&lost, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: lost.pid }));
    assert!(!family.iter().any(lives));
    assert!(others.iter().all(lives));
    for daemon in [&mut first, &mut third] {
        daemon.command(KeeperCommand::Terminate);
        assert_eq!(daemon.end(), libc::SIGTERM);
    }
}

#[test]
fn several_keepers_may_be_killed_at_once() {
    let mut guardian = Guardian::start();
    let mut daemons = [(); 5].map(|()| guardian.make(&Plan::shell(FAMILY)));
    let families = daemons.each_mut().map(|daemon| daemon.family());
    families.iter().for_each(|[keeper, ..]| signal(keeper, libc::SIGKILL));
    let mut swept: Vec<i32> = families
        .iter()
        .filter_map(|_| if let Some(GuardianReport::Swept { keeper }) = guardian.report() { Some(keeper) } else { None })
        .collect();
    let mut killed = families.map(|[keeper, ..]| keeper.pid);
    swept.sort_unstable();
    killed.sort_unstable();
    assert_eq!(swept, killed);
    await_gone(&families.concat());
}

#[test]
fn a_guardian_without_owner_still_sweeps() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(STUBBORN));
    let everyone = daemon.family();
    guardian.let_go();
    signal(&everyone[0], libc::SIGKILL);
    await_gone(&everyone);
    assert!(guardian.await_exit().success());
}

#[test]
fn a_killed_guardian_s_keepers_go_on() {
    let mut guardian = Guardian::start();
    let [mut first, mut second, mut third] = [FAMILY, STUBBORN, FAMILY].map(|script| guardian.make(&Plan::shell(script)));
    let families = [first.family(), second.family(), third.family()];
    guardian.kill();
    first.command(KeeperCommand::Terminate);
    assert_eq!(first.end(), libc::SIGTERM);
    assert!(families[1..].iter().flatten().all(lives));
    second.command(KeeperCommand::Kill);
    assert_eq!(second.end(), libc::SIGKILL);
    third.abandon();
    await_gone(&families.concat());
    until("the lock's release", || third.is_unlocked());
}

#[test]
fn a_leader_dies_with_its_keeper_though_nobody_is_left_to_sweep() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(STUBBORN));
    let [keeper, leader, strays @ ..] = daemon.family();
    guardian.kill();
    signal(&keeper, libc::SIGKILL);
    await_gone(&[keeper, leader]);
    until("the lock's release", || daemon.is_unlocked());
    // The next start finds the rest by the leader's session, where it stayed in that; here that is for us to do.
    strays.iter().for_each(|stray| signal(stray, libc::SIGKILL));
}

#[test]
fn a_keeper_tells_of_an_exit_without_its_guardian() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(FAMILY));
    let [_, leader, child, fled] = daemon.family();
    guardian.kill();
    signal(&leader, libc::SIGSEGV);
    assert_eq!(
        daemon
            .report()
            .map(|report| matches!(report, KeeperReport::Exited { status, remains: true } if libc::WTERMSIG(status) == libc::SIGSEGV)),
        Some(true)
    );
    signal(&child, libc::SIGKILL);
    assert!(!daemon.is_unlocked());
    signal(&fled, libc::SIGKILL);
    assert_eq!(daemon.report(), Some(KeeperReport::TreeGone));
}

#[test]
fn a_new_guardian_is_as_good_as_the_one_that_was_killed() {
    let mut lost = Guardian::start();
    let mut old = lost.make(&Plan::shell(FAMILY));
    old.family();
    lost.kill();
    let guardian = Guardian::start();
    let mut new = guardian.make(&Plan::shell(FAMILY));
    new.family();
    for daemon in [&mut old, &mut new] {
        daemon.command(KeeperCommand::Terminate);
        assert_eq!(daemon.end(), libc::SIGTERM);
    }
}
