//! Ctrl-C and its kin while a run goes on: asked once, the run ends in order; asked again, at once.
//!
//! A signal that was ignored when the process was started stays so (`nohup`, a job in the background of a script): whoever
//! listens for signals asks `Interrupts` for which.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use cas_engine::execute::{self, Cancel, Stop};
use cas_store::{Store, WeakStore};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGSTOP, SIGTERM, SIGTSTP};
use signal_hook::iterator::{Handle, Signals};

use crate::failure::Code;
use crate::report::Notes;
use crate::unborn;

/// Watches for signals until it is dropped.
pub(crate) struct Watch {
    handle: Handle,
    first: Arc<AtomicI32>,
    cancel: Arc<Cancel>,
    notes: Notes,
    thread: Option<JoinHandle<()>>,
    /// Given back before it listens no longer, so that no signal is nobody's.
    taken: Option<Taken>,
    others: Arc<Shared>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// The operating system gives no signals, or no thread.
    pub(crate) fn start(cancel: Arc<Cancel>, notes: Notes, interrupts: &Interrupts) -> io::Result<Self> {
        // A terminal that is closed ends a run as SIGTERM does: steps have process groups of their own, so that they
        // would not hear of it otherwise.
        let mut signals = Signals::new(interrupts.heard())?;
        // Who does what a signal asks for until then does so no longer once this hears of them, so that none is nobody's.
        let (taken, others) = (interrupts.taken(), Arc::clone(&interrupts.shared));
        let early = others.early.load(Ordering::SeqCst);
        let handle = signals.handle();
        let first = Arc::new(AtomicI32::new(0));
        let noted = Arc::clone(&first);
        *others.telling() = Some(notes.clone());
        let (kept, said) = (Arc::clone(&cancel), notes.clone());
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                match noted.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => end_gently(&cancel, &notes),
                    Err(_) => cancel.request(Stop::Now),
                }
            }
        })?;
        let (cancel, notes) = (kept, said);
        let watch = Self { handle, first, cancel, notes, thread: Some(thread), taken: Some(taken), others };
        // One that came so late that nobody had seen to it yet.
        watch.came(i32::try_from(early).unwrap_or(0));
        Ok(watch)
    }

    /// Does what a signal asks for that came before this began to watch, unless it heard of one itself.
    pub(crate) fn came(&self, signal: i32) {
        if signal != 0 && self.first.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            end_gently(&self.cancel, &self.notes);
        }
    }

    /// What the process ends with because of a signal, if one came.
    pub(crate) fn code(&self) -> Option<Code> {
        code_of(self.first.load(Ordering::Relaxed))
    }
}

fn end_gently(cancel: &Cancel, notes: &Notes) {
    notes.say("stopping: what runs is asked to end (once more: at once)");
    cancel.request(Stop::Gently);
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.taken = None;
        *self.others.telling() = None;
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It only passes messages on; nothing in it panics.
            let _ = thread.join();
        }
        // Who ended the probes that were being asked may have heard of the signal before this did, and what it heard was
        // the end of all.
        self.came(self.others.first.load(Ordering::Relaxed));
    }
}

/// What Ctrl-C and its kin do before a run has begun: probes that are being asked are ended first, because they have
/// process groups of their own and would not hear of it; else they end the process, with the code that they end a run with.
///
/// And what Ctrl-Z does: one thread stops what runs, hands over all stores that this process hosts, and stops it once.
#[derive(Debug)]
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
    started: OnceLock<bool>,
    /// The stores that are open, for as long as they are.
    stores: Arc<Mutex<Vec<WeakStore>>>,
    handing_over: OnceLock<bool>,
    /// The signals that were ignored when the process was started, a bit each, the lowest for 1.
    ignored: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// What stops the probes that are being asked now.
    asking: Mutex<Option<Arc<Cancel>>>,
    /// How many watch for signals themselves now: a run, and whoever waits for changes.
    watched: AtomicUsize,
    /// The first signal that came while probes were asked.
    first: AtomicI32,
    /// The last signal that came since this listens, noted at once when it comes; 0 where none did.
    early: Arc<AtomicUsize>,
    /// Where the run tells what goes on, while there is one.
    telling: Mutex<Option<Notes>>,
}

