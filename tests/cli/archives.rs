//! `export` and `import`: what runs where a file was imported, and what a bad file changes (nothing).

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::kit::Folder;
use crate::{dogs, outcomes};

/// Another machine: the same pipeline, and another store.
fn elsewhere(from: &Folder, files: &[&str]) -> Folder {
    let folder = dogs();
    for file in files {
        folder.write(file, fs::read(from.path(file)).expect("it was exported"));
    }
    folder
}

/// A pipe with a name.
fn pipe(folder: &Folder, name: &str) {
    let made = Command::new("mkfifo").arg(folder.path(name)).status().expect("mkfifo is there");
    assert!(made.success(), "mkfifo {name}");
}

#[test]
fn what_was_exported_is_reused_elsewhere_and_nothing_runs() {
    let here = dogs();
    assert_eq!(here.cas("run -j 1").ok().steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    here.cas("export all.cas").shows(
        "
$ cas export all.cas
exported 3 results with 1 blob (19 B)
",
    );
    let there = elsewhere(&here, &["all.cas"]);
    there.cas("import all.cas").shows(
        "
$ cas import all.cas
imported 3 results with 1 blob (19 B)
",
    );
    assert_eq!(there.cas("status").ok().stdout, "3 steps: 1 stored, 2 not-needed\nnothing to run\n");
    let run = there.cas("run").ok();
    assert_eq!(run.steps(), Vec::<&str>::new());
    assert_eq!(there.cas("cat emit_sentence").ok().stdout, "poodle\ndouglas_fir\n");
    assert_eq!(there.cas("verify").ok().code, 0);
    // What made it came along.
    assert!(
        there
            .cas("lineage emit_sentence")
            .ok()
            .stdout
            .contains("dog: dogs/emit_dog  run 1 of another store\n")
    );
    // A change of one input runs what reads it, and what it needs besides.
    let changed = there.cas("run -j 1 --set emit_tree.tree_species=oak").ok();
    assert_eq!(changed.steps(), ["emit_tree", "emit_dog", "emit_sentence"]);
    // Again: everything is there.
    there.cas("import all.cas").shows(
        "
$ cas import all.cas
imported 3 results with 1 blob (19 B), 3 of them were here already
",
    );
    assert_eq!(there.cas("cat emit_sentence").ok().stdout, "poodle\ndouglas_fir\n");
}

/// What came with a file answers for every pipeline that has such a step, and its lineage goes on through it.
#[test]
fn what_was_imported_is_reused_by_another_pipeline_and_its_lineage_goes_up_to_where_it_was_made() {
    let here = dogs();
    let _ = here.cas("run").ok();
    let _ = here.cas("export dog.cas emit_dog").ok();
    let there = elsewhere(&here, &["dog.cas"]);
    there.write(
        "walks.yaml",
        "pipeline: walks\nsolids:\n  emit_dog:\n    config: {dog_breed: {type: str, default: poodle}}\n    command: echo \
         {{ config.dog_breed }}\n    stdout: result\n  walk: {inputs: {d: emit_dog}, command: 'cat {{ inputs.d }}; echo walks', \
         stdout: result}\n  rest: {inputs: {w: walk}, command: 'cat {{ inputs.w }}', stdout: result}\n",
    );
    let _ = there.cas("import dog.cas").ok();
    let ran = there.cas("run -f walks.yaml -j 1").ok();
    assert_eq!((ran.steps(), ran.counts()), (vec!["walk", "rest"], "1 reused, 2 ran"));
    assert_eq!(there.cas("run -f walks.yaml").ok().steps(), Vec::<&str>::new());
    let up = there.cas("lineage --up rest -f walks.yaml").ok().stdout;
    let names = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  run ").next().unwrap_or_default().trim().to_owned()).collect()
    };
    assert_eq!(names(&up), ["walks/rest", "made from", "w: walks/walk", "d: dogs/emit_dog"]);
    let down = there.cas("lineage --down emit_dog").ok().stdout;
    assert_eq!(names(&down), ["dogs/emit_dog", "used by", "walks/walk", "walks/rest"]);
    // And on with the next file: what was made there is here, under what was made here.
    let _ = there.cas("export walks.cas rest -f walks.yaml").ok();
    for file in ["walks.cas", "walks.yaml"] {
        here.write(file, fs::read(there.path(file)).expect("it is there"));
    }
    let _ = here.cas("import walks.cas").ok();
    assert_eq!(here.cas("run -f walks.yaml").ok().counts(), "nothing to run: 3 reused");
    let down = here.cas("lineage --down emit_dog").ok().stdout;
    assert_eq!(names(&down), ["dogs/emit_dog", "used by", "dogs/emit_sentence", "walks/walk", "walks/rest"]);
}

