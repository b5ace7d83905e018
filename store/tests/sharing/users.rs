//! Several users of one machine on one store: real users, where the tests run as root.
//!
//! Elsewhere nobody can become another user, and what is asserted is what one user sees: modes, and the words of
//! refusals that need no second user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use cas_store::{Create, Open, Store, StoreError};

use crate::child::{Child, User};
use crate::kit::*;

const GROUP: u32 = 60_010;
/// It is the first's own group, and one of several of the second's. Their umasks are those of the most and the least
/// careful people.
const ONE: User = User { uid: 60_001, gid: GROUP, groups: &[], umask: 0o077 };
const TWO: User = User { uid: 60_002, gid: 60_002, groups: &[GROUP, 60_011], umask: 0o000 };
const ROOT: User = User { uid: 0, gid: 0, groups: &[], umask: 0o077 };
const STRANGER: User = User { uid: 60_003, gid: 60_003, groups: &[60_011], umask: 0o022 };

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder that everybody can look into, with one of the first user's in it, and this program, for anybody to start.
struct Machine {
    _folder: tempfile::TempDir,
    home: PathBuf,
    program: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        let program = folder.path().join("program");
        // By a process of its own: a child that another test starts meanwhile would hold what is written open, and nobody
        // can execute that.
        let mut copy = std::process::Command::new("cp");
        let copied = copy.arg(std::env::current_exe().expect("its own path")).arg(&program).status();
        assert!(copied.expect("cp is there").success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
        let home = folder.path().join("home");
        fs::create_dir(&home).expect("make");
        chown(&home, Some(ONE.uid), Some(ONE.gid)).expect("give");
        Self { _folder: folder, home, program }
    }

    /// With a store that the first user has shared, and has open.
    fn shared() -> (Self, Child) {
        let machine = Self::new();
        let mut one = machine.start(&ONE);
        assert_eq!(one.ask("share"), format!("shared {GROUP}"));
        assert_eq!(one.ask("open"), "opened");
        (machine, one)
    }

    fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    fn start(&self, user: &User) -> Child {
        Child::start_as(&self.store(), &self.program, user)
    }

    fn opened(&self, user: &User) -> Child {
        let mut child = self.start(user);
        assert_eq!(child.ask("open"), "opened");
        child
    }
}

/// Folders with another mode or group than that of a shared store, files that not all of the group can read, and those
/// that they cannot write and that are no blobs. What lies in work folders is left out.
fn odd(dir: &Path) -> Vec<String> {
    let mut odd = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        let place = path.strip_prefix(dir).expect("below").display().to_string();
        let mode = metadata.mode() & 0o7777;
        // RocksDB gives its files to its user alone to write, and writes to none of another process.
        let is_fine = match &*place {
            _ if metadata.is_dir() => mode == 0o2770 && metadata.gid() == GROUP,
            _ if place.starts_with("blobs/") => mode == 0o444,
            _ if place.starts_with("quarantine/") && !place.ends_with(".why") => mode == 0o444,
            _ if place.starts_with("index/") && place != "index/LOCK" => mode & 0o047 == 0o040,
            _ => mode == 0o660 && metadata.gid() == GROUP,
        };
        if !is_fine {
            odd.push(format!("{place}: {mode:o}, group {}", metadata.gid()));
        }
        if metadata.is_dir() && !place.starts_with("work/") {
            let entries = fs::read_dir(&path).expect("it can be listed");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    odd.retain(|place| !place.starts_with("work/"));
    odd.sort();
    odd
}

#[test]
fn users_of_one_group_share_a_store_whatever_their_umasks_and_take_it_over_from_each_other() {
    if !is_root() {
        let kit = Kit::new();
        let group =
            Store::share(&kit.dir(), how(std::time::Duration::ZERO, &mut |_| {})).expect("it is shared");
        let metadata = fs::metadata(kit.dir()).expect("it is there");
        assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o2770, group));
        put(&kit.open(), 1, b"one");
        assert_eq!(get(&kit.open(), 1).as_deref(), Some(b"one".as_slice()));
        return;
    }
    let (machine, mut one) = Machine::shared();
    assert_eq!(one.ask("put 1"), "new");
    // The second is served by the first, and reads and writes files beside it.
    let mut two = machine.opened(&TWO);
    assert_eq!([one.ask("host"), two.ask("host")], ["own", "other"]);
    assert_eq!(two.ask("get 1"), "there");
    assert_eq!(two.ask("put 2"), "new");
    assert_eq!(one.ask("get 2"), "there");
    assert_eq!(odd(&machine.store()), Vec::<String>::new());
    // The first dies; the second goes on with its index and journal.
    one.kill();
    assert_eq!(two.ask("get 1"), "there");
    assert_eq!(two.ask("host"), "own");
    assert_eq!(two.ask("put 3"), "new");
    assert_eq!(two.ask("run 7"), "1");
    // The first comes back, is served by the second, and takes over when that closes.
    let mut one = machine.opened(&ONE);
    assert_eq!(one.ask("host"), "other");
    assert_eq!(one.ask("get 3"), "there");
    assert_eq!(one.ask("run 8"), "2");
    assert_eq!(two.ask("close"), "closed");
    assert_eq!(one.ask("put 4"), "new");
    assert_eq!(one.ask("host"), "own");
    assert_eq!(one.ask("verify"), "0 findings");
    assert_eq!(odd(&machine.store()), Vec::<String>::new());
    drop(one);

    // Whoever is left looks after what the other made: quarantine, collection, a snapshot, an index made anew.
    assert_eq!(two.ask("open"), "opened");
    let file = file_of(&machine.store(), &cas_store::Digest::of(&noise(1, 5_000)));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode");
    fs::write(&file, "wrong").expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("its mode");
    assert_eq!(two.ask("quarantine 1"), "quarantined");
    assert_eq!(two.ask("get 1"), "missing");
    assert_eq!(two.ask("compact"), "compacted");
    assert_eq!(two.ask("close"), "closed");
    let mut one = machine.start(&ONE);
    assert_eq!(one.ask("rebuild"), "rebuilt");
    assert_eq!(one.ask("open"), "opened");
    assert_eq!([one.ask("get 2"), one.ask("get 3")], ["there", "there"]);
    assert_eq!(odd(&machine.store()), Vec::<String>::new());
    drop(one);
    assert_eq!(two.ask("open"), "opened");
    assert_eq!(two.ask("collect"), "collected 4, in use 0");
    assert_eq!(files_below(&machine.store().join("blobs")), []);
    assert_eq!(odd(&machine.store()), Vec::<String>::new());
}

