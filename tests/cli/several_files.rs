//! `include` and `root`: one repository with many pipelines.

use crate::kit::Folder;

/// Two pipelines in folders of their own, with steps and code that they share.
fn repository() -> Folder {
    let folder = Folder::with(&[
        (
            "shared/pipeline-parts.yaml",
            "defaults: {code: [lib/words.sh], shell: bash}
solids:
  words:
    inputs: {text: {path: data/text.txt}}
    command: sh lib/words.sh {{ inputs.text }}
    stdout: result
",
        ),
        ("lib/words.sh", "tr ' ' '\\n' < $1 | sort | uniq -c | sed 's/^ *//'\n"),
        ("data/text.txt", "a b a\n"),
        (
            "jobs/top/pipeline.yaml",
            "pipeline: top
root: ../..
include: ../../shared/pipeline-parts.yaml
run_config: [params.yaml]
store: ../../.cas
solids:
  top:
    config: {n: int}
    inputs: {words: words}
    code: [jobs/top/first.sh]
    command: sh jobs/top/first.sh {{ config.n }} {{ inputs.words }} > {{ outputs.result }}
publish: {results/top.txt: top}
",
        ),
        ("jobs/top/params.yaml", "solids: {top: {config: {n: 1}}}\n"),
        ("jobs/top/first.sh", "test -e lib/words.sh && sort -rn $2 | head -n $1\n"),
        (
            "jobs/all/pipeline.yaml",
            "pipeline: all
root: ../..
include: ../../shared/pipeline-parts.yaml
store: ../../.cas
solids:
  all:
    inputs: {words: words}
    command: wc -l < {{ inputs.words }} > {{ outputs.result }}
",
        ),
    ]);
    folder.write("jobs/all/.keep", "");
    folder
}

#[test]
fn pipelines_of_one_repository_share_steps_code_and_results() {
    let folder = repository();
    let first = folder.cas_in("jobs/top", "run -j 1").ok();
    assert_eq!(first.steps(), ["words", "top"], "{}", first.stderr);
    // The other one finds what they share: it has no step of its own yet.
    let second = folder.cas_in("jobs/all", "run -j 1").ok();
    assert_eq!(second.steps(), ["all"], "{}", second.stderr);
    assert_eq!(second.counts(), "1 reused, 1 ran");
    assert_eq!(folder.read("results/top.txt"), "2 a\n");
    assert_eq!(folder.cas("cat all -f jobs/all/pipeline.yaml").ok().stdout, "2\n");
    // From anywhere, and nothing of it depends on where.
    assert_eq!(folder.cas("run -f jobs/top/pipeline.yaml").ok().counts(), "nothing to run: 2 reused");
    assert_eq!(folder.names("jobs/top"), ["first.sh", "params.yaml", "pipeline.yaml"]);
}

#[test]
fn a_file_that_they_share_reruns_both_and_one_of_one_only_that() {
    let folder = repository();
    let _ = folder.cas_in("jobs/top", "run").ok();
    let _ = folder.cas_in("jobs/all", "run").ok();
    folder.write("jobs/top/first.sh", "sort -rn $2 | tail -n $1\n");
    assert_eq!(folder.cas_in("jobs/top", "run -j 1").ok().steps(), ["top"]);
    assert_eq!(folder.cas_in("jobs/all", "run -j 1").ok().steps(), Vec::<&str>::new());
    folder.write("data/text.txt", "a b c\n");
    assert_eq!(folder.cas_in("jobs/all", "run -j 1").ok().steps(), ["words", "all"]);
    assert_eq!(folder.cas_in("jobs/top", "run -j 1").ok().steps(), ["top"]);
}

#[test]
fn what_is_wrong_in_an_included_file_is_told_with_its_place() {
    let folder = repository();
    folder.write("shared/pipeline-parts.yaml", "solids:\n  words: {comand: x}\n");
    folder.cas_in("jobs/top", "status").code(2).shows(
        "$ cas status
! error: ../../shared/pipeline-parts.yaml:2:11: a solid has no key `comand`
!   2 |   words: {comand: x}
!     |           ^
! hint: did you mean `command`?
[2]
",
    );
    // What is missing only once it is looked for, too.
    folder.write(
        "shared/pipeline-parts.yaml",
        "solids:\n  words: {command: echo, code: [lib/none.sh], stdout: result}\n",
    );
    let wrong = folder.cas("status -f jobs/top/pipeline.yaml").code(2);
    assert!(
        wrong.stderr.contains("shared/pipeline-parts.yaml:2:33: there is no `lib/none.sh`"),
        "{}",
        wrong.stderr
    );
    assert!(wrong.stderr.contains("2 |   words: {command: echo, code: [lib/none.sh]"), "{}", wrong.stderr);
}

#[test]
fn nothing_is_published_over_an_included_file() {
    let folder = repository();
    let text = folder.read("jobs/top/pipeline.yaml");
    for (target, what) in [
        ("shared/pipeline-parts.yaml", "a file that the pipeline includes"),
        ("jobs/top/pipeline.yaml", "the pipeline file"),
        ("jobs/top/params.yaml", "a run config of the pipeline"),
    ] {
        folder.write("jobs/top/pipeline.yaml", text.replace("results/top.txt", target));
        let wrong = folder.cas_in("jobs/top", "run").code(2);
        assert!(wrong.stderr.contains(&format!("`{target}` is {what}")), "{}", wrong.stderr);
    }
}

#[test]
fn without_a_root_no_path_leaves_the_folder_of_the_file() {
    let folder = repository();
    let text = folder.read("jobs/top/pipeline.yaml").replace("root: ../..\n", "");
    folder.write("jobs/top/pipeline.yaml", text.replace("[jobs/top/first.sh]", "[../../lib/words.sh]"));
    let wrong = folder.cas_in("jobs/top", "status").code(2);
    assert!(wrong.stderr.contains("`../../lib/words.sh` leads out of the project"), "{}", wrong.stderr);
}
