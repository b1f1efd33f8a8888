//! What the host sends a session of a daemon that floods.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ally_core::sharing::protocol::{Ask, Call, Inbound, Interest, Push, Request, Start, TO_HOST_MAX, TO_SESSION_MAX, encode};
use ally_core::supervisor::OwnerLimits;

use crate::greeting::{answer, greeting};
use crate::support::World;

/// The daemon prints the numbers up to this one, and waits for the session before.
const LAST: usize = 1_000_000;

/// What a session got until the last number.
#[derive(Debug, Default)]
struct Got {
    lines: usize,
    dropped: u64,
    bytes: usize,
    messages: usize,
}

fn ask(mut stream: &UnixStream, id: u64, call: Call) {
    stream.write_all(&encode(&Request { id, oldest: id, call }, TO_HOST_MAX).unwrap()).unwrap();
}

/// A session that speaks the protocol itself.
fn flooded(world: &World, interest: Interest) -> Got {
    let marker = world.envs_dir().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.01; done; seq {LAST}; exec sleep 60", marker.display());
    let config = world.config_of("plugin", &script);
    // Makes the host, and the daemon.
    let session = world.session();
    session.start(&config).unwrap();
    let mut stream = world.connect().unwrap();
    stream.write_all(&greeting(Ask::Session, ally_build_id::BUILD_ID)).unwrap();
    answer(&stream).expect("the host answers");
    ask(&stream, 1, Call::Listen(interest));
    let start = Start {
        after: None,
        plugin: "plugin".to_owned(),
        config,
        inherited: String::new(),
        owner: OwnerLimits::default(),
        timeout: Duration::from_secs(10),
    };
    ask(&stream, 2, Call::Start(Box::new(start)));
    let (mut inbound, mut got, mut piece) = (Inbound::new(TO_SESSION_MAX), Got::default(), vec![0; 64 * 1024]);
    loop {
        let count = stream.read(&mut piece).unwrap();
        assert_ne!(count, 0, "the host goes on");
        got.bytes += count;
        inbound.extend(&piece[..count]);
        while let Some(push) = inbound.next_message::<Push>().unwrap() {
            match push {
                Push::Answer { id: 2, outcome } => {
                    assert_eq!(outcome, Ok(()));
                    std::fs::write(&marker, "").unwrap();
                }
                Push::Lines { lines, dropped, .. } => {
                    got.messages += 1;
                    got.lines += lines.len();
                    got.dropped += dropped;
                    if lines.last().is_some_and(|line| line.text == LAST.to_string()) {
                        return got;
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_session_that_does_not_listen_gets_what_is_kept_of_a_flood() {
    let got = flooded(&World::new(), Interest::default());
    assert!(got.lines < LAST / 20 && got.dropped == 0, "{got:?}");
    assert!(got.lines >= 1_000, "{got:?}");
}

#[test]
fn a_session_that_listens_or_follows_gets_each_line_of_a_flood_or_the_number_of_those_it_was_too_slow_for() {
    for interest in
        [Interest { lines: true, ..Interest::default() }, Interest { followed: vec!["plugin".to_owned()], ..Interest::default() }]
    {
        let got = flooded(&World::new(), interest);
        assert_eq!(got.lines as u64 + got.dropped, LAST as u64, "{got:?}");
    }
}
