//! The socket that the manager holds: its names, its end, its successor, and whether anybody uses it. With real sockets, and without a
//! daemon: a child that sleeps stands for its tree.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use ally_core::error::{Failure, Occupant};
use ally_core::supervisor::{Activity, HeldEvent, HeldSocket, IdleWatch, Restored, WatchedDaemon, spawn, start};

/// Runs a future on the supervisor's thread.
fn on_supervisor<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    start().unwrap();
    let (sender, receiver) = channel();
    spawn(async move { sender.send(future.await).unwrap() }).unwrap();
    receiver.recv_timeout(Duration::from_secs(10)).expect("the future ends")
}

struct Home {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("s"), _folder: folder }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        format!("{}{ending}", self.path.display()).into()
    }

    fn bind(&self) -> HeldSocket {
        let path = self.path.clone();
        on_supervisor(async move { HeldSocket::bind(&path) }).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path.parent().unwrap()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn restore(held: HeldSocket, tree: Option<(i32, i32)>) -> (HeldSocket, Result<Restored, Failure>) {
    let mut held = held;
    on_supervisor(async move {
        let restored = held.restore(tree);
        (held, restored)
    })
}

/// A process without sockets.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn tree(&self) -> (i32, i32) {
        let pid = i32::try_from(self.0.id()).unwrap();
        (pid, pid)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The copy of the socket that a daemon gets.
fn with_daemon(mut held: HeldSocket) -> (HeldSocket, UnixListener) {
    on_supervisor(async move {
        let descriptor = held.before_spawn(false).unwrap();
        (held, descriptor.into())
    })
}

// Names.

#[test]
fn held_socket_has_two_names_which_give_up_removes() {
    let home = Home::new();
    let held = home.bind();
    assert_eq!(home.names(), ["s", "s.held"]);
    assert_eq!(inode(&home.path), inode(&home.beside(".held")));
    let mut client = UnixStream::connect(&home.path).unwrap();
    client.write_all(b"unread").unwrap();
    on_supervisor(async move { held.give_up() }).unwrap();
    assert_eq!(home.names(), Vec::<String>::new());
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "end of file");
}

