//! What the kernel knows about Unix sockets: who took a connection, who holds a file, who listens;
//! and about folders, that something appeared in one.

use ally_base::os::{self, AcceptState, FolderWatcher};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{own_pid, until};

fn bound(path: &Path) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path).unwrap()).unwrap();
    socket
}

// Whether a connection was taken.

#[test]
fn a_connection_waits_until_it_is_accepted() {
    assert!(os::accept_queue_is_visible(), "this kernel has no unix_diag, and the probe `accept` is refused on it");
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let [first, second] = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
    assert_eq!((os::accept_state(&first).unwrap(), os::accept_state(&second).unwrap()), (AcceptState::Waiting, AcceptState::Waiting));
    let (served, _) = listener.accept().unwrap();
    assert_eq!((os::accept_state(&first).unwrap(), os::accept_state(&second).unwrap()), (AcceptState::Accepted, AcceptState::Waiting));
    // Silence is fine, and so is talk.
    (&first).write_all(b"?").unwrap();
    (&served).write_all(b"!").unwrap();
    assert_eq!(os::accept_state(&first).unwrap(), AcceptState::Accepted);
    let (_served, _) = listener.accept().unwrap();
    assert_eq!(os::accept_state(&second).unwrap(), AcceptState::Accepted);
}

/// The socket itself tells of the hangup, and the kernel must not tell more than it knows.
#[test]
fn a_connection_that_was_never_taken_never_counts_as_taken() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut waiting = UnixStream::connect(&path).unwrap();
    drop(listener);
    assert!(!matches!(os::accept_state(&waiting), Ok(AcceptState::Accepted)));
    assert_eq!(waiting.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(os::accept_state(&UnixDatagram::unbound().unwrap()).is_err());
}

// Whether a file is held. A process that another test is just starting has copies of our descriptors for a moment.

#[test]
fn a_socket_file_is_held_while_anyone_has_its_socket() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let socket = bound(&path);
    assert!(UnixStream::connect(&path).is_err(), "bound but not listening refuses, as a stale one does");
    assert!(os::is_held(&path).unwrap());
    listen(&socket, Backlog::new(1).unwrap()).unwrap();
    assert!(os::is_held(&path).unwrap());
    let copy = socket.try_clone().unwrap();
    drop(socket);
    assert!(os::is_held(&path).unwrap(), "a copy is as good");
    drop(copy);
    until("its release", || !os::is_held(&path).unwrap());
    assert!(path.exists(), "stale");
    fs::remove_file(&path).unwrap();
    let _datagram = UnixDatagram::bind(&path).unwrap();
    assert!(os::is_held(&path).unwrap(), "whatever kind of socket it is");
}

/// It carries its listener's address, but whoever comes next can't reach it.
#[test]
fn a_connection_that_outlives_its_listener_holds_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let (served, _) = listener.accept().unwrap();
    assert!(os::is_held(&path).unwrap());
    drop(listener);
    until("its release", || !os::is_held(&path).unwrap());
    (&client).write_all(b"?").unwrap();
    (&served).read_exact(&mut [0]).unwrap();
    fs::remove_file(&path).unwrap();

    // One that sends datagrams to someone still receives them from anyone.
    let elsewhere = home.path().join("elsewhere");
    let [datagram, _other] = [&path, &elsewhere].map(|path| UnixDatagram::bind(path).unwrap());
    datagram.connect(&elsewhere).unwrap();
    assert!(os::is_held(&path).unwrap());
}

#[test]
fn another_process_s_socket_is_held_too() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let socket = bound(&path);
    let mut child = Command::new("/bin/sh").args(["-c", "exec sleep 60"]).stdin(Stdio::from(socket)).spawn().unwrap();
    assert!(os::is_held(&path).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    until("its release", || !os::is_held(&path).unwrap());
}

