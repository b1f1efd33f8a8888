//! What becomes of trees whose owner is gone.

use std::fs;
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::record::LockNote;
use ally_base::wire::{KeeperCommand, KeeperReport, OwnerDeath};

use crate::hygiene::{bit, mask, status};
use crate::world::{Daemon, FAMILY, Guardian, Plan, STUBBORN, await_gone, lives, signal, until};

const GRACE: Duration = Duration::from_millis(250);
/// What the contract allows beside the grace period.
const SLACK: Duration = Duration::from_secs(2);

fn with_grace(plan: Plan) -> Plan {
    Plan { grace_ms: u32::try_from(GRACE.as_millis()).unwrap(), ..plan }
}

fn keep(plan: Plan) -> Plan {
    Plan { owner_death: OwnerDeath::Keep, ..plan }
}

#[track_caller]
fn await_unlocked(daemon: &Daemon) {
    until("the lock's release", || daemon.is_unlocked());
}

#[test]
fn the_tree_of_a_dead_owner_ends() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(FAMILY));
    let everyone = daemon.family();
    daemon.abandon();
    guardian.let_go();
    await_gone(&everyone);
    await_unlocked(&daemon);
    assert!(guardian.await_exit().success());
}

#[test]
fn a_stubborn_tree_is_killed_after_its_grace_and_not_before() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&with_grace(Plan::shell(STUBBORN)));
    let everyone = daemon.family();
    let begun = Instant::now();
    daemon.abandon();
    until("it to be asked", || daemon.heard());
    assert!(everyone.iter().all(lives));
    await_gone(&everyone);
    let took = begun.elapsed();
    assert!(took >= GRACE && took < GRACE + SLACK, "{took:?}");
    await_unlocked(&daemon);
}

/// A member of the leader's group whose parent left the group, and so lives to see what ended it.
const WITNESSED: &str = "
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
fn without_a_grace_period_nobody_is_asked() {
    let guardian = Guardian::start();
    for (grace_ms, signal) in [(0, libc::SIGKILL), (30_000, libc::SIGTERM)] {
        let mut daemon =
            guardian.make(&Plan { grace_ms, group_only: true, ..Plan::program(&["/usr/bin/env", "python3", "-c", WITNESSED]) });
        daemon.born();
        let witness = daemon.on_found(["witness"]);
        daemon.abandon();
        await_gone(&witness);
        assert_eq!(fs::read_to_string(daemon.path("saw")).unwrap(), signal.to_string());
    }
}

#[test]
fn an_end_that_the_owner_began_is_finished_without_it() {
    let guardian = Guardian::start();
    for owner_death in [OwnerDeath::Stop, OwnerDeath::Keep] {
        for command in [KeeperCommand::Terminate, KeeperCommand::Kill] {
            let mut daemon = guardian.make(&Plan { owner_death, ..with_grace(Plan::shell(STUBBORN)) });
            let everyone = daemon.family();
            daemon.command(command);
            daemon.abandon();
            await_gone(&everyone);
            await_unlocked(&daemon);
        }
    }
}

#[test]
fn an_owner_may_die_before_it_hears_of_the_birth() {
    for _ in 0..20 {
        let mut guardian = Guardian::start();
        // With a grace period: what is being forked right now may miss the signal.
        let mut daemon = guardian.make(&with_grace(Plan::shell(FAMILY)));
        daemon.abandon();
        guardian.let_go();
        assert!(guardian.await_exit().success());
        await_unlocked(&daemon);
    }
}

#[test]
fn the_lock_says_who_ends_the_tree_of_a_dead_owner() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&with_grace(Plan::shell(STUBBORN)));
    fs::write(daemon.path("lock"), "owner 4711 123456789 1234567890123456789\n").unwrap();
    let [keeper, ..] = daemon.family();
    daemon.abandon();
    // Written before anyone is asked to end.
    until("it to be asked", || daemon.heard());
    assert_eq!(daemon.lock_text(), format!("keeper {} {} {}\n", keeper.pid, keeper.start, GRACE.as_millis()));
    let note = LockNote::Keeper { pid: keeper.pid, start: keeper.start, grace_ms: GRACE.as_millis() as u64 };
    assert_eq!(LockNote::parse(&daemon.lock_text()), note);
    assert!(!daemon.is_unlocked());
    await_unlocked(&daemon);
}

