//! Runs a test again in a process of its own.

use std::ffi::OsStr;
use std::process::Command;

/// Runs the test with this full name again: this test program, as an argument of the command `prefix`, with the variable in
/// its environment.
#[track_caller]
pub fn rerun(prefix: &[&str], test: &str, variable: &str, value: impl AsRef<OsStr>) {
    let own = std::env::current_exe().unwrap();
    let mut words = prefix.iter().map(OsStr::new).chain([own.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).args(["--exact", test, "--nocapture"]).env(variable, value).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // With a wrong name no test runs, and the status is 0 too.
    assert!(output.status.success() && stdout.contains("1 passed"), "{prefix:?} {test}: {stdout}\n{stderr}");
}