#[test]
fn what_an_export_is_to_leave_out_is_no_import() {
    let here = dogs();
    let _ = here.cas("run").ok();
    here.write("rnd", "something else entirely, and long enough\n");
    here.cas("export new.cas --since rnd").shows(
        "
$ cas export new.cas --since rnd
! error: `rnd` is nothing to leave out what it has: it is no export of cas
! hint: name an earlier export with --since
[2]
",
    );
}

/// It was told as evicted by an export, and as one that never ran.
#[test]
fn what_came_without_its_bytes_says_so_and_how_long_it_took_came_along() {
    let yaml = "pipeline: p\nsolids:\n  a: {config: {k: {type: int, default: 1}}, command: echo 1, stdout: result}\n  \
                b: {inputs: {x: a}, command: cat inputs/x inputs/x, stdout: result}\n";
    let here = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = here.cas("run").ok();
    let _ = here.cas("export b.cas b").ok();
    let there = elsewhere(&here, &["b.cas"]);
    there.write("pipeline.yaml", yaml);
    let _ = there.cas("import b.cas").ok();
    let status = there.cas("status --set a.k=2").ok();
    assert!(status.stdout.contains("a  config.k: 1 → 2"), "{}", status.stdout);
    let dry = there.cas("run -n --set a.k=2").ok().stdout;
    assert!(dry.contains("about ") && !dry.contains("never ran"), "{dry}");
    let again = there.cas("run -j 1 a").ok();
    assert_eq!(again.steps(), ["a"]);
    let why = again.stderr.lines().find(|line| line.starts_with("ran ")).unwrap_or_default().to_owned();
    assert!(why.contains("  imported ") && why.ends_with(" without its bytes"), "{why}");
}

#[test]
fn an_export_since_another_holds_what_is_new_and_needs_the_other() {
    let here = dogs();
    assert_eq!(here.cas("run -j 1").ok().steps(), ["emit_dog", "emit_tree", "emit_sentence"]);
    let _ = here.cas("export --all first.cas").ok();
    let oak = here.cas("run -j 1 --set emit_tree.tree_species=oak").ok();
    assert_eq!(oak.steps(), ["emit_tree", "emit_sentence"]);
    let second = here.cas("export --all second.cas --since first.cas --set emit_tree.tree_species=oak").ok();
    assert_eq!(second.stdout, "exported 2 results with 2 blobs (15 B)\n");
    let there = elsewhere(&here, &["first.cas", "second.cas"]);
    let early = there.cas("import second.cas").code(1);
    assert!(early.stderr.contains("it leaves out what another export has"), "{}", early.stderr);
    let hint = "hint: import that one first, the one of its `--since`; nothing was changed\n";
    assert!(early.stderr.ends_with(hint), "{}", early.stderr);
    assert_eq!(there.cas("ls").ok().stdout, "");
    let _ = there.cas("import first.cas").ok();
    let _ = there.cas("import second.cas").ok();
    for set in ["", " --set emit_tree.tree_species=oak"] {
        let ran = there.cas(&format!("run{set} --format json")).ok();
        assert_eq!(outcomes(&ran), ["emit_dog reused", "emit_tree reused", "emit_sentence reused"]);
    }
}

