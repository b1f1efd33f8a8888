//! Configurations with arbitrary values in arbitrary fields. A refused configuration names a changed field. An
//! accepted one is within the limits of the system.

#![no_main]

use std::sync::LazyLock;

use ally_core::config::keys::{CONFIG, paths};
use ally_core::config::{Parsed, Raw, parse};
use ally_core::error::Code;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Every value that a configuration can have, every object around one, and an unknown key.
static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let values: Vec<String> = paths(CONFIG).iter().map(|path| path.trim_end_matches("[]").replace('*', "A")).collect();
    let objects = values.iter().flat_map(|path| path.match_indices('.').map(|(end, _)| path[..end].to_owned()));
    let mut fields: Vec<String> = objects.chain(["typo".to_owned()]).chain(values.iter().cloned()).collect();
    fields.sort_unstable();
    fields.dedup();
    fields
});

const WORDS: [&str; 12] =
    ["socket", "accept", "exec", "linear", "always", "daemon", "manager", "tree", "group", "SIGINT", "SIGSTOP", "\u{fffd}"];

fn text(u: &mut Unstructured) -> Result<String> {
    Ok(match u.int_in_range(0..=3)? {
        0 => (*u.choose(&WORDS)?).to_owned(),
        1 => format!("/{}", u.arbitrary::<&str>()?),
        2 => u.arbitrary::<&str>()?.repeat(u.int_in_range(0..=300)?),
        _ => u.arbitrary()?,
    })
}

fn value(u: &mut Unstructured, depth: u32) -> Result<Raw> {
    Ok(match u.int_in_range(0..=if depth < 5 { 9 } else { 7 })? {
        0 => Raw::Undefined,
        1 => Raw::Null,
        2 => Raw::Bool(u.arbitrary()?),
        3 => Raw::Number(u.arbitrary()?),
        4 => Raw::Number(u.arbitrary::<i16>()?.into()),
        5 | 6 => Raw::String(text(u)?),
        7 => Raw::Other("a function"),
        8 => Raw::Array((0..u.int_in_range(0..=3)?).map(|_| value(u, depth + 1)).collect::<Result<_>>()?),
        _ => {
            let entry = |u: &mut Unstructured| {
                let key = if u.arbitrary()? { u.choose(&FIELDS)?.rsplit('.').next().unwrap_or_default().to_owned() } else { text(u)? };
                Ok((key, value(u, depth + 1)?))
            };
            Raw::Object((0..u.int_in_range(0..=3)?).map(|_| entry(u)).collect::<Result<_>>()?)
        }
    })
}

/// Sets the field at this path. A parent that is not an object becomes one.
fn set(raw: &mut Raw, path: &str, value: Raw) {
    if !matches!(raw, Raw::Object(_)) {
        *raw = Raw::Object(Vec::new());
    }
    let Raw::Object(entries) = raw else { return };
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let index = entries.iter().position(|(name, _)| name == key).unwrap_or(entries.len());
    if index == entries.len() {
        entries.push((key.to_owned(), Raw::Undefined));
    }
    match rest {
        Some(rest) => set(&mut entries[index].1, rest, value),
        None => entries[index].1 = value,
    }
}

/// A valid configuration with every object, so that only a changed field can be invalid.
fn valid() -> Raw {
    let mut raw = Raw::Undefined;
    for (path, word) in [
        ("pluginName", "weather"),
        ("pluginPath", "/plugins/weather"),
        ("command", "python3"),
        ("socketPath", "/run/weather.sock"),
        ("healthcheck.probe.type", "socket"),
        ("readiness.type", "socket"),
        ("envVars.A", "b"),
    ] {
        set(&mut raw, path, Raw::String(word.to_owned()));
    }
    for path in ["startupTimeout", "shutdownGracePeriod", "healthcheck.interval", "healthcheck.timeout", "healthcheck.retries"] {
        set(&mut raw, path, Raw::Number(7.0));
    }
    set(&mut raw, "restart.window.limit", Raw::Number(1.0));
    set(&mut raw, "restart.window.period", Raw::Number(1.0));
    set(&mut raw, "args", Raw::Array(Vec::new()));
    raw
}

fn check(Parsed { config, .. }: &Parsed) {
    let strings = [&config.plugin_name, &config.command].into_iter().chain(&config.args);
    let paths = [&config.plugin_path, &config.socket_path];
    assert!(strings.chain(config.env_vars.iter().flat_map(|(_, value)| value)).all(|string| !string.contains('\0')));
    assert!(paths.iter().all(|path| path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0)));
    assert!(config.socket_path.as_os_str().len() < 108 && config.plugin_name.len() <= 255);
    assert!(!config.plugin_name.contains('/') && !["", ".", ".."].contains(&config.plugin_name.as_str()));
    let env = config.environment(&[("LISTEN_FDS".to_owned(), "1".to_owned())]);
    assert!(env.iter().all(|(key, _)| !key.is_empty() && !key.contains(['=', '\0'])));
    let longest = std::time::Duration::from_millis(i32::MAX.unsigned_abs().into());
    let plan = config.plan();
    assert!([plan.startup_timeout, plan.grace, plan.restart.delay, plan.restart.max_delay].into_iter().all(|time| time <= longest));
    assert!(!plan.startup_timeout.is_zero() && plan.restart.factor.is_finite() && (0.0..=1.0).contains(&plan.restart.jitter));
}

fuzz_target!(|bytes: &[u8]| {
    let u = &mut Unstructured::new(bytes);
    let mut raw = valid();
    let mut changed = Vec::new();
    while !u.is_empty() && changed.len() < 8 {
        let (Ok(path), Ok(value)) = (u.choose(&FIELDS), value(u, 0)) else { break };
        set(&mut raw, path, value);
        changed.push(path);
    }
    let parsed = parse(&raw);
    assert_eq!(parse(&raw), parsed, "a second parse gives the same result");
    match parsed {
        Ok(parsed) => check(&parsed),
        Err(failure) => {
            assert_eq!(failure.code(), Code::InvalidConfig);
            let text = failure.to_string();
            let top = |path: &&String| text.starts_with(path.split('.').next().unwrap_or_default());
            assert!(changed.iter().any(top), "{text} names no changed field of {changed:?}");
            assert!(!failure.message("weather").contains(char::is_control), "{text:?}");
        }
    }
});
