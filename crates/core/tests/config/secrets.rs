//! Values of environment variables and arguments appear in no message, whatever is wrong, and wherever.

use ally_core::config::{Raw, parse};
use proptest::prelude::*;

use crate::raw::{array, minimal, object, text, with};

/// Found in no message by chance, and legal in file names, so that nothing is wrong with it.
const SECRET: &str = "hunter2-hunter2";

/// A value that holds the secret, in all the shapes that a value can have.
fn secretive() -> impl Strategy<Value = Raw> {
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

/// What may be wrong beside it.
fn nuisance() -> impl Strategy<Value = (&'static str, Raw)> {
    proptest::sample::select(vec![
        ("typo", Raw::Null),
        ("pluginName", text("a/b")),
        ("command", Raw::Null),
        ("socketPath", text("relative")),
        ("startupTimeout", Raw::Number(f64::NAN)),
        ("restart.jitter", Raw::Number(2.0)),
        ("stopSignal", text("SIGNOTHING")),
        ("logs", object([])),
    ])
}

proptest! {
    #[test]
    fn no_message_shows_a_secret(args in secretive(), variable in secretive(), wrong in nuisance(), whole in any::<bool>(), within in any::<bool>()) {
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
fn the_places_where_a_secret_may_be_wrong_are_told_without_it() {
    for (field, raw) in [
        ("args[1]", with(minimal(), "args", array([text(SECRET), text(format!("{SECRET}\0"))]))),
        ("args", with(minimal(), "args", text(SECRET))),
        ("envVars.TOKEN", with(minimal(), "envVars.TOKEN", text(format!("{SECRET}\0")))),
        ("envVars.TOKEN", with(minimal(), "envVars.TOKEN", array([text(SECRET)]))),
        // A whole entry where its name should be.
        ("envVars.TOKEN", with(minimal(), &format!("envVars.TOKEN={SECRET}"), text(""))),
        ("envVars", with(minimal(), "envVars", text(SECRET))),
    ] {
        let message = parse(&raw).unwrap_err().message("weather");
        assert!(message.contains(&format!(": {field} ")) && !message.contains(SECRET), "{message}");
    }
}
