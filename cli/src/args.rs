//! The command line as it was typed: flags and their help. What they mean is settled in `session.rs` and in the
//! commands; no file, environment variable or terminal is looked at here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use cas_engine::limits;
use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use cas_engine::solid::Sandbox;

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
    /// Tell of (warn) or refuse (deny) what a step uses and is not given; or off
    ///
    /// It wins over `sandbox` in the pipeline file. What is made under `deny` has versions of its own.
    #[arg(long, value_name = "HOW", value_parser = sandbox)]
    pub(crate) sandbox: Option<Sandbox>,
    /// Use the store in DIR
    ///
    /// Without it: CAS_STORE, else `base_dir` of the run config, else `store:` of the pipeline file, else `.cas`
    /// beside the pipeline file.
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Ask nothing anew that is good for a while: take the last answer and result
    ///
    /// Inputs with a `probe:` keep the answer that it gave last, steps with `version: volatile` or
    /// `version: {every: …}` the result they left last, however old that is. What there is none of is asked for, or
    /// runs.
    ///
    /// `--frozen=RUN` takes what that run (a number of `cas runs`) was answered and had. What it does not know is an
    /// error.
    #[arg(long, value_name = "RUN", num_args = 0..=1, require_equals = true)]
    pub(crate) frozen: Option<Option<u64>>,
    /// Wait this long while another process has the store [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = span)]
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
    Report(commands::report::ReportArgs),
    Logs(commands::logs::LogsArgs),
    Diff(commands::diff::DiffArgs),
    Lineage(commands::lineage::LineageArgs),
    Table(commands::table::TableArgs),
    Shell(commands::shell::ShellArgs),
    Forget(commands::judgement::ForgetArgs),
    Accept(commands::judgement::AcceptArgs),
    Stats(commands::stats::StatsArgs),
    Gc(commands::gc::GcArgs),
    Pin(commands::pin::PinArgs),
    Unpin(commands::pin::UnpinArgs),
    Pins(commands::pin::PinsArgs),
    Clean(commands::clean::CleanArgs),
    Verify(commands::verify::VerifyArgs),
    Export(commands::archive::ExportArgs),
    Import(commands::archive::ImportArgs),
    Init(commands::init::InitArgs),
    Schema(commands::schema::SchemaArgs),
    Completions(commands::completions::CompletionsArgs),
}

/// The commands by purpose, in the order of the help. Each one of [`Command`] stands in it once.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run", &["run", "status", "versions", "explain", "graph"]),
    (
        "Results",
        &[
            "ls", "show", "cat", "get", "runs", "report", "logs", "diff", "lineage", "table", "shell",
            "forget", "accept",
        ],
    ),
    ("Store", &["stats", "gc", "pin", "unpin", "pins", "clean", "verify", "export", "import"]),
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
        for name in [
            "run", "status", "versions", "explain", "graph", "ls", "show", "cat", "get", "runs", "report",
            "logs",
        ]
        .iter()
        .chain(&["diff", "lineage", "table", "shell", "forget", "accept"])
        .chain(&["stats", "gc", "pin", "unpin", "pins", "clean", "verify", "export", "import"])
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
         -f, -c, --set, --mode, --sandbox, --store, --wait, --frozen may also stand\n\
         before COMMAND.\n\
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

/// The options with a value that may stand before the command as well as after it: short and long names.
const ANYWHERE: &[(&str, &str)] = &[
    ("-C", "--directory"),
    ("", "--format"),
    ("", "--color"),
    ("-f", "--file"),
    ("-c", "--config"),
    ("", "--set"),
    ("", "--mode"),
    ("", "--sandbox"),
    ("", "--store"),
    ("", "--wait"),
];

/// The same for those without a value, or with one only behind `=`.
const ANYWHERE_ALONE: &[&str] = &["--frozen"];