#[test]
fn a_bad_file_is_one_clear_error_and_changes_nothing() {
    let here = dogs();
    let _ = here.cas("run").ok();
    let _ = here.cas("export --all all.cas").ok();
    let good = fs::read(here.path("all.cas")).expect("it is there");
    let there = dogs();
    assert_eq!(there.cas("run emit_dog").ok().steps(), ["emit_dog"]);
    let before = there.cas("ls --format json").ok().stdout;
    // Cut off anywhere, or with any byte turned.
    for cut in (0..good.len()).step_by(61) {
        there.write("bad.cas", &good[..cut]);
        let ran = there.cas("import bad.cas").code(1);
        assert_eq!(
            ran.stderr.lines().filter(|line| line.contains("error:")).count(),
            1,
            "{}",
            ran.transcript()
        );
        assert!(ran.stderr.contains("`bad.cas` cannot be imported: "), "{}", ran.transcript());
    }
    for at in (0..good.len()).step_by(67) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        there.write("bad.cas", &bytes);
        let ran = there.cas("import bad.cas").code(1);
        assert!(ran.stderr.contains("`bad.cas` cannot be imported: "), "byte {at}: {}", ran.transcript());
    }
    there.write("bad.cas", "something else entirely, and long enough\n");
    there.cas("import bad.cas").shows(
        "
$ cas import bad.cas
! error: `bad.cas` cannot be imported: it is no export of cas
! hint: nothing was changed; export it again where it comes from
[1]
",
    );
    pipe(&there, "pipe");
    let unlike =
        [(".", "a folder"), ("pipe", "a pipe"), ("/dev/null", "a device"), ("/dev/zero", "a device")];
    for (path, what) in unlike {
        for line in [format!("import {path}"), format!("export more.cas --since {path}")] {
            let told = there.cas(&line).code(2).stderr;
            assert_eq!(told, format!("error: `{path}` is {what}, and an export is a file\n"));
        }
    }
    assert_eq!(there.cas("import no.cas").code(2).stderr, "error: there is no file `no.cas`\n");
    assert_eq!(there.cas("ls --format json").ok().stdout, before);
    assert_eq!(there.cas("verify").ok().code, 0);
    let _ = there.cas("import not-there.cas").code(2);
    there.write("good.cas", &good);
    let _ = there.cas("import good.cas").ok();
    let ran = there.cas("run --format json").ok();
    assert_eq!(outcomes(&ran), ["emit_dog reused", "emit_tree reused", "emit_sentence reused"]);
}

/// It made the store first, and left it there with nothing in it.
#[test]
fn what_cannot_be_imported_leaves_no_store_where_there_was_none() {
    let here = dogs();
    let _ = here.cas("run").ok();
    let _ = here.cas("export --all first.cas").ok();
    let _ = here.cas("run --set emit_tree.tree_species=oak").ok();
    let _ = here.cas("export --all second.cas --since first.cas --set emit_tree.tree_species=oak").ok();
    let there = elsewhere(&here, &["first.cas", "second.cas"]);
    let good = fs::read(there.path("first.cas")).expect("it is there");
    let before = there.names("");
    let bad: [&[u8]; 3] = [b"", b"something else entirely, and long enough\n", &good[..good.len() - 9]];
    for bytes in bad {
        there.write("second.cas", bytes);
        let told = there.cas("import second.cas").code(1).stderr;
        assert!(told.starts_with("error: `second.cas` cannot be imported: "), "{told}");
        assert_eq!(there.names(""), before, "{told}");
    }
    // One that needs another is none that a new store could take.
    there.write("second.cas", fs::read(here.path("second.cas")).expect("it is there"));
    let told = there.cas("import second.cas").code(1).stderr;
    assert!(told.contains("it leaves out what another export has, which was not imported here"), "{told}");
    assert!(told.contains("hint: import that one first"), "{told}");
    assert_eq!(there.names(""), before);
    for file in ["first.cas", "second.cas"] {
        let _ = there.cas(&format!("import {file}")).ok();
    }
    assert_eq!(there.cas("run").ok().steps(), Vec::<&str>::new());
}

#[test]
fn only_what_is_stored_is_exported_and_no_file_is_overwritten() {
    let here = dogs();
    let nothing = here.cas("export all.cas").code(1);
    assert!(nothing.stderr.contains("nothing that is wanted is stored"), "{}", nothing.stderr);
    let _ = here.cas("run emit_dog").ok();
    let partly = here.cas("export some.cas emit_dog emit_tree").ok();
    assert!(partly.stderr.contains("`emit_tree` is not stored"), "{}", partly.stderr);
    assert_eq!(partly.stdout, "exported 1 result with 1 blob (7 B)\n");
    assert!(here.cas("export some.cas emit_dog").code(2).stderr.contains("exists already"));
    assert!(here.names("").iter().all(|name| !name.ends_with(".part")));
}

