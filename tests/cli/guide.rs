//! The guide, tried: its chapters' commands are run with what they speak of around them, and print what is written there.

use crate::kit::Folder;
use crate::tour::{Tour, blocks, chapter, shown};

/// The chapters that show commands with what they print: each has a story here.
const TRIED: &[&str] = &[
    "README",
    "commands",
    "failing-step",
    "first-hour",
    "fresh",
    "lineage",
    "lists",
    "long-runs",
    "report",
    "reproduce",
    "sandbox",
    "several-at-once",
    "sharing",
    "sweeps",
    "watching",
    "why",
    "wrong-results",
];

#[test]
fn the_readme_is_what_happens() {
    let mut tour = Tour::of("README").example("dog_tree");
    tour.runs("cas run -c california.yaml");
    tour.runs("cas run -c california.yaml");
    tour.runs("cas run -c maryland.yaml");
}

#[test]
fn commands_print_what_their_page_says() {
    let mut tour = Tour::of("commands").example("dog_tree");
    let _ = tour.folder.cas("run -c california.yaml").ok();
    tour.runs("cas run -c maryland.yaml");
    tour.runs("cas status -c maryland.yaml --set emit_tree.tree_species=oak");
}

#[test]
fn the_first_hour_is_what_happens() {
    let mut tour = Tour::of("first-hour").example("dog_tree");
    // The first block is the example itself.
    assert_eq!(tour.yaml[0], tour.folder.read("pipeline.yaml"));
    tour.runs("cas versions -c california.yaml");
    tour.runs("cas run -c california.yaml");
    tour.runs("cas cat -c california.yaml emit_sentence");
    tour.runs("cas versions -c maryland.yaml");
    tour.runs("cas run -c maryland.yaml");
    tour.edits("solids/sentence.py", "sleeps", "dozes");
    tour.runs("cas explain -c maryland.yaml emit_sentence");
    assert_eq!(tour.folder.cas("run -c maryland.yaml").ok().steps(), ["emit_sentence"]);
    tour.edits("solids/sentence.py", "dozes", "sleeps");
    assert_eq!(tour.folder.cas("run -c maryland.yaml").ok().steps(), Vec::<&str>::new());
}

/// A dog, a tree with code, and a sentence.
const DOGS: &str = "\
pipeline: dogs
solids:
  emit_dog: {command: echo poodle, stdout: result}
  emit_tree:
    config: {tree_species: {type: str, default: red_maple}}
    code: [solids/tree.py]
    command: sh solids/tree.py {{ config.tree_species }}
    stdout: result
  emit_sentence:
    inputs: {dog: emit_dog, tree.txt: emit_tree}
    command: cat {{ inputs.dog }} {{ inputs.tree }} > {{ outputs.result }}
";

fn dogs(name: &str) -> Tour {
    Tour::of(name).with(&[("pipeline.yaml", DOGS), ("solids/tree.py", "echo $1\n")])
}

#[test]
fn why_things_run_is_told_as_the_guide_says() {
    let mut tour = dogs("why");
    tour.edits("pipeline.yaml", "default: red_maple", "default: douglas_fir");
    tour.edits("pipeline.yaml", "tree.txt:", "tree:");
    let _ = tour.folder.cas("run").ok();
    tour.runs("cas run --set emit_tree.tree_species=red_maple");
    tour.edits("solids/tree.py", "echo", "# A remark.\necho");
    tour.runs("cas status");
    tour.runs("cas explain emit_sentence");
    tour.runs("cas explain emit_dog");
}

#[test]
fn wrong_results_are_judged_as_the_guide_says() {
    let mut tour = dogs("wrong-results");
    let _ = tour.folder.cas("run").ok();
    tour.runs("cas forget emit_tree --reason 'the scale was wrong'");
    tour.runs("cas status");
    let chain = "pipeline: chain\nsolids:\n  one: {code: [one.sh], command: sh one.sh, stdout: result}\n  two: {inputs: {x: \
                 one}, command: cat inputs/x, stdout: result}\n  three: {inputs: {x: two}, command: cat inputs/x, stdout: \
                 result}\n";
    std::fs::remove_dir_all(tour.folder.path(".cas")).expect("it is there");
    tour = tour.with(&[("pipeline.yaml", chain), ("one.sh", "echo 1\n")]);
    let _ = tour.folder.cas("run").ok();
    tour.edits("one.sh", "echo", "# A remark.\necho");
    tour.runs("cas status");
    tour.runs("cas accept one --reason 'only a comment'");
    tour.runs("cas run");
}

