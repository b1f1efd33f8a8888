//! The upgrades by other sessions, as one session is to be told of them. Of a plugin it needs the newest configuration and all fields
//! that have changed. So a session that does not read costs one configuration per plugin, however many upgrades there are.

use std::collections::BTreeMap;

use crate::config::Raw;
use crate::model::Changes;
use crate::sharing::protocol::Push;

#[derive(Debug, Default)]
pub struct Upgrades(BTreeMap<String, Upgrade>);

#[derive(Debug)]
struct Upgrade {
    changes: Changes,
    config: Raw,
    /// It was not sent yet.
    is_due: bool,
}

impl Upgrades {
    pub fn add(&mut self, plugin: &str, changes: &Changes, config: &Raw) {
        let former = self.0.remove(plugin).map(|former| former.changes).unwrap_or_default();
        let is_newer = |name: &str| changes.iter().any(|(other, _)| other == name);
        let kept = former.into_iter().filter(|(name, _)| !is_newer(name));
        let changes = kept.chain(changes.iter().cloned()).collect();
        self.0.insert(plugin.to_owned(), Upgrade { changes, config: config.clone(), is_due: true });
    }

    /// The session has another configuration of its own, or does not have the plugin any more.
    pub fn remove(&mut self, plugin: &str) {
        self.0.remove(plugin);
    }

    /// What was not sent yet.
    pub fn take_due(&mut self) -> Vec<Push> {
        let due = self.0.iter_mut().filter_map(|(plugin, upgrade)| std::mem::take(&mut upgrade.is_due).then_some((plugin, upgrade)));
        due.map(|(plugin, Upgrade { changes, config, .. })| Push::Upgraded {
            plugin: plugin.clone(),
            changes: changes.clone(),
            config: config.clone(),
        })
        .collect()
    }

    /// What was sent may be lost: the session has another connection. `is_so`: the plugin has the configuration of an upgrade still.
    pub fn repeat(&mut self, is_so: impl Fn(&str) -> bool) {
        self.0.retain(|plugin, _| is_so(plugin));
        self.0.values_mut().for_each(|upgrade| upgrade.is_due = true);
    }
}
