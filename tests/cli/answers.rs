//! The commands that say what is stored, what would run and why.

use crate::dogs;
use crate::kit::Folder;

#[test]
fn versions_prints_the_table_that_was_promised() {
    let folder = dogs();
    folder.cas("list-versions").shows(
        "
$ cas list-versions
| Step Output          | Version                                                          | Status of Output |
|----------------------|------------------------------------------------------------------|------------------|
| emit_dog.result      | [hex]                                                            | to-be-recomputed |
| emit_tree.result     | [hex]                                                            | to-be-recomputed |
| emit_sentence.result | [hex]                                                            | to-be-recomputed |
! there is no store at `.cas` yet (chosen by the default, beside the pipeline): nothing is stored
",
    );
    let _ = folder.cas("run").ok();
    let before = folder.cas("versions").ok().stdout;
    assert_eq!(before.matches("| stored           |").count(), 3, "{before}");
    folder.cas("versions --set emit_tree.tree_species=red_maple").shows(
        "
$ cas versions --set emit_tree.tree_species=red_maple
| Step Output          | Version                                                          | Status of Output |
|----------------------|------------------------------------------------------------------|------------------|
| emit_dog.result      | [hex]                                                            | stored           |
| emit_tree.result     | [hex]                                                            | to-be-recomputed |
| emit_sentence.result | [hex]                                                            | to-be-recomputed |
",
    );
    assert_eq!(folder.cas("list_versions").ok().stdout, before);
}

#[test]
fn status_and_explain_name_the_first_cause() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    folder.cas("status --exit-code").shows(
        "
$ cas status --exit-code
3 steps: 3 stored
nothing to run
",
    );
    folder.cas("status --exit-code --set emit_tree.tree_species=red_maple").shows(
        "
$ cas status --exit-code --set emit_tree.tree_species=red_maple
3 steps: 1 stored, 2 to-be-recomputed
emit_tree      config.tree_species: douglas_fir → red_maple
emit_sentence  `emit_tree`: config.tree_species: douglas_fir → red_maple (may turn out unchanged)
[1]
",
    );
    folder.cas("why emit_sentence --set emit_tree.tree_species=red_maple").shows(
        "
$ cas why emit_sentence --set emit_tree.tree_species=red_maple
emit_sentence would run: `emit_tree` runs before it
  compared with the version of [date]
emit_tree would run: config.tree_species: douglas_fir → red_maple
  compared with the version of [date]
it may turn out unchanged: what it consumes is made anew, and may come out the same
",
    );
    let stored = folder.cas("explain emit_dog").ok().stdout;
    assert!(
        stored.starts_with("emit_dog is stored\n  made on ") && stored.contains(" by run 1 of dogs"),
        "{stored}"
    );
}

#[test]
fn the_graph_is_shown_in_four_forms() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  train: {matrix: {n: [1, 2]}, command: \"echo {{ config.n }}\", stdout: result}\n  \
         all: {inputs: {x: \"train[*]\"}, command: \"cat inputs/x/* > {{ outputs.result }}\"}\n",
    )]);
    let _ = folder.cas("run 'train[n=1]'").ok();
    folder.cas("graph").shows(
        "
$ cas graph
train ×2  1 stored, 1 to-be-recomputed
all       to-be-recomputed              ← train
",
    );
    let elements = folder.cas("graph --elements").ok().stdout;
    assert!(
        elements.contains("train[n=1]  stored") && elements.contains("train[n=2]  to-be-recomputed"),
        "{elements}"
    );
    assert!(folder.cas("graph --as dot").ok().stdout.contains("n0 -> n1;"));
    assert!(folder.cas("graph --as mermaid").ok().stdout.contains("n0 --> n1"));
    assert!(folder.cas("graph --as svg").ok().stdout.ends_with("</svg>\n"));
}

