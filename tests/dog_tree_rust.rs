//! The same story as `dog_tree.rs`, told by the Rust program of examples/dog_tree_rust.

mod kit;

use std::path::Path;

use cas_engine::typed::{Options, run};
use dog_tree::{Dog, Tree};
use kit::{Folder, Ran};

fn program(folder: &Folder, words: &[&str]) -> Ran {
    let mut command = folder.command(Path::new(env!("CARGO_BIN_EXE_dog-tree")));
    let output = command.args(words).output().expect("the program can be started");
    folder.ran(format!("dog-tree {}", words.join(" ")), &output)
}

fn rows(folder: &Folder, config: &str) -> Vec<(String, String, String)> {
    let table = program(folder, &["versions", "-c", config]).ok().stdout;
    let cell = |row: &str, at: usize| row.split('|').nth(at).expect("a cell").trim().to_owned();
    table.lines().skip(2).map(|row| (cell(row, 1), cell(row, 2), cell(row, 3))).collect()
}

fn statuses(folder: &Folder, config: &str) -> Vec<String> {
    rows(folder, config).into_iter().map(|(_, _, status)| status).collect()
}

#[test]
fn the_rust_program_behaves_as_the_command_does() {
    let folder = Folder::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in ["california.yaml", "maryland.yaml"] {
        folder.write(path, std::fs::read(example.join(path)).expect("the example has it"));
    }
    assert_eq!(statuses(&folder, "california.yaml"), ["to-be-recomputed"; 3]);
    assert_eq!(program(&folder, &["run", "-c", "california.yaml"]).ok().counts(), "0 reused, 3 ran");
    assert_eq!(statuses(&folder, "california.yaml"), ["stored"; 3]);

    let (here, there) = (rows(&folder, "california.yaml"), rows(&folder, "maryland.yaml"));
    let outputs: Vec<&str> = here.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(outputs, ["emit_dog.result", "emit_tree.result", "emit_sentence.result"]);
    let same: Vec<bool> = here.iter().zip(&there).map(|(here, there)| here.1 == there.1).collect();
    assert_eq!(same, [true, false, false]);
    assert_eq!(statuses(&folder, "maryland.yaml"), ["stored", "to-be-recomputed", "to-be-recomputed"]);
    let ran = program(&folder, &["run", "-c", "maryland.yaml"]).ok();
    assert_eq!((ran.steps(), ran.counts()), (vec!["emit_tree", "emit_sentence"], "1 reused, 2 ran"));
    let said = program(&folder, &["cat", "emit_sentence", "-c", "maryland.yaml"]).ok().stdout;
    assert_eq!(said, "A poodle sleeps under a red maple.");
    assert_eq!(program(&folder, &["run", "-c", "california.yaml"]).ok().counts(), "nothing to run: 3 reused");
}

/// The library finds what the program stored, and gives it back as a value.
#[test]
fn the_library_and_the_program_share_a_store() {
    let folder = Folder::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.write("california.yaml", std::fs::read(example.join("california.yaml")).expect("it is there"));
    let _ = program(&folder, &["run", "-c", "california.yaml"]).ok();

    let project = folder.path("").display().to_string();
    let (p, sentence) = dog_tree::define(&project);
    let options = Options::default()
        .config("emit_dog", &Dog { dog_breed: "poodle".into() })
        .and_then(|options| options.config("emit_tree", &Tree { tree_species: "douglas_fir".into() }))
        .expect("config");
    let run = run(&p.build().expect("a pipeline"), &folder.path("results"), options, |_| ()).expect("a run");
    assert_eq!((run.summary().reused, run.summary().ran), (3, 0));
    assert_eq!(run.get(&sentence).expect("a sentence"), "A poodle sleeps under a douglas fir.");
}