impl Shared {
    fn asking(&self) -> MutexGuard<'_, Option<Arc<Cancel>>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn telling(&self) -> MutexGuard<'_, Option<Notes>> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While this lives, somebody else does what a signal asks for.
pub(crate) struct Taken(Arc<Shared>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.watched.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives what stops the probes that are about to be asked.
pub(crate) type Stoppable<'a> = dyn Fn() -> Arc<Cancel> + Sync + 'a;

impl Interrupts {
    /// As the process was started: nothing is listened for yet.
    pub(crate) fn new() -> Self {
        // Where it cannot be read, nothing is taken to be ignored.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            shared: Arc::default(),
            started: OnceLock::new(),
            stores: Arc::default(),
            handing_over: OnceLock::new(),
            ignored: ignored(&status),
        }
    }

    /// The signals that end what goes on, but for those that are ignored.
    pub(crate) fn heard(&self) -> Vec<i32> {
        [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !self.is_ignored(*signal)).collect()
    }

    fn is_ignored(&self, signal: i32) -> bool {
        self.ignored >> (signal - 1) & 1 == 1
    }

    /// Leaves it to somebody else what signals do, as long as the returned value lives.
    pub(crate) fn taken(&self) -> Taken {
        self.shared.watched.fetch_add(1, Ordering::SeqCst);
        Taken(Arc::clone(&self.shared))
    }

    /// Does something that may ask probes, and gives it what stops them.
    pub(crate) fn while_asking<R>(&self, work: &dyn Fn(&Stoppable<'_>) -> R) -> R {
        let asking = || {
            self.listen();
            // Also where there is no store yet: a probe hears of it no more than a step does.
            self.listen_for_stops();
            Arc::clone(self.shared.asking().get_or_insert_default())
        };
        let done = work(&asking);
        *self.shared.asking() = None;
        done
    }

    /// A way to say something on stderr from any thread: above what is live there, while there is a run that tells.
    pub(crate) fn say(&self) -> impl Fn(String) + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move |text| match &*shared.telling() {
            Some(notes) => notes.say(text),
            // Nobody is left to tell if this cannot be written.
            None => drop(writeln!(anstream::stderr().lock(), "{text}")),
        }
    }

    /// What the process ends with because of a signal that came while probes were asked.
    pub(crate) fn code(&self) -> Option<Code> {
        code_of(self.shared.first.load(Ordering::Relaxed))
    }

    /// Listens from now on, until the process ends. Where that cannot be done signals do what they always do.
    pub(crate) fn listen(&self) {
        self.started.get_or_init(|| {
            let Ok(mut signals) = Signals::new(self.heard()) else { return false };
            for signal in self.heard() {
                let (early, number) = (Arc::clone(&self.shared.early), usize::try_from(signal).unwrap_or(0));
                // It is heard of all the same, but for one that comes as a run begins.
                let _ = signal_hook::flag::register_usize(signal, early, number);
            }
            let shared = Arc::clone(&self.shared);
            let listen = move || {
                for signal in signals.forever() {
                    if let Some(cancel) = &*shared.asking() {
                        let _ =
                            shared.first.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
                        let again = cancel.now() > Stop::No;
                        cancel.request(if again { Stop::Now } else { Stop::Gently });
                    } else if shared.watched.load(Ordering::SeqCst) == 0 {
                        // At once, as the signal would: what is acknowledged is kept, and nothing else has begun.
                        let code = code_of(signal).unwrap_or(Code::Interrupted);
                        signal_hook::low_level::exit(code.number().into());
                    }
                }
            };
            std::thread::Builder::new().name("interrupts".to_owned()).spawn(listen).is_ok()
        });
    }

    /// From now on Ctrl-Z first stops what runs, which the terminal does not reach, lets another process serve this store,
    /// so that nobody has to wait for this one to go on, and takes away what is live on the terminal, which is somebody
    /// else's then. However many stores are opened one after the other, the process is stopped once, and goes on when it
    /// is told to once.
    pub(crate) fn hand_over_when_stopped(&self, store: &Store) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|store| store.upgrade().is_some());
        stores.push(store.downgrade());
        drop(stores);
        self.listen_for_stops();
    }

    /// From now on Ctrl-Z does that.
    fn listen_for_stops(&self) {
        if self.is_ignored(SIGTSTP) {
            return;
        }
        self.handing_over.get_or_init(|| {
            // Which of the two came last, noted at once when it comes: what goes on may be told to before it was stopped.
            let last = Arc::new(AtomicUsize::new(GO_ON));
            let noted = [(SIGTSTP, STOP), (SIGCONT, GO_ON)]
                .map(|(signal, what)| signal_hook::flag::register_usize(signal, Arc::clone(&last), what));
            if noted.iter().any(Result::is_err) {
                for id in noted.into_iter().flatten() {
                    signal_hook::low_level::unregister(id);
                }
                return false;
            }
            // Without it, whoever needs the store is told who keeps it: that is no reason to fail.
            let Ok(mut signals) = Signals::new([SIGTSTP]) else { return false };
            let (stores, shared) = (Arc::clone(&self.stores), Arc::clone(&self.shared));
            let listen = move || {
                let goes_on = || last.load(Ordering::SeqCst) == GO_ON;
                for _ in signals.forever() {
                    if goes_on() {
                        continue;
                    }
                    let open: Vec<Store> = {
                        let stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
                        stores.iter().filter_map(WeakStore::upgrade).collect()
                    };
                    let (stopped, handed_over): (_, Vec<_>) = unborn::none_stopped_while(|| {
                        (execute::pause(), open.iter().map(Store::hand_over).collect())
                    });
                    drop(open);
                    let notes = shared.telling().clone();
                    let paused = notes.map(|notes| notes.pause());
                    unborn::go_on();
                    // A stop that is asked for now would outlive the SIGCONT that came while this handed over: that one
                    // would have ended the stop that the kernel makes, and nobody sends another. Between the look and the
                    // stop lie two system calls; nothing less can be had, since the kernel forgets a SIGCONT that is
                    // blocked when a stop is asked for.
                    if !goes_on() {
                        // This returns when the process goes on.
                        let _ = signal_hook::low_level::raise(SIGSTOP);
                    }
                    drop(stopped);
                    drop(paused);
                    drop(handed_over);
                }
            };
            std::thread::Builder::new().name("stop".to_owned()).spawn(listen).is_ok()
        });
    }
}

