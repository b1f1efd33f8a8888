//! The records between the owner, its guardian and the keepers: what one end writes the other reads,
//! and nothing else passes for a record.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

mod allocator;

use ally_base::wire::{Command, HEADER, Order, OwnerDeath, PAYLOAD_MAX, Report, Stage, payload_length};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// An order that owns its strings.
#[derive(Debug, Clone)]
struct Wish {
    group_only: bool,
    keep: bool,
    stop_signal: i32,
    grace_ms: u32,
    folder: Vec<u8>,
    lists: [Vec<Vec<u8>>; 3],
}

impl Wish {
    fn order(&self) -> Order<'_> {
        let [programs, args, env] = self.lists.each_ref().map(|list| list.iter().map(Vec::as_slice).collect());
        Order {
            group_only: self.group_only,
            owner_death: if self.keep { OwnerDeath::Keep } else { OwnerDeath::Stop },
            stop_signal: self.stop_signal,
            grace_ms: self.grace_ms,
            folder: &self.folder,
            programs,
            args,
            env,
        }
    }

    fn payload(&self) -> Vec<u8> {
        self.order().encode().split_off(HEADER)
    }

    /// What a test changes that asks about one thing only.
    fn plain() -> Self {
        let lists = [vec![b"/bin/true".to_vec()], Vec::new(), Vec::new()];
        Self { group_only: false, keep: false, stop_signal: libc::SIGTERM, grace_ms: 1, folder: b"/".to_vec(), lists }
    }

    /// How many bytes the payload has before the folder's.
    const FIXED: usize = 16;

    fn strings(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.folder).chain(self.lists.iter().flatten())
    }
}

/// As execve(2) carries it: any byte but NUL.
fn string() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 0..40)
}

fn wish() -> impl Strategy<Value = Wish> {
    let lists = [vec(string(), 1..5), vec(string(), 0..8), vec(string(), 0..12)];
    (any::<bool>(), any::<bool>(), 0..=i32::MAX, any::<u32>(), string(), lists).prop_map(
        |(group_only, keep, stop_signal, grace_ms, folder, lists)| Wish { group_only, keep, stop_signal, grace_ms, folder, lists },
    )
}

fn report() -> impl Strategy<Value = Report> {
    let stage = prop_oneof![Just(Stage::Fork), Just(Stage::Folder), Just(Stage::Exec)];
    prop_oneof![
        (any::<i32>(), any::<i32>()).prop_map(|(leader, keeper)| Report::Spawned { leader, keeper }),
        (stage, any::<i32>()).prop_map(|(stage, errno)| Report::SpawnFailed { stage, errno }),
        (any::<i32>(), any::<bool>()).prop_map(|(status, remains)| Report::Exited { status, remains }),
        Just(Report::TreeGone),
        any::<i32>().prop_map(|keeper| Report::Swept { keeper }),
        Just(Report::Taken),
    ]
}

proptest! {
    #[test]
    fn an_order_arrives_as_it_was_given(wish in wish()) {
        let bytes = wish.order().encode();
        prop_assert_eq!(payload_length(&bytes), Some(bytes.len() - HEADER));
        prop_assert_eq!(Order::decode(&bytes[HEADER..]), Some(wish.order()));
    }

    #[test]
    fn a_report_arrives_as_it_was_given(report in report(), follows in vec(any::<u8>(), 0..30)) {
        let mut bytes = report.encode().to_vec();
        prop_assert_eq!(bytes.len(), Report::SIZE);
        for short in 0..Report::SIZE {
            prop_assert_eq!(Report::decode(&bytes[..short]), None);
        }
        // A stream may hold the beginning of the next one already.
        bytes.extend(follows);
        prop_assert_eq!(Report::decode(&bytes), Some(report));
    }

    #[test]
    fn no_bytes_at_all_upset_the_reader(bytes in vec(any::<u8>(), 0..400)) {
        if let Some(order) = Order::decode(&bytes) {
            let strings = order.programs.iter().chain(&order.args).chain(&order.env).chain([&order.folder]);
            prop_assert!(strings.into_iter().all(|string| !string.contains(&0)));
        }
        payload_length(&bytes);
        if let Some(report) = Report::decode(&bytes) {
            prop_assert_eq!(&report.encode()[..], &bytes[..Report::SIZE]);
        }
    }

    /// Random bytes rarely get past the first count; an order with some of its bytes changed does.
    #[test]
    fn a_damaged_order_is_refused_or_still_whole(wish in wish(), damage in vec((any::<Index>(), any::<u8>()), 1..4)) {
        let mut payload = wish.payload();
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Some(order) = Order::decode(&payload) {
            let again = order.encode();
            // Whatever was changed, what is read accounts for every byte.
            prop_assert_eq!(&again[HEADER..], &payload[..]);
            prop_assert!(!order.programs.is_empty());
            prop_assert!(order.programs.iter().chain(&order.args).chain(&order.env).all(|string| !string.contains(&0)));
        }
    }

    #[test]
    fn an_order_with_anything_missing_or_added_is_none(wish in wish(), cut in any::<Index>(), more in vec(any::<u8>(), 1..9)) {
        let mut payload = wish.payload();
        prop_assert_eq!(Order::decode(&payload[..cut.index(payload.len())]), None);
        payload.extend(more);
        prop_assert_eq!(Order::decode(&payload), None);
    }

    #[test]
    fn a_nul_in_any_string_is_refused(wish in wish(), which in any::<Index>(), at in any::<Index>()) {
        let count = wish.strings().count();
        let mut damaged = wish;
        let lists = damaged.lists.iter_mut().flatten();
        let string = std::iter::once(&mut damaged.folder).chain(lists).nth(which.index(count)).unwrap();
        string.insert(at.index(string.len() + 1), 0);
        let payload = damaged.payload();
        prop_assert_eq!(Order::decode(&payload), None);
    }

    /// Every four bytes of a payload are taken for a count in turn, and made a huge one.
    #[test]
    fn a_lying_count_costs_no_memory(wish in wish(), at in any::<Index>(), lie in prop_oneof![Just(u32::MAX), any::<u32>()]) {
        let mut payload = wish.payload();
        let at = at.index(payload.len() - 3);
        payload[at..at + 4].copy_from_slice(&lie.to_ne_bytes());
        let (_, peak) = allocator::peak(|| Order::decode(&payload).is_some());
        // A slice of a list takes 16 bytes where the record has at least four, and a growing list has room to spare.
        prop_assert!(peak <= 16 * payload.len() + 256, "{peak} bytes for a payload of {}", payload.len());
    }
}

