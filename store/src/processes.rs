//! The processes that use a store: each holds a locked file that says what it holds on to.
//!
//! The kernel's lock says that a process lives, whatever namespace its number is from; nothing else is
//! believed. What the file lists is what a new host has to know of a process that is not back yet: the
//! claims that it has, what it uses of limits, and the results that it was told are present.
//!
//! ```text
//!   processes/<token>:   owner in words \n   (tag: 1 byte, trace: 32, ticket: 8, little-endian)*
//! ```
//!
//! Of a limit there is its name in the place of the trace, in pieces of 32 bytes, and then how much is used. Of a run there is
//! the token that it was begun with in the place of the ticket.
//!
//! A file is locked before it has its name, so one with a name and without a lock belongs to nobody.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::blob;
use crate::crash;
use crate::descriptors;
use crate::digest::Trace;
use crate::error::{At, StoreError};
use crate::ids::IdSet;
use crate::layout::Layout;
use crate::plain_file;
use crate::shares::Portion;
use crate::sys::{Birth, Kept};

/// The bytes of an entry.
const ENTRY_BYTES: usize = 1 + 32 + 8;

/// The longest owner that is written.
const OWNER_BYTES: usize = 200;

mod tag {
    /// The process was told that this result is present.
    pub(super) const LEASE: u8 = b'l';
    /// It claims this trace, under this ticket.
    pub(super) const CLAIM: u8 = b'c';
    /// It gave the claim back.
    pub(super) const END: u8 = b'e';
    /// It is about to be stopped and is not to be waited for.
    pub(super) const STOP: u8 = b's';
    /// It goes on.
    pub(super) const GO: u8 = b'g';
    /// A piece of the name of a limit.
    pub(super) const NAME: u8 = b'n';
    /// It uses so much of the limit of that name, of which it says that there is so much, under this ticket.
    pub(super) const USE: u8 = b'u';
    /// It has a run that was begun with this token.
    pub(super) const RUN: u8 = b'r';
    /// A share stood here that was given back, or a run that has ended.
    pub(super) const NOTHING: u8 = b'-';
}

/// This process's own file; it goes when this is dropped.
pub(crate) struct ProcessFile {
    /// `None` where there was no room for one: then a new host knows this process only once it is back.
    file: Option<Kept<File>>,
    path: std::path::PathBuf,
    written: Mutex<Written>,
    birth: Birth,
}

#[derive(Default)]
struct Written {
    leases: IdSet<Trace>,
    /// Where the shares and the runs stand, each with its bytes, by what it is and its number, and where some stood that are
    /// gone.
    places: HashMap<(u8, u64), (u64, usize)>,
    free: Vec<(u64, usize)>,
    bytes: u64,
    /// Whether an entry could not be written: then none is, because they have no gaps.
    broken: bool,
}

/// What the file of a process says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) owner: String,
    pub(crate) leases: IdSet<Trace>,
    pub(crate) claims: Vec<(Trace, u64)>,
    /// What it uses also while it is stopped, by ticket.
    pub(crate) shares: Vec<(u64, Vec<Portion>)>,
    /// The runs that it has, by the tokens that they were begun with.
    pub(crate) runs: Vec<u64>,
    pub(crate) stopped: bool,
}

impl ProcessFile {
    /// Makes the file of the process with this token.
    pub(crate) fn create(layout: &Layout, token: &str, owner: &str) -> Result<Self, StoreError> {
        let path = layout.processes().join(token);
        let made = match Self::make(layout, token, owner) {
            Ok(made) => Some(made),
            // A full disk must not keep anyone from making room, nor one that cannot be written from reading.
            Err(error @ StoreError::Io { .. }) if is_no_place(&error) => None,
            Err(error) => return Err(error),
        };
        let (file, bytes) = made.unzip();
        let written = Mutex::new(Written { bytes: bytes.unwrap_or(0), ..Written::default() });
        Ok(Self { file, path, written, birth: Birth::now() })
    }

