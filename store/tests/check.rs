//! Damage of every part of a store: noticed, told, and mended where the rest holds what is needed.

mod kit;

use std::fs;
use std::time::Duration;

use cas_store::{Depth, Digest, Finding, Pin, Store, StoreError};
use kit::*;

/// A store with something of everything in it, closed.
fn filled() -> Kit {
    let kit = Kit::new();
    let store = kit.open();
    for number in 0..20 {
        put(&store, number, &noise(number, if number % 2 == 0 { 100 } else { 10_000 }));
    }
    let mut replaced = commit_of(&store, 3, b"another");
    replaced.put = cas_store::Put::Replace;
    store.commit(replaced).expect("commit");
    let pin = Pin { version: version(5), label: "p".to_owned(), reason: None, at_ms: 1, until_ms: None };
    store.pin(pin).expect("pin");
    let id = store.begin_run(1, b"run".to_vec()).expect("run").id();
    let log = store.stage_bytes(&noise(99, 9_000)).expect("stage");
    store.note_run(id, b"run".to_vec(), &[log], &[]).expect("note");
    kit
}

/// All that can be asked for of a filled store.
fn contents(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for number in 0..20 {
        all.push(format!("{:?}", get(store, number).map(|bytes| Digest::of(&bytes))));
        all.push(format!("{:?}", store.provenance(&trace(number)).expect("provenance")));
        all.push(format!("{:?}", store.facts(&[version(number)]).expect("facts")));
        all.push(format!("{:?}", store.history(&format!("step {number}"), 5).expect("history")));
        all.push(format!("{:?}", store.ledger(&trace(number)).expect("ledger")));
    }
    all.push(format!("{:?}", store.pins().expect("pins")));
    all.push(format!("{:?}", store.runs(None, 5).expect("runs")));
    all
}

fn rebuild(kit: &Kit) -> cas_store::RebuildReport {
    Store::rebuild(&kit.dir(), how(Duration::ZERO, &mut |_| {})).expect("it is rebuilt")
}

#[test]
fn a_lost_index_is_named_and_brought_back_whole() {
    let kit = filled();
    let before = contents(&kit.open());
    fs::remove_dir_all(kit.dir().join("index")).expect("remove");
    let error = open(&kit.dir()).expect_err("its index is gone");
    assert!(matches!(error, StoreError::IndexDamaged { .. }), "{error}");
    let report = rebuild(&kit);
    assert_eq!((report.missing, report.unreadable.len()), (0, 0));
    let store = kit.open();
    assert_eq!(contents(&store), before);
    assert_eq!(verify(&store), []);
}

#[test]
fn every_damaged_file_of_the_index_is_an_error_and_mended() {
    for (name, damage) in [
        ("CURRENT", None),
        ("CURRENT", Some(b"".as_slice())),
        ("CURRENT", Some(b"MANIFEST-999999\n")),
        ("MANIFEST", None),
        ("MANIFEST", Some(b"garbage that is no manifest")),
    ] {
        let kit = filled();
        let before = contents(&kit.open());
        for (path, _) in files_below(&kit.dir().join("index")) {
            let its_name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if its_name.starts_with(name) {
                match damage {
                    None => fs::remove_file(&path).expect("remove"),
                    Some(bytes) => fs::write(&path, bytes).expect("write"),
                }
            }
        }
        let error = open(&kit.dir()).expect_err("the index is damaged");
        assert!(matches!(error, StoreError::IndexDamaged { .. }), "{name} {damage:?}: {error}");
        rebuild(&kit);
        assert_eq!(contents(&kit.open()), before, "{name} {damage:?}");
    }
}

#[test]
fn a_torn_end_of_the_journal_is_cut_off_and_no_error() {
    let kit = filled();
    let before = contents(&kit.open());
    let segment = last_segment(&kit);
    let whole = fs::read(&segment).expect("read");
    for tail in [1, 5, 12, 40] {
        // What was never acknowledged: the first bytes of a record.
        let mut torn = whole.clone();
        torn.extend_from_slice(&whole[64..64 + tail]);
        fs::write(&segment, torn).expect("write");
        let store = kit.open();
        assert_eq!(contents(&store), before, "{tail}");
        assert_eq!(verify(&store), []);
    }
}

/// Spoils the first change of the journal: far from its header, far from its end.
fn flip_a_bit(kit: &Kit) {
    let segment = last_segment(kit);
    let mut bytes = fs::read(&segment).expect("read");
    bytes[64 + 40] ^= 1;
    fs::write(&segment, bytes).expect("write");
}

