//! Guardian and keeper to owner. A stream of any bytes gives the same frames in pieces of any size, and a decoded report encodes
//! to the bytes of its frame.

#![no_main]

use ally_base::wire::{Frame, FrameBuffer, GuardianReport, HEADER, KeeperReport};
use libfuzzer_sys::fuzz_target;

fn frames(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<Frame> {
    let (mut received, mut frames) = (FrameBuffer::default(), Vec::new());
    for piece in pieces {
        received.extend(piece.as_ref());
        while let Ok(Some(frame)) = received.next_frame() {
            frames.push(frame);
        }
    }
    frames
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else { return };
    let read = frames(stream.chunks(usize::from(*size).max(1)));
    assert_eq!(read, frames([stream].iter()), "the same frames in pieces of any size");
    for frame in &read {
        if let Some(report) = KeeperReport::decode(frame) {
            assert_eq!(report.encode()[HEADER..], frame.payload[..]);
        }
        if let Some(report) = GuardianReport::decode(frame) {
            assert_eq!(report.encode()[HEADER..], frame.payload[..]);
        }
    }
});