#[test]
fn lists_are_what_the_guide_says() {
    let book: String = (0..100).map(|line| format!("line {line} of the book\n")).collect();
    let mut tour = Tour::of("lists");
    let yaml = tour.yaml[0].clone();
    tour = tour.with(&[("pipeline.yaml", &yaml), ("book.txt", &book)]);
    tour.runs("cas run");
    for line in ["run count[page=ab]", "run count@page=ab", "explain count[page=ab]", "cat count[page=ab]"] {
        let _ = tour.folder.cas(line).ok();
    }
    let _ = tour.folder.cas("get count[page=ab] here.txt").ok();
    assert_eq!(tour.folder.read("here.txt"), "200\n");
    tour.folder.write("book.txt", book + "one more\n");
    tour.runs("cas versions");
}

#[test]
fn sweeps_are_what_the_guide_says() {
    let yaml = "\
pipeline: lab
solids:
  data: {command: echo 1, stdout: result}
  train:
    config: {lr: {type: float, default: 0.1}, depth: {type: int, default: 6}}
    inputs: {data: data}
    command: |
      case {{ config.lr }}/{{ config.depth }} in
        0.01/6) auc=0.914 ;; 0.01/7) auc=0.911 ;; 0.1/5) auc=0.902 ;; *) auc=0.8 ;;
      esac
      echo \"{\\\"auc\\\": $auc}\" > {{ outputs.metrics }}
    outputs: [metrics.json]
";
    let mut tour = Tour::of("sweeps").with(&[("pipeline.yaml", yaml)]);
    tour.runs("cas run train -j 1 --sweep train.lr=0.1,0.01 --sweep train.depth=4..8");
    tour.runs(
        "cas table train --columns config.lr,config.depth,metrics.auc,duration --sort -metrics.auc --limit 3",
    );
    tour.runs("cas run train -n -j 2 --sweep train.depth=9..12");
}

#[test]
fn lineage_is_what_the_guide_says() {
    let walk = "pipeline: other\nsolids:\n  emit_dog: {command: echo poodle, stdout: result}\n  walk: {inputs: {d: emit_dog}, \
                command: 'cat {{ inputs.d }}', stdout: result}\n";
    let yaml = "    command: echo planting; echo {{ config.tree_species }} > {{ outputs.result }}\n";
    let code = "    code: [solids/tree.py]\n    command: sh solids/tree.py {{ config.tree_species }}\n    stdout: result\n";
    let mut tour = dogs("lineage").with(&[("other.yaml", walk)]);
    tour.edits("pipeline.yaml", code, yaml);
    let _ = tour.folder.cas("run").ok();
    let _ = tour.folder.cas("get emit_sentence model.png").ok();
    tour.runs("cas show model.png");
    tour.runs("cas lineage --up model.png");
    // Of another pipeline, over several runs: `origins.rs` has such a one.
    tour.leaves_out("cas lineage --up last_week.csv");
    // Of two stores: `archives.rs` has these.
    tour.leaves_out("cas lineage c");
    assert_eq!(tour.folder.cas("run -f other.yaml").ok().steps(), ["walk"]);
    tour.runs("cas lineage --down emit_dog");
    let set = "--set emit_tree.tree_species=douglas_fir";
    let _ = tour.folder.cas(&format!("run {set}")).ok();
    let versions = tour.folder.cas(&format!("versions {set}")).ok().stdout;
    let row = versions.lines().find(|line| line.starts_with("| emit_tree.")).expect("it has a row");
    let version = &row.split('|').nth(2).expect("a version").trim()[..12];
    tour.runs_with("cas diff 1f0c5a emit_tree", "1f0c5a", version);
    tour.runs("cas diff 1 3");
}