    fn make(layout: &Layout, token: &str, owner: &str) -> Result<(Kept<File>, u64), StoreError> {
        let folder = layout.processes();
        let path = folder.join(token);
        let staged = layout.staged(&format!("{token}-process"));
        let mut head = owner.replace('\n', " ");
        while head.len() > OWNER_BYTES {
            head.pop();
        }
        head.push('\n');
        let mut tries = 0;
        loop {
            tries += 1;
            for folder in [&folder, &layout.staging()] {
                fs::create_dir_all(folder).at("make", folder)?;
            }
            let file = File::options().write(true).create_new(true).open(&staged).at("create", &staged)?;
            // The host may be another user's, where root joins a private store with a umask of its own.
            let mode = file.metadata().at("look at", &staged)?.mode();
            if mode & 0o040 == 0 {
                file.set_permissions(Permissions::from_mode(mode | 0o044)).at("open to all", &staged)?;
            }
            // Locked before it is named.
            file.lock().at("lock", &staged)?;
            let file = Kept::new(file);
            crash::point("process.locked");
            let written = (&*file).write_all(head.as_bytes()).at("write", &staged);
            let named = written.and_then(|()| fs::rename(&staged, &path).at("rename", &staged));
            match named {
                Ok(()) => {
                    crash::point("process.named");
                    return Ok((file, head.len() as u64));
                }
                // A host that began to serve took it for something that a dead process left in staging.
                Err(StoreError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < 100 => {}
                Err(error) => {
                    let _ = fs::remove_file(&staged);
                    return Err(error);
                }
            }
        }
    }

    /// Whose files are that this process makes; `None` where it could make none.
    pub(crate) fn made_by(&self) -> Option<u32> {
        self.file.as_ref()?.metadata().ok().map(|metadata| metadata.uid())
    }

    /// Notes that these results were said to be present.
    pub(crate) fn lease(&self, traces: impl Iterator<Item = Trace>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let most = traces.size_hint().1.unwrap_or(0);
        written.leases.reserve(most);
        let mut entries = Vec::with_capacity(most * ENTRY_BYTES);
        for trace in traces {
            if written.leases.insert(trace) {
                push(&mut entries, tag::LEASE, &trace, 0);
            }
        }
        self.append(&mut written, &entries);
    }

    /// Notes claims.
    pub(crate) fn claim(&self, claims: &[(Trace, u64)]) {
        self.note(tag::CLAIM, claims);
    }

    /// Notes that claims were given back.
    pub(crate) fn end(&self, claims: &[(Trace, u64)]) {
        self.note(tag::END, claims);
    }

    /// Notes a share, but for what of it is nobody's while the process is stopped.
    pub(crate) fn share(&self, ticket: u64, portions: &[Portion]) {
        let mut entries = Vec::new();
        for portion in portions.iter().filter(|portion| portion.outlasts_a_stop()) {
            for piece in portion.name.as_bytes().chunks(32) {
                let mut name = [0; 32];
                name[..piece.len()].copy_from_slice(piece);
                push(&mut entries, tag::NAME, &Trace::from_bytes(name), ticket);
            }
            let mut amounts = [0; 32];
            amounts[..8].copy_from_slice(&portion.amount.to_le_bytes());
            amounts[8] = u8::from(portion.of.is_some());
            amounts[9..17].copy_from_slice(&portion.of.unwrap_or(0).to_le_bytes());
            push(&mut entries, tag::USE, &Trace::from_bytes(amounts), ticket);
        }
        if !entries.is_empty() {
            self.put((tag::USE, ticket), &entries);
        }
    }

    /// Notes that a share was given back.
    pub(crate) fn unshare(&self, ticket: u64) {
        self.take_out((tag::USE, ticket));
    }

    /// Notes that the process has a run that it begins with this token.
    pub(crate) fn run(&self, token: u64) {
        let mut entry = Vec::with_capacity(ENTRY_BYTES);
        push(&mut entry, tag::RUN, &Trace::from_bytes([0; 32]), token);
        self.put((tag::RUN, token), &entry);
    }

    /// Notes that it has that run no longer.
    pub(crate) fn run_ended(&self, token: u64) {
        self.take_out((tag::RUN, token));
    }

    /// Writes entries that are taken out again, where others stood if they fit there, and not at all where there is no room.
    fn put(&self, what: (u8, u64), entries: &[u8]) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = written.free.iter().position(|(_, bytes)| *bytes == entries.len());
        let at = match fits.map(|fits| written.free.swap_remove(fits)) {
            Some((at, _)) if self.overwrite(at, entries) => at,
            _ => {
                let at = written.bytes;
                self.append(&mut written, entries);
                if written.bytes == at {
                    return;
                }
                at
            }
        };
        written.places.insert(what, (at, entries.len()));
    }

