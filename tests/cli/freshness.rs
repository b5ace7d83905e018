//! What is good for a while: answers of probes, results, and taking both as they were left.

use crate::kit::Folder;
use crate::outcomes;

/// A probe that counts how often it is asked, outside of the pipeline's folder of declared things.
fn probed(every: &str) -> String {
    format!(
        "pipeline: p\nsolids:\n  a:\n    inputs: {{t: {{probe: echo x >> asked; wc -l < asked{every}}}}}\n    command: cat \
         inputs/t\n    stdout: result\n"
    )
}

#[test]
fn an_answer_that_is_good_for_an_hour_is_asked_for_once_by_every_command() {
    let folder = Folder::with(&[("pipeline.yaml", &probed(", every: 1h"))]);
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    for line in ["run", "status", "explain a", "versions"] {
        let _ = folder.cas(line).ok();
    }
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 1 reused");
    assert_eq!(folder.read("asked"), "x\n");
    // Another command is another question.
    folder.write("pipeline.yaml", probed(", every: 1h").replace("wc -l", "wc  -l"));
    let _ = folder.cas("run").ok();
    assert_eq!(folder.read("asked"), "x\nx\n");
}

#[test]
fn an_answer_is_asked_for_again_when_its_time_is_over() {
    // A millisecond is over by the next command.
    let folder = Folder::with(&[("pipeline.yaml", &probed(", every: 1ms"))]);
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    assert_eq!(folder.cas("run").ok().steps(), ["a"]);
    assert_eq!(folder.read("asked"), "x\nx\n");
}

#[test]
fn frozen_takes_the_last_answers_and_the_last_results() {
    let yaml = probed("")
        + "  v: {version: volatile, command: \"echo x >> $COUNTED; wc -l < $COUNTED\", \
                             pass_env: [COUNTED], stdout: result}\n  below: {inputs: {x: v}, command: cat inputs/x, \
                             stdout: result}\n";
    let mut folder = Folder::with(&[("pipeline.yaml", &yaml)]);
    let count = folder.path("count").display().to_string();
    folder.variable("COUNTED", &count);
    assert_eq!(folder.cas("run --frozen -j 1").ok().steps(), ["v", "a", "below"]);
    assert_eq!((folder.read("asked").as_str(), folder.read("count").as_str()), ("x\n", "x\n"));
    let frozen = folder.cas("--frozen run").ok();
    // What stands below is found by content, as in every run.
    assert_eq!((frozen.counts(), frozen.steps().len()), ("2 reused, 1 unchanged, 0 ran", 0));
    assert_eq!(folder.cas("status --frozen").ok().stdout, "3 steps: 3 stored\nnothing to run\n");
    assert_eq!((folder.read("asked").as_str(), folder.read("count").as_str()), ("x\n", "x\n"));
    let fresh = folder.cas("run -j 1").ok();
    assert_eq!(fresh.steps(), ["v", "a", "below"]);
    assert!(!fresh.stderr.contains("gave other content"), "{}", fresh.stderr);
}

#[test]
fn a_result_that_is_good_for_a_day_is_made_once_a_day() {
    let yaml = "pipeline: p\nsolids:\n  d: {version: {every: 1d}, command: date +%N, stdout: result}\n  ms: {version: \
                {every: 1ms}, command: date +%N, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let again = folder.cas("run").ok();
    assert_eq!(again.steps(), ["ms"]);
    assert!(again.stderr.contains("its result is older than `every` allows"), "{}", again.stderr);
    assert!(!again.stderr.contains("gave other content"), "{}", again.stderr);
    assert_eq!(folder.cas("run --frozen").ok().counts(), "nothing to run: 2 reused");
}

