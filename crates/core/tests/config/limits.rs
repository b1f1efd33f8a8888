//! `limits` and `umask`.

use crate::support::{minimal, object, text, with};
use ally_core::config::Raw::{Bool, Null, Number};
use ally_core::config::{Limits, Raw, parse};
use ally_core::model::MemoryLimit;
use std::time::Duration;

fn limits(path: &str, value: Raw) -> Limits {
    parse(&with(minimal(), path, value)).unwrap().config.limits
}

#[test]
fn every_limit_reaches_the_configuration() {
    let fields = [
        ("limits.maxMemory", Number(268_435_456.0)),
        ("limits.sustain", Number(500.0)),
        ("limits.openFiles", Number(256.0)),
        ("limits.coreDumps", Bool(false)),
        ("limits.niceness", Number(-20.0)),
        ("limits.oomScoreAdj", Number(-1000.0)),
        ("umask", Number(0o077.into())),
    ];
    let config = parse(&fields.into_iter().fold(minimal(), |raw, (path, value)| with(raw, path, value))).unwrap().config;
    let memory = MemoryLimit { max: 256 << 20, sustain: Duration::from_millis(500) };
    let expected =
        Limits { memory: Some(memory), open_files: Some(256), core_dumps: Some(false), niceness: Some(-20), oom_score_adj: Some(-1000) };
    assert_eq!((config.limits, config.umask), (expected, Some(0o077)));
    assert_eq!(config.plan().memory, Some(memory));
}

#[test]
fn limits_default_to_none_and_sustain_to_3_s() {
    assert_eq!(limits("limits", object([])), Limits::default());
    assert_eq!(limits("limits.niceness", Null), Limits::default());
    // Without `maxMemory` the duration limits nothing.
    assert_eq!(limits("limits.sustain", Number(1.0)), Limits::default());
    assert_eq!(limits("limits.maxMemory", Number(1.0)).memory, Some(MemoryLimit { max: 1, sustain: Duration::from_secs(3) }));
}

#[test]
fn limit_out_of_range_or_mistyped_is_refused_by_its_field() {
    let table = [
        ("limits", text("small")),
        ("limits.maxMemory", Number(0.0)),
        ("limits.maxMemory", Number(-1.0)),
        ("limits.maxMemory", Number(f64::INFINITY)),
        ("limits.maxMemory", Number(f64::NAN)),
        ("limits.maxMemory", text("256 MiB")),
        ("limits.sustain", Number(-1.0)),
        ("limits.sustain", Number(f64::INFINITY)),
        ("limits.openFiles", Number(0.0)),
        ("limits.openFiles", Number(1.5)),
        ("limits.openFiles", Number(-5.0)),
        ("limits.coreDumps", Number(1.0)),
        ("limits.coreDumps", text("yes")),
        ("limits.niceness", Number(20.0)),
        ("limits.niceness", Number(-21.0)),
        ("limits.niceness", Number(0.5)),
        ("limits.oomScoreAdj", Number(1001.0)),
        ("limits.oomScoreAdj", Number(-1001.0)),
        ("umask", Number(512.0)),
        ("umask", Number(-1.0)),
        ("umask", Number(1.5)),
        ("umask", text("022")),
    ];
    for (path, value) in table {
        let failure = parse(&with(minimal(), path, value.clone())).expect_err(&format!("{path}: {value:?}"));
        assert!(failure.to_string().starts_with(&format!("{path} must be ")), "{failure}");
    }
}

#[test]
fn limits_at_the_bounds_are_allowed() {
    for (path, value) in
        [("limits.niceness", 19.0), ("limits.oomScoreAdj", 1000.0), ("limits.openFiles", 1.0), ("limits.sustain", 0.0), ("umask", 511.0)]
    {
        parse(&with(minimal(), path, Number(value))).unwrap();
    }
    assert_eq!(parse(&with(minimal(), "umask", Number(0.0))).unwrap().config.umask, Some(0));
}
