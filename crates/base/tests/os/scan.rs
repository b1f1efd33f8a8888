//! Scans of /proc: descendants, POSIX sessions, environments.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ally_base::os::{self, own_pid};

use crate::rerun::rerun;
use crate::shell::Shell;
use crate::until::until;

/// A shell with a child, a grandchild, and a child in a POSIX session of its own.
const NESTED: &str = r#"
    sh -c 'sh -c "echo inner \$\$ \$PPID; exec sleep 60" & echo outer $$ $PPID; wait' &
    setsid sh -c 'echo alone $$; exec sleep 60' &
    wait
"#;

fn nested(shell: &mut Shell) -> [i32; 3] {
    let mut pids = [0; 3];
    for _ in 0..3 {
        let line = shell.line();
        let words: Vec<&str> = line.split(' ').collect();
        let index = ["outer", "inner", "alone"].iter().position(|name| *name == words[0]).unwrap();
        pids[index] = words[1].parse().unwrap();
    }
    pids
}

/// Ends the `sleep` processes that a killed shell leaves.
fn kill(pids: &[i32]) {
    for process in pids.iter().filter_map(|pid| os::look_up(*pid)) {
        os::signal(&process, libc::SIGKILL).unwrap();
    }
}

#[test]
fn descendants_are_all_living_processes_below_with_parents_first() {
    let mut shell = Shell::start(NESTED);
    let [outer, inner, alone] = nested(&mut shell);
    let found = os::descendants(shell.pid()).whole().unwrap();
    let pids: Vec<i32> = found.iter().map(|process| process.pid).collect();
    let position = |pid| pids.iter().position(|found| *found == pid).unwrap_or_else(|| panic!("{pid} is missing in {pids:?}"));
    assert!(position(outer) < position(inner));
    position(alone);
    assert_eq!(pids.len(), 3, "{pids:?}");
    let parents: Vec<i32> = [outer, inner, alone].map(|pid| found[position(pid)].parent).into();
    assert_eq!(parents, [shell.pid(), outer, shell.pid()]);
    assert_eq!(os::descendants(inner).whole().unwrap(), []);
    // The children of every thread count. The test runs in another thread than the first.
    let all = os::descendants(own_pid()).whole().unwrap();
    assert!([shell.pid(), outer, inner, alone].iter().all(|pid| all.iter().any(|process| process.pid == *pid)));
    kill(&pids);
    until("the descendants are gone", || os::descendants(shell.pid()).is_certainly_empty());
}

#[test]
fn posix_session_is_its_leader_and_all_processes_that_did_not_leave_it() {
    let mut command = Command::new("/bin/sh");
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(|_| ())?)) };
    let mut shell = Shell::from(command.args(["-c", NESTED]));
    let [outer, inner, alone] = nested(&mut shell);
    let mut pids: Vec<i32> = os::posix_session(shell.pid()).whole().unwrap().iter().map(|process| process.pid).collect();
    let mut expected = [shell.pid(), outer, inner];
    pids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    kill(&[outer, inner, alone]);
}

#[test]
fn descends_from_follows_parents() {
    let mut shell = Shell::start(NESTED);
    let [outer, inner, alone] = nested(&mut shell);
    for ancestor in [inner, outer, shell.pid(), own_pid()] {
        assert!(os::descends_from(inner, ancestor).unwrap());
    }
    for other in [alone, i32::MAX, -1] {
        assert!(!os::descends_from(inner, other).unwrap());
    }
    assert!(!os::descends_from(own_pid(), shell.pid()).unwrap() && !os::descends_from(i32::MAX, own_pid()).unwrap());
    kill(&[outer, inner, alone]);
}

#[test]
fn began_with_reads_the_environment_at_execve() {
    let mut shell = Shell::from(Command::new("/bin/sh").args(["-c", "export LATER=1; unset FIRST; echo; read end"]).env("FIRST", "a=b"));
    shell.line();
    assert!(os::began_with(shell.pid(), "FIRST", "a=b").unwrap());
    for (variable, value) in [("FIRST", "a"), ("FIRST", "a=bc"), ("IRST", "a=b"), ("LATER", "1"), ("FIRST", "")] {
        assert!(!os::began_with(shell.pid(), variable, value).unwrap(), "{variable}={value}");
    }
    assert!(!os::began_with(i32::MAX, "FIRST", "a=b").unwrap());
}

