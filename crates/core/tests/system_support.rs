//! Options that the system must be able to carry out: refused by the field, with the reason.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic")]

use ally_core::config::{ProcessConfig, Raw, SystemSupport, parse};
use ally_core::error::Code;

const NONE: SystemSupport = SystemSupport { accept_queue: false, oom_score: false };
const ALL: SystemSupport = SystemSupport { accept_queue: true, oom_score: true };

fn text(text: &str) -> Raw {
    Raw::String(text.to_owned())
}

fn object(entries: Vec<(&str, Raw)>) -> Raw {
    Raw::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn probe(probe: &str) -> Raw {
    object(vec![("type", text(probe))])
}

fn config(readiness: &str, health: &str) -> ProcessConfig {
    parse(&raw(readiness, health)).unwrap().config
}

fn raw(readiness: &str, health: &str) -> Raw {
    let healthcheck = object(vec![
        ("interval", Raw::Number(1_000.0)),
        ("timeout", Raw::Number(1_000.0)),
        ("retries", Raw::Number(3.0)),
        ("probe", probe(health)),
    ]);
    object(vec![
        ("pluginName", text("weather")),
        ("pluginPath", text("/srv/weather")),
        ("command", text("python3")),
        ("args", Raw::Array(Vec::new())),
        ("socketPath", text("/run/weather.sock")),
        ("startupTimeout", Raw::Number(1_000.0)),
        ("shutdownGracePeriod", Raw::Number(1_000.0)),
        ("readiness", probe(readiness)),
        ("healthcheck", healthcheck),
    ])
}

fn with(raw: Raw, key: &str, value: Raw) -> Raw {
    let Raw::Object(mut entries) = raw else { panic!("no object") };
    entries.retain(|(name, _)| name != key);
    entries.push((key.to_owned(), value));
    Raw::Object(entries)
}

#[test]
fn the_accept_probe_is_refused_by_its_field_where_the_kernel_does_not_show_the_queue() {
    let problem = "'accept' is not supported by this system's kernel, which doesn't tell who waits in a socket's queue";
    for (readiness, health, field) in [
        ("accept", "socket", "readiness.type"),
        ("socket", "accept", "healthcheck.probe.type"),
        ("accept", "accept", "healthcheck.probe.type"),
    ] {
        let config = config(readiness, health);
        assert_eq!(NONE.check(&config).unwrap_err().to_string(), format!("{field} {problem}"));
        assert_eq!(ALL.check(&config), Ok(()));
    }
}

#[test]
fn socket_manager_without_a_visible_queue_is_unsupported_and_names_the_ways_out() {
    let held = |raw: Raw| parse(&with(raw, "socket", text("manager"))).unwrap().config;
    let untold = "is not supported by this system's kernel, which doesn't tell who waits in a socket's queue";
    let by_default = held(with(raw("notify", "notify"), "healthcheck", Raw::Undefined));
    assert_eq!(NONE.check(&by_default), Ok(()));
    let default_readiness = held(with(with(raw("accept", "accept"), "readiness", Raw::Undefined), "healthcheck", Raw::Undefined));
    let refused = NONE.check(&default_readiness).unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string()),
        (Code::Unsupported, format!("readiness 'accept' {untold}; use `notify`, `output` or `exec`"))
    );
    assert_eq!(ALL.check(&default_readiness), Ok(()));
    let default_health = held(with(raw("notify", "accept"), "healthcheck", object(Vec::new())));
    let refused = NONE.check(&default_health).unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string()),
        (Code::Unsupported, format!("healthcheck.probe 'accept' {untold}; use `notify` or `exec`"))
    );
    // A connection starts the daemon without the kernel's help, and only the idle time needs it.
    let on_demand = with(with(raw("notify", "notify"), "start", text("onConnect")), "socket", text("manager"));
    assert_eq!(NONE.check(&held(on_demand.clone())), Ok(()));
    let refused = NONE.check(&held(with(on_demand, "idleTimeout", Raw::Number(1_000.0)))).unwrap_err();
    assert_eq!((refused.code(), refused.to_string()), (Code::Unsupported, format!("idleTimeout {untold}")));
}

#[test]
fn limits_oom_score_adj_is_refused_where_the_kernel_has_no_such_score() {
    let mut config = config("socket", "socket");
    config.limits.oom_score_adj = Some(100);
    let refused = NONE.check(&config).unwrap_err().to_string();
    assert_eq!(refused, "limits.oomScoreAdj is not supported by this system's kernel, which has no such score");
    assert_eq!(ALL.check(&config), Ok(()));
}

#[test]
fn the_probes_socket_and_listen_need_nothing_of_the_kernel() {
    assert_eq!(NONE.check(&config("socket", "socket")), Ok(()));
    // If the kernel can't tell who listens, a connection decides.
    assert_eq!(NONE.check(&config("listen", "listen")), Ok(()));
}
