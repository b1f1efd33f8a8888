//! The words of the table for phases, in each of their variants, and the list of all that events can reach.

use ally_core::lifecycle::{Acknowledgement, Leader, Machine, Phase, Role, Run, Second, Stage, StopFor, TreeState};
use ally_core::model::{ExitReason, ProcessState};
use std::collections::BTreeSet;

/// A list of names and the match that gives them, from one source. A new variant needs a name, and
/// each name must be reached.
macro_rules! named {
    ($list:ident, $function:ident, $type:ty: $($name:literal => $pattern:pat),+ $(,)?) => {
        const $list: &[&str] = &[$($name),+];

        fn $function(value: &$type) -> &'static str {
            match value {
                $($pattern => $name),+
            }
        }
    };
}

named! { PHASES, phase_name, Phase:
    "stopped" => Phase::Stopped,
    "failed" => Phase::Failed,
    "arming" => Phase::Arming { .. },
    "armed" => Phase::Armed,
    "stuck" => Phase::Stuck { .. },
    "preparing" => Phase::Preparing { .. },
    "spawning" => Phase::Spawning { .. },
    "booting" => Phase::Booting { .. },
    "running" => Phase::Running { .. },
    "freezing" => Phase::Freezing { .. },
    "upgrading" => Phase::Upgrading { .. },
    "awaiting successor" => Phase::AwaitingSuccessor { .. },
    "stopping" => Phase::Stopping { .. },
    "backing off" => Phase::BackingOff { .. },
    "overdue" => Phase::Overdue { .. },
}

named! { REASONS, reason_name, ExitReason:
    "stopped" => ExitReason::Stopped,
    "crashed" => ExitReason::Crashed,
    "exited" => ExitReason::Exited,
    "unhealthy" => ExitReason::Unhealthy,
    "startup" => ExitReason::Startup,
    "memory" => ExitReason::Memory,
    "upgraded" => ExitReason::Upgraded,
    "idle" => ExitReason::Idle,
}

named! { RUNS, run_name, Run:
    "asked" => Run::Requested(_),
    "restart" => Run::Restart,
    "connection" => Run::Connection,
    "upgrade" => Run::Upgrade(_),
}

named! { LEADERS, leader_name, Leader:
    "pending" => Leader::Pending,
    "alive" => Leader::Alive(_),
    "exited" => Leader::Exited,
    "gone" => Leader::Gone,
}

named! { STOPS, stop_name, StopFor:
    "for the caller" => StopFor::Caller,
    "for a clean exit" => StopFor::CleanExit,
    "for a failed start" => StopFor::Failure { state: ProcessState::Starting, .. },
    "for a failure" => StopFor::Failure { .. },
    "for an unhealthy restart" => StopFor::Replacement { reason: ExitReason::Unhealthy, .. },
    "for a restart over memory" => StopFor::Replacement { .. },
    "for a restart" => StopFor::Restart(_),
    "for an upgrade" => StopFor::Upgrade(_),
    "for a rollback" => StopFor::Rollback { .. },
    "to arm again" => StopFor::Rearm(_),
}

named! { ROLES, role_name, Role:
    "successor" => Role::Successor,
    "former" => Role::Former,
}

named! { STAGES, stage_name, Stage:
    "preparing" => Stage::Preparing,
    "spawning" => Stage::Spawning { .. },
    "booting" => Stage::Booting { .. },
    "proving" => Stage::Proving { .. },
    "changing over" => Stage::ChangingOver { .. },
    "draining" => Stage::Draining { .. },
    "leaving" => Stage::Leaving { .. },
    "stuck" => Stage::Stuck { .. },
}

pub fn describe(machine: &Machine) -> String {
    let phase = describe_phase(machine.phase());
    machine.second().map_or(phase.clone(), |second| format!("{phase} + {}", describe_second(second)))
}

