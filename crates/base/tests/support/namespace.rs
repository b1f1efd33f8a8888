//! Pid namespaces, where the system allows them.

use std::process::{Command, Stdio};

/// True if unshare(1) succeeds with these words. If not, the test is skipped, with a line on stderr.
pub fn can_unshare(words: &[&str]) -> bool {
    let status = Command::new("unshare").args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let succeeds = status.is_ok_and(|status| status.success());
    if !succeeds {
        eprintln!("skipped: `unshare {}` fails on this system", words.join(" "));
    }
    succeeds
}