#[test]
fn a_long_run_is_told_as_the_guide_says() {
    let yaml = "\
pipeline: album
solids:
  thumb:
    matrix: {photo: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}
    config: {width: {type: int, default: 200}}
    command: echo photo {{ matrix.photo }} at {{ config.width }} > {{ outputs.image }}
    outputs: [image]
  sheet:
    inputs: {images: 'thumb[*]'}
    command: cat {{ inputs.images }}/* > {{ outputs.page }}
    outputs: [page]
";
    let mut tour = Tour::of("long-runs").with(&[("pipeline.yaml", yaml)]);
    let _ = tour.folder.cas("run").ok();
    tour.edits("pipeline.yaml", "default: 200", "default: 100");
    tour.runs("cas run");
}

#[test]
fn a_report_is_written_as_the_guide_says() {
    let mut tour = dogs("report");
    tour.runs("cas run");
    tour.runs("cas report -o report.html");
    tour.leaves_out("cargo install --path cli --features otel");
    // Of a program that was built so; `tests/otel.rs` has a collector.
    tour.leaves_out("cas run --otel=http://localhost:4318");
}

#[test]
fn what_is_not_the_same_twice_is_told_as_the_guide_says() {
    let yaml = "\
pipeline: model
solids:
  rows: {command: seq 4, stdout: result}
  split:
    inputs: {rows: rows}
    pass_env: [SEEN]
    command: if mkdir $SEEN 2> /dev/null; then echo 0.4; else echo 0.7; fi
    stdout: result
  train: {inputs: {split: split}, command: wc -l < inputs/split, stdout: result}
";
    let mut tour = Tour::of("reproduce").with(&[("pipeline.yaml", yaml)]);
    let seen = tour.folder.path("seen").display().to_string();
    tour.folder.variable("SEEN", &seen);
    let _ = tour.folder.cas("run").ok();
    tour.runs("cas run --reproduce -j 1");
}

#[test]
fn what_nobody_declared_is_told_as_the_guide_says() {
    let mut tour = Tour::of("sandbox");
    let inside = tour.folder.path("").display().to_string();
    let script =
        format!("set -e\ncat {inside}data/labels.csv\n. {inside}lib/util.sh\ncat /srv/reference/genome.fa\n");
    let yaml = "pipeline: labels\nsolids:\n  train: {code: [train.sh], command: 'sh train.sh > {{ outputs.result }}'}\n";
    tour = tour.with(&[
        ("pipeline.yaml", yaml),
        ("train.sh", &script),
        ("data/labels.csv", "1,2\n"),
        ("lib/util.sh", "echo used\n"),
        ("../srv/reference/genome.fa", "ACGT\n"),
    ]);
    tour.runs("cas run --sandbox=warn");
    tour.runs("cas run --sandbox=deny");
}

#[test]
fn a_forecast_is_what_the_guide_says() {
    let yaml = "\
pipeline: forecast
solids:
  data: {matrix: {day: [1, 2, 3, 4]}, command: 'echo {{ config.day }}', stdout: result}
  train:
    config: {lr: {type: float, default: 0.1}}
    matrix: {seed: [1, 2, 3, 4, 5, 6, 7, 8]}
    inputs: {days: 'data[*]'}
    command: echo {{ config.lr }} {{ config.seed }}
    stdout: result
";
    let mut tour = Tour::of("several-at-once").with(&[("pipeline.yaml", yaml)]);
    let _ = tour.folder.cas("run").ok();
    let more = yaml.replace("default: 0.1", "default: 0.01").replace("7, 8]", "7, 8, 9, 10]");
    tour.folder.write("pipeline.yaml", more + "  check: {command: echo 1, stdout: result}\n");
    tour.runs("cas run -n -j 4");
}

#[test]
fn results_go_elsewhere_as_the_guide_says() {
    let yaml = DOGS.replace("    code: [solids/tree.py]\n", "").replace("sh solids/tree.py", "echo");
    let mut tour = Tour::of("sharing").with(&[("here/pipeline.yaml", &yaml), ("there/pipeline.yaml", &yaml)]);
    // They ask for a group, and for a second user: `store/tests/sharing/users.rs` has both.
    tour.leaves_out("mkdir /srv/cas && chgrp lab /srv/cas");
    tour.leaves_out("cas init --shared --store /srv/cas");
    tour.runs("cas run");
    tour.runs("cas export results.cas");
    let moved = std::fs::rename(tour.folder.path("here/results.cas"), tour.folder.path("there/results.cas"));
    moved.expect("it was written");
    tour.runs("cas import results.cas");
    tour.runs("cas run");
}

#[test]
fn data_that_changes_outside_is_taken_as_the_guide_says() {
    let mut tour = Tour::of("fresh");
    // A load that stays what it is for as long as a test takes.
    let yaml = tour.yaml[0].replace("cut -d' ' -f1 /proc/loadavg", "echo 0.42");
    tour = tour.with(&[("pipeline.yaml", &yaml)]);
    tour.folder.write_executable("etag.sh", "#!/bin/sh\necho 7\n");
    tour.folder.write_executable("download.sh", "#!/bin/sh\necho 1.08\n");
    let _ = tour.folder.cas("run").ok();
    tour.runs("cas run");
    tour.runs("cas run --frozen");
    for run in 4..=41 {
        assert_eq!(tour.folder.cas("run").ok().steps(), ["load"], "{run}");
    }
    tour.runs("cas runs --limit 2");
    tour.runs("cas run --frozen=40");
    tour.runs("cas get page yesterday.txt --frozen=40");
    tour.runs("cas diff 40 41");
}

#[test]
fn what_is_watched_is_run_as_the_guide_says() {
    let yaml = "\
pipeline: pages
solids:
  book: {command: echo 1, stdout: result}
  clean: {inputs: {raw: {path: data/raw}}, command: cat inputs/raw, stdout: result}
  count: {inputs: {clean: clean, book: book}, command: wc -w < inputs/clean, stdout: result}
";
    let mut tour = Tour::of("watching").with(&[("pipeline.yaml", yaml), ("data/raw", "a b\n")]);
    for _ in 0..3 {
        let _ = tour.folder.cas("run").ok();
    }
    tour.folder.write("data/raw", "a b c\n");
    tour.runs_until("cas run --watch", "Ctrl-C ends");
}

#[test]
fn a_step_that_fails_is_looked_into_as_the_guide_says() {
    let yaml = "pipeline: model\nsolids:\n  data: {command: echo 1, stdout: result}\n  train: {inputs: {data: data}, code: \
                [train.py], command: sh train.py}\n";
    let failing = "echo 'no such column: age'\nexit 1\n";
    let mut tour = Tour::of("failing-step").with(&[("pipeline.yaml", yaml), ("train.py", failing)]);
    tour.runs("cas run");
    tour.runs("cas logs train");
    tour.runs("sh .cas/work/failed/1-train/run.sh");
    tour.runs_typing("cas shell train", &["ls"]);
    tour.leaves_out("python3 -m pdb train.py");
}

/// They show files, and what to type stands in the text.
#[test]
fn pipelines_that_the_guide_shows_whole_run() {
    let first = |name: &str, block: usize| blocks(&chapter(name), &["yaml"])[block].clone();
    let make = Folder::with(&[
        ("pipeline.yaml", &first("from-make", 0)),
        ("book.txt", "a dog and a tree\n"),
        ("count.py", "import sys\nprint(len(open(sys.argv[1]).read().split()))\n"),
    ]);
    assert_eq!(make.cas("run").ok().steps(), ["words", "counts"]);
    assert_eq!(make.read("counts.txt"), "5\n");
    let one = Folder::with(&[
        ("yearly/pipeline.yaml", &first("one-repository", 0)),
        ("common/steps.yaml", &first("one-repository", 1)),
        ("common/lib/clean.py", "import sys\nprint(open(sys.argv[1]).read().strip())\n"),
        ("yearly/report.py", "import sys\nprint('<p>' + open(sys.argv[1]).read().strip())\n"),
        ("data/raw.csv", "1,2\n"),
    ]);
    assert_eq!(one.cas_in("yearly", "run").ok().steps(), ["clean", "report"]);
    assert_eq!(one.read("yearly/report.html"), "<p>1,2\n");
    assert_eq!(one.cas("run -f yearly/pipeline.yaml").ok().steps(), Vec::<&str>::new());
    assert!(one.has(".cas") && !one.has("yearly/.cas"));
    for block in [1, 2] {
        let lists = Folder::with(&[("pipeline.yaml", &first("lists", block))]);
        let ran = lists.cas("run -j 1").ok();
        let expected: &[&str] = match block {
            1 => &["split", "train[part=a]", "check[part=a]"],
            _ => &["split", "fetch[part=a]", "all"],
        };
        assert_eq!(ran.steps(), expected);
    }
}

#[test]
fn every_pipeline_of_the_guide_can_be_read() {
    let folder = format!("{}/../docs/guide", env!("CARGO_MANIFEST_DIR"));
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("there is a guide") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("it is text");
        for block in blocks(&text, &["yaml"]) {
            let whole = block.contains("\nsolids:") || block.starts_with("solids:");
            // Of a run config and of an included file there is nothing to be read here.
            if !whole || block.starts_with("# a run config") || block.contains("include:") {
                continue;
            }
            // What else is read on the way is a sheet of samples.
            let mut sheet = |_: &std::path::Path| Ok("sample\tfastq\na\ta.fq\n".to_owned());
            let found = cas_engine::file::pipeline(&path, &block, &mut sheet);
            assert!(found.is_ok(), "{}: {:?}\n{block}", path.display(), found.err());
            read += 1;
        }
    }
    assert!(read >= 20, "{read}");
}

#[test]
fn every_chapter_that_shows_commands_is_tried() {
    let folder = format!("{}/../docs/guide", env!("CARGO_MANIFEST_DIR"));
    let mut chapters: Vec<String> = std::fs::read_dir(folder)
        .expect("there is a guide")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".md").map(str::to_owned))
        .chain(["README".to_owned()])
        .filter(|name| !shown(&chapter(name)).is_empty())
        .collect();
    chapters.sort();
    assert_eq!(chapters, TRIED);
}
