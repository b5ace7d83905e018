//! The step contract, sentence by sentence: what a command finds in its folder and its environment, what counts
//! as an output, and in what words each failure is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cas_engine::config::RunConfig;
use cas_engine::execute::command::CommandExecutor;
use cas_engine::execute::{
    Attempt, Attempted, Cancel, Cause, Content, Execute, Failure, Given, GivenFile, GivenResource, GivenWhat,
    Produced, Stop, folder,
};
use cas_engine::file;
use cas_engine::graph::{Graph, StepId, StepInput};
use cas_engine::source::{Environment, Measure, MeasuredWhat, Measures, measure, path_before};
use cas_engine::value::Value;

/// A project with one step that is attempted, `a`.
struct Kit {
    project: tempfile::TempDir,
    work: tempfile::TempDir,
    graph: Graph,
    measures: Measures,
    environment: Environment,
    /// What stands in the place of inputs that are outputs of other steps.
    contents: BTreeMap<String, Content>,
    env: Vec<(String, String)>,
    secrets: Vec<String>,
    cancel: Arc<Cancel>,
    timeout: Option<Duration>,
    grace: Duration,
    attempts: usize,
    /// Whether its folder is made fit to be kept even if it succeeds.
    keep: bool,
}

impl Kit {
    fn new(yaml: &str) -> Self {
        Self::with_files(yaml, &[])
    }

    /// A file whose text begins with `#!` is executable.
    fn with_files(yaml: &str, files: &[(&str, &str)]) -> Self {
        let project = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let at = project.path().join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, text).unwrap();
            if text.starts_with("#!") {
                fs::set_permissions(&at, fs::Permissions::from_mode(0o700)).unwrap();
            }
        }
        let parsed = file::pipeline(Path::new("pipeline.yaml"), yaml, &mut |_| unreachable!());
        let mut pipeline = parsed.unwrap_or_else(|wrong| panic!("{wrong:?}"));
        pipeline.folder = project.path().to_owned();
        pipeline.home.clone_from(&pipeline.folder);
        let graph = Graph::new(Arc::new(pipeline), None, &RunConfig::default()).unwrap();
        let path = std::env::var("PATH").unwrap();
        let environment = Environment { vars: [("PATH".to_owned(), path)].into() };
        let steps = graph.select("a").unwrap();
        let how = Measure::new(&environment);
        let measures = measure(&graph, &steps, &how).unwrap_or_else(|error| panic!("{error}"));
        Self {
            project,
            work: tempfile::tempdir().unwrap(),
            graph,
            measures,
            environment,
            contents: BTreeMap::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            cancel: Arc::new(Cancel::default()),
            timeout: None,
            grace: Duration::from_secs(3600),
            attempts: 0,
            keep: false,
        }
    }

    /// A step with this shell line and one output, `result`.
    fn line(line: &str) -> Self {
        Self::new(&format!("solids:\n  a:\n    command: |\n      {}\n", line.replace('\n', "\n      ")))
    }

    /// The folder of the attempt that is next.
    fn folder(&self) -> PathBuf {
        self.work.path().join(self.attempts.to_string())
    }

    /// The folder of the attempt that was last.
    fn last(&self) -> PathBuf {
        self.work.path().join((self.attempts - 1).to_string())
    }

    fn step_folder(&self) -> PathBuf {
        folder::step(&self.last())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.last().join("log")).unwrap()
    }

    fn files(&self) -> Vec<GivenFile> {
        let sets = self.measures.code.iter().chain(&self.measures.resources).flatten();
        sets.flat_map(|set| &set.files)
            .map(|file| GivenFile {
                to: file.path.clone(),
                from: file.from.clone(),
                what: match &file.what {
                    MeasuredWhat::File { executable, .. } => GivenWhat::File { executable: *executable },
                    MeasuredWhat::Link(target) => GivenWhat::Link(target.clone()),
                    MeasuredWhat::Folder => GivenWhat::Folder,
                },
            })
            .collect()
    }

    fn inputs(&mut self, step: StepId) -> Vec<Given> {
        let declared = &self.graph.invocation(step).inputs;
        let inputs = declared.iter().zip(&self.graph.steps[step.0 as usize].inputs);
        let contents = &mut self.contents;
        inputs
            .map(|(declared, input)| Given {
                name: declared.name.clone(),
                file_name: declared.file_name.clone(),
                content: match input {
                    StepInput::Path(path) => Content::Project {
                        measured: Arc::clone(self.measures.paths[*path as usize].as_ref().unwrap()),
                        external: self.graph.paths[*path as usize].external,
                    },
                    StepInput::Value(value) => Content::Value(Value::clone(value)),
                    StepInput::Probe(probe) => {
                        Content::Value(Value::Str(self.measures.probes[*probe as usize].clone().unwrap()))
                    }
                    StepInput::Output(_)
                    | StepInput::Element { .. }
                    | StepInput::Unknown(_)
                    | StepInput::FanIn(_)
                    | StepInput::Gather(_) => contents.remove(&declared.name).unwrap_or(Content::File),
                },
            })
            .collect()
    }

    fn attempt(&mut self) -> Attempted {
        let step = self.graph.select("a").unwrap()[0];
        let (inputs, files, folder) = (self.inputs(step), self.files(), self.folder());
        fs::create_dir_all(&folder).unwrap();
        self.attempts += 1;
        let invocation = self.graph.steps[step.0 as usize].invocation;
        let needed = self.graph.resources_of(invocation);
        let resources: Vec<GivenResource> = needed
            .iter()
            .map(|resource| GivenResource {
                name: self.graph.resources[*resource].definition.name.clone(),
                config: self.graph.resources[*resource].config.as_ref().clone(),
            })
            .collect();
        let solid = self.graph.solid(step);
        let executor = CommandExecutor::new(&self.environment).grace(self.grace);
        let attempt = Attempt {
            step: "a",
            solid,
            config: &self.graph.config(step),
            inputs: &inputs,
            resources: &resources,
            files: &files,
            folder: &folder,
            env: &self.env,
            secret_env: &solid.secrets,
            secrets: &self.secrets,
            path: &path_before(&self.graph, &needed),
            log: &folder.join("log"),
            timeout: self.timeout.or(solid.policy.timeout),
            grace: None,
            cpus: solid.policy.cpus,
            cancel: &self.cancel,
            sandbox: None,
            scratch: None,
            meanwhile: &|| {},
        };
        let attempted = executor.execute(&attempt);
        if attempted.outcome.is_err() || self.keep {
            executor.keep(&attempt).unwrap();
        }
        attempted
    }

    /// The outputs of an attempt that succeeds.
    fn runs(&mut self) -> Vec<Produced> {
        match self.attempt().outcome {
            Ok(produced) => produced,
            Err(failure) => panic!("{failure} / {:?}\n{}", failure.hint, self.log()),
        }
    }

    /// The text of the first output of an attempt that succeeds.
    fn prints(&mut self) -> String {
        match &self.runs()[0] {
            Produced::File(path) => fs::read_to_string(path).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn fails(&mut self) -> Failure {
        self.attempt().outcome.unwrap_err()
    }
}

/// A failure as a person reads it.
fn told(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("{} / {hint}", failure.message),
        None => failure.message.clone(),
    }
}

