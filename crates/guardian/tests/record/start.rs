//! A manager, and a start of a daemon that exits at once.

use std::path::Path;

use ally_base::wire::OwnerDeath;
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::config::Raw;
use ally_core::error::Failure;
use ally_core::supervisor::{GuardianProgram, Manager, Message, Options, Refusal};

use crate::until::until;

pub fn manager(home: &Path) -> Manager {
    let guardian = GuardianProgram { path: env!("CARGO_BIN_EXE_ally-guardian").into(), version: VERSION, build: BUILD_ID };
    Manager::new(Options { envs_dir: home.join("envs"), owner_death: OwnerDeath::Stop, guardian }, Box::new(|| {}))
}

pub fn start(manager: &Manager, name: &str, home: &Path, socket: &str) {
    let text = |text: &str| Raw::String(text.to_owned());
    let config = [
        ("pluginName", text(name)),
        ("pluginPath", text(home.to_str().unwrap())),
        ("command", text("/bin/true")),
        ("args", Raw::Array(Vec::new())),
        ("socketPath", text(home.join(socket).to_str().unwrap())),
        ("startupTimeout", Raw::Number(10_000.0)),
        ("shutdownGracePeriod", Raw::Number(50.0)),
    ];
    manager.start(&Raw::Object(config.map(|(key, value)| (key.to_owned(), value)).into()), "".into()).unwrap();
}

pub fn refusals(manager: &Manager, count: usize) -> Vec<Failure> {
    let mut refused = Vec::new();
    until("each start is settled", || {
        refused.extend(manager.mailbox().take().into_iter().filter_map(|message| match message {
            Message::Settled { outcome: Err(Refusal { failure, .. }), .. } => Some(failure),
            _ => None,
        }));
        refused.len() == count
    });
    refused
}
