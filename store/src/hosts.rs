//! A process's part in its stores: one [`Member`] per store, however often it is opened, and the way to
//! the host, who may be this process itself.
//!
//! The one piece of process-wide state in this crate is here (`hosts/slot.rs`). The kernel's lock on a store belongs to
//! an open file, so a second one in the same process would wait for the first for ever; the second opener is given the
//! first one's host instead. A child of a fork begins without any of it.

mod greeting;
mod patience;
mod slot;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::blob::Files;
use crate::client::Client;
use crate::config::Config;
use crate::crash;
use crate::door::Door;
use crate::error::StoreError;
use crate::folder::Folder;
use crate::frozen;
use crate::host::{self, Core, Host};
use crate::index::Expect;
use crate::layout::Layout;
use crate::lock::{self, HostLock};
use crate::processes::{self, ProcessFile};
use crate::rebuild::{self, RebuildReport};
use crate::reserve;
use crate::share;
use crate::socket;
use crate::store::Hosting;
use crate::sys::{Birth, Kept};
use crate::times::{LETTING_GO, MOMENT};
use crate::wire::Welcome;
use crate::work::{self, WorkFolder};
use greeting::greet;
pub(crate) use greeting::{FULL, greet_again, is_full, is_full_here, is_silent};
use patience::LONGEST_PAUSE;
use patience::Patience;
use slot::{Becoming, Opening, Slot, State, slot_of};

/// What this process has of a store that it uses, as long as any part of it does.
pub(crate) struct Member {
    pub(crate) folder: Folder,
    pub(crate) files: Arc<Files>,
    pub(crate) config: Config,
    /// Says to others that this process lives, and what it holds on to.
    pub(crate) file: ProcessFile,
    pub(crate) birth: Birth,
    slot: Arc<Slot>,
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.birth.is_over() {
            self.files.save_marks();
        }
    }
}

/// A host that is shared by all stores of this process that have its folder open.
pub(crate) struct Hosted {
    /// Present until this is dropped; the door closes first.
    parts: Option<(Option<Door>, Host)>,
    slot: Arc<Slot>,
    birth: Birth,
}

impl Hosted {
    /// What answers requests.
    pub(crate) fn core(&self) -> &Core {
        let (_, host) = self.parts.as_ref().expect("they are taken only when this is dropped");
        host.core()
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        if self.birth.is_over() {
            // Its threads stayed in the parent, and all that it would close is the parent's.
            std::mem::forget(self.parts.take());
            return;
        }
        if let Some((door, host)) = self.parts.take() {
            drop(door);
            crash::point("host.door-closed");
            drop(host);
        }
        self.slot.set(State::Closed);
    }
}

/// How to get at a host.
pub(crate) struct Wanted<'a> {
    pub(crate) wait: Duration,
    /// A host that lives says something within it, also where nobody is to be waited for.
    pub(crate) moment: Duration,
    pub(crate) owner: &'a str,
    pub(crate) hosting: Hosting,
    pub(crate) on_wait: &'a mut dyn FnMut(&str),
    /// Whether a store that cannot be written is opened to be read.
    pub(crate) to_read: bool,
    /// Whether it is wanted still.
    pub(crate) go_on: &'a dyn Fn() -> bool,
}

/// A host that was reached.
pub(crate) enum Reached {
    /// It is this process.
    Own(Arc<Hosted>),
    /// It is another one, at the end of this connection, on which greetings were exchanged.
    Other { line: Kept<UnixStream>, welcome: Welcome },
}

/// This process's part in a store: the one that it has, or a new one.
pub(crate) fn join(folder: Folder, owner: &str) -> Result<Arc<Member>, StoreError> {
    let slot = slot_of(&folder.layout);
    let mut member = slot.member.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(member) = member.upgrade() {
        return Ok(member);
    }
    let config = Config::read(&folder.layout.config())?;
    share::check(&folder.layout, &config)?;
    let files = Arc::new(Files::new(folder.layout.clone(), config.inline_limit_bytes));
    let file = ProcessFile::create(&folder.layout, files.token(), owner)?;
    let new = Member { folder, files, config, file, birth: Birth::now(), slot: Arc::clone(&slot) };
    let new = Arc::new(new);
    *member = Arc::downgrade(&new);
    Ok(new)
}

