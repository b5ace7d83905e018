//! What `publish` puts into the project, takes away again, and refuses to touch.

use crate::kit::Folder;

const OPTIONAL: &str = "\
pipeline: p
solids:
  opt:
    config: {on: {type: bool, default: true}}
    outputs: [{r: {at: r.txt, optional: true}}]
    command: if [ {{ config.on }} = true ]; then echo made > {{ outputs.r }}; fi
publish:
  o/r.txt: opt.r
";

#[test]
fn what_is_not_made_any_longer_is_taken_away_with_the_folder_it_leaves_empty() {
    let folder = Folder::with(&[("pipeline.yaml", OPTIONAL)]);
    let _ = folder.cas("run").ok();
    assert_eq!(folder.read("o/r.txt"), "made\n");
    let off = folder.cas("run --set opt.on=false").ok();
    assert!(off.stderr.contains("removed   o/r.txt"), "{}", off.stderr);
    assert!(!folder.has("o"));
    // Nothing is left to be told of.
    assert!(!folder.cas("run --set opt.on=false").ok().stderr.contains("o/r.txt"));
    let _ = folder.cas("run").ok();
    assert_eq!(folder.read("o/r.txt"), "made\n");
}

#[test]
fn an_element_that_left_its_matrix_is_taken_away_unless_somebody_changed_it() {
    let yaml = |values: &str| {
        format!(
            "pipeline: p\nsolids:\n  m:\n    matrix: {{v: [{values}]}}\n    command: echo {{{{ config.v }}}}\n    \
             stdout: result\npublish:\n  o/: m[*].result\n"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &yaml("a/b, c, d"))]);
    let _ = folder.cas("run").ok();
    let there = folder.names("o");
    assert_eq!(there.len(), 3, "{there:?}");
    folder.write("o/keep", "mine");
    let edited = there.iter().find(|name| name.starts_with("v=c")).cloned();
    let edited = edited.or_else(|| there.iter().find(|name| name.starts_with('c')).cloned());
    let edited = format!("o/{}", edited.expect("an element is named by its label"));
    folder.write(&edited, "edited");
    folder.write("pipeline.yaml", yaml("d"));
    let gone = folder.cas("run").ok();
    assert!(
        gone.stderr
            .contains(&format!("`{edited}` is no longer published, but was changed since cas wrote it"))
    );
    assert_eq!(folder.read(&edited), "edited");
    assert_eq!(folder.read("o/keep"), "mine");
    assert_eq!(folder.names("o").len(), 3, "{:?}", folder.names("o"));
    assert!(gone.stderr.contains("removed   o/"), "{}", gone.stderr);
}

#[test]
fn an_edited_file_is_told_as_changed_and_one_of_somebody_elses_as_not_written() {
    let yaml =
        "pipeline: p\nsolids:\n  a: {command: echo new, stdout: result}\npublish: {x.txt: a, y.txt: a}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml), ("y.txt", "theirs")]);
    let first = folder.cas("run").ok();
    assert!(first.stderr.contains("`y.txt` was not written by cas and was left alone"), "{}", first.stderr);
    folder.write("x.txt", "edited");
    let second = folder.cas("run").ok();
    assert!(
        second.stderr.contains("`x.txt` was changed since cas wrote it and was left alone"),
        "{}",
        second.stderr
    );
    assert_eq!(folder.read("x.txt"), "edited");
    let _ = folder.cas("run --overwrite").ok();
    assert_eq!((folder.read("x.txt").as_str(), folder.read("y.txt").as_str()), ("new\n", "new\n"));
}

