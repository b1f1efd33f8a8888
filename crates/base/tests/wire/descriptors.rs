//! The descriptors of an order, by name.

use ally_base::wire::Descriptors;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn descriptors_are_named_with_and_without_the_optional_ones(stdout_reader: Option<u8>, stderr_reader: Option<u8>, notify: Option<u8>, log: [Option<u8>; 5], listener: Option<u8>) {
        let [log_file, log_folder, stdout_copy, stderr_copy, log_notes] = log;
        let sent = Descriptors { stream: 1, stdout: 2, stderr: 3, lock: 4, folder: 5, stdout_reader, stderr_reader, notify, log_file, log_folder, stdout_copy, stderr_copy, log_notes, listener };
        let (mask, list) = sent.clone().into_wire();
        prop_assert_eq!(Descriptors::from_wire(mask, list.clone()), Some(sent));
        for bit in 0..32 {
            // One descriptor more or less than the mask says.
            prop_assert_eq!(Descriptors::from_wire(mask ^ 1 << bit, list.clone()), None);
        }
    }

    #[test]
    fn descriptor_mask_of_any_bits_is_refused_or_names_every_descriptor(mask: u32, list in vec(any::<u8>(), 0..15)) {
        if let Some(read) = Descriptors::from_wire(mask, list.clone()) {
            prop_assert_eq!(read.into_wire(), (mask, list));
        }
    }
}
