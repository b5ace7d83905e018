//! Files that are right, and what they become.

use super::*;

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.invocations.iter().map(|invocation| invocation.name.as_str()).collect()
}

#[test]
fn the_page_s_example_is_read_whole() {
    let pipeline = parsed(include_str!("../../../tests/files/page.yaml"));
    assert_eq!(pipeline.name, "my_pipeline");
    assert_eq!(pipeline.description.as_deref(), Some("What it makes, in a line."));
    assert_eq!(pipeline.run_config, ["params.yaml"]);
    assert_eq!(pipeline.store.as_deref(), Some("../cas"));
    assert_eq!(pipeline.config.fields["seed"].default, Some(Value::Int(0)));
    assert_eq!(pipeline.resources.keys().collect::<Vec<_>>(), ["glibc", "python"]);
    let python = &pipeline.resources["python"];
    assert_eq!(python.probe.as_ref().map(|probe| probe.text.as_str()), Some(".venv/bin/python -VV"));
    assert_eq!(
        python.files.iter().map(|f| f.text.as_str()).collect::<Vec<_>>(),
        ["requirements.lock", "lib/**"]
    );
    assert_eq!(python.path, [".venv/bin"]);
    assert_eq!(python.resources, ["glibc"]);
    assert_eq!(
        pipeline.modes.iter().map(|mode| mode.name.as_str()).collect::<Vec<_>>(),
        ["memoized", "debug"]
    );
    assert_eq!(pipeline.modes[1].resources["python"].version.as_deref(), Some("debug"));
    assert_eq!(names(&pipeline), ["train", "emit_dog", "emit_tree", "emit_cat", "emit_sentence"]);

    let dog = &pipeline.invocations[1];
    assert_eq!(dog.solid.config.fields["dog_breed"].ty, Type::Str);
    assert_eq!(dog.solid.config.fields["seed"].from_pipeline.as_deref(), Some("seed"));
    assert_eq!(dog.solid.config.fields["seed"].ty, Type::Int);
    assert_eq!(
        dog.solid.code.iter().map(|f| f.text.as_str()).collect::<Vec<_>>(),
        ["lib/**", "solids/dog.py"]
    );
    assert_eq!(dog.solid.resources, ["python"]);
    let Body::Command(command) = &dog.solid.body else { panic!("a command") };
    assert_eq!(command.stdout.as_deref(), Some("result"));
    assert!(matches!(&command.line, Line::Shell { shell: Shell::Bash, .. }), "the default shell");

    assert_eq!(pipeline.invocations[2].solid.version, Some(Declared::Text("a".to_owned())));
    assert!(
        std::sync::Arc::ptr_eq(&pipeline.invocations[3].solid, &dog.solid),
        "emit_cat invokes emit_dog's solid"
    );

    let sentence = &pipeline.invocations[4];
    let files: Vec<_> =
        sentence.inputs.iter().map(|input| (input.name.as_str(), input.file_name.as_str())).collect();
    assert_eq!(
        files,
        [
            ("dog_breed", "dog_breed"),
            ("tree", "tree.txt"),
            ("notes", "notes"),
            ("big", "big"),
            ("n", "n"),
            ("day", "day"),
            ("parts", "parts"),
            ("all", "all")
        ]
    );
    assert!(matches!(&sentence.inputs[3].source, Source::Path { external: true, .. }));
    assert!(matches!(&sentence.inputs[4].source, Source::Value(Value::Int(3))));
    assert!(matches!(&sentence.inputs[5].source, Source::Probe { every: None, .. }));
    assert!(matches!(&sentence.inputs[6].source, Source::FanIn(refs) if refs.len() == 2));
    assert!(matches!(&sentence.inputs[7].source, Source::Output(all) if all.pick == Pick::All));
    let outputs: Vec<_> =
        sentence.solid.outputs.iter().map(|o| (o.name.as_str(), o.at.as_str(), o.optional)).collect();
    assert_eq!(
        outputs,
        [
            ("result", "outputs/result", false),
            ("chart", "outputs/chart.png", false),
            ("report", "site/", true)
        ]
    );
    assert_eq!(sentence.solid.env, [EnvVar::Pass("LANG".to_owned())]);
    assert_eq!(sentence.solid.pass_env, ["HTTPS_PROXY"]);
    assert_eq!(sentence.solid.secrets, ["PGPASSWORD"]);
    assert_eq!(sentence.solid.policy.retries.times, 2);
    assert_eq!(sentence.solid.policy.timeout, Some(std::time::Duration::from_secs(600)));
    assert_eq!(sentence.solid.policy.cpus, 4);
    assert_eq!(sentence.solid.platform, Platform::Any);
    assert_eq!(
        sentence.matrix[0].points.iter().map(|p| p.label.as_str()).collect::<Vec<_>>(),
        ["1", "2", "3"]
    );
    assert_eq!(pipeline.publish[0].target, "results/charts/");
    assert_eq!(pipeline.publish[0].what.output.as_deref(), Some("chart"));
}