#[test]
fn held_socket_that_is_dropped_leaves_its_names_and_refuses() {
    let home = Home::new();
    let held = home.bind();
    on_supervisor(async move { drop(held) });
    assert_eq!(home.names(), ["s", "s.held"]);
    // A child that another test is about to execute has the listener until its execve(2).
    let end = Instant::now() + Duration::from_secs(5);
    while UnixStream::connect(&home.path).is_ok() && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(UnixStream::connect(&home.path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn restore_puts_back_a_missing_name_without_a_new_socket() {
    let home = Home::new();
    let held = home.bind();
    let before = inode(&home.path);
    fs::remove_file(&home.path).unwrap();
    let (held, restored) = restore(held, None);
    assert_eq!((restored, inode(&home.path)), (Ok(Restored::PutBack), before));
    fs::remove_file(home.beside(".held")).unwrap();
    let (_held, restored) = restore(held, None);
    assert_eq!(restored, Ok(Restored::InPlace));
    assert_eq!(inode(&home.beside(".held")), before);
    assert_eq!(home.names(), ["s", "s.held"]);
}

#[test]
fn restore_replaces_a_dead_socket_and_leaves_a_living_one_and_a_file_alone() {
    let home = Home::new();
    let held = home.bind();
    let before = inode(&home.path);
    fs::remove_file(&home.path).unwrap();
    drop(UnixListener::bind(&home.path).unwrap());
    let (held, restored) = restore(held, None);
    assert_eq!((restored, inode(&home.path)), (Ok(Restored::PutBack), before));

    fs::remove_file(&home.path).unwrap();
    let theirs = UnixListener::bind(&home.path).unwrap();
    let other = inode(&home.path);
    let tree = Sleeper::start();
    let (held, restored) = restore(held, Some(tree.tree()));
    assert!(matches!(restored, Err(Failure::SocketTaken { by: Occupant::Process(pid), .. }) if pid == std::process::id().cast_signed()));
    assert_eq!(inode(&home.path), other);
    drop(theirs);

    fs::remove_file(&home.path).unwrap();
    fs::write(&home.path, "a file").unwrap();
    let (held, restored) = restore(held, None);
    assert!(matches!(restored, Err(Failure::SocketTaken { by: Occupant::NotASocket, .. })), "{restored:?}");
    assert_eq!(fs::read_to_string(&home.path).unwrap(), "a file");
    on_supervisor(async move { held.give_up() }).unwrap();
    assert_eq!(home.names(), ["s"], "a file that is no socket of this manager stays");
}

#[test]
fn restore_puts_the_name_over_a_socket_that_the_daemon_has_bound() {
    let home = Home::new();
    let held = home.bind();
    let before = inode(&home.path);
    fs::remove_file(&home.path).unwrap();
    // This process stands for the daemon.
    let _own = UnixListener::bind(&home.path).unwrap();
    let own = std::process::id().cast_signed();
    let (_held, restored) = restore(held, Some((own, own)));
    assert_eq!((restored, inode(&home.path)), (Ok(Restored::PutBackOverDaemon), before));
    assert_eq!(home.names(), ["s", "s.held"]);
}

#[test]
fn restore_makes_a_new_socket_if_no_name_is_left_and_closes_what_waited_at_the_old_one() {
    let home = Home::new();
    let held = home.bind();
    let mut client = UnixStream::connect(&home.path).unwrap();
    fs::remove_file(&home.path).unwrap();
    fs::remove_file(home.beside(".held")).unwrap();
    let (held, restored) = restore(held, None);
    assert_eq!(restored, Ok(Restored::Replaced));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let _next = UnixStream::connect(&home.path).unwrap();
    assert_eq!(held.queue_len().unwrap(), 1);
    assert_eq!(home.names(), ["s", "s.held"]);
    assert_eq!(inode(&home.path), inode(&home.beside(".held")));
}

#[test]
fn names_that_a_killed_owner_has_left_do_not_prevent_the_next_bind() {
    let home = Home::new();
    let held = home.bind();
    on_supervisor(async move { drop(held) });
    let raw = |key: &str, value: &str| (key.to_owned(), ally_core::config::Raw::String(value.to_owned()));
    let number = |key: &str| (key.to_owned(), ally_core::config::Raw::Number(1_000.0));
    let path = home.path.display().to_string();
    let config = ally_core::config::Raw::Object(vec![
        raw("pluginName", "p"),
        raw("pluginPath", "/"),
        raw("command", "x"),
        ("args".to_owned(), ally_core::config::Raw::Array(Vec::new())),
        raw("socketPath", &path),
        number("startupTimeout"),
        number("shutdownGracePeriod"),
        raw("socket", "manager"),
    ]);
    let config = ally_core::config::parse(&config).unwrap().config;
    // Of an upgrade, too.
    drop(UnixListener::bind(home.beside(".next")).unwrap());
    ally_core::supervisor::make_free(&config, false).unwrap();
    assert_eq!(home.names(), Vec::<String>::new());
    drop(home.bind());
}

// Spawn.

#[test]
fn descriptor_of_a_spawn_waits_in_accept_and_has_the_longest_queue() {
    let home = Home::new();
    let held = home.bind();
    let (mut held, first) = on_supervisor(async move {
        let mut held = held;
        let first = held.before_spawn(false).unwrap();
        (held, first)
    });
    let daemon = UnixListener::from(first);
    daemon.set_nonblocking(true).unwrap();
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::listen(daemon.as_raw_fd(), 0) }, 0);
    drop(daemon);
    let second = on_supervisor(async move { (held.before_spawn(false).unwrap(), held) });
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::fcntl(second.0.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK, 0);
    let _clients: Vec<UnixStream> = (0..4).map(|_| UnixStream::connect(&home.path).unwrap()).collect();
    assert_eq!(second.1.queue_len().unwrap(), 4);
}

#[test]
fn mode_of_accept_stays_while_another_process_may_hold_the_socket() {
    let home = Home::new();
    let held = home.bind();
    let (mut held, first) = on_supervisor(async move {
        let mut held = held;
        let first = held.before_spawn(true).unwrap();
        (held, first)
    });
    let listener = UnixListener::from(first);
    listener.set_nonblocking(true).unwrap();
    // A process of an earlier attempt, which killMode 'group' has spared.
    let mut spared = Command::new("sleep").arg("60").stdin(std::os::fd::OwnedFd::from(listener)).spawn().unwrap();
    let before_spawn = |others| {
        move |mut held: HeldSocket| {
            on_supervisor(async move {
                let descriptor = held.before_spawn(others).unwrap();
                // SAFETY: integers only.
                (unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK != 0, held)
            })
        }
    };
    let (nonblocking, again) = before_spawn(true)(held);
    held = again;
    assert!(nonblocking);
    spared.kill().unwrap();
    spared.wait().unwrap();
    assert!(!before_spawn(true)(held).0);
}

// Events.

#[test]
fn connected_resolves_for_a_connection_that_waits_or_comes_and_accepts_nothing() {
    let home = Home::new();
    let held = Arc::new(home.bind());
    let _first = UnixStream::connect(&home.path).unwrap();
    let armed = Arc::clone(&held);
    on_supervisor(async move { armed.connected().await }).unwrap();
    assert_eq!(held.queue_len().unwrap(), 1);
    let other = Home::new();
    let held = Arc::new(other.bind());
    let (armed, path) = (Arc::clone(&held), other.path.clone());
    let connecting = thread::spawn(move || UnixStream::connect(path).unwrap());
    on_supervisor(async move { armed.connected().await }).unwrap();
    let _second = connecting.join().unwrap();
    assert_eq!(held.queue_len().unwrap(), 1);
}

#[test]
fn next_tells_of_a_connection_only_while_armed_and_of_a_hang_up_always() {
    let home = Home::new();
    let (held, daemon) = with_daemon(home.bind());
    let _client = UnixStream::connect(&home.path).unwrap();
    let held = on_supervisor(async move {
        let idle = tokio::time::timeout(Duration::from_millis(50), HeldSocket::next(Some(&held))).await;
        assert!(idle.is_err(), "a connection is no event: {idle:?}");
        held.arm().unwrap();
        assert_eq!(HeldSocket::next(Some(&held)).await, HeldEvent::Connected);
        let once = tokio::time::timeout(Duration::from_millis(50), HeldSocket::next(Some(&held))).await;
        assert!(once.is_err(), "it is one event: {once:?}");
        held.arm().unwrap();
        held.disarm().unwrap();
        let disarmed = tokio::time::timeout(Duration::from_millis(50), HeldSocket::next(Some(&held))).await;
        assert!(disarmed.is_err(), "{disarmed:?}");
        held
    });
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::shutdown(daemon.as_raw_fd(), libc::SHUT_RDWR) }, 0);
    let held = on_supervisor(async move {
        assert_eq!(HeldSocket::next(Some(&held)).await, HeldEvent::HungUp);
        held
    });
    let (_held, restored) = restore(held, None);
    assert_eq!(restored, Ok(Restored::AfterShutdown));
    let _next = UnixStream::connect(&home.path).unwrap();
}

