//! What each event of a run says as a line of text. Pure, but that paths are shown from the current folder.

use cas_engine::event::{Event, FailureReport, Outcome, Summary};

use super::progress::Progress;
use super::runs::suffix;
use super::{Lines, words};
use crate::failure::{ERROR, HINT};

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
    /// What went wrong.
    Quiet,
    /// And what ran.
    Normal,
    /// And what did not have to.
    Verbose,
}

/// How lines that people wait for look.
const GOOD: anstyle::Style =
    anstyle::Style::new().fg_color(Some(anstyle::Color::Ansi(anstyle::AnsiColor::Green)));
/// How lines that are there for those who look look.
const FAINT: anstyle::Style = anstyle::Style::new().dimmed();

/// How many paths that a step was not given are told on a terminal; all are in the events.
const USED: usize = 20;

/// Why a step did not have to run whose version was new.
const SAME: &str = "its inputs came out the same";

/// Behind so many lines, the one failure of a run is told once more at its end.
const FAR: usize = 10;

/// The lines that an event gives; `progress` is what was known before it, `name` what its run is called among others.
pub(crate) fn lines(progress: &Progress, event: &Event, detail: Detail, name: Option<&str>) -> Lines {
    let mut lines = Lines::default();
    let of = suffix(name);
    match event {
        Event::RunStarted { run, pipeline, mode, steps, to_run, .. } => {
            if detail > Detail::Quiet && *to_run > 0 {
                let mode = mode.as_ref().map(|mode| format!(", mode {mode}")).unwrap_or_default();
                let part = if to_run == steps {
                    words::count(*steps, "step")
                } else {
                    format!("{} of {}", words::thousands(*to_run), words::count(*steps, "step"))
                };
                let line = format!("run {run} of {pipeline}{mode}{of}: {part} to run");
                lines.err.push(words::on_a_line(&line).into_owned());
            }
        }
        Event::PlanGrew { .. }
        | Event::StepStarted { .. }
        | Event::StepsReused { .. }
        | Event::StepsExpected { .. } => {}
        Event::StepWaits { step, limits, by, .. } => {
            if detail == Detail::Verbose {
                let what = match limits.as_slice() {
                    [] => format!("{by}, which makes it"),
                    limits => format!("{}, used by {by}", limits.join(" and ")),
                };
                lines.err.push(said(FAINT, "waits", &format!("{step}{of}  for {what}")));
            }
        }
        Event::StepRetried { step, attempt, failure } => {
            lines.err.push(said(FAINT, "retrying", &format!("{step}{of}: attempt {attempt}: {failure}")));
        }
        Event::StepFinished { step, outcome, elapsed_ms, saved_ms, failure, skipped, .. } => match outcome {
            // The many come first, and cost nothing unless they are asked for.
            Outcome::Reused => {
                if detail == Detail::Verbose {
                    let saved = match saved_ms {
                        0 => String::new(),
                        saved => format!("  took {} once", words::duration_ms(*saved)),
                    };
                    lines.err.push(said(FAINT, "reused", &format!("{step}{of}{saved}")));
                }
            }
            Outcome::Ran => {
                if detail > Detail::Quiet {
                    let (attempt, why) = progress.why(step);
                    // What elements of one step run for is told once they are all there.
                    if detail < Detail::Verbose && progress.has_told_enough(step, why) {
                        return lines;
                    }
                    let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                    let why = why.map(|why| format!("  {why}")).unwrap_or_default();
                    let time = words::duration_ms(*elapsed_ms);
                    lines.err.push(said(GOOD, "ran", &format!("{step}{of}  {time}{again}{why}")));
                }
            }
            // What elements of one step have in common is told once they are all there.
            Outcome::Unchanged | Outcome::Joined
                if detail < Detail::Verbose && progress.has_told_enough_made(step, *outcome) => {}
            Outcome::Unchanged => {
                if detail > Detail::Quiet {
                    lines.err.push(said(FAINT, "unchanged", &format!("{step}{of}  {SAME}")));
                }
            }
            Outcome::Joined => {
                if detail > Detail::Quiet {
                    lines.err.push(said(GOOD, "joined", &format!("{step}{of}  {} made it", other(name))));
                }
            }
            Outcome::Failed => failed(&mut lines.err, &format!("{step}{of}"), *elapsed_ms, failure.as_ref()),
            Outcome::Skipped => {
                // What a failure above it takes away from a step is told with that failure.
                let is_told = skipped.as_ref().is_some_and(|skip| skip.too_many_failed);
                if is_told || detail == Detail::Verbose {
                    let why = skipped.as_ref().map(|skip| format!("  {}", skip.why)).unwrap_or_default();
                    let style = if is_told { ERROR } else { FAINT };
                    lines.err.push(said(style, "skipped", &format!("{step}{of}{why}")));
                }
            }
            // Hundreds may be, all at once: they are counted, and told at the end.
            Outcome::Cancelled => {
                if detail == Detail::Verbose {
                    lines.err.push(said(FAINT, "cancelled", &format!("{step}{of}")));
                }
            }
        },
        Event::StepPrinted { step, text } => {
            if !text.is_empty() {
                lines.err.push(said(FAINT, "printed", &format!("{step}{of}:")));
                lines.err.extend(text.lines().map(|line| format!("  | {}", words::printed(line))));
            }
        }
        Event::Undeclared { step, refused, used, lines: declare } => {
            let what =
                if *refused { "was refused what it was not given" } else { "used what it was not given" };
            lines.err.push(format!("{HINT}warning:{HINT:#} {step}{of} {what}"));
            lines.err.extend(used.iter().take(USED).map(|used| format!("  {used}")));
            if used.len() > USED {
                lines.err.push(format!("  and {} more", words::thousands(used.len() - USED)));
            }
            if !declare.is_empty() {
                lines.err.push("  to declare it, add to the pipeline file:".to_owned());
                lines.err.extend(declare.iter().map(|line| format!("    {line}")));
            }
        }
        Event::Damaged { output, what } => {
            lines.err.push(said(ERROR, "damaged", &format!("{output}{of}: {what}; it is made again")));
        }
        Event::Published { target, output, changed } => {
            if (*changed && detail > Detail::Quiet) || detail == Detail::Verbose {
                let still = if *changed { "" } else { "  as before" };
                lines.err.push(said(GOOD, "published", &format!("{target}  {output}{of}{still}")));
            }
        }
        Event::Unpublished { target } => {
            if detail > Detail::Quiet {
                lines.err.push(said(GOOD, "removed", &format!("{target}{of}  it is not made any longer")));
            }
        }
        Event::Warning { text } => {
            let text: Vec<_> = text.split('\n').map(words::on_a_line).collect();
            let of = name.map_or(String::new(), |name| format!("{}: ", words::on_a_line(name)));
            lines.err.push(format!("{HINT}warning:{HINT:#} {of}{}", text.join("\n")));
        }
        Event::RunFinished { summary, allowed, .. } => {
            if detail > Detail::Quiet {
                let made = progress.made().filter(|_| detail < Detail::Verbose);
                lines.err.extend(made.map(|(outcome, what)| match outcome {
                    Outcome::Joined => said(GOOD, "joined", &format!("{what}{of}  {} made it", other(name))),
                    outcome => said(FAINT, outcome.word(), &format!("{what}{of}  {SAME}")),
                }));
                lines.err.extend(progress.groups().map(|group| said(FAINT, "why", &format!("{group}{of}"))));
            }
            if detail == Detail::Normal {
                let cancelled = progress.cancelled();
                lines
                    .err
                    .extend(cancelled.iter().map(|what| said(FAINT, "cancelled", &format!("{what}{of}"))));
            }
            // What may fail does not fail the run: nobody looks for it at the end.
            if summary.failed > *allowed {
                match (progress.not_allowed.as_slice(), &progress.failure) {
                    ([step], Some(failure)) if progress.since_failure + lines.err.len() >= FAR => {
                        lines.err.push(said(ERROR, "failed", &format!("{step}{of}: {failure}")));
                    }
                    ([] | [_], _) => {}
                    (steps, _) => {
                        lines.err.push(said(ERROR, "failed", &format!("{}{of}", several(steps))));
                    }
                }
            }
            if detail == Detail::Verbose && summary.saved_ms > 0 {
                lines
                    .err
                    .push(format!("what was reused took {} to make", words::duration_ms(summary.saved_ms)));
            }
            if detail > Detail::Quiet {
                let of = name.map_or(String::new(), |name| format!("{}: ", words::on_a_line(name)));
                lines.out.push(format!("{of}{}", last_line(summary, *allowed)));
            }
        }
    }
    lines
}