pub fn describe_phase(phase: &Phase) -> String {
    let mut words = vec![phase_name(phase)];
    let tree = match phase {
        Phase::Stopped | Phase::Failed | Phase::Armed | Phase::Running { .. } | Phase::Upgrading { .. } => None,
        Phase::Arming { rest, .. } => {
            words.extend(rest.as_ref().map(|_| "from rest"));
            None
        }
        Phase::Preparing { run, .. } | Phase::Spawning { run, .. } | Phase::Booting { run, .. } => {
            words.push(run_name(run));
            words.extend(matches!(phase, Phase::Preparing { rest: Some(_), .. }).then_some("from rest"));
            None
        }
        Phase::Freezing { acknowledgement, .. } => {
            words.extend(acknowledgement_name(*acknowledgement));
            None
        }
        Phase::AwaitingSuccessor { tree, ended } => {
            words.extend(ended.clean.then_some("clean"));
            *tree
        }
        Phase::Stuck { tree } => Some(*tree),
        Phase::Stopping { tree, stop_for } => {
            words.push(stop_name(stop_for));
            Some(*tree)
        }
        Phase::BackingOff { tree, .. } => *tree,
        Phase::Overdue { leader, reason, .. } => {
            words.extend([leader_name(leader), reason_name(reason)]);
            None
        }
    };
    words.extend(tree.iter().flat_map(describe_tree));
    if let Phase::BackingOff { waited: true, .. } | Phase::Overdue { waited: true, .. } = phase {
        words.push("waited");
    }
    words.join(" ")
}

pub fn describe_second(second: &Second) -> String {
    let mut words = vec![role_name(&second.role), stage_name(&second.stage)];
    match &second.stage {
        Stage::Preparing
        | Stage::Spawning { .. }
        | Stage::Booting { .. }
        | Stage::Proving { .. }
        | Stage::ChangingOver { .. }
        | Stage::Draining { .. } => {}
        Stage::Leaving { tree, .. } | Stage::Stuck { tree, .. } => words.extend(describe_tree(tree)),
    }
    words.join(" ")
}

fn describe_tree(tree: &TreeState) -> impl Iterator<Item = &'static str> + use<> {
    let killed = tree.killed.then_some("killed");
    [Some(leader_name(&tree.leader)), killed, acknowledgement_name(tree.acknowledgement)].into_iter().flatten()
}

const fn acknowledgement_name(acknowledgement: Acknowledgement) -> Option<&'static str> {
    match acknowledgement {
        Acknowledgement::Done => None,
        Acknowledgement::Pending => Some("unanswered"),
        Acknowledgement::Late => Some("late"),
    }
}

/// Every text of `describe_phase` for a phase that events can reach without a second generation.
pub fn all_descriptions() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for phase in PHASES {
        let variants: Vec<String> = match *phase {
            // A restart by the policy, and a start by a connection or after an upgrade, never begin at rest.
            "preparing" => ["asked", "asked from rest", "restart", "connection", "upgrade"].map(str::to_owned).into(),
            "spawning" | "booting" => RUNS.iter().map(|run| (*run).to_owned()).collect(),
            "arming" => ["", "from rest"].map(str::to_owned).into(),
            "freezing" => ["unanswered", "late"].map(str::to_owned).into(),
            // Before a tree counts as stuck, it gets SIGKILL.
            "stuck" => trees().into_iter().filter(|tree| tree.contains("killed")).collect(),
            "stopping" => {
                let answered = STOPS.iter().flat_map(|stop_for| trees().into_iter().map(move |tree| format!("{stop_for} {tree}")));
                // The keeper's answer has the same consequences in every stop, so the table has one stop without it.
                answered.chain(unanswered_trees().map(|tree| format!("for the caller {tree}"))).collect()
            }
            "backing off" => {
                let with_tree = trees().into_iter().chain(unanswered_trees()).flat_map(|tree| [tree.clone(), format!("{tree} waited")]);
                // Without a tree, the end of the delay is the end of the phase.
                with_tree.chain([String::new()]).collect()
            }
            "overdue" => {
                let leaders = leaders().flat_map(|leader| REASONS.iter().map(move |reason| format!("{leader} {reason}")));
                leaders.flat_map(|tree| [tree.clone(), format!("{tree} waited")]).collect()
            }
            // Only with a second generation.
            "upgrading" | "awaiting successor" => continue,
            _ => vec![String::new()],
        };
        all.extend(variants.iter().map(|variant| format!("{phase} {variant}").trim_end().to_owned()));
    }
    // A clean exit follows the leader's exit. A daemon that runs has a leader.
    all.retain(|words| {
        let of_running = ["for an unhealthy restart", "for a restart over memory", "for an upgrade", "to arm again"];
        let has_leader = of_running.iter().all(|stop_for| !words.contains(&format!("{stop_for} pending")));
        has_leader && (!words.contains("for a clean exit") || words.contains("exited"))
    });
    // A leader that still lives, or is pending, exits for a failed attempt, for failed health checks, or over its memory limit.
    all.retain(|words| {
        let overdue = words.strip_prefix("overdue ");
        overdue.is_none_or(|words| {
            words.contains("startup") || ((words.contains("unhealthy") || words.contains("memory")) && !words.contains("pending"))
        })
    });
    all
}

