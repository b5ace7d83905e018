//! The live view of a run, on a terminal that is one: what stands on its screen, at any moment and in the end.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

use crate::kit::Folder;
use crate::terminal_kit::Terminal;

/// `cas` on a terminal of so many rows and columns.
fn start(folder: &Folder, size: (u16, u16), words: &[&str], vars: &[(&str, &str)]) -> Terminal {
    let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
    command.args(words).env("TERM", "xterm-256color").envs(vars.iter().copied());
    Terminal::start(command, size)
}

/// The same, and the terminal is the one that `cas` belongs to: what is typed there reaches it.
fn start_at(folder: &Folder, size: (u16, u16), line: &[&str]) -> Terminal {
    let mut command = folder.command("setsid".as_ref());
    command.arg("--ctty").args(line).env("TERM", "xterm-256color");
    Terminal::start(command, size)
}

/// Steps that wait at a pipe each.
fn waiting(names: &[&str], extra: &str) -> Folder {
    let folder = Folder::new();
    let mut yaml = "pipeline: p\nsolids:\n".to_owned();
    for name in names {
        let pipe = folder.path(&format!("pipe_{name}"));
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
        yaml += &format!("  {name}: {{command: 'read x < {}', outputs: []}}\n", pipe.display());
    }
    folder.write("pipeline.yaml", yaml + extra);
    folder
}

fn go_on(folder: &Folder, name: &str) {
    let pipe = folder.path(&format!("pipe_{name}"));
    writeln!(File::options().write(true).open(pipe).expect("a pipe"), "go on").expect("somebody reads it");
}

#[test]
fn the_screen_shows_what_runs_and_in_the_end_only_what_ran() {
    let folder = waiting(&["a", "b"], "  c: {command: 'true', outputs: []}\n");
    let mut terminal = start(&folder, (24, 80), &["run", "-j", "2"], &[]);
    let mut rows = terminal.until("2 running");
    // Which of the two began first is theirs to say.
    rows[1..3].sort_unstable();
    assert_eq!(
        rows,
        ["run 1 of p: 3 steps to run", "  a  T s", "  b  T s", "0 reused, 0 ran, 2 running, 1 left, T s"]
    );
    go_on(&folder, "a");
    terminal.until("1 running");
    go_on(&folder, "b");
    let (rows, _, ended) = terminal.end();
    let mut ran: Vec<&str> = rows[1..4].iter().map(String::as_str).collect();
    ran.sort_unstable();
    assert_eq!(ran, ["a", "b", "c"].map(|step| format!("ran  {step}  T s  for the first time")));
    assert_eq!((rows[0].as_str(), rows[4].as_str()), ("run 1 of p: 3 steps to run", "0 reused, 3 ran, T s"));
    assert!(ended && rows.len() == 5, "{rows:?}");
}

#[test]
fn long_and_wide_names_fit_a_narrow_screen_and_keep_both_ends() {
    let (long, wide) = ("a_name_that_is_longer_than_the_screen_is_wide_end1", "日本語".repeat(10));
    // A pipe for each: of two readers of one, one could take both lines.
    let folder = waiting(&[long, "w"], "");
    let text = folder.read("pipeline.yaml").replace("  w: {", &format!("  w: {{matrix: {{n: [{wide}]}}, "));
    folder.write("pipeline.yaml", text);
    let mut terminal = start(&folder, (10, 40), &["run", "-j", "2"], &[]);
    let rows = terminal.until("2 running");
    // As many rows as a third of so low a screen has room for.
    let both_ends = |begin: &str, end: &str| {
        rows[1].starts_with(begin) && rows[1].contains("…") && rows[1].ends_with(end)
    };
    assert!(both_ends("  a_name_that_", "_end1  T s") || both_ends("  w[n=日本語", "本語]  T s"), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("and 1 more")), "{rows:?}");
    assert!(rows.last().is_some_and(|row| row.starts_with("0 reused, 0 ran, 2 running")), "{rows:?}");
    go_on(&folder, long);
    go_on(&folder, "w");
    let (rows, _, _) = terminal.end();
    assert!(rows.iter().all(|row| !row.contains("running")), "{rows:?}");
}

#[test]
fn a_screen_that_is_resized_while_steps_run_shows_each_thing_once() {
    let folder = waiting(&["a", "b"], "");
    let mut terminal = start(&folder, (24, 80), &["run", "-j", "2"], &[]);
    terminal.until("2 running");
    terminal.resize(30, 120);
    go_on(&folder, "a");
    terminal.until("1 running");
    terminal.resize(20, 100);
    go_on(&folder, "b");
    let (rows, _, ended) = terminal.end();
    assert!(ended);
    let mut ran = rows[1..3].to_vec();
    ran.sort_unstable();
    assert_eq!(ran, ["a", "b"].map(|step| format!("ran  {step}  T s  for the first time")));
    assert_eq!((rows.len(), rows[3].as_str()), (4, "0 reused, 2 ran, T s"), "{rows:?}");
}

