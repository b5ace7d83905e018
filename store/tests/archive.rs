//! Exports and imports: what is taken over, in how many parts, and what is not.

mod kit;

use std::path::PathBuf;

use cas_store::{Archived, Commit, Export, Mode, Policy, Put, Saying, Store, StoreError};
use kit::*;

fn export(kit: &Kit, store: &Store, numbers: &[u32], since: Option<&PathBuf>) -> PathBuf {
    let name: Vec<String> = numbers.iter().take(9).map(u32::to_string).collect();
    let path = kit.folder.path().join(format!("{}.cas", name.join("-")));
    let results: Vec<_> = numbers.iter().map(|number| (trace(*number), true)).collect();
    let since = since.map(PathBuf::as_path);
    let export = Export {
        path: &path,
        results: &results,
        since,
        kept: &std::collections::BTreeMap::new(),
        program: "a test",
        at_ms: 1,
    };
    store.export(&export).expect("it exports");
    path
}

/// Numbers as results, each made from the one before it.
fn chain(store: &Store, numbers: &[u32]) {
    for (at, number) in numbers.iter().enumerate() {
        let parents = at.checked_sub(1).map(|before| trace(numbers[before])).into_iter().collect();
        let commit = Commit { parents, ..commit_of(store, *number, format!("made {number}").as_bytes()) };
        store.commit(commit).expect("it commits");
    }
}

fn there(store: &Store, numbers: &[u32]) -> Vec<u32> {
    numbers.iter().copied().filter(|number| get(store, *number).is_some()).collect()
}

/// 1 was forgotten here. Elsewhere, where nobody said that it is wrong, 2 was made from it, 3 from 2 and 4 from 3:
/// taken over, they were a hit, because only what 2 was made from was looked at, and only where that is known here.
#[test]
fn what_was_made_from_a_forgotten_result_does_not_come_back_with_an_archive_in_any_order() {
    let elsewhere = Kit::new();
    let from = elsewhere.open();
    chain(&from, &[1, 2, 3, 4]);
    put(&from, 9, b"from nothing");
    for order in [&[2, 3, 4, 9][..], &[4, 3, 2, 9], &[9, 4, 3, 2, 1]] {
        let archive = export(&elsewhere, &from, order, None);
        let kit = Kit::new();
        let store = kit.open();
        put(&store, 1, b"made 1");
        // Made here by somebody who had 4 in hand.
        let own = Commit { parents: vec![trace(4)], ..commit_of(&store, 5, b"made 5") };
        store.commit(own).expect("it commits");
        let saying = Saying { by: "ada".to_owned(), at_ms: 5_000, reason: "wrong".to_owned() };
        let forgotten =
            store.forget(trace(1).into(), "step", saying.clone()).expect("it forgets").expect("it was there");
        store.import(&archive, 6_000).expect("it imports");
        assert_eq!(there(&store, &[1, 2, 3, 4, 5, 9]), [9], "{order:?}");
        assert_eq!(verify(&store), []);
        // It is the same in an index that is made anew, and all are back when that is taken back.
        drop(store);
        Store::rebuild(&kit.dir(), how(std::time::Duration::ZERO, &mut |_| {})).expect("it rebuilds");
        let store = kit.open();
        assert_eq!(there(&store, &[1, 2, 3, 4, 5, 9]), [9], "{order:?}");
        store.revoke(forgotten.id, saying).expect("it revokes");
        assert_eq!(there(&store, &[1, 2, 3, 4, 5, 9]), [1, 2, 3, 4, 5, 9], "{order:?}");
    }
}

#[test]
fn an_archive_that_is_larger_than_a_message_is_told_in_parts() {
    let elsewhere = Kit::new();
    let from = elsewhere.open();
    let numbers: Vec<u32> = (0..10).collect();
    for number in &numbers {
        // An answer holds the records of some of these at once, a part of an import not even two.
        let provenance = noise(*number, 3_000_000);
        let commit = Commit { provenance, ..commit_of(&from, *number, &noise(*number, 3_000)) };
        from.commit(commit).expect("it commits");
    }
    let archive = export(&elsewhere, &from, &numbers, None);
    let kit = Kit::new();
    let store = kit.open();
    let archived = store.import(&archive, 6_000).expect("it imports");
    assert_eq!(archived, Archived { results: 10, blobs: 10, bytes: 30_000, ..Archived::default() });
    let parts = |dir: PathBuf| files_below(&dir).iter().map(|(_, len)| len).sum::<u64>();
    assert!(parts(kit.dir().join("journal")) > 30_000_000, "they are in the journal, one after the other");
    for number in numbers {
        assert_eq!(get(&store, number), Some(noise(number, 3_000)));
        assert_eq!(store.provenance(&trace(number)).expect("it is there"), Some(noise(number, 3_000_000)));
    }
    assert_eq!(verify(&store), []);
    let again = store.import(&archive, 7_000).expect("it imports");
    assert_eq!((again.results, again.known, again.differing), (10, 10, 0));
    let (going, _) = gc(&store, &Policy::default(), Mode::Collect, 1 << 40);
    assert_eq!(going, []);
}