/// The words of a command line with the options that stood before the command right behind it: they mean the same
/// in both places, and what is wrong with them is told in the same words.
pub(crate) fn in_order(words: Vec<OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let mut stay: Vec<OsString> = words.next().into_iter().collect();
    let mut moved = Vec::new();
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        let takes = ANYWHERE.iter().find(|(short, long)| {
            let joined = text.strip_prefix(long).is_some_and(|rest| rest.starts_with('='));
            text == *long || joined || (!short.is_empty() && text.starts_with(short))
        });
        match takes {
            _ if !text.starts_with('-') || text == "--" => {
                rest.push(word);
                break;
            }
            Some((short, long)) => {
                let alone = text == *long || text == *short;
                moved.push(word);
                if alone {
                    moved.extend(words.next());
                }
            }
            None if ANYWHERE_ALONE.contains(&text.split('=').next().unwrap_or_default()) => moved.push(word),
            None => stay.push(word),
        }
    }
    if rest.is_empty() {
        // There is no command: what is wrong is told of the line as it was typed.
        stay.extend(moved);
        return stay;
    }
    stay.extend(rest);
    stay.extend(moved);
    stay.extend(words);
    stay
}

/// Whether JSON is asked for, for what is said before the line is understood.
pub(crate) fn wants_json(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "--format=json")
        || words.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json")
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

/// How long to wait, as it is typed: `30s`.
fn span(text: &str) -> Result<Duration, String> {
    cas_store::config::parse_age(text)
        .map_err(|_| format!("`{text}` is not how long something takes; write `30s` or `10m`"))
}

/// A named limit as it is typed: `gpu=2`.
pub(crate) fn limit(text: &str) -> Result<(String, u32), String> {
    let wrong = || "give a name and a whole number: gpu=2".to_owned();
    let (name, amount) = text.split_once('=').ok_or_else(wrong)?;
    if name.trim().is_empty() {
        return Err(wrong());
    }
    match name.trim() {
        limits::CPUS => {
            return Err("how many cores a run uses at once is `-j`; how many all runs share, `cpus` under \
                        `[limits]` in the store's config.toml"
                .to_owned());
        }
        limits::MEMORY => {
            return Err("how much memory there is for all runs is that of the machine, or `memory` under \
                        `[limits]` in the store's config.toml"
                .to_owned());
        }
        _ => {}
    }
    Ok((name.trim().to_owned(), amount.trim().parse().map_err(|_| wrong())?))
}

fn sandbox(text: &str) -> Result<Sandbox, String> {
    Sandbox::named(text).ok_or_else(|| format!("it is one of {}", Sandbox::WORDS.join(", ")))
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
    fn options_before_the_command_mean_what_they_mean_behind_it() {
        let check = |line: &str, expected: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            let found: Vec<String> =
                in_order(words).into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
            assert_eq!(found.join(" "), expected);
        };
        check("cas --store s status", "cas status --store s");
        check("cas -q -f p.yaml --set=a=1 run x -j 2", "cas -q run -f p.yaml --set=a=1 x -j 2");
        check("cas -C dir run", "cas run -C dir");
        check("cas -cx.yaml run -c y.yaml", "cas run -cx.yaml -c y.yaml");
        check("cas --frozen versions", "cas versions --frozen");
        check("cas --frozen=3 versions", "cas versions --frozen=3");
        check("cas run --store s", "cas run --store s");
        check("cas --store", "cas --store");
        check("cas --help", "cas --help");
    }

    #[test]
    fn parts_and_limits_are_read_as_typed() {
        assert_eq!(fraction("1%"), Ok(0.01));
        assert!(fraction("0%").is_err() && fraction("101%").is_err() && fraction("x").is_err());
        assert_eq!(limit("gpu=2"), Ok(("gpu".to_owned(), 2)));
        // Each is told of what really sets it.
        assert!(limit("cpus=3").is_err_and(|what| what.contains("`-j`; how many all runs share, `cpus`")));
        assert!(limit("memory=1G").is_err_and(|what| what.contains("`memory`") && !what.contains("-j")));
        assert!(limit("gpu").is_err() && limit("=2").is_err() && limit("gpu=-1").is_err());
    }
}
