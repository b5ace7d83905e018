//! The commands of whoever looks after a store.

use std::fs;
use std::process::{Command, Stdio};

use crate::dogs;
use crate::kit::Folder;

#[test]
fn gc_says_before_what_goes_and_pins_keep() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    folder.cas("pin emit_dog --reason 'shown to the board'").shows(
        "
$ cas pin emit_dog --reason 'shown to the board'
! pinned emit_dog.result
",
    );
    let pins = folder.cas("pins").ok().stdout;
    assert!(pins.contains("emit_dog.result") && pins.contains("shown to the board"), "{pins}");
    let dry = folder.cas("gc --max-size 0 --dry-run").ok().stdout;
    assert!(dry.contains("dogs/emit_tree") && dry.contains("would go: 2 results"), "{dry}");
    assert!(!dry.contains("dogs/emit_dog"), "{dry}");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
    let gone = folder.cas("gc --max-size 0").ok().stdout;
    assert!(gone.contains("gone: 2 results") && gone.contains("kept: 1 result pinned"), "{gone}");
    let tree = folder.cas("cat emit_tree").code(1);
    assert!(
        tree.stderr.contains("was evicted on") && tree.stderr.contains("--max-size 0"),
        "{}",
        tree.stderr
    );
    let versions = folder.cas("versions").ok();
    assert!(versions.stderr.contains("emit_sentence.result: evicted on"), "{}", versions.stderr);
    let _ = folder.cas("unpin emit_dog").ok();
    let none = folder.cas("pins").ok();
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "nothing is pinned\n"));
}

/// `gc --max-size` gave up the result, too.
#[test]
fn gc_gives_up_no_result_where_removing_what_nothing_names_is_enough() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "pipeline: g\nsolids:\n  big: {command: \"head -c 1000000 /dev/urandom > outputs/result\"}\n  \
         small: {inputs: {b: big}, command: \"head -c 2000 inputs/b > outputs/result\"}\n",
    )]);
    let _ = folder.cas("run").ok();
    assert_eq!(folder.cas("run --force big").ok().steps(), ["big"]);
    let going = "1 unnamed blob, 2.0 MB → 1.0 MB\n";
    for gc in ["gc -n", "gc -n --max-size 1500000"] {
        let dry = folder.cas(gc).ok().stdout;
        let last = dry.lines().last().map(|line| format!("{line}\n"));
        assert_eq!((last, dry.lines().count()), (Some(format!("would go: {going}")), 2), "{gc}");
    }
    assert_eq!(folder.cas("gc --max-size 1500000").ok().stdout, format!("gone: {going}"));
    assert!(!folder.cas("ls").ok().stdout.contains("evicted"));
    // The input of `small` has other content now.
    assert_eq!(folder.cas("run").ok().steps(), ["small"]);
    assert_eq!(folder.cas("run").ok().steps(), Vec::<String>::new());
}

#[test]
fn gc_names_each_result_by_a_version_that_other_commands_take() {
    let folder = dogs();
    let _ = folder.cas("run emit_tree").ok();
    let dry = folder.cas("gc --max-size 0 --dry-run").ok().stdout;
    let row = dry.lines().find(|line| line.contains("dogs/emit_tree")).expect("the tree would go");
    let version = row.split_whitespace().nth(2).expect("a row has a kind, a name and a version");
    assert_eq!(folder.cas(&format!("cat {version}")).ok().stdout, "douglas_fir\n", "{row}");
    let json = folder.cas("gc --max-size 0 --dry-run --format json").ok().stdout;
    assert!(json.contains(&format!("\"version\":\"{version}")), "{json}");
}

/// `gc` used to mark such a result as evicted, and `versions` said both: stored, and evicted.
#[test]
fn what_shares_its_bytes_with_a_result_that_stays_is_stored_and_not_called_evicted() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  a:\n    config: {n: {type: int, default: 1}}\n    command: echo same\n    stdout: result\n",
    )]);
    let _ = folder.cas("run").ok();
    let _ = folder.cas("run --set a.n=2").ok();
    assert!(folder.cas("gc --keep-last 1").ok().stdout.starts_with("gone: 1 result"));
    let versions = folder.cas("versions").ok();
    assert!(versions.stdout.contains("| stored "), "{}", versions.stdout);
    assert_eq!(versions.stderr, "");
    let explained = folder.cas("explain a").ok().stdout;
    assert!(explained.contains("made on") && !explained.contains("evicted"), "{explained}");
}

