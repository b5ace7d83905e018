//! `cas run --watch`: runs, and runs again whenever something that is declared has changed.
//!
//! What the kernel tells of the project's folders only wakes it up: what has changed is decided by planning anew, so a
//! file that was written with the content that it had changes nothing. Folders are watched before what is in them is
//! read, so that no change falls between the two; what changes during a run is seen after it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cas_engine::graph::Graph;
use cas_engine::memo::Memo;
use cas_engine::pattern::Pattern;
use cas_engine::plan::Plan;
use cas_store::{Create, Version};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use signal_hook::consts::SIGINT;

use super::run::{self, RunArgs};
use crate::failure::{Code, Failure};
use crate::session::{Definition, Session, World};
use crate::signals::Taken;

/// An editor writes a file in several steps, and a checkout many files: what comes this close together is one change.
const QUIET: Duration = Duration::from_millis(100);

/// It is not waited any longer than this for quiet.
const RESTLESS: Duration = Duration::from_secs(2);

/// Names that are of no interest where nothing is declared: what tools put beside the files that people write.
const CLUTTER: [&str; 4] = [".git", "__pycache__", "node_modules", "target"];

/// More folders than this are not watched for what lies in them undeclared.
const FOLDERS: usize = 8192;

pub(super) fn watch(world: &mut World, args: &RunArgs) -> Result<Code, Failure> {
    let mut stops = Stops::start(world).map_err(cannot)?;
    let mut eyes = Eyes::open().map_err(cannot)?;
    let mut memo: Option<(PathBuf, Memo)> = None;
    let mut last: Option<Seen> = None;
    // Until something has run.
    let mut code = Code::Interrupted;
    let mut changed: Vec<PathBuf> = Vec::new();
    loop {
        match round(world, args, &mut eyes, &mut stops, &mut memo, last.as_ref(), &changed) {
            Ok(Round::Ran(seen, came)) => {
                last = Some(seen);
                code = came;
                if matches!(code, Code::Interrupted | Code::Terminated) {
                    return Ok(code);
                }
                told(world, &eyes);
            }
            Ok(Round::Same) => {}
            Ok(Round::Stopped(signal)) => return Ok(stopped(signal, code)),
            Err(failure) if failure.code == Code::Ours => return Err(failure),
            Err(failure) => {
                code = failure.code;
                // Nobody is left to tell if this cannot be written.
                let _ = failure.write(&mut anstream::stderr().lock());
                if world.json() && !failure.problems.is_empty() {
                    let _ = failure.write_json(&mut io::stdout().lock(), None);
                }
                // What was right before is run when it is right again, changed or not.
                last = None;
                if let Some(signal) = stops.signal().map_err(cannot)? {
                    return Ok(stopped(signal, code));
                }
                told(world, &eyes);
            }
        }
        changed = match eyes.wait(&mut stops).map_err(cannot)? {
            Woken::Changed(changed) => changed,
            Woken::Stopped(signal) => return Ok(stopped(signal, code)),
        };
    }
}

/// What it ends with when a signal comes while nothing runs. Ctrl-C is how it is told that it did what was asked for: it
/// ends as the last run did.
fn stopped(signal: i32, last: Code) -> Code {
    if signal == SIGINT { last } else { Code::Terminated }
}

/// What became of a round.
enum Round {
    /// The plan is the last one.
    Same,
    Ran(Seen, Code),
    /// By this signal, before anything was run.
    Stopped(i32),
}

/// What a run was made of: where nothing of it differs, there is nothing to run.
#[derive(PartialEq)]
struct Seen {
    texts: Vec<(String, String)>,
    versions: Vec<(String, Option<Version>)>,
}

