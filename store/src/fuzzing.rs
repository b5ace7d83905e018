//! Every decoder of bytes that come from a store's files or from another process, in one list: given
//! anything, each gives a value or an error.
//!
//! For the fuzzing targets of `fuzz/`, and for the test below, which runs their corpus and changes of it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::change::Change;
use crate::codec;
use crate::config::Config;
use crate::folder;
use crate::import::{ImportedRow, PartRow};
use crate::journal::{self, Journal};
use crate::layout::BlobName;
use crate::mark;
use crate::record::{Pin, Replacement, ResultRecord};
use crate::tables::{self, RECORD_VERSION, kind};
use crate::tree::Tree;
use crate::wire::{Request, Response};
use crate::{Digest, Trace};

/// A decoder with its name, which is also that of its corpus.
pub type Decoder = (&'static str, fn(&[u8]));

/// All of them.
pub const DECODERS: &[Decoder] = &[
    ("record", record),
    ("message", message),
    ("tree", tree),
    ("journal", journal),
    ("config", config),
    ("format", format),
];

/// Feeds one decoder.
///
/// # Panics
///
/// When there is none of this name, and when the decoder has a fault.
pub fn feed(name: &str, bytes: &[u8]) {
    let decoder = DECODERS.iter().find(|(known, _)| *known == name);
    let (_, decode) = decoder.expect("a decoder of this name");
    decode(bytes);
}

fn record(bytes: &[u8]) {
    fn both<T: serde::de::DeserializeOwned>(kind: u8, bytes: &[u8]) {
        let _ = codec::decode::<T>(kind, RECORD_VERSION, bytes);
        // And behind the checksum, which chance does not get past.
        let _ = codec::from_bytes::<T>(bytes);
    }
    let _ = codec::kind_and_version(bytes);
    let _ = codec::record_bytes(bytes);
    both::<ResultRecord>(kind::RESULT, bytes);
    both::<tables::ProvenanceRow>(kind::PROVENANCE, bytes);
    both::<tables::OpaqueRow>(kind::FACT, bytes);
    both::<tables::BlobRow>(kind::BLOB, bytes);
    both::<Vec<Digest>>(kind::TREE, bytes);
    both::<Pin>(kind::PIN, bytes);
    both::<tables::RunRow>(kind::RUN, bytes);
    both::<Replacement>(kind::REPLACEMENT, bytes);
    both::<tables::Counters>(kind::COUNTERS, bytes);
    both::<PartRow>(kind::IMPORT_PART, bytes);
    both::<ImportedRow>(kind::IMPORTED, bytes);
    both::<Change>(kind::CHANGE, bytes);
    let _ = mark::decode(bytes);
}

fn message(bytes: &[u8]) {
    let _ = codec::from_bytes::<Request>(bytes);
    let _ = codec::from_bytes::<Response>(bytes);
}

fn tree(bytes: &[u8]) {
    if let Ok(tree) = Tree::decode(bytes) {
        assert_eq!(tree.encode(), bytes, "a tree has one encoding");
        assert_eq!(Tree::new(tree.entries.clone()).as_ref(), Ok(&tree), "what is read can be written");
    }
}

/// A segment with a good header, and these bytes behind it.
fn journal(bytes: &[u8]) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);

    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("cas-fuzz-{}-{number}", std::process::id()));
    let dir = root.join("journal");
    let id = "0123456789abcdef0123456789abcdef";
    let mut ends = Vec::new();
    let made = std::fs::create_dir_all(&dir).is_ok() && journal::segment_of(&dir, id, bytes).is_ok();
    assert!(made, "a folder for temporary files can be written");
    let opened = Journal::open(&root, &dir, id, None, None, &mut |_, position| {
        ends.push(position);
        Ok(())
    });
    assert!(ends.is_sorted(), "changes come in their order");
    if let Ok(opened) = opened {
        // What was read once is read again, and nothing else.
        let mut again = Vec::new();
        let end = opened.journal.end();
        drop(opened);
        let reopened = Journal::open(&root, &dir, id, None, None, &mut |_, position| {
            again.push(position);
            Ok(())
        });
        assert!(reopened.is_ok_and(|reopened| reopened.journal.end() == end) && again == ends);
    }
    let _ = std::fs::remove_dir_all(&root);
}

fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Config::understood(text);
    }
}

fn format(bytes: &[u8]) {
    let _ = folder::understood(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(name) = text.parse::<BlobName>() {
            assert_eq!(name.to_string(), text, "a blob has one name");
        }
        let _ = text.parse::<Digest>();
        let _ = text.parse::<Trace>();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Each file of the corpus as it is, cut at many places, and with bytes changed at many.
    #[test]
    fn every_decoder_takes_its_corpus_and_changes_of_it() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let mut fed = 0;
        for (name, decode) in DECODERS {
            let files = fs::read_dir(corpus.join(name)).expect("every decoder has a corpus");
            let files: Vec<Vec<u8>> =
                files.map(|file| fs::read(file.expect("an entry").path()).expect("read")).collect();
            assert!(!files.is_empty(), "{name}");
            // A segment is a file each time: fewer of them.
            let steps = if *name == "journal" { 12 } else { 200 };
            for bytes in files {
                decode(&bytes);
                let step = (bytes.len() / steps).max(1);
                for at in (0..bytes.len()).step_by(step) {
                    decode(&bytes[..at]);
                    for change in [0x01, 0x80, 0xff] {
                        let mut changed = bytes.clone();
                        changed[at] ^= change;
                        decode(&changed);
                        fed += 1;
                    }
                    let twice = [&bytes[..at], &bytes[at / 2..]].concat();
                    decode(&twice);
                    fed += 2;
                }
            }
        }
        assert!(fed > 2_000, "{fed}");
    }
}
