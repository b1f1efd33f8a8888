//! Each field of the configuration: refused values, allowed values, default.

use ally_base::stop::StopSignalTo;
use ally_core::config::keys::{CONFIG, HEALTHCHECK, Key, LOGS, RESTART, WINDOW};
use ally_core::config::{Health, InheritEnv, KillMode, Limits, LogConfig, Probe, ProcessConfig, Raw, SocketMaker, StartMode, parse};
use ally_core::error::Code;
use ally_core::error::Failure;
use ally_core::lifecycle::{Backoff, ExitCodes, RestartOn, RestartPlan, Window};
use std::path::Path;
use std::time::Duration;

use crate::support::{array, health, minimal, object, text, with};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn checked(raw: &Raw) -> ProcessConfig {
    parse(raw).unwrap().config
}

// Refused values.

#[test]
fn invalid_field_is_the_first_word_of_the_error() {
    use Raw::{Bool, Null, Number, Other, Undefined};
    let long = |length: usize| format!("/{}", "s".repeat(length - 1));
    let most = if cfg!(target_os = "macos") { 98 } else { 102 };
    let table: Vec<(&str, Raw)> = vec![
        ("pluginName", Undefined),
        ("pluginName", Null),
        ("pluginName", Number(1.0)),
        ("pluginName", text("")),
        ("pluginName", text(".")),
        ("pluginName", text("..")),
        ("pluginName", text("a/b")),
        ("pluginName", text("a\0b")),
        ("pluginName", text("n".repeat(256))),
        // 128 characters of two bytes.
        ("pluginName", text("é".repeat(128))),
        ("pluginPath", Undefined),
        ("pluginPath", text("")),
        ("pluginPath", text("plugins/weather")),
        ("pluginPath", text("/plugins\0/weather")),
        ("pluginPath", array([text("/plugins")])),
        ("command", Undefined),
        ("command", text("")),
        ("command", text("pyth\0n")),
        ("command", object([])),
        ("args", Undefined),
        ("args", Null),
        ("args", text("daemon.py")),
        ("args", object([("0", text("daemon.py"))])),
        ("args[0]", array([Undefined])),
        ("args[0]", array([Bool(true)])),
        ("args[0]", array([Null])),
        ("args[0]", array([text("a\0")])),
        ("socketPath", Undefined),
        ("socketPath", text("weather.sock")),
        ("socketPath", text("/run/\0")),
        ("socketPath", text(long(most + 1))),
        ("socketPath", text(format!("/{}", "é".repeat(most / 2 + 1)))),
        ("startupTimeout", Undefined),
        ("startupTimeout", Null),
        ("startupTimeout", text("30000")),
        ("startupTimeout", Number(0.0)),
        ("startupTimeout", Number(0.9)),
        ("startupTimeout", Number(-1.0)),
        ("startupTimeout", Number(f64::NAN)),
        ("startupTimeout", Number(f64::INFINITY)),
        ("shutdownGracePeriod", Undefined),
        ("shutdownGracePeriod", Null),
        ("shutdownGracePeriod", Number(-0.1)),
        ("shutdownGracePeriod", Number(f64::NAN)),
        ("shutdownGracePeriod", Number(f64::NEG_INFINITY)),
        ("envVars", text("A=b")),
        ("envVars", array([text("A=b")])),
        ("envVars.A", Null),
        ("envVars.A", text("a\0b")),
        ("envVars.A=B", text("c")),
        ("envVars.A\0B", text("c")),
        ("envVars.", text("c")),
        ("inheritEnv", text("PATH")),
        ("inheritEnv", object([])),
        ("inheritEnv[0]", array([text("")])),
        ("inheritEnv[1]", array([text("A"), text("A=b")])),
        ("inheritEnv[0]", array([text("A\0")])),
        ("inheritEnv[0]", array([Number(1.0)])),
        ("healthcheck", Bool(true)),
        ("healthcheck.interval", Number(0.5)),
        ("healthcheck.interval", Number(f64::NAN)),
        ("healthcheck.timeout", Number(f64::INFINITY)),
        ("healthcheck.retries", Number(-1.0)),
        ("healthcheck.retries", Number(0.5)),
        ("healthcheck.timeout", Number(0.0)),
        ("healthcheck.retries", Number(1.5)),
        ("healthcheck.retries", Number(f64::INFINITY)),
        ("healthcheck.probe", text("socket")),
        ("healthcheck.probe.type", Undefined),
        ("healthcheck.probe.type", text("output")),
        ("restart", array([])),
        ("restart.maxAttempts", Number(-1.0)),
        ("restart.maxAttempts", Number(2.5)),
        ("restart.delay", Number(-1.0)),
        ("restart.delay", text("5s")),
        ("restart.backoff", text("fibonacci")),
        ("restart.factor", Number(f64::NAN)),
        ("restart.factor", Number(-2.0)),
        ("restart.maxDelay", Number(f64::INFINITY)),
        ("restart.jitter", Number(1.1)),
        ("restart.jitter", Number(-0.1)),
        ("restart.window.limit", Number(0.0)),
        ("restart.window.period", Number(0.0)),
        ("restart.on", text("success")),
        ("restart.resetAfter", Number(-1.0)),
        ("restart.resetAfter", text("1m")),
        ("restart.preventExitCodes", Number(78.0)),
        ("readiness", text("socket")),
        ("readiness.type", Undefined),
        ("readiness.type", text("https")),
        ("socket", text("nobody")),
        ("socket", text("both")),
        ("killMode", text("process")),
        ("killMode", Bool(false)),
        ("stopSignal", text("SIGNOTHING")),
        ("stopSignal", text("SIGSTOP")),
        ("stopSignal", text("SIGCONT")),
        ("stopSignal", text("SIGCHLD")),
        ("stopSignal", text("SIGWINCH")),
        ("stopSignal", text("15")),
        ("stopSignal", Number(15.0)),
        ("stopSignalTo", text("group")),
        ("stopSignalTo", Bool(true)),
        ("logs", text("/tmp/log")),
        ("logs.file", text("relative.log")),
        ("logs.file", text("")),
        ("logs.file", text("/tmp/folder/")),
        ("logs.file", text("/tmp/..")),
        ("logs.file", text("/tmp/a\0b")),
        ("logs.file", text(format!("/tmp/{}", "n".repeat(241)))),
        ("logs.file", text("/run/weather.sock")),
        ("logs.maxSize", Number(1023.0)),
        ("logs.maxSize", Number(2000.5)),
        ("logs.maxSize", Number(f64::NAN)),
        ("logs.maxSize", text("10M")),
        ("logs.maxFiles", Number(0.0)),
        ("logs.maxFiles", Number(1.5)),
        ("logs.compress", text("gzip")),
        ("group", text("")),
        ("group", Number(7.0)),
        ("dependsOn", text("db")),
        ("dependsOn[0]", array([text("")])),
        ("dependsOn[1]", array([text("db"), Number(7.0)])),
        ("dependsOn[0]", array([text("..")])),
        ("pluginName", Other("a function")),
    ];
    for (field, value) in table {
        let path = field.split('[').next().unwrap();
        let nested = [("healthcheck.", health()), ("restart.window.", object([("limit", Number(1.0)), ("period", Number(1.0))]))];
        let raw = nested
            .into_iter()
            .find(|(prefix, _)| path.starts_with(prefix))
            .map_or_else(minimal, |(prefix, good)| with(minimal(), prefix.trim_end_matches('.'), good));
        let raw = with(raw, path, value.clone());
        let failure = parse(&raw).expect_err(&format!("{field}: {value:?}"));
        assert_eq!(failure.code(), Code::InvalidConfig);
        // The error leaves out the text behind '=' in a name, because it may be a value.
        let shown = field.replace('\0', "");
        let shown = shown.split('=').next().unwrap();
        let text = failure.to_string();
        assert!(text.starts_with(&format!("{shown} ")), "{field} = {value:?} gives: {text}");
        let problem = text[shown.len()..].trim();
        assert!(problem.starts_with("must ") || problem.starts_with("is required") || problem.contains("not supported"), "{text}");
        let message = failure.message("weather");
        assert_eq!(message, format!("Invalid configuration for background process 'weather': {text}"));
    }
}