/// However it ends, what it has written of the file goes with it: each one left another file of half an export.
#[test]
fn an_export_that_is_interrupted_leaves_nothing() {
    let here = Folder::with(&[(
        "pipeline.yaml",
        "pipeline: p\nsolids: {a: {command: 'head -c 30000000 /dev/urandom > {{ outputs.result }}'}}\n",
    )]);
    let _ = here.cas("run").ok();
    let before = here.names("");
    for (round, signal) in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL].into_iter().enumerate() {
        let file = format!("a{round}.cas");
        let mut command = here.command(env!("CARGO_BIN_EXE_cas").as_ref());
        let command = command.args(["export", &file]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it can be started");
        // It writes once it has a file of this folder open.
        let (folder, files) = (here.path(""), format!("/proc/{}/fd", child.id()));
        let writes = || {
            fs::read_dir(&files).into_iter().flatten().flatten().any(|file| {
                fs::read_link(file.path()).is_ok_and(|file| file.parent() == Some(folder.as_path()))
            })
        };
        while !writes() && child.try_wait().expect("it is ours").is_none() {
            std::thread::yield_now();
        }
        // It may be done by now.
        let _ = kill_process(Pid::from_child(&child), signal);
        let whole = child.wait().expect("it ends").success();
        let mut after = here.names("");
        if whole {
            after.retain(|name| *name != file);
        }
        assert_eq!(after, before, "{signal:?}");
    }
}

#[test]
fn forgotten_results_stay_out_and_accepted_ones_say_so_elsewhere() {
    let mut here = dogs();
    here.variable("USER", "ada");
    let _ = here.cas("run").ok();
    let _ = here.cas("export --all all.cas").ok();
    let there = elsewhere(&here, &["all.cas"]);
    let _ = there.cas("import all.cas").ok();
    assert_eq!(there.cas("run").ok().steps(), Vec::<&str>::new());
    let _ = there.cas("forget emit_dog --reason wrong").ok();
    let again = there.cas("import all.cas").ok();
    assert!(again.stderr.contains("2 results stayed out: forgotten here"), "{}", again.stderr);
    assert_eq!(there.cas("run -j 1").ok().steps(), ["emit_dog", "emit_sentence"]);

    let text = here.read("pipeline.yaml").replace("command: echo {{", "command: echo  {{");
    here.write("pipeline.yaml", &text);
    let _ = here.cas("accept emit_dog --reason 'a blank more'").ok();
    let _ = here.cas("run").ok();
    let _ = here.cas("export --all accepted.cas").ok();
    let there = elsewhere(&here, &["accepted.cas", "pipeline.yaml"]);
    let _ = there.cas("import accepted.cas").ok();
    assert_eq!(there.cas("run").ok().steps(), Vec::<&str>::new());
    assert!(there.cas("status").ok().stderr.contains("emit_dog: accepted on"));
}

/// An export of what a run had lost what is good for a while: it came as what only a frozen run could have asked for.
#[test]
fn what_a_given_run_had_is_exported_as_what_its_steps_have() {
    let yaml = |at: &str| {
        format!(
            "pipeline: old\nsolids:\n  d: {{version: {{every: 1h}}, command: cat {at}n, stdout: result}}\n  \
             v: {{version: volatile, command: cat {at}n, stdout: result}}\n  \
             below: {{inputs: {{d: d, v: v}}, command: cat inputs/d inputs/v, stdout: result}}\n"
        )
    };
    let here = Folder::with(&[("n", "1\n")]);
    here.write("pipeline.yaml", yaml(&here.path("").display().to_string()));
    let _ = here.cas("run").ok();
    here.write("n", "2\n");
    let _ = here.cas("run --force").ok();
    let exported = here.cas("export first.cas --frozen=1 --all").ok();
    assert!(exported.stdout.starts_with("exported 3 results with "), "{}", exported.transcript());
    let there = Folder::with(&[("n", "3\n")]);
    there.write("pipeline.yaml", here.read("pipeline.yaml"));
    there.write("first.cas", fs::read(here.path("first.cas")).expect("it was exported"));
    let _ = there.cas("import first.cas").ok();
    for (step, content) in [("d", "1\n"), ("v", "1\n"), ("below", "1\n1\n")] {
        assert_eq!(there.cas(&format!("cat {step} --frozen")).ok().stdout, content);
    }
    let ran = there.cas("run --frozen").ok();
    assert_eq!(
        (ran.steps(), ran.stdout.contains("0 ran") || ran.stdout.starts_with("nothing to run")),
        (vec![], true)
    );
    // It is good for the rest of its hour, as it is here.
    assert_eq!(there.cas("cat d").ok().stdout, "1\n");
    assert_eq!(there.cas("run d").ok().counts(), "nothing to run: 1 reused");
    assert_eq!(there.cas("verify").ok().code, 0);
    // What is here is what the last run left.
    assert_eq!(here.cas("cat d").ok().stdout, "2\n");
}