/// The one line that a run ends with: `12 reused, 3 ran, 0.8 s`.
///
/// In the order reused, unchanged, ran, joined, failed, skipped, cancelled, time. Zeros are left out, but for reused
/// and ran; where nothing at all had to be done it says so.
pub(crate) fn last_line(summary: &Summary, allowed: usize) -> String {
    let nothing =
        summary.counts().into_iter().all(|(outcome, count)| outcome == Outcome::Reused || count == 0);
    let mut text = match (summary.interrupted, nothing) {
        (true, _) => "interrupted: ".to_owned(),
        (false, true) => "nothing to run: ".to_owned(),
        (false, false) => String::new(),
    };
    for (outcome, number) in summary.counts() {
        let always = outcome == Outcome::Reused || (outcome == Outcome::Ran && !nothing);
        if number > 0 || always {
            let allowed = match outcome {
                Outcome::Failed if allowed > 0 && allowed == number => " (allowed)".to_owned(),
                Outcome::Failed if allowed > 0 => format!(" ({} of them allowed)", words::thousands(allowed)),
                _ => String::new(),
            };
            text.push_str(&format!("{} {}{allowed}, ", words::thousands(number), outcome.word()));
        }
    }
    text.push_str(&words::duration_ms(summary.elapsed_ms));
    text
}

