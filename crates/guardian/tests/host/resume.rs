//! A protocol error ends a connection. The session keeps what it has for two seconds, and once.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ally_build_id::BUILD_ID;
use ally_core::config::Raw;
use ally_core::sharing::protocol::{Ask, Call, Inbound, Push, Request, Start, TO_HOST_MAX, TO_SESSION_MAX, Verdict, encode};
use ally_core::supervisor::OwnerLimits;

use crate::greeting::{answer_with_rest, greeting};
use crate::support::{Session, World, lives, within};

/// A session that says what a test wants it to say.
struct Connection {
    stream: UnixStream,
    token: u64,
    inbound: Inbound,
}

impl Connection {
    fn new(world: &World, ask: Ask) -> Self {
        let mut stream = world.connect().unwrap();
        stream.write_all(&greeting(ask, BUILD_ID)).unwrap();
        let (greeting, rest) = answer_with_rest(&stream).unwrap();
        let Verdict::Welcome { token } = greeting.verdict else { panic!("a host of this build answers") };
        let mut inbound = Inbound::new(TO_SESSION_MAX);
        inbound.extend(&rest);
        Self { stream, token, inbound }
    }

    fn ask(&mut self, id: u64, call: Call) {
        self.stream.write_all(&encode(&Request { id, oldest: 1, call }, TO_HOST_MAX).unwrap()).unwrap();
    }

    fn start(&mut self, world: &World, id: u64) {
        self.start_with(id, world.config("plugin"));
    }

    fn start_with(&mut self, id: u64, config: Raw) {
        let start = Start {
            plugin: "plugin".to_owned(),
            config,
            inherited: "PATH=/bin\0".to_owned(),
            owner: OwnerLimits::default(),
            timeout: Duration::from_secs(10),
            after: None,
        };
        self.ask(id, Call::Start(Box::new(start)));
    }

    fn next(&mut self) -> Option<Push> {
        loop {
            if let Some(push) = self.inbound.next_message().unwrap() {
                return Some(push);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece).unwrap_or_default() {
                0 => return None,
                count => self.inbound.extend(&piece[..count]),
            }
        }
    }

    /// Reads until the call is answered. Returns the pid that was shown last.
    fn answered(&mut self, call: u64) -> Option<i32> {
        let mut pid = None;
        loop {
            match self.next().expect("the call is answered") {
                Push::Answer { id, outcome } if id == call => {
                    outcome.unwrap();
                    return pid;
                }
                Push::Shown { shown, .. } | Push::Attached { shown, .. } => pid = shown.snapshot.pid,
                _ => {}
            }
        }
    }

    /// So many lines with their ends. Those that come with the last one are left out.
    fn lines(&mut self, count: usize) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = Vec::new();
        while all.len() < count {
            if let Push::Lines { lines, .. } = self.next().expect("the line comes") {
                all.extend(lines.into_iter().map(|line| (line.text, line.end)));
            }
        }
        all.truncate(count);
        all
    }

    fn await_end(&mut self) {
        while self.next().is_some() {}
    }
}

/// A session with the daemon, and its pid.
fn session(world: &World) -> (Connection, i32) {
    // Somebody must make the host.
    let maker = world.session();
    maker.start(&world.config("other")).unwrap();
    let mut connection = Connection::new(world, Ask::Session);
    connection.start(world, 1);
    let pid = connection.answered(1).unwrap();
    (connection, pid)
}

#[test]
fn a_session_that_reconnects_after_a_protocol_error_has_its_daemon() {
    for error in ["of the session", "of the host"] {
        let world = World::new();
        let (mut first, daemon) = session(&world);
        if error == "of the session" {
            first.stream.write_all(&[0xff; 64]).unwrap();
        } else {
            first.ask(2, Call::Reconnect);
        }
        first.await_end();
        let mut second = Connection::new(&world, Ask::Resume(first.token));
        assert_eq!(second.token, first.token);
        let Some(Push::Resync { plugins, taken, .. }) = second.next() else { panic!("the session catches up") };
        assert_eq!((plugins, taken), (vec!["plugin".to_owned()], 1));
        // Its answer may have been lost.
        second.start(&world, 1);
        assert_eq!(second.answered(1), Some(daemon));
        // Also after the time in which it had to reconnect.
        assert!(!within(Duration::from_millis(2_300), || !lives(daemon)));
        // Once.
        second.stream.write_all(&[0xff; 64]).unwrap();
        second.await_end();
        assert!(within(Duration::from_millis(1_500), || !lives(daemon)));
    }
}

/// A session beside another one. Both have the daemon, which prints 1, 2 and 3 at first.
fn session_of(world: &World, script: &str) -> (Connection, Session) {
    let config = world.config_of("plugin", &format!("seq 3; {script}"));
    let other = world.session();
    other.start(&config).unwrap();
    let mut connection = Connection::new(world, Ask::Session);
    connection.start_with(1, config);
    (connection, other)
}

