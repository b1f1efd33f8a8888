//! The listening socket of an order: the leader gets it as descriptor 3, and no other process keeps it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use ally_base::os;
use ally_base::wire::{KeeperReport, Stage};
use tempfile::TempDir;

use crate::support::{Guardian, TestOrder, procfs, until};

struct Socket {
    _home: TempDir,
    path: PathBuf,
    listener: OwnedFd,
    id: u64,
}

fn socket() -> Socket {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = os::listen_at(&path).unwrap();
    let id = os::socket_id(&listener).unwrap();
    Socket { _home: home, path, listener, id }
}

/// What descriptor 3 of a process leads to.
fn third(pid: i32) -> Option<String> {
    procfs::descriptors(pid).remove(&3)
}

#[test]
fn leader_has_the_socket_as_descriptor_3_and_no_further_one() {
    let guardian = Guardian::start();
    let Socket { listener, id, .. } = &socket();
    for script in ["exec sleep 60", "sleep 60"] {
        let mut daemon = guardian.spawn_listening(&TestOrder::shell(script), listener.try_clone().unwrap());
        let [leader, keeper] = daemon.spawned();
        // The dynamic linker of the program has a library open for a moment.
        until("descriptors 0 to 3 alone", || procfs::descriptors(leader.pid).into_keys().eq(0..=3));
        let open = procfs::descriptors(leader.pid);
        assert_eq!(open[&3], format!("socket:[{id}]"));
        // Neither the keeper nor the guardian keeps it open.
        for process in [keeper.pid, guardian.pid()] {
            assert!(!procfs::descriptors(process).values().any(|file| *file == format!("socket:[{id}]")), "{process}");
        }
    }
}

#[test]
fn leader_has_the_variables_of_sd_listen_fds_and_its_own_pid_in_them() {
    let guardian = Guardian::start();
    let Socket { listener, .. } = &socket();
    let mut plan = TestOrder::program(&["/usr/bin/env"]);
    plan.env = vec![b"A=b".to_vec()];
    let mut daemon = guardian.spawn_listening(&plan, listener.try_clone().unwrap());
    // It may have ended by now, so the pid is all that is looked at.
    let Some(KeeperReport::Spawned { leader, .. }) = daemon.report() else { panic!("not spawned") };
    let expected = format!("A=b\nLISTEN_PID={leader}\nLISTEN_FDS=1\nLISTEN_FDNAMES=socket\nALLY_LISTEN_FD=3\n");
    assert_eq!(daemon.output(), expected);
    assert_eq!(guardian.spawn(&plan).output(), "A=b\n", "none without a socket");
}

#[test]
fn socket_is_inherited_by_what_the_leader_starts_and_refuses_when_the_tree_is_gone() {
    let guardian = Guardian::start();
    let Socket { path, listener, id, _home } = socket();
    let mut daemon = guardian.spawn_listening(&TestOrder::shell("sleep 60 & wait"), listener);
    let [leader, _] = daemon.spawned();
    until("a child has it", || os::descendants(leader.pid).seen.iter().any(|child| third(child.pid) == Some(format!("socket:[{id}]"))));
    let _client = UnixStream::connect(&path).unwrap();
    daemon.command(ally_base::wire::KeeperCommand::Kill);
    until("refused", || UnixStream::connect(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused));
}

#[test]
fn failure_of_a_program_is_reported_beside_a_socket() {
    let guardian = Guardian::start();
    let mut daemon = guardian.spawn_listening(&TestOrder::program(&["/nowhere/program"]), socket().listener);
    assert_eq!(daemon.report(), Some(KeeperReport::SpawnFailed { stage: Stage::Exec, errno: libc::ENOENT }));
}