/// Finds the host of a store, or becomes it.
///
/// # Errors
///
/// [`StoreError::InUse`] where it does not answer in time, [`StoreError::Skew`], [`StoreError::NoHost`],
/// and what opening the index says.
pub(crate) fn reach(member: &Member, wanted: &mut Wanted<'_>) -> Result<Reached, StoreError> {
    let layout = &member.folder.layout;
    let slot = &member.slot;
    if let Some(hosted) = slot.enter(layout, wanted.wait, wanted.go_on)? {
        return Ok(Reached::Own(hosted));
    }
    let becoming = Becoming(slot);
    let mut opening = Opening { slot, found: State::Closed };
    let mut patience = Patience::new(layout, wanted.wait);
    let locks_out = share::locks_out(layout, member.config.sharing, member.file.made_by());
    loop {
        // Asked before each attempt: whoever only wants to end would open the index to close it again, while all the
        // others, who may want just that as well, wait for it.
        if !(wanted.go_on)() {
            return Err(closed(layout));
        }
        if wanted.hosting == Hosting::Willing && becoming.begin() {
            let hosted = match &locks_out {
                None => HostLock::take(layout, wanted.owner),
                Some(_) if lock::is_held(layout) => Ok(None),
                Some(why) => Err(StoreError::Refused { dir: layout.root().to_owned(), why: why.clone() }),
            };
            let hosted = match hosted {
                Ok(Some(lock)) => Some(host(member, lock, wanted)?),
                Ok(None) => None,
                // Nobody serves it: what is on record can be read all the same.
                Err(StoreError::Refused { why, .. }) if wanted.to_read => Some(only_read(member, &why)?),
                Err(error) => match frozen::reason(&error).filter(|_| wanted.to_read) {
                    Some(why) => Some(only_read(member, why)?),
                    None => return Err(error),
                },
            };
            if let Some(hosted) = hosted.map(Arc::new) {
                opening.found = State::Open(Arc::downgrade(&hosted));
                return Ok(Reached::Own(hosted));
            }
            becoming.end();
        }
        match socket::connect(layout) {
            Ok(line) => {
                if let Some(welcome) = greet(member, &line, &mut patience, wanted)? {
                    return Ok(Reached::Other { line, welcome });
                }
            }
            Err(error) if nobody_there(&error) => {}
            Err(source) => return Err(StoreError::Io { action: "use", path: layout.socket(), source }),
        }
        patience.check("", wanted)?;
        patience.pause();
    }
}

/// What is said to whoever looks for a host of a store that was closed meanwhile.
fn closed(layout: &Layout) -> StoreError {
    StoreError::Index { dir: layout.root().to_owned(), what: "it was closed".to_owned() }
}

/// Opens another connection to the host that is there, on which nothing is said yet.
pub(crate) fn dial(member: &Member) -> io::Result<Kept<UnixStream>> {
    let line = socket::connect(&member.folder.layout)?;
    if socket::check_peer(&*line, &member.folder.layout, member.config.sharing).is_err() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(line)
}

/// Makes the index of a store anew; nobody may have the store open.
pub(crate) fn rebuild(folder: &Folder, wanted: &mut Wanted<'_>) -> Result<RebuildReport, StoreError> {
    let layout = &folder.layout;
    let made = processes::owner_of_new(layout);
    if let Some(why) = share::locks_out(layout, Config::read(&layout.config())?.sharing, made) {
        return Err(StoreError::Refused { dir: layout.root().to_owned(), why });
    }
    alone(folder, wanted, &|layout, lock| rebuild_under(folder, layout, lock))
}

/// Does something to a store that nobody has open.
pub(crate) fn alone<T>(
    folder: &Folder,
    wanted: &mut Wanted<'_>,
    work: &dyn Fn(&Layout, HostLock) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let layout = &folder.layout;
    let slot = slot_of(layout);
    if slot.enter(layout, wanted.wait, wanted.go_on)?.is_some() {
        let owner = "this process".to_owned();
        return Err(StoreError::InUse { dir: layout.root().to_owned(), owner });
    }
    let _opening = Opening { slot: &slot, found: State::Closed };
    let mut patience = Patience::new(layout, wanted.wait);
    let lock = loop {
        if let Some(lock) = HostLock::take(layout, wanted.owner)? {
            break lock;
        }
        patience.check("", wanted)?;
        patience.pause();
    };
    work(layout, lock)
}

fn rebuild_under(folder: &Folder, layout: &Layout, lock: HostLock) -> Result<RebuildReport, StoreError> {
    let mut report = match rebuild::rebuild(layout, &folder.id) {
        Err(StoreError::Io { source, .. })
            if host::is_full(&source) && reserve::release(&layout.reserve()) =>
        {
            rebuild::rebuild(layout, &folder.id)?
        }
        rebuilt => rebuilt?,
    };
    let config = Config::read(&layout.config())?;
    let files = Arc::new(Files::new(layout.clone(), config.inline_limit_bytes));
    let until = Instant::now() + LETTING_GO.get();
    let go_on = || Instant::now() < until;
    let host = Host::open(layout.clone(), &folder.id, lock, Expect::Index, &go_on, files)?;
    report.unreadable.extend(host.core().warnings.iter().cloned());
    host.core().match_files(&mut report)?;
    Ok(report)
}