/// The second archive leaves out what the first has. Taken over alone it fails, after its own blob was taken over.
#[test]
fn an_import_that_fails_leaves_nothing() {
    let elsewhere = Kit::new();
    let from = elsewhere.open();
    put(&from, 1, &noise(1, 9_000));
    put(&from, 2, &noise(2, 9_000));
    let tree = Commit { put: Put::Replace, ..commit_of(&from, 3, &noise(1, 9_000)) };
    from.commit(tree).expect("it commits");
    let first = export(&elsewhere, &from, &[1], None);
    let second = export(&elsewhere, &from, &[2, 3], Some(&first));
    let kit = Kit::new();
    let store = kit.open();
    let error = store.import(&second, 6_000).expect_err("it lacks a blob");
    assert!(matches!(&error, StoreError::ArchiveBase { .. }), "{error}");
    assert_eq!(there(&store, &[1, 2, 3]), []);
    assert_eq!(files_below(&kit.dir().join("blobs")), []);
    assert_eq!(store.stats().expect("it counts").blobs, 0);
    store.import(&first, 6_000).expect("it imports");
    store.import(&second, 6_000).expect("it imports");
    assert_eq!(there(&store, &[1, 2, 3]), [1, 2, 3]);
}

/// A result of which one half is left is read, and an import brings the whole one: other bytes, from elsewhere.
#[test]
fn what_an_import_takes_the_place_of_stays_for_those_who_read_it() {
    let two = |store: &Store, halves: [&[u8]; 2]| {
        let staged = halves.map(|half| store.stage_bytes(half).expect("it stages"));
        let output = |name: &str, at: usize| cas_store::Output {
            name: name.to_owned(),
            artifact: Some(artifact(&staged[at])),
        };
        let outputs = vec![output("a", 0), output("b", 1)];
        let commit = Commit { outputs, ..commit_of(store, 1, b"") };
        store.commit(Commit { staged: staged.into(), ..commit }).expect("it commits");
    };
    let elsewhere = Kit::new();
    let from = elsewhere.open();
    two(&from, [&noise(11, 9_000), &noise(12, 9_000)]);
    let archive = export(&elsewhere, &from, &[1], None);

    let kit = Kit::new();
    two(&kit.open(), [&noise(1, 9_000), &noise(2, 9_000)]);
    let gone = cas_store::Digest::of(&noise(2, 9_000));
    std::fs::remove_file(file_of(&kit.dir(), &gone)).expect("it is there");
    let reader = kit.open();
    let found = reader.lookup(&[version(1)]).expect("it looks up").pop().flatten().expect("a record");
    assert_eq!(found.present, [true, false]);
    let store = kit.open();
    store.import(&archive, 6_000).expect("it imports");
    gc(&store, &Policy::default(), Mode::Collect, 1 << 40);
    let mut bytes = Vec::new();
    reader.read(&cas_store::Digest::of(&noise(1, 9_000)), &mut bytes).expect("it is there");
    assert_eq!(bytes, noise(1, 9_000));
    assert_eq!(get(&store, 1), Some(noise(11, 9_000)));
}

/// An export was headed by the id of its store, under which secret values are kept as digests in the records that are in it.
#[test]
fn an_archive_names_its_store_and_does_not_tell_its_id() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"made 1");
    let archive = std::fs::read(export(&kit, &store, &[1], None)).expect("it is there");
    let parts = zstd::decode_all(&archive[16..archive.len() - 32]).expect("it unpacks");
    let holds = |text: &[u8]| parts.windows(text.len()).any(|part| part == text);
    assert!(holds(b"made 1"));
    assert!(holds(store.name().as_bytes()));
    assert!(!holds(store.id().as_bytes()));
    assert!(!store.id().contains(&store.name()));
}
