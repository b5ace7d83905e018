//! What a step opens, makes or removes beyond what it was given: heard of while it runs, by a thread of its own.
//!
//! It reads the path out of the memory of the thread that names it, follows it as the kernel would, and holds it
//! against the [`Rules`]. What is not there is not told: a look for a file that does not exist reads nothing. Neither
//! is what was only looked at (its size, its time, whether it is there). What Python keeps of a module is told as the
//! module.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};

use super::listen::{self, Call};
use super::rules::Rules;
use crate::file::tidy;

/// The most paths that are told of one step.
const LIMIT: usize = 10_000;

/// The longest path that the kernel takes.
const PATH_BYTES: usize = 4096;

/// A piece of memory that is there whole, or not at all.
const PAGE_BYTES: u64 = 4096;

/// What was done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// A folder's names were read.
    Listed,
    /// A file was read.
    Read,
    /// A program was executed.
    Ran,
    /// A file or folder was removed, or moved away.
    Removed,
    /// A file was written to, or something was made.
    Wrote,
}

/// What a step used that it was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// By path, as the links on the way lead.
    pub(crate) paths: BTreeMap<PathBuf, Use>,
    /// Programs as they were named, where that is not where they are: a link of a virtual environment to what it
    /// was made from.
    pub(crate) named: Vec<PathBuf>,
}

/// Hears what one step opens, until it is asked what that was.
#[derive(Debug)]
pub(crate) struct Watch {
    thread: JoinHandle<Seen>,
    /// Closed when the step has ended.
    running: PipeWriter,
}

impl Watch {
    /// Begins to hear what comes at this end of a filter.
    pub(super) fn start(listener: listen::Listener, rules: Arc<Rules>) -> io::Result<Self> {
        let (ended, running) = io::pipe()?;
        let hear =
            move || Hearing { rules, seen: Seen::default(), known: HashSet::new() }.hear(&listener, &ended);
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(hear)?;
        Ok(Self { thread, running })
    }

    /// What was used. Nothing of the step runs any more.
    pub(crate) fn finish(self) -> Seen {
        drop(self.running);
        self.thread.join().unwrap_or_default()
    }
}

struct Hearing {
    rules: Arc<Rules>,
    seen: Seen,
    /// Absolute paths as they were named that may be read, so that each is followed once.
    known: HashSet<PathBuf>,
}

/// A path that a call names, and what it is to be used for.
struct Asked {
    path: PathBuf,
    to: Wish,
}

/// What a path is to be used for.
#[derive(Clone, Copy)]
enum Wish {
    /// To open what it leads to.
    Open { reads: bool, writes: bool, makes: bool },
    /// To execute what it leads to.
    Run,
    /// To have an entry of this name, in the place of one that is there if that may be.
    Make { replaces: bool },
    /// To have the entry of this name no longer.
    Remove,
}

