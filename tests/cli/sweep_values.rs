//! The values that a sweep is given: their order, and what is wrong with them.

use crate::kit::Folder;

const TRAIN: &str = "\
pipeline: p
solids:
  train:
    config: {d: {type: int, default: 0}, lr: {type: float, default: 0.5}, s: {type: str, default: x}, k: {type: str, default: k, secret: true}, any: {type: any, default: 0}}
    command: 'echo {{ config.d }} {{ config.lr }} {{ config.s }} {{ config.any }}'
    stdout: result
";

fn train() -> Folder {
    Folder::with(&[("pipeline.yaml", TRAIN)])
}

/// It was told as of `--set`, without the combination, and ended a preview.
#[test]
fn a_value_of_a_wrong_type_is_told_with_its_combination_and_keeps_no_other_from_a_preview() {
    let folder = train();
    folder.cas("run -n -j 1 --sweep train.lr=0.1,0.2 --sweep train.d=1,x").code(2).shows(
        "
$ cas run -n -j 1 --sweep train.lr=0.1,0.2 --sweep train.d=1,x
sweep 1 of 4: train.lr=0.1 train.d=1
1 step: 1 to-be-recomputed
train  it has not run yet
how long it takes is not known: nothing of it ran before
sweep 3 of 4: train.lr=0.2 train.d=1
1 step: 1 to-be-recomputed
train  it has not run yet
how long it takes is not known: nothing of it ran before
4 combinations (2 cannot be run): 2 steps to run; how long it takes is not known: nothing of it ran before
! there is no store at `.cas` yet (chosen by the default, beside the pipeline): nothing is stored
! train.lr=0.1 train.d=x:
! error: --sweep:2:9: config `d` of `train` must be int, and \"x\" is str
!   2 | train.d=x
!     |         ^
! hint: give a whole number
! train.lr=0.2 train.d=x: the same as train.lr=0.1 train.d=x
[2]
",
    );
    let documents = |line: &str| -> Vec<serde_json::Value> {
        let json = folder.cas(line).code(2).stdout;
        json.lines().map(|line| serde_json::from_str(line).expect("it is a document")).collect()
    };
    let told = documents("run -n -j 1 --sweep train.d=1,x,2 --format json");
    let of: Vec<_> = told
        .iter()
        .map(|document| (document["combination"].as_str().unwrap_or("-"), document["errors"].is_array()))
        .collect();
    assert_eq!(of, [("train.d=1", false), ("train.d=x", true), ("train.d=2", false), ("-", false)]);
    assert_eq!(told[1]["errors"][0]["file"], "--sweep");
    assert_eq!(told[3]["sweep"][1], serde_json::json!({"combination": "train.d=x", "steps": null}));

    // The sweep itself begins with none of them.
    let ran = folder.cas("run -j 1 --sweep train.d=1,x,2").code(2);
    assert!(ran.stderr.starts_with("train.d=x:\nerror: --sweep:1:9: config `d`"), "{}", ran.stderr);
    assert_eq!((ran.stdout.as_str(), folder.has(".cas")), ("", false));
    let told = documents("run -j 1 --sweep train.d=1,x,2 --format json");
    assert_eq!((told.len(), &told[0]["combination"]), (1, &serde_json::json!("train.d=x")));
    // What is wrong with a key is wrong with all of them.
    let ran = folder.cas("run -n --sweep train.d=1,2 --sweep train.nope=1,2").code(2);
    assert!(ran.stderr.starts_with("error: --sweep:2:1: `train` takes no config `nope`\n"), "{}", ran.stderr);
}

/// Both ran, one after the other, and the second of them found all done.
#[test]
fn a_value_that_is_given_twice_is_refused_however_it_is_written() {
    let folder = train();
    let twice = |sweep: &str| {
        let ran = folder.cas(&format!("run -j 1 --sweep {sweep}")).code(2);
        assert!(ran.steps().is_empty() && !folder.has(".cas"), "{}", ran.transcript());
        ran.stderr.lines().next().unwrap_or_default().to_owned()
    };
    let of = |what: &str| format!("error: --sweep gives `{what}");
    assert_eq!(twice("train.lr=0.1,0.1"), of("train.lr` the value `0.1` twice"));
    assert_eq!(twice("train.lr=0.1,0.10"), of("train.lr` one value twice: `0.1` and `0.10` are the same"));
    assert_eq!(twice("train.lr=2,1,1.0"), of("train.lr` one value twice: `1` and `1.0` are the same"));
    assert_eq!(twice("train.d=1..5,3"), of("train.d` the value `3` twice"));
    assert_eq!(twice("train.s=a,\"a\""), of("train.s` one value twice: `a` and `\"a\"` are the same"));
    let lists = of("train.any` one value twice: `[1,2]` and `[0x1,2]` are the same");
    assert_eq!(twice("train.any=[1,2],[0x1,2]"), lists);
    // A secret is not shown.
    assert_eq!(twice("train.k=hush,b,hush"), of("train.k` one value twice: `***1` and `***3` are the same"));
    // What no version takes for one is not one: a text is what is written, and an `any` has its own type.
    assert_eq!(folder.cas("run -j 1 --sweep train.s=0.1,0.10").ok().steps(), ["train", "train"]);
    assert_eq!(folder.cas("run -j 1 --sweep train.any=1,1.0,\"1\"").ok().steps().len(), 3);
}

/// It was taken for nothing, without a word.
#[test]
fn a_key_that_is_swept_is_not_set_beside_that() {
    let folder = train();
    for (line, also) in [
        ("run --sweep train.lr=0.1,0.2 --set train.lr=4", ""),
        ("run -n --sweep train.lr=0.1 --set solids.train.config.lr=4", ", as `solids.train.config.lr`"),
    ] {
        let ran = folder.cas(line).code(2);
        let told = format!("error: `train.lr` is given to --sweep, and to --set{also}\n");
        assert!(ran.stderr.starts_with(&told), "{}", ran.stderr);
        assert!(!folder.has(".cas"), "{line}");
    }
    assert_eq!(folder.cas("run -j 1 --sweep train.lr=0.1,0.2 --set train.d=4").ok().steps().len(), 2);
}

/// Runs noted themselves when they were ready to: with several at once, `cas runs` had them in another order.
#[test]
fn combinations_begin_in_the_order_in_which_they_are_given() {
    let folder = train();
    let given: Vec<String> = (1..=24).rev().map(|d| d.to_string()).collect();
    let told = folder.cas(&format!("run -j 8 --sweep train.d={} --format json", given.join(","))).ok().stdout;
    let begun: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("it is an event"))
        .filter(|event: &serde_json::Value| event["event"] == "run-started")
        .collect();
    let of = |member: &str| begun.iter().map(|event| event[member].clone()).collect::<Vec<_>>();
    let combinations: Vec<serde_json::Value> = given.iter().map(|d| format!("train.d={d}").into()).collect();
    assert_eq!(of("combination"), combinations);
    assert_eq!(of("run"), (1..=24).map(serde_json::Value::from).collect::<Vec<_>>());
}
