//! startGroup and stopGroup with shared plugins among the members. The exclusive ones are the manager's own group; the shared ones
//! are started beside it, and both halves are undone if one fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use ally_base::wire::OwnerDeath;

use super::Router;
use super::client::{Client, Joined, Times};
use crate::config::{Parsed, Raw, Shared};
use crate::error::{DependencyProblem, Failure};
use crate::lifecycle::Ticket;
use crate::lifecycle::dependencies::{Dependent, start_order};
use crate::supervisor::{
    AcceptedGroup, Begun, GroupStart, Manager, MemberStart, Refusal, at_index, not_started, not_stopped, parse_all, runtime, settle_group,
};

/// # Errors
/// One cause for each configuration that is wrong. Nothing was started then.
pub fn start(router: &Router, configs: &[Raw], inherited: &Arc<str>) -> Result<AcceptedGroup, Box<Refusal>> {
    let parsed = parse_all(configs)?;
    let (own, client) = router.parts();
    if parsed.iter().all(|parsed| parsed.config.shared.is_none() && !client.holds(&parsed.config.plugin_name)) {
        return own.start_parsed_group(parsed, inherited);
    }
    own.must_be_open().map_err(|failure| Box::new(Refusal::new(String::new(), failure)))?;
    let count = parsed.len();
    let order = order(own, client, &parsed)?;
    let mut group = Group { own: Arc::clone(own), client: Arc::clone(client), begun: Instant::now(), count, shared: Vec::new() };
    let mut jobs = vec![0; count];
    let (mut exclusive, mut places) = (Vec::new(), Vec::new());
    let mut waiting: Vec<Option<Parsed>> = parsed.into_iter().map(Some).collect();
    for index in order {
        let (Some(parsed), Some(raw)) = (waiting.get_mut(index).and_then(Option::take), configs.get(index)) else { continue };
        if parsed.config.shared.is_none() {
            places.push(index);
            exclusive.push(parsed);
        } else if let Some(job) = jobs.get_mut(index) {
            *job = group.join(router, raw, parsed, inherited);
        }
    }
    let started = if exclusive.is_empty() {
        None
    } else {
        match own.begin_group(exclusive, inherited) {
            Ok(Begun { jobs: accepted, group: half, started }) => {
                for (place, job) in places.into_iter().zip(accepted) {
                    jobs[place] = job;
                }
                Some((half, started))
            }
            Err(refusal) => {
                drop(runtime::spawn(async move { drop(group.undo().await) }));
                return Err(refusal);
            }
        }
    };
    let ticket = own.context().tickets.for_caller();
    let context = Arc::clone(own.context());
    drop(runtime::spawn(async move {
        let (half, started) = started.unzip();
        let members = async {
            match started {
                Some(started) => started.await,
                None => Some(Ok(Vec::new())),
            }
        };
        if let Some(outcome) = group.finish(half.as_deref(), members).await {
            settle_group(&context, ticket, outcome);
        }
    }));
    Ok(AcceptedGroup { ticket, jobs })
}

/// The indices of the plugins in the order of their starts. Nothing is changed if one of them can't be started.
fn order(own: &Manager, client: &Client, parsed: &[Parsed]) -> Result<Vec<usize>, Box<Refusal>> {
    let refused = |index: usize, failure| {
        let name = parsed.get(index).map(|parsed| parsed.config.plugin_name.clone()).unwrap_or_default();
        Box::new(not_started(parsed.len(), vec![Refusal::new(name, failure)]))
    };
    let shared = client.dependents();
    let exclusive = own.dependents();
    let is_shared: HashSet<&str> = shared
        .iter()
        .map(|(name, _)| name.as_str())
        .chain(parsed.iter().filter(|parsed| parsed.config.shared.is_some()).map(|parsed| parsed.config.plugin_name.as_str()))
        .collect();
    let known: Vec<Dependent<'_>> = shared.iter().chain(&exclusive).map(|(name, depends_on)| Dependent { name, depends_on }).collect();
    let starting: Vec<Dependent<'_>> =
        parsed.iter().map(|Parsed { config, .. }| Dependent { name: &config.plugin_name, depends_on: &config.depends_on }).collect();
    let order = start_order(&starting, &known).map_err(|(index, problem)| refused(index, Failure::Dependency { problem }))?;
    for (index, Parsed { config, .. }) in parsed.iter().enumerate() {
        let name = config.plugin_name.as_str();
        if config.shared.is_none() {
            if client.holds(name) {
                return Err(refused(index, client.shared_by(name)));
            }
            continue;
        }
        Shared::check(own.context().options.owner_death == OwnerDeath::Keep).map_err(|failure| refused(index, at_index(index, failure)))?;
        if let Some(other) = config.depends_on.iter().find(|other| !is_shared.contains(other.as_str())) {
            let problem = DependencyProblem::NotShared { name: other.clone() };
            return Err(refused(index, Failure::Dependency { problem }));
        }
        if !own.may_be_forgotten(name) {
            return Err(refused(index, Failure::OwnedElsewhere { owner: Some(ally_base::os::own_pid()) }));
        }
        if let Some(failure) = client.difference(config) {
            return Err(refused(index, failure));
        }
    }
    let exclusive = parsed.iter().enumerate().filter(|(_, parsed)| parsed.config.shared.is_none());
    let causes: Vec<Refusal> = exclusive.filter_map(|(index, parsed)| own.unstartable(index, &parsed.config)).collect();
    if causes.is_empty() { Ok(order) } else { Err(Box::new(not_started(parsed.len(), causes))) }
}

/// The shared half of a startGroup.
struct Group {
    own: Arc<Manager>,
    client: Arc<Client>,
    begun: Instant,
    /// The number of all plugins of the call.
    count: usize,
    shared: Vec<Member>,
}

