//! The command line as it was typed: flags and their help. What they mean is settled in `session.rs` and in the
//! commands; no file, environment variable or terminal is looked at here.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands;

/// Run pipelines whose steps never run twice for the same reason
///
/// Each output of each step has a version, derived from its code, resources, config and inputs before anything
/// runs. What is stored under its version is reused; only the rest is executed.
#[derive(Debug, Parser)]
#[command(
    name = "cas",
    version,
    max_term_width = 79,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    disable_help_flag = true,
    disable_version_flag = true,
    next_help_heading = "Common"
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common")]
pub(crate) struct Common {
    /// Start in this folder
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub(crate) directory: Option<PathBuf>,
    /// Tell less: only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell more
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Print the answer as text or as JSON
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text, global = true)]
    pub(crate) format: Format,
    /// Use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Color::Auto, global = true)]
    pub(crate) color: Color,
    /// Print help: -h a summary, --help all
    #[arg(short, long, action = clap::ArgAction::Help, global = true)]
    help: Option<bool>,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// Which pipeline, with which run config, against which store.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Pipeline")]
pub(crate) struct Which {
    /// Read the pipeline from FILE [default: pipeline.yaml here or above]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Read run config from FILE (may be repeated; later files win)
    #[arg(short, long = "config", value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// Set one value of the run config (may be repeated)
    ///
    /// KEY is `step.key`, `solids.step.config.key`, `resources.name.config.key`, or a key of the pipeline's own
    /// config. It wins over every file.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Use the resources of this mode
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<String>,
    /// Use the store in DIR
    ///
    /// Without it: CAS_STORE, else `base_dir` of the run config, else `store:` of the pipeline file, else `.cas`
    /// beside the pipeline file.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Wait this long while another process has the store [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = cas_store::config::parse_age)]
    pub(crate) wait: Option<Duration>,
}

/// What is asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(commands::run::RunArgs),
    Status(commands::status::StatusArgs),
    #[command(visible_aliases = ["list-versions", "list_versions"])]
    Versions(commands::versions::VersionsArgs),
    #[command(visible_alias = "why")]
    Explain(commands::explain::ExplainArgs),
    Graph(commands::graph::GraphArgs),
    Ls(commands::ls::LsArgs),
    Show(commands::show::ShowArgs),
    Cat(commands::cat::CatArgs),
    Get(commands::get::GetArgs),
    #[command(visible_alias = "log")]
    Runs(commands::runs::RunsArgs),
    Logs(commands::logs::LogsArgs),
    Forget(commands::judgement::ForgetArgs),
    Accept(commands::judgement::AcceptArgs),
    Stats(commands::stats::StatsArgs),
    Gc(commands::gc::GcArgs),
    Pin(commands::pin::PinArgs),
    Unpin(commands::pin::UnpinArgs),
    Pins(commands::pin::PinsArgs),
    Clean(commands::clean::CleanArgs),
    Verify(commands::verify::VerifyArgs),
    Init(commands::init::InitArgs),
    Schema(commands::schema::SchemaArgs),
    Completions(commands::completions::CompletionsArgs),
}

/// The commands by purpose, in the order of the help. Each one of [`Command`] stands in it once.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run", &["run", "status", "versions", "explain", "graph"]),
    ("Results", &["ls", "show", "cat", "get", "runs", "logs", "forget", "accept"]),
    ("Store", &["stats", "gc", "pin", "unpin", "pins", "clean", "verify"]),
    ("Set up", &["init", "schema", "completions"]),
];

/// What a program is for: any pipeline file, or the one pipeline that was compiled into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Files,
    Compiled,
}

/// The commands that only make sense where pipelines come from files.
const FILES_ONLY: &[&str] = &["init", "schema"];

