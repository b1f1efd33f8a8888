//! A failure as plain facts: what a caller learns of it. The binding makes an Error of them, and the host of shared daemons sends
//! them to its sessions.

use ally_base::text::errno_name;
use serde::{Deserialize, Serialize};

use super::{Code, DependencyProblem, Failure};
use crate::model::{Exit, Pid};

/// One failure without its causes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub code: Code,
    /// The `message` of the Error.
    pub message: String,
    /// The text behind a "Failed to …:".
    pub text: String,
    pub plugin: Option<String>,
    pub pid: Option<Pid>,
    pub exit: Exit,
    /// The name of the errno: `ENOENT`.
    pub errno: Option<String>,
    pub syscall: Option<String>,
    pub path: Option<String>,
    /// The last lines of the daemon's output.
    pub stderr: Option<String>,
}

impl Facts {
    /// `plugin`: empty if the failure is about none.
    pub fn of(failure: &Failure, plugin: &str) -> Self {
        if let Failure::Remote { facts, .. } = failure {
            return Self { plugin: facts.plugin.clone().or_else(|| named(plugin)), ..Self::clone(facts) };
        }
        let refused = failure.refused();
        Self {
            code: failure.code(),
            message: failure.message(plugin),
            text: failure.to_string(),
            plugin: named(plugin),
            pid: failure.pid(),
            exit: failure.exit(),
            errno: refused.as_ref().map(|refused| errno_name(refused.errno)),
            syscall: refused.and_then(|refused| refused.call).map(str::to_owned),
            path: failure.path().map(str::to_owned),
            stderr: failure.tail().map(str::to_owned),
        }
    }

    /// The facts of a failure, then those of its cause, and so on. A cause has its bare text as message, because the failure above
    /// has the sentence around it.
    pub fn chain(failure: &Failure, plugin: &str) -> Vec<Self> {
        let mut chain = vec![Self::of(failure, plugin)];
        let (mut outer, mut plugin) = (failure, plugin);
        while let Some(cause) = outer.cause().filter(|_| chain.len() < CAUSES_MAX) {
            plugin = match outer {
                Failure::Dependency { problem: DependencyProblem::NotRunning { name, .. } } => name,
                _ => plugin,
            };
            let facts = Self::of(cause, plugin);
            chain.push(Self { message: facts.text.clone(), ..facts });
            outer = cause;
        }
        chain
    }

    /// The failure that these facts are of. `None` for an empty chain.
    pub fn into_failure(chain: Vec<Self>) -> Option<Failure> {
        chain.into_iter().rev().fold(None, |cause, facts| Some(Failure::Remote { facts: Box::new(facts), cause: cause.map(Box::new) }))
    }
}

/// More than any failure has. Bounds what a damaged message can nest.
const CAUSES_MAX: usize = 16;

fn named(plugin: &str) -> Option<String> {
    (!plugin.is_empty()).then(|| plugin.to_owned())
}
