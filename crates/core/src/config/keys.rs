//! Every key of a configuration and of the manager's options, including keys that are not built yet. The JavaScript layer
//! reads only these keys. [`parse`](super::parse()) refuses a key that is not built yet, by name.

/// The shape of a value, as deep as the value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A string, a number or a boolean.
    Value,
    /// A single value, or an array of values.
    List,
    /// An object with keys that the caller chooses.
    Map,
    /// An object with a fixed set of keys.
    Object(&'static [Key]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    /// If false, the parser refuses every value. If only some values of a key are built, this is true, and the parser
    /// refuses the others.
    pub built: bool,
}

impl Key {
    const fn new(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, built: true }
    }

    const fn value(name: &'static str) -> Self {
        Self::new(name, Shape::Value)
    }

    const fn list(name: &'static str) -> Self {
        Self::new(name, Shape::List)
    }

    const fn object(name: &'static str, keys: &'static [Self]) -> Self {
        Self::new(name, Shape::Object(keys))
    }

    #[expect(dead_code, reason = "every key is built today; values that are not are refused by the parser")]
    const fn unbuilt(self) -> Self {
        Self { built: false, ..self }
    }
}

/// The keys of `BackgroundProcessConfig`.
pub const CONFIG: &[Key] = &[
    Key::value("pluginName"),
    Key::value("pluginPath"),
    Key::value("command"),
    Key::list("args"),
    Key::value("socketPath"),
    Key::value("startupTimeout"),
    Key::value("shutdownGracePeriod"),
    Key::new("envVars", Shape::Map),
    Key::object("healthcheck", HEALTHCHECK),
    Key::object("restart", RESTART),
    Key::object("logs", LOGS),
    Key::object("limits", LIMITS),
    Key::object("readiness", PROBE),
    Key::value("socket"),
    Key::value("killMode"),
    Key::value("stopSignal"),
    Key::value("stopSignalTo"),
    Key::value("group"),
    Key::list("dependsOn"),
    Key::value("start"),
    Key::value("idleTimeout"),
    Key::object("shared", SHARED),
    Key::list("inheritEnv"),
    Key::value("umask"),
];

/// The keys of `HealthcheckConfig`.
pub const HEALTHCHECK: &[Key] = &[Key::value("interval"), Key::value("timeout"), Key::value("retries"), Key::object("probe", PROBE)];

/// The keys of `Probe`, of all types.
pub const PROBE: &[Key] = &[
    Key::value("type"),
    Key::value("path"),
    Key::value("host"),
    Key::value("port"),
    Key::list("status"),
    Key::value("command"),
    Key::list("args"),
    Key::value("pattern"),
    Key::value("stream"),
];

/// The keys of `RestartPolicy`.
pub const RESTART: &[Key] = &[
    Key::value("maxAttempts"),
    Key::value("delay"),
    Key::value("backoff"),
    Key::value("factor"),
    Key::value("maxDelay"),
    Key::value("jitter"),
    Key::object("window", WINDOW),
    Key::value("on"),
    Key::value("resetAfter"),
    Key::list("preventExitCodes"),
];

/// The keys of `RestartPolicy['window']`.
pub const WINDOW: &[Key] = &[Key::value("limit"), Key::value("period")];

/// The keys of `LogPolicy`.
pub const LOGS: &[Key] = &[Key::value("file"), Key::value("maxSize"), Key::value("maxFiles"), Key::value("compress")];

/// The keys of `ResourceLimits`.
pub const LIMITS: &[Key] = &[
    Key::value("maxMemory"),
    Key::value("sustain"),
    Key::value("openFiles"),
    Key::value("coreDumps"),
    Key::value("niceness"),
    Key::value("oomScoreAdj"),
];

/// The keys of `shared`.
pub const SHARED: &[Key] = &[Key::value("linger")];

/// The keys of `ManagerOptions`.
pub const OPTIONS: &[Key] =
    &[Key::value("envsDir"), Key::value("logger"), Key::value("onOwnerDeath"), Key::value("defaults"), Key::value("guardianPath")];

/// One path per value, in the order of the list: `restart.window.limit`, `args[]` for a list, `envVars.*` for a map.
pub fn paths(keys: &[Key]) -> Vec<String> {
    let mut paths = Vec::new();
    collect(keys, "", &mut paths);
    paths
}

fn collect(keys: &[Key], prefix: &str, paths: &mut Vec<String>) {
    for Key { name, shape, .. } in keys {
        match shape {
            Shape::Value => paths.push(format!("{prefix}{name}")),
            Shape::List => paths.push(format!("{prefix}{name}[]")),
            Shape::Map => paths.push(format!("{prefix}{name}.*")),
            Shape::Object(below) => collect(below, &format!("{prefix}{name}."), paths),
        }
    }
}
