//! `ownerDeath`: the trees of a dead owner are stopped or kept.

use std::fs;
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::record::LockNote;
use ally_base::wire::{KeeperCommand, OwnerDeath};

use crate::ended_by::{await_handled, signal_as_another_user};
use crate::support::{Daemon, Guardian, IGNORES_SIGTERM, TREE, TestOrder, await_gone, lives, signal, until};

const GRACE: Duration = Duration::from_millis(250);
/// The promised time beside the grace period.
const SLACK: Duration = Duration::from_secs(2);

fn with_grace(plan: TestOrder) -> TestOrder {
    TestOrder { grace_ms: u32::try_from(GRACE.as_millis()).unwrap(), ..plan }
}

fn keep(plan: TestOrder) -> TestOrder {
    TestOrder { owner_death: OwnerDeath::Keep, ..plan }
}

#[track_caller]
fn await_lock_release(daemon: &Daemon) {
    until("the lock is released", || daemon.is_unlocked());
}

#[test]
fn owner_death_stop_ends_the_tree() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let processes = daemon.tree();
    daemon.close_owner_ends();
    guardian.close_stream();
    await_gone(&processes);
    await_lock_release(&daemon);
    assert!(guardian.await_exit().success());
}

#[test]
fn owner_death_stop_kills_after_the_grace_period_and_not_before() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&with_grace(TestOrder::shell(IGNORES_SIGTERM)));
    let processes = daemon.tree();
    let begun = Instant::now();
    daemon.close_owner_ends();
    until("the leader has got the stop signal", || daemon.got_sigterm());
    assert!(processes.iter().all(lives));
    await_gone(&processes);
    let took = begun.elapsed();
    assert!(took >= GRACE && took < GRACE + SLACK, "{took:?}");
    await_lock_release(&daemon);
}

/// A member of the leader's group. Its parent is outside of the group, survives, and writes the signal that ended the member.
const PARENT_OUTSIDE_WRITES_SIGNAL: &str = "
import os, time
if os.fork() == 0:
    victim = os.fork()
    if victim == 0:
        time.sleep(60)
        os._exit(0)
    os.setsid()
    print('witness', os.getpid(), flush=True)
    status = os.waitpid(victim, 0)[1]
    open('saw', 'w').write(str(os.WTERMSIG(status)))
    os._exit(0)
time.sleep(60)
";

#[test]
fn owner_death_stop_without_a_grace_period_sends_sigkill_at_once() {
    let guardian = Guardian::start();
    for (grace_ms, signal) in [(0, libc::SIGKILL), (30_000, libc::SIGTERM)] {
        let mut daemon = guardian.spawn(&TestOrder {
            grace_ms,
            group_only: true,
            ..TestOrder::program(&["/usr/bin/env", "python3", "-c", PARENT_OUTSIDE_WRITES_SIGNAL])
        });
        daemon.spawned();
        let witness = daemon.await_introductions(["witness"]);
        daemon.close_owner_ends();
        await_gone(&witness);
        assert_eq!(fs::read_to_string(daemon.path("saw")).unwrap(), signal.to_string());
    }
}

#[test]
fn owner_death_during_a_stop_finishes_the_stop() {
    let guardian = Guardian::start();
    for owner_death in [OwnerDeath::Stop, OwnerDeath::Keep] {
        for command in [KeeperCommand::Terminate, KeeperCommand::Kill] {
            let mut daemon = guardian.spawn(&TestOrder { owner_death, ..with_grace(TestOrder::shell(IGNORES_SIGTERM)) });
            let processes = daemon.tree();
            daemon.command(command);
            daemon.close_owner_ends();
            await_gone(&processes);
            await_lock_release(&daemon);
        }
    }
}

#[test]
fn owner_death_before_the_spawn_report_ends_the_tree() {
    for _ in 0..20 {
        let mut guardian = Guardian::start();
        // With a grace period, because a child that is being forked may miss the stop signal.
        let mut daemon = guardian.spawn(&with_grace(TestOrder::shell(TREE)));
        daemon.close_owner_ends();
        guardian.close_stream();
        assert!(guardian.await_exit().success());
        await_lock_release(&daemon);
    }
}