/// A line that begins with an outcome.
fn said(style: anstyle::Style, word: &str, rest: &str) -> String {
    format!("{style}{word:9}{style:#} {}", words::on_a_line(rest))
}

fn failed(lines: &mut Vec<String>, step: &str, elapsed_ms: u64, report: Option<&FailureReport>) {
    let time = if elapsed_ms == 0 { String::new() } else { format!("  {}", words::duration_ms(elapsed_ms)) };
    let Some(report) = report else {
        lines.push(said(ERROR, "failed", &format!("{step}{time}")));
        return;
    };
    let attempts =
        if report.attempts > 1 { format!(" ({} attempts)", report.attempts) } else { String::new() };
    let allowed = if report.allowed { " (allowed)" } else { "" };
    lines.push(said(ERROR, "failed", &format!("{step}{time}{allowed}: {}{attempts}", report.failure)));
    lines.extend(report.log_tail.lines().map(|line| format!("  | {}", words::printed(line))));
    if let Some(hint) = &report.failure.hint {
        lines.push(format!("  {HINT}hint:{HINT:#} {hint}"));
    }
    if let Some(folder) = &report.folder {
        lines.push(format!(
            "  its folder is kept: {} (run.sh repeats it)",
            crate::session::shown(folder).display()
        ));
    }
}

/// Who makes what a run needs and does not make itself, of several runs or of one.
fn other(name: Option<&str>) -> &'static str {
    if name.is_some() { "another run" } else { "another process" }
}

