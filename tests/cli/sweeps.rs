//! `run --sweep` and `table`.

use crate::kit::Folder;

const TRAIN: &str = "\
pipeline: lab
solids:
  data: {command: echo 10, stdout: result}
  train:
    inputs: {d: data}
    config: {lr: {type: float, default: 0.5}, depth: {type: int, default: 1}}
    command: \"printf '{\\\"auc\\\": %s, \\\"n\\\": [%s]}' {{ config.lr }}{{ config.depth }} {{ config.depth }} > {{ outputs.metrics }}\"
    outputs: [metrics]
";

#[test]
fn a_sweep_runs_each_combination_and_what_they_share_once() {
    let folder = Folder::with(&[("pipeline.yaml", TRAIN)]);
    let line = "run train --sweep train.lr=0.1,0.2 --sweep train.depth=4..5";
    let first = folder.cas(line).ok();
    assert_eq!(first.steps(), ["data", "train", "train", "train", "train"]);
    let told: Vec<&str> = first.stderr.lines().filter(|line| line.starts_with("sweep ")).collect();
    assert_eq!(
        told,
        [
            "sweep 1 of 4: train.lr=0.1 train.depth=4",
            "sweep 2 of 4: train.lr=0.1 train.depth=5",
            "sweep 3 of 4: train.lr=0.2 train.depth=4",
            "sweep 4 of 4: train.lr=0.2 train.depth=5",
        ]
    );
    assert_eq!(folder.cas(line).ok().steps(), Vec::<&str>::new());
    // A wider one runs only what is new.
    assert_eq!(folder.cas("run train --sweep train.lr=0.1,0.3 --set train.depth=4").ok().steps(), ["train"]);
    folder
        .cas("table train --columns config.lr,config.depth,metrics.auc,metrics.n[0] --sort -metrics.auc")
        .shows(
            "
$ cas table train --columns config.lr,config.depth,metrics.auc,metrics.n[0] --sort -metrics.auc
config.lr  config.depth  metrics.auc  metrics.n[0]
0.3        4             0.34         4
0.2        5             0.25         5
0.2        4             0.24         4
0.1        5             0.15         5
0.1        4             0.14         4
",
        );
    let all = folder.cas("table train --limit 1 --sort config.lr").ok().stdout;
    assert_eq!(all.lines().next(), Some("config.depth  config.lr  metrics.auc  duration"));
    assert_eq!(all.lines().count(), 2);
    let json = folder.cas("table train --columns config.lr,run --sort run --format json").ok().stdout;
    let document: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
    assert_eq!(document["table"][0], serde_json::json!({"config.lr": 0.1, "run": 1}));
    // What is forgotten is compared no longer.
    let _ = folder.cas("forget train --set train.lr=0.3 --set train.depth=4 --reason wrong").ok();
    assert!(!folder.cas("table train").ok().stdout.contains("0.34"));
}

#[test]
fn what_is_wrong_with_a_sweep_or_a_column_is_said_before_anything_runs() {
    let folder = Folder::with(&[("pipeline.yaml", TRAIN)]);
    for line in [
        "run --sweep train.lr",
        "run --sweep train.lr=",
        "run --sweep train.depth=8..4",
        "run --sweep train.nothing=1,2",
        "run --sweep train.depth=1,x",
        "run --sweep train.depth=1..200 --sweep train.lr=1..200",
    ] {
        let ran = folder.cas(line).code(2);
        assert!(ran.steps().is_empty(), "{}", ran.transcript());
    }
    let _ = folder.cas("run").ok();
    let unknown = folder.cas("table train --columns config.nothing").code(2);
    assert!(
        unknown.stderr.contains("no result of `train` has a column `config.nothing`"),
        "{}",
        unknown.stderr
    );
    assert!(unknown.stderr.contains("metrics.auc"), "{}", unknown.stderr);
    let _ = folder.cas("table nothing").code(2);
}