struct Member {
    name: String,
    depends_on: Vec<String>,
    /// Whether this call has attached to it.
    joined: bool,
    answer: tokio::sync::oneshot::Receiver<crate::supervisor::Outcome>,
}

impl Group {
    /// Starts a shared plugin, or waits for the start of it that is under way. Returns its job, or 0.
    fn join(&mut self, router: &Router, raw: &Raw, parsed: Parsed, inherited: &Arc<str>) -> Ticket {
        let (name, depends_on) = (parsed.config.plugin_name.clone(), parsed.config.depends_on.clone());
        let (ticket, answer) = self.own.context().tickets.for_supervisor();
        let joined = match self.client.joined(&name) {
            Joined::No => router.start_shared(raw, parsed, Arc::clone(inherited), ticket),
            Joined::Starting => {
                self.client.when_running(&name, ticket);
                false
            }
            Joined::Usable => {
                self.own.context().tickets.settle(ticket, Ok(()));
                false
            }
        };
        self.shared.push(Member { name, depends_on, joined, answer });
        if joined { ticket } else { 0 }
    }

    /// Waits for both halves. If one fails, the exclusive one is undone first: its plugins may depend on shared ones, and never the
    /// other way round. `half`: the exclusive one. `None` if the manager is closed.
    async fn finish(
        mut self,
        half: Option<&GroupStart>,
        exclusive: impl Future<Output = Option<Result<Vec<MemberStart>, Refusal>>>,
    ) -> Option<Result<Vec<MemberStart>, Refusal>> {
        let members = std::mem::take(&mut self.shared);
        let names: HashSet<String> = members.iter().map(|member| member.name.clone()).collect();
        let follows = |refusal: &Refusal| matches!(&refusal.failure, Failure::Dependency { problem: DependencyProblem::NotRunning { name, .. } } if names.contains(name));
        let mut joined = Vec::new();
        let mut answers = tokio::task::JoinSet::new();
        for Member { name, depends_on, joined: is_new, answer } in members {
            if is_new {
                joined.push((name.clone(), depends_on));
            }
            let begun = self.begun;
            answers.spawn(async move { (name, answer.await, begun.elapsed()) });
        }
        let (mut starts, mut causes, mut own) = (Vec::new(), Vec::new(), None);
        tokio::pin!(exclusive);
        loop {
            let has_failed = match &own {
                // What failed because of a shared plugin is no cause: that one's answer comes.
                Some(Err(Refusal { causes, .. })) => !causes.iter().all(follows),
                _ => false,
            } || !causes.is_empty();
            if own.is_some() && (has_failed || answers.is_empty()) {
                break;
            }
            tokio::select! {
                biased;
                Some(answered) = answers.join_next(), if causes.is_empty() => match answered {
                    Ok((plugin, Ok(Ok(())), answered)) => {
                        starts.push(self.times(plugin, answered));
                    }
                    Ok((_, Ok(Err(refusal)), _)) => {
                        causes.push(refusal);
                        half.into_iter().for_each(GroupStart::fail);
                    }
                    Ok((_, Err(_), _)) | Err(_) => return None,
                },
                outcome = &mut exclusive, if own.is_none() => own = Some(outcome?),
            }
        }
        match own? {
            Ok(own) if causes.is_empty() => {
                starts.extend(own);
                return Some(Ok(starts));
            }
            Ok(own) => {
                let own: Vec<String> = own.into_iter().map(|start| start.plugin).collect();
                causes.extend(self.own.stop_named(&own).await);
            }
            Err(refusal) => causes.extend(refusal.causes.into_iter().filter(|cause| !follows(cause))),
        }
        causes.extend(self.client.stop_in_order(joined).await);
        Some(Err(not_started(self.count, causes)))
    }

    /// All times are 0 of a member that ran before the call. `answered`: when its start was answered, for what this session has not
    /// heard of.
    fn times(&self, plugin: String, answered: Duration) -> MemberStart {
        let Times { sent, spawned, usable } = self.client.times(&plugin);
        let since = |at: Option<Instant>, latest: Duration| at.map_or(latest, |at| at.saturating_duration_since(self.begun).min(latest));
        let ready = since(usable, answered);
        let spawned = since(spawned, ready);
        MemberStart { plugin, queued: since(sent, spawned), spawned, ready }
    }

    /// Lets go of what this call has attached to.
    async fn undo(self) -> Vec<Refusal> {
        let joined = self.shared.into_iter().filter(|member| member.joined).map(|member| (member.name, member.depends_on)).collect();
        self.client.stop_in_order(joined).await
    }
}

/// `members`: the shared plugins of the group, with what each depends on. They are let go of after the exclusive ones, which may
/// depend on them.
pub fn stop(router: &Router, group: &str, members: Vec<(String, Vec<String>)>) -> Ticket {
    let (own, client) = router.parts();
    let context = Arc::clone(own.context());
    let (ticket, (stopping, stopped)) = (context.tickets.for_caller(), context.tickets.for_supervisor());
    own.stop_group_for(stopping, group);
    let client = Arc::clone(client);
    let stopping = runtime::spawn(async move {
        let count = members.len();
        // Without an answer the manager is closed.
        let mut causes = match stopped.await {
            Ok(Err(refusal)) => refusal.causes,
            _ => Vec::new(),
        };
        causes.extend(client.stop_in_order(members).await);
        let outcome = if causes.is_empty() { Ok(()) } else { Err(not_stopped(count.max(causes.len()), causes)) };
        context.tickets.settle(ticket, outcome);
    });
    // A shared plugin is known, so the runtime exists.
    drop(stopping);
    ticket
}
