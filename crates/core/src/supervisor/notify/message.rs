//! The assignments of one datagram: sd_notify(3).

use std::time::Duration;

use ally_base::text::printable;

/// The longest status, in characters.
const STATUS_MAX: usize = 512;
/// The longest timer of Node.js: 2^31 - 1 ms.
const EXTENSION_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// A later variant is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watchdog {
    Alive,
    Trigger,
}

/// Assignments that have no meaning here are left out: MAINPID, FDSTORE, RELOADING, BARRIER and others. Descriptors are closed at
/// the receipt of the datagram, which also answers BARRIER.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    pub ready: bool,
    pub stopping: bool,
    pub watchdog: Option<Watchdog>,
    /// An empty status removes the last one.
    pub status: Option<String>,
    pub extend: Option<Duration>,
}

impl Notification {
    /// A datagram with a NUL before its last byte is ignored as a whole, as systemd does.
    pub fn parse(datagram: &[u8]) -> Self {
        let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
        let mut said = Self::default();
        if text.contains(&0) {
            return said;
        }
        for line in text.split(|byte| *byte == b'\n') {
            let mut parts = line.splitn(2, |byte| *byte == b'=');
            let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
            match (key, value) {
                (b"READY", b"1") => said.ready = true,
                (b"STOPPING", b"1") => said.stopping = true,
                (b"WATCHDOG", b"1") => said.watchdog = said.watchdog.max(Some(Watchdog::Alive)),
                (b"WATCHDOG", b"trigger") => said.watchdog = Some(Watchdog::Trigger),
                (b"STATUS", status) => said.status = Some(cleaned(status)),
                (b"EXTEND_TIMEOUT_USEC", count) => said.extend = microseconds(count).or(said.extend),
                _ => {}
            }
        }
        said
    }
}

fn cleaned(status: &[u8]) -> String {
    printable(&String::from_utf8_lossy(status)).trim().chars().take(STATUS_MAX).collect()
}

fn microseconds(count: &[u8]) -> Option<Duration> {
    let count: u64 = std::str::from_utf8(count).ok()?.trim().parse().ok()?;
    (count > 0).then(|| Duration::from_micros(count).min(EXTENSION_MAX))
}
