//! Damaged orders. A damaged order is refused, and later orders are carried out. A damaged stream ends
//! the guardian, and living daemons go on. Neither leaves a process or a descriptor.

use std::io::{self, PipeReader};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use ally_base::os;
use ally_base::wire::{HEADER, Hello, KeeperCommand, KeeperReport, ORDER, PAYLOAD_MAX};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::procfs::kinds;
use crate::support::{Daemon, Guardian, TestOrder, hello, lives, read_all, until};

/// The stderr of a guardian and its keepers: a panic shows there. Reading ends when all of them are gone.
struct Stderr(PipeReader);

fn start() -> (Guardian, Stderr) {
    let (stderr_output, stderr) = io::pipe().unwrap();
    let guardian = Guardian::start_with(|program| {
        program.stderr(stderr);
    });
    (guardian, Stderr(stderr_output))
}

/// Asserts that guardian and keepers exit without a panic.
fn end(mut guardian: Guardian, Stderr(mut stderr_output): Stderr) {
    guardian.close_stream();
    assert!(guardian.await_exit().success());
    assert_eq!(read_all(&mut stderr_output), "");
}

/// Asserts that every descriptor of the order is closed, and that the reports are complete.
fn assert_ended(mut daemon: Daemon) {
    let reports: Vec<KeeperReport> = std::iter::from_fn(|| daemon.report()).collect();
    let spawned = matches!(reports[..], [KeeperReport::Spawned { .. }, KeeperReport::Exited { remains: false, .. }]);
    assert!(spawned || matches!(reports[..], [] | [KeeperReport::SpawnFailed { .. }]), "{reports:?}");
    daemon.output();
    daemon.stderr_output();
    until("the lock is released", || daemon.is_unlocked());
}

/// The largest number of descriptors of an order.
const MOST: usize = 7;

fn raw(ends: &[OwnedFd]) -> Vec<RawFd> {
    ends.iter().cycle().take(MOST).map(AsRawFd::as_raw_fd).collect()
}

/// An order with the mask of all descriptors.
fn order() -> Vec<u8> {
    TestOrder::program(&["/bin/true", "one", "two"]).encode(Path::new("/"), (1 << MOST) - 1)
}

/// A frame with any length in its header.
fn framed(length: usize, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().saturating_add(1);
    [&length.to_ne_bytes(), &[ORDER][..], payload].concat()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..200)
}

/// The bytes with a few bits flipped.
fn flipped(mut bytes: Vec<u8>, flips: Vec<(Index, u32)>) -> Vec<u8> {
    for (at, bit) in flips {
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
    }
    bytes
}

fn flips() -> impl Strategy<Value = Vec<(Index, u32)>> {
    vec((any::<Index>(), 0..8_u32), 1..6)
}

/// The payload of an order, valid or damaged.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let whole = || order().split_off(HEADER);
    prop_oneof![
        1 => Just(whole()),
        4 => flips().prop_map(move |flips| flipped(whole(), flips)),
        1 => any::<Index>().prop_map(move |cut| whole()[..cut.index(whole().len())].to_vec()),
        1 => bytes().prop_map(move |more| [whole(), more].concat()),
        1 => bytes(),
    ]
}

/// Bytes in place of orders.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let lengths = select(vec![0, 1, 4_096, PAYLOAD_MAX, PAYLOAD_MAX + 1, u32::MAX as usize]);
    prop_oneof![
        2 => Just(order()),
        2 => flips().prop_map(|flips| flipped(order(), flips)),
        2 => (lengths, payload()).prop_map(|(length, payload)| framed(length, &payload)),
        1 => (1..order().len()).prop_map(|cut| order()[..cut].to_vec()),
        1 => bytes(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_order_is_refused_and_the_next_order_is_carried_out(
        payload in payload(),
        count in 1..=MOST,
        turn in prop_oneof![3 => Just(0), 1 => 0..MOST],
        too_late in 0..3_usize,
    ) {
        let (guardian, stderr_output) = start();
        let (daemon, _, ends) = Daemon::prepare();
        let mut raw = raw(&ends);
        raw.rotate_left(turn);
        guardian.send_piece(&framed(payload.len(), &[]), &raw[..count])?;
        guardian.send_piece(&payload, &raw[..too_late])?;
        drop(ends);
        assert_ended(daemon);
        prop_assert_eq!(guardian.spawn(&TestOrder::shell("echo next")).output(), "next\n");
        until("the guardian has its own descriptors only", || kinds(guardian.pid()) == ["/dev/null", "pipe", "socket"]);
        until("the guardian has no child", || os::descendants(guardian.pid()).is_certainly_empty());
        end(guardian, stderr_output);
    }

    #[test]
    fn damaged_stream_ends_the_guardian_and_no_living_daemon(pieces in vec((garbage(), 0..=MOST), 1..4)) {
        let (mut guardian, stderr_output) = start();
        let mut other = guardian.spawn(&TestOrder::program(&["/bin/sleep", "60"]));
        let tree = other.spawned();
        let sent = pieces.into_iter().map(|(bytes, count)| {
            let (daemon, _, ends) = Daemon::prepare();
            // The guardian may have closed the stream.
            guardian.send_piece(&bytes, &raw(&ends)[..count]).unwrap_or_default();
            daemon
        });
        let sent: Vec<Daemon> = sent.collect();
        guardian.close_stream();
        sent.into_iter().for_each(assert_ended);
        until("the guardian has closed its stream", || kinds(guardian.pid()) == ["/dev/null", "pipe"]);
        prop_assert!(tree.iter().all(lives));
        other.command(KeeperCommand::Kill);
        prop_assert_eq!(other.end(), libc::SIGKILL);
        end(guardian, stderr_output);
    }
}

#[test]
fn hello_of_another_build_is_answered_and_ends_the_guardian_with_3() {
    let other = Hello { build: "another".to_owned(), ..hello() };
    let mut guardian = Guardian::start_greeted(&other.encode());
    assert_eq!(guardian.hello(), Some(Hello { pid: guardian.pid(), ..hello() }), "the answer names the guardian's build");
    assert_eq!(guardian.await_exit().code(), Some(3));
    guardian.skip_exit_check();
}

#[test]
fn hello_of_other_bytes_ends_the_guardian_with_3() {
    let cut = hello().encode();
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[u8::MAX; 64], &cut[..cut.len() - 1]] {
        let mut guardian = Guardian::start_greeted(greeting);
        guardian.close_stream();
        assert_eq!(guardian.await_exit().code(), Some(3), "{greeting:?}");
        guardian.skip_exit_check();
    }
}
