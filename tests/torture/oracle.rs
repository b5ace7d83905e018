//! What is known of the steps from outside of the store: what each has to give, who began it, who was killed.
//!
//! Every step that runs writes a line into one file, and so does whoever is about to kill a process. Lines are appended
//! whole, so their order is the order in which things happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::chance::Chance;

/// A step of all pipelines that have it: solids are shared, so its version is the same in each.
struct Step {
    inputs: Vec<usize>,
    lines: u64,
    is_folder: bool,
    pause: &'static str,
}

/// All steps that there are, each after what it needs.
pub(crate) struct Universe {
    steps: Vec<Step>,
    log: PathBuf,
}

impl Universe {
    pub(crate) fn new(chance: &mut Chance, steps: usize, log: &Path) -> Self {
        let step = |number: usize, chance: &mut Chance| {
            let mut inputs: BTreeSet<usize> = BTreeSet::new();
            for _ in 0..chance.below(3) {
                // Not far back: chains, whose results are each needed by a few.
                let back = 1 + chance.below(6) as usize;
                inputs.extend(number.checked_sub(back));
            }
            Step {
                inputs: inputs.into_iter().collect(),
                lines: [1, 3, 40, 400, 4000][chance.below(5) as usize],
                is_folder: chance.below(5) == 0,
                pause: ["0", "0", "0.02", "0.1"][chance.below(4) as usize],
            }
        };
        Self { steps: (0..steps).map(|number| step(number, chance)).collect(), log: log.to_owned() }
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// A pipeline of these steps and of all that they need.
    pub(crate) fn pipeline(&self, wanted: impl IntoIterator<Item = usize>) -> String {
        let mut chosen = BTreeSet::new();
        let mut open: Vec<usize> = wanted.into_iter().collect();
        while let Some(step) = open.pop() {
            if chosen.insert(step) {
                open.extend(&self.steps[step].inputs);
            }
        }
        let mut text = "pipeline: torture\nconfig: {round: {type: int, default: 0}}\nsolids:\n".to_owned();
        for step in chosen {
            self.define(step, &mut text);
        }
        text
    }

    fn define(&self, number: usize, text: &mut String) {
        let Step { inputs, lines, is_folder, pause } = &self.steps[number];
        let named: Vec<String> = inputs.iter().map(|input| format!("i{input}: s{input}")).collect();
        let _ = write!(
            text,
            "  s{number}:\n    config: {{round: $round}}\n    inputs: {{{}}}\n    pass_env: [TORTURE]\n    command: |\n",
            named.join(", "),
        );
        let mut say = |line: String| *text += &format!("      {line}\n");
        say("round={{ config.round }}".to_owned());
        say(format!("echo \"start s{number}.$round $TORTURE\" >> {}", self.log.display()));
        say(format!("line=\"s{number}.$round(\""));
        for input in inputs {
            let file = if self.steps[*input].is_folder { "/deep/file" } else { "" };
            say(format!("read -r part < \"$CAS_INPUT_I{input}{file}\"; line=\"$line$part,\""));
        }
        say(format!("sleep {pause}"));
        let out = if *is_folder {
            say("mkdir -p \"$CAS_OUTPUT_RESULT/deep\"".to_owned());
            "$CAS_OUTPUT_RESULT/deep/file"
        } else {
            "$CAS_OUTPUT_RESULT"
        };
        say(format!("yes \"$line)\" | head -n {lines} > \"{out}\""));
    }

    /// Where the bytes of a step's output are, in a folder where it was put under its name.
    pub(crate) fn file(&self, step: usize) -> String {
        format!("s{step}.result{}", if self.steps[step].is_folder { "/deep/file" } else { "" })
    }

    /// The bytes that a step has to give.
    pub(crate) fn bytes(&self, step: usize, round: u64) -> Vec<u8> {
        let line = format!("{}\n", self.line(step, round));
        line.repeat(usize::try_from(self.steps[step].lines).expect("a few thousand")).into_bytes()
    }

    fn line(&self, step: usize, round: u64) -> String {
        let mut line = format!("s{step}.{round}(");
        for input in &self.steps[step].inputs {
            line += &self.line(*input, round);
            line.push(',');
        }
        line + ")"
    }
}

/// The file of what happened.
pub(crate) struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    pub(crate) fn new(path: &Path) -> Self {
        let file = File::options().append(true).create(true).open(path).expect("the log can be made");
        Self { file, path: path.to_owned() }
    }

    /// To be said before it is done: what comes of it comes after it.
    pub(crate) fn kills(&mut self, process: usize) {
        writeln!(self.file, "kill {process}").expect("the log can be written");
    }

    /// From here on no step runs that was acknowledged before.
    pub(crate) fn settles(&mut self) {
        writeln!(self.file, "settle").expect("the log can be written");
    }

    /// What is wrong with what happened. `ran` are the steps that processes said they had run, and `known` those that
    /// any said are there, both with what they are for; `evicts` where results may have been given up since.
    pub(crate) fn faults(
        &self,
        ran: &BTreeSet<(String, usize)>,
        known: &BTreeSet<String>,
        evicts: bool,
    ) -> (Vec<String>, usize) {
        let text = fs::read_to_string(&self.path).expect("the log can be read");
        let mut faults = Vec::new();
        let mut killed: BTreeSet<usize> = BTreeSet::new();
        let mut settled = false;
        let mut latest: BTreeMap<&str, usize> = BTreeMap::new();
        let mut started = 0;
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["kill", process] => drop(killed.insert(process.parse().expect("a number"))),
                ["settle"] => settled = true,
                ["start", step, process] => {
                    let process = process.parse().expect("a number");
                    started += 1;
                    if killed.contains(&process) {
                        // What a dead process had begun goes on without it; nobody will take what it makes.
                        continue;
                    }
                    if !evicts && settled && known.contains(step) {
                        faults.push(format!("{step} was acknowledged and ran again, by {process}"));
                    }
                    if let Some(before) = latest.insert(step, process)
                        && !evicts
                    {
                        if !killed.contains(&before) {
                            faults.push(format!("{step} was begun by {before}, who lived, and by {process}"));
                        }
                        if ran.contains(&(step.to_owned(), before)) {
                            faults.push(format!("{step} was done by {before} and begun again by {process}"));
                        }
                    }
                }
                _ => faults.push(format!("the log holds `{line}`")),
            }
        }
        (faults, started)
    }
}

#[test]
fn the_oracle_sees_what_is_wrong_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |lines: &str, expected: &[&str]| {
        let path = folder.path().join("log");
        fs::write(&path, lines.replace(", ", "\n")).expect("the log can be written");
        let ran = BTreeSet::from([("a".to_owned(), 1)]);
        let known = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(Log::new(&path).faults(&ran, &known, false).0, expected, "{lines}");
    };
    check("start a 1, start b 2, settle", &[]);
    check("start b 2, kill 2, start b 3, settle, start c 4", &[]);
    // Its steps live on for a moment.
    check("kill 2, start b 3, start b 2", &[]);
    check("start b 2, start b 3, kill 2", &["b was begun by 2, who lived, and by 3"]);
    check("start a 1, kill 1, start a 3", &["a was done by 1 and begun again by 3"]);
    check("start b 2, kill 2, settle, start b 3", &["b was acknowledged and ran again, by 3"]);
}
