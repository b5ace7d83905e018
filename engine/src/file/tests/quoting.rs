//! Where a placeholder of a shell line may stand; and that a real shell sees one word wherever it may.

use std::process::{Command, Stdio};

use proptest::prelude::*;

use crate::file::{Filled, shell_line};
use crate::solid::{Line, Shell};

/// Where the shell sees one word, `ok`; else the words for where it stands.
#[track_caller]
fn check_in(shell: &Shell, line: &str, expected: &str) {
    let shown = match Line::shell(line, shell.clone(), None) {
        Ok(_) => "ok".to_owned(),
        Err(wrong) => wrong
            .iter()
            .map(|wrong| {
                let message = &wrong.message;
                let from = message.find("stands ").map_or(0, |at| at + "stands ".len());
                let to = message.find(", where").or(message.find(", which")).unwrap_or(message.len());
                message[from..to].to_owned()
            })
            .collect::<Vec<_>>()
            .join("; "),
    };
    assert_eq!(shown, expected, "{shell:?}: {line}");
}

#[track_caller]
fn check(line: &str, expected: &str) {
    check_in(&Shell::Sh, line, expected);
    check_in(&Shell::Bash, line, expected);
}

#[test]
fn a_word_is_fine_anywhere_outside() {
    for line in [
        "echo {{ config.x }}",
        "{{ config.x }}",
        "x={{ config.x }} env",
        "--flag={{ config.x }}.txt",
        "cat < {{ config.x }} > {{ config.y }} 2>&1",
        "echo \"a\"{{ config.x }}'b'",
        "echo 'a b' \"c d\" {{ config.x }}",
        "echo it\\'s {{ config.x }}",
        "echo \\\" {{ config.x }}",
        "echo \"\\\"\" {{ config.x }}",
        "echo '\\' {{ config.x }}",
        "echo \"it's\" {{ config.x }}",
        "echo $(date) {{ config.x }}",
        "echo \"$(echo \"a\" ')')\" {{ config.x }}",
        "echo `date` {{ config.x }}",
        "echo \"`echo \\`x\\``\" {{ config.x }}",
        "echo ${HOME} ${#x} ${x#y} {{ config.x }}",
        "echo \"${x:-\"a b\"}\" {{ config.x }}",
        "echo ${x:-'}'} {{ config.x }}",
        "echo \"${x%'.txt'}\" {{ config.x }}",
        "echo $((1 + (2 * 3))) $# $$ {{ config.x }}",
        "echo $${{ config.x }} \"$$\" {{ config.x }}",
        "echo a \\\n b {{ config.x }}",
        "echo $((1 << 2)) {{ config.x }}",
        "echo $((16#ff)) {{ config.x }}",
        "echo a#b {{ config.x }}",
        "echo # a 'comment'\necho {{ config.x }}",
        "# don't\n{{ config.x }}",
        "echo a; # it's\n{{ config.x }}",
        "cat <<EOF\nit's $(x \"\nEOF\necho {{ config.x }}",
        "cat <<'E F'\n$(\nE F\necho {{ config.x }}",
        "cat <<-\\EOF\n\tdon't\n\tEOF\necho {{ config.x }}",
        "cat <<A <<B\n'\nA\n\"\nB\necho {{ config.x }}",
        "cat <<EOF {{ config.x }}\nit's\nEOF\n",
        "cat <<EOF | grep {{ config.x }} # it's\nit's\nEOF\necho {{ config.y }}",
        "x=$(cat <<EOF\nit's )\nEOF\n) {{ config.x }}",
        "cat <<< {{ config.x }}",
        "(cd x && {{ config.x }})",
        "{ {{ config.x }}; }",
        "if true; then {{ config.x }}; fi",
        "case {{ config.x }} in a) echo {{ config.y }};; *) ;; esac",
        "x=$(case a in a) echo 'b)';; (c) echo;; esac) {{ config.x }}",
        "x=\"$(case a in a) echo \"b\";; esac)\" {{ config.x }}",
        "for f in *; do echo \"$f\" {{ config.x }}; done",
        "echo \\\n{{ config.x }}",
        "echo \\\\{{ config.x }}",
        "echo $ {{ config.x }}",
        "echo \"$\" {{ config.x }}",
        "echo a &&\n# it's\necho {{ config.x }}",
        "awk '{{{{ print }}' {{ config.x }}",
        "echo {{ config.x }}{{ config.y }}",
        "echo $'a' {{ config.x }}",
        "x='$('; echo {{ config.x }}",
        "echo ')' {{ config.x }}",
        "x=(a \"b;\" {{ config.x }} # c;\n$(d; e) '|'); echo {{ config.y }}; (f; {{ config.z }})",
    ] {
        check(line, "ok");
    }
}

