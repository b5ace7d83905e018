//! Sixteen processes on one store, any of which is killed or stopped at any moment, the host too, while garbage is
//! collected: nothing that was acknowledged is lost, no byte is wrong, no step runs twice unless whoever ran it died,
//! and nobody hangs. What is right is known from outside of the store: see `oracle.rs`.
//!
//! `CAS_TORTURE_SECONDS` (8) is how long each of the two tests goes on killing; `CAS_TORTURE_SEED` chooses the
//! pipelines and the order of events. What the processes do between two signals is the machine's choice, so a seed
//! repeats the plan and not the moment.

#[path = "../kit/mod.rs"]
mod kit;

mod chance;
mod oracle;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use chance::Chance;
use kit::Folder;
use oracle::{Log, Universe};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// So many processes use the store at once.
const PROCESSES: usize = 16;
/// The steps that pipelines choose from, and how many pipelines there are.
const STEPS: usize = 24;
const PIPELINES: u64 = 8;
/// So many processes are started for one value of what all steps take as config: then there is new work.
const STARTS: usize = 24;
/// So often nobody is killed or stopped until all have ended: one that hangs would be killed sooner or later, and then
/// nobody would know.
const LULL: Duration = Duration::from_secs(20);
/// Where nobody is stopped and nothing has gone on for so long, those that are left hang.
const HUNG: Duration = Duration::from_secs(180);
/// Where nothing ends or is said for so long, whatever is done for it, they go round in circles.
const CIRCLES: Duration = Duration::from_secs(900);
/// Those that hang look around now and then: that takes less than this part of their time.
const IDLE: u32 = 10;
/// The longest time that a process is stopped for, in milliseconds: one of more than 30 s loses what it claims.
const LONGEST_STOP: u64 = 700;

#[test]
fn whoever_is_killed_or_stopped_no_result_is_lost_and_no_step_runs_twice() {
    Torture::new(false).run();
}

#[test]
fn whoever_is_killed_while_results_are_evicted_no_byte_is_wrong() {
    Torture::new(true).run();
}

struct Torture {
    folder: Folder,
    universe: Universe,
    log: Log,
    chance: Chance,
    seed: u64,
    time: Duration,
    evicts: bool,
    alive: BTreeMap<usize, Process>,
    started: usize,
    killed: usize,
    stopped: usize,
    hosts: usize,
    /// What processes said they had run, and what any said is there.
    ran: BTreeSet<(String, usize)>,
    known: BTreeSet<String>,
    ended: Sender<(usize, ExitStatus)>,
    ends: Receiver<(usize, ExitStatus)>,
}

struct Process {
    pid: u32,
    handle: OwnedFd,
    line: String,
    killed: bool,
    /// When it is to go on.
    stopped: Option<Instant>,
}