#[test]
fn outputs_are_what_is_declared_or_stdout_or_result() {
    for (body, expected) in [
        ("command: x", vec!["result outputs/result"]),
        ("{command: x, stdout: log.txt}", vec!["log outputs/log.txt"]),
        ("{command: x, outputs: []}", vec![]),
        ("{command: x, outputs: a.csv}", vec!["a outputs/a.csv"]),
        ("{command: x, outputs: [b], stdout: a}", vec!["b outputs/b", "a outputs/a"]),
        ("{command: x, outputs: [{a: {at: x.txt}}], stdout: a}", vec!["a x.txt"]),
        ("{command: x, outputs: [a: {optional: true}, b]}", vec!["a outputs/a", "b outputs/b"]),
    ] {
        let body = if body.starts_with('{') { body.to_owned() } else { format!("{{{body}}}") };
        let pipeline = parsed(&format!("solids: {{s: {body}}}"));
        let outputs = &pipeline.invocations[0].solid.outputs;
        let shown: Vec<_> = outputs.iter().map(|output| format!("{} {}", output.name, output.at)).collect();
        assert_eq!(shown, expected, "{body}");
    }
}

#[test]
fn an_entry_that_names_a_solid_inherits_inputs_and_axes_by_name() {
    let pipeline = parsed(
        "solids:
  a: {command: x}
  b: {command: x}
  one: {inputs: {p.txt: a, q: a}, matrix: {s: [1, 2]}, command: 'cat {{ inputs.p }}'}
  two: {solid: one, inputs: {q: b}}
  three: {solid: two, inputs: {p: b}, matrix: {s: [3]}}
",
    );
    let shown = |index: usize| {
        let invocation: &crate::pipeline::Invocation = &pipeline.invocations[index];
        let inputs: Vec<_> = invocation
            .inputs
            .iter()
            .map(|input| match &input.source {
                Source::Output(from) => format!("{}={}", input.file_name, from.step),
                other => panic!("{other:?}"),
            })
            .collect();
        (inputs.join(" "), invocation.matrix[0].points.len(), invocation.solid.name.as_str())
    };
    assert_eq!(shown(2), ("p.txt=a q=a".to_owned(), 2, "one"));
    assert_eq!(shown(3), ("p.txt=a q=b".to_owned(), 2, "one"));
    assert_eq!(shown(4), ("p.txt=b q=b".to_owned(), 1, "one"));
}

