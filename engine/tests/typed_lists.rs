//! Lists that a body yields, and the bodies that are mapped over them: which were called, in order, and what came back.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use cas_engine::event::{Event, Outcome};
use cas_engine::typed::{Builder, Options, Res, Run, Share, run, value};
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

/// A store, a project, and the log of what was called.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn run(&self, p: Builder, steps: &[&str]) -> (Run, Vec<String>, Vec<Event>) {
        let file = self.0.path().join("log");
        let _ = fs::remove_file(&file);
        let pipeline = p.folder(self.0.path()).build().unwrap_or_else(|error| panic!("{error:?}"));
        let steps = steps.iter().map(|step| (*step).to_owned()).collect();
        // One at a time, so that the order is that of the plan.
        let mut options = Options { jobs: 1, steps, ..Options::default() };
        if pipeline.resources.contains_key("log") {
            let config = LogConfig { file: file.display().to_string() };
            options = options.resource_config("log", &config).expect("a config");
        }
        let mut events = Vec::new();
        let ran = run(&pipeline, &self.0.path().join("store"), options, |event| events.push(event.clone()))
            .unwrap_or_else(|error| panic!("{error:?}"));
        let called = fs::read_to_string(&file).unwrap_or_default();
        (ran, called.lines().map(str::to_owned).collect(), events)
    }
}

fn lines(text: String, log: Arc<Log>) -> Vec<String> {
    log.say("lines");
    text.lines().map(str::to_owned).collect()
}

fn shout(line: String, log: Arc<Log>) -> String {
    log.say(&format!("shout {line}"));
    line.to_uppercase()
}

fn join(all: Vec<(String, String)>, log: Arc<Log>) -> String {
    log.say("join");
    all.into_iter().map(|(label, line)| format!("{label}={line}")).collect::<Vec<_>>().join(" ")
}

/// A list of lines, something done with each, and all of it together.
fn song(text: &str) -> (Builder, cas_engine::typed::Out<String>) {
    let mut p = Builder::new("song");
    let log = log(&mut p);
    let lines = p.solid("lines", "1").input("text", value(text.to_owned())).resource(&log).list().run(lines);
    let shout = p.solid("shout", "1").map("line", &lines).resource(&log).run(shout);
    let joined = p.solid("join", "1").input("all", shout.all()).resource(&log).run(join);
    (p, joined)
}

#[test]
fn one_changed_element_reruns_one_step_and_an_inserted_one_moves_no_other() {
    let place = Place::new();
    let (p, joined) = song("do\nre\nmi");
    let (ran, called, _) = place.run(p, &[]);
    assert_eq!(called, ["lines", "shout do", "shout re", "shout mi", "join"]);
    assert_eq!(ran.get(&joined).expect("it is there"), "do=DO re=RE mi=MI");
    drop(ran);
    let (p, _) = song("do\nre\nmi");
    assert_eq!(place.run(p, &[]).1, [""; 0]);
    let (p, joined) = song("do\nray\nmi");
    let (ran, called, _) = place.run(p, &[]);
    assert_eq!(called, ["lines", "shout ray", "join"]);
    assert_eq!(ran.get(&joined).expect("it is there"), "do=DO ray=RAY mi=MI");
    drop(ran);
    let (p, joined) = song("a\ndo\nray\nmi");
    let (ran, called, _) = place.run(p, &[]);
    assert_eq!(called, ["lines", "shout a", "join"]);
    assert_eq!(ran.get(&joined).expect("it is there"), "a=A do=DO ray=RAY mi=MI");
    drop(ran);
    // Moved, and one taken away: nothing is worked on again but what sees the order.
    let (p, joined) = song("mi\ndo");
    let (ran, called, _) = place.run(p, &[]);
    assert_eq!(called, ["lines", "join"]);
    assert_eq!(ran.get(&joined).expect("it is there"), "mi=MI do=DO");
}

#[test]
fn a_list_without_elements_is_gathered_as_nothing() {
    let place = Place::new();
    let (p, joined) = song("");
    let (ran, called, _) = place.run(p, &[]);
    assert_eq!(called, ["lines", "join"]);
    assert_eq!(ran.get(&joined).expect("it is there"), "");
}

