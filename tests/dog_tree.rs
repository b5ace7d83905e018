//! The story with which memoized runs were first told, through the command: examples/dog_tree as it stands there.

mod kit;

use std::path::Path;

use kit::Folder;

/// A copy of the example.
fn example() -> Folder {
    let folder = Folder::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/dog_tree");
    for path in [
        "pipeline.yaml",
        "california.yaml",
        "maryland.yaml",
        "solids/dog.py",
        "solids/tree.sh",
        "solids/sentence.py",
    ] {
        folder.write(path, std::fs::read(example.join(path)).expect("the example has it"));
    }
    folder
}

/// Step output, version and status of each row.
fn rows(folder: &Folder, config: &str) -> Vec<(String, String, String)> {
    let table = folder.cas(&format!("versions -c {config}")).ok().stdout;
    let cell = |row: &str, at: usize| row.split('|').nth(at).expect("a cell").trim().to_owned();
    table.lines().skip(2).map(|row| (cell(row, 1), cell(row, 2), cell(row, 3))).collect()
}

fn statuses(folder: &Folder, config: &str) -> Vec<(String, String)> {
    rows(folder, config).into_iter().map(|(output, _, status)| (output, status)).collect()
}

fn expected(statuses: [&str; 3]) -> Vec<(String, String)> {
    let outputs = ["emit_dog.result", "emit_tree.result", "emit_sentence.result"];
    outputs.iter().zip(statuses).map(|(output, status)| ((*output).to_owned(), status.to_owned())).collect()
}

#[test]
fn the_dog_and_the_tree_as_they_were_told() {
    const STORED: [&str; 3] = ["stored"; 3];
    let folder = example();
    assert_eq!(statuses(&folder, "california.yaml"), expected(["to-be-recomputed"; 3]));
    assert_eq!(folder.cas("run -c california.yaml").ok().counts(), "0 reused, 3 ran");
    assert_eq!(statuses(&folder, "california.yaml"), expected(STORED));
    let said = folder.cas("cat emit_sentence -c california.yaml").ok().stdout;
    assert_eq!(said, "A poodle sleeps under a douglas fir.\n");

    // Maryland has the same dog: its version is the same and stored; the other two are new.
    let (here, there) = (rows(&folder, "california.yaml"), rows(&folder, "maryland.yaml"));
    let same: Vec<bool> = here.iter().zip(&there).map(|(here, there)| here.1 == there.1).collect();
    assert_eq!(same, [true, false, false]);
    let some = ["stored", "to-be-recomputed", "to-be-recomputed"];
    assert_eq!(statuses(&folder, "maryland.yaml"), expected(some));
    let ran = folder.cas("run -c maryland.yaml").ok();
    assert_eq!((ran.steps(), ran.counts()), (vec!["emit_tree", "emit_sentence"], "1 reused, 2 ran"));
    let said = folder.cas("cat emit_sentence -c maryland.yaml").ok().stdout;
    assert_eq!(said, "A poodle sleeps under a red maple.\n");

    // A changed file concerns its solid and what follows.
    let old = folder.read("solids/tree.sh");
    folder.write("solids/tree.sh", "echo \"mighty_$1\"\n");
    assert_eq!(statuses(&folder, "california.yaml"), expected(some));
    let ran = folder.cas("run -c california.yaml").ok();
    assert_eq!(ran.steps(), ["emit_tree", "emit_sentence"]);
    let said = folder.cas("cat emit_sentence -c california.yaml").ok().stdout;
    assert_eq!(said, "A poodle sleeps under a mighty douglas fir.\n");

    // The old file again: its results are still there, and nothing runs.
    folder.write("solids/tree.sh", old);
    assert_eq!(statuses(&folder, "california.yaml"), expected(STORED));
    assert_eq!(folder.cas("run -c california.yaml").ok().counts(), "nothing to run: 3 reused");
    let said = folder.cas("cat emit_sentence -c california.yaml").ok().stdout;
    assert_eq!(said, "A poodle sleeps under a douglas fir.\n");
}