/// What the process was told last: to stop, or to go on.
const STOP: usize = 1;
const GO_ON: usize = 0;

/// The signals that a process ignores, from what the kernel says of it.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// What the process ends with because of a signal.
fn code_of(signal: i32) -> Option<Code> {
    match signal {
        0 => None,
        SIGINT => Some(Code::Interrupted),
        _ => Some(Code::Terminated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::lines::Detail;
    use crate::report::{Look, Report};

    /// `run --watch` hears of signals before a run does, and what it heard of until then is not lost.
    #[test]
    fn a_signal_that_came_before_ends_the_run_gently_and_once() {
        let cancel = Arc::new(Cancel::default());
        let report = Report::start(Look::Json, Detail::Normal, Vec::new()).expect("there are threads");
        let none_heard = Interrupts { ignored: u64::MAX, ..Interrupts::new() };
        let watch = Watch::start(Arc::clone(&cancel), report.notes(), &none_heard).expect("it can watch");
        assert_eq!((watch.code(), cancel.now()), (None, Stop::No));
        watch.came(SIGINT);
        assert_eq!((watch.code(), cancel.now()), (Some(Code::Interrupted), Stop::Gently));
        watch.came(SIGTERM);
        assert_eq!((watch.code(), cancel.now()), (Some(Code::Interrupted), Stop::Gently));
        drop(watch);
        report.finish().expect("it tells");
    }

    #[test]
    fn what_is_ignored_is_read_from_what_the_kernel_says() {
        let check = |status: &str, expected: &[i32]| {
            let interrupts = Interrupts { ignored: ignored(status), ..Interrupts::new() };
            assert_eq!(interrupts.heard(), expected, "{status}");
        };
        check(
            "Name:\tcas\nSigBlk:\t0000000000000007\nSigIgn:\t0000000000001000\n",
            &[SIGINT, SIGTERM, SIGHUP],
        );
        check("SigIgn:\t0000000000000001\n", &[SIGINT, SIGTERM]);
        check("SigIgn:\t0000000000004003\n", &[]);
        check("", &[SIGINT, SIGTERM, SIGHUP]);
    }
}
