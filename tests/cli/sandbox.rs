//! `sandbox`: what a step reads beyond what it was given is told of, or refused. The paths are outside of the project,
//! so that they are nobody's copy.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;

use crate::kit::{Folder, Ran};
use crate::outcomes;

/// A step that reads a file of the project and one beside it, by their places.
fn nosy(folder: &Folder, more: &str) -> String {
    let beside = folder.path("../secret.txt").display().to_string();
    folder.write("../secret.txt", "secret\n");
    folder.write("data/x.csv", "1,2\n");
    folder.write("lib/helper.sh", "echo helped\n");
    let inside = folder.path("").display().to_string();
    format!(
        "pipeline: p\n{more}\nsolids:\n  nosy:\n    command: |\n      cat {inside}data/x.csv {beside} > {{{{ outputs.result }}}}\n      \
         sh {inside}lib/helper.sh >> {{{{ outputs.result }}}}\n"
    )
}

/// The warnings of a run, as they stand in its events.
fn undeclared(ran: &Ran) -> Vec<serde_json::Value> {
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is an event"))
        .filter(|event: &serde_json::Value| event["event"] == "undeclared")
        .collect()
}

/// Without the folder of the test, which has another name each time, and may be a link.
fn plain(folder: &Folder, text: &str) -> String {
    let root = folder.path("..").canonicalize().expect("it is there");
    text.replace(&*root.to_string_lossy(), "ROOT").replace(&*folder.path("..").to_string_lossy(), "ROOT")
}

fn texts(folder: &Folder, list: &serde_json::Value) -> Vec<String> {
    let list = list.as_array().expect("it is a list");
    list.iter().map(|text| plain(folder, text.as_str().expect("it holds texts"))).collect()
}

#[test]
fn without_it_nothing_is_refused_and_nothing_told() {
    let folder = Folder::new();
    folder.write("pipeline.yaml", nosy(&folder, ""));
    let ran = folder.cas("run --format json").ok();
    assert_eq!((undeclared(&ran), outcomes(&ran)), (vec![], vec!["nosy ran".to_owned()]));
    assert_eq!(folder.cas("cat nosy").ok().stdout, "1,2\nsecret\nhelped\n");
}

#[test]
fn deny_refuses_what_was_not_given_and_names_it() {
    let folder = Folder::new();
    folder.write("pipeline.yaml", nosy(&folder, "sandbox: deny"));
    let ran = folder.cas("run").code(1);
    let told = plain(&folder, &ran.stderr);
    let failed =
        "exit status 1; it was not allowed to read `data/x.csv`, read `ROOT/secret.txt` (sandbox: deny)";
    assert!(told.contains(failed), "{told}");
    assert!(told.contains("data/x.csv: Permission denied"), "{told}");
    assert_eq!(ran.steps(), Vec::<&str>::new());
    assert_eq!(folder.cas("status").ok().stdout.lines().next(), Some("1 step: 1 to-be-recomputed"));
    // Without it, the same step runs.
    assert_eq!(folder.cas("run --sandbox off").ok().steps(), ["nosy"]);
}

