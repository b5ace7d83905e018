//! Why a step runs, told rightly each time it does.

use crate::kit::Folder;

/// That a version failed was hidden as soon as another one of its step had run: the words were those of what changed.
#[test]
fn a_version_that_failed_is_told_as_that_also_when_another_one_ran_since() {
    let yaml = "pipeline: p\nsolids:\n  a: {config: {n: {type: int, default: 1}}, command: 'test {{ config.n }} != 2', \
                outputs: []}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let _ = folder.cas("run --set a.n=2").code(1);
    let _ = folder.cas("run --set a.n=3").ok();
    let failed = "it failed in run 2 (`cas logs a`)";
    assert_eq!(folder.cas("status --set a.n=2").ok().stdout.lines().last(), Some(&*format!("a  {failed}")));
    let explained = folder.cas("explain a --set a.n=2").ok().stdout;
    assert_eq!(explained.lines().next(), Some(&*format!("a would run: {failed}")));
    let foreseen = folder.cas("run -n --set a.n=2").ok().stdout;
    assert_eq!(foreseen.lines().nth(1), Some(&*format!("a  {failed}")));
    // What never failed has nothing to do with it, and what had a result since has not failed.
    assert_eq!(folder.cas("status --set a.n=4").ok().stdout.lines().last(), Some("a  config.n: 3 → 4"));
    folder.write("pipeline.yaml", yaml.replace("outputs: []", "outputs: [], retries: 1"));
    let _ = folder.cas("run --set a.n=2").code(1);
    let told = folder.cas("status --set a.n=2").ok().stdout;
    assert_eq!(told.lines().last(), Some("a  it failed in run 4 (`cas logs a`)"));
}

#[test]
fn a_step_that_failed_is_not_told_as_one_that_never_ran() {
    let yaml = "pipeline: p\nsolids:\n  a: {command: test -e $OK && echo done, env: [OK], stdout: result}\n  b: {inputs: \
                {x: a}, command: cat inputs/x, stdout: result}\n";
    let mut folder = Folder::with(&[("pipeline.yaml", yaml)]);
    folder.variable("OK", "/nowhere");
    let _ = folder.cas("run").code(1);
    let failed = "a  it failed in run 1 (`cas logs a`)\nb  `a`: it failed in run 1 (`cas logs a`)\n";
    assert!(folder.cas("status").ok().stdout.ends_with(failed), "{}", folder.cas("status").transcript());
    assert!(
        folder.cas("explain a").ok().stdout.starts_with("a would run: it failed in run 1 (`cas logs a`)")
    );
    folder.variable("OK", "/");
    let ran = folder.cas("run -j 1").ok();
    let changed = "  what it is made of was changed since it failed in run 1 (`cas logs a`)";
    assert!(ran.stderr.contains(changed), "{}", ran.stderr);
    assert!(!folder.cas("status").ok().stdout.contains("failed"));
}

/// What a run reuses is not on the list of what it did: a skip of an older one was told as what the last one did.
#[test]
fn a_skip_is_told_of_the_last_run_that_had_the_step_alone() {
    let yaml = "pipeline: p\nsolids:\n  train: {command: test -e $OK && echo done, env: [OK], stdout: result}\n  total: \
                {config: {k: {type: int, default: 1}}, inputs: {x: train}, command: cat inputs/x, stdout: result}\n";
    let mut folder = Folder::with(&[("pipeline.yaml", yaml)]);
    folder.variable("OK", "/");
    let _ = folder.cas("run").ok();
    folder.variable("OK", "/nowhere");
    let _ = folder.cas("run").code(1);
    let told = folder.cas("explain total").ok().stdout;
    assert!(told.contains("in run 2 it was skipped: `train` failed\n"), "{told}");
    folder.variable("OK", "/");
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 2 reused");
    let told = folder.cas("explain total --set total.k=2").ok().stdout;
    assert!(told.starts_with("total would run: config.k: 1 → 2\n") && !told.contains("skipped"), "{told}");
    let json = folder.cas("explain total --set total.k=2 --format json").ok().stdout;
    assert!(json.contains("\"skipped\":null"), "{json}");
    // And again of one that comes after those.
    folder.variable("OK", "/not/there");
    let _ = folder.cas("run").code(1);
    let told = folder.cas("explain total").ok().stdout;
    assert!(told.contains("in run 4 it was skipped: `train` failed\n"), "{told}");
}