#[test]
fn targets_that_collide_are_refused_at_their_place() {
    let check = |publish: &str, expected: &str| {
        let yaml = format!(
            "pipeline: p\nsolids:\n  o:\n    outputs: [result, z]\n    command: \"echo 1 > outputs/result; echo 2 > \
             outputs/z\"\npublish:\n{publish}"
        );
        let folder = Folder::with(&[("pipeline.yaml", &yaml)]);
        let refused = folder.cas("run -n").code(2);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert!(refused.stderr.contains("pipeline.yaml:8:"), "{}", refused.stderr);
        let _ = folder.cas("run").code(2);
    };
    check("  x/: o.result\n  x/result: o.z\n", "`o.result` and `o.z` are both published as `x/result`");
    check("  d: o.result\n  d/f: o.z\n", "`d/f` would be published inside of `d`, which is `o.result`");
    check("  d: o.result\n  ./d: o.z\n", "are both published as");
}

#[test]
fn targets_that_hold_what_the_pipeline_is_made_of_are_refused() {
    let check = |target: &str, expected: &str| {
        let yaml = format!(
            "pipeline: p\nresources:\n  t: {{files: [tool.cfg]}}\nsolids:\n  a:\n    resources: [t]\n    code: [lib/**]\n    \
             inputs: {{d: {{path: data.csv}}}}\n    command: cat inputs/d\n    stdout: result\npublish:\n  {target}: a\n"
        );
        let files =
            [("pipeline.yaml", yaml.as_str()), ("tool.cfg", "1"), ("lib/a.sh", "2"), ("data.csv", "3")];
        let folder = Folder::with(&files);
        let refused = folder.cas("run -n").code(2);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert!(refused.stderr.contains("pipeline.yaml:12:"), "{}", refused.stderr);
        let _ = folder.cas("run").code(2);
        assert_eq!(folder.read("data.csv"), "3");
    };
    check("pipeline.yaml", "`pipeline.yaml` is the pipeline file");
    check("data.csv", "`data.csv` is a file of the input `data.csv`");
    check("lib", "`lib` holds `lib/a.sh`, code of `a`");
    check("tool.cfg", "`tool.cfg` is a file of the resource `t`");
    check(".cas/x", "`.cas/x` is in the way of the store");
}

#[test]
fn a_file_where_a_folder_would_be_is_left_alone_and_the_run_ends_well() {
    let yaml = "pipeline: p\nsolids:\n  a: {command: echo new, stdout: result}\npublish: {out/x.txt: a}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml), ("out", "a file")]);
    let ran = folder.cas("run --overwrite").ok();
    assert!(ran.stderr.contains("`out/x.txt` was not written: one of the folders"), "{}", ran.stderr);
    assert_eq!((ran.counts(), folder.read("out").as_str()), ("0 reused, 1 ran", "a file"));
}

/// What is published where a declaration finds it changes what the pipeline is made of. The first time there is nothing
/// there to be found, and once it was put there, and refused only from then on.
#[test]
fn what_a_declared_glob_or_folder_would_find_is_refused_the_first_time() {
    let check = |declared: &str, target: &str, expected: Option<&str>| {
        let yaml = format!(
            "pipeline: p\nsolids:\n  a: {{{declared}, command: echo 1, stdout: result}}\npublish: {{{target}: a}}\n"
        );
        let files = [
            ("pipeline.yaml", yaml.as_str()),
            ("data/x.csv", "1\n"),
            ("lib/a.sh", "2\n"),
            (".gitignore", "lib/out/\n"),
        ];
        let folder = Folder::with(&files);
        let Some(expected) = expected else {
            assert_eq!(folder.cas("run").ok().steps(), ["a"], "{declared} {target}");
            assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 1 reused", "{declared} {target}");
            return;
        };
        for line in ["run", "status"] {
            let refused = folder.cas(line).code(2);
            let message = format!("`{target}` would be found by {expected}: nothing can be published there");
            assert!(refused.stderr.contains(&message), "{}", refused.stderr);
            assert!(refused.stderr.contains("pipeline.yaml:4:"), "{}", refused.stderr);
            assert!(!folder.has(target));
        }
    };
    let csv = "inputs: {d: {path: \"data/*.csv\"}}";
    check(csv, "data/all.csv", Some("the input `data/*.csv`"));
    check(csv, "./data/all.csv", Some("the input `data/*.csv`"));
    check(csv, "data/all.txt", None);
    check(csv, "data/deeper/all.csv", None);
    check("inputs: {d: {path: data}}", "data/deeper/all.csv", Some("the input `data`"));
    check("inputs: {d: {path: data/x.csv}}", "data/y.csv", None);
    check("code: [\"lib/**\"]", "lib/b.sh", Some("the code `lib/**` of `a`"));
    // What is left out of code is not found.
    check("code: [\"lib/**\"]", "lib/out/b.sh", None);
    check("code: [\"lib/**\"]", "lib/.b.sh", None);
}