/// A terminal may cut what is too long, or break it anew; this one cuts. Either way the area is drawn from where its
/// first line stands, so that neither is anything of it left nor anything above it lost.
#[test]
fn a_screen_that_narrows_while_steps_run_keeps_no_rest_and_loses_nothing() {
    let long = "a_step_whose_name_is_nearly_as_wide_as_the_screen";
    let folder = waiting(&["a", "b", long], "");
    let mut terminal = start(&folder, (24, 80), &["run", "-j", "3"], &[]);
    terminal.until("3 running");
    go_on(&folder, "a");
    let rows = terminal.until("2 running");
    assert_eq!(rows[..2], ["run 1 of p: 3 steps to run", "ran  a  T s  for the first time"]);
    let mut left: Vec<&str> = rows[2..4].iter().map(String::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, [&format!("  {long}  T s"), "  b  T s"]);
    for columns in [50, 30, 24, 40] {
        terminal.resize(24, columns);
        // The next frame is drawn as the screen is now: the name is cut where it does not fit.
        let rows = terminal.when(|screen| {
            let wide = |row: &str| row.chars().count() + 1 == usize::from(columns) && row.ends_with(" s");
            screen.lines().any(|row| row.starts_with("  a_st") && row.contains('…') && wide(row))
        });
        let told = ["run 1 of p: 3 steps to run", "ran  a  T s  for the first time"];
        let kept = rows.iter().zip(told).all(|(row, told)| told.starts_with(row) && row.len() > 14);
        assert!(kept, "{columns}: {rows:?}");
        let of = |begin: &str| rows.iter().filter(|row| row.trim_start().starts_with(begin)).count();
        assert_eq!(
            (of("a_st"), of("b "), of("0 reused, 1 ran"), rows.len()),
            (1, 1, 1, 5),
            "{columns}: {rows:?}"
        );
    }
    go_on(&folder, "b");
    terminal.until("1 running");
    go_on(&folder, long);
    let (rows, _, ended) = terminal.end();
    assert!(ended);
    assert!(rows.iter().all(|row| !row.contains("running")), "{rows:?}");
    assert_eq!(rows.last().map(String::as_str), Some("0 reused, 3 ran, T s"));
}

#[test]
fn ctrl_z_gives_the_terminal_back_as_it_was() {
    let folder = waiting(&["a"], "");
    let cas = env!("CARGO_BIN_EXE_cas");
    let mut terminal = start_at(&folder, (24, 80), &[cas, "run"]);
    terminal.until("1 running");
    terminal.type_in("\u{1a}");
    let stopped = waitpid(Some(terminal.child()), WaitOptions::UNTRACED).expect("it is our child");
    assert!(stopped.is_some_and(|(_, status)| status.stopped()), "{stopped:?}");
    // All that it wrote before is there to be read: the last of it took the area away, and what follows stands at the
    // beginning of a line.
    while !terminal.bytes.ends_with(b"\r\x1b[J") {
        assert!(terminal.read());
    }
    let (row, column) = terminal.screen.screen().cursor_position();
    assert_eq!((row, column), (1, 0));
    assert_eq!(terminal.rows(), ["run 1 of p: 1 step to run"]);
    kill_process(terminal.child(), Signal::CONT).expect("it is our child");
    terminal.until("1 running");
    go_on(&folder, "a");
    let (rows, _, ended) = terminal.end();
    assert_eq!(
        rows,
        ["run 1 of p: 1 step to run", "ran  a  T s  for the first time", "0 reused, 1 ran, T s"]
    );
    assert!(ended);
}

