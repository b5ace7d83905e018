//! `run.sh`: what a person runs to repeat a failed attempt in the folder that was kept of it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::line::{CommandLine, Facts, LINE_LIMIT_BYTES};
use super::{Attempt, HIDDEN, blotted, folder};
use crate::file::quote;
use crate::solid::Body;

/// Writes `run.sh` beside the step's folder, and takes secret values out of what is kept there.
///
/// # Errors
/// The folder cannot be written to.
pub(crate) fn keep(attempt: &Attempt<'_>, facts: &Facts<'_>, env: &[(String, String)]) -> io::Result<()> {
    let hidden = Facts { hide: true, ..facts.clone() };
    // What could not be filled in was told as the failure; there is nothing to repeat.
    let Ok(line) = hidden.command_line() else { return Ok(()) };
    let secret = facts.resources.iter().any(|(_, config)| !config.secret.is_empty())
        || !facts.config.secret.is_empty();
    if secret {
        overwrite(&folder::step(attempt.folder).join("config.json"), &hidden.config_json())?;
        let long = attempt.folder.join(super::command::LONG_LINE);
        overwrite(&long, line.line.as_deref().unwrap_or_default())?;
    }
    let path = attempt.folder.join("run.sh");
    fs::write(&path, script(attempt, &line, env, secret))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
}

/// Puts another text into a file, which the step may have removed.
fn overwrite(at: &Path, text: &str) -> io::Result<()> {
    match at.symlink_metadata() {
        Ok(_) => folder::overwrite(at, text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn script(attempt: &Attempt<'_>, line: &CommandLine, env: &[(String, String)], secret: bool) -> String {
    let mut script = String::from("#!/bin/sh\n");
    let step = attempt.step.replace(char::is_control, "?");
    script.push_str(&format!("# Repeats the attempt of `{step}` whose folder this is.\n"));
    if secret {
        script.push_str(&format!("# Secret config values stand here as {HIDDEN}: put them in first.\n"));
    }
    script.push_str("here=$(CDPATH= cd -- \"$(dirname -- \"$0\")\" && pwd) || exit\n");
    script.push_str("cd -- \"$here/step\" || exit\n");
    script.push_str("rm -rf outputs && mkdir outputs || exit\n");
    for scratch in &attempt.solid.policy.scratch {
        script.push_str(&format!("mkdir -p -- {} || exit\n", quote(&scratch.at)));
    }
    script.push_str("umask 022\n");
    script.push_str("exec env -i \\\n");
    for (name, value) in env {
        // A secret may also stand within another variable.
        let value = String::from_utf8_lossy(&blotted(value.as_bytes(), attempt.secrets)).into_owned();
        let value = value_in_script(attempt, name, &value);
        script.push_str(&format!("  {}={value} \\\n", shell_name(name)));
    }
    let mut words: Vec<String> =
        std::iter::once(&line.program).chain(&line.arguments).map(|word| quote(word)).collect();
    match &line.line {
        Some(text) if text.len() > LINE_LIMIT_BYTES => {
            words.truncate(words.len().saturating_sub(1));
            words.push(format!("\"$here/{}\"", super::command::LONG_LINE));
        }
        Some(text) => words.push(quote(text)),
        None => {}
    }
    script.push_str(&format!("  {} </dev/null", words.join(" ")));
    if let Body::Command(command) = &attempt.solid.body
        && let Some(output) = command
            .stdout
            .as_ref()
            .and_then(|name| attempt.solid.outputs.iter().find(|output| output.name == *name))
    {
        script.push_str(&format!(" >{}", quote(&output.at)));
    }
    script.push('\n');
    script
}

/// A variable's value as the script gives it: what is secret, or not to be recorded, comes from the
/// environment of whoever runs it.
fn value_in_script(attempt: &Attempt<'_>, name: &str, value: &str) -> String {
    if attempt.secret_env.iter().any(|secret| secret == name) {
        return format!("\"${{{name}:?is a secret of this step: set it first}}\"");
    }
    if attempt.solid.pass_env.iter().any(|passed| passed == name) {
        return format!("\"${{{name}-}}\"");
    }
    match name {
        "HOME" => "\"$here/home\"".to_owned(),
        "TMPDIR" => "\"$here/tmp\"".to_owned(),
        _ => quote(value),
    }
}

/// `env` takes any name, but the shell must see the word whole.
fn shell_name(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { name.to_owned() } else { quote(name) }
}