/// The number of the run that made it was told as if it were one of this store, where another run has that number.
#[test]
fn what_was_imported_is_told_apart_from_what_the_runs_here_made() {
    let here = dogs();
    let _ = here.cas("run").ok();
    let _ = here.cas("export all.cas").ok();
    let there = elsewhere(&here, &["all.cas"]);
    let told = |folder: &Folder, imported: bool| {
        let (from, of) =
            if imported { (", imported from another store", " of another store") } else { ("", "") };
        let explained = folder.cas("explain emit_sentence").ok().stdout;
        assert!(
            explained.contains(&format!(" by run 1 of dogs{from}, as emit_sentence, on ")),
            "{explained}"
        );
        let shown = folder.cas("show emit_sentence").ok().stdout;
        assert!(shown.contains(&format!("\nby        run 1 of dogs{from}, step emit_sentence (")), "{shown}");
        let lineage = folder.cas("lineage --up emit_sentence").ok().stdout;
        assert!(lineage.contains(&format!("\n  dog: dogs/emit_dog  run 1{of}\n")), "{lineage}");
        let listed = folder.cas("ls").ok().stdout;
        assert_eq!(listed.contains("  emit_sentence.result (imported)  "), imported, "{listed}");
        let table = folder.cas("table emit_sentence --columns run,step").ok().stdout;
        let row = table.lines().nth(1).map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(row, Some(format!("1{of} emit_sentence")), "{table}");
        let of_step = |line| format!("{line} emit_sentence");
        for line in ["explain", "show", "lineage", "ls", "table"] {
            let asked = match line {
                "ls" => line.to_owned(),
                "table" => "table emit_sentence --columns run".to_owned(),
                _ => of_step(line),
            };
            let json = folder.cas(&format!("{asked} --format json")).ok().stdout;
            let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
            let rows = document[line].as_array().expect("its rows");
            let row = rows.iter().find(|row| line != "ls" || row["step"] == "emit_sentence");
            assert_eq!(row.map(|row| &row["imported"]), Some(&imported.into()), "{json}");
        }
    };
    told(&here, false);
    // Where there was no run yet, and where there is another one that has its number.
    let _ = there.cas("import all.cas").ok();
    told(&there, true);
    let _ = there.cas("run").ok();
    told(&there, true);
    // What is made here is of here, also beside what was imported.
    let _ = there.cas("run --force emit_dog").ok();
    let shown = there.cas("show emit_dog").ok().stdout;
    assert!(shown.contains("\nby        run 2 of dogs, step emit_dog ("), "{shown}");
    // Rows of both in one table; without the column there is nothing to tell.
    let _ = there.cas("run emit_dog --set emit_dog.dog_breed=pug").ok();
    let _ = there.cas("run emit_sentence --set emit_dog.dog_breed=pug").ok();
    let table = there.cas("table emit_sentence --columns run,config.x").code(2);
    assert!(
        table.stderr.contains("no result of `emit_sentence` has a column `config.x`"),
        "{}",
        table.stderr
    );
    let table = there.cas("table emit_sentence --columns run").ok().stdout;
    assert_eq!(table, "run\n4\n1 of another store\n");
    let json = there.cas("table emit_sentence --columns step --format json").ok().stdout;
    assert!(!json.contains("imported"), "{json}");
    // A number that no run here has had yet.
    let _ = here.cas("run --force").ok();
    let _ = here.cas("export second.cas").ok();
    let third = elsewhere(&here, &["second.cas"]);
    let _ = third.cas("run emit_dog --set emit_tree.tree_species=oak").ok();
    let _ = third.cas("import second.cas").ok();
    let shown = third.cas("show emit_sentence").ok().stdout;
    assert!(
        shown.contains("\nby        run 2 of dogs, imported from another store, step emit_sentence ("),
        "{shown}"
    );
    // What comes back is not of another store, whether it is there yet or not.
    let _ = here.cas("import all.cas").ok();
    let lineage = here.cas("lineage --up emit_sentence").ok().stdout;
    assert!(lineage.contains("\n  dog: dogs/emit_dog  run 2\n"), "{lineage}");
    let _ = there.cas("export back.cas emit_sentence").ok();
    here.write("back.cas", fs::read(there.path("back.cas")).expect("it was exported"));
    fs::remove_dir_all(here.path(".cas")).expect("it is there");
    let _ = here.cas("import back.cas").ok();
    told(&here, true);
}