/// A link in the project leads to a declared folder, or what is declared is reached through one: it is the same place.
#[test]
fn what_a_declaration_would_find_is_refused_whichever_link_leads_there() {
    let check = |path: &str, target: &str, expected: Option<&str>| {
        let yaml = format!(
            "pipeline: p\nsolids:\n  a: {{inputs: {{d: {{path: \"{path}\"}}}}, command: echo 1, stdout: result}}\n\
             publish: {{{target}: a}}\n"
        );
        let folder =
            Folder::with(&[("pipeline.yaml", yaml.as_str()), ("data/eu/x.txt", "1\n"), ("other/keep", "\n")]);
        for (link, to) in [("data/alias", "eu"), ("lnk", "data/eu"), ("away", "other"), ("store", ".cas")] {
            std::os::unix::fs::symlink(to, folder.path(link)).expect("the link is new");
        }
        let Some(expected) = expected else {
            assert_eq!(folder.cas("run").ok().steps(), ["a"], "{path} {target}");
            assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 1 reused", "{path} {target}");
            return;
        };
        let refused = folder.cas("run").code(2);
        assert!(refused.stderr.contains(expected), "{path} {target}: {}", refused.stderr);
        assert!(refused.stderr.contains("pipeline.yaml:4:"), "{}", refused.stderr);
        assert_eq!(folder.names("data/eu"), ["x.txt"]);
        assert_eq!(folder.read("data/eu/x.txt"), "1\n");
    };
    let found = |path: &str| format!("would be found by the input `{path}`: nothing can be published there");
    check("data/eu/*.txt", "lnk/q.txt", Some(&found("data/eu/*.txt")));
    check("data/eu/**", "lnk/new/q.txt", Some(&found("data/eu/**")));
    check("data/eu", "data/alias/q.txt", Some(&found("data/eu")));
    check("data/alias/*.txt", "data/eu/q.txt", Some(&found("data/alias/*.txt")));
    check("lnk/*.txt", "data/alias/q.txt", Some(&found("lnk/*.txt")));
    check("data/eu/x.txt", "lnk/x.txt", Some("`lnk/x.txt` is a file of the input `data/eu/x.txt`"));
    check("lnk/x.txt", "data/eu/x.txt", Some(&found("lnk/x.txt")));
    check("data/eu", "store/x.txt", Some("`store/x.txt` is in the way of the store"));
    check("data/eu/*.txt", "lnk/q.csv", None);
    check("data/eu", "away/q.txt", None);
}

#[test]
fn two_targets_that_a_link_makes_one_place_are_refused() {
    let yaml = "pipeline: p\nsolids:\n  a: {command: echo 1, stdout: result}\n  b: {command: echo 2, stdout: result}\n\
                publish:\n  o/x.txt: a\n  lnk/x.txt: b\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml), ("o/keep", "")]);
    std::os::unix::fs::symlink("o", folder.path("lnk")).expect("the link is new");
    let refused = folder.cas("run").code(2);
    let message = "`o/x.txt` and `lnk/x.txt` are one place: a link leads there";
    assert!(refused.stderr.contains(message), "{}", refused.stderr);
    assert_eq!(folder.names("o"), ["keep"]);
}

