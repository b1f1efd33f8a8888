//! The probe `http`: one GET, and the status of its answer.
//!
//! The request is written by hand, because it is constant but for its path. The answer comes from another program, and is parsed
//! by httparse.

mod response;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use super::ReadinessStatus;
use super::question::Answer;
use crate::config::HttpProbe;
use ally_base::os::NO_SIGPIPE;
use ally_base::text::io_text;

pub use response::{Progress, Response};

const READ_SIZE: usize = 8 * 1024;

/// Asks over this connection, and closes it.
pub async fn ask(probe: &HttpProbe, connection: OwnedFd, status: &ReadinessStatus, deadline: Instant) -> Answer {
    // SAFETY: the value owns its descriptor for as long as it lives and never swaps it.
    let connection = match unsafe { AsyncFd::register_with_interest(connection, Interest::READABLE | Interest::WRITABLE) } {
        Ok(connection) => connection,
        Err(error) => return Answer::NotMade(io_text(&error.into())),
    };
    let path = &probe.path;
    let mut response = Response::default();
    let outcome = timeout_at(deadline, exchange(probe, &connection, &mut response, status)).await;
    let code = response.status();
    if let Some(code) = code.filter(|code| !is_wanted(probe, *code)) {
        // Its end would not change that.
        return Answer::Answered(other_status(path, code));
    }
    let begun = code.map_or_else(String::new, whose_status);
    Answer::Answered(match outcome {
        Ok(Ok(Progress::Complete(_))) => return Answer::Passed,
        Ok(Ok(Progress::NotHttp(start))) => format!("no HTTP answer to GET {path}, but \"{start}\""),
        Ok(Ok(Progress::HeadTooLong)) => format!("the head of the answer to GET {path} is longer than 64 KiB"),
        Ok(Ok(Progress::Incomplete)) if response.is_empty() => format!("the connection was closed without an answer to GET {path}"),
        Ok(Ok(Progress::Incomplete)) => format!("the connection was closed in the middle of the answer to GET {path}{begun}"),
        Ok(Err(error)) => format!("the connection failed before the answer to GET {path} was complete{begun}: {}", io_text(&error)),
        Err(_) if response.is_empty() => format!("no answer to GET {path}"),
        Err(_) => format!("no end of the answer to GET {path}{begun}"),
    })
}

fn is_wanted(probe: &HttpProbe, code: u16) -> bool {
    let (low, high) = probe.status;
    (low..=high).contains(&code.into())
}

fn other_status(path: &str, code: u16) -> String {
    format!("HTTP {code} from GET {path}")
}

fn whose_status(code: u16) -> String {
    format!(", whose status is {code}")
}

/// The reason of a timeout while the end of the answer is awaited.
fn no_end(probe: &HttpProbe, code: u16) -> String {
    let path = &probe.path;
    if is_wanted(probe, code) { format!("no end of the answer to GET {path}{}", whose_status(code)) } else { other_status(path, code) }
}

/// Until the end of the answer or of the stream. `status` learns the status of the answer before its end is awaited.
async fn exchange(
    probe: &HttpProbe,
    connection: &AsyncFd<OwnedFd>,
    response: &mut Response,
    status: &ReadinessStatus,
) -> io::Result<Progress> {
    let path = &probe.path;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        let sent = connection.async_io(Interest::WRITABLE, |fd| retry(|| send(fd.as_raw_fd(), rest, NO_SIGPIPE))).await;
        match sent {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            // A server may answer and close before it has read the request.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => break,
            Err(error) => return Err(error),
        }
    }
    loop {
        if let Some(ended) = connection.async_io(Interest::READABLE, |fd| receive(fd, response)).await? {
            return Ok(ended);
        }
        if let Some(code) = response.status() {
            status.waits_because(format!("{} (probe http)", no_end(probe, code)));
        }
    }
}

/// One read. `None`: the answer goes on. A function of its own, because a buffer in the future would make each daemon's task larger.
fn receive(connection: &OwnedFd, response: &mut Response) -> io::Result<Option<Progress>> {
    let mut buffer = [0; READ_SIZE];
    match retry(|| recv(connection.as_raw_fd(), &mut buffer, MsgFlags::empty())) {
        Ok(0) => Ok(Some(response.end())),
        // A server that closes without having read the request resets the connection, behind its answer.
        Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => Ok(Some(response.end())),
        Err(error) => Err(error),
        Ok(count) => match response.feed(buffer.get(..count).unwrap_or_default()) {
            Progress::Incomplete => Ok(None),
            ended => Ok(Some(ended)),
        },
    }
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}