#[test]
fn what_may_turn_out_unchanged_ran_before() {
    let yaml = "pipeline: p\nsolids:\n  a: {config: {n: {type: int, default: 1}}, command: echo same, stdout: result}\n  \
                b: {inputs: {x: a}, command: cat inputs/x, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    assert!(!folder.cas("status").ok().stdout.contains("unchanged"));
    assert!(!folder.cas("explain b").ok().stdout.contains("unchanged"));
    let _ = folder.cas("run").ok();
    let status = folder.cas("status --set a.n=2").ok();
    assert!(status.stdout.contains("b  `a`: config.n: 1 → 2 (may turn out unchanged)"), "{}", status.stdout);
    assert_eq!(folder.cas("run --set a.n=2").ok().counts(), "0 reused, 1 unchanged, 1 ran");
}

/// It was told as if only what stands above it had changed, by `status`, `explain` and `run -n`, and run for its own change.
#[test]
fn a_step_that_changed_itself_is_told_as_one_that_has_to_run() {
    let yaml = "pipeline: p\nsolids:\n  a: {config: {n: {type: int, default: 1}}, command: echo same, stdout: result}\n  \
                b: {config: {k: {type: int, default: 1}}, inputs: {x: a}, command: cat inputs/x, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let status = folder.cas("status --set a.n=2 --set b.k=3").ok();
    let own = "a  config.n: 1 → 2\nb  config.k: 1 → 3 (and 1 more)\n";
    assert!(status.stdout.ends_with(own), "{}", status.stdout);
    let dry = folder.cas("run -n --set a.n=2 --set b.k=3").ok();
    assert!(dry.stdout.contains(own) && !dry.stdout.contains("unchanged"), "{}", dry.stdout);
    let explained = folder.cas("explain b --set a.n=2 --set b.k=3").ok();
    assert!(explained.stdout.contains("  config.k: 1 → 3\n"), "{}", explained.stdout);
    assert!(!explained.stdout.contains("unchanged"), "{}", explained.stdout);
    assert_eq!(folder.cas("run -j 1 --set a.n=2 --set b.k=3").ok().steps(), ["a", "b"]);
    // What there was with these values before may come out again.
    let again = folder.cas("status --set a.n=4 --set b.k=3").ok();
    assert!(again.stdout.contains("b  `a`: config.n: 2 → 4 (may turn out unchanged)"), "{}", again.stdout);
    assert_eq!(folder.cas("run --set a.n=4 --set b.k=3").ok().counts(), "0 reused, 1 unchanged, 1 ran");
}

#[test]
fn what_was_made_from_other_content_says_so_and_blames_no_config() {
    // `a` gives other content each time it runs, and its config is what it was.
    let yaml = "pipeline: p\nsolids:\n  a: {config: {n: {type: int, default: 1}}, command: date +%s%N, stdout: result}\n  \
                b: {inputs: {x: a}, command: cat inputs/x, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let _ = folder.cas("run --set a.n=4").ok();
    let _ = folder.cas("run").ok();
    let again = folder.cas("run -j 1 --force a+").ok();
    assert_eq!(again.steps(), ["a", "b"]);
    let again = folder.cas("run --force a").ok();
    assert!(again.stderr.contains("ran       a"), "{}", again.stderr);
    let below = folder.cas("run -j 1").ok();
    assert_eq!(below.steps(), ["b"]);
    assert!(below.stderr.contains("input x (`a.result`) has other content than before"), "{}", below.stderr);
    assert!(!below.stderr.contains("config.n"), "{}", below.stderr);
}

/// `(and 1 more)` stood there, and nowhere what that was.
#[test]
fn every_input_that_has_other_content_is_named() {
    let yaml = "pipeline: p\nsolids:\n  r: {command: date +%s%N, stdout: result}\n  s: {command: date +%s%N, stdout: result}\n  \
                c: {inputs: {r: r, s: s}, command: cat inputs/*, stdout: result}\n  d: {inputs: {all: [r, s]}, command: cat \
                inputs/all/*, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let _ = folder.cas("run --force r s").ok();
    let explained = folder.cas("explain c").ok();
    assert_eq!(
        explained.stdout,
        "c would run: input r (`r.result`) has other content than before (and 1 more)\n  \
         input r: content changed\n  input s: content changed\n"
    );
    let several = "  input all (2 elements): content changed\n";
    assert!(folder.cas("explain d").ok().stdout.ends_with(several));
    let json = folder.cas("explain c --format json").ok();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("a document");
    let differences = json["explain"][0]["chain"][0]["differences"].as_array().expect("a list");
    let labels: Vec<&str> = differences.iter().filter_map(|of| of["label"].as_str()).collect();
    assert_eq!(labels, ["input r: content", "input s: content"]);
    assert!(differences.iter().all(|of| of["before"].is_string() && of["before"] != of["after"]));
}

