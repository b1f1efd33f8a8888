//! A start with any contents of `daemon.pid`, `daemon.id` and `daemon.lock`: no unrelated process gets a
//! signal, and no other file is removed. The tests run in a pid namespace, because a wrong signal to -1
//! would reach every process of the system.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

#[path = "../../../base/tests/support/namespace.rs"]
mod namespace;
#[path = "../../../base/tests/support/rerun.rs"]
mod rerun;
#[path = "../../../base/tests/support/until.rs"]
mod until;

mod arbitrary_contents;
mod contents;
mod folder;
mod orphan;
mod recognition;
mod start;
mod unrelated_process;

use crate::namespace::can_unshare;
use crate::rerun::rerun;

/// Runs the test again in a pid namespace, where a signal to -1 reaches only this test.
fn in_pid_namespace(test: &str, run: impl FnOnce()) {
    const ALONE: &str = "ALLY_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return run();
    }
    if can_unshare(&["-pf", "--mount-proc", "--kill-child", "true"]) {
        // The shell is the first process of the namespace, because signals of its own namespace can't kill that process.
        let unshare = ["unshare", "-pf", "--mount-proc", "--kill-child", "sh", "-c", "\"$@\"; exit $?", "sh"];
        rerun(&unshare, test, ALONE, "1");
    }
}
