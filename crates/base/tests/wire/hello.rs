//! The greeting, which names the build.

use ally_base::wire::{FrameBuffer, Hello};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn hello_is_decoded_as_it_was_encoded_and_no_later_byte_is_used(
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
    fn hello_of_any_bytes_without_the_magic_is_refused(bytes in vec(any::<u8>(), 0..200), magic in any::<bool>()) {
        let mut buffer = FrameBuffer::default();
        buffer.extend(if magic { b"ally" } else { &[] });
        buffer.extend(&bytes);
        if let Ok(Some(hello)) = Hello::take_from(&mut buffer) {
            prop_assert!(magic || bytes.starts_with(b"ally"), "{hello:?}");
        }
    }
}
