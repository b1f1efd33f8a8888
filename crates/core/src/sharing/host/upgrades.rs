//! The upgrades by other sessions, as one session is to be told of them. Of a plugin it needs the newest configuration and all fields
//! that have changed. So a session that does not read costs one configuration per plugin, however many upgrades there are.

use std::collections::BTreeMap;

use crate::config::Raw;
use crate::sharing::protocol::Push;

#[derive(Debug, Default)]
pub struct Upgrades(BTreeMap<String, Upgrade>);

#[derive(Debug)]
struct Upgrade {
    changes: String,
    config: Raw,
    /// It was not sent yet.
    is_due: bool,
}

impl Upgrades {
    /// `changes`: a JSON object of the changed fields.
    pub fn add(&mut self, plugin: &str, changes: &str, config: &Raw) {
        let changes = match self.0.get(plugin) {
            Some(former) => merged(&former.changes, changes),
            None => changes.to_owned(),
        };
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

/// Both JSON objects in one. Of a field in both, the newer value.
fn merged(older: &str, newer: &str) -> String {
    let (Some(older), Some(new)) = (members(older), members(newer)) else { return newer.to_owned() };
    let kept = older.into_iter().filter(|(key, _)| new.iter().all(|(other, _)| other != key)).map(|(_, member)| member);
    let all: Vec<&str> = kept.chain(new.iter().map(|(_, member)| *member)).collect();
    format!("{{{}}}", all.join(","))
}

/// The members of a JSON object without spaces: each with its key. `None` of another text.
fn members(object: &str) -> Option<Vec<(&str, &str)>> {
    let inside = object.strip_prefix('{')?.strip_suffix('}')?;
    let (mut depth, mut in_text, mut is_escaped) = (0u32, false, false);
    let is_end = |letter: char| {
        match letter {
            _ if std::mem::take(&mut is_escaped) => {}
            '\\' => is_escaped = in_text,
            '"' => in_text = !in_text,
            '{' | '[' if !in_text => depth += 1,
            '}' | ']' if !in_text => depth = depth.saturating_sub(1),
            ',' => return depth == 0 && !in_text,
            _ => {}
        }
        false
    };
    let members = inside.split(is_end).filter(|member| !member.is_empty());
    // Keys are names of fields, or at least without `":` inside of them.
    members.map(|member| member.find("\":").and_then(|end| Some((member.get(..end)?, member)))).collect()
}
