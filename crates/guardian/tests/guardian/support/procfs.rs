//! Facts about a process in /proc.

use std::collections::BTreeMap;
use std::fs;

/// A signal mask of /proc/PID/status. Bit 0 is signal 1 (proc_pid_status(5)).
pub fn mask(status: &str, field: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_else(|| panic!("no {field}"));
    u64::from_str_radix(value.trim(), 16).unwrap()
}

pub fn status(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

pub const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The target of each descriptor of a process. Descriptors that are closed during the scan are left out.
pub fn descriptors(pid: i32) -> BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str().unwrap().parse().unwrap(), target.to_str().unwrap().to_owned()))
        })
        .collect()
}

/// The kinds of a process's descriptors: `socket`, `pipe`, or a path.
pub fn kinds(pid: i32) -> Vec<String> {
    let mut kinds: Vec<String> = descriptors(pid).into_values().map(|target| target.split(":[").next().unwrap().to_owned()).collect();
    kinds.sort_unstable();
    kinds
}