/// What is good for one run, for a while, and asked for: each counts how often it was made.
const DATED: &str = "\
pipeline: p
solids:
  asked: {inputs: {t: {probe: echo x >> asked; wc -l < asked}}, command: cat inputs/t, stdout: result}
  v: {version: volatile, command: \"echo x >> $COUNTED; wc -l < $COUNTED\", pass_env: [COUNTED], stdout: result}
  d: {version: {every: 1ms}, command: \"echo x >> $COUNTED.d; wc -l < $COUNTED.d\", pass_env: [COUNTED], stdout: result}
  below: {inputs: {a: asked, v: v, d: d}, command: paste -d- inputs/a inputs/v inputs/d, stdout: result}
";

fn dated() -> Folder {
    let mut folder = Folder::with(&[("pipeline.yaml", DATED)]);
    let count = folder.path("count").display().to_string();
    folder.variable("COUNTED", &count);
    folder
}

#[test]
fn frozen_takes_what_a_given_run_was_answered_and_had() {
    let folder = dated();
    for _ in 0..3 {
        assert_eq!(folder.cas("run -j 1").ok().steps(), ["asked", "v", "d", "below"]);
    }
    assert_eq!(folder.cas("cat below --frozen").ok().stdout, "3-3-3\n");
    let first = folder.cas("run --frozen=1 -j 1 --format json").ok();
    // What stands below a volatile step is found by content, as in every run.
    assert_eq!(outcomes(&first), ["asked reused", "v reused", "d reused", "below unchanged"]);
    assert_eq!(folder.cas("--frozen=2 cat below").ok().stdout, "2-2-2\n");
    assert_eq!(folder.cas("status --frozen=1").ok().stdout, "4 steps: 4 stored\nnothing to run\n");
    // What stands below and is new runs with what that run had.
    folder.write("pipeline.yaml", DATED.replace("paste -d- ", "paste -d+ "));
    let changed = folder.cas("run --frozen=1 -j 1 --format json").ok();
    assert_eq!(outcomes(&changed), ["asked reused", "v reused", "d reused", "below ran"]);
    assert_eq!(folder.cas("cat below --frozen=1").ok().stdout, "1+1+1\n");
    // A run that took them knows them too.
    assert_eq!(folder.cas("cat below --frozen=5").ok().stdout, "1+1+1\n");
    // Nothing was made or asked for all of that.
    for counted in ["asked", "count", "count.d"] {
        assert_eq!(folder.read(counted), "x\n".repeat(3), "{counted}");
    }
    // What made it and what it was used for is as if nothing had been kept twice.
    let lineage = folder.cas("lineage v --frozen").ok().stdout;
    assert_eq!(lineage.matches("p/v").count(), 1, "{lineage}");
    assert_eq!(lineage.matches("p/below").count(), 1, "{lineage}");
    for run in [1, 5] {
        assert_eq!(
            folder.cas(&format!("lineage v --frozen={run}")).ok().stdout,
            "p/v  run 1  (replaced since)\nused by\n  p/below  run 1\n  p/below  run 5\n"
        );
    }
    // And the last ones are still the last ones.
    assert_eq!(folder.cas("run --frozen").ok().steps(), ["below"]);
    assert_eq!(folder.cas("cat below --frozen").ok().stdout, "3+3+3\n");
}

/// `--reproduce` ran what changes with time, and stored what it gave.
#[test]
fn what_changes_with_time_is_left_alone_where_the_rest_is_reproduced() {
    // Without the probe, which gives something else each time.
    let yaml = DATED.replace("a: asked, ", "").replace("inputs/a ", "");
    let yaml: String =
        yaml.lines().filter(|line| !line.contains("asked:")).map(|line| format!("{line}\n")).collect();
    let folder = dated();
    folder.write("pipeline.yaml", yaml);
    let _ = folder.cas("run").ok();
    let again = folder.cas("run --reproduce below").ok();
    assert_eq!((again.steps(), again.counts()), (vec!["below"], "2 reused, 1 ran"), "{}", again.stderr);
    let again = folder.cas("run --reproduce -j 1").ok();
    assert_eq!(again.steps(), ["below"]);
    assert!(again.stderr.contains("left alone: `v`, `d` (change with time)"), "{}", again.stderr);
    let none = folder.cas("run --reproduce v").code(1);
    assert!(none.stderr.contains("left alone: `v` (changes with time)"), "{}", none.stderr);
    // Nor where what the rest is made of is gone.
    let _ = folder.cas("gc --max-size 0").ok();
    let none = folder.cas("run --reproduce").code(1);
    assert!(none.steps().is_empty(), "{}", none.stderr);
    for counted in ["count", "count.d"] {
        assert_eq!(folder.read(counted), "x\n", "{counted}");
    }
}

#[test]
fn what_a_given_run_does_not_know_is_named_and_nothing_runs() {
    let folder = dated();
    assert_eq!(folder.cas("run v").ok().steps(), ["v"]);
    let other = folder.cas("run --frozen=1").code(1);
    assert_eq!(other.steps(), Vec::<&str>::new());
    assert!(
        other.stderr.contains("error: run 1 does not know what `echo x >> asked; wc -l < asked` answered")
    );
    let other = folder.cas("run --frozen=1 d v").code(1);
    assert!(other.stderr.contains("error: run 1 does not know the result of `d`"), "{}", other.stderr);
    assert!(other.steps().is_empty() && !folder.has("count.d"));
    // What is not needed does not have to be known.
    assert_eq!(outcomes(&folder.cas("run --frozen=1 v --format json").ok()), ["v reused"]);
    // Other code is another step.
    folder.write(
        "pipeline.yaml",
        DATED.replace("command: \"echo x >> $COUNTED; wc", "command: \"echo x >> $COUNTED;  wc"),
    );
    let other = folder.cas("run --frozen=1 v").code(1);
    assert!(other.stderr.contains("error: run 1 does not know the result of `v`"), "{}", other.stderr);
    // Unless it is asked for all the same.
    assert_eq!(folder.cas("run --frozen=1 v --force").ok().steps(), ["v"]);
    let unknown = folder.cas("run --frozen=9").code(2);
    assert!(unknown.stderr.contains("error: there is no run 9"), "{}", unknown.stderr);
    folder.write("other.yaml", "pipeline: q\nsolids: {a: {command: echo 1, stdout: result}}\n");
    let other = folder.cas("run -f other.yaml --frozen=1").code(2);
    assert!(other.stderr.contains("error: run 1 is one of `p`, and this is `q`"), "{}", other.stderr);
}

#[test]
fn what_was_forgotten_or_collected_does_not_come_back_with_its_run() {
    let folder = dated();
    for _ in 0..2 {
        assert_eq!(folder.cas("run -j 1").ok().steps(), ["asked", "v", "d", "below"]);
    }
    // Nothing goes that a run may be asked for.
    let _ = folder.cas("gc").ok();
    assert_eq!(folder.cas("cat below --frozen=1").ok().stdout, "1-1-1\n");
    // `--keep-last` counts the runs that know something of a step.
    let _ = folder.cas("run").ok();
    let _ = folder.cas("gc --keep-last 2").ok();
    assert_eq!(folder.cas("cat d --frozen=2").ok().stdout, "2\n");
    let _ = folder.cas("run --frozen=1 d").code(1);
    let answers = folder.cas("run --frozen=1 asked").code(1);
    assert!(answers.stderr.contains("run 1 does not know what `echo x"), "{}", answers.stderr);
    assert_eq!(folder.cas("cat asked --frozen=2").ok().stdout, "2");
    // Each run had its own: that of the last one goes with what it was, and that of another by itself.
    assert_eq!(
        folder.cas("forget v --frozen --reason wrong").ok().stdout,
        "forgot v and 1 result made from it (judgement 1)\n"
    );
    assert_eq!(folder.cas("cat below --frozen=2").ok().stdout, "2-2-2\n");
    assert_eq!(
        folder.cas("forget v --frozen=2 --reason wrong").ok().stdout,
        "forgot v and 1 result made from it (judgement 2)\n"
    );
    for run in [2, 3] {
        let forgotten = folder.cas(&format!("run --frozen={run}")).code(1);
        assert_eq!(forgotten.steps(), Vec::<&str>::new());
        assert!(
            forgotten.stderr.contains(&format!("run {run} does not know the result of `v`")),
            "{}",
            forgotten.stderr
        );
    }
    assert_eq!(outcomes(&folder.cas("run --frozen=2 d --format json").ok()), ["d reused"]);
    let _ = folder.cas("gc --max-size 0").ok();
    let collected = folder.cas("run --frozen=2 d").code(1);
    assert!(collected.stderr.contains("run 2 does not know the result of `d`"), "{}", collected.stderr);
}

/// `cas run` was said to make it, directly after `cas run` had.
#[test]
fn what_is_below_a_volatile_step_is_got_by_its_name_as_it_was_left() {
    let yaml = |word: &str| {
        format!(
            "\
pipeline: below
solids:
  now: {{version: volatile, command: 'date +%N > outputs/result'}}
  report: {{inputs: {{now: now}}, command: 'echo {word} >> outputs/result; cat inputs/now >> outputs/result'}}
"
        )
    };
    let folder = Folder::with(&[("pipeline.yaml", &*yaml("first"))]);
    for _ in 0..2 {
        let _ = folder.cas("run").ok();
        let now = folder.cas("cat now").ok().stdout;
        assert_eq!(folder.cas("cat report").ok().stdout, format!("first\n{now}"));
    }
    // What another command made is not what the name means.
    folder.write("pipeline.yaml", yaml("second"));
    assert!(folder.cas("cat report").code(1).stderr.contains("`report.result` is not stored"));
}

/// The elements of such a list had no names after the run, and what gathers them no result.
#[test]
fn the_elements_of_a_list_that_each_run_makes_anew_are_got_as_they_were_left() {
    let yaml = "pipeline: anew\nsolids:\n  lst: {version: volatile, outputs: [{parts: {list: true}}], command: 'mkdir outputs/parts; date +%N > outputs/parts/a'}\n  \
                m: {map: {x: lst.parts}, command: cat inputs/x, stdout: result}\n  \
                all: {inputs: {m: 'm[*]'}, command: cat inputs/m/*, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    for run in [1, 2] {
        assert_eq!(folder.cas("run -j 1").ok().steps(), ["lst", "m[x=a]", "all"]);
        let all = folder.cas("cat all").ok();
        let said = format!("`all.result` as run {run} made it: the next run may make another\n");
        assert_eq!(all.stderr, said);
        assert_eq!(folder.cas("cat 'm[x=a]'").ok().stdout, all.stdout);
        let _ = folder.cas(&format!("get all all{run}.txt")).ok();
        assert_eq!(folder.read(&format!("all{run}.txt")), all.stdout);
    }
    // An export of what `cas get` gives said that nothing of it is stored.
    let exported = folder.cas("export left.cas").ok();
    assert!(exported.stderr.contains("goes along as it was left: `cas run --frozen`"), "{}", exported.stderr);
    let frozen = folder.cas("export frozen.cas --frozen").ok();
    assert_eq!((frozen.stdout, frozen.stderr.as_str()), (exported.stdout, ""));
    let there = Folder::with(&[("pipeline.yaml", yaml)]);
    there.write("left.cas", std::fs::read(folder.path("left.cas")).expect("it is there"));
    let _ = there.cas("import left.cas").ok();
    assert_eq!(there.cas("cat all").ok().stdout, folder.cas("cat all").ok().stdout);
    assert_eq!(there.cas("run --frozen").ok().steps(), Vec::<&str>::new());
}

/// The preview said that it would run, because there is something of the volatile step in the store.
#[test]
fn a_preview_of_only_what_stands_below_a_volatile_step_says_what_the_run_says() {
    let yaml = "pipeline: p\nsolids:\n  v: {version: volatile, command: echo 1, stdout: result}\n  \
                z: {inputs: {v: v}, command: cat inputs/v, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["v", "z"]);
    for line in ["run -n --only z", "run --only z"] {
        let refused = folder.cas(line).code(1);
        let message = "`v.result` is not stored, and nothing upstream may run";
        assert!(refused.stderr.contains(message), "{}", refused.transcript());
    }
    assert_eq!(folder.cas("run --only z --frozen").ok().steps(), Vec::<&str>::new());
}

/// `ls` called steps not deterministic that say themselves that they change with time; `explain` did not.
#[test]
fn what_changes_with_time_is_not_called_non_deterministic() {
    let yaml = "pipeline: p\nsolids:\n  vol: {version: volatile, command: cat PLACE/n, stdout: result}\n  \
                ev: {version: {every: 1h}, command: cat PLACE/n, stdout: result}\n  \
                no: {command: cat PLACE/n, stdout: result}\n";
    let folder = Folder::with(&[("n", "1\n")]);
    folder.write("pipeline.yaml", yaml.replace("PLACE", &folder.path("").display().to_string()));
    let _ = folder.cas("run").ok();
    folder.write("n", "2\n");
    let _ = folder.cas("run --force").ok();
    for line in ["ls", "ls --all"] {
        let listed = folder.cas(line).ok().stdout;
        let odd: Vec<&str> = listed.lines().filter(|line| line.contains("(not deterministic)")).collect();
        assert!(matches!(odd.as_slice(), [one] if one.contains("no.result (not deterministic)")), "{listed}");
    }
}

/// Two names of one version were said to be made of what is not on record, and to differ.
#[test]
fn what_stands_below_a_volatile_step_is_compared_by_what_it_was_made_of() {
    let yaml = "pipeline: p\nsolids:\n  v: {version: volatile, command: cat PLACE/n, stdout: result}\n  \
                rep: {inputs: {v: v}, command: cat inputs/v, stdout: result}\n";
    let folder = Folder::with(&[("n", "1\n")]);
    folder.write("pipeline.yaml", yaml.replace("PLACE", &folder.path("").display().to_string()));
    let version = || {
        let shown = folder.cas("show rep --format json").ok().stdout;
        let at = shown.find("\"version\":").expect("it has one") + "\"version\":".len();
        let text = shown[at..].trim_start().trim_start_matches('"');
        text[..64].to_owned()
    };
    let _ = folder.cas("run").ok();
    let first = version();
    folder.write("n", "2\n");
    let _ = folder.cas("run").ok();
    let second = version();
    assert_ne!(first, second);
    let same = folder.cas(&format!("diff rep {}", &second[..12])).ok();
    assert!(same.stdout.contains("made of the same"), "{}", same.stdout);
    for line in [format!("diff {} rep", &first[..12]), format!("diff {} {}", &first[..12], &second[..12])] {
        let other = folder.cas(&line).code(1);
        assert!(other.stdout.contains("input v changed"), "{}", other.stdout);
    }
}