impl Hearing {
    fn hear(mut self, listener: &listen::Listener, ended: &PipeReader) -> Seen {
        loop {
            let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return self.seen,
            }
            if fds[0].revents().contains(PollFlags::IN) {
                match listen::receive(listener) {
                    Ok(Some(call)) => {
                        // While it waits: afterwards its folder or its descriptor may be another one.
                        for asked in asked(call).into_iter().flatten() {
                            self.heard(asked);
                        }
                        listen::let_through(listener, call);
                    }
                    Ok(None) => {}
                    Err(_) => return self.seen,
                }
            } else if !fds[0].revents().is_empty() || !fds[1].revents().is_empty() {
                // Nobody is left whom the filter is laid over, or who counts.
                return self.seen;
            }
        }
    }

    fn heard(&mut self, asked: Asked) {
        let (reads, writes, makes, runs) = match asked.to {
            Wish::Open { reads, writes, makes } => (reads, writes, makes, false),
            Wish::Run => (false, false, false, true),
            Wish::Make { .. } | Wish::Remove => return self.changed(&asked),
        };
        let only_reads = !writes && !runs;
        if only_reads && self.known.contains(&asked.path) {
            return;
        }
        let (path, there) = match fs::canonicalize(&asked.path) {
            Ok(path) => (path, true),
            Err(_) if makes => match entry(&asked.path) {
                Some(path) => (path, false),
                None => return,
            },
            Err(_) => return,
        };
        if writes && !self.rules.may_write(&path) {
            self.note(path.clone(), Use::Wrote);
        }
        if !there || !(reads || runs) {
            return;
        }
        let how = match (runs, path.is_dir()) {
            (true, _) => Use::Ran,
            (false, true) => Use::Listed,
            (false, false) => Use::Read,
        };
        if runs && asked.path != path && !self.rules.may_read(&asked.path, false) {
            let named = tidy(&asked.path);
            if !self.seen.named.contains(&named) {
                self.seen.named.push(named);
            }
        }
        if !self.rules.may_read(&path, how == Use::Listed) {
            self.note(path, how);
        } else if only_reads {
            self.known.insert(asked.path);
        }
    }

    /// An entry of a folder is to be another one, or none.
    fn changed(&mut self, asked: &Asked) {
        let Some(path) = entry(&asked.path) else { return };
        let there = path.symlink_metadata().is_ok();
        let how = match asked.to {
            // The kernel says that it is there before it looks whether it may be made.
            Wish::Make { replaces } if there && !replaces => return,
            Wish::Make { .. } => Use::Wrote,
            Wish::Remove if there => Use::Removed,
            _ => return,
        };
        if !self.rules.may_change(&path) {
            self.note(path, how);
        }
    }

    fn note(&mut self, path: PathBuf, how: Use) {
        if kept_by_python(&path, how) {
            return;
        }
        if let Some(module) = module_of(&path).filter(|_| how == Use::Read) {
            if !self.rules.may_read(&module, false) {
                self.note(module, how);
            }
            return;
        }
        if self.seen.paths.len() < LIMIT {
            let known = self.seen.paths.entry(path).or_insert(how);
            // What it wrote there it may well read again: that is no input.
            *known = (*known).max(how);
        }
    }
}

/// Where Python keeps what it has made of its modules, beside them.
const PYTHON_CACHE: &str = "__pycache__";

/// Whether it is what Python makes there by itself, under another name first.
fn kept_by_python(path: &Path, how: Use) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let inside = path.parent().is_some_and(|folder| folder.ends_with(PYTHON_CACHE));
    match how {
        Use::Wrote => name == PYTHON_CACHE || (inside && name.contains(".pyc")),
        Use::Removed => inside && name.contains(".pyc."),
        Use::Listed | Use::Read | Use::Ran => false,
    }
}

/// The module that a file of Python's was made from and stands for, where that is there: `lib/__pycache__/a.cpython-311.pyc`
/// is read in the place of `lib/a.py`.
fn module_of(path: &Path) -> Option<PathBuf> {
    let cache = path.parent().filter(|folder| folder.ends_with(PYTHON_CACHE))?;
    let (name, _) = path.file_name()?.to_str()?.split_once('.')?;
    let module = cache.parent()?.join(format!("{name}.py"));
    module.is_file().then_some(module)
}

/// An entry of a folder, whatever it leads to, and whether it is there or not.
fn entry(path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
}