    /// Takes entries out, in their place, because there may be no room for more.
    fn take_out(&self, what: (u8, u64)) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, bytes)) = written.places.remove(&what) else { return };
        let mut nothing = Vec::with_capacity(bytes);
        for _ in 0..bytes / ENTRY_BYTES {
            push(&mut nothing, tag::NOTHING, &Trace::from_bytes([0; 32]), 0);
        }
        if self.overwrite(at, &nothing) {
            written.free.push((at, bytes));
        }
    }

    fn overwrite(&self, at: u64, entries: &[u8]) -> bool {
        self.file.as_ref().is_some_and(|file| file.write_all_at(entries, at).is_ok())
    }

    /// Notes that the process is about to be stopped, or goes on.
    pub(crate) fn stopped(&self, stopped: bool) {
        let tag = if stopped { tag::STOP } else { tag::GO };
        self.note(tag, &[(Trace::from_bytes([0; 32]), 0)]);
    }

    /// In one write, however many there are.
    fn note(&self, tag: u8, of: &[(Trace, u64)]) {
        let mut entries = Vec::with_capacity(of.len() * ENTRY_BYTES);
        for (trace, ticket) in of {
            push(&mut entries, tag, trace, *ticket);
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.append(&mut written, &entries);
    }

    fn append(&self, written: &mut Written, entries: &[u8]) {
        let Some(file) = &self.file else { return };
        if written.broken || entries.is_empty() {
            return;
        }
        // What cannot be written is missed only by a host that this process has not entered at.
        match (&**file).write_all(entries) {
            Ok(()) => written.bytes += entries.len() as u64,
            Err(_) => {
                written.broken = true;
                let _ = file.set_len(written.bytes);
            }
        }
    }
}

fn is_no_place(error: &StoreError) -> bool {
    let full = matches!(error, StoreError::Io { source, .. } if crate::host::is_full(source));
    full || crate::frozen::reason(error).is_some()
}

fn push(entries: &mut Vec<u8>, tag: u8, trace: &Trace, ticket: u64) {
    entries.push(tag);
    entries.extend_from_slice(trace.as_bytes());
    entries.extend_from_slice(&ticket.to_le_bytes());
}

