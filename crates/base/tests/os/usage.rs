//! The resources of a tree. The test process itself is the root, as a keeper is.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use ally_base::os;

use crate::until::until;

fn start() -> u64 {
    os::start_time(os::own_pid()).unwrap()
}

#[test]
fn tree_usage_has_descendants_their_threads_and_their_memory() {
    let script = "import os, threading, time\nthreading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n\
        pid = os.fork()\nif pid == 0:\n filled = b'x' * (20 << 20)\n print('filled', flush=True)\ntime.sleep(30)";
    let mut child = Command::new("python3").args(["-S", "-E", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let tree = os::tree_usage(os::own_pid(), start()).unwrap().unwrap();
    let leader = tree.processes.iter().find(|process| process.pid == pid).expect("the child is in the tree");
    assert_eq!(leader.threads, 2);
    let grandchild = os::descendants(pid).seen[0].pid;
    let grandchild = tree.processes.iter().find(|process| process.pid == grandchild).expect("the grandchild is in the tree");
    assert!(grandchild.resident > 20 << 20 && grandchild.resident > leader.resident, "{grandchild:?} {leader:?}");
    let shared = os::shared_memory_size(grandchild.pid).unwrap();
    assert!((20 << 20..=grandchild.resident).contains(&shared), "{shared}");
    child.kill().unwrap();
    child.wait().unwrap();
    // SAFETY: an integer only; the grandchild may be gone.
    unsafe { libc::kill(grandchild.pid, libc::SIGKILL) };
}

#[test]
fn tree_usage_has_no_command_of_a_probe() {
    let folder = tempfile::tempdir().unwrap();
    // A process has the name of the link by which it was executed.
    let link = folder.path().join(os::PROBE_KEEPER);
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    let mut probe = Command::new(&link).args(["-c", "sleep 30 & wait"]).spawn().unwrap();
    let pid = i32::try_from(probe.id()).unwrap();
    until("the command runs", || os::descendants(pid).seen.len() == 1);
    let command = os::descendants(pid).seen[0].pid;
    let tree = os::tree_usage(os::own_pid(), start()).unwrap().unwrap();
    assert!(tree.processes.iter().all(|process| process.pid != pid && process.pid != command), "{tree:?}");
    // SAFETY: an integer only.
    unsafe { libc::kill(command, libc::SIGKILL) };
    probe.wait().unwrap();
}

#[test]
fn tree_usage_counts_the_cpu_time_of_a_child_that_was_reaped() {
    let before = os::tree_usage(os::own_pid(), start()).unwrap().unwrap().cpu;
    let script = "import time\nwhile time.process_time() < 0.3: pass";
    assert!(Command::new("python3").args(["-S", "-E", "-c", script]).status().unwrap().success());
    let spent = os::tree_usage(os::own_pid(), start()).unwrap().unwrap().cpu.saturating_sub(before);
    assert!(spent.as_millis() >= 290, "{spent:?}");
}

#[test]
fn tree_usage_of_another_start_time_is_none() {
    assert_eq!(os::tree_usage(os::own_pid(), start() + 1).unwrap(), None);
    assert_eq!(os::tree_usage(i32::MAX, 1).unwrap(), None);
}

#[test]
fn open_files_are_exact_for_few_and_as_the_kernel_counts_for_many() {
    let mut child = Command::new("sleep").arg("30").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let listed = || u32::try_from(std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()).unwrap();
    // Before execve(2) the child has the descriptors of this process, and after it opens its libraries.
    let is_executed = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    let are_exact =
        || os::open_files(pid).is_ok_and(|(count, reserved)| count == listed() && Some(reserved) == os::reserved_files(pid).ok());
    until("the descriptors of the child are exact", || is_executed() && are_exact());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(os::open_files(pid).is_err());

    let (before, _) = os::open_files(os::own_pid()).unwrap();
    let files: Vec<File> = (0..400).map(|_| File::open("/dev/null").unwrap()).collect();
    let (now, _) = os::open_files(os::own_pid()).unwrap();
    // Other tests of this process open files meanwhile.
    assert!(now >= before + 350, "{before} {now} {}", files.len());
}
