//! What the probes do otherwise at a socket that the manager holds. The socket listens before the daemon exists, so a connection alone
//! says nothing about the daemon: the kernel tells who takes it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use ally_base::os::{self, BoundBy, Waiting};
use ally_base::text::io_text;

use super::ReadinessStatus;
use super::connection::Caller;
use super::daemon::HeldProbe;
use super::question::Answer;
use crate::model::ProbeRole;

/// The kernel has no event for accept(2). As in `accepted`.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

impl Caller<'_> {
    /// Readiness: whether the daemon takes a connection that waits anyway. `None` if a connection of the probe must be made.
    pub(super) async fn ask_queue(&self, status: &ReadinessStatus, deadline: Instant) -> Option<Answer> {
        let held = self.daemon.held.as_ref().filter(|_| self.role == Some(ProbeRole::Readiness) && !self.daemon.has_waiting())?;
        match held.listener.waiting() {
            // The connection that has started the daemon leaves the queue only by accept(2).
            Ok(Waiting { count: 0, .. }) => held.on_connect.then_some(Answer::Passed),
            Ok(first) => Some(self.wait_taken(held, first, status, deadline).await),
            Err(error) => Some(Answer::NotMade(format!("the kernel doesn't tell who waits in the queue ({})", io_text(&error)))),
        }
    }

    async fn wait_taken(&self, held: &HeldProbe, mut before: Waiting, status: &ReadinessStatus, deadline: Instant) -> Answer {
        status.set("the first connection in its queue was not accepted".to_owned());
        let mut pause = FIRST_PAUSE;
        loop {
            let late = Instant::now() >= deadline;
            let now = match held.listener.waiting() {
                Ok(now) => now,
                Err(error) => return Answer::NotMade(io_text(&error)),
            };
            if has_taken(&before, &now) {
                if !self.is_taken_by_another(before.clients.first().copied()) {
                    return Answer::Passed;
                }
                return taken_by_another();
            }
            if late {
                return Answer::NotAccepted;
            }
            before = now;
            sleep_until(deadline.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether a living process outside the tree serves the connection of this client. `None`: a client that is not known.
    pub(super) fn is_taken_by_another(&self, client: Option<u64>) -> bool {
        // A health check asks as often as it is configured, and the tree has proven to take connections.
        let Some(client) = client.filter(|client| *client != 0 && self.role == Some(ProbeRole::Readiness)) else { return false };
        // If the connection is closed by now, nobody can tell.
        let Ok(Some(served)) = os::peer_of(client) else { return false };
        os::tree_has_socket(self.daemon.keeper, self.daemon.leader, served) == Some(false)
            // The daemon may have closed it meanwhile.
            && os::peer_of(client).is_ok_and(|peer| peer == Some(served))
    }

    /// Fails if the path does not lead to the held socket.
    pub(super) fn judge_held(&self, held: &HeldProbe, client: &OwnedFd) -> Result<Option<String>, Answer> {
        if held.listener.is_at(self.path) {
            return Ok(None);
        }
        match os::bound_by(self.path, self.daemon.keeper, self.daemon.leader) {
            Ok(BoundBy::Others) => Err(Answer::Other(os::peer_pid(client).unwrap_or_default())),
            // The supervisor puts the name back.
            Ok(BoundBy::Tree | BoundBy::Nobody) | Err(_) => Err(Answer::TooEarly("its name leads to another socket".to_owned())),
        }
    }
}

pub(super) fn taken_by_another() -> Answer {
    Answer::Failed("a process outside the daemon's tree accepts its connections".to_owned())
}

/// Whether a connection was taken from the queue between two looks. Clients close their ends meanwhile, and new ones come.
pub fn has_taken(before: &Waiting, now: &Waiting) -> bool {
    // In its place a client can only become 0: another one in its place means that the queue has moved up.
    let has_moved = before.clients.iter().zip(&now.clients).any(|(before, now)| now != before && *now != 0);
    now.count < before.count || has_moved
}