/// Names in a row, the first five of them.
fn several(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use cas_engine::execute::{Cause, Failure};

    use super::super::runs::Runs;
    use super::*;

    fn plain(lines: &Lines) -> Vec<String> {
        lines.err.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    fn finished(outcome: Outcome) -> Event {
        let failure = (outcome == Outcome::Failed).then(|| FailureReport {
            failure: Failure {
                cause: Cause::Exit(3),
                message: "exit status 3".to_owned(),
                hint: Some("look".to_owned()),
            },
            log_tail: "one\ntwo".to_owned(),
            folder: Some("/s/failed/x".into()),
            attempts: 2,
            allowed: false,
        });
        Event::StepFinished {
            step: "train".to_owned(),
            outcome,
            elapsed_ms: 1200,
            saved_ms: 60_000,
            failure,
            skipped: None,
            at_ms: 0,
        }
    }

    fn cancelled(step: &str) -> Event {
        let (step, outcome, failure) = (step.to_owned(), Outcome::Cancelled, None);
        Event::StepFinished { step, outcome, elapsed_ms: 0, saved_ms: 0, failure, skipped: None, at_ms: 0 }
    }

    /// Four hundred lines stood between a failure and the end of its run.
    #[test]
    fn what_was_cancelled_is_told_together_and_the_failure_once_more_where_it_is_far_away() {
        let now = Instant::now();
        let told = |steps: &[String], detail: Detail| {
            let mut runs = Runs::new(Vec::new(), now);
            let mut told = Vec::new();
            let summary = Summary { failed: 1, ..Summary::default() };
            let ended = Event::RunFinished { summary, allowed: 0, at_ms: 0 };
            let cancelled = steps.iter().map(|step| cancelled(step));
            for event in std::iter::once(finished(Outcome::Failed)).chain(cancelled).chain([ended]) {
                told.extend(plain(&runs.absorb(0, &event, detail, now)));
            }
            told.split_off(5)
        };
        let elements = |count: usize| (0..count).map(|n| format!("work[n={n}]")).collect::<Vec<_>>();
        let few = [elements(2), vec!["total".to_owned()]].concat();
        let each = ["cancelled work[n=0]", "cancelled work[n=1]", "cancelled total"];
        assert_eq!(told(&few, Detail::Normal), each);
        assert_eq!(told(&few, Detail::Verbose), each);
        let many = [elements(420), vec!["total".to_owned()]].concat();
        assert_eq!(told(&many, Detail::Normal), ["cancelled work[*]  420 of 420", "cancelled total"]);
        let several: Vec<String> = (0..40).map(|n| format!("step_{n}")).collect();
        let lines = told(&several, Detail::Normal);
        assert_eq!(lines.len(), 12);
        let end = ["cancelled step_9", "cancelled and 30 more", "failed    train: exit status 3"];
        assert_eq!(lines[9..], end);
        assert_eq!(
            told(&many, Detail::Verbose).last().map(String::as_str),
            Some("failed    train: exit status 3")
        );
        assert_eq!(told(&many, Detail::Quiet), Vec::<String>::new());
    }

    /// The last line of a run that ended with 0 was that a step failed, in red.
    #[test]
    fn what_may_fail_is_told_once() {
        let now = Instant::now();
        let failed = |name: &str, is_allowed: bool| {
            let mut event = finished(Outcome::Failed);
            if let Event::StepFinished { step, failure: Some(report), .. } = &mut event {
                name.clone_into(step);
                report.allowed = is_allowed;
            }
            event
        };
        let told = |failures: &[Event], allowed: usize| {
            let mut runs = Runs::new(Vec::new(), now);
            let summary = Summary { failed: failures.len(), ..Summary::default() };
            let ended = Event::RunFinished { summary, allowed, at_ms: 0 };
            let ran = (0..20).map(|_| finished(Outcome::Ran));
            let mut told = Vec::new();
            for event in failures.iter().cloned().chain(ran).chain([ended]) {
                told.extend(plain(&runs.absorb(0, &event, Detail::Normal, now)));
            }
            let at_end = told.into_iter().rev().take_while(|line| !line.starts_with("ran "));
            at_end.collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(told(&[failed("links", true)], 1), none);
        assert_eq!(told(&[failed("links", true), failed("spelling", true)], 2), none);
        let one = ["failed    train: exit status 3"];
        assert_eq!(told(&[failed("train", false), failed("links", true)], 1), one);
        assert_eq!(told(&[failed("links", true), failed("train", false)], 1), one);
        let both = ["failed    train, total"];
        let all = [failed("train", false), failed("links", true), failed("total", false)];
        assert_eq!(told(&all, 1), both);
    }

    #[test]
    fn a_step_that_gathers_says_what_it_was_skipped_for() {
        let progress = Progress::new(Instant::now());
        let skipped = |too_many_failed| {
            let why = "2 of 6 elements of `train` failed, and `max_failed` is 1".to_owned();
            let (step, outcome, failure) = ("total".to_owned(), Outcome::Skipped, None);
            let skipped = Some(cas_engine::event::Skip { why, too_many_failed });
            Event::StepFinished { step, outcome, elapsed_ms: 0, saved_ms: 0, failure, skipped, at_ms: 0 }
        };
        let told = ["skipped   total  2 of 6 elements of `train` failed, and `max_failed` is 1"];
        let lines = |too_many, detail| plain(&lines(&progress, &skipped(too_many), detail, None));
        assert_eq!(lines(true, Detail::Quiet), told);
        assert_eq!(lines(true, Detail::Normal), told);
        assert_eq!(lines(false, Detail::Normal), Vec::<String>::new());
        assert_eq!(lines(false, Detail::Verbose), told);
    }

    #[test]
    fn the_last_line_counts_what_happened_in_order() {
        let check = |summary: Summary, expected: &str| assert_eq!(last_line(&summary, 0), expected);
        let some = Summary { reused: 12, ran: 3, elapsed_ms: 840, ..Summary::default() };
        check(some, "12 reused, 3 ran, 0.8 s");
        check(Summary { reused: 0, ..some }, "0 reused, 3 ran, 0.8 s");
        check(Summary { ran: 0, ..some }, "nothing to run: 12 reused, 0.8 s");
        check(Summary { ran: 0, unchanged: 1, ..some }, "12 reused, 1 unchanged, 0 ran, 0.8 s");
        check(
            Summary { interrupted: true, cancelled: 2, ..some },
            "interrupted: 12 reused, 3 ran, 2 cancelled, 0.8 s",
        );
        let all = Summary {
            reused: 66_002,
            unchanged: 1,
            ran: 2,
            joined: 3,
            failed: 4,
            skipped: 5,
            elapsed_ms: 61_000,
            ..Summary::default()
        };
        check(all, "66,002 reused, 1 unchanged, 2 ran, 3 joined, 4 failed, 5 skipped, 1 min 1 s");
    }

    #[test]
    fn a_step_that_ran_says_why_and_one_that_was_reused_only_when_asked() {
        let mut progress = Progress::new(Instant::now());
        let why = "config.tree_species: douglas_fir → red_maple".to_owned();
        progress.absorb(
            &Event::StepStarted { step: "train".to_owned(), attempt: 1, worker: 0, why: Some(why), at_ms: 0 },
            Instant::now(),
        );
        let check = |outcome, detail, expected: &[&str]| {
            assert_eq!(plain(&lines(&progress, &finished(outcome), detail, None)), expected);
        };
        check(
            Outcome::Ran,
            Detail::Normal,
            &["ran       train  1.2 s  config.tree_species: douglas_fir → red_maple"],
        );
        check(Outcome::Ran, Detail::Quiet, &[]);
        check(Outcome::Reused, Detail::Normal, &[]);
        check(Outcome::Reused, Detail::Verbose, &["reused    train  took 1 min once"]);
        check(Outcome::Skipped, Detail::Normal, &[]);
    }

    #[test]
    fn a_failure_is_told_even_quietly_with_its_log_and_where_to_look() {
        let progress = Progress::new(Instant::now());
        assert_eq!(
            plain(&lines(&progress, &finished(Outcome::Failed), Detail::Quiet, None)),
            [
                "failed    train  1.2 s: exit status 3 (2 attempts)",
                "  | one",
                "  | two",
                "  hint: look",
                "  its folder is kept: /s/failed/x (run.sh repeats it)",
            ]
        );
    }
}
