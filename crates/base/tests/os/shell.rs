//! A shell as a child of the test.

use ally_base::os::{self, Process};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A shell that ends at the end of its stdin. Its children end after a minute at most.
pub struct Shell {
    pub child: Child,
    pub stdout: BufReader<ChildStdout>,
}

impl Shell {
    pub fn start(script: &str) -> Self {
        Self::from(Command::new("/bin/sh").args(["-c", script]))
    }

    pub fn from(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn line(&mut self) -> String {
        self.line_or_end().unwrap_or_default()
    }

    pub fn line_or_end(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.stdout.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    pub fn look_up(&self) -> Process {
        os::look_up(self.pid()).unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The pid belongs to this child until `wait` has reaped it, and `kill` after that does nothing.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
