//! A listening socket that a daemon gets: its rights, its queue, its events, its use.

use ally_base::os::{self, Arrival, ArrivalInterest, ArrivalWatcher, BoundBy, ListenerUse, SockDiag, SocketTable, own_pid};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::namespace::can_unshare;
use crate::until::until;

/// A listener, as both the manager and the daemon have it.
fn listener(path: &Path) -> (OwnedFd, UnixListener) {
    let socket = os::listen_at(path).unwrap();
    let daemons = socket.try_clone().unwrap().into();
    (socket, daemons)
}

fn id(socket: &UnixStream) -> u64 {
    os::socket_id(socket).unwrap()
}

#[test]
fn listen_at_gives_the_file_the_rights_of_its_user_alone_whatever_the_umask() {
    for umask in [0o000, 0o022, 0o077, 0o777] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s");
        let made = path.clone();
        // In a thread with a umask of its own.
        let mode = thread::spawn(move || {
            // SAFETY: integers only.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0);
            // SAFETY: integers only.
            unsafe { libc::umask(umask) };
            let socket = os::listen_at(&made).unwrap();
            // SAFETY: integers only.
            assert_ne!(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) } & libc::FD_CLOEXEC, 0);
            fs::symlink_metadata(&made).unwrap().permissions().mode() & 0o7777
        });
        assert_eq!(mode.join().unwrap(), 0o600, "umask {umask:o}");
    }
}

#[test]
fn listen_at_leaves_a_file_that_is_there_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    assert_eq!(os::listen_at(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
}

#[test]
fn waiting_tells_the_clients_in_the_order_of_the_queue_and_zero_for_a_closed_one() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let (socket, daemon) = listener(&path);
    assert_eq!(os::waiting(&socket).unwrap(), os::Waiting::default());
    let clients: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let ids: Vec<u64> = clients.iter().map(id).collect();
    assert_eq!(os::waiting(&socket).unwrap(), os::Waiting { count: 3, clients: ids.clone() });
    assert_eq!(os::peer_socket(&clients[0]).unwrap(), None);
    let (served, _) = daemon.accept().unwrap();
    assert_eq!(os::peer_socket(&clients[0]).unwrap(), Some(id(&served)));
    assert_eq!(os::tree_has_socket(own_pid(), own_pid(), id(&served)), Some(true));
    let [_first, second, _third] = <[UnixStream; 3]>::try_from(clients).unwrap();
    drop(second);
    assert_eq!(os::waiting(&socket).unwrap(), os::Waiting { count: 2, clients: vec![0, ids[2]] });
}

/// The kernel's answer about one socket is a page at most.
#[test]
fn waiting_counts_a_queue_that_is_too_long_for_its_clients() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let (socket, _daemon) = listener(&path);
    let longest: u32 = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let wanted = longest.min(1_500);
    for _ in 0..wanted {
        // Closed clients stay in the queue, and take no descriptors.
        drop(UnixStream::connect(&path).unwrap());
    }
    let waiting = os::waiting(&socket).unwrap();
    assert_eq!(waiting.count, wanted);
    assert!(waiting.clients.is_empty() || waiting.clients.len() == wanted as usize);
}

#[test]
fn lengthen_queue_makes_room_after_a_shorter_listen() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let (socket, daemon) = listener(&path);
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::listen(daemon.as_raw_fd(), 0) }, 0);
    let _first = UnixStream::connect(&path).unwrap();
    let full = || {
        let client = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_NONBLOCK | nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        nix::sys::socket::connect(client.as_raw_fd(), &nix::sys::socket::UnixAddr::new(&path).unwrap())
    };
    assert_eq!(full(), Err(nix::errno::Errno::EAGAIN));
    os::lengthen_queue(&socket).unwrap();
    assert_eq!(full(), Ok(()));
}

#[test]
fn make_blocking_acts_for_all_that_share_the_socket() {
    let home = tempfile::tempdir().unwrap();
    let (socket, daemon) = listener(&home.path().join("s"));
    assert!(!os::is_nonblocking(&socket).unwrap());
    daemon.set_nonblocking(true).unwrap();
    assert!(os::is_nonblocking(&socket).unwrap());
    os::make_blocking(&socket).unwrap();
    assert!(!os::is_nonblocking(&daemon).unwrap());
}

// Events.

#[test]
fn arrivals_tell_of_a_connection_only_to_who_wants_it_and_once() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let (socket, daemon) = listener(&path);
    let watcher = ArrivalWatcher::new().unwrap();
    watcher.add(&socket, 7, ArrivalInterest::HangUp).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    assert_eq!(watcher.take().unwrap(), []);
    // A connection from before counts.
    watcher.again(&socket, 7, ArrivalInterest::Connection).unwrap();
    let arrived = Arrival { key: 7, hung_up: false };
    assert_eq!(watcher.take().unwrap(), [arrived]);
    let _second = UnixStream::connect(&path).unwrap();
    assert_eq!(watcher.take().unwrap(), [], "one event, until the watcher is asked again");
    drop((daemon.accept().unwrap(), daemon.accept().unwrap()));
    watcher.again(&socket, 7, ArrivalInterest::Connection).unwrap();
    assert_eq!(watcher.take().unwrap(), []);
    watcher.remove(&socket).unwrap();
    let _third = UnixStream::connect(&path).unwrap();
    assert_eq!(watcher.take().unwrap(), []);
}