#[test]
fn a_target_inside_of_another_or_out_of_the_project_by_a_link_is_refused() {
    let check = |targets: &str, message: &str| {
        let yaml = format!(
            "pipeline: p\nsolids:\n  a: {{command: echo 1, stdout: result}}\n  b: {{command: echo 2, stdout: result}}\n\
             publish: {{{targets}}}\n"
        );
        let folder = Folder::with(&[("p/pipeline.yaml", yaml.as_str()), ("p/o/keep", ""), ("out/keep", "")]);
        for (link, to) in [("p/lnk", "o"), ("p/away", "../out"), ("p/o/up", "..")] {
            std::os::unix::fs::symlink(to, folder.path(link)).expect("the link is new");
        }
        let refused = folder.cas_in("p", "run").code(2);
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
        assert!(refused.stderr.contains("pipeline.yaml:5:"), "{}", refused.stderr);
        assert_eq!(
            (folder.names("p/o"), folder.names("out")),
            (vec!["keep".into(), "up".into()], vec!["keep".into()])
        );
    };
    let inside = "`lnk/q/x.txt` would be published inside of `o/q`: a link leads there";
    check("o/q: a, lnk/q/x.txt: b", inside);
    check("lnk/q: a, o/q/x.txt: b", "`o/q/x.txt` would be published inside of `lnk/q`: a link leads there");
    check("o/up/q: a, q/x.txt: b", "`q/x.txt` would be published inside of `o/up/q`: a link leads there");
    check("o/q: a, away/q: b", "`away/q` leads out of the project: a link leads to `");
    check("o/q: a, away/new/deep/q: b", "`away/new/deep/q` leads out of the project: a link leads to `");
}

/// The first run put them there, and every later one was refused until somebody removed them by hand.
#[test]
fn a_name_that_only_the_run_knows_is_refused_before_anything_is_put_there() {
    // Elements of a list.
    let list = "pipeline: p\nsolids:\n  lst: {outputs: [{parts: {list: true}}], command: 'mkdir outputs/parts; echo 1 > outputs/parts/y.txt; echo 2 > outputs/parts/z.txt'}\n  \
                m: {map: {x: lst.parts}, command: 'cat inputs/x > outputs/o', outputs: [o]}\n  \
                all: {inputs: {f: {path: 'in/*.txt'}}, command: ls inputs/f, stdout: result}\n\
                publish: {TO: 'm[*].o'}\n";
    let folder = Folder::with(&[("pipeline.yaml", &list.replace("TO", "in/")), ("in/x.txt", "1\n")]);
    for _ in 0..2 {
        let refused = folder.cas("run").code(2);
        let message = "`in/y.txt` would be found by the input `in/*.txt`: nothing can be published there";
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
        assert_eq!(folder.names("in"), ["x.txt"]);
    }
    folder.write("pipeline.yaml", list.replace("TO", "out/"));
    let _ = folder.cas("run").ok();
    assert_eq!(folder.names("out"), ["y.txt", "z.txt"]);
    // What is in a folder.
    let tree = "pipeline: p\nsolids:\n  t: {outputs: [{d: {at: outputs/d/}}], command: 'mkdir -p outputs/d/e; echo 1 > outputs/d/e/k.txt; echo 2 > outputs/d/k.csv'}\n  \
                all: {inputs: {f: {path: 'data/**/*.END'}}, command: find inputs/f, stdout: result}\n\
                publish: {data/new: t.d}\n";
    let folder = Folder::with(&[
        ("pipeline.yaml", &tree.replace("END", "txt")),
        ("data/x.txt", "1\n"),
        ("data/x.md", "1\n"),
    ]);
    for _ in 0..2 {
        let refused = folder.cas("run").code(2);
        let message = "`data/new/e/k.txt`, which `data/new` holds, would be found by the input `data/**/*.txt`: it cannot be published there";
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
        assert_eq!(folder.names("data"), ["x.md", "x.txt"]);
    }
    folder.write("pipeline.yaml", tree.replace("END", "md"));
    let _ = folder.cas("run").ok();
    assert_eq!(folder.read("data/new/e/k.txt"), "1\n");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 2 reused");
}