const LINE: &str = "\
pipeline: imp
solids:
  z: {command: echo z, stdout: result}
  a: {inputs: {z: z}, command: 'cat inputs/z; echo a', stdout: result}
  b: {inputs: {a: a}, config: {k: {type: int, default: 1}}, command: 'cat inputs/a; echo {{ config.k }}', stdout: result}
  c: {inputs: {b: b}, command: cat inputs/b, stdout: result}
";

/// Once what stands above an imported result was made here, because its bytes had not come along, it was told as what that
/// result had been made from: by a run of this store, later than what had read it.
#[test]
fn what_was_imported_is_told_with_what_it_was_made_from_elsewhere() {
    let here = Folder::with(&[("pipeline.yaml", LINE)]);
    assert_eq!(here.cas("run -j 1").ok().steps(), ["z", "a", "b", "c"]);
    let _ = here.cas("export all.cas").ok();
    let there = Folder::with(&[("pipeline.yaml", LINE)]);
    there.write("all.cas", fs::read(here.path("all.cas")).expect("it was exported"));
    let _ = there.cas("import all.cas").ok();
    let imported = "imp/c  run 1 of another store\nmade from\n  b: imp/b  run 1 of another store\n    \
                    a: imp/a  run 1 of another store\n";
    let whole = format!("{imported}      z: imp/z  run 1 of another store\n");
    assert_eq!(there.cas("lineage c").ok().stdout, whole);
    assert_eq!(there.cas("run -j 1 --set b.k=2").ok().steps(), ["z", "a", "b", "c"]);
    // Who made `a` there is on record with what read it; what that had been made from gave way with it.
    let gone = format!("{imported}      z: imp/z  (what is on record of it is not here)\n");
    assert_eq!(there.cas("lineage c").ok().stdout, gone);
    assert_eq!(
        there.cas("lineage c --set b.k=2").ok().stdout,
        "imp/c  run 1\nmade from\n  b: imp/b  run 1\n    a: imp/a  run 1\n      z: imp/z  run 1\n"
    );
    // Both have its content, and both would be forgotten with it.
    let down = "imp/a  run 1\nused by\n  imp/b  run 1\n    imp/c  run 1\n  imp/b  run 1 of another store  (read \
                another making with this content)\n    imp/c  run 1 of another store\n";
    assert_eq!(there.cas("lineage --down a").ok().stdout, down);
    let json = there.cas("lineage c --format json").ok().stdout;
    let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
    let rows = document["lineage"].as_array().expect("its rows");
    let told = |row: &serde_json::Value| {
        let made_at = row["made_at"].as_str().map(str::to_owned);
        (row["step"].as_str().map(str::to_owned), row["run"].as_u64(), row["imported"].as_bool(), made_at)
    };
    let rows: Vec<_> = rows.iter().map(told).collect();
    let of = |step: &str, run, imported, made_at: &Option<String>| {
        (Some(step.to_owned()), run, Some(imported), made_at.clone())
    };
    let [c, b, a, z] = &rows[..] else { panic!("{json}") };
    assert_eq!(*c, of("c", Some(1), true, &c.3));
    assert_eq!(*b, of("b", Some(1), true, &b.3));
    assert_eq!(*a, of("a", Some(1), true, &a.3));
    assert_eq!(*z, of("z", None, false, &None));
    assert!(a.3 <= b.3 && b.3 <= c.3, "{json}");
    // The same where it was made here before: what was read was the other one.
    let third = Folder::with(&[("pipeline.yaml", LINE)]);
    third.write("all.cas", fs::read(here.path("all.cas")).expect("it was exported"));
    assert_eq!(third.cas("run -j 1 a").ok().steps(), ["z", "a"]);
    let _ = third.cas("import all.cas").ok();
    assert_eq!(third.cas("lineage c").ok().stdout, gone);
    assert_eq!(third.cas("run").ok().steps(), Vec::<&str>::new());
}

