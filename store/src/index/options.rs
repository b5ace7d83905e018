//! How RocksDB is opened: every option that was chosen, each with its reason.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, InfoLogger, LogLevel, Options,
    ReadOptions,
};

use super::{Expect, Family};

/// What files are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Reading,
    Writing,
}

/// Decoded blocks that are kept in memory: rows and results of some 100,000 steps fit.
const BLOCK_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// How much a family may hold in memory before RocksDB would flush by itself. The host flushes long
/// before (see `durable.rs`), because only it knows that the journal is on disk.
const WRITE_BUFFER_BYTES: usize = 64 * 1024 * 1024;

/// The same for what is sorted: a collection of a large store fills it, and its memory does not grow with the store.
const SCRATCH_BUFFER_BYTES: usize = 16 * 1024 * 1024;

/// Where a key is put in a table in memory is looked for from where the one before it was put, whatever the two are (a
/// prefix of no bytes): batches are sorted. The bindings offer this option as text only.
const HINT: &str = "memtable_insert_with_hint_prefix_extractor=rocksdb.CappedPrefix.0";

/// Level 1 of zstd: records are small, and differ by their hashes.
const ZSTD: i32 = 1;

/// All families, to be opened.
pub(super) fn families(whom: For) -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let base = match whom {
        // One that did not know the option would only be slower.
        For::Writing => Options::default().get_options_from_string(HINT).unwrap_or_default(),
        For::Reading => Options::default(),
    };
    Family::ALL.into_iter().map(move |family| {
        ColumnFamilyDescriptor::new(family.name(), family_options(family, &cache, whom, base.clone()))
    })
}

/// For what is read and not kept in memory: a walk over everything would push out of the cache what is in use.
pub(super) fn once() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options
}

/// Options of the whole index, each with its reason.
pub(super) fn options(expect: Expect) -> Result<Options, rocksdb::Error> {
    // Closing does not write: what is not flushed is in the journal. Flushing on close would leave up to
    // fifteen tiny files behind each command. The bindings offer this option as text only.
    let mut options = Options::default()
        .get_options_from_string("avoid_flush_during_shutdown=true;avoid_flush_during_recovery=true")?;
    options.create_if_missing(expect == Expect::Nothing);
    options.create_missing_column_families(true);
    // The families are on disk as of one moment, or not at all: the journal's position is true for all.
    options.set_atomic_flush(true);
    // No info log: it would be the largest file of a small store. Failures come back as errors.
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Preallocated room counts in `du`: the defaults are 4 MiB for the manifest alone.
    options.set_manifest_preallocation_size(16 * 1024);
    options.set_max_manifest_file_size(1024 * 1024);
    options.set_recycle_log_file_num(0);
    // A descriptor limit of 1,024 is common, and steps need some as well.
    options.set_max_open_files(256);
    // With two, RocksDB starts and ends a thread for each of the families, one after another.
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
    // One flush and one compaction at a time: the cores belong to the steps.
    options.set_max_background_jobs(2);
    options.set_max_subcompactions(1);
    // A scan's or a drop's clean-up does not unlink files in the caller's thread.
    options.set_avoid_unnecessary_blocking_io(true);
    // There is one writer at a time: what lets several insert at once only costs it.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_paranoid_checks(true);
    options.set_allow_mmap_reads(false);
    options.set_allow_mmap_writes(false);
    Ok(options)
}

/// Options of one family, each with its reason.
fn family_options(family: Family, cache: &Cache, whom: For, mut options: Options) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Most first lookups of a new version find nothing: ten bits a key answer that without a read.
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    table.set_block_size(8 * 1024);
    // Point lookups go straight to the record within a block.
    table.set_data_block_index_type(rocksdb::DataBlockIndexType::BinaryAndHash);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(match family {
        Family::Scratch => SCRATCH_BUFFER_BYTES,
        _ => WRITE_BUFFER_BYTES,
    });
    options.set_max_write_buffer_number(2);
    // The same for what is not on disk yet: a filter of 128 KiB, enough for the 100,000 keys that a family gets
    // between two flushes. It is zeroed when the index is opened, in each of the families, so that one
    // of half a megabyte was 2,000 pages to touch; what is only read has no use for it.
    if whom == For::Writing {
        options.set_memtable_prefix_bloom_ratio(0.002);
        options.set_memtable_whole_key_filtering(true);
    }
    options.set_level_compaction_dynamic_level_bytes(true);
    if family.compresses() {
        // What is flushed is merged soon: compressing it twice was an eighth of what short steps cost.
        let (flushed, merged) = (DBCompressionType::None, DBCompressionType::Zstd);
        options.set_compression_per_level(&[flushed, merged, merged, merged, merged, merged, merged]);
        // The window is zstd's own, and there is no dictionary.
        options.set_compression_options(-14, ZSTD, 0, 0);
    } else {
        options.set_compression_type(DBCompressionType::None);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;

    /// RocksDB passes over names that it does not know, and writes down what it took.
    #[test]
    fn each_family_has_the_option_that_is_given_as_text() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("index");
        let index = Index::open(dir.path(), &folder, Expect::Nothing).expect("it opens");
        index.thaw().expect("it opens for writing");
        let files = std::fs::read_dir(&folder)
            .expect("it can be read")
            .map(|entry| entry.expect("it is there").path());
        let taken = files
            .filter(|path| path.to_string_lossy().contains("OPTIONS-"))
            .map(|path| std::fs::read_to_string(path).expect("it is text"))
            .map(|text| text.lines().filter(|line| line.trim() == HINT).count())
            .max();
        assert_eq!(taken, Some(Family::ALL.len()));
    }
}
