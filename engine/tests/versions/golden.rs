//! The bytes of nodes of every kind, and what they are hashed to, written down by hand from `docs/versions.md` with
//! another program. They are never regenerated to make a test pass: a changed byte is a new scheme number in the
//! context of its kind, and a line in that page.

use std::collections::{BTreeMap, HashMap};

use crate::world::World;
use cas_engine::version::{FactNode, InputContent};
use cas_store::{Artifact, Digest, Kind, Version};

const PIPELINE: &str = r#"
resources:
  python:
    probe: python3 -VV
    files: [lib.lock]
    path: [.venv/bin]
    env: {PYTHONPATH: lib}
    config: {threads: {type: int, default: 4}}
solids:
  emit_tree:
    config: {tree_species: str}
    version: "a"
    command: echo {{ config.tree_species }} > {{ outputs.result }}
  part:
    matrix: {n: [1, 2]}
    code: [a.py]
    command: [tool, "{{ config.n }}"]
    outputs: [{result.txt: {optional: true}}]
    stdout: result
    env: [LANG, {MADE: "1"}]
    platform: any
  emit_sentence:
    resources: [python]
    inputs:
      tree.txt: emit_tree
      all: part[*]
      fan: [emit_tree]
      n: {value: {b: 1.5, a: [null, true, false]}}
      p: {path: data.txt}
      day: {probe: date}
    command: [cat, "{{ inputs.tree }}"]
    stdout: result
  split: {command: [ls], outputs: [{parts: {list: true}}], platform: any}
  each:
    map: {part.txt: split.parts}
    command: [wc, "{{ inputs.part }}"]
    stdout: result
    platform: any
"#;