/// Lines that were on their way are lost with a connection.
#[test]
fn a_session_that_reconnects_gets_every_line_that_is_kept_once_more() {
    let world = World::new();
    let (mut first, _other) = session_of(&world, "exec sleep 60");
    let lines = first.lines(3);
    assert_eq!(lines, [("1".to_owned(), 2), ("2".to_owned(), 4), ("3".to_owned(), 6)]);
    first.ask(2, Call::Reconnect);
    first.await_end();
    let mut second = Connection::new(&world, Ask::Resume(first.token));
    assert_eq!(second.lines(3), lines);
}

#[test]
fn a_session_that_does_not_reconnect_has_ended_after_2_seconds() {
    let world = World::new();
    let (mut first, daemon) = session(&world);
    let begun = Instant::now();
    first.stream.write_all(&[0xff; 64]).unwrap();
    first.await_end();
    assert!(within(Duration::from_secs(5), || !lives(daemon)));
    assert!(begun.elapsed() > Duration::from_millis(1_900), "{:?}", begun.elapsed());
    let other = Connection::new(&world, Ask::Resume(first.token));
    assert_ne!(other.token, first.token);
}

#[test]
fn a_call_that_was_carried_out_is_answered_again_and_not_carried_out_again() {
    let world = World::new();
    let (mut first, former) = session(&world);
    first.ask(2, Call::Restart { plugin: "plugin".to_owned() });
    // As if this were lost.
    let daemon = first.answered(2).unwrap();
    assert_ne!(daemon, former);
    first.stream.write_all(&[0xff; 64]).unwrap();
    first.await_end();
    let mut second = Connection::new(&world, Ask::Resume(first.token));
    second.ask(2, Call::Restart { plugin: "plugin".to_owned() });
    assert_eq!(second.answered(2), Some(daemon));
    // A call of its own.
    second.ask(3, Call::Restart { plugin: "plugin".to_owned() });
    assert_ne!(second.answered(3), Some(daemon));
}

/// A session that the host can't write to.
fn deaf_session(world: &World) -> (Connection, i32) {
    let (mut connection, daemon) = session(world);
    connection.stream.shutdown(Shutdown::Read).unwrap();
    // The host says that it has read the call, which is EPIPE.
    connection.ask(2, Call::Wait { plugin: "plugin".to_owned() });
    assert!(!within(Duration::from_millis(500), || !lives(daemon)));
    (connection, daemon)
}

/// The host finds the connection broken while lines come, which must wait for the next one.
#[test]
fn a_session_gets_every_line_that_is_kept_after_a_failed_write_of_the_host() {
    let world = World::new();
    let (mut first, other) = session_of(&world, "while sleep 0.01; do echo more; done");
    assert_eq!(first.lines(3).len(), 3);
    first.stream.shutdown(Shutdown::Read).unwrap();
    first.ask(2, Call::Wait { plugin: "plugin".to_owned() });
    let printed = || other.router.output("plugin", 1_000).len();
    let before = printed();
    assert!(within(Duration::from_secs(10), || printed() > before + 10), "lines come meanwhile");
    first.ask(3, Call::Reconnect);
    first.await_end();
    let mut second = Connection::new(&world, Ask::Resume(first.token));
    let lines = [("1", 2), ("2", 4), ("3", 6), ("more", 11), ("more", 16)];
    assert_eq!(second.lines(5), lines.map(|(text, end)| (text.to_owned(), end)));
}

#[test]
fn a_failed_write_of_the_host_does_not_end_a_session_that_says_that_it_comes_again() {
    let world = World::new();
    let (mut first, daemon) = deaf_session(&world);
    first.ask(3, Call::Reconnect);
    first.await_end();
    let mut second = Connection::new(&world, Ask::Resume(first.token));
    assert_eq!(second.token, first.token);
    second.ask(2, Call::Wait { plugin: "plugin".to_owned() });
    assert_eq!(second.answered(2), Some(daemon));
}

#[test]
fn a_failed_write_of_the_host_ends_a_session_that_says_nothing_more_after_2_seconds() {
    let world = World::new();
    let begun = Instant::now();
    let (_first, daemon) = deaf_session(&world);
    assert!(within(Duration::from_secs(5), || !lives(daemon)));
    assert!(begun.elapsed() > Duration::from_millis(1_900), "{:?}", begun.elapsed());
}

#[test]
fn the_end_of_a_connection_without_an_error_is_the_end_of_the_session() {
    let world = World::new();
    let (first, daemon) = session(&world);
    drop(first);
    assert!(within(Duration::from_millis(1_500), || !lives(daemon)));
}
