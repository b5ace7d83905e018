//! Why a step runs, told rightly each time it does.

use crate::kit::Folder;

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
    assert!(ran.stderr.contains("it failed in run 1 (`cas logs a`)"), "{}", ran.stderr);
    assert!(!folder.cas("status").ok().stdout.contains("failed"));
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
                    1 step with the same version in both\n";
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
}
