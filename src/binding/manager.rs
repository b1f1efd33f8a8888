//! The native half of `BackgroundProcessManager`.

use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;

use napi::bindgen_prelude::{Function, Object, ObjectFinalize, Unknown};
use napi::{Env, sys};
use napi_derive::napi;

use super::events::NativeMessage;
use super::log;
use super::types::{self, NativeFailure, NativeInfo, NativeKeys, NativeProblem, NativeStart, Remarks, count, failure};
use super::wake::Wake;
use ally_base::text::printable;
use ally_base::wire::OwnerDeath;
use ally_build_id::{BUILD_ID, VERSION};
use ally_core::config::{Raw, name_problem, names, parse, path_problem};
use ally_core::error::Failure;
use ally_core::lifecycle::Ticket;
use ally_core::model::ProcessState;
use ally_core::supervisor::{GuardianProgram, Manager, Message, Options};

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

#[napi(custom_finalize)]
pub struct NativeManager {
    /// Boxed, so that the hook at the environment's end can find it where it is.
    manager: Box<Manager>,
    wake: Arc<Wake>,
    /// Calls of the JavaScript layer that are not settled.
    pending: u32,
    /// Whether running daemons count.
    attached: bool,
    /// Whether the event loop is being kept alive.
    holding: bool,
}