/// A run of one step put there what another one declares: that one took it for its code from then on, without a word.
#[test]
fn what_is_put_there_is_held_against_what_all_steps_declare() {
    let yaml = "pipeline: p\nsolids:\n  site: {outputs: [{d: {at: outputs/d/}}], command: 'mkdir outputs/d; echo 1 > outputs/d/x.sh'}\n  \
                b: {code: ['web/**/*.sh'], command: ls web, stdout: result}\n\
                c: {resources: [r], inputs: {f: {path: in.txt}}, command: ls, stdout: result}\n\
                resources: {r: {files: ['tools/**/*.sh']}}\n\
                publish: {TO: site.d}\n";
    let yaml = yaml.replace("\nc: ", "\n  c: ");
    let check = |to: &str, what: &str| {
        let folder = Folder::with(&[
            ("pipeline.yaml", yaml.replace("TO", to).as_str()),
            ("web/y.sh", "1\n"),
            ("tools/y.sh", "1\n"),
            ("in.txt", "1\n"),
        ]);
        let refused = folder.cas("run site").code(2);
        let message = format!(
            "`{to}/x.sh`, which `{to}` holds, would be found by {what}: it cannot be published there"
        );
        assert!(refused.stderr.contains(&message), "{}", refused.stderr);
        assert_eq!((folder.names("web"), folder.names("tools")), (vec!["y.sh".into()], vec!["y.sh".into()]));
    };
    // A file in the place of a folder in which another step looks for its own.
    for (to, what) in [
        ("web", "the code `web/**/*.sh` of `b`"),
        ("tools", "the files `tools/**/*.sh` of the resource `r`"),
        ("in.txt", "the input `in.txt`"),
    ] {
        let yaml = yaml
            .replace("TO: site.d", &format!("{to}: file"))
            .replace("  site:", "  file: {command: echo 1, stdout: result}\n  site:");
        let folder = Folder::with(&[
            ("pipeline.yaml", yaml.as_str()),
            ("web/y.sh", "1\n"),
            ("tools/y.sh", "1\n"),
            ("in.txt", "1\n"),
        ]);
        let refused = folder.cas("run file --overwrite").code(2);
        let found = format!("`{to}` would be found by {what}: nothing can be published there");
        let holds = format!("`{to}` is where {what} is: nothing can be published there");
        assert!(refused.stderr.contains(&found) || refused.stderr.contains(&holds), "{}", refused.stderr);
        assert_eq!((folder.read("web/y.sh"), folder.read("in.txt")), ("1\n".to_owned(), "1\n".to_owned()));
    }
    check("web/site", "the code `web/**/*.sh` of `b`");
    check("tools/site", "the files `tools/**/*.sh` of the resource `r`");
}

/// A renamed target was removed wherever the path led by then: the results of before had been moved into an archive outside
/// of the project, with a link in their place, and the archive lost them.
#[test]
fn what_lies_behind_a_link_that_was_put_there_since_is_left_alone_and_said() {
    let yaml = |target: &str| {
        format!("pipeline: p\nsolids:\n  a: {{command: echo 1, stdout: result}}\npublish: {{{target}: a}}\n")
    };
    for archive in ["arch", "p/arch"] {
        let folder = Folder::with(&[
            ("p/pipeline.yaml", yaml("results/q").as_str()),
            ("arch/keep", ""),
            ("p/arch/keep", ""),
        ]);
        let _ = folder.cas_in("p", "run").ok();
        let kept = format!("{archive}/results");
        std::fs::rename(folder.path("p/results"), folder.path(&kept)).expect("it is there");
        std::os::unix::fs::symlink(folder.path(&kept), folder.path("p/results")).expect("it is gone");
        folder.write("p/pipeline.yaml", yaml("res2/q"));
        let ran = folder.cas_in("p", "run").ok();
        let message = "`results/q` is no longer published, but a link leads there now: it was left alone";
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
        assert_eq!(folder.read(&format!("{kept}/q")), "1\n");
        assert_eq!(folder.read("p/res2/q"), "1\n");
    }
}