impl Drop for ProcessFile {
    fn drop(&mut self) {
        // A child of a fork must leave its parent's alone.
        if self.file.is_some() && !self.birth.is_over() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// As [`ProcessFile::made_by`], where this process has no file and is to have none: it would be waited for.
pub(crate) fn owner_of_new(layout: &Layout) -> Option<u32> {
    let probe = layout.staged(&format!("{}-owner", blob::token()));
    let owner =
        plain_file::replace(&probe).and_then(|file| file.metadata()).map(|metadata| metadata.uid()).ok();
    // What is left of it is swept with the rest of staging.
    let _ = fs::remove_file(&probe);
    owner
}

/// Whether this can be what a process calls itself: a name for files, and nothing that leads elsewhere.
pub(crate) fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= 64 && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a process with this token has the store open. What cannot be told is taken for yes: a process that lives keeps
/// what it claims, uses and stages.
pub(crate) fn is_live(layout: &Layout, token: &str) -> bool {
    match File::open(layout.processes().join(token)) {
        // Shared, so that two who ask at once do not take each other for the owner.
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// What the file of a process says; nothing where there is none.
///
/// # Errors
///
/// It is there and cannot be read: then nothing can be told of what the process holds.
pub(crate) fn read(layout: &Layout, token: &str) -> io::Result<Listed> {
    match fs::read(layout.processes().join(token)) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Listed::default()),
        Err(error) => Err(error),
    }
}

/// The processes that live, by their tokens, each with what its file says, or `None` where it cannot be read; the files of
/// those that do not live are removed. The host's.
pub(crate) fn list(layout: &Layout) -> Result<Vec<(String, Option<Listed>)>, StoreError> {
    let folder = layout.processes();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", &folder)?,
    };
    let mut live = Vec::new();
    for entry in entries {
        let entry = entry.at("list", &folder)?;
        let Ok(token) = entry.file_name().into_string() else { continue };
        if remove_if_dead(&entry.path()) {
            continue;
        }
        let listed = match read(layout, &token) {
            Err(error) if descriptors::are_used_up(&error) => Err(error).at("read", &entry.path())?,
            listed => listed.ok(),
        };
        live.push((token, listed));
    }
    live.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(live)
}

/// Removes the file of a process that is gone; false if it lives, or that cannot be told.
fn remove_if_dead(path: &Path) -> bool {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    let is_dead = file.try_lock().is_ok();
    if is_dead {
        let _ = fs::remove_file(path);
    }
    is_dead
}

fn parse(bytes: &[u8]) -> Listed {
    let mut listed = Listed::default();
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return listed };
    listed.owner = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut name = Vec::new();
    // One that was cut short by the end of its process says nothing.
    for entry in bytes[end + 1..].chunks_exact(ENTRY_BYTES) {
        let (Some(trace), Some(ticket)) = (entry[1..33].first_chunk::<32>(), entry.last_chunk::<8>()) else {
            continue;
        };
        let (trace, ticket) = (Trace::from_bytes(*trace), u64::from_le_bytes(*ticket));
        match entry[0] {
            tag::LEASE => drop(listed.leases.insert(trace)),
            tag::CLAIM => listed.claims.push((trace, ticket)),
            tag::END => listed.claims.retain(|claim| *claim != (trace, ticket)),
            tag::STOP => listed.stopped = true,
            tag::GO => listed.stopped = false,
            tag::RUN => listed.runs.push(ticket),
            tag::NAME => name.extend_from_slice(trace.as_bytes()),
            tag::USE => {
                let portion = portion(std::mem::take(&mut name), trace.as_bytes());
                match listed.shares.last_mut().filter(|(of, _)| *of == ticket) {
                    Some((_, portions)) => portions.push(portion),
                    None => listed.shares.push((ticket, vec![portion])),
                }
            }
            // Of a later version: it means nothing here.
            _ => {}
        }
    }
    listed
}