#[test]
fn every_listed_key_is_checked_and_an_unbuilt_key_is_not_supported_yet() {
    let base = with(
        with(minimal(), "healthcheck", health()),
        "restart.window",
        object([("limit", Raw::Number(1.0)), ("period", Raw::Number(1.0))]),
    );
    let lists: [(&str, &[Key]); 5] =
        [("", CONFIG), ("healthcheck.", HEALTHCHECK), ("restart.", RESTART), ("restart.window.", WINDOW), ("logs.", LOGS)];
    for (prefix, keys) in lists {
        for Key { name, built, .. } in keys {
            let field = format!("{prefix}{name}");
            // Every key refuses a function.
            let text = parse(&with(base.clone(), &field, Raw::Other("a function"))).expect_err(&field).to_string();
            assert!(text.starts_with(&format!("{field} ")), "{text}");
            assert!(*built || text == format!("{field} is not supported yet"), "{text}");
        }
    }
}

#[test]
fn null_counts_as_absent_in_each_optional_field() {
    let required = ["pluginName", "pluginPath", "command", "args", "socketPath", "startupTimeout", "shutdownGracePeriod"];
    let absent = checked(&minimal());
    for Key { name, .. } in CONFIG {
        let parsed = parse(&with(minimal(), name, Raw::Null));
        if required.contains(name) {
            let text = parsed.expect_err(name).to_string();
            assert!(text.starts_with(&format!("{name} must be ")) && text.ends_with("got null"), "{text}");
        } else {
            assert_eq!(parsed.unwrap().config, absent, "{name}");
        }
    }
    for (object_key, keys) in [("healthcheck", HEALTHCHECK), ("restart", RESTART)] {
        let absent = checked(&with(minimal(), object_key, object([])));
        for Key { name, .. } in keys {
            assert_eq!(checked(&with(minimal(), &format!("{object_key}.{name}"), Raw::Null)), absent, "{object_key}.{name}");
        }
    }
}

