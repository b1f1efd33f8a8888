//! Unix sockets: whether a connection was accepted, whether a process holds a socket file, the listener's pid.

use ally_base::os::{self, AcceptState, Held, own_pid};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::until::until;

fn bound(path: &Path) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path).unwrap()).unwrap();
    socket
}

fn is_held(path: &Path) -> bool {
    os::is_held(path).unwrap() == Held::Yes
}

// Accept state.

#[test]
fn accept_state_is_waiting_until_accept() {
    assert!(os::accept_queue_is_visible(), "without unix_diag the probe `accept` is refused");
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let [first, second] = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
    assert_eq!((os::accept_state(&first).unwrap(), os::accept_state(&second).unwrap()), (AcceptState::Waiting, AcceptState::Waiting));
    let (served, _) = listener.accept().unwrap();
    assert_eq!((os::accept_state(&first).unwrap(), os::accept_state(&second).unwrap()), (AcceptState::Accepted, AcceptState::Waiting));
    // Bytes in either direction change nothing.
    (&first).write_all(b"?").unwrap();
    (&served).write_all(b"!").unwrap();
    assert_eq!(os::accept_state(&first).unwrap(), AcceptState::Accepted);
    let (_served, _) = listener.accept().unwrap();
    assert_eq!(os::accept_state(&second).unwrap(), AcceptState::Accepted);
}

/// After the listener closed, the connection leaves the accept queue without an accept.
#[test]
fn accept_state_of_a_connection_whose_listener_closed_is_never_accepted() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut waiting = UnixStream::connect(&path).unwrap();
    drop(listener);
    assert!(!matches!(os::accept_state(&waiting), Ok(AcceptState::Accepted)));
    assert_eq!(waiting.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(os::accept_state(&UnixDatagram::unbound().unwrap()).is_err());
}

// Held socket files. `until` is needed: a child that another test forks has copies of these descriptors until its execve(2).

#[test]
fn is_held_while_a_process_has_the_socket_bound_listening_or_datagram() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let socket = bound(&path);
    assert!(UnixStream::connect(&path).is_err(), "a bound socket refuses connections, as a stale file does");
    assert!(is_held(&path));
    listen(&socket, Backlog::new(1).unwrap()).unwrap();
    assert!(is_held(&path));
    let copy = socket.try_clone().unwrap();
    drop(socket);
    assert!(is_held(&path), "a copy of the descriptor holds the file");
    drop(copy);
    until("the file is not held", || !is_held(&path));
    assert!(path.exists(), "a stale file");
    fs::remove_file(&path).unwrap();
    let _datagram = UnixDatagram::bind(&path).unwrap();
    assert!(is_held(&path), "a datagram socket holds the file");
}

/// An accepted connection has its listener's address, but no process can connect to it.
#[test]
fn is_held_is_false_for_an_accepted_connection_without_its_listener() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let (served, _) = listener.accept().unwrap();
    assert!(is_held(&path));
    drop(listener);
    until("the file is not held", || !is_held(&path));
    (&client).write_all(b"?").unwrap();
    (&served).read_exact(&mut [0]).unwrap();
    fs::remove_file(&path).unwrap();

    // A connected datagram socket still receives from every sender.
    let elsewhere = home.path().join("elsewhere");
    let [datagram, _other] = [&path, &elsewhere].map(|path| UnixDatagram::bind(path).unwrap());
    datagram.connect(&elsewhere).unwrap();
    assert!(is_held(&path));
}

#[test]
fn is_held_by_another_process() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let socket = bound(&path);
    let mut child = Command::new("/bin/sh").args(["-c", "exec sleep 60"]).stdin(Stdio::from(socket)).spawn().unwrap();
    assert!(is_held(&path));
    child.kill().unwrap();
    child.wait().unwrap();
    until("the file is not held", || !is_held(&path));
}

#[test]
fn is_held_is_false_for_a_file_that_replaced_a_held_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let first = UnixListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = UnixListener::bind(&path).unwrap();
    assert!(is_held(&path));
    drop(second);
    // The first socket is open and bound to the same path, but to another inode.
    until("the second file is not held", || !is_held(&path));
    fs::remove_file(&path).unwrap();
    drop(first);
    let _third = UnixListener::bind(&path).unwrap();
    assert!(is_held(&path));
}

#[test]
fn is_held_is_by_inode_and_not_by_name() {
    let home = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|folder| home.path().join(folder));
    for folder in [&here, &there] {
        fs::create_dir(folder).unwrap();
    }
    drop(UnixListener::bind(here.join("s")).unwrap());
    let _other = UnixListener::bind(there.join("s")).unwrap();
    until("the file is not held", || !is_held(&here.join("s")));
    assert!(is_held(&there.join("s")));
    fs::rename(there.join("s"), there.join("renamed")).unwrap();
    assert!(is_held(&there.join("renamed")), "a renamed file is still held");
}

#[test]
fn is_held_follows_a_link_and_is_false_for_a_file_that_is_not_a_socket() {
    let home = tempfile::tempdir().unwrap();
    let [path, file, link, link_to_file] = ["s", "file", "link", "link_to_file"].map(|name| home.path().join(name));
    let listener = UnixListener::bind(&path).unwrap();
    fs::write(&file, "").unwrap();
    symlink(&path, &link).unwrap();
    symlink(&file, &link_to_file).unwrap();
    assert!(!is_held(&file) && !is_held(&link_to_file));
    assert!(is_held(&link) && os::holders(&link).contains(&own_pid()));
    drop(listener);
    until("the link is not held", || !is_held(&link));
    assert_eq!(os::is_held(&home.path().join("missing")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn is_held_finds_each_of_600_sockets() {
    let home = tempfile::tempdir().unwrap();
    let sockets: Vec<UnixListener> =
        (0..600).map(|number| UnixListener::bind(home.path().join(format!("socket-{number}"))).unwrap()).collect();
    for number in [0, 299, 599] {
        assert!(is_held(&home.path().join(format!("socket-{number}"))));
    }
    drop(sockets);
    until("the file is not held", || !is_held(&home.path().join("socket-299")));
}

// Peer.

#[test]
fn peer_pid_is_the_process_that_listens() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(os::peer_pid(&UnixStream::connect(&path).unwrap()).unwrap(), own_pid());
    drop(listener);
    fs::remove_file(&path).unwrap();
    // Bound by this process, listened to by another.
    let script = "import socket, sys, time\ns = socket.socket(fileno=0)\ns.listen(1)\ntime.sleep(60)";
    let mut child = Command::new("python3").args(["-c", script]).stdin(Stdio::from(bound(&path))).spawn().unwrap();
    let mut client = None;
    until("the child listens", || {
        client = UnixStream::connect(&path).ok();
        client.is_some()
    });
    let peer = os::peer_pid(&client.unwrap()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(peer, i32::try_from(child.id()).unwrap());
}
