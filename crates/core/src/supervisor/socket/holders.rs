//! The processes that hold a socket.

use std::path::Path;

use ally_base::os;

use crate::model::Pid;

/// The holders that a scan finds. If the `maker`, which called listen(2), holds the socket, it comes first. If the scan finds
/// no holder, the maker is returned as long as it lives. The maker may have passed the socket on, and its pid may be reused,
/// so a holder comes before the maker.
pub fn holders(path: &Path, maker: Option<Pid>) -> Vec<Pid> {
    let mut holders = os::holders(path);
    let Some(maker) = maker.filter(|maker| *maker > 0) else { return holders };
    if let Some(at) = holders.iter().position(|holder| *holder == maker) {
        holders.swap(0, at);
    } else if holders.is_empty() && lives(maker) {
        holders.push(maker);
    }
    holders
}

/// A process that /proc hides is not known to be gone.
fn lives(pid: Pid) -> bool {
    os::identify(pid).map_or(true, |process| process.is_some_and(|process| !process.zombie))
}
