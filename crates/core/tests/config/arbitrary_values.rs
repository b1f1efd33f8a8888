//! Configurations with arbitrary values in arbitrary fields. A refused configuration names a changed
//! field and leaves no file. An accepted one is within the limits of the system.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use ally_base::wire::OwnerDeath;
use ally_core::config::keys::{CONFIG, Key, Shape};
use ally_core::config::{Parsed, Raw, parse};
use ally_core::error::Code;
use ally_core::supervisor::{GuardianProgram, Manager, Options};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::support::{health, minimal, object, text, with};

/// Every field of [`whole`] and every field that it could have. Deeper fields first, so that a later field never hides an
/// earlier one.
static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut fields = vec!["typo".to_owned()];
    collect(CONFIG, &whole(Path::new("/")), "", &mut fields);
    fields.reverse();
    fields
});

fn collect(keys: &[Key], raw: &Raw, prefix: &str, fields: &mut Vec<String>) {
    let Raw::Object(entries) = raw else { return };
    for key in keys {
        let path = format!("{prefix}{}", key.name);
        fields.push(path.clone());
        match (key.shape, entries.iter().find(|(name, _)| name == key.name)) {
            (Shape::Object(below), Some((_, object))) => collect(below, object, &format!("{path}."), fields),
            (Shape::Map, _) => fields.push(format!("{path}.A")),
            _ => {}
        }
    }
}

/// A valid configuration with every object, so that only a changed field can be invalid.
fn whole(home: &Path) -> Raw {
    let path = |name: &str| text(home.join(name).to_str().unwrap());
    let probe = || object([("type", text("socket"))]);
    let window = object([("limit", Raw::Number(1.0)), ("period", Raw::Number(1.0))]);
    [
        ("pluginPath", path("plugin")),
        ("socketPath", path("socket")),
        ("healthcheck", with(health(), "probe", probe())),
        ("restart.window", window),
        ("readiness", probe()),
        ("envVars.A", text("b")),
    ]
    .into_iter()
    .fold(minimal(), |raw, (path, value)| with(raw, path, value))
}

fn number() -> impl Strategy<Value = f64> {
    let odd =
        [0.0, -0.0, 0.5, -1.0, 5e-324, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2_147_483_647.5, 4_294_967_296.0];
    prop_oneof![select(odd.to_vec()), any::<f64>(), (0..4_u32).prop_map(f64::from)]
}

/// A lone surrogate arrives as U+FFFD.
fn string() -> impl Strategy<Value = String> {
    let odd =
        ["", "\0", "/a\0b", "/", ".", "..", "a/b", "-rf", "\u{fffd}", "/\u{fffd}", "\u{1b}[2J\u{202e}", "A=b", "__proto__", "SIGSTOP"];
    let words = ["socket", "accept", "http", "linear", "failure", "group", "manager", "SIGKILL"];
    let long = (select(vec!["n", "é", "/s", "\u{1}"]), 1..3_000_usize).prop_map(|(part, times)| part.repeat(times));
    prop_oneof![2 => select(odd.to_vec()).prop_map(str::to_owned), 2 => select(words.to_vec()).prop_map(str::to_owned), 1 => any::<String>(), 1 => long]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![string(), select(FIELDS.clone()).prop_map(|path| path.rsplit('.').next().unwrap().to_owned())]
}

fn anything() -> impl Strategy<Value = Raw> {
    let leaf = prop_oneof![
        Just(Raw::Undefined),
        Just(Raw::Null),
        any::<bool>().prop_map(Raw::Bool),
        number().prop_map(Raw::Number),
        string().prop_map(Raw::String),
        select(vec!["a function", "a symbol", "a bigint", "a value nested too deep"]).prop_map(Raw::Other),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Raw::Array), vec((key(), inner), 0..4).prop_map(Raw::Object)]
    })
}

/// One to three fields with arbitrary values.
fn changed_fields() -> impl Strategy<Value = Vec<(String, Raw)>> {
    (subsequence(FIELDS.clone(), 1..=3), [anything(), anything(), anything()])
        .prop_map(|(fields, values)| fields.into_iter().zip(values).collect())
}

fn assert_within_limits(Parsed { config, .. }: &Parsed) {
    let variables = config.env_vars.iter().flat_map(|(key, value)| [Some(key), value.as_ref()]).flatten();
    let paths = [&config.plugin_path, &config.socket_path].map(|path| path.to_str().unwrap());
    let mut all = [&config.plugin_name, &config.command].into_iter().chain(&config.args).chain(variables);
    assert!(all.all(|string| !string.contains('\0')) && paths.iter().all(|path| path.starts_with('/') && !path.contains('\0')));
    assert!(config.plugin_name.len() <= 255 && paths[1].len() < 108);
    assert!(!config.plugin_name.contains('/') && !["", ".", ".."].contains(&config.plugin_name.as_str()));
    assert!(config.environment(&[]).iter().all(|(key, _)| !key.is_empty() && !key.contains('=')));
    let (plan, longest) = (config.plan(), Duration::from_millis(2_147_483_647));
    let health = config.health.as_ref().map(|health| [health.interval, health.timeout]);
    let times = [plan.startup_timeout, plan.grace, plan.restart.delay, plan.restart.max_delay, plan.restart.window.period];
    assert!(times.into_iter().chain(health.into_iter().flatten()).all(|time| time <= longest));
    assert!(plan.restart.factor >= 1.0 && plan.restart.factor.is_finite() && (0.0..=1.0).contains(&plan.restart.jitter));
}

/// True if `text` begins with `path`, or with a path below it.
fn names(text: &str, path: &str) -> bool {
    text.strip_prefix(path).is_some_and(|rest| rest.starts_with([' ', '.', '[']))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_value_in_a_field_is_refused_by_name_and_without_a_file_or_is_within_limits(changed in changed_fields()) {
        let home = tempfile::tempdir().unwrap();
        let raw = changed.iter().fold(whole(home.path()), |raw, (path, value)| with(raw, path, value.clone()));
        let parsed = parse(&raw);
        prop_assert_eq!(&parse(&raw), &parsed, "a second parse gives the same result");
        let failure = match parsed {
            Ok(parsed) => {
                assert_within_limits(&parsed);
                return Ok(());
            }
            Err(failure) => failure,
        };
        let text = failure.to_string();
        prop_assert_eq!(failure.code(), Code::InvalidConfig);
        prop_assert!(changed.iter().any(|(path, _)| names(&text, path)), "{}", text);
        prop_assert!(!failure.message("weather").contains(char::is_control), "{:?}", text);
        let options = Options { envs_dir: home.path().join("envs"), owner_death: OwnerDeath::Stop, guardian: GuardianProgram { path: "/nowhere".into(), version: "0", build: "0" } };
        let manager = Manager::new(options, Box::new(|| {}));
        prop_assert_eq!(manager.start(&raw, "".into()).map(|accepted| accepted.ticket), Err(failure));
        prop_assert!(manager.names().is_empty() && !manager.is_pending());
        prop_assert_eq!(std::fs::read_dir(home.path())?.count(), 0);
    }

    #[test]
    fn arbitrary_value_as_configuration_is_refused(raw in anything()) {
        let text = parse(&raw).unwrap_err().to_string();
        let required = ["config", "pluginName", "pluginPath", "command", "args", "socketPath", "startupTimeout", "shutdownGracePeriod"];
        prop_assert!(required.iter().any(|field| names(&text, field)), "{}", text);
    }
}
