//! What a process may do and see beyond its user: its namespaces, its sandbox, its groups.

use std::fs;
use std::io;

use super::identity::unless_gone;

/// The namespaces in which pids, users, files and sockets have their names.
const NAMESPACES: [(&str, &str); 4] =
    [("pid", "pid namespace"), ("user", "user namespace"), ("mnt", "mount namespace"), ("net", "network namespace")];
/// The lines of /proc/PID/status that tell about a sandbox.
const STATUS: [(&str, &str); 3] = [("NoNewPrivs:", "no_new_privs"), ("Seccomp:", "seccomp mode"), ("Groups:", "supplementary groups")];

/// The facts about one process that must be equal in a process that acts for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(Vec<(&'static str, String)>);

impl Boundary {
    /// `None` if the process is gone. 0 is this process.
    ///
    /// # Errors
    /// EACCES if this user may not read the facts of that process.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        let folder = if pid == 0 { "/proc/self".to_owned() } else { format!("/proc/{pid}") };
        let mut facts = Vec::new();
        for (file, name) in NAMESPACES {
            match fs::read_link(format!("{folder}/ns/{file}")) {
                Ok(link) => facts.push((name, link.display().to_string())),
                // Either the process is gone, which the next file tells, or the kernel has no such namespaces.
                Err(error) if error.kind() == io::ErrorKind::NotFound => facts.push((name, String::new())),
                Err(error) => return Err(error),
            }
        }
        let Some(status) = unless_gone(fs::read_to_string(format!("{folder}/status")))? else { return Ok(None) };
        for (key, name) in STATUS {
            let value = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            let mut words: Vec<&str> = value.split_ascii_whitespace().collect();
            words.sort_unstable();
            facts.push((name, words.join(" ")));
        }
        Ok(Some(Self(facts)))
    }

    /// What differs, in words.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        self.0.iter().zip(&other.0).filter(|(own, others)| own != others).map(|((name, _), _)| *name).collect()
    }
}