#[test]
fn healthcheck_is_completed_with_the_defaults_of_the_specification() {
    let whole = Health { interval: ms(30_000), timeout: ms(5_000), retries: 3, probe: Probe::Socket };
    let given = |field: &str, value: f64| checked(&with(minimal(), &format!("healthcheck.{field}"), Raw::Number(value))).health.unwrap();
    assert_eq!(checked(&with(minimal(), "healthcheck", object([]))).health, Some(whole.clone()));
    assert_eq!(given("interval", 7.0), Health { interval: ms(7), ..whole.clone() });
    assert_eq!(given("timeout", 7.0), Health { timeout: ms(7), ..whole.clone() });
    assert_eq!(given("retries", 7.0), Health { retries: 7, ..whole.clone() });
    assert_eq!(given("retries", 0.0), Health { retries: 1, ..whole });
}

#[test]
fn duration_above_the_longest_timer_is_the_longest_timer() {
    let longest = ms(2_147_483_647);
    for value in [2_147_483_647.0, 2_147_483_647.5, 2_147_483_648.0, 1e300, f64::MAX] {
        let fields =
            ["startupTimeout", "shutdownGracePeriod", "healthcheck.interval", "healthcheck.timeout", "restart.delay", "restart.maxDelay"];
        let raw = fields.into_iter().fold(minimal(), |raw, field| with(raw, field, Raw::Number(value)));
        let config = checked(&with(raw, "restart.window", object([("limit", Raw::Number(1.0)), ("period", Raw::Number(value))])));
        let health = config.health.unwrap();
        let times = [config.startup_timeout, config.shutdown_grace_period, health.interval, health.timeout];
        assert_eq!(times, [longest; 4], "{value}");
        assert_eq!([config.restart.delay, config.restart.max_delay, config.restart.window.period], [longest; 3], "{value}");
    }
}