#[test]
fn elsewhere_it_is_refused_by_name() {
    let sub = "inside a substitution `$(…)`";
    for (line, expected) in [
        ("echo \"{{ config.x }}\"", "inside quotes"),
        ("echo '{{ config.x }}'", "inside quotes"),
        ("echo \"a 'b' {{ config.x }}\"", "inside quotes"),
        ("echo \"\\\" {{ config.x }}\"", "inside quotes"),
        ("echo 'a\\' '{{ config.x }}'", "inside quotes"),
        ("echo \"it's\" 'x {{ config.x }}", "inside quotes"),
        ("echo \"$(echo \"{{ config.x }}\")\"", "inside quotes"),
        ("echo $(echo {{ config.x }})", sub),
        ("echo \"$(echo {{ config.x }})\"", sub),
        ("echo $(echo $(date) {{ config.x }})", sub),
        ("echo $( (true) {{ config.x }})", sub),
        ("x=$(case a in a) echo {{ config.x }};; esac)", sub),
        ("x=$(case a in a) true;; esac; echo {{ config.x }})", sub),
        ("x=\"$(case a in a) echo \"{{ config.x }}\";; esac)\"", "inside quotes"),
        ("x=$(echo # )\n{{ config.x }})", sub),
        ("diff <(sort {{ config.x }}) b", sub),
        ("echo `echo {{ config.x }}`", "inside a substitution `` `…` ``"),
        ("echo \"`echo {{ config.x }}`\"", "inside a substitution `` `…` ``"),
        ("echo ${x:-{{ config.x }}}", "inside `${…}`"),
        ("echo \"${x:-{{ config.x }}}\"", "inside `${…}`"),
        ("echo $(({{ config.x }} + 1))", "inside arithmetic `((…))`"),
        ("cat <<EOF\n{{ config.x }}\nEOF", "inside a here-document"),
        ("cat <<'EOF'\nEOF \n{{ config.x }}\nEOF", "inside a here-document"),
        ("cat <<-EOF\n\t{{ config.x }}\n\tEOF", "inside a here-document"),
        ("cat <<EOF\nx\\\nEOF\n{{ config.x }}\nEOF", "inside a here-document"),
        ("cat << {{ config.x }}\n", "where a here-document's end is named"),
        ("cat <<E\"{{ config.x }}\"\n", "where a here-document's end is named"),
        ("cat <<\\{{ config.x }}\n", "where a here-document's end is named"),
        ("echo # {{ config.x }}", "inside a comment"),
        ("x=(echo ; echo) {{ config.x }}", "after a list `x=(…)` that holds an operator"),
        ("# {{ config.x }}\necho {{ config.y }}", "inside a comment"),
        ("echo $# # {{ config.x }}", "inside a comment"),
        ("echo ${{ config.x }}", "directly after a `$`"),
        ("echo \\{{ config.x }}", "directly after a backslash"),
        ("echo $'{{ config.x }}'", "inside quotes"),
        ("echo '{{ config.x }}' \"{{ config.y }}\"", "inside quotes; inside quotes"),
        ("echo \"${x#'\"'}\" {{ config.x }}", "inside `${…}`"),
        ("echo \"${x#'a$}\" {{ config.x }}", "after a `'` inside of `\"${…}\"`"),
        (
            "echo $(cat <<EOF) {{ config.x }}\nEOF",
            "after a here-document that begins inside a substitution and ends outside of it",
        ),
    ] {
        check(line, expected);
    }
}

