//! Whether a process tree listens at a socket file, by the kernel's list and the tree's descriptors.

use ally_base::os::{self, Bound, LeaderSocket, Listeners, Listening, SockDiag, own_pid};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, listen, socket};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::namespace::can_unshare;
use crate::rerun::rerun;
use crate::until::until;

fn bound(path: &Path, kind: SockType) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    socket
}

/// As a daemon whose leader and keeper are this process.
fn listening(path: &Path) -> Listening {
    listening_of(path, own_pid(), own_pid())
}

fn listening_of(path: &Path, keeper: i32, leader: i32) -> Listening {
    Listeners::read(&SockDiag::open().unwrap()).unwrap().listening(path, keeper, leader).unwrap()
}

fn bound_state(path: &Path) -> Bound {
    os::bound_socket(path, own_pid(), own_pid()).unwrap()
}

/// The socket of this process at this file.
fn own_socket(diag: &SockDiag, path: &Path) -> Option<(LeaderSocket, Bound, SockType)> {
    LeaderSocket::find(diag, path, &fs::metadata(path).unwrap(), own_pid()).unwrap()
}

/// A process that holds this socket as its stdin.
fn holder(socket: OwnedFd) -> Child {
    let child = Command::new("sleep").arg("60").stdin(Stdio::from(socket)).spawn().unwrap();
    // Until the execve(2) the child has copies of all descriptors of this process.
    until("the child is sleep", || fs::read_to_string(format!("/proc/{}/comm", child.id())).is_ok_and(|name| name == "sleep\n"));
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

#[test]
fn listening_begins_with_listen_and_makes_no_connection() {
    let home = tempfile::tempdir().unwrap();
    for kind in [SockType::Stream, SockType::SeqPacket] {
        let path = home.path().join(format!("{kind:?}"));
        let socket = bound(&path, kind);
        assert_eq!((listening(&path), bound_state(&path)), (Listening::Nobody, Bound::NotListening));
        listen(&socket, Backlog::new(1).unwrap()).unwrap();
        assert_eq!((listening(&path), bound_state(&path)), (Listening::Tree(kind), Bound::Listening));
        assert_eq!(Listeners::read(&SockDiag::open().unwrap()).unwrap().kind_at(&path).unwrap(), Some(kind));
        assert_eq!(accept(socket.as_raw_fd()), Err(Errno::EAGAIN), "a connection waits");
    }
    let path = home.path().join("datagram");
    let _datagram = UnixDatagram::bind(&path).unwrap();
    assert_eq!((listening(&path), bound_state(&path)), (Listening::Nobody, Bound::Datagram));
}

#[test]
fn listening_is_by_the_file_and_follows_a_link() {
    let home = tempfile::tempdir().unwrap();
    let [path, link, missing] = ["s", "link", "missing"].map(|name| home.path().join(name));
    let first = UnixListener::bind(&path).unwrap();
    symlink(&path, &link).unwrap();
    assert_eq!(listening(&link), Listening::Tree(SockType::Stream));
    let _connection = UnixStream::connect(&path).unwrap();
    fs::remove_file(&path).unwrap();
    // The first socket is open and has the same name, but is bound to another file.
    let second = bound(&path, SockType::Stream);
    assert_eq!((listening(&link), bound_state(&link)), (Listening::Nobody, Bound::NotListening));
    drop((first, second));
    until("no socket is bound to the file", || bound_state(&path) == Bound::Unknown);
    let error = Listeners::read(&SockDiag::open().unwrap()).unwrap().listening(&missing, own_pid(), own_pid()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn listening_needs_the_socket_among_the_descriptors_of_the_tree() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let socket = bound(&path, SockType::Stream);
    listen(&socket, Backlog::new(1).unwrap()).unwrap();
    let [inside, other] = [socket.try_clone().unwrap(), OwnedFd::from(fs::File::open("/dev/null").unwrap())].map(holder);
    drop(socket);
    until("only the child holds it", || os::holders(&path) == [pid(&inside)]);
    // A descendant of the keeper, the leader itself, and a process outside the tree.
    assert_eq!(listening_of(&path, own_pid(), pid(&other)), Listening::Tree(SockType::Stream));
    assert_eq!(listening_of(&path, pid(&inside), pid(&inside)), Listening::Tree(SockType::Stream));
    assert_eq!(listening_of(&path, pid(&other), pid(&other)), Listening::NotFound(SockType::Stream));
    end(inside);
    end(other);
}

#[test]
#[cfg(target_os = "linux")]
fn the_leaders_socket_is_found_before_it_listens_and_asked_again() {
    let home = tempfile::tempdir().unwrap();
    let diag = SockDiag::open().unwrap();
    for kind in [SockType::Stream, SockType::SeqPacket] {
        let path = home.path().join(format!("{kind:?}"));
        let socket = bound(&path, kind);
        let (own, state, found) = own_socket(&diag, &path).unwrap();
        assert_eq!((state, found, own.state(&diag).unwrap()), (Bound::NotListening, kind, Some((Bound::NotListening, kind))));
        listen(&socket, Backlog::new(1).unwrap()).unwrap();
        assert_eq!(
            (own_socket(&diag, &path), own.state(&diag).unwrap()),
            (Some((own, Bound::Listening, kind)), Some((Bound::Listening, kind)))
        );
        assert_eq!(accept(socket.as_raw_fd()), Err(Errno::EAGAIN), "a connection waits");
        drop(socket);
        // A test beside this one may have forked, and its child still has a copy.
        until("the socket is closed", || own.state(&diag).unwrap().is_none());
    }
    let path = home.path().join("datagram");
    let _datagram = UnixDatagram::bind(&path).unwrap();
    assert!(matches!(own_socket(&diag, &path), Some((_, Bound::Datagram, SockType::Datagram))));
}

#[test]
#[cfg(target_os = "linux")]
fn the_leaders_socket_is_none_that_was_accepted_and_none_of_another_file() {
    let home = tempfile::tempdir().unwrap();
    let diag = SockDiag::open().unwrap();
    let [path, other] = ["s", "other"].map(|name| home.path().join(name));
    let listener = UnixListener::bind(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    // It has the address of its listener, and a higher descriptor.
    let (_accepted, _) = listener.accept().unwrap();
    assert!(matches!(own_socket(&diag, &path), Some((_, Bound::Listening, _))));
    let child = holder(bound(&other, SockType::Stream));
    until("only the child holds it", || os::holders(&other) == [pid(&child)]);
    assert_eq!(own_socket(&diag, &other), None);
    end(child);
}

/// On an overlay stat(2) reports another device than the kernel's list, so the device of the mount decides.
#[test]
fn listening_on_an_overlay_is_found() {
    const HOME: &str = "ALLY_TEST_OVERLAY";
    if let Some(home) = std::env::var_os(HOME) {
        let home = Path::new(&home);
        let script = "mount -t tmpfs lower lower && mount -t tmpfs upper upper && mkdir upper/files upper/work && \
                      mount -t overlay both -o lowerdir=lower,upperdir=upper/files,workdir=upper/work merged";
        assert!(Command::new("sh").args(["-c", script]).current_dir(home).status().unwrap().success());
        let path = home.join("merged/s");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listening(&path), Listening::Tree(SockType::Stream));
        return;
    }
    if !can_unshare(&["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    for folder in ["lower", "upper", "merged"] {
        fs::create_dir(home.path().join(folder)).unwrap();
    }
    rerun(&["unshare", "-m"], "listeners::listening_on_an_overlay_is_found", HOME, home.path());
}

/// A process that hides its descriptors from this user is no proof, so the answer is not "nobody".
#[test]
fn listening_is_not_found_where_descriptors_cannot_be_read() {
    const PATH: &str = "ALLY_TEST_HIDDEN";
    if let Some(path) = std::env::var_os(PATH) {
        let path = Path::new(&path);
        let pid = fs::read_to_string(path.with_extension("pid")).unwrap().trim().parse().unwrap();
        assert_eq!(listening_of(path, pid, pid), Listening::NotFound(SockType::Stream));
        return;
    }
    let as_somebody = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"];
    let own = std::env::current_exe().unwrap();
    let possible = Command::new(as_somebody[0]).args(&as_somebody[1..]).arg(own).arg("--list").stdout(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: not root, or another user can't run this program");
    }
    let home = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let path = home.path().join("s");
    let socket = bound(&path, SockType::Stream);
    listen(&socket, Backlog::new(1).unwrap()).unwrap();
    let child = holder(socket);
    fs::write(path.with_extension("pid"), child.id().to_string()).unwrap();
    rerun(&as_somebody, "listeners::listening_is_not_found_where_descriptors_cannot_be_read", PATH, &path);
    end(child);
}
