//! Ctrl-C and its kin while a run goes on: asked once, the run ends in order; asked again, at once.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use cas_engine::execute::{Cancel, Stop};
use cas_store::Store;
use signal_hook::consts::{SIGHUP, SIGINT, SIGSTOP, SIGTERM, SIGTSTP};
use signal_hook::iterator::{Handle, Signals};

use crate::failure::Code;
use crate::report::Notes;

/// Watches for signals until it is dropped.
pub(crate) struct Watch {
    handle: Handle,
    first: Arc<AtomicI32>,
    thread: Option<JoinHandle<()>>,
    others: Arc<Shared>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// The operating system gives no signals, or no thread.
    pub(crate) fn start(cancel: Arc<Cancel>, notes: Notes, interrupts: &Interrupts) -> io::Result<Self> {
        interrupts.shared.watched.store(true, Ordering::SeqCst);
        let others = Arc::clone(&interrupts.shared);
        // A terminal that is closed ends a run as SIGTERM does: steps have process groups of their own, so that they
        // would not hear of it otherwise.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let first = Arc::new(AtomicI32::new(0));
        let noted = Arc::clone(&first);
        *others.telling() = Some(notes.clone());
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                match noted.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        notes.say("stopping: what runs is asked to end (once more: at once)");
                        cancel.request(Stop::Gently);
                    }
                    Err(_) => cancel.request(Stop::Now),
                }
            }
        })?;
        Ok(Self { handle, first, thread: Some(thread), others })
    }

    /// What the process ends with because of a signal, if one came.
    pub(crate) fn code(&self) -> Option<Code> {
        code_of(self.first.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.others.watched.store(false, Ordering::SeqCst);
        *self.others.telling() = None;
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It only passes messages on; nothing in it panics.
            let _ = thread.join();
        }
    }
}

/// What Ctrl-C and its kin do before a run has begun: probes that are being asked are ended first, because they have
/// process groups of their own and would not hear of it; else they do what they always do.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
    started: OnceLock<bool>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What stops the probes that are being asked now.
    asking: Mutex<Option<Arc<Cancel>>>,
    /// Whether a run watches for signals itself.
    watched: AtomicBool,
    /// The first signal that came while probes were asked.
    first: AtomicI32,
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

/// Gives what stops the probes that are about to be asked.
pub(crate) type Stoppable<'a> = dyn Fn() -> Arc<Cancel> + Sync + 'a;

impl Interrupts {
    /// Does something that may ask probes, and gives it what stops them.
    pub(crate) fn while_asking<R>(&self, work: &dyn Fn(&Stoppable<'_>) -> R) -> R {
        let asking = || {
            self.start();
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
    fn start(&self) {
        self.started.get_or_init(|| {
            let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return false };
            let shared = Arc::clone(&self.shared);
            let listen = move || {
                for signal in signals.forever() {
                    if let Some(cancel) = &*shared.asking() {
                        let _ =
                            shared.first.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
                        let again = cancel.now() > Stop::No;
                        cancel.request(if again { Stop::Now } else { Stop::Gently });
                    } else if !shared.watched.load(Ordering::SeqCst) {
                        let _ = signal_hook::low_level::emulate_default_handler(signal);
                    }
                }
            };
            std::thread::Builder::new().name("interrupts".to_owned()).spawn(listen).is_ok()
        });
    }
}

fn code_of(signal: i32) -> Option<Code> {
    match signal {
        0 => None,
        SIGINT => Some(Code::Interrupted),
        _ => Some(Code::Terminated),
    }
}

/// From now on Ctrl-Z first lets another process serve the store, so that nobody has to wait for this one to go on,
/// and takes away what is live on the terminal, which is somebody else's then.
pub(crate) fn hand_over_when_stopped(store: &Store, interrupts: &Interrupts) {
    // Without it, whoever needs the store is told who keeps it: that is no reason to fail.
    let Ok(mut signals) = Signals::new([SIGTSTP]) else { return };
    let store = store.downgrade();
    let shared = Arc::clone(&interrupts.shared);
    let _ = std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
        for _ in signals.forever() {
            let handed_over = store.upgrade().map(|store| store.hand_over());
            let notes = shared.telling().clone();
            let paused = notes.map(|notes| notes.pause());
            // This returns when the process goes on.
            let _ = signal_hook::low_level::raise(SIGSTOP);
            drop(paused);
            drop(handed_over);
        }
    });
}