/// An element was held against its whole list, and so always told as another one.
#[test]
fn an_element_that_is_the_same_is_no_cause() {
    let yaml = "pipeline: p\nsolids:\n  list: {command: mkdir outputs/p && echo 1 > outputs/p/a, outputs: [{p: {list: true}}]}\n  \
                rnd: {command: date +%s%N, stdout: result}\n  work: {map: {e: list.p}, inputs: {r: rnd}, command: cat inputs/*, \
                stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let _ = folder.cas("run --force rnd").ok();
    let told = "work[e=a] would run: input r (`rnd.result`) has other content than before\n";
    assert_eq!(folder.cas("explain work[e=a]").ok().stdout, told);
    let ran = folder.cas("run -j 1").ok();
    assert_eq!(ran.steps(), ["work[e=a]"]);
    assert!(
        ran.stderr.contains("  input r (`rnd.result`) has other content than before\n"),
        "{}",
        ran.stderr
    );
}

/// What failed was corrected since, and that it had failed was all that was said.
#[test]
fn what_was_changed_since_it_failed_is_told_as_that() {
    let split = "mkdir outputs/p && cp inputs/a outputs/p/a && cp inputs/b outputs/p/b";
    let yaml = format!(
        "pipeline: p\nsolids:\n  split: {{inputs: {{a: {{path: a}}, b: {{path: b}}}}, command: {split}, outputs: [{{p: {{list: \
         true}}}}]}}\n  each: {{map: {{page: split.p}}, command: grep good inputs/page, stdout: result}}\n"
    );
    let folder = Folder::with(&[("pipeline.yaml", &yaml), ("a", "good\n"), ("b", "bad\n")]);
    let _ = folder.cas("run -k").code(1);
    let failed = folder.cas("explain each[page=b]").ok().stdout;
    assert!(failed.starts_with("each[page=b] would run: it failed in run 1 (`cas logs"), "{failed}");
    folder.write("b", "good again\n");
    let ran = folder.cas("run -j 1").ok();
    assert_eq!(ran.steps(), ["split", "each[page=b]"]);
    let changed = "  what it is made of was changed since it failed in run 1 (`cas logs each[page=b]`)";
    assert!(ran.stderr.contains(changed), "{}", ran.stderr);
}

/// Of five hundred elements it was three thousand lines.
#[test]
fn elements_of_which_the_same_is_told_are_explained_together() {
    let yaml = "pipeline: p\nsolids:\n  a: {matrix: {n: [1, 2, 3, 4]}, config: {k: {type: int, default: 1}}, command: echo $n, \
                env: {n: '{{ matrix.n }}'}, stdout: result}\n  b: {matrix: {n: [1, 2, 3, 4]}, inputs: {x: a}, command: cat \
                inputs/x, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let heads = |line: &str| {
        let told = folder.cas(line).ok().stdout;
        let heads = told.lines().filter(|line| !line.is_empty() && !line.starts_with("  "));
        heads.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(heads("explain a"), ["a (4 elements) would run: it has not run yet"]);
    let _ = folder.cas("run a[n=3]").ok();
    assert_eq!(heads("explain a"), ["a (3 elements) would run: it has not run yet", "a[n=3] is stored"]);
    let _ = folder.cas("run").ok();
    assert_eq!(heads("explain a"), ["a (3 elements) are stored", "a[n=3] is stored"]);
    assert_eq!(
        heads("explain b --set a.k=2"),
        [
            "b (4 elements) would run: `a[*]` runs before it",
            "a[*] would run: config.k: 1 → 2",
            "it may turn out unchanged: what it consumes is made anew, and may come out the same",
        ]
    );
    let one = ["a[n=2] would run: config.k: 1 → 2"];
    assert_eq!(heads("explain a[n=2] --set a.k=2"), one);
    assert_eq!(heads("explain -v a --set a.k=2").len(), 4);
    let json = folder.cas("explain a --set a.k=2 --format json").ok().stdout;
    assert_eq!(json.matches("\"step\":\"a[n=").count(), 8, "{json}");
}

