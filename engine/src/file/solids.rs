//! Reads `solids:` and `defaults:` into invocations.
//!
//! Pure. An entry that has a command defines a solid and invokes it under the same name; one that names another
//! (`solid: emit_dog`) invokes that one's, with inputs and axes of its own where it gives them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::Place;
use crate::limits;
use crate::pipeline::{Axis, Input, Invocation};
use crate::solid::{
    Body, Command, Declared, EnvVar, Line, Pattern, Platform, Policy, Retries, RetryOn, Sandbox,
    ScratchFolder, Shell, Solid, Template,
};
use crate::value::Schema;

use super::inputs::{self, values_only};
use super::matrix::Matrices;
use super::node::{Entry, Kind, Mark, Node};
use super::reader::{Fields, Reader, suggestion};
use super::shell::Dialect;
use super::{fields, keys, outputs, scalar};

/// What every solid gets.
#[derive(Default, Clone)]
pub(crate) struct Defaults {
    common: Common,
}

/// What a solid and the defaults both may say.
#[derive(Default, Clone)]
struct Common {
    code: Vec<Pattern>,
    resources: Vec<String>,
    env: Vec<EnvVar>,
    pass_env: Vec<String>,
    secrets: Vec<String>,
    shell: Option<Shell>,
    retries: Option<Retries>,
    timeout: Option<std::time::Duration>,
    grace: Option<std::time::Duration>,
    allow_failure: Option<bool>,
    cpus: Option<u32>,
    memory: Option<u64>,
    limits: Option<BTreeMap<String, u32>>,
    platform: Option<Platform>,
    sandbox: Option<Sandbox>,
}

impl Defaults {
    pub(crate) fn read(reader: &mut Reader<'_>, node: &Node) -> Self {
        let fields = reader.object(node, &keys::DEFAULTS);
        Self { common: fields.map(|fields| Common::read(reader, &fields)).unwrap_or_default() }
    }

    /// Lays these over others: lists are added to, the rest is replaced.
    pub(crate) fn over(self, under: &Self) -> Self {
        Self { common: self.common.over(&under.common) }
    }

    /// With what the pipeline says of all its solids, where the defaults do not.
    pub(crate) fn or_sandbox(mut self, pipeline: Option<Sandbox>) -> Self {
        self.common.sandbox = self.common.sandbox.or(pipeline);
        self
    }
}

impl Common {
    fn read(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Self {
        let names = |reader: &mut Reader<'_>, key: &str| {
            fields.get(key).map(|node| reader.name_list(node, key)).unwrap_or_default()
        };
        Self {
            code: fields.get("code").map(|node| reader.patterns(node, "code")).unwrap_or_default(),
            resources: names(reader, "resources"),
            env: fields.get("env").map(|node| environment(reader, node)).unwrap_or_default(),
            pass_env: names(reader, "pass_env"),
            secrets: names(reader, "secrets"),
            shell: fields.get("shell").and_then(|node| shell(reader, node)),
            retries: fields.get("retries").and_then(|node| retries(reader, node)),
            timeout: fields.get("timeout").and_then(|node| reader.duration(node, "timeout")),
            grace: fields.get("grace").and_then(|node| reader.duration(node, "grace")),
            allow_failure: fields.get("allow_failure").and_then(|node| reader.bool(node, "allow_failure")),
            cpus: fields.get("cpus").and_then(|node| reader.count(node, "cpus", 1)),
            memory: fields.get("memory").and_then(|node| memory(reader, node)),
            limits: fields.get("limits").map(|node| named_limits(reader, node)),
            platform: fields.get("platform").and_then(|node| platform(reader, node)),
            sandbox: fields.get("sandbox").and_then(|node| sandbox(reader, node)),
        }
    }