#[test]
fn warn_prints_the_lines_that_make_it_silent() {
    let folder = Folder::new();
    let text = nosy(&folder, "sandbox: warn");
    folder.write("pipeline.yaml", &text);
    let ran = folder.cas("run --format json").ok();
    assert_eq!(outcomes(&ran), ["nosy ran"]);
    let told = undeclared(&ran);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["refused"], false);
    let used = ["read data/x.csv", "read lib/helper.sh", "read ROOT/secret.txt"];
    assert_eq!(texts(&folder, &told[0]["used"]), used);
    let lines = [
        "solids:",
        "  nosy:",
        "    code: [lib/helper.sh]",
        "    inputs:",
        "      x: {path: data/x.csv}",
        "      secret: {path: ROOT/secret.txt, external: true}",
    ];
    assert_eq!(texts(&folder, &told[0]["lines"]), lines);
    // Added as they are printed, behind the last line of the step that they are about.
    let mut declared = text;
    for line in told[0]["lines"].as_array().expect("a list").iter().skip(2) {
        writeln!(declared, "{}", line.as_str().expect("a text")).expect("a text can be written to");
    }
    folder.write("pipeline.yaml", &declared);
    let ran = folder.cas("run --format json").ok();
    assert_eq!((undeclared(&ran), outcomes(&ran)), (vec![], vec!["nosy ran".to_owned()]), "{declared}");
    assert_eq!(folder.cas("run").ok().steps(), Vec::<&str>::new());
    // The same lines are all that `deny` asks for.
    folder.write("pipeline.yaml", declared.replace("warn", "deny"));
    assert_eq!(folder.cas("run").ok().steps(), ["nosy"]);
    assert_eq!(folder.cas("cat nosy").ok().stdout, "1,2\nsecret\nhelped\n");
}

#[test]
fn a_warning_says_on_the_terminal_what_to_add() {
    let folder = Folder::new();
    folder.write("pipeline.yaml", nosy(&folder, "sandbox: warn"));
    let ran = folder.cas("run").ok();
    assert_eq!(ran.steps(), ["nosy"]);
    let told = plain(&folder, &ran.stderr);
    let expected = "\
warning: nosy used what it was not given
  read data/x.csv
  read lib/helper.sh
  read ROOT/secret.txt
  to declare it, add to the pipeline file:
    solids:
      nosy:
        code: [lib/helper.sh]
        inputs:
          x: {path: data/x.csv}
          secret: {path: ROOT/secret.txt, external: true}
";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn what_every_step_needs_is_allowed() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "sandbox: deny
solids:
  plain:
    shell: bash
    command: |
      echo one | sort | awk '{print $1}' > {{ outputs.result }}
      (sh -c 'bash -c \"echo nested\"') >> {{ outputs.result }}
      echo two > \"$TMPDIR/x\"; mv \"$TMPDIR/x\" \"$HOME/y\"; cat \"$HOME/y\" >> {{ outputs.result }}
      mkdir -p deep/er; echo three > deep/er/z; ln -s deep/er/z link; cat link >> {{ outputs.result }}
      echo quiet > /dev/null; head -c 2 /dev/urandom > /dev/null; cat < <(echo four) >> {{ outputs.result }}
      date > /dev/null; git --version > /dev/null 2>&1 || true
",
    )]);
    let ran = folder.cas("run --format json").ok();
    assert_eq!((undeclared(&ran), outcomes(&ran)), (vec![], vec!["plain ran".to_owned()]));
    assert_eq!(folder.cas("cat plain").ok().stdout, "one\nnested\ntwo\nthree\nfour\n");
}