fn losses(store: &Store) -> usize {
    let findings = verify(store);
    assert!(findings.iter().all(|finding| matches!(finding, Finding::Journal { .. })), "{findings:?}");
    findings.len()
}

/// The index of a young store is on disk only as far as it was flushed: all else is in the journal. A bit
/// that was flipped in its middle once cut off everything behind it, without a word.
#[test]
fn a_flipped_bit_in_the_journal_costs_what_it_hits_and_is_told() {
    let kit = filled();
    flip_a_bit(&kit);
    let store = kit.open();
    assert_eq!(store.warnings().len(), 1, "{:?}", store.warnings());
    assert!(store.warnings()[0].contains("cannot be read at byte 64"), "{:?}", store.warnings());
    assert_eq!(get(&store, 0), None, "its change is lost");
    for number in [1, 2, 4, 19] {
        assert!(get(&store, number).is_some(), "{number}");
    }
    assert_eq!(losses(&store), 1);
    drop(store);
    // It is told once, and verify tells it until somebody takes the note away.
    let store = kit.open();
    assert_eq!(store.warnings(), [] as [String; 0]);
    assert_eq!(losses(&store), 1);
    for (path, _) in files_below(&kit.dir().join("quarantine")) {
        fs::remove_file(path).expect("remove");
    }
    assert_eq!(verify(&store), []);
    put(&store, 0, &noise(0, 100));
    drop(store);
    // The journal was written anew: it brings everything back.
    fs::remove_dir_all(kit.dir().join("index")).expect("remove");
    assert_eq!(rebuild(&kit).unreadable, Vec::<String>::new());
    assert!(get(&kit.open(), 0).is_some() && get(&kit.open(), 19).is_some());
}

#[test]
fn a_flipped_bit_in_the_last_change_is_told_too() {
    let kit = filled();
    let segment = last_segment(&kit);
    let mut bytes = fs::read(&segment).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&segment, bytes).expect("write");
    let store = kit.open();
    assert!(!store.warnings().is_empty());
    assert!(losses(&store) > 0);
    assert!(get(&store, 19).is_some());
}

type Damage = fn(&Kit);

#[test]
fn a_journal_that_is_gone_emptied_or_cut_is_told() {
    let damages: [(&str, Damage); 5] = [
        ("gone", |kit| fs::remove_dir_all(kit.dir().join("journal")).expect("remove")),
        ("emptied folder", |kit| fs::remove_file(last_segment(kit)).expect("remove")),
        ("emptied file", |kit| fs::write(last_segment(kit), b"").expect("write")),
        ("cut", |kit| {
            let file = fs::File::options().write(true).open(last_segment(kit)).expect("open");
            file.set_len(1000).expect("cut");
        }),
        ("gone with the index", |kit| {
            fs::remove_dir_all(kit.dir().join("journal")).expect("remove");
            fs::remove_dir_all(kit.dir().join("index")).expect("remove");
        }),
    ];
    for (name, damage) in damages {
        let kit = filled();
        damage(&kit);
        let store = kit.open();
        assert_eq!(store.warnings().len(), 1, "{name}: {:?}", store.warnings());
        assert_eq!(losses(&store), 1, "{name}");
        drop(store);
        let store = kit.open();
        assert_eq!(store.warnings(), [] as [String; 0], "{name}");
        put(&store, 0, &noise(0, 100));
        drop(store);
        assert!(get(&kit.open(), 0).is_some(), "{name}");
    }
}

/// A store whose index holds everything by itself, as after a long life.
fn flushed() -> Kit {
    let kit = filled();
    drop(kit.open());
    fs::remove_dir_all(kit.dir().join("index")).expect("remove");
    rebuild(&kit);
    kit
}

#[test]
fn verification_reads_the_journal_and_mends_it_from_the_index() {
    let kit = flushed();
    let before = contents(&kit.open());
    flip_a_bit(&kit);
    let store = kit.open();
    assert_eq!(store.warnings(), [] as [String; 0], "the index has it all");
    assert_eq!(losses(&store), 1);
    drop(store);
    fs::remove_dir_all(kit.dir().join("index")).expect("remove");
    assert_eq!(rebuild(&kit).unreadable, Vec::<String>::new());
    assert_eq!(contents(&kit.open()), before);
}

