//! The native half of `BackgroundProcessManager`.

use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;

use napi::bindgen_prelude::{Function, Object, ObjectFinalize, Unknown};
use napi::{Env, sys};
use napi_derive::napi;

use super::events::NativeMessage;
use super::follower::NativeFollower;
use super::host_view::NativeHostView;
use super::log;
use super::types::{
    self, NativeFailure, NativeGroupStart, NativeInfo, NativeKeys, NativeMetrics, NativeProblem, NativeStart, Remarks, count, failure,
};
use super::wake::Wake;
use ally_base::wire::OwnerDeath;
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::config::{keys, name_problem, path_problem};
use ally_core::error::Failure;
use ally_core::lifecycle::Ticket;
use ally_core::model::ProcessState;
use ally_core::sharing::Router;
use ally_core::supervisor::{Accepted, AcceptedGroup, GuardianProgram, Leftovers, Message, Options, TextFormat, check};

#[napi(object)]
pub struct NativeOptions {
    pub envs_dir: String,
    pub keep_on_owner_death: bool,
    pub guardian: String,
    pub has_logger: bool,
    pub debug: bool,
    /// The value of ALLY_LOG.
    pub log_filter: Option<String>,
}

/// The rest of an upgrade.
#[napi(object)]
pub struct NativeUpgrade {
    /// As in `start`.
    pub variables: String,
    pub turn: u32,
    /// The changed fields, names and values as text in turn, for the other sessions of a shared daemon.
    pub changes: Vec<String>,
}

#[napi(custom_finalize)]
pub struct NativeManager {
    /// Boxed, because the cleanup hook of the environment holds the address.
    manager: Box<Router>,
    wake: Arc<Wake>,
    /// The number of calls that are not settled.
    pending: u32,
    /// Whether running daemons keep the event loop alive: ref() and unref().
    attached: bool,
    /// Whether this manager keeps the event loop alive now.
    holding: bool,
}

