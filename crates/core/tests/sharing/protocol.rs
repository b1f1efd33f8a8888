//! The frames behind the greetings, in both directions.

use std::time::Duration;

use ally_core::config::Raw;
use ally_core::error::{Code, Facts, Failure};
use ally_core::lifecycle::Snapshot;
use ally_core::model::{Exit, ExitReason, ProcessState, Stream};
use ally_core::sharing::protocol::{
    Call, Detachment, Inbound, Interest, LogLevel, PREFIX, Parts, Push, Request, SentLine, Shown, Start, TO_HOST_MAX, TO_SESSION_MAX, Told,
    encode, encode_in_parts,
};
use ally_core::supervisor::{LogValue, OwnerLimits, PluginMetrics};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn received<T: DeserializeOwned>(bytes: &[u8], size: usize, max: usize) -> Result<Vec<T>, ()> {
    let (mut inbound, mut messages) = (Inbound::new(max), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        inbound.extend(piece);
        while let Some(message) = inbound.next_message().map_err(drop)? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn encoded<T: Serialize>(messages: &[T]) -> Vec<u8> {
    messages.iter().flat_map(|message| encode(message, TO_HOST_MAX).unwrap()).collect()
}

fn config() -> Raw {
    Raw::Object(vec![
        ("pluginName".to_owned(), Raw::String("search".to_owned())),
        ("args".to_owned(), Raw::Array(vec![Raw::String("-m".to_owned()), Raw::Number(1.5), Raw::Undefined, Raw::Null])),
        ("shared".to_owned(), Raw::Bool(true)),
        ("envVars".to_owned(), Raw::BuiltIn("a Map".to_owned())),
    ])
}

fn requests() -> Vec<Request> {
    let plugin = || "search".to_owned();
    let start = || {
        Box::new(Start {
            plugin: plugin(),
            config: config(),
            inherited: "HOME=/root\0PATH=/bin\0".to_owned(),
            owner: OwnerLimits::default(),
            timeout: Duration::from_millis(1_500),
            after: None,
        })
    };
    let calls = vec![
        Call::Start(start()),
        Call::Upgrade { start: start(), changes: vec![("args".to_owned(), "[]".to_owned())] },
        Call::LetGo { plugin: plugin() },
        Call::Abandon { plugin: plugin() },
        Call::StopEverywhere { plugin: plugin(), after: Some(7) },
        Call::Restart { plugin: plugin() },
        Call::Wait { plugin: plugin() },
        Call::Abort { plugin: plugin(), request: 7 },
        Call::Metrics,
        Call::Listen(Interest { health: true, debug: false, lines: true, followed: vec![plugin()] }),
    ];
    (1..).zip(calls).map(|(id, call)| Request { id, oldest: 1, call }).collect()
}

fn pushes() -> Vec<Push> {
    let plugin = || "search".to_owned();
    let shown = || {
        Box::new(Shown {
            snapshot: Snapshot::none(),
            uptime: Some(Duration::from_secs(2)),
            status: Some("busy".to_owned()),
            sessions: 3,
            ends_for_all: true,
            metrics: PluginMetrics::none("search"),
        })
    };
    let told = [
        Told::StateChanged { from: None, to: ProcessState::Starting, pid: Some(3), reason: Some("crashed".to_owned()) },
        Told::Exited { pid: 3, exit: Exit::UNKNOWN, reason: ExitReason::Crashed },
        Told::RestartScheduled { attempt: 1, delay: Duration::from_millis(5), reason: ExitReason::Unhealthy },
        Told::Checked { healthy: false, latency: Duration::from_micros(3), failures: 2, error: Some("refused".to_owned()) },
    ];
    let mut pushes = vec![
        Push::Read { id: 1 },
        Push::Answer { id: 1, outcome: Ok(()) },
        Push::Answer { id: 2, outcome: Err(Facts::chain(&Failure::Upgrade { cause: Box::new(Failure::Stopped) }, "search")) },
        Push::Attached { plugin: plugin(), shown: shown(), at: 1.0 },
        Push::Shown { plugin: plugin(), shown: shown() },
        Push::Lines {
            plugin: plugin(),
            output: 2,
            dropped: 9,
            lines: vec![SentLine { stream: Stream::Stderr, text: "ä".to_owned(), end: 3, at: 2.0, pid: None }],
        },
        Push::Log {
            plugin: plugin(),
            level: LogLevel::Warn,
            text: "text".to_owned(),
            fields: vec![("pid".to_owned(), LogValue::Number(1.0)), ("plugin".to_owned(), LogValue::Text(plugin()))],
        },
        Push::Upgraded { plugin: plugin(), changes: vec![("args".to_owned(), "[]".to_owned())], config: config() },
        Push::Resync { lost: 5, plugins: vec![plugin()], taken: 3 },
        Push::Leaving { left: vec!["plugin".to_owned()] },
    ];
    pushes.extend(
        [Detachment::Stopped, Detachment::TimedOut, Detachment::Refused, Detachment::Everywhere]
            .map(|why| Push::Detached { plugin: plugin(), why }),
    );
    pushes.extend(told.map(|told| Push::Told { plugin: plugin(), told, at: 4.0 }));
    pushes
}

#[test]
fn requests_and_pushes_are_read_as_they_were_sent_in_pieces_of_any_size() {
    for size in [1, 3, 64, usize::MAX] {
        assert_eq!(received(&encoded(&requests()), size, TO_HOST_MAX), Ok(requests()));
        assert_eq!(received(&encoded(&pushes()), size, TO_SESSION_MAX), Ok(pushes()));
    }
}

#[test]
fn a_truncated_stream_gives_the_whole_messages_before() {
    let bytes = encoded(&requests());
    for length in 0..bytes.len() {
        let read: Vec<Request> = received(&bytes[..length], usize::MAX, TO_HOST_MAX).unwrap();
        assert_eq!(read, requests()[..read.len()]);
    }
}

#[test]
fn a_frame_above_the_limit_is_refused_before_it_is_read() {
    let prefix = u32::try_from(TO_SESSION_MAX + 1).unwrap().to_le_bytes();
    assert_eq!(received::<Push>(&prefix, usize::MAX, TO_SESSION_MAX), Err(()));
    assert_eq!(received::<Request>(&prefix, usize::MAX, TO_HOST_MAX), Ok(Vec::new()));
    let long = Push::Log { plugin: String::new(), level: LogLevel::Info, text: "x".repeat(TO_SESSION_MAX), fields: Vec::new() };
    assert_eq!(encode(&long, TO_SESSION_MAX), None);
}

#[test]
fn a_value_that_is_nested_too_deeply_is_refused() {
    let mut deep = Raw::Null;
    for _ in 0..2_000 {
        deep = Raw::Array(vec![deep]);
    }
    let Call::Start(start) = requests().swap_remove(0).call else { panic!("the first request is a start") };
    let request = Request { id: 1, oldest: 1, call: Call::Start(Box::new(Start { config: deep, ..*start })) };
    let bytes = encode(&request, TO_HOST_MAX).unwrap();
    std::mem::forget(request);
    assert_eq!(received::<Request>(&bytes, usize::MAX, TO_HOST_MAX), Err(()));
}

#[test]
fn bytes_behind_a_message_in_its_frame_are_refused() {
    let mut frame = encode(&Push::Leaving { left: Vec::new() }, TO_SESSION_MAX).unwrap();
    frame.push(0);
    let length = u32::try_from(frame.len() - PREFIX).unwrap();
    frame[..PREFIX].copy_from_slice(&length.to_le_bytes());
    assert_eq!(received::<Push>(&frame, usize::MAX, TO_SESSION_MAX), Err(()));
}

#[test]
fn a_failure_gives_the_same_facts_on_the_other_side() {
    let failure = Failure::AttemptsExhausted {
        attempts: 3,
        last: Box::new(Failure::StartupExit { exit: Exit { code: Some(3), signal: None }, tail: "Error: no".to_owned() }),
    };
    let chain = Facts::chain(&failure, "search");
    let remote = Facts::into_failure(chain.clone()).unwrap();
    assert_eq!(Facts::chain(&remote, "search"), chain);
    assert_eq!(remote.message("search"), failure.message("search"));
    assert_eq!(remote.to_string(), failure.to_string());
    assert_eq!((remote.code(), remote.exit(), remote.tail()), (Code::StartupExit, failure.exit(), failure.tail()));
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), size in 1_usize..64) {
        drop(received::<Request>(&bytes, size, TO_HOST_MAX));
        drop(received::<Push>(&bytes, size, TO_SESSION_MAX));
    }

    /// A whole frame of any content, which the random length of a stream would seldom give.
    #[test]
    fn any_content_of_a_frame_is_taken_without_a_panic(content in proptest::collection::vec(any::<u8>(), 0..256)) {
        let frame = [u32::try_from(content.len()).unwrap().to_le_bytes().to_vec(), content].concat();
        drop(received::<Request>(&frame, usize::MAX, TO_HOST_MAX));
        drop(received::<Push>(&frame, usize::MAX, TO_SESSION_MAX));
    }
}

#[test]
fn a_message_that_is_longer_than_a_frame_comes_in_parts() {
    let push = Push::Upgraded {
        plugin: "search".to_owned(),
        changes: vec![("args".to_owned(), "x".repeat(3 * TO_SESSION_MAX))],
        config: config(),
    };
    let frames = encode_in_parts(&push).unwrap();
    assert!(frames.len() > 1 && frames.iter().all(|frame| frame.len() <= PREFIX + TO_SESSION_MAX));
    let mut parts = Parts::default();
    let mut whole = Vec::new();
    for part in received::<Push>(&frames.concat(), 64 * 1024, TO_SESSION_MAX).unwrap() {
        let Push::Part { bytes, is_last } = part else { panic!("a part") };
        whole.extend(parts.add(&bytes, is_last).unwrap());
    }
    assert_eq!(whole, [push]);
}

#[test]
fn parts_of_no_message_are_refused() {
    assert!(Parts::default().add(b"what", true).is_err());
    let mut parts = Parts::default();
    let piece = vec![0; TO_SESSION_MAX];
    let taken = (0..20).take_while(|_| parts.add(&piece, false).is_ok()).count();
    assert_eq!(taken, TO_HOST_MAX / TO_SESSION_MAX);
}