#[test]
fn results_are_listed_shown_printed_and_fetched() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    let list = folder.cas("ls").ok().stdout;
    assert_eq!(list.lines().count(), 4, "{list}");
    assert_eq!(folder.cas("ls --all").ok().stdout.matches(" dogs/emit_").count(), 3);
    assert_eq!(folder.cas("cat emit_sentence.result").ok().stdout, "poodle\ndouglas_fir\n");
    // By the hex that `ls` shows.
    let line = list.lines().find(|line| line.contains("emit_tree.result")).expect("it is listed");
    let hex = line.split_whitespace().next().expect("a version stands first");
    assert_eq!(folder.cas(&format!("cat {hex}")).ok().stdout, "douglas_fir\n");
    let show = folder.cas(&format!("show {hex}")).ok().stdout;
    assert!(show.contains("\ncommand   echo planting; echo 'douglas_fir' > 'outputs/result'\n"), "{show}");
    assert!(show.contains("config    {\"tree_species\":\"douglas_fir\"}"), "{show}");

    folder.cas("get emit_sentence sentence.txt").shows(
        "
$ cas get emit_sentence sentence.txt
! sentence.txt  emit_sentence.result, 19 B
",
    );
    folder.write("sentence.txt", "mine\n");
    folder.cas("get emit_sentence sentence.txt").shows(
        "
$ cas get emit_sentence sentence.txt
! error: `sentence.txt` exists already
! hint: --overwrite replaces it
[2]
",
    );
    assert_eq!(folder.read("sentence.txt"), "mine\n");
    let _ = folder.cas("get emit_sentence sentence.txt --overwrite").ok();
    assert_eq!(folder.read("sentence.txt"), "poodle\ndouglas_fir\n");
    let _ = folder.cas("get emit_dog emit_tree out").ok();
    assert_eq!(folder.names("out"), ["emit_dog.result", "emit_tree.result"]);
    assert_eq!(folder.names("."), [".cas", "out", "pipeline.yaml", "sentence.txt"]);
}

#[test]
fn folders_are_reached_into_and_fetched_whole() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  site:\n    outputs: [{pages: {at: site/}}]\n    \
         command: mkdir -p site/sub && echo top > site/index.html && echo low > site/sub/a.txt\n",
    )]);
    let _ = folder.cas("run").ok();
    assert_eq!(folder.cas("cat site.pages/sub/a.txt").ok().stdout, "low\n");
    assert_eq!(folder.cas("cat site/index.html").ok().stdout, "top\n");
    let whole = folder.cas("cat site").code(2);
    assert!(
        whole.stderr.contains("`site.pages` is a folder") && whole.stderr.contains("index.html"),
        "{}",
        whole.stderr
    );
    let wrong = folder.cas("cat site/nothing").code(2);
    assert!(wrong.stderr.contains("there is no `nothing` in `site.pages`"), "{}", wrong.stderr);
    let _ = folder.cas("get site copy").ok();
    assert_eq!(folder.names("copy"), ["index.html", "sub"]);
    let _ = folder.cas("get site").ok();
    assert_eq!(folder.read("site/sub/a.txt"), "low\n");
}

#[test]
fn what_is_known_but_not_stored_is_code_1() {
    let folder = dogs();
    folder.cas("cat emit_dog -q").shows(
        "
$ cas cat emit_dog -q
! error: `emit_dog.result` is not stored
! hint: `cas run` makes it
[1]
",
    );
    for line in ["get emit_dog", "show emit_dog", "pin emit_dog", "unpin emit_dog", "logs emit_dog"] {
        let _ = folder.cas(line).code(1);
    }
    // A run that never was is an unknown name.
    assert!(folder.cas("runs 7").code(2).stderr.contains("there is no run 7"));
}

#[test]
fn runs_are_listed_and_told_one_by_one() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    let _ = folder.cas("run --set emit_tree.tree_species=red_maple").ok();
    folder.cas("runs").shows(
        "
$ cas runs
RUN  BEGAN                PIPELINE  WHAT CAME OF IT         COMMAND
2    [date]  dogs      1 reused, 2 ran, [time]  cas run --set emit_tree.tree_species=red_maple
1    [date]  dogs      0 reused, 3 ran, [time]  cas run
",
    );
    let one = folder.cas("log 2 -v").ok().stdout;
    assert!(one.contains("\nran       emit_tree  ") && one.contains("\nreused    emit_dog\n"), "{one}");
    assert_eq!(folder.cas("logs emit_tree").ok().stdout, "planting\n");
    assert_eq!(folder.cas("logs --run 1 -q").ok().stdout, "planting\n");
    // What it printed in another run is not what it printed in this one.
    folder.cas("logs emit_dog --run 2").shows(
        "
$ cas logs emit_dog --run 2
! error: run 2 did not execute `emit_dog`
! hint: `cas logs emit_dog` shows what it printed last
[1]
",
    );
}