#[test]
fn a_pin_is_told_to_programs_with_its_version_reason_and_end() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    let version = folder.cas("versions").ok().stdout;
    let version = version.lines().find(|line| line.contains("emit_dog.result")).expect("it has a row");
    let version = version.split_whitespace().nth(3).expect("a version stands in the second column");
    let json = folder.cas("pin emit_dog --reason board --format json").ok().stdout;
    let at = json.split("\"at\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("it says when");
    assert_eq!(
        json,
        format!(
            "{{\"cas\":1,\"pin\":[{{\"version\":\"{version}\",\"name\":\"emit_dog.result\",\
             \"reason\":\"board\",\"at\":\"{at}\",\"until\":null}}]}}\n"
        )
    );
    assert_eq!(folder.cas("pins --format json").ok().stdout, json.replacen("\"pin\"", "\"pins\"", 1));
    let until = folder.cas("pin emit_tree --for 30d --format json").ok().stdout;
    assert!(until.contains("\"until\":\"20"), "{until}");
}

#[test]
fn gc_keeps_its_bounds_when_asked_to() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    let _ = folder.cas("gc --max-age 30d --keep-last 2 --save").ok();
    let config = folder.read(".cas/config.toml");
    assert!(config.contains("max_age = \"30d\"") && config.contains("keep_last = 2"), "{config}");
    assert!(folder.cas("gc").ok().stdout.starts_with("nothing to collect"));
}

/// A run that lost its logs and then its record was counted twice: `gone: 6 runs` of three.
#[test]
fn gc_tells_runs_and_their_logs_by_themselves() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "pipeline: g\nsolids: {fails: {outputs: [], command: echo no; exit 1}}\n",
    )]);
    for _ in 0..3 {
        let _ = folder.cas("run").code(1);
    }
    let counts = |line: &str| {
        let ran = folder.cas(line).ok();
        let (counts, _size) =
            ran.stdout.lines().last().and_then(|line| line.rsplit_once(", ")).unwrap_or_default();
        counts.to_owned()
    };
    let json = folder.cas("gc -n --max-record-age 0s --keep-last 1 --format json").ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is a document");
    let rows = json["gc"].as_array().expect("a list of rows");
    let rows: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {} {}", row["what"], row["id"], row["why"]).replace('"', ""))
        .collect();
    assert_eq!(
        rows,
        [
            "run-logs 1 --max-record-age 0s",
            "run-logs 2 --max-record-age 0s",
            "run-logs 3 --max-record-age 0s",
            "run 1 --max-record-age 0s",
            "run 2 --max-record-age 0s",
            "run 3 --max-record-age 0s",
        ]
    );
    assert_eq!(counts("gc -n --max-age 0s"), "would go: logs of 3 runs");
    assert_eq!(counts("gc -n --max-record-age 0s"), "would go: 3 runs, logs of 3 runs");
    assert_eq!(counts("gc --max-age 0s"), "gone: logs of 3 runs");
    let _ = folder.cas("run").code(1);
    assert_eq!(counts("gc -n --max-record-age 0s"), "would go: 4 runs, logs of 1 run");
    assert_eq!(counts("gc --max-record-age 0s"), "gone: 4 runs, logs of 1 run");
}

