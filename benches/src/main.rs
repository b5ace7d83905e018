//! The programs that `scripts/bench` measures where the command has none of its own: each does one thing to a store
//! or with the library, and prints one line: seconds, the most memory that it had in MiB, and what it counted.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use cas_benches::{Wrong, commit, graph, grid, open, plan, trace, version};
use cas_engine::typed::{Axis, Builder, Options, run};
use cas_store::{Commit, Hosting, Mode, Output, Policy, Put, Store, Take};

const USAGE: &str =
    "usage: cas-bench plan COUNT | steps STORE COUNT | put STORE PATH | get STORE PATH TO | map STORE PATH |
       fill STORE RECORDS OUTPUTS | open STORE | hold STORE | lookup STORE RECORDS COUNT PLAN [guest] |
       gc STORE dry|collect MAX_BYTES";

fn main() -> Result<(), Wrong> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (began, count) = match words.as_slice() {
        ["plan", count] => planned(count.parse()?)?,
        ["steps", store, count] => steps(Path::new(store), count.parse()?)?,
        ["put", store, path] => put(Path::new(store), Path::new(path))?,
        ["get", store, path, to] => get(Path::new(store), Path::new(path), Path::new(to))?,
        ["fill", store, records, outputs] => fill(Path::new(store), records.parse()?, outputs.parse()?)?,
        ["open", store] => return opened(Path::new(store)),
        ["hold", store] => return hold(Path::new(store)),
        ["lookup", store, records, count, plan] => {
            let asked = (count.parse()?, plan.parse()?);
            return looked_up(Path::new(store), records.parse()?, asked, Hosting::Willing);
        }
        ["lookup", store, records, count, plan, "guest"] => {
            let asked = (count.parse()?, plan.parse()?);
            return looked_up(Path::new(store), records.parse()?, asked, Hosting::Declined);
        }
        ["map", store, path] => mapped(Path::new(store), Path::new(path))?,
        ["gc", store, "dry", bytes] => return gc(Path::new(store), Mode::DryRun, bytes.parse()?),
        ["gc", store, "collect", bytes] => return gc(Path::new(store), Mode::Collect, bytes.parse()?),
        _ => return Err(USAGE.into()),
    };
    say(&format!("{:.4} {:.1} {count}", began.elapsed().as_secs_f64(), peak_mib()?));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn say(line: &str) {
    println!("{line}");
}

/// The largest resident set that this process had.
fn peak_mib() -> Result<f64, Wrong> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Reads a file of so many steps with three inputs each, and gives each its version.
fn planned(count: usize) -> Result<(Instant, u64), Wrong> {
    let text = grid(count);
    let began = Instant::now();
    let plan = plan(graph(&text, &std::env::current_dir()?)?)?;
    assert!(plan.steps.len() >= count && plan.versions.iter().all(Option::is_some));
    let steps = plan.steps.len() as u64;
    // What it took to have it, not to let go of it.
    std::mem::forget(plan);
    Ok((began, steps))
}

/// Runs so many Rust steps, each of which adds one to its number.
fn steps(store: &Path, count: u64) -> Result<(Instant, u64), Wrong> {
    let began = Instant::now();
    let mut builder = Builder::new("numbers").folder(std::env::current_dir()?);
    let axis = Axis::new("n", 0..count);
    builder.solid("next", "1").over(&axis).run(|n: u64| n + 1);
    let pipeline = builder.build()?;
    let run = run(&pipeline, store, Options { all: true, ..Options::default() }, |_| {})?;
    let summary = run.summary();
    assert_eq!((summary.ran + summary.reused) as u64, count, "{summary:?}");
    let ran = summary.ran as u64;
    // The store is closed within the time.
    drop(run);
    Ok((began, ran))
}

/// Stores a file or folder, and what was committed is acknowledged; as the step of an engine that copies what it was
/// given.
fn put(store: &Path, path: &Path) -> Result<(Instant, u64), Wrong> {
    let store = open(store, Hosting::Willing)?;
    let began = Instant::now();
    let staged = match path.is_dir() {
        true => store.stage_tree(path, Take::Copy)?,
        false => store.stage_file(path, Take::Copy)?,
    };
    let artifact = staged.artifact("path");
    let bytes = artifact.len;
    let number = number_of(path);
    let outputs = vec![Output { name: "result".to_owned(), artifact: Some(artifact) }];
    store.commit(Commit {
        rows: vec![version(number)],
        made_ms: 1,
        cost_ms: 1,
        put: Put::Replace,
        ..Commit::bare(trace(number), outputs, vec![staged])
    })?;
    Ok((began, bytes))
}