    /// Lays what a solid says over the defaults: lists are added to, the rest is replaced.
    fn over(self, defaults: &Self) -> Self {
        Self {
            code: added(&defaults.code, self.code, |a, b| a.text == b.text),
            resources: added(&defaults.resources, self.resources, |a, b| a == b),
            env: added(&defaults.env, self.env, |a, b| a.name() == b.name()),
            pass_env: added(&defaults.pass_env, self.pass_env, |a, b| a == b),
            secrets: added(&defaults.secrets, self.secrets, |a, b| a == b),
            shell: self.shell.or_else(|| defaults.shell.clone()),
            retries: self.retries.or_else(|| defaults.retries.clone()),
            timeout: self.timeout.or(defaults.timeout),
            grace: self.grace.or(defaults.grace),
            allow_failure: self.allow_failure.or(defaults.allow_failure),
            cpus: self.cpus.or(defaults.cpus),
            memory: self.memory.or(defaults.memory),
            limits: self.limits.or_else(|| defaults.limits.clone()),
            platform: self.platform.or(defaults.platform),
            sandbox: self.sandbox.or(defaults.sandbox),
        }
    }
}

/// The defaults that a solid does not say itself, then its own.
fn added<T: Clone>(defaults: &[T], own: Vec<T>, same: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let mut all: Vec<T> = defaults.iter().filter(|d| !own.iter().any(|o| same(d, o))).cloned().collect();
    all.extend(own);
    all
}

impl EnvVar {
    /// The name of the variable.
    pub fn name(&self) -> &str {
        match self {
            Self::Pass(name) | Self::Set(name, _) => name,
        }
    }
}

/// An entry of `solids:` before those that name others are resolved.
pub(crate) struct Draft<'n> {
    entry: &'n Entry,
    place: Place,
    solid: Option<Arc<Solid>>,
    /// The entry whose solid it invokes, and where that is written.
    of: Option<(String, Place)>,
    inputs: Option<Vec<Input>>,
    matrix: Option<Vec<Axis>>,
    map: Option<Input>,
}

/// Reads the entries of a file, in its order.
pub(crate) fn drafts<'n>(
    reader: &mut Reader<'_>,
    node: &'n Node,
    config: &Schema,
    defaults: &Defaults,
    matrices: &mut Matrices<'_, '_>,
) -> Vec<Draft<'n>> {
    let mut drafts = Vec::new();
    for entry in reader.names(node, "solids", "solids: {hello: {command: echo hello, stdout: result}}") {
        let Some(fields) = reader.object(&entry.value, &keys::SOLID) else { continue };
        let inputs = fields.get("inputs").map(|node| inputs::inputs(reader, node));
        let matrix = fields.get("matrix").map(|node| matrices.matrix(reader, node));
        let map = fields.get("map").and_then(|node| inputs::map(reader, node));
        let of = fields
            .entry("solid")
            .and_then(|of| Some((reader.some_text(&of.value, "solid")?, reader.place(of.value.at))));
        let solid = match &of {
            None => solid(reader, entry, &fields, config, defaults),
            Some((name, _)) => {
                for extra in fields.keys() {
                    if !matches!(extra.key.as_str(), "solid" | "inputs" | "matrix" | "map" | "description")
                        && keys::SOLID.key(&extra.key).is_some()
                    {
                        let message =
                            format!("`{}` belongs to the definition, which is that of `{name}`", extra.key);
                        let hint = match extra.key.as_str() {
                            "config" => format!(
                                "its values are its own: give them in a run config, under solids.{}.config",
                                entry.key
                            ),
                            _ => {
                                "another invocation of a solid has `inputs`, `matrix` and `map` of its own, no more"
                                    .to_owned()
                            }
                        };
                        reader.fault(extra.at, message, hint);
                    }
                }
                None
            }
        };
        drafts.push(Draft { entry, place: reader.place(entry.at), solid, of, inputs, matrix, map });
    }
    drafts
}