#[test]
fn numbers_in_args_and_numbers_and_booleans_in_env_vars_are_taken_as_their_text() {
    let numbers = [
        (7.0, "7"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (-8080.0, "-8080"),
        (0.1, "0.1"),
        (123_456_789_012_345_680_000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (-1.5e300, "-1.5e+300"),
        (1e-6, "0.000001"),
        (1.25e-7, "1.25e-7"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (number, string) in numbers {
        let config = checked(&with(with(minimal(), "args", array([Raw::Number(number)])), "envVars.A", Raw::Number(number)));
        assert_eq!(config.args, [string]);
        assert_eq!(config.env_vars, [("A".to_owned(), Some(string.to_owned()))]);
    }
    let flags = object([("YES", Raw::Bool(true)), ("NO", Raw::Bool(false))]);
    let wanted = [("YES", "true"), ("NO", "false")].map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
    assert_eq!(checked(&with(minimal(), "envVars", flags)).env_vars, wanted);
}

#[test]
fn map_instead_of_an_object_is_refused_as_not_plain_data() {
    let map = || Raw::BuiltIn("a Map".to_owned());
    assert_eq!(parse(&map()).unwrap_err().to_string(), "config must be plain data, got a Map");
    for field in ["envVars", "healthcheck", "restart", "restart.window", "readiness"] {
        let base = if field == "restart.window" { with(minimal(), "restart", object([])) } else { minimal() };
        assert_eq!(parse(&with(base, field, map())).unwrap_err().to_string(), format!("{field} must be plain data, got a Map"));
    }
    assert_eq!(parse(&with(minimal(), "command", map())).unwrap_err().to_string(), "command must be a string, got an object");
}

#[test]
fn config_that_is_not_an_object_is_refused() {
    for raw in [Raw::Undefined, Raw::Null, text("x"), array([]), Raw::Other("a function")] {
        let failure = parse(&raw).unwrap_err();
        assert!(failure.to_string().starts_with("config must be an object, got "), "{failure}");
    }
}

#[test]
fn error_names_the_first_invalid_field() {
    let raw = with(with(minimal(), "stopSignal", text("SIGSTOP")), "command", Raw::Null);
    assert!(parse(&raw).unwrap_err().to_string().starts_with("command "));
}

#[test]
fn values_at_the_bounds_are_allowed() {
    let most = if cfg!(target_os = "macos") { 98 } else { 102 };
    let edges = [
        ("pluginName", text("n".repeat(255))),
        ("pluginName", text("é".repeat(127))),
        ("pluginName", text("...")),
        ("pluginName", text("-rf *")),
        ("socketPath", text(format!("/{}", "s".repeat(most - 1)))),
        ("startupTimeout", Raw::Number(1.0)),
        ("startupTimeout", Raw::Number(2_147_483_647.0)),
        ("startupTimeout", Raw::Number(1.5)),
        ("shutdownGracePeriod", Raw::Number(0.0)),
        ("args", array([])),
        ("args", array([text("")])),
        ("envVars", object([])),
        ("restart.maxAttempts", Raw::Number(0.0)),
        ("restart.jitter", Raw::Number(1.0)),
        ("restart.delay", Raw::Number(0.0)),
        ("stopSignal", text("SIGKILL")),
        ("socket", text("daemon")),
        ("socket", text("manager")),
    ];
    for (path, value) in edges {
        parse(&with(minimal(), path, value.clone())).unwrap_or_else(|failure| panic!("{path}: {value:?}: {failure}"));
    }
}

// Defaults and allowed values.

#[test]
fn defaults_are_those_of_the_contract() {
    let expected = ProcessConfig {
        plugin_name: "weather".to_owned(),
        plugin_path: "/plugins/weather".into(),
        command: "python3".to_owned(),
        args: vec!["daemon.py".to_owned()],
        socket_path: "/run/weather.sock".into(),
        socket: SocketMaker::Daemon,
        start: StartMode::Eager,
        idle_timeout: None,
        startup_timeout: ms(30_000),
        shutdown_grace_period: ms(5_000),
        env_vars: Vec::new(),
        inherit_env: InheritEnv::All,
        health: None,
        restart: RestartPlan {
            max_attempts: 3,
            delay: ms(5_000),
            backoff: Backoff::Exponential,
            factor: 2.0,
            max_delay: ms(60_000),
            jitter: 0.1,
            window: Window { limit: 10, period: ms(300_000) },
            on: RestartOn::Always,
            reset_after: Duration::ZERO,
            prevented_by: ExitCodes::default(),
        },
        readiness: Probe::Listen,
        kill_mode: KillMode::Tree,
        stop_signal_to: StopSignalTo::Leader,
        stop_signal: libc::SIGTERM,
        group: None,
        depends_on: Vec::new(),
        limits: Limits::default(),
        umask: None,
        logs: None,
        shared: None,
    };
    assert_eq!(checked(&minimal()), expected);
    // An empty object and an `undefined` property mean the default.
    assert_eq!(checked(&with(minimal(), "restart", object([]))), expected);
    // Without a file the output is kept in memory alone.
    assert_eq!(checked(&with(minimal(), "logs", object([("maxFiles", Raw::Number(2.0))]))), expected);
    let optional = [
        "envVars",
        "healthcheck",
        "restart",
        "readiness",
        "socket",
        "killMode",
        "stopSignal",
        "stopSignalTo",
        "logs",
        "limits",
        "group",
        "dependsOn",
    ];
    let undefined = optional.into_iter().fold(minimal(), |raw, field| with(raw, field, Raw::Undefined));
    let parsed = parse(&undefined).unwrap();
    assert_eq!((parsed.config, parsed.unknown), (expected, Vec::new()));
    let probe = checked(&with(minimal(), "healthcheck", health())).health.unwrap();
    assert_eq!(probe, Health { interval: ms(1_000), timeout: ms(500), retries: 3, probe: Probe::Socket });
}

#[test]
fn logs_have_defaults_and_every_field_of_them_reaches_the_configuration() {
    let file = || ("file", text("/var/log/weather.log"));
    let logs = |fields: Vec<(&str, Raw)>| {
        let raw = fields.into_iter().fold(minimal(), |raw, (key, value)| with(raw, &format!("logs.{key}"), value));
        checked(&raw).logs.unwrap()
    };
    let config = |max_size, max_files, compress| LogConfig { file: "/var/log/weather.log".into(), max_size, max_files, compress };
    assert_eq!(logs(vec![file()]), config(10 << 20, 5, false));
    let given = vec![file(), ("maxSize", Raw::Number(1024.0)), ("maxFiles", Raw::Number(1.0)), ("compress", Raw::Bool(true))];
    assert_eq!(logs(given), config(1024, 1, true));
}

#[test]
fn log_files_collide_if_one_would_rename_the_other() {
    let logs = |file: &str| checked(&with(minimal(), "logs.file", text(file))).logs.unwrap();
    let own = logs("/var/log/a.log");
    for (other, collides) in [
        ("/var/log/a.log", true),
        ("/var/log/./a.log", true),
        ("/var/log/a.log.1", true),
        ("/var/log/a.log.12.gz", true),
        ("/var/log/a.log.old", false),
        ("/var/log/a.log.", false),
        ("/var/log/b.log", false),
        ("/var/a.log", false),
    ] {
        assert_eq!((own.collides(&logs(other)), logs(other).collides(&own)), (collides, collides), "{other}");
    }
}

#[test]
fn every_field_reaches_the_configuration_and_the_plan() {
    let accept = || object([("type", text("accept"))]);
    let fields = [
        ("healthcheck", with(health(), "probe", accept())),
        ("restart.maxAttempts", Raw::Number(7.0)),
        ("restart.delay", Raw::Number(1.5)),
        ("restart.backoff", text("linear")),
        ("restart.factor", Raw::Number(3.5)),
        ("restart.maxDelay", Raw::Number(90.0)),
        ("restart.jitter", Raw::Number(0.0)),
        ("restart.window", object([("limit", Raw::Number(4.0)), ("period", Raw::Number(9.0))])),
        ("restart.on", text("failure")),
        ("restart.resetAfter", Raw::Number(60_000.0)),
        ("restart.preventExitCodes", array([Raw::Number(0.0), Raw::Number(78.0), Raw::Number(255.0)])),
        ("readiness", accept()),
        ("killMode", text("group")),
        ("stopSignal", text("SIGINT")),
        ("stopSignalTo", text("tree")),
        ("envVars", object([("A", text("b")), ("C", Raw::Undefined)])),
        ("inheritEnv", array([text("SSH_AUTH_SOCK")])),
        ("group", text("search")),
        ("dependsOn", array([text("db"), text("cache"), text("db")])),
    ];
    let config = checked(&fields.into_iter().fold(minimal(), |raw, (path, value)| with(raw, path, value)));
    assert_eq!(config.health.as_ref().map(|health| health.probe.clone()), Some(Probe::Accept));
    let restart = RestartPlan {
        max_attempts: 7,
        delay: Duration::from_micros(1_500),
        backoff: Backoff::Linear,
        factor: 3.5,
        max_delay: ms(90),
        jitter: 0.0,
        window: Window { limit: 4, period: ms(9) },
        on: RestartOn::Failure,
        reset_after: ms(60_000),
        prevented_by: [0, 78, 255].into_iter().collect(),
    };
    assert_eq!(config.restart, restart);
    assert_eq!((config.readiness.clone(), config.kill_mode, config.stop_signal), (Probe::Accept, KillMode::Group, libc::SIGINT));
    assert_eq!(config.stop_signal_to, StopSignalTo::Tree);
    assert_eq!((config.group.as_deref(), config.depends_on.join(" ").as_str()), (Some("search"), "db cache"));
    assert_eq!(config.env_vars, [("A".to_owned(), Some("b".to_owned())), ("C".to_owned(), None)]);
    assert_eq!(config.inherit_env, InheritEnv::Listed(vec!["SSH_AUTH_SOCK".to_owned()]));
    let plan = config.plan();
    assert_eq!((plan.socket_path.as_str(), plan.startup_timeout, plan.grace), ("/run/weather.sock", ms(30_000), ms(5_000)));
    assert_eq!((plan.health, plan.restart), (Some((ms(1_000), 3)), restart));
    assert_eq!(config.socket_path, Path::new("/run/weather.sock"));
}

#[test]
fn unknown_key_is_ignored_and_reported_with_its_path() {
    let paths = ["typo", "healthcheck.retrys", "healthcheck.probe.path", "restart.window.size", "restart.jiter", "readiness.port"];
    let good =
        with(with(with(minimal(), "healthcheck", health()), "healthcheck.probe.type", text("socket")), "readiness.type", text("socket"));
    let good = with(good, "restart.window", object([("limit", Raw::Number(1.0)), ("period", Raw::Number(1.0))]));
    let parsed = parse(&paths.into_iter().fold(good.clone(), |raw, path| with(raw, path, Raw::Null))).unwrap();
    let mut unknown = parsed.unknown;
    unknown.sort_unstable();
    let mut expected = paths;
    expected.sort_unstable();
    assert_eq!(unknown, expected);
    assert_eq!(parsed.config, checked(&good), "unknown keys change nothing");
}

#[test]
fn prevent_exit_codes_name_the_index_of_the_wrong_code() {
    for (codes, index) in [
        (vec![Raw::Number(256.0)], 0),
        (vec![Raw::Number(1.0), Raw::Number(-1.0)], 1),
        (vec![Raw::Number(1.5)], 0),
        (vec![Raw::Number(f64::NAN)], 0),
        (vec![text("78")], 0),
    ] {
        let raw = with(minimal(), "restart.preventExitCodes", Raw::Array(codes));
        let Err(Failure::InvalidConfig { field, problem }) = parse(&raw) else { panic!("accepted") };
        assert_eq!(field, format!("restart.preventExitCodes[{index}]"), "{problem}");
    }
}