#[test]
fn owner_death_writes_the_keeper_into_the_lock_note_before_the_stop_signal() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&with_grace(TestOrder::shell(IGNORES_SIGTERM)));
    fs::write(daemon.path("daemon.lock"), format!("owner 4711 123456789 1234567890123456789 {}\n", "-".repeat(100))).unwrap();
    let [keeper, ..] = daemon.tree();
    daemon.close_owner_ends();
    // The note is written before the stop signal is sent.
    until("the leader has got the stop signal", || daemon.got_sigterm());
    let place = ally_base::record::own_place().unwrap();
    assert_eq!(daemon.lock_text(), format!("keeper {} {} {} {place}\n", keeper.pid, keeper.start, GRACE.as_millis()));
    let note = LockNote::Keeper { pid: keeper.pid, start: keeper.start, grace_ms: GRACE.as_millis() as u64 };
    assert_eq!(LockNote::parse(&daemon.lock_text()), note);
    assert!(!daemon.is_unlocked());
    await_lock_release(&daemon);
}

#[test]
fn guardian_without_an_owner_exits_after_its_last_keeper() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell(TREE));
    let [keeper, ..] = daemon.tree();
    guardian.close_stream();
    // The stream to the keeper is still open.
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.end(), libc::SIGTERM);
    assert!(guardian.await_exit().success());
    assert!(!lives(&keeper));
}

/// Output during the stop must neither block the daemon nor end it by SIGPIPE.
#[test]
fn owner_death_a_daemon_may_fill_its_pipes_during_the_stop() {
    let guardian = Guardian::start();
    let script = "trap 'head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; : >said; exit' TERM; echo leader $$; for again in $(seq 6000); do sleep 0.01; done";
    let mut daemon = guardian.spawn(&TestOrder::shell(script));
    let [leader, keeper] = daemon.spawned();
    daemon.await_introductions(["leader"]);
    daemon.close_owner_ends();
    await_gone(&[leader, keeper]);
    assert!(daemon.path("said").exists());
}

/// A member of the leader's group that ignores SIGTERM and ends with the file `go`. Its parent left the group, so the keeper
/// gets no SIGCHLD for it.
const MEMBER_OF_A_PARENT_OUTSIDE: &str = "
import os, signal, time
if os.fork() == 0:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('member', os.getpid(), flush=True)
        end = time.monotonic() + 60
        while not os.access('go', os.F_OK) and time.monotonic() < end:
            time.sleep(0.005)
        os._exit(0)
    os.setsid()
    print('apart', os.getpid(), flush=True)
    os.wait()
    time.sleep(60)
    os._exit(0)
print('leader', os.getpid(), flush=True)
time.sleep(60)
";

#[test]
fn owner_death_with_kill_mode_group_ends_with_the_last_member_before_the_grace_period() {
    let guardian = Guardian::start();
    // Longer than the deadline of every wait.
    let plan = TestOrder {
        grace_ms: 600_000,
        group_only: true,
        ..TestOrder::program(&["/usr/bin/env", "python3", "-c", MEMBER_OF_A_PARENT_OUTSIDE])
    };
    let mut daemon = guardian.spawn(&plan);
    let [_, keeper] = daemon.spawned();
    let [leader, member, apart] = daemon.await_introductions(["leader", "member", "apart"]);
    assert_eq!(member.group, leader.group);
    daemon.close_owner_ends();
    await_gone(&[leader]);
    assert!(lives(&member) && lives(&keeper) && !daemon.is_unlocked());
    fs::write(daemon.path("go"), "").unwrap();
    await_gone(&[member, keeper]);
    await_lock_release(&daemon);
    assert!(lives(&apart), "a process outside of the group survives");
    signal(&apart, libc::SIGKILL);
}

// ownerDeath: 'keep'.

/// With the file `go` it prints more than its pipes hold, and then writes the file `printed`.
const PRINTS_ON_GO: &str = r"
    (setsid sh -c 'echo detached $$; exec sleep 60' &)
    sh -c 'echo child $$; exec sleep 60' &
    echo leader $$
    for again in $(seq 6000); do test -e go && break; sleep 0.01; done
    head -c 1000000 /dev/zero
    head -c 1000000 /dev/zero >&2
    echo > printed
    exec sleep 60
";

#[test]
fn owner_death_keep_a_daemon_that_prints_lives_on() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.spawn(&keep(with_grace(TestOrder::shell(PRINTS_ON_GO))));
    let [keeper, tree @ ..] = daemon.tree();
    daemon.close_owner_ends();
    guardian.close_stream();
    fs::write(daemon.path("go"), "").unwrap();
    until("every byte is printed", || daemon.path("printed").exists());
    assert!(tree.iter().all(lives) && !daemon.is_unlocked());
    let note = LockNote::Keeper { pid: keeper.pid, start: keeper.start, grace_ms: GRACE.as_millis() as u64 };
    assert_eq!(LockNote::parse(&daemon.lock_text()), note);
    signal(&keeper, libc::SIGTERM);
    await_gone(&tree);
    await_lock_release(&daemon);
    assert!(guardian.await_exit().success());
}