#[test]
fn an_order_without_a_program_is_none() {
    let mut wish = Wish::plain();
    assert!(Order::decode(&wish.payload()).is_some());
    wish.lists[0].clear();
    assert_eq!(Order::decode(&wish.payload()), None);
}

#[test]
fn a_negative_signal_is_none() {
    assert_eq!(Order::decode(&Wish { stop_signal: -1, ..Wish::plain() }.payload()), None);
    assert!(Order::decode(&Wish { stop_signal: 0, ..Wish::plain() }.payload()).is_some());
}

#[test]
fn each_flag_says_what_it_says() {
    for (group_only, keep) in [(false, false), (false, true), (true, false), (true, true)] {
        let payload = Wish { group_only, keep, ..Wish::plain() }.payload();
        assert_eq!(payload[..2], [u8::from(group_only), u8::from(keep)]);
        let order = Order::decode(&payload).unwrap();
        assert_eq!((order.group_only, order.owner_death == OwnerDeath::Keep), (group_only, keep));
        assert_eq!(payload[Wish::FIXED], b'/', "the folder follows the fixed part");
    }
}

#[test]
fn a_header_is_believed_only_with_its_magic_and_within_bounds() {
    let bytes = Wish::plain().order().encode();
    let with = |length: usize| {
        let mut header = bytes[..HEADER].to_vec();
        header[4..].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
        payload_length(&header)
    };
    assert_eq!(with(0), Some(0));
    assert_eq!(with(PAYLOAD_MAX), Some(PAYLOAD_MAX));
    assert_eq!(with(PAYLOAD_MAX + 1), None);
    assert_eq!(with(u32::MAX as usize), None);
    for byte in 0..4 {
        let mut header = bytes.clone();
        header[byte] ^= 1;
        assert_eq!(payload_length(&header), None, "byte {byte} of the magic counts");
    }
    for short in 0..HEADER {
        assert_eq!(payload_length(&bytes[..short]), None);
    }
}

#[test]
fn a_command_is_one_byte_and_no_other_byte_is_a_command() {
    for command in [Command::Terminate, Command::Kill] {
        assert_eq!(Command::decode(command.encode()), Some(command));
    }
    let known = (0..=u8::MAX).filter_map(Command::decode).count();
    assert_eq!(known, 2);
    assert_eq!(Command::decode(0), None, "what a zeroed buffer holds commands nothing");
}

#[test]
fn an_unknown_report_is_none() {
    let encode = |words: [i32; 3]| words.into_iter().flat_map(i32::to_ne_bytes).collect::<Vec<u8>>();
    for kind in [i32::MIN, -1, 0, 7, 8, i32::MAX] {
        assert_eq!(Report::decode(&encode([kind, 0, 0])), None);
    }
    for stage in [-1, 3, i32::MAX] {
        assert_eq!(Report::decode(&encode([2, stage, 0])), None);
    }
    assert_eq!(Report::decode(&encode([3, 9, 1])), Some(Report::Exited { status: 9, remains: true }));
}
