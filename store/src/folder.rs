//! A store's folder: how it comes to be, and how it is recognized.
//!
//! What makes a folder a store is its format file, which is written last, whole or not at all. Any number
//! of processes may make the same store at once, and any of them may be killed at any point: each step can
//! be done again, and the first format file to be named stays.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::crash;
use crate::error::{At, StoreError};
use crate::index::{Family, Index};
use crate::journal;
use crate::layout::{CACHEDIR_TAG, FORMAT, GITIGNORE, Layout};
use crate::place;
use crate::plain_file;
use crate::share;
use crate::store::Create;
use crate::tables;

/// What may lie in a folder in which a store was begun and never finished.
const BEGUN: [&str; 10] = [
    ".gitignore",
    "CACHEDIR.TAG",
    "blobs",
    "config.toml",
    "lock",
    "processes",
    "quarantine",
    "socket",
    "staging",
    "work",
];

/// A store's folder that is there and of our format.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Its paths; absolute, without links.
    pub(crate) layout: Layout,
    /// What tells this store from every other: 32 hex digits.
    pub(crate) id: String,
}

impl Folder {
    /// Finds the store in a folder, or makes one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Absent`], [`StoreError::NotAStore`], [`StoreError::Format`].
    pub(crate) fn open(dir: &Path, create: Create) -> Result<Self, StoreError> {
        let root = match fs::canonicalize(dir) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match create {
                Create::Never => return Err(StoreError::Absent { dir: dir.to_owned() }),
                Create::IfAbsent => {
                    make_private(dir)?;
                    fs::canonicalize(dir).at("find", dir)?
                }
            },
            Err(error) => return Err(error).at("find", dir),
        };
        let layout = Layout::new(root);
        if let Some(folder) = Self::find(&layout)? {
            return Ok(folder);
        }
        if let Some(other) = stranger(&layout)? {
            // Unless another process has made it meanwhile, and what is strange belongs to it.
            if let Some(folder) = Self::find(&layout)? {
                return Ok(folder);
            }
            let what = format!("it has no `format` file, but `{}`", other.display());
            return Err(not_a_store(&layout, what));
        }
        match create {
            Create::Never => Err(StoreError::Absent { dir: dir.to_owned() }),
            Create::IfAbsent => Self::make(&layout),
        }
    }

    /// Finds the store in a folder, and writes its format file again if that was lost or garbled.
    ///
    /// # Errors
    ///
    /// As for [`Folder::open`].
    pub(crate) fn mend(dir: &Path) -> Result<Self, StoreError> {
        match Self::open(dir, Create::Never) {
            Err(StoreError::FormatLost { .. }) => {}
            opened => return opened,
        }
        let layout = Layout::new(fs::canonicalize(dir).at("find", dir)?);
        // What is left must be known as its own: the index has the whole name, the journal most of it.
        let of_index = || {
            let index = Index::open_frozen(layout.root(), &layout.index()).ok()?;
            String::from_utf8(index.get(Family::Meta, tables::meta::STORE).ok()??).ok()
        };
        let of_journal = || Some(format!("{:0<32}", journal::store_of(&layout.journal())?));
        let known = of_index().or_else(of_journal).filter(|id| is_id(id));
        let text = print_format(&known.unwrap_or_else(|| new_id(&layout)));
        let (path, begun) = (layout.format(), layout.root().join("format.new"));
        let mut file = plain_file::replace(&begun).at("create", &begun)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).at("write", &begun)?;
        crash::point("folder.format-rewritten");
        fs::rename(&begun, &path).at("rename", &begun)?;
        Self::open(dir, Create::Never)
    }

    fn find(layout: &Layout) -> Result<Option<Self>, StoreError> {
        let path = layout.format();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let what = "it is not a folder".to_owned();
                return Err(StoreError::NotAStore { dir: layout.root().to_owned(), what });
            }
            Err(error) => {
                let refused = share::refused(layout.root());
                let refused = refused.filter(|_| error.kind() == io::ErrorKind::PermissionDenied);
                return Err(error).at("read", &path).map_err(|error| refused.unwrap_or(error));
            }
        };
        match parse_format(&text) {
            Some(Format { number: FORMAT, id }) => Ok(Some(Self { layout: layout.clone(), id })),
            Some(Format { number, .. }) => {
                Err(StoreError::Format { dir: layout.root().to_owned(), found: number, known: FORMAT })
            }
            None => {
                let what = "its `format` file is not one that any cas wrote".to_owned();
                Err(not_a_store(layout, what))
            }
        }
    }

    fn make(layout: &Layout) -> Result<Self, StoreError> {
        crash::point("folder.made");
        for folder in [layout.blobs(), layout.staging(), layout.work()] {
            DirBuilder::new().recursive(true).create(&folder).at("make", &folder)?;
        }
        for (path, text) in [(layout.gitignore(), GITIGNORE), (layout.cachedir_tag(), CACHEDIR_TAG)] {
            fs::write(&path, text).at("write", &path)?;
        }
        crash::point("folder.filled");
        let id = new_id(layout);
        let path = layout.format();
        let begun = layout.staged(&format!("format-{id}"));
        let mut file = File::create_new(&begun).at("create", &begun)?;
        let written = file.write_all(print_format(&id).as_bytes()).and_then(|()| file.sync_all());
        written.at("write", &begun)?;
        crash::point("folder.format-written");
        match place::rename_to_nothing(&begun, &path) {
            Ok(()) => {}
            // Another process was first; its store is the one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = fs::remove_file(&begun);
            }
            // It even serves it already, and tidied up.
            Err(error) if error.kind() == io::ErrorKind::NotFound && Self::find(layout)?.is_some() => {}
            Err(error) => return Err(error).at("name", &path),
        }
        File::open(layout.root()).and_then(|folder| folder.sync_all()).at("sync", layout.root())?;
        Self::find(layout)?.ok_or_else(|| StoreError::Absent { dir: layout.root().to_owned() })
    }
}