fn world() -> World {
    let mut world = World::new(PIPELINE)
        .file("lib.lock", "lock")
        .with_run_config("solids: {emit_tree: {config: {tree_species: douglas_fir}}}");
    world.lists.insert("split.parts".to_owned(), r#"["x"]"#.to_owned());
    world.files.insert("a.py".to_owned(), ("code".to_owned(), true));
    world.files.insert("data.txt".to_owned(), ("data".to_owned(), true));
    world.probes = BTreeMap::from([
        ("python3 -VV".to_owned(), "Python 3.11.2".to_owned()),
        ("date".to_owned(), "Monday".to_owned()),
    ]);
    world
}

/// What it is, its kind, its bytes, its version or trace.
const GOLDEN: &[(&str, &str, &str, &str)] = &[
    (
        "solid emit_tree",
        "solid",
        "0242010000000000000061030000000000000000044435000000000000006563686f207b7b20636f6e6669672e747265\
         655f73706563696573207d7d203e207b7b206f7574707574732e726573756c74207d7d05500601000000000000000600\
         000000000000726573756c7453000e000000000000006f7574707574732f726573756c74040000000000000066696c65\
         004054000000000000000007000000000000000008420c000000000000006c696e75782f7838365f3634",
        "95315dd76eecdd7f1112b558b91a9d7c165e609eb023ca6c6ea315aa5d789075",
    ),
    (
        "config emit_tree",
        "config",
        "1101000000000000000c00000000000000747265655f7370656369657345650b00000000000000646f75676c61735f66\
         6972",
        "8160e84f5dba19bda5d500ee6e281d4d81a0c46ea1afe4412b0a931ce761bb4c",
    ),
    (
        "step emit_tree",
        "step",
        "01420900000000000000656d69745f747265650e4695315dd76eecdd7f1112b558b91a9d7c165e609eb023ca6c6ea315\
         aa5d7890750c468160e84f5dba19bda5d500ee6e281d4d81a0c46ea1afe4412b0a931ce761bb4c0d0000000000000000\
         0f0000000000000000",
        "50a658a6d7d50505512f8b6ac4d285243a12395aacba793107c68d0e597231e3",
    ),
    (
        "output emit_tree.result",
        "output",
        "174650a658a6d7d50505512f8b6ac4d285243a12395aacba793107c68d0e597231e31842060000000000000072657375\
         6c74",
        "f56475f5eb439e053bc72cb5b794234720df7dbf202e6d6ccf0b1cd964ee3518",
    ),
    (
        "config python",
        "config",
        "110100000000000000070000000000000074687265616473456304000000000000000000000000000000",
        "a9a82593af1158d48c1376e3d5232fca13a8d8b878902489f6127e28bc1546e6",
    ),
    (
        "resource python",
        "resource",
        "01420600000000000000707974686f6e024009440b00000000000000707974686f6e33202d56560a420d000000000000\
         00507974686f6e20332e31312e320b010000000000000008000000000000006c69622e6c6f636b4a00e73acfadf2de93\
         5ef6e689d57aec63e8d98e8092061fa61c9fcd1a3ce46016e20701000000000000000a00000000000000505954484f4e\
         504154484403000000000000006c69620c46a9a82593af1158d48c1376e3d5232fca13a8d8b878902489f6127e28bc15\
         46e60d0000000000000000",
        "ce64f8e24e4fdb5d41809069dc6bddf0dcc3effaa11f54a69a782d8ccba1b793",
    ),
    (
        "input literal",
        "input",
        "144567020000000000000001000000000000006166030000000000000060626101000000000000006264000000000000\
         f83f",
        "16ec3bae7d787f365f72bba6a96b07c59c9329c43f80b31202a78da3d195e9dd",
    ),
    (
        "input path",
        "input",
        "154d0128a249c2e4d3a92bc0a16ed8f1b5cf83ca20415ee12e502b096624902bbc97bd",
        "a13f1c9b2f08be8097cf3f9cb7dee6c1319be7fa298f8c435ae1b195c25c8fb2",
    ),
    (
        "input probe",
        "input",
        "164206000000000000004d6f6e646179",
        "5f220cbfc178f76ac5930dc3fbc788defea312e6775208f3a3b35cf99511a7e3",
    ),
    (
        "input fan-in",
        "input",
        "12010000000000000047f56475f5eb439e053bc72cb5b794234720df7dbf202e6d6ccf0b1cd964ee3518",
        "8ca6a6d1dbd7bf960ef5a55cd2d47ace96bba57e78bb1b6c5884da337108d47e",
    ),
    (
        "solid part",
        "solid",
        "02400301000000000000000400000000000000612e70794a01bd124bf390b2978f6fa38a38904b8d7d773fc518b52ebe\
         fa6462bf2d7b6f5a3f044302000000000000000400000000000000746f6f6c0e000000000000007b7b20636f6e666967\
         2e6e207d7d05400601000000000000000600000000000000726573756c74530112000000000000006f7574707574732f\
         726573756c742e747874040000000000000066696c650140540000000000000000070200000000000000040000000000\
         00004c414e474104000000000000004d414445440100000000000000310840",
        "168ee07730e2ec5f0884cfeef688bba8ee49dcb608c88b41f05dd3a1f9a31bb7",
    ),
    (
        "input gather",
        "input",
        "130200000000000000010000000000000031473c46dc6dfd1792c66ea927fbae9f76d0c33f84b3ff53bd2819bdd231d6\
         0140a0010000000000000032473d72d9bd3c9eafb7740686c629e083e22f5a11d3f7175e6d43160ce543c470d2",
        "ffacf3a54df7e7f03e0f347282e33b8337f25f93ee5471d34a423971fb5897bc",
    ),
    (
        "solid emit_sentence",
        "solid",
        "024003000000000000000004430200000000000000030000000000000063617411000000000000007b7b20696e707574\
         732e74726565207d7d05400601000000000000000600000000000000726573756c7453000e000000000000006f757470\
         7574732f726573756c74040000000000000066696c65014054000000000000000007000000000000000008420c000000\
         000000006c696e75782f7838365f3634",
        "20d23438035d5c69394efa5b8be71793ce703f51797e26191d0cc67cb5035a78",
    ),
    (
        "config empty",
        "config",
        "110000000000000000",
        "d2fa380e5ff2553ee2947afea736477f5f93518196cf3f5dd1ad176c810547f7",
    ),
    (
        "step emit_sentence",
        "step",
        "01420d00000000000000656d69745f73656e74656e63650e4620d23438035d5c69394efa5b8be71793ce703f51797e26\
         191d0cc67cb5035a780c46d2fa380e5ff2553ee2947afea736477f5f93518196cf3f5dd1ad176c810547f70d01000000\
         000000000600000000000000707974686f6e46ce64f8e24e4fdb5d41809069dc6bddf0dcc3effaa11f54a69a782d8ccb\
         a1b7930f06000000000000000300000000000000616c6c46ffacf3a54df7e7f03e0f347282e33b8337f25f93ee5471d3\
         4a423971fb5897bc0300000000000000646179465f220cbfc178f76ac5930dc3fbc788defea312e6775208f3a3b35cf9\
         9511a7e3030000000000000066616e468ca6a6d1dbd7bf960ef5a55cd2d47ace96bba57e78bb1b6c5884da337108d47e\
         01000000000000006e4616ec3bae7d787f365f72bba6a96b07c59c9329c43f80b31202a78da3d195e9dd010000000000\
         00007046a13f1c9b2f08be8097cf3f9cb7dee6c1319be7fa298f8c435ae1b195c25c8fb2080000000000000074726565\
         2e74787447f56475f5eb439e053bc72cb5b794234720df7dbf202e6d6ccf0b1cd964ee3518",
        "ae0440bac2b67c04aaedb6abe2f8ee1a3acf5e676dab5163dc3e1b58c8a51526",
    ),
    (
        "output emit_sentence.result",
        "output",
        "1746ae0440bac2b67c04aaedb6abe2f8ee1a3acf5e676dab5163dc3e1b58c8a515261842060000000000000072657375\
         6c74",
        "d00b1d789380dabb20a85d218e007bb06a44387b9810023a86f5a1e0d395055b",
    ),
    (
        "input fan-in by content",
        "input",
        "1201000000000000004800040000000000000066696c65987d2a09766cc98b76811a33b93b014b520fc32fdb7985f404\
         4dff5d12092f7a40",
        "9bbe581bc30c719d82af23a29bec3f721f0eaacc17efc2436de190a206065b95",
    ),
    (
        "input gather by content",
        "input",
        "1302000000000000000100000000000000314800040000000000000066696c65987d2a09766cc98b76811a33b93b014b\
         520fc32fdb7985f4044dff5d12092f7a4001000000000000003249",
        "ecc2aee56ca75b313b6940964334efb0b4d52930e9d487dcc09cbf85af35c423",
    ),
    (
        "trace emit_sentence",
        "trace",
        "01420d00000000000000656d69745f73656e74656e63650e4620d23438035d5c69394efa5b8be71793ce703f51797e26\
         191d0cc67cb5035a780c46d2fa380e5ff2553ee2947afea736477f5f93518196cf3f5dd1ad176c810547f70d01000000\
         000000000600000000000000707974686f6e46ce64f8e24e4fdb5d41809069dc6bddf0dcc3effaa11f54a69a782d8ccb\
         a1b7930f06000000000000000300000000000000616c6c46ecc2aee56ca75b313b6940964334efb0b4d52930e9d487dc\
         c09cbf85af35c4230300000000000000646179465f220cbfc178f76ac5930dc3fbc788defea312e6775208f3a3b35cf9\
         9511a7e3030000000000000066616e469bbe581bc30c719d82af23a29bec3f721f0eaacc17efc2436de190a206065b95\
         01000000000000006e4616ec3bae7d787f365f72bba6a96b07c59c9329c43f80b31202a78da3d195e9dd010000000000\
         00007046a13f1c9b2f08be8097cf3f9cb7dee6c1319be7fa298f8c435ae1b195c25c8fb2080000000000000074726565\
         2e7478744800040000000000000066696c65987d2a09766cc98b76811a33b93b014b520fc32fdb7985f4044dff5d1209\
         2f7a40",
        "365738053b8e3c9a94bbfbec006ccf9015892988037fe5f2227d8f42e4f923e2",
    ),
    (
        "trace emit_tree",
        "trace",
        "01420900000000000000656d69745f747265650e4695315dd76eecdd7f1112b558b91a9d7c165e609eb023ca6c6ea315\
         aa5d7890750c468160e84f5dba19bda5d500ee6e281d4d81a0c46ea1afe4412b0a931ce761bb4c0d0000000000000000\
         0f0000000000000000",
        "d295935e621d8fe6225eb7f1a16c0e02b168bbe0c8e878ff6b7aeb066b76fe70",
    ),
    (
        "solid split, whose output is a list",
        "solid",
        "02400300000000000000000443010000000000000002000000000000006c730540060100000000000000050000000000\
         0000706172747355000d000000000000006f7574707574732f7061727473040000000000000066696c65004054000000\
         00000000000700000000000000000840",
        "614696b1b14914193e3437aa054747d708eb980cf1d1bfa47bbca8fe0622bf41",
    ),
    (
        "solid each",
        "solid",
        "0240030000000000000000044302000000000000000200000000000000776311000000000000007b7b20696e70757473\
         2e70617274207d7d05400601000000000000000600000000000000726573756c7453000e000000000000006f75747075\
         74732f726573756c74040000000000000066696c6501405400000000000000000700000000000000000840",
        "26b5f13c49a3f09b58c96636a055a1a1858148deb1df6c5c2f9b294756a05741",
    ),
    (
        "step each[part=x], given an element",
        "step",
        "01420400000000000000656163680e4626b5f13c49a3f09b58c96636a055a1a1858148deb1df6c5c2f9b294756a05741\
         0c46d2fa380e5ff2553ee2947afea736477f5f93518196cf3f5dd1ad176c810547f70d00000000000000000f01000000\
         000000000800000000000000706172742e7478744800040000000000000066696c653ae7d805f6789a6402acb70ad409\
         6a85a56bf6804eaf25c0493ac697548d30b540",
        "6fbcc6563a4deeb64ad51066c949958198bdb64f1cfb84190c9ca196d48f83a9",
    ),
    (
        "trace each[part=x]",
        "trace",
        "01420400000000000000656163680e4626b5f13c49a3f09b58c96636a055a1a1858148deb1df6c5c2f9b294756a05741\
         0c46d2fa380e5ff2553ee2947afea736477f5f93518196cf3f5dd1ad176c810547f70d00000000000000000f01000000\
         000000000800000000000000706172742e7478744800040000000000000066696c653ae7d805f6789a6402acb70ad409\
         6a85a56bf6804eaf25c0493ac697548d30b540",
        "5b03c7a1e7b0d77ce2a51492c9bdd30d5b64d1231882368b5545bc474476a4f9",
    ),
];

/// Everything that the plan made, by its hash.
fn made() -> HashMap<String, &'static str> {
    let plan = world().plan();
    let mut made = HashMap::new();
    let key = [0; 32];
    let mut known = |step: cas_engine::graph::StepId| plan.versions[step.0 as usize];
    let mut kinds: Vec<(Version, FactNode)> = Vec::new();
    for step in &plan.steps {
        kinds.extend(plan.facts(*step, &key, &mut known, &mut |_| None, &mut |_| true));
        for output in plan.graph.select_outputs(&plan.graph.step_name(*step)).unwrap_or_default() {
            made.extend(plan.output_version(output).map(|version| (version.to_hex(), "output")));
        }
        let artifact = Artifact {
            kind: Kind::File { executable: false },
            codec: "file".to_owned(),
            digest: Digest::of(b"douglas_fir\n"),
            len: 12,
        };
        let trace = plan.trace(*step, &mut |output| match plan.graph.output_name(output).as_str() {
            "part[n=2].result" => Some(InputContent::Absent),
            _ => Some(InputContent::Artifact(&artifact)),
        });
        made.extend(trace.map(|trace| (trace.to_hex(), "trace")));
    }
    for (version, node) in kinds {
        let kind =
            ["step", "solid", "config", "resource", "input"].into_iter().find(|kind| *kind == node.kind);
        made.insert(version.to_hex(), kind.unwrap_or("no kind"));
    }
    made
}

