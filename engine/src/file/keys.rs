//! The one table of the keys of a pipeline file and a run config: name, meaning, shape, whether it is hashed, and
//! what other tools call it. The reader takes its keys and hints from here, the JSON Schema is made from it, and
//! tests hold the guide and the versions against it.
//!
//! Pure data. A key that is not in this table is an error; one that begins with `x-` is ignored.

use crate::solid::Sandbox;

/// A kind of map in the file, with the keys it takes.
#[derive(Debug)]
pub struct Object {
    /// What it is called in messages: `a solid`.
    pub name: &'static str,
    /// Its keys, in the order of the guide.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it means, a line.
    pub doc: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// Whether what it says is part of a version.
    pub hashed: Hashed,
    /// What other tools call it.
    pub others: &'static [&'static str],
}

/// Whether what a key says is part of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashed {
    /// It is: how.
    Yes(&'static str),
    /// It is not: why.
    No(&'static str),
    /// It holds other keys of this table, each of which says so itself.
    Inside,
}

/// What a value looks like; enough to make a schema of.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text.
    Text,
    /// A text, or a number or truth value that is taken as it is written.
    Word,
    /// A text that is a number with a unit: `10m`, `8G`.
    Amount,
    /// `true` or `false`.
    Bool,
    /// A whole number that is at least this.
    Count(u32),
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// Anything.
    Any,
    /// A list.
    List(&'static Shape),
    /// One, or a list.
    Some(&'static Shape),
    /// A map with the keys of an object.
    Map(&'static Object),
    /// A map from any name.
    Named(&'static Shape),
    /// Any of these.
    Either(&'static [Shape]),
    /// The same, or nothing after the key.
    OrNothing(&'static Shape),
}

use Hashed::{Inside, No, Yes};
use Shape::{
    Amount, Any, Bool, Choice, Count, Either, List, Map, Named, OrNothing, Some as OneOrMore, Text, Word,
};

const fn key(name: &'static str, shape: Shape, hashed: Hashed, doc: &'static str) -> Key {
    Key { name, doc, shape, hashed, others: &[] }
}

impl Key {
    const fn also(mut self, others: &'static [&'static str]) -> Self {
        self.others = others;
        self
    }
}

/// Every object of the pipeline file, then of the run config.
pub static OBJECTS: &[&Object] = &[
    &PIPELINE,
    &RESOURCE,
    &MODE,
    &DEFAULTS,
    &SOLID,
    &INPUT,
    &OUTPUT,
    &FIELD,
    &EVERY,
    &RETRY,
    &AXIS,
    &RUN_CONFIG,
    &RUN_SOLID,
    &RUN_INPUT,
    &RUN_RESOURCE,
];

const TEXTS: Shape = List(&Text);
const ENV: Shape = Either(&[List(&Either(&[Text, Named(&Word)])), Named(&Word)]);
const AXES: Shape = Named(&Either(&[List(&Any), Map(&AXIS)]));
const VERSION: Shape = Either(&[Text, Map(&EVERY)]);
const CONFIG: Shape = Named(&Either(&[Choice(TYPES), Text, Map(&FIELD)]));
const SHELL: Shape = Either(&[Choice(&["sh", "bash"]), TEXTS]);

/// The types of a config field.
pub const TYPES: &[&str] = &["str", "int", "float", "bool", "list", "map", "any"];

const NAMES_ONLY: Hashed = No("a name, or for people");
const HOW: Hashed = No("how it runs, not what it makes");

/// The top of a pipeline file.
pub static PIPELINE: Object =
    Object {
        name: "a pipeline file",
        keys: &[
            key("pipeline", Text, NAMES_ONLY, "The name of the pipeline.").also(&["name", "id", "workflow"]),
            key("description", Text, NAMES_ONLY, "What it makes, in a line.").also(&["desc", "doc"]),
            key(
                "run_config",
                OneOrMore(&Text),
                No("the values in the files are, as config"),
                "Run config files, read before any `-c`.",
            )
            .also(&["configfile", "configfiles", "vars", "params_file"]),
            key(
                "store",
                Text,
                No("where results are kept, not what they are"),
                "Where the store is, relative to this file.",
            )
            .also(&["cache", "cache_dir", "storage", "workdir"]),
            key(
                INCLUDE,
                OneOrMore(&Text),
                No("what the files say is, as if it stood here"),
                "Other files whose resources, modes, matrices, defaults, solids, … belong to the pipeline; from this file.",
            )
            .also(&["includes", "import", "imports", "subworkflow", "module", "extends"]),
            key(
                "root",
                Text,
                No("where paths begin, not what they lead to"),
                "The project folder, in which all paths begin: `..` for the one above this file.",
            )
            .also(&["base", "basedir", "base_dir", "project", "repository", "wdir"]),
            SANDBOX,
            key(
                "config",
                CONFIG,
                Yes("as config of each solid that takes it with `$name`"),
                "Values for the whole pipeline, which solids take with `$name`.",
            )
            .also(&["params", "parameters", "globals"]),
            key("resources", Named(&Map(&RESOURCE)), Inside, "The tools and services that solids need.")
                .also(&["tools", "environments", "containers", "envs"]),
            key(
                "modes",
                Named(&OrNothing(&Map(&MODE))),
                No("what a mode chooses is"),
                "Named choices of resources.",
            )
            .also(&["profiles", "mode_defs"]),
            key(
                "matrices",
                Named(&AXES),
                Yes("each value is config of its element"),
                "Named matrices, for many solids.",
            )
            .also(&["foreach", "grids"]),
            key(
                "defaults",
                Map(&DEFAULTS),
                Inside,
                "What each solid gets: lists are added to, the rest is replaced.",
            )
            .also(&["default"]),
            key("solids", Named(&Map(&SOLID)), Inside, "The steps of the pipeline.").also(&[
                "stages",
                "stage",
                "rules",
                "rule",
                "ops",
                "op",
                "steps",
                "step",
                "jobs",
                "job",
                "tasks",
                "task",
                "nodes",
                "assets",
                "processes",
                "targets",
                "solid",
            ]),
            key(
                "publish",
                Named(&Text),
                No("where results are put, not what they are"),
                "Outputs that are put into the project after each run.",
            )
            .also(&["exports", "deploy", "results"]),
        ],
    };

/// A resource.
pub static RESOURCE: Object = Object {
    name: "a resource",
    keys: &[
        key("version", Text, Yes("the text"), "Its version, by hand."),
        key("probe", Text, Yes("its text and what it prints"), "A command that prints its version.")
            .also(&["command", "cmd", "check"]),
        key(
            "files",
            OneOrMore(&Text),
            Yes("path, content, executable bit"),
            "Files that belong to it, laid in the folder of each step that needs it.",
        )
        .also(&["code", "deps", "file"]),
        key("path", OneOrMore(&Text), No("a probe tells what is found there"), "Folders put before PATH.")
            .also(&["paths", "bin"]),
        key("env", Named(&Word), Yes("name and value"), "Environment variables that it sets.")
            .also(&["environment", "variables"]),
        key("config", CONFIG, Yes("the resolved values"), "The config that it takes.")
            .also(&["params", "config_schema"]),
        key(
            "resources",
            OneOrMore(&Text),
            Yes("name and version of each"),
            "The resources that it needs in turn.",
        )
        .also(&["needs", "requires", "depends_on", "required_resource_keys"]),
    ],
};

/// A mode.
pub static MODE: Object = Object {
    name: "a mode",
    keys: &[key(
        "resources",
        Named(&Map(&RESOURCE)),
        Inside,
        "Definitions that replace those of the pipeline, whole, by name.",
    )
    .also(&["resource_defs"])],
};

const CODE: Key = key(
    "code",
    OneOrMore(&Text),
    Yes("path, content, executable bit"),
    "Files, globs and folders that are its code; nothing else of the project is in its folder.",
)
.also(&["script", "scripts", "source", "sources", "src"]);
const RESOURCES: Key =
    key("resources", OneOrMore(&Text), Yes("name and version of each"), "The resources that it needs.")
        .also(&["required_resource_keys", "requires", "container", "conda", "envs"]);
const ENVIRONMENT: Key = key(
    "env",
    ENV,
    Yes("name and value, or that it is unset"),
    "Environment variables that it sees: a name passes one on, name: value sets it.",
)
.also(&["environment", "envvars"]);
const PASS_ENV: Key = key(
    "pass_env",
    OneOrMore(&Text),
    No("it must not change the result"),
    "Environment variables that it sees, neither hashed nor recorded.",
)
.also(&["passenv", "pass-env"]);
const SECRETS: Key = key(
    "secrets",
    OneOrMore(&Text),
    No("never stored in any form"),
    "Environment variables that it must have: never hashed or stored, blotted out of its output.",
)
.also(&["secret"]);
const SHELL_KEY: Key = key(
    "shell",
    SHELL,
    Yes("as written"),
    "What runs a command line: `sh` (-e -c), `bash` (-e -o pipefail -c), or a list as it is.",
);
const TIMES: Shape = Either(&[Count(0), Map(&RETRY)]);
const RETRIES: Key = key(
    "retries",
    TIMES,
    HOW,
    "How often it is tried again after a failure, or a map that says after which, and how long that waits.",
)
.also(&["retry", "restart-times", "max_retries"]);
const TIMEOUT: Key = key("timeout", Amount, HOW, "After how long an attempt is ended: `10m`.")
    .also(&["time_limit", "walltime"]);
const GRACE: Key = key(
    "grace",
    Amount,
    HOW,
    "How long it may take to end when it is asked to (SIGTERM), before it is killed: `10s`.",
)
.also(&["kill_after", "grace_period", "terminate_timeout"]);
const ALLOW_FAILURE: Key = key(
    "allow_failure",
    Bool,
    HOW,
    "When it fails, the run is as good as if it had not been there; what is below it is skipped.",
)
.also(&["ignore_errors", "continue-on-error", "continue_on_error", "ok_to_fail"]);
const CPUS: Key = key("cpus", Count(1), HOW, "How many cores a step of it uses.")
    .also(&["threads", "cores", "cpu", "ncpus"]);
const MEMORY: Key = key("memory", Either(&[Text, Count(1)]), HOW, "How much memory a step of it uses: `8G`.")
    .also(&["mem", "mem_mb", "ram"]);
const LIMITS: Key =
    key("limits", Named(&Count(1)), HOW, "How much of each named limit a step of it uses: `{gpu: 1}`.")
        .also(&["pools", "pool", "locks"]);
const PLATFORM: Key = key(
    "platform",
    Choice(&["any"]),
    Yes("linux/x86_64 and the like, unless `any`"),
    "`any`: the result is the same on every platform.",
)
.also(&["os", "arch", "system"]);

const SANDBOX: Key = key(
    "sandbox",
    Choice(Sandbox::WORDS),
    Yes("that it is `deny`: then a step can see less"),
    "What becomes of a look at what it was not given: `off`, `warn` (it is told, with the lines to add) or `deny`.",
)
.also(&["hermetic", "isolation", "sandboxed"]);
/// `retries` with all that there is to say.
pub static RETRY: Object = Object {
    name: "`retries`",
    keys: &[
        key("times", Count(0), HOW, "How often it is tried again."),
        key(
            "on",
            OneOrMore(&Either(&[Count(1), Choice(&["timeout", "signal"])])),
            HOW,
            "After which failures: exit codes, `timeout`, `signal`. Without it, after any.",
        )
        .also(&["codes", "exit_codes", "when"]),
        key("back_off", Amount, HOW, "The first wait; it doubles each time: `1s`.")
            .also(&["backoff", "delay", "wait"]),
        key("max", Amount, HOW, "The longest wait: `5m`.").also(&["max_delay", "max_back_off"]),
        key("jitter", Text, HOW, "By which part a wait is longer or shorter, as it comes: `20%`."),
    ],
};

/// What every solid gets.
pub static DEFAULTS: Object = Object {
    name: "`defaults`",
    keys: &[
        CODE,
        RESOURCES,
        ENVIRONMENT,
        PASS_ENV,
        SECRETS,
        SHELL_KEY,
        RETRIES,
        TIMEOUT,
        GRACE,
        ALLOW_FAILURE,
        CPUS,
        MEMORY,
        LIMITS,
        PLATFORM,
        SANDBOX,
    ],
};

/// A solid.
pub static SOLID: Object = Object {
    name: "a solid",
    keys: &[
        key("description", Text, NAMES_ONLY, "What it does, in a line.").also(&["desc", "doc", "message"]),
        key(
            "solid",
            Text,
            Yes("the name of the solid; the name of the invocation is not"),
            "Another invocation of that solid, with inputs and config of its own.",
        )
        .also(&["extends", "use", "uses", "alias", "template"]),
        key(
            "version",
            VERSION,
            Yes("the text; `volatile` and `every` say when it runs again"),
            "A version by hand; `volatile`: it runs in every run; {every: 1d}: its result is good for so long.",
        ),
        key("config", CONFIG, Yes("the resolved values"), "The config that it takes.").also(&[
            "params",
            "parameters",
            "config_schema",
            "options",
            "vars",
        ]),
        CODE,
        key(
            "inputs",
            Named(&Either(&[Text, List(&Text), Map(&INPUT)])),
            Yes("name and version of each"),
            "What it is given, by name.",
        )
        .also(&["deps", "dependencies", "input", "ins", "depends_on", "needs", "prerequisites"]),
        key(
            "command",
            Either(&[Text, List(&Word)]),
            Yes("as written"),
            "A shell line, or a list: one program and its arguments.",
        )
        .also(&["cmd", "run", "exec", "entrypoint", "recipe", "commands"]),
        key("stdout", Text, Yes("which output it is"), "The output that its standard output becomes.")
            .also(&["log", "capture"]),
        key(
            "outputs",
            OneOrMore(&Either(&[Text, Named(&Map(&OUTPUT))])),
            Yes("name, place, whether optional"),
            "What it makes; without it the one that `stdout` names, else `result`; []: nothing.",
        )
        .also(&["outs", "output", "out", "produces", "artifacts", "targets", "metrics", "plots"]),
        RESOURCES,
        ENVIRONMENT,
        PASS_ENV,
        SECRETS,
        SHELL_KEY,
        RETRIES,
        TIMEOUT,
        GRACE,
        ALLOW_FAILURE,
        CPUS,
        MEMORY,
        LIMITS,
        key(
            "matrix",
            Either(&[Text, List(&Either(&[Text, AXES])), AXES]),
            Yes("each value is config of its element"),
            "One step for each combination of values; or the name of one of `matrices`.",
        )
        .also(&["foreach", "wildcards", "strategy", "expand", "partitions"]),
        key(
            "map",
            Named(&Text),
            Yes("the name that the element has, and its content"),
            "One step for each element of a list that a step yields: `{part: split.parts}`; the element is an input.",
        )
        .also(&["for_each", "scatter", "dynamic", "each"]),
        key(
            "scratch",
            OneOrMore(&Text),
            No("it is there to save time, and a step has to make the same without it"),
            "Folders that are there again at its next attempt on this machine; never stored or shared.",
        )
        .also(&["cache", "caches", "persistent", "keep"]),
        PLATFORM,
        SANDBOX,
    ],
};

/// An input that is no output of a step.
pub static INPUT: Object = Object {
    name: "an input",
    keys: &[
        key(
            "path",
            Text,
            Yes("kind, content, executable bit"),
            "A file, folder or glob of the project: hashed, not stored.",
        )
        .also(&["file", "glob", "folder", "dir"]),
        key(
            "external",
            Bool,
            No("how it is given, not what it is"),
            "It may be anywhere, may be linked instead of copied, and keeps its times.",
        ),
        key("value", Any, Yes("typed, as config"), "A literal.").also(&["literal", "const"]),
        key("default", Any, Yes("typed, as config"), "A literal that the run config may replace."),
        key("probe", Text, Yes("what it prints"), "A command: what it prints is the input.")
            .also(&["command", "cmd", "run"]),
        key(
            "every",
            Amount,
            No("when it is asked again"),
            "For how long the answer of a probe is good: `1h`.",
        ),
        key(
            "gather",
            Text,
            Yes("labels and versions of the elements that are there"),
            "All elements of a step, as `step[*]`; for what is said beside it.",
        )
        .also(&["collect", "all"]),
        key(
            "failed",
            Choice(&["skip"]),
            No("which elements are there is"),
            "`skip`: go on without the elements that failed.",
        )
        .also(&["on_error", "errors"]),
        key(
            "max_failed",
            Either(&[Amount, Count(0)]),
            No("which elements are there is"),
            "How many elements may fail: `2%`, or a number; without it, any number.",
        ),
    ],
};

/// What an output may say of itself.
pub static OUTPUT: Object = Object {
    name: "an output",
    keys: &[
        key("at", Text, Yes("the place"), "Where in its folder the command writes it.")
            .also(&["path", "file", "to", "dir"]),
        key("optional", Bool, Yes("whether it is"), "It need not be made.").also(&["required"]),
        key(
            "list",
            Bool,
            Yes("whether it is"),
            "It is a list, which solids can be mapped over: a folder of elements, or a JSON list.",
        )
        .also(&["dynamic", "checkpoint", "multiple"]),
    ],
};

/// A field of a config schema.
pub static FIELD: Object =
    Object {
        name: "a config field",
        keys: &[
            key("type", Choice(TYPES), Yes("in what it makes of the value"), "What its values must be.")
                .also(&["ty", "kind", "config_type"]),
            key("default", Any, Yes("where it is used, as config"), "Its value where none is given.")
                .also(&["default_value", "value"]),
            key("enum", List(&Any), No("it only refuses values"), "The only values allowed.")
                .also(&["choices", "values", "options", "allowed"]),
            key(
                "secret",
                Bool,
                No("the value is, whether it is secret or not"),
                "The value is never printed, and kept only as a keyed digest.",
            )
            .also(&["sensitive", "hidden"]),
        ],
    };

/// A version that is a time.
pub static EVERY: Object = Object {
    name: "a version",
    keys: &[key("every", Amount, No("when it runs again"), "For how long a result is good: `1d`.")],
};

/// An axis that is no list.
pub static AXIS: Object = Object {
    name: "an axis",
    keys: &[key(
        "rows",
        Text,
        Yes("each row is config of its element"),
        "A .tsv or .csv file: one element a row, labelled by its first column.",
    )
    .also(&["table", "file", "csv", "tsv"])],
};

/// The top of a run config.
pub static RUN_CONFIG: Object = Object {
    name: "a run config",
    keys: &[
        key("solids", Named(&OrNothing(&Map(&RUN_SOLID))), Inside, "Config and inputs of steps.")
            .also(&["ops", "op", "solid", "stages", "rules", "steps", "tasks", "jobs"]),
        key(
            "resources",
            Named(&OrNothing(&Map(&RUN_RESOURCE))),
            Inside,
            "Config of resources; `io_manager.config.base_dir` is where the store is.",
        ),
        key(
            "config",
            Named(&Any),
            Yes("as config of each solid that takes it with `$name`"),
            "Values for the pipeline as a whole.",
        )
        .also(&["params", "parameters"]),
    ],
};

/// A step of a run config.
pub static RUN_SOLID: Object = Object {
    name: "a step of a run config",
    keys: &[
        key("config", Named(&Any), Yes("the resolved values"), "Its config.").also(&["params", "parameters"]),
        key("inputs", Named(&Any), Yes("typed, as config"), "Values for inputs that have a default.")
            .also(&["input"]),
    ],
};

/// An input of a run config in its long form.
pub static RUN_INPUT: Object = Object {
    name: "an input of a run config",
    keys: &[key("value", Any, Yes("typed, as config"), "The value.")],
};

/// A resource of a run config.
pub static RUN_RESOURCE: Object = Object {
    name: "a resource of a run config",
    keys: &[
        key("config", Named(&Any), Yes("the resolved values"), "Its config.").also(&["params", "parameters"])
    ],
};

/// What the ancestor's run config holds besides, accepted and ignored.
pub const IGNORED: &[&str] = &["execution", "loggers", "storage", "intermediate_storage"];

/// The key that names other files of the pipeline.
pub(crate) const INCLUDE: &str = "include";

impl Object {
    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The message and hint for a key that it does not take.
    pub(crate) fn unknown(&self, name: &str) -> (String, String) {
        let message = format!("{} has no key `{name}`", self.name);
        let names = || self.keys.iter().map(|key| key.name);
        let folded = name.to_lowercase().replace('-', "_");
        if names().any(|key| key == folded) {
            return (message, format!("did you mean `{folded}`?"));
        }
        // Another tool's word before a near one: `outs` is no misspelt `out`.
        let meant: Vec<_> =
            self.keys.iter().filter(|key| key.others.contains(&name)).map(|key| key.name).collect();
        if name == "deps" && self.key("inputs").is_some() {
            let hint = "here these are `inputs` (what other steps make, and data) and `code` (scripts)";
            return (message, hint.to_owned());
        }
        if name == "script" && self.key("command").is_some() {
            let hint = "here the shell line is `command`, and the files that it runs are `code`";
            return (message, hint.to_owned());
        }
        match (meant.first(), crate::value::nearest(name, names())) {
            (Some(meant), _) => (message, format!("here it is called `{meant}`")),
            (None, Some(near)) => (message, format!("did you mean `{near}`?")),
            (None, None) => {
                let known: Vec<_> = names().collect();
                (message, format!("it takes {}", known.join(", ")))
            }
        }
    }
}