/// Makes a folder that nobody else looks into, and those around it as usual.
fn make_private(dir: &Path) -> Result<(), StoreError> {
    if let Some(around) = dir.parent().filter(|around| !around.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).create(around).at("make", around)?;
    }
    match DirBuilder::new().mode(share::PRIVATE_MODE).create(dir) {
        // Another process was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.at("make", dir),
    }
}

/// A folder that has no good format file: one of ours, by what else is in it, or none.
fn not_a_store(layout: &Layout, what: String) -> StoreError {
    let dir = layout.root().to_owned();
    let is_tagged = fs::read(layout.cachedir_tag()).is_ok_and(|tag| tag == CACHEDIR_TAG.as_bytes());
    let has_content = layout.journal().is_dir()
        || layout.index().is_dir()
        || fs::read_dir(layout.blobs()).is_ok_and(|mut entries| entries.next().is_some());
    if is_tagged && has_content {
        StoreError::FormatLost { dir, what }
    } else {
        StoreError::NotAStore { dir, what }
    }
}

/// Something in the folder that no store which is being made has. (Its parts that hold content are only
/// there after its format file, so a folder that has them has lost it.)
fn stranger(layout: &Layout) -> Result<Option<PathBuf>, StoreError> {
    for entry in fs::read_dir(layout.root()).at("list", layout.root())? {
        let name = entry.at("list", layout.root())?.file_name();
        if !name.to_str().is_some_and(|name| BEGUN.contains(&name)) {
            return Ok(Some(PathBuf::from(name)));
        }
    }
    for (folder, name) in [(layout.blobs(), "blobs"), (layout.work(), "work")] {
        match fs::read_dir(&folder) {
            Ok(mut entries) => {
                if let Some(Ok(entry)) = entries.next() {
                    return Ok(Some(Path::new(name).join(entry.file_name())));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).at("list", &folder),
        }
    }
    Ok(None)
}

#[derive(Debug, PartialEq, Eq)]
struct Format {
    number: u32,
    id: String,
}

fn print_format(id: &str) -> String {
    format!("cas store\nformat {FORMAT}\nid {id}\n")
}

/// Reads a format file. The first two lines mean the same in every format there will be; what follows them
/// is only looked at in our own.
fn parse_format(text: &[u8]) -> Option<Format> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != "cas store" {
        return None;
    }
    let number = lines.next()?.strip_prefix("format ")?.parse().ok()?;
    if number != FORMAT {
        return Some(Format { number, id: String::new() });
    }
    let id = lines.next()?.strip_prefix("id ")?;
    (is_id(id) && lines.next().is_none()).then(|| Format { number, id: id.to_owned() })
}

/// Whether bytes are a format file.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn understood(text: &[u8]) -> bool {
    parse_format(text).is_some()
}

