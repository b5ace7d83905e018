//! Which store is meant, and what is said where there is none.

use crate::kit::Folder;
use crate::{DOGS, dogs};

#[test]
fn the_store_is_chosen_in_order_and_the_choice_is_told() {
    let mut folder = dogs();
    let chosen = |folder: &Folder, line: &str| {
        let stats = folder.cas(&format!("stats -q {line}")).ok();
        let lines: Vec<String> = stats.stdout.lines().take(2).map(str::to_owned).collect();
        let store = lines[0].rsplit("/project/").next().unwrap_or("").to_owned();
        (store, lines[1].trim_start_matches("chosen by").trim().to_owned())
    };
    let is = |store: &str, by: &str| (store.to_owned(), by.to_owned());
    assert_eq!(chosen(&folder, ""), is(".cas", "the default, beside the pipeline"));
    folder.write("pipeline.yaml", format!("{DOGS}store: by_file\n"));
    assert_eq!(chosen(&folder, ""), is("by_file", "`store:` of the pipeline"));
    folder.write("c.yaml", "resources: {io_manager: {config: {base_dir: ./by_config}}}\n");
    assert_eq!(chosen(&folder, "-c c.yaml"), is("by_config", "base_dir of the run config"));
    folder.variable("CAS_STORE", "by_variable");
    assert_eq!(chosen(&folder, "-c c.yaml"), is("by_variable", "CAS_STORE"));
    assert_eq!(chosen(&folder, "-c c.yaml --store by_flag"), is("by_flag", "--store"));
}

#[test]
fn a_store_that_is_not_there_is_empty_and_those_beside_are_named() {
    let folder = dogs();
    let _ = folder.cas("run -q --store other").ok();
    folder.cas("ls").shows(
        "
$ cas ls
! there is no store at `.cas` yet (chosen by the default, beside the pipeline): nothing is stored
! hint: beside the pipeline there is `other`: --store DIR uses it
! nothing is stored
",
    );
    for line in ["ls --all", "pins", "gc", "verify", "clean", "runs", "stats", "status", "graph"] {
        let _ = folder.cas(line).ok();
    }
    assert!(!folder.has(".cas"));
}

#[test]
fn what_is_no_store_cannot_be_used_and_the_code_is_3() {
    let folder = dogs();
    folder.write("taken/file.txt", "mine\n");
    let ran = folder.cas("run --store taken").code(3);
    assert!(ran.stderr.contains("is not a store") && ran.stderr.contains("--store DIR"), "{}", ran.stderr);
    assert_eq!(folder.names("taken"), ["file.txt"]);
    let _ = folder.cas("run -q").ok();
    folder.write(".cas/format", "cas store 999\n");
    let ran = folder.cas("versions").code(3);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[test]
fn init_writes_a_starter_that_runs_and_replaces_nothing() {
    let folder = Folder::with(&[("count.sh", "echo 1 2 3\n"), ("solids/more.sh", "echo more\n")]);
    let ran = folder.cas("init").ok();
    assert!(
        ran.stderr.contains("count  runs count.sh") && ran.stderr.contains("more  runs solids/more.sh"),
        "{}",
        ran.stderr
    );
    assert_eq!(folder.read(".cas/.gitignore"), "*\n");
    assert_eq!(folder.cas("run").ok().counts(), "0 reused, 2 ran");
    assert_eq!(folder.cas("cat count").ok().stdout, "1 2 3\n");
    let before = folder.read("pipeline.yaml");
    folder.cas("init").shows(
        "
$ cas init
! error: `pipeline.yaml` exists already: nothing was written
! hint: -f FILE writes another one
[2]
",
    );
    assert_eq!(folder.read("pipeline.yaml"), before);
    let empty = Folder::new();
    let _ = empty.cas("init").ok();
    assert_eq!(empty.cas("run").ok().counts(), "0 reused, 2 ran");
    assert_eq!(empty.cas("cat shout").ok().stdout, "HELLO WORLD\n");
}

/// What a step sees of modes is the same in a store that is shared: no access list and no group's bit reaches into its
/// folder.
#[test]
fn a_shared_store_is_made_without_a_pipeline_and_used_like_any_other() {
    let pipeline = "\
pipeline: modes
store: lab
solids:
  modes:
    command: touch file && mkdir folder && stat -c %a file folder > {{ outputs.result }}
";
    let folder = Folder::with(&[("pipeline.yaml", pipeline)]);
    let made = folder.cas("init --shared").ok();
    assert!(made.stderr.starts_with("lab is shared among the group "), "{}", made.stderr);
    assert_eq!(folder.read("lab/config.toml"), "sharing = \"group\"\n");
    assert_eq!(folder.cas("run").ok().counts(), "0 reused, 1 ran");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 1 reused");
    assert_eq!(folder.cas("cat modes").ok().stdout, "644\n755\n");
    // Again it changes nothing.
    let _ = folder.cas("init --shared").ok();
    assert_eq!(folder.cas("cat modes").ok().stdout, "644\n755\n");
    assert_eq!(folder.cas("verify").ok().code, 0);
}
