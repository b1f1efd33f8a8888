//! The records between the owner, its guardian and the keepers: what one end writes the other reads,
//! and nothing else passes for a record.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

#[path = "support/allocator.rs"]
mod allocator;

use ally_base::wire::{
    BadFrame, Descriptors, Frame, FrameBuffer, GuardianReport, HEADER, Hello, KeeperCommand, KeeperReport, ORDER, Order, OwnerDeath,
    PAYLOAD_MAX, SMALL_MAX, Stage, parse_header,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// An order that owns its strings.
#[derive(Debug, Clone)]
struct Wish {
    descriptors: u32,
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
            descriptors: self.descriptors,
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
        Self { descriptors: 1, group_only: false, keep: false, stop_signal: libc::SIGTERM, grace_ms: 1, folder: b"/".to_vec(), lists }
    }

    /// How many bytes the payload has before the folder's.
    const FIXED: usize = 18;

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
    (any::<u32>(), any::<bool>(), any::<bool>(), 0..=i32::MAX, any::<u32>(), string(), lists).prop_map(
        |(descriptors, group_only, keep, stop_signal, grace_ms, folder, lists)| Wish {
            descriptors,
            group_only,
            keep,
            stop_signal,
            grace_ms,
            folder,
            lists,
        },
    )
}

fn keeper_report() -> impl Strategy<Value = KeeperReport> {
    let stage = prop_oneof![Just(Stage::Fork), Just(Stage::Folder), Just(Stage::Exec)];
    prop_oneof![
        (any::<i32>(), any::<i32>()).prop_map(|(leader, keeper)| KeeperReport::Spawned { leader, keeper }),
        (stage, any::<i32>()).prop_map(|(stage, errno)| KeeperReport::SpawnFailed { stage, errno }),
        (any::<i32>(), any::<bool>()).prop_map(|(status, remains)| KeeperReport::Exited { status, remains }),
        Just(KeeperReport::TreeGone),
    ]
}

fn guardian_report() -> impl Strategy<Value = GuardianReport> {
    prop_oneof![any::<i32>().prop_map(|keeper| GuardianReport::Swept { keeper }), Just(GuardianReport::Accepted)]
}