#[test]
fn rows_are_maps_of_text_and_hold_their_label_under_the_axis() {
    let pipeline = parsed(
        "matrices: {m: {s: {rows: samples.tsv}}}
solids:
  a: {matrix: m, command: 'cp {{ matrix.s.fastq }} {{ matrix.s }} {{ outputs.result }}'}
  b: {matrix: [m, {k: [x]}], command: echo}
  c: {matrix: {id: {rows: quoted.csv}}, command: echo}
",
    );
    let point = &pipeline.invocations[0].matrix[0].points[1];
    assert_eq!(point.label, "S2");
    assert!(point.row);
    assert_eq!(point.value.to_string(), r#"{"fastq":"b.fq","s":"S2","sample":"S2"}"#);
    assert!(std::sync::Arc::ptr_eq(
        &pipeline.invocations[0].matrix[0].points,
        &pipeline.invocations[1].matrix[0].points
    ));
    assert_eq!(pipeline.invocations[1].matrix[1].name, "k");
    let quoted: Vec<_> =
        pipeline.invocations[2].matrix[0].points.iter().map(|point| point.value.to_string()).collect();
    assert_eq!(quoted, [r#"{"id":"a","note":"x, \"y\""}"#, r#"{"id":"b","note":"two\nlines"}"#]);
}

#[test]
fn anchors_merges_and_x_keys_are_for_the_writer() {
    let pipeline = parsed(
        "x-common: &common {retries: 3, shell: bash}
x-env: &env [LANG]
solids:
  x-note: nothing here is read
  a: {<<: *common, retries: 1, env: *env, command: echo, x-why: because}
  b: {<<: [*common, {cpus: 2}], command: echo}
",
    );
    assert_eq!(names(&pipeline), ["a", "b"]);
    assert_eq!(pipeline.invocations[0].solid.policy.retries.times, 1);
    assert_eq!(pipeline.invocations[1].solid.policy.retries.times, 3);
    assert_eq!(pipeline.invocations[1].solid.policy.cpus, 2);
}

#[test]
fn defaults_are_added_to_lists_and_replaced_elsewhere() {
    let pipeline = parsed(
        "resources: {p: {version: a}, q: {version: a}}
defaults: {code: [lib/**], resources: [p], env: [LANG, {TZ: UTC}], shell: bash, retries: 2, limits: {gpu: 1}, platform: any, memory: 1G, timeout: 5m, cpus: 2, pass_env: [A], secrets: [B]}
solids:
  a: {command: echo}
  b: {command: echo, code: x.py, resources: q, env: {TZ: CET}, shell: sh, retries: 0, limits: {db: 2}}
",
    );
    let (a, b) = (&pipeline.invocations[0].solid, &pipeline.invocations[1].solid);
    assert_eq!((a.code.len(), b.code.len()), (1, 2));
    assert_eq!(b.resources, ["p", "q"]);
    assert_eq!(b.env.iter().map(EnvVar::name).collect::<Vec<_>>(), ["LANG", "TZ"]);
    assert!(matches!(&b.env[1], EnvVar::Set(_, value) if value.text == "CET"));
    assert_eq!((a.policy.retries.times, b.policy.retries.times), (2, 0));
    assert_eq!(b.policy.limits.keys().collect::<Vec<_>>(), ["db"]);
    assert_eq!(a.policy.memory, Some(1 << 30));
    assert_eq!((a.platform, b.platform), (Platform::Any, Platform::Any));
    assert_eq!((a.pass_env.len(), a.secrets.len(), a.policy.cpus), (1, 1, 2));
}

#[test]
fn config_fields_have_types_defaults_and_choices() {
    let pipeline = parsed(
        "config: {seed: {type: int, secret: true}}
solids:
  a:
    config: {lr: {type: float, default: 1}, kind: {type: str, default: b, enum: [a, b]}, x: any, s: $seed, n: {type: str, default: null}}
    command: echo {{ config.lr }} {{ config.x.deep.0 }}
",
    );
    let fields = &pipeline.invocations[0].solid.config.fields;
    assert_eq!(fields["lr"].default, Some(Value::Float(1.0)));
    assert_eq!(fields["kind"].choices.len(), 2);
    assert_eq!(fields["n"].default, Some(Value::Null));
    assert!(fields["s"].secret && fields["s"].default.is_none() && fields["s"].ty == Type::Int);
}

#[test]
fn versions_are_texts_volatile_or_times() {
    let pipeline = parsed(
        "solids:
  a: {command: echo, version: '3.10'}
  b: {command: echo, version: volatile}
  c: {command: echo, version: {every: 1d}}
  d: {command: echo, version: v2}
",
    );
    let shown: Vec<_> = pipeline.invocations.iter().map(|i| format!("{:?}", i.solid.version)).collect();
    assert_eq!(
        shown,
        [r#"Some(Text("3.10"))"#, "Some(Volatile)", "Some(Every(86400s))", r#"Some(Text("v2"))"#]
    );
}

#[test]
fn a_file_of_ten_thousand_solids_is_read_in_linear_time() {
    let file = |n: usize| {
        let mut text = String::from("defaults: {retries: 1}\nsolids:\n  s0: {command: echo}\n");
        for index in 1..n {
            text.push_str(&format!(
                "  s{index}:\n    inputs: {{a: s{}, b: s{}}}\n    command: cat {{{{ inputs.a }}}} {{{{ inputs.b }}}}\n",
                index - 1,
                index / 2
            ));
        }
        text
    };
    let time = |n: usize| {
        let text = file(n);
        let start = std::time::Instant::now();
        assert_eq!(parsed(&text).invocations.len(), n);
        start.elapsed()
    };
    let best = |n: usize| (0..3).map(|_| time(n)).min().unwrap_or_default();
    let (small, large) = (best(1_000), best(10_000));
    // Ten times the file, a bit over ten times the time: 40 leaves room for a busy machine, quadratic is 100.
    assert!(large < small * 40, "{small:?} for 1,000 and {large:?} for 10,000");
}

#[test]
fn run_configs_are_laid_over_each_other_key_by_key() {
    let mut given = RunConfig::default();
    let lay = |given: &mut RunConfig, text: &str| {
        run_config(Path::new("c.yaml"), text, given).map_err(|w| rendered(&w))
    };
    lay(
        &mut given,
        "solids: {a: {config: {lr: 0.1, deep: {x: 1}}, inputs: {n: 3, m: {value: {k: 1}}, o: {value: 1, w: 2}}}, b:}
resources: {io_manager: {config: {base_dir: ./results}}, python: {config: {threads: 4}}}
config: {seed: 1}
execution: {multiprocess: {}}
loggers:
intermediate_storage: {filesystem: {}}
x-note: 1
",
    )
    .expect("a run config");
    lay(&mut given, "").expect("an empty file gives nothing");
    lay(&mut given, "solids: {a: {config: {lr: '0.2'}}}").expect("a run config");
    assert_eq!(given.config["a"]["lr"].value, Value::Str("0.2".into()));
    assert_eq!(
        given.config["a"]["lr"].place.as_ref().map(ToString::to_string).as_deref(),
        Some("c.yaml:1:27")
    );
    assert_eq!(given.config["a"]["deep"].value.to_string(), r#"{"x":1}"#);
    assert_eq!(given.inputs["a"]["n"].value, Value::Int(3));
    assert_eq!(given.inputs["a"]["m"].value.to_string(), r#"{"k":1}"#);
    assert_eq!(given.inputs["a"]["o"].value.to_string(), r#"{"value":1,"w":2}"#);
    assert_eq!(given.resources["python"]["threads"].value, Value::Int(4));
    assert_eq!(given.pipeline["seed"].value, Value::Int(1));
    assert_eq!(given.base_dir.as_deref(), Some("./results"));
    assert_eq!(
        given.warnings,
        ["c.yaml: nothing here reads `execution`, `loggers` or `intermediate_storage`: ignored"]
    );
}

#[test]
fn set_takes_the_short_and_the_full_form() {
    let pipeline = parsed(
        "config: {seed: int}
resources: {python: {version: a, config: {threads: int, name: str}}}
solids:
  a: {config: {s: str, n: int, any: any}, inputs: {d: {default: 1}}, command: echo}
",
    );
    let mut given = RunConfig::default();
    for text in [
        "a.s=1.0",
        "a.n=3",
        "solids.a.config.any={k: [1]}",
        "a.d=x",
        "seed=7",
        "python.threads=4",
        "resources.python.config.name=true",
        "resources.io_manager.config.base_dir=/tmp/x",
        "config.seed=8",
        "a.any=",
    ] {
        set(&pipeline, &Typed::set(text), &mut given)
            .unwrap_or_else(|wrong| panic!("{text}: {}", rendered(&[wrong])));
    }
    assert_eq!(given.config["a"]["s"].value, Value::Str("1.0".into()));
    assert_eq!(given.config["a"]["s"].text.as_deref(), Some("1.0"));
    assert_eq!(given.config["a"]["n"].value, Value::Int(3));
    assert_eq!(given.config["a"]["any"].value, Value::Null);
    assert_eq!(given.inputs["a"]["d"].value, Value::Str("x".into()));
    assert_eq!(given.pipeline["seed"].value, Value::Int(8));
    assert_eq!(given.resources["python"]["name"].value, Value::Str("true".into()));
    assert_eq!(given.base_dir.as_deref(), Some("/tmp/x"));
}
