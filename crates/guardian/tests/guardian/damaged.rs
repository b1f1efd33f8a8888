//! Orders that were damaged on their way: one that means nothing costs itself alone, a stream that can't
//! be understood costs the guardian alone, and neither leaves a process or a descriptor anywhere.

use std::io::{self, PipeReader};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use ally_base::os;
use ally_base::wire::{HEADER, Hello, KeeperCommand, KeeperReport, ORDER, PAYLOAD_MAX};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::hygiene::kinds;
use crate::world::{Daemon, Guardian, Plan, hello, lives, read_all, until};

/// What a guardian or a keeper of it says before it breaks down; at an end only when all of them are gone.
struct Complaints(PipeReader);

fn start() -> (Guardian, Complaints) {
    let (complaints, stderr) = io::pipe().unwrap();
    let guardian = Guardian::start_with(|program| {
        program.stderr(stderr);
    });
    (guardian, Complaints(complaints))
}

/// That it goes of itself, with all that it made, and in peace.
fn end(mut guardian: Guardian, Complaints(mut complaints): Complaints) {
    guardian.let_go();
    assert!(guardian.await_exit().success());
    assert_eq!(read_all(&mut complaints), "");
}

/// That nobody has any of its descriptors, and that what was told of it before is a story.
fn assert_over(mut daemon: Daemon) {
    let told: Vec<KeeperReport> = std::iter::from_fn(|| daemon.report()).collect();
    let spawned = matches!(told[..], [KeeperReport::Spawned { .. }, KeeperReport::Exited { remains: false, .. }]);
    assert!(spawned || matches!(told[..], [] | [KeeperReport::SpawnFailed { .. }]), "{told:?}");
    daemon.output();
    daemon.complaints();
    until("the lock's release", || daemon.is_unlocked());
}

/// With an order come between none of them and this many.
const MOST: usize = 7;

fn raw(ends: &[OwnedFd]) -> Vec<RawFd> {
    ends.iter().cycle().take(MOST).map(AsRawFd::as_raw_fd).collect()
}

/// With the mask of all descriptors.
fn order() -> Vec<u8> {
    Plan::program(&["/bin/true", "one", "two"]).encode(Path::new("/"), (1 << MOST) - 1)
}

/// A frame that says of its payload what it likes.
fn framed(length: usize, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().saturating_add(1);
    [&length.to_ne_bytes(), &[ORDER][..], payload].concat()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..200)
}

/// A few bits of it turned.
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

/// An order's payload, or what became of it.
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

/// What may stand on a stream in the place of orders.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
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
    fn an_order_that_was_damaged_costs_only_itself(
        payload in payload(),
        count in 1..=MOST,
        turn in prop_oneof![3 => Just(0), 1 => 0..MOST],
        too_late in 0..3_usize,
    ) {
        let (guardian, complaints) = start();
        let (daemon, _, ends) = Daemon::expect();
        let mut raw = raw(&ends);
        raw.rotate_left(turn);
        guardian.send_piece(&framed(payload.len(), &[]), &raw[..count])?;
        guardian.send_piece(&payload, &raw[..too_late])?;
        drop(ends);
        assert_over(daemon);
        prop_assert_eq!(guardian.make(&Plan::shell("echo next")).output(), "next\n");
        until("nothing but its own descriptors", || kinds(guardian.pid()) == ["/dev/null", "pipe", "socket"]);
        until("no children", || os::descendants(guardian.pid()).is_certainly_empty());
        end(guardian, complaints);
    }

    #[test]
    fn a_stream_that_means_nothing_costs_only_the_guardian(pieces in vec((nonsense(), 0..=MOST), 1..4)) {
        let (mut guardian, complaints) = start();
        let mut beside = guardian.make(&Plan::program(&["/bin/sleep", "60"]));
        let family = beside.born();
        let sent = pieces.into_iter().map(|(bytes, count)| {
            let (daemon, _, ends) = Daemon::expect();
            // What comes after its end reaches nobody.
            guardian.send_piece(&bytes, &raw(&ends)[..count]).unwrap_or_default();
            daemon
        });
        let sent: Vec<Daemon> = sent.collect();
        guardian.let_go();
        sent.into_iter().for_each(assert_over);
        until("the guardian without its stream", || kinds(guardian.pid()) == ["/dev/null", "pipe"]);
        prop_assert!(family.iter().all(lives));
        beside.command(KeeperCommand::Kill);
        prop_assert_eq!(beside.end(), libc::SIGKILL);
        end(guardian, complaints);
    }
}

#[test]
fn an_owner_of_another_build_is_told_so_and_its_orders_are_not_read() {
    let other = Hello { build: "another".to_owned(), ..hello() };
    let mut guardian = Guardian::start_greeted(&other.encode());
    assert_eq!(guardian.hello(), Some(Hello { pid: guardian.pid(), ..hello() }), "the owner learns which build this is");
    assert_eq!(guardian.await_exit().code(), Some(3));
    guardian.forget();
}

#[test]
fn a_greeting_that_is_none_ends_the_guardian() {
    let cut = hello().encode();
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[u8::MAX; 64], &cut[..cut.len() - 1]] {
        let mut guardian = Guardian::start_greeted(greeting);
        guardian.let_go();
        assert_eq!(guardian.await_exit().code(), Some(3), "{greeting:?}");
        guardian.forget();
    }
}