/// Reads, plans, and runs where that is another plan than the last.
fn round(
    world: &mut World,
    args: &RunArgs,
    eyes: &mut Eyes,
    stops: &mut Stops,
    memo: &mut Option<(PathBuf, Memo)>,
    last: Option<&Seen>,
    changed: &[PathBuf],
) -> Result<Round, Failure> {
    let (mut session, planned) = loop {
        // A run hears of signals once it goes on, and not of those that came before.
        if let Some(signal) = stops.signal().map_err(cannot)? {
            return Ok(Round::Stopped(signal));
        }
        eyes.look_at_definition(args).map_err(cannot)?;
        let definition = world.definition(&args.which)?.ok_or_else(crate::session::no_pipeline)?;
        let session = opened(world, args, definition, memo)?;
        // What was read before its folder was watched is read again.
        if eyes.look_at(&session.graph, &session.choice.dir).map_err(cannot)? {
            continue;
        }
        let planned = run::planned(world, args, &session)?;
        if !eyes.look_at_files(&planned.plan).map_err(cannot)? {
            break (session, planned);
        }
    };
    let graph = &planned.plan.graph;
    let version =
        |step: &cas_engine::graph::StepId| (graph.step_name(*step), planned.plan.versions[step.0 as usize]);
    let seen =
        Seen { texts: session.texts().to_vec(), versions: planned.plan.steps.iter().map(version).collect() };
    if last == Some(&seen) {
        return Ok(Round::Same);
    }
    if let Some(signal) = stops.signal().map_err(cannot)? {
        return Ok(Round::Stopped(signal));
    }
    header(world, changed);
    let code = run::run_planned(world, args, &mut session, &planned, &mut None, &mut || stops.signal())?;
    Ok(Round::Ran(seen, code))
}

/// The session of a round; the store stays open from one to the next.
fn opened(
    world: &World,
    args: &RunArgs,
    definition: Definition,
    memo: &mut Option<(PathBuf, Memo)>,
) -> Result<Session, Failure> {
    let choice = world.choice(&args.which, Some(&definition))?;
    let kept =
        memo.as_ref().filter(|(dir, _)| *dir == choice.dir).and_then(|(_, memo)| memo.store().cloned());
    let session = match kept {
        Some(store) => world.session_on(definition, &args.which, Memo::new(store))?,
        None => world.session_of(definition, &args.which, Create::IfAbsent)?,
    };
    *memo = Some((choice.dir, session.memo.clone()));
    Ok(session)
}

fn cannot(error: io::Error) -> Failure {
    let full = error.raw_os_error() == Some(Errno::NOSPC.raw_os_error());
    let failure = Failure::new(Code::Store, "cannot watch for changes").because(error);
    if full {
        failure.hint("the system lets no more folders be watched: see fs.inotify.max_user_watches")
    } else {
        failure
    }
}

/// Says that a round is over, and what is waited for.
fn told(world: &World, eyes: &Eyes) {
    let folders = crate::report::words::count(eyes.folders.len(), "folder");
    world.tell(format_args!("watching {folders}: a change runs it again, Ctrl-C ends"));
}

/// On a terminal each run begins on a page of its own, and says what has changed.
fn header(world: &World, changed: &[PathBuf]) {
    if changed.is_empty() {
        return;
    }
    let mut names: Vec<String> =
        changed.iter().map(|path| crate::session::shown(path).display().to_string()).collect();
    names.dedup();
    let text = format!("changed   {}", crate::report::words::several(&names));
    if !world.json() && io::stderr().is_terminal() {
        let _ = write!(io::stderr().lock(), "\x1b[2J\x1b[3J\x1b[H");
    }
    world.tell(text);
}

/// Why waiting ended.
enum Woken {
    /// Something in these places did.
    Changed(Vec<PathBuf>),
    /// By this signal.
    Stopped(i32),
}

/// The folders that are watched.
struct Eyes {
    kernel: OwnedFd,
    /// By the kernel's number.
    folders: BTreeMap<i32, PathBuf>,
    known: BTreeSet<PathBuf>,
    store: PathBuf,
    /// What is declared, down to the first part that is a pattern.
    declared: BTreeSet<PathBuf>,
    /// The files that the definition is read from.
    texts: BTreeSet<PathBuf>,
}

