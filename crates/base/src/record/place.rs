//! The place in which a pid counts: the boot and the pid namespace. In the note of a lock also the network namespace and the
//! machine.

use std::io;

use once_cell::sync::OnceCell;

use crate::os::{self, NO_BOOT_ID};
use crate::text::printable;

/// Whether a record was written in this boot and this pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameBoot {
    Yes,
    No,
    /// The pid namespace is the same. The record, or this process, has no id of the boot.
    Unknown,
}

/// Compares two texts of [`os::boot_id`].
pub fn compare_boots(recorded: &str, own: &str) -> SameBoot {
    let [recorded, own] = [recorded, own].map(|text| text.split_once(' ').unwrap_or((text, "")));
    match (recorded.0, own.0) {
        _ if recorded.1 != own.1 => SameBoot::No,
        (NO_BOOT_ID, _) | (_, NO_BOOT_ID) => SameBoot::Unknown,
        (recorded, own) if recorded == own => SameBoot::Yes,
        _ => SameBoot::No,
    }
}

/// The place of a lock's holder, if it is another one than that of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// The name of the machine, or the id of its boot if the note has no name.
    Machine(String),
    PidNamespace,
    /// The pids are those of this pid namespace.
    NetworkNamespace,
}

/// The word for a part of a place that is not known.
const UNKNOWN: &str = NO_BOOT_ID;

/// The place of this process as a note has it: boot, pid namespace, network namespace, machine. None of them changes in the life
/// of a process.
///
/// # Errors
/// EMFILE or ENFILE.
pub fn own_place() -> io::Result<&'static str> {
    static PLACE: OnceCell<String> = OnceCell::new();
    PLACE.get_or_try_init(read_place).map(String::as_str)
}

fn read_place() -> io::Result<String> {
    let boot = os::boot_id()?;
    let (boot, pid_namespace) = boot.split_once(' ').unwrap_or((&boot, ""));
    let network_namespace = os::network_namespace()?.unwrap_or_default();
    let host = printable(&os::host_name().unwrap_or_default()).replace(char::is_whitespace, "_");
    let words = [boot, pid_namespace, &network_namespace, &host].map(|word| if word.is_empty() { UNKNOWN } else { word });
    Ok(words.join(" "))
}

/// Whether this process, in `place`, has an id of its boot.
pub fn has_boot_id(place: &str) -> bool {
    !place.starts_with(NO_BOOT_ID)
}

/// Compares the place in a note with the place of this process. The notes of older versions have fewer words: a part that one of
/// both lacks does not count.
pub fn elsewhere(noted: &str, own: &str) -> Option<Elsewhere> {
    let [noted, own] = [noted, own].map(|place| {
        let mut words = place.split(' ').map(|word| Some(word).filter(|word| *word != UNKNOWN));
        [(); 4].map(|()| words.next().flatten())
    });
    let differs = |part: usize| noted[part].is_some() && own[part].is_some() && noted[part] != own[part];
    let [boot, pid_namespace, network_namespace, host] = [0, 1, 2, 3];
    // Containers have names of their own, so the name of the machine counts only without a boot.
    let is_boot_known = noted[boot].is_some() && own[boot].is_some();
    if differs(boot) || !is_boot_known && differs(host) {
        return Some(Elsewhere::Machine(noted[host].or(noted[boot]).unwrap_or_default().to_owned()));
    }
    if differs(pid_namespace) {
        return Some(Elsewhere::PidNamespace);
    }
    differs(network_namespace).then_some(Elsewhere::NetworkNamespace)
}