/// A portion, from the pieces of its name and what is said of how much.
fn portion(mut name: Vec<u8>, amounts: &[u8; 32]) -> Portion {
    name.truncate(name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    let number =
        |from: usize| u64::from_le_bytes(amounts[from..].first_chunk::<8>().copied().unwrap_or_default());
    Portion {
        name: String::from_utf8_lossy(&name).into_owned(),
        amount: number(0),
        of: (amounts[8] == 1).then(|| number(9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Trace = Trace::from_bytes([1; 32]);
    const U: Trace = Trace::from_bytes([2; 32]);

    fn layout(dir: &tempfile::TempDir) -> Layout {
        Layout::new(dir.path().to_owned())
    }

    #[test]
    fn a_process_is_listed_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        let file = ProcessFile::create(&layout, "abc", "run 1\nof two lines").unwrap();
        file.lease([T, U, T].into_iter());
        file.lease([T].into_iter());
        file.claim(&[(T, 7), (U, 8)]);
        file.end(&[(T, 7)]);
        let gpu = Portion { name: "gpu".to_owned(), amount: 2, of: Some(258) };
        let long = Portion { name: "é".repeat(40), amount: u64::MAX, of: None };
        let cpus = Portion { name: "cpus".to_owned(), amount: 1, of: Some(4) };
        file.share(9, &[long.clone(), cpus.clone(), gpu.clone()]);
        file.share(10, std::slice::from_ref(&cpus));
        file.share(11, std::slice::from_ref(&gpu));
        file.unshare(11);
        file.unshare(10);
        for run in [12, 13, 14] {
            file.run(run);
        }
        file.run_ended(12);
        file.stopped(true);
        let expected = Listed {
            owner: "run 1 of two lines".to_owned(),
            leases: [T, U].into_iter().collect(),
            claims: vec![(U, 8)],
            shares: vec![(9, vec![long, gpu.clone()])],
            runs: vec![13, 14],
            stopped: true,
        };
        assert!(is_live(&layout, "abc"));
        assert_eq!(list(&layout).unwrap(), [("abc".to_owned(), Some(expected))]);
        drop(file);
        assert!(!is_live(&layout, "abc"));
        assert_eq!(list(&layout).unwrap(), []);
        assert_eq!(fs::read_dir(layout.staging()).unwrap().count(), 0);
    }

    #[test]
    fn the_file_of_a_dead_process_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        fs::create_dir_all(layout.processes()).unwrap();
        fs::write(layout.processes().join("dead"), "run 1\n").unwrap();
        assert!(!is_live(&layout, "dead"));
        assert_eq!(list(&layout).unwrap(), []);
        assert!(!layout.processes().join("dead").exists());
    }

    #[test]
    fn the_file_is_these_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        let file = ProcessFile::create(&layout, "abc", "me").unwrap();
        file.claim(&[(T, 258)]);
        let bytes = fs::read(layout.processes().join("abc")).unwrap();
        let golden = [b"me\nc".as_slice(), &[1; 32], &[2, 1, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(bytes, golden);
        assert_eq!(parse(&golden[..golden.len() - 1]).claims, []);
        let gpu = Portion { name: "gpu".to_owned(), amount: 3, of: Some(4) };
        file.share(5, std::slice::from_ref(&gpu));
        let read = || fs::read(layout.processes().join("abc")).unwrap();
        let five = [5, 0, 0, 0, 0, 0, 0, 0];
        let share =
            [b"ngpu".as_slice(), &[0; 29], &five, b"u", &[3, 0, 0, 0, 0, 0, 0, 0, 1, 4], &[0; 22], &five];
        let share = share.concat();
        assert_eq!(read(), [golden.as_slice(), &share].concat());
        // Given back, it stands there no longer, also where there is no room for another entry; its place is used again.
        let nothing = [b"-".as_slice(), &[0; 40]].concat();
        file.unshare(5);
        file.unshare(5);
        assert_eq!(read(), [golden.as_slice(), &nothing, &nothing].concat());
        file.share(5, &[gpu]);
        let golden = [golden, share].concat();
        assert_eq!(read(), golden);
        // A run.
        file.run(258);
        let run = [b"r".as_slice(), &[0; 32], &[2, 1, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(read(), [golden.as_slice(), &run].concat());
        file.run_ended(258);
        file.run_ended(258);
        assert_eq!(read(), [golden.as_slice(), &nothing].concat());
        file.run(258);
        let golden = [golden, run].concat();
        assert_eq!(read(), golden);
        drop(file);
        for cut in 0..golden.len() {
            parse(&golden[..cut]);
        }
    }

    #[test]
    fn a_process_of_which_nothing_can_be_told_is_taken_for_one_that_lives() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir);
        fs::create_dir(layout.processes()).unwrap();
        // Opening it fails, as it does where no descriptor is left.
        let path = layout.processes().join("round");
        std::os::unix::fs::symlink("round", &path).unwrap();
        assert!(is_live(&layout, "round") && !is_live(&layout, "gone"));
        let listed: Vec<String> = list(&layout).unwrap().into_iter().map(|(token, _)| token).collect();
        assert_eq!(listed, ["round"]);
        assert!(fs::symlink_metadata(path).is_ok(), "it is still there");
    }
}
