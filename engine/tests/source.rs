//! What is measured of a project: which files, how often each is read, and what is wrong told with its place.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cas_engine::config::RunConfig;
use cas_engine::error::EngineError;
use cas_engine::file;
use cas_engine::graph::Graph;
use cas_engine::source::{
    Counters, Environment, FileSet, Looked, Measure, MeasuredFile, MeasuredWhat, Measures, PathKind, measure,
};
use cas_store::{Digest, Entry, Node, Tree};

/// A project in a folder of its own.
struct Project {
    folder: tempfile::TempDir,
    environment: Environment,
    cache: Option<PathBuf>,
}

impl Project {
    /// Files by path; a path that ends in `/` is an empty folder.
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = std::env::var("PATH").unwrap();
        let vars = [("PATH".to_owned(), path), ("HOME".to_owned(), "/home/somebody".to_owned())];
        let project = Self { folder, environment: Environment { vars: vars.into() }, cache: None };
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let at = self.path(path);
        if path.ends_with('/') {
            fs::create_dir_all(at).unwrap();
            return;
        }
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.path(path)).unwrap();
    }

    fn graph(&self, yaml: &str) -> Graph {
        let parsed = file::pipeline(Path::new("pipeline.yaml"), yaml, &mut |_| unreachable!());
        let mut pipeline = parsed.unwrap_or_else(|wrong| panic!("{wrong:?}"));
        pipeline.folder = self.folder.path().to_owned();
        pipeline.home.clone_from(&pipeline.folder);
        Graph::new(Arc::new(pipeline), None, &RunConfig::default()).unwrap()
    }

    fn measure(&self, yaml: &str) -> Result<Measures, EngineError> {
        let graph = self.graph(yaml);
        let steps: Vec<_> = graph.ids().collect();
        let how = Measure {
            store: Some(self.path(".cas")),
            cache: self.cache.clone(),
            ..Measure::new(&self.environment)
        };
        measure(&graph, &steps, &how)
    }

    /// The paths that a solid with this code is given.
    fn code(&self, patterns: &str) -> Vec<String> {
        let measures = self.measure(&solid_with_code(patterns)).unwrap_or_else(|error| panic!("{error}"));
        let files = &measures.code[0].as_ref().unwrap().files;
        files.iter().map(|file| shown(&file.path, &file.what)).collect()
    }

    /// What is wrong with this code.
    fn wrong_code(&self, patterns: &str) -> String {
        told(&self.measure(&solid_with_code(patterns)).unwrap_err())
    }

    /// The paths that a step with this `path:` input is given.
    fn input(&self, path: &str) -> Vec<String> {
        let measures = self.measure(&solid_with_path(path)).unwrap_or_else(|error| panic!("{error}"));
        let files = &measures.paths[0].as_ref().unwrap().files.files;
        files.iter().map(|file| shown(&file.path, &file.what)).collect()
    }

    fn wrong_input(&self, path: &str) -> String {
        told(&self.measure(&solid_with_path(path)).unwrap_err())
    }
}

fn solid_with_code(patterns: &str) -> String {
    format!("solids:\n  a:\n    code: {patterns}\n    command: echo a\n    stdout: result\n")
}

fn solid_with_path(path: &str) -> String {
    let external = if path.starts_with('/') { ", external: true" } else { "" };
    format!(
        "solids:\n  a:\n    inputs: {{x: {{path: '{path}'{external}}}}}\n    command: echo a\n    stdout: result\n"
    )
}

fn shown(path: &str, what: &MeasuredWhat) -> String {
    match what {
        MeasuredWhat::File { executable: false, .. } => path.to_owned(),
        MeasuredWhat::File { executable: true, .. } => format!("{path}*"),
        MeasuredWhat::Link(target) => format!("{path} -> {target}"),
        MeasuredWhat::Folder => format!("{path}/"),
    }
}

/// An error as a person reads it: place, message, hint.
fn told(error: &EngineError) -> String {
    let diagnostic = match error {
        EngineError::Source { diagnostic, .. } | EngineError::Probe(diagnostic) => diagnostic,
        other => panic!("{other:?}"),
    };
    match &diagnostic.hint {
        Some(hint) => format!("{diagnostic} / {hint}"),
        None => diagnostic.to_string(),
    }
}

