//! What guardians, keepers and daemons have, and have not, and what doesn't touch them.

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

use crate::world::{Guardian, Plan, signal, until};

/// A field of /proc/PID/status that is a mask of signals; bit 0 is signal 1 (proc_pid_status(5)).
pub fn mask(status: &str, field: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_else(|| panic!("no {field}"));
    u64::from_str_radix(value.trim(), 16).unwrap()
}

pub fn status(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

pub const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// What each descriptor of a process is, but for those that it closes under our eyes.
fn descriptors(pid: i32) -> BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str().unwrap().parse().unwrap(), target.to_str().unwrap().to_owned()))
        })
        .collect()
}

/// The kinds of what a process has open: `socket`, `pipe`, or a path.
pub fn kinds(pid: i32) -> Vec<String> {
    let mut kinds: Vec<String> = descriptors(pid).into_values().map(|target| target.split(":[").next().unwrap().to_owned()).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn signals_to_a_guardian_or_keeper_end_neither() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell("while ! test -e go; do sleep 0.01; done; exit 6"));
    let [_, keeper] = daemon.born();
    let survivors = [os::look_up(guardian.pid()).unwrap(), keeper];
    let all = (1..=libc::SIGRTMAX()).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(signal));
    for unwelcome in all {
        survivors.iter().for_each(|process| signal(process, unwelcome));
    }
    fs::write(daemon.path("go"), "").unwrap();
    assert_eq!(daemon.end(), 6 << 8);
    assert_eq!(guardian.make(&Plan::shell("echo still here")).output(), "still here\n");
}

#[test]
fn a_guardian_has_a_session_of_its_own_and_blocks_its_signals() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell("exec sleep 60"));
    let [leader, keeper] = daemon.born();
    let own = os::look_up(guardian.pid()).unwrap();
    assert_eq!((own.session, own.group), (own.pid, own.pid));
    assert_eq!(keeper.session, own.pid);
    assert_eq!((leader.session, leader.group), (leader.pid, leader.pid));
    for process in [own, keeper] {
        let status = status(process.pid);
        // The two that it waits for are let in while it waits, and then caught.
        let waited_for = bit(libc::SIGCHLD) | bit(libc::SIGTERM);
        assert_eq!(mask(&status, "SigCgt") & waited_for, waited_for);
        let unblockable = bit(libc::SIGKILL) | bit(libc::SIGSTOP) | bit(32) | bit(33);
        assert_eq!(mask(&status, "SigBlk") | unblockable | waited_for, u64::MAX, "pid {}", process.pid);
    }
}

#[test]
fn nothing_inherited_stays_open() {
    let leak = tempfile::tempfile().unwrap();
    let number = leak.as_raw_fd();
    let guardian = Guardian::start_with(|program| {
        let make_it_leak = move || {
            // SAFETY: integers only; fcntl(2) may be called between fork and exec.
            if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == 0 && unsafe { libc::dup2(number, 200) } == 200 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        };
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { program.pre_exec(make_it_leak) };
    });
    let mut daemon = guardian.make(&Plan::shell("exec sleep 60"));
    let [leader, keeper] = daemon.born();
    // The guardian lets go of what it handed on, and while it loads a program opens one library after the other.
    until("the guardian has its three alone", || kinds(guardian.pid()) == ["/dev/null", "/dev/null", "socket"]);
    let lock = daemon.path("lock");
    let folder = lock.parent().unwrap();
    until("the keeper has what is its own", || {
        // The pidfd stands for the leader's group.
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
    until("the daemon has its three alone", || descriptors(leader.pid).keys().copied().collect::<Vec<_>>() == [0, 1, 2]);
    let daemons = descriptors(leader.pid);
    assert_eq!(daemons[&0], "/dev/null");
    assert!(daemons[&1].starts_with("pipe:") && daemons[&2].starts_with("pipe:") && daemons[&1] != daemons[&2]);
}

/// The guardian's own dispositions and mask are the worst that a Node process could hand down.
#[test]
fn a_daemon_begins_with_default_dispositions_and_an_empty_mask() {
    let guardian = Guardian::start_with(|program| {
        let spoil = || {
            for number in [libc::SIGPIPE, libc::SIGXFSZ, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD, libc::SIGTERM, libc::SIGRTMIN()] {
                // SAFETY: no handler is set, and signal(2) may be called between fork and exec.
                unsafe { libc::signal(number, libc::SIG_IGN) };
            }
            Ok(nix::sys::signal::SigSet::all().thread_block()?)
        };
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { program.pre_exec(spoil) };
    });
    let status = guardian.make(&Plan::program(&["/bin/cat", "/proc/self/status"])).output();
    for field in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(mask(&status, field), 0, "{field}");
    }
    assert!(status.contains("\nTracerPid:\t0\n") && status.contains("\nThreads:\t1\n"));
}

#[test]
fn a_daemon_has_no_terminal_and_reads_nothing() {
    let guardian = Guardian::start();
    let mut daemon = guardian.make(&Plan::shell("cat; echo $?; (: </dev/tty) 2>/dev/null && echo a terminal; :"));
    assert_eq!(daemon.output(), "0\n");
}

#[test]
fn the_addon_s_guardian_knows_no_environment_and_shows_no_plugin() {
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
        ("pluginName", text("tell-tale")),
        ("pluginPath", path("")),
        ("command", text("/bin/sleep")),
        ("args", Raw::Array(vec![text("60")])),
        ("socketPath", path("tell-tale.sock")),
        ("startupTimeout", Raw::Number(60_000.0)),
        ("shutdownGracePeriod", Raw::Number(60_000.0)),
    ];
    let config = Raw::Object(config.map(|(key, value)| (key.to_owned(), value)).into());
    manager.start(&config, "TELL_TALE=1\0".into()).unwrap();
    until("the leader", || manager.pid("tell-tale").is_some());
    let leader = os::look_up(manager.pid("tell-tale").unwrap()).unwrap();
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
    until("the end of all three", || ![leader, keeper, own].iter().any(crate::world::lives));
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

/// What a build for release needs is a fraction of it; these bounds are for what would be a mistake.
#[test]
fn a_guardian_is_small_and_a_keeper_smaller() {
    let guardian = Guardian::start();
    let mut daemons = [(); 8].map(|()| guardian.make(&Plan::shell("exec sleep 60")));
    let keepers = daemons.each_mut().map(|daemon| daemon.born()[1].pid);
    assert_eq!(keepers.into_iter().collect::<BTreeSet<_>>().len(), keepers.len());
    let own = memory(guardian.pid());
    let each = memory(keepers[7]);
    // Past the test's captured output: the figures are wanted also where all is well.
    let told = format!(
        "guardian: Pss {} kB, private {} kB; keeper: Pss {} kB, private {} kB\n",
        own["Pss"], own["Private_Dirty"], each["Pss"], each["Private_Dirty"]
    );
    io::stderr().write_all(told.as_bytes()).unwrap();
    assert!(own["Pss"] <= 2_048 && own["Private_Dirty"] <= 1_024, "{told}");
    assert!(each["Pss"] <= 1_024 && each["Private_Dirty"] <= 512, "{told}");
}