/// Whether this can be what a store is called.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Something that no other store is called.
fn new_id(layout: &Layout) -> String {
    let mut seed = crate::blob::token();
    seed.push_str(&layout.root().to_string_lossy());
    blake3::hash(seed.as_bytes()).to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_file_is_this() {
        let id = "0123456789abcdef0123456789abcdef";
        let text = print_format(id);
        assert_eq!(text, "cas store\nformat 1\nid 0123456789abcdef0123456789abcdef\n");
        assert_eq!(parse_format(text.as_bytes()), Some(Format { number: 1, id: id.to_owned() }));
        let newer = b"cas store\nformat 7\nwhatever follows\n";
        assert_eq!(parse_format(newer), Some(Format { number: 7, id: String::new() }));
    }

    #[test]
    fn what_is_not_quite_a_format_file_is_none() {
        for text in [
            "",
            "\n",
            "cas store",
            "cas store\n",
            "cas store\nformat 1\n",
            "cas store\nformat one\nid 0123456789abcdef0123456789abcdef\n",
            "cas store\nformat 1\nid 0123\n",
            "cas store\nformat 1\nid 0123456789ABCDEF0123456789ABCDEF\n",
            "cas store\nformat 1\nid 0123456789abcdef0123456789abcdef",
            "cas store\nformat 1\nid 0123456789abcdef0123456789abcdef\nmore\n",
        ] {
            assert_eq!(parse_format(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_format(b"cas store\nformat 1\nid \xff\n"), None);
    }

    #[test]
    fn a_store_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er");
        let absent = Folder::open(&path, Create::Never).unwrap_err();
        assert!(matches!(absent, StoreError::Absent { .. }), "{absent}");
        assert!(!path.exists());
        let made = Folder::open(&path, Create::IfAbsent).unwrap();
        let found = Folder::open(&path, Create::Never).unwrap();
        assert_eq!(made.id, found.id);
        assert_eq!(fs::read_to_string(path.join(".gitignore")).unwrap(), "*\n");
        let tag = fs::read_to_string(path.join("CACHEDIR.TAG")).unwrap();
        assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
        assert_eq!(fs::read_dir(path.join("staging")).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_folder_becomes_a_store_and_another_does_not() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path(), Create::IfAbsent).unwrap();

        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        for create in [Create::Never, Create::IfAbsent] {
            let error = Folder::open(dir.path(), create).unwrap_err();
            assert!(error.to_string().ends_with("is not a store: it has no `format` file, but `thesis.tex`"));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let file = dir.path().join("thesis.tex");
        let error = Folder::open(&file, Create::IfAbsent).unwrap_err();
        assert!(error.to_string().ends_with("is not a store: it is not a folder"), "{error}");
    }

    #[test]
    fn a_store_that_lost_its_format_file_is_not_made_over() {
        let dir = tempfile::tempdir().unwrap();
        let made = Folder::open(dir.path(), Create::IfAbsent).unwrap();
        fs::create_dir(made.layout.blobs().join("00")).unwrap();
        fs::remove_file(made.layout.format()).unwrap();
        let error = Folder::open(dir.path(), Create::IfAbsent).unwrap_err();
        assert!(error.to_string().contains("no `format` file, but `blobs/00`"), "{error}");
        assert!(matches!(error, StoreError::FormatLost { .. }), "{error}");
    }

    #[test]
    fn a_lost_format_file_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = Folder::open(dir.path(), Create::IfAbsent).unwrap();
        fs::create_dir(made.layout.journal()).unwrap();
        for garbage in [None, Some(""), Some("cas stor\0")] {
            match garbage {
                None => fs::remove_file(made.layout.format()).unwrap(),
                Some(text) => fs::write(made.layout.format(), text).unwrap(),
            }
            let error = Folder::open(dir.path(), Create::IfAbsent).unwrap_err();
            assert!(matches!(error, StoreError::FormatLost { .. }), "{garbage:?}: {error}");
            let mended = Folder::mend(dir.path()).unwrap();
            assert_eq!(Folder::open(dir.path(), Create::Never).unwrap().id, mended.id);
        }
        // A newer store is not garbage.
        fs::write(made.layout.format(), "cas store\nformat 2\n").unwrap();
        assert!(matches!(Folder::mend(dir.path()), Err(StoreError::Format { .. })));
    }

    #[test]
    fn a_newer_format_is_refused_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let made = Folder::open(dir.path(), Create::IfAbsent).unwrap();
        fs::write(made.layout.format(), "cas store\nformat 2\n").unwrap();
        let error = Folder::open(dir.path(), Create::IfAbsent).unwrap_err();
        assert!(error.to_string().ends_with("has format 2; this program reads format 1"), "{error}");
    }

    #[test]
    fn many_who_make_one_store_at_once_get_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let ids: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Folder::open(&path, Create::IfAbsent).unwrap().id)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}