/// Its name came of the whole id, of which the journal has three quarters: all that it had made was told as another store's.
#[test]
fn a_store_that_is_made_anew_from_its_journal_alone_has_the_name_that_it_had() {
    let kit = filled();
    let store = kit.open();
    let (id, name) = (store.id().to_owned(), store.name());
    drop(store);
    fs::remove_dir_all(kit.dir().join("index")).expect("remove");
    fs::remove_file(kit.dir().join("format")).expect("remove");
    rebuild(&kit);
    let store = kit.open();
    assert_ne!(store.id(), id, "the end of it is nowhere");
    assert_eq!(store.name(), name);
}

#[test]
fn a_rebuild_takes_from_a_readable_index_what_the_journal_lacks() {
    let kit = flushed();
    let store = kit.open();
    put(&store, 50, b"in the journal alone");
    let before = contents(&store);
    drop(store);
    flip_a_bit(&kit);
    let report = rebuild(&kit);
    assert_eq!(report.unreadable.len(), 1, "{report:?}");
    let store = kit.open();
    assert_eq!(contents(&store), before);
    assert_eq!(get(&store, 50).as_deref(), Some(b"in the journal alone".as_slice()));
}

#[test]
fn a_lost_journal_is_written_anew_from_the_index() {
    let kit = filled();
    // So that the index holds everything by itself.
    drop(kit.open());
    fs::remove_dir_all(kit.dir().join("index")).expect("remove");
    rebuild(&kit);
    let before = contents(&kit.open());
    fs::remove_dir_all(kit.dir().join("journal")).expect("remove");
    assert_eq!(contents(&kit.open()), before);
    fs::remove_dir_all(kit.dir().join("index")).expect("remove");
    rebuild(&kit);
    assert_eq!(contents(&kit.open()), before);
}

#[test]
fn verification_finds_damage_and_loss_once() {
    let kit = filled();
    let store = kit.open();
    let (damaged, missing) = (Digest::of(&noise(5, 10_000)), Digest::of(&noise(7, 10_000)));
    let path = file_of(&kit.dir(), &damaged);
    fs::remove_file(&path).expect("remove");
    fs::write(&path, noise(6, 10_000)).expect("write");
    fs::remove_file(file_of(&kit.dir(), &missing)).expect("remove");
    let mut findings = verify(&store);
    findings.sort_by_key(ToString::to_string);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(matches!(&findings[0], Finding::Damaged { digest, .. } if *digest == damaged), "{findings:?}");
    assert_eq!(findings[1], Finding::Missing { digest: missing });
    assert_eq!(verify(&store), []);
    assert_eq!(get(&store, 5), None);
    assert_eq!(get(&store, 9), Some(noise(9, 10_000)));
    put(&store, 5, &noise(5, 10_000));
    assert_eq!(get(&store, 5), Some(noise(5, 10_000)));
}

#[test]
fn a_quick_verification_sees_sizes_and_reads_nothing() {
    let kit = filled();
    let store = kit.open();
    let path = file_of(&kit.dir(), &Digest::of(&noise(5, 10_000)));
    fs::remove_file(&path).expect("remove");
    fs::write(&path, b"short").expect("write");
    let mut findings = Vec::new();
    let report = store.verify(Depth::Quick, &mut |finding| findings.push(finding)).expect("verify");
    assert_eq!((report.read, report.findings, findings.len()), (0, 1, 1));
    assert!(report.blobs > 20);
}

#[test]
fn what_a_killed_process_leaves_is_counted_and_is_no_finding() {
    let kit = filled();
    let store = kit.open();
    let name = Digest::of(b"installed and never recorded").to_hex();
    fs::create_dir_all(kit.dir().join("blobs").join(&name[..2])).expect("make");
    fs::write(kit.dir().join("blobs").join(&name[..2]).join(&name), b"x").expect("write");
    let report = store.verify(Depth::Full, &mut |finding| panic!("{finding}")).expect("verify");
    assert_eq!(report.unnamed, 1);
}

#[test]
fn a_store_that_is_open_is_not_rebuilt() {
    let kit = filled();
    let _store = kit.open();
    let refused = Store::rebuild(&kit.dir(), how(Duration::ZERO, &mut |_| {}));
    assert!(matches!(refused, Err(StoreError::InUse { .. })), "{refused:?}");
}

fn last_segment(kit: &Kit) -> std::path::PathBuf {
    let files = files_below(&kit.dir().join("journal"));
    files.last().expect("there is a journal").0.clone()
}
