//! Configurations as callers pass them.

use ally_core::config::Raw;

pub fn text(text: impl Into<String>) -> Raw {
    Raw::String(text.into())
}

pub fn array<const N: usize>(items: [Raw; N]) -> Raw {
    Raw::Array(items.into())
}

pub fn object<const N: usize>(entries: [(&str, Raw); N]) -> Raw {
    Raw::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A configuration of the required fields.
pub fn minimal() -> Raw {
    object([
        ("pluginName", text("weather")),
        ("pluginPath", text("/plugins/weather")),
        ("command", text("python3")),
        ("args", array([text("daemon.py")])),
        ("socketPath", text("/run/weather.sock")),
        ("startupTimeout", Raw::Number(30_000.0)),
        ("shutdownGracePeriod", Raw::Number(5_000.0)),
    ])
}

/// `raw` with the field at `path` set to `value`. Missing objects on the path are added.
pub fn with(mut raw: Raw, path: &str, value: Raw) -> Raw {
    let Raw::Object(entries) = &mut raw else { panic!("{path}: the parent is not an object") };
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let index = entries.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
        entries.push((key.to_owned(), Raw::Object(Vec::new())));
        entries.len() - 1
    });
    let old = std::mem::replace(&mut entries[index].1, Raw::Undefined);
    entries[index].1 = match rest {
        Some(rest) => with(old, rest, value),
        None => value,
    };
    raw
}

pub fn health() -> Raw {
    object([("interval", Raw::Number(1_000.0)), ("timeout", Raw::Number(500.0)), ("retries", Raw::Number(3.0))])
}
