//! Which processes have a socket.

use std::path::Path;

use ally_base::os;

use crate::model::Pid;

/// The holders that can be seen. The `maker`, which called listen(2), comes first if it holds the socket. If no holder is
/// seen, the maker counts for as long as it lives: it may have left the socket to another process, and its pid may be reused.
pub fn holders(path: &Path, maker: Option<Pid>) -> Vec<Pid> {
    let mut holders = os::holders(path);
    let Some(maker) = maker.filter(|maker| *maker > 0) else { return holders };
    if let Some(at) = holders.iter().position(|holder| *holder == maker) {
        holders.swap(0, at);
    } else if holders.is_empty() && os::start_time(maker).is_some() {
        holders.push(maker);
    }
    holders
}