#[test]
fn the_work_folders_of_a_shared_store_are_each_users_own() {
    if !is_root() {
        return;
    }
    let (machine, mut one) = Machine::shared();
    let folder = PathBuf::from(one.ask("work-folder"));
    let metadata = fs::metadata(&folder).expect("it is there");
    // No bit of it is the group's, and files in it are made as anywhere else.
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o700, ONE.uid));
    drop(one);
    let mut two = machine.opened(&TWO);
    assert_eq!(two.ask("work-folders"), "0");
    // A failure of either is kept beside the other's.
    let failed = fs::metadata(machine.store().join("work/failed")).expect("it is there");
    assert_eq!((failed.mode() & 0o7777, failed.gid()), (0o2770, GROUP));
    drop(two);
    assert_eq!(machine.opened(&ONE).ask("work-folders"), "1");
}

#[test]
fn who_is_not_in_the_group_is_refused_by_name() {
    if !is_root() {
        return;
    }
    let (machine, _one) = Machine::shared();
    let said = machine.start(&STRANGER).ask("open");
    assert_eq!(
        said,
        format!(
            "error: the store at `{}` cannot be used: it is shared among the group {GROUP}, which the user {} is \
             not in",
            machine.store().display(),
            STRANGER.uid
        )
    );
    assert_eq!(machine.start(&STRANGER).ask("share"), said);
}

#[test]
fn a_private_store_stays_private() {
    if !is_root() {
        let kit = Kit::new();
        drop(kit.open());
        assert_eq!(fs::metadata(kit.dir()).expect("it is there").mode() & 0o7777, 0o700);
        return;
    }
    let machine = Machine::new();
    let mut one = machine.opened(&User { umask: 0, ..ONE });
    assert_eq!(fs::metadata(machine.store()).expect("it is there").mode() & 0o7777, 0o700);
    // Neither the group nor another user gets in, also while it is served.
    for user in [&TWO, &STRANGER] {
        let said = machine.start(user).ask("open");
        let expected = format!(
            "error: the store at `{}` cannot be used: it is private to the user {}",
            machine.store().display(),
            ONE.uid
        );
        assert_eq!(said, expected);
    }
    assert_eq!(one.ask("put 1"), "new");
    drop(one);
    // Only its user can share it, with the group that its folder has, and then what is in it is shared too.
    assert_eq!(machine.opened(&ONE).ask("get 1"), "there");
    let mut one = machine.start(&ONE);
    assert_eq!(one.ask("share"), format!("shared {GROUP}"));
    let mut two = machine.opened(&TWO);
    assert_eq!(two.ask("get 1"), "there");
    assert_eq!(two.ask("put 2"), "new");
    assert_eq!(two.ask("collect"), "collected 0, in use 2");
    assert!(machine.start(&TWO).ask("share").contains("it belongs to the user 60001, who can share it"));
}

