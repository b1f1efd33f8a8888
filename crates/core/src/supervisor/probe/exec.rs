//! The probe `exec`: a command in the daemon's environment and folder exits with 0. A probe keeper below the daemon's keeper runs
//! the command (crates/guardian/src/keeper/probe.rs), so that the command's processes are no part of the daemon's tree.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ally_base::text::{io_text, signal_name};
use ally_base::wire::{FrameBuffer, KeeperReport, Stage};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::ReadinessStatus;
use super::last_line::LastLine;
use super::question::Answer;
use crate::config::ProcessConfig;
use crate::error::Failure;
use crate::supervisor::TARGET;
use crate::supervisor::daemon::Job;
use crate::supervisor::guardian::KeeperProber;
use crate::supervisor::launch::{ProbeLaunch, explain};

/// Runs the commands of one daemon's probes, one at a time.
#[derive(Debug)]
pub struct CommandRunner {
    job: Arc<Job>,
    envs_dir: PathBuf,
    /// The token of the attempt, which is in the daemon's environment.
    token: String,
    keeper: KeeperProber,
    /// The stream of a command that has answered, or was given up, and may still have processes.
    ending: Mutex<Option<ProbeStream>>,
}

/// The stream to a probe keeper. Its end means that nothing of the command is left. If the owner closes it, the command ends.
#[derive(Debug)]
struct ProbeStream {
    stream: UnixStream,
    received: FrameBuffer,
}

/// The end of a command, as far as it is known.
enum End {
    Exited(i32),
    NotSpawned(Stage, i32),
    /// The stream ended: the keeper did not run the command, or has ended it because the daemon ends.
    Closed,
    TimedOut,
}

impl CommandRunner {
    pub const fn new(job: Arc<Job>, envs_dir: PathBuf, token: String, keeper: KeeperProber) -> Self {
        Self { job, envs_dir, token, keeper, ending: Mutex::new(None) }
    }

    /// Runs the command until `deadline` at most. If the caller drops the future, the command ends.
    pub async fn ask(&self, command: &str, args: &[String], status: &ReadinessStatus, deadline: Instant) -> Answer {
        let limit = round_to_millis(deadline.saturating_duration_since(Instant::now()));
        if status.last().is_none() {
            status.set("the command has not finished".to_owned());
        }
        let last = self.ending().take();
        if let Some(mut last) = last
            && timeout_at(deadline, last.closed()).await.is_err()
        {
            *self.ending() = Some(last);
            return Answer::Answered("the last command of the probe can't be ended".to_owned());
        }
        let job = self.job_of(command, args);
        let launched = ProbeLaunch::build(&job, &self.token).and_then(|launch| Ok((self.launch()?, launch)));
        let ((stream, output), ProbeLaunch { frame, programs }) = match launched {
            Ok(launched) => launched,
            Err(error) => return Answer::NotMade(format!("the command can't be given to the keeper: {}", io_text(&error))),
        };
        let mut run = Run { stream, output: Some(output), last_line: LastLine::default(), spawned: false };
        let end = timeout_at(deadline, run.until_end(&frame)).await.unwrap_or(End::TimedOut);
        run.read_rest();
        let answer = match end {
            End::Exited(status) => judge(status, &run.last_line),
            End::NotSpawned(Stage::Fork, errno) => Answer::NotMade(io_text(&io::Error::from_raw_os_error(errno))),
            End::NotSpawned(stage, errno) => match explain(stage, errno, &job, &programs, &self.envs_dir) {
                Failure::Spawn { problem, .. } => Answer::Answered(problem),
                other => Answer::Answered(other.to_string()),
            },
            End::TimedOut if run.spawned => Answer::Answered(format!("not finished within {} ms", limit.as_millis())),
            End::TimedOut | End::Closed => Answer::NotMade("the keeper does not run the command".to_owned()),
        };
        if run.spawned {
            // What is left of the command ends without the caller.
            run.stream.give_up();
            *self.ending() = Some(run.stream);
        }
        answer
    }

    fn job_of(&self, command: &str, args: &[String]) -> Job {
        let config = ProcessConfig { command: command.to_owned(), args: args.to_vec(), ..self.job.config.clone() };
        Job { config, inherited: Arc::clone(&self.job.inherited), id: self.job.id, member: None, owner: self.job.owner.clone() }
    }

