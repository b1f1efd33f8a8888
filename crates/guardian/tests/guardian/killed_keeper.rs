//! Killed keepers and guardians: the sweep of the tree, and daemons that go on.

use ally_base::wire::{GuardianReport, KeeperCommand, KeeperReport};

use crate::support::{Guardian, IGNORES_SIGTERM, TREE, TestOrder, await_gone, lives, signal, until};

#[test]
fn killed_keeper_its_tree_is_swept() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(IGNORES_SIGTERM));
    let [keeper, tree @ ..] = daemon.tree();
    signal(&keeper, libc::SIGKILL);
    assert_eq!(daemon.report(), None, "the stream of a killed keeper ends without a report");
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    assert!(!tree.iter().any(lives), "Swept is reported after the tree is gone");
    until("the lock is released", || daemon.is_unlocked());
}

#[test]
fn killed_keeper_the_descendants_of_an_exited_leader_are_swept() {
    let mut guardian = Guardian::start();
    let script = "trap '' TERM; (setsid sh -c 'setsid -f sh -c \"echo below \\$\\$; exec sleep 60\"; echo detached $$; sleep 60; :' &)";
    let mut daemon = guardian.spawn(&TestOrder::shell(script));
    let Some(KeeperReport::Spawned { keeper, .. }) = daemon.report() else { panic!("not spawned") };
    let left = daemon.await_introductions(["detached", "below"]);
    assert_eq!(daemon.exited(), (0, true));
    let keeper = ally_base::os::look_up(keeper).unwrap();
    signal(&keeper, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: keeper.pid }));
    assert!(!left.iter().any(lives));
    assert_eq!(daemon.output(), "", "no process holds the pipe");
}

#[test]
fn killed_keeper_other_daemons_go_on() {
    let mut guardian = Guardian::start();
    let [mut first, mut second, mut third] = [(); 3].map(|()| guardian.spawn(&TestOrder::shell(TREE)));
    let [lost, tree @ ..] = second.tree();
    let others = [first.tree(), third.tree()].concat();
    signal(&lost, libc::SIGKILL);
    assert_eq!(guardian.report(), Some(GuardianReport::Swept { keeper: lost.pid }));
    assert!(!tree.iter().any(lives));
    assert!(others.iter().all(lives));
    for daemon in [&mut first, &mut third] {
        daemon.command(KeeperCommand::Terminate);
        assert_eq!(daemon.end(), libc::SIGTERM);
    }
}

#[test]
fn five_killed_keepers_are_swept() {
    let mut guardian = Guardian::start();
    let mut daemons = [(); 5].map(|()| guardian.spawn(&TestOrder::shell(TREE)));
    let trees = daemons.each_mut().map(|daemon| daemon.tree());
    trees.iter().for_each(|[keeper, ..]| signal(keeper, libc::SIGKILL));
    let mut swept: Vec<i32> = trees
        .iter()
        .filter_map(|_| if let Some(GuardianReport::Swept { keeper }) = guardian.report() { Some(keeper) } else { None })
        .collect();
    let mut killed = trees.map(|[keeper, ..]| keeper.pid);
    swept.sort_unstable();
    killed.sort_unstable();
    assert_eq!(swept, killed);
    await_gone(&trees.concat());
}

#[test]
fn killed_keeper_is_swept_by_a_guardian_without_an_owner() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(IGNORES_SIGTERM));
    let processes = daemon.tree();
    guardian.close_stream();
    signal(&processes[0], libc::SIGKILL);
    await_gone(&processes);
    assert!(guardian.await_exit().success());
}

#[test]
fn killed_guardian_its_keepers_obey_commands_and_the_owners_death() {
    let mut guardian = Guardian::start();
    let [mut first, mut second, mut third] = [TREE, IGNORES_SIGTERM, TREE].map(|script| guardian.spawn(&TestOrder::shell(script)));
    let trees = [first.tree(), second.tree(), third.tree()];
    guardian.kill();
    first.command(KeeperCommand::Terminate);
    assert_eq!(first.end(), libc::SIGTERM);
    assert!(trees[1..].iter().flatten().all(lives));
    second.command(KeeperCommand::Kill);
    assert_eq!(second.end(), libc::SIGKILL);
    third.close_owner_ends();
    await_gone(&trees.concat());
    until("the lock is released", || third.is_unlocked());
}

#[test]
fn killed_guardian_and_keeper_the_leader_dies_by_pdeathsig() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(IGNORES_SIGTERM));
    let [keeper, leader, others @ ..] = daemon.tree();
    guardian.kill();
    signal(&keeper, libc::SIGKILL);
    await_gone(&[keeper, leader]);
    until("the lock is released", || daemon.is_unlocked());
    // The next start would find the rest by the leader's POSIX session. No start follows in this test.
    others.iter().for_each(|process| signal(process, libc::SIGKILL));
}

#[test]
fn killed_guardian_its_keeper_reports_exits_to_the_owner() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [_, leader, child, detached] = daemon.tree();
    guardian.kill();
    signal(&leader, libc::SIGSEGV);
    assert_eq!(
        daemon
            .report()
            .map(|report| matches!(report, KeeperReport::Exited { status, remains: true, .. } if libc::WTERMSIG(status) == libc::SIGSEGV)),
        Some(true)
    );
    signal(&child, libc::SIGKILL);
    assert!(!daemon.is_unlocked());
    signal(&detached, libc::SIGKILL);
    daemon.tree_gone();
}

#[test]
fn killed_guardian_a_new_guardian_spawns_beside_the_old_keepers() {
    let mut lost = Guardian::start();
    let mut old = lost.spawn(&TestOrder::shell(TREE));
    old.tree();
    lost.kill();
    let guardian = Guardian::start();
    let mut new = guardian.spawn(&TestOrder::shell(TREE));
    new.tree();
    for daemon in [&mut old, &mut new] {
        daemon.command(KeeperCommand::Terminate);
        assert_eq!(daemon.end(), libc::SIGTERM);
    }
}
