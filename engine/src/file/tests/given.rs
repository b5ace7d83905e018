//! Run configs and `--set` that are wrong, and keys of the table, each given what it is not.

use super::*;
use crate::file::keys::{OBJECTS, Object, Shape};

#[track_caller]
fn check_config(text: &str, expected: &str) {
    let mut given = RunConfig::default();
    let shown =
        run_config(Path::new("c.yaml"), text, &mut given).map_or_else(|w| rendered(&w), |()| String::new());
    assert_eq!(shown.trim_end(), expected.trim(), "\n{text}\n--- says:\n{shown}");
    if !expected.is_empty() {
        assert!(given.config.is_empty() && given.pipeline.is_empty(), "nothing of a wrong file is laid over");
    }
}

#[track_caller]
fn check_set(text: &str, expected: &str) {
    let pipeline = parsed(
        "config: {seed: int}
resources: {python: {version: a, config: {threads: int}}}
solids: {train: {config: {lr: float}, inputs: {n: {default: 1}, m: {value: 1}}, command: echo}}
",
    );
    let mut given = RunConfig::default();
    let shown =
        set(&pipeline, &Typed::set(text), &mut given).map_or_else(|w| rendered(&[w]), |()| String::new());
    assert_eq!(shown.trim_end(), expected.trim(), "\n{text}\n--- says:\n{shown}");
}

#[test]
fn a_wrong_run_config_says_where() {
    check_config(
        "ops: {a: {}}\n",
        "c.yaml:1:1: a run config has no key `ops`\n1 | ops: {a: {}}\n  | ^\nhint: here it is called `solids`",
    );
    check_config(
        "config: {a: 1}\nsolids:\n  a:\n    confg: {lr: 1}\n",
        "c.yaml:4:5: a step of a run config has no key `confg`\n4 |     confg: {lr: 1}\n  |     ^\nhint: did you mean `config`?",
    );
    check_config(
        "solids: {a: {config: [1]}}\n",
        "c.yaml:1:22: `config` must be a map, and this is a list\n1 | solids: {a: {config: [1]}}\n  |                      ^\nhint: write it like this: config: {lr: 0.1}",
    );
    check_config(
        "resources: {io_manager: {config: {base_dri: x}}}\n",
        "c.yaml:1:35: `io_manager` has no config `base_dri`\n1 | resources: {io_manager: {config: {base_dri: x}}}\n  |                                   ^\nhint: its only key is `base_dir`: where the store is",
    );
    check_config(
        "solids: {a: {config: {lr: .nan}}}\n",
        "c.yaml:1:27: NaN is no value: it equals not even itself\n1 | solids: {a: {config: {lr: .nan}}}\n  |                           ^\nhint: leave the key out, or write `null` where the field allows it",
    );
    check_config(
        "[a]\n",
        "c.yaml:1:1: `a run config` must be a map, and this is a list\n1 | [a]\n  | ^\nhint: write it like this: solids: {train: {config: {lr: 0.1}}}",
    );
}

#[test]
fn a_wrong_set_says_what_there_is() {
    check_set("train.lr=0.1", "");
    check_set(
        "train.lr",
        "--set:1:1: `train.lr` sets nothing: it has no `=`\n1 | train.lr\n  | ^\nhint: write step.key=value, or in full solids.step.config.key=value, solids.step.inputs.name=value, resources.name.config.key=value, config.key=value",
    );
    check_set(
        "tran.lr=1",
        "--set:1:1: there is no step `tran`\n1 | tran.lr=…\n  | ^\nhint: did you mean `train`?",
    );
    check_set(
        "train.m=1",
        "--set:1:1: `train` takes no config `m`\n1 | train.m=…\n  | ^\nhint: there is `lr` or `n`",
    );
    check_set(
        "sede=1",
        "--set:1:1: the pipeline's config has no `sede`\n1 | sede=…\n  | ^\nhint: did you mean `seed`?",
    );
    check_set(
        "solids.train.conf.lr=1",
        "--set:1:1: `solids.train.conf.lr` names nothing that can be set\n1 | solids.train.conf.lr=…\n  | ^\nhint: write step.key=value, or in full solids.step.config.key=value, solids.step.inputs.name=value, resources.name.config.key=value, config.key=value",
    );
    check_set(
        "resources.pyton.config.threads=1",
        "--set:1:1: there is no resource `pyton`\n1 | resources.pyton.config.threads=…\n  | ^\nhint: did you mean `python`?",
    );
    check_set(
        "train.lr=[1",
        "--set:1:10: a `,` or the closing bracket is missing\n1 | train.lr=[1\n  |          ^\nhint: check the list or map that begins before this",
    );
}

