//! What a session that does not read is told of upgrades by others.

use ally_core::config::Raw;
use ally_core::sharing::host::Upgrades;
use ally_core::sharing::protocol::Push;

fn told(upgrades: &mut Upgrades) -> Vec<(String, String, Raw)> {
    let due = upgrades.take_due().into_iter().map(|push| match push {
        Push::Upgraded { plugin, changes, config } => (plugin, changes, config),
        other => panic!("{other:?}"),
    });
    due.collect()
}

fn one(changes: &[&str]) -> String {
    let mut upgrades = Upgrades::default();
    changes.iter().for_each(|changes| upgrades.add("plugin", changes, &Raw::Null));
    told(&mut upgrades).remove(0).1
}

#[test]
fn many_upgrades_are_one_with_the_newest_configuration_and_all_changed_fields() {
    let mut upgrades = Upgrades::default();
    for round in 0..1_000_u32 {
        let big = "x".repeat(1_000);
        upgrades.add("plugin", &format!(r#"{{"args":["{round}"],"envVars":{{"BIG":"{big}"}}}}"#), &Raw::Number(round.into()));
    }
    upgrades.add("plugin", r#"{"umask":7}"#, &Raw::Number(7.0));
    upgrades.add("other", "{}", &Raw::Null);
    let told = told(&mut upgrades);
    assert_eq!(told.len(), 2);
    let (_, changes, config) = &told[1];
    assert_eq!(*config, Raw::Number(7.0));
    assert!(changes.starts_with(r#"{"args":["999"],"envVars""#) && changes.ends_with(r#","umask":7}"#) && changes.len() < 1_100);
}

#[test]
fn text_and_nested_values_are_no_further_members() {
    assert_eq!(
        one(&[r#"{"a":"},{\\\",\"b\":1","c":[{"a":1},2]}"#, r#"{"d":{"c":3,"a":[4]}}"#]),
        r#"{"a":"},{\\\",\"b\":1","c":[{"a":1},2],"d":{"c":3,"a":[4]}}"#
    );
    assert_eq!(one(&[r#"{"a":1,"b":2}"#, r#"{"b":3}"#, "{}"]), r#"{"a":1,"b":3}"#);
    assert_eq!(one(&["{}", r#"{"a":1}"#]), r#"{"a":1}"#);
    assert_eq!(one(&["no object", r#"{"a":1}"#]), r#"{"a":1}"#);
}

#[test]
fn what_was_sent_is_repeated_to_another_connection_unless_it_is_over() {
    let mut upgrades = Upgrades::default();
    for plugin in ["over", "plugin", "removed"] {
        upgrades.add(plugin, "{}", &Raw::Null);
    }
    upgrades.remove("removed");
    assert_eq!(told(&mut upgrades).len(), 2);
    assert_eq!(told(&mut upgrades).len(), 0);
    upgrades.repeat(|plugin| plugin != "over");
    assert_eq!(told(&mut upgrades), [("plugin".to_owned(), "{}".to_owned(), Raw::Null)]);
}