/// `and 1 more` was what stood above it, which had come out the same.
#[test]
fn what_came_out_the_same_is_no_cause() {
    let yaml = "pipeline: p\nsolids:\n  a: {inputs: {f: {path: f}}, command: wc -l < inputs/f, stdout: result}\n  \
                b: {config: {k: {type: int, default: 1}}, inputs: {p: a}, command: cat inputs/p, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml), ("f", "one\n")]);
    let _ = folder.cas("run").ok();
    folder.write("f", "two\n");
    let ran = folder.cas("run -j 1 --set b.k=2").ok();
    assert_eq!(ran.steps(), ["a", "b"]);
    let cause = ran.stderr.lines().find(|line| line.starts_with("ran       b")).unwrap_or_default();
    assert!(cause.ends_with("  config.k: 1 → 2"), "{}", ran.stderr);
    // Where that is all that is new, and the content is, it is told.
    folder.write("f", "three\nfour\n");
    let ran = folder.cas("run -j 1 --set b.k=2").ok();
    assert!(ran.stderr.contains("input p: input f changed"), "{}", ran.stderr);
}

/// What a step was given had become executable, and it was told as run for its config alone.
#[test]
fn what_came_out_as_another_kind_of_file_is_a_cause() {
    let yaml = "pipeline: p\nsolids:\n  a: {config: {mode: {type: str, default: '644'}}, command: 'echo same > \
                outputs/result; chmod {{ config.mode }} outputs/result'}\n  b: {config: {k: {type: int, default: 1}}, inputs: \
                {p: a}, command: cat inputs/p, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let _ = folder.cas("run").ok();
    let cause = |line: &str| {
        let ran = folder.cas(line).ok();
        assert_eq!(ran.steps(), ["a", "b"], "{line}");
        let of = ran.stderr.lines().find(|line| line.starts_with("ran       b")).unwrap_or_default();
        of.rsplit("  ").next().unwrap_or_default().to_owned()
    };
    assert_eq!(cause("run -j 1 --set a.mode=755 --set b.k=2"), "config.k: 1 → 2 (and 1 more)");
    // That others may read it is nothing that a step is given.
    assert_eq!(cause("run -j 1 --set a.mode=700 --set b.k=3"), "config.k: 2 → 3");
}

#[test]
fn every_step_that_runs_says_why() {
    let yaml = "pipeline: p\nsolids:\n  a: {command: echo 1, stdout: result}\n  v: {version: volatile, command: echo 2, \
                stdout: result}\n  b: {inputs: {x: a, y: v}, command: cat inputs/x inputs/y, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    for line in ["run", "run --force", "run -n", "run"] {
        let ran = folder.cas(line).ok();
        for line in ran.stderr.lines().filter(|line| line.starts_with("ran ")) {
            assert!(line.matches("  ").count() >= 3, "no cause: {line}");
        }
    }
}

#[test]
fn a_twin_in_the_same_run_was_made_by_no_other_process() {
    let yaml =
        "pipeline: p\nsolids:\n  b: {command: echo 1, stdout: result}\n  b2: {solid: b}\n  b3: {solid: b}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let ran = folder.cas("run -j 2").ok();
    assert_eq!(ran.counts(), "2 reused, 1 ran");
    assert!(!ran.stderr.contains("joined") && !ran.stderr.contains("unchanged"), "{}", ran.stderr);
}

/// Of the last eight results of the step, the nearest; what lies further back is not looked at, however near it is.
#[test]
fn of_the_last_eight_the_one_with_the_fewest_differences_tells_why() {
    let yaml = "pipeline: p\nsolids:\n  fit:\n    config:\n      a: {type: int, default: 1}\n      b: {type: int, default: 1}\n      \
                c: {type: int, default: 1}\n    command: echo {{ config.a }} {{ config.b }} {{ config.c }}\n    stdout: result\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    let run = |a: u32, b: u32, c: u32| {
        let ran = folder.cas(&format!("run --set fit.a={a} --set fit.b={b} --set fit.c={c}")).ok();
        assert_eq!(ran.steps(), ["fit"]);
    };
    let why = |line: &str| {
        let told = folder.cas(line).ok().stdout;
        told.lines().next().unwrap_or_default().to_owned()
    };
    // One difference, the eighth back; two, the fifth; three, all others.
    run(1, 1, 2);
    run(3, 3, 3);
    run(4, 4, 4);
    run(1, 5, 5);
    for n in 6..10 {
        run(n, n, n);
    }
    assert_eq!(why("explain fit"), "fit would run: config.c: 2 → 1");
    // The ninth back is looked at no longer.
    run(10, 10, 10);
    assert_eq!(why("explain fit"), "fit would run: config.b: 5 → 1 (and 1 more)");
    let ran = folder.cas("run -j 1").ok();
    assert_eq!(ran.steps(), ["fit"]);
    assert!(ran.stderr.contains("config.b: 5 → 1 (and 1 more)"), "{}", ran.stderr);
}

