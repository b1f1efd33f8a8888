//! Orders: from the owner to the guardian.

use ally_base::stop::StopSignalTo;
use ally_base::wire::{HEADER, Limits, LogOrder, ORDER, Order, OwnerDeath, PAYLOAD_MAX, ResourceLimit, parse_header};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::allocator;

/// Folder, name, maxSize, maxFiles, compress.
type OwnedLog = (Vec<u8>, Vec<u8>, u64, u32, bool);

/// An order with strings of its own.
#[derive(Debug, Clone)]
struct OwnedOrder {
    descriptors: u32,
    group_only: bool,
    keep: bool,
    stop_signal: i32,
    whole_tree: bool,
    grace_ms: u32,
    folder: Vec<u8>,
    lists: [Vec<Vec<u8>>; 3],
    limits: Limits,
    notify_path: Vec<u8>,
    log: Option<OwnedLog>,
}

impl OwnedOrder {
    fn order(&self) -> Order<'_> {
        let [programs, args, env] = self.lists.each_ref().map(|list| list.iter().map(Vec::as_slice).collect());
        Order {
            descriptors: self.descriptors,
            group_only: self.group_only,
            owner_death: if self.keep { OwnerDeath::Keep } else { OwnerDeath::Stop },
            stop_signal: self.stop_signal,
            stop_signal_to: if self.whole_tree { StopSignalTo::Tree } else { StopSignalTo::Leader },
            grace_ms: self.grace_ms,
            folder: &self.folder,
            programs,
            args,
            env,
            limits: self.limits.clone(),
            notify_path: &self.notify_path,
            log: self.log.as_ref().map(|(folder, name, max_size, max_files, compress)| LogOrder {
                folder,
                name,
                max_size: *max_size,
                max_files: *max_files,
                compress: *compress,
            }),
        }
    }

    fn payload(&self) -> Vec<u8> {
        self.order().encode().split_off(HEADER)
    }

    /// A small valid order. Each test changes a field.
    fn plain() -> Self {
        let lists = [vec![b"/bin/true".to_vec()], Vec::new(), Vec::new()];
        Self {
            descriptors: 1,
            group_only: false,
            keep: false,
            stop_signal: libc::SIGTERM,
            whole_tree: false,
            grace_ms: 1,
            folder: b"/".to_vec(),
            lists,
            limits: Limits::default(),
            notify_path: Vec::new(),
            log: None,
        }
    }

    /// The size of the payload before the bytes of the folder.
    const FIXED: usize = 19;

    fn strings(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.folder).chain(self.lists.iter().flatten()).chain([&self.notify_path])
    }
}

/// A string for execve(2): any byte but NUL.
fn string() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 0..40)
}

fn limits() -> impl Strategy<Value = Limits> {
    let resource = any::<(i32, u64, u64)>().prop_map(|(resource, soft, hard)| ResourceLimit { resource, soft, hard });
    let wanted = (any::<Option<i32>>(), any::<Option<i32>>(), any::<Option<u32>>(), any::<Option<bool>>());
    (proptest::option::of(0..=0o777_u32), vec(resource, 0..20), any::<Option<i32>>(), wanted).prop_map(
        |(umask, resources, niceness, (wanted_niceness, oom_score_adj, open_files, core_dumps))| Limits {
            umask,
            resources,
            niceness,
            wanted_niceness,
            oom_score_adj,
            open_files,
            core_dumps,
        },
    )
}

fn owned_order() -> impl Strategy<Value = OwnedOrder> {
    let lists = [vec(string(), 1..5), vec(string(), 0..8), vec(string(), 0..12)];
    let name = vec(prop_oneof![1..b'/', b'0'..=u8::MAX], 1..40);
    let log = proptest::option::of((string(), name, any::<u64>(), 1..=u32::MAX, any::<bool>()));
    (any::<u32>(), any::<[bool; 3]>(), 0..=i32::MAX, any::<u32>(), [string(), string()], lists, (limits(), log)).prop_map(
        |(descriptors, [group_only, keep, whole_tree], stop_signal, grace_ms, [folder, notify_path], lists, (limits, log))| OwnedOrder {
            descriptors,
            group_only,
            keep,
            stop_signal,
            whole_tree,
            grace_ms,
            folder,
            lists,
            limits,
            notify_path,
            log,
        },
    )
}

fn header(bytes: &[u8]) -> [u8; HEADER] {
    *bytes.first_chunk().unwrap()
}

