//! The records of a segment, one after the other, and over what cannot be read.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::segment::Segment;
use crate::change::Change;
use crate::codec;
use crate::error::{At, StoreError};
use crate::tables::{RECORD_VERSION, kind};

/// Reads the records of a segment one after the other.
pub(super) struct Records {
    path: PathBuf,
    reader: BufReader<File>,
    /// Where the next record begins.
    pub(super) offset: u64,
    pub(super) len: u64,
}

pub(super) enum Next {
    /// A change, and the offset behind it.
    Change(Box<Change>, u64),
    End,
    /// `torn`: it is what a write that was interrupted leaves, if nothing follows.
    Unreadable {
        offset: u64,
        what: String,
        torn: bool,
    },
}

impl Records {
    pub(super) fn open(segment: &Segment, offset: u64) -> Result<Self, StoreError> {
        let mut file = File::open(&segment.path).at("open", &segment.path)?;
        file.seek(SeekFrom::Start(offset)).at("read", &segment.path)?;
        let reader = BufReader::with_capacity(256 * 1024, file);
        Ok(Self { path: segment.path.clone(), reader, offset, len: segment.len })
    }

    pub(super) fn next(&mut self) -> Result<Next, StoreError> {
        let left = self.len.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Next::End);
        }
        let offset = self.offset;
        let unreadable = |what: &str, torn| Ok(Next::Unreadable { offset, what: what.to_owned(), torn });
        if left < codec::HEADER_BYTES as u64 {
            return unreadable("it is cut off", true);
        }
        let mut bytes = vec![0; codec::HEADER_BYTES];
        self.reader.read_exact(&mut bytes).at("read", &self.path)?;
        let whole = match codec::record_bytes(&bytes) {
            Ok(whole) => whole,
            // A file that grew and was never filled, because power was lost.
            Err(error) => return unreadable(&error.to_string(), bytes.iter().all(|byte| *byte == 0)),
        };
        if whole as u64 > left {
            return unreadable("it is cut off", true);
        }
        bytes.resize(whole, 0);
        self.reader.read_exact(&mut bytes[codec::HEADER_BYTES..]).at("read", &self.path)?;
        match codec::decode(kind::CHANGE, RECORD_VERSION, &bytes) {
            Ok(change) => {
                self.offset += whole as u64;
                Ok(Next::Change(Box::new(change), self.offset))
            }
            Err(error) => unreadable(&error.to_string(), false),
        }
    }

    /// Goes to the first record at or behind `from` that can be read; false if there is none.
    pub(super) fn resume(&mut self, from: u64) -> Result<bool, StoreError> {
        const WINDOW: usize = 1024 * 1024;
        let mark = codec::encode(kind::CHANGE, RECORD_VERSION, &()).unwrap_or_default();
        let mark = &mark[..mark.len().min(4)];
        let mut start = from;
        while start + (codec::HEADER_BYTES as u64) <= self.len {
            let mut window = Vec::new();
            self.reader.seek(SeekFrom::Start(start)).at("read", &self.path)?;
            let mut part = (&mut self.reader).take(WINDOW as u64);
            part.read_to_end(&mut window).at("read", &self.path)?;
            for at in (0..window.len().saturating_sub(3)).filter(|at| &window[*at..*at + 4] == mark) {
                self.offset = start + at as u64;
                self.reader.seek(SeekFrom::Start(self.offset)).at("read", &self.path)?;
                if let Next::Change(..) = self.next()? {
                    self.offset = start + at as u64;
                    self.reader.seek(SeekFrom::Start(self.offset)).at("read", &self.path)?;
                    return Ok(true);
                }
            }
            if window.len() < WINDOW {
                break;
            }
            // A mark may stand across the border of two windows.
            start += (WINDOW - 3) as u64;
        }
        Ok(false)
    }
}