#[test]
fn next_tells_of_a_removed_name_while_the_names_are_watched() {
    let home = Home::new();
    let mut held = home.bind();
    let held = on_supervisor(async move {
        held.watch_names();
        held
    });
    fs::remove_file(&home.path).unwrap();
    on_supervisor(async move { assert_eq!(HeldSocket::next(Some(&held)).await, HeldEvent::Renamed) });
}

#[test]
fn next_tells_of_a_removed_name_also_if_it_was_missing_when_the_watch_began_and_after_a_new_socket() {
    let home = Home::new();
    let mut held = home.bind();
    fs::remove_file(&home.path).unwrap();
    let held = on_supervisor(async move {
        held.watch_names();
        held
    });
    let (held, restored) = restore(held, None);
    assert_eq!(restored, Ok(Restored::PutBack));
    // The restoration itself may be an event.
    let removed = |mut held: HeldSocket, path: PathBuf| {
        on_supervisor(async move {
            while tokio::time::timeout(Duration::from_millis(50), HeldSocket::next(Some(&held))).await.is_ok() {}
            fs::remove_file(&path).unwrap();
            assert_eq!(HeldSocket::next(Some(&held)).await, HeldEvent::Renamed);
            held.restore(None).unwrap();
            held
        })
    };
    let held = removed(held, home.path.clone());
    fs::remove_file(&home.path).unwrap();
    fs::remove_file(home.beside(".held")).unwrap();
    let (held, restored) = restore(held, None);
    assert_eq!(restored, Ok(Restored::Replaced));
    drop(removed(held, home.path.clone()));
}