/// The runs that were there went, and with them the records of those that went on: each ended with exit code 3 and `there is
/// no run 2`, although all its steps had run.
#[test]
fn gc_takes_no_record_of_a_run_that_goes_on_away_and_that_of_a_killed_one() {
    let folder = Folder::new();
    let place = folder.path("").display().to_string();
    let late = "echo {{ config.n }} > PLACE/ready; cat PLACE/go{{ config.n }}";
    let late = late.replace("PLACE", place.trim_end_matches('/'));
    folder.write(
        "pipeline.yaml",
        format!("solids: {{late: {{config: {{n: int}}, command: '{late}', stdout: result}}}}\n"),
    );
    for pipe in ["ready", "go0", "go1", "go2", "go3"] {
        assert!(Command::new("mkfifo").arg(folder.path(pipe)).status().expect("mkfifo is there").success());
    }
    let run = |words: &[&str]| {
        let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        let child = command.arg("run").args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        (child.expect("it starts"), folder.read("ready").trim().to_owned())
    };
    let (mut killed, _) = run(&["--set", "late.n=0"]);
    killed.kill().expect("it lives");
    let _ = killed.wait().expect("it is gone");
    let (sweep, first) = run(&["-j", "1", "--sweep", "late.n=1,2"]);
    let (one, third) = run(&["--set", "late.n=3"]);
    assert_eq!(folder.cas("gc --max-record-age 0s").ok().stdout, "gone: 1 run, 0 B → 0 B\n");
    folder.write(&format!("go{first}"), "on");
    let second = folder.read("ready").trim().to_owned();
    for n in [second, third] {
        folder.write(&format!("go{n}"), "on");
    }
    for run in [sweep, one] {
        let _ = folder.ran("cas run".to_owned(), &run.wait_with_output().expect("it ends")).ok();
    }
    let runs = || {
        let runs = folder.cas("runs --format json").ok().stdout;
        let runs: serde_json::Value = serde_json::from_str(&runs).expect("it is JSON");
        let told = runs["runs"].as_array().expect("a list").iter();
        told.map(|run| (run["run"].as_u64(), run["ran"].as_u64())).collect::<Vec<_>>()
    };
    assert_eq!(runs(), [(Some(4), Some(1)), (Some(3), Some(1)), (Some(2), Some(1))]);
    let _ = folder.cas("gc --max-record-age 0s").ok();
    assert_eq!(runs(), []);
}

#[test]
fn verify_finds_what_a_hand_has_changed_and_a_run_makes_it_again() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  big: {command: seq 1 20000, stdout: result}\n  \
         sum: {inputs: {x: big}, command: \"wc -l < {{ inputs.x }}\", stdout: result}\n",
    )]);
    let _ = folder.cas("run").ok();
    assert!(folder.cas("verify").ok().stdout.starts_with("nothing is wrong: "));
    for entry in walk(&folder.path(".cas/blobs")) {
        let metadata = entry.metadata().expect("it is there");
        if metadata.len() > 1000 {
            fs::remove_file(&entry).expect("root or not, the folder is ours");
            fs::write(&entry, vec![b'x'; usize::try_from(metadata.len()).expect("it is small")])
                .expect("ours, too");
        }
    }
    let found = folder.cas("verify").code(1).stdout;
    assert!(found.contains("is damaged") && found.contains("1 finding"), "{found}");
    let again = folder.cas("run --all").ok();
    assert_eq!(again.steps(), ["big"], "{}", again.transcript());
    let _ = folder.cas("verify").ok();
}

#[test]
fn a_lost_index_is_made_anew_and_nothing_runs_again() {
    let folder = dogs();
    let _ = folder.cas("run").ok();
    fs::remove_dir_all(folder.path(".cas/index")).expect("it is there");
    let lost = folder.cas("versions").code(3);
    assert!(lost.stderr.contains("cas verify --rebuild"), "{}", lost.stderr);
    let rebuilt = folder.cas("verify --rebuild").ok().stdout;
    assert!(rebuilt.starts_with("rebuilt the index: "), "{rebuilt}");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
}

#[test]
fn clean_removes_kept_failures_and_no_result() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  good: {command: echo fine, stdout: result}\n  bad: {command: exit 1, stdout: result}\n",
    )]);
    let _ = folder.cas("run -k").code(1);
    assert!(folder.has(".cas/work/failed/1-bad"));
    assert!(folder.cas("clean -n").ok().stdout.contains("would go: "));
    assert!(folder.has(".cas/work/failed/1-bad"));
    assert!(folder.cas("clean").ok().stdout.starts_with("gone: "));
    assert!(!folder.has(".cas/work/failed/1-bad"));
    assert_eq!(folder.cas("cat good").ok().stdout, "fine\n");
    assert_eq!(folder.cas("clean").ok().stdout, "nothing to clean\n");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("entries can be read").path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