/// The leaders of a tree. Gone is none.
fn leaders() -> impl Iterator<Item = &'static str> {
    LEADERS.iter().copied().filter(|leader| *leader != "gone")
}

fn trees() -> Vec<String> {
    leaders().flat_map(|leader| [leader.to_owned(), format!("{leader} killed")]).collect()
}

/// Before the spawn the keeper gets no command that needs an answer.
fn unanswered_trees() -> impl Iterator<Item = String> {
    let commanded = trees().into_iter().filter(|tree| !tree.starts_with("pending"));
    commanded.flat_map(|tree| ["unanswered", "late"].map(|answer| format!("{tree} {answer}")))
}

/// Every text of `describe_second`.
pub fn all_seconds() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for role in ROLES {
        for stage in STAGES {
            match (*role, *stage) {
                ("former", "preparing" | "spawning" | "booting" | "proving" | "changing over") | ("successor", "draining") => {}
                (role, "leaving") => {
                    let trees = trees().into_iter().filter(|tree| role == "successor" || !tree.starts_with("pending"));
                    all.extend(trees.map(|tree| format!("{role} leaving {tree}")));
                }
                (role, "stuck") => {
                    let leaders = leaders().filter(|leader| role == "successor" || *leader != "pending");
                    all.extend(leaders.map(|leader| format!("{role} stuck {leader} killed")));
                }
                (role, stage) => all.extend([format!("{role} {stage}")]),
            }
        }
    }
    all
}

/// What the serving generation is in while there is a second one, and the second one's stage.
pub fn pair(phase: &Phase, second: &Second) -> (String, String) {
    let tree = match phase {
        Phase::Stopping { tree, .. } | Phase::Stuck { tree } if tree.is_gone() => " gone",
        Phase::AwaitingSuccessor { tree: Some(_), .. } | Phase::BackingOff { tree: Some(_), .. } => " with a tree",
        _ => "",
    };
    (format!("{}{tree}", phase_name(phase)), format!("{} {}", role_name(&second.role), stage_name(&second.stage)))
}

/// Every `pair` that events can reach.
pub fn all_pairs() -> BTreeSet<(String, String)> {
    const BEFORE: [&str; 3] = ["upgrading", "awaiting successor", "awaiting successor with a tree"];
    // The states of a daemon that serves, and of one that restarts.
    const SERVING: [&str; 12] = [
        "running",
        "freezing",
        "stopping",
        "arming",
        "armed",
        "preparing",
        "spawning",
        "booting",
        "backing off",
        "backing off with a tree",
        "overdue",
        "stuck",
    ];
    let mut all = BTreeSet::new();
    let mut add = |second: &str, phases: &[&str]| all.extend(phases.iter().map(|phase| ((*phase).to_owned(), second.to_owned())));
    for stage in ["preparing", "spawning", "booting", "proving", "changing over"] {
        add(&format!("successor {stage}"), &BEFORE);
    }
    add("successor leaving", &BEFORE);
    // A stop ends both.
    add("successor leaving", &["stopping", "stopping gone", "stuck", "stuck gone"]);
    for second in ["successor stuck", "former stuck", "former draining", "former leaving"] {
        add(second, &SERVING);
    }
    for second in ["successor stuck", "former stuck"] {
        add(second, &["stuck gone"]);
    }
    for second in ["former draining", "former leaving"] {
        add(second, &["stopping gone"]);
    }
    all
}