// An upgrade.

#[test]
fn successor_has_its_own_queue_and_takes_the_path_over_in_one_step() {
    let home = Home::new();
    let old = home.bind();
    let (old, mut next) = on_supervisor(async move {
        let next = old.successor().unwrap();
        (old, next)
    });
    assert_eq!(home.names(), ["s", "s.held", "s.next"]);
    assert_eq!(next.bound_path(), home.beside(".next"));
    let mut early = UnixStream::connect(&home.path).unwrap();
    let _probe = UnixStream::connect(next.bound_path()).unwrap();
    assert_eq!((old.queue_len().unwrap(), next.queue_len().unwrap()), (1, 1));
    next.promote().unwrap();
    assert_eq!(home.names(), ["s", "s.held"]);
    assert_eq!(inode(&home.path), inode(&home.beside(".held")));
    let _late = UnixStream::connect(&home.path).unwrap();
    assert_eq!((old.queue_len().unwrap(), next.queue_len().unwrap()), (1, 2));
    let retired = on_supervisor(async move { old.retire() });
    assert_eq!(retired.listener().waiting().unwrap().count, 1);
    on_supervisor(async move { retired.close() });
    assert_eq!(early.read(&mut [0]).unwrap(), 0);
    assert_eq!(home.names(), ["s", "s.held"], "the names are those of the successor");
    on_supervisor(async move { next.give_up() }).unwrap();
    assert_eq!(home.names(), Vec::<String>::new());
}

#[test]
fn successor_that_is_discarded_leaves_the_path_to_the_old_socket() {
    let home = Home::new();
    let old = home.bind();
    let before = inode(&home.path);
    let (old, next) = on_supervisor(async move {
        let next = old.successor().unwrap();
        (old, next)
    });
    on_supervisor(async move { next.discard_successor() }).unwrap();
    assert_eq!((home.names(), inode(&home.path)), (vec!["s".to_owned(), "s.held".to_owned()], before));
    let _client = UnixStream::connect(&home.path).unwrap();
    assert_eq!(old.queue_len().unwrap(), 1);
}

// Idle.

#[test]
fn look_counts_the_queue_and_open_connections_without_those_of_probes() {
    let home = Home::new();
    let tree = Sleeper::start();
    let (held, daemon) = with_daemon(home.bind());
    let look = || held.look(tree.tree()).unwrap();
    assert_eq!(look(), Activity::default());
    let client = UnixStream::connect(&home.path).unwrap();
    assert_eq!(look(), Activity { waiting: 1, open: 0 });
    let served = daemon.accept().unwrap();
    assert_eq!(look(), Activity { waiting: 0, open: 1 });
    // Closed by its client, and not by the daemon.
    drop(client);
    assert_eq!(look(), Activity::default());
    drop(served);
    // The daemon has not seen it.
    drop(UnixStream::connect(&home.path).unwrap());
    assert_eq!(look(), Activity { waiting: 1, open: 0 });
    drop(daemon.accept().unwrap());

    let probe = std::os::fd::OwnedFd::from(UnixStream::connect(&home.path).unwrap());
    let own = held.listener().remember_own(&probe).unwrap();
    assert_eq!(look(), Activity::default());
    let other = UnixStream::connect(&home.path).unwrap();
    assert_eq!(look(), Activity { waiting: 1, open: 0 });
    let both = [daemon.accept().unwrap(), daemon.accept().unwrap()];
    assert_eq!(look(), Activity { waiting: 0, open: 1 });
    drop((other, both));
    drop(own);
}

