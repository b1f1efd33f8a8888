//! Finding the host, or making one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use ally_base::os;
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::error::Code;
use ally_core::supervisor::GuardianProgram;

use crate::support::{Session, World, lives, program, within};

#[test]
fn fifty_sessions_at_once_make_one_host_and_one_daemon() {
    let world = World::new();
    let sessions: Vec<Session> = (0..50).map(|_| world.session()).collect();
    let tickets: Vec<u64> = sessions.iter().map(|session| session.begin(&world.config("plugin"))).collect();
    for (session, ticket) in sessions.iter().zip(tickets) {
        session.answer(ticket).unwrap();
    }
    let pids: HashSet<_> = sessions.iter().map(|session| session.router.pid("plugin").unwrap()).collect();
    assert_eq!(pids.len(), 1);
    assert!(world.host().is_some());
    let owned = sessions.iter().filter(|session| session.router.info("plugin").unwrap().sessions == Some(50));
    assert!(owned.count() > 0);
}

#[test]
fn the_host_inherits_nothing_but_lock_and_socket() {
    let world = World::new();
    let session = world.session();
    session.start(&world.config("plugin")).unwrap();
    let host = world.host().unwrap();
    let read = |name: &str| fs::read_to_string(format!("/proc/{host}/{name}")).unwrap();
    assert_eq!(fs::read_link(format!("/proc/{host}/cwd")).unwrap().to_str(), Some("/"));
    for fd in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{host}/fd/{fd}")).unwrap().to_str(), Some("/dev/null"));
    }
    assert_eq!(read("environ"), "");
    assert_eq!(read("oom_score_adj").trim(), "0");
    let status = read("status");
    assert!(status.contains("Umask:\t0077"), "{status}");
    // pid, session and group: its own.
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!([fields[2], fields[3]], [host.to_string(), host.to_string()]);
    assert_ne!(fields[1], os::own_pid().to_string());
    for (path, mode) in [(world.folder(), 0o700), (world.socket(), 0o600), (world.folder().join("host.lock"), 0o600)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let world = World::new();
    world.make_folder();
    drop(UnixListener::bind(world.socket()).unwrap());
    world.session().start(&world.config("plugin")).unwrap();
    assert!(fs::symlink_metadata(world.socket()).unwrap().file_type().is_socket());
}

#[test]
fn a_lock_holder_that_ends_before_it_serves_is_replaced() {
    let world = World::new();
    world.make_folder();
    let lock = File::create(world.folder().join("host.lock")).unwrap();
    lock.lock().unwrap();
    let session = world.session();
    let ticket = session.begin(&world.config("plugin"));
    assert!(!within(Duration::from_millis(300), || world.host().is_some()));
    drop(lock);
    session.answer(ticket).unwrap();
    assert!(world.host().is_some());
}

/// It holds the lock, and nobody listens.
#[test]
fn without_a_host_for_10_seconds_a_start_names_who_has_the_lock() {
    let world = World::new();
    world.make_folder();
    let mut holder = Command::new("flock").arg(world.folder().join("host.lock")).args(["sleep", "60"]).process_group(0).spawn().unwrap();
    let pid = i32::try_from(holder.id()).unwrap();
    let is_locked = || File::open(world.folder().join("host.lock")).is_ok_and(|file| file.try_lock().is_err());
    assert!(within(Duration::from_secs(5), is_locked));
    let start = os::start_time(pid).unwrap();
    fs::write(world.folder().join("host.lock"), format!("host {pid} {start} build \n")).unwrap();
    // SAFETY: integers only.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    let begun = Instant::now();
    let failure = world.session().start(&world.config("plugin")).unwrap_err();
    let waited = begun.elapsed();
    // SAFETY: integers only.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
    holder.wait().unwrap();
    assert_eq!(failure.code(), Code::Internal);
    assert!(failure.to_string().contains(&format!("process {pid}, which is stopped")), "{failure}");
    assert!(waited > Duration::from_secs(9) && waited < Duration::from_secs(13), "{waited:?}");
}

#[test]
fn a_program_that_is_not_there_is_the_spawners_failure() {
    let world = World::new();
    let guardian = GuardianProgram { path: "/nowhere/ally-guardian".into(), version: VERSION, build: BUILD_ID };
    let failure = Session::new(world.envs_dir(), guardian).start(&world.config("plugin")).unwrap_err();
    assert_eq!(failure.code(), Code::Unsupported);
    assert!(failure.to_string().contains("/nowhere/ally-guardian"), "{failure}");
    world.session().start(&world.config("plugin")).unwrap();
}

#[test]
fn another_build_is_refused_while_a_session_has_a_daemon_and_makes_the_host_leave_otherwise() {
    let world = World::new();
    let other = || Session::new(world.envs_dir(), GuardianProgram { path: program(), version: "9.9.9", build: "another" });
    let session = world.session();
    session.start(&world.config("plugin")).unwrap();
    let (host, daemon) = (world.host().unwrap(), session.router.pid("plugin").unwrap());
    let failure = other().start(&world.config("plugin")).unwrap_err();
    assert_eq!((failure.code(), failure.pid()), (Code::OwnedElsewhere, Some(host)));
    let text = failure.to_string();
    for part in [VERSION, "9.9.9", "1 session", "ally-daemons stop --all"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(lives(daemon));
    drop(session);
    world.await_host_gone(Duration::from_secs(3));
}
