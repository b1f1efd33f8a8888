//! `stopSignalTo: 'leader'`: the leader gets the stop signal before the rest of its tree.

use std::fs;
use std::time::{Duration, Instant};

use ally_base::stop::StopSignalTo;
use ally_base::wire::KeeperCommand;

use crate::support::{Daemon, Guardian, TestOrder, await_gone, lives, signal, state, until};

/// Prints `NAME got SIGTERM` for each process that gets the signal, and appends it to the file `said`. `leader` is the body of the leader's handler.
fn script(leader: &str) -> String {
    let body = "
import os, signal, sys, time
def say(*words):
    line = ' '.join(map(str, words)) + '\\n'
    with open('said', 'a') as said: said.write(line)
    if os.access('alone', os.F_OK): return
    os.write(1, line.encode())
def pause():
    # A signal just before a system call runs its handler only after it, so none is long.
    end = time.monotonic() + 60
    while time.monotonic() < end: time.sleep(0.1)
    os._exit(0)
def child(name):
    if os.fork() == 0:
        def on_term(*_):
            say(name, 'got SIGTERM')
            os._exit(0)
        signal.signal(signal.SIGTERM, on_term)
        say(name, os.getpid())
        pause()
def on_term(*_):
    say('leader got SIGTERM')
    LEADER
signal.signal(signal.SIGTERM, on_term)
child('worker')
say('leader', os.getpid())
pause()
";
    body.replace("LEADER", leader)
}

fn python(leader: &str) -> TestOrder {
    TestOrder::program(&["/usr/bin/env", "python3", "-S", "-c", &script(leader)])
}

fn start(guardian: &Guardian, order: &TestOrder) -> Daemon {
    let mut daemon = guardian.spawn(order);
    daemon.spawned();
    let [_worker, _leader] = daemon.await_introductions(["worker", "leader"]);
    daemon
}

/// The next two lines, with the time between them.
fn two_signals(daemon: &mut Daemon) -> ([String; 2], Duration) {
    let first = daemon.line();
    let begun = Instant::now();
    ([first, daemon.line()], begun.elapsed())
}

const BOTH: [&str; 2] = ["leader got SIGTERM", "worker got SIGTERM"];

#[test]
fn leader_drains_its_worker_which_gets_the_signal_after_the_leaders_exit() {
    let guardian = Guardian::start();
    // The worker answers only if it has got no signal before.
    let mut daemon = start(&guardian, &python("time.sleep(0.3); say('drained'); os._exit(0)"));
    daemon.command(KeeperCommand::Terminate);
    assert_eq!([daemon.line(), daemon.line(), daemon.line()], ["leader got SIGTERM", "drained", "worker got SIGTERM"]);
    assert_eq!(daemon.end(), 0);
}

#[test]
fn leader_that_does_not_exit_the_others_get_the_signal_when_a_quarter_of_the_grace_period_is_left() {
    let guardian = Guardian::start();
    // A second, if a quarter is longer.
    for (grace_ms, earliest) in [(800, 600), (6_000, 5_000)] {
        let mut daemon = start(&guardian, &TestOrder { grace_ms, ..python("pass") });
        daemon.command(KeeperCommand::Terminate);
        let (lines, between) = two_signals(&mut daemon);
        assert_eq!(lines, BOTH);
        assert!(between > Duration::from_millis(earliest - 50), "{between:?} of {grace_ms} ms");
        daemon.command(KeeperCommand::Kill);
        assert_eq!(daemon.end(), libc::SIGKILL);
    }
}

/// A shell runs its trap only after its child has ended.
#[test]
fn shell_that_waits_for_a_child_runs_its_trap_without_sigkill() {
    let guardian = Guardian::start();
    let order = TestOrder { grace_ms: 800, ..TestOrder::shell("trap 'echo trapped; exit 7' TERM; echo leader $$; sleep 60") };
    let mut daemon = guardian.spawn(&order);
    daemon.spawned();
    daemon.await_introductions(["leader"]);
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "trapped");
    assert_eq!(daemon.end(), 7 << 8);
}

#[test]
fn process_that_the_leader_forks_after_the_signal_gets_no_signal() {
    let guardian = Guardian::start();
    let mut daemon = start(&guardian, &python("child('cleaner'); time.sleep(0.1); os._exit(0)"));
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "leader got SIGTERM");
    let mut lines = [daemon.line(), daemon.line()];
    lines.sort();
    assert!(lines[0].starts_with("cleaner ") && lines[1] == "worker got SIGTERM", "{lines:?}");
    assert_eq!(daemon.exited(), (0, true));
    daemon.command(KeeperCommand::Kill);
    daemon.tree_gone();
    assert_eq!(daemon.output(), "", "the cleaner met SIGKILL alone");
}

#[test]
fn leader_that_exited_by_itself_the_others_get_the_signal_at_once() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&python("pass"));
    let [leader, _] = daemon.spawned();
    daemon.await_introductions(["worker", "leader"]);
    // Not the stop signal, but one with its default action.
    signal(&leader, libc::SIGUSR1);
    assert_eq!(daemon.exited(), (libc::SIGUSR1, true));
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "worker got SIGTERM");
    daemon.tree_gone();
}