#[test]
fn code_is_files_globs_and_folders_sorted_by_bytes() {
    let project = Project::new(&[
        ("solids/b.py", "b"),
        ("solids/a.py", "a"),
        ("solids/a.txt", "t"),
        ("lib/deep/er/x.py", "x"),
        ("lib/B.py", ""),
        ("lib/empty/", ""),
        ("tool", ""),
    ]);
    fs::set_permissions(project.path("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(project.code("[solids/a.py]"), ["solids/a.py"]);
    assert_eq!(project.code("[solids/*.py, tool]"), ["solids/a.py", "solids/b.py", "tool*"]);
    assert_eq!(project.code("[lib]"), ["lib/B.py", "lib/deep/er/x.py", "lib/empty/"]);
    assert_eq!(project.code("[lib/]"), ["lib/B.py", "lib/deep/er/x.py", "lib/empty/"]);
    assert_eq!(project.code("[lib/**]"), ["lib/B.py", "lib/deep/er/x.py"]);
    assert_eq!(project.code("['**/x.py']"), ["lib/deep/er/x.py"]);
    assert_eq!(project.code("['lib/**/*.py']"), ["lib/B.py", "lib/deep/er/x.py"]);
    assert_eq!(project.code("['solids/{a,b}.{py,txt}']"), ["solids/a.py", "solids/a.txt", "solids/b.py"]);
    assert_eq!(project.code("['solids/[!b].*']"), ["solids/a.py", "solids/a.txt"]);
    assert_eq!(project.code("['sol?ds/?.txt']"), ["solids/a.txt"]);
    assert_eq!(project.code("[solids/*, solids/a.py, ./solids//a.py]").len(), 3);
    assert_eq!(project.code("['*']"), ["tool*"]);
}

#[test]
fn code_leaves_out_clutter_unless_named_outright() {
    let project = Project::new(&[
        ("lib/a.py", ""),
        ("lib/.hidden", ""),
        ("lib/.dir/x.py", ""),
        ("lib/__pycache__/a.pyc", ""),
        ("lib/b.pyc", ""),
        ("lib/a.py~", ""),
        ("lib/#a.py#", ""),
        ("lib/.a.py.swp", ""),
        ("lib/.git/config", ""),
        ("lib/debug.log", ""),
        ("lib/out/x.o", ""),
        ("lib/gen.py", ""),
        (".gitignore", "*.log\nout/\n"),
        ("lib/.casignore", "gen.py\n"),
        (".cas/blobs/x", ""),
    ]);
    assert_eq!(project.code("[lib]"), ["lib/a.py"]);
    assert_eq!(project.code("['**']"), ["lib/a.py"]);
    assert_eq!(project.code("[lib/**]"), ["lib/a.py"]);
    // Named outright: the whole name is there, without a special character in it.
    assert_eq!(project.code("[lib/.hidden, lib/debug.log]"), ["lib/.hidden", "lib/debug.log"]);
    assert_eq!(project.code("['**/gen.py']"), ["lib/gen.py"]);
    assert_eq!(project.code("[lib/out]"), ["lib/out/x.o"]);
    assert_eq!(project.code("['lib/out/*']"), ["lib/out/x.o"]);
    assert_eq!(project.code("[lib/__pycache__/a.pyc]"), ["lib/__pycache__/a.pyc"]);
    assert_eq!(project.code("['lib/.*']"), ["lib/.casignore", "lib/.hidden"]);
    assert_eq!(project.code("['lib/.dir/*']"), ["lib/.dir/x.py"]);
    // The store is never reached, however it is named.
    let wrong = "pipeline.yaml:3:12: `.cas/blobs/x` is in the store / use the step output itself as an input";
    assert_eq!(project.wrong_code("[.cas/blobs/x]"), wrong);
    assert!(project.wrong_code("['.cas/**']").contains("is in the store"));
}

#[test]
fn a_path_input_leaves_out_nothing_but_the_store_and_git() {
    let project = Project::new(&[
        ("data/a.csv", ""),
        ("data/.b.csv", ""),
        ("data/c.pyc", ""),
        ("data/sub/d.csv", ""),
        ("data/.git/config", ""),
        ("data/none/", ""),
        (".gitignore", "data/\n"),
        (".cas/x", ""),
        (".git/config", ""),
    ]);
    assert_eq!(project.input("data"), [".b.csv", "a.csv", "c.pyc", "none/", "sub/d.csv"]);
    assert_eq!(project.input("data/*.csv"), [".b.csv", "a.csv"]);
    // Below the fixed part of the pattern.
    assert_eq!(project.input("data/**/*.csv"), [".b.csv", "a.csv", "sub/d.csv"]);
    assert_eq!(project.input("da*/*/d.csv"), ["data/sub/d.csv"]);
    assert_eq!(project.input("data/{sub,x}/*"), ["sub/d.csv"]);
    let all = project.input(".");
    assert_eq!(all[0], ".gitignore");
    assert!(all.iter().all(|path| !path.starts_with(".cas") && !path.starts_with(".git/")), "{all:?}");
}

#[test]
fn an_input_has_the_identity_of_its_content() {
    let project =
        Project::new(&[("notes.txt", "hello"), ("dir/a", "1"), ("dir/sub/b", "22"), ("dir/e/", "")]);
    let measured = |path: &str| {
        let measures = project.measure(&solid_with_path(path)).unwrap();
        measures.paths[0].as_ref().unwrap().clone()
    };
    let file = measured("notes.txt");
    assert_eq!(file.digest, Digest::of(b"hello"));
    assert_eq!((file.kind, file.len), (PathKind::File { executable: false }, 5));
    let node = |text: &str| Node::File {
        digest: Digest::of(text.as_bytes()),
        len: text.len() as u64,
        executable: false,
    };
    let entry = |path: &str, node| Entry { path: path.to_owned(), node };
    let tree = Tree::new(vec![entry("a", node("1")), entry("e", Node::Folder), entry("sub/b", node("22"))]);
    let folder = measured("dir");
    assert_eq!(folder.digest, tree.unwrap().digest());
    assert_eq!((folder.kind, folder.len), (PathKind::Folder, 3));
    let tree = Tree::new(vec![entry("a", node("1"))]);
    let glob = measured("dir/*");
    assert_eq!(glob.digest, tree.unwrap().digest());
    assert_eq!(glob.kind, PathKind::Glob);
    fs::set_permissions(project.path("notes.txt"), fs::Permissions::from_mode(0o744)).unwrap();
    assert_eq!(measured("notes.txt").kind, PathKind::File { executable: true });
}

#[test]
fn an_external_input_may_lie_anywhere_and_be_a_link() {
    let elsewhere = Project::new(&[("big/x.bin", "x")]);
    let project = Project::new(&[]);
    project.link("data", elsewhere.path("big").to_str().unwrap());
    // A declared path that is a link is followed.
    assert_eq!(project.input("data"), ["x.bin"]);
    assert_eq!(project.input("data/x.bin"), ["data/x.bin"]);
    assert_eq!(project.input("data/*.bin"), ["x.bin"]);
    let path = elsewhere.path("big").to_str().unwrap().to_owned();
    assert_eq!(project.input(&path), ["x.bin"]);
    assert_eq!(project.input(&format!("{path}/*")), ["x.bin"]);
}

#[test]
fn links_inside_stay_inside() {
    let project = Project::new(&[("lib/v1/a.py", ""), ("lib/b.py", ""), ("other.py", ""), ("one.py", "")]);
    project.link("lib/current", "v1");
    project.link("lib/c.py", "b.py");
    project.link("lib/v1/up.py", "../b.py");
    let all = ["lib/b.py", "lib/c.py -> b.py", "lib/current -> v1", "lib/v1/a.py", "lib/v1/up.py -> ../b.py"];
    assert_eq!(project.code("[lib]"), all);
    assert_eq!(project.code("[lib/**]"), all);
    // Declared outright, a link is followed; so it is where both are declared.
    assert_eq!(project.code("[lib/c.py]"), ["lib/c.py"]);
    assert_eq!(project.code("[lib/*.py, lib/c.py]"), ["lib/b.py", "lib/c.py"]);
    // A glob takes a link only with what it leads to.
    assert_eq!(project.code("['lib/*']"), ["lib/b.py", "lib/c.py -> b.py"]);
    assert_eq!(
        project.wrong_code("['lib/c*.py']"),
        "pipeline.yaml:3:12: `lib/c.py` is a link to `b.py`, which the pattern does not match / widen the pattern, \
         or make it a copy"
    );
    project.link("lib/out.py", "../other.py");
    let hint = "make it a copy, or a relative link to something inside the folder";
    assert_eq!(
        project.wrong_code("[lib]"),
        format!(
            "pipeline.yaml:3:12: `lib/out.py` is a link that leaves the folder: it points at `../other.py` / {hint}"
        )
    );
    assert!(project.wrong_input("lib").contains("`lib/out.py` is a link that leaves the folder"));
    fs::remove_file(project.path("lib/out.py")).unwrap();
    project.link("lib/abs.py", project.path("lib/b.py").to_str().unwrap());
    assert!(project.wrong_code("[lib]").contains("`lib/abs.py` is a link that leaves the folder"));
}

#[test]
fn a_link_in_a_chain_may_not_lead_out_by_the_back_door() {
    let project = Project::new(&[("lib/a/b/x", ""), ("secret", "")]);
    project.link("lib/deep", "a/b");
    // By its text it stays inside; by way of the other link it does not.
    project.link("lib/a/out", "../deep/../../../secret");
    assert!(project.wrong_code("[lib]").contains("`lib/a/out` is a link that leaves the folder"));
}

#[test]
fn what_is_missing_is_told_with_its_place_and_the_nearest_name() {
    let project = Project::new(&[("solids/tree.py", ""), ("data/notes.txt", "")]);
    project.link("dangling", "nowhere");
    let check = |patterns: &str, told: &str| {
        assert_eq!(project.wrong_code(patterns), format!("pipeline.yaml:3:{told}"));
    };
    check("[solids/tee.py]", "12: there is no `solids/tee.py` / did you mean `solids/tree.py`?");
    check("[solids/tree.py, solid/tree.py]", "28: there is no `solid` / did you mean `solids`?");
    check(
        "[solids/tree.py/x]",
        "12: there is no `solids/tree.py/x` / paths are relative to the project folder, `ROOT`"
            .replace("ROOT", &project.folder.path().display().to_string())
            .as_str(),
    );
    check("[dangling]", "12: `dangling` is a link to `nowhere`, which is not there");
    check("[solids/tree.py/]", "12: `solids/tree.py/` is a file / write it without the final `/`");
    check(
        "['solids/*.rs']",
        "12: `solids/*.rs` matches nothing / it matches files only; dot names, caches, editor backups and what \
         .gitignore or .casignore exclude are left out unless named outright",
    );
    assert_eq!(
        project.wrong_input("data/note.txt"),
        "pipeline.yaml:3:14: there is no `data/note.txt` / did you mean `data/notes.txt`?"
    );
}

#[test]
fn a_path_may_not_leave_the_project_by_way_of_a_value() {
    let elsewhere = Project::new(&[("notes", ""), ("project/b", "")]);
    let project =
        Project { folder: tempfile::tempdir_in(elsewhere.folder.path()).unwrap(), ..Project::new(&[]) };
    let yaml = |path: &str, more: &str| {
        format!(
            "solids:\n  a:\n    config: {{p: {{type: str, default: '{path}'}}}}\n    inputs: {{x: {{path: '{{{{ config.p }}}}'{more}}}}}\n    command: echo\n"
        )
    };
    let absolute = elsewhere.path("notes").display().to_string();
    for path in ["../notes", "x/../../notes", "../*", absolute.as_str()] {
        let told = told(&project.measure(&yaml(path, "")).unwrap_err());
        let hint = "what lies elsewhere is an input: {path: …, external: true}";
        assert_eq!(told, format!("pipeline.yaml:4:14: the path `{path}` leads out of the project / {hint}"));
        let measures = project.measure(&yaml(path, ", external: true")).unwrap();
        assert_eq!(measures.paths[0].as_ref().unwrap().files.files.len(), 1, "{path}");
    }
    let wrong = project.measure(&yaml("../note", ", external: true")).unwrap_err();
    assert_eq!(told(&wrong), "pipeline.yaml:4:14: there is no `../note` / did you mean `../notes`?");
}

#[test]
fn code_may_not_lie_where_a_step_has_folders_of_its_own() {
    let project =
        Project::new(&[("inputs/a", ""), ("outputs/a", ""), ("config.json", ""), ("lib/inputs/a", "")]);
    for pattern in ["inputs/a", "outputs", "config.json", "'**'"] {
        assert!(
            project.wrong_code(&format!("[{pattern}]")).contains("where a step has its own"),
            "{pattern}"
        );
    }
    assert_eq!(project.code("[lib]"), ["lib/inputs/a"]);
}

#[test]
fn sockets_pipes_and_names_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let project = Project::new(&[("data/a", ""), ("odd/a", "")]);
    let _socket = std::os::unix::net::UnixListener::bind(project.path("data/s")).unwrap();
    let hint = "only files, folders and links can be given to a step";
    assert_eq!(project.wrong_input("data"), format!("pipeline.yaml:3:14: `data/s` is a socket / {hint}"));
    assert_eq!(project.input("data/a*"), ["a"]);
    assert!(project.wrong_input("data/s").contains("`data/s` is a socket"));
    fs::write(project.path("odd").join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "").unwrap();
    assert_eq!(
        project.wrong_input("odd"),
        "pipeline.yaml:3:14: the name of `odd/\u{fffd}.txt` is not UTF-8 / rename it, or keep it out with a \
         narrower pattern"
    );
    assert_eq!(project.input("odd/a*"), ["a"]);
}

#[test]
fn each_file_is_read_once_however_many_use_it() {
    let project = Project::new(&[("lib/a.py", "a"), ("lib/b.py", "b"), ("c.py", "c")]);
    let mut yaml =
        String::from("defaults: {code: ['lib/**']}\nresources: {r: {files: [lib/a.py]}}\nsolids:\n");
    for step in 0..50 {
        yaml.push_str(&format!(
            "  s{step}: {{code: [c.py], resources: [r], inputs: {{x: {{path: lib}}, y: {{path: c.py}}}}, command: echo}}\n"
        ));
    }
    let measures = project.measure(&yaml).unwrap();
    assert_eq!(measures.counters, Counters { read: 3, cached: 0, probes: 0 });
    // Equal solids share.
    let (first, last) = (measures.code[0].as_ref().unwrap(), measures.code[49].as_ref().unwrap());
    assert!(Arc::ptr_eq(first, last));
    assert_eq!(measures.paths.len(), 2);
}

#[test]
fn only_what_the_given_steps_need_is_measured() {
    let project = Project::new(&[("a.py", "a")]);
    let yaml = "
resources: {broken: {probe: exit 1}}
solids:
  a: {code: [a.py], command: echo, stdout: result}
  b: {code: [b.py], resources: [broken], inputs: {x: {path: none}, y: {probe: exit 1}}, command: echo}
";
    let graph = project.graph(yaml);
    let how = Measure::new(&project.environment);
    let measures = measure(&graph, &graph.select("a").unwrap(), &how).unwrap();
    assert_eq!(measures.counters, Counters { read: 1, cached: 0, probes: 0 });
    assert!(measures.code[1].is_none() && measures.paths[0].is_none() && measures.probes[0].is_none());
    assert!(measure(&graph, &graph.select("b").unwrap(), &how).is_err());
}

/// Sets when a file was last changed, as far as a program can; the time of the change of its inode stays now.
fn age(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
}

#[test]
fn a_file_that_changed_just_now_is_not_believed_by_its_stat() {
    let mut project = Project::new(&[("a.py", "a")]);
    project.cache = Some(project.path("stat"));
    age(&project.path("a.py"));
    let yaml = solid_with_code("[a.py]");
    // Its inode changed a moment ago, so nothing is remembered of it, however old its content claims to be.
    for _ in 0..2 {
        let measures = project.measure(&yaml).unwrap();
        assert_eq!(measures.counters, Counters { read: 1, cached: 0, probes: 0 });
    }
    assert!(!project.path("stat").exists());
}

#[test]
fn a_file_that_was_left_alone_is_not_read_again() {
    // Nothing that a test makes is old enough; the machine's shell is.
    let mut project = Project::new(&[]);
    let cache = project.path("stat");
    project.cache = Some(cache.clone());
    let yaml = solid_with_path("/bin/sh");
    let first = project.measure(&yaml).unwrap();
    assert_eq!(first.counters, Counters { read: 1, cached: 0, probes: 0 });
    if !cache.exists() {
        // The file system of this machine's programs is none that is trusted: it is read each time, then.
        assert_eq!(project.measure(&yaml).unwrap().counters.read, 1);
        return;
    }
    let second = project.measure(&yaml).unwrap();
    assert_eq!(second.counters, Counters { read: 0, cached: 1, probes: 0 });
    assert_eq!(first.paths[0], second.paths[0]);
    // A cache that is damaged is empty.
    let mut bytes = fs::read(&cache).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&cache, bytes).unwrap();
    let third = project.measure(&yaml).unwrap();
    assert_eq!(third.counters, Counters { read: 1, cached: 0, probes: 0 });
    assert_eq!(third.paths[0], first.paths[0]);
}

