//! Signals, descriptors, environment and memory of guardian, keepers and daemons.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

use ally_base::os;
use ally_base::wire::OwnerDeath;
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::config::Raw;
use ally_core::supervisor::{GuardianProgram, Manager, Options};

use crate::support::procfs::{bit, descriptors, kinds, mask, status};
use crate::support::{Guardian, TestOrder, signal, until};

#[test]
fn guardian_and_keeper_survive_every_signal_that_can_be_blocked() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("for again in $(seq 6000); do test -e go && break; sleep 0.01; done; exit 6"));
    let [_, keeper] = daemon.spawned();
    let survivors = [os::look_up(guardian.pid()).unwrap(), keeper];
    let all = (1..=libc::SIGRTMAX()).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(signal));
    for number in all {
        // SIGTERM to the keeper ends its tree: see `ended_by`.
        let spared = survivors.iter().filter(|process| number != libc::SIGTERM || process.pid != keeper.pid);
        spared.for_each(|process| signal(process, number));
    }
    fs::write(daemon.path("go"), "").unwrap();
    assert_eq!(daemon.end(), 6 << 8);
    assert_eq!(guardian.spawn(&TestOrder::shell("echo still here")).output(), "still here\n");
}

#[test]
fn guardian_and_keeper_have_posix_sessions_of_their_own_and_block_signals() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
    let [leader, keeper] = daemon.spawned();
    let own = os::look_up(guardian.pid()).unwrap();
    assert_eq!((own.session, own.group), (own.pid, own.pid));
    assert_eq!((keeper.session, keeper.group), (keeper.pid, keeper.pid));
    assert_eq!(leader.session, keeper.pid);
    assert!(![leader.pid, keeper.pid, own.pid].contains(&leader.group), "group {}", leader.group);
    for process in [own, keeper] {
        let status = status(process.pid);
        // SIGCHLD and SIGTERM are unblocked during the wait, and caught.
        let waited_for = bit(libc::SIGCHLD) | bit(libc::SIGTERM);
        assert_eq!(mask(&status, "SigCgt") & waited_for, waited_for);
        let unblockable = bit(libc::SIGKILL) | bit(libc::SIGSTOP) | bit(32) | bit(33);
        assert_eq!(mask(&status, "SigBlk") | unblockable | waited_for, u64::MAX, "pid {}", process.pid);
    }
}

/// As under child_process: the leader may make a group and a POSIX session, and a terminal that it opens is not its controlling
/// terminal.
#[test]
fn leader_can_call_setpgid_and_setsid_and_gets_no_controlling_terminal() {
    const SCRIPT: &str = "
import os, pty
print(os.getpid(), os.getpgid(0), os.getsid(0), flush=True)
ours, theirs = pty.openpty()
name = os.ttyname(theirs)
os.close(theirs)
os.close(os.open(name, os.O_RDWR))
try:
    os.open('/dev/tty', os.O_RDWR)
    print('a controlling terminal', flush=True)
except OSError:
    print('none', flush=True)
os.close(ours)
os.setpgrp()
print(os.getpgid(0), flush=True)
os.setpgid(0, os.getsid(0))
os.setsid()
print(os.getsid(0), flush=True)
";
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::program(&["/usr/bin/env", "python3", "-S", "-c", SCRIPT]));
    let [leader, keeper] = daemon.spawned();
    let [pid, group, session] = daemon.line().split(' ').map(|word| word.parse().unwrap()).collect::<Vec<i32>>()[..] else { panic!() };
    assert_eq!((pid, session), (leader.pid, keeper.pid));
    assert!(group != pid && group != session);
    assert_eq!(daemon.output(), format!("none\n{pid}\n{pid}\n"));
    assert_eq!(daemon.end(), 0);
    // setsid(1) forks if the process leads a group.
    let mut daemon = guardian.spawn(&TestOrder::program(&["/usr/bin/setsid", "sh", "-c", "echo $$; exec sleep 60"]));
    let [leader, _] = daemon.spawned();
    assert_eq!(daemon.line(), leader.pid.to_string());
    assert_eq!(os::look_up(leader.pid).unwrap().session, leader.pid);
}

#[test]
fn inherited_descriptors_are_closed() {
    let inherited = tempfile::tempfile().unwrap();
    let number = inherited.as_raw_fd();
    let guardian = Guardian::start_with(|program| {
        let inherit = move || {
            // SAFETY: integers only; fcntl(2) may be called between fork and exec.
            if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == 0 && unsafe { libc::dup2(number, 200) } == 200 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        };
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { program.pre_exec(inherit) };
    });
    let mut daemon = guardian.spawn(&TestOrder::shell("exec sleep 60"));
    let [leader, keeper] = daemon.spawned();
    // The guardian closes the order's descriptors after the fork. A program that is loading opens libraries.
    until("the guardian has three descriptors", || kinds(guardian.pid()) == ["/dev/null", "/dev/null", "socket"]);
    let lock = daemon.path("daemon.lock");
    let folder = lock.parent().unwrap();
    until("the keeper has its own descriptors", || {
        // The pidfd is that of the leader's group.
        let own = ["/dev/null", "/dev/null", folder.to_str().unwrap(), lock.to_str().unwrap(), "anon_inode", "pipe", "pipe", "socket"];
        let mut kinds = kinds(keeper.pid);
        kinds.iter_mut().for_each(|kind| *kind = kind.replace("pidfd", "anon_inode"));
        kinds.sort_unstable();
        kinds == {
            let mut own = own;
            own.sort_unstable();
            own
        }
    });
    until("the daemon has descriptors 0, 1 and 2", || descriptors(leader.pid).keys().copied().collect::<Vec<_>>() == [0, 1, 2]);
    let daemons = descriptors(leader.pid);
    assert_eq!(daemons[&0], "/dev/null");
    assert!(daemons[&1].starts_with("pipe:") && daemons[&2].starts_with("pipe:") && daemons[&1] != daemons[&2]);
}