/// The work folders of a store that are not in use, and nothing of its index. Where nobody serves the store,
/// what dead processes were staging goes too.
pub(crate) fn clean(
    folder: &Folder,
    wanted: &Wanted<'_>,
    each: &mut dyn FnMut(WorkFolder) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let layout = &folder.layout;
    if let Some(_lock) = HostLock::take(layout, wanted.owner)? {
        Files::new(layout.clone(), 0).sweep_staging(&|token| processes::is_live(layout, token))?;
    }
    work::list(layout, "/")?.into_iter().filter(|folder| !folder.in_use).try_for_each(each)
}

/// All users of a store in this process.
pub(crate) fn clients(member: &Member) -> Vec<Arc<Client>> {
    let clients = member.slot.clients.lock().unwrap_or_else(PoisonError::into_inner);
    clients.iter().filter_map(Weak::upgrade).collect()
}

/// Notes that somebody in this process uses the store through a client of its own.
pub(crate) fn register(member: &Member, client: &Arc<Client>) {
    let mut clients = member.slot.clients.lock().unwrap_or_else(PoisonError::into_inner);
    clients.retain(|client| client.strong_count() > 0);
    clients.push(Arc::downgrade(client));
}

/// Gives up being the host, if this process is it, until the returned value is dropped: what is asked
/// meanwhile waits for another host. What this process holds it keeps.
pub(crate) fn hand_over(member: &Arc<Member>) -> HandedOver {
    let slot = &member.slot;
    slot.hands_over.store(true, Ordering::SeqCst);
    member.file.stopped(true);
    {
        let clients = clients(member);
        clients.iter().for_each(|client| client.stop_taking());
        let until = Instant::now() + MOMENT.get();
        clients.iter().for_each(|client| client.give_back_unbegun(until));
    }
    // What is being answered is answered first. Who was just becoming the host, because this process went on a moment ago, does
    // so, and lets go then.
    let until = Instant::now() + LETTING_GO.get();
    loop {
        clients(member).iter().for_each(|client| client.let_go());
        let state = slot.state();
        let left = until.saturating_duration_since(Instant::now());
        if !slot.is_host(&state) || left.is_zero() {
            break;
        }
        drop(slot.changed.wait_timeout(state, left.min(LONGEST_PAUSE)));
    }
    HandedOver { member: Arc::clone(member) }
}

/// While this lives, the process does not become the host.
#[must_use = "dropped, the process may host again"]
pub struct HandedOver {
    member: Arc<Member>,
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        self.member.file.stopped(false);
        self.member.slot.hands_over.store(false, Ordering::SeqCst);
        self.member.slot.changed.notify_all();
        // Nobody may ask for long: all may wait to be told something by a host that is no more, or be computing, and
        // what is claimed and was not heard of for 30 s is handed on.
        for client in clients(&self.member) {
            client.taking().go_on();
            client.look_for_host();
        }
    }
}

impl std::fmt::Debug for HandedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandedOver").finish_non_exhaustive()
    }
}

fn host(member: &Member, lock: HostLock, wanted: &Wanted<'_>) -> Result<Hosted, StoreError> {
    let layout = &member.folder.layout;
    crash::point("host.locked");
    let until = Instant::now() + wanted.wait.max(LETTING_GO.get());
    let go_on = || Instant::now() < until && (wanted.go_on)();
    let files = Arc::clone(&member.files);
    let host = Host::open(layout.clone(), &member.folder.id, lock, expectation(layout), &go_on, files)?;
    crash::point("host.opened");
    let door = Door::open(Arc::clone(host.core()), wanted.owner).map_err(|source| StoreError::Io {
        action: "begin to serve",
        path: layout.socket(),
        source,
    })?;
    crash::point("host.door-open");
    let slot = Arc::clone(&member.slot);
    Ok(Hosted { parts: Some((Some(door), host)), slot, birth: Birth::now() })
}

/// A host for this process alone, of a store that it cannot write.
fn only_read(member: &Member, why: &str) -> Result<Hosted, StoreError> {
    let files = Arc::clone(&member.files);
    let host = Host::open_frozen(&member.folder.layout, &member.folder.id, files, why)?;
    Ok(Hosted { parts: Some((None, host)), slot: Arc::clone(&member.slot), birth: Birth::now() })
}