/// A watch whose call arrives at the receiver.
fn watched(watch: &Arc<IdleWatch>, held: &HeldSocket, tree: &Sleeper, idle: u64) -> (ally_core::supervisor::IdleGuard, Receiver<Instant>) {
    let (sender, receiver) = channel();
    let daemon = WatchedDaemon { listener: Arc::clone(held.listener()), tree: tree.tree(), idle_timeout: Duration::from_millis(idle) };
    (watch.watch(daemon, move || sender.send(Instant::now()).unwrap()), receiver)
}

const AT_MOST: Duration = Duration::from_secs(10);

#[test]
fn idle_watch_calls_once_when_nobody_has_used_the_socket_for_the_idle_time() {
    let home = Home::new();
    let tree = Sleeper::start();
    let (held, daemon) = with_daemon(home.bind());
    start().unwrap();
    let watch = Arc::default();
    let client = UnixStream::connect(&home.path).unwrap();
    let _served = daemon.accept().unwrap();
    let (_guard, idle) = watched(&watch, &held, &tree, 300);
    assert!(idle.recv_timeout(Duration::from_millis(900)).is_err(), "a connection is open");
    let closed = Instant::now();
    drop(client);
    let called = idle.recv_timeout(AT_MOST).unwrap();
    assert!(called.duration_since(closed) >= Duration::from_millis(200), "the last look before the end saw it");
    assert!(idle.recv_timeout(Duration::from_millis(700)).is_err(), "one call");
}

#[test]
fn idle_watch_of_several_daemons_tells_each_one_and_a_dropped_guard_ends_it() {
    let tree = Sleeper::start();
    let homes: Vec<(Home, HeldSocket, UnixListener)> = (0..3)
        .map(|_| {
            let home = Home::new();
            let (held, daemon) = with_daemon(home.bind());
            (home, held, daemon)
        })
        .collect();
    start().unwrap();
    let watch = Arc::default();
    let mut watches: Vec<_> = homes.iter().map(|(_, held, _)| watched(&watch, held, &tree, 200)).collect();
    let _client = UnixStream::connect(&homes[0].0.path).unwrap();
    let (guard, ended) = watches.pop().unwrap();
    drop(guard);
    watches[1].1.recv_timeout(AT_MOST).unwrap();
    assert!(watches[0].1.recv_timeout(Duration::from_millis(400)).is_err(), "a connection waits");
    assert!(ended.recv_timeout(Duration::ZERO).is_err());
}

#[test]
fn idle_watch_does_not_look_while_it_is_paused() {
    let home = Home::new();
    let tree = Sleeper::start();
    let (held, _daemon) = with_daemon(home.bind());
    start().unwrap();
    let (guard, idle) = watched(&Arc::default(), &held, &tree, 200);
    guard.pause(true);
    assert!(idle.recv_timeout(Duration::from_millis(700)).is_err());
    guard.pause(false);
    idle.recv_timeout(AT_MOST).unwrap();
}

#[test]
fn a_name_is_put_back_however_soon_the_event_of_its_removal_comes() {
    let home = Home::new();
    let mut held = home.bind();
    let (order, orders) = channel::<()>();
    let path = home.path.clone();
    let remover = thread::spawn(move || orders.iter().for_each(|()| fs::remove_file(&path).unwrap()));
    on_supervisor(async move {
        held.watch_names();
        for _ in 0..10_000 {
            order.send(()).unwrap();
            // Of the removal, and of the second name's return.
            while held.restore(None).unwrap() != Restored::PutBack {
                assert_eq!(HeldSocket::next(Some(&held)).await, HeldEvent::Renamed);
            }
        }
    });
    remover.join().unwrap();
}
