//! Processes that use a store, one command at a time: the test starts itself and talks through pipes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cas_store::{
    Claim, ClaimGuard, Commit, Committed, Digest, HandedOver, Hosting, Mode, Policy, Portion, Put, Share,
    Store, StoreError, codec,
};

use crate::kit::*;

/// The store of a child.
const FOLDER: &str = "CAS_TEST_SHARED_STORE";

/// Who a process is.
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: &'static [u32],
    pub(crate) umask: u32,
}

/// A process that does what it is told.
pub(crate) struct Child {
    process: Process,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Child {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    pub(crate) fn start_with(dir: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_command(Command::new(std::env::current_exe().expect("its own path")), dir, variables)
    }

    fn start_command(mut command: Command, dir: &Path, variables: &[(&str, &str)]) -> Self {
        let mut process = command
            .current_dir("/")
            .args(["--exact", "child_process", "--test-threads", "1"])
            .env(FOLDER, dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let to = process.stdin.take().expect("a pipe");
        let from = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, to, from }
    }

    /// Starts a copy of this program, which that user can reach, as that user.
    pub(crate) fn start_as(dir: &Path, program: &Path, user: &User) -> Self {
        let list = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
        match user.groups {
            [] => command.arg("--clear-groups"),
            groups => command.arg(format!("--groups={}", list(groups))),
        };
        command.args(["--", "sh", "-c", "umask $0; exec \"$@\"", &format!("{:o}", user.umask)]).arg(program);
        Self::start_command(command, dir, &[])
    }

    /// Starts one and opens the store in it.
    pub(crate) fn opened(dir: &Path) -> Self {
        let mut child = Self::start(dir);
        assert_eq!(child.ask("open"), "opened");
        child
    }

    /// Tells it to do something.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.to, "{command}").expect("it listens");
    }

    /// The next thing that it says; "ended" when it says nothing any more.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            if self.from.read_line(&mut line).expect("it can be read") == 0 {
                return "ended".to_owned();
            }
            // All else is the test harness's.
            if let Some((_, said)) = line.trim_end().split_once("> ") {
                return said.to_owned();
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.hear()
    }

    /// What others are told that it is called.
    pub(crate) fn name(&self) -> String {
        called(self.process.id())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("it is there");
    }

    /// Stops it: when this is over no thread of it does anything any more.
    pub(crate) fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        let pid = rustix::process::Pid::from_child(&self.process);
        let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED);
        let status = status.expect("it is our child").expect("it was waited for").1;
        assert!(status.stopped(), "{status:?}");
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn called(pid: u32) -> String {
    format!("process {pid}")
}

/// An error and what was behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {text}").and_then(|()| out.flush()).expect("somebody listens");
}