/// By their versions they were the same, and a step ran because they were not.
#[test]
fn what_has_other_content_under_one_version_is_a_difference_of_two_runs() {
    let yaml = "pipeline: p\nsolids:\n  a: {command: date +%s%N, stdout: result}\n  \
                b: {inputs: {x: a}, command: cat inputs/x, stdout: result}\n  c: {command: echo 1, stdout: result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["a", "b", "c"]);
    assert_eq!(folder.cas("run --force a -j 1 a").ok().steps(), ["a"]);
    assert_eq!(folder.cas("run -j 1").ok().steps(), ["b"]);
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
    let differs = folder.cas("diff 1 3").code(1);
    let expected = "a: it was made again with other content\nb: what it consumes has other content\n\
                    1 step with the same version and content in both\n";
    assert!(differs.stdout.ends_with(expected), "{}", differs.stdout);
    let json = folder.cas("diff 3 1 --format json").code(1);
    assert_eq!(json.stdout.matches("\"other_content\":true").count(), 2, "{}", json.stdout);
    let same = folder.cas("diff 3 4").ok();
    assert_eq!(
        same.stdout,
        "run 3 → run 4\n  command: run -j 1 → run\n3 steps with the same version in both\n"
    );
    assert_eq!(folder.cas("run --force").ok().counts(), "0 reused, 3 ran");
    let differs = folder.cas("diff 4 5").code(1);
    assert!(differs.stdout.contains("a: it was made again with other content\n"), "{}", differs.stdout);
    // Both of these reused it, and what they reused has given way since.
    assert_eq!(folder.cas("run").ok().counts(), "nothing to run: 3 reused");
    assert_eq!(folder.cas("run --force a -j 1 a").ok().steps(), ["a"]);
    let differs = folder.cas("diff 4 6").code(1);
    assert!(differs.stdout.contains("a: it was made again with other content\n"), "{}", differs.stdout);
    assert_eq!(
        folder.cas("diff 5 6").code(0).stdout.lines().last(),
        Some("3 steps with the same version in both")
    );
}

/// Of an element the cause said `input w[2]`, and everything else calls it `w[n=2]`.
#[test]
fn an_element_that_is_gathered_has_its_name_in_the_cause() {
    let yaml = "pipeline: p\nsolids:\n  w: {matrix: {n: [1, 2, 3]}, inputs: {f: {path: '{{ matrix.n }}.txt'}}, command: cat \
                inputs/f, stdout: result}\n  v: {matrix: {n: [1, 2], m: [3, 4]}, inputs: {f: {path: '{{ matrix.m }}.txt'}}, \
                command: cat inputs/f, stdout: result}\n  g: {inputs: {w: 'w[*]', v: 'v[*]'}, command: ls inputs/w, stdout: \
                result}\n";
    let folder = Folder::with(&[("pipeline.yaml", yaml)]);
    for file in ["1.txt", "2.txt", "3.txt", "4.txt"] {
        folder.write(file, "one");
    }
    let _ = folder.cas("run").ok();
    folder.write("2.txt", "two");
    let explained = folder.cas("explain g").ok().stdout;
    assert!(explained.starts_with("g would run: `w[n=2]` runs before it\n"), "{explained}");
    let why = |ran: &str| {
        let line = ran.lines().find(|line| line.starts_with("ran       g  "));
        line.and_then(|line| line.split("  ").last()).map(str::to_owned)
    };
    let ran = folder.cas("run").ok();
    assert_eq!(why(&ran.stderr).as_deref(), Some("input w[n=2]: input f changed"));
    // Of several axes all stand there, as they did.
    folder.write("4.txt", "four");
    let ran = folder.cas("run").ok();
    assert_eq!(why(&ran.stderr).as_deref(), Some("input v[n=1,m=4]: input f changed"));
}