/// Gives each entry of all files the solid that it invokes, and the inputs and axes that it does not give itself.
pub(crate) fn resolve(reader: &mut Reader<'_>, drafts: Vec<Draft<'_>>) -> Vec<Invocation> {
    let index: HashMap<&str, usize> =
        drafts.iter().enumerate().map(|(index, draft)| (draft.entry.key.as_str(), index)).collect();
    let mut invocations = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        let Some(chain) = chain(reader, &drafts, &index, draft) else { continue };
        // From the definition to this entry, each replaces what it gives.
        let mut inputs = Vec::new();
        let mut matrix = None;
        let mut map = None;
        let mut solid = None;
        for (depth, link) in chain.iter().rev().enumerate() {
            solid = solid.or_else(|| link.solid.clone());
            matrix = link.matrix.clone().or(matrix);
            map = link.map.as_ref().map(|input| (input, link)).or(map);
            match &link.inputs {
                Some(own) if depth == 0 => inputs.clone_from(own),
                Some(own) => inputs = replaced(reader, draft, link, &inputs, own),
                None => {}
            }
        }
        if let Some((element, by)) = map {
            let own = by.inputs.iter().flatten().any(|input| input.name == element.name);
            match inputs.iter_mut().find(|known| known.name == element.name && !own) {
                // It is mapped over what is a single input of the solid that it invokes.
                Some(known) => {
                    let file_name = known.file_name.clone();
                    known.clone_from(element);
                    if !known.file_name.contains('.') {
                        known.file_name = file_name;
                    }
                }
                None if by.of.is_some() && std::ptr::eq(*by, draft) && !own => {
                    if let Some(place) = &element.place {
                        let known = inputs.iter().map(|input| input.name.as_str());
                        let hint = suggestion(&element.name, known, "it takes no inputs");
                        let message = format!(
                            "the solid that `{}` invokes has no input `{}`",
                            draft.entry.key, element.name
                        );
                        reader.fault_at(place, message, hint);
                    }
                }
                None => inputs.insert(0, element.clone()),
            }
        }
        if let Some(solid) = solid {
            invocations.push(Invocation {
                name: draft.entry.key.clone(),
                solid,
                inputs,
                matrix: matrix.unwrap_or_default(),
                place: Some(draft.place.clone()),
            });
        }
    }
    invocations
}

/// The entry, the one that it names, the one that this names, and so on to the definition.
fn chain<'d, 'n>(
    reader: &mut Reader<'_>,
    drafts: &'d [Draft<'n>],
    index: &HashMap<&str, usize>,
    draft: &'d Draft<'n>,
) -> Option<Vec<&'d Draft<'n>>> {
    let mut chain = vec![draft];
    let mut last = draft;
    while let Some((name, place)) = &last.of {
        let Some(next) = index.get(name.as_str()).map(|next| &drafts[*next]) else {
            // The entry that is wrong tells it, once, not those that name it.
            if std::ptr::eq(last, draft) {
                let mut others: Vec<_> =
                    index.keys().copied().filter(|key| *key != draft.entry.key).collect();
                others.sort_unstable();
                let hint = suggestion(name, others.iter().copied(), "define it with a `command`");
                reader.fault_at(place, format!("there is no solid `{name}`"), hint);
            }
            return None;
        };
        if chain.len() > drafts.len() || std::ptr::eq(next, draft) {
            let hint = "one of them has to be defined, with a `command`";
            reader.fault_at(
                place,
                format!("`{}` is in the end an invocation of itself", draft.entry.key),
                hint,
            );
            return None;
        }
        chain.push(next);
        last = next;
    }
    Some(chain)
}

/// The inputs of a solid, each replaced by the one of the same name that an entry gives.
fn replaced(
    reader: &mut Reader<'_>,
    draft: &Draft<'_>,
    link: &Draft<'_>,
    base: &[Input],
    own: &[Input],
) -> Vec<Input> {
    // What the solid does not take is told where it is written, not again at entries that name this one.
    let told = !std::ptr::eq(draft, link);
    for input in own.iter().filter(|input| !told && !base.iter().any(|known| known.name == input.name)) {
        let Some(place) = &input.place else { continue };
        let known = base.iter().map(|input| input.name.as_str());
        let hint = suggestion(&input.name, known, "it takes no inputs");
        let message = format!("the solid that `{}` invokes has no input `{}`", link.entry.key, input.name);
        reader.fault_at(place, message, hint);
    }
    let replaced = base.iter().map(|known| {
        let Some(input) = own.iter().find(|input| input.name == known.name) else { return known.clone() };
        let mut input = input.clone();
        // The step goes on seeing the file that it knows, unless an extension says otherwise.
        if !input.file_name.contains('.') {
            input.file_name.clone_from(&known.file_name);
        }
        input
    });
    replaced.collect()
}