#[napi]
impl NativeManager {
    /// `wake` is called if messages wait for `take`. `resource.hasRef` returns whether this manager keeps the event loop alive.
    #[napi(constructor)]
    pub fn new(env: Env, options: NativeOptions, wake: Function<'_, (), ()>, resource: Object<'_>) -> napi::Result<Self> {
        log::install(options.log_filter.as_deref());
        let wake = Wake::new(env, wake, resource)?;
        let waker = Arc::clone(&wake);
        let owner_death = if options.keep_on_owner_death { OwnerDeath::Keep } else { OwnerDeath::Stop };
        let manager = Box::new(Router::new(
            Options {
                envs_dir: PathBuf::from(options.envs_dir),
                owner_death,
                guardian: GuardianProgram { path: PathBuf::from(options.guardian), version: VERSION, build: BUILD_ID },
            },
            Box::new(move || waker.call()),
        ));
        if options.has_logger {
            log::connect(manager.id(), Arc::downgrade(manager.mailbox()), options.debug);
            manager.set_logger();
        }
        // SAFETY: on the environment's own thread. The address of the manager is valid until `finalize` has removed the hook.
        let status = unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(environment_ends), hook_argument(&manager)) };
        if status != sys::Status::napi_ok {
            return Err(napi::Error::new(status.into(), "the environment's end can't be watched"));
        }
        Ok(Self { manager, wake, pending: 0, attached: true, holding: false })
    }

    /// `unread`: the paths of unknown keys. `built_in`: path and kind, alternating, of values such as a Map. `variables`: the
    /// caller's environment, each `KEY=VALUE` with a NUL behind it. `turn`: the number of this turn of the event loop.
    #[napi]
    pub fn start(
        &mut self,
        env: Env,
        config: Unknown<'_>,
        unread: Vec<String>,
        built_in: Vec<String>,
        variables: String,
        turn: u32,
    ) -> napi::Result<NativeStart> {
        self.manager.enter_turn(turn);
        let config = types::config(&config, Remarks { unread, built_in })?;
        let started = self.manager.start(&config, variables.into());
        self.native_start(env, started, config.text("pluginName").filter(|name| !name.is_empty()).map(str::to_owned))
    }

    /// As `start`, for the configuration of an upgrade.
    #[napi]
    pub fn upgrade(
        &mut self,
        env: Env,
        config: Unknown<'_>,
        unread: Vec<String>,
        built_in: Vec<String>,
        upgrade: NativeUpgrade,
    ) -> napi::Result<NativeStart> {
        let NativeUpgrade { variables, turn, changes } = upgrade;
        let config = types::config(&config, Remarks { unread, built_in })?;
        self.manager.enter_turn(turn);
        let upgraded = self.manager.upgrade(&config, variables.into(), types::changes(changes));
        self.native_start(env, upgraded, config.text("pluginName").map(str::to_owned))
    }

    fn native_start(&mut self, env: Env, started: Result<Accepted, Failure>, plugin_name: Option<String>) -> napi::Result<NativeStart> {
        Ok(match started {
            Ok(accepted) => {
                NativeStart { ticket: Some(self.await_ticket(env, accepted.ticket)?), accepted: accepted.accepted, failure: None }
            }
            Err(problem) => NativeStart { ticket: None, accepted: false, failure: Some(failure(&problem, plugin_name)) },
        })
    }

    /// `unread` and `built_in`: as in `start`, per configuration. `turn`: as in `start`.
    #[napi]
    pub fn start_group(
        &mut self,
        env: Env,
        configs: Vec<Unknown<'_>>,
        unread: Vec<Vec<String>>,
        built_in: Vec<Vec<String>>,
        variables: String,
        turn: u32,
    ) -> napi::Result<NativeGroupStart> {
        self.manager.enter_turn(turn);
        let remarks = unread.into_iter().zip(built_in).map(|(unread, built_in)| Remarks { unread, built_in });
        let configs =
            configs.iter().zip(remarks).map(|(config, remarks)| types::config(config, remarks)).collect::<napi::Result<Vec<_>>>()?;
        Ok(match self.manager.start_group(&configs, &variables.into()) {
            Ok(AcceptedGroup { ticket, jobs }) => {
                let jobs = jobs.into_iter().map(count).collect();
                NativeGroupStart { ticket: Some(self.await_ticket(env, ticket)?), jobs, failure: None }
            }
            Err(refusal) => NativeGroupStart { ticket: None, jobs: Vec::new(), failure: Some((*refusal).into()) },
        })
    }

    /// The problem of a configuration, if there is one. Starts nothing.
    #[napi]
    pub fn check_config(config: Unknown<'_>, built_in: Vec<String>) -> napi::Result<Option<NativeProblem>> {
        Ok(match check(&types::config(&config, Remarks { unread: Vec::new(), built_in })?) {
            Err(Failure::InvalidConfig { field, problem }) => Some(NativeProblem { field, problem }),
            Err(other) => Some(NativeProblem { field: "config".to_owned(), problem: other.to_string() }),
            Ok(_) => None,
        })
    }

    /// The problem of a plugin's name, if there is one.
    #[napi]
    pub fn name_problem(name: Unknown<'_>) -> napi::Result<Option<String>> {
        Ok(name_problem(types::value(&name)?))
    }

    /// The problem of an absolute path, if there is one.
    #[napi]
    pub fn path_problem(path: Unknown<'_>) -> napi::Result<Option<String>> {
        Ok(path_problem(types::value(&path)?))
    }

    /// The failure `InvalidConfig`. `field problem` reads as a sentence.
    #[napi]
    pub fn invalid_config(field: String, problem: String, plugin_name: Option<String>) -> NativeFailure {
        failure(&Failure::InvalidConfig { field, problem }, plugin_name.filter(|name| !name.is_empty()))
    }

    /// The keys of configurations and options.
    #[napi]
    pub fn keys() -> NativeKeys {
        let name = |key: &keys::Key| key.name.to_owned();
        NativeKeys {
            config: keys::paths(keys::CONFIG),
            options: keys::OPTIONS.iter().map(name).collect(),
            unbuilt_options: keys::OPTIONS.iter().filter(|key| !key.built).map(name).collect(),
        }
    }

    /// Whether `take` has left messages for the next turn of the event loop.
    #[napi]
    pub fn has_more(&self) -> bool {
        self.manager.mailbox().has_more()
    }

    #[napi]
    pub fn abort(&self, plugin_name: String, ticket: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ticket from `start`, which is a whole number")]
        self.manager.abort(&plugin_name, ticket as Ticket);
    }

    #[napi]
    pub fn revoke(&mut self, env: Env, plugin_name: String, ticket: f64) -> napi::Result<f64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ticket from `start`, which is a whole number")]
        let answer = self.manager.revoke(&plugin_name, ticket as Ticket);
        self.await_ticket(env, answer)
    }

    #[napi]
    pub fn when_running(&mut self, env: Env, plugin_name: String) -> napi::Result<f64> {
        let ticket = self.manager.when_running(&plugin_name);
        self.await_ticket(env, ticket)
    }

    #[napi]
    pub fn abort_wait(&self, plugin_name: String, ticket: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a ticket from `when_running`, which is a whole number"
        )]
        self.manager.abort_wait(&plugin_name, ticket as Ticket);
    }

    /// `everywhere`: a shared plugin for all sessions.
    #[napi]
    pub fn stop(&mut self, env: Env, plugin_name: String, everywhere: bool) -> napi::Result<f64> {
        let ticket = self.manager.stop(&plugin_name, everywhere);
        self.await_ticket(env, ticket)
    }

    /// Ends what a dead owner left of a plugin: with `signals` its processes, otherwise only the files of what is gone.
    #[napi]
    pub fn end_leftovers(&mut self, env: Env, plugin_name: String, signals: bool) -> napi::Result<NativeStart> {
        let what = if signals { Leftovers::Stop } else { Leftovers::Tidy };
        let begun = self.manager.end_leftovers(&plugin_name, what).map(|ticket| Accepted { ticket, accepted: true });
        self.native_start(env, begun, Some(plugin_name))
    }

    /// Restarts a shared plugin that this manager need not have.
    #[napi]
    pub fn restart_shared(&mut self, env: Env, plugin_name: String) -> napi::Result<NativeStart> {
        let begun = self.manager.restart_shared(&plugin_name).map(|ticket| Accepted { ticket, accepted: true });
        self.native_start(env, begun, Some(plugin_name))
    }

    /// Ends every daemon of the host of shared daemons, and the host, of whatever build.
    #[napi]
    pub fn end_host(&mut self, env: Env) -> napi::Result<NativeStart> {
        let begun = self.manager.end_host().map(|ticket| Accepted { ticket, accepted: true });
        self.native_start(env, begun, None)
    }

    /// What the host of shared daemons tells of itself. Waits for it, 10 s at most. Makes and ends no host.
    #[napi]
    pub fn view_host(&self) -> NativeHostView {
        self.manager.view_host().into()
    }

    /// The output of a shared plugin that this manager need not have: the last `lines` lines and, with `live`, each further one.
    /// `None` after the end of the manager.
    #[napi]
    pub fn watch_shared(&self, plugin_name: String, lines: u32, live: bool) -> Option<NativeFollower> {
        self.manager.watch_shared(&plugin_name, lines as usize, live).ok().map(NativeFollower::new)
    }

    /// Ends the daemon of a living owner, through its keeper.
    #[napi]
    pub fn end_by_force(&mut self, env: Env, plugin_name: String) -> napi::Result<NativeStart> {
        let begun = self.manager.end_leftovers(&plugin_name, Leftovers::Force).map(|ticket| Accepted { ticket, accepted: true });
        self.native_start(env, begun, Some(plugin_name))
    }

    #[napi]
    pub fn stop_group(&mut self, env: Env, group: String) -> napi::Result<f64> {
        let ticket = self.manager.stop_group(&group);
        self.await_ticket(env, ticket)
    }

    #[napi]
    pub fn stop_all(&mut self, env: Env) -> napi::Result<f64> {
        let ticket = self.manager.stop_all();
        self.await_ticket(env, ticket)
    }

    #[napi]
    pub fn restart(&mut self, env: Env, plugin_name: String) -> napi::Result<f64> {
        let ticket = self.manager.restart(&plugin_name);
        self.await_ticket(env, ticket)
    }

    /// Takes the oldest messages.
    #[napi]
    pub fn take(&mut self, env: Env) -> napi::Result<Vec<NativeMessage>> {
        let messages: Vec<NativeMessage> =
            self.manager.mailbox().take().into_iter().filter_map(|message| self.for_javascript(message)).collect();
        let settled = messages.iter().filter(|message| message.ticket.is_some()).count();
        self.pending = self.pending.saturating_sub(u32::try_from(settled).unwrap_or(u32::MAX));
        self.hold(env)?;
        Ok(messages)
    }

    /// The names of the states. `state` returns an index into this array.
    #[napi]
    pub fn states() -> Vec<&'static str> {
        ProcessState::ALL.map(ProcessState::as_str).to_vec()
    }

    /// An index into `states`, because creating a string would dominate the cost of the call. -1 for an unknown plugin.
    #[napi]
    pub fn state(&self, plugin_name: String) -> i32 {
        self.manager.state(&plugin_name).map_or(-1, |state| state as i32)
    }

    #[napi]
    pub fn pid(&self, plugin_name: String) -> Option<i32> {
        self.manager.pid(&plugin_name)
    }

    /// The version of `info`, which changes with every field except `uptime`. 0 for an unknown plugin.
    #[napi]
    pub fn revision(&self, plugin_name: String) -> f64 {
        self.manager.revision(&plugin_name).map_or(0.0, count)
    }

    #[napi]
    pub fn info(&self, plugin_name: String) -> Option<NativeInfo> {
        self.manager.info(&plugin_name).map(NativeInfo::from)
    }

    #[napi]
    pub fn names(&self) -> Vec<String> {
        self.manager.names()
    }

    /// The newest values. Samples nothing in the call.
    #[napi]
    pub fn metrics(&self, plugin_name: String) -> Option<NativeMetrics> {
        self.manager.metrics(&plugin_name).map(NativeMetrics::from)
    }

    /// As `metrics`, of all known plugins, sorted by name.
    #[napi]
    pub fn all_metrics(&self) -> Vec<NativeMetrics> {
        self.manager.all_metrics().into_iter().map(NativeMetrics::from).collect()
    }

    /// `open_metrics`: OpenMetrics 1.0, otherwise Prometheus 0.0.4.
    #[napi]
    pub fn metrics_text(&self, open_metrics: bool) -> String {
        self.manager.metrics_text(if open_metrics { TextFormat::OpenMetrics } else { TextFormat::Prometheus })
    }

    #[napi]
    pub fn output(&self, plugin_name: String, lines: u32) -> Vec<String> {
        self.manager.output(&plugin_name, lines as usize)
    }

    /// The follower of a plugin's output, with its last `lines` lines. `None` for an unknown plugin.
    #[napi]
    pub fn follow(&self, plugin_name: String, lines: u32, live: bool) -> Option<NativeFollower> {
        self.manager.follow(&plugin_name, lines as usize, live).ok().map(NativeFollower::new)
    }

    /// The failure `NotFound`.
    #[napi]
    pub fn not_found(plugin_name: String) -> NativeFailure {
        failure(&Failure::NotFound, Some(plugin_name))
    }

    #[napi]
    pub fn forget(&self, plugin_name: String) -> bool {
        self.manager.forget(&plugin_name)
    }

    /// Sets whether the logger reads debug entries.
    #[napi]
    pub fn log_debug(&self, on: bool) {
        log::connect(self.manager.id(), Arc::downgrade(self.manager.mailbox()), on);
        self.manager.set_logger();
    }

    /// Sets which of the events `output` and `health` have listeners. Events without a listener are not sent.
    #[napi]
    pub fn listen(&self, output: bool, health: bool) {
        self.manager.listen(output, health);
    }

    /// Sets whether running daemons keep the event loop alive: ref() and unref().
    #[napi]
    pub fn attach(&mut self, env: Env, on: bool) -> napi::Result<()> {
        self.attached = on;
        self.hold(env)
    }

    /// Whether the JavaScript manager must not be garbage-collected: a call is not settled, or a daemon is pending.
    #[napi]
    pub fn is_busy(&self) -> bool {
        self.pending > 0 || self.manager.is_pending()
    }

    /// Whether this manager keeps the event loop alive now.
    #[napi]
    pub fn is_holding(&self) -> bool {
        self.holding
    }

    /// The message for the JavaScript layer. `None` for `Dropped`, which becomes a log entry.
    fn for_javascript(&self, message: Message) -> Option<NativeMessage> {
        if let Message::Dropped { events, lines } = message {
            self.manager.log_dropped(events, lines);
            return None;
        }
        Some(message.into())
    }

    fn await_ticket(&mut self, env: Env, ticket: Ticket) -> napi::Result<f64> {
        self.pending += 1;
        self.hold(env)?;
        Ok(count(ticket))
    }

    fn hold(&mut self, env: Env) -> napi::Result<()> {
        let hold = self.pending > 0 || (self.attached && self.manager.is_pending());
        if hold != self.holding {
            self.wake.keep_alive(env.raw(), hold)?;
            self.holding = hold;
        }
        Ok(())
    }
}

impl ObjectFinalize for NativeManager {
    fn finalize(self, env: Env) -> napi::Result<()> {
        // SAFETY: the arguments are those of the registration. Removing a hook that has run is no error.
        unsafe { sys::napi_remove_env_cleanup_hook(env.raw(), Some(environment_ends), hook_argument(&self.manager)) };
        log::disconnect(self.manager.id());
        self.manager.close();
        self.wake.close();
        Ok(())
    }
}

fn hook_argument(manager: &Router) -> *mut c_void {
    ptr::from_ref(manager).cast_mut().cast()
}

/// The end of a worker or of the program ends its managers, even if JavaScript still refers to them.
unsafe extern "C" fn environment_ends(manager: *mut c_void) {
    // SAFETY: the argument belongs to a `NativeManager`, which removes this hook before it is dropped.
    let manager = unsafe { &*manager.cast_const().cast::<Router>() };
    manager.close();
}