#[test]
fn stop_signal_to_tree_reaches_all_at_once() {
    let guardian = Guardian::start();
    // The leader waits for its worker's end, for longer than the test.
    let order = TestOrder { stop_signal_to: StopSignalTo::Tree, grace_ms: 600_000, ..python("os.wait(); os._exit(0)") };
    let mut daemon = start(&guardian, &order);
    daemon.command(KeeperCommand::Terminate);
    let (mut lines, _) = two_signals(&mut daemon);
    lines.sort();
    assert_eq!(lines, BOTH);
    assert_eq!(daemon.end(), 0);
}

#[test]
fn suspended_worker_is_continued_with_the_first_signal() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&python("time.sleep(0.5); os._exit(0)"));
    daemon.spawned();
    let [worker, _] = daemon.await_introductions(["worker", "leader"]);
    signal(&worker, libc::SIGSTOP);
    until("the worker is suspended", || state(worker.pid) == Some('T'));
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "leader got SIGTERM");
    until("the worker goes on", || state(worker.pid) != Some('T'));
    assert!(lives(&worker), "SIGCONT alone");
    assert_eq!(daemon.line(), "worker got SIGTERM");
    assert_eq!(daemon.end(), 0);
}

#[test]
fn owner_death_signals_the_leader_first_and_counts_the_grace_period_from_the_first_signal() {
    let guardian = Guardian::start();
    for stop_begun in [false, true] {
        let mut daemon = guardian.spawn(&TestOrder { grace_ms: 1_600, ..python("pass") });
        daemon.spawned();
        let both = daemon.await_introductions(["worker", "leader"]);
        let said = daemon.path("said");
        let says = |words: &str| fs::read_to_string(&said).unwrap().contains(words);
        let begun = Instant::now();
        if stop_begun {
            daemon.command(KeeperCommand::Terminate);
            until("the leader has got the signal", || says(BOTH[0]));
            // The time before the owner's death counts.
            until("most of the grace period is over", || begun.elapsed() > Duration::from_millis(1_000));
        }
        // Without a reader of its output.
        fs::write(daemon.path("alone"), "").unwrap();
        daemon.close_owner_ends();
        until("the leader has got the signal", || says(BOTH[0]));
        until("the worker has got the signal", || says(BOTH[1]));
        let elapsed = begun.elapsed();
        assert!(elapsed > Duration::from_millis(1_150), "{elapsed:?}");
        await_gone(&both);
        let elapsed = begun.elapsed();
        assert!((Duration::from_millis(1_550)..Duration::from_secs(8)).contains(&elapsed), "{elapsed:?}");
    }
}

#[test]
fn kill_mode_group_signals_the_leader_first() {
    let guardian = Guardian::start();
    let mut daemon = start(&guardian, &TestOrder { group_only: true, ..python("time.sleep(0.3); os._exit(0)") });
    daemon.command(KeeperCommand::Terminate);
    let (lines, between) = two_signals(&mut daemon);
    assert_eq!(lines, BOTH);
    assert!(between > Duration::from_millis(250), "{between:?}");
    assert_eq!(daemon.end(), 0);
}

#[test]
fn each_process_gets_one_stop_signal() {
    let guardian = Guardian::start();
    // The leader forwards the signal and waits for the worker, as `npm run` does.
    let forwards = "
import os, signal, time
pid = os.fork()
if pid == 0:
    count = 0
    def on_term(*_):
        global count
        count += 1
    signal.signal(signal.SIGTERM, on_term)
    os.write(1, b'worker %d\\n' % os.getpid())
    while count == 0: time.sleep(0.01)
    time.sleep(0.3)
    os.write(1, b'signals: %d\\n' % count)
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
os.write(1, b'leader %d\\n' % os.getpid())
# Does not block, because a signal just before a system call runs its handler only after it.
while os.waitpid(pid, os.WNOHANG)[0] == 0: time.sleep(0.01)
";
    let mut daemon = start(&guardian, &TestOrder::program(&["/usr/bin/env", "python3", "-S", "-c", forwards]));
    daemon.command(KeeperCommand::Terminate);
    assert_eq!(daemon.line(), "signals: 1");
    assert_eq!(daemon.end(), 0);
}

/// EXTEND_TIMEOUT_USEC: the leader keeps its share of a grace period that was extended.
#[test]
fn extended_grace_period_gives_the_leader_more_time_before_its_workers() {
    let guardian = Guardian::start();
    let mut daemon = start(&guardian, &TestOrder { grace_ms: 800, ..python("pass") });
    daemon.command(KeeperCommand::Terminate);
    daemon.command(KeeperCommand::Extend { by_ms: 3_000 });
    // An earlier end than the present one changes nothing.
    daemon.command(KeeperCommand::Extend { by_ms: 1 });
    let (lines, between) = two_signals(&mut daemon);
    assert_eq!(lines, BOTH);
    assert!(between > Duration::from_millis(2_500), "{between:?}");
    daemon.command(KeeperCommand::Kill);
    daemon.end();
}