/// What a call asks for; nothing where it reads and changes nothing, or that cannot be known.
fn asked(call: Call) -> [Option<Asked>; 2] {
    let [first, second, third, fourth, fifth, _] = call.arguments;
    let at = |folder: u64, text: u64, to: Wish| named(call.thread, folder as u32 as i32, text, to);
    let here = |text: u64, to: Wish| named(call.thread, libc::AT_FDCWD, text, to);
    let make = Wish::Make { replaces: false };
    let replace = Wish::Make { replaces: true };
    // What another name is given is read by that.
    let read = Wish::Open { reads: true, writes: false, makes: false };
    let write = Wish::Open { reads: false, writes: true, makes: false };
    match call.number {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_link => [here(first, read), here(second, make)],
        libc::SYS_linkat => [at(first, second, read), at(third, fourth, make)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename => [here(first, Wish::Remove), here(second, replace)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_renameat => [at(first, second, Wish::Remove), at(third, fourth, replace)],
        libc::SYS_renameat2 => [at(first, second, Wish::Remove), at(third, fourth, replace)],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir | libc::SYS_mknod => [here(first, make), None],
        libc::SYS_mkdirat | libc::SYS_mknodat => [at(first, second, make), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => [here(second, make), None],
        libc::SYS_symlinkat => [at(second, third, make), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink | libc::SYS_rmdir => [here(first, Wish::Remove), None],
        libc::SYS_unlinkat => [at(first, second, Wish::Remove), None],
        libc::SYS_truncate => [here(first, write), None],
        libc::SYS_bind => {
            [socket_file(call.thread, second, third).map(|path| Asked { path, to: make }), None]
        }
        _ => [opened(call, fifth), None],
    }
}

fn named(thread: u32, folder: i32, at: u64, to: Wish) -> Option<Asked> {
    Some(Asked { path: absolute(thread, folder, text(thread, at)?)?, to })
}

/// What a call that opens or executes asks for.
fn opened(call: Call, fifth: u64) -> Option<Asked> {
    let [first, second, third, ..] = call.arguments;
    // The kernel looks at the lower half of what are numbers there.
    let number = |argument: u64| argument as u32 as i32;
    let from_folder = Some(libc::AT_FDCWD);
    let (folder, at, flags) = match call.number {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => (from_folder, first, Some(number(second))),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => (from_folder, first, Some(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC)),
        libc::SYS_openat => (Some(number(first)), second, Some(number(third))),
        libc::SYS_openat2 => {
            let mut how = [0; 8];
            memory(call.thread)?.read_exact_at(&mut how, third).ok()?;
            (Some(number(first)), second, Some(u64::from_ne_bytes(how) as i32))
        }
        libc::SYS_execve => (from_folder, first, None),
        libc::SYS_execveat if number(fifth) & libc::AT_EMPTY_PATH == 0 => (Some(number(first)), second, None),
        _ => return None,
    };
    if flags.is_some_and(|flags| flags & libc::O_PATH != 0) {
        return None;
    }
    let Some(flags) = flags else { return named(call.thread, folder?, at, Wish::Run) };
    let mode = flags & libc::O_ACCMODE;
    let makes = flags & libc::O_CREAT != 0;
    let writes = mode != libc::O_RDONLY || flags & libc::O_TRUNC != 0 || makes;
    named(call.thread, folder?, at, Wish::Open { reads: mode != libc::O_WRONLY, writes, makes })
}

fn memory(thread: u32) -> Option<File> {
    File::open(format!("/proc/{thread}/mem")).ok()
}

/// The text at a place of a thread's memory, up to its zero byte.
fn text(thread: u32, at: u64) -> Option<PathBuf> {
    let memory = memory(thread)?;
    let mut text = Vec::new();
    while text.len() < PATH_BYTES {
        let at = at.checked_add(text.len() as u64)?;
        // No further than to the end of its page: the next one may not be there.
        let mut bytes = [0; PAGE_BYTES as usize];
        let here = usize::try_from(PAGE_BYTES - at % PAGE_BYTES).ok()?;
        let read = memory.read_at(&mut bytes[..here], at).ok().filter(|read| *read > 0)?;
        if let Some(end) = bytes[..read].iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&bytes[..end]);
            return (!text.is_empty()).then(|| PathBuf::from(OsString::from_vec(text)));
        }
        text.extend_from_slice(&bytes[..read]);
    }
    None
}

/// The file that a socket is to be found by; nothing where it is found otherwise: by an address of the network, or by a
/// name that is no file's.
fn socket_file(thread: u32, at: u64, length: u64) -> Option<PathBuf> {
    let mut address = vec![0; usize::try_from(length).ok()?.min(size_of::<libc::sockaddr_un>())];
    memory(thread)?.read_exact_at(&mut address, at).ok()?;
    let (family, path) = address.split_first_chunk()?;
    if u16::from_ne_bytes(*family) != libc::AF_UNIX as libc::sa_family_t {
        return None;
    }
    // It ends with its zero byte, or with the address. The name of one that is no file begins with such a byte.
    let path = path.split(|byte| *byte == 0).next().filter(|path| !path.is_empty())?;
    absolute(thread, libc::AT_FDCWD, PathBuf::from(OsString::from_vec(path.to_vec())))
}

/// The path as it is from our side: from the thread's folder, or from the folder that it holds open.
fn absolute(thread: u32, folder: i32, path: PathBuf) -> Option<PathBuf> {
    let proc = Path::new("/proc");
    if path.is_absolute() {
        // What is its own there is not ours.
        for own in ["self", "thread-self"] {
            if let Ok(rest) = path.strip_prefix(proc.join(own)) {
                return Some(proc.join(thread.to_string()).join(rest));
            }
        }
        return Some(path);
    }
    let base = match folder {
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        folder => format!("/proc/{thread}/fd/{folder}"),
    };
    Some(fs::read_link(base).ok()?.join(path))
}