fn nobody_there(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, NotFound, WouldBlock};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | Interrupted | WouldBlock)
}

/// An index is expected where there is one, and where a journal says that there was one.
fn expectation(layout: &Layout) -> Expect {
    let has_journal = std::fs::read_dir(layout.journal()).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
        })
    });
    if has_journal || layout.index().join("CURRENT").exists() { Expect::Index } else { Expect::Nothing }
}

#[cfg(all(test, not(feature = "schedules")))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::index::Index;
    use crate::store::Create;
    use crate::times::MOMENT;

    /// Looks for a host as long as it is wanted, and says what came of it.
    fn look(member: &Member, go_on: &dyn Fn() -> bool) -> String {
        let (wait, hosting) = (Duration::from_secs(60), Hosting::Willing);
        let on_wait = &mut |_: &str| {};
        match reach(
            member,
            &mut Wanted {
                wait,
                moment: MOMENT.get(),
                owner: "a test",
                hosting,
                on_wait,
                to_read: false,
                go_on,
            },
        ) {
            Ok(_) => "it is there".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Of many processes whose host goes just when they have ended, each in turn would open the index to close it again.
    #[test]
    fn whoever_has_closed_a_store_does_not_open_its_index_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let member =
            join(Folder::open(&dir.path().join("store"), Create::IfAbsent).unwrap(), "a test").unwrap();
        let layout = member.folder.layout.clone();
        assert!(look(&member, &|| false).contains("it was closed"));
        assert!(!layout.index().exists() && !layout.lock().exists(), "nobody was host");
        assert_eq!(look(&member, &|| true), "it is there");

        // Nor does it wait for what another process lets go of, which had the store and has ended.
        let index = Index::open(layout.root(), &layout.index(), Expect::Nothing).unwrap();
        let asked = Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) < 3;
        let files = Arc::clone(&member.files);
        let opened = Host::open_core(&layout, &member.folder.id, Expect::Nothing, &go_on, files);
        assert!(matches!(opened, Err(StoreError::InUse { .. })) && asked.get() == 4, "after {asked:?}");
        drop(index);
        assert_eq!(look(&member, &|| true), "it is there");
    }

    /// A thread whose request is being answered holds the host; others of its process took it again meanwhile, so that
    /// the process was stopped while it served.
    #[test]
    fn a_host_that_is_handed_over_is_not_taken_again_by_another_thread() {
        let dir = tempfile::tempdir().unwrap();
        let member =
            join(Folder::open(&dir.path().join("store"), Create::IfAbsent).unwrap(), "a test").unwrap();
        let (wait, hosting) = (Duration::from_secs(60), Hosting::Willing);
        let on_wait = &mut |_: &str| {};
        let go_on = &|| true;
        let mut wanted =
            Wanted { wait, moment: MOMENT.get(), owner: "a test", hosting, on_wait, to_read: false, go_on };
        let answering = reach(&member, &mut wanted).unwrap();
        std::thread::scope(|scope| {
            let handing = scope.spawn(|| hand_over(&member));
            while !member.slot.hands_over.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let asked = Cell::new(0);
            let until_asked = || asked.replace(asked.get() + 1) < 2;
            assert!(look(&member, &until_asked).contains("it was closed"));
            drop(answering);
            let handed_over = handing.join().unwrap();
            let another = HostLock::take(&member.folder.layout, "another").unwrap();
            assert!(another.is_some(), "it is let go");
            drop(another);
            drop(handed_over);
            assert_eq!(look(&member, &|| true), "it is there");
        });
    }
    /// One that was stopped again as soon as it went on was stopped as a host: it was just becoming one again, which nobody
    /// waited for.
    #[test]
    fn who_is_just_becoming_the_host_lets_go_of_it_too() {
        let dir = tempfile::tempdir().unwrap();
        let member =
            join(Folder::open(&dir.path().join("store"), Create::IfAbsent).unwrap(), "a test").unwrap();
        for _ in 0..8 {
            let (says, hears) = std::sync::mpsc::channel();
            std::thread::scope(|scope| {
                let becoming = scope.spawn(|| {
                    let asked = Cell::new(0);
                    look(&member, &|| {
                        // Once it has begun; and it gives up where it is not to any more.
                        says.send(()).unwrap();
                        asked.replace(asked.get() + 1) < 1
                    })
                });
                hears.recv().unwrap();
                let handed_over = hand_over(&member);
                let another = HostLock::take(&member.folder.layout, "another").unwrap();
                assert!(another.is_some(), "it is let go");
                drop((another, handed_over));
                becoming.join().unwrap();
            });
        }
    }
}
