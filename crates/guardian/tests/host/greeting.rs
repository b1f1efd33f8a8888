//! Whom the host answers, and for how long it waits for a greeting.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use ally_base::os;
use ally_base::wire::{FrameBuffer, Hello};
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::sharing::protocol::{Ask, ClientGreeting, HostGreeting, Verdict};

use crate::support::{World, lives, within};

pub fn greeting(ask: Ask, build: &str) -> Vec<u8> {
    ClientGreeting { hello: Hello { version: VERSION.to_owned(), build: build.to_owned(), pid: os::own_pid() }, ask }.encode()
}

pub fn answer(mut stream: &std::os::unix::net::UnixStream) -> Option<HostGreeting> {
    let mut buffer = FrameBuffer::default();
    loop {
        if let Some(greeting) = HostGreeting::take_from(&mut buffer).unwrap() {
            return Some(greeting);
        }
        let mut piece = [0; 64];
        match stream.read(&mut piece).unwrap() {
            0 => return None,
            count => buffer.extend(&piece[..count]),
        }
    }
}

#[test]
fn bytes_that_are_no_greeting_close_the_connection() {
    let world = World::new();
    let session = world.session();
    session.start(&world.config("plugin")).unwrap();
    let mut stream = world.connect().unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(answer(&stream), None);
    assert!(lives(session.router.pid("plugin").unwrap()));
}

#[test]
fn a_connection_without_a_greeting_is_closed_after_5_seconds() {
    let world = World::new();
    let session = world.session();
    session.start(&world.config("plugin")).unwrap();
    let begun = Instant::now();
    let mut stream = world.connect().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(4_900) && waited < Duration::from_secs(8), "{waited:?}");
}

#[test]
fn frames_that_are_not_understood_end_the_session_alone() {
    let world = World::new();
    let session = world.session();
    session.start(&world.config("plugin")).unwrap();
    let mut stream = world.connect().unwrap();
    stream.write_all(&greeting(Ask::Session, BUILD_ID)).unwrap();
    assert_eq!(answer(&stream).unwrap().verdict, Verdict::Welcome);
    stream.write_all(&[0xff; 64]).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(lives(session.router.pid("plugin").unwrap()));
}

#[test]
fn end_is_obeyed_from_any_build_and_the_stream_ends_when_all_is_gone() {
    let world = World::new();
    let session = world.session();
    session.start(&world.config("plugin")).unwrap();
    let (host, daemon) = (world.host().unwrap(), session.router.pid("plugin").unwrap());
    let mut stream = world.connect().unwrap();
    stream.write_all(&greeting(Ask::End, "another")).unwrap();
    assert_eq!(answer(&stream).unwrap().verdict, Verdict::MakesRoom);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(!lives(daemon));
    assert!(within(Duration::from_secs(1), || !lives(host)));
}
