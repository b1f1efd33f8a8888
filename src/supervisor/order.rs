//! What the guardian is told to make, and what its refusals mean.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::daemon::Job;
use super::keeper::Keeper;
use super::prepare::Lease;
use crate::config::{KillMode, ProcessConfig};
use crate::error::{Failure, Refused, io_text};
use crate::guardian::protocol::{self, OwnerDeath, Stage};

/// execvp(3) without a PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub struct Order {
    pub bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Order {
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd).collect()
    }
}

pub struct Made {
    pub order: Order,
    pub keeper: Keeper,
    /// The read ends of stdout and stderr.
    pub outputs: [OwnedFd; 2],
}

/// # Errors
/// EMFILE, ENFILE and the like.
pub fn make(job: &Job, owner_death: OwnerDeath, lease: &Lease) -> io::Result<Made> {
    let (keeper, theirs) = Keeper::pair()?;
    let (stdout, stdout_writer) = pipe()?;
    let (stderr, stderr_writer) = pipe()?;
    // A copy of the same lock: it is free when the owner has let go and the keeper is gone.
    let lock = lease.lock.as_file().try_clone()?.into();
    let folder = lease.folder.try_clone()?;
    let descriptors = vec![theirs, stdout_writer, stderr_writer, lock, stdout.try_clone()?, stderr.try_clone()?, folder];
    let bytes = encode(job, owner_death);
    if bytes.len() > protocol::PAYLOAD_MAX {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    Ok(Made { order: Order { bytes, descriptors }, keeper, outputs: [stdout, stderr] })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = io::pipe()?;
    Ok((read.into(), write.into()))
}

fn encode(job: &Job, owner_death: OwnerDeath) -> Vec<u8> {
    let config = &job.config;
    let env = environment(job);
    let programs = programs(config, &env);
    let env: Vec<String> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    protocol::Order {
        group_only: config.kill_mode == KillMode::Group,
        owner_death,
        stop_signal: config.stop_signal,
        grace_ms: u32::try_from(config.shutdown_grace_period.as_millis()).unwrap_or(u32::MAX),
        folder: config.plugin_path.as_os_str().as_encoded_bytes(),
        programs: programs.iter().map(String::as_bytes).collect(),
        args: std::iter::once(&config.command).chain(&config.args).map(String::as_bytes).collect(),
        env: env.iter().map(String::as_bytes).collect(),
    }
    .encode()
}

fn environment(job: &Job) -> Vec<(String, String)> {
    let entries = job.inherited.split_terminator('\0').filter_map(|entry| entry.split_once('='));
    let inherited: Vec<_> = entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    job.config.environment(&inherited)
}

/// A command with a slash is a path; a bare one is looked up in the daemon's own PATH, where an empty
/// entry means its working directory.
fn programs(config: &ProcessConfig, env: &[(String, String)]) -> Vec<String> {
    if config.command.contains('/') {
        return vec![config.command.clone()];
    }
    let path = env.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    path.split(':').map(|folder| format!("{}/{}", if folder.is_empty() { "." } else { folder }, config.command)).collect()
}

/// The sentence for a process that could not be made.
pub fn explain(stage: Stage, errno: i32, job: &Job, envs_dir: &Path) -> Failure {
    let config = &job.config;
    // The path of a bare command, where there is one.
    let found = programs(config, &environment(job)).into_iter().find(|program| config.plugin_path.join(program).exists());
    let program = found.as_ref().unwrap_or(&config.command);
    let name = nix::errno::Errno::from_raw(errno);
    let hint = || hint(job, envs_dir);
    let problem = match (stage, errno) {
        (Stage::Fork, _) => return no_process(job, &io::Error::from_raw_os_error(errno)),
        (Stage::Folder, libc::ENOENT) => format!("ENOENT: plugin folder {} not found", config.plugin_path.display()),
        (Stage::Folder, _) => format!("{name:?}: plugin folder {} can't be entered ({})", config.plugin_path.display(), name.desc()),
        (Stage::Exec, libc::ENOENT | libc::ENOTDIR) if found.is_some() => {
            format!("{name:?}: program {program} can't be run (the interpreter that it names was not found){}", hint())
        }
        (Stage::Exec, libc::ENOENT | libc::ENOTDIR) if program.contains('/') => format!("{name:?}: program {program} not found{}", hint()),
        (Stage::Exec, libc::ENOENT | libc::ENOTDIR) => format!("{name:?}: program {program} not found in PATH{}", hint()),
        (Stage::Exec, _) => format!("{name:?}: program {program} can't be run ({}){}", name.desc(), hint()),
    };
    let (call, path) =
        if stage == Stage::Folder { ("chdir", config.plugin_path.display().to_string()) } else { ("execve", program.clone()) };
    Failure::Spawn { problem, refused: Some(Refused { errno, call: Some(call), path: Some(path) }) }
}

/// The sentence for want of means, the program's own faults apart.
pub fn no_process(job: &Job, error: &io::Error) -> Failure {
    let command = &job.config.command;
    Failure::Spawn {
        problem: format!("no process can be made for {command}: {}", io_text(error)),
        refused: Refused::by(error, Some("spawn"), Some(command)),
    }
}

/// A command inside the plugin's own environment is missing, or can't be run, because that was never made.
fn hint(job: &Job, envs_dir: &Path) -> String {
    let plugin = envs_dir.join(&job.config.plugin_name);
    let marker = plugin.join(".installed");
    let inside = |program: &String| real(&job.config.plugin_path.join(program)).starts_with(real(&plugin));
    if !marker.exists() && programs(&job.config, &environment(job)).iter().any(inside) {
        format!("; the plugin's environment is not installed ({} is missing)", marker.display())
    } else {
        String::new()
    }
}

/// As far as it exists without links and detours, and from there on as it is.
fn real(path: &Path) -> PathBuf {
    path.ancestors()
        .find_map(|above| Some(above.canonicalize().ok()?.join(path.strip_prefix(above).ok()?)))
        .unwrap_or_else(|| path.to_owned())
}