fn solid(
    reader: &mut Reader<'_>,
    entry: &Entry,
    fields: &Fields<'_>,
    config: &Schema,
    defaults: &Defaults,
) -> Option<Arc<Solid>> {
    let common = Common::read(reader, fields).over(&defaults.common);
    let (outputs, stdout) = outputs::outputs(reader, fields, entry.at);
    let version = fields.get("version").and_then(|node| version(reader, node));
    let schema =
        fields.get("config").map(|node| fields::schema(reader, node, Some(config))).unwrap_or_default();
    let description = fields.get("description").and_then(|node| reader.text(node, "description"));
    let scratch = fields.get("scratch").map(|node| scratch(reader, node)).unwrap_or_default();
    let Some(command) = fields.entry("command") else {
        if fields.unknown {
            return None; // it is there under another name, most likely, which was told
        }
        let hint = "write command: python3 x.py, or solid: other, to invoke another solid again";
        reader.fault(entry.at, format!("the solid `{}` has no `command`", entry.key), hint);
        return None;
    };
    let line = line(reader, &command.value, common.shell.unwrap_or(Shell::Sh))?;
    Some(Arc::new(Solid {
        name: entry.key.clone(),
        description,
        version,
        code: common.code,
        config: schema,
        resources: common.resources,
        outputs,
        body: Body::Command(Command { line, stdout, place: Some(reader.place(command.value.at)) }),
        env: common.env,
        pass_env: common.pass_env,
        secrets: common.secrets,
        platform: common.platform.unwrap_or_default(),
        sandbox: common.sandbox.unwrap_or_default(),
        policy: Policy {
            retries: common.retries.unwrap_or_default(),
            timeout: common.timeout,
            grace: common.grace,
            allow_failure: common.allow_failure.unwrap_or(false),
            cpus: common.cpus.unwrap_or(1),
            memory: common.memory,
            limits: common.limits.unwrap_or_default(),
            scratch,
        },
        place: Some(reader.place(entry.at)),
    }))
}

fn line(reader: &mut Reader<'_>, node: &Node, shell: Shell) -> Option<Line> {
    match &node.kind {
        Kind::Scalar(_) => {
            let text = reader.some_text(node, "command")?;
            let text = reader.shell_template(&text, node.at, &Dialect::of(&shell));
            Some(Line::Shell { text, shell })
        }
        Kind::List(items) => {
            let mut words: Vec<Template> = Vec::with_capacity(items.len());
            for item in items {
                let Some(word) = reader.word(item, "command") else { continue };
                words.push(reader.template(&word, item.at));
            }
            if items
                .first()
                .is_none_or(|first| matches!(&first.kind, Kind::Scalar(s) if s.text.trim().is_empty()))
            {
                let hint = "the first item is the program: [python3, x.py, \"{{ inputs.dog }}\"]";
                reader.fault(node.at, "a command that names no program", hint);
            }
            Some(Line::List(words))
        }
        Kind::Map(_) => {
            let hint = "a text that holds `: ` or begins with `{` goes between quotes, or below `|`";
            reader.expected(node, "command", "a text or a list", hint);
            None
        }
    }
}

fn version(reader: &mut Reader<'_>, node: &Node) -> Option<Declared> {
    match &node.kind {
        Kind::Scalar(_) => {
            let text = reader.some_text(node, "version")?;
            Some(if text == "volatile" { Declared::Volatile } else { Declared::Text(text) })
        }
        Kind::Map(_) => {
            let fields = reader.object(node, &keys::EVERY)?;
            let Some(every) = fields.get("every") else {
                let hint = "write version: \"1\", version: volatile, or version: {every: 1d}";
                reader.fault(node.at, "`version` says nothing", hint);
                return None;
            };
            reader.duration(every, "every").map(Declared::Every)
        }
        Kind::List(_) => {
            reader.expected(node, "version", "a text, `volatile` or {every: 1d}", "");
            None
        }
    }
}