#[test]
fn a_guardian_that_is_not_needed_any_more_waits_for_its_keepers() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell(FAMILY));
    let [keeper, ..] = daemon.family();
    guardian.let_go();
    // The daemon's own stream goes on.
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.end(), libc::SIGTERM);
    assert!(guardian.await_exit().success());
    assert!(!lives(&keeper));
}

/// What a plugin says on its way out must neither block it nor kill it.
#[test]
fn a_daemon_may_print_without_end_while_it_stops() {
    let guardian = Guardian::start();
    let script = "trap 'head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; : >said; exit' TERM; echo leader $$; for again in $(seq 6000); do sleep 0.01; done";
    let mut daemon = guardian.make(&Plan::shell(script));
    let [leader, keeper] = daemon.born();
    daemon.on_found(["leader"]);
    daemon.abandon();
    await_gone(&[leader, keeper]);
    assert!(daemon.path("said").exists());
}

/// A member of the leader's group that is deaf to SIGTERM and ends when told, below one that left the group: the keeper
/// is not told of its end.
const UNHEARD: &str = "
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
fn a_dead_owner_s_group_is_gone_with_its_last_member_and_not_with_the_grace_period() {
    let guardian = Guardian::start();
    // Longer than any wait of a test.
    let plan = Plan { grace_ms: 600_000, group_only: true, ..Plan::program(&["/usr/bin/env", "python3", "-c", UNHEARD]) };
    let mut daemon = guardian.make(&plan);
    let [_, keeper] = daemon.born();
    let [leader, member, apart] = daemon.on_found(["leader", "member", "apart"]);
    assert_eq!(member.group, leader.pid);
    daemon.abandon();
    await_gone(&[leader]);
    assert!(lives(&member) && lives(&keeper) && !daemon.is_unlocked());
    fs::write(daemon.path("go"), "").unwrap();
    await_gone(&[member, keeper]);
    await_unlocked(&daemon);
    assert!(lives(&apart), "it was meant to outlive them");
    signal(&apart, libc::SIGKILL);
}

// Trees that are kept.

/// Told to go on, it prints far more than its pipes hold, and says so when it is through.
const CHATTERBOX: &str = r"
    (setsid sh -c 'echo fled $$; exec sleep 60' &)
    sh -c 'echo child $$; exec sleep 60' &
    echo leader $$
    while ! test -e go; do sleep 0.01; done
    head -c 1000000 /dev/zero
    head -c 1000000 /dev/zero >&2
    echo > printed
    exec sleep 60
";

#[test]
fn a_kept_tree_lives_on_also_when_it_prints() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.make(&keep(with_grace(Plan::shell(CHATTERBOX))));
    let [keeper, family @ ..] = daemon.family();
    daemon.abandon();
    guardian.let_go();
    fs::write(daemon.path("go"), "").unwrap();
    until("all to be printed", || daemon.path("printed").exists());
    assert!(family.iter().all(lives) && !daemon.is_unlocked());
    let note = LockNote::Keeper { pid: keeper.pid, start: keeper.start, grace_ms: GRACE.as_millis() as u64 };
    assert_eq!(LockNote::parse(&daemon.lock_text()), note);
    signal(&keeper, libc::SIGTERM);
    await_gone(&family);
    await_unlocked(&daemon);
    assert!(guardian.await_exit().success());
}