/// The clap command, with the commands grouped by purpose.
pub(crate) fn command(program: Program, name: &str) -> clap::Command {
    let mut command = CommandLine::command().name(name.to_owned()).bin_name(name.to_owned());
    if program == Program::Compiled {
        for name in FILES_ONLY {
            command = command.mut_subcommand(name, |sub| sub.hide(true));
        }
        for name in
            ["run", "status", "versions", "explain", "graph", "ls", "show", "cat", "get", "runs", "logs"]
                .iter()
                .chain(&["forget", "accept"])
                .chain(&["stats", "gc", "pin", "unpin", "pins", "clean", "verify"])
        {
            command = command.mut_subcommand(name, |sub| sub.mut_arg("file", |arg| arg.hide(true)));
        }
    }
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or(0);
    let mut list = String::new();
    for (group, names) in GROUPS {
        list.push_str(&format!("{group}:\n"));
        for name in *names {
            let Some(sub) = command.find_subcommand(name) else { continue };
            if sub.is_hide_set() {
                continue;
            }
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            list.push_str(&format!("  {name:width$}  {about}\n"));
        }
        list.push('\n');
    }
    command.help_template(format!(
        "{{about-with-newline}}\nUsage: {name} COMMAND [ARGUMENT]...\n\n{list}Common:\n{{options}}\n\n\
         `{name} COMMAND --help` tells all about one of them.\n"
    ))
}

/// Parses the words of a command line; the first one is the program's name.
///
/// # Errors
/// Help that was asked for, and wrong usage, as clap tells them apart.
pub(crate) fn parse(
    program: Program,
    name: &str,
    words: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<CommandLine, clap::Error> {
    let mut command = command(program, name);
    let matches = command.try_get_matches_from_mut(words)?;
    CommandLine::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// A part of a whole as it is typed: `1%`, `0.5%`, `0.01`.
pub(crate) fn fraction(text: &str) -> Result<f64, String> {
    let wrong = || "give a percentage: 1%, 0.5%".to_owned();
    let (number, scale) = match text.trim().strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text.trim(), 1.0),
    };
    let part: f64 = number.trim().parse::<f64>().map_err(|_| wrong())? / scale;
    if part > 0.0 && part <= 1.0 { Ok(part) } else { Err(wrong()) }
}

/// A named limit as it is typed: `gpu=2`.
pub(crate) fn limit(text: &str) -> Result<(String, u32), String> {
    let wrong = || "give a name and a whole number: gpu=2".to_owned();
    let (name, amount) = text.split_once('=').ok_or_else(wrong)?;
    if name.trim().is_empty() {
        return Err(wrong());
    }
    Ok((name.trim().to_owned(), amount.trim().parse().map_err(|_| wrong())?))
}

/// The shells that completions are made for.
pub(crate) fn shells() -> PossibleValuesParser {
    PossibleValuesParser::new(["bash", "elvish", "fish", "powershell", "zsh"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_holds_and_every_command_stands_in_one_group() {
        let command = command(Program::Files, "cas");
        command.clone().debug_assert();
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
    }

    #[test]
    fn first_lines_of_help_are_imperative_short_and_without_full_stop() {
        let command = command(Program::Files, "cas");
        for sub in command.get_subcommands() {
            let about = sub.get_about().expect("every command says what it does").to_string();
            // `  completions  ` stands before it in the list.
            assert!(about.len() + 15 <= 79, "{about}");
            assert!(!about.ends_with('.'), "{about}");
            for arg in sub.get_arguments() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "`{} {}` has no help", sub.get_name(), arg.get_id());
                assert!(!help.ends_with('.'), "{help}");
                assert!(help.len() <= 79, "{help}");
            }
        }
    }

    #[test]
    fn parts_and_limits_are_read_as_typed() {
        assert_eq!(fraction("1%"), Ok(0.01));
        assert!(fraction("0%").is_err() && fraction("101%").is_err() && fraction("x").is_err());
        assert_eq!(limit("gpu=2"), Ok(("gpu".to_owned(), 2)));
        assert!(limit("gpu").is_err() && limit("=2").is_err() && limit("gpu=-1").is_err());
    }
}
