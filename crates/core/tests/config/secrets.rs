//! Errors never show values of `envVars` and `args`.

use ally_core::config::{Raw, parse};
use proptest::prelude::*;

use crate::support::{array, minimal, object, text, with};

/// Not part of any message, and valid in every field.
const SECRET: &str = "hunter2-hunter2";

/// A value of any type that contains the secret.
fn secret_value() -> impl Strategy<Value = Raw> {
    let around = ("[a-z\0= \n\u{1b}/.]{0,4}", "[a-z\0= \n\u{1b}/.]{0,4}");
    let leaf = prop_oneof![
        around.prop_map(|(before, after)| text(format!("{before}{SECRET}{after}"))),
        Just(Raw::Null),
        Just(Raw::Bool(true)),
        Just(Raw::Number(f64::NAN)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Raw::Array),
            proptest::collection::vec(("[A-Z]{1,4}", inner), 0..3).prop_map(Raw::Object),
        ]
    })
}

/// A field without a secret that is invalid or unknown.
fn other_invalid_field() -> impl Strategy<Value = (&'static str, Raw)> {
    proptest::sample::select(vec![
        ("typo", Raw::Null),
        ("pluginName", text("a/b")),
        ("command", Raw::Null),
        ("socketPath", text("relative")),
        ("startupTimeout", Raw::Number(f64::NAN)),
        ("restart.jitter", Raw::Number(2.0)),
        ("stopSignal", text("SIGNOTHING")),
        ("stopSignalTo", text("SIGNOTHING")),
        ("logs", text("/tmp/log")),
    ])
}

proptest! {
    #[test]
    fn error_never_shows_a_value_of_args_or_env_vars(args in secret_value(), variable in secret_value(), wrong in other_invalid_field(), whole in any::<bool>(), within in any::<bool>()) {
        let args = if within { array([text("ok"), args]) } else { args };
        let env_vars = if whole { variable } else { object([("TOKEN", variable)]) };
        let raw = with(with(with(minimal(), "args", args), "envVars", env_vars), wrong.0, wrong.1);
        match parse(&raw) {
            Err(failure) => {
                let shown = format!("{failure} {failure:?} {}", failure.message("weather"));
                prop_assert!(!shown.contains(SECRET), "{}", shown);
            }
            Ok(parsed) => prop_assert!(!parsed.unknown.concat().contains(SECRET)),
        }
    }
}

#[test]
fn error_names_the_field_of_an_invalid_secret_without_its_value() {
    for (field, raw) in [
        ("args[1]", with(minimal(), "args", array([text(SECRET), text(format!("{SECRET}\0"))]))),
        ("args", with(minimal(), "args", text(SECRET))),
        ("envVars.TOKEN", with(minimal(), "envVars.TOKEN", text(format!("{SECRET}\0")))),
        ("envVars.TOKEN", with(minimal(), "envVars.TOKEN", array([text(SECRET)]))),
        // A whole entry in place of its name.
        ("envVars.TOKEN", with(minimal(), &format!("envVars.TOKEN={SECRET}"), text(""))),
        ("envVars", with(minimal(), "envVars", text(SECRET))),
    ] {
        let message = parse(&raw).unwrap_err().message("weather");
        assert!(message.contains(&format!(": {field} ")) && !message.contains(SECRET), "{message}");
    }
}