/// Not a test: the process that does what it is told.
pub(crate) fn main() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let dir = Path::new(&dir);
    let mut store: Option<Store> = None;
    let mut guard: Option<ClaimGuard> = None;
    let share: Arc<Mutex<Option<Share>>> = Arc::default();
    let shared = || share.lock().expect("nobody panics with it");
    let mut handed_over: Option<HandedOver> = None;
    let mut held: Vec<std::fs::File> = Vec::new();
    let told = Arc::new(AtomicUsize::new(0));
    for line in std::io::stdin().lines() {
        let line = line.expect("text");
        let words: Vec<&str> = line.split(' ').collect();
        let number = || words[1].parse::<u32>().expect("a number");
        let open = |wait: Duration, hosting| {
            let mut nothing = |_: &str| {};
            let mut how = how(wait, &mut nothing);
            how.owner = called(std::process::id());
            how.hosting = hosting;
            Store::open(dir, how)
        };
        match words[0] {
            "open" | "open-briefly" | "open-declining" | "open-at-once" => {
                let (wait, hosting) = match words[0] {
                    "open" => (Duration::from_secs(600), Hosting::Willing),
                    "open-briefly" => (Duration::from_millis(500), Hosting::Willing),
                    "open-declining" => (Duration::from_millis(1), Hosting::Declined),
                    _ => (Duration::from_millis(1), Hosting::Willing),
                };
                match open(wait, hosting) {
                    Ok(opened) => {
                        let count = Arc::clone(&told);
                        opened.on_wait(move |_| {
                            count.fetch_add(1, Ordering::SeqCst);
                        });
                        store = Some(opened);
                        say("opened");
                    }
                    Err(error) => say(&format!("error: {}", chain(&error))),
                }
                continue;
            }
            // How often it was told that somebody is waited for.
            "told" => {
                say(&told.load(Ordering::SeqCst).to_string());
                continue;
            }
            "share" | "rebuild" => {
                let mut nothing = |_: &str| {};
                let how = how(Duration::from_secs(600), &mut nothing);
                let done = match words[0] {
                    "share" => Store::share(dir, how).map(|group| format!("shared {group}")),
                    _ => Store::rebuild(dir, how).map(|_| "rebuilt".to_owned()),
                };
                say(&done.unwrap_or_else(|error| format!("error: {}", chain(&error))));
                continue;
            }
            // Whoever gets at the socket, whether or not it can open the store.
            "knock" => {
                let mut stream = UnixStream::connect(dir.join("socket")).expect("it connects");
                let hello = codec::encode(b'h', 1, &crate::greeting(dir, 2)).expect("it encodes");
                stream.write_all(&hello).expect("send");
                let welcome: (u32, String, String, String, String) =
                    codec::decode(b'h', 1, &crate::receive(&mut stream)).expect("a greeting");
                say(&if welcome.4.is_empty() {
                    "let in".to_owned()
                } else {
                    format!("refused: {}", welcome.4)
                });
                continue;
            }
            // And one who makes itself out to be the host.
            "pretend" => {
                let listener = UnixListener::bind(dir.join("socket")).expect("bind");
                let others = std::fs::Permissions::from_mode(0o666);
                std::fs::set_permissions(dir.join("socket"), others).expect("its mode");
                std::thread::spawn(move || listener.incoming().for_each(std::mem::forget));
                say("listening");
                continue;
            }
            "close" => {
                drop(guard.take());
                drop(shared().take());
                drop(store.take());
                say("closed");
                continue;
            }
            _ => {}
        }
        let store = store.as_ref().expect("it is open");
        match words[0] {
            // `put 1` or `put 1 content`
            "put" => {
                let content = words.get(2).map_or(noise(number(), 5_000), |text| text.as_bytes().to_vec());
                match store.commit(commit_of(store, number(), &content)) {
                    Ok(Committed::New) => say("new"),
                    Ok(Committed::Adopted { differs, .. }) => say(&format!("adopted, differs: {differs}")),
                    Ok(Committed::Replaced { .. }) => say("replaced"),
                    Err(error) => say(&format!("error: {error}")),
                }
            }
            // As `put`, but waits for nobody.
            "put-at-once" => {
                let commit = commit_of(store, number(), words[2].as_bytes());
                match store.commit_while(commit, &|| false) {
                    Ok(None) => say("gave up"),
                    other => say(&format!("{other:?}")),
                }
            }
            "get" => match get(store, number()) {
                Some(bytes) if bytes == noise(number(), 5_000) => say("there"),
                Some(bytes) => say(&String::from_utf8_lossy(&bytes)),
                None => say("missing"),
            },
            "replace" => {
                let commit = Commit { put: Put::Replace, ..commit_of(store, number(), b"other") };
                store.commit(commit).expect("it commits");
                say("replaced");
            }
            // The bytes that `put` gives a number, whatever names them.
            "read" => match store.read(&Digest::of(&noise(number(), 5_000)), &mut std::io::sink()) {
                Ok(_) => say("read"),
                Err(error) if error.is_miss() => say("missing"),
                Err(error) => say(&format!("error: {error}")),
            },
            "unnamed" => {
                let (_, report) = gc(store, &Policy::default(), Mode::Collect, 1 << 40);
                say(&report.unnamed.to_string());
            }
            "verify" => say(&format!("{} findings", verify(store).len())),
            "compact" => {
                store.compact().expect("it compacts");
                say("compacted");
            }
            "quarantine" => {
                store.quarantine(&Digest::of(&noise(number(), 5_000)), "a test says so").expect("it goes");
                say("quarantined");
            }
            "work-folder" => {
                let folder = store.work_folder("step").expect("it is made");
                say(&folder.display().to_string());
            }
            "work-folders" => say(&store.work_folders().expect("it answers").len().to_string()),
            "host" => say(if store.host().1 { "own" } else { "other" }),
            "claim" => {
                if let Some(granted) = claim(store, number()) {
                    guard = Some(granted);
                }
            }
            // Says whom it waits for.
            "claim-aloud" => {
                let mut waits = |by: &str| say(&format!("waits for {by}"));
                if let Some(granted) = claimed(store.claim_while(trace(number()), &mut waits, &|| true)) {
                    guard = Some(granted);
                }
            }
            // In a thread of its own, which keeps what it is granted.
            "claim-beside" => {
                let (store, number) = (store.clone(), number());
                std::thread::spawn(move || std::mem::forget(claim(&store, number)));
            }
            "use-up-descriptors" => {
                // So many are enough for an open store, and soon used up.
                let limit = rustix::process::Rlimit { current: Some(200), maximum: Some(200) };
                rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("a lower limit");
                held.extend(std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()));
                say("used up");
            }
            "free-descriptors" => {
                held.clear();
                say("freed");
            }
            // What somebody saw some time ago.
            "report-wrong" => {
                let digest = cas_store::Digest::of(&noise(number(), 5_000));
                store.quarantine(&digest, "somebody says so").expect("it answers");
                say("reported");
            }
            "renew" => {
                let guard = guard.as_mut().expect("a claim");
                say(match guard.renew() {
                    Ok(true) if guard.present().is_some() => "made meanwhile",
                    Ok(true) => "held",
                    Ok(false) => "lost",
                    Err(_) => "error",
                });
            }
            "release" => {
                drop(guard.take());
                say("released");
            }
            "fail" => {
                guard.take().expect("a claim").fail(words[1].as_bytes().to_vec());
                say("released");
            }
            // `take gpu=1 cpus=2`
            "take" => {
                let portions: Vec<Portion> = words[1..]
                    .iter()
                    .filter_map(|word| word.split_once('='))
                    .map(|(name, amount)| Portion {
                        name: name.to_owned(),
                        amount: amount.parse().expect("a number"),
                        of: None,
                    })
                    .collect();
                // It hears what it is told meanwhile.
                let (store, share) = (store.clone(), Arc::clone(&share));
                std::thread::spawn(move || {
                    let mut waits =
                        |names: &[String], _: &str| say(&format!("waits for {}", names.join(" and ")));
                    match store.share_while(&portions, &mut waits, &|| true) {
                        Ok(given) => {
                            *share.lock().expect("nobody panics with it") = given;
                            say("given");
                        }
                        Err(error) => say(&format!("error: {error}")),
                    }
                });
            }
            "begin" => {
                let begun = shared().as_ref().is_some_and(Share::begin);
                say(if begun { "begun" } else { "lost" });
            }
            // What can be had at once, or nothing.
            "try-take" => {
                let portion = Portion { name: words[1].to_owned(), amount: 1, of: None };
                let given = store.share_while(&[portion], &mut |_, _| {}, &|| false).expect("it answers");
                let said = if given.is_some() { "given" } else { "not given" };
                // Whoever hears of it may ask for it.
                drop(given);
                say(said);
            }
            "give-back" => {
                drop(shared().take());
                say("given back");
            }
            "collect" => {
                let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
                let (_, report) = gc(store, &policy, Mode::Collect, 1 << 40);
                say(&format!("collected {}, in use {}", report.results, report.kept_in_use));
            }
            "ledger" => say(&store.ledger(&trace(number())).expect("it answers").len().to_string()),
            "run" => say(&store.begin_run(number().into(), Vec::new()).expect("it begins").id().to_string()),
            "hand-over" => {
                handed_over = Some(store.hand_over());
                say("handed over");
            }
            "go-on" => {
                drop(handed_over.take());
                say("goes on");
            }
            "work" => work(store, number()),
            "fill" => {
                for number in 0..number() {
                    let committed = store.commit(commit_of(store, number, b"small"));
                    committed.unwrap_or_else(|error| panic!("{number}: {error}"));
                }
                say("filled");
            }
            "time-lookup" => {
                let versions: Vec<_> = (0..number()).map(version).collect();
                let begin = std::time::Instant::now();
                let found = store.lookup(&versions).expect("it answers");
                let took = begin.elapsed().as_micros();
                assert!(found.iter().all(Option::is_some), "all are there");
                say(&took.to_string());
            }
            "fork" => crate::fork::leave_a_child_behind(),
            other => panic!("{other}?"),
        }
    }
}

