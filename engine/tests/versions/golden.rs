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
"#;

fn world() -> World {
    let mut world = World::new(PIPELINE)
        .file("lib.lock", "lock")
        .with_run_config("solids: {emit_tree: {config: {tree_species: douglas_fir}}}");
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
         00404007000000000000000008420c000000000000006c696e75782f7838365f3634",
        "7a6c5d6d3ed66ddc02de014857bf97411fbd6ff6ee51f944bf40e4e2a0fc4ff0",
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
        "01420900000000000000656d69745f747265650e467a6c5d6d3ed66ddc02de014857bf97411fbd6ff6ee51f944bf40e4\
         e2a0fc4ff00c468160e84f5dba19bda5d500ee6e281d4d81a0c46ea1afe4412b0a931ce761bb4c0d0000000000000000\
         0f0000000000000000",
        "42485df9a17dde659c1a7b5a69b9c49ed63a5e45122d73bbd12387b074364756",
    ),
    (
        "output emit_tree.result",
        "output",
        "174642485df9a17dde659c1a7b5a69b9c49ed63a5e45122d73bbd12387b0743647561842060000000000000072657375\
         6c74",
        "d4d3608cb1e3b3825aebb4c9bb9927df2c184925a97887912563d3521b6181c7",
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
        "da97d3e181b1f3e52c3c91aae195a24ab1160cec14a1a44deb311b1c5dbf45fb",
    ),
    (
        "input path",
        "input",
        "154d0128a249c2e4d3a92bc0a16ed8f1b5cf83ca20415ee12e502b096624902bbc97bd",
        "2bc1ee46561b0126c0c1af1572246e9748508f6391670ecc6d850065e2297e14",
    ),
    (
        "input probe",
        "input",
        "164206000000000000004d6f6e646179",
        "e0baa6547c4b1f2ae907650f452c0e363170a15e3cda3ebefae498395988f5a7",
    ),
    (
        "input fan-in",
        "input",
        "12010000000000000047d4d3608cb1e3b3825aebb4c9bb9927df2c184925a97887912563d3521b6181c7",
        "741bf93c02f427cdbc60cbc5f1216a56198954cc8645f5b411f78e481b6fbc77",
    ),
    (
        "solid part",
        "solid",
        "02400301000000000000000400000000000000612e70794a01bd124bf390b2978f6fa38a38904b8d7d773fc518b52ebe\
         fa6462bf2d7b6f5a3f044302000000000000000400000000000000746f6f6c0e000000000000007b7b20636f6e666967\
         2e6e207d7d05400601000000000000000600000000000000726573756c74530112000000000000006f7574707574732f\
         726573756c742e747874040000000000000066696c6501404007020000000000000004000000000000004c414e474104\
         000000000000004d414445440100000000000000310840",
        "8dced047f631d51716d7e6b366451281b361cf840bad2ef13761af87d4a3309d",
    ),
    (
        "input gather",
        "input",
        "1302000000000000000100000000000000314716faabb40bf89701dc89aa8580a6bdb867780630c458ac758b07b2729f\
         6bb389010000000000000032471e8995d2eac923aac3bf162bc917b5dd8d021da161a7c4eabb9f0fc4907b42a7",
        "dad21e9c74c6077f7d2d04003518e908b4351bc7f0bcda6b5a6274a5f9a6d5e2",
    ),
    (
        "solid emit_sentence",
        "solid",
        "024003000000000000000004430200000000000000030000000000000063617411000000000000007b7b20696e707574\
         732e74726565207d7d05400601000000000000000600000000000000726573756c7453000e000000000000006f757470\
         7574732f726573756c74040000000000000066696c6501404007000000000000000008420c000000000000006c696e75\
         782f7838365f3634",
        "1ffe8ea15388202c86b522b56086393b38354e5e9abd86a41d46fc9d50bfe889",
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
        "01420d00000000000000656d69745f73656e74656e63650e461ffe8ea15388202c86b522b56086393b38354e5e9abd86\
         a41d46fc9d50bfe8890c46d2fa380e5ff2553ee2947afea736477f5f93518196cf3f5dd1ad176c810547f70d01000000\
         000000000600000000000000707974686f6e46ce64f8e24e4fdb5d41809069dc6bddf0dcc3effaa11f54a69a782d8ccb\
         a1b7930f06000000000000000300000000000000616c6c46dad21e9c74c6077f7d2d04003518e908b4351bc7f0bcda6b\
         5a6274a5f9a6d5e2030000000000000064617946e0baa6547c4b1f2ae907650f452c0e363170a15e3cda3ebefae49839\
         5988f5a7030000000000000066616e46741bf93c02f427cdbc60cbc5f1216a56198954cc8645f5b411f78e481b6fbc77\
         01000000000000006e46da97d3e181b1f3e52c3c91aae195a24ab1160cec14a1a44deb311b1c5dbf45fb010000000000\
         000070462bc1ee46561b0126c0c1af1572246e9748508f6391670ecc6d850065e2297e14080000000000000074726565\
         2e74787447d4d3608cb1e3b3825aebb4c9bb9927df2c184925a97887912563d3521b6181c7",
        "10197dc1c5b6f7cf2219fb01f547c4096bea095e53b85b2b7fd2016faa58ef73",
    ),
    (
        "output emit_sentence.result",
        "output",
        "174610197dc1c5b6f7cf2219fb01f547c4096bea095e53b85b2b7fd2016faa58ef731842060000000000000072657375\
         6c74",
        "1636fd79b708e732ffa35f26536b1e76505428db859dc9b8123e1817cb0c035a",
    ),
    (
        "input fan-in by content",
        "input",
        "1201000000000000004800040000000000000066696c65987d2a09766cc98b76811a33b93b014b520fc32fdb7985f404\
         4dff5d12092f7a",
        "4801f83d8e835ae5c1b05eb78f9404bf120ad2c0e6aabb3c6569b7db307180d8",
    ),
    (
        "input gather by content",
        "input",
        "1302000000000000000100000000000000314800040000000000000066696c65987d2a09766cc98b76811a33b93b014b\
         520fc32fdb7985f4044dff5d12092f7a01000000000000003249",
        "f43db82a449563ea6c9728e412f2f0eb73ff2fd5cb0cf2f5d07360b8d65f6e87",
    ),
    (
        "trace emit_sentence",
        "trace",
        "01420d00000000000000656d69745f73656e74656e63650e461ffe8ea15388202c86b522b56086393b38354e5e9abd86\
         a41d46fc9d50bfe8890c46d2fa380e5ff2553ee2947afea736477f5f93518196cf3f5dd1ad176c810547f70d01000000\
         000000000600000000000000707974686f6e46ce64f8e24e4fdb5d41809069dc6bddf0dcc3effaa11f54a69a782d8ccb\
         a1b7930f06000000000000000300000000000000616c6c46f43db82a449563ea6c9728e412f2f0eb73ff2fd5cb0cf2f5\
         d07360b8d65f6e87030000000000000064617946e0baa6547c4b1f2ae907650f452c0e363170a15e3cda3ebefae49839\
         5988f5a7030000000000000066616e464801f83d8e835ae5c1b05eb78f9404bf120ad2c0e6aabb3c6569b7db307180d8\
         01000000000000006e46da97d3e181b1f3e52c3c91aae195a24ab1160cec14a1a44deb311b1c5dbf45fb010000000000\
         000070462bc1ee46561b0126c0c1af1572246e9748508f6391670ecc6d850065e2297e14080000000000000074726565\
         2e7478744800040000000000000066696c65987d2a09766cc98b76811a33b93b014b520fc32fdb7985f4044dff5d1209\
         2f7a",
        "b4ccf15d2b639a624866510016d77d8b6f1f910bd9fe6ba54505fbbf4a4a6985",
    ),
    (
        "trace emit_tree",
        "trace",
        "01420900000000000000656d69745f747265650e467a6c5d6d3ed66ddc02de014857bf97411fbd6ff6ee51f944bf40e4\
         e2a0fc4ff00c468160e84f5dba19bda5d500ee6e281d4d81a0c46ea1afe4412b0a931ce761bb4c0d0000000000000000\
         0f0000000000000000",
        "68839767c0bd3eb194f23aa3fd3ce7c2163aeaaeb1e5770389812bb2a6c23ecf",
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
            "part[n=2].result" => InputContent::Absent,
            _ => InputContent::Artifact(&artifact),
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
        let context = format!("cas 2026 {kind} 1");
        let hashed = blake3::Hasher::new_derive_key(&context).update(&bytes).finalize();
        assert_eq!(hashed.to_hex().as_str(), *hash, "{what}: the bytes and the hash");
        // Lists by content are hashed into a trace and stand nowhere else.
        if !what.ends_with("by content") {
            assert_eq!(made.get(*hash), Some(kind), "{what}: what the plan made of it");
        }
    }
}
