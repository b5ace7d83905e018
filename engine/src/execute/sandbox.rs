//! A step that may use only what it was given: refused by the kernel (Landlock), or told of (`warn`).
//!
//! Both are laid over a thread that does nothing else than to start the step's process: that inherits them, with all
//! that it starts, and nobody else is concerned. So nothing runs between fork and exec, and a process is started by
//! `posix_spawn` here too. `rules.rs` says what may be used, `listen.rs` hears what is opened, `watch.rs` holds one
//! against the other, `listing.rs` says which folders of code may be listed, `advice.rs` puts it into words and lines for the pipeline file.
//!
//! Where the kernel has no Landlock, nothing is refused, and the versions of the steps say so (`source.rs` asks
//! [`confines`] before they are made). Where nothing can be heard, `deny` refuses without a path, and `warn` tells
//! nothing; a run says so once.

pub(crate) mod advice;
mod listen;
mod listing;
pub(crate) mod rules;
mod watch;

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError};

pub use self::rules::SYSTEM;
pub(crate) use self::watch::{Seen, Use, Watch};
pub(crate) use rules::Rules;

/// How one attempt is confined.
#[derive(Debug, Clone)]
pub struct Confinement<'a> {
    /// Whether what it was not given is refused, not only told of.
    pub refuses: bool,
    /// The project folder.
    pub project: &'a Path,
    /// The store's folder.
    pub store: Option<&'a Path>,
    /// What the probes of its resources run: the programs that they begin with may be used.
    pub probes: Vec<String>,
}

/// Whether this kernel can refuse files to a process.
pub fn confines() -> bool {
    let least = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    least.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
}

/// Whether what a process opens can be heard of here. Not below another process that listens already.
pub fn hears() -> bool {
    let tried = thread::Builder::new().name("listen".to_owned()).spawn(listen::listen);
    tried.is_ok_and(|tried| tried.join().is_ok_and(|listens| listens.is_ok()))
}

/// What is laid over the thread that starts a process.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) rules: Arc<Rules>,
    pub(crate) refuses: bool,
}

impl Sandbox {
    /// Starts a process under it. What it opens is heard of from then on, where that can be.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Child, Option<Watch>)> {
        let refusing = match self.refuses {
            true => Some(self.rules.for_kernel().map_err(refused)?),
            false => None,
        };
        thread::scope(|scope| {
            let (listens, listener) = channel::<listen::Listener>();
            let starter = thread::Builder::new().name("start".to_owned()).spawn_scoped(scope, move || {
                if let Some(rules) = refusing {
                    rules.restrict_self().map_err(refused)?;
                }
                if let Ok(listener) = listen::listen() {
                    // It is waited for at the other end.
                    let _ = listens.send(listener);
                }
                // What this thread opens to start the process is heard of already.
                drop(listens);
                command.spawn()
            })?;
            let watch = match listener.recv() {
                Ok(listener) => Some(Watch::start(listener, Arc::clone(&self.rules))?),
                Err(_) => None,
            };
            let child = starter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((child, watch))
        })
    }
}

fn refused(error: RulesetError) -> io::Error {
    io::Error::other(format!("the sandbox cannot be made: {error}"))
}
