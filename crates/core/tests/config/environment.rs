//! `envVars` and the inherited environment of a daemon.

use ally_core::config::{Raw, parse};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use crate::support::{minimal, object, text, with};

const OURS: [&str; 3] = ["SOCKET_PATH", "ALLY_PLUGIN_NAME", "PYTHONUNBUFFERED"];

/// The daemon's environment for this `envVars` and this environment of the caller.
fn environment(env_vars: Raw, inherited: &[(&str, &str)]) -> BTreeMap<String, String> {
    let inherited: Vec<_> = inherited.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let list = parse(&with(minimal(), "envVars", env_vars)).unwrap().config.environment(&inherited);
    let length = list.len();
    let map: BTreeMap<_, _> = list.into_iter().collect();
    assert_eq!(map.len(), length, "each name is there once");
    map
}

/// The same for this `inheritEnv`.
fn inheriting(inherit_env: Raw, inherited: &[(&str, &str)]) -> BTreeMap<String, String> {
    let inherited: Vec<_> = inherited.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    parse(&with(minimal(), "inheritEnv", inherit_env)).unwrap().config.environment(&inherited).into_iter().collect()
}

/// Variables that describe the owner itself.
const OF_THE_OWNER: [&str; 16] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "MAINPID",
    "SYSTEMD_EXEC_PID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "ALLY_LISTEN_FD",
    "ALLY_DAEMON_ID",
    "WATCHDOG_",
];

fn expected(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let ours = [("SOCKET_PATH", "/run/weather.sock"), ("ALLY_PLUGIN_NAME", "weather"), ("PYTHONUNBUFFERED", "1")];
    ours.iter().chain(entries).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn inherited_variables_are_unchanged() {
    let inherited = [("PATH", "/bin:/usr/bin"), ("EMPTY", ""), ("HOME", "/home/é"), ("path", "other"), ("A", "b=c")];
    assert_eq!(environment(Raw::Undefined, &inherited), expected(&inherited));
    assert_eq!(environment(object([]), &[]), expected(&[]));
}

#[test]
fn inherited_variables_of_systemd_are_removed() {
    let inherited: Vec<_> = OF_THE_OWNER.into_iter().map(|name| (name, "1")).collect();
    assert_eq!(environment(Raw::Undefined, &inherited), expected(&[]));
    // `inheritEnv` can't ask for them.
    let names = Raw::Array(OF_THE_OWNER.into_iter().map(text).collect());
    assert_eq!(inheriting(names, &inherited), expected(&[]));
    let similar =
        [("LISTEN", "1"), ("MY_LISTEN_FDS", "1"), ("NOTIFY_SOCKETS", "1"), ("WATCHDOG", "1"), ("listen_fds", "1"), ("MAINPIDS", "1")];
    assert_eq!(environment(Raw::Undefined, &similar), expected(&similar), "similar names stay");
}

#[test]
fn socket_path_plugin_name_and_pythonunbuffered_replace_inherited_variables() {
    let inherited = OURS.map(|name| (name, "theirs"));
    assert_eq!(environment(Raw::Undefined, &inherited), expected(&[]));
}

#[test]
fn env_vars_replace_every_other_variable() {
    let names = [OURS.as_slice(), &["PATH", "LISTEN_FDS", "NOTIFY_SOCKET", "WATCHDOG_USEC"]].concat();
    let inherited: Vec<_> = names.iter().map(|name| (*name, "theirs")).collect();
    let wishes = Raw::Object(names.iter().map(|name| ((*name).to_owned(), text("wished"))).collect());
    let wished = names.iter().map(|name| ((*name).to_owned(), "wished".to_owned())).collect();
    assert_eq!(environment(wishes, &inherited), wished);
}

#[test]
fn inherit_env_chooses_the_inherited_variables() {
    let basic = [
        ("HOME", "/root"),
        ("LOGNAME", "root"),
        ("PATH", "/bin"),
        ("SHELL", "/bin/sh"),
        ("TERM", "xterm"),
        ("USER", "root"),
        ("LANG", "C"),
        ("LC_ALL", "C"),
        ("LC_TIME", "C"),
        ("TZ", "UTC"),
        ("TMPDIR", "/tmp"),
        ("XDG_RUNTIME_DIR", "/run/user/0"),
    ];
    let others = [("SECRET", "x"), ("NODE_OPTIONS", "x"), ("path", "x"), ("LANGUAGE", "x"), ("XLC_ALL", "x")];
    let all = [basic.as_slice(), others.as_slice()].concat();
    assert_eq!(inheriting(Raw::Undefined, &all), expected(&all));
    assert_eq!(inheriting(Raw::Null, &all), expected(&all));
    assert_eq!(inheriting(Raw::Bool(true), &all), expected(&all));
    assert_eq!(inheriting(Raw::Bool(false), &all), expected(&basic));
    assert_eq!(inheriting(Raw::Array(Vec::new()), &all), expected(&basic));
    let listed = Raw::Array(["NODE_OPTIONS", "NEVER_WAS", "NODE_OPTIONS"].into_iter().map(text).collect());
    assert_eq!(inheriting(listed, &all), expected(&[basic.as_slice(), &[("NODE_OPTIONS", "x")]].concat()));
}

#[test]
fn env_vars_do_not_set_the_identity_of_the_attempt() {
    assert_eq!(environment(object([("ALLY_DAEMON_ID", text("theirs")), ("A", text("b"))]), &[]), expected(&[("A", "b")]));
}

#[test]
fn env_vars_undefined_removes_a_variable() {
    let wishes = object([("PATH", Raw::Undefined), ("SOCKET_PATH", Raw::Undefined), ("NEVER_WAS", Raw::Undefined), ("KEPT", text(""))]);
    let env = environment(wishes, &[("PATH", "/bin"), ("KEPT", "old"), ("HOME", "/")]);
    let mut wanted = expected(&[("KEPT", ""), ("HOME", "/")]);
    wanted.remove("SOCKET_PATH");
    assert_eq!(env, wanted);
}

/// Few names, so that names collide.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[AB]",
        "LISTEN_[AB]",
        "WATCHDOG_A",
        Just("NOTIFY_SOCKET".to_owned()),
        proptest::sample::select(&OURS[..]).prop_map(str::to_owned)
    ]
}

proptest! {
    #[test]
    fn each_variable_follows_the_order_env_vars_then_manager_then_inherited(inherited in btree_map(name(), "[a-z]{0,3}", 0..8), wishes in vec((name(), proptest::option::of("[a-z]{0,3}")), 0..6)) {
        let wishes: BTreeMap<_, _> = wishes.into_iter().collect();
        let raw = Raw::Object(wishes.iter().map(|(key, value)| (key.clone(), value.clone().map_or(Raw::Undefined, Raw::String))).collect());
        let list: Vec<_> = inherited.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let env = environment(raw, &list);
        let ours = expected(&[]);
        let names: BTreeSet<&String> = inherited.keys().chain(wishes.keys()).chain(ours.keys()).chain(env.keys()).collect();
        for name in names {
            let belongs_to_owner = name.starts_with("LISTEN_") || name.starts_with("WATCHDOG_") || name == "NOTIFY_SOCKET";
            let wanted = match (wishes.get(name), ours.get(name)) {
                (Some(wish), _) => wish.as_ref(),
                (None, Some(ours)) => Some(ours),
                (None, None) => inherited.get(name).filter(|_| !belongs_to_owner),
            };
            prop_assert_eq!(env.get(name), wanted, "{}", name);
        }
    }
}
