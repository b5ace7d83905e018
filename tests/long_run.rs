//! Ten thousand steps on a terminal: what stands there in the end, above and on the screen, and how much was written
//! for it. The program is a Rust pipeline, because its steps cost next to nothing, and is this one: started again with
//! the words of a command line. So it has no harness of its own, whose words would stand on the terminal too.

#[path = "kit/mod.rs"]
mod kit;
#[path = "kit/terminal.rs"]
mod terminal;

use std::process::{Command, ExitCode};
use std::time::Instant;

use cas_engine::typed::Builder;
use kit::Folder;
use terminal::{Terminal, timeless};

const STEPS: usize = 10_000;

#[expect(clippy::print_stdout, reason = "it is its own harness, and says what harnesses say")]
fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("run") => cas_cli::main(steps()),
        // What asks a test for its list or for a part of it is answered by doing all there is.
        _ => {
            each_of_ten_thousand_steps_is_told_once_and_the_area_costs_what_it_is_worth();
            println!(
                "test each_of_ten_thousand_steps_is_told_once_and_the_area_costs_what_it_is_worth ... ok"
            );
            ExitCode::SUCCESS
        }
    }
}

fn steps() -> Result<cas_engine::pipeline::Pipeline, cas_engine::error::EngineError> {
    let mut p = Builder::new("long");
    for n in 0..STEPS {
        let _ = p.solid(&format!("step_{n}"), "1").run(|| ());
    }
    p.build()
}

fn run(folder: &Folder) -> Terminal {
    let program = std::env::current_exe().expect("it has a path");
    let mut command: Command = folder.command(&program);
    command.args(["run", "-j", "1"]).env("TERM", "xterm-256color");
    Terminal::start(command, (24, 80))
}

fn each_of_ten_thousand_steps_is_told_once_and_the_area_costs_what_it_is_worth() {
    let folder = Folder::new();
    let began = Instant::now();
    let mut terminal = run(&folder);
    while terminal.read() {}
    let took = began.elapsed();
    let rows = terminal.all_rows();
    let mut expected = vec!["run 1 of long: 10,000 steps to run".to_owned()];
    expected.extend((0..STEPS).map(|n| format!("ran  step_{n}  T s  for the first time")));
    expected.push(timeless("0 reused, 10,000 ran, 1 s"));
    for (row, expected) in rows.iter().zip(&expected) {
        // Longer runs say their time in two words.
        assert!(row == expected || row.starts_with("0 reused, 10,000 ran, T s"), "{row}, not {expected}");
    }
    assert_eq!(rows.len(), expected.len(), "{:?}", &rows[rows.len().saturating_sub(30)..]);

    // What was told, and ten frames a second at most, each of a line for the one step that runs and one of counts.
    let bytes = terminal.bytes.len();
    let text = String::from_utf8_lossy(&terminal.bytes).into_owned();
    let frames = text.matches("\u{1b}[J").count();
    assert!(frames as u128 <= took.as_millis() / 100 + 2, "{frames} frames in {took:?}");
    let told: usize = STEPS * "ran       step_9999  999 ms  for the first time\r\n\u{1b}[32m\u{1b}[0m".len();
    assert!(bytes <= told + 200 + frames * 250, "{bytes} bytes in {frames} frames");

    // The second time nothing is to be told of any of them.
    let mut terminal = run(&folder);
    while terminal.read() {}
    let rows = terminal.all_rows();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].starts_with("nothing to run: 10,000 reused, T"), "{rows:?}");
    assert!(terminal.bytes.len() < 2000, "{}", terminal.bytes.len());
}
