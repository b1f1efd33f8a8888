//! Reports of guardian and keeper, and commands to the keeper.

use ally_base::wire::{Frame, FrameBuffer, GuardianReport, KeeperCommand, KeeperReport, LeaderUsage, LogNote, Stage};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::frames::frames;

fn keeper_report() -> impl Strategy<Value = KeeperReport> {
    let stage = (0..7_u8).prop_filter_map("a stage", Stage::of);
    prop_oneof![
        (any::<[i32; 3]>(), any::<[u64; 2]>()).prop_map(|([leader, keeper, group], [leader_start, keeper_start])| {
            KeeperReport::Spawned { leader, leader_start, keeper, keeper_start, group }
        }),
        (stage, any::<i32>()).prop_map(|(stage, errno)| KeeperReport::SpawnFailed { stage, errno }),
        (any::<i32>(), any::<bool>(), any::<[u64; 3]>()).prop_map(|(status, remains, [memory_peak, cpu_us, tree_cpu_us])| {
            KeeperReport::Exited { status, remains, usage: LeaderUsage { memory_peak, cpu_us }, tree_cpu_us }
        }),
        any::<u64>().prop_map(|tree_cpu_us| KeeperReport::TreeGone { tree_cpu_us }),
        Just(KeeperReport::Acknowledged),
        any::<bool>().prop_map(|complete| KeeperReport::Frozen { complete }),
        any::<i32>().prop_map(|pid| KeeperReport::EndedBy { pid }),
    ]
}

fn guardian_report() -> impl Strategy<Value = GuardianReport> {
    prop_oneof![any::<i32>().prop_map(|keeper| GuardianReport::Swept { keeper }), Just(GuardianReport::Accepted)]
}

fn log_note() -> impl Strategy<Value = LogNote> {
    prop_oneof![
        any::<u64>().prop_map(|lines| LogNote::CopyDropped { lines }),
        any::<i32>().prop_map(|errno| LogNote::FileFailed { errno }),
        (any::<u64>(), any::<i32>()).prop_map(|(lines, errno)| LogNote::FileDropped { lines, errno }),
        Just(LogNote::Replaced),
    ]
}

proptest! {
    #[test]
    fn log_notes_are_decoded_as_they_were_encoded(notes in vec(log_note(), 0..9), size in 1..40_usize) {
        let bytes: Vec<u8> = notes.iter().flat_map(|note| note.encode()).collect();
        prop_assert_eq!(frames(&bytes, size)?.iter().filter_map(LogNote::decode).collect::<Vec<_>>(), notes);
    }

    #[test]
    fn reports_are_decoded_as_they_were_encoded_in_pieces_of_any_size(
        keeper in vec(keeper_report(), 0..5), guardian in vec(guardian_report(), 0..5), size in 1..40_usize,
    ) {
        let bytes: Vec<u8> = keeper.iter().flat_map(|report| report.encode()).chain(guardian.iter().flat_map(|report| report.encode())).collect();
        let frames = frames(&bytes, size)?;
        let (of_keeper, of_guardian) = frames.split_at(keeper.len());
        prop_assert_eq!(of_keeper.iter().filter_map(KeeperReport::decode).collect::<Vec<_>>(), keeper);
        prop_assert_eq!(of_guardian.iter().filter_map(GuardianReport::decode).collect::<Vec<_>>(), guardian);
    }
}

#[test]
fn report_of_an_unknown_kind_stage_flag_or_size_is_refused() {
    let frame = |kind, words: &[i32], bytes: &[u8]| Frame {
        kind,
        payload: words.iter().flat_map(|word| word.to_ne_bytes()).chain(bytes.iter().copied()).collect(),
    };
    // An empty `EndedBy` is none either.
    for kind in [0, 7, 8, u8::MAX] {
        assert_eq!(KeeperReport::decode(&frame(kind, &[], &[])), None);
    }
    for kind in [0, 3, u8::MAX] {
        assert_eq!(GuardianReport::decode(&frame(kind, &[], &[])), None);
    }
    for stage in [7, u8::MAX] {
        let [a, b, c, d] = 0_i32.to_ne_bytes();
        assert_eq!(KeeperReport::decode(&frame(2, &[], &[stage, a, b, c, d])), None);
    }
    let exited = |flag: u8, length: usize| frame(3, &[9], &[&[flag][..], &vec![0; length]].concat());
    assert_eq!(KeeperReport::decode(&exited(2, 24)), None, "a flag is 0 or 1");
    let expected = KeeperReport::Exited { status: 9, remains: true, usage: LeaderUsage::default(), tree_cpu_us: 0 };
    assert_eq!(KeeperReport::decode(&exited(1, 24)), Some(expected));
    assert_eq!(KeeperReport::decode(&exited(1, 25)), None, "an additional byte");
    assert_eq!(KeeperReport::decode(&frame(1, &[9], &[])), None, "a missing byte");
}

#[test]
fn keeper_command_of_another_kind_or_with_another_payload_is_refused() {
    let frame = |kind, payload: &[u8]| Frame { kind, payload: payload.to_vec() };
    let simple = [KeeperCommand::Terminate, KeeperCommand::Kill, KeeperCommand::Probe, KeeperCommand::Freeze, KeeperCommand::Thaw];
    let commands = simple.into_iter().chain([KeeperCommand::Extend { by_ms: 0x0102_0304 }]);
    for command in commands {
        let mut buffer = FrameBuffer::default();
        buffer.extend(&command.encode());
        assert_eq!(KeeperCommand::decode(&buffer.next_frame().unwrap().unwrap()), Some(command));
    }
    assert_eq!((0..=u8::MAX).filter_map(|kind| KeeperCommand::decode(&frame(kind, &[]))).count(), simple.len());
    assert_eq!((0..=u8::MAX).filter_map(|kind| KeeperCommand::decode(&frame(kind, &[0; 4]))).count(), 1);
    assert!((0..=u8::MAX).all(|kind| KeeperCommand::decode(&frame(kind, &[0])).is_none()));
    assert_eq!(KeeperCommand::decode(&frame(0, &[])), None, "a zeroed buffer is no command");
}