#[test]
fn a_file_is_told_from_an_earlier_one_of_the_same_path() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let first = UnixListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = UnixListener::bind(&path).unwrap();
    assert!(os::is_held(&path).unwrap());
    drop(second);
    // The first one lives and carries the same path, but it is not what this file stands for.
    until("the second one's release", || !os::is_held(&path).unwrap());
    fs::remove_file(&path).unwrap();
    drop(first);
    let _third = UnixListener::bind(&path).unwrap();
    assert!(os::is_held(&path).unwrap());
}

#[test]
fn the_same_name_elsewhere_is_another_file() {
    let home = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|folder| home.path().join(folder));
    for folder in [&here, &there] {
        fs::create_dir(folder).unwrap();
    }
    drop(UnixListener::bind(here.join("s")).unwrap());
    let _other = UnixListener::bind(there.join("s")).unwrap();
    until("its release", || !os::is_held(&here.join("s")).unwrap());
    assert!(os::is_held(&there.join("s")).unwrap());
    fs::rename(there.join("s"), there.join("renamed")).unwrap();
    assert!(os::is_held(&there.join("renamed")).unwrap(), "a rename changes nothing about who holds it");
}

#[test]
fn what_is_no_socket_is_held_by_nobody() {
    let home = tempfile::tempdir().unwrap();
    let (path, file, link) = (home.path().join("s"), home.path().join("file"), home.path().join("link"));
    let _listener = UnixListener::bind(&path).unwrap();
    fs::write(&file, "").unwrap();
    symlink(&path, &link).unwrap();
    assert!(!os::is_held(&file).unwrap() && !os::is_held(&link).unwrap());
    assert_eq!(os::is_held(&home.path().join("missing")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn many_sockets_don_t_hide_one() {
    let home = tempfile::tempdir().unwrap();
    let sockets: Vec<UnixListener> =
        (0..600).map(|number| UnixListener::bind(home.path().join(format!("socket-{number}"))).unwrap()).collect();
    for number in [0, 299, 599] {
        assert!(os::is_held(&home.path().join(format!("socket-{number}"))).unwrap());
    }
    drop(sockets);
    until("their release", || !os::is_held(&home.path().join("socket-299")).unwrap());
}

// Who listens.

#[test]
fn the_peer_is_who_listens() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(os::peer_pid(&UnixStream::connect(&path).unwrap()).unwrap(), own_pid());
    drop(listener);
    fs::remove_file(&path).unwrap();
    // Bound here, but another process listens.
    let script = "import socket, sys, time\ns = socket.socket(fileno=0)\ns.listen(1)\ntime.sleep(60)";
    let mut child = Command::new("python3").args(["-c", script]).stdin(Stdio::from(bound(&path))).spawn().unwrap();
    let mut client = None;
    until("the child to listen", || {
        client = UnixStream::connect(&path).ok();
        client.is_some()
    });
    let peer = os::peer_pid(&client.unwrap()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(peer, i32::try_from(child.id()).unwrap());
}

// Folders.

#[test]
fn what_appears_in_a_watched_folder_is_told_by_the_folder() {
    let home = tempfile::tempdir().unwrap();
    let watcher = FolderWatcher::new().unwrap();
    let folders = ["a", "b"].map(|name| home.path().join(name));
    let keys = folders.each_ref().map(|folder| {
        fs::create_dir(folder).unwrap();
        watcher.add(folder).unwrap()
    });
    assert_eq!(watcher.changed().unwrap(), None);
    let _socket = UnixListener::bind(folders[1].join("s")).unwrap();
    let changed = watcher.changed().unwrap().unwrap_or_default();
    assert!(!changed.is_empty() && changed.iter().all(|key| *key == Some(keys[1])));
    fs::rename(folders[1].join("s"), folders[0].join("s")).unwrap();
    assert!(watcher.changed().unwrap().is_some_and(|changed| changed.contains(&Some(keys[0]))), "what is moved there appears as well");
    watcher.remove(keys[0]).unwrap();
    watcher.changed().unwrap();
    fs::write(folders[0].join("file"), "").unwrap();
    assert_eq!(watcher.changed().unwrap(), None);
    fs::remove_dir_all(&folders[1]).unwrap();
    watcher.remove(keys[1]).unwrap();
    assert!(watcher.add(&folders[1]).is_err());
}
