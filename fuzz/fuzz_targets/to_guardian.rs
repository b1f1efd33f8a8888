//! Owner to guardian and keeper. Any bytes are refused, or decoded to an order, a greeting or commands that encode to the same
//! bytes.

#![no_main]

use ally_base::wire::{FrameBuffer, HEADER, Hello, KeeperCommand, ORDER, Order, PAYLOAD_MAX, parse_header};
use libfuzzer_sys::fuzz_target;

fn check(payload: &[u8]) {
    let Some(order) = Order::decode(payload) else { return };
    assert!(!order.programs.is_empty());
    let mut strings = order.programs.iter().chain(&order.args).chain(&order.env).chain([&order.folder]);
    assert!(strings.all(|string| !string.contains(&0)), "execve(2) would cut the string");
    assert!(order.stop_signal >= 0);
    let again = order.encode();
    let header = *again.first_chunk().expect("a header");
    assert_eq!(parse_header(header, PAYLOAD_MAX), Ok((ORDER, payload.len())));
    assert_eq!(again[HEADER..], *payload);
    assert_eq!(Order::decode(&again[HEADER..]).as_ref(), Some(&order));
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some((header, rest)) = bytes.split_first_chunk::<HEADER>()
        && let Ok((_, length)) = parse_header(*header, PAYLOAD_MAX)
        && let Some(payload) = rest.get(..length)
    {
        check(payload);
    }
    let mut commands = FrameBuffer::default();
    commands.extend(bytes);
    while let Ok(Some(frame)) = commands.next_frame() {
        if let Some(command) = KeeperCommand::decode(&frame) {
            assert_eq!(command.encode()[HEADER..], frame.payload[..]);
        }
    }
    let mut greeting = FrameBuffer::default();
    greeting.extend(bytes);
    if let Ok(Some(hello)) = Hello::take_from(&mut greeting) {
        let again = hello.encode();
        assert_eq!(Hello::decode(&again[Hello::PREFIX..]).as_ref(), Some(&hello));
    }
});