impl Torture {
    fn new(evicts: bool) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("CAS_TORTURE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        let time = Duration::from_secs(number("CAS_TORTURE_SECONDS").unwrap_or(8));
        let mut chance = Chance::new(seed);
        let folder = Folder::new();
        let log = folder.path("log");
        let universe = Universe::new(&mut chance, STEPS, &log);
        folder.write("pipeline.yaml", universe.pipeline(0..universe.len()));
        for pipeline in 0..PIPELINES {
            let wanted: Vec<usize> = (0..3).map(|_| chance.below(STEPS as u64) as usize).collect();
            folder.write(&format!("p{pipeline}.yaml"), universe.pipeline(wanted));
        }
        fs::create_dir_all(folder.path("out")).expect("a folder for what they say");
        let log = Log::new(&log);
        let (ended, ends) = channel();
        Self {
            folder,
            universe,
            log,
            chance,
            seed,
            time,
            evicts,
            alive: BTreeMap::new(),
            started: 0,
            killed: 0,
            stopped: 0,
            hosts: 0,
            ran: BTreeSet::new(),
            known: BTreeSet::new(),
            ended,
            ends,
        }
    }

    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what it printed, and the seed has to be among it"
    )]
    fn run(&mut self) {
        println!("seed {}", self.seed);
        let begin = Instant::now();
        let mut lull = begin + LULL;
        while begin.elapsed() < self.time {
            if Instant::now() >= lull {
                self.see_out();
                lull = Instant::now() + LULL;
            }
            while self.alive.len() < PROCESSES {
                self.start_any();
            }
            // Between two signals processes end, and stopped ones are to go on.
            let pause = Duration::from_micros(self.chance.below(100_000));
            self.listen_until(Instant::now() + pause);
            self.strike();
        }
        self.see_out();
        let known = self.known.clone();
        self.settle();
        let (faults, steps) = self.log.faults(&self.ran, &known, self.evicts);
        println!(
            "{} processes, {} killed ({} of them the host), {} stopped, {steps} steps begun, {} acknowledged",
            self.started,
            self.killed,
            self.hosts,
            self.stopped,
            known.len(),
        );
        assert!(faults.is_empty(), "seed {}: {faults:#?}\n{}", self.seed, self.folder.read("log"));
    }

    /// What one of the processes does.
    fn start_any(&mut self) {
        let round = (self.started / STARTS) as u64;
        let line = match self.chance.below(16) {
            // There is always one that collects.
            0 | 1 if self.evicts => "gc --max-size 300K".to_owned(),
            0 | 1 => "gc".to_owned(),
            2 => format!("versions --set round={round}"),
            3 => "verify --quick".to_owned(),
            _ => {
                // Now and then something is asked for again that was made long ago.
                let round = if self.chance.below(4) == 0 { self.chance.below(round + 1) } else { round };
                let pipeline = self.chance.below(PIPELINES);
                format!("run -f p{pipeline}.yaml --set round={round} --format json -j 2")
            }
        };
        self.start(&line);
    }

    fn start(&mut self, line: &str) {
        let number = self.started;
        self.started += 1;
        let mut command: Command = self.folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        command.args(line.split(' ')).env("TORTURE", number.to_string());
        command.stdout(File::create(self.said(number, "out")).expect("a file for what it says"));
        command.stderr(File::create(self.said(number, "err")).expect("a file for what it says"));
        let mut child = command.spawn().expect("cas can be started");
        let pid = child.id();
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("the number of a process");
        // Nobody has waited for it yet, so this is it.
        let handle = pidfd_open(raw, PidfdFlags::empty()).expect("a handle of the process");
        let ended = self.ended.clone();
        std::thread::spawn(move || {
            // A test that failed listens no longer.
            let _ = ended.send((number, child.wait().expect("it can be waited for")));
        });
        let process = Process { pid, handle, line: line.to_owned(), killed: false, stopped: None };
        self.alive.insert(number, process);
    }

    fn said(&self, number: usize, what: &str) -> PathBuf {
        self.folder.path(&format!("out/{number}.{what}"))
    }

    /// Kills or stops one of them; every third time the host.
    fn strike(&mut self) {
        let host = self.host();
        let running: Vec<usize> =
            self.alive.iter().filter(|(_, process)| !process.killed).map(|(number, _)| *number).collect();
        let victim = match host.filter(|_| self.chance.below(3) == 0) {
            Some(host) => host,
            None if running.is_empty() => return,
            None => *self.chance.pick(&running),
        };
        let process = self.alive.get_mut(&victim).expect("it is one of them");
        match self.chance.below(5) {
            0 => {
                process.killed = true;
                self.killed += 1;
                self.hosts += usize::from(host == Some(victim));
                self.log.kills(victim);
                signal(process, Signal::KILL);
            }
            1 | 2 if process.stopped.is_none() => {
                let time = Duration::from_millis(1 + self.chance.below(LONGEST_STOP));
                process.stopped = Some(Instant::now() + time);
                self.stopped += 1;
                signal(process, Signal::STOP);
            }
            // And now and then nothing happens.
            _ => {}
        }
    }

    /// Which of them is the host, as far as its lock says.
    fn host(&self) -> Option<usize> {
        let text = fs::read_to_string(self.folder.path(".cas/lock")).ok()?;
        let pid: u32 =
            text.split("pid ").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        let is = |process: &Process| process.pid == pid && !process.killed;
        self.alive.iter().find(|(_, process)| is(process)).map(|(number, _)| *number)
    }

    /// Takes in who ends until then, and lets go on who was stopped long enough.
    fn listen_until(&mut self, until: Instant) {
        loop {
            let now = Instant::now();
            for process in self.alive.values_mut() {
                if process.stopped.is_some_and(|stopped| stopped <= now) {
                    process.stopped = None;
                    signal(process, Signal::CONT);
                }
            }
            if now >= until {
                return;
            }
            let next = self.alive.values().filter_map(|process| process.stopped).min();
            let wait = next.map_or(until, |next| next.min(until)).saturating_duration_since(now);
            match self.ends.recv_timeout(wait) {
                Ok((number, status)) => {
                    self.end(number, status);
                    if self.alive.is_empty() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the sender is kept"),
            }
        }
    }

    /// One has ended: what it said counts, and who was not killed has to have done what it was to do.
    fn end(&mut self, number: usize, status: ExitStatus) {
        let process = self.alive.remove(&number).expect("it was one of them");
        let out = fs::read_to_string(self.said(number, "out")).expect("what it said");
        let err = fs::read_to_string(self.said(number, "err")).expect("what it said");
        if !process.killed || status.code().is_some() {
            // A failure says `error: …`, whatever the exit code is.
            let fine = status.success() && !err.contains("error");
            assert!(
                fine,
                "seed {}: process {number}, `cas {}`: {status}\n{err}\n{}\n{}",
                self.seed,
                process.line,
                // Of a run only what failed; the others say little.
                out.lines()
                    .filter(|line| !line.contains("\"event\"") || line.contains("failed"))
                    .collect::<Vec<_>>()
                    .join("\n"),
                self.folder.read("log"),
            );
        }
        // A line that a kill cut short was not said.
        for line in out.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let Some(outcome) = event["outcome"].as_str() else { continue };
            let round = process.line.split("round=").nth(1).and_then(|rest| rest.split(' ').next());
            let step = event["step"].as_str().expect("an outcome is of a step");
            let step = format!("{step}.{}", round.expect("runs are given one"));
            match outcome {
                "ran" => drop(self.ran.insert((step.clone(), number))),
                "reused" | "joined" | "unchanged" => {}
                other => panic!("seed {}: {step} was {other}, by {number}", self.seed),
            }
            self.known.insert(step);
        }
    }

    /// Everything that was asked for is asked for once more, by nobody who is killed, and looked at.
    fn settle(&mut self) {
        self.log.settles();
        let rounds = (self.started / STARTS) as u64;
        let before = self.started;
        for round in 0..=rounds {
            self.start(&format!("run --all --set round={round} --format json -j 2"));
            self.see_out();
            let names: Vec<String> = (0..self.universe.len()).map(|step| format!("s{step}")).collect();
            let line = format!("get --set round={round} {} got{round}/", names.join(" "));
            // Under eviction those of the next value push these out again.
            let _ = self.folder.cas(&line).ok();
            for step in 0..self.universe.len() {
                let path = self.folder.path(&format!("got{round}")).join(self.universe.file(step));
                let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert_eq!(bytes, self.universe.bytes(step, round), "seed {}: s{step}.{round}", self.seed);
            }
        }
        self.started = before;
        let verified = self.folder.cas("verify").ok();
        assert!(!verified.stderr.contains("damage"), "seed {}: {}", self.seed, verified.transcript());
    }

    /// Waits until all have ended: on a machine with much else to do each takes its time, but they do end.
    fn see_out(&mut self) {
        let mut since = Instant::now();
        let mut before = (self.alive.len(), self.said_bytes());
        let mut used = self.used();
        while !self.alive.is_empty() {
            self.listen_until(Instant::now() + Duration::from_secs(1));
            let now = (self.alive.len(), self.said_bytes());
            let is_busy = self.used().saturating_sub(used) > since.elapsed() / IDLE;
            if now != before {
                (before, since, used) = (now, Instant::now(), self.used());
            } else if since.elapsed() >= if is_busy { CIRCLES } else { HUNG } {
                self.fail_hung(since.elapsed());
            }
        }
    }

    /// How much they and their steps have said.
    fn said_bytes(&self) -> u64 {
        let len = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let said = |number: &usize| len(self.said(*number, "out")) + len(self.said(*number, "err"));
        len(self.folder.path("log")) + self.alive.keys().map(said).sum::<u64>()
    }

    /// The processor time that those that are left have used, and the time that they were ready and had none.
    fn used(&self) -> Duration {
        self.alive.values().map(|process| watch::used(process.pid)).sum()
    }

    fn fail_hung(&mut self, since: Duration) -> ! {
        let pids: Vec<u32> = self.alive.values().map(|process| process.pid).collect();
        let lock = fs::read_to_string(self.folder.path(".cas/lock")).unwrap_or_default();
        let mut words = format!("the lock says `{lock}`\n");
        let described = watch::describe(&pids, Duration::from_secs(5));
        for ((number, process), threads) in self.alive.iter().zip(described) {
            let err = fs::read_to_string(self.said(*number, "err")).unwrap_or_default();
            words += &format!("{number}: `cas {}` (pid {})\n{threads}{err}\n", process.line, process.pid);
            signal(process, Signal::KILL);
        }
        panic!(
            "seed {}: after {} processes, {} killed ({} of them the host), {} stopped, these hang, for {since:?}:\n{words}",
            self.seed, self.started, self.killed, self.hosts, self.stopped
        );
    }
}

impl Drop for Torture {
    fn drop(&mut self) {
        for process in self.alive.values() {
            signal(process, Signal::KILL);
        }
    }
}

/// A process that is gone already is none that a signal could hurt.
fn signal(process: &Process, signal: Signal) {
    let _ = pidfd_send_signal(&process.handle, signal);
}
