//! The help, all of it, against one file: whoever changes a word sees it there.

use crate::kit::Folder;

/// The commands in the order of the help.
const COMMANDS: &[&str] = &[
    "run",
    "status",
    "versions",
    "explain",
    "graph",
    "ls",
    "show",
    "cat",
    "get",
    "runs",
    "report",
    "logs",
    "diff",
    "lineage",
    "table",
    "shell",
    "forget",
    "accept",
    "stats",
    "gc",
    "pin",
    "unpin",
    "pins",
    "clean",
    "verify",
    "export",
    "import",
    "init",
    "schema",
    "completions",
];

/// `CAS_BLESS=1 cargo test --release -p cas-cli --test cli help` writes the file anew: read the difference.
#[test]
fn help_is_what_was_read_and_agreed_to() {
    let folder = Folder::new();
    let mut text = folder.cas("--help").ok().transcript();
    for command in COMMANDS {
        text.push('\n');
        text.push_str(&folder.cas(&format!("{command} --help")).ok().transcript());
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cli/help.txt");
    if std::env::var_os("CAS_BLESS").is_some() {
        std::fs::write(file, &text).expect("the file can be written");
    }
    let agreed = std::fs::read_to_string(file).unwrap_or_default();
    for (number, (found, agreed)) in text.lines().zip(agreed.lines()).enumerate() {
        assert_eq!(found, agreed, "help.txt, line {}", number + 1);
    }
    assert_eq!(text.lines().count(), agreed.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= 79, "wider than 79: {line}");
    }
}

#[test]
fn the_short_help_names_every_command_and_the_version_is_told() {
    let folder = Folder::new();
    let help = folder.cas("-h").ok();
    for command in COMMANDS {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command} is not in:\n{}", help.stdout);
    }
    assert_eq!(folder.cas("--version").ok().stdout, format!("cas {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_are_printed_for_every_shell_that_is_named() {
    let folder = Folder::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = folder.cas(&format!("completions {shell}")).ok().stdout;
        assert!(script.contains("list-versions"), "{shell}: {script}");
    }
    assert!(folder.cas("completions tcsh").code(2).stderr.contains("possible values: bash"));
}

#[test]
fn the_manual_names_every_command_and_every_flag() {
    let manual = include_str!("../../docs/guide/commands.md");
    let folder = Folder::new();
    for command in COMMANDS {
        assert!(
            manual.contains(&format!("\n### `cas {command}")),
            "docs/guide/commands.md lacks `cas {command}`"
        );
        let help = folder.cas(&format!("{command} -h")).ok().stdout;
        for word in help.split(|c: char| c.is_whitespace() || c == ',') {
            // A value that may be left out stands in brackets.
            let word = word.split('[').next().unwrap_or_default();
            if word.starts_with("--") {
                assert!(
                    manual.contains(&format!("`{word}")),
                    "docs/guide/commands.md lacks `{word}` of `cas {command}`"
                );
            }
        }
    }
}
