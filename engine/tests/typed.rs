//! Pipelines in Rust: which bodies were called, in order, and what came back.
//!
//! A body captures nothing, so it cannot count its calls itself: a resource does, which each test gives the
//! body through its own pipeline, and which writes to a file in the test's folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cas_engine::error::EngineError;
use cas_engine::event::{Event, Outcome};
use cas_engine::execute::Cause;
use cas_engine::typed::{
    Axis, Builder, Bytes, Context, Directory, File, GetError, Json, Options, Out, Res, Run, Secret, Text,
    crate_version, default, file_version, path, run, value,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Where bodies write that they were called.
#[derive(Serialize, Deserialize)]
struct LogConfig {
    file: String,
}

struct Log(PathBuf);

impl Log {
    fn say(&self, word: &str) {
        let before = fs::read_to_string(&self.0).unwrap_or_default();
        fs::write(&self.0, format!("{before}{word}\n")).expect("the log can be written");
    }
}

fn log(p: &mut Builder) -> Res<Log> {
    p.resource("log").version("1").config::<LogConfig>().open(|config: LogConfig| Log(config.file.into()))
}

/// A folder for a test: a project, a store, and the log of what was called.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("project")).expect("a project");
        Self { dir }
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn options(&self) -> Options {
        let file = self.log().display().to_string();
        // One at a time, so that the order is that of the plan.
        Options { jobs: 1, ..Options::default() }
            .resource_config("log", &LogConfig { file })
            .expect("a config")
    }

    /// Runs, and gives what was called.
    fn run(&self, p: Builder, options: Options) -> (Run, Vec<String>) {
        let (run, called, _) = self.run_telling(p, options);
        (run, called)
    }

    fn run_telling(&self, p: Builder, options: Options) -> (Run, Vec<String>, Vec<Event>) {
        let _ = fs::remove_file(self.log());
        let pipeline = p.build().unwrap_or_else(|error| panic!("{error:?}"));
        let mut events = Vec::new();
        let ran = run(&pipeline, &self.dir.path().join("store"), options, |event| events.push(event.clone()))
            .unwrap_or_else(|error| panic!("{error:?}"));
        let called = fs::read_to_string(self.log()).unwrap_or_default();
        (ran, called.lines().map(str::to_owned).collect(), events)
    }
}

