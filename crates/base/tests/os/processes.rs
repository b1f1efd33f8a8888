//! Who processes are, what descends from them, and signals that hit no stranger.

use ally_base::os::{self, Process};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{own_pid, until};

/// A shell of ours. It ends when its stdin does; what it starts, after a minute at most.
struct Shell {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    fn start(script: &str) -> Self {
        Self::from(Command::new("/bin/sh").args(["-c", script]))
    }

    fn from(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn line(&mut self) -> String {
        self.line_or_end().unwrap_or_default()
    }

    fn line_or_end(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.stdout.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    fn look_up(&self) -> Process {
        os::look_up(self.pid()).unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Reaped or not: it is our child, so its pid is nobody else's.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

// Identity.

#[test]
fn whatever_a_process_is_called_its_fields_are_read() {
    let own = os::look_up(own_pid()).unwrap();
    for name in ["a) Z 1 1 1", "((((((", ") ) ) )", "x\\ny) R 0 0", "\\n\\n)", " "] {
        let mut shell = Shell::start("echo; IFS= read name; printf \"$name\" >/proc/self/comm; echo; read end");
        shell.line();
        let before = shell.look_up();
        writeln!(shell.child.stdin.as_ref().unwrap(), "{}", name.replace('\\', "\\\\")).unwrap();
        shell.line();
        let called = fs::read_to_string(format!("/proc/{}/comm", shell.pid())).unwrap();
        assert_eq!(called, format!("{}\n", name.replace("\\n", "\n")));
        let now = shell.look_up();
        assert_eq!(now, before, "{name:?}");
        assert_eq!((now.parent, now.group, now.session, now.zombie), (own_pid(), own.group, own.session, false));
    }
}

#[test]
fn a_start_time_stays_and_grows() {
    let own = os::start_time(own_pid()).unwrap();
    let shell = Shell::start("read end");
    let child = os::start_time(shell.pid()).unwrap();
    assert!(own > 0 && child >= own);
    assert_eq!((os::start_time(own_pid()), os::start_time(shell.pid())), (Some(own), Some(child)));
    assert_eq!(os::look_up(own_pid()).map(|process| process.start), Some(own));
}

#[test]
fn a_zombie_has_no_start_time_and_descends_from_nobody() {
    let shell = Shell::start("exit 0");
    until("the zombie", || os::look_up(shell.pid()).unwrap().zombie);
    assert_eq!(os::start_time(shell.pid()), None);
    assert!(!os::descendants(own_pid()).whole().unwrap().iter().any(|process| process.pid == shell.pid()));
}

#[test]
fn nobody_has_a_pid_that_nobody_can_have() {
    for pid in [0, -1, i32::MIN, i32::MAX] {
        assert_eq!((os::look_up(pid), os::start_time(pid), os::working_directory(pid)), (None, None, None), "{pid}");
    }
}

#[test]
fn a_boot_is_named_once_and_for_all() {
    let boot = os::boot_id().unwrap();
    assert!(boot.len() > 36 && boot.contains(" pid:["), "{boot}");
    assert_eq!(os::boot_id().unwrap(), boot);
    assert!(!boot.contains('\n'), "it stands on a line of a file");
}

#[test]
fn a_working_directory_is_the_process_s_own() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::from(Command::new("/bin/sh").args(["-c", "read end"]).current_dir(folder.path()));
    assert_eq!(os::working_directory(shell.pid()), Some(fs::canonicalize(folder.path()).unwrap()));
}

#[test]
fn one_that_lives_is_not_ending_and_one_that_is_gone_is_not_there_to_end() {
    let mut sleeping = Shell::start("echo; read end");
    sleeping.line();
    assert!(!os::is_ending(own_pid()) && !os::is_ending(sleeping.pid()));
    // Neither is one that was asked to go and doesn't.
    let mut deaf = Shell::start("trap '' TERM; echo; read end");
    deaf.line();
    os::signal(&deaf.look_up(), libc::SIGTERM).unwrap();
    assert!(!os::is_ending(deaf.pid()));
    let pid = sleeping.pid();
    os::signal(&sleeping.look_up(), libc::SIGKILL).unwrap();
    until("the zombie", || sleeping.look_up().zombie);
    assert!(os::is_ending(pid), "nothing saves it");
    sleeping.child.wait().unwrap();
    assert!(!os::is_ending(pid));
    for nobody in [0, -1, i32::MAX] {
        assert!(!os::is_ending(nobody), "{nobody}");
    }
}

/// The first process of a pid namespace waits, in the middle of its end, until nobody is left there: not a zombie of a
/// process that came from elsewhere either. Meanwhile it looks as if it lived.
#[test]
fn one_that_ends_and_can_t_go_yet_is_ending() {
    for killed in [false, true] {
        let first = "echo; read end; exit";
        let mut outside = Shell::from(Command::new("unshare").args(["-pf", "--kill-child", "sh", "-c", first]).stderr(Stdio::null()));
        if outside.line_or_end().is_none() {
            eprintln!("skipped: a pid namespace can't be had here");
            return;
        }
        let [first] = os::descendants(outside.pid()).whole().unwrap()[..] else { panic!("not one process in the namespace") };
        let mut guest = Shell::from(Command::new("nsenter").args(["-p", "-t", &first.pid.to_string(), "sh", "-c", "echo; read end; exit"]));
        guest.line();
        assert!(!os::is_ending(first.pid));
        // It would reap the guest, whose parent it is.
        os::signal(&guest.look_up(), libc::SIGSTOP).unwrap();
        let stat = format!("/proc/{}/stat", guest.pid());
        until("it to stop", || fs::read_to_string(&stat).unwrap().contains(") T "));
        if killed {
            os::signal(&first, libc::SIGKILL).unwrap();
        } else {
            drop(outside.child.stdin.take());
        }
        until("its end to begin", || os::is_ending(first.pid));
        until("the guest's end", || os::descendants(guest.pid()).is_certainly_empty());
        assert_eq!((os::start_time(first.pid), os::is_ending(first.pid)), (Some(first.start), true), "killed: {killed}");
        os::signal(&guest.look_up(), libc::SIGCONT).unwrap();
        until("its end", || os::look_up(first.pid).is_none());
        assert!(!os::is_ending(first.pid));
    }
}

/// The test runs itself again, in a namespace of which /proc tells nothing, and in one of which it does.
#[test]
fn another_namespace_s_proc_is_not_believed() {
    const BELIEVED: &str = "ALLY_TEST_BELIEVED";
    if let Some(believed) = std::env::var_os(BELIEVED) {
        return assert_eq!(os::must_be_visible().is_ok(), believed == "true");
    }
    os::must_be_visible().unwrap();
    let own = std::env::current_exe().unwrap();
    let test = ["--exact", "processes::another_namespace_s_proc_is_not_believed", "--nocapture"];
    for (mount, believed) in [(&[][..], "false"), (&["--mount-proc"], "true")] {
        let unshare = |words: &[&OsStr]| {
            let mut program = Command::new("unshare");
            program.args(["-pf", "--kill-child"]).args(mount).args(words).env(BELIEVED, believed).output().unwrap()
        };
        if !unshare(&["true".as_ref()]).status.success() {
            eprintln!("skipped: a pid namespace can't be had here");
            return;
        }
        let words: Vec<&OsStr> = [own.as_os_str()].into_iter().chain(test.map(AsRef::as_ref)).collect();
        let run = unshare(&words);
        let told = format!("{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success() && told.contains("1 passed"), "{mount:?}: {told}");
    }
}

// Trees.

/// A shell with a child that has a child, and one that is in a session of its own.
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

/// What `sleep` leaves behind when its shell is killed.
fn end(pids: &[i32]) {
    for process in pids.iter().filter_map(|pid| os::look_up(*pid)) {
        os::signal(&process, libc::SIGKILL).unwrap();
    }
}

#[test]
fn descendants_are_all_that_live_and_parents_come_first() {
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
    // Our children are those of any of our threads; this is not the first one.
    let all = os::descendants(own_pid()).whole().unwrap();
    assert!([shell.pid(), outer, inner, alone].iter().all(|pid| all.iter().any(|process| process.pid == *pid)));
    end(&pids);
    until("their end", || os::descendants(shell.pid()).is_certainly_empty());
}

#[test]
fn a_session_is_whoever_did_not_leave_it() {
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
    end(&[outer, inner, alone]);
}

#[test]
fn descent_is_by_parents() {
    let mut shell = Shell::start(NESTED);
    let [outer, inner, alone] = nested(&mut shell);
    for ancestor in [inner, outer, shell.pid(), own_pid()] {
        assert!(os::descends_from(inner, ancestor).unwrap());
    }
    for other in [alone, i32::MAX, -1] {
        assert!(!os::descends_from(inner, other).unwrap());
    }
    assert!(!os::descends_from(own_pid(), shell.pid()).unwrap() && !os::descends_from(i32::MAX, own_pid()).unwrap());
    end(&[outer, inner, alone]);
}

#[test]
fn an_environment_is_the_one_that_a_process_began_with() {
    let mut shell = Shell::from(Command::new("/bin/sh").args(["-c", "export LATER=1; unset FIRST; echo; read end"]).env("FIRST", "a=b"));
    shell.line();
    assert!(os::began_with(shell.pid(), "FIRST", "a=b").unwrap());
    for (variable, value) in [("FIRST", "a"), ("FIRST", "a=bc"), ("IRST", "a=b"), ("LATER", "1"), ("FIRST", "")] {
        assert!(!os::began_with(shell.pid(), variable, value).unwrap(), "{variable}={value}");
    }
    assert!(!os::began_with(i32::MAX, "FIRST", "a=b").unwrap());
}

/// One process at a time, each of which makes its successor and goes; the last one stays.
const HOPPERS: &str = "
import os, sys, time
for _ in range(1500):
    if os.fork():
        os._exit(0)
    time.sleep(0.0002)
print(flush=True)
sys.stdin.read()
";

#[test]
fn a_subreaper_finds_whoever_is_there_all_the_time_at_every_look() {
    const SUBREAPER: &str = "ALLY_TEST_SUBREAPER";
    if std::env::var_os(SUBREAPER).is_none() {
        // Whose children come and go must be nobody else's.
        let own = std::env::current_exe().unwrap();
        let test = "processes::a_subreaper_finds_whoever_is_there_all_the_time_at_every_look";
        let run = Command::new(own).args(["--exact", test, "--nocapture"]).env(SUBREAPER, "1").output().unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        // None passes as well, if it is called something else.
        assert!(run.status.success() && told.contains("1 passed"), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
        return;
    }
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }, 0);
    let mut hoppers = Command::new("python3").args(["-S", "-c", HOPPERS]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let end = hoppers.stdin.take();
    let stdout = hoppers.stdout.take().unwrap();
    let over = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| {
            BufReader::new(stdout).read_line(&mut String::new()).unwrap();
            over.store(true, Ordering::Relaxed);
        });
        let mut looks = 0;
        while !over.load(Ordering::Relaxed) {
            assert!(!os::descendants(own_pid()).is_certainly_empty(), "after {looks} looks");
            looks += 1;
            // SAFETY: no status is asked for.
            while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        }
        looks
    });
    assert!(looks > 100, "{looks} looks");
    drop(end);
    // It was reaped with the others.
    assert!(hoppers.wait().is_err());
}

/// As where processes fork and end faster than they can be looked at: whenever one is found there are others by then, for as
/// long as the test has patience.
#[test]
fn a_scan_ends_where_a_tree_changes_faster_than_it_can_be_looked_at_and_is_no_whole_one() {
    const CHANGING: &str = "ALLY_TEST_CHANGING";
    const PATIENCE: Duration = Duration::from_secs(10);
    if std::env::var_os(CHANGING).is_none() {
        // Other tests scan the children of this process.
        let test = "processes::a_scan_ends_where_a_tree_changes_faster_than_it_can_be_looked_at_and_is_no_whole_one";
        return again(test, CHANGING);
    }
    let (mut living, mut ended) = (Vec::<Child>::new(), Vec::<Child>::new());
    let mut fork = || {
        for _ in 0..5 {
            let child = Command::new("true").spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            until("the zombie", || os::look_up(pid).unwrap().zombie);
            ended.push(child);
        }
        living.push(Command::new("cat").stdin(Stdio::piped()).spawn().unwrap());
        i32::try_from(living.last().unwrap().id()).unwrap()
    };
    let mut newest = fork();
    let begun = Instant::now();
    let scan = os::members(own_pid(), &mut None, &[], &mut |process| {
        if process.pid == newest && begun.elapsed() < PATIENCE {
            newest = fork();
        }
    });
    assert!(begun.elapsed() < PATIENCE, "it ended only with the changes, of which there were {}", living.len());
    assert!(living.len() > 2 && !scan.seen.is_empty(), "what came during the scan was found");
    assert!(!scan.is_certainly_empty() && scan.whole().is_err(), "it may have missed some");
    for mut child in living.into_iter().chain(ended) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

/// Runs one test in a process of its own, with this variable set.
fn again(test: &str, variable: &str) {
    let run = Command::new(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(variable, "1").output().unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    // None passes as well, if it is called something else.
    assert!(run.status.success() && told.contains("1 passed"), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
}

// Signals.

#[test]
fn a_group_is_met_as_a_whole_and_no_other_of_its_number() {
    let mut shell = Shell::from(Command::new("/bin/sh").args(["-c", "sleep 60 & sleep 60 & echo; read end"]).process_group(0));
    shell.line();
    let group = os::Group::of(shell.pid()).unwrap();
    match group.signal(0) {
        // Linux 6.9.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
        asked => asked.unwrap(),
    }
    let members: Vec<Process> = os::descendants(shell.pid()).whole().unwrap();
    assert_eq!(members.len(), 2);
    group.signal(libc::SIGKILL).unwrap();
    until("their end", || members.iter().all(|member| !member.lives().unwrap()));
    drop(shell);
    group.signal(libc::SIGKILL).unwrap();
}

#[test]
fn a_signal_hits_the_one_that_was_meant_or_nobody() {
    let mut shell = Shell::start("trap 'echo hit' TERM; echo; read end; echo ended");
    shell.line();
    let process = shell.look_up();
    for stranger in [Process { start: process.start + 1, ..process }, Process { start: process.start - 1, ..process }] {
        os::signal(&stranger, libc::SIGTERM).unwrap();
        os::signal(&stranger, libc::SIGKILL).unwrap();
        assert!(os::open(&stranger).unwrap().is_none());
    }
    assert_eq!(os::start_time(process.pid), Some(process.start));
    drop(shell.child.stdin.take());
    assert_eq!(shell.line(), "ended", "it was neither killed nor asked");
}

#[test]
fn a_signal_arrives() {
    let mut shell = Shell::start("trap 'echo hit; exit' TERM; echo; for again in $(seq 6000); do sleep 0.01; done");
    shell.line();
    let handle = os::open(&shell.look_up()).unwrap().unwrap();
    handle.signal(libc::SIGTERM).unwrap();
    assert_eq!(shell.line(), "hit");
    shell.child.wait().unwrap();
    handle.signal(libc::SIGKILL).unwrap();
    os::signal(&Process { pid: shell.pid(), parent: own_pid(), group: 1, session: 1, start: 1, zombie: false }, libc::SIGKILL).unwrap();
}

#[test]
fn a_handle_tells_of_the_end() {
    let shell = Shell::start("read end");
    let handle = os::open(&shell.look_up()).unwrap().unwrap();
    let ended = |patience| {
        let mut poll = libc::pollfd { fd: handle.fd.as_ref().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive for the call.
        unsafe { libc::poll(&raw mut poll, 1, patience) == 1 }
    };
    assert!(!ended(0));
    handle.signal(libc::SIGKILL).unwrap();
    assert!(ended(20_000));
}
