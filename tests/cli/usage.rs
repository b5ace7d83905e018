//! Wrong usage and wrong files: one clear error each, that names the place and what to do; exit code 2.

use crate::dogs;
use crate::kit::Folder;

#[test]
fn without_a_pipeline_it_says_how_to_get_one() {
    Folder::new().cas("versions").shows(
        "
$ cas versions
! error: there is no pipeline.yaml here or in a folder above
! hint: `cas init` writes one, -f FILE names one
[2]
",
    );
}

#[test]
fn an_unknown_step_is_told_with_the_nearest_name() {
    dogs().cas("run emit_tre").shows(
        "
$ cas run emit_tre
! error: there is no step `emit_tre`
! hint: did you mean `emit_tree`?
[2]
",
    );
}

#[test]
fn a_wrong_key_is_told_with_its_place_and_an_excerpt() {
    let folder = Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids:\n  a: {comand: ls, command: ls}\n")]);
    folder.cas("versions").shows(
        "
$ cas versions
! error: pipeline.yaml:3:7: a solid has no key `comand`
!   3 |   a: {comand: ls, command: ls}
!     |       ^
! hint: did you mean `command`?
[2]
",
    );
}

#[test]
fn a_wrong_value_of_a_run_config_is_told_with_its_place_and_an_excerpt() {
    let folder = dogs();
    folder.write("maryland.yaml", "solids:\n  emit_tree:\n    config:\n      tree_specie: red_maple\n");
    let ran = folder.cas("versions -c maryland.yaml").code(2);
    assert!(ran.stderr.contains("maryland.yaml:4:20: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("4 |       tree_specie: red_maple"), "{}", ran.stderr);
    assert!(ran.stderr.contains("tree_species"), "{}", ran.stderr);
}

#[test]
fn what_is_missing_or_misspelt_on_the_command_line_is_wrong_usage() {
    let folder = dogs();
    for line in [
        "",
        "frob",
        "run --frob",
        "run -j 0",
        "run --limit gpu",
        "run --only",
        "run --wait soon",
        "versions -f nowhere.yaml",
        "versions -c nowhere.yaml",
        "versions --set emit_tree.nothing=1",
        "versions --set nonsense",
        "versions --mode nowhere",
        "-C nowhere versions",
        "cat",
        "cat emit_dg",
        "explain nobody",
        "verify --sample 0%",
        "verify --quick --rebuild",
        "gc --max-size big",
        "graph --as jpeg",
    ] {
        let ran = folder.cas(line).code(2);
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{}", ran.transcript());
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
}

#[test]
fn a_missing_declared_file_is_told_by_name() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "solids:\n  a:\n    code: [solids/a.py]\n    command: python3 solids/a.py\n    stdout: result\n",
    )]);
    let ran = folder.cas("versions").code(2);
    assert!(ran.stderr.contains("solids/a.py") && ran.stderr.contains("pipeline.yaml:3:"), "{}", ran.stderr);
}

#[test]
fn the_pipeline_is_found_upwards_and_paths_count_from_its_folder() {
    let folder = dogs();
    folder.write("deep/down/note.txt", "");
    let ran = folder.cas_in("deep/down", "run emit_dog").ok();
    assert_eq!(ran.counts(), "0 reused, 1 ran");
    assert!(folder.has(".cas/format") && !folder.has("deep/down/.cas"));
    assert_eq!(folder.cas_in("deep", "-C down cat emit_dog").ok().stdout, "poodle\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = dogs();
    let mut command = folder.command("sh".as_ref());
    command.args(["-c", "{ \"$0\" schema; echo $? >&2; } | true", env!("CARGO_BIN_EXE_cas")]);
    let output = command.output().expect("sh can be started");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "0\n");
}
