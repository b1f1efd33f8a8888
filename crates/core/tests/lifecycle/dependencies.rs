//! The order of starts and stops of plugins that depend on each other.

use ally_core::error::DependencyProblem;
use ally_core::lifecycle::dependencies::{Dependent, dependents_first, start_order, stop_order};
use proptest::prelude::*;

/// `"a: b c"`: a depends on b and c.
fn plugins(lines: &[&str]) -> Vec<(String, Vec<String>)> {
    let plugin = |line: &&str| {
        let (name, depends_on) = line.split_once(':').unwrap_or((line, ""));
        (name.to_owned(), depends_on.split_whitespace().map(str::to_owned).collect())
    };
    lines.iter().map(plugin).collect()
}

fn dependents(plugins: &[(String, Vec<String>)]) -> Vec<Dependent<'_>> {
    plugins.iter().map(|(name, depends_on)| Dependent { name, depends_on }).collect()
}

fn started(starting: &[&str], known: &[&str]) -> Result<Vec<String>, String> {
    let (starting, known) = (plugins(starting), plugins(known));
    match start_order(&dependents(&starting), &dependents(&known)) {
        Ok(order) => Ok(order.into_iter().map(|index| starting[index].0.clone()).collect()),
        Err((index, DependencyProblem::Unknown { name, nearest })) => {
            Err(format!("{}: {name} unknown, nearest {}", starting[index].0, nearest.unwrap_or_default()))
        }
        Err((_, DependencyProblem::Cycle { names })) => Err(names.join(" → ")),
        Err((_, other)) => panic!("{other:?}"),
    }
}

fn stopped(stopping: &[&str]) -> Vec<String> {
    let stopping = plugins(stopping);
    let before = stop_order(&dependents(&stopping));
    let name = |index: &usize| stopping[*index].0.clone();
    before
        .iter()
        .enumerate()
        .map(|(index, before)| format!("{}: {}", name(&index), before.iter().map(name).collect::<Vec<_>>().join(" ")))
        .collect()
}

#[test]
fn a_plugin_starts_after_what_it_depends_on() {
    assert_eq!(started(&["web: api", "api: db cache", "db", "cache: db"], &[]).unwrap(), ["db", "cache", "api", "web"]);
}

#[test]
fn a_plugin_may_depend_on_one_that_is_known_already() {
    assert_eq!(started(&["api: db"], &["db"]).unwrap(), ["api"]);
}

#[test]
fn the_call_decides_about_a_name_that_is_known_already() {
    assert_eq!(started(&["db", "api: db"], &["db: api"]).unwrap(), ["db", "api"]);
}

#[test]
fn an_unknown_name_comes_with_the_nearest_known_one() {
    assert_eq!(started(&["api: databse"], &["database", "cache"]).unwrap_err(), "api: databse unknown, nearest database");
    assert_eq!(started(&["api: dbb", "db"], &[]).unwrap_err(), "api: dbb unknown, nearest db");
    assert_eq!(started(&["api: x"], &["database"]).unwrap_err(), "api: x unknown, nearest ");
}

#[test]
fn the_nearest_name_is_never_the_plugin_itself() {
    assert_eq!(started(&["api: ape"], &[]).unwrap_err(), "api: ape unknown, nearest ");
}

#[test]
fn a_cycle_is_spelled_out() {
    assert_eq!(started(&["a: b", "b: a"], &[]).unwrap_err(), "a → b → a");
    assert_eq!(started(&["start: a", "a: b", "b: c", "c: a"], &[]).unwrap_err(), "a → b → c → a");
    assert_eq!(started(&["a: a"], &[]).unwrap_err(), "a → a");
}

#[test]
fn a_cycle_through_a_known_plugin_is_found() {
    assert_eq!(started(&["a: b"], &["b: a"]).unwrap_err(), "a → b → a");
}

#[test]
fn a_known_plugin_may_depend_on_one_that_was_forgotten() {
    assert_eq!(started(&["a: b"], &["b: gone"]).unwrap(), ["a"]);
}

#[test]
fn a_plugin_stops_after_those_that_depend_on_it() {
    assert_eq!(stopped(&["db", "api: db", "web: api db"]), ["db: api web", "api: web", "web: "]);
}

#[test]
fn what_is_not_stopped_is_not_waited_for() {
    assert_eq!(stopped(&["web: api", "db"]), ["web: ", "db: "]);
}

#[test]
fn no_stop_waits_for_itself() {
    assert_eq!(stopped(&["a: a"]), ["a: "]);
    assert_eq!(stopped(&["a: b", "b: a"]), ["a: b", "b: "]);
}

#[test]
fn a_long_chain_needs_no_stack() {
    let chain: Vec<(String, Vec<String>)> = (0..5_000).map(|index| (format!("p{index}"), vec![format!("p{}", index + 1)])).collect();
    let last = [("p5000".to_owned(), Vec::new())];
    let all = [chain, last.to_vec()].concat();
    assert_eq!(start_order(&dependents(&all), &[]).unwrap().first(), Some(&5_000));
}

/// Eight plugins, with any dependencies among them.
fn graph() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let edges = prop::collection::vec(prop::collection::vec(0..8_usize, 0..4), 8);
    edges.prop_map(|edges| {
        edges.into_iter().enumerate().map(|(index, to)| (format!("p{index}"), to.iter().map(|to| format!("p{to}")).collect())).collect()
    })
}

/// The plugins in an order in which each comes after those that it waits for. `None`: some wait for each other.
fn settled(before: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < before.len() {
        let next = (0..before.len()).find(|index| !order.contains(index) && before[*index].iter().all(|other| order.contains(other)))?;
        order.push(next);
    }
    Some(order)
}

proptest! {
    #[test]
    fn each_start_comes_after_its_dependencies_or_a_cycle_is_real(plugins in graph()) {
        let place = |name: &str| plugins.iter().position(|(other, _)| other == name).unwrap();
        match start_order(&dependents(&plugins), &[]) {
            Ok(order) => {
                prop_assert_eq!(order.len(), plugins.len());
                for (at, index) in order.iter().enumerate() {
                    for name in &plugins[*index].1 {
                        prop_assert!(order[..at].contains(&place(name)));
                    }
                }
            }
            Err((_, DependencyProblem::Cycle { names })) => {
                prop_assert_eq!(names.first(), names.last());
                for pair in names.windows(2) {
                    prop_assert!(plugins[place(&pair[0])].1.contains(&pair[1]));
                }
            }
            Err((_, other)) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn every_stop_comes_and_without_cycles_after_all_dependents(plugins in graph()) {
        let before = stop_order(&dependents(&plugins));
        prop_assert!(settled(&before).is_some());
        let order = dependents_first(&dependents(&plugins));
        let mut every = order.clone();
        every.sort_unstable();
        prop_assert_eq!(every, (0..plugins.len()).collect::<Vec<_>>());
        let place = |wanted: &usize| order.iter().position(|index| index == wanted);
        for (index, before) in before.iter().enumerate() {
            prop_assert!(before.iter().all(|dependent| place(dependent) < place(&index)));
        }
        if start_order(&dependents(&plugins), &[]).is_ok() {
            for (index, (name, _)) in plugins.iter().enumerate() {
                for (other, (_, depends_on)) in plugins.iter().enumerate() {
                    prop_assert_eq!(before[index].contains(&other), depends_on.contains(name));
                }
            }
        }
    }
}
