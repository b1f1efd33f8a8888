//! A process's identity: /proc/PID/stat, start time, boot, working directory, and whether the process is ending.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use ally_base::os::{self, own_pid};

use crate::namespace::can_unshare;
use crate::rerun::rerun;
use crate::shell::Shell;
use crate::until::until;

#[test]
fn proc_stat_is_read_for_a_process_with_any_name() {
    let own = os::look_up(own_pid()).unwrap();
    for name in ["a) Z 1 1 1", "((((((", ") ) ) )", "x\\ny) R 0 0", "\\n\\n)", " "] {
        let mut shell = Shell::start("echo; IFS= read name; printf \"$name\" >/proc/self/comm; echo; read end");
        shell.line();
        let before = shell.look_up();
        writeln!(shell.child.stdin.as_ref().unwrap(), "{}", name.replace('\\', "\\\\")).unwrap();
        shell.line();
        let comm = fs::read_to_string(format!("/proc/{}/comm", shell.pid())).unwrap();
        assert_eq!(comm, format!("{}\n", name.replace("\\n", "\n")));
        let now = shell.look_up();
        assert_eq!(now, before, "{name:?}");
        assert_eq!((now.parent, now.group, now.session, now.zombie), (own_pid(), own.group, own.session, false));
    }
}

#[test]
fn start_time_is_constant_and_grows_from_process_to_process() {
    let own = os::start_time(own_pid()).unwrap();
    let shell = Shell::start("read end");
    let child = os::start_time(shell.pid()).unwrap();
    assert!(own > 0 && child >= own);
    assert_eq!((os::start_time(own_pid()), os::start_time(shell.pid())), (Some(own), Some(child)));
    assert_eq!(os::look_up(own_pid()).map(|process| process.start), Some(own));
}

#[test]
fn zombie_has_no_start_time_and_is_no_descendant() {
    let shell = Shell::start("exit 0");
    until("the zombie", || os::look_up(shell.pid()).unwrap().zombie);
    assert_eq!(os::start_time(shell.pid()), None);
    assert!(!os::descendants(own_pid()).whole().unwrap().iter().any(|process| process.pid == shell.pid()));
}

#[test]
fn look_up_of_an_impossible_pid_is_none() {
    for pid in [0, -1, i32::MIN, i32::MAX] {
        assert_eq!((os::look_up(pid), os::start_time(pid), os::working_directory(pid)), (None, None, None), "{pid}");
    }
}

#[test]
fn boot_id_is_constant_and_names_the_pid_namespace() {
    let boot = os::boot_id().unwrap();
    assert!(boot.len() > 36 && boot.contains(" pid:["), "{boot}");
    assert_eq!(os::boot_id().unwrap(), boot);
    assert!(!boot.contains('\n'), "daemon.id has it on one line");
}

#[test]
fn working_directory_is_that_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::from(Command::new("/bin/sh").args(["-c", "read end"]).current_dir(folder.path()));
    assert_eq!(os::working_directory(shell.pid()), Some(fs::canonicalize(folder.path()).unwrap()));
}

#[test]
fn is_ending_is_false_for_a_living_and_for_a_reaped_process() {
    let mut sleeping = Shell::start("echo; read end");
    sleeping.line();
    assert!(!os::is_ending(own_pid()) && !os::is_ending(sleeping.pid()));
    // A process that ignores SIGTERM is not ending either.
    let mut ignoring = Shell::start("trap '' TERM; echo; read end");
    ignoring.line();
    os::signal(&ignoring.look_up(), libc::SIGTERM).unwrap();
    assert!(!os::is_ending(ignoring.pid()));
    let pid = sleeping.pid();
    os::signal(&sleeping.look_up(), libc::SIGKILL).unwrap();
    until("the zombie", || sleeping.look_up().zombie);
    assert!(os::is_ending(pid), "a zombie is ending");
    sleeping.child.wait().unwrap();
    assert!(!os::is_ending(pid));
    for impossible in [0, -1, i32::MAX] {
        assert!(!os::is_ending(impossible), "{impossible}");
    }
}

