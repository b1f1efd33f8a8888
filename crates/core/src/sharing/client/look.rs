//! What a process asks a host that it shares nothing with: the command line, and an owner whose plugin another owner shares. A look
//! makes no host, and ends none.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::link::{Link, Target, look_link};
use crate::error::Failure;
use crate::model::Pid;
use crate::sharing::protocol::{Call, Listed, Push, Request, SentLine, TO_HOST_MAX, encode};
use crate::sharing::stream::read_some;
use crate::supervisor::Tail;

/// The time in which a host that acts has answered.
const LIMIT: Duration = Duration::from_secs(2);
const ONLY: u64 = 1;

/// What a host tells of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct HostView {
    pub host: Pid,
    pub plugins: Vec<Listed>,
}

/// The plugins of the host that is there. `None` without one.
///
/// # Errors
/// `HostRefuses`: it is of another build, or in another sandbox. `HostSilent`; `Io`.
pub async fn look(target: &Target) -> Result<Option<HostView>, Failure> {
    let Some(mut link) = look_link(target).await? else { return Ok(None) };
    let host = link.host;
    let silent = || Failure::HostSilent { problem: format!("the host of shared daemons, process {host}, does not answer") };
    match timeout(LIMIT, list(&mut link)).await {
        Ok(Some(plugins)) => Ok(Some(HostView { host, plugins })),
        // It left meanwhile.
        Ok(None) => Ok(None),
        Err(_) => Err(silent()),
    }
}

/// `None` if the stream ends.
async fn list(link: &mut Link) -> Option<Vec<Listed>> {
    let frame = encode(&Request { id: ONLY, oldest: ONLY, call: Call::List }, TO_HOST_MAX)?;
    link.write.write_all(&frame).await.ok()?;
    let mut plugins = Vec::new();
    loop {
        while let Some(push) = link.inbound.next_message::<Push>().ok()? {
            match push {
                Push::Listed(listed) => plugins.push(*listed),
                Push::Answer { .. } => return Some(plugins),
                _ => {}
            }
        }
        read_some(&mut link.read, &mut link.inbound).await.ok().filter(|count| *count > 0)?;
    }
}

/// Reads the output of a plugin into the tail, and closes it at the end: of what is kept, or with `live` of the plugin.
pub async fn output(target: &Target, plugin: &str, lines: usize, live: bool, tail: Tail) {
    // The reader sees the end, whatever its cause.
    let _end: Option<()> = read_output(target, plugin, lines, live, &tail).await;
    tail.close();
}

async fn read_output(target: &Target, plugin: &str, lines: usize, live: bool, tail: &Tail) -> Option<()> {
    let mut link = look_link(target).await.ok()??;
    let lines = u32::try_from(lines).unwrap_or(u32::MAX);
    let call = Call::Output { plugin: plugin.to_owned(), lines, follow: live };
    link.write.write_all(&encode(&Request { id: ONLY, oldest: ONLY, call }, TO_HOST_MAX)?).await.ok()?;
    let mut writer = None;
    loop {
        while let Some(push) = link.inbound.next_message::<Push>().ok()? {
            match push {
                Push::Lines { dropped, lines, .. } => {
                    tail.count_dropped_lines(dropped);
                    lines.into_iter().for_each(|line| add(tail, &mut writer, line));
                }
                Push::Answer { outcome, .. } if !live || outcome.is_err() => return None,
                Push::Detached { .. } | Push::Leaving { .. } => return None,
                _ => {}
            }
        }
        read_some(&mut link.read, &mut link.inbound).await.ok().filter(|count| *count > 0)?;
    }
}

/// `writer`: the process of the last line.
fn add(tail: &Tail, writer: &mut Option<(u64, Option<Pid>)>, SentLine { stream, text, at, pid, .. }: SentLine) {
    let process = match *writer {
        Some((process, known)) if pid.is_none() || known == pid => process,
        _ => {
            let process = tail.begin();
            if let Some(pid) = pid {
                tail.name_process(process, pid);
            }
            *writer = Some((process, pid));
            process
        }
    };
    let mut bytes = text.into_bytes();
    bytes.push(b'\n');
    tail.append_at(process, stream, &bytes, at);
}
