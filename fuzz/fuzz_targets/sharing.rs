//! Session to host, and host to session. A stream of any bytes gives the same messages in pieces of any size, and a message that was
//! read encodes to bytes that read the same. The greetings take any bytes without a panic.

#![no_main]

use ally_base::wire::FrameBuffer;
use ally_core::sharing::protocol::{ClientGreeting, HostGreeting, Inbound, Push, Request, TO_HOST_MAX, TO_SESSION_MAX, encode};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn messages<T: Serialize + DeserializeOwned>(pieces: impl Iterator<Item = impl AsRef<[u8]>>, max: usize) -> Vec<Vec<u8>> {
    let (mut inbound, mut messages) = (Inbound::new(max), Vec::new());
    for piece in pieces {
        inbound.extend(piece.as_ref());
        loop {
            match inbound.next_message::<T>() {
                Ok(Some(message)) => messages.extend(encode(&message, usize::MAX)),
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    messages
}

fn check<T: Serialize + DeserializeOwned>(size: u8, stream: &[u8], max: usize) {
    let read = messages::<T>(stream.chunks(usize::from(size).max(1)), max);
    assert_eq!(read, messages::<T>([stream].iter(), max), "the same messages in pieces of any size");
    assert_eq!(read, messages::<T>([read.concat()].iter(), usize::MAX), "a message encodes to bytes that read the same");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else { return };
    check::<Request>(*size, stream, TO_HOST_MAX);
    check::<Push>(*size, stream, TO_SESSION_MAX);
    let mut buffer = FrameBuffer::default();
    buffer.extend(stream);
    if let Ok(Some(greeting)) = ClientGreeting::take_from(&mut buffer) {
        let mut again = FrameBuffer::default();
        again.extend(&greeting.encode());
        assert_eq!(ClientGreeting::take_from(&mut again), Ok(Some(greeting)));
    }
    let mut buffer = FrameBuffer::default();
    buffer.extend(stream);
    drop(HostGreeting::take_from(&mut buffer));
});