fn shell(reader: &mut Reader<'_>, node: &Node) -> Option<Shell> {
    match &node.kind {
        Kind::List(items) => {
            let words: Vec<_> = items.iter().filter_map(|item| reader.word(item, "shell")).collect();
            if words.is_empty() {
                reader.fault(node.at, "`shell` names no program", "write shell: [bash, -eu, -c]");
                return None;
            }
            Some(Shell::List(words))
        }
        Kind::Scalar(_) | Kind::Map(_) => match reader.text(node, "shell")?.as_str() {
            "sh" => Some(Shell::Sh),
            "bash" => Some(Shell::Bash),
            other => {
                let words: Vec<_> = other.split_whitespace().collect();
                let list = if words.len() > 1 { words.join(", ") } else { format!("{other}, -c") };
                reader.fault(
                    node.at,
                    format!("the shell `{other}` is not known by name"),
                    format!("`sh` and `bash` are; write any other as a list: shell: [{list}]"),
                );
                None
            }
        },
    }
}

/// `[LANG, {TZ: UTC}]` or `{TZ: UTC}`.
fn environment(reader: &mut Reader<'_>, node: &Node) -> Vec<EnvVar> {
    let mut variables: Vec<EnvVar> = Vec::new();
    let items: Vec<&Node> = match &node.kind {
        Kind::List(items) => items.iter().map(|item| &**item).collect(),
        Kind::Scalar(_) | Kind::Map(_) => vec![node],
    };
    for item in items {
        if let Kind::Scalar(_) = item.kind {
            let Some(name) = reader.some_text(item, "env") else { continue };
            if let Some((name, value)) = name.split_once('=') {
                let hint = format!("write {{{name}: \"{value}\"}}");
                reader.fault(item.at, "a variable is set by a map", hint);
            } else if variable(reader, &name, item.at) {
                push(reader, &mut variables, EnvVar::Pass(name), item.at);
            }
            continue;
        }
        for entry in reader.entries(item, "env", "env: [LANG, {TZ: UTC}]") {
            if !variable(reader, &entry.key, entry.at) {
                continue;
            }
            let Some(text) = reader.word(&entry.value, &entry.key) else { continue };
            let template = reader.template(&text, entry.value.at);
            values_only(reader, &template, entry.value.at, "a variable");
            push(reader, &mut variables, EnvVar::Set(entry.key.clone(), template), entry.at);
        }
    }
    variables
}

fn push(reader: &mut Reader<'_>, variables: &mut Vec<EnvVar>, variable: EnvVar, at: Mark) {
    if variables.iter().any(|known| known.name() == variable.name()) {
        reader.fault(at, format!("the variable `{}` is given twice", variable.name()), "");
    } else {
        variables.push(variable);
    }
}

/// Notes a fault unless this can be the name of an environment variable that a step is given.
pub(crate) fn variable(reader: &mut Reader<'_>, name: &str, at: Mark) -> bool {
    let fits = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !fits {
        let hint = "such a name is letters, digits and `_`, and does not begin with a digit";
        reader.fault(at, format!("`{name}` is no name of an environment variable"), hint);
    }
    fits
}

fn memory(reader: &mut Reader<'_>, node: &Node) -> Option<u64> {
    let text = match &node.kind {
        Kind::Scalar(scalar) => scalar.text.as_str(),
        Kind::List(_) | Kind::Map(_) => "",
    };
    let bytes = scalar::size(text).filter(|bytes| *bytes > 0);
    if bytes.is_none() {
        reader.fault(node.at, "`memory` is no size", "write a number and a unit: 512M, 8G");
    }
    bytes
}