    /// Gives the keeper the probe keeper's ends of stream and output. The command follows on the stream.
    fn launch(&self) -> io::Result<(ProbeStream, Receiver)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (output, output_end) = io::pipe()?;
        let output = Receiver::from_owned_fd(OwnedFd::from(output))?;
        let stream = UnixStream::from_std(ours)?;
        self.keeper.probe(&[theirs.into(), output_end.into()])?;
        Ok((ProbeStream { stream, received: FrameBuffer::default() }, output))
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, Option<ProbeStream>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProbeStream {
    /// The next report. `None` at the end of the stream, and after bytes that no probe keeper of this build sends. Cancel-safe.
    async fn next(&mut self) -> Option<KeeperReport> {
        loop {
            if let Some(frame) = self.received.next_frame().ok()? {
                return KeeperReport::decode(&frame);
            }
            let mut bytes = [0; 64];
            match self.stream.readable().await.and_then(|()| self.stream.try_read(&mut bytes)) {
                Ok(count) if count > 0 => self.received.extend(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }

    /// # Errors
    /// EPIPE: the keeper does not run the command.
    async fn send(&self, mut frame: &[u8]) -> io::Result<()> {
        while !frame.is_empty() {
            match self.stream.writable().await.and_then(|()| self.stream.try_write(frame)) {
                Ok(count) => frame = frame.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn give_up(&self) {
        if let Err(error) = shutdown(self.stream.as_raw_fd(), Shutdown::Write) {
            // ENOTCONN (macOS): the probe keeper is gone.
            tracing::debug!(target: TARGET, %error, "the stream of a probe is closed already");
        }
    }
}

/// A command that runs.
struct Run {
    stream: ProbeStream,
    /// `None` after its end. The command may close its output and go on.
    output: Option<Receiver>,
    last_line: LastLine,
    spawned: bool,
}

impl Run {
    async fn until_end(&mut self, frame: &[u8]) -> End {
        if self.stream.send(frame).await.is_err() {
            return End::Closed;
        }
        loop {
            tokio::select! {
                biased;
                report = self.stream.next() => match report {
                    Some(KeeperReport::Spawned { .. }) => self.spawned = true,
                    Some(KeeperReport::Exited { status, .. }) => return End::Exited(status),
                    Some(KeeperReport::SpawnFailed { stage, errno }) => return End::NotSpawned(stage, errno),
                    Some(KeeperReport::TreeGone { .. } | KeeperReport::Acknowledged | KeeperReport::Frozen { .. } | KeeperReport::EndedBy { .. }) | None => return End::Closed,
                },
                open = read_some(&mut self.output, &mut self.last_line) => if !open {
                    self.output = None;
                },
            }
        }
    }

    /// Reads what is in the pipe, at most as much as a pipe holds: another process may go on writing.
    fn read_rest(&mut self) {
        const REST_MAX: usize = 64 * 1024;
        let Some(output) = &self.output else { return };
        let mut bytes = [0; 4096];
        let mut count = 0;
        while count < REST_MAX {
            match nix::unistd::read(output, &mut bytes) {
                Ok(read) if read > 0 => {
                    self.last_line.feed(bytes.get(..read).unwrap_or_default());
                    count += read;
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// False at the end of the output. Cancel-safe.
async fn read_some(output: &mut Option<Receiver>, last_line: &mut LastLine) -> bool {
    let Some(output) = output else { return std::future::pending().await };
    match output.readable().await.and_then(|()| try_read(output, last_line)) {
        Ok(count) if count > 0 => {
            // A command that writes without end must not keep the other tasks of the thread from running.
            yield_now().await;
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(_) => false,
    }
}

/// Returns the number of bytes. A function of its own, because a buffer in the future would make each daemon's task larger.
fn try_read(output: &Receiver, last_line: &mut LastLine) -> io::Result<usize> {
    let mut bytes = [0; 4096];
    let count = output.try_read(&mut bytes)?;
    last_line.feed(bytes.get(..count).unwrap_or_default());
    Ok(count)
}

fn judge(status: i32, last_line: &LastLine) -> Answer {
    if libc::WIFSIGNALED(status) {
        return Answer::Answered(format!("killed by {}", signal_name(libc::WTERMSIG(status))));
    }
    match (libc::WEXITSTATUS(status), last_line.text()) {
        (0, _) => Answer::Passed,
        (code, None) => Answer::Answered(format!("exit code {code}")),
        (code, Some(line)) => Answer::Answered(format!("exit code {code}: {line}")),
    }
}

/// The deadline was made a moment ago.
fn round_to_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
}