/// A step that exchanged the folder of a target for a link out of the project had its output written there: links were
/// looked at only before the run.
#[test]
fn a_link_that_is_made_during_the_run_is_not_written_through() {
    let yaml = "pipeline: p\nsolids:\n  a:\n    command: 'rm -rf PLACE/wl PLACE/two; ln -s PLACE/../out PLACE/wl; ln -s o PLACE/two; \
                ln -s nothing PLACE/gone; echo 1 > {{ outputs.result }}'\n\
                publish: {wl/q: a, wl/new/q: a, o/q: a, two/q: a, gone/q: a}\n";
    let folder = Folder::with(&[("p/wl/keep", ""), ("p/o/keep", ""), ("out/keep", "")]);
    folder.write("p/pipeline.yaml", yaml.replace("PLACE", &folder.path("p").display().to_string()));
    let ran = folder.cas_in("p", "run").ok();
    for message in [
        "`wl/q` was not written: a link leads out of the project, to `",
        "`wl/new/q` was not written: a link leads out of the project, to `",
        "`two/q` was not written: a link leads to `o/q`, which is published already",
        "`gone/q` was not written: the link `",
        "published o/q",
    ] {
        assert!(ran.stderr.contains(message), "{message}: {}", ran.stderr);
    }
    assert_eq!((folder.names("out"), folder.read("p/o/q").as_str()), (vec!["keep".to_owned()], "1\n"));
    assert!(!folder.has("p/nothing"));
}

/// The run did all its steps, and then failed with what the operating system said, as if the store could not be used.
#[test]
fn a_target_that_leads_to_nothing_or_holds_a_nul_byte_is_refused_at_its_line() {
    let check = |target: &str, message: &str| {
        let yaml = format!(
            "pipeline: p\nsolids:\n  a: {{command: echo 1, stdout: result}}\npublish: {{{target}: a}}\n"
        );
        let folder = Folder::with(&[("pipeline.yaml", &yaml)]);
        for (link, to) in [("gone", "nothing"), ("round", "round")] {
            std::os::unix::fs::symlink(to, folder.path(link)).expect("the link is new");
        }
        for line in ["run", "run -n", "status"] {
            let refused = folder.cas(line).code(2);
            assert!(refused.stderr.contains(message), "{}", refused.stderr);
            assert!(refused.stderr.contains("pipeline.yaml:4:"), "{}", refused.stderr);
        }
    };
    check("gone/q", "`gone/q` leads to nothing: the link `");
    check("gone/new/q", "`gone/new/q` leads to nothing: the link `");
    check("round/q", "`round/q` leads to nothing: the link `");
    check("\"a\\0b\"", "holds a NUL byte, which no path can");
}

/// The one that had been put where the link led before stayed there for ever, and nothing was said.
#[test]
fn a_file_that_stays_behind_an_exchanged_link_is_taken_away() {
    let yaml = "pipeline: p\nsolids:\n  a: {command: echo 1, stdout: result}\npublish: {link/a.txt: a}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml), ("real/keep", ""), ("real2/keep", "")]);
    let link = |to: &str| std::os::unix::fs::symlink(to, folder.path("link")).expect("the link is new");
    link("real");
    let _ = folder.cas("run").ok();
    assert_eq!(folder.read("real/a.txt"), "1\n");
    std::fs::remove_file(folder.path("link")).expect("it is there");
    link("real2");
    let moved = folder.cas("run").ok();
    assert!(moved.stderr.contains("removed   real/a.txt"), "{}", moved.stderr);
    assert_eq!((folder.names("real"), folder.read("real2/a.txt").as_str()), (vec!["keep".to_owned()], "1\n"));
    assert!(!folder.cas("run").ok().stderr.contains("real"));
}