/// Gives what was stored of this path to a person.
fn get(store: &Path, path: &Path, to: &Path) -> Result<(Instant, u64), Wrong> {
    let store = open(store, Hosting::Willing)?;
    let began = Instant::now();
    let found = store.lookup(&[version(number_of(path))])?.pop().flatten().ok_or("it is not stored")?;
    let artifact = found.record.outputs[0].artifact.clone().ok_or("it has no bytes")?;
    store.materialize(&artifact, to)?;
    Ok((began, artifact.len))
}

/// Maps what was stored of this path, twice; the second time counts: it was checked since the machine started.
fn mapped(store: &Path, path: &Path) -> Result<(Instant, u64), Wrong> {
    let store = open(store, Hosting::Willing)?;
    let found = store.lookup(&[version(number_of(path))])?.pop().flatten().ok_or("it is not stored")?;
    let artifact = found.record.outputs[0].artifact.clone().ok_or("it has no bytes")?;
    drop(store.bytes(&artifact.digest)?);
    let began = Instant::now();
    let bytes = store.bytes(&artifact.digest)?;
    Ok((began, bytes.len() as u64))
}

/// A number for a path, far from those of records.
fn number_of(path: &Path) -> u64 {
    let hash = blake3::hash(path.as_os_str().as_encoded_bytes());
    hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)) | 1 << 63
}

/// Fills a store with records through commits, as many at once as there are cores.
fn fill(store: &Path, records: u64, outputs: u64) -> Result<(Instant, u64), Wrong> {
    let store = open(store, Hosting::Willing)?;
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let commits = records.div_ceil(outputs);
    std::thread::scope(|scope| {
        let works: Vec<_> = (0..threads)
            .map(|first| {
                let store = &store;
                scope.spawn(move || -> Result<(), Wrong> {
                    for number in (first..commits).step_by(usize::try_from(threads)?) {
                        store.commit(commit(store, number, outputs)?)?;
                    }
                    Ok(())
                })
            })
            .collect();
        works.into_iter().try_for_each(|work| work.join().map_err(|_| "a thread panicked")?)
    })?;
    store.compact()?;
    drop(store);
    Ok((began, commits * outputs))
}

/// Opens a store and asks it for one record.
fn opened(store: &Path) -> Result<(), Wrong> {
    let began = Instant::now();
    let store = open(store, Hosting::Willing)?;
    let found = store.lookup(&[version(0)])?;
    let there = found.iter().flatten().count() as u64;
    // Opened and asked; closing is not part of it.
    let line = format!("{:.4} {:.1} {there}", began.elapsed().as_secs_f64(), peak_mib()?);
    drop(store);
    say(&line);
    Ok(())
}

/// Serves a store until standard input ends.
fn hold(store: &Path) -> Result<(), Wrong> {
    let store = open(store, Hosting::Willing)?;
    say("open");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(store);
    Ok(())
}

/// Looks up so many versions all over a store of so many records, as plans that ask for so many at once: a plan asks for all
/// outputs of a step.
fn looked_up(store: &Path, records: u64, (count, plan): (u64, usize), hosting: Hosting) -> Result<(), Wrong> {
    /// How many outputs the steps of that store have.
    const OUTPUTS: u64 = 10;

    let store: Store = open(store, hosting)?;
    // A prime, so that every step is reached, and neighbours in time are none in the store.
    let steps = (0..count.div_ceil(OUTPUTS)).map(|at| at * 7_368_787 % records.div_ceil(OUTPUTS));
    let versions: Vec<_> =
        steps.flat_map(|step| (0..OUTPUTS).map(move |at| version(step * OUTPUTS + at))).collect();
    let began = Instant::now();
    let mut found = 0;
    for plan in versions.chunks(plan.max(1)) {
        found += store.lookup(plan)?.iter().flatten().count() as u64;
    }
    assert_eq!(found, versions.len() as u64, "some records are not there");
    let line = format!("{:.4} {:.1} {found}", began.elapsed().as_secs_f64(), peak_mib()?);
    drop(store);
    say(&line);
    Ok(())
}

/// Collects until so many bytes are left, or says what would go.
fn gc(store: &Path, mode: Mode, bytes: u64) -> Result<(), Wrong> {
    let store = open(store, Hosting::Willing)?;
    let began = Instant::now();
    let policy = Policy { max_size_bytes: Some(bytes), ..Policy::default() };
    let mut told = 0;
    let report = store.gc(&policy, mode, 1 << 41, &mut |_| told += 1)?;
    let seconds = began.elapsed();
    let (results, freed) = (report.results, report.freed_bytes);
    say(&format!("{:.4} {:.1} {told} {results} {freed}", seconds.as_secs_f64(), peak_mib()?));
    drop(store);
    Ok(())
}