fn failures(events: &[Event]) -> Vec<(String, Cause, String)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::StepFinished { step, failure: Some(report), .. } => {
                Some((step.clone(), report.failure.cause, report.failure.message.clone()))
            }
            _ => None,
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Dog {
    dog_breed: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree {
    tree_species: String,
}

fn dog_and_tree(place: &Place) -> (Builder, Out<String>, Out<String>) {
    let mut p = Builder::new("dog_tree").folder(place.project());
    let log = log(&mut p);
    let dog = p.solid("emit_dog", "1").config::<Dog>().resource(&log).run(|config: Dog, log: Arc<Log>| {
        log.say("dog");
        config.dog_breed
    });
    let tree =
        p.solid("emit_tree", "1").config::<Tree>().resource(&log).run(|config: Tree, log: Arc<Log>| {
            log.say("tree");
            config.tree_species
        });
    let sentence =
        p.solid("emit_sentence", "1").input("dog_breed", &dog).input("tree", tree).resource(&log).run(
            |dog: String, tree: String, log: Arc<Log>| {
                log.say("sentence");
                format!("{dog} under {tree}")
            },
        );
    (p, dog, sentence)
}

fn given(place: &Place, dog: &str, tree: &str) -> Options {
    place
        .options()
        .config("emit_dog", &Dog { dog_breed: dog.into() })
        .and_then(|options| options.config("emit_tree", &Tree { tree_species: tree.into() }))
        .expect("config")
}

#[test]
fn only_what_a_changed_config_concerns_runs_again() {
    let place = Place::new();
    let (p, dog, sentence) = dog_and_tree(&place);
    let (run, called) = place.run(p, given(&place, "poodle", "douglas_fir"));
    assert_eq!(called, ["dog", "tree", "sentence"]);
    assert_eq!(run.get(&sentence).expect("a result"), "poodle under douglas_fir");
    drop(run);

    let (p, _, sentence) = dog_and_tree(&place);
    let (run, called) = place.run(p, given(&place, "poodle", "red_maple"));
    assert_eq!(called, ["tree", "sentence"]);
    assert_eq!(run.get(&sentence).expect("a result"), "poodle under red_maple");
    assert_eq!(run.get(&dog).expect("a result"), "poodle");
    drop(run);

    let (p, _, sentence) = dog_and_tree(&place);
    let (run, called) = place.run(p, given(&place, "poodle", "douglas_fir"));
    assert_eq!(called, Vec::<String>::new());
    assert_eq!(run.get(&sentence).expect("a result"), "poodle under douglas_fir");
    assert_eq!((run.summary().reused, run.summary().ran), (3, 0));
}

#[test]
fn a_changed_version_or_type_runs_again_and_a_renamed_step_does_not() {
    #[derive(Serialize, Deserialize)]
    struct Small {
        n: u8,
    }
    #[derive(Serialize, Deserialize)]
    struct Large {
        n: u16,
    }
    let place = Place::new();
    let pipeline = |version: &str, alias: &str, large: bool| {
        let mut p = Builder::new("p").folder(place.project());
        let log = log(&mut p);
        let solid = p.solid("n", version).alias(alias).resource(&log);
        if large {
            solid.run(|log: Arc<Log>| {
                log.say("large");
                Large { n: 300 }
            });
        } else {
            solid.run(|log: Arc<Log>| {
                log.say("small");
                Small { n: 3 }
            });
        }
        place.run(p, place.options()).1
    };
    assert_eq!(pipeline("1", "n", false), ["small"]);
    assert_eq!(pipeline("1", "other", false), Vec::<String>::new());
    assert_eq!(pipeline("2", "n", false), ["small"]);
    assert_eq!(pipeline("1", "n", true), ["large"]);
    assert_eq!(pipeline("1", "n", false), Vec::<String>::new());
}

#[test]
fn fan_ins_matrices_gathers_and_picks_arrive_in_order() {
    let place = Place::new();
    let mut p = Builder::new("p").folder(place.project());
    let n = Axis::new("n", [3_u32, 1, 2]);
    let square = p.solid("square", "1").over(&n).run(|n: u32| n * n);
    let plus = p.solid("plus", "1").input("square", &square).over(&n).run(|square: u32, n: u32| square + n);
    let all = p.solid("all", "1").input("plus", plus.all()).run(|plus: Vec<(String, u32)>| plus);
    let one = p.solid("one", "1").input("square", square.at("n", 2)).run(|square: u32| square);
    let sum = p.solid("sum", "1").input("parts", vec![one.clone(), one]).run(|parts: Vec<u32>| parts);
    let (run, _) = place.run(p, Options::default());
    let expected = [("3", 12), ("1", 2), ("2", 6)].map(|(label, value)| (label.to_owned(), value));
    assert_eq!(run.get(&all).expect("a result"), expected);
    assert_eq!(run.get(&sum).expect("a result"), [4, 4]);
    assert_eq!(run.get_all(&plus).expect("results"), expected);
    assert!(matches!(run.get(&plus), Err(GetError::Many { elements: 3, .. })));
}

#[test]
fn several_outputs_codecs_files_and_folders_come_back_as_they_were_made() {
    let place = Place::new();
    let mut p = Builder::new("p").folder(place.project());
    let (words, bytes, table, none) = p
        .solid("many", "1")
        .output::<Text>("words.txt")
        .output::<Bytes>("bytes")
        .output::<Json>("table")
        .optional_output::<Text>("none")
        .run(|| {
            let table = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
            ("some words".to_owned(), vec![0_u8, 255], table, None)
        });
    let (file, folder) = p.solid("files", "1").context().file("file").directory("folder").run_fallible(
        |context: Context| -> std::io::Result<(File, Directory)> {
            let (file, folder) = (context.folder().join("x"), context.folder().join("y"));
            fs::write(&file, "in a file")?;
            fs::create_dir(&folder)?;
            fs::write(folder.join("z"), "in a folder")?;
            Ok((File::new(file), Directory::new(folder)))
        },
    );
    let read = p.solid("read", "1").input("file", &file).input("folder", &folder).run_fallible(
        |file: File, folder: Directory| -> std::io::Result<String> {
            Ok(fs::read_to_string(file.path())? + " and " + &fs::read_to_string(folder.path().join("z"))?)
        },
    );
    let below = p.solid("below", "1").input("none", &none).run(|none: String| none);
    let (run, _) = place.run(p, Options { all: true, ..Options::default() });
    assert_eq!(run.get(&words).expect("words"), "some words");
    assert_eq!(run.get(&bytes).expect("bytes"), [0, 255]);
    assert_eq!(run.get(&table).expect("a table")["b"], 2);
    assert!(matches!(run.get(&none), Err(GetError::Absent { .. })));
    assert_eq!(run.get(&read).expect("a text"), "in a file and in a folder");
    assert_eq!(fs::read_to_string(run.get(&file).expect("a file").path()).expect("read"), "in a file");
    let laid = run.get(&folder).expect("a folder").path().to_owned();
    assert_eq!(fs::read_to_string(laid.join("z")).expect("read"), "in a folder");
    assert_eq!(run.outcomes()["below"], Outcome::Skipped);
    assert!(matches!(run.get(&below), Err(GetError::NotMade { .. })));
    drop(run);
    assert!(!laid.exists());
}

#[test]
fn a_panic_an_error_and_a_time_out_are_failures_of_the_step() {
    let place = Place::new();
    let mut p = Builder::new("p").folder(place.project());
    let panics = p.solid("panics", "1").run(|| -> u8 { panic!("no dogs") });
    p.solid("errs", "1").run_fallible(|| -> Result<u8, String> { Err("no trees".to_owned()) });
    p.solid("slow", "1").timeout(Duration::from_millis(1)).context().run(|context: Context| {
        while !context.stopped() {
            std::thread::yield_now();
        }
        0_u8
    });
    let below = p.solid("below", "1").input("x", &panics).run(|x: u8| x);
    let options = Options { keep_going: true, jobs: 1, ..Options::default() };
    let (run, _, events) = place.run_telling(p, options);
    assert_eq!(
        failures(&events),
        [
            ("panics".to_owned(), Cause::Panic, "it panicked: no dogs".to_owned()),
            ("errs".to_owned(), Cause::Error, "no trees".to_owned()),
            ("slow".to_owned(), Cause::Timeout, "it took longer than 1ms".to_owned()),
        ]
    );
    assert_eq!(run.outcomes()["below"], Outcome::Skipped);
    assert!(matches!(run.get(&below), Err(GetError::NotMade { .. })));
    assert!(matches!(run.get(&panics), Err(GetError::NotMade { outcome: Some(Outcome::Failed), .. })));
}

#[test]
fn resources_are_opened_once_and_only_if_a_step_that_needs_them_runs() {
    let place = Place::new();
    let pipeline = || {
        let mut p = Builder::new("p").folder(place.project());
        let log = log(&mut p);
        let tool = p.resource("tool").version("1").needs(&log).open(|log: Arc<Log>| {
            log.say("opened");
            7_u32
        });
        let unused = p.resource("unused").version("1").needs(&log).open(|log: Arc<Log>| log.say("never"));
        for name in ["a", "b"] {
            p.solid("use", "1").alias(name).input("name", value(name.to_owned())).resource(&tool).run(used);
        }
        let _ = unused;
        p
    };
    fn used(name: String, tool: Arc<u32>) -> String {
        format!("{name}{tool}")
    }
    let (run, called) = place.run(pipeline(), place.options());
    assert_eq!((called, run.summary().ran), (vec!["opened".to_owned()], 2));
    drop(run);
    let (_, called) = place.run(pipeline(), place.options());
    assert_eq!(called, Vec::<String>::new());
}

#[test]
fn a_resource_that_cannot_be_opened_fails_the_steps_that_need_it() {
    let place = Place::new();
    let mut p = Builder::new("p").folder(place.project());
    let bad: Res<u8> = p.resource("bad").version("1").open_fallible(|| Err::<u8, _>("no such host"));
    p.solid("needs", "1").resource(&bad).run(|bad: Arc<u8>| *bad);
    p.solid("does_not", "1").run(|| 1_u8);
    let options = Options { keep_going: true, jobs: 1, ..Options::default() };
    let (run, _, events) = place.run_telling(p, options);
    let message = "resource `bad` could not be opened: no such host".to_owned();
    assert_eq!(failures(&events), [("needs".to_owned(), Cause::Error, message)]);
    assert_eq!(run.outcomes()["does_not"], Outcome::Ran);
}

#[test]
fn a_mode_replaces_a_resource_and_so_the_versions_of_those_that_need_it() {
    let place = Place::new();
    let pipeline = || {
        let mut p = Builder::new("p").folder(place.project());
        let number = p.resource("number").version("real").open(|| 1_u8);
        p.mode("test").replace(&number).version("fake").open(|| 2_u8);
        let _ = p.mode("default");
        let out = p.solid("out", "1").resource(&number).run(|number: Arc<u8>| *number);
        (p, out)
    };
    for (mode, expected, ran) in [("default", 1, 1), ("test", 2, 1), ("default", 1, 0)] {
        let (p, out) = pipeline();
        let (run, _) = place.run(p, Options::default().mode(mode));
        assert_eq!((run.get(&out).expect("a number"), run.summary().ran), (expected, ran), "{mode}");
    }
}

#[test]
fn commands_and_functions_read_each_others_outputs() {
    let place = Place::new();
    fs::write(place.project().join("more.txt"), "pug\n").expect("written");
    let mut p = Builder::new("p").folder(place.project());
    let dogs = p.solid("dogs", "1").codec::<Text>().run(|| "poodle\nbeagle\n".to_owned());
    let sorted = p
        .shell("sorted", "sort {{ inputs.dogs }} {{ inputs.more }} > {{ outputs.result }}")
        .input("dogs.txt", dogs)
        .input("more", path("more.txt"))
        .add();
    let first =
        p.solid("first", "1").input("sorted", sorted.result()).input("n", default(1_usize)).run_fallible(
            |sorted: File, n: usize| -> std::io::Result<String> {
                Ok(fs::read_to_string(sorted.path())?.lines().take(n).collect())
            },
        );
    let environment = cas_engine::source::Environment {
        vars: std::env::vars().filter(|(name, _)| name == "PATH").collect(),
    };
    let options = Options { environment, ..Options::default() };
    let (run, _) = place.run(p, options);
    assert_eq!(run.get(&first).expect("a dog"), "beagle");
    assert_eq!(
        fs::read_to_string(run.get(&sorted.result()).expect("a file").path()).expect("read"),
        "beagle\npoodle\npug\n"
    );
}

fn wrong(p: Builder) -> Vec<String> {
    match p.build() {
        Err(EngineError::Definition(diagnostics)) => {
            diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// What a file is refused for, a builder took: `..`, absolute folders, and `outputs` itself as a scratch folder.
#[test]
fn build_refuses_of_a_command_what_a_file_is_refused_for() {
    let mut p = Builder::new("p");
    p.shell("a", "true")
        .no_outputs()
        .scratch("/tmp")
        .scratch("../x")
        .scratch("./outputs/a")
        .scratch("target")
        .scratch("target/deps")
        .add();
    p.shell("b", "true").output_at("site", "build").scratch("build/cache").add();
    p.shell("c", "true")
        .no_outputs()
        .limit("cpus", 2)
        .limit("gpu", 0)
        .limit("a b", 1)
        .cpus(0)
        .memory(0)
        .add();
    assert_eq!(
        wrong(p),
        [
            "`/tmp` is no folder in the step's folder",
            "`../x` is no folder in the step's folder",
            "`outputs/a` cannot be a scratch folder: `outputs` is cas's",
            "`target/deps` and `target` are, or hold, the same folder",
            "`build/cache` cannot be a scratch folder: the output `site` holds it",
            "the solid `c` uses 0 of the cores",
            "the solid `c` uses 0 of the memory",
            "`a b` is no name for a limit",
            "`cpus` of `c` is no limit that one names",
            "the solid `c` uses 0 of the limit `gpu`",
        ]
    );
}

#[test]
fn build_names_what_the_compiler_cannot_see() {
    let mut p = Builder::new("p");
    p.solid("a", "").run(|| 1_u8);
    p.resource("tool").define();
    assert_eq!(wrong(p), ["solid `typed::a` has no version", "resource `tool` has no version"]);

    let mut p = Builder::new("p");
    p.solid("a", "1").run(|| 1_u8);
    p.solid("b", "1").alias("a").run(|| 1_u8);
    assert_eq!(wrong(p), ["there are two steps `a`"]);

    let mut p = Builder::new("p");
    p.solid("a", "1").run(|| 1_u8);
    p.solid("a", "1").alias("b").run(|| 2_u8);
    assert!(wrong(p)[0].starts_with("`b`: solid `typed::a` has another body already"));

    let mut p = Builder::new("p");
    let a = p.solid("a", "1").run(|| 1_u8);
    p.shell("b", "cat {{ inputs.a }}").input("a", a).no_outputs().add();
    assert_eq!(wrong(p), ["input `a` of `b` needs `a.result` as a file, and `bincode` has no form as one"]);

    let mut p = Builder::new("p");
    let mut other = Builder::new("other");
    let a = other.solid("a", "1").run(|| 1_u16);
    p.solid("b", "1").input("a", a.clone()).run(|a: u16| a);
    assert_eq!(wrong(p), ["input `a` of `b` refers to step `a`, which is not in this pipeline"]);

    let mut p = Builder::new("p");
    p.solid("a", "1").run(|| 1_u8);
    p.solid("b", "1").input("a", a).run(|a: u16| a);
    assert!(wrong(p)[0].contains("as something that it is not"));

    let mut p = Builder::new("p");
    p.solid("a", "1").run(|| -> Result<u8, String> { Ok(1) });
    assert!(wrong(p)[0].starts_with("`a`: its body returns a `Result`"));

    let mut p = Builder::new("p");
    p.solid("no name!", "1").run(|| 1_u8);
    assert_eq!(wrong(p), ["`no name!` is no name for a step"]);

    let mut p = Builder::new("p");
    let one = p.resource("one").version("1").define();
    let two = p.resource("two").version("1").needs(&one).open(|_: Arc<()>| ());
    p.mode("round").replace(&one).version("2").needs(&two).open(|_: Arc<()>| ());
    assert_eq!(wrong(p), ["resource `one` needs itself: one → two → one"]);
}

#[test]
fn a_secret_counts_and_is_not_told() {
    #[derive(Serialize, Deserialize)]
    struct Login {
        password: Secret<String>,
    }
    let place = Place::new();
    let run = |password: &str| {
        let mut p = Builder::new("p").folder(place.project());
        let length = p.solid("login", "1").config::<Login>().run(|config: Login| config.password.0.len());
        let login = Login { password: Secret(password.to_owned()) };
        let (run, _) = place.run(p, Options::default().config("login", &login).expect("config"));
        (run.get(&length).expect("a length"), run.summary().ran)
    };
    assert_eq!(run("hush-hush"), (9, 1));
    assert_eq!(run("hush-hush"), (9, 0));
    assert_eq!(run("whisper-9"), (9, 1));
    assert_eq!(found_in(&place.dir.path().join("store"), b"hush-hush"), Vec::<PathBuf>::new());
}

/// The files below a folder that hold these bytes.
fn found_in(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(found_in(&path, bytes));
        } else if path.is_file()
            && fs::read(&path).is_ok_and(|text| text.windows(bytes.len()).any(|window| window == bytes))
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn versions_of_code_come_from_the_files() {
    // The same file twice is the same; with another file beside it, it is another version.
    assert_eq!(file_version!(), file_version!());
    assert_ne!(file_version!(), file_version!("../Cargo.toml"));
    assert_ne!(file_version!("../Cargo.toml"), crate_version!());
    assert_eq!(crate_version!(), crate_version!());
}

/// A folder for each of 100,000 functions was a quarter of what they took, and few functions look at theirs.
#[test]
fn a_function_has_a_folder_as_soon_as_it_can_see_it() {
    fn others(work: &str) -> u64 {
        fs::read_dir(work).map_or(0, |entries| entries.count() as u64)
    }

    let place = Place::new();
    let work = place.dir.path().join("store/work").display().to_string();
    let mut p = Builder::new("p").folder(place.project());
    let unseen = p.solid("unseen", "1").input("work", value(work.clone())).run(|work: String| others(&work));
    let seen =
        p.solid("seen", "1").input("work", value(work)).context().run(|work: String, context: Context| {
            fs::write(context.folder().join("note"), "mine").expect("it can be written to");
            others(&work)
        });
    let (run, _) = place.run(p, Options { jobs: 1, all: true, ..Options::default() });
    assert_eq!((run.get(&unseen).expect("a value"), run.get(&seen).expect("a value")), (0, 1));
    // Both are gone with their attempts.
    assert_eq!(others(&place.dir.path().join("store/work").display().to_string()), 0);
}