#[test]
fn the_bytes_of_every_kind_of_node_are_what_the_page_says() {
    let made = made();
    for (what, kind, bytes, hash) in GOLDEN {
        let bytes = (0..bytes.len() / 2)
            .map(|at| {
                u8::from_str_radix(&bytes[2 * at..2 * at + 2], 16)
                    .unwrap_or_else(|_| panic!("{what}: no hex"))
            })
            .collect::<Vec<_>>();
        // What was changed since the first scheme stands in `docs/versions.md`.
        let scheme = if ["solid", "input", "step", "trace"].contains(kind) { 2 } else { 1 };
        let context = format!("cas 2026 {kind} {scheme}");
        let hashed = blake3::Hasher::new_derive_key(&context).update(&bytes).finalize();
        assert_eq!(hashed.to_hex().as_str(), *hash, "{what}: the bytes and the hash");
        // Lists by content are hashed into a trace and stand nowhere else.
        if !what.ends_with("by content") {
            assert_eq!(made.get(*hash), Some(kind), "{what}: what the plan made of it");
        }
    }
}

/// Only a solid to which files are refused has the fact: all others have the bytes, and results, of before.
#[test]
fn a_solid_that_is_refused_files_has_one_fact_more() {
    let solid = |world: World| {
        let plan = world.plan();
        let step = plan.graph.select("emit_tree").unwrap_or_else(|error| panic!("{error}"))[0];
        let mut known = |step: cas_engine::graph::StepId| plan.versions[step.0 as usize];
        let facts = plan.facts(step, &[0; 32], &mut known, &mut |_| None, &mut |_| true);
        let solid = facts.iter().find(|(_, node)| node.kind == "solid");
        solid.map(|(version, _)| version.to_hex()).unwrap_or_default()
    };
    let with = |word: &str| {
        world().edited("    version: \"a\"\n", &format!("    version: \"a\"\n    sandbox: {word}\n"))
    };
    let free = "95315dd76eecdd7f1112b558b91a9d7c165e609eb023ca6c6ea315aa5d789075";
    // The bytes of `emit_tree` above, then 19 42 0400000000000000 64656e79.
    let refused = "372f8cddd67dcb3b8b4a00b71420a2d797067c3456df7d3d5462339a2ebc452d";
    assert_eq!(solid(with("off")), free);
    assert_eq!(solid(with("warn")), free);
    assert_eq!(solid(with("deny")), refused);
    // A kernel that cannot refuse makes what is made without a sandbox, and that is what it is called.
    let mut elsewhere = with("deny");
    elsewhere.confines = false;
    assert_eq!(solid(elsewhere), free);
}