#[test]
fn a_kept_tree_that_is_stubborn_is_killed_after_its_grace() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&keep(with_grace(Plan::shell(STUBBORN))));
    let [keeper, family @ ..] = daemon.family();
    daemon.abandon();
    until("the keeper to know", || daemon.lock_text().starts_with("keeper "));
    assert!(family.iter().all(lives));
    let begun = Instant::now();
    signal(&keeper, libc::SIGTERM);
    until("it to be asked", || daemon.heard());
    await_gone(&family);
    let took = begun.elapsed();
    assert!(took >= GRACE && took < GRACE + SLACK, "{took:?}");
}

#[test]
fn a_kept_tree_that_ends_by_itself_leaves_nothing() {
    let mut guardian = Guardian::start();
    let mut daemon = guardian.make(&keep(Plan::shell("echo leader $$; while ! test -e go; do sleep 0.01; done")));
    daemon.born();
    let leader = daemon.on_found(["leader"]);
    daemon.abandon();
    guardian.let_go();
    until("the keeper to know", || daemon.lock_text().starts_with("keeper "));
    assert!(lives(&leader[0]) && !daemon.is_unlocked());
    fs::write(daemon.path("go"), "").unwrap();
    await_gone(&leader);
    await_unlocked(&daemon);
    assert!(guardian.await_exit().success());
}

#[test]
fn what_a_guardian_was_asked_is_not_asked_of_its_later_keepers() {
    let mut guardian = Guardian::start();
    // One that was answered to is up and has its handlers.
    assert_eq!(guardian.make(&Plan::shell("echo up")).output(), "up\n");
    signal(&os::look_up(guardian.pid()).unwrap(), libc::SIGTERM);
    assert_eq!(guardian.make(&Plan::shell("echo still up")).output(), "still up\n");
    let mut daemon = guardian.make(&keep(Plan::shell("while ! test -e go; do sleep 0.01; done; : >went")));
    let [leader, keeper] = daemon.born();
    daemon.abandon();
    guardian.let_go();
    until("the keeper to know", || daemon.lock_text().starts_with("keeper "));
    fs::write(daemon.path("go"), "").unwrap();
    await_gone(&[leader, keeper]);
    assert!(daemon.path("went").exists());
}

#[test]
fn a_living_owner_s_keeper_is_not_to_be_asked_by_others() {
    let guardian = Guardian::start();
    for owner_death in [OwnerDeath::Stop, OwnerDeath::Keep] {
        let script = "echo leader $$; while ! test -e go; do sleep 0.01; done; exit 4";
        let mut daemon = guardian.make(&Plan { owner_death, ..Plan::shell(script) });
        let [_, keeper] = daemon.born();
        daemon.on_found(["leader"]);
        for unwelcome in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE, libc::SIGUSR1] {
            signal(&keeper, unwelcome);
        }
        fs::write(daemon.path("go"), "").unwrap();
        assert_eq!(daemon.report(), Some(KeeperReport::Exited { status: 4 << 8, remains: false }));
    }
}

#[test]
fn what_was_asked_of_a_living_owner_s_keeper_is_not_done_when_that_owner_dies() {
    let guardian = Guardian::start();
    let script = "
        (setsid sh -c 'echo fled $$; exec sleep 60' &)
        echo leader $$
        for again in $(seq 6000); do test -e go && break; sleep 0.01; done
        : >went
    ";
    let mut daemon = guardian.make(&keep(Plan::shell(script)));
    let [_, keeper] = daemon.born();
    let [leader, fled] = daemon.on_found(["leader", "fled"]);
    signal(&keeper, libc::SIGTERM);
    until("the signal to be taken", || {
        let status = status(keeper.pid);
        (mask(&status, "SigPnd") | mask(&status, "ShdPnd")) & bit(libc::SIGTERM) == 0
    });
    daemon.abandon();
    until("the keeper to know", || daemon.lock_text().starts_with("keeper "));
    // Reaped after that, and so after the keeper has done what it does for a dead owner.
    signal(&fled, libc::SIGKILL);
    until("the keeper to go on", || os::look_up(fled.pid).is_none());
    fs::write(daemon.path("go"), "").unwrap();
    await_gone(&[leader, keeper]);
    assert!(daemon.path("went").exists(), "a signal would have come before");
}