/// The terminal's stop also reached the child that a step was just being started in: it stopped for ever before it had
/// its program, and the worker that waited for it kept the run from being stopped, and everybody from the store.
#[test]
fn ctrl_z_stops_a_run_that_starts_steps_all_the_time() {
    // Far more than are told of: what runs is ahead of what was read of it. One waits until it is told to go on, so that
    // the run is not over before it is stopped, however late that is typed.
    let keys: Vec<String> = (100..400).map(|key| key.to_string()).collect();
    let folder = waiting(
        &["last"],
        "  a:\n    matrix: {k: [KEYS]}\n    command: 'echo {{ matrix.k }} >> LOG; echo > {{ outputs.result }}'\n",
    );
    let yaml = folder.read("pipeline.yaml").replace("KEYS", &keys.join(", "));
    folder.write("pipeline.yaml", yaml.replace("LOG", &folder.path("log").display().to_string()));
    let mut terminal = start_at(&folder, (24, 80), &[env!("CARGO_BIN_EXE_cas"), "run", "-v", "-j", "8"]);
    let pid = terminal.child();
    for ran in (5..100).step_by(10) {
        while count(&terminal.bytes, b"for the first time") < ran {
            assert!(terminal.read(), "{:?}", terminal.rows());
        }
        // It is waited for elsewhere, so that a run that is never stopped is found out.
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(waitpid(Some(pid), WaitOptions::UNTRACED)));
        // Of what it is told in one moment, to go on and to stop, the former may be heard last: then it is typed again, as
        // one would.
        let stopped = (0..20).find_map(|_| {
            terminal.type_in("\u{1a}");
            heard.recv_timeout(Duration::from_secs(5)).ok()
        });
        let status = stopped.expect("it is stopped");
        assert!(status.is_ok_and(|status| status.is_some_and(|(_, status)| status.stopped())), "{status:?}");
        kill_process(pid, Signal::CONT).expect("it is our child");
    }
    go_on(&folder, "last");
    let (_, _, ended) = terminal.end();
    assert!(ended);
    let log = folder.read("log");
    let mut once: Vec<&str> = log.lines().collect();
    once.sort_unstable();
    assert_eq!(once, keys);
}

/// How often something stands in what was written.
fn count(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).filter(|window| *window == what).count()
}

#[test]
fn a_run_in_the_background_draws_over_nothing_that_is_typed() {
    let folder = waiting(&["a", "b"], "");
    let line = format!("{} run -j 1 & wait", env!("CARGO_BIN_EXE_cas"));
    let mut terminal = start_at(&folder, (24, 80), &["sh", "-mc", &line]);
    terminal.until("2 steps to run");
    go_on(&folder, "a");
    terminal.until("ran       a");
    go_on(&folder, "b");
    let (rows, bytes, _) = terminal.end();
    assert!(!String::from_utf8_lossy(&bytes).contains("\x1b[J"), "{rows:?}");
    assert_eq!(
        rows[..4],
        [
            "run 1 of p: 2 steps to run",
            "ran  a  T s  for the first time",
            "ran  b  T s  for the first time",
            "0 reused, 2 ran, T s"
        ]
    );
}

#[test]
fn in_ci_and_on_a_dumb_terminal_lines_are_all_there_is() {
    for vars in [("CI", "true"), ("TERM", "dumb")] {
        let folder =
            Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids:\n  a: {command: 'true', outputs: []}\n")]);
        let (rows, bytes, _) = start(&folder, (24, 80), &["run"], &[vars]).end();
        assert_eq!(rows.len(), 3, "{rows:?}");
        let text = String::from_utf8_lossy(&bytes);
        // Nothing moves the cursor or clears anything.
        assert!(!text.contains("\x1b[J"), "{text:?}");
    }
}

#[test]
fn no_color_means_none() {
    let folder =
        Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids:\n  a: {command: 'exit 1', outputs: []}\n")]);
    let coloured = |vars: &[(&str, &str)]| {
        let (_, bytes, _) = start(&folder, (24, 80), &["run"], vars).end();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split("\x1b[").skip(1).any(|code| {
            code.split(|c: char| c.is_ascii_alphabetic())
                .next()
                .is_some_and(|n| code[n.len()..].starts_with('m'))
        })
    };
    assert!(coloured(&[]));
    assert!(!coloured(&[("NO_COLOR", "1")]));
}

#[test]
fn hundreds_of_steps_are_drawn_no_more_often_than_ten_times_a_second() {
    let numbers: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let yaml = format!(
        "pipeline: p\nsolids:\n  each: {{matrix: {{n: [{}]}}, command: 'true', outputs: []}}\n",
        numbers.join(", ")
    );
    let folder = Folder::with(&[("pipeline.yaml", &yaml)]);
    let began = Instant::now();
    let (rows, bytes, ended) = start(&folder, (24, 80), &["run"], &[]).end();
    let took = began.elapsed();
    assert!(ended);
    assert_eq!(rows.last().map(String::as_str), Some("0 reused, 400 ran, T s"));
    assert!(rows.iter().any(|row| row.starts_with("why  each[*]  400 of 400")), "{rows:?}");
    let text = String::from_utf8_lossy(&bytes);
    let frames = text.matches("\x1b[J").count() as u128;
    assert!(frames <= took.as_millis() / Duration::from_millis(100).as_millis() + 3, "{frames} in {took:?}");
    // Ten of them are told one by one.
    assert_eq!(
        text.matches("ran\u{1b}[0m").count().max(text.matches("ran      ").count()),
        10,
        "{}",
        text.len()
    );
}