#[test]
fn where_shells_differ_the_one_that_runs_it_counts() {
    check_in(&Shell::Bash, "((x << 2)); echo {{ config.x }}", "ok");
    check_in(&Shell::Bash, "(( x = {{ config.x }} ))", "inside arithmetic `((…))`");
    check_in(&Shell::Sh, "((true); {{ config.x }})", "ok");
    check_in(&Shell::Bash, "echo $'it\\'s' {{ config.x }}", "ok");
    check_in(&Shell::Sh, "echo $'it\\'s' {{ config.x }}", "after `\\'` inside of `$'…'`");
    let list = |words: &[&str]| Shell::List(words.iter().map(|word| (*word).to_owned()).collect());
    check_in(&list(&["/bin/bash", "-eu", "-c"]), "echo {{ config.x }}", "ok");
    check_in(&list(&["nice", "dash", "-c"]), "echo \"{{ config.x }}\"", "inside quotes");
    check_in(&list(&["python3", "-c"]), "print(1)", "ok");
    check_in(
        &list(&["python3", "-c"]),
        "print({{ config.x }})",
        "`{{ config.x }}` cannot be quoted for `python3`",
    );
}

/// Pieces of shell lines that do nothing outside of the folder they run in.
const PIECES: &[&str] = &[
    "echo a",
    " ",
    "\n",
    ";",
    "'",
    "\"",
    "\\",
    "$",
    "`",
    "$(",
    ")",
    "(",
    "${x",
    "${x:-",
    "}",
    "$((",
    "))",
    "((",
    "1",
    "<<E",
    "<<'E'",
    "<<-E",
    "\nE\n",
    "\n\tE\n",
    "#",
    " # ",
    "case a in ",
    "a) ",
    ";;",
    " esac",
    "esac",
    "<<<",
    "<(",
    "x=(",
    "x+=(",
    "[[ ",
    " ]]",
    "&",
    "<",
    ">",
    "f() ",
    "do ",
    "done",
    "\t",
    "!",
    "-",
    "~",
    "*",
    "[",
    "E",
    "{{ config.x }}",
    " {{ config.x }} ",
    "=",
    "|",
    "&&",
    "$'",
    "\\'",
    "if true; then ",
    "; fi",
    "{ ",
    "; }",
    "x=",
];

/// Pieces put around each other as shells nest them, a placeholder somewhere among them, and now and then a piece
/// that ends what it should not.
fn nested() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => Just("{{ config.x }}".to_owned()),
        2 => prop::sample::select(vec!["echo a ", " ", "\n", "x", "E", "; echo ", "it\\'s ", "\\\" "]).prop_map(str::to_owned),
        1 => prop::sample::select(PIECES).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let around = prop::sample::select(vec![
            ("\"", "\""),
            ("'", "'"),
            ("$(echo ", ")"),
            ("\"$(echo ", ")\""),
            ("`echo ", "`"),
            ("${x:-", "}"),
            ("\"${x:-", "}\""),
            ("\"${x#'", "'}\""),
            ("$((", "))"),
            ("cat <<E\n", "\nE\n"),
            ("cat <<'E'\n", "\nE\n"),
            ("$'", "'"),
            ("# ", "\n"),
            ("case a in a) echo ", ";; esac"),
            ("$(case a in a) echo ", ";; esac)"),
            ("(echo ", ")"),
            ("\\", ""),
            ("$", ""),
            ("$$", ""),
            ("$\\\n", ""),
        ]);
        prop_oneof![
            2 => (around, inner.clone()).prop_map(|((open, close), inner)| format!("{open}{inner}{close}")),
            1 => prop::collection::vec(inner, 1..4).prop_map(|pieces| pieces.concat()),
        ]
    })
}

