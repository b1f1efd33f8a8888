//! The failure for a process that could not be made.

use std::io;
use std::path::{Path, PathBuf};

use ally_base::text::{errno_text, io_text};
use ally_base::wire::Stage;
use nix::errno::Errno;

use crate::config::{Limits, ProcessConfig};
use crate::error::{Failure, Refused};
use crate::supervisor::daemon::Job;

use super::program::{is_executable, machine_of, missing_interpreter};

/// `programs`: the paths that the keeper tried.
pub fn explain(stage: Stage, errno: i32, job: &Job, programs: &[String], envs_dir: &Path) -> Failure {
    let config = &job.config;
    if let Some((limit, value, call, path)) = refused_limit(stage, &config.limits) {
        let problem = format!("{limit} {value} was refused: {}", errno_text(errno));
        return Failure::Spawn { problem, refused: Some(Refused { errno, call: Some(call), path: path.map(str::to_owned) }) };
    }
    let path_of = |program: &String| config.plugin_path.join(program);
    // For a bare name: the path in PATH at which a file exists. After EACCES the keeper tries the next path.
    let executable = programs.iter().find(|program| errno != libc::EACCES && is_executable(&path_of(program)));
    let found = executable.or_else(|| programs.iter().find(|program| path_of(program).exists()));
    let program = found.unwrap_or(&config.command);
    let name = Errno::from_raw(errno);
    let hint = || hint(config, programs, envs_dir);
    let problem = match (stage, errno) {
        (Stage::Fork, _) => return no_process(job, &io::Error::from_raw_os_error(errno)),
        (Stage::Folder, libc::ENOENT) => format!("ENOENT: plugin folder {} not found", config.plugin_path.display()),
        (Stage::Folder, _) => format!("{name:?}: plugin folder {} can't be entered ({})", config.plugin_path.display(), name.desc()),
        (Stage::Exec, libc::ENOENT | libc::ENOTDIR) if found.is_some() => {
            let interpreter =
                missing_interpreter(&path_of(program), &config.plugin_path).map(|name| format!(" {name}")).unwrap_or_default();
            format!("{name:?}: program {program} can't be run (the interpreter{interpreter} that it names was not found){}", hint())
        }
        (Stage::Exec, libc::ENOENT | libc::ENOTDIR) if program.contains('/') => format!("{name:?}: program {program} not found{}", hint()),
        (Stage::Exec, libc::ENOENT | libc::ENOTDIR) => format!("{name:?}: program {program} not found in PATH{}", hint()),
        _ => {
            let machine = machine_of(&path_of(program)).filter(|machine| errno == libc::ENOEXEC && machine != std::env::consts::ARCH);
            let reason = machine
                .map_or_else(|| format!("({})", name.desc()), |machine| format!("because it is built for another machine ({machine})"));
            format!("{name:?}: program {program} can't be run {reason}{}", hint())
        }
    };
    let (call, path) =
        if stage == Stage::Folder { ("chdir", config.plugin_path.display().to_string()) } else { ("execve", program.clone()) };
    Failure::Spawn { problem, refused: Some(Refused { errno, call: Some(call), path: Some(path) }) }
}

/// The limit that the system refused, its value, the system call, and the file that is written for it.
fn refused_limit(stage: Stage, limits: &Limits) -> Option<(&'static str, String, &'static str, Option<&'static str>)> {
    let text = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    Some(match stage {
        Stage::Fork | Stage::Folder | Stage::Exec => return None,
        Stage::Niceness => ("limits.niceness", text(limits.niceness.map(i64::from)), "setpriority", None),
        Stage::OomScoreAdj => ("limits.oomScoreAdj", text(limits.oom_score_adj.map(i64::from)), "write", Some("/proc/self/oom_score_adj")),
        Stage::OpenFiles => ("limits.openFiles", text(limits.open_files.map(i64::from)), "setrlimit", None),
        Stage::CoreDumps => ("limits.coreDumps", limits.core_dumps.unwrap_or_default().to_string(), "setrlimit", None),
    })
}

/// The failure if no descriptor, process or memory is left (EMFILE, EAGAIN, ENOMEM).
pub fn no_process(job: &Job, error: &io::Error) -> Failure {
    let command = &job.config.command;
    Failure::Spawn {
        problem: format!("no process can be made for {command}: {}", io_text(error)),
        refused: Refused::by(error, Some("spawn"), Some(command)),
    }
}

/// If the command is inside the plugin's environment, and the environment was never installed: the end of the message, which
/// says so.
fn hint(config: &ProcessConfig, programs: &[String], envs_dir: &Path) -> String {
    let environment = envs_dir.join(&config.plugin_name);
    let marker = environment.join(".installed");
    let inside = |program: &String| real_path(&config.plugin_path.join(program)).starts_with(real_path(&environment));
    if !marker.exists() && programs.iter().any(inside) {
        format!("; the plugin's environment is not installed ({} is missing)", marker.display())
    } else {
        String::new()
    }
}

/// Resolves the links of the existing part of the path, and keeps the rest.
fn real_path(path: &Path) -> PathBuf {
    path.ancestors()
        .find_map(|above| Some(above.canonicalize().ok()?.join(path.strip_prefix(above).ok()?)))
        .unwrap_or_else(|| path.to_owned())
}