/// The first process of a pid namespace can only exit after every other process of the namespace is reaped. Until then
/// /proc/PID/stat shows it as alive.
#[test]
fn is_ending_is_true_for_a_namespace_init_that_waits_for_its_last_process() {
    for killed in [false, true] {
        let first = "echo; read end; exit";
        let mut outside = Shell::from(Command::new("unshare").args(["-pf", "--kill-child", "sh", "-c", first]).stderr(Stdio::null()));
        if outside.line_or_end().is_none() {
            eprintln!("skipped: `unshare -pf` fails on this system");
            return;
        }
        let [first] = os::descendants(outside.pid()).whole().unwrap()[..] else { panic!("not one process in the namespace") };
        let mut guest = Shell::from(Command::new("nsenter").args(["-p", "-t", &first.pid.to_string(), "sh", "-c", "echo; read end; exit"]));
        guest.line();
        assert!(!os::is_ending(first.pid));
        // Stopped, the parent of the guest can't reap it.
        os::signal(&guest.look_up(), libc::SIGSTOP).unwrap();
        let stat = format!("/proc/{}/stat", guest.pid());
        until("the guest is stopped", || fs::read_to_string(&stat).unwrap().contains(") T "));
        if killed {
            os::signal(&first, libc::SIGKILL).unwrap();
        } else {
            drop(outside.child.stdin.take());
        }
        until("the first process is ending", || os::is_ending(first.pid));
        until("the guest has no parent that reaps it", || os::descendants(guest.pid()).is_certainly_empty());
        assert_eq!((os::start_time(first.pid), os::is_ending(first.pid)), (Some(first.start), true), "killed: {killed}");
        os::signal(&guest.look_up(), libc::SIGCONT).unwrap();
        until("the first process is gone", || os::look_up(first.pid).is_none());
        assert!(!os::is_ending(first.pid));
    }
}

/// Runs again in a pid namespace without a /proc of its own, and in one with it.
#[test]
fn proc_of_another_pid_namespace_is_refused() {
    const VISIBLE: &str = "ALLY_TEST_VISIBLE";
    if let Some(visible) = std::env::var_os(VISIBLE) {
        return assert_eq!(os::must_be_visible().is_ok(), visible == "true");
    }
    os::must_be_visible().unwrap();
    for (mount, visible) in [(&[][..], "false"), (&["--mount-proc"], "true")] {
        let options = [&["-pf", "--kill-child"], mount].concat();
        if !can_unshare(&[&options[..], &["true"]].concat()) {
            return;
        }
        let unshare = [&["unshare"], &options[..]].concat();
        rerun(&unshare, "identity::proc_of_another_pid_namespace_is_refused", VISIBLE, visible);
    }
}

/// Runs again as another user, under a /proc that hides a process.
#[test]
fn hidden_process_counts_as_alive() {
    const HIDDEN: &str = "ALLY_TEST_HIDDEN";
    let own = os::look_up(own_pid()).unwrap();
    assert!(os::may_live(own.pid, own.start) && !os::may_live(own.pid, own.start + 1) && !os::may_live(i32::MAX, 0));
    assert!(!os::hides_group(own.group).unwrap() && !os::hides_group(i32::MAX).unwrap());
    if let Some(pid) = std::env::var(HIDDEN).ok().and_then(|path| fs::read_to_string(path).ok()) {
        let pid = pid.trim().parse().unwrap();
        assert_eq!(os::identify(pid).unwrap_err().raw_os_error(), Some(libc::EACCES));
        assert!(os::may_live(pid, 0));
        assert!(os::hides_group(pid).unwrap());
        return;
    }
    if !can_unshare(&["-mpf", "--mount-proc", "setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "true"]) {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    // setsid(1) makes a group with the pid of the hidden process.
    let hide = format!(
        "mount -t proc -o hidepid=2 proc /proc; setsid sleep 60 & echo $! >{}; until test $(cut -d' ' -f5 /proc/$!/stat) = $!; do :; done; \
         exec setpriv --reuid 54321 --regid 54321 --clear-groups \"$@\"",
        file.path().display()
    );
    rerun(&["unshare", "-mpf", "--kill-child", "sh", "-c", &hide, "sh"], "identity::hidden_process_counts_as_alive", HIDDEN, file.path());
}