#[test]
fn everything_that_was_given_is_given_in_a_sandbox_too() {
    let folder = Folder::with(&[
        (
            "pipeline.yaml",
            "sandbox: deny
resources:
  tool: {probe: tools/bin/tool -V, path: [tools/bin], files: [settings.cfg]}
solids:
  big: {command: \"head -c 300000 /dev/urandom > {{ outputs.result }}\"}
  tree: {command: \"mkdir -p {{ outputs.result }}/a; cp {{ inputs.big }} {{ outputs.result }}/a/b\", inputs: {big: big}}
  all:
    matrix: {n: [1, 2]}
    code: [lib/count.sh]
    resources: [tool]
    inputs: {big.bin: big, tree: tree, both: [big, tree], data: {path: data}, out: {path: ../outside, external: true}}
    command: |
      sh lib/count.sh inputs/big.bin inputs/tree/a/b inputs/both/0 inputs/both/1/a/b > {{ outputs.result }}
      cat inputs/data/x inputs/out/y settings.cfg >> {{ outputs.result }}
      tool {{ config.n }} >> {{ outputs.result }}
",
        ),
        ("lib/count.sh", "for file; do wc -c < $file; done\n"),
        ("data/x", "x\n"),
        ("../outside/y", "y\n"),
        ("settings.cfg", "set\n"),
    ]);
    folder.write_executable(
        "tools/bin/tool",
        "#!/bin/sh\ncat \"$(dirname \"$(readlink -f \"$0\")\")/part\"; echo $1\n",
    );
    folder.write("tools/bin/part", "tool\n");
    let ran = folder.cas("run -j 1").ok();
    assert_eq!(ran.steps(), ["big", "tree", "all[n=1]", "all[n=2]"], "{}", ran.stderr);
    let four = "300000\n".repeat(4);
    assert_eq!(folder.cas("cat all[n=2]").ok().stdout, format!("{four}x\ny\nset\ntool\n2\n"));
}

#[test]
fn what_a_solid_says_wins_over_the_defaults_and_these_over_the_pipeline() {
    let folder = Folder::new();
    folder.write("../secret", "s\n");
    let secret = folder.path("../secret").display().to_string();
    folder.write(
        "pipeline.yaml",
        format!(
            "sandbox: deny\ndefaults: {{sandbox: off}}\nsolids:\n  free: {{command: cat {secret}, stdout: result}}\n  \
             held: {{command: cat {secret}, stdout: result, sandbox: deny}}\n"
        ),
    );
    let ran = folder.cas("run -k -j 1 --format json").code(1);
    assert_eq!(outcomes(&ran), ["free ran", "held failed"], "{}", ran.stdout);
    // The command line wins over all of them.
    assert_eq!(folder.cas("run --sandbox off").ok().steps(), ["held"]);
    let ran = folder.cas("run -k -j 1 --sandbox=deny --format json").code(1);
    assert_eq!(outcomes(&ran), ["free failed", "held failed"], "{}", ran.stdout);
    let wrong = folder.cas("run --sandbox=strict").code(2);
    assert!(wrong.stderr.contains("it is one of off, warn, deny"), "{}", wrong.stderr);
}

#[test]
fn a_result_that_was_made_without_is_none_under_deny() {
    let folder = Folder::with(&[("pipeline.yaml", "solids: {a: {command: echo a, stdout: result}}\n")]);
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    assert_eq!(folder.cas("run --sandbox warn").ok().counts(), "nothing to run: 1 reused");
    assert_eq!(folder.cas("run --sandbox deny").ok().steps(), ["a"]);
    assert_eq!(folder.cas("run --sandbox deny").ok().counts(), "nothing to run: 1 reused");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 1 reused");
    let why = folder.cas("explain a --sandbox deny").ok();
    assert!(why.stdout.contains("a"), "{}", why.stdout);
    folder.write("pipeline.yaml", "solids: {a: {command: echo b, stdout: result}}\n");
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    let why = folder.cas("status --sandbox deny").ok();
    assert!(why.stdout.contains("sandbox"), "{}", why.stdout);
    assert_eq!(folder.cas("run --sandbox deny").ok().steps(), ["a"]);
}

#[test]
fn what_is_written_elsewhere_is_refused_and_told_of() {
    let folder = Folder::with(&[("../out/old", "as it was\n")]);
    let out = folder.path("../out").display().to_string();
    let text = format!(
        "sandbox: warn\nsolids:\n  a:\n    command: |\n      echo new > {out}/new && cat {out}/new\n      echo done > {{{{ outputs.result }}}}\n"
    );
    folder.write("pipeline.yaml", &text);
    let ran = folder.cas("run --format json").ok();
    assert_eq!(outcomes(&ran), ["a ran"]);
    let told = undeclared(&ran);
    let used = ["wrote ROOT/out/new (what it writes belongs into its outputs or TMPDIR)"];
    assert_eq!(texts(&folder, &told[0]["used"]), used);
    assert_eq!(texts(&folder, &told[0]["lines"]), Vec::<String>::new());
    std::fs::remove_file(folder.path("../out/new")).expect("it was written");
    let denied = text
        .replace("warn", "deny")
        .replace("&& cat", "; rm -f")
        .replace(&format!("{out}/new\n"), &format!("{out}/old\n"));
    folder.write("pipeline.yaml", denied);
    let ran = folder.cas("run").code(1);
    assert_eq!(ran.steps(), Vec::<&str>::new());
    assert!(plain(&folder, &ran.stderr).contains("not allowed to write to `ROOT/out/new`"), "{}", ran.stderr);
    assert_eq!(folder.names("../out"), ["old"]);
    assert_eq!(folder.read("../out/old"), "as it was\n");
}

/// Only what is opened was heard of: the failure named no path.
#[test]
fn what_is_removed_moved_or_made_elsewhere_is_refused_by_name() {
    let folder = Folder::with(&[("../out/old", "as it was\n")]);
    let out = folder.path("../out").display().to_string();
    let text = format!(
        "\
sandbox: deny
solids:
  rm: {{command: rm {out}/old, outputs: []}}
  mv: {{command: mv {out}/old {out}/new, outputs: []}}
  mkdir: {{command: mkdir -p {out} {out}/made, outputs: []}}
  link: {{command: ln -s old {out}/link, outputs: []}}
  own: {{command: 'mkdir a; echo x > a/b; mv a/b a/c; ln -s c a/d; rm a/d; ls a > outputs/result; rm -r a'}}
"
    );
    folder.write("pipeline.yaml", &text);
    let ran = folder.cas("run -k -j 1").code(1);
    assert_eq!(ran.steps(), ["own"]);
    let told = plain(&folder, &ran.stderr);
    let failed: Vec<(&str, &str)> = told
        .lines()
        .filter_map(|line| {
            let name = line.strip_prefix("failed    ")?.split(' ').next()?;
            Some((name, line.split_once("it was not allowed to ")?.1))
        })
        .collect();
    assert_eq!(
        failed,
        [
            ("rm", "remove `ROOT/out/old` (sandbox: deny)"),
            ("mv", "write to `ROOT/out/new`, remove `ROOT/out/old` (sandbox: deny)"),
            ("mkdir", "write to `ROOT/out/made` (sandbox: deny)"),
            ("link", "write to `ROOT/out/link` (sandbox: deny)"),
        ],
        "{told}"
    );
    assert_eq!(folder.names("../out"), ["old"]);
    // It is told of where nothing is refused.
    let told = undeclared(&folder.cas("run --sandbox warn mv --format json").ok());
    let used = [
        "wrote ROOT/out/new (what it writes belongs into its outputs or TMPDIR)",
        "removed ROOT/out/old (only what is in its own folder is its to remove)",
    ];
    assert_eq!(texts(&folder, &told[0]["used"]), used);
    assert_eq!(texts(&folder, &told[0]["lines"]), Vec::<String>::new());
    assert_eq!(folder.names("../out"), ["new"]);
}

/// It was refused without a name, and not told of where nothing is refused.
#[test]
fn a_socket_that_is_made_elsewhere_is_told_of_as_a_file_is() {
    let folder = Folder::with(&[("../out/old", "")]);
    let out = folder.path("../out").display().to_string();
    let bind = r"socket(S, AF_UNIX, SOCK_STREAM, 0) && bind(S, sockaddr_un($ARGV[0] =~ s/@/\0/r)) or die $!";
    let text = format!(
        "\
sandbox: warn
solids:
  elsewhere: {{command: [perl, -MSocket, -e, {bind:?}, {out}/sock], outputs: []}}
  own: {{command: [perl, -MSocket, -e, {bind:?}, ./sock], outputs: []}}
  no_file: {{command: [perl, -MSocket, -e, {bind:?}, '@of this test'], outputs: []}}
"
    );
    folder.write("pipeline.yaml", &text);
    let ran = folder.cas("run -j 1 --format json").ok();
    assert_eq!(outcomes(&ran), ["elsewhere ran", "own ran", "no_file ran"]);
    let told = undeclared(&ran);
    let used = ["wrote ROOT/out/sock (what it writes belongs into its outputs or TMPDIR)"];
    assert_eq!(told.len(), 1, "{}", ran.stdout);
    assert_eq!(
        (told[0]["step"].as_str(), texts(&folder, &told[0]["used"])),
        (Some("elsewhere"), used.map(str::to_owned).to_vec())
    );
    std::fs::remove_file(folder.path("../out/sock")).expect("it was made");
    let ran = folder.cas("run -k -j 1 --sandbox deny").code(1);
    assert_eq!(ran.steps(), ["own", "no_file"]);
    assert!(
        plain(&folder, &ran.stderr).contains("not allowed to write to `ROOT/out/sock`"),
        "{}",
        ran.stderr
    );
    assert_eq!(folder.names("../out"), ["old"]);
}

/// A step could list a declared folder of code where it lies, and saw what `.gitignore` leaves out of it: that was in no
/// version, and when it was gone the result was stale.
#[test]
fn names_that_an_ignore_file_leaves_out_are_seen_by_nobody_who_does_not_declare_them() {
    let folder = Folder::with(&[
        (".gitignore", "*.log\n"),
        ("src/a.sh", "echo a\n"),
        ("src/.hidden", ""),
        ("src/sub/b.sh", "echo b\n"),
        ("src/own.log", "1\n"),
    ]);
    let src = folder.path("src").display().to_string();
    let text = |what: &str, more: &str| {
        format!("solids:\n  a: {{code: [src], command: ls {src}{what}, stdout: result{more}}}\n")
    };
    folder.write("pipeline.yaml", text("", ""));
    let told = undeclared(&folder.cas("run --sandbox warn --format json").ok());
    assert_eq!(texts(&folder, &told[0]["used"]), ["listed src"]);
    let lines = ["solids:", "  a:", "    inputs:", "      src: {path: src}"];
    assert_eq!(texts(&folder, &told[0]["lines"]), lines);
    let ran = folder.cas("run --sandbox deny").code(1);
    assert!(ran.stderr.contains("it was not allowed to list `src` (sandbox: deny)"), "{}", ran.stderr);
    // What is said to be added: its names are in the version then.
    folder.write("pipeline.yaml", text("", ", inputs: {src: {path: src}}"));
    assert_eq!(folder.cas("run --sandbox deny").ok().steps(), ["a"]);
    assert_eq!(folder.cas("cat a --sandbox deny").ok().stdout, "a.sh\nown.log\nsub\n");
    folder.write("src/other.log", "");
    assert_eq!(folder.cas("run --sandbox deny").ok().steps(), ["a"]);
    // A part of which all is declared may be listed, and so may the whole when what was left out is gone.
    folder.write("pipeline.yaml", text("/sub", ""));
    assert_eq!(folder.cas("run --sandbox deny").ok().steps(), ["a"]);
    for log in ["src/own.log", "src/other.log"] {
        std::fs::remove_file(folder.path(log)).expect("it is there");
    }
    folder.write("pipeline.yaml", text("", ""));
    assert_eq!(folder.cas("run --sandbox deny").ok().steps(), ["a"]);
    assert_eq!(folder.cas("cat a --sandbox deny").ok().stdout, "a.sh\nsub\n");
}

/// A step that had declared some of the code of a folder, and listed it, was told to take the folder as an input; one that
/// had declared nothing, to take it as code.
#[test]
fn a_folder_of_which_only_code_is_known_is_declared_as_code() {
    let folder = Folder::with(&[("src/a.sh", "echo a\n"), ("src/b.sh", "echo b\n")]);
    let src = folder.path("src").display().to_string();
    let told = |code: &str, expected: &[&str]| {
        let text = format!(
            "sandbox: warn\nsolids:\n  a: {{{code}command: 'ls {src}; cat {src}/a.sh', stdout: result}}\n"
        );
        folder.write("pipeline.yaml", text);
        let told = undeclared(&folder.cas("run --force --format json").ok());
        assert_eq!(texts(&folder, &told[0]["lines"]), expected, "{code}");
    };
    let with_input = ["solids:", "  a:", "    inputs:", "      src: {path: src}"];
    told("code: ['src/*.sh'], ", &["solids:", "  a:", "    code: [\"src/*.sh\", src]"]);
    told("", &["solids:", "  a:", "    code: [src]"]);
    // It may have been read as data.
    told("inputs: {a: {path: src/a.sh}}, ", &with_input);
    // As code it would not be what is listed.
    folder.write(".casignore", "b.sh\n");
    told("code: [src/a.sh], ", &with_input);
}

/// As an input it was another one after each run: the interpreter leaves files in it.
#[test]
fn a_folder_of_modules_is_declared_as_code_and_what_python_keeps_there_is_nobodys_input() {
    let folder = Folder::with(&[("lib/words.py", "word = 'good day'\n"), ("lib/other.py", "")]);
    let lib = folder.path("lib").display().to_string();
    // What Python does to import a module, without what else a machine's Python may read.
    let text = format!(
        "\
sandbox: warn
solids:
  a:
    stdout: result
    command: |
      lib={lib}; kept=$lib/__pycache__/words.cpython-311.pyc
      ls $lib > listed
      if [ -e $kept ] && cat $kept 2> refused; then exit 0; fi
      cat $lib/words.py
      mkdir -p $lib/__pycache__
      if cat $lib/words.py 2> refused > $kept.140; then mv $kept.140 $kept; fi
"
    );
    folder.write("pipeline.yaml", &text);
    let ran = folder.cas("run --format json").ok();
    assert_eq!(outcomes(&ran), ["a ran"]);
    let told = undeclared(&ran);
    assert_eq!(texts(&folder, &told[0]["used"]), ["listed lib", "read lib/words.py"]);
    assert_eq!(texts(&folder, &told[0]["lines"]), ["solids:", "  a:", "    code: [lib]"]);
    assert_eq!(folder.names("lib"), ["__pycache__", "other.py", "words.py"]);
    folder.write("pipeline.yaml", text.clone() + "    code: [lib]\n");
    for line in ["run --format json", "run --format json --sandbox deny"] {
        let ran = folder.cas(line).ok();
        assert_eq!((undeclared(&ran), outcomes(&ran)), (vec![], vec!["a ran".to_owned()]), "{line}");
        assert_eq!(outcomes(&folder.cas(line).ok()), ["a reused"], "{line}");
    }
    // What is read from there is the module, also where only what was kept of it is opened.
    folder.write("pipeline.yaml", text.replace("exit 0", "echo again; exit 0"));
    let told = undeclared(&folder.cas("run --format json").ok());
    assert_eq!(texts(&folder, &told[0]["used"]), ["listed lib", "read lib/words.py"]);
}

/// It would be another folder after each run.
#[test]
fn a_folder_that_the_step_writes_into_is_no_input_of_it() {
    let folder = Folder::with(&[("data/x", "x\n")]);
    let data = folder.path("data").display().to_string();
    let command = format!("ls {data} > outputs/result; cat {data}/x; echo mine > {data}/mine");
    folder.write(
        "pipeline.yaml",
        format!("sandbox: warn\nsolids:\n  a:\n    command: {command}\n    outputs: [result]\n"),
    );
    let told = undeclared(&folder.cas("run --format json").ok());
    assert_eq!(
        texts(&folder, &told[0]["used"]),
        ["listed data", "wrote data/mine (what it writes belongs into its outputs or TMPDIR)", "read data/x"]
    );
    assert_eq!(
        texts(&folder, &told[0]["lines"]),
        ["solids:", "  a:", "    inputs:", "      x: {path: data/x}"]
    );
}

/// The system stops root at nothing, and `deny` did not either, below `/dev` and `/proc`.
#[test]
fn root_is_kept_from_the_systems_switches_and_others_are_by_the_system() {
    let text = "\
sandbox: deny
solids:
  devices: {command: 'head -c 1 /dev/zero > /dev/null; echo x 2> /dev/full > {{ outputs.result }}'}
  switch: {command: 'echo 500 > /proc/self/oom_score_adj', outputs: []}
";
    let folder = Folder::with(&[("pipeline.yaml", text)]);
    assert_eq!(folder.cas("run devices").ok().steps(), ["devices"]);
    let ran = folder.cas("run switch");
    if rustix::process::geteuid().is_root() {
        let ran = ran.code(1);
        assert!(ran.stderr.contains("not allowed to write to `/proc/"), "{}", ran.stderr);
    } else {
        assert_eq!(ran.ok().steps(), ["switch"]);
    }
}

#[test]
fn no_way_around_leads_out() {
    let folder = Folder::with(&[("data/declared.txt", "declared\n")]);
    folder.write("../secret", "secret\n");
    folder.write("../linked/inner", "inner\n");
    symlink(folder.path("../linked"), folder.path("data/link")).expect("a link can be made");
    let root = folder.path("..").canonicalize().expect("it is there").display().to_string();
    let mut text = String::from("sandbox: deny\nsolids:\n");
    for (name, line) in [
        ("proc", format!("cat /proc/self/root{root}/secret")),
        ("parent", format!("cat /proc/$PPID/root{root}/secret")),
        ("link", format!("ln -s {root}/secret here; cat here")),
        ("hard", format!("ln {root}/secret here && cat here")),
        ("store", format!("cat {root}/project/.cas/config.toml {root}/project/.cas/format")),
        ("nested", format!("sh -c 'sh -c \"cat {root}/secret\"'")),
        ("list", format!("ls {root}")),
        ("run", format!("{root}/project/tool")),
    ] {
        writeln!(text, "  {name}: {{command: {line:?}, stdout: result}}").expect("a text can be written to");
    }
    folder.write("pipeline.yaml", &text);
    folder.write_executable("tool", "#!/bin/sh\necho it ran\n");
    let ran = folder.cas("run -k -j 1").code(1);
    assert_eq!((ran.steps(), ran.counts()), (vec![], "0 reused, 0 ran, 8 failed"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("| secret") && !ran.stderr.contains("| it ran"), "{}", ran.stderr);
    // Each of them can do it where nobody asks for a sandbox, or this would show nothing.
    let ran = folder.cas("run -k -j 1 --sandbox off");
    assert_eq!(ran.steps(), ["proc", "parent", "link", "hard", "nested", "list", "run"], "{}", ran.stderr);
}

#[test]
fn a_program_of_a_private_folder_has_to_be_named_by_a_resource() {
    let mut folder = Folder::new();
    folder.write_executable("../private/bin/greet", "#!/bin/sh\n. \"${0%/bin/*}/lib/words\"\necho $words\n");
    folder.write("../private/lib/words", "words='good day'\n");
    let bin = folder.path("../private/bin").canonicalize().expect("it is there").display().to_string();
    let path = std::env::var("PATH").expect("there is a PATH");
    folder.variable("PATH", &format!("{bin}:{path}"));
    let text = "sandbox: deny\nsolids:\n  a: {command: [greet], stdout: result}\n";
    folder.write("pipeline.yaml", text);
    let ran = folder.cas("run").code(1);
    let told = plain(&folder, &ran.stderr);
    assert!(
        told.contains(
            "`ROOT/private/bin/greet`, which is `greet` on PATH, was not given to it (sandbox: deny)"
        ),
        "{told}"
    );
    assert!(told.contains("hint: name it in a resource that the solid needs"), "{told}");
    // What `warn` says to add is enough, with the libraries beside it.
    let ran = folder.cas("run --sandbox warn --format json").ok();
    assert_eq!(outcomes(&ran), ["a ran"]);
    let told = undeclared(&ran);
    assert_eq!(
        texts(&folder, &told[0]["lines"]),
        [
            "solids:",
            "  a:",
            "    resources: [greet]",
            "resources:",
            "  greet: {probe: ROOT/private/bin/greet --version}"
        ]
    );
    folder.write(
        "pipeline.yaml",
        format!(
            "sandbox: deny\nresources:\n  greet: {{probe: {bin}/greet --version}}\nsolids:\n  a: {{command: [greet], stdout: \
             result, resources: [greet]}}\n"
        ),
    );
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    assert_eq!(folder.cas("cat a").ok().stdout, "good day\n");
}

#[test]
fn elements_that_use_the_same_are_told_of_once() {
    let folder = Folder::new();
    folder.write("../secret", "s\n");
    let secret = folder.path("../secret").display().to_string();
    let text = format!(
        "sandbox: warn\nsolids: {{a: {{command: cat {secret}, stdout: result, matrix: {{n: [1, 2, 3, 4]}}}}}}\n"
    );
    folder.write("pipeline.yaml", text);
    let ran = folder.cas("run -j 1 --format json").ok();
    assert_eq!(outcomes(&ran), ["a[n=1] ran", "a[n=2] ran", "a[n=3] ran", "a[n=4] ran"]);
    assert_eq!(undeclared(&ran).len(), 1);
}

/// Of two that listen, one inside the other, the kernel lets the outer one hear.
#[test]
fn where_another_listens_already_a_run_says_once_that_nothing_can_be_heard() {
    let folder = Folder::new();
    let inner = folder.path("inner").display().to_string();
    let cas = env!("CARGO_BIN_EXE_cas");
    for word in ["warn", "deny"] {
        folder.write(
            &format!("inner/{word}.yaml"),
            format!(
                "pipeline: inner\nstore: {word}\nsandbox: {word}\nsolids:\n  \
                 a: {{command: 'cat /etc/hostname', stdout: result}}\n  b: {{command: 'echo 1', stdout: result}}\n"
            ),
        );
    }
    folder.write(
        "pipeline.yaml",
        format!(
            "pipeline: outer\nsandbox: warn\nsolids:\n  inside:\n    command: |\n      \
             {cas} run -f {inner}/warn.yaml -j 1 2> {{{{ outputs.warn }}}}\n      \
             {cas} run -f {inner}/deny.yaml -j 1 2> {{{{ outputs.deny }}}}\n      \
             {cas} run -f {inner}/deny.yaml -j 1 2> {{{{ outputs.again }}}}\n    outputs: [warn, deny, again]\n"
        ),
    );
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["inside"]);
    let told = |output: &str| {
        let text = folder.cas(&format!("cat inside.{output}")).ok().stdout;
        let lines = text.lines().filter(|line| line.contains("cannot be heard"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let heard =
        "warning: what a step opens cannot be heard of here (another program does, or the kernel cannot): ";
    assert_eq!(told("warn"), [format!("{heard}`sandbox: warn` is as `off`")]);
    assert_eq!(told("deny"), [format!("{heard}what `sandbox: deny` refuses has no name")]);
    let ran = |output: &str| {
        let text = folder.cas(&format!("cat inside.{output}")).ok().stdout;
        let steps = text.lines().filter_map(|line| line.strip_prefix("ran "));
        steps.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!([ran("warn"), ran("deny"), ran("again")], [vec!["a", "b"], vec!["a", "b"], vec![]]);
    // Where nothing has to run, nothing has to be said.
    assert_eq!(told("again"), Vec::<String>::new());
}

#[test]
fn a_word_that_is_none_of_the_three_is_refused_with_its_place() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  a:\n    sandbox: true\n    command: echo a\n    stdout: result\n",
    )]);
    folder.cas("status").code(2).shows(
        "$ cas status
! error: pipeline.yaml:3:14: `sandbox` is off, warn or deny, and this is `true`
!   3 |     sandbox: true
!     |              ^
! hint: write sandbox: deny, or sandbox: warn to be told only
[2]
",
    );
}