#[test]
fn owner_death_keep_sigterm_to_the_keeper_kills_after_the_grace_period() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&keep(with_grace(TestOrder::shell(IGNORES_SIGTERM))));
    let [keeper, tree @ ..] = daemon.tree();
    daemon.close_owner_ends();
    until("the keeper has handled the death of the owner", || daemon.lock_text().starts_with("keeper "));
    assert!(tree.iter().all(lives));
    let begun = Instant::now();
    signal(&keeper, libc::SIGTERM);
    until("the leader has got the stop signal", || daemon.got_sigterm());
    await_gone(&tree);
    let took = begun.elapsed();
    assert!(took >= GRACE && took < GRACE + SLACK, "{took:?}");
}

#[test]
fn owner_death_keep_the_keeper_exits_with_its_tree() {
    let mut guardian = Guardian::start();
    let mut daemon =
        guardian.spawn(&keep(TestOrder::shell("echo leader $$; for again in $(seq 6000); do test -e go && break; sleep 0.01; done")));
    daemon.spawned();
    let leader = daemon.await_introductions(["leader"]);
    daemon.close_owner_ends();
    guardian.close_stream();
    until("the keeper has handled the death of the owner", || daemon.lock_text().starts_with("keeper "));
    assert!(lives(&leader[0]) && !daemon.is_unlocked());
    fs::write(daemon.path("go"), "").unwrap();
    await_gone(&leader);
    await_lock_release(&daemon);
    assert!(guardian.await_exit().success());
}

#[test]
fn owner_death_keep_ignores_a_sigterm_that_the_guardian_got_before_the_fork() {
    let mut guardian = Guardian::start();
    // After an answer the guardian has its signal handlers.
    assert_eq!(guardian.spawn(&TestOrder::shell("echo up")).output(), "up\n");
    signal(&os::look_up(guardian.pid()).unwrap(), libc::SIGTERM);
    assert_eq!(guardian.spawn(&TestOrder::shell("echo still up")).output(), "still up\n");
    let mut daemon = guardian.spawn(&keep(TestOrder::shell("for again in $(seq 6000); do test -e go && break; sleep 0.01; done; : >went")));
    let [leader, keeper] = daemon.spawned();
    daemon.close_owner_ends();
    guardian.close_stream();
    until("the keeper has handled the death of the owner", || daemon.lock_text().starts_with("keeper "));
    fs::write(daemon.path("go"), "").unwrap();
    await_gone(&[leader, keeper]);
    assert!(daemon.path("went").exists());
}

#[test]
fn keeper_of_a_living_owner_ignores_signals_other_than_sigterm() {
    let guardian = Guardian::start();
    for owner_death in [OwnerDeath::Stop, OwnerDeath::Keep] {
        let script = "echo leader $$; for again in $(seq 6000); do test -e go && break; sleep 0.01; done; exit 4";
        let mut daemon = guardian.spawn(&TestOrder { owner_death, ..TestOrder::shell(script) });
        let [_, keeper] = daemon.spawned();
        daemon.await_introductions(["leader"]);
        for number in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE, libc::SIGUSR1] {
            signal(&keeper, number);
        }
        fs::write(daemon.path("go"), "").unwrap();
        assert_eq!(daemon.exited(), (4 << 8, false));
    }
}

#[test]
fn owner_death_keep_ignores_a_sigterm_of_another_user_that_the_keeper_got_before() {
    let guardian = Guardian::start();
    let script = "
        (setsid sh -c 'echo detached $$; exec sleep 60' &)
        echo leader $$
        for again in $(seq 6000); do test -e go && break; sleep 0.01; done
        : >went
    ";
    let mut daemon = guardian.spawn(&keep(TestOrder::shell(script)));
    let [_, keeper] = daemon.spawned();
    let [leader, detached] = daemon.await_introductions(["leader", "detached"]);
    if !signal_as_another_user(keeper.pid) {
        eprintln!("skipped: not root, or no python3");
        return;
    }
    await_handled(keeper.pid);
    daemon.close_owner_ends();
    until("the keeper has handled the death of the owner", || daemon.lock_text().starts_with("keeper "));
    // The keeper reaps this process after it has handled the owner's death.
    signal(&detached, libc::SIGKILL);
    until("the detached process is reaped", || os::look_up(detached.pid).is_none());
    fs::write(daemon.path("go"), "").unwrap();
    await_gone(&[leader, keeper]);
    assert!(daemon.path("went").exists(), "the leader got no signal");
}
