//! What is not a blob yet: the names that this process gives, what lies in staging, and the work folders.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Files;
use crate::error::{At, StoreError};

/// The longest part of a label in the name of a work folder.
const LABEL_BYTES: usize = 64;

impl Files {
    /// A name that nobody else gives.
    pub(crate) fn new_name(&self) -> String {
        format!("{}-{}", self.token, self.next_name.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes what dead processes left in staging and says how many bytes that were; `is_live` says of a
    /// token whether its process lives. The host's.
    pub(crate) fn sweep_staging(&self, is_live: &dyn Fn(&str) -> bool) -> Result<u64, StoreError> {
        let staging = self.layout.staging();
        let entries = match fs::read_dir(&staging) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error).at("list", &staging),
        };
        let mut bytes = 0;
        for entry in entries.collect::<Vec<_>>() {
            let entry = entry.at("list", &staging)?;
            // The names were listed before it is asked who lives: a process has its file before it stages.
            let name = entry.file_name();
            let token = name.to_str().and_then(|name| name.split_once('-')).map(|(token, _)| token);
            if token.is_some_and(is_live) {
                continue;
            }
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            match fs::remove_file(entry.path()) {
                Ok(()) => bytes += size,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("remove", &entry.path()),
            }
        }
        Ok(bytes)
    }

    /// A new, empty, private folder below the work folder; `label` becomes part of its name.
    pub(crate) fn work_folder(&self, label: &str) -> Result<PathBuf, StoreError> {
        let path = self.work_path(label);
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let work = self.layout.work();
                fs::create_dir_all(&work).at("make", &work)?;
                builder.create(&path).at("make", &path)?;
            }
            other => other.at("make", &path)?,
        }
        // What is made in it belongs to its user's group, as everywhere, and not to a shared store's.
        if fs::symlink_metadata(&path).at("look at", &path)?.mode() & 0o2000 != 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).at("protect", &path)?;
        }
        Ok(path)
    }

    /// The path of a folder below the work folder that nobody else makes.
    pub(crate) fn work_path(&self, label: &str) -> PathBuf {
        let mut name: String = label
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=') { c } else { '_' })
            .take(LABEL_BYTES)
            .collect();
        if name.starts_with('.') {
            name.replace_range(..1, "_");
        }
        self.layout.work().join(format!("{name}-{}", self.new_name()))
    }
}

/// Whether this is a name that [`Files::new_name`] gives: one part of a path, and not `..`.
pub(super) fn is_staging_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Refuses what is no regular file of this user's at a path; what is not there is passed over.
pub(super) fn is_staged_by(path: &Path, owner: Option<u32>) -> Result<(), StoreError> {
    let what = match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => "it is no file that was staged".to_owned(),
        Ok(metadata) => match owner {
            Some(owner) if metadata.uid() != owner => {
                format!("it is not a file of {}, who staged it", crate::share::user(owner))
            }
            _ => return Ok(()),
        },
        Err(_) => return Ok(()),
    };
    Err(StoreError::Unstorable { path: path.to_owned(), what })
}

/// Something that no other process has, now or at another time: not a secret, only unique.
pub(crate) fn token() -> String {
    static OPENED: AtomicU64 = AtomicU64::new(0);

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(&now.as_nanos().to_le_bytes());
    hasher.update(&OPENED.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    if let Ok(boot) = fs::read("/proc/sys/kernel/random/boot_id") {
        hasher.update(&boot);
    }
    // Process ids repeat between containers that share a store; what is in memory hardly does.
    if let Ok(mut random) = File::open("/dev/urandom") {
        let mut bytes = [0; 16];
        if random.read_exact(&mut bytes).is_ok() {
            hasher.update(&bytes);
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