#[test]
fn every_answer_is_one_document_that_names_its_command() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    for (line, items) in [
        ("status", 0),
        ("versions", 3),
        ("explain emit_dog", 1),
        ("graph", 3),
        ("ls", 3),
        ("show emit_dog", 1),
        ("get emit_dog dog.txt", 1),
        ("runs", 1),
        ("logs emit_tree", 1),
        ("stats", 1),
        ("gc --dry-run", 0),
        ("pins", 0),
        ("clean", 0),
        ("verify", 0),
        ("verify --rebuild", 1),
    ] {
        let ran = folder.cas(&format!("{line} --format json")).ok();
        assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.transcript());
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is a document");
        let command = line.split(' ').next().expect("there is a word");
        assert_eq!(document["cas"], 1, "{line}");
        assert_eq!(document[command].as_array().map(Vec::len), Some(items), "{}", ran.stdout);
    }
}

/// An input in a file with an extension was `tree` in one answer and `tree.txt` in another; one whose extension alone was
/// another one was called removed and added.
#[test]
fn an_input_has_one_name_whatever_its_file_is_called() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    let _ = folder.cas("run --set emit_tree.tree_species=red_maple").ok();
    let diff = folder.cas("diff 1 2").code(1).stdout;
    let told = "\nemit_sentence: input tree: config.tree_species: douglas_fir → red_maple\n";
    assert!(diff.contains(told), "{diff}");
    let lineage = folder.cas("lineage --up emit_sentence").ok().stdout;
    assert!(lineage.contains("\n  tree: dogs/emit_tree"), "{lineage}");
    let yaml = folder.read("pipeline.yaml").replace("tree.txt: emit_tree", "tree.csv: emit_tree");
    folder.write("pipeline.yaml", yaml.replace("default: douglas_fir", "default: oak"));
    let why = folder.cas("explain emit_sentence").ok().stdout;
    let told = "\n  input tree: tree.txt → tree.csv\n  input tree changed\n";
    assert!(why.contains(told), "{why}");
}

/// A step that gathers 150 elements was explained in 150 lines of the same words.
#[test]
fn what_is_the_same_of_many_elements_is_told_once() {
    let yaml = "\
pipeline: lab
solids:
  m:
    config: {k: {type: int, default: 0}}
    matrix: {i: [1, 2, 3]}
    inputs: {f: {path: 'data/{{ config.i }}.txt'}}
    command: cat {{ inputs.f }}
    stdout: result
  g: {inputs: {h.txt: 'm[*]'}, command: cat inputs/h/*, stdout: result}
";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let write =
        |text: &str| (1..=3).for_each(|i| folder.write(&format!("data/{i}.txt"), format!("{text}{i}")));
    write("old");
    let _ = folder.cas("run -j 1").ok();
    write("new");
    folder.cas("explain g").shows(
        "
$ cas explain g
g would run: `m[i=1]` runs before it
  input h (3 elements) changed
  compared with the version of [date]
m[i=1] would run: input f changed
  compared with the version of [date]
it may turn out unchanged: what it consumes is made anew, and may come out the same
",
    );
    // For programs each of them stands by itself.
    let json = folder.cas("explain g --format json").ok().stdout;
    let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
    let labels: Vec<_> = document["explain"][0]["chain"][0]["differences"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["label"])
        .collect();
    assert_eq!(labels, ["input h[i=1]", "input h[i=2]", "input h[i=3]"]);
    let _ = folder.cas("run -j 1").ok();
    let diff = folder.cas("diff 1 2").code(1).stdout;
    assert!(diff.contains("\ng: input h (3 elements): input f changed\n"), "{diff}");
}
