//! Two generations of one daemon: two keepers with one lock, one record and one plugin's folder, as during an upgrade.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use ally_base::os::{self, Process};
use ally_base::record::{DAEMON_ID, Identity, LockNote, RecordFiles, parse_identities, token_text};
use ally_base::wire::{KeeperCommand, OwnerDeath};
use ally_core::error::Code;

use crate::start::{manager, refusals, start};
use crate::support::{Daemon, Guardian, Name, TREE, TestOrder, await_gone, lives, signal, until};

struct Generation {
    daemon: Daemon,
    keeper: Process,
    leader: Process,
    tree: [Process; 3],
    identity: Identity,
}

fn generation(guardian: &Guardian, name: &Name, plan: &TestOrder) -> Generation {
    let token = token_text(os::random_bytes().unwrap());
    let mut plan = plan.clone();
    plan.env.push(format!("{DAEMON_ID}={token}").into_bytes());
    let mut daemon = guardian.spawn_under(name, &plan);
    let [keeper, tree @ ..] = daemon.tree();
    let leader = tree[0];
    let boot = os::boot_id().unwrap();
    let (pid, start, group) = (leader.pid, leader.start, leader.group);
    let identity = Identity {
        leader: pid,
        start,
        boot,
        session: keeper.pid,
        group,
        token: Some(token),
        keeper: Some(keeper.pid),
        version: None,
        grace_ms: None,
    };
    Generation { daemon, keeper, leader, tree, identity }
}

/// The serving generation and its successor, both recorded.
fn two(guardian: &Guardian, name: &Name, plan: &TestOrder) -> [Generation; 2] {
    let [old, new] = [(); 2].map(|()| generation(guardian, name, plan));
    RecordFiles::of(name.folder()).put_serving(&old.identity, &[]).unwrap();
    RecordFiles::of(name.folder()).add(&new.identity, std::slice::from_ref(&old.identity)).unwrap();
    [old, new]
}

fn recorded(name: &Name) -> (Option<String>, Vec<i32>) {
    let text = |file: &str| fs::read_to_string(name.home.path().join(file)).ok();
    let leaders = text("daemon.id").map(|text| parse_identities(&text)).unwrap_or_default();
    (text("daemon.pid"), leaders.iter().map(|identity| identity.leader).collect())
}

fn keep(owner_death: OwnerDeath) -> TestOrder {
    TestOrder { owner_death, ..TestOrder::shell(TREE) }
}

#[test]
fn record_a_keeper_removes_its_own_generation_and_leaves_the_other() {
    let guardian = Guardian::start();
    for (old_ends_first, changed_over) in [(true, false), (false, false), (true, true), (false, true)] {
        let name = Name::take();
        let [mut old, mut new] = two(&guardian, &name, &TestOrder::shell(TREE));
        let known = [old.identity.clone(), new.identity.clone()];
        if changed_over {
            RecordFiles::of(name.folder()).put_serving(&new.identity, &known).unwrap();
        }
        let serving = if changed_over { new.leader.pid } else { old.leader.pid };
        let (first, second) = if old_ends_first { (&mut old, &mut new) } else { (&mut new, &mut old) };
        first.daemon.command(KeeperCommand::Kill);
        let (_, remains) = first.daemon.exited();
        if remains {
            first.daemon.tree_gone();
        }
        // The report comes after the change.
        let pid_file = (serving == second.leader.pid).then(|| format!("{serving}\n"));
        assert_eq!(recorded(&name), (pid_file, vec![second.leader.pid]), "{old_ends_first} {changed_over}");
        second.daemon.command(KeeperCommand::Kill);
        let (_, remains) = second.daemon.exited();
        if remains {
            second.daemon.tree_gone();
        }
        assert_eq!(recorded(&name), (None, Vec::new()));
        let left: Vec<_> = fs::read_dir(name.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["daemon.lock"]);
    }
}

/// Whichever changes the record first, the other must not bring the first one's generation back.
#[test]
fn record_two_keepers_that_end_in_the_same_instant_leave_nothing() {
    let mut guardian = Guardian::start();
    for round in 0..30 {
        let name = Name::take();
        let plan = TestOrder { grace_ms: 200, ..TestOrder::shell("echo leader $$; exec sleep 60") };
        let mut pair = [(); 2].map(|()| guardian.spawn_under(&name, &plan));
        let processes = pair.each_mut().map(Daemon::spawned);
        let identities = processes.map(|[leader, keeper]| Identity {
            leader: leader.pid,
            start: leader.start,
            boot: "a-boot".to_owned(),
            session: keeper.pid,
            group: leader.group,
            token: None,
            keeper: Some(keeper.pid),
            version: None,
            grace_ms: None,
        });
        let files = RecordFiles::of(name.folder());
        files.put_serving(&identities[0], &[]).unwrap();
        files.add(&identities[1], &identities).unwrap();
        // In half of the rounds the owner dies, and each keeper ends its tree by itself.
        if round % 2 == 0 {
            pair.iter().for_each(|daemon| daemon.command(KeeperCommand::Kill));
        } else {
            pair.iter_mut().for_each(Daemon::close_owner_ends);
        }
        await_gone(&processes.concat());
        assert_eq!(recorded(&name), (None, Vec::new()), "round {round}");
    }
    guardian.close_stream();
}

