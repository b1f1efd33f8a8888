//! The first frames, whose format all builds share.

use std::time::Duration;

use ally_base::wire::{FrameBuffer, Hello};
use ally_core::sharing::protocol::{Ask, ClientGreeting, GREETING_MAX, HostGreeting, Verdict};
use proptest::prelude::*;

fn hello() -> Hello {
    Hello { version: "1.2.3".to_owned(), build: "00ff".to_owned(), pid: 4711 }
}

fn buffer(bytes: &[u8]) -> FrameBuffer {
    let mut buffer = FrameBuffer::default();
    buffer.extend(bytes);
    buffer
}

#[test]
fn the_bytes_of_a_greeting_are_these_for_ever() {
    let greeting = ClientGreeting { hello: hello(), ask: Ask::End };
    let expected = b"ally\x10\0\0\0\x051.2.3\x0400ff\x67\x12\0\0\x01";
    assert_eq!(greeting.encode(), expected);
    let room = HostGreeting { hello: hello(), verdict: Verdict::MakesRoom { within: Duration::from_millis(258) } };
    assert_eq!(room.encode(), b"ally\x14\0\0\0\x051.2.3\x0400ff\x67\x12\0\0\x01\x02\x01\0\0");
    let host = HostGreeting { hello: hello(), verdict: Verdict::OtherBuild { sessions: 3 } };
    assert_eq!(host.encode(), b"ally\x14\0\0\0\x051.2.3\x0400ff\x67\x12\0\0\x02\x03\0\0\0");
}

#[test]
fn greetings_are_read_as_they_were_sent() {
    for ask in [Ask::Session, Ask::Resume(u64::MAX - 1), Ask::End, Ask::Look] {
        let greeting = ClientGreeting { hello: hello(), ask };
        let mut received = buffer(&[greeting.encode(), b"rest".to_vec()].concat());
        assert_eq!(ClientGreeting::take_from(&mut received), Ok(Some(greeting)));
        assert_eq!(received.into_rest(), b"rest");
    }
    let outside = Verdict::Outside { difference: "pid namespace, groups".to_owned() };
    for verdict in [
        Verdict::Welcome { token: 7 },
        Verdict::MakesRoom { within: Duration::from_millis(12_345) },
        Verdict::OtherBuild { sessions: u32::MAX },
        outside,
    ] {
        let greeting = HostGreeting { hello: hello(), verdict };
        assert_eq!(HostGreeting::take_from(&mut buffer(&greeting.encode())), Ok(Some(greeting)));
    }
}

/// A guardian's greeting has no bytes behind the pid.
#[test]
fn a_greeting_without_a_request_asks_to_be_a_session() {
    let greeting = ClientGreeting::take_from(&mut buffer(&hello().encode())).unwrap().unwrap();
    assert_eq!(greeting, ClientGreeting { hello: hello(), ask: Ask::Session });
}

#[test]
fn a_truncated_greeting_is_incomplete_and_a_long_one_is_none() {
    let whole = ClientGreeting { hello: hello(), ask: Ask::Session }.encode();
    for length in 0..whole.len() {
        assert_eq!(ClientGreeting::take_from(&mut buffer(&whole[..length])), Ok(None));
    }
    let mut long = b"ally".to_vec();
    long.extend(u32::try_from(GREETING_MAX).unwrap().to_le_bytes());
    assert!(ClientGreeting::take_from(&mut buffer(&long)).is_err());
}

/// The first builds had no time in it.
#[test]
fn a_host_that_makes_room_without_a_time_has_a_minute() {
    let bytes = b"ally\x10\0\0\0\x051.2.3\x0400ff\x67\x12\0\0\x01";
    let greeting = HostGreeting::take_from(&mut buffer(bytes)).unwrap().unwrap();
    assert_eq!(greeting.verdict, Verdict::MakesRoom { within: Duration::from_secs(60) });
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), magic in any::<bool>()) {
        let bytes = if magic { [b"ally".to_vec(), bytes].concat() } else { bytes };
        drop(ClientGreeting::take_from(&mut buffer(&bytes)));
        drop(HostGreeting::take_from(&mut buffer(&bytes)));
    }
}