#[test]
fn a_change_after_measuring_is_found() {
    let project = Project::new(&[("lib/a.py", "a"), ("lib/b.py", "b"), ("lib/none/", "")]);
    project.link("lib/c.py", "a.py");
    project.link("declared.py", "lib/b.py");
    let measures = project.measure(&solid_with_code("[lib, declared.py]")).unwrap();
    let all = measures.code[0].as_deref().unwrap();
    let changed = |files: &[MeasuredFile], looked: &[Arc<Looked>]| {
        let files = FileSet { files: files.to_vec(), looked: looked.to_vec() };
        files.changed(&project.path("")).map(|change| format!("{} {}", change.path, change.how))
    };
    let (files, looked) = (&all.files[..], &all.looked[..]);
    assert_eq!(changed(files, looked), None);
    // What is put into a folder later is found the next time.
    project.write("lib/none/x", "");
    assert_eq!(changed(files, &[]), None);
    assert_eq!(changed(files, looked).as_deref(), Some("lib/none/x was added"));
    fs::remove_file(project.path("lib/none/x")).unwrap();
    assert_eq!(changed(files, looked), None);
    fs::remove_dir(project.path("lib/none")).unwrap();
    assert_eq!(changed(files, looked).as_deref(), Some("lib/none was removed"));
    // What no declaration finds may come and go.
    project.write("lib/none/", "");
    project.write("lib/.hidden", "");
    project.write("lib/__pycache__/a.pyc", "");
    assert_eq!(changed(files, looked), None);
    // The same content again is a change all the same: it may have been another in between.
    fs::write(project.path("lib/b.py"), "b").unwrap();
    assert_eq!(changed(files, &[]).as_deref(), Some("declared.py changed"));
    assert_eq!(changed(&files[1..], &[]).as_deref(), Some("lib/b.py changed"));
    fs::remove_file(project.path("lib/a.py")).unwrap();
    assert_eq!(changed(&files[1..], &[]).as_deref(), Some("lib/a.py changed"));
    fs::remove_file(project.path("lib/c.py")).unwrap();
    project.link("lib/c.py", "b.py");
    let link = files.iter().find(|file| file.path == "lib/c.py").unwrap();
    assert_eq!(changed(std::slice::from_ref(link), &[]).as_deref(), Some("lib/c.py changed"));
}