impl Eyes {
    fn open() -> io::Result<Self> {
        let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self {
            kernel,
            folders: BTreeMap::new(),
            known: BTreeSet::new(),
            store: PathBuf::new(),
            declared: BTreeSet::new(),
            texts: BTreeSet::new(),
        })
    }

    /// Watches where the definition is, which may be wrong, or not there yet.
    fn look_at_definition(&mut self, args: &RunArgs) -> io::Result<()> {
        let here = std::env::current_dir()?;
        let of = |path: &PathBuf| here.join(path).parent().map(Path::to_owned);
        let mut folders: Vec<PathBuf> = args.which.config.iter().filter_map(of).collect();
        match &args.which.file {
            Some(file) if file.is_dir() => folders.push(here.join(file)),
            Some(file) => folders.extend(of(file)),
            None => folders.push(here),
        }
        for folder in folders {
            self.add(&folder)?;
        }
        Ok(())
    }

    /// Watches what a pipeline is made of; true if there was something that was not watched before.
    fn look_at(&mut self, graph: &Graph, store: &Path) -> io::Result<bool> {
        self.store = store.to_owned();
        let project = &graph.pipeline.folder;
        let before = self.known.len();
        self.declared.clear();
        self.below(project, FOLDERS, usize::MAX, &CLUTTER)?;
        let solids = graph.pipeline.invocations.iter().flat_map(|invocation| &invocation.solid.code);
        let resources = graph.resources.iter().flat_map(|resource| &resource.definition.files);
        let code: BTreeSet<&str> = solids.chain(resources).map(|pattern| pattern.text.as_str()).collect();
        let paths: BTreeSet<&str> = graph.paths.iter().map(|path| path.path.as_str()).collect();
        // Of an input nothing is left out, so nothing of it is clutter. Of code, what there is of it is known when it
        // has been found.
        let declared = code
            .iter()
            .map(|text| (text, &CLUTTER[..]))
            .chain(paths.iter().map(|text| (text, &[".git"][..])));
        for (text, left_out) in declared {
            // One that is wrong finds nothing before the definition is another.
            let Ok(pattern) = Pattern::parse(text) else { continue };
            let path = pattern.base(project);
            if path.is_dir() {
                self.below(&path, usize::MAX, pattern.depth().unwrap_or(usize::MAX), left_out)?;
            }
            if let Some(parent) = path.parent().filter(|parent| parent.is_dir()) {
                self.add(parent)?;
            }
            self.declared.insert(path);
        }
        // These begin where the pipeline file is, which need not be in the project folder.
        let home = &graph.pipeline.home;
        let run_configs = graph.pipeline.run_config.iter().map(|path| home.join(path));
        self.texts =
            graph.pipeline.file.iter().filter_map(|file| Some(home.join(file.file_name()?))).collect();
        for file in run_configs.chain(graph.pipeline.included()) {
            self.texts.insert(file.clone());
            if let Some(parent) = file.parent().filter(|parent| parent.is_dir()) {
                self.add(parent)?;
            }
        }
        Ok(self.known.len() > before)
    }

    /// Watches the folders of code that lies where clutter does; true if there was one that was not watched before.
    fn look_at_files(&mut self, plan: &Plan) -> io::Result<bool> {
        let before = self.known.len();
        let sets = plan.measures.code.iter().chain(&plan.measures.resources).flatten();
        let mut parents: BTreeSet<&Path> =
            sets.flat_map(|set| &set.files).filter_map(|file| file.from.parent()).collect();
        while let Some(folder) = parents.pop_last() {
            // Those above it, too: a folder beside it may be the next to come.
            let inside = |folder: &&Path| folder.components().any(|part| is_clutter(part.as_os_str()));
            if !self.known.contains(folder) && inside(&folder) {
                self.add(folder)?;
                parents.extend(folder.parent().filter(inside));
            }
        }
        Ok(self.known.len() > before)
    }

    /// Watches a folder and those in it, up to so many and so deep.
    fn below(&mut self, folder: &Path, most: usize, depth: usize, left_out: &[&str]) -> io::Result<()> {
        let mut open = vec![(folder.to_owned(), depth)];
        let mut left = most;
        while let Some((folder, depth)) = open.pop() {
            if left == 0 || self.is_store(&folder) {
                continue;
            }
            left -= 1;
            self.add(&folder)?;
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            if depth == 0 {
                continue;
            }
            let inside = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let named = |name: &OsStr| left_out.iter().any(|left_out| name == *left_out);
            open.extend(
                inside.filter(|entry| !named(&entry.file_name())).map(|entry| (entry.path(), depth - 1)),
            );
        }
        Ok(())
    }

    /// Whether something is declared there, above it or below it.
    fn is_declared(&self, path: &Path) -> bool {
        self.declared.iter().any(|declared| path.starts_with(declared) || declared.starts_with(path))
    }

    fn is_store(&self, path: &Path) -> bool {
        !self.store.as_os_str().is_empty() && path.starts_with(&self.store)
    }

    fn add(&mut self, folder: &Path) -> io::Result<()> {
        if self.known.contains(folder) {
            return Ok(());
        }
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.kernel, folder, what) {
            Ok(number) => {
                self.folders.insert(number, folder.to_owned());
                self.known.insert(folder.to_owned());
                Ok(())
            }
            // It went meanwhile, or may not be looked into: what is declared in it is missed where it is read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something has changed and it is quiet again, or until it is to stop.
    fn wait(&mut self, stops: &mut Stops) -> io::Result<Woken> {
        let mut changed = Vec::new();
        let mut since: Option<Instant> = None;
        loop {
            let quiet = match since {
                None => None,
                Some(since) if since.elapsed() >= RESTLESS => Some(Duration::ZERO),
                Some(_) => Some(QUIET),
            };
            let timeout = quiet.and_then(|time| Timespec::try_from(time).ok());
            let mut ready = vec![PollFd::new(&self.kernel, PollFlags::IN)];
            ready.extend(stops.ends.iter().map(|(_, end, _)| PollFd::new(end, PollFlags::IN)));
            match poll(&mut ready, timeout.as_ref()) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(0) => return Ok(Woken::Changed(self.declared_first(changed))),
                Ok(_) => {}
            }
            let seen = !ready[0].revents().is_empty();
            drop(ready);
            if let Some(signal) = stops.signal()? {
                return Ok(Woken::Stopped(signal));
            }
            if seen && self.read(&mut changed)? {
                since.get_or_insert_with(Instant::now);
                if quiet == Some(Duration::ZERO) {
                    return Ok(Woken::Changed(self.declared_first(changed)));
                }
            }
        }
    }

    /// What is declared comes before what lies beside it: the first is named.
    fn declared_first(&self, mut changed: Vec<PathBuf>) -> Vec<PathBuf> {
        let inside = |path: &Path| self.declared.iter().any(|declared| path.starts_with(declared));
        changed.sort_by_key(|path| !(self.texts.contains(path) || inside(path)));
        changed
    }

    /// Takes what the kernel tells; true if any of it may matter.
    fn read(&mut self, changed: &mut Vec<PathBuf>) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = inotify::Reader::new(&self.kernel, &mut buffer);
        let mut matters = false;
        let mut gone = Vec::new();
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let told = event.events();
            if told.contains(ReadFlags::QUEUE_OVERFLOW) {
                matters = true;
                continue;
            }
            if told.intersects(ReadFlags::IGNORED | ReadFlags::MOVE_SELF) {
                gone.push(event.wd());
            }
            let Some(folder) = self.folders.get(&event.wd()) else { continue };
            let path = match event.file_name() {
                Some(name) => folder.join(OsStr::from_bytes(name.to_bytes())),
                None => folder.clone(),
            };
            let clutter = path.file_name().is_some_and(is_clutter) && !self.is_declared(&path);
            if clutter || self.is_store(&path) {
                continue;
            }
            matters = true;
            if !changed.contains(&path) {
                changed.push(path);
            }
        }
        for number in gone {
            if let Some(folder) = self.folders.get(&number).cloned() {
                self.forget(&folder);
            }
        }
        Ok(matters)
    }

    /// Watches a folder that went, or was moved away, and those in it no longer: what is there later is another one,
    /// and watched anew.
    fn forget(&mut self, folder: &Path) {
        let inside = self.folders.iter().filter(|(_, path)| path.starts_with(folder));
        for number in inside.map(|(number, _)| *number).collect::<Vec<_>>() {
            // The kernel knows it no longer where it went.
            let _ = inotify::remove_watch(&self.kernel, number);
            self.folders.remove(&number);
        }
        self.known.retain(|path| !path.starts_with(folder));
    }
}

fn is_clutter(name: &OsStr) -> bool {
    CLUTTER.iter().any(|clutter| name == *clutter)
}

/// The signals that end it, while nothing runs; during a run they are the run's, too.
struct Stops {
    ends: Vec<(i32, UnixStream, signal_hook::SigId)>,
    _taken: Taken,
}

impl Stops {
    fn start(world: &World) -> io::Result<Self> {
        let mut stops = Self { ends: Vec::new(), _taken: world.interrupts.taken() };
        for signal in world.interrupts.heard() {
            let (end, other) = UnixStream::pair()?;
            end.set_nonblocking(true)?;
            let id = signal_hook::low_level::pipe::register(signal, other)?;
            stops.ends.push((signal, end, id));
        }
        Ok(stops)
    }

    /// Which signal came, if one did.
    fn signal(&mut self) -> io::Result<Option<i32>> {
        for (signal, end, _) in &mut self.ends {
            match end.read(&mut [0; 64]) {
                Ok(_) => return Ok(Some(*signal)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Drop for Stops {
    fn drop(&mut self) {
        for (_, _, id) in &self.ends {
            signal_hook::low_level::unregister(*id);
        }
    }
}
