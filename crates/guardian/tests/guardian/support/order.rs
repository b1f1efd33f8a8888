//! Orders with the defaults of the tests.

use std::path::{Path, PathBuf};

use ally_base::stop::StopSignalTo;
use ally_base::wire::{Limits, Order, OwnerDeath};

#[derive(Clone)]
pub struct TestOrder {
    pub group_only: bool,
    pub owner_death: OwnerDeath,
    pub stop_signal: i32,
    pub stop_signal_to: StopSignalTo,
    pub grace_ms: u32,
    /// `None`: the temporary folder of the daemon.
    pub folder: Option<PathBuf>,
    pub programs: Vec<Vec<u8>>,
    pub args: Vec<Vec<u8>>,
    pub env: Vec<Vec<u8>>,
    pub limits: Limits,
    pub notify_path: PathBuf,
}

impl TestOrder {
    pub fn program(words: &[&str]) -> Self {
        Self {
            group_only: false,
            owner_death: OwnerDeath::Stop,
            stop_signal: libc::SIGTERM,
            stop_signal_to: StopSignalTo::Leader,
            grace_ms: 30_000,
            folder: None,
            programs: vec![words[0].into()],
            args: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            env: vec![b"PATH=/usr/local/bin:/usr/bin:/bin".to_vec()],
            limits: Limits::default(),
            notify_path: PathBuf::new(),
        }
    }

    pub fn shell(script: &str) -> Self {
        Self::program(&["/bin/sh", "-c", script])
    }

    /// `descriptors`: the mask of the descriptors that are sent with the order.
    pub fn encode(&self, folder: &Path, descriptors: u32) -> Vec<u8> {
        let [programs, args, env] = [&self.programs, &self.args, &self.env].map(|list| list.iter().map(Vec::as_slice).collect());
        let order = Order {
            descriptors,
            group_only: self.group_only,
            owner_death: self.owner_death,
            stop_signal: self.stop_signal,
            stop_signal_to: self.stop_signal_to,
            grace_ms: self.grace_ms,
            folder: self.folder.as_deref().unwrap_or(folder).as_os_str().as_encoded_bytes(),
            programs,
            args,
            env,
            limits: self.limits.clone(),
            notify_path: self.notify_path.as_os_str().as_encoded_bytes(),
            log: None,
        };
        order.encode()
    }
}
