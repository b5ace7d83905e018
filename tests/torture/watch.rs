//! What processes do that have not ended: whether anything goes on, and what each of their threads waits in.
//!
//! A process that waits for its turn on a busy machine, or for a slow disk, looks like one that hangs until it is asked
//! twice: what uses no processor time and says nothing between two looks waits for somebody.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The ticks in a second of the processor times in `/proc`: 100 for every program, whatever the kernel counts in.
const TICKS: u64 = 100;

/// What a thread was found at.
struct Thread {
    number: String,
    name: String,
    /// R: it runs or would; S: it waits; D: it waits for a disk; T: it is stopped; Z: it has ended.
    state: String,
    wchan: String,
    syscall: String,
    /// Processor time, and the time that it was ready and had none, both in milliseconds.
    ran_ms: u64,
    starved_ms: u64,
}

/// The processor time that a process and the children that it has waited for have used, and for how long its threads
/// were ready and had none.
pub(crate) fn used(pid: u32) -> Duration {
    let stat = read(&format!("/proc/{pid}/stat"));
    // Behind the name, which may hold anything: the state is the first field, the times are the 12th to the 15th.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    let starved: u64 = threads(pid).iter().map(|thread| thread.starved_ms).sum();
    Duration::from_millis(ticks * 1000 / TICKS + starved)
}

/// Says of each process what its threads do, looking twice so long apart.
pub(crate) fn describe(pids: &[u32], apart: Duration) -> Vec<String> {
    let before: Vec<Vec<Thread>> = pids.iter().map(|pid| threads(*pid)).collect();
    std::thread::sleep(apart);
    pids.iter().zip(before).map(|(pid, before)| describe_one(*pid, &before)).collect()
}

fn describe_one(pid: u32, before: &[Thread]) -> String {
    let mut words = String::new();
    for thread in threads(pid) {
        let Thread { number, name, state, wchan, syscall, ran_ms, starved_ms } = thread;
        let old = before.iter().find(|old| old.number == number);
        let (ran_before, starved_before) = old.map_or((0, 0), |old| (old.ran_ms, old.starved_ms));
        let _ = writeln!(
            words,
            "  {number} {name}: {state} in {wchan}, system call {syscall}; ran {ran_before} ms and now {ran_ms}, was \
             kept waiting for a processor {starved_before} ms and now {starved_ms}"
        );
    }
    words
}

fn threads(pid: u32) -> Vec<Thread> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut threads: Vec<Thread> = entries.flatten().map(|entry| thread(&entry.path())).collect();
    threads.sort_by_key(|thread| thread.number.parse::<u32>().unwrap_or(0));
    threads
}

fn thread(path: &Path) -> Thread {
    let of = |name: &str| read(&path.join(name).to_string_lossy());
    let stat = of("stat");
    let schedule = of("schedstat");
    let mut times = schedule.split(' ').map(|ns| ns.parse::<u64>().unwrap_or(0) / 1_000_000);
    Thread {
        number: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        name: of("comm"),
        state: stat.rsplit(") ").next().and_then(|rest| rest.split(' ').next()).unwrap_or("?").to_owned(),
        wchan: of("wchan"),
        syscall: of("syscall"),
        ran_ms: times.next().unwrap_or(0),
        starved_ms: times.next().unwrap_or(0),
    }
}

/// A process that has just ended has none of these.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_thread_that_waits_is_told_from_one_that_works() {
    use std::sync::atomic::{AtomicBool, Ordering};

    // It goes on for as long as it is looked at.
    static DONE: AtomicBool = AtomicBool::new(false);
    let pid = std::process::id();
    let name = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let works = || {
        while !DONE.load(Ordering::Relaxed) {
            std::hint::spin_loop()
        }
    };
    let works = name("works").spawn(works).expect("a thread");
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let waits = name("waits").spawn(move || ended.recv().is_err()).expect("a thread");
    let enough = used(pid) + Duration::from_millis(200);
    while used(pid) < enough {
        std::thread::yield_now();
    }
    let words = describe(&[pid], Duration::from_millis(1)).remove(0);
    DONE.store(true, Ordering::Relaxed);
    drop(end);
    works.join().expect("it ends");
    assert!(waits.join().expect("it ends"));
    let is = |line: &str| words.lines().any(|found| found.contains(line));
    assert!(is(" works: R in "), "{words}");
    assert!(is(" waits: S in "), "{words}");
}
