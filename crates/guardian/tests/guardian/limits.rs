//! The limits of an order: what the owner has, and what the configuration asks for.

use ally_base::os;
use ally_base::wire::{KeeperReport, Limits, ResourceLimit, Stage};

use crate::support::{Guardian, TestOrder};

const UNLIMITED: u64 = libc::RLIM_INFINITY;

fn order(script: &str, limits: Limits) -> TestOrder {
    TestOrder { limits, ..TestOrder::shell(script) }
}

fn resource(resource: u32, soft: u64, hard: u64) -> ResourceLimit {
    ResourceLimit { resource: resource.cast_signed(), soft, hard }
}

#[test]
fn limits_of_the_owner_are_set_although_the_guardian_has_others() {
    let guardian = Guardian::start();
    let limits = Limits {
        umask: Some(0o137),
        resources: vec![resource(libc::RLIMIT_NOFILE, 57, 61), resource(libc::RLIMIT_STACK, 4 << 20, UNLIMITED)],
        niceness: Some(3),
        ..Limits::default()
    };
    let script = "umask; ulimit -Sn; ulimit -Hn; ulimit -Ss; nice";
    assert_eq!(guardian.spawn(&order(script, limits)).output(), "0137\n57\n61\n4096\n3\n");
}

#[test]
fn limits_that_are_asked_for_win_over_those_of_the_owner() {
    let guardian = Guardian::start();
    let limits = Limits {
        resources: vec![resource(libc::RLIMIT_NOFILE, 57, 61), resource(libc::RLIMIT_CORE, 4096, 8192)],
        niceness: Some(3),
        wanted_niceness: Some(5),
        oom_score_adj: Some(321),
        open_files: Some(33),
        core_dumps: Some(false),
        ..Limits::default()
    };
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; nice; cat /proc/self/oom_score_adj";
    assert_eq!(guardian.spawn(&order(script, limits)).output(), "33\n33\n0\n0\n5\n321\n");
}

#[test]
fn limits_core_dumps_true_allows_as_much_as_the_hard_limit() {
    let guardian = Guardian::start();
    let limits = Limits { resources: vec![resource(libc::RLIMIT_CORE, 0, 8192)], core_dumps: Some(true), ..Limits::default() };
    // With CAP_SYS_RESOURCE the hard limit is no obstacle. The number is in blocks of 512 bytes.
    let output = guardian.spawn(&order("ulimit -Sc", limits)).output();
    assert!(["unlimited\n", "16\n"].contains(&output.as_str()), "{output}");
}

#[test]
fn limits_that_the_system_refuses_are_a_failed_spawn_with_their_stage() {
    let guardian = Guardian::start();
    // More than the kernel allows anybody (fs.nr_open), and a score that does not exist.
    let cases = [
        (Limits { open_files: Some(u32::MAX), ..Limits::default() }, Stage::OpenFiles, libc::EPERM),
        (Limits { oom_score_adj: Some(2000), ..Limits::default() }, Stage::OomScoreAdj, libc::EINVAL),
    ];
    for (limits, stage, errno) in cases {
        let mut daemon = guardian.spawn(&order("exit 0", limits));
        assert_eq!(daemon.report(), Some(KeeperReport::SpawnFailed { stage, errno }));
    }
}

#[test]
fn limits_of_the_owner_that_the_system_refuses_are_passed_over() {
    let guardian = Guardian::start();
    let refused = resource(libc::RLIMIT_NOFILE, UNLIMITED, UNLIMITED);
    let unknown = resource(999, 1, 1);
    let mut daemon = guardian.spawn(&order("ulimit -Hn", Limits { resources: vec![unknown, refused], ..Limits::default() }));
    let hard = os::resource_limits().into_iter().find(|limit| limit.resource == libc::RLIMIT_NOFILE.cast_signed()).map(|limit| limit.hard);
    assert_eq!(daemon.output().trim().parse().ok(), hard);
}