/// A secret that was mistyped stood in the line that was shown.
#[test]
fn the_value_of_a_secret_is_not_shown_where_it_is_wrong() {
    let pipeline = parsed("solids: {train: {config: {token: {type: int, secret: true}}, command: echo}}\n");
    for text in ["train.token=[hunter2", "train.tokn=hunter2", "tran.token=hunter2"] {
        let shown = set(&pipeline, &Typed::set(text), &mut RunConfig::default())
            .map_or_else(|w| rendered(&[w]), |()| String::new());
        assert!(!shown.is_empty() && !shown.contains("hunter2"), "{shown}");
    }
}

/// A value that a key of this shape does not take.
fn not(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Any => None,
        Shape::Text | Shape::Word | Shape::Amount | Shape::Bool | Shape::Count(_) | Shape::Choice(_) => {
            Some("{zz: 1}")
        }
        Shape::List(_) | Shape::Some(_) => Some("{zz: {zz: 1}}"),
        Shape::Map(_) | Shape::Named(_) | Shape::OrNothing(_) => Some("3"),
        Shape::Either(_) => Some("[[[1]]]"),
    }
}

/// A file that holds one key of an object with this value, and is right but for it.
fn file_with(object: &Object, key: &str, value: &str) -> Option<String> {
    let entry = format!("{key}: {value}");
    let command = if key == "command" { "" } else { ", command: x" };
    Some(match object.name {
        "a pipeline file" if key == "solids" => format!("{entry}\n"),
        "a pipeline file" => format!("{entry}\nsolids: {{a: {{command: x}}}}\n"),
        "a resource" => format!("resources: {{r: {{{entry}}}}}\nsolids: {{a: {{command: x}}}}\n"),
        "a mode" => format!("modes: {{m: {{{entry}}}}}\nsolids: {{a: {{command: x}}}}\n"),
        "`defaults`" => format!("defaults: {{{entry}}}\nsolids: {{a: {{command: x}}}}\n"),
        "a solid" => format!("solids: {{a: {{{entry}{command}}}}}\n"),
        "an input" => {
            let with = match key {
                "external" => ", path: x",
                "every" => ", probe: x",
                _ => "",
            };
            format!("solids: {{a: {{inputs: {{i: {{{entry}{with}}}}}, command: x}}}}\n")
        }
        "an output" => format!("solids: {{a: {{outputs: [{{o: {{{entry}}}}}], command: x}}}}\n"),
        "a config field" => {
            let ty = if key == "type" { "" } else { ", type: int" };
            format!("solids: {{a: {{config: {{k: {{{entry}{ty}}}}}, command: x}}}}\n")
        }
        "a version" => format!("solids: {{a: {{version: {{{entry}}}, command: x}}}}\n"),
        "an axis" => format!("solids: {{a: {{matrix: {{m: {{{entry}}}}}, command: x}}}}\n"),
        _ => return None, // a run config: these are checked above
    })
}

#[test]
fn every_key_refuses_what_it_is_not() {
    let mut checked = 0;
    for object in OBJECTS {
        for key in object.keys {
            let Some(value) = not(&key.shape) else { continue };
            let Some(text) = file_with(object, key.name, value) else { continue };
            let wrong = parse(&text).err().unwrap_or_default();
            assert!(!wrong.is_empty(), "{} takes {value} for `{}`", object.name, key.name);
            for wrong in wrong {
                assert!(wrong.place.is_some() && wrong.excerpt.is_some(), "{text}: {wrong:?}");
            }
            checked += 1;
        }
    }
    assert!(checked > 55, "{checked}");
}

#[test]
fn every_key_has_no_word_of_another_that_is_a_key_beside_it() {
    for object in OBJECTS {
        for key in object.keys {
            for other in key.others {
                assert!(object.key(other).is_none(), "`{other}` is a key of {} itself", object.name);
            }
        }
    }
}

#[test]
fn the_guide_names_every_key_and_its_examples_are_right() {
    let guide = include_str!("../../../../docs/guide/pipeline-file.md");
    for object in OBJECTS {
        for key in object.keys {
            assert!(
                guide.contains(&format!("`{}`", key.name)),
                "the guide lacks `{}` of {}",
                key.name,
                object.name
            );
        }
    }
    let mut pipelines = 0;
    for block in guide.split("```yaml\n").skip(1) {
        let text = block.split("```").next().unwrap_or_default();
        if text.starts_with("# a run config") {
            check_config(text, "");
        } else {
            parsed(text);
            pipelines += 1;
        }
    }
    assert!(pipelines >= 7, "{pipelines}");
}