/// The guardian inherits ignored and blocked signals, as from an owner with its own signal setup.
#[test]
fn daemon_begins_with_default_dispositions_and_an_empty_signal_mask() {
    let guardian = Guardian::start_with(|program| {
        let ignore_and_block = || {
            for number in [libc::SIGPIPE, libc::SIGXFSZ, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD, libc::SIGTERM, libc::SIGRTMIN()] {
                // SAFETY: no handler is set, and signal(2) may be called between fork and exec.
                unsafe { libc::signal(number, libc::SIG_IGN) };
            }
            Ok(nix::sys::signal::SigSet::all().thread_block()?)
        };
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { program.pre_exec(ignore_and_block) };
    });
    let status = guardian.spawn(&TestOrder::program(&["/bin/cat", "/proc/self/status"])).output();
    for field in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(mask(&status, field), 0, "{field}");
    }
    assert!(status.contains("\nTracerPid:\t0\n") && status.contains("\nThreads:\t1\n"));
}

#[test]
fn daemon_has_no_terminal_and_an_empty_stdin() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn(&TestOrder::shell("cat; echo $?; (: </dev/tty) 2>/dev/null && echo a terminal; :"));
    assert_eq!(daemon.output(), "0\n");
}

#[test]
fn guardian_and_keeper_have_no_environment_and_no_plugin_in_their_arguments() {
    let home = tempfile::tempdir().unwrap();
    let guardian = env!("CARGO_BIN_EXE_ally-guardian");
    let options = Options {
        envs_dir: home.path().join("envs"),
        owner_death: OwnerDeath::Stop,
        guardian: GuardianProgram { path: guardian.into(), version: VERSION, build: BUILD_ID },
    };
    let manager = Manager::new(options, Box::new(|| {}));
    let text = |text: &str| Raw::String(text.to_owned());
    let path = |name: &str| text(home.path().join(name).to_str().unwrap());
    let config = [
        ("pluginName", text("marker")),
        ("pluginPath", path("")),
        ("command", text("/bin/sleep")),
        ("args", Raw::Array(vec![text("60")])),
        ("socketPath", path("marker.sock")),
        ("startupTimeout", Raw::Number(60_000.0)),
        ("shutdownGracePeriod", Raw::Number(60_000.0)),
    ];
    let config = Raw::Object(config.map(|(key, value)| (key.to_owned(), value)).into());
    manager.start(&config, "MARKER=1\0".into()).unwrap();
    until("the leader is spawned", || manager.pid("marker").is_some());
    let leader = os::look_up(manager.pid("marker").unwrap()).unwrap();
    let keeper = os::look_up(leader.parent).unwrap();
    let own = os::look_up(keeper.parent).unwrap();
    assert_eq!((own.parent, own.session), (i32::try_from(std::process::id()).unwrap(), own.pid));
    for process in [keeper, own] {
        assert_eq!(fs::read_to_string(format!("/proc/{}/environ", process.pid)).unwrap(), "");
        assert_eq!(fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).unwrap(), format!("{guardian}\0"));
        assert_eq!(os::working_directory(process.pid).unwrap().to_str(), Some("/"));
        assert_eq!(status(process.pid).lines().find(|line| line.starts_with("Threads:")), Some("Threads:\t1"));
    }
    assert_eq!(kinds(own.pid), ["/dev/null", "/dev/null", "socket"]);
    drop(manager);
    until("guardian, keeper and leader are gone", || ![leader, keeper, own].iter().any(crate::support::lives));
}

/// Kilobytes by name, from /proc/PID/smaps_rollup.
fn memory(pid: i32) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let sizes = text.lines().skip(1).filter_map(|line| {
        let (name, size) = line.split_once(':')?;
        Some((name.to_owned(), size.trim().strip_suffix(" kB")?.trim().parse().ok()?))
    });
    sizes.collect()
}

/// A release build needs a fraction of these bounds. They detect mistakes, such as a large buffer per keeper.
#[test]
fn guardian_needs_at_most_2_mib_and_a_keeper_1_mib() {
    let guardian = Guardian::start();
    let mut daemons = [(); 8].map(|()| guardian.spawn(&TestOrder::shell("exec sleep 60")));
    let keepers = daemons.each_mut().map(|daemon| daemon.spawned()[1].pid);
    assert_eq!(keepers.into_iter().collect::<BTreeSet<_>>().len(), keepers.len());
    let own = memory(guardian.pid());
    let each = memory(keepers[7]);
    // Written to stderr without capture, so that a passing run shows the figures too.
    let figures = format!(
        "guardian: Pss {} kB, private {} kB; keeper: Pss {} kB, private {} kB\n",
        own["Pss"], own["Private_Dirty"], each["Pss"], each["Private_Dirty"]
    );
    io::stderr().write_all(figures.as_bytes()).unwrap();
    assert!(own["Pss"] <= 2_048 && own["Private_Dirty"] <= 1_024, "{figures}");
    assert!(each["Pss"] <= 1_024 && each["Private_Dirty"] <= 512, "{figures}");
}
