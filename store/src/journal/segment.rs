//! A segment of the journal: its name, its header, and whether it is one of ours.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::{At, StoreError};

pub(super) const HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 12] = b"cas journal\n";
const JOURNAL_FORMAT: u32 = 1;

pub(super) const KIND_LOG: u8 = 0;
pub(super) const KIND_SNAPSHOT: u8 = 1;

pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.log"))
}

/// The first 64 bytes of a segment.
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) kind: u8,
    /// The segment before it, 0 for none.
    pub(super) previous: u64,
}

impl Header {
    pub(super) fn is_snapshot(&self) -> bool {
        self.kind == KIND_SNAPSHOT
    }

    pub(super) fn to_bytes(&self, store: &str) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..12].copy_from_slice(MAGIC);
        bytes[12..16].copy_from_slice(&JOURNAL_FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.previous.to_le_bytes());
        bytes[32] = self.kind;
        bytes[36..60].copy_from_slice(&store_tag(store));
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; HEADER_BYTES], store: &str) -> Result<Self, String> {
        let number = |from: usize| {
            let mut part = [0; 8];
            part.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(part)
        };
        if &bytes[..12] != MAGIC {
            return Err("it does not begin as a segment does".to_owned());
        }
        if bytes[60..] != crc32fast::hash(&bytes[..60]).to_le_bytes() {
            return Err("the checksum of its header is wrong".to_owned());
        }
        if bytes[12..16] != JOURNAL_FORMAT.to_le_bytes() {
            return Err("its format is one that this program does not read".to_owned());
        }
        if bytes[36..60] != store_tag(store) {
            return Err("it belongs to another store".to_owned());
        }
        Ok(Self { number: number(16), previous: number(24), kind: bytes[32] })
    }
}

/// The store's id in a header: enough of it to tell stores apart.
fn store_tag(store: &str) -> [u8; 24] {
    let mut tag = [0; 24];
    let id = &store.as_bytes()[..store.len().min(24)];
    tag[..id.len()].copy_from_slice(id);
    tag
}

pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) len: u64,
}

pub(super) enum Broken {
    /// Nothing was ever written to it that reached the disk.
    Empty,
    Header(String),
    Io(io::Error),
}

impl Segment {
    /// The numbers of all segments, in order.
    pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(dir).at("read", dir)? {
            let name = entry.at("read", dir)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
            if let Some(Ok(number)) = number.map(str::parse) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn list(root: &Path, dir: &Path, store: &str) -> Result<Vec<Self>, StoreError> {
        let mut segments = Vec::new();
        for number in Self::numbers(dir)? {
            let path = segment_path(dir, number);
            match Self::open(&path, number, store) {
                Ok(segment) => segments.push(segment),
                // A segment that was made and never synced, after a loss of power.
                Err(Broken::Empty) => {}
                Err(Broken::Header(what)) => {
                    let what = format!("`{}` is not a part of its journal: {what}", path.display());
                    return Err(StoreError::IndexDamaged { dir: root.to_owned(), what });
                }
                Err(Broken::Io(source)) => return Err(StoreError::Io { action: "read", path, source }),
            }
        }
        Ok(segments)
    }

    /// Keeps a copy of the segment in quarantine, once, for whoever wants to look at it.
    pub(super) fn keep(&self, root: &Path) -> Result<PathBuf, StoreError> {
        let dir = root.join("quarantine");
        fs::create_dir_all(&dir).at("make", &dir)?;
        let mut kept = dir.join(format!("journal-{:016}.log", self.header.number));
        let mut number = 1;
        while kept.exists() {
            kept = dir.join(format!("journal-{:016}.{number}.log", self.header.number));
            number += 1;
        }
        fs::copy(&self.path, &kept).at("copy", &self.path)?;
        Ok(kept)
    }

    pub(super) fn open(path: &Path, number: u64, store: &str) -> Result<Self, Broken> {
        let mut file = File::open(path).map_err(Broken::Io)?;
        let len = file.metadata().map_err(Broken::Io)?.len();
        let mut bytes = [0; HEADER_BYTES];
        if len < HEADER_BYTES as u64 {
            return Err(Broken::Empty);
        }
        file.read_exact(&mut bytes).map_err(Broken::Io)?;
        if bytes == [0; HEADER_BYTES] {
            return Err(Broken::Empty);
        }
        let header = Header::from_bytes(&bytes, store).map_err(Broken::Header)?;
        if header.number != number {
            return Err(Broken::Header(format!("it says that it is segment {}", header.number)));
        }
        Ok(Self { path: path.to_owned(), header, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_segment_is_this() {
        let header = Header { number: 3, kind: KIND_SNAPSHOT, previous: 2 };
        let bytes = header.to_bytes("0123456789abcdef0123456789abcdef");
        let mut expected = b"cas journal\n".to_vec();
        expected.extend_from_slice(&[1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        expected.extend_from_slice(b"0123456789abcdef01234567");
        assert_eq!(&bytes[..60], expected);
        assert_eq!(bytes[60..], crc32fast::hash(&expected).to_le_bytes());
        let back = Header::from_bytes(&bytes, "0123456789abcdef0123456789abcdef");
        assert!(back.is_ok_and(|back| (back.number, back.kind, back.previous) == (3, KIND_SNAPSHOT, 2)));
        let other = Header::from_bytes(&bytes, "ffff");
        assert_eq!(other.err().as_deref(), Some("it belongs to another store"));
    }
}