/// Each process forks the next one and exits. The last one stays.
const FORK_CHAIN: &str = "
import os, sys, time
for _ in range(1500):
    if os.fork():
        os._exit(0)
    time.sleep(0.0002)
print(flush=True)
sys.stdin.read()
";

#[test]
fn scan_of_a_subreaper_always_finds_a_process_of_a_fork_chain() {
    const SUBREAPER: &str = "ALLY_TEST_SUBREAPER";
    if std::env::var_os(SUBREAPER).is_none() {
        // In this process, other tests have children too.
        return rerun(&[], "scan::scan_of_a_subreaper_always_finds_a_process_of_a_fork_chain", SUBREAPER, "1");
    }
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }, 0);
    let mut chain = Command::new("python3").args(["-S", "-c", FORK_CHAIN]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let end = chain.stdin.take();
    let stdout = chain.stdout.take().unwrap();
    let over = AtomicBool::new(false);
    let scans = std::thread::scope(|scope| {
        scope.spawn(|| {
            BufReader::new(stdout).read_line(&mut String::new()).unwrap();
            over.store(true, Ordering::Relaxed);
        });
        let mut scans = 0;
        while !over.load(Ordering::Relaxed) {
            assert!(!os::descendants(own_pid()).is_certainly_empty(), "after {scans} scans");
            scans += 1;
            // SAFETY: no status is asked for.
            while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        }
        scans
    });
    assert!(scans > 100, "{scans} scans");
    drop(end);
    // The loop above has reaped this child too.
    assert!(chain.wait().is_err());
}

/// A child, 2,000 zombies, and a child behind them.
const ZOMBIES: &str = "
import os, sys
def fork(living):
    pid = os.fork()
    if pid == 0:
        if living:
            sys.stdin.read()
        os._exit(0)
    return pid
first = fork(True)
for _ in range(2000):
    fork(False)
print(first, fork(True), flush=True)
sys.stdin.read()
";

#[test]
fn scan_finds_a_process_behind_thousands_of_zombies() {
    let mut parent = Shell::from(Command::new("python3").args(["-S", "-c", ZOMBIES]));
    let line = parent.line();
    let expected: Vec<i32> = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
    let scan = os::members(parent.pid(), &mut None, &[], &mut |process| {
        if process.pid == expected[0] {
            // The zombies are read after the time limit of a scan that finds changes.
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let pids: Vec<i32> = scan.whole().unwrap().iter().map(|process| process.pid).collect();
    assert_eq!(pids, expected);
}

/// Whenever the scan finds the newest child, the test forks another one, for at most `LIMIT`.
#[test]
fn scan_of_a_tree_that_changes_all_the_time_ends_and_is_incomplete() {
    const CHANGING: &str = "ALLY_TEST_CHANGING";
    const LIMIT: Duration = Duration::from_secs(10);
    if std::env::var_os(CHANGING).is_none() {
        // Other tests scan the children of this process.
        return rerun(&[], "scan::scan_of_a_tree_that_changes_all_the_time_ends_and_is_incomplete", CHANGING, "1");
    }
    let (mut living, mut ended) = (Vec::<Child>::new(), Vec::<Child>::new());
    let mut fork = || {
        for _ in 0..5 {
            let child = Command::new("true").spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            until("the child is a zombie", || os::look_up(pid).unwrap().zombie);
            ended.push(child);
        }
        living.push(Command::new("cat").stdin(Stdio::piped()).spawn().unwrap());
        i32::try_from(living.last().unwrap().id()).unwrap()
    };
    let mut newest = fork();
    let begun = Instant::now();
    let scan = os::members(own_pid(), &mut None, &[], &mut |process| {
        if process.pid == newest && begun.elapsed() < LIMIT {
            newest = fork();
        }
    });
    assert!(begun.elapsed() < LIMIT, "the scan ended only with the changes, of which there were {}", living.len());
    assert!(living.len() > 2 && !scan.seen.is_empty(), "the scan found children that were forked during the scan");
    assert!(!scan.is_certainly_empty() && scan.whole().is_err(), "the scan may have missed a process");
    for mut child in living.into_iter().chain(ended) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
