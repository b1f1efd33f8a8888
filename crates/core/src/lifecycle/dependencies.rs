//! The order of starts and stops of plugins that depend on each other.

use std::collections::{HashMap, HashSet};

use crate::error::DependencyProblem;

/// A plugin, and the names in its `dependsOn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependent<'a> {
    pub name: &'a str,
    pub depends_on: &'a [String],
}

/// The indices of `starting` in an order in which each plugin comes after all that it depends on. `known`: the other plugins of
/// the manager. If a name is in both, `starting` counts.
///
/// # Errors
/// The problem of a plugin, with the index of the plugin.
pub fn start_order(starting: &[Dependent<'_>], known: &[Dependent<'_>]) -> Result<Vec<usize>, (usize, DependencyProblem)> {
    let all: HashMap<&str, &[String]> = known.iter().chain(starting).map(|plugin| (plugin.name, plugin.depends_on)).collect();
    for (index, plugin) in starting.iter().enumerate() {
        if let Some(name) = plugin.depends_on.iter().find(|name| !all.contains_key(name.as_str())) {
            let nearest = nearest(name, all.keys().copied().filter(|other| *other != plugin.name));
            return Err((index, DependencyProblem::Unknown { name: name.clone(), nearest }));
        }
    }
    let mut walk = Walk { all: &all, done: HashSet::new(), path: Vec::new(), order: Vec::new() };
    for (index, plugin) in starting.iter().enumerate() {
        walk.visit(plugin.name).map_err(|names| (index, DependencyProblem::Cycle { names }))?;
    }
    let indices: HashMap<&str, usize> = starting.iter().enumerate().map(|(index, plugin)| (plugin.name, index)).collect();
    Ok(walk.order.into_iter().filter_map(|name| indices.get(name).copied()).collect())
}

/// The indices of `stopping`, each behind those of the plugins that depend on it.
pub fn dependents_first(stopping: &[Dependent<'_>]) -> Vec<usize> {
    let indices: HashMap<&str, usize> = stopping.iter().enumerate().map(|(index, plugin)| (plugin.name, index)).collect();
    dependencies_first(stopping).into_iter().rev().filter_map(|name| indices.get(name).copied()).collect()
}

fn dependencies_first<'a>(stopping: &[Dependent<'a>]) -> Vec<&'a str> {
    let all: HashMap<&str, &[String]> = stopping.iter().map(|plugin| (plugin.name, plugin.depends_on)).collect();
    let mut walk = Walk { all: &all, done: HashSet::new(), path: Vec::new(), order: Vec::new() };
    for plugin in stopping {
        // A cycle ends the walk of one plugin. The plugins that it has not reached come later, in the order of the list.
        drop(walk.visit(plugin.name));
        walk.path.clear();
        if walk.done.insert(plugin.name) {
            walk.order.push(plugin.name);
        }
    }
    walk.order
}

/// Per plugin of `stopping`: the indices of those that depend on it, which must be stopped before. Where plugins depend on each
/// other in a circle, which their later configurations may bring about, one of the steps is left out, so that no stop waits for
/// itself.
pub fn stop_order(stopping: &[Dependent<'_>]) -> Vec<Vec<usize>> {
    let order = dependencies_first(stopping);
    // What a plugin depends on has a smaller rank. A step against the ranks closes a circle.
    let ranks: HashMap<&str, usize> = order.iter().enumerate().map(|(rank, name)| (*name, rank)).collect();
    let indices: HashMap<&str, usize> = stopping.iter().enumerate().map(|(index, plugin)| (plugin.name, index)).collect();
    let mut before = vec![Vec::new(); stopping.len()];
    for (index, plugin) in stopping.iter().enumerate() {
        for name in plugin.depends_on.iter().map(String::as_str).collect::<HashSet<_>>() {
            if let Some(waiting) = indices.get(name).and_then(|dependency| before.get_mut(*dependency))
                && ranks.get(name) < ranks.get(plugin.name)
            {
                waiting.push(index);
            }
        }
    }
    before
}

/// A walk along the dependencies, depth first.
struct Walk<'m, 'a> {
    all: &'m HashMap<&'a str, &'a [String]>,
    done: HashSet<&'a str>,
    /// From the first plugin to the one that is visited.
    path: Vec<&'a str>,
    order: Vec<&'a str>,
}

impl<'a> Walk<'_, 'a> {
    /// # Errors
    /// The names along a cycle.
    fn visit(&mut self, name: &'a str) -> Result<(), Vec<String>> {
        // The plugins that wait on the way, each with its dependencies that are not visited yet. Not recursive, because a chain
        // may be as long as the caller likes.
        let mut waiting: Vec<(&'a str, std::slice::Iter<'a, String>)> = Vec::new();
        self.enter(name, &mut waiting)?;
        while let Some((name, left)) = waiting.last_mut() {
            if let Some(next) = left.next() {
                self.enter(next, &mut waiting)?;
            } else {
                self.done.insert(name);
                self.order.push(name);
                self.path.pop();
                waiting.pop();
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &'a str, waiting: &mut Vec<(&'a str, std::slice::Iter<'a, String>)>) -> Result<(), Vec<String>> {
        if self.done.contains(name) {
            return Ok(());
        }
        if let Some(begin) = self.path.iter().position(|other| *other == name) {
            let cycle = self.path.iter().skip(begin).chain([&name]);
            return Err(cycle.map(|name| (*name).to_owned()).collect());
        }
        self.path.push(name);
        waiting.push((name, self.all.get(name).copied().unwrap_or_default().iter()));
        Ok(())
    }
}

/// The name that looks most like a mistyped one, if one does.
fn nearest<'a>(name: &str, others: impl Iterator<Item = &'a str>) -> Option<String> {
    // A third of the letters may differ, as in the suggestions of rustc.
    let most = name.chars().count().max(3) / 3;
    let distance = |other: &str| strsim::osa_distance(name, other);
    others.map(|other| (distance(other), other)).filter(|(distance, _)| *distance <= most).min().map(|(_, other)| other.to_owned())
}
