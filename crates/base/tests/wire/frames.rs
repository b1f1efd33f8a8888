//! Frames: length, kind, payload.

use ally_base::wire::{
    BadFrame, Frame, FrameBuffer, GuardianReport, HEADER, KeeperCommand, KeeperReport, Order, PAYLOAD_MAX, SMALL_MAX, parse_header,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// The frames of these bytes, which arrive in pieces of this size.
pub fn frames(bytes: &[u8], size: usize) -> Result<Vec<Frame>, BadFrame> {
    let (mut buffer, mut frames) = (FrameBuffer::default(), Vec::new());
    for piece in bytes.chunks(size) {
        buffer.extend(piece);
        while let Some(frame) = buffer.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_decoded_to_what_encodes_to_them(bytes in vec(any::<u8>(), 0..400)) {
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
}

#[test]
fn frame_header_without_a_kind_or_above_the_maximum_is_refused() {
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
fn frame_above_the_maximum_is_refused_before_its_payload_arrives() {
    let mut buffer = FrameBuffer::default();
    buffer.extend(&u32::try_from(SMALL_MAX + 2).unwrap().to_ne_bytes());
    assert_eq!(buffer.next_frame(), Ok(None), "the kind has not arrived");
    buffer.extend(&[1]);
    assert_eq!(buffer.next_frame(), Err(BadFrame));
}