/// The owner adds a generation at the moment at which the keeper of the other one removes its own.
#[test]
fn record_a_successor_that_is_recorded_while_the_other_generation_ends_stays_in_the_record() {
    let guardian = Guardian::start();
    for round in 0..40 {
        let name = Name::take();
        let mut old = guardian.spawn_under(&name, &TestOrder::shell("exec sleep 60"));
        let [leader, keeper] = old.spawned();
        let boot = "a-boot".to_owned();
        let [session, group] = [keeper.pid, leader.group];
        let first = Identity {
            leader: leader.pid,
            start: leader.start,
            boot,
            session,
            group,
            token: None,
            keeper: Some(keeper.pid),
            version: None,
            grace_ms: None,
        };
        let second = Identity { leader: 4711, keeper: Some(4712), ..first.clone() };
        let files = RecordFiles::of(name.folder());
        files.put_serving(&first, &[]).unwrap();
        old.command(KeeperCommand::Kill);
        // Later in each round, so that some rounds meet the removal.
        for _ in 0..round * 500 {
            std::hint::spin_loop();
        }
        files.add(&second, &[]).unwrap();
        await_gone(&[leader, keeper]);
        assert_eq!(recorded(&name).1.last(), Some(&4711), "round {round}");
    }
}

#[test]
fn lock_note_names_the_keepers_of_both_generations_after_the_owners_death() {
    let mut guardian = Guardian::start();
    for round in 0..10 {
        let name = Name::take();
        let mut pair = two(&guardian, &name, &keep(OwnerDeath::Keep));
        let place = name.home.path().join("daemon.lock");
        fs::write(&place, "owner 4711 1 1234567890123456789 a-boot pid:[1] net:[2] a-host-with-a-long-name-beyond-that-of-a-keeper\n")
            .unwrap();
        pair.iter_mut().for_each(|generation| generation.daemon.close_owner_ends());
        let mut expected = pair.each_ref().map(|generation| (generation.keeper.pid, generation.keeper.start));
        expected.sort_unstable();
        let named = || {
            let keepers = LockNote::keepers(&fs::read_to_string(&place).unwrap());
            let mut named: Vec<_> = keepers
                .iter()
                .map(|note| match note {
                    LockNote::Keeper { pid, start, .. } => (*pid, *start),
                    other => panic!("{other:?}"),
                })
                .collect();
            named.sort_unstable();
            named
        };
        until("both keepers are named", || named() == expected);
        let text = fs::read_to_string(&place).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("keeper ")).count(), text.lines().count(), "{text}");
        drop(name);
        let daemon = &pair[0].daemon;
        assert!(!daemon.is_unlocked());
        // Each keeper ends its own tree on SIGTERM, and the other one keeps the lock.
        let [first, second] = if round % 2 == 0 { [&pair[0], &pair[1]] } else { [&pair[1], &pair[0]] };
        signal(&first.keeper, libc::SIGTERM);
        await_gone(&[&first.tree[..], &[first.keeper]].concat());
        assert!(!daemon.is_unlocked() && second.tree.iter().all(lives));
        signal(&second.keeper, libc::SIGTERM);
        await_gone(&[&second.tree[..], &[second.keeper]].concat());
        until("the lock is released", || daemon.is_unlocked());
    }
    guardian.close_stream();
}

/// The folder was cleared while the owner lived: the keeper of the newer generation has the new lock file, the older one has not.
#[test]
fn lock_note_names_both_keepers_although_only_one_holds_the_new_lock_file() {
    let mut guardian = Guardian::start();
    let name = Name::take();
    let mut old = generation(&guardian, &name, &keep(OwnerDeath::Keep));
    fs::remove_file(name.home.path().join("daemon.lock")).unwrap();
    let name = name.with_new_lock_file();
    let mut new = generation(&guardian, &name, &keep(OwnerDeath::Keep));
    let place = name.home.path().join("daemon.lock");
    drop(name);
    new.daemon.close_owner_ends();
    until("the newer keeper is named", || LockNote::keepers(&fs::read_to_string(&place).unwrap()).len() == 1);
    old.daemon.close_owner_ends();
    until("both keepers are named", || LockNote::keepers(&fs::read_to_string(&place).unwrap()).len() == 2);
    for generation in [old, new] {
        signal(&generation.keeper, libc::SIGTERM);
        await_gone(&generation.tree);
    }
    guardian.close_stream();
}

/// The plugin's name, in the folder in which a manager looks for it.
fn name_of_a_manager() -> Name {
    let home = tempfile::tempdir().unwrap();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(home.path().join("envs/p")).unwrap();
    Name::take_in(home, "envs/p")
}

/// Under `onOwnerDeath: 'keep'` each keeper needs a SIGTERM, and the lock is free when both are gone.
#[test]
fn start_after_the_owners_death_stops_the_keepers_of_both_generations() {
    for (owner_death, cleared) in [(OwnerDeath::Keep, false), (OwnerDeath::Stop, false), (OwnerDeath::Keep, true)] {
        let mut guardian = Guardian::start();
        let mut name = name_of_a_manager();
        let mut old = generation(&guardian, &name, &keep(owner_death));
        if cleared {
            fs::remove_file(name.home.path().join("envs/p/daemon.lock")).unwrap();
            name = name.with_new_lock_file();
        }
        let mut new = generation(&guardian, &name, &keep(owner_death));
        let files = RecordFiles::of(name.folder());
        files.put_serving(&old.identity, &[]).unwrap();
        files.add(&new.identity, std::slice::from_ref(&old.identity)).unwrap();
        let home = std::rc::Rc::clone(&name.home);
        drop(name);
        for generation in [&mut old, &mut new] {
            generation.daemon.close_owner_ends();
        }
        let manager = manager(home.path());
        start(&manager, "p", home.path(), "socket");
        assert_eq!(refusals(&manager, 1)[0].code(), Code::StartupExit, "the name was free for the start");
        for generation in [old, new] {
            assert!(!generation.tree.iter().any(lives), "{owner_death:?}, cleared: {cleared}");
        }
        guardian.close_stream();
    }
}