#[test]
fn the_folder_holds_what_was_declared_and_nothing_else() {
    let files = [
        ("solids/a.py", "code"),
        ("solids/undeclared.py", ""),
        ("tool/run", "#!/bin/sh\n"),
        ("lib/x", "x"),
        ("data.txt", "data"),
    ];
    let mut kit = Kit::with_files(
        "
resources: {r: {files: [lib/*, tool/run], config: {threads: {type: int, default: 4}}}}
solids:
  a:
    code: [solids/a.py, tool/run]
    resources: [r]
    config: {b: {type: float, default: 1}, a: {type: str, default: x}}
    inputs:
      data.txt: {path: data.txt}
      n: {value: 3}
      s: {value: text}
      m: {value: {k: [1, null]}}
      day: {probe: echo monday}
    command: find . -mindepth 1 | sort; pwd | wc -l; cat config.json inputs/n inputs/s inputs/m inputs/day
    stdout: result
",
        &files,
    );
    let expected = "\
./config.json
./inputs
./inputs/data.txt
./inputs/day
./inputs/m
./inputs/n
./inputs/s
./lib
./lib/x
./outputs
./outputs/result
./solids
./solids/a.py
./tool
./tool/run
1
{\"a\":\"x\",\"b\":1.0,\"resources\":{\"r\":{\"threads\":4}}}3text{\"k\":[1,null]}monday";
    assert_eq!(kit.prints(), expected);
}

#[test]
fn what_is_given_has_fixed_modes_and_one_time() {
    let files = [("a.py", ""), ("bin/tool", "#!/bin/sh\n"), ("data/x", "x"), ("data/sub/y", "#!y")];
    let mut kit = Kit::with_files(
        "
solids:
  a:
    code: [a.py, bin]
    inputs: {one: {path: data/x}, all: {path: data}, v: {value: 1}}
    command: echo
    stdout: result
",
        &files,
    );
    // Ours may be anything; and so may the modes in the project.
    fs::set_permissions(kit.project.path().join("a.py"), fs::Permissions::from_mode(0o600)).unwrap();
    kit.runs();
    let step = kit.step_folder();
    let check = |path: &str, mode: u32| {
        let metadata = step.join(path).symlink_metadata().unwrap();
        assert!(!metadata.is_symlink(), "{path}");
        assert_eq!(metadata.mode() & 0o777, mode, "{path}");
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (cas_store::MTIME_S, 0), "{path}");
    };
    check("a.py", 0o644);
    check("bin", 0o755);
    check("bin/tool", 0o755);
    check("config.json", 0o444);
    check("inputs", 0o755);
    check("inputs/one", 0o444);
    check("inputs/all", 0o755);
    check("inputs/all/x", 0o444);
    check("inputs/all/sub", 0o755);
    check("inputs/all/sub/y", 0o555);
    check("inputs/v", 0o444);
}

#[test]
fn an_external_input_is_linked_and_keeps_its_time() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join("sub")).unwrap();
    fs::write(elsewhere.path().join("big"), "big").unwrap();
    fs::write(elsewhere.path().join("sub/x"), "x").unwrap();
    let root = elsewhere.path().display();
    let mut kit = Kit::new(&format!(
        "
solids:
  a:
    inputs: {{one: {{path: {root}/big, external: true}}, all: {{path: {root}, external: true}}}}
    command: cat inputs/one inputs/all/big inputs/all/sub/x
    stdout: result
"
    ));
    assert_eq!(kit.prints(), "bigbigx");
    let inputs = kit.step_folder().join("inputs");
    assert_eq!(fs::read_link(inputs.join("one")).unwrap(), elsewhere.path().join("big"));
    assert!(inputs.join("all").symlink_metadata().unwrap().is_dir());
    assert_eq!(fs::read_link(inputs.join("all/sub/x")).unwrap(), elsewhere.path().join("sub/x"));
}

#[test]
fn the_environment_is_cleared_but_for_the_contract_and_what_was_declared() {
    let mut kit = Kit::new(
        "
solids:
  a:
    inputs: {dog-breed.txt: {value: 1}}
    env: [LANG, {SET: x}]
    command: env | LC_ALL=C sort
    cpus: 3
    outputs: [the-list.txt]
    stdout: the-list
",
    );
    kit.env = vec![("SET".to_owned(), "a b".to_owned()), ("LANG".to_owned(), "de_DE.UTF-8".to_owned())];
    let printed = kit.prints();
    let folder = kit.last();
    let folder = folder.display();
    let path = kit.environment.vars["PATH"].clone();
    // What a shell sets of itself.
    let lines = printed.lines().filter(|line| {
        !["_=", "PWD=", "OLDPWD=", "SHLVL="].iter().any(|of_shell| line.starts_with(of_shell))
    });
    let expected = format!(
        "BLIS_NUM_THREADS=3
CAS_CONFIG=config.json
CAS_CPUS=3
CAS_INPUT_DOG_BREED=inputs/dog-breed.txt
CAS_OUTPUT_THE_LIST=outputs/the-list.txt
CAS_STEP=a
GOMAXPROCS=3
HOME={folder}/home
JULIA_NUM_THREADS=3
LANG=de_DE.UTF-8
MKL_NUM_THREADS=3
NUMEXPR_NUM_THREADS=3
OMP_NUM_THREADS=3
OPENBLAS_NUM_THREADS=3
PATH={path}
POLARS_MAX_THREADS=3
RAYON_NUM_THREADS=3
SET=a b
TMPDIR={folder}/tmp
TZ=UTC"
    );
    assert_eq!(lines.collect::<Vec<_>>().join("\n"), expected);
}

#[test]
fn home_and_tmpdir_are_empty_and_its_own_and_stdin_has_nothing() {
    let line = "ls -A \"$HOME\" \"$TMPDIR\" | grep -v ':$' | grep . && exit 1\ntouch $HOME/x $TMPDIR/y\numask > outputs/result\ncat >> outputs/result";
    let mut kit = Kit::line(line);
    for _ in 0..2 {
        assert_eq!(kit.prints().trim_start_matches('0'), "22\n");
    }
}

#[test]
fn a_resources_path_comes_before_the_rest_and_is_absolute() {
    let yaml = "
resources: {tool: {version: '1', path: [bin]}}
solids: {a: {resources: [tool], command: [ls], stdout: result}}
";
    // Also for a program that the step's folder does not hold: it is named, not laid there.
    let mut kit = Kit::with_files(yaml, &[("bin/ls", "#!/bin/sh\necho ours; echo \"${PATH%%:*}\"\n")]);
    let bin = kit.project.path().join("bin");
    assert_eq!(kit.prints(), format!("ours\n{}\n", bin.display()));
}

#[test]
fn fan_ins_and_gathers_lie_where_the_contract_says() {
    let mut kit = Kit::new(
        "
matrices: {m: {s: [1, 2]}}
solids:
  b: {command: echo, stdout: result}
  t: {matrix: m, command: echo, stdout: result}
  a:
    inputs: {parts: [b, b], all.txt: 't[*]', opt: b}
    command: cat {{ inputs.parts }} inputs/all/2.txt inputs/all/a%2Fb.txt; echo; cat inputs/all.json; echo; echo {{ inputs.all }} $CAS_INPUT_PARTS $CAS_INPUT_ALL ${CAS_INPUT_OPT-none}
    stdout: result
",
    );
    // The labels are what the engine gives; they need not be harmless.
    let labels = vec!["2".to_owned(), "a/b".to_owned()];
    let place = |at: PathBuf, text: &str| {
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    };
    let at = kit.folder();
    place(folder::fan_in(&at, "parts", 0), "p0");
    place(folder::fan_in(&at, "parts", 1), "p1");
    place(folder::gathered(&at, "all", "2", ".txt"), "two");
    place(folder::gathered(&at, "all", "a/b", ".txt"), "slash");
    kit.contents.insert("parts".to_owned(), Content::FanIn(2));
    kit.contents.insert("all".to_owned(), Content::Gather(labels));
    kit.contents.insert("opt".to_owned(), Content::Absent);
    let expected = "p0p1twoslash
{\"2\":\"inputs/all/2.txt\",\"a/b\":\"inputs/all/a%2Fb.txt\"}
inputs/all inputs/parts inputs/all none
";
    assert_eq!(kit.prints(), expected);
}

#[test]
fn shells_stop_at_the_first_failure_and_bash_in_a_pipe_too() {
    let check = |shell: &str, line: &str, expected: Result<&str, i32>| {
        let yaml = format!("solids: {{a: {{shell: {shell}, command: '{line}', stdout: result}}}}");
        let mut kit = Kit::new(&yaml);
        let outcome = kit.attempt().outcome;
        let printed = fs::read_to_string(kit.step_folder().join("outputs/result")).unwrap();
        match (outcome, expected) {
            (Ok(_), Ok(expected)) => assert_eq!(printed, expected, "{shell} {line}"),
            (Err(failure), Err(status)) => {
                assert_eq!(failure.cause, Cause::Exit(status), "{shell} {line}");
                assert_eq!(failure.message, format!("exit status {status}"));
                assert_eq!(printed, "", "{shell} {line}");
            }
            (outcome, _) => panic!("{shell} {line}: {outcome:?}"),
        }
    };
    check("sh", "false; echo x", Err(1));
    check("bash", "false; echo x", Err(1));
    // A POSIX shell has no pipefail: what a pipe hides there is hidden.
    check("sh", "false | cat; echo x", Ok("x\n"));
    check("bash", "false | cat; echo x", Err(1));
    check("sh", "false | cat; false; echo x", Err(1));
    check("bash", "false | cat; false; echo x", Err(1));
    check("[sh, -c]", "false; echo x", Ok("x\n"));
    check("[sh, -c]", "exit 7", Err(7));
}

#[test]
fn placeholders_are_one_word_each_whatever_is_in_them() {
    let nasty = r#"it's "$HOME" `ls` $(ls) \ ; * 2"#;
    let yaml = format!(
        "
solids:
  a:
    config: {{nasty: {{type: str, default: '{}'}}, n: {{type: int, default: 2}}, f: {{type: float, default: 1}}, l: {{type: list, default: [a, 1]}}}}
    command: printf '[%s]\\n' {{{{ config.nasty }}}} x{{{{ config.n }}}}y {{{{ config.f }}}} {{{{ config.l }}}} {{{{ cpus }}}} {{{{ outputs.result }}}} {{{{ config.n }}}}>{{{{ outputs.result }}}}
",
        nasty.replace('\'', "''")
    );
    let mut kit = Kit::new(&yaml);
    let expected = format!("[{nasty}]\n[x2y]\n[1.0]\n[[\"a\",1]]\n[1]\n[outputs/result]\n[2]\n");
    assert_eq!(kit.prints(), expected);
}

#[test]
fn a_list_is_run_without_a_shell() {
    let mut kit = Kit::with_files(
        "
solids:
  b: {command: echo, stdout: result}
  a:
    config: {x: {type: str, default: 'a  b; *'}}
    code: [s.sh]
    inputs: {parts: [b, b], one: {value: 1}}
    command: [./s.sh, '{{ inputs.parts }}', '--in={{ inputs.one }}', '{{ config.x }}', '$HOME']
    stdout: result
",
        &[("s.sh", "#!/bin/sh\nprintf '[%s]' \"$0\" \"$@\"\n")],
    );
    kit.contents.insert("parts".to_owned(), Content::FanIn(2));
    // The program is called what it is called in the pipeline: no absolute path reaches it.
    assert_eq!(kit.prints(), "[./s.sh][inputs/parts/0][inputs/parts/1][--in=inputs/one][a  b; *][$HOME]");
}

#[test]
fn a_script_that_is_a_link_imports_nothing_undeclared() {
    // Interpreters follow links, and look for neighbours where the link leads: so code is copied.
    let yaml = "solids: {a: {code: [solids/main.py], command: [python3, solids/main.py], stdout: result}}";
    let mut kit = Kit::with_files(yaml, &[("solids/main.py", "the link is made below")]);
    let real = kit.project.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("helper.py"), "").unwrap();
    let main = "try:\n    import helper\n    print('leaked')\nexcept ImportError:\n    print('clean')\n";
    fs::write(real.join("main.py"), main).unwrap();
    let declared = kit.project.path().join("solids/main.py");
    fs::remove_file(&declared).unwrap();
    symlink("../real/main.py", &declared).unwrap();
    // Run through the link, it does import its neighbour.
    let direct = std::process::Command::new("python3").arg(&declared).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&direct.stdout), "leaked\n");
    assert_eq!(kit.prints(), "clean\n");
}

#[test]
fn a_retry_has_a_fresh_folder() {
    let line = "test ! -e trace || exit 9\ntest ! -e outputs/result || exit 8\ntouch trace\necho x > outputs/result\nexit 1";
    let mut kit = Kit::line(line);
    for _ in 0..3 {
        assert_eq!(kit.fails().cause, Cause::Exit(1));
    }
}

#[test]
fn outputs_are_files_and_folders_at_their_places() {
    let mut kit = Kit::new(
        "
solids:
  a:
    outputs: [one.txt, {site: {at: site/}}, {deep: {at: outputs/sub/deep}}, {opt: {optional: true}}]
    command: |
      echo 1 > {{ outputs.one }}
      mkdir -p {{ outputs.site }}/x outputs/sub
      echo 2 > {{ outputs.deep }}
      echo kept to itself > scratch
",
    );
    let produced = kit.runs();
    let step = kit.step_folder();
    match produced.as_slice() {
        [Produced::File(one), Produced::Folder(site), Produced::File(deep), Produced::Absent] => {
            assert_eq!(*one, step.join("outputs/one.txt"));
            assert_eq!(*site, step.join("site"));
            assert_eq!(*deep, step.join("outputs/sub/deep"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_output_says_what_was_written_instead() {
    let check = |outputs: &str, line: &str, expected: &str| {
        let mut kit = Kit::new(&format!("solids: {{a: {{outputs: {outputs}, command: '{line}'}}}}"));
        let failure = kit.fails();
        assert_eq!(failure.cause, Cause::MissingOutput);
        assert_eq!(told(&failure), expected);
    };
    check(
        "[out.csv]",
        "head -c 1234567 /dev/zero > out.csv; echo > other",
        "it did not write its output `outputs/out.csv`; it wrote `out.csv` (1.2 MB) and one more file in its folder / \
         write to `outputs/out.csv`, or declare where it is: `outputs: [{out: {at: out.csv}}]`",
    );
    check(
        "[result]",
        "true",
        "it did not write its output `outputs/result` / write it to `outputs/result` in its folder, or let `stdout` \
         name it",
    );
    check(
        "[a, b]",
        "echo > outputs/a",
        "it did not write its output `outputs/b` / write it to `outputs/b` in its folder, or let `stdout` name it",
    );
}

#[test]
fn what_was_not_declared_may_not_stand_in_outputs() {
    let check = |line: &str, expected: &str| {
        let mut kit = Kit::new(&format!("solids: {{a: {{outputs: [chart], command: '{line}'}}}}"));
        let failure = kit.fails();
        assert_eq!(failure.cause, Cause::UndeclaredOutput);
        assert_eq!(told(&failure), expected);
    };
    check(
        "echo > outputs/chart; echo > outputs/zeta.png",
        "it wrote `outputs/zeta.png`, which is not declared as an output / add `zeta.png` to its `outputs`, or write \
         it elsewhere in its folder (or in $TMPDIR)",
    );
    check(
        "echo > outputs/chart; echo > outputs/chrt",
        "it wrote `outputs/chrt`, which is not declared as an output (`chart` is) / add `chrt` to its `outputs`, or \
         write it elsewhere in its folder (or in $TMPDIR)",
    );
}

#[test]
fn an_output_must_be_something_that_can_be_kept() {
    let check = |line: &str, outputs: &str, expected: &str| {
        let yaml = format!("solids: {{a: {{outputs: {outputs}, command: '{line}'}}}}");
        let failure = Kit::new(&yaml).fails();
        assert_eq!(failure.cause, Cause::BadOutput, "{line}");
        assert_eq!(failure.message, expected);
    };
    check("mkfifo outputs/x", "[x]", "its output `outputs/x` is a named pipe");
    check(
        "rmdir outputs; ln -s / outputs",
        "[tmp]",
        "its output `outputs/tmp` is not in its folder: `outputs` is a link to `/`",
    );
    check("cd ..; rm -rf step", "[x]", "its folder is gone: it, or what it started, removed it");
    check(
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind(\\\"outputs/x\\\")\"",
        "[x]",
        "its output `outputs/x` is a socket",
    );
    check(
        "ln -s /etc/passwd outputs/x",
        "[x]",
        "its output `outputs/x` is a link out of its folder, to `/etc/passwd`",
    );
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("x"), "not of this step").unwrap();
    let to = elsewhere.path().canonicalize().unwrap();
    let to = to.display();
    // What is below such a link was taken for the step's own, and might even be moved away.
    check(
        &format!("ln -s {to} outputs/plots"),
        "[{x: {at: outputs/plots/x}}]",
        &format!("its output `outputs/plots/x` is not in its folder: `outputs/plots` is a link to `{to}`"),
    );
    check(
        &format!("rmdir outputs; ln -s {to} outputs"),
        "[x]",
        &format!("its output `outputs/x` is not in its folder: `outputs` is a link to `{to}`"),
    );
    assert_eq!(fs::read_to_string(elsewhere.path().join("x")).unwrap(), "not of this step");
    check(
        "ln -s nothing outputs/x",
        "[x]",
        "its output `outputs/x` is a link to `nothing`, which is not there",
    );
    check(
        "mkdir d; ln -s ../d outputs/x",
        "[x]",
        "its output `outputs/x` is a link to `../d`, which is no file",
    );
    check("echo > site", "[{x: {at: site/}}]", "its output `site/` is a file, but was declared as a folder");
}

#[test]
fn an_output_that_links_to_a_file_of_the_folder_becomes_that_file() {
    let store = tempfile::tempdir().unwrap();
    fs::write(store.path().join("blob"), "stored").unwrap();
    let yaml = "
solids:
  b: {command: echo, stdout: result}
  a: {inputs: {x: b}, outputs: [own, passed], command: 'echo made > made; ln -s ../made outputs/own; ln -s ../inputs/x outputs/passed'}
";
    let mut kit = Kit::new(yaml);
    // An input may be a link into the store; an output that is a link to it must not become the blob itself.
    let input = folder::input(&kit.folder(), "x");
    fs::create_dir_all(input.parent().unwrap()).unwrap();
    symlink(store.path().join("blob"), &input).unwrap();
    let produced = kit.runs();
    for (produced, text) in produced.iter().zip(["made\n", "stored"]) {
        let Produced::File(path) = produced else { panic!("{produced:?}") };
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    }
}

#[test]
fn a_step_without_outputs_only_has_to_succeed() {
    let mut kit = Kit::new("solids: {a: {outputs: [], command: 'rmdir outputs'}}");
    assert!(kit.runs().is_empty());
}

#[test]
fn output_is_captured_in_order_and_stdout_can_be_an_output() {
    let mut kit = Kit::line("echo one; echo two >&2; echo three; echo x > outputs/result");
    kit.runs();
    assert_eq!(kit.log(), "one\ntwo\nthree\n");
    let mut kit =
        Kit::new("solids: {a: {command: 'echo out; echo err >&2', stdout: out.txt, outputs: [out.txt]}}");
    assert_eq!(kit.prints(), "out\n");
    assert_eq!(kit.log(), "err\n");
}

#[test]
fn each_failure_has_its_own_words() {
    let check = |line: &str, cause: Cause, expected: &str| {
        let failure = Kit::line(line).fails();
        assert_eq!(failure.cause, cause, "{line}");
        assert_eq!(told(&failure), expected, "{line}");
    };
    check("exit 3", Cause::Exit(3), "exit status 3");
    check("kill -SEGV $$", Cause::Signal(11), "ended by SIGSEGV");
    check(
        "kill -KILL $$",
        Cause::Signal(9),
        "ended by SIGKILL / the system does that when there is no memory left",
    );
    check(
        "sh -c 'kill -KILL $$'",
        Cause::Exit(137),
        "exit status 137 / a shell says so when a program was ended by SIGKILL; the system does that when there is no \
         memory left",
    );
    check(
        "no-such-program",
        Cause::Exit(127),
        "exit status 127 / a program was not found: is it on PATH, or in a resource's `path`, or a script that is not \
         declared under `code`?",
    );
}

#[test]
fn a_program_that_cannot_be_started_says_why() {
    let check = |command: &str, files: &[(&str, &str)], expected: &str| {
        let code: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
        let yaml =
            format!("solids: {{a: {{code: [{}], command: {command}, stdout: result}}}}", code.join(", "));
        let mut kit = Kit::with_files(&yaml, files);
        kit.environment.vars.insert("PATH".to_owned(), "/nowhere:/bin".to_owned());
        let failure = kit.fails();
        assert_eq!(failure.cause, Cause::NotStarted);
        assert_eq!(told(&failure), expected);
    };
    check(
        "[no-such-program]",
        &[],
        "there is no program `no-such-program` on PATH (/nowhere:/bin) / install it, name its folder in a resource's \
         `path`, or write a script's path with a `/`: `./x`",
    );
    check(
        "[solids/a.sh]",
        &[],
        "there is no `solids/a.sh` in the step's folder / only what is declared is there: add `solids/a.sh` to its \
         `code`",
    );
    check("[./a.sh]", &[("a.sh", "echo")], "`./a.sh` is not executable / chmod +x './a.sh'");
    check(
        "[./a.sh]",
        &[("a.sh", "#!/no/such/interpreter\n")],
        "`./a.sh` could not be started: the interpreter that it names is not there / see its first line (`#!…`)",
    );
}

#[test]
fn a_zero_byte_is_refused_before_anything_starts() {
    let mut kit = Kit::new(
        r#"
solids:
  a:
    config: {x: {type: str, default: "a\0b"}}
    command: [echo, "{{ config.x }}"]
    stdout: result
"#,
    );
    let failure = kit.fails();
    assert_eq!(failure.cause, Cause::NotStarted);
    assert_eq!(told(&failure), "`ab…` holds a zero byte, which cannot be passed to a program");
}

#[test]
fn a_step_that_takes_too_long_is_ended_with_all_that_it_started() {
    let mut kit = Kit::line("sleep 1000 & echo $! > pid\n(sleep 1000 & echo $! >> pid; wait) &\nsleep 1000");
    kit.timeout = Some(Duration::from_millis(300));
    let failure = kit.fails();
    assert_eq!(failure.cause, Cause::Timeout);
    assert_eq!(told(&failure), "timed out after 300ms / give it a longer `timeout`, or none");
    assert_none_left(&kit, 2);
}

#[test]
fn what_a_step_leaves_behind_is_ended_before_its_outputs_are_read() {
    let line = "(trap '' TERM HUP; sh -c 'echo $$ >> pid; while :; do echo more >> outputs/result; done') &\nwhile ! test -s outputs/result; do :; done";
    let mut kit = Kit::line(line);
    let Produced::File(path) = &kit.runs()[0] else { panic!() };
    let before = fs::metadata(path).unwrap();
    assert_none_left(&kit, 1);
    let after = fs::metadata(path).unwrap();
    assert_eq!((before.size(), before.mtime_nsec()), (after.size(), after.mtime_nsec()));
}

/// The processes whose ids are in the step's file `pid` are gone, or dead and only not yet reaped by init.
fn assert_none_left(kit: &Kit, count: usize) {
    let pids = fs::read_to_string(kit.step_folder().join("pid")).unwrap();
    assert_eq!(pids.lines().count(), count, "{pids}");
    for pid in pids.lines() {
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
            let state = stat.rsplit(')').next().unwrap().trim().chars().next().unwrap();
            assert_eq!(state, 'Z', "{stat}");
        }
    }
}

#[test]
fn a_run_that_is_stopped_asks_first_and_insists_when_asked_again() {
    // It says that it was asked to end, which is when it is asked again.
    let line = "trap 'echo asked >> state' TERM\necho ready > state\nwhile :; do sleep 0.01; done";
    let mut kit = Kit::line(line);
    let cancel = Arc::new(Cancel::default());
    let state = folder::step(&kit.folder()).join("state");
    let stopper = std::thread::spawn({
        let cancel = Arc::clone(&cancel);
        move || {
            let until = |text: &str| {
                while !fs::read_to_string(&state).unwrap_or_default().contains(text) {
                    std::thread::yield_now();
                }
            };
            until("ready");
            cancel.request(Stop::Gently);
            until("asked");
            cancel.request(Stop::Now);
        }
    });
    let step = kit.graph.select("a").unwrap()[0];
    let at = kit.folder();
    fs::create_dir_all(&at).unwrap();
    kit.attempts += 1;
    let solid = kit.graph.solid(step);
    let attempted =
        CommandExecutor::new(&kit.environment).grace(Duration::from_secs(3600)).execute(&Attempt {
            step: "a",
            solid,
            config: &kit.graph.config(step),
            inputs: &[],
            resources: &[],
            files: &[],
            folder: &at,
            env: &[],
            secret_env: &[],
            secrets: &[],
            path: &[],
            log: &at.join("log"),
            timeout: None,
            grace: None,
            cpus: 1,
            cancel: &cancel,
            sandbox: None,
            scratch: None,
            meanwhile: &|| {},
        });
    stopper.join().unwrap();
    assert_eq!(attempted.outcome.unwrap_err().cause, Cause::Cancelled);
    assert!(attempted.elapsed < Duration::from_secs(600));
}

#[test]
fn nothing_is_started_once_the_run_is_stopped() {
    let mut kit = Kit::line("echo x > outputs/result");
    kit.cancel.request(Stop::Gently);
    let failure = kit.fails();
    assert_eq!((failure.cause, told(&failure).as_str()), (Cause::Cancelled, "stopped"));
    assert!(!kit.last().join("log").exists());
}

#[test]
fn secrets_are_blotted_out_of_what_is_captured() {
    let mut kit = Kit::new(
        "
solids:
  a:
    secrets: [TOKEN]
    config: {key: {type: str, default: swordfish, secret: true}}
    command: echo $TOKEN {{ config.key }} >&2; echo $TOKEN
    stdout: result
",
    );
    kit.env = vec![("TOKEN".to_owned(), "hunter2".to_owned())];
    kit.secrets = vec!["hunter2".to_owned(), "swordfish".to_owned()];
    // What it writes as an output is its result, and stays.
    assert_eq!(kit.prints(), "hunter2\n");
    assert_eq!(kit.log(), "*** ***\n");
}

/// A secret that is `true` blotted out every `true` of the log. What is blotted out is the caller's to say.
#[test]
fn a_secret_that_says_nothing_spoils_no_log() {
    let mut kit = Kit::new(
        "solids: {a: {config: {on: {type: bool, default: true, secret: true}}, command: 'echo true {{ config.on }} >&2', outputs: []}}",
    );
    assert!(kit.runs().is_empty());
    assert_eq!(kit.log(), "true true\n");
}

/// What failed only after the command had succeeded (a changed file, an output that cannot be stored) was kept
/// with its secrets.
#[test]
fn a_folder_is_fit_to_be_kept_however_late_it_failed() {
    for (line, config) in [("true", true), ("rm -f config.json", false)] {
        let long = "x".repeat(200_000);
        let mut kit = Kit::new(&format!(
            "solids: {{a: {{config: {{key: {{type: str, default: swordfish, secret: true}}}}, outputs: [], \
             command: '{line}; V={long}; : {{{{ config.key }}}}'}}}}"
        ));
        kit.keep = true;
        assert!(kit.runs().is_empty());
        let line = fs::read_to_string(kit.last().join("line")).unwrap();
        assert!(line.len() > 200_000 && !line.contains("swordfish"));
        let at = kit.step_folder().join("config.json");
        assert_eq!(at.exists(), config);
        assert!(!config || !fs::read_to_string(at).unwrap().contains("swordfish"));
        assert!(!fs::read_to_string(kit.last().join("run.sh")).unwrap().contains("swordfish"));
    }
}

#[test]
fn a_failed_folder_repeats_its_attempt() {
    let mut kit = Kit::with_files(
        "
solids:
  a:
    code: [lib.sh]
    secrets: [TOKEN]
    pass_env: [PROXY]
    env: [{SET: x}]
    config: {key: {type: str, default: swordfish, secret: true}, plain: {type: str, default: \"it's\"}}
    command: . ./lib.sh; echo {{ config.plain }} {{ config.key }} \"$SET\" $TOKEN $PROXY $CAS_STEP $HOME; exit 4
    stdout: result
",
        &[("lib.sh", "true")],
    );
    kit.env = [("SET", "a 'b'"), ("TOKEN", "hunter2"), ("PROXY", "http://p")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    kit.secrets = vec!["hunter2".to_owned()];
    assert_eq!(kit.fails().cause, Cause::Exit(4));
    let written = fs::read_to_string(kit.step_folder().join("outputs/result")).unwrap();
    assert!(written.starts_with("it's swordfish a 'b' hunter2 http://p a /"), "{written}");

    // It may have been moved to where failures are kept.
    let kept = kit.work.path().join("kept");
    fs::rename(kit.last(), &kept).unwrap();
    let script = kept.join("run.sh");
    let text = fs::read_to_string(&script).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("swordfish") && !text.contains("http://p"), "{text}");
    assert_eq!(fs::read_to_string(kept.join("step/config.json")).unwrap(), r#"{"key":"***","plain":"it's"}"#);
    let run = |token: Option<&str>| {
        let mut command = std::process::Command::new(&script);
        command.env_clear().env("PATH", &kit.environment.vars["PATH"]).env("PROXY", "again");
        command.envs(token.map(|token| ("TOKEN", token)));
        command.output().unwrap()
    };
    let refused = run(None);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("TOKEN: is a secret of this step"));
    assert_eq!(run(Some("hunter2")).status.code(), Some(4));
    let written = fs::read_to_string(kept.join("step/outputs/result")).unwrap();
    let home = kept.canonicalize().unwrap().join("home");
    assert_eq!(written, format!("it's *** a 'b' hunter2 again a {}\n", home.display()));
}

#[test]
fn a_line_that_is_too_long_for_an_argument_goes_through_a_file() {
    for shell in ["sh", "bash", "[bash, -c]"] {
        let long = "x".repeat(200_000);
        let yaml = format!(
            "solids: {{a: {{shell: {shell}, command: 'V={long}; echo ${{#V}}; false', stdout: result}}}}"
        );
        let mut kit = Kit::new(&yaml);
        assert_eq!(kit.fails().cause, Cause::Exit(1), "{shell}");
        let result = kit.step_folder().join("outputs/result");
        assert_eq!(fs::read_to_string(&result).unwrap(), "200000\n");
        let again = std::process::Command::new(kit.last().join("run.sh")).status().unwrap();
        assert_eq!(again.code(), Some(1));
        assert_eq!(fs::read_to_string(&result).unwrap(), "200000\n");
    }
    let yaml = format!("solids: {{a: {{command: [echo, {}], stdout: result}}}}", "x".repeat(200_000));
    let failure = Kit::new(&yaml).fails();
    assert_eq!(failure.cause, Cause::NotStarted);
    assert_eq!(
        told(&failure),
        "its command line and environment are longer than the system takes (200006 bytes of arguments) / pass long \
         lists through a file: every input is one"
    );
}

#[test]
fn a_source_that_is_gone_is_told_by_name() {
    let yaml = "solids: {a: {code: [a.py], command: echo, stdout: result}}";
    let mut kit = Kit::with_files(yaml, &[("a.py", "")]);
    let gone = kit.project.path().join("a.py");
    fs::remove_file(&gone).unwrap();
    let failure = kit.fails();
    assert_eq!(failure.cause, Cause::SourceChanged);
    assert_eq!(failure.message, format!("`{}` is not there any more", gone.display()));
}

#[test]
fn programs_that_were_just_written_can_be_executed_while_others_are_started() {
    // A child that has not executed its program yet holds open what other threads are writing; then the kernel
    // refuses to execute that ("text file busy").
    let yaml = "solids: {a: {code: [tool], command: [./tool], stdout: result}}";
    let kits: Vec<Kit> = (0..4).map(|_| Kit::with_files(yaml, &[("tool", "#!/bin/sh\necho x\n")])).collect();
    let executor = CommandExecutor::new(&kits[0].environment);
    std::thread::scope(|scope| {
        for kit in kits {
            let executor = &executor;
            scope.spawn(move || {
                let step = kit.graph.select("a").unwrap()[0];
                for attempt in 0..50 {
                    let at = kit.work.path().join(attempt.to_string());
                    fs::create_dir_all(&at).unwrap();
                    let attempted = executor.execute(&Attempt {
                        step: "a",
                        solid: kit.graph.solid(step),
                        config: &kit.graph.config(step),
                        inputs: &[],
                        resources: &[],
                        files: &kit.files(),
                        folder: &at,
                        env: &[],
                        secret_env: &[],
                        secrets: &[],
                        path: &[],
                        log: &at.join("log"),
                        timeout: None,
                        grace: None,
                        cpus: 1,
                        cancel: &kit.cancel,
                        sandbox: None,
                        scratch: None,
                        meanwhile: &|| {},
                    });
                    assert!(attempted.outcome.is_ok(), "{:?}", attempted.outcome);
                }
            });
        }
    });
}