/// An export left its bytes out, and another result here has the same: it was told as stored and as evicted.
#[test]
fn what_came_without_its_bytes_and_has_them_here_is_stored() {
    let yaml = |other: &str| {
        format!(
            "pipeline: p\nsolids:\n  a: {{command: echo{other} same, stdout: result}}\n  \
             b: {{inputs: {{a: a}}, command: cat inputs/a; echo b, stdout: result}}\n"
        )
    };
    let here = Folder::with(&[("pipeline.yaml", &yaml(""))]);
    assert_eq!(here.cas("run -j 1").ok().steps(), ["a", "b"]);
    let _ = here.cas("export all.cas").ok();
    let there = Folder::with(&[("pipeline.yaml", &yaml(" "))]);
    there.write("all.cas", fs::read(here.path("all.cas")).expect("it was exported"));
    let _ = there.cas("import all.cas").ok();
    there.write("pipeline.yaml", yaml(""));
    let shown = |evicted: bool| {
        let json = there.cas("show a --format json").ok().stdout;
        let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
        let shown = &document["show"][0];
        assert_eq!(shown["state"], if evicted { "evicted" } else { "stored" }, "{json}");
        assert_eq!(shown["evicted_at"].is_string(), evicted, "{json}");
        assert_eq!(shown["evicted_why"].is_string(), evicted, "{json}");
        there.cas("show a").ok().stdout
    };
    let text = shown(true);
    assert!(text.contains("\ncontent   evicted (an export left its bytes out)\n"), "{text}");
    there.write("pipeline.yaml", yaml(" "));
    assert_eq!(there.cas("run a").ok().steps(), ["a"]);
    there.write("pipeline.yaml", yaml(""));
    let text = shown(false);
    assert!(text.contains("\ncontent   file, 5 B\n"), "{text}");
    assert_eq!(there.cas("versions").ok().stderr, "");
}

/// What an imported step had printed was told under a number that is another run's here.
#[test]
fn what_an_imported_step_printed_is_of_another_store() {
    let yaml = "pipeline: p\nsolids:\n  a: {command: echo said >&2; echo a, stdout: result}\n  b: {inputs: {a: a}, command: echo too >&2; cat inputs/a, stdout: result}\n  \
                c: {command: echo c, stdout: result}\n";
    let here = Folder::with(&[("pipeline.yaml", yaml)]);
    assert_eq!(here.cas("run a b -j 1").ok().steps(), ["a", "b"]);
    let _ = here.cas("export --all all.cas a b").ok();
    let there = Folder::with(&[("pipeline.yaml", yaml)]);
    assert_eq!(there.cas("run c").ok().steps(), ["c"]);
    there.write("all.cas", fs::read(here.path("all.cas")).expect("it was exported"));
    let _ = there.cas("import all.cas").ok();
    let logs = there.cas("logs a b").ok();
    assert_eq!(logs.stdout, "said\ntoo\n");
    assert_eq!(logs.stderr, "== a, run 1 of another store\n== b, run 1 of another store\n");
    let json = there.cas("logs a c --format json").ok().stdout;
    let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
    let told = |at: usize| (document["logs"][at]["run"].as_u64(), document["logs"][at]["imported"].as_bool());
    assert_eq!((told(0), told(1)), ((Some(1), Some(true)), (Some(1), Some(false))), "{json}");
}

/// In one store: the run that made what was read is told, also when what it made was evicted and made anew.
#[test]
fn what_was_evicted_and_made_anew_is_told_with_the_run_that_was_read() {
    let here = Folder::with(&[("pipeline.yaml", LINE)]);
    assert_eq!(here.cas("run -j 1").ok().steps(), ["z", "a", "b", "c"]);
    let _ = here.cas("pin b c").ok();
    let _ = here.cas("gc --max-size 0").ok();
    assert_eq!(here.cas("run -j 1 --set b.k=2").ok().steps(), ["z", "a", "b", "c"]);
    let up = here.cas("lineage --up c").ok().stdout;
    let expected = "imp/c  run 1\nmade from\n  b: imp/b  run 1\n    a: imp/a  run 1\n      z: imp/z  run 1\n";
    assert_eq!(up, expected);
}