#[test]
fn a_declared_link_that_is_turned_elsewhere_is_a_change() {
    let project = Project::new(&[("a.py", "same"), ("b.py", "same")]);
    project.link("code.py", "a.py");
    let measures = project.measure(&solid_with_code("[code.py]")).unwrap();
    let files = measures.code[0].as_deref().unwrap();
    assert_eq!(files.changed(&project.path("")), None);
    fs::remove_file(project.path("code.py")).unwrap();
    project.link("code.py", "b.py");
    assert_eq!(files.changed(&project.path("")).map(|change| change.path).as_deref(), Some("code.py"));
}

#[test]
fn variables_are_taken_from_the_environment_that_was_given() {
    let mut project = Project::new(&[]);
    project.environment.vars.insert("A".to_owned(), "1".to_owned());
    let measures = project.measure("solids: {a: {env: [A, B, {C: x}], command: echo}}").unwrap();
    let text = |text: &str| Some(text.to_owned());
    let expected = [("A", text("1")), ("B", None), ("C", text("x"))];
    assert_eq!(measures.env[0], expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(measures.platform, format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH));
}

#[test]
fn probes_run_in_the_project_with_a_steps_environment() {
    let mut project = Project::new(&[("bin/tool", "#!/bin/sh\necho tool $TOOL_HOME\n"), ("here", "found\n")]);
    fs::set_permissions(project.path("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, value) in [("PASSED", "p"), ("HIDDEN", "h"), ("LANG", "de_DE")] {
        project.environment.vars.insert(name.to_owned(), value.to_owned());
    }
    let yaml = "
resources:
  tool: {probe: tool, path: [bin], env: {TOOL_HOME: /t}}
solids:
  a:
    resources: [tool]
    env: [PASSED, {SET: 'a b'}]
    inputs:
      cwd: {probe: cat here}
      env: {probe: 'echo \"$PASSED|$SET|${HIDDEN-unset}|$LANG|$TZ|$HOME|$TOOL_HOME\"; tool'}
      lines: {probe: \"printf 'one\\n\\n'\"}
      nothing: {probe: 'true'}
    command: echo
    stdout: result
";
    let measures = project.measure(yaml).unwrap();
    assert_eq!(measures.resource_probes, [Some("tool /t".to_owned())]);
    let answers: Vec<&str> = measures.probes.iter().map(|answer| answer.as_deref().unwrap()).collect();
    let env = "p|a b|unset|C.UTF-8|UTC|/home/somebody|/t\ntool /t";
    assert_eq!(answers, ["found", env, "one\n", ""]);
    assert_eq!(measures.counters.probes, 5);
}

#[test]
fn a_probe_is_asked_once_for_all_that_ask_the_same() {
    let project = Project::new(&[]);
    let yaml = "
solids:
  a: {inputs: {x: {probe: 'echo x >> asked; echo same'}}, command: echo}
  b: {inputs: {x: {probe: 'echo x >> asked; echo same'}}, command: echo}
  c: {solid: b}
";
    let measures = project.measure(yaml).unwrap();
    assert_eq!(measures.counters.probes, 1);
    assert_eq!(fs::read_to_string(project.path("asked")).unwrap(), "x\n");
    assert!(measures.probes.iter().all(|answer| answer.as_deref() == Some("same")));
}

#[test]
fn a_probe_that_fails_is_told_with_its_place_and_what_it_said() {
    let mut project = Project::new(&[]);
    project.environment.vars.insert("TOKEN".to_owned(), "hunter2".to_owned());
    let check = |probe: &str, expected: &str| {
        let yaml = format!(
            "solids:\n  a:\n    secrets: [TOKEN]\n    inputs:\n      x: {{probe: '{probe}'}}\n    command: echo\n"
        );
        let error = project.measure(&yaml).unwrap_err();
        assert!(matches!(error, EngineError::Probe(_)), "{error:?}");
        assert_eq!(told(&error), format!("pipeline.yaml:5:7: {expected}"));
    };
    check("exit 3", "this probe failed with exit status 3: `exit 3`");
    check(
        "echo out; echo no $TOKEN >&2; false; echo x",
        "this probe failed with exit status 1: `echo out; echo no $TOKEN >&2; false; echo x` / it said: no ***",
    );
    check("kill -9 $$", "this probe was ended by SIGKILL: `kill -9 $$`");
    check("printf \"\\\\377\"", "this probe printed what is not UTF-8: `printf \"\\\\377\"`");
}