// Each was found by the property below: the shells read these otherwise than they look.
#[test]
fn two_dollars_are_a_parameter_and_a_line_may_go_on_inside_of_an_operator() {
    let dollars = "after a `$$` before a quote or a bracket";
    check("echo $$'\\'' {{ config.x }} '", "inside quotes");
    check("echo $$'a' {{ config.x }}", dollars);
    check("echo \"$$(\" {{ config.x }}", dollars);
    let broken = "after a `\\` and a line break inside of an operator";
    check("echo $\\\n'a' {{ config.x }}", broken);
    check("cat <\\\n<E\na\nE\necho {{ config.x }}", broken);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// The claim of `shell.rs`, held against the shells themselves: whatever line is accepted, a value that
    /// would run something if it were not one word runs nothing.
    #[test]
    fn no_accepted_line_runs_its_value(
        start in nested(),
        end in nested(),
        bash in any::<bool>(),
    ) {
        let line = format!("echo {start} {end} {{{{ config.x }}}}");
        let shell = if bash { Shell::Bash } else { Shell::Sh };
        // By its whole path: it is looked for in the PATH that it is given, where nothing is to be found.
        let program = if bash { "/bin/bash" } else { "/bin/sh" };
        if let Ok(Line::Shell { text, .. }) = Line::shell(&line, shell, None) {
            let folder = tempfile::tempdir().expect("a folder for the test");
            for value in [": >ran", "x;: >ran;", "'; : >ran; '", "\"; : >ran; \"", "$(: >ran)", "`: >ran`", "x\n: >ran\n", ")\n: >ran\n(", "}; : >ran; {", "E\n: >ran\n", "a) : >ran;;"] {
                let filled = shell_line(&text, &mut |_| Filled::One(value.to_owned()));
                // Nothing may be waited for and nothing outlives the test: no input, no output.
                let status = Command::new(program)
                    .args(["-c", &filled])
                    .current_dir(folder.path())
                    .env_clear()
                    .env("PATH", "/nowhere")
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
                prop_assert!(status.is_ok() || bash, "there is no {program}");
                prop_assert!(!folder.path().join("ran").exists(), "{program}: {line:?} with {value:?} ran it: {filled}");
            }
        }
    }

    #[test]
    fn the_reader_never_panics(text in "\\PC{0,200}|[ -~\\n\\t]{0,300}") {
        let mut read = |_: &std::path::Path| Err(std::io::Error::other("none"));
        let _ = crate::file::pipeline(std::path::Path::new("p.yaml"), &text, &mut read);
        let _ = crate::file::run_config(std::path::Path::new("c.yaml"), &text, &mut Default::default());
        let _ = crate::file::reference(&text);
        let _ = Line::shell(&text, Shell::Sh, None);
        let _ = crate::file::excerpt(&text, 1, 7);
    }

    /// Files that are nearly right: words of the language in any order.
    #[test]
    fn the_reader_never_panics_on_its_own_words(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        let text = words.concat();
        let mut read = |_: &std::path::Path| Ok("a\tb\n1\t2\n".to_owned());
        if let Err(wrong) = crate::file::pipeline(std::path::Path::new("p.yaml"), &text, &mut read) {
            prop_assert!(!wrong.is_empty());
            prop_assert!(wrong.iter().all(|wrong| wrong.place.is_some()), "{wrong:?}");
        }
    }
}

const WORDS: &[&str] = &[
    "solids:\n",
    "  a:\n",
    "  b: ",
    "    command: ",
    "echo {{ config.x }}",
    "\n",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "inputs: ",
    "outputs: ",
    "matrix: ",
    "config: ",
    "{rows: t.tsv}",
    "{path: ../x}",
    "a[*].b",
    "'",
    "\"",
    "|\n",
    "      ",
    "3.10",
    "null",
    "!!str ",
    "---\n",
    "x-y: ",
    "version: ",
    "publish: ",
    "resources: ",
    "r: {version: a}",
    "solid: a",
    "# c\n",
    "\t",
    "$seed",
    "{type: int, default: ",
    "é😀",
    "{{",
];
