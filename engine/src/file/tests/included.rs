//! Pipelines in several files, and where their paths begin.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::rendered;
use crate::error::Diagnostic;
use crate::file::pipeline;
use crate::pipeline::Pipeline;
use crate::solid::{Body, Line, Sandbox, Shell};

/// Reads the first of these files, and the others as they are included.
fn parse(files: &[(&str, &str)]) -> Result<Pipeline, Vec<Diagnostic>> {
    let all: BTreeMap<&Path, &str> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
    let mut read = |path: &Path| {
        let text = all.get(path).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))?;
        Ok((*text).to_owned())
    };
    pipeline(Path::new(files[0].0), files[0].1, &mut read)
}

#[track_caller]
fn parsed(files: &[(&str, &str)]) -> Pipeline {
    parse(files).unwrap_or_else(|wrong| panic!("{}", rendered(&wrong)))
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &str) {
    let shown = match parse(files) {
        Ok(_) => "nothing is wrong\n".to_owned(),
        Err(wrong) => rendered(&wrong),
    };
    assert_eq!(shown, expected, "--- says:\n{shown}");
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.invocations.iter().map(|invocation| invocation.name.as_str()).collect()
}

#[test]
fn what_files_say_is_put_together_by_name() {
    let pipeline = parsed(&[
        (
            "p.yaml",
            "include: [parts/fetch.yaml, parts/train.yaml]
config: {seed: int}
solids:
  report: {inputs: {all: 'train[*]', raw: fetch}, command: cat inputs/raw, stdout: result, resources: [tool]}
  again: {solid: fetch}
publish: {report.txt: report}
",
        ),
        (
            "parts/fetch.yaml",
            "resources: {tool: {version: \"1\"}}
matrices: {grid: {lr: [1, 2]}}
solids: {fetch: {config: {seed: $seed}, command: echo, stdout: result}}
publish: {raw.txt: fetch}
",
        ),
        (
            "parts/train.yaml",
            "include: fetch.yaml
modes: {debug: {resources: {tool: {version: \"2\"}}}}
solids: {train: {matrix: grid, inputs: {raw: fetch}, command: cat inputs/raw, stdout: result}}
",
        ),
    ]);
    assert_eq!(names(&pipeline), ["fetch", "train", "report", "again"]);
    assert_eq!(pipeline.includes, [Path::new("parts/fetch.yaml"), Path::new("parts/train.yaml")]);
    assert_eq!(pipeline.resources.keys().collect::<Vec<_>>(), ["tool"]);
    assert_eq!(pipeline.modes[0].name, "debug");
    assert_eq!(
        pipeline.publish.iter().map(|publish| publish.target.as_str()).collect::<Vec<_>>(),
        ["raw.txt", "report.txt"]
    );
    assert_eq!(pipeline.invocations[1].matrix[0].points.len(), 2);
    assert_eq!(pipeline.invocations[3].solid.name, "fetch");
    let place = pipeline.invocations[1].place.as_ref().expect("it stands somewhere");
    assert_eq!(place.to_string(), "parts/train.yaml:3:10");
}

#[test]
fn defaults_hold_in_their_file_and_in_those_that_include_it() {
    let pipeline = parsed(&[
        (
            "p.yaml",
            "include: common.yaml
defaults: {retries: 2, code: [own.sh]}
solids: {main: {command: x}}
",
        ),
        (
            "common.yaml",
            "include: deeper.yaml
sandbox: warn
defaults: {shell: bash, retries: 1, code: [lib/**]}
solids: {common: {command: x}}
",
        ),
        ("deeper.yaml", "defaults: {cpus: 3, retries: 7}\nsolids: {deeper: {command: x}}\n"),
    ]);
    let told = |name: &str| {
        let of = pipeline.invocations.iter().find(|invocation| invocation.name == name).expect("it is there");
        let code: Vec<&str> = of.solid.code.iter().map(|code| code.text.as_str()).collect();
        let bash = matches!(&of.solid.body, Body::Command(c) if matches!(&c.line, Line::Shell { shell: Shell::Bash, .. }));
        (code.join(" "), of.solid.policy.retries.times, of.solid.policy.cpus, bash, of.solid.sandbox)
    };
    assert_eq!(told("main"), ("lib/** own.sh".into(), 2, 3, true, Sandbox::Warn));
    assert_eq!(told("common"), ("lib/**".into(), 1, 3, true, Sandbox::Warn));
    assert_eq!(told("deeper"), (String::new(), 7, 3, false, Sandbox::Off));
}

#[test]
fn a_name_that_two_files_define_names_both_places() {
    check(
        &[
            (
                "p.yaml",
                "include: a.yaml\nconfig: {seed: int}\nresources: {tool: {version: \"2\"}}\nmatrices: {grid: {n: [1]}}\n\
                 modes: {m: {}}\nsolids: {s: {command: x}}\npublish: {out.txt: s}\n",
            ),
            (
                "a.yaml",
                "config: {seed: int}\nresources: {tool: {version: \"1\"}}\nmatrices: {grid: {n: [1]}}\nmodes: {m: {}}\n\
                 solids: {s: {command: x}}\npublish: {out.txt: s}\n",
            ),
        ],
        "\
p.yaml:2:10: the config value `seed` is defined twice: here and at a.yaml:1:10
2 | config: {seed: int}
  |          ^
hint: give one of them another name, or take one out
p.yaml:3:13: the resource `tool` is defined twice: here and at a.yaml:2:13
3 | resources: {tool: {version: \"2\"}}
  |             ^
hint: give one of them another name, or take one out
p.yaml:4:12: the matrix `grid` is defined twice: here and at a.yaml:3:12
4 | matrices: {grid: {n: [1]}}
  |            ^
hint: give one of them another name, or take one out
p.yaml:5:9: the mode `m` is defined twice: here and at a.yaml:4:9
5 | modes: {m: {}}
  |         ^
hint: give one of them another name, or take one out
p.yaml:6:10: the solid `s` is defined twice: here and at a.yaml:5:10
6 | solids: {s: {command: x}}
  |          ^
hint: give one of them another name, or take one out
p.yaml:7:11: the target `out.txt` is defined twice: here and at a.yaml:6:11
7 | publish: {out.txt: s}
  |           ^
hint: give one of them another name, or take one out
",
    );
}

#[test]
fn what_is_wrong_in_an_included_file_is_shown_there() {
    check(
        &[
            (
                "p.yaml",
                "include: [sub/a.yaml, gone.yaml, 3]\nsolids: {top: {inputs: {x: nothing}, comand: x}}\n",
            ),
            ("sub/a.yaml", "solids:\n  a: {command: x, retires: 3}\n  b: {solid: c}\n"),
        ],
        "\
sub/a.yaml:2:19: a solid has no key `retires`
2 |   a: {command: x, retires: 3}
  |                   ^
hint: did you mean `retries`?
sub/a.yaml:3:14: there is no solid `c`
3 |   b: {solid: c}
  |              ^
hint: there is `a` or `top`
p.yaml:1:23: the file `gone.yaml` cannot be read: no such file
1 | include: [sub/a.yaml, gone.yaml, 3]
  |                       ^
hint: an included file is looked for from the folder of the file that includes it
p.yaml:1:34: `include` must be a text, and this is a number
1 | include: [sub/a.yaml, gone.yaml, 3]
  |                                  ^
hint: put it between quotes: include: \"3\"
p.yaml:2:38: a solid has no key `comand`
2 | solids: {top: {inputs: {x: nothing}, comand: x}}
  |                                      ^
hint: did you mean `command`?
",
    );
    // What is found only when all is put together has its place, and shows its line, too.
    let wrong = parse(&[
        ("p.yaml", "include: a.yaml\nsolids: {top: {command: x}}\n"),
        (
            "a.yaml",
            "solids:\n  a:\n    inputs: {x: tap}\n    command: cat {{ inputs.y }} > {{ outputs.result }}\n",
        ),
    ]);
    let shown = rendered(&wrong.expect_err("two names are names of nothing"));
    for part in ["a.yaml:3:", "`tap`", "a.yaml:4:", "4 |     command: cat {{ inputs.y }}"] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
}

#[test]
fn files_that_include_each_other_are_named_with_the_way() {
    check(
        &[
            ("p.yaml", "include: sub/a.yaml\nsolids: {s: {command: x}}\n"),
            ("sub/a.yaml", "include: [b.yaml]\nsolids: {a: {command: x}}\n"),
            ("sub/b.yaml", "include: [../p.yaml, b.yaml]\n"),
        ],
        "\
sub/b.yaml:1:11: `../p.yaml` includes itself in the end: `p.yaml` includes `sub/a.yaml` includes `sub/b.yaml` includes `p.yaml`
1 | include: [../p.yaml, b.yaml]
  |           ^
hint: put what they share into a file of its own
sub/b.yaml:1:22: `b.yaml` includes itself in the end: `p.yaml` includes `sub/a.yaml` includes `sub/b.yaml` includes `sub/b.yaml`
1 | include: [../p.yaml, b.yaml]
  |                      ^
hint: put what they share into a file of its own
",
    );
}

#[test]
fn paths_begin_in_the_root_in_all_files() {
    let files = [
        (
            "/repo/jobs/a/pipeline.yaml",
            "root: ../..\ninclude: ../../common.yaml\nsolids: {s: {command: x}}\n",
        ),
        ("/repo/common.yaml", "root: .\nsolids: {c: {matrix: {row: {rows: rows.tsv}}, command: x}}\n"),
        ("/repo/rows.tsv", "id\tx\n1\t2\n"),
    ];
    let pipeline = parsed(&files);
    assert_eq!(pipeline.folder, Path::new("/repo"));
    assert_eq!(pipeline.home, Path::new("/repo/jobs/a"));
    assert_eq!(pipeline.included(), [PathBuf::from("/repo/common.yaml")]);
    let alone = parsed(&files[1..]);
    assert_eq!((alone.folder.as_path(), alone.home.as_path()), (Path::new("/repo"), Path::new("/repo")));
    check(
        &[("/repo/jobs/a/pipeline.yaml", "root: ../lib\nsolids: {s: {command: x}}\n")],
        "\
/repo/jobs/a/pipeline.yaml:1:7: `../lib` is no folder above this file
1 | root: ../lib
  |       ^
hint: it is a folder above this file, the repository's for example: root: ..
",
    );
    check(
        &[
            ("/repo/a/p.yaml", "include: b.yaml\nsolids: {s: {command: x}}\n"),
            ("/repo/a/b.yaml", "root: ..\nsolids: {c: {command: x}}\n"),
        ],
        "\
/repo/a/b.yaml:1:7: its paths begin in `/repo`, and those of `/repo/a/p.yaml`, which includes it, in `/repo/a`
1 | root: ..
  |       ^
hint: give both the same `root`, or leave it out here
",
    );
}
