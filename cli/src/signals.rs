//! Ctrl-C and its kin while a run goes on: asked once, the run ends in order; asked again, at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
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
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// The operating system gives no signals, or no thread.
    pub(crate) fn start(cancel: Arc<Cancel>, notes: Notes) -> io::Result<Self> {
        // A terminal that is closed ends a run as SIGTERM does: steps have process groups of their own, so that they
        // would not hear of it otherwise.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let first = Arc::new(AtomicI32::new(0));
        let noted = Arc::clone(&first);
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
        Ok(Self { handle, first, thread: Some(thread) })
    }

    /// What the process ends with because of a signal, if one came.
    pub(crate) fn code(&self) -> Option<Code> {
        match self.first.load(Ordering::Relaxed) {
            0 => None,
            SIGINT => Some(Code::Interrupted),
            _ => Some(Code::Terminated),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It only passes messages on; nothing in it panics.
            let _ = thread.join();
        }
    }
}

/// From now on Ctrl-Z first lets another process serve the store, so that nobody has to wait for this one to go on.
pub(crate) fn hand_over_when_stopped(store: &Store) {
    // Without it, whoever needs the store is told who keeps it: that is no reason to fail.
    let Ok(mut signals) = Signals::new([SIGTSTP]) else { return };
    let store = store.downgrade();
    let _ = std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
        for _ in signals.forever() {
            let handed_over = store.upgrade().map(|store| store.hand_over());
            // This returns when the process goes on.
            let _ = signal_hook::low_level::raise(SIGSTOP);
            drop(handed_over);
        }
    });
}