/// The kernel keeps strangers out of the folder. Were it opened to them by hand, both ends of the socket would still ask
/// who the other is.
#[test]
fn a_stranger_who_gets_at_the_socket_is_neither_served_nor_believed() {
    if !is_root() {
        return;
    }
    let machine = Machine::new();
    let mut one = machine.opened(&ONE);
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    let (store, socket) = (machine.store(), machine.store().join("socket"));
    mode(&machine.home, 0o755);
    mode(&store, 0o755);
    mode(&store.join("format"), 0o644);
    mode(&socket, 0o666);
    let refused = format!("refused: the user {0} (uid {0})", STRANGER.uid);
    assert_eq!(machine.start(&STRANGER).ask("knock"), refused);
    assert_eq!(machine.start(&ONE).ask("knock"), "let in");
    assert_eq!(one.ask("put 1"), "new");
    assert_eq!(one.ask("close"), "closed");

    // Nobody serves it, and whoever wants it meets the stranger's socket.
    let lock = fs::File::options().write(true).open(store.join("lock")).expect("open");
    lock.lock().expect("lock");
    mode(&store, 0o777);
    let mut stranger = machine.start(&STRANGER);
    assert_eq!(stranger.ask("pretend"), "listening");
    mode(&store, 0o700);
    let said = machine.start(&ONE).ask("open");
    assert!(said.contains(&format!("is in use by the user {0} (uid {0})", STRANGER.uid)), "{said}");
    drop(lock);
    assert_eq!(machine.opened(&ONE).ask("get 1"), "there");
}

/// Somebody writes the word into the settings, and the folder is still one user's.
#[test]
fn a_store_that_only_says_that_it_is_shared_is_refused_with_what_to_do() {
    let kit = Kit::new();
    drop(kit.open());
    fs::write(kit.dir().join("config.toml"), "# ours\nsharing = \"group\"\n").expect("write");
    match open(&kit.dir()) {
        Err(StoreError::Config { line: 2, what, .. }) => {
            assert!(what.contains("`cas init --shared`"), "{what}")
        }
        other => panic!("{other:?}"),
    }
    let mut nothing = |_: &str| {};
    let how = Open { create: Create::Never, ..how(std::time::Duration::ZERO, &mut nothing) };
    Store::share(&kit.dir(), how).expect("it is shared");
    assert_eq!(
        fs::read_to_string(kit.dir().join("config.toml")).expect("read"),
        "# ours\nsharing = \"group\"\n"
    );
    put(&kit.open(), 1, b"one");
}

/// Root gets in everywhere. A segment of the journal or a folder that is root's would keep its owner from writing.
#[test]
fn root_joins_and_reads_a_private_store_of_another_user_and_never_locks_that_user_out() {
    if !is_root() {
        return;
    }
    let machine = Machine::new();
    let mut one = machine.opened(&ONE);
    assert_eq!(one.ask("put 1"), "new");
    let mut root = machine.opened(&ROOT);
    assert_eq!([root.ask("host"), root.ask("put 2"), root.ask("get 1")], ["other", "new", "there"]);
    // Nobody is left who serves it.
    assert_eq!(one.ask("close"), "closed");
    let said = root.ask("put 3");
    assert!(
        said.contains("it is private to the user 60001, whom files of another user would lock out"),
        "{said}"
    );
    assert_eq!(root.ask("close"), "closed");
    let said = machine.start(&ROOT).ask("open");
    assert!(said.contains("cannot be used: it is private to the user 60001"), "{said}");

    let mut one = machine.opened(&ONE);
    assert_eq!([one.ask("get 2"), one.ask("put 3"), one.ask("verify")], ["there", "new", "0 findings"]);
}

/// A member put a link to another member's own folder in the place of one of the store's, and that one's sweeping emptied it.
#[test]
fn a_link_that_a_member_put_in_the_place_of_a_folder_is_refused() {
    if !is_root() {
        return;
    }
    let (machine, one) = Machine::shared();
    drop(one);
    let (thesis, staging) = (machine.home.join("thesis"), machine.store().join("staging"));
    fs::create_dir(&thesis).expect("make");
    fs::write(thesis.join("chapter-1"), "once").expect("write");
    chown(&thesis, Some(ONE.uid), Some(ONE.gid)).expect("give");
    chown(thesis.join("chapter-1"), Some(ONE.uid), Some(ONE.gid)).expect("give");
    for (whose, expected) in
        [(&TWO, "its folder `staging` is a link, which the user 60002 put there"), (&ONE, "opened")]
    {
        let _ = fs::remove_dir_all(&staging);
        let _ = fs::remove_file(&staging);
        std::os::unix::fs::symlink(&thesis, &staging).expect("link");
        std::os::unix::fs::lchown(&staging, Some(whose.uid), Some(GROUP)).expect("give");
        let said = machine.start(&ONE).ask("open");
        assert!(said.contains(expected), "{said}");
        if whose.uid == TWO.uid {
            assert!(machine.start(&ROOT).ask("open").contains(expected));
            assert_eq!(fs::read_to_string(thesis.join("chapter-1")).expect("read"), "once");
        }
    }
}
