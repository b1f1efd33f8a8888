//! The fields of the probe `exec`.

use ally_core::config::{Probe, Raw, parse};

use crate::support::{array, health, minimal, object, text, with};

fn probe(command: Raw, args: Raw) -> Raw {
    object([("type", text("exec")), ("command", command), ("args", args)])
}

#[test]
fn exec_probe_is_read_for_readiness_and_health() {
    for (args, expected) in [
        (array([text("--quick"), Raw::Number(8080.0)]), vec!["--quick".to_owned(), "8080".to_owned()]),
        (Raw::Undefined, Vec::new()),
        (Raw::Null, Vec::new()),
    ] {
        let raw = with(minimal(), "readiness", probe(text("check"), args.clone()));
        let raw = with(with(raw, "healthcheck", health()), "healthcheck.probe", probe(text("check"), args));
        let config = parse(&raw).unwrap().config;
        let expected = Probe::Exec { command: "check".to_owned(), args: expected };
        assert_eq!(config.readiness, expected);
        assert_eq!(config.health.map(|health| health.probe), Some(expected));
    }
}

#[test]
fn exec_probe_names_a_wrong_field() {
    for (field, command, args) in [
        ("readiness.command is required", Raw::Undefined, Raw::Undefined),
        ("readiness.command must not be empty", text(""), Raw::Undefined),
        ("readiness.command must not contain NUL", text("a\0"), Raw::Undefined),
        ("readiness.args must be an array", text("check"), text("--quick")),
        ("readiness.args[1] must not contain NUL", text("check"), array([text("a"), text("\0")])),
    ] {
        let failure = parse(&with(minimal(), "readiness", probe(command, args))).expect_err(field).to_string();
        assert!(failure.starts_with(field), "{failure}");
    }
}
