//! `shared`, and what it changes: the default of `inheritEnv`, and the refusal of `onOwnerDeath: 'keep'`.

use std::time::Duration;

use ally_core::config::{InheritEnv, ProcessConfig, Raw, Shared, name_problem, parse};

use crate::support::{array, minimal, object, text, with};

fn config(shared: Raw) -> Result<ProcessConfig, String> {
    parse(&with(minimal(), "shared", shared)).map(|parsed| parsed.config).map_err(|failure| failure.to_string())
}

fn linger(value: Raw) -> Raw {
    object([("linger", value)])
}

#[test]
fn shared_is_false_by_default_and_lingers_0_ms() {
    for exclusive in [Raw::Undefined, Raw::Null, Raw::Bool(false)] {
        assert_eq!(config(exclusive).unwrap().shared, None);
    }
    for shared in [Raw::Bool(true), object([]), linger(Raw::Undefined), linger(Raw::Null), linger(Raw::Number(0.0))] {
        assert_eq!(config(shared).unwrap().shared, Some(Shared { linger: Duration::ZERO }));
    }
    assert_eq!(config(linger(Raw::Number(1_500.0))).unwrap().shared, Some(Shared { linger: Duration::from_millis(1_500) }));
}

#[test]
fn shared_is_a_boolean_or_an_object() {
    for (shared, kind) in [(text("true"), "a string"), (Raw::Number(1.0), "a number"), (array([]), "an array")] {
        assert_eq!(config(shared).unwrap_err(), format!("shared must be a boolean or an object with linger, got {kind}"));
    }
    assert_eq!(config(Raw::BuiltIn("a Map".to_owned())).unwrap_err(), "shared must be plain data, got a Map");
}

#[test]
fn shared_linger_is_a_number_of_milliseconds_from_0_upwards() {
    for ms in [-1.0, f64::NAN, f64::INFINITY] {
        let refused = config(linger(Raw::Number(ms))).unwrap_err();
        assert_eq!(refused, format!("shared.linger must be a number of milliseconds from 0 upwards, got {ms}"));
    }
    assert_eq!(config(linger(text("1s"))).unwrap_err(), "shared.linger must be a number of milliseconds, got a string");
}

#[test]
fn shared_names_an_unknown_key() {
    let unknown = parse(&with(minimal(), "shared.lingers", Raw::Number(1.0))).unwrap().unknown;
    assert_eq!(unknown, ["shared.lingers"]);
}

#[test]
fn inherit_env_of_a_shared_plugin_is_false_by_default() {
    let of = |shared: Raw, inherit_env: Raw| {
        parse(&with(with(minimal(), "shared", shared), "inheritEnv", inherit_env)).unwrap().config.inherit_env
    };
    assert_eq!(of(Raw::Bool(true), Raw::Undefined), InheritEnv::Listed(Vec::new()));
    assert_eq!(of(Raw::Bool(false), Raw::Undefined), InheritEnv::All);
    assert_eq!(of(Raw::Bool(true), Raw::Bool(true)), InheritEnv::All);
    assert_eq!(of(Raw::Bool(true), array([text("API_URL")])), InheritEnv::Listed(vec!["API_URL".to_owned()]));
}

#[test]
fn shared_with_on_owner_death_keep_is_refused_with_a_hint_to_linger() {
    Shared::check(false).unwrap();
    let refused = Shared::check(true).unwrap_err();
    assert_eq!(refused.code().as_str(), "ERR_INVALID_CONFIG");
    assert_eq!(refused.to_string(), "shared can't be kept by onOwnerDeath 'keep'; use linger, as in shared: { linger: 60000 }");
}

#[test]
fn plugin_name_that_begins_as_a_folder_of_the_package_is_refused() {
    let refused = "must not begin with '.ally-': such folders are this package's own";
    assert_eq!(name_problem(text(".ally-host-0")).as_deref(), Some(refused));
    assert_eq!(name_problem(text(".ally")), None);
    assert_eq!(name_problem(text("ally-host-0")), None);
    let depends = with(minimal(), "dependsOn", array([text(".ally-x")]));
    assert_eq!(parse(&depends).unwrap_err().to_string(), format!("dependsOn[0] {refused}"));
}