#[test]
fn arrivals_tell_of_shutdown_of_the_receiving_half_and_of_both() {
    for how in [libc::SHUT_RD, libc::SHUT_RDWR] {
        let home = tempfile::tempdir().unwrap();
        let (socket, daemon) = listener(&home.path().join("s"));
        let watcher = ArrivalWatcher::new().unwrap();
        watcher.add(&socket, 9, ArrivalInterest::HangUp).unwrap();
        assert!(!os::is_shut_down(&socket));
        // SAFETY: integers only.
        assert_eq!(unsafe { libc::shutdown(daemon.as_raw_fd(), how) }, 0);
        assert!(os::is_shut_down(&socket));
        assert_eq!(watcher.take().unwrap(), [Arrival { key: 9, hung_up: true }]);
        assert_eq!(watcher.take().unwrap(), []);
    }
}

#[test]
fn refused_and_closed_queue_gives_its_clients_end_of_file_also_after_they_have_sent() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let (socket, _daemon) = listener(&path);
    let mut clients: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
    clients[1].write_all(&vec![1; 100_000]).unwrap();
    drop(clients.remove(2));
    os::refuse_connections(&socket).unwrap();
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let mut closed = 0;
    while os::close_first(&socket).unwrap() {
        closed += 1;
    }
    assert_eq!(closed, 3);
    for mut client in clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "end of file, no ECONNRESET");
    }
}

// Use.

#[test]
fn socket_table_counts_accepted_connections_with_a_living_client_and_the_queue() {
    let home = tempfile::tempdir().unwrap();
    let (path, link) = (home.path().join("s"), home.path().join("s.held"));
    let (socket, daemon) = listener(&path);
    fs::hard_link(&path, &link).unwrap();
    let read = || SocketTable::read(&SockDiag::open().unwrap()).unwrap().use_of(&socket, own_pid(), own_pid()).unwrap();
    let unused = || until("unused", || read().waiting == 0 && read().clients.is_empty());
    unused();
    let first = UnixStream::connect(&path).unwrap();
    assert_eq!((read().waiting, read().clients), (1, Vec::new()));
    let served = daemon.accept().unwrap();
    // By its other name.
    let second = UnixStream::connect(&link).unwrap();
    assert_eq!((read().waiting, read().clients), (1, vec![id(&first)]));
    let second_served = daemon.accept().unwrap();
    let mut both = read().clients;
    both.sort_unstable();
    let mut expected = vec![id(&first), id(&second)];
    expected.sort_unstable();
    assert_eq!(both, expected);
    drop((first, second));
    unused();
    drop((served, second_served));
    let gone = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let missing = SocketTable::read(&SockDiag::open().unwrap()).unwrap().use_of(&gone, own_pid(), own_pid());
    assert_eq!(missing.unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

/// The connection is in the list of the other network namespace.
#[test]
fn socket_table_misses_a_connection_from_another_network_namespace_and_says_so() {
    if !can_unshare(&["-n", "true"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let socket = os::listen_at(&path).unwrap();
    // A TCP socket is no connection of the listener, and in no list of Unix sockets.
    let serves = "import socket, sys\nserver, tcp = socket.socket(fileno=0), socket.socket()\nfor _ in range(2):\n taken = server.accept()\n print('took', flush=True)\nsys.stdout.close()\nserver.accept()";
    let copy = socket.try_clone().unwrap();
    let mut daemon =
        Command::new("python3").args(["-S", "-E", "-c", serves]).stdin(Stdio::from(copy)).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(daemon.stdout.take().unwrap());
    let mut took = || output.read_line(&mut String::new()).unwrap();
    let pid = i32::try_from(daemon.id()).unwrap();
    let read = || {
        let table = SocketTable::read(&SockDiag::open().unwrap()).unwrap();
        (table.use_of(&socket, pid, pid).unwrap(), table.misses_socket_of(pid, pid))
    };
    drop(UnixStream::connect(&path).unwrap());
    took();
    assert_eq!(read(), (ListenerUse::default(), false));
    let connects = format!("import socket, time\nc = socket.socket(socket.AF_UNIX)\nc.connect({:?})\ntime.sleep(60)", path.display());
    let mut client = Command::new("unshare").args(["-n", "python3", "-S", "-E", "-c", &connects]).spawn().unwrap();
    took();
    assert_eq!(read(), (ListenerUse::default(), true));
    for child in [&mut daemon, &mut client] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn bound_by_tells_the_tree_from_others() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let bound = UnixListener::bind(&path).unwrap();
    assert_eq!(os::bound_by(&path, own_pid(), own_pid()).unwrap(), BoundBy::Tree);
    let mut shell = crate::shell::Shell::start("echo up; sleep 60");
    shell.line();
    assert_eq!(os::bound_by(&path, shell.pid(), shell.pid()).unwrap(), BoundBy::Others);
    drop(bound);
    until("nobody has it", || os::bound_by(&path, shell.pid(), shell.pid()).unwrap() == BoundBy::Nobody);
    fs::remove_file(&path).unwrap();
    assert_eq!(os::bound_by(&path, own_pid(), own_pid()).unwrap_err().kind(), ErrorKind::NotFound);
}