/// All frames of these bytes, which arrive in pieces of this size.
fn frames(bytes: &[u8], size: usize) -> Result<Vec<Frame>, BadFrame> {
    let (mut buffer, mut frames) = (FrameBuffer::default(), Vec::new());
    for piece in bytes.chunks(size) {
        buffer.extend(piece);
        while let Some(frame) = buffer.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn header(bytes: &[u8]) -> [u8; HEADER] {
    *bytes.first_chunk().unwrap()
}

proptest! {
    #[test]
    fn an_order_arrives_as_it_was_given(wish in wish()) {
        let bytes = wish.order().encode();
        prop_assert_eq!(parse_header(header(&bytes), PAYLOAD_MAX), Ok((ORDER, bytes.len() - HEADER)));
        prop_assert_eq!(Order::decode(&bytes[HEADER..]), Some(wish.order()));
    }

    #[test]
    fn reports_arrive_as_they_were_given_in_pieces_of_any_size(
        keeper in vec(keeper_report(), 0..5), guardian in vec(guardian_report(), 0..5), size in 1..40_usize,
    ) {
        let bytes: Vec<u8> = keeper.iter().flat_map(|report| report.encode()).chain(guardian.iter().flat_map(|report| report.encode())).collect();
        let frames = frames(&bytes, size)?;
        let (of_keeper, of_guardian) = frames.split_at(keeper.len());
        prop_assert_eq!(of_keeper.iter().filter_map(KeeperReport::decode).collect::<Vec<_>>(), keeper);
        prop_assert_eq!(of_guardian.iter().filter_map(GuardianReport::decode).collect::<Vec<_>>(), guardian);
    }

    #[test]
    fn a_greeting_arrives_as_it_was_given_and_no_byte_behind_it_is_used(
        version in ".{0,60}", build in "[0-9a-f]{0,64}", pid in any::<i32>(), follows in vec(any::<u8>(), 0..30), size in 1..40_usize,
    ) {
        let hello = Hello { version, build, pid };
        let mut bytes = hello.encode();
        let length = bytes.len();
        prop_assert_eq!(Hello::length(*bytes.first_chunk().unwrap()), Ok(length - Hello::PREFIX));
        bytes.extend(&follows);
        let mut buffer = FrameBuffer::default();
        let mut read = None;
        let mut unread = bytes.chunks(size);
        while read.is_none() {
            buffer.extend(unread.next().unwrap());
            read = Hello::take_from(&mut buffer)?;
        }
        prop_assert_eq!(read, Some(hello));
    }

    #[test]
    fn a_greeting_of_any_bytes_is_refused_or_a_greeting(bytes in vec(any::<u8>(), 0..200), right in any::<bool>()) {
        let mut buffer = FrameBuffer::default();
        buffer.extend(if right { b"ally" } else { &[] });
        buffer.extend(&bytes);
        if let Ok(Some(hello)) = Hello::take_from(&mut buffer) {
            prop_assert!(right || bytes.starts_with(b"ally"), "{hello:?}");
        }
    }

    #[test]
    fn descriptors_arrive_by_name_with_and_without_the_optional_ones(stdout_reader: Option<u8>, stderr_reader: Option<u8>) {
        let sent = Descriptors { stream: 1, stdout: 2, stderr: 3, lock: 4, folder: 5, stdout_reader, stderr_reader };
        let (mask, list) = sent.clone().into_wire();
        prop_assert_eq!(Descriptors::from_wire(mask, list.clone()), Some(sent));
        for bit in 0..32 {
            // One more or one less than came.
            prop_assert_eq!(Descriptors::from_wire(mask ^ 1 << bit, list.clone()), None);
        }
    }

    #[test]
    fn a_mask_of_any_bits_is_refused_or_accounts_for_every_descriptor(mask: u32, list in vec(any::<u8>(), 0..9)) {
        if let Some(read) = Descriptors::from_wire(mask, list.clone()) {
            prop_assert_eq!(read.into_wire(), (mask, list));
        }
    }

    #[test]
    fn no_bytes_at_all_upset_the_reader(bytes in vec(any::<u8>(), 0..400)) {
        if let Some(order) = Order::decode(&bytes) {
            let strings = order.programs.iter().chain(&order.args).chain(&order.env).chain([&order.folder]);
            prop_assert!(strings.into_iter().all(|string| !string.contains(&0)));
        }
        for frame in frames(&bytes, 7).unwrap_or_default() {
            if let Some(report) = KeeperReport::decode(&frame) {
                prop_assert_eq!(&report.encode()[HEADER..], &frame.payload[..]);
            }
            if let Some(report) = GuardianReport::decode(&frame) {
                prop_assert_eq!(&report.encode()[HEADER..], &frame.payload[..]);
            }
            if let Some(command) = KeeperCommand::decode(&frame) {
                prop_assert_eq!(&command.encode()[HEADER..], &frame.payload[..]);
            }
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
        assert_eq!(payload[4..6], [u8::from(group_only), u8::from(keep)]);
        let order = Order::decode(&payload).unwrap();
        assert_eq!((order.group_only, order.owner_death == OwnerDeath::Keep), (group_only, keep));
        assert_eq!(payload[Wish::FIXED], b'/', "the folder follows the fixed part");
    }
}

#[test]
fn a_header_is_believed_only_with_a_kind_and_within_bounds() {
    let with = |length: u32, max| {
        let [a, b, c, d] = length.to_ne_bytes();
        parse_header([a, b, c, d, 7], max)
    };
    assert_eq!(with(0, PAYLOAD_MAX), Err(BadFrame), "a frame has a kind");
    assert_eq!(with(1, PAYLOAD_MAX), Ok((7, 0)));
    let most = u32::try_from(PAYLOAD_MAX).unwrap() + 1;
    assert_eq!(with(most, PAYLOAD_MAX), Ok((7, PAYLOAD_MAX)));
    assert_eq!(with(most + 1, PAYLOAD_MAX), Err(BadFrame));
    assert_eq!(with(u32::MAX, PAYLOAD_MAX), Err(BadFrame));
}

#[test]
fn a_frame_that_is_too_long_is_refused_before_it_has_arrived() {
    let mut buffer = FrameBuffer::default();
    buffer.extend(&u32::try_from(SMALL_MAX + 2).unwrap().to_ne_bytes());
    assert_eq!(buffer.next_frame(), Ok(None), "the kind is still to come");
    buffer.extend(&[1]);
    assert_eq!(buffer.next_frame(), Err(BadFrame));
}

#[test]
fn no_other_kind_is_a_command_and_no_command_has_a_payload() {
    let frame = |kind, payload: &[u8]| Frame { kind, payload: payload.to_vec() };
    for command in [KeeperCommand::Terminate, KeeperCommand::Kill] {
        let mut buffer = FrameBuffer::default();
        buffer.extend(&command.encode());
        assert_eq!(KeeperCommand::decode(&buffer.next_frame().unwrap().unwrap()), Some(command));
    }
    assert_eq!((0..=u8::MAX).filter_map(|kind| KeeperCommand::decode(&frame(kind, &[]))).count(), 2);
    assert!((0..=u8::MAX).all(|kind| KeeperCommand::decode(&frame(kind, &[0])).is_none()));
    assert_eq!(KeeperCommand::decode(&frame(0, &[])), None, "what a zeroed buffer holds commands nothing");
}

#[test]
fn an_unknown_report_is_none() {
    let frame = |kind, words: &[i32], bytes: &[u8]| Frame {
        kind,
        payload: words.iter().flat_map(|word| word.to_ne_bytes()).chain(bytes.iter().copied()).collect(),
    };
    for kind in [0, 5, 6, u8::MAX] {
        assert_eq!(KeeperReport::decode(&frame(kind, &[], &[])), None);
    }
    for kind in [0, 3, u8::MAX] {
        assert_eq!(GuardianReport::decode(&frame(kind, &[], &[])), None);
    }
    for stage in [3, u8::MAX] {
        let [a, b, c, d] = 0_i32.to_ne_bytes();
        assert_eq!(KeeperReport::decode(&frame(2, &[], &[stage, a, b, c, d])), None);
    }
    assert_eq!(KeeperReport::decode(&frame(3, &[9], &[2])), None, "a flag is 0 or 1");
    assert_eq!(KeeperReport::decode(&frame(3, &[9], &[1])), Some(KeeperReport::Exited { status: 9, remains: true }));
    assert_eq!(KeeperReport::decode(&frame(3, &[9], &[1, 0])), None, "nothing follows");
    assert_eq!(KeeperReport::decode(&frame(1, &[9], &[])), None, "nothing is missing");
}