#[test]
fn one_element_is_named_and_made_alone() {
    let place = Place::new();
    let (p, _) = song("do\nre\nmi");
    assert_eq!(place.run(p, &["shout[line=re]"]).1, ["lines", "shout re"]);
    let (p, _) = song("do\nre\nmi");
    assert_eq!(place.run(p, &[]).1, ["shout do", "shout mi", "join"]);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Case {
    seed: u32,
    name: Option<String>,
}

#[test]
fn elements_are_values_lists_nest_and_meet_element_by_element() {
    let place = Place::new();
    let mut p = Builder::new("cases");
    let cases = p
        .solid("cases", "1")
        .list()
        .run(|| [Case { seed: 1, name: None }, Case { seed: 2, name: Some("two".to_owned()) }]);
    let parts = p.solid("parts", "1").map("case", &cases).list().run(|case: Case| 0..case.seed);
    let square = p.solid("square", "1").map("part", &parts).run(|part: u32| u64::from(part * part));
    // The element and what was made of all of its parts.
    let sums = p
        .solid("sums", "1")
        .map("case", &cases)
        .input("squares", square.all())
        .run(|case: Case, squares: Vec<(String, u64)>| (case, squares.len() as u64));
    let whole = cases.whole();
    let all = p.solid("all", "1").input("cases", whole).input("sums", sums.all()).run(
        |cases: Vec<Case>, sums: Vec<(String, (Case, u64))>| {
            assert!(cases.iter().zip(&sums).all(|(case, (_, (own, _)))| case == own));
            sums.into_iter().map(|(_, (case, parts))| (case.seed, parts)).collect::<Vec<_>>()
        },
    );
    let (ran, ..) = place.run(p, &[]);
    assert_eq!(ran.get(&all).expect("it is there"), [(1, 1), (2, 2)]);
    assert_eq!(ran.get(&cases.whole()).expect("it is there")[1].name.as_deref(), Some("two"));
}

#[test]
fn a_command_is_mapped_over_a_list_of_values() {
    let place = Place::new();
    let mut p = Builder::new("mixed");
    let cases = p.solid("cases", "1").list().run(|| vec![String::from("a b"), String::from("c")]);
    let _ = p
        .shell("count", "wc -c < {{ inputs.case }} > {{ outputs.result }}")
        .map("case", &cases)
        .any_platform()
        .add();
    let (_, _, events) = place.run(p, &[]);
    let ran =
        events.iter().filter(|event| matches!(event, Event::StepFinished { outcome: Outcome::Ran, .. }));
    assert_eq!(ran.count(), 3);
}

#[test]
fn elements_that_would_look_the_same_fail_the_step_that_yields_them() {
    let place = Place::new();
    let mut p = Builder::new("doubtful");
    let _ = p.solid("doubtful", "1").list().run(|| vec![None, Some(String::from("null"))]);
    let (_, _, events) = place.run(p, &[]);
    let told = events.iter().find_map(|event| match event {
        Event::StepFinished { failure: Some(report), .. } => Some(report.failure.message.clone()),
        _ => None,
    });
    assert!(
        told.as_deref().is_some_and(|told| told.contains("`null` may be a text or something else")),
        "{told:?}"
    );
}

/// Fails for the lines that begin with `x`.
fn sing(line: String, log: Arc<Log>) -> Result<String, String> {
    log.say(&format!("sing {line}"));
    if line.starts_with('x') { Err(format!("cannot sing {line}")) } else { Ok(line.to_uppercase()) }
}

/// Lines that are sung, and those of them that could be, together: where no more than so many could not.
fn choir(text: &str, most: Option<Share>) -> (Builder, cas_engine::typed::Out<String>) {
    let mut p = Builder::new("choir");
    let log = log(&mut p);
    let lines = p.solid("lines", "1").input("text", value(text.to_owned())).resource(&log).list().run(lines);
    let sung = p.solid("sing", "1").map("line", &lines).resource(&log).run_fallible(sing);
    let there = match most {
        Some(most) => sung.all().skip_failed().max_failed(most),
        None => sung.all().skip_failed(),
    };
    let joined = p.solid("join", "1").input("all", there).resource(&log).run(join);
    (p, joined)
}

#[test]
fn a_gather_goes_on_without_the_elements_that_failed() {
    let place = Place::new();
    let (p, joined) = choir("do\nxre\nmi", None);
    let (ran, called, _) = place.run(p, &[]);
    assert_eq!(called, ["lines", "sing do", "sing xre", "sing mi", "join"]);
    assert_eq!(ran.get(&joined).expect("it is there"), "do=DO mi=MI");
    drop(ran);
    // What failed is tried again; what was made of the others stands for the list that was there.
    let (p, _) = choir("do\nxre\nmi", None);
    assert_eq!(place.run(p, &[]).1, ["sing xre"]);
    // Another one that fails is another list, but only those that are there count.
    let (p, joined) = choir("do\nxmi\nmi", None);
    let (ran, called, _) = place.run(p, &[]);
    assert_eq!(called, ["lines", "sing xmi"]);
    assert_eq!(ran.get(&joined).expect("it is there"), "do=DO mi=MI");
}

#[test]
fn more_than_may_fail_skip_the_gather() {
    let place = Place::new();
    let (p, _) = choir("do\nfa\nxre\nxmi", Some(Share::Count(1)));
    let (_, called, events) = place.run(p, &[]);
    assert_eq!(called, ["lines", "sing do", "sing fa", "sing xre", "sing xmi"]);
    let joined = events.iter().find_map(|event| match event {
        Event::StepFinished { step, outcome, .. } if step == "join" => Some(*outcome),
        _ => None,
    });
    assert_eq!(joined, Some(Outcome::Skipped));
    // Half of them is no more than half.
    let (p, joined) = choir("do\nfa\nxre\nxmi", Some(Share::Percent(50.0)));
    let (ran, called, _) = place.run(p, &[]);
    assert_eq!(called, ["sing xre", "sing xmi", "join"]);
    assert_eq!(ran.get(&joined).expect("it is there"), "do=DO fa=FA");
}