/// Claims a trace, and says what became of that.
fn claim(store: &Store, number: u32) -> Option<ClaimGuard> {
    let waiting = std::cell::Cell::new(false);
    let go_on = || {
        if !waiting.replace(true) {
            say("waiting");
        }
        true
    };
    claimed(store.claim_while(trace(number), &mut |_| {}, &go_on))
}

/// Says what became of a claim.
fn claimed(claim: Result<Option<Claim>, StoreError>) -> Option<ClaimGuard> {
    match claim {
        Ok(Some(Claim::Granted(granted))) => {
            say("granted");
            return Some(granted);
        }
        Ok(Some(Claim::Stored(_))) => say("stored"),
        Ok(Some(Claim::Failed(why))) => say(&format!("failed: {}", String::from_utf8_lossy(&why))),
        Ok(None) => say("gave up"),
        Err(error) => say(&format!("error: {error}")),
    }
    None
}

/// Computes some of the results that all compute, each under its claim, and says which it computed.
fn work(store: &Store, results: u32) {
    let mut done = Vec::new();
    for number in 0..results {
        match store.claim(trace(number)).expect("it answers") {
            Claim::Granted(guard) if guard.present().is_none() => {
                let committed = store.commit(commit_of(store, number, &noise(number, 5_000)));
                committed.unwrap_or_else(|error| panic!("{number}: {error}"));
                say(&format!("made {number}"));
                done.push(number);
            }
            Claim::Granted(_) | Claim::Stored(_) => {}
            Claim::Failed(_) => panic!("nobody fails"),
        }
        assert_eq!(get(store, number), Some(noise(number, 5_000)), "{number}");
    }
    say("done");
}
