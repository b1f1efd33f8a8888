//! Owner to guardian and keeper: any bytes are one order, accounted for to the last byte, or none; and
//! only two of 256 bytes command anything.

#![no_main]

use ally_base::wire::{Command, HEADER, Order, PAYLOAD_MAX, payload_length};
use libfuzzer_sys::fuzz_target;

fn check(payload: &[u8]) {
    let Some(order) = Order::decode(payload) else { return };
    assert!(!order.programs.is_empty());
    let mut strings = order.programs.iter().chain(&order.args).chain(&order.env).chain([&order.folder]);
    assert!(strings.all(|string| !string.contains(&0)), "execve(2) would cut it");
    assert!(order.stop_signal >= 0);
    let again = order.encode();
    assert_eq!(payload_length(&again), Some(payload.len()));
    assert_eq!(again[HEADER..], *payload);
    assert_eq!(Order::decode(&again[HEADER..]).as_ref(), Some(&order));
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some(length) = payload_length(bytes) {
        assert!(length <= PAYLOAD_MAX);
        if let Some(payload) = bytes[HEADER..].get(..length) {
            check(payload);
        }
    }
    for byte in bytes {
        assert!(Command::decode(*byte).is_none_or(|command| command.encode() == *byte));
    }
});