proptest! {
    #[test]
    fn order_is_decoded_as_it_was_encoded(owned in owned_order()) {
        let bytes = owned.order().encode();
        prop_assert_eq!(parse_header(header(&bytes), PAYLOAD_MAX), Ok((ORDER, bytes.len() - HEADER)));
        prop_assert_eq!(Order::decode(&bytes[HEADER..]), Some(owned.order()));
    }

    /// Random bytes rarely pass the first count. A valid order with changed bytes does.
    #[test]
    fn order_with_changed_bytes_is_refused_or_decoded_completely(owned in owned_order(), damage in vec((any::<Index>(), any::<u8>()), 1..4)) {
        let mut payload = owned.payload();
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Some(order) = Order::decode(&payload) {
            let again = order.encode();
            // The decoded order accounts for every byte.
            prop_assert_eq!(&again[HEADER..], &payload[..]);
            prop_assert!(!order.programs.is_empty());
            prop_assert!(order.programs.iter().chain(&order.args).chain(&order.env).all(|string| !string.contains(&0)));
        }
    }

    #[test]
    fn order_with_missing_or_additional_bytes_is_refused(owned in owned_order(), cut in any::<Index>(), more in vec(any::<u8>(), 1..9)) {
        let mut payload = owned.payload();
        prop_assert_eq!(Order::decode(&payload[..cut.index(payload.len())]), None);
        payload.extend(more);
        prop_assert_eq!(Order::decode(&payload), None);
    }

    #[test]
    fn order_with_a_nul_in_a_string_is_refused(owned in owned_order(), which in any::<Index>(), at in any::<Index>()) {
        let count = owned.strings().count();
        let mut damaged = owned;
        let lists = damaged.lists.iter_mut().flatten();
        let string = std::iter::once(&mut damaged.folder).chain(lists).chain([&mut damaged.notify_path]).nth(which.index(count)).unwrap();
        string.insert(at.index(string.len() + 1), 0);
        let payload = damaged.payload();
        prop_assert_eq!(Order::decode(&payload), None);
    }

    /// Any four bytes of the payload become a huge number. Some of them are a count.
    #[test]
    fn order_with_a_huge_count_allocates_no_more_than_its_payload(owned in owned_order(), at in any::<Index>(), count in prop_oneof![Just(u32::MAX), any::<u32>()]) {
        let mut payload = owned.payload();
        let at = at.index(payload.len() - 3);
        payload[at..at + 4].copy_from_slice(&count.to_ne_bytes());
        let (_, peak) = allocator::peak(|| Order::decode(&payload).is_some());
        // A slice takes 16 bytes, its entry in the payload at least four. A growing list has spare capacity.
        prop_assert!(peak <= 16 * payload.len() + 256, "{peak} bytes for a payload of {}", payload.len());
    }
}

#[test]
fn order_without_a_program_is_refused() {
    let mut owned = OwnedOrder::plain();
    assert!(Order::decode(&owned.payload()).is_some());
    owned.lists[0].clear();
    assert_eq!(Order::decode(&owned.payload()), None);
}

#[test]
fn order_with_a_log_file_that_has_no_plain_name_or_no_files_is_refused() {
    let order = |name: &[u8], files| OwnedOrder { log: Some((b"/".to_vec(), name.to_vec(), 1, files, false)), ..OwnedOrder::plain() };
    assert!(Order::decode(&order(b"log", 1).payload()).is_some());
    for (name, files) in [(&b""[..], 1), (b"a/b", 1), (b"log", 0)] {
        assert_eq!(Order::decode(&order(name, files).payload()), None);
    }
}

#[test]
fn order_with_a_negative_stop_signal_is_refused() {
    assert_eq!(Order::decode(&OwnedOrder { stop_signal: -1, ..OwnedOrder::plain() }.payload()), None);
    assert!(Order::decode(&OwnedOrder { stop_signal: 0, ..OwnedOrder::plain() }.payload()).is_some());
}

#[test]
fn order_with_a_umask_beyond_0o777_is_refused() {
    let order = |umask| OwnedOrder { limits: Limits { umask: Some(umask), ..Limits::default() }, ..OwnedOrder::plain() };
    assert!(Order::decode(&order(0o777).payload()).is_some());
    assert_eq!(Order::decode(&order(0o1000).payload()), None);
}

#[test]
fn order_flags_are_one_byte_each() {
    for (group_only, keep) in [(false, false), (false, true), (true, false), (true, true)] {
        let payload = OwnedOrder { group_only, keep, ..OwnedOrder::plain() }.payload();
        assert_eq!(payload[4..6], [u8::from(group_only), u8::from(keep)]);
        let order = Order::decode(&payload).unwrap();
        assert_eq!((order.group_only, order.owner_death == OwnerDeath::Keep), (group_only, keep));
        assert_eq!(payload[OwnedOrder::FIXED], b'/', "the folder follows the fixed fields");
    }
}