#[napi]
impl NativeManager {
    /// `wake` is called whenever there is something for `take`; `resource.hasRef` says whether that keeps the
    /// event loop alive.
    #[napi(constructor)]
    pub fn new(env: Env, options: NativeOptions, wake: Function<'_, (), ()>, resource: Object<'_>) -> napi::Result<Self> {
        log::install(options.log_filter.as_deref());
        let wake = Wake::new(env, wake, resource)?;
        let waker = Arc::clone(&wake);
        let owner_death = if options.keep_on_owner_death { OwnerDeath::Keep } else { OwnerDeath::Stop };
        let manager = Box::new(Manager::new(
            Options {
                envs_dir: PathBuf::from(options.envs_dir),
                owner_death,
                guardian: GuardianProgram { path: PathBuf::from(options.guardian), version: VERSION, build: BUILD_ID },
            },
            Box::new(move || waker.call()),
        ));
        if options.has_logger {
            log::connect(manager.id(), Arc::downgrade(manager.mailbox()), options.debug);
        }
        // SAFETY: on the environment's own thread. The manager stays where it is until `finalize` has taken the hook
        // away again.
        let status = unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(environment_ends), hook_argument(&manager)) };
        if status != sys::Status::napi_ok {
            return Err(napi::Error::new(status.into(), "the environment's end can't be watched"));
        }
        Ok(Self { manager, wake, pending: 0, attached: true, holding: false })
    }

    /// `unread`: paths of keys that mean nothing. `built_in`: path and kind in turn of values such as a Map. `variables`: the
    /// caller's environment, KEY=VALUE with a NUL behind each.
    #[napi]
    pub fn start(
        &mut self,
        env: Env,
        config: Unknown<'_>,
        unread: Vec<String>,
        built_in: Vec<String>,
        variables: String,
    ) -> napi::Result<NativeStart> {
        let config = types::config(&config, Remarks { unread, built_in })?;
        Ok(match self.manager.start(&config, variables.into()) {
            Ok(accepted) => NativeStart { ticket: Some(self.await_ticket(env, accepted.ticket)?), taken: accepted.taken, failure: None },
            Err(problem) => NativeStart { ticket: None, taken: false, failure: Some(failure(&problem, plugin_name(&config))) },
        })
    }

    /// What is wrong with a configuration, if anything, without doing anything with it.
    #[napi]
    pub fn check_config(config: Unknown<'_>, built_in: Vec<String>) -> napi::Result<Option<NativeProblem>> {
        Ok(match parse(&types::config(&config, Remarks { unread: Vec::new(), built_in })?) {
            Err(Failure::InvalidConfig { field, problem }) => Some(NativeProblem { field, problem }),
            Err(other) => Some(NativeProblem { field: "config".to_owned(), problem: other.to_string() }),
            Ok(_) => None,
        })
    }

    /// What is wrong with a plugin's name, if anything.
    #[napi]
    pub fn name_problem(name: Unknown<'_>) -> napi::Result<Option<String>> {
        Ok(name_problem(types::value(&name)?))
    }

    /// What is wrong with an absolute path, if anything.
    #[napi]
    pub fn path_problem(path: Unknown<'_>) -> napi::Result<Option<String>> {
        Ok(path_problem(types::value(&path)?))
    }

    /// The failure that says so: `field problem` reads as a sentence.
    #[napi]
    pub fn invalid_config(field: String, problem: String, plugin_name: Option<String>) -> NativeFailure {
        failure(&Failure::InvalidConfig { field: printable(&field), problem }, plugin_name.filter(|name| !name.is_empty()))
    }

    /// The keys of configurations and options.
    #[napi]
    pub fn keys() -> NativeKeys {
        let unbuilt = names::OPTIONS.iter().filter(|key| !key.built);
        NativeKeys { config: names::paths(names::CONFIG), unbuilt_options: unbuilt.map(|key| key.name.to_owned()).collect() }
    }

    /// Whether `take` has left something for the next turn of the event loop.
    #[napi]
    pub fn has_more(&self) -> bool {
        self.manager.mailbox().has_more()
    }

    #[napi]
    pub fn abort(&self, plugin_name: String, ticket: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a ticket that we gave out")]
        self.manager.abort(&plugin_name, ticket as Ticket);
    }

    #[napi]
    pub fn stop(&mut self, env: Env, plugin_name: String) -> napi::Result<f64> {
        let ticket = self.manager.stop(&plugin_name);
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

    /// What happened since the last call.
    #[napi]
    pub fn take(&mut self, env: Env) -> napi::Result<Vec<NativeMessage>> {
        let messages: Vec<NativeMessage> =
            self.manager.mailbox().take().into_iter().filter_map(|message| self.for_javascript(message)).collect();
        let settled = messages.iter().filter(|message| message.ticket.is_some()).count();
        self.pending = self.pending.saturating_sub(u32::try_from(settled).unwrap_or(u32::MAX));
        self.hold(env)?;
        Ok(messages)
    }

    /// The states by the number that `state` gives.
    #[napi]
    pub fn states() -> Vec<&'static str> {
        ProcessState::ALL.map(ProcessState::as_str).to_vec()
    }

    /// A number, because a string costs more to make than all the rest of the call; -1 for a name that isn't known.
    #[napi]
    pub fn state(&self, plugin_name: String) -> i32 {
        self.manager.state(&plugin_name).map_or(-1, |state| state as i32)
    }

    #[napi]
    pub fn pid(&self, plugin_name: String) -> Option<i32> {
        self.manager.pid(&plugin_name)
    }

    /// Changes with what `info` tells, uptime apart; 0 for a name that isn't known.
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

    #[napi]
    pub fn output(&self, plugin_name: String, lines: u32) -> Vec<String> {
        self.manager.output(&plugin_name, lines as usize)
    }

    #[napi]
    pub fn forget(&self, plugin_name: String) -> bool {
        self.manager.forget(&plugin_name)
    }

    /// Whether the logger reads log entries at debug.
    #[napi]
    pub fn log_debug(&self, on: bool) {
        log::connect(self.manager.id(), Arc::downgrade(self.manager.mailbox()), on);
    }

    /// Which of the events `output` and `health`, which are sent only then, have listeners.
    #[napi]
    pub fn listen(&self, output: bool, health: bool) {
        self.manager.listen(output, health);
    }

    /// Whether running daemons keep the event loop alive.
    #[napi]
    pub fn attach(&mut self, env: Env, on: bool) -> napi::Result<()> {
        self.attached = on;
        self.hold(env)
    }

    /// Whether anything is going on that the JavaScript layer must stay reachable for.
    #[napi]
    pub fn is_busy(&self) -> bool {
        self.pending > 0 || self.manager.is_pending()
    }

    /// Whether the event loop is being kept alive.
    #[napi]
    pub fn is_holding(&self) -> bool {
        self.holding
    }

    /// The message as the JavaScript layer reads it; `None` for a count of dropped messages, which becomes a log entry.
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
        // SAFETY: as it was added. One that has run is not found any more, which is no error.
        unsafe { sys::napi_remove_env_cleanup_hook(env.raw(), Some(environment_ends), hook_argument(&self.manager)) };
        log::disconnect(self.manager.id());
        self.manager.close();
        self.wake.close();
        Ok(())
    }
}

fn hook_argument(manager: &Manager) -> *mut c_void {
    ptr::from_ref(manager).cast_mut().cast()
}

/// The end of a worker, or of the program, is the end of the owner, whoever still refers to us.
unsafe extern "C" fn environment_ends(manager: *mut c_void) {
    // SAFETY: the argument is a `NativeManager`'s, which takes this hook away before it goes.
    let manager = unsafe { &*manager.cast_const().cast::<Manager>() };
    manager.close();
}

/// For the error of a configuration that is otherwise wrong.
fn plugin_name(config: &Raw) -> Option<String> {
    let Raw::Object(entries) = config else { return None };
    entries.iter().find_map(|(key, value)| match value {
        Raw::String(name) if key == "pluginName" && !name.is_empty() => Some(name.clone()),
        _ => None,
    })
}
