//! What a session that does not read is told of upgrades by others.

use ally_core::config::Raw;
use ally_core::model::Changes;
use ally_core::sharing::host::Upgrades;
use ally_core::sharing::protocol::Push;

fn fields(all: &[(&str, &str)]) -> Changes {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn told(upgrades: &mut Upgrades) -> Vec<(String, Changes, Raw)> {
    let due = upgrades.take_due().into_iter().map(|push| match push {
        Push::Upgraded { plugin, changes, config } => (plugin, changes, config),
        other => panic!("{other:?}"),
    });
    due.collect()
}

#[test]
fn many_upgrades_are_one_with_the_newest_configuration_and_all_changed_fields() {
    let mut upgrades = Upgrades::default();
    for round in 0..1_000_u32 {
        upgrades.add("plugin", &fields(&[("args", &round.to_string()), ("envVars", "{}")]), &Raw::Number(round.into()));
    }
    upgrades.add("plugin", &fields(&[("umask", "7"), ("args", "[]")]), &Raw::Number(7.0));
    upgrades.add("other", &fields(&[]), &Raw::Null);
    let told = told(&mut upgrades);
    assert_eq!(told.len(), 2);
    assert_eq!(told[1], ("plugin".to_owned(), fields(&[("envVars", "{}"), ("umask", "7"), ("args", "[]")]), Raw::Number(7.0)));
}

#[test]
fn what_was_sent_is_repeated_to_another_connection_unless_it_is_over() {
    let mut upgrades = Upgrades::default();
    for plugin in ["over", "plugin", "removed"] {
        upgrades.add(plugin, &fields(&[("a", "1")]), &Raw::Null);
    }
    upgrades.remove("removed");
    assert_eq!(told(&mut upgrades).len(), 2);
    assert_eq!(told(&mut upgrades).len(), 0);
    upgrades.repeat(|plugin| plugin != "over");
    assert_eq!(told(&mut upgrades), [("plugin".to_owned(), fields(&[("a", "1")]), Raw::Null)]);
}