/// `2`, or `{times: 5, on: [75, timeout], back_off: 1s, max: 1m, jitter: 50%}`.
fn retries(reader: &mut Reader<'_>, node: &Node) -> Option<Retries> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Some(Retries { times: reader.count(node, "retries", 0)?, ..Retries::default() });
    }
    let fields = reader.object(node, &keys::RETRY)?;
    let Some(times) = fields.get("times") else {
        reader.fault(node.at, "`retries` lacks `times`", "write retries: {times: 3, on: [75], back_off: 1s}");
        return None;
    };
    let default = Retries::default();
    let mut on = Vec::new();
    if let Some(node) = fields.get("on") {
        let items: Vec<&Node> = match &node.kind {
            Kind::List(items) => items.iter().map(|item| &**item).collect(),
            Kind::Scalar(_) | Kind::Map(_) => vec![node],
        };
        for item in items {
            let text = match &item.kind {
                Kind::Scalar(scalar) => scalar.text.as_str(),
                Kind::List(_) | Kind::Map(_) => "",
            };
            match (text, text.parse::<i32>()) {
                ("timeout", _) => on.push(RetryOn::Timeout),
                ("signal", _) => on.push(RetryOn::Signal),
                (_, Ok(code @ 1..=255)) => on.push(RetryOn::Exit(code)),
                _ => {
                    let hint = "write exit codes from 1 to 255, timeout or signal: on: [75, timeout]";
                    reader.fault(item.at, "`on` holds what is no failure to try again after", hint);
                }
            }
        }
        if on.is_empty() {
            return None;
        }
    }
    let back_off = fields.get("back_off").and_then(|node| reader.duration(node, "back_off"));
    let max = fields.get("max").and_then(|node| reader.duration(node, "max"));
    let back_off = back_off.unwrap_or(default.back_off);
    Some(Retries {
        times: reader.count(times, "times", 0)?,
        on,
        back_off,
        max: max.unwrap_or(default.max.max(back_off)),
        jitter: fields.get("jitter").and_then(|node| percent(reader, node)).unwrap_or(default.jitter),
    })
}

/// `20%`.
fn percent(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let text = match &node.kind {
        Kind::Scalar(scalar) => scalar.text.as_str(),
        Kind::List(_) | Kind::Map(_) => "",
    };
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    let percent = percent.filter(|percent| *percent <= 100);
    if percent.is_none() {
        reader.fault(node.at, "`jitter` is no part", "write it in percent: jitter: 20%");
    }
    percent
}

fn named_limits(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, u32> {
    let entries = reader.names(node, "limits", "limits: {gpu: 1}");
    for entry in entries.iter().filter(|entry| limits::is_own(&entry.key)) {
        let message = format!("`{}` is a key of its own, beside `limits`", entry.key);
        reader.fault(entry.at, message, format!("write `{}: …` in the solid", entry.key));
    }
    entries
        .into_iter()
        .filter_map(|entry| Some((entry.key.clone(), reader.count(&entry.value, &entry.key, 1)?)))
        .collect()
}

/// Folders of a step, as they stand in its folder. Which can be is checked with the whole pipeline.
fn scratch(reader: &mut Reader<'_>, node: &Node) -> Vec<ScratchFolder> {
    let texts = reader.texts(node, "scratch");
    texts.into_iter().map(|(text, at)| ScratchFolder::new(&text, Some(reader.place(at)))).collect()
}

pub(crate) fn sandbox(reader: &mut Reader<'_>, node: &Node) -> Option<Sandbox> {
    const WHICH: &str = "it is off, warn or deny";
    let Kind::Scalar(scalar) = &node.kind else {
        reader.expected(node, "sandbox", "off, warn or deny", WHICH);
        return None;
    };
    let word = scalar.text.as_str();
    let sandbox = Sandbox::named(word);
    if sandbox.is_none() {
        let hint = match word {
            "true" | "on" | "yes" | "strict" => "write sandbox: deny, or sandbox: warn to be told only",
            "false" | "no" | "none" => "write sandbox: off",
            _ => WHICH,
        };
        reader.fault(node.at, format!("`sandbox` is off, warn or deny, and this is `{word}`"), hint);
    }
    sandbox
}

fn platform(reader: &mut Reader<'_>, node: &Node) -> Option<Platform> {
    match reader.text(node, "platform")?.as_str() {
        "any" => Some(Platform::Any),
        other => {
            let hint =
                "write platform: any, if the result is the same everywhere; without it, it is this one";
            reader.fault(node.at, format!("`{other}` is no platform"), hint);
            None
        }
    }
}
