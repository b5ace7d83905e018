//! What can go wrong in the store, by what a caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// A failure of the store. What is missing or damaged is a miss ([`StoreError::is_miss`]): recompute it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store in this folder, and making one was not asked for.
    #[error("there is no store at `{}`", dir.display())]
    Absent {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds something that is not a store.
    #[error("`{}` is not a store: {what}", dir.display())]
    NotAStore {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// A store whose format file was lost or garbled.
    #[error("`{}` was a store: {what}", dir.display())]
    FormatLost {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// The store was written in a format that this program does not read.
    #[error("the store at `{}` has format {found}; this program reads format {known}", dir.display())]
    Format {
        /// The folder.
        dir: PathBuf,
        /// Its format number.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another process has the store, and did not let go within the time allowed.
    #[error("the store at `{}` is in use by {owner}", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Who has it, as far as is known.
        owner: String,
    },
    /// A process of another version of the program has the store, and the two do not understand each other.
    #[error("the store at `{}` is in use by {owner}, which is cas {theirs}; this is cas {ours}", dir.display())]
    Skew {
        /// The folder.
        dir: PathBuf,
        /// Who has it.
        owner: String,
        /// Its version.
        theirs: String,
        /// This program's.
        ours: String,
    },
    /// No process serves the store, and this one was told not to.
    #[error("no process serves the store at `{}`, and this one is not to", dir.display())]
    NoHost {
        /// The folder.
        dir: PathBuf,
    },
    /// The store is another user's or another group's.
    #[error("the store at `{}` cannot be used: {why}", dir.display())]
    Refused {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        why: String,
    },
    /// The folder is on a network file system.
    #[error(
        "the store at `{}` is on a network file system ({kind}), where locks and sockets of several machines \
         do not work together",
        dir.display()
    )]
    Network {
        /// The folder.
        dir: PathBuf,
        /// What kind of file system.
        kind: &'static str,
    },
    /// The bytes of this digest are not in the store.
    #[error("blob `{digest}` is not in the store")]
    Missing {
        /// What was asked for.
        digest: Digest,
    },
    /// Bytes were found that are not what their name says; they are in quarantine now.
    #[error("blob `{digest}` is damaged ({what}); it was moved to quarantine")]
    Damaged {
        /// What was asked for.
        digest: Digest,
        /// What is wrong with it.
        what: String,
    },
    /// The index or the journal holds something that cannot be read back.
    #[error("the index of the store at `{}` is damaged: {what}", dir.display())]
    IndexDamaged {
        /// The store.
        dir: PathBuf,
        /// Where and what.
        what: String,
    },
    /// Something that was to be stored cannot be: a socket, a link that leaves its folder, ….
    #[error("`{}` cannot be stored: {what}", path.display())]
    Unstorable {
        /// The offending path.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// What was to be imported is no archive, or not a whole one. Nothing of it was taken over.
    #[error("`{}` cannot be imported: {what}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// What was to be imported leaves out what another archive has, which was not imported. Nothing of it was taken over.
    #[error(
        "`{}` cannot be imported: it leaves out what another export has, which was not imported here{}",
        path.display(),
        blob.map(|blob| format!(": blob `{blob}`")).unwrap_or_default()
    )]
    ArchiveBase {
        /// The file.
        path: PathBuf,
        /// Something that it leaves out, where that was met.
        blob: Option<Digest>,
    },
    /// What is to be written exists already.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The store refuses to write: an earlier failure to sync left it read-only.
    #[error("the store at `{}` takes no more writes: {what}", dir.display())]
    ReadOnly {
        /// The store.
        dir: PathBuf,
        /// Why.
        what: String,
    },
    /// A setting in the store's `config.toml` is not understood.
    #[error("`{}`, line {line}: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// A verb: `open`, `write`, `rename`.
        action: &'static str,
        /// What it was about.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The index refused, for a reason that is neither damage nor the operating system's.
    #[error("the index of the store at `{}` failed: {what}", dir.display())]
    Index {
        /// The store.
        dir: PathBuf,
        /// What it said.
        what: String,
    },
}

impl StoreError {
    /// Whether this says no more than that content is not there (any longer): a reason to make it again.
    pub fn is_miss(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Damaged { .. })
    }
}

/// Puts the path and the verb to an IO error.
pub(crate) trait At<T> {
    /// `action` is a verb that fits after "cannot".
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { action, path: path.to_owned(), source: source.into() })
    }
}
