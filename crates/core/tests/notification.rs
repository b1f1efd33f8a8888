//! The assignments of a datagram: sd_notify(3).

use std::time::Duration;

use ally_core::supervisor::{Notification, Watchdog};
use proptest::collection::vec;
use proptest::prelude::*;

fn said(datagram: &str) -> Notification {
    Notification::parse(datagram.as_bytes())
}

#[test]
fn notification_may_have_several_assignments_and_unknown_ones() {
    let all = said("MAINPID=1\nREADY=1\nSTATUS=a=b c\nno assignment\n\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=1500\nX_OTHER=1\nSTOPPING=1\n");
    let expected = Notification {
        ready: true,
        stopping: true,
        watchdog: Some(Watchdog::Alive),
        status: Some("a=b c".to_owned()),
        extend: Some(Duration::from_micros(1_500)),
    };
    assert_eq!(all, expected);
    assert_eq!(said("READY=1"), Notification { ready: true, ..Notification::default() });
    assert_eq!(said("READY=1\0"), said("READY=1"), "a program may send the NUL of its string");
}

#[test]
fn notification_with_another_value_or_case_says_nothing() {
    for text in [
        "",
        "\n",
        "READY",
        "READY=",
        "READY=0",
        "READY=1 ",
        "READY=11",
        "ready=1",
        " READY=1",
        "READY=1\r",
        "READY=1\0STATUS=x",
        "\0READY=1",
        "STOPPING=0",
        "WATCHDOG=0",
        "WATCHDOG=TRIGGER",
        "WATCHDOG=",
        "EXTEND_TIMEOUT_USEC=0",
        "EXTEND_TIMEOUT_USEC=-1",
        "EXTEND_TIMEOUT_USEC=1s",
        "EXTEND_TIMEOUT_USEC=",
        "BARRIER=1",
        "FDSTORE=1\nFDNAME=x",
        "RELOADING=1",
        "ERRNO=2",
        "WATCHDOG_USEC=5",
    ] {
        assert_eq!(said(text), Notification::default(), "{text:?}");
    }
}

#[test]
fn trigger_wins_over_a_sign_of_life_in_the_same_datagram() {
    for text in ["WATCHDOG=trigger", "WATCHDOG=1\nWATCHDOG=trigger", "WATCHDOG=trigger\nWATCHDOG=1"] {
        assert_eq!(said(text).watchdog, Some(Watchdog::Trigger), "{text:?}");
    }
}

#[test]
fn extension_is_at_most_the_longest_timer() {
    let longest = Some(Duration::from_millis(i32::MAX as u64));
    assert_eq!(said(&format!("EXTEND_TIMEOUT_USEC={}", u64::MAX)).extend, longest);
    assert_eq!(said("EXTEND_TIMEOUT_USEC=18446744073709551616").extend, None, "2^64");
}

proptest! {
    #[test]
    fn status_of_any_bytes_is_a_short_line_without_control_characters(bytes in vec(any::<u8>(), 0..2000)) {
        let datagram = [b"STATUS=".as_slice(), &bytes].concat();
        if let Some(status) = Notification::parse(&datagram).status {
            prop_assert!(status.chars().count() <= 512);
            prop_assert!(!status.chars().any(char::is_control));
            prop_assert_eq!(status.trim(), status.as_str());
        }
    }
}
