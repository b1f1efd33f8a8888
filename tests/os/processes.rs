//! Who processes are, what descends from them, and signals that hit no stranger.

use ally_background_process_manager::os::{self, Process};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

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
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
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
    assert!(!os::descendants(own_pid()).iter().any(|process| process.pid == shell.pid()));
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
    let found = os::descendants(shell.pid());
    let pids: Vec<i32> = found.iter().map(|process| process.pid).collect();
    let position = |pid| pids.iter().position(|found| *found == pid).unwrap_or_else(|| panic!("{pid} is missing in {pids:?}"));
    assert!(position(outer) < position(inner));
    position(alone);
    assert_eq!(pids.len(), 3, "{pids:?}");
    let parents: Vec<i32> = [outer, inner, alone].map(|pid| found[position(pid)].parent).into();
    assert_eq!(parents, [shell.pid(), outer, shell.pid()]);
    assert_eq!(os::descendants(inner), []);
    // Our children are those of any of our threads; this is not the first one.
    let all = os::descendants(own_pid());
    assert!([shell.pid(), outer, inner, alone].iter().all(|pid| all.iter().any(|process| process.pid == *pid)));
    end(&pids);
    until("their end", || os::descendants(shell.pid()).is_empty());
}

#[test]
fn a_session_is_whoever_did_not_leave_it() {
    let mut command = Command::new("/bin/sh");
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(|_| ())?)) };
    let mut shell = Shell::from(command.args(["-c", NESTED]));
    let [outer, inner, alone] = nested(&mut shell);
    let mut pids: Vec<i32> = os::session(shell.pid()).iter().map(|process| process.pid).collect();
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
        assert!(os::descends_from(inner, ancestor));
    }
    for other in [alone, i32::MAX, -1] {
        assert!(!os::descends_from(inner, other));
    }
    assert!(!os::descends_from(own_pid(), shell.pid()) && !os::descends_from(i32::MAX, own_pid()));
    end(&[outer, inner, alone]);
}

#[test]
fn an_environment_is_the_one_that_a_process_began_with() {
    let mut shell = Shell::from(Command::new("/bin/sh").args(["-c", "export LATER=1; unset FIRST; echo; read end"]).env("FIRST", "a=b"));
    shell.line();
    assert!(os::began_with(shell.pid(), "FIRST", "a=b"));
    for (variable, value) in [("FIRST", "a"), ("FIRST", "a=bc"), ("IRST", "a=b"), ("LATER", "1"), ("FIRST", "")] {
        assert!(!os::began_with(shell.pid(), variable, value), "{variable}={value}");
    }
    assert!(!os::began_with(i32::MAX, "FIRST", "a=b"));
}

// Signals.

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
