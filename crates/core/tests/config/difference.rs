//! The fields in which two configurations of a shared plugin differ.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ally_core::config::keys::{CONFIG, paths};
use ally_core::config::{ProcessConfig, Raw, difference, parse};

use crate::support::{array, health, minimal, object, text, with};

fn config(raw: &Raw) -> ProcessConfig {
    parse(raw).unwrap_or_else(|failure| panic!("{failure}")).config
}

fn differing(one: &Raw, other: &Raw) -> Vec<String> {
    let (one, other) = (config(one), config(other));
    let found = difference(&one, &other, &Path::to_path_buf);
    assert_eq!(difference(&other, &one, &Path::to_path_buf), found, "in the other direction");
    found
}

fn number(number: f64) -> Raw {
    Raw::Number(number)
}

fn probe<const N: usize>(kind: &str, fields: [(&str, Raw); N]) -> Raw {
    let mut raw = object([("type", text(kind))]);
    for (field, value) in fields {
        raw = with(raw, field, value);
    }
    raw
}

fn shared() -> Raw {
    with(minimal(), "shared", Raw::Bool(true))
}

/// What is set first, and for each field another value of it.
type Case = (&'static str, Raw, Raw);

/// Each compared field, with two values.
fn cases() -> Vec<Case> {
    vec![
        ("pluginName", text("weather"), text("weather2")),
        ("pluginPath", text("/plugins/weather"), text("/plugins/other")),
        ("command", text("python3"), text("/usr/bin/python3")),
        ("args[1]", array([text("a"), text("b")]), array([text("a"), text("c")])),
        ("socketPath", text("/run/weather.sock"), text("/run/other.sock")),
        ("shutdownGracePeriod", number(5_000.0), number(5_001.0)),
        ("envVars.API_URL", object([("API_URL", text("https://secret"))]), object([("API_URL", text("https://other"))])),
        ("inheritEnv", Raw::Bool(false), Raw::Bool(true)),
        ("inheritEnv", array([text("A")]), array([text("B")])),
        ("healthcheck", Raw::Undefined, health()),
        ("healthcheck.interval", health(), with(health(), "interval", number(2_000.0))),
        ("healthcheck.timeout", health(), with(health(), "timeout", number(400.0))),
        ("healthcheck.retries", health(), with(health(), "retries", number(4.0))),
        ("healthcheck.probe.type", health(), with(health(), "probe", probe("notify", []))),
        ("restart.maxAttempts", Raw::Undefined, object([("maxAttempts", number(4.0))])),
        ("restart.delay", Raw::Undefined, object([("delay", number(1.0))])),
        ("restart.backoff", Raw::Undefined, object([("backoff", text("linear"))])),
        ("restart.factor", Raw::Undefined, object([("factor", number(3.0))])),
        ("restart.maxDelay", Raw::Undefined, object([("maxDelay", number(1.0))])),
        ("restart.jitter", Raw::Undefined, object([("jitter", number(0.0))])),
        ("restart.window.limit", window(1.0, 1_000.0), window(2.0, 1_000.0)),
        ("restart.window.period", window(1.0, 1_000.0), window(1.0, 2_000.0)),
        ("restart.on", Raw::Undefined, object([("on", text("failure"))])),
        ("restart.resetAfter", Raw::Undefined, object([("resetAfter", number(1.0))])),
        ("restart.preventExitCodes", Raw::Undefined, object([("preventExitCodes", array([number(3.0)]))])),
        ("readiness.type", Raw::Undefined, probe("accept", [])),
        ("readiness.path", probe("http", []), probe("http", [("path", text("/ready"))])),
        ("readiness.status", probe("http", []), probe("http", [("status", number(204.0))])),
        ("readiness.port", probe("http", []), probe("http", [("port", number(80.0))])),
        ("readiness.port", probe("tcp", [("port", number(80.0))]), probe("tcp", [("port", number(81.0))])),
        ("readiness.host", probe("tcp", [("port", number(80.0))]), probe("tcp", [("port", number(80.0)), ("host", text("::1"))])),
        ("readiness.command", exec("a", []), exec("b", [])),
        ("readiness.args[0]", exec("a", []), exec("a", [text("x")])),
        ("readiness.pattern", output([]), output([("pattern", text("up"))])),
        ("readiness.stream", output([]), output([("stream", text("stderr"))])),
        ("socket", Raw::Undefined, text("manager")),
        ("killMode", Raw::Undefined, text("group")),
        ("stopSignal", Raw::Undefined, text("SIGINT")),
        ("stopSignalTo", Raw::Undefined, text("tree")),
        ("limits.maxMemory", Raw::Undefined, object([("maxMemory", number(1e6))])),
        ("limits.sustain", object([("maxMemory", number(1e6))]), object([("maxMemory", number(1e6)), ("sustain", number(1.0))])),
        ("limits.openFiles", Raw::Undefined, object([("openFiles", number(64.0))])),
        ("limits.coreDumps", Raw::Undefined, object([("coreDumps", Raw::Bool(false))])),
        ("limits.niceness", Raw::Undefined, object([("niceness", number(5.0))])),
        ("limits.oomScoreAdj", Raw::Undefined, object([("oomScoreAdj", number(5.0))])),
        ("umask", Raw::Undefined, number(63.0)),
        ("logs", Raw::Undefined, logs([])),
        ("logs.file", logs([]), logs([("file", text("/logs/b.log"))])),
        ("logs.maxSize", logs([]), logs([("maxSize", number(4_096.0))])),
        ("logs.maxFiles", logs([]), logs([("maxFiles", number(2.0))])),
        ("logs.compress", logs([]), logs([("compress", Raw::Bool(true))])),
        ("shared", Raw::Bool(true), Raw::Bool(false)),
    ]
}

fn window(limit: f64, period: f64) -> Raw {
    object([("window", object([("limit", number(limit)), ("period", number(period))]))])
}

fn exec<const N: usize>(command: &str, args: [Raw; N]) -> Raw {
    probe("exec", [("command", text(command)), ("args", array(args))])
}

fn output<const N: usize>(fields: [(&str, Raw); N]) -> Raw {
    let mut raw = probe("output", [("pattern", text("ready"))]);
    for (field, value) in fields {
        raw = with(raw, field, value);
    }
    raw
}

fn logs<const N: usize>(fields: [(&str, Raw); N]) -> Raw {
    let mut raw = object([("file", text("/logs/a.log"))]);
    for (field, value) in fields {
        raw = with(raw, field, value);
    }
    raw
}

/// The top key of a path.
fn top(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap()
}

/// What `socket: 'manager'` and `start: 'onConnect'` add to the base of the two fields that need them.
fn on_demand() -> Raw {
    with(with(shared(), "socket", text("manager")), "start", text("onConnect"))
}

#[test]
fn shared_differences_name_the_field_of_each_option_and_nothing_else() {
    for (path, one, other) in cases() {
        // `shared` decides the default of inheritEnv.
        let base = if path == "shared" { with(minimal(), "inheritEnv", Raw::Bool(true)) } else { shared() };
        let (one, other) = (with(base.clone(), top(path), one), with(base, top(path), other));
        let found = differing(&one, &other);
        // The default of readiness and of health checks depends on `socket`.
        let expected: &[&str] = if path == "socket" { &["socket", "readiness.type"] } else { &[path] };
        assert_eq!(found, expected);
        assert_eq!(differing(&one, &one), [""; 0], "{path}");
    }
    let eager = with(with(on_demand(), "start", text("eager")), "idleTimeout", Raw::Undefined);
    assert_eq!(differing(&eager, &on_demand()), ["start"]);
    assert_eq!(differing(&on_demand(), &with(on_demand(), "idleTimeout", number(1_000.0))), ["idleTimeout"]);
}

#[test]
fn shared_differences_leave_out_what_is_the_sessions_own() {
    let base = with(minimal(), "shared", object([]));
    for (path, value) in own() {
        assert_eq!(differing(&base, &with(base.clone(), path, value)), [""; 0], "{path}");
    }
}

fn own() -> Vec<(&'static str, Raw)> {
    vec![("startupTimeout", number(1.0)), ("group", text("tools")), ("dependsOn", array([text("db")])), ("shared.linger", number(60_000.0))]
}

/// A new key of the configuration must be listed above.
#[test]
fn shared_differences_are_tested_for_each_key_of_a_configuration() {
    let tested: BTreeSet<String> = cases()
        .iter()
        .map(|(path, ..)| path.to_string())
        .chain(own().iter().map(|(path, _)| path.to_string()))
        .chain(["start".to_owned(), "idleTimeout".to_owned()])
        .collect();
    let covers = |key: &str| {
        let key = key.trim_end_matches("[]").trim_end_matches(".*");
        tested.iter().any(|path| path == key || path.strip_prefix(key).is_some_and(|rest| rest.starts_with(['[', '.'])))
    };
    // The probe of a health check is compared as that of the readiness.
    let untested: Vec<String> = paths(CONFIG).into_iter().filter(|key| !key.starts_with("healthcheck.probe.") && !covers(key)).collect();
    assert_eq!(untested, [""; 0]);
}

#[test]
fn shared_differences_ignore_the_order_of_keys_and_absent_equals_the_default() {
    let variables = |entries: [(&str, Raw); 2]| with(shared(), "envVars", object(entries));
    assert_eq!(differing(&variables([("A", text("1")), ("B", text("2"))]), &variables([("B", text("2")), ("A", text("1"))])), [""; 0]);
    let names = |names: [Raw; 2]| with(shared(), "inheritEnv", array(names));
    assert_eq!(differing(&names([text("A"), text("B")]), &names([text("B"), text("A")])), [""; 0]);
    let spelled = with(
        with(with(shared(), "restart.delay", number(5_000.0)), "readiness", probe("listen", [])),
        "limits",
        object([("sustain", number(1.0))]),
    );
    assert_eq!(differing(&shared(), &spelled), [""; 0]);
    assert_eq!(differing(&shared(), &with(shared(), "inheritEnv", Raw::Bool(false))), [""; 0]);
}

#[test]
fn shared_differences_list_every_argument_and_variable_that_differs() {
    let of = |args: Raw, variables: Raw| with(with(shared(), "args", args), "envVars", variables);
    let one = of(array([text("a"), text("b"), text("c")]), object([("A", text("1")), ("GONE", text("x")), ("SAME", text("s"))]));
    let other = of(array([text("a"), text("x")]), object([("A", Raw::Undefined), ("SAME", text("s"))]));
    assert_eq!(differing(&one, &other), ["args[1]", "args[2]", "envVars.A", "envVars.GONE"]);
    // Undefined removes an inherited variable; a variable that is not named is inherited.
    assert_eq!(differing(&shared(), &with(shared(), "envVars.A", Raw::Undefined)), ["envVars.A"]);
}

#[test]
fn shared_differences_compare_a_path_by_its_real_folder_and_its_own_name() {
    let real = |path: &Path| match path.strip_prefix("/link") {
        Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from("/real"),
        Ok(rest) => Path::new("/real").join(rest),
        Err(_) => path.to_owned(),
    };
    let found = |path: &str, one: Raw, other: Raw| {
        let (one, other) = (config(&with(shared(), path, one)), config(&with(shared(), path, other)));
        difference(&one, &other, &real)
    };
    let folder = |folder: &str, name: &str| text(format!("{folder}/{name}"));
    for (path, field) in [("pluginPath", "pluginPath"), ("command", "command"), ("socketPath", "socketPath"), ("logs.file", "logs.file")] {
        assert_eq!(found(path, folder("/link", "x"), folder("/real", "x")), [""; 0], "{path}");
        assert_eq!(found(path, folder("/link", "x"), folder("/real", "y")), [field]);
    }
    // The last component is not resolved: it may be a link by intent.
    assert_eq!(found("command", text("/link"), text("/real")), ["command"]);
    assert_eq!(found("command", text("link/x"), text("real/x")), ["command"]);
    assert_eq!(found("readiness", exec("/link/x", []), exec("/real/x", [])), [""; 0]);
}

#[test]
fn shared_differences_have_no_values() {
    for (path, one, other) in cases() {
        let text = differing(&with(shared(), top(path), one), &with(shared(), top(path), other)).join(" ");
        assert!(!text.contains("secret") && !text.contains("https"), "{text}");
    }
}
